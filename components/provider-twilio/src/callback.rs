//! Status callbacks, messages that somebody sent to us, and their signatures.
//!
//! Source: `twilio/twilio-python` `twilio/request_validator.py` and `twilio/twilio-node`
//! `src/webhooks/webhooks.ts`. What is signed is the URL as Twilio called it, followed for a form by
//! every parameter in order of name; whatever else came is not covered, and not read.
//!
//! Nothing stands between the names and the values that are signed, so who has seen a form can cut it
//! anew, and say other things under the same signature (`is_cut_by_twilio`).

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_provider::{
    Callback, CallbackError, Hash, Host, News, Reply, SIGNED_BYTES_MAX, StatusUpdate, Wish, form,
    header, hex, news, query_of, reply, sign_key,
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::AUTH_TOKEN;
use crate::api::{self, Word};

const SIGNATURE_BYTES: usize = 20;

/// Twilio sends some twenty. More are not taken apart: it would be work for whoever has no signature.
const PARAMETERS_MAX: usize = 100;

/// Reads a callback.
///
/// # Errors
/// When it is not signed by Twilio, or cannot be understood.
pub fn parse(host: &mut impl Host, request: &Callback) -> Result<News, CallbackError> {
    let signature = signature(request).ok_or(CallbackError::Unsigned)?;
    let content = Content::of(request).ok_or(CallbackError::Unsigned)?;
    let parameters = content.signed_parameters();
    let key = sign_key(AUTH_TOKEN);
    let is_signed = signed_urls(&request.url).iter().any(|url| {
        let signed = format!("{url}{parameters}");
        signed.len() <= SIGNED_BYTES_MAX
            && host.verify_hmac(Hash::Sha1, &key, signed.as_bytes(), &signature)
    });
    if !is_signed {
        return Err(CallbackError::Unsigned);
    }
    content
        .news(&Ours::read(host))
        .ok_or(CallbackError::Malformed)
}

/// What of a callback has to be ours, as far as the settings tell.
struct Ours {
    account: Option<String>,
    /// A number; a messaging service has several, and a name gets no answers.
    number: Option<String>,
    service: Option<String>,
}

impl Ours {
    fn read(host: &impl Host) -> Self {
        let service = host.setting("messaging-service-sid");
        let number = host.setting("from").filter(|from| from.starts_with('+'));
        Self {
            account: host.setting("account-sid"),
            number: number.filter(|_| service.is_none()),
            service,
        }
    }
}

fn signature(request: &Callback) -> Option<Vec<u8>> {
    let signature = STANDARD
        .decode(header(request, "x-twilio-signature")?)
        .ok()?;
    (signature.len() == SIGNATURE_BYTES).then_some(signature)
}

/// What of a request is covered by its signature.
enum Content {
    /// A GET: the parameters of the query, which the URL covers.
    Query(Vec<(String, String)>),
    /// A form: its parameters.
    Form(Vec<(String, String)>),
    /// JSON: its hash is in the URL.
    Json(Vec<u8>),
}

impl Content {
    /// `None`: nothing ties the body to the signature, or there is far too much in it.
    fn of(request: &Callback) -> Option<Self> {
        let query = query_of(&request.url);
        match request.method.as_str() {
            "GET" => return form(query.as_bytes(), PARAMETERS_MAX).map(Self::Query),
            "POST" => {}
            _ => return None,
        }
        let media_type = header(request, "content-type").unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        let hash = form(query.as_bytes(), PARAMETERS_MAX)?
            .into_iter()
            .find_map(|(name, value)| (name == "bodySHA256").then_some(value));
        match hash {
            _ if media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") => {
                form(&request.body, PARAMETERS_MAX).map(Self::Form)
            }
            Some(hash) => {
                let is_body = hash.eq_ignore_ascii_case(&hex(&Sha256::digest(&request.body)));
                is_body.then(|| Self::Json(request.body.clone()))
            }
            None if media_type.is_empty() => form(&request.body, PARAMETERS_MAX).map(Self::Form),
            None => None,
        }
    }

    /// What is signed after the URL: each name and value in order of name, by code point; of a name
    /// that is there several times its different values in order, each after the name.
    fn signed_parameters(&self) -> String {
        let Self::Form(pairs) = self else {
            return String::new();
        };
        let sorted: BTreeSet<_> = pairs.iter().collect();
        let texts = sorted.into_iter().flat_map(|(name, value)| [name, value]);
        texts.map(String::as_str).collect()
    }

    fn news(&self, ours: &Ours) -> Option<News> {
        match self {
            Self::Form(pairs) if !is_cut_by_twilio(pairs) => None,
            Self::Query(pairs) | Self::Form(pairs) => read(ours, |name| {
                let (_, value) = pairs.iter().find(|(given, _)| given == name)?;
                (!value.is_empty()).then(|| value.clone())
            }),
            Self::Json(body) => {
                let body: Map<String, Value> = serde_json::from_slice(body).ok()?;
                read(ours, |name| match body.get(name)? {
                    Value::String(text) if !text.is_empty() => Some(text.clone()),
                    Value::Number(number) => Some(number.to_string()),
                    _ => None,
                })
            }
        }
    }
}

/// The longest name of a parameter that is taken for one of Twilio's.
const NAME_BYTES_MAX: usize = 64;

/// Whether a form looks as Twilio cuts it. What somebody writes to us is in it, and stands in what is signed
/// before the names that come later in the alphabet: with the text `aFrom+1202…OptOutTypeSTOPToZ` all
/// of that could be parameters, and what is left of the true ones the value of `Z`. So each name has
/// the form of Twilio's, none is there twice, and no value but that text has the names of parameters in it
/// that every message has.
fn is_cut_by_twilio(pairs: &[(String, String)]) -> bool {
    let mut names = BTreeSet::new();
    pairs.iter().all(|(name, value)| {
        let is_name = name.len() <= NAME_BYTES_MAX
            && name.starts_with(|char: char| char.is_ascii_alphabetic())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let swallows = ["MessageSid", "SmsSid", "AccountSid", "From+"]
            .iter()
            .any(|other| value.contains(other));
        is_name && names.insert(name) && (name == "Body" || !swallows)
    })
}

/// What the fields of a callback tell. `RawDlrDoneDate` is not read: it names no time zone.
fn read(ours: &Ours, field: impl Fn(&str) -> Option<String>) -> Option<News> {
    let is_ours = |name: &str, known: &Option<String>| match (field(name), known) {
        (Some(given), Some(known)) => given == *known,
        _ => true,
    };
    if !is_ours("AccountSid", &ours.account) || !is_ours("MessagingServiceSid", &ours.service) {
        return None;
    }
    let one_of = |names: &[&str]| names.iter().find_map(|name| field(name));
    let id = one_of(&["MessageSid", "SmsSid", "sid", "id"])?;
    if !api::is_sid(&id) {
        return None;
    }
    let word = match one_of(&["MessageStatus", "SmsStatus", "status"]) {
        Some(word) => api::status_of(&word)?,
        // Not all of what comes in says `received`.
        None => field("Body").map(|_| Word::Inbound)?,
    };
    let Word::Outbound(status) = word else {
        if field("AccountSid").is_none() || !is_ours("To", &ours.number) {
            return None;
        }
        return Some(news(Vec::new(), vec![answer(id, &field)?]));
    };
    let code = one_of(&["ErrorCode", "error_code"])
        .and_then(|code| code.parse::<u32>().ok())
        .filter(|&code| code != 0);
    let message = one_of(&["ErrorMessage", "error_message"]);
    let update = StatusUpdate {
        id,
        status,
        error: code.map(|code| api::delivery_error(code, message.as_deref())),
        at: None,
        price: None,
        segments: None,
        attributes: Vec::new(),
    };
    Some(news(vec![update], Vec::new()))
}

/// What somebody sent to one of our numbers. Where a messaging service reads it for `STOP` and `START`
/// itself, `OptOutType` has what it took it for, in the account's own words and languages. When it was
/// written Twilio does not say.
fn answer(id: String, field: impl Fn(&str) -> Option<String>) -> Option<Reply> {
    let text = field("Body").unwrap_or_default();
    let wish = match field("OptOutType").as_deref() {
        Some("STOP") => Some(Wish::Stop),
        Some("START") => Some(Wish::Start),
        _ => None,
    };
    let reply = reply(&field("From")?, &field("To").unwrap_or_default(), &text);
    Some(Reply {
        id: Some(id),
        wish,
        ..reply
    })
}

/// The spellings of `url` that Twilio may have signed: with a port and without, as its validators
/// take them. The port is the one given, or that of the scheme.
fn signed_urls(url: &str) -> Vec<String> {
    let (scheme, default_port, rest) = if let Some(rest) = url.strip_prefix("https://") {
        ("https://", "443", rest)
    } else if let Some(rest) = url.strip_prefix("http://") {
        ("http://", "80", rest)
    } else {
        return vec![url.into()];
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // The colons of an IPv6 address stand in brackets.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (authority, default_port),
    };
    vec![
        format!("{scheme}{host}{path}"),
        format!("{scheme}{host}:{port}{path}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, want: [&str; 2]) {
        assert_eq!(signed_urls(url), want);
    }

    #[test]
    fn a_url_is_signed_with_its_port_or_without_one() {
        check(
            "https://a.test/x?y=:1/",
            ["https://a.test/x?y=:1/", "https://a.test:443/x?y=:1/"],
        );
        check("http://a.test", ["http://a.test", "http://a.test:80"]);
        check(
            "https://a.test:8443?q",
            ["https://a.test?q", "https://a.test:8443?q"],
        );
        check(
            "http://[::1]:8080/x",
            ["http://[::1]/x", "http://[::1]:8080/x"],
        );
        check("http://[::1]/x", ["http://[::1]/x", "http://[::1]:80/x"]);
    }

    #[test]
    fn what_is_no_http_url_is_signed_as_it_is() {
        assert_eq!(signed_urls("nonsense"), ["nonsense"]);
    }
}
