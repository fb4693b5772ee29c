//! Telephone numbers: parsed and judged by libphonenumber's metadata.

use countersign_store::Keyring;
use countersign_types::{NumberKind, PhoneNumber, one_phone};
use phonenumber::country;

mod table;

pub(crate) use table::load as load_table;

/// Why a text is no telephone number that a message can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhoneError {
    /// Empty, too much text, or no number at all.
    #[error("it is no telephone number")]
    NotANumber,
    /// No leading `+` and no default region.
    #[error("it has no country code, for example +1")]
    NoCountry,
    /// Too few digits.
    #[error("it is too short")]
    TooShort,
    /// Too many digits.
    #[error("it is too long")]
    TooLong,
    /// Right in form, but no such number can exist.
    #[error("no such number can exist")]
    Invalid,
    /// It has an extension.
    #[error("it has an extension")]
    Extension,
}

/// What keys and subjects call a number: a keyed hash, the same for every spelling of it.
pub(crate) fn index(keyring: &Keyring, number: &PhoneNumber) -> String {
    keyring.phone_index(&one_phone(&number.e164))
}

/// How much text is looked at.
const TEXT_BYTES_MAX: usize = 64;

/// Numbers that a call has parsed: each is parsed once, whoever asks for it, over all its runs.
#[derive(Debug, Default)]
pub(crate) struct Parsed(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    text: String,
    region: Option<String>,
    result: Result<PhoneNumber, PhoneError>,
}

/// How many numbers one call keeps; further ones are parsed each time.
const KEPT_MAX: usize = 8;

impl Parsed {
    /// As [`parse`], or what it said before. A number in E.164 that came out of it is known as well.
    pub(crate) fn parse(
        &mut self,
        text: &str,
        region: Option<&str>,
    ) -> Result<PhoneNumber, PhoneError> {
        let known = self.0.iter().find(|entry| {
            let is_text = entry.text == text && entry.region.as_deref() == region;
            is_text
                || entry
                    .result
                    .as_ref()
                    .is_ok_and(|number| number.e164 == text)
        });
        if let Some(entry) = known {
            return entry.result.clone();
        }
        let result = parse(text, region);
        if self.0.len() < KEPT_MAX && text.len() <= TEXT_BYTES_MAX {
            self.0.push(Entry {
                text: text.to_owned(),
                region: region.map(str::to_owned),
                result: result.clone(),
            });
        }
        result
    }
}

/// Whether `text` is the ISO 3166-1 alpha-2 code, in capital letters, of a country or territory that has
/// numbers of its own.
pub fn is_region(text: &str) -> bool {
    text.parse::<country::Id>().is_ok() && phonenumber::metadata::DATABASE.by_id(text).is_some()
}

/// Parses what a person typed. `region` (ISO 3166-1 alpha-2) is that of a number without `+`.
///
/// # Errors
///
/// See [`PhoneError`].
pub(crate) fn parse(text: &str, region: Option<&str>) -> Result<PhoneNumber, PhoneError> {
    let text = text.trim();
    match table::plain(text) {
        Some(number) => Ok(number),
        None => judge(text, region),
    }
}

/// As [`parse`], by the library.
fn judge(text: &str, region: Option<&str>) -> Result<PhoneNumber, PhoneError> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(PhoneError::NotANumber);
    }
    let text = &plain_digits(text);
    // The library takes a number out of any text around it; here the text must be the number.
    let spelled = |c: char| {
        c.is_numeric() || c.is_whitespace() || matches!(c, '+' | '-' | '–' | '.' | '(' | ')' | '/')
    };
    if !text.chars().all(spelled) {
        return Err(if has_extension(text) {
            PhoneError::Extension
        } else {
            PhoneError::NotANumber
        });
    }
    let region: Option<country::Id> = region.and_then(|region| region.parse().ok());
    let international = match region {
        _ if text.starts_with('+') => Some(text.to_owned()),
        Some(region) => without_prefix(region, text),
        None => return Err(PhoneError::NoCountry),
    };
    // Told a region, the library takes its national prefix off numbers of other countries as well.
    let number = match &international {
        Some(text) => phonenumber::parse(None, text),
        None => phonenumber::parse(region, text),
    };
    let number = number.map_err(|error| match error {
        phonenumber::ParseError::TooShortAfterIdd | phonenumber::ParseError::TooShortNsn => {
            PhoneError::TooShort
        }
        phonenumber::ParseError::TooLong => PhoneError::TooLong,
        phonenumber::ParseError::InvalidCountryCode => PhoneError::Invalid,
        _ => PhoneError::NotANumber,
    })?;
    if number.extension().is_some() {
        return Err(PhoneError::Extension);
    }
    if !number.is_valid() {
        return Err(PhoneError::Invalid);
    }
    let e164 = number.format().mode(phonenumber::Mode::E164).to_string();
    if !table::DIGITS.contains(&(e164.len() - 1)) {
        return Err(PhoneError::Invalid);
    }
    let country = number
        .country()
        .id()
        .map_or_else(|| "001".to_owned(), |id| id.as_ref().to_owned());
    let kind = match number.number_type(&phonenumber::metadata::DATABASE) {
        phonenumber::Type::Mobile => NumberKind::Mobile,
        phonenumber::Type::FixedLine => NumberKind::FixedLine,
        phonenumber::Type::FixedLineOrMobile => NumberKind::FixedLineOrMobile,
        phonenumber::Type::TollFree => NumberKind::TollFree,
        phonenumber::Type::PremiumRate => NumberKind::PremiumRate,
        phonenumber::Type::SharedCost => NumberKind::SharedCost,
        phonenumber::Type::PersonalNumber => NumberKind::Personal,
        phonenumber::Type::Voip => NumberKind::Voip,
        phonenumber::Type::Pager => NumberKind::Pager,
        phonenumber::Type::Uan => NumberKind::Uan,
        phonenumber::Type::Voicemail => NumberKind::Voicemail,
        _ => NumberKind::Unknown,
    };
    Ok(PhoneNumber {
        e164,
        country,
        kind,
    })
}

/// A number that begins with what is dialled in `region` before a country code (`00`, `011`), with `+`
/// in the place of that.
fn without_prefix(region: country::Id, text: &str) -> Option<String> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let meta = phonenumber::metadata::DATABASE.by_id(region.as_ref())?;
    let prefix = meta.international_prefix()?.find(&digits)?;
    let rest = &digits[prefix.end()..];
    // No country code begins with 0.
    (prefix.start() == 0 && !rest.starts_with('0')).then(|| format!("+{rest}"))
}

/// `text` with the digits of other scripts and full-width signs in plain ASCII: people type what their
/// keyboard has (`＋１２０２…`, `+٩٦٦…`).
fn plain_digits(text: &str) -> String {
    // The first digit of each block of ten that keyboards produce: Arabic-Indic, extended
    // Arabic-Indic, Devanagari, Bengali, Thai, full-width.
    const ZEROS: [u32; 6] = [0x660, 0x6f0, 0x966, 0x9e6, 0xe50, 0xff10];
    text.chars()
        .map(|c| match c {
            '＋' => '+',
            _ => ZEROS
                .iter()
                .filter_map(|zero| (c as u32).checked_sub(*zero))
                .find_map(|digit| char::from_digit(digit, 10))
                .unwrap_or(c),
        })
        .collect()
}

/// Whether the rest of `text` after the digits looks like an extension: `x`, `ext`, `;ext=`, `#`, `,`.
fn has_extension(text: &str) -> bool {
    let Some(first) = text.find(|c: char| c.is_alphabetic() || matches!(c, ';' | ',' | '#')) else {
        return false;
    };
    let (number, rest) = text.split_at(first);
    let marks = ["x", "ext", ";ext", "#", ",", ";", "anexo", "durchwahl"];
    number.chars().filter(char::is_ascii_digit).count() >= 5
        && marks
            .iter()
            .any(|mark| rest.to_lowercase().starts_with(mark))
        && rest.chars().any(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_one_that_has_numbers() {
        for region in ["US", "DE", "IN", "GB", "VA"] {
            assert!(is_region(region), "{region}");
        }
        for other in ["", "us", "XX", "UK", "USA", "001", "U"] {
            assert!(!is_region(other), "{other}");
        }
    }

    #[track_caller]
    fn check(text: &str, region: Option<&str>, want: Result<&str, PhoneError>) {
        let found = parse(text, region).map(|number| number.e164);
        assert_eq!(found.as_deref().map_err(|error| *error), want, "{text}");
    }

    #[test]
    fn every_spelling_of_a_number_is_the_same_number() {
        for text in [
            "+12025550123",
            "+1 (202) 555-0123",
            " +1 202.555.0123 ",
            "+1-202-555-0123",
            "＋１２０２５５５０１２３",
        ] {
            check(text, None, Ok("+12025550123"));
        }
        check("0151 23456789", Some("DE"), Ok("+4915123456789"));
        check("0049 151 23456789", Some("DE"), Ok("+4915123456789"));
    }

    #[test]
    fn the_default_region_does_not_change_a_number_of_another_country() {
        // 1 is the national prefix of the United States, 0 that of Germany.
        check("+4915123456789", Some("US"), Ok("+4915123456789"));
        check("+49 151 23456789", Some("US"), Ok("+4915123456789"));
        check("011 49 151 23456789", Some("US"), Ok("+4915123456789"));
        check("+39 02 36618300", Some("DE"), Ok("+390236618300"));
        check("0039 02 36618300", Some("DE"), Ok("+390236618300"));
    }

    #[test]
    fn what_is_no_number_says_why() {
        use PhoneError::*;
        for (text, error) in [
            ("", NotANumber),
            ("hello", NotANumber),
            ("+", NotANumber),
            ("2025550123", NoCountry),
            ("+1202555012345678901", TooLong),
            ("+1999", Invalid),
            ("+12025550123 ext. 5", Extension),
            ("+12025550123x5", Extension),
            ("+12025550123;ext=5", Extension),
            ("+1202555\u{0}0123", NotANumber),
            ("+12025550123, +12025550124", Extension),
            ("call +12025550123", NotANumber),
        ] {
            let found = parse(text, None);
            assert!(found.is_err(), "{text}: {found:?}");
            if text != "+1999" && text != "+" {
                assert_eq!(found, Err(error), "{text}");
            }
        }
    }

    #[test]
    fn rule_4_a_number_is_parsed_once_for_a_call() {
        let mut parsed = Parsed::default();
        let first = parsed.parse("+1 202 555 0123", None);
        assert_eq!(
            first.as_ref().map(|number| number.e164.as_str()),
            Ok("+12025550123")
        );
        assert_eq!(parsed.parse("+1 202 555 0123", None), first);
        assert_eq!(
            parsed.parse("+12025550123", None),
            first,
            "known by what it became"
        );
        assert_eq!(parsed.0.len(), 1);
        let long = "1".repeat(TEXT_BYTES_MAX + 1);
        assert!(parsed.parse(&long, None).is_err());
        assert_eq!(parsed.0.len(), 1, "what is no number at all is not kept");
    }

    #[test]
    fn twilios_test_number_is_a_personal_number() {
        let number = parse("+15005550006", None).expect("valid");
        assert_eq!(number.kind, NumberKind::Personal);
    }

    #[track_caller]
    fn check_one_phone(spellings: &[&str], want: &str) {
        for text in spellings {
            let number = parse(text, None).expect("valid");
            assert_eq!(one_phone(&number.e164), want, "{text}: {}", number.e164);
        }
    }

    #[test]
    fn one_phone_has_one_index_with_and_without_the_9_of_argentinas_mobiles() {
        check_one_phone(
            &[
                "+54 9 11 2345-6789",
                "+54 11 2345-6789",
                "+54 11 15 2345-6789",
                "+549 11 2345 6789",
            ],
            "+541123456789",
        );
        check_one_phone(&["+54 9 2234 56-7890", "+54 2234 56-7890"], "+542234567890");
        // Others mean each of their digits.
        for own in ["+549112345", "+12025550123", "+4915123456789"] {
            assert_eq!(one_phone(own), own);
        }
        check("+52 55 1234 5678", None, Ok("+525512345678"));
        check("+52 1 55 1234 5678", None, Err(PhoneError::Invalid));
    }

    #[test]
    fn the_country_is_that_of_the_number() {
        assert_eq!(parse("+4915123456789", None).expect("valid").country, "DE");
        assert_eq!(parse("+12025550123", None).expect("valid").country, "US");
    }
}
