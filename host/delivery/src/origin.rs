//! Whose pages a text offers a code to, as any browser may read it.
//!
//! By the draft that counts in the last line alone, from its beginning. Chromium looks for the same anywhere
//! behind white space, and so is everything taken here that either of them would take.
//!
//! Sources: "Origin-bound one-time codes delivered via SMS", a WICG draft, section "Parsing"; Chromium,
//! `content/browser/sms/sms_parser.cc`.

/// The host of pages that a code is offered to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedOrigin<'a> {
    /// The host of the page itself.
    pub host: &'a str,
    /// The host of a frame in it, where the code is for that: with the mark that it is written with.
    pub frame: Option<&'a str>,
}

/// All pages that `text` offers a code to, in the order in which they come.
pub fn offered_origins(text: &str) -> Vec<OfferedOrigin<'_>> {
    let mut found = Vec::new();
    let mut before = None;
    for (at, letter) in text.char_indices() {
        if letter == '@' && before.is_none_or(char::is_whitespace) {
            found.extend(offered(&text[at..]));
        }
        before = Some(letter);
    }
    found
}

/// What `text` begins with, where that offers a code: `@host #code`, and `%frame` or `@frame` behind it.
fn offered(text: &str) -> Option<OfferedOrigin<'_>> {
    let (host, rest) = token(text.strip_prefix('@')?)?;
    let (_code, rest) = token(rest.strip_prefix(" #")?)?;
    let frame = rest
        .strip_prefix(' ')
        .filter(|rest| rest.starts_with(['%', '@']))
        .and_then(token)
        .map(|(frame, _)| frame);
    Some(OfferedOrigin { host, frame })
}

/// What stands before the next white space, and the rest.
fn token(text: &str) -> Option<(&str, &str)> {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (token, rest) = text.split_at(end);
    (!token.is_empty()).then_some((token, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[(&str, Option<&str>)]) {
        let found = offered_origins(text);
        let found: Vec<_> = found.iter().map(|one| (one.host, one.frame)).collect();
        assert_eq!(found, want, "{text:?}");
    }

    #[test]
    fn a_code_is_offered_by_a_host_and_a_code_wherever_a_browser_may_look() {
        let one = [("example.com", None)];
        check("1 is yours\n\n@example.com #1", &one);
        check("a\r\n@example.com #1", &one);
        check("a @example.com #1", &one);
        check("@example.com #1\nBye", &one);
        check("@example.com #1, thanks", &one);
        check(
            "@a.example #1 %b.example",
            &[("a.example", Some("%b.example"))],
        );
        check(
            "@a.example #1 @b.example",
            &[("a.example", Some("@b.example"))],
        );
        check(
            "@a.example #1\n@b.example #2 or so",
            &[("a.example", None), ("b.example", None)],
        );
    }

    #[test]
    fn a_name_and_an_address_offer_none() {
        for text in [
            "",
            "@",
            "@ #1",
            "@ada",
            "ada@example.com #1",
            "@example.com  #1",
            "@example.com 1",
            "@example.com # 1",
            "@example.com\n#1",
        ] {
            check(text, &[]);
        }
    }
}
