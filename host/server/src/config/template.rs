//! `[[template]]` entries: the texts that applications may send.

use std::collections::BTreeSet;

use countersign_delivery::Template as Text;
use countersign_types::{Priority, is_control};

use super::{ConfigError, settings};

/// More would be somebody's mistake; each is looked for by its name.
const TEMPLATES_MAX: usize = 1_000;
const NAME_BYTES_MAX: usize = 64;
/// As the WIT of components bounds a message's text.
const TEXT_BYTES_MAX: usize = 1_600;
/// As the WIT bounds a message's variables.
const PLACES_MAX: usize = 16;
const PLACE_BYTES_MAX: usize = 32;
/// The one text that the service `otp` sends; `otp.text` sets it.
const OTP_TEMPLATE: &str = "verification";
/// What only the host can fill, and only where a service has opened a challenge.
const OF_CODES: [&str; 2] = ["code", "minutes"];

/// What a message is for; the first is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MessageKind {
    /// Somebody waits in front of a screen.
    Login,
    /// An order, an appointment, an alarm.
    Transactional,
    /// Nobody waits for it.
    Marketing,
}

impl MessageKind {
    /// The kind of that name.
    pub(crate) fn of(word: &str) -> Option<MessageKind> {
        let all = [
            MessageKind::Login,
            MessageKind::Transactional,
            MessageKind::Marketing,
        ];
        all.into_iter().find(|kind| kind.word() == word)
    }

    /// Its name.
    pub(crate) fn word(self) -> &'static str {
        match self {
            MessageKind::Login => "login",
            MessageKind::Transactional => "transactional",
            MessageKind::Marketing => "marketing",
        }
    }

    /// Who goes first.
    pub(crate) fn priority(self) -> Priority {
        match self {
            MessageKind::Login => Priority::Urgent,
            MessageKind::Transactional => Priority::Normal,
            MessageKind::Marketing => Priority::Bulk,
        }
    }
}

/// A text that an application may send.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) kind: MessageKind,
}

/// Judges all entries.
pub(super) fn read(entries: &[settings::Template]) -> Result<Vec<Template>, ConfigError> {
    let mut names = BTreeSet::new();
    let mut templates = Vec::new();
    for entry in entries {
        let failed = |reason: String| ConfigError::Template {
            name: entry.name.clone(),
            reason,
        };
        check_name(&entry.name).map_err(|reason| failed(reason.to_owned()))?;
        if !names.insert(&entry.name) {
            return Err(failed("comes twice".to_owned()));
        }
        if names.len() > TEMPLATES_MAX {
            return Err(failed(format!(
                "is one more than the {TEMPLATES_MAX} that may be"
            )));
        }
        check_text(&entry.text).map_err(failed)?;
        let kind = match &entry.kind {
            None => MessageKind::Transactional,
            Some(word) => MessageKind::of(word).ok_or_else(|| {
                failed(format!(
                    "has the kind `{word}`, which must be login, transactional or marketing"
                ))
            })?,
        };
        templates.push(Template {
            name: entry.name.clone(),
            text: entry.text.clone(),
            kind,
        });
    }
    Ok(templates)
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(plain) {
        Err("must have a name of 1 to 64 lower-case letters, digits and hyphens")
    } else if name == OTP_TEMPLATE {
        Err("has the name of the text with the code, which `otp.text` sets")
    } else {
        Ok(())
    }
}

fn check_text(text: &str) -> Result<(), String> {
    if !(1..=TEXT_BYTES_MAX).contains(&text.len()) {
        return Err(format!("must have a text of 1 to {TEXT_BYTES_MAX} bytes"));
    }
    if text.contains(|c: char| is_control(c) && c != '\n') {
        return Err(
            "must have no control characters but line ends in its text, and none that turns its direction"
                .to_owned(),
        );
    }
    let template = Text::parse(text).map_err(|error| format!("cannot be read: {error}"))?;
    let places: BTreeSet<&str> = template.places().collect();
    if places.len() > PLACES_MAX {
        return Err(format!("has more than {PLACES_MAX} placeholders"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    for place in places {
        if !(1..=PLACE_BYTES_MAX).contains(&place.len()) || !place.bytes().all(plain) {
            return Err(format!(
                "has the placeholder `{{{place}}}`, which must be 1 to {PLACE_BYTES_MAX} letters, digits, `-` or `_`"
            ));
        }
        if OF_CODES.contains(&place) {
            return Err(format!(
                "wants `{{{place}}}`, which only /api/otp/send can fill"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, text: &str, kind: Option<&str>) -> settings::Template {
        settings::Template {
            name: name.to_owned(),
            text: text.to_owned(),
            kind: kind.map(str::to_owned),
        }
    }

    #[track_caller]
    fn check(name: &str, text: &str, kind: Option<&str>, want: Result<MessageKind, &str>) {
        let read = read(&[entry(name, text, kind)]);
        match (read, want) {
            (Ok(templates), Ok(kind)) => assert_eq!(templates[0].kind, kind),
            (Err(error), Err(words)) => {
                assert!(error.to_string().contains(words), "{error}");
            }
            (read, want) => panic!("{read:?}, not {want:?}"),
        }
    }

    #[test]
    fn a_template_has_a_name_a_text_and_a_kind() {
        let transactional = Ok(MessageKind::Transactional);
        check(
            "order-1",
            "Order {number}\nis on its way.",
            None,
            transactional,
        );
        check("a", "x", Some("login"), Ok(MessageKind::Login));
        check("a", "x", Some("marketing"), Ok(MessageKind::Marketing));
        check(&"n".repeat(64), &"x".repeat(1_600), None, transactional);
        check(&"n".repeat(65), "x", None, Err("64 lower-case"));
        check("Order", "x", None, Err("64 lower-case"));
        check("a", &"x".repeat(1_601), None, Err("1600 bytes"));
        check("a", "", None, Err("1600 bytes"));
        check("a", "bell \u{7}", None, Err("control"));
        check("a", "a\u{202e}b", None, Err("direction"));
        check("a", "a\u{2028}b", None, Err("control"));
        check("a", "x", Some("urgent"), Err("`urgent`"));
        let twice = read(&[entry("a", "x", None), entry("a", "y", None)]);
        assert!(twice.expect_err("twice").to_string().contains("twice"));
    }

    #[test]
    fn placeholders_must_be_read_and_filled() {
        check("a", "lonely {", None, Err("no partner"));
        check("a", "{a b}", None, Err("`{a b}`"));
        check("a", "{}", None, Err("`{}`"));
        let transactional = Ok(MessageKind::Transactional);
        check("a", &format!("{{{}}}", "p".repeat(32)), None, transactional);
        check(
            "a",
            &format!("{{{}}}", "p".repeat(33)),
            None,
            Err("1 to 32"),
        );
        let many = |n: usize| (0..n).map(|i| format!("{{p{i}}}")).collect::<String>();
        check("a", &many(16), None, transactional);
        check("a", &many(17), None, Err("16 placeholders"));
    }

    #[test]
    fn codes_come_from_otp_only() {
        check("a", "Your code is {code}", None, Err("/api/otp/send"));
        check("a", "{minutes} minutes", None, Err("/api/otp/send"));
        check("verification", "x", None, Err("otp.text"));
    }
}
