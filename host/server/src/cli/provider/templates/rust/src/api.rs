//! The company's API: what it is sent, and what its words mean. Put yours in the place of this one.

use serde_json::{Value, json};

use crate::countersign::provider::types::Pair;
use crate::exports::countersign::provider::sender::{
    Accepted, ErrorClass, Message, Price, SendError, Status, StatusUpdate,
};

/// The longest id that the host takes.
const ID_BYTES_MAX: usize = 128;
/// A callback that was signed longer ago, or so much later than now, may be somebody's copy.
const AGE_MAX_SECONDS: u64 = 300;

/// The JSON of a message. `message.text` is ready to be sent: leave it as it is.
pub fn body(message: &Message, from: &str) -> Vec<u8> {
    let fields = json!({
        "to": message.to,
        "from": from,
        "text": message.text,
        // The same when the message is sent again, so that the company can take it once.
        "reference": message.id,
        // After that nobody wants it any more.
        "validity_seconds": message.validity / 1_000,
        "callback_url": message.status_callback,
    });
    fields.to_string().into_bytes()
}

pub fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// Reads the answer to a message that was taken.
pub fn accepted(body: &[u8]) -> Option<Accepted> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    Some(Accepted {
        ids: vec![id(&answer)?],
        segments: segments(&answer),
        price: price(&answer),
        attributes: Vec::new(),
    })
}

/// Why a message was not taken, by what the company says of it.
pub fn refusal(status: u16, headers: &[Pair], body: &[u8]) -> SendError {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let code = answer["error"]["code"].as_str();
    let said = answer["error"]["message"].as_str().unwrap_or_default();
    SendError {
        class: class_of(status, code),
        retry_after: retry_after(headers),
        provider_code: code.map(Into::into),
        text: match said {
            "" => format!("HTTP {status}"),
            said => format!("HTTP {status}: {said}"),
        },
        attributes: Vec::new(),
    }
}

/// The class is what the queue acts on, so choose it by what you know of this very message.
pub fn class_of(status: u16, code: Option<&str>) -> ErrorClass {
    match (status, code) {
        // It may have been sent all the same: sent again for one-time codes only.
        (500.., _) => ErrorClass::UnknownOutcome,
        (429, _) => ErrorClass::Throttled,
        // The operator's account; another provider takes over.
        (401 | 402, _) | (_, Some("unknown-sender")) => ErrorClass::Auth,
        (_, Some("opted-out" | "country-not-enabled")) => ErrorClass::Blocked,
        // This number or this text will never do.
        (400..500, _) => ErrorClass::Permanent,
        // A redirect, which the host does not follow: it was not sent.
        _ => ErrorClass::Retryable,
    }
}

/// `Retry-After` in seconds, as milliseconds.
pub fn retry_after(headers: &[Pair]) -> Option<u64> {
    let (_, value) = headers.iter().find(|(name, _)| name == "retry-after")?;
    let seconds: u32 = value.trim().parse().ok()?;
    Some(u64::from(seconds) * 1_000)
}

/// News of a message, from a callback or from asking.
pub fn update(body: &[u8]) -> Option<StatusUpdate> {
    let news: Value = serde_json::from_slice(body).ok()?;
    let code = news["error_code"].as_str();
    Some(StatusUpdate {
        id: id(&news)?,
        status: status_of(news["status"].as_str()?)?,
        error: code.map(|code| SendError {
            provider_code: Some(code.into()),
            ..error(ErrorClass::UnknownOutcome, code)
        }),
        at: None,
        price: price(&news),
        segments: segments(&news),
        attributes: Vec::new(),
    })
}

pub fn status_of(word: &str) -> Option<Status> {
    Some(match word {
        "queued" => Status::Queued,
        // That the network has it does not mean that somebody has read it.
        "sent" => Status::Sent,
        "delivered" => Status::Delivered,
        "undelivered" | "expired" => Status::Undelivered,
        "failed" => Status::Failed,
        _ => return None,
    })
}

fn id(answer: &Value) -> Option<String> {
    let id = answer["id"].as_str()?;
    is_id(id).then(|| id.to_owned())
}

/// Whether the host takes it for an id, and it means nothing else in a URL.
pub fn is_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(plain)
}

fn segments(answer: &Value) -> Option<u32> {
    answer["parts"].as_u64()?.try_into().ok()
}

/// A decimal as text: a number of JSON may come out as 0.0078999999.
fn price(answer: &Value) -> Option<Price> {
    Some(Price {
        amount: answer["price"]["amount"].as_str()?.into(),
        currency: answer["price"]["currency"].as_str()?.into(),
    })
}

/// An error without more than its class. Say what happened and cut nothing: the host takes numbers, codes and
/// credentials out of the text, and cuts it then.
pub fn error(class: ErrorClass, text: &str) -> SendError {
    SendError {
        class,
        retry_after: None,
        provider_code: None,
        text: text.into(),
        attributes: Vec::new(),
    }
}

pub fn not_sent(text: &str) -> SendError {
    error(ErrorClass::Retryable, text)
}

pub fn unknown_outcome(text: &str) -> SendError {
    error(ErrorClass::UnknownOutcome, text)
}

/// The error of a question, which sends nothing.
pub fn repeatable(error: SendError) -> SendError {
    match error.class {
        ErrorClass::UnknownOutcome => SendError {
            class: ErrorClass::Retryable,
            ..error
        },
        _ => error,
    }
}

/// Whether `at`, in seconds since 1970, is about `now`.
pub fn is_recent(at: &str, now: u64) -> bool {
    at.parse::<u64>()
        .is_ok_and(|at| at.abs_diff(now) <= AGE_MAX_SECONDS)
}

pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| Some((digit(*high)? * 16 + digit(*low)?) as u8);
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            id: "0123456789abcdef0123456789abcdef".into(),
            channel: "sms".into(),
            to: "+12025550123".into(),
            country: "US".into(),
            text: "Your code: 123456".into(),
            template: "verification".into(),
            variables: Vec::new(),
            code: Some("123456".into()),
            locale: None,
            purpose: "verification".into(),
            sender: None,
            validity: 600_000,
            status_callback: None,
            attributes: Vec::new(),
        }
    }

    #[test]
    fn a_message_is_json() {
        let fields: Value = serde_json::from_slice(&body(&message(), "Example")).unwrap();
        assert_eq!(fields["to"], "+12025550123");
        assert_eq!(fields["from"], "Example");
        assert_eq!(fields["text"], "Your code: 123456");
        assert_eq!(fields["validity_seconds"], 600);
    }

    #[test]
    fn every_refusal_has_its_class() {
        for (status, code, class) in [
            (400, Some("invalid-number"), ErrorClass::Permanent),
            (400, Some("opted-out"), ErrorClass::Blocked),
            (400, Some("unknown-sender"), ErrorClass::Auth),
            (401, None, ErrorClass::Auth),
            (429, None, ErrorClass::Throttled),
            (302, None, ErrorClass::Retryable),
            (503, None, ErrorClass::UnknownOutcome),
        ] {
            assert_eq!(class_of(status, code), class, "{status} {code:?}");
        }
    }

    #[test]
    fn a_throttled_message_waits_as_long_as_the_company_says() {
        let headers = [("retry-after".into(), "7".into())];
        assert_eq!(refusal(429, &headers, b"").retry_after, Some(7_000));
        assert_eq!(refusal(429, &[], b"<html>").retry_after, None);
    }

    #[test]
    fn an_answer_without_an_id_that_the_host_takes_is_none() {
        assert!(accepted(br#"{"id":"m-1","parts":2}"#).is_some());
        let long = json!({ "id": "x".repeat(129) }).to_string();
        for answer in ["", "[]", "{}", r#"{"id":""}"#, r#"{"id":"a/b"}"#, &long] {
            assert!(accepted(answer.as_bytes()).is_none(), "{answer}");
        }
    }

    #[test]
    fn news_has_an_id_and_a_status_that_is_known() {
        let news = update(br#"{"id":"m-1","status":"delivered"}"#).unwrap();
        assert_eq!((news.id.as_str(), news.status), ("m-1", Status::Delivered));
        assert!(update(br#"{"id":"m-1","status":"teleported"}"#).is_none());
    }

    #[test]
    fn a_callback_is_recent_for_five_minutes() {
        assert!(is_recent("1000", 1_300) && is_recent("1300", 1_000));
        assert!(!is_recent("1000", 1_301) && !is_recent("", 0) && !is_recent("soon", 0));
    }

    #[test]
    fn hexadecimal_is_read_whole() {
        assert_eq!(unhex("00fF"), Some(vec![0, 255]));
        assert_eq!((unhex("0"), unhex("0g")), (None, None));
    }
}
