//! Messages as they will be sent and paid for, before any is: for whoever writes their texts.

use std::collections::BTreeSet;

use countersign_delivery::{Language, Segments, Template as Placed, Text};
use serde::Serialize;

use super::settings::Prices;
use super::template::{OTP_TEMPLATE, called, filled};
use super::{ConfigError, Merged, Templates, analytics, code_message, letters};

/// Decimals of a price.
const PLACES: usize = 6;

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// The message's name.
    pub(crate) name: String,
    /// BCP 47: the reader's language.
    pub(crate) locale: Option<String>,
    /// What its code is for.
    pub(crate) purpose: Option<String>,
    /// What fills its placeholders.
    pub(crate) values: Vec<(String, String)>,
    /// ISO 3166-1 alpha-2: where it goes to.
    pub(crate) country: Option<String>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Preview {
    /// The message's name.
    pub(crate) name: String,
    /// Whose text it is; `None`: that of all who have no other.
    pub(crate) locale: Option<String>,
    /// The same of what a code is for.
    pub(crate) purpose: Option<String>,
    /// As it is sent; a code in it is nobody's.
    pub(crate) text: String,
    /// `GSM-7` or `UCS-2`.
    pub(crate) encoding: &'static str,
    /// Septets or UTF-16 units.
    pub(crate) units: usize,
    /// How many SMS it is.
    pub(crate) segments: u32,
    /// What it costs by the configured tables, with those providers that have one for it.
    pub(crate) costs: Vec<Cost>,
    /// What may be written otherwise.
    pub(crate) warnings: Vec<String>,
}

/// What a message costs with one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Cost {
    /// The provider's configured name.
    pub(crate) provider: String,
    /// Decimal.
    pub(crate) amount: String,
    /// ISO 4217.
    pub(crate) currency: String,
}

/// Why there is nothing to be shown.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum PreviewError {
    #[error("there is no template `{0}`")]
    #[diagnostic(
        code(countersign::template::unknown),
        help("`countersign template list` names those that are configured")
    )]
    Unknown(String),
    #[error("the template has no placeholder `{{{name}}}`")]
    #[diagnostic(code(countersign::template::no_place), help("{has}"))]
    NoPlace { name: String, has: String },
    #[error("no code is sent for `{word}`")]
    #[diagnostic(code(countersign::template::purpose), help("{known}"))]
    Purpose { word: String, known: String },
    #[error("nothing fills the placeholder `{{{0}}}`")]
    #[diagnostic(code(countersign::template::unfilled), help("add `--set {0}=VALUE`"))]
    Unfilled(String),
}

impl Merged {
    /// All messages, those with a code first, with ten letters in each of their placeholders.
    ///
    /// # Errors
    ///
    /// Where a setting is wrong that they are made by.
    pub(crate) fn previews(&self) -> Result<Vec<Preview>, ConfigError> {
        let templates = self.judged()?;
        let general = self.general_code();
        let mut previews = vec![self.preview(OTP_TEMPLATE, &general, None, None)];
        let (codes, others): (Vec<_>, Vec<_>) = templates
            .texts
            .all()
            .partition(|(name, _)| *name == OTP_TEMPLATE);
        for (name, text) in codes.into_iter().chain(others) {
            previews.push(self.preview(name, text, None, None));
        }
        Ok(previews)
    }

    /// One message, as a reader gets it.
    ///
    /// # Errors
    ///
    /// Where a setting is wrong that it is made by.
    pub(crate) fn preview_of(
        &self,
        wish: &Wish,
    ) -> Result<Result<Preview, PreviewError>, ConfigError> {
        let templates = self.judged()?;
        let name = wish.name.as_str();
        let purpose = match self.purpose_of(wish) {
            Ok(purpose) => purpose,
            Err(error) => return Ok(Err(error)),
        };
        let found = templates.texts.find(name, purpose, wish.locale.as_deref());
        let general = self.general_code();
        let text = match found {
            Some(text) => text,
            None if name == OTP_TEMPLATE => &general,
            None => return Ok(Err(PreviewError::Unknown(wish.name.clone()))),
        };
        if let Err(error) = check_values(name, &text.text, &wish.values) {
            return Ok(Err(error));
        }
        let country = wish.country.as_deref();
        Ok(Ok(self.preview(name, text, Some(&wish.values), country)))
    }

    /// What the message is for that is looked at: that of a request that says nothing, where nothing is said.
    fn purpose_of<'a>(&'a self, wish: &'a Wish) -> Result<Option<&'a str>, PreviewError> {
        let refused = |word: &str, known: String| {
            Err(PreviewError::Purpose {
                word: word.to_owned(),
                known,
            })
        };
        let known = super::template::purposes(&self.settings.otp);
        match &wish.purpose {
            Some(word) if wish.name != OTP_TEMPLATE => {
                let known = format!("only the texts of `{OTP_TEMPLATE}` are for a purpose");
                refused(word, known)
            }
            Some(word) if !known.contains(&word.as_str()) => {
                refused(word, format!("there are {}", known.join(", ")))
            }
            Some(word) => Ok(Some(word)),
            None if wish.name == OTP_TEMPLATE => Ok(known.first().copied()),
            None => Ok(None),
        }
    }

    /// All messages, with what they are made by judged as at a start.
    fn judged(&self) -> Result<Templates, ConfigError> {
        super::bounds::otp(self)?;
        analytics::read(self)?;
        self.templates()
    }

    /// The text with a code for all who have no other.
    fn general_code(&self) -> Text {
        Text {
            language: None,
            purpose: None,
            text: code_message::default_text(&self.settings.otp).to_owned(),
        }
    }

    fn preview(
        &self,
        name: &str,
        text: &Text,
        values: Option<&[(String, String)]>,
        country: Option<&str>,
    ) -> Preview {
        let otp = &self.settings.otp;
        let locale = text.language.as_ref().map(Language::tag);
        let what = format!(
            "the template {}",
            called(name, locale, text.purpose.as_deref())
        );
        let (message, warnings) = if name == OTP_TEMPLATE {
            let warnings = code_message::warnings(otp, &what, &text.text);
            (code_message::longest(otp, &text.text), warnings)
        } else {
            let message = match values {
                None => filled(&text.text, super::template::TYPICAL),
                Some(values) => fill(&text.text, values),
            };
            let warning = letters::that_cost(&what, &text.text, &message);
            (
                message,
                warning.into_iter().map(|(warning, _)| warning).collect(),
            )
        };
        let segments = Segments::of(&message);
        Preview {
            name: name.to_owned(),
            locale: locale.map(str::to_owned),
            purpose: text.purpose.clone(),
            encoding: segments.encoding.word(),
            units: segments.units,
            segments: segments.count,
            text: message,
            costs: self.costs(country, segments.count),
            warnings,
        }
    }

    /// What so many segments cost with each provider that has a price for the country.
    fn costs(&self, country: Option<&str>, segments: u32) -> Vec<Cost> {
        let given = &self.settings.analytics;
        let cost = |(provider, prices): (&String, &Prices)| {
            let of_country = country.and_then(|country| prices.countries.get(country));
            let price = of_country.or(prices.default.as_ref())?;
            Some(Cost {
                provider: provider.clone(),
                amount: times(&price.to_string(), segments)?,
                currency: prices
                    .currency
                    .clone()
                    .unwrap_or_else(|| given.currency.clone()),
            })
        };
        given.prices.iter().filter_map(cost).collect()
    }
}

fn check_values(name: &str, text: &str, values: &[(String, String)]) -> Result<(), PreviewError> {
    let places: BTreeSet<&str> = match Placed::parse(text) {
        // What fills a code's text nobody chooses.
        Ok(template) if name != OTP_TEMPLATE => template.places().collect(),
        _ => BTreeSet::new(),
    };
    if let Some((name, _)) = values
        .iter()
        .find(|(name, _)| !places.contains(name.as_str()))
    {
        let has: Vec<_> = places
            .iter()
            .map(|place| format!("`{{{place}}}`"))
            .collect();
        return Err(PreviewError::NoPlace {
            name: name.clone(),
            has: match has.is_empty() {
                true => "nothing of it is filled in by `--set`".to_owned(),
                false => format!("it has {}", has.join(", ")),
            },
        });
    }
    let is_filled = |place: &&&str| values.iter().any(|(name, _)| name == **place);
    match places.iter().find(|place| !is_filled(place)) {
        Some(place) => Err(PreviewError::Unfilled((*place).to_owned())),
        None => Ok(()),
    }
}

fn fill(text: &str, values: &[(String, String)]) -> String {
    let value = |place: &str| {
        let found = values.iter().find(|(name, _)| name == place);
        found.map(|(_, value)| value.as_str())
    };
    let filled = Placed::parse(text).and_then(|template| template.fill(value));
    // All are there.
    filled.unwrap_or_else(|_| text.to_owned())
}

/// A decimal number with at most six decimals, `count` times; `None` where it is none.
fn times(price: &str, count: u32) -> Option<String> {
    let (whole, fraction) = price.split_once('.').unwrap_or((price, ""));
    let micros: u128 = format!("{whole}{fraction:0<PLACES$}").parse().ok()?;
    let micros = micros * u128::from(count);
    let unit = 10_u128.pow(PLACES as u32);
    let text = format!("{}.{:0PLACES$}", micros / unit, micros % unit);
    Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_multiplied_exactly() {
        for (price, count, want) in [
            ("0.0079", 1, "0.0079"),
            ("0.0079", 3, "0.0237"),
            ("0.05", 2, "0.1"),
            ("1", 2, "2"),
            ("0.000001", 24, "0.000024"),
            ("999999.999999", 24, "23999999.999976"),
            ("10", 1, "10"),
            ("0", 5, "0"),
        ] {
            assert_eq!(times(price, count).as_deref(), Some(want), "{price}");
        }
        assert_eq!(times("x", 1), None);
    }

    #[test]
    fn a_message_is_filled_with_exactly_what_it_asks_for() {
        let value = |name: &str| (name.to_owned(), "1".to_owned());
        let check = |values: &[(String, String)]| check_values("a", "{x} {y}", values);
        assert!(check(&[value("x"), value("y")]).is_ok());
        assert!(matches!(check(&[value("x")]), Err(PreviewError::Unfilled(place)) if place == "y"));
        let more = [value("x"), value("y"), value("z")];
        let Err(PreviewError::NoPlace { name, has }) = check(&more) else {
            panic!("a value that has no place");
        };
        assert_eq!((&*name, &*has), ("z", "it has `{x}`, `{y}`"));
        let code = check_values(OTP_TEMPLATE, "{code}", &[value("code")]);
        assert!(matches!(code, Err(PreviewError::NoPlace { .. })));
        assert!(check_values(OTP_TEMPLATE, "{code}", &[]).is_ok());
        assert_eq!(fill("{x}/{y}", &[value("y"), value("x")]), "1/1");
    }

    #[test]
    fn a_message_is_shown_as_a_request_without_a_purpose_gets_it() {
        let file = |text: &str| {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), text).expect("written");
            file
        };
        let text = "[otp]\npurposes = ['signup', 'payment']\n\
                    [[template]]\nname = 'verification'\npurpose = 'signup'\ntext = 'Sign up: {code}'\n\
                    [[template]]\nname = 'parcel'\ntext = 'It is there'\n";
        let file = file(text);
        let flags = crate::config::Flags {
            config: Some(file.path().to_owned()),
            ..crate::config::Flags::default()
        };
        let merged = Merged::load(&flags, &crate::config::Environment::from([]));
        let merged = merged.expect("loaded");
        let show = |name: &str, purpose: Option<&str>| {
            let wish = Wish {
                name: name.to_owned(),
                purpose: purpose.map(str::to_owned),
                ..Wish::default()
            };
            merged.preview_of(&wish).expect("judged")
        };
        let shown = |purpose| show(OTP_TEMPLATE, purpose).expect("shown").text;
        assert!(shown(None).starts_with("Sign up: "));
        assert!(shown(Some("signup")).starts_with("Sign up: "));
        for purpose in ["payment", "login", "enrolment"] {
            assert!(shown(Some(purpose)).starts_with("Your verification"));
        }
        let Err(PreviewError::Purpose { known, .. }) = show(OTP_TEMPLATE, Some("singup")) else {
            panic!("a misspelt purpose");
        };
        assert_eq!(known, "there are signup, payment, login, enrolment");
        assert!(matches!(
            show("parcel", Some("signup")),
            Err(PreviewError::Purpose { .. })
        ));
        assert!(show("parcel", None).is_ok());
    }
}
