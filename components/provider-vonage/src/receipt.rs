//! Delivery receipts, one for each part of a message, and what people answer: both signed in one way.

use std::collections::BTreeMap;

use countersign_provider::{
    Callback, CallbackError, ErrorClass, Hash, Host, News, Reply, SIGNED_BYTES_MAX, SendError,
    Status, StatusUpdate, error, form, header, id, is_recent, misconfigured, news, query_of, reply,
    rfc3339, sign_key, unhex,
};
use serde_json::{Map, Value};

/// The credential that receipts are signed with.
pub const SECRET: &str = "signature-secret";

/// Vonage sends some fifteen. More are not taken apart: it would be work for whoever has no signature.
const PARAMETERS_MAX: usize = 100;

/// Reads a receipt or an answer. One without a signature is read too: whether it counts is the host's to say.
///
/// # Errors
/// When it is signed and the signature or its time is wrong, or when it cannot be understood.
pub fn parse(host: &mut impl Host, request: &Callback) -> Result<News, CallbackError> {
    let parameters = parameters(request).ok_or(CallbackError::Malformed)?;
    if let Some(signature) = parameters.get("sig")
        && !is_signed(host, &parameters, signature)
    {
        return Err(CallbackError::Unsigned);
    }
    let told = if parameters.contains_key("status") {
        update(&parameters).map(|update| news(vec![update], Vec::new()))
    } else {
        answer(&parameters).map(|reply| news(Vec::new(), vec![reply]))
    };
    told.ok_or(CallbackError::Malformed)
}

/// The parameters of a GET, of a form or of JSON, by name; of a name that is there twice the first.
fn parameters(request: &Callback) -> Option<BTreeMap<String, String>> {
    let pairs = match request.method.as_str() {
        "GET" => form(query_of(&request.url).as_bytes(), PARAMETERS_MAX)?,
        "POST" if is_json(request) => {
            let body: Map<String, Value> = serde_json::from_slice(&request.body).ok()?;
            if body.len() > PARAMETERS_MAX {
                return None;
            }
            let text = |value: Value| match value {
                Value::String(text) => text,
                Value::Null => String::new(),
                other => other.to_string(),
            };
            let pairs = body.into_iter();
            pairs.map(|(name, value)| (name, text(value))).collect()
        }
        "POST" => form(&request.body, PARAMETERS_MAX)?,
        _ => return None,
    };
    let mut parameters = BTreeMap::new();
    for (name, value) in pairs {
        parameters.entry(name).or_insert(value);
    }
    Some(parameters)
}

fn is_json(request: &Callback) -> bool {
    let media_type = header(request, "content-type").unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
}

fn is_signed(host: &mut impl Host, parameters: &BTreeMap<String, String>, signature: &str) -> bool {
    let Some(given) = unhex(signature) else {
        return false;
    };
    let at = parameters.get("timestamp");
    if !at.is_some_and(|at| is_recent(at, host.now())) {
        return false;
    }
    let data = signed(parameters);
    if data.len() > SIGNED_BYTES_MAX {
        return false;
    }
    let key = sign_key(SECRET);
    match algorithm(host) {
        Ok(Algorithm::Hmac(hash)) => host.verify_hmac(hash, &key, data.as_bytes(), &given),
        Ok(Algorithm::Digest(hash)) => host.verify_digest(hash, &key, data.as_bytes(), &given),
        Err(_) => false,
    }
}

/// How an account signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// An HMAC.
    Hmac(Hash),
    /// The hash of the text with the secret behind it, Vonage's "MD5 hash".
    Digest(Hash),
}

/// The account's algorithm, by the settings.
///
/// # Errors
/// When it is none of Vonage's: no receipt could be believed.
pub fn algorithm(host: &impl Host) -> Result<Algorithm, SendError> {
    let setting = host.setting("signature-algorithm");
    Ok(match setting.as_deref() {
        None | Some("sha256") => Algorithm::Hmac(Hash::Sha256),
        Some("sha512") => Algorithm::Hmac(Hash::Sha512),
        Some("sha1") => Algorithm::Hmac(Hash::Sha1),
        Some("md5") => Algorithm::Hmac(Hash::Md5),
        Some("md5-hash") => Algorithm::Digest(Hash::Md5),
        Some(_) => {
            return Err(misconfigured(
                "setting `signature-algorithm` must be sha256, sha512, sha1, md5 or md5-hash",
            ));
        }
    })
}

/// What is signed: all parameters but the signature in order of name, `&` and `=` in them made `_`.
#[must_use]
pub fn signed(parameters: &BTreeMap<String, String>) -> String {
    let plain = |text: &str| text.replace(['&', '='], "_");
    let parameters = parameters.iter().filter(|(name, _)| *name != "sig");
    parameters
        .map(|(name, value)| format!("&{}={}", plain(name), plain(value)))
        .collect()
}

/// The news of one part. Its price is not read: that of the whole came with the answer.
fn update(parameters: &BTreeMap<String, String>) -> Option<StatusUpdate> {
    let field = |name: &str| parameters.get(name).filter(|value| !value.is_empty());
    let status = match field("status")?.as_str() {
        "accepted" | "buffered" => Status::Sent,
        "delivered" => Status::Delivered,
        "expired" | "failed" | "rejected" => Status::Undelivered,
        "unknown" => Status::Unknown,
        _ => return None,
    };
    let code = field("err-code").and_then(|code| code.parse::<u32>().ok());
    let code = code.filter(|&code| code != 0);
    Some(StatusUpdate {
        id: id(Some(&field("messageId")?.as_str().into()))?,
        status,
        error: code.map(|code| {
            let text = format!("Vonage {code}");
            error(class_of(code), Some(code.to_string()), &text)
        }),
        at: None,
        price: None,
        segments: None,
        attributes: Vec::new(),
    })
}

/// What somebody wrote to our number; of what has no text, as a picture, that they wrote.
fn answer(parameters: &BTreeMap<String, String>) -> Option<Reply> {
    let field = |name: &str| parameters.get(name).map(String::as_str);
    let text = field("text").unwrap_or_default();
    Some(Reply {
        id: field("messageId").and_then(|text| id(Some(&text.into()))),
        // In UTC, without saying so.
        at: field("message-timestamp").and_then(|at| rfc3339(&format!("{at}Z"))),
        ..reply(field("msisdn")?, field("to")?, text)
    })
}

/// The class of a part that was taken and then not delivered.
#[must_use]
pub fn class_of(code: u32) -> ErrorClass {
    match code {
        // Absent for now, busy, a failure of the network.
        2 | 7 | 8 => ErrorClass::Retryable,
        // Barred by the receiver, taken for spam, by age, by the network.
        4 | 6 | 13 | 14 => ErrorClass::Blocked,
        // Absent for good, no such number or message, unroutable, unreachable.
        3 | 5 | 9 | 10 | 11 | 12 => ErrorClass::Permanent,
        _ => ErrorClass::UnknownOutcome,
    }
}
