//! The texts that the operator has set, in several languages.
//!
//! A language that has no text of its own gets that of its parent: the rule and its exceptions are CLDR's
//! (`es-MX` reads `es-419` before `es`, `zh-TW` never `zh`), and so are the data, which ICU4X brings.
//!
//! Source: Unicode Technical Standard 35, part 1, "Locale Inheritance and Matching".

use std::collections::HashMap;

use icu_locale_core::Locale;
use icu_locale_fallback::{
    LocaleFallbackConfig, LocaleFallbackerBorrowed, LocaleFallbackerWithConfig,
};

const FALLBACK: LocaleFallbackerBorrowed<'static> = LocaleFallbackerBorrowed::new();

/// More steps no language has.
const STEPS_MAX: usize = 16;

/// The language of a text, in the one form of those that mean the same: `zh-Hant-TW` is `zh-TW`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Language(String);

impl Language {
    /// Reads a BCP 47 tag; `None` where it is none, or names no language.
    pub fn parse(tag: &str) -> Option<Language> {
        steps(tag).next()
    }

    /// The last of its parents, or itself: `pt` of `pt-BR`, `zh-Hant` of `zh-TW`.
    pub fn eldest(&self) -> Language {
        steps(&self.0).last().unwrap_or_else(|| self.clone())
    }

    /// As a tag.
    pub fn tag(&self) -> &str {
        &self.0
    }
}

/// The language of `tag` and its parents, the nearest first; nothing where it is no tag.
fn steps(tag: &str) -> impl Iterator<Item = Language> {
    let fallback: LocaleFallbackerWithConfig<'static> =
        FALLBACK.for_config(LocaleFallbackConfig::default());
    let locale = Locale::try_from_str(tag).ok();
    let mut steps = locale.map(|locale| fallback.fallback_for((&locale).into()));
    let mut is_first = true;
    std::iter::from_fn(move || {
        let steps = steps.as_mut()?;
        if !std::mem::take(&mut is_first) {
            steps.step();
        }
        let locale = steps.get();
        // Without a language there is nothing to read in.
        (!locale.language.is_unknown()).then(|| Language(locale.to_string()))
    })
    .fuse()
    .take(STEPS_MAX)
}

/// A text, and for whom it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// `None`: for all languages that have none.
    pub language: Option<Language>,
    /// `None`: for all purposes that have none.
    pub purpose: Option<String>,
    /// With its placeholders.
    pub text: String,
}

/// All texts, by the names of their templates.
#[derive(Clone, Debug, Default)]
pub struct Texts(HashMap<String, Vec<Text>>);

impl Texts {
    /// Adds a text; `false`, and nothing is added, where there is one for the same language and purpose.
    pub fn add(&mut self, template: &str, text: Text) -> bool {
        let texts = self.0.entry(template.to_owned()).or_default();
        let is_for =
            |other: &Text| other.language == text.language && other.purpose == text.purpose;
        if texts.iter().any(is_for) {
            return false;
        }
        texts.push(text);
        true
    }

    /// All texts with the names of their templates, sorted by those, then as they were added.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Text)> {
        let mut names: Vec<&String> = self.0.keys().collect();
        names.sort_unstable();
        names
            .into_iter()
            .flat_map(|name| self.of(name).iter().map(|text| (name.as_str(), text)))
    }

    /// All texts of a template, as they were added.
    pub fn of(&self, template: &str) -> &[Text] {
        self.0.get(template).map_or(&[], Vec::as_slice)
    }

    /// The text of a template for `purpose` and a reader of `locale` (BCP 47): in the nearest language that
    /// has one, and in that language the one for the purpose before the one for all. What is no tag gets
    /// what every language gets. `None` where there is nothing for all languages either.
    pub fn find(
        &self,
        template: &str,
        purpose: Option<&str>,
        locale: Option<&str>,
    ) -> Option<&Text> {
        let texts = self.of(template);
        let in_language = |language: Option<&Language>| {
            let of = |purpose: Option<&str>| {
                texts.iter().find(|text| {
                    text.language.as_ref() == language && text.purpose.as_deref() == purpose
                })
            };
            purpose
                .and_then(|purpose| of(Some(purpose)))
                .or_else(|| of(None))
        };
        // Most have one text, and nothing is to be looked for.
        let is_translated = texts.iter().any(|text| text.language.is_some());
        let mut nearer = locale.filter(|_| is_translated).into_iter().flat_map(steps);
        nearer
            .find_map(|language| in_language(Some(&language)))
            .or_else(|| in_language(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_steps(tag: &str, want: &[&str]) {
        let steps: Vec<Language> = steps(tag).collect();
        let steps: Vec<&str> = steps.iter().map(Language::tag).collect();
        assert_eq!(steps, want, "{tag}");
    }

    #[test]
    fn a_language_goes_back_to_its_parents_as_cldr_says() {
        check_steps("de-AT", &["de-AT", "de"]);
        check_steps("en", &["en"]);
        check_steps("en-AU", &["en-AU", "en-001", "en"]);
        check_steps("es-MX", &["es-MX", "es-419", "es"]);
        check_steps("es-ES", &["es-ES", "es"]);
        check_steps("pt-BR", &["pt-BR", "pt"]);
        check_steps("pt-MZ", &["pt-MZ", "pt-PT", "pt"]);
        check_steps("zh-CN", &["zh-CN", "zh"]);
        check_steps("zh-TW", &["zh-TW", "zh-Hant"]);
        check_steps("zh-Hant-MO", &["zh-MO", "zh-Hant"]);
        check_steps("sr-Latn-RS", &["sr-Latn-RS", "sr-Latn"]);
        check_steps("nb-NO", &["nb-NO", "nb", "no"]);
        check_steps("de-DE-1996", &["de-DE-1996", "de-DE", "de-1996", "de"]);
        check_steps("DE-at", &["de-AT", "de"]);
        check_steps("de-u-ca-buddhist", &["de"]);
        // Nobody speaks it, and it is a tag all the same.
        check_steps("qaa-ZZ", &["qaa-ZZ", "qaa"]);
        for none in ["", "x", "und", "und-CH", "german-at", "i-klingon", "de--AT"] {
            check_steps(none, &[]);
        }
    }

    #[test]
    fn any_text_is_a_tag_or_none_and_its_steps_end() {
        for tag in [
            "a-b-c",
            "zzz-Zzzz-ZZ-zzzzz",
            "en-US-u-sd-usca",
            "und-Latn",
            "--",
        ] {
            assert!(steps(tag).count() < STEPS_MAX, "{tag}");
        }
    }

    fn texts(all: &[(&str, &str)]) -> Texts {
        let mut texts = Texts::default();
        for (language, purpose) in all {
            let is_new = texts.add(
                "t",
                Text {
                    language: Language::parse(language),
                    purpose: (!purpose.is_empty()).then(|| (*purpose).to_owned()),
                    text: format!("{language}/{purpose}"),
                },
            );
            assert!(is_new, "{language}/{purpose}");
        }
        texts
    }

    #[track_caller]
    fn check(texts: &Texts, locale: &str, purpose: &str, want: Option<&str>) {
        let locale = (!locale.is_empty()).then_some(locale);
        let found = texts.find("t", Some(purpose), locale);
        let found = found.map(|text| text.text.as_str());
        assert_eq!(found, want, "{locale:?} {purpose}");
    }

    #[test]
    fn the_language_counts_before_the_purpose() {
        let texts = texts(&[
            ("", "login"),
            ("de", ""),
            ("de", "login"),
            ("de-AT", ""),
            ("pt-PT", ""),
        ]);
        check(&texts, "", "login", Some("/login"));
        check(&texts, "", "sign-up", None);
        check(&texts, "de", "login", Some("de/login"));
        check(&texts, "de-CH", "login", Some("de/login"));
        check(&texts, "de-CH", "sign-up", Some("de/"));
        // Austrians get an Austrian text, though there is a German one for logins.
        check(&texts, "de-AT", "login", Some("de-AT/"));
        check(&texts, "pt-AO", "sign-up", Some("pt-PT/"));
        check(&texts, "pt-BR", "sign-up", None);
        check(&texts, "fr", "login", Some("/login"));
        check(&texts, "no tag", "login", Some("/login"));
        assert_eq!(texts.find("other", None, Some("de")), None);
    }

    #[test]
    fn a_text_for_the_same_readers_is_not_added_twice() {
        let mut texts = texts(&[("zh-TW", "")]);
        let text = Text {
            language: Language::parse("zh-Hant-TW"),
            purpose: None,
            text: "again".to_owned(),
        };
        assert!(!texts.add("t", text));
        check(&texts, "zh-TW", "x", Some("zh-TW/"));
    }
}
