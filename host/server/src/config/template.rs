//! `[[template]]` entries: the texts that applications may send, and those of messages with a code for some
//! purposes and languages.

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign_delivery::{
    Language, OfferedOrigin, Segments, Template as Placed, Text, Texts, offered_origins,
};
use countersign_types::{Priority, is_control};

use super::settings::Otp;
use super::{ConfigError, code_message, letters, settings};

/// More would be somebody's mistake; each is looked for by its name.
const TEMPLATES_MAX: usize = 1_000;
const NAME_BYTES_MAX: usize = 64;
/// As the WIT of components bounds a message's text.
pub(super) const TEXT_BYTES_MAX: usize = 1_600;
/// As the WIT bounds a message's variables.
const PLACES_MAX: usize = 16;
const PLACE_BYTES_MAX: usize = 32;
/// The longest language tag that must be supported (RFC 5646, 4.4.1).
const LOCALE_BYTES_MAX: usize = 35;
/// 1,600 UTF-16 units, which every provider takes, are so many SMS.
pub(super) const SEGMENTS_MAX: u32 = 24;
/// What a message's values are counted as, where nothing is known of them.
pub(super) const TYPICAL: &str = "xxxxxxxxxx";
/// The text that the service `otp` sends; `otp.text` sets the general one.
pub(super) const OTP_TEMPLATE: &str = "verification";
/// What a code is for where nothing else is configured.
const DEFAULT_PURPOSE: &str = "verification";
/// What the component `two-factor` has codes sent for.
const OF_TWO_FACTOR: [&str; 2] = ["login", "enrolment"];
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

/// A message that an application may send.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) name: String,
    pub(crate) kind: MessageKind,
    /// How many SMS it may take; `None`: as many as its longest text.
    pub(crate) segments_max: Option<u32>,
}

/// All messages, with their texts, and those of messages with a code.
#[derive(Clone, Debug, Default)]
pub(crate) struct Templates {
    all: Vec<Template>,
    /// Each of `all` has a text for every language.
    pub(crate) texts: Arc<Texts>,
}

impl Templates {
    /// The message of that name, and its text for a reader of `locale`.
    pub(crate) fn find(&self, name: &str, locale: Option<&str>) -> Option<(&Template, &str)> {
        let template = self.all.iter().find(|template| template.name == name)?;
        let text = self.texts.find(name, None, locale)?;
        Some((template, &text.text))
    }
}

/// Judges all entries.
pub(super) fn read(otp: &Otp, entries: &[settings::Template]) -> Result<Templates, ConfigError> {
    let mut templates = Templates::default();
    let mut texts = Texts::default();
    for (number, entry) in entries.iter().enumerate() {
        let failed = |reason: String| ConfigError::Template {
            name: called(
                &entry.name,
                entry.locale.as_deref(),
                entry.purpose.as_deref(),
            ),
            reason,
        };
        if number >= TEMPLATES_MAX {
            let reason = format!("is one more than the {TEMPLATES_MAX} that may be");
            return Err(failed(reason));
        }
        check_name(&entry.name).map_err(|reason| failed(reason.to_owned()))?;
        let is_code = entry.name == OTP_TEMPLATE;
        if is_code {
            check_of_code(otp, entry).map_err(&failed)?;
        }
        check_text(&entry.text, is_code).map_err(&failed)?;
        let text = Text {
            language: language(entry).map_err(&failed)?,
            purpose: purpose(otp, entry).map_err(&failed)?,
            text: entry.text.clone(),
        };
        if text.language.is_none() && !is_code {
            templates.all.push(template(entry).map_err(&failed)?);
        } else if entry.kind.is_some() || entry.segments_max.is_some() {
            return Err(failed(NOT_HERE.to_owned()));
        }
        if !texts.add(&entry.name, text) {
            return Err(failed("comes twice".to_owned()));
        }
    }
    check_alike(&texts)?;
    templates.texts = Arc::new(texts);
    Ok(templates)
}

const NOT_HERE: &str = "has a `kind` or `segments-max`, which stand in the entry without `locale` alone, for \
                        all languages; of messages with a code `otp.segments-max` says how long they may be";

/// What an entry is called.
pub(super) fn called(name: &str, locale: Option<&str>, purpose: Option<&str>) -> String {
    let of = |key: &str, value: Option<&str>| value.map(|value| format!("{key} `{value}`"));
    let which: Vec<String> = [of("locale", locale), of("purpose", purpose)]
        .into_iter()
        .flatten()
        .collect();
    if which.is_empty() {
        format!("`{name}`")
    } else {
        format!("`{name}` ({})", which.join(", "))
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(plain) {
        Err("must have a name of 1 to 64 lower-case letters, digits and hyphens")
    } else {
        Ok(())
    }
}

/// A text with a code in place of the general one.
fn check_of_code(otp: &Otp, entry: &settings::Template) -> Result<(), String> {
    if entry.locale.is_none() && entry.purpose.is_none() {
        return Err(
            "has the name of the text with the code, which `otp.text` sets for everybody; here it needs a \
             `locale` or a `purpose`"
                .to_owned(),
        );
    }
    match code_message::misfit(otp, &entry.text) {
        None => Ok(()),
        Some(("otp.text", must)) => Err(must),
        Some((key, must)) => Err(format!("is too long: `{key}` {must}; shorten it")),
    }
}

fn language(entry: &settings::Template) -> Result<Option<Language>, String> {
    let Some(locale) = &entry.locale else {
        return Ok(None);
    };
    let language = Language::parse(locale).filter(|_| locale.len() <= LOCALE_BYTES_MAX);
    language.map(Some).ok_or_else(|| {
        format!(
            "has the locale `{locale}`, which must be a language tag such as de or pt-BR (BCP 47)"
        )
    })
}

/// What codes are sent for: the first is what a request without a word means.
pub(super) fn purposes(otp: &Otp) -> Vec<&str> {
    let public: Vec<&str> = match &otp.purposes {
        Some(public) => public.iter().map(String::as_str).collect(),
        None => vec![DEFAULT_PURPOSE],
    };
    public.into_iter().chain(OF_TWO_FACTOR).collect()
}

fn purpose(otp: &Otp, entry: &settings::Template) -> Result<Option<String>, String> {
    let Some(purpose) = &entry.purpose else {
        return Ok(None);
    };
    if entry.name != OTP_TEMPLATE {
        return Err(format!(
            "has a `purpose`, which only texts of `{OTP_TEMPLATE}` have: what other messages are for says `kind`"
        ));
    }
    let known = purposes(otp);
    if known.contains(&purpose.as_str()) {
        return Ok(Some(purpose.clone()));
    }
    Err(format!(
        "has the purpose `{purpose}`, for which no code is sent; there are {}",
        known.join(", ")
    ))
}

fn template(entry: &settings::Template) -> Result<Template, String> {
    let kind = match &entry.kind {
        None => MessageKind::Transactional,
        Some(word) => MessageKind::of(word).ok_or_else(|| {
            format!("has the kind `{word}`, which must be login, transactional or marketing")
        })?,
    };
    let most = entry.segments_max.map(|most| {
        let good = u32::try_from(most).ok().filter(|most| (1..=SEGMENTS_MAX).contains(most));
        good.ok_or_else(|| {
            format!("has the `segments-max` {most}, which must be a whole number from 1 to {SEGMENTS_MAX}")
        })
    });
    let segments_max = most.transpose()?;
    let shortest = Segments::of(&filled(&entry.text, "")).count;
    match segments_max {
        Some(most) if shortest > most => Err(format!(
            "is {shortest} SMS before anything is filled in, more than its `segments-max` of {most}"
        )),
        segments_max => Ok(Template {
            name: entry.name.clone(),
            kind,
            segments_max,
        }),
    }
}

/// The text with `value` in each place.
pub(super) fn filled(text: &str, value: &str) -> String {
    let filled = Placed::parse(text).and_then(|template| template.fill(|_| Some(value)));
    // It was read at the start.
    filled.unwrap_or_else(|_| text.to_owned())
}

fn check_text(text: &str, is_code: bool) -> Result<(), String> {
    if !(1..=TEXT_BYTES_MAX).contains(&text.len()) {
        return Err(format!("must have a text of 1 to {TEXT_BYTES_MAX} bytes"));
    }
    if text.contains(|c: char| is_control(c) && c != '\n') {
        return Err(
            "must have no control characters but line ends in its text, and none that turns its direction"
                .to_owned(),
        );
    }
    let template = Placed::parse(text).map_err(|error| format!("cannot be read: {error}"))?;
    let places: BTreeSet<&str> = template.places().collect();
    if is_code {
        check_places_of_code(&places)
    } else {
        check_places(&places)?;
        check_origins(text)
    }
}

/// Nothing that a request says gets into a text with a code, so nobody puts a link or another host there.
fn check_places_of_code(places: &BTreeSet<&str>) -> Result<(), String> {
    if let Some(place) = places.iter().find(|place| !OF_CODES.contains(place)) {
        return Err(format!(
            "has the placeholder `{{{place}}}`; a text with a code has `{{code}}` and, if wanted, `{{minutes}}`"
        ));
    }
    if places.contains("code") {
        Ok(())
    } else {
        Err("must contain `{code}`".to_owned())
    }
}

fn check_places(places: &BTreeSet<&str>) -> Result<(), String> {
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
        if OF_CODES.contains(place) {
            return Err(format!(
                "wants `{{{place}}}`, which only /api/otp/send can fill"
            ));
        }
    }
    Ok(())
}

/// Whose pages a code is for is the operator's to say, not a request's.
fn check_origins(text: &str) -> Result<(), String> {
    let is_open = |origin: &OfferedOrigin<'_>| {
        let frame = origin.frame.unwrap_or_default();
        origin.host.contains('{') || frame.contains('{')
    };
    if offered_origins(text).iter().any(is_open) {
        return Err(
            "offers a code to the pages of a host that requests would name (`@host #code`): write the host itself"
                .to_owned(),
        );
    }
    Ok(())
}

/// All texts of a message take the same values, and there is one for every language.
fn check_alike(texts: &Texts) -> Result<(), ConfigError> {
    let places = |text: &Text| -> BTreeSet<String> {
        let template = Placed::parse(&text.text);
        template.map_or_else(
            |_| BTreeSet::new(),
            |template| template.places().map(str::to_owned).collect(),
        )
    };
    for (name, text) in texts.all().filter(|(name, _)| *name != OTP_TEMPLATE) {
        let locale = text.language.as_ref().map(Language::tag);
        let failed = |reason: String| ConfigError::Template {
            name: called(name, locale, None),
            reason,
        };
        let Some(general) = texts.find(name, None, None) else {
            let reason = "needs an entry of its name without `locale` too, for all other languages";
            return Err(failed(reason.to_owned()));
        };
        let (here, there) = (places(text), places(general));
        if let Some(place) = here.symmetric_difference(&there).next() {
            return Err(failed(format!(
                "and the one without `locale` must have the same placeholders: only one of them has `{{{place}}}`"
            )));
        }
    }
    Ok(())
}

/// A text whose language has none for all who speak it. The general text is English most of the time.
fn orphan(templates: &Templates, name: &str, text: &Text) -> Option<String> {
    let language = text.language.as_ref()?;
    let eldest = language.eldest();
    let of_eldest = |other: &Text| other.language.as_ref() == Some(&eldest);
    if eldest.tag() == "en" || templates.texts.of(name).iter().any(of_eldest) {
        return None;
    }
    let (tag, eldest) = (language.tag(), eldest.tag());
    Some(format!(
        "the template `{name}` has a text for `{tag}` and none for `{eldest}`, so other readers of that \
         language get the general text: give one entry the locale `{eldest}`"
    ))
}

/// What is allowed and probably not meant: letters that cost, and languages that find no text.
pub(super) fn warnings(otp: &Otp, templates: &Templates) -> Vec<String> {
    let general = code_message::default_text(otp);
    let mut warnings = code_message::warnings(otp, "`otp.text`", general);
    let mut orphans = BTreeSet::new();
    for (name, text) in templates.texts.all() {
        let locale = text.language.as_ref().map(Language::tag);
        let what = format!(
            "the template {}",
            called(name, locale, text.purpose.as_deref())
        );
        if name == OTP_TEMPLATE {
            warnings.extend(code_message::warnings(otp, &what, &text.text));
        } else {
            let message = filled(&text.text, TYPICAL);
            let told = letters::that_cost(&what, &text.text, &message);
            warnings.extend(told.map(|(warning, _)| warning));
        }
        orphans.extend(orphan(templates, name, text));
    }
    warnings.extend(orphans);
    warnings
}

#[cfg(test)]
mod tests;
