//! What an operator can set for the service: names, defaults and bounds, each in one place.

use std::ops::RangeInclusive;

use crate::Undecided;
use crate::bound::{is_app_hash, is_host_name, last_lines};
use crate::host::Duration;
use crate::windows::{Limit, Window};

/// The text of a message where none is set.
pub const TEXT: &str = "Your verification code is: {code}\n\nValid for {minutes} minutes.";

/// Limits of one phone are timestamps in one row of at most 32 KiB, sends and misses together.
const PHONE_LIMIT: RangeInclusive<u32> = 1..=1_000;
const ADDRESS_LIMIT: RangeInclusive<u32> = 1..=1_000_000;
const PURPOSES_MAX: usize = 16;
const PURPOSE_BYTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 1_600;

/// Purposes that two-factor sends codes for. A code for one of them must never be had, spent or
/// locked through the public routes.
const RESERVED_PURPOSES: [&str; 3] = ["login", "enrolment", "enrollment"];

/// What the operator has set, with the defaults for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `digits`: 6 to 10, by default 6.
    pub digits: u8,
    /// `valid-seconds`: 1 to 600, by default 600. How long a new code is good for.
    pub valid: Duration,
    /// `tries`: 1 to 5, by default 5. How many checks a challenge stands.
    pub tries: u8,
    /// `same-code-seconds`: 1 to 600, by default 300. A code with at least so much time left goes
    /// out again instead of a new one.
    pub same_code: Duration,
    /// `sends-per-minute` (3), `sends-per-hour` (10), `sends-per-day` (50), each 1 to 1,000: sends
    /// of a phone.
    pub sends: Vec<Limit>,
    /// `misses-per-hour` (15), `misses-per-day` (50), each 1 to 1,000: the guessing budget of a
    /// phone.
    pub misses: Vec<Limit>,
    /// `sends-per-minute-per-address` (10), `sends-per-hour-per-address` (60), each 1 to 1,000,000:
    /// sends of a client address.
    pub address_sends: Vec<Limit>,
    /// `purposes`: 1 to 16 words, separated by commas, by default `verification`: what a public
    /// request may name. The first is what it means when it names none.
    pub purposes: Vec<String>,
    /// `text`: 1 to 1,600 bytes with the placeholder `{code}` and, if wanted, `{minutes}`; and behind
    /// it the last lines. 1,600 bytes are the bound of all together.
    pub text: String,
    /// What `domain` (a bare host name) and `app-hash` (11 characters of base64) ask for at the end of
    /// every text, by default nothing.
    pub last_lines: String,
}

impl Settings {
    /// Reads the settings by name. Names that this component does not know are left to the others
    /// of the service.
    ///
    /// # Errors
    /// [`Undecided::Setting`] for a value that is out of its bounds: a limit that was set wrongly
    /// must not be a limit left out.
    pub fn read(all: &[(String, String)]) -> Result<Self, Undecided> {
        let given = Given(all);
        let limit = |name, window, default, range| {
            Ok(Limit {
                window,
                max: given.number(name, range, default)?,
            })
        };
        let last_lines = given.last_lines()?;
        Ok(Self {
            digits: given.number("digits", 6..=10, 6)?,
            valid: 1_000 * given.number("valid-seconds", 1..=600, 600)?,
            tries: given.number("tries", 1..=5, 5)?,
            same_code: 1_000 * given.number("same-code-seconds", 1..=600, 300)?,
            sends: vec![
                limit("sends-per-minute", Window::Minute, 3, PHONE_LIMIT)?,
                limit("sends-per-hour", Window::Hour, 10, PHONE_LIMIT)?,
                limit("sends-per-day", Window::Day, 50, PHONE_LIMIT)?,
            ],
            misses: vec![
                limit("misses-per-hour", Window::Hour, 15, PHONE_LIMIT)?,
                limit("misses-per-day", Window::Day, 50, PHONE_LIMIT)?,
            ],
            address_sends: vec![
                limit(
                    "sends-per-minute-per-address",
                    Window::Minute,
                    10,
                    ADDRESS_LIMIT,
                )?,
                limit(
                    "sends-per-hour-per-address",
                    Window::Hour,
                    60,
                    ADDRESS_LIMIT,
                )?,
            ],
            purposes: given.purposes()?,
            text: given.text(&last_lines)?,
            last_lines,
        })
    }

    /// Another text than the configured one, with the last lines behind it.
    #[must_use]
    pub fn with_last_lines(&self, text: &str) -> String {
        format!("{text}{}", self.last_lines)
    }

    /// The purpose of a request that names none.
    #[must_use]
    pub fn default_purpose(&self) -> &str {
        self.purposes.first().map_or("verification", String::as_str)
    }
}

/// Whether `word` can be a purpose: 1 to 64 of the letters that neither a key nor a report has to
/// escape.
#[must_use]
pub fn is_purpose(word: &str) -> bool {
    (1..=PURPOSE_BYTES_MAX).contains(&word.len())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

struct Given<'a>(&'a [(String, String)]);

impl Given<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(given, _)| given == name)?;
        Some(value)
    }

    fn number<N>(
        &self,
        name: &'static str,
        range: RangeInclusive<N>,
        default: N,
    ) -> Result<N, Undecided>
    where
        N: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.get(name) else {
            return Ok(default);
        };
        match text.trim().parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(Undecided::Setting {
                name,
                must: format!(
                    "must be a whole number from {} to {}",
                    range.start(),
                    range.end()
                ),
            }),
        }
    }

    fn purposes(&self) -> Result<Vec<String>, Undecided> {
        let wrong = |must: String| Undecided::Setting {
            name: "purposes",
            must,
        };
        let text = self.get("purposes").unwrap_or("verification");
        let mut purposes: Vec<String> = Vec::new();
        for word in text.split(',').map(str::trim) {
            if !is_purpose(word) {
                return Err(wrong(
                    "must be words of 1 to 64 letters, digits, `-`, `_` or `.`, separated by commas"
                        .into(),
                ));
            }
            if RESERVED_PURPOSES.contains(&word) {
                return Err(wrong(format!(
                    "must not contain `{word}`: only two-factor sends codes for it"
                )));
            }
            if !purposes.iter().any(|known| known == word) {
                purposes.push(word.into());
            }
        }
        if purposes.len() > PURPOSES_MAX {
            return Err(wrong(format!(
                "must have at most {PURPOSES_MAX} words, not {}",
                purposes.len()
            )));
        }
        Ok(purposes)
    }

    fn last_lines(&self) -> Result<String, Undecided> {
        let domain = self.checked("domain", is_host_name, "must be a bare host name")?;
        let must = "must be 11 letters, digits, `+` or `/`";
        let app_hash = self.checked("app-hash", is_app_hash, must)?;
        Ok(last_lines(domain, app_hash))
    }

    fn text(&self, last_lines: &str) -> Result<String, Undecided> {
        let text = self.get("text").unwrap_or(TEXT);
        let whole = format!("{text}{last_lines}");
        let must = if whole.len() > TEXT_BYTES_MAX {
            format!("must have at most {TEXT_BYTES_MAX} bytes, with its last lines")
        } else if !text.contains("{code}") {
            "must contain `{code}`".into()
        } else if !only_known_placeholders(text) {
            "must contain no braces but `{code}` and `{minutes}`".into()
        } else {
            return Ok(whole);
        };
        Err(Undecided::Setting { name: "text", must })
    }

    fn checked(
        &self,
        name: &'static str,
        is_good: fn(&str) -> bool,
        must: &str,
    ) -> Result<Option<&str>, Undecided> {
        match self.get(name) {
            Some(value) if !is_good(value) => Err(Undecided::Setting {
                name,
                must: must.into(),
            }),
            value => Ok(value),
        }
    }
}

/// The host ends the call at a placeholder that nothing fills, so it is found here, with its name.
fn only_known_placeholders(text: &str) -> bool {
    let rest = text.replace("{code}", "").replace("{minutes}", "");
    !rest.contains(['{', '}'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<Settings, String> {
        Settings::read(&[(name.into(), value.into())]).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check_bounds(name: &str, first: u32, last: u32) {
        assert!(read(name, &first.to_string()).is_ok());
        assert!(read(name, &format!(" {last} ")).is_ok());
        let must = format!("setting `{name}` must be a whole number from {first} to {last}");
        for wrong in [
            &(first - 1).to_string(),
            &(last + 1).to_string(),
            "",
            "six",
            "-1",
            "6.0",
        ] {
            assert_eq!(read(name, wrong), Err(must.clone()), "{wrong:?}");
        }
    }

    #[test]
    fn nothing_set_means_the_documented_defaults() {
        let limit = |window, max| Limit { window, max };
        let defaults = Settings {
            digits: 6,
            valid: 600_000,
            tries: 5,
            same_code: 300_000,
            sends: vec![
                limit(Window::Minute, 3),
                limit(Window::Hour, 10),
                limit(Window::Day, 50),
            ],
            misses: vec![limit(Window::Hour, 15), limit(Window::Day, 50)],
            address_sends: vec![limit(Window::Minute, 10), limit(Window::Hour, 60)],
            purposes: vec!["verification".into()],
            text: "Your verification code is: {code}\n\nValid for {minutes} minutes.".into(),
            last_lines: String::new(),
        };
        assert_eq!(Settings::read(&[]), Ok(defaults));
    }

    #[test]
    fn every_number_is_taken_at_its_bounds_and_refused_one_past_them() {
        check_bounds("digits", 6, 10);
        check_bounds("valid-seconds", 1, 600);
        check_bounds("tries", 1, 5);
        check_bounds("same-code-seconds", 1, 600);
        check_bounds("sends-per-minute", 1, 1_000);
        check_bounds("sends-per-hour", 1, 1_000);
        check_bounds("sends-per-day", 1, 1_000);
        check_bounds("misses-per-hour", 1, 1_000);
        check_bounds("misses-per-day", 1, 1_000);
        check_bounds("sends-per-minute-per-address", 1, 1_000_000);
        check_bounds("sends-per-hour-per-address", 1, 1_000_000);
    }

    #[test]
    fn the_first_purpose_is_the_default_and_repeats_count_once() {
        let settings = read("purposes", " sign-up, change_number ,sign-up").expect("well formed");
        assert_eq!(settings.purposes, ["sign-up", "change_number"]);
        assert_eq!(settings.default_purpose(), "sign-up");
    }

    #[test]
    fn a_purpose_that_breaks_keys_or_belongs_to_two_factor_is_refused() {
        for wrong in [
            "",
            "a,,b",
            "a/b",
            "ä",
            "login",
            "a,enrolment",
            &"p".repeat(65),
        ] {
            let error = read("purposes", wrong).expect_err(wrong);
            assert!(error.starts_with("setting `purposes` must"), "{error}");
        }
        let many = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert!(read("purposes", &many(16).join(",")).is_ok());
        assert!(read("purposes", &many(17).join(",")).is_err());
        assert!(read("purposes", &"p".repeat(64)).is_ok());
    }

    #[test]
    fn a_text_that_the_host_could_not_fill_is_refused() {
        assert!(read("text", "{code}").is_ok());
        for wrong in ["", "no code", "{code} {name}", "{code} {", "}{code}"] {
            assert!(read("text", wrong).is_err(), "{wrong:?}");
        }
        let of_bytes = |bytes: usize| format!("{{code}}{}", "x".repeat(bytes - 6));
        assert!(read("text", &of_bytes(1_600)).is_ok());
        assert!(read("text", &of_bytes(1_601)).is_err());
    }

    #[test]
    fn the_last_lines_are_part_of_the_text_and_of_its_bound() {
        let given = |text: &str| {
            let all = [
                ("text".to_owned(), text.to_owned()),
                ("domain".to_owned(), "example.com".to_owned()),
                ("app-hash".to_owned(), "FA+9qCX9VSu".to_owned()),
            ];
            Settings::read(&all).map(|settings| settings.text)
        };
        let lines = "\n\nFA+9qCX9VSu\n@example.com #{code}";
        assert_eq!(given("{code}"), Ok(format!("{{code}}{lines}")));
        let of_bytes = |bytes: usize| format!("{{code}}{}", "x".repeat(bytes - 6));
        assert!(given(&of_bytes(1_600 - lines.len())).is_ok());
        assert!(given(&of_bytes(1_601 - lines.len())).is_err());
        // The code in the last line is not yet one for people.
        assert!(given("no code").is_err());
        for (name, wrong) in [("domain", "https://example.com"), ("app-hash", "short")] {
            let error = read(name, wrong).expect_err(wrong);
            assert!(
                error.starts_with(&format!("setting `{name}` must")),
                "{error}"
            );
        }
    }

    #[test]
    fn settings_of_other_components_are_not_ours_to_judge() {
        assert_eq!(
            read("issuer", "Example"),
            Settings::read(&[]).map_err(|error| error.to_string())
        );
    }
}
