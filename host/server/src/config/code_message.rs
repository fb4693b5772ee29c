//! The message with a code as the settings make it: its last lines, which are for machines, and its
//! length. The component `otp` puts it together; here it is judged at the start.

use super::settings::Otp;
use super::{ConfigError, Merged};

/// The component's own text, where `otp.text` sets none.
const DEFAULT_TEXT: &str = "Your verification code is: {code}\n\nValid for {minutes} minutes.";
/// As the WIT of components bounds a message's text.
const TEXT_BYTES_MAX: usize = 1_600;
/// Google, "Perform SMS Verification on a Server": "Be no longer than 140 bytes".
const RETRIEVER_BYTES_MAX: usize = 140;
/// A code has at most so many digits, and is valid for at most so many minutes.
const CODE: &str = "0000000000";
const MINUTES: &str = "10";

/// Judges the settings of the last lines, and what they make of the message.
pub(super) fn last_lines(merged: &Merged) -> Result<Vec<(String, String)>, ConfigError> {
    let otp = &merged.settings.otp;
    let mut pairs = Vec::new();
    let values = [
        (
            "domain",
            &otp.domain,
            is_host_name as fn(&str) -> bool,
            HOST_NAME,
        ),
        ("app-hash", &otp.app_hash, is_app_hash, APP_HASH),
    ];
    for (name, value, is_good, must) in values {
        if let Some(value) = value {
            if !is_good(value) {
                return Err(merged.wrong(&format!("otp.{name}"), must, Some(value.clone())));
            }
            pairs.push((name.to_owned(), value.clone()));
        }
    }
    if whole(otp).len() > TEXT_BYTES_MAX {
        let must = format!("must have at most {TEXT_BYTES_MAX} bytes with its last lines");
        return Err(merged.wrong("otp.text", must, None));
    }
    let bytes = longest(otp).len();
    if otp.app_hash.is_some() && bytes > RETRIEVER_BYTES_MAX {
        let must = format!(
            "needs a message of at most {RETRIEVER_BYTES_MAX} bytes, or Android passes it by: \
             shorten `otp.text`, which makes {bytes} with its last lines"
        );
        return Err(merged.wrong("otp.app-hash", must, None));
    }
    Ok(pairs)
}

const HOST_NAME: &str = "must be a bare host name in lower-case letters such as example.com, without \
                         scheme, port or path, and not an address (other alphabets in their xn-- form)";
const APP_HASH: &str = "must be the 11 letters, digits, `+` or `/` that Android's SMS Retriever knows the \
                        app by";

/// Says so where a message with a code is more than one SMS, each of which is paid for.
pub(super) fn warning(otp: &Otp) -> Option<String> {
    let parts = segments(&longest(otp));
    (parts > 1).then(|| {
        format!(
            "a message with a code is sent as {parts} SMS and paid for as such: shorten `otp.text` (one SMS \
             holds 160 letters of the GSM alphabet, or 70 where there is any other)"
        )
    })
}

/// As the component puts it together.
fn whole(otp: &Otp) -> String {
    let mut whole = otp.text.as_deref().unwrap_or(DEFAULT_TEXT).to_owned();
    let domain = otp
        .domain
        .as_ref()
        .map(|domain| format!("@{domain} #{{code}}"));
    let lines: Vec<&str> = [&otp.app_hash, &domain]
        .into_iter()
        .filter_map(|line| line.as_deref())
        .collect();
    if !lines.is_empty() {
        whole += "\n\n";
        whole += &lines.join("\n");
    }
    whole
}

/// The message as long as it can be with these settings.
fn longest(otp: &Otp) -> String {
    let digits = otp.digits.map_or(6, super::as_size).min(CODE.len());
    let message = whole(otp).replace("{code}", &CODE[..digits]);
    message.replace("{minutes}", MINUTES)
}

/// A bare host name as browsers write it, or `localhost`; as the component reads it.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253
        && text.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
        && (text.contains('.') || text == "localhost")
}

/// The first 11 characters of a base64 text; as the component reads it.
fn is_app_hash(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    text.len() == 11 && text.bytes().all(plain)
}

/// How many SMS carry `text`: in the GSM alphabet 160 septets in one and 153 in each of several, else 70
/// and 67 UTF-16 units. A letter that would be torn apart between two can make it one more.
///
/// Source: 3GPP TS 23.038, sections 4 and 6.2.1; TS 23.040, section 9.2.3.24.1.
fn segments(text: &str) -> usize {
    let septets: Option<usize> = text.chars().map(septets).sum();
    let (length, alone, each) = match septets {
        Some(septets) => (septets, 160, 153),
        None => (text.encode_utf16().count(), 70, 67),
    };
    if length <= alone {
        1
    } else {
        length.div_ceil(each)
    }
}

/// How many septets a letter of the GSM 7 bit default alphabet takes; `None` for any other letter.
fn septets(letter: char) -> Option<usize> {
    const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà";
    const EXTENSION: &str = "\u{c}^{}\\[~]|€";
    if letter.is_ascii_alphanumeric() || BASIC.contains(letter) {
        Some(1)
    } else if EXTENSION.contains(letter) {
        Some(2)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: usize) {
        let letters = text.chars().count();
        assert_eq!(segments(text), want, "{letters} letters: {text}");
    }

    #[test]
    fn a_message_of_the_gsm_alphabet_holds_160_letters_and_any_other_70() {
        check("", 1);
        check(&"a".repeat(160), 1);
        check(&"a".repeat(161), 2);
        check(&"a".repeat(306), 2);
        check(&"a".repeat(307), 3);
        // German, Danish, Spanish and Greek capitals cost nothing extra; braces and the euro count twice.
        check(&"äÖßåØñ¿ΔΩ@".repeat(16), 1);
        check(&"€".repeat(80), 1);
        check(&format!("{}a", "€".repeat(80)), 2);
        // Others make a message of 16 bit units of all of it.
        check(&"я".repeat(70), 1);
        check(&"я".repeat(71), 2);
        check(&format!("{}ç", "a".repeat(70)), 2);
        check(&"我".repeat(134), 2);
        check(&"我".repeat(135), 3);
        // Beyond the basic plane a letter is two units.
        check(&"🔑".repeat(35), 1);
        check(&"🔑".repeat(36), 2);
    }

    /// What the message is measured by must be what the component sends.
    #[test]
    fn the_default_text_is_the_components() {
        let settings = include_str!("../../../../components/otp/src/settings.rs");
        let line = format!("pub const TEXT: &str = {DEFAULT_TEXT:?};");
        assert!(settings.contains(&line), "{line}");
    }

    #[test]
    fn the_default_text_with_a_domain_is_one_message() {
        let otp = |domain: String| Otp {
            domain: Some(domain),
            app_hash: Some("FA+9qCX9VSu".to_owned()),
            digits: Some(10),
            ..Otp::default()
        };
        assert_eq!(warning(&otp("accounts.example.co.uk".to_owned())), None);
        // 60 letters of text with a long code, 13 of the app's line, 14 around the domain.
        assert_eq!(warning(&otp(format!("{}.example", "d".repeat(65)))), None);
        let warned = warning(&otp(format!("{}.example", "d".repeat(66)))).expect("a warning");
        assert!(warned.contains("2 SMS"), "{warned}");
    }
}
