//! Texts with placeholders.

use countersign_types::UnixMillis;

/// A text with placeholders in braces, for example `Your code is: {code}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template<'a> {
    parts: Vec<Part<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Place(&'a str),
}

/// Why a text is no template, or cannot be filled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its partner. A brace cannot be part of the text itself.
    #[error("a brace in the text has no partner")]
    Brace,
    /// Nothing fills the placeholder.
    #[error("nothing fills the placeholder `{{{0}}}`")]
    Unfilled(String),
}

impl<'a> Template<'a> {
    /// Reads a text.
    ///
    /// # Errors
    ///
    /// On a brace without its partner.
    pub fn parse(text: &'a str) -> Result<Template<'a>, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(open);
            let inside = from.strip_prefix('{').ok_or(TemplateError::Brace)?;
            let close = inside.find(['{', '}']).ok_or(TemplateError::Brace)?;
            let (name, after) = inside.split_at(close);
            rest = after.strip_prefix('}').ok_or(TemplateError::Brace)?;
            parts.extend((!before.is_empty()).then_some(Part::Text(before)));
            parts.push(Part::Place(name));
        }
        parts.extend((!rest.is_empty()).then_some(Part::Text(rest)));
        Ok(Template { parts })
    }

    /// The names of its placeholders.
    pub fn places(&self) -> impl Iterator<Item = &'a str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Place(name) => Some(*name),
            Part::Text(_) => None,
        })
    }

    /// The text with every placeholder filled. What fills a placeholder is not looked at again, so a
    /// value with braces in it fills nothing else.
    ///
    /// # Errors
    ///
    /// Where `fill` knows no value for a name.
    pub fn fill<'v>(
        &self,
        fill: impl Fn(&str) -> Option<&'v str>,
    ) -> Result<String, TemplateError> {
        let mut text = String::new();
        for part in &self.parts {
            text.push_str(match part {
                Part::Text(words) => words,
                Part::Place(name) => {
                    fill(name).ok_or_else(|| TemplateError::Unfilled((*name).to_owned()))?
                }
            });
        }
        Ok(text)
    }
}

/// The minutes that a code has left, to the nearest minute and at least 1: what `{minutes}` says.
pub(crate) fn minutes_left(now: UnixMillis, expires: UnixMillis) -> u64 {
    let left_ms = expires.0.saturating_sub(now.0);
    ((left_ms + 30_000) / 60_000).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_once() {
        let template = Template::parse("a {x} b {y}{x}").expect("parsed");
        assert_eq!(template.places().collect::<Vec<_>>(), ["x", "y", "x"]);
        let filled = template.fill(|name| match name {
            "x" => Some("{y}"),
            "y" => Some("2"),
            _ => None,
        });
        assert_eq!(filled.as_deref(), Ok("a {y} b 2{y}"));
    }

    #[test]
    fn an_unfilled_place_and_a_lonely_brace_are_errors() {
        let template = Template::parse("{what}").expect("parsed");
        let error = template.fill(|_| None);
        assert_eq!(error, Err(TemplateError::Unfilled("what".into())));
        for text in ["{", "}", "a {b", "a } b", "{{x}}"] {
            assert_eq!(Template::parse(text), Err(TemplateError::Brace), "{text}");
        }
    }

    #[test]
    fn minutes_are_to_the_nearest_and_never_none() {
        let expires = UnixMillis(600_000);
        for (now, minutes) in [
            (0, 10),
            (29_000, 10),
            (31_000, 9),
            (300_000, 5),
            (599_000, 1),
        ] {
            assert_eq!(minutes_left(UnixMillis(now), expires), minutes, "{now}");
        }
    }
}
