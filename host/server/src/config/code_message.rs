//! The messages with a code as the settings make them: their last lines, which are for machines, and their
//! length. The component `otp` puts them together; here they are judged at the start.

use countersign_delivery::Segments;

use super::settings::Otp;
use super::template::{SEGMENTS_MAX, TEXT_BYTES_MAX};
use super::{ConfigError, Merged, letters};

/// The component's own text, where `otp.text` sets none.
const DEFAULT_TEXT: &str = "Your verification code is: {code}\n\nValid for {minutes} minutes.";
/// Google, "Perform SMS Verification on a Server": "Be no longer than 140 bytes".
const RETRIEVER_BYTES_MAX: usize = 140;
/// A code has at most so many digits, and is valid for at most so many minutes.
const CODE: &str = "1234567890";
const MINUTES: &str = "10";

/// Judges the settings of the last lines, and what they make of `otp.text`.
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
    if let Some(most) = otp.segments_max {
        merged.whole("otp.segments-max", most, 1..=u64::from(SEGMENTS_MAX))?;
    }
    match misfit(otp, default_text(otp)) {
        None => Ok(pairs),
        Some((key, must)) => {
            let must = match key {
                "otp.text" => must,
                _ => format!("{must} by `otp.text`: shorten that"),
            };
            Err(merged.wrong(key, must, None))
        }
    }
}

const HOST_NAME: &str = "must be a bare host name in lower-case letters such as example.com, without \
                         scheme, port or path, and not an address (other alphabets in their xn-- form)";
const APP_HASH: &str = "must be the 11 letters, digits, `+` or `/` that Android's SMS Retriever knows the \
                        app by";

/// What is too long about a message with this text: the setting that says so, and what it says.
pub(super) fn misfit(otp: &Otp, text: &str) -> Option<(&'static str, String)> {
    if whole(otp, text).len() > TEXT_BYTES_MAX {
        let must = format!("must have at most {TEXT_BYTES_MAX} bytes with its last lines");
        return Some(("otp.text", must));
    }
    let longest = longest(otp, text);
    let bytes = longest.len();
    if otp.app_hash.is_some() && bytes > RETRIEVER_BYTES_MAX {
        let must = format!(
            "needs a message of at most {RETRIEVER_BYTES_MAX} bytes, or Android passes it by, and gets one of \
             {bytes} with its last lines"
        );
        return Some(("otp.app-hash", must));
    }
    let count = u64::from(Segments::of(&longest).count);
    let most = otp.segments_max.filter(|most| count > *most)?;
    let must = format!("allows {most} SMS for a message with a code, and gets {count}");
    Some(("otp.segments-max", must))
}

/// Says so where a message with a code is more than one SMS, each of which is paid for. `what` is what its
/// text is called.
pub(super) fn warnings(otp: &Otp, what: &str, text: &str) -> Vec<String> {
    let longest = longest(otp, text);
    let mut warnings = Vec::new();
    let mut count = Segments::of(&longest).count;
    if let Some((warning, without)) = letters::that_cost(what, text, &longest) {
        warnings.push(warning);
        count = without;
    }
    if count > 1 {
        warnings.push(format!(
            "a message with a code is sent as {count} SMS and paid for as such: shorten {what} (one SMS \
             holds 160 letters of the GSM alphabet, or 70 where there is any other)"
        ));
    }
    warnings
}

/// The text for all who have no other.
pub(super) fn default_text(otp: &Otp) -> &str {
    otp.text.as_deref().unwrap_or(DEFAULT_TEXT)
}

/// As the component puts it together.
fn whole(otp: &Otp, text: &str) -> String {
    let mut whole = text.to_owned();
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

/// The message with a code that is nobody's, as long as it can be with these settings.
pub(super) fn longest(otp: &Otp, text: &str) -> String {
    let digits = otp.digits.map_or(6, super::as_size).min(CODE.len());
    let message = whole(otp, text).replace("{code}", &CODE[..digits]);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the message is measured by must be what the component sends.
    #[test]
    fn the_default_text_is_the_components() {
        let settings = include_str!("../../../../components/otp/src/settings.rs");
        let line = format!("pub const TEXT: &str = {DEFAULT_TEXT:?};");
        assert!(settings.contains(&line), "{line}");
    }

    #[test]
    fn the_default_text_with_a_domain_is_one_message() {
        let warned = |domain: String| {
            let otp = Otp {
                domain: Some(domain),
                app_hash: Some("FA+9qCX9VSu".to_owned()),
                digits: Some(10),
                ..Otp::default()
            };
            warnings(&otp, "`otp.text`", default_text(&otp))
        };
        assert!(warned("accounts.example.co.uk".to_owned()).is_empty());
        // 60 letters of text with a long code, 13 of the app's line, 14 around the domain.
        assert!(warned(format!("{}.example", "d".repeat(65))).is_empty());
        let warned = warned(format!("{}.example", "d".repeat(66)));
        assert!(warned[0].contains("2 SMS"), "{warned:?}");
    }

    #[test]
    fn one_letter_that_doubles_the_price_is_told_with_its_place_and_what_to_write() {
        let otp = Otp::default();
        let text =
            "Your code is {code}.\nDon\u{2019}t tell it to anybody, whoever may ask you for it.";
        let warned = warnings(&otp, "`otp.text`", text);
        let want = "`otp.text` is sent as 2 SMS instead of 1 and paid for as such, since the GSM alphabet \
                    lacks `\u{2019}` (U+2019; line 2, character 4: write `'`)";
        assert_eq!(warned, [want]);
        assert!(warnings(&otp, "`otp.text`", &text.replace('\u{2019}', "'")).is_empty());
        // What is too long anyway is told as well.
        let longer = format!("{text}{}", "x".repeat(160));
        assert_eq!(warnings(&otp, "`otp.text`", &longer).len(), 2);
    }
}
