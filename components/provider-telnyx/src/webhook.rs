//! Webhooks, signed with Ed25519.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_provider::{
    Callback, CallbackError, Host, Key, KeyEncoding, News, Reply, SIGNED_BYTES_MAX, Status,
    StatusUpdate, header, id, is_recent, news, number, reply, rfc3339,
};
use serde_json::{Map, Value};

use crate::api;

/// The credential that webhooks are checked by.
pub const PUBLIC_KEY: &str = "public-key";

/// Reads a webhook. One without a signature is read too: whether it counts is the host's to say.
///
/// # Errors
/// When the signature or its time is wrong, or when it cannot be understood.
pub fn parse(host: &mut impl Host, request: &Callback) -> Result<News, CallbackError> {
    if let Some(signature) = header(request, "telnyx-signature-ed25519")
        && !is_signed(host, request, signature)
    {
        return Err(CallbackError::Unsigned);
    }
    let body = serde_json::from_slice(&request.body).map_err(|_| CallbackError::Malformed)?;
    read(&body).ok_or(CallbackError::Malformed)
}

fn is_signed(host: &mut impl Host, request: &Callback, signature: &str) -> bool {
    let Some(at) = header(request, "telnyx-timestamp") else {
        return false;
    };
    let Ok(given) = STANDARD.decode(signature) else {
        return false;
    };
    let key = Key {
        credential: PUBLIC_KEY.into(),
        encoding: KeyEncoding::Base64,
    };
    let data = [at.as_bytes(), b"|", &request.body].concat();
    data.len() <= SIGNED_BYTES_MAX
        && is_recent(at, host.now())
        && host.verify_ed25519(&key, &data, &given)
}

/// The news of an event: none for one that is not about messages.
fn read(body: &Map<String, Value>) -> Option<News> {
    let event = body.get("data")?;
    let payload = || event.get("payload")?.as_object();
    match event.get("event_type")?.as_str()? {
        "message.sent" | "message.finalized" => {
            Some(news(vec![update(event, payload()?)?], Vec::new()))
        }
        "message.received" => Some(news(Vec::new(), vec![answer(payload()?)?])),
        _ => Some(news(Vec::new(), Vec::new())),
    }
}

fn update(event: &Value, message: &Map<String, Value>) -> Option<StatusUpdate> {
    let receiver = message.get("to")?.as_array()?.first()?;
    let status = status_of(receiver.get("status")?.as_str()?)?;
    let time = |name: &str| rfc3339(message.get(name)?.as_str()?);
    let occurred = || rfc3339(event.get("occurred_at")?.as_str()?);
    Some(StatusUpdate {
        id: id(message.get("id"))?,
        status,
        error: api::delivery_error(message),
        at: time("completed_at").or_else(occurred),
        price: api::price_of(message),
        segments: number(message.get("parts")),
        attributes: Vec::new(),
    })
}

/// What somebody wrote to our number.
fn answer(message: &Map<String, Value>) -> Option<Reply> {
    let number = |of: &Value| Some(of.get("phone_number")?.as_str()?.to_owned());
    let to = message.get("to").and_then(|to| number(to.get(0)?));
    let text = message.get("text").and_then(Value::as_str);
    let from = number(message.get("from")?)?;
    let at = message.get("received_at").and_then(Value::as_str);
    Some(Reply {
        id: id(message.get("id")),
        at: at.and_then(rfc3339),
        ..reply(&from, &to.unwrap_or_default(), text.unwrap_or_default())
    })
}

/// Reads a receiver's status; `None` for a word that Telnyx did not have when this was written.
#[must_use]
pub fn status_of(word: &str) -> Option<Status> {
    Some(match word {
        "queued" | "sending" => Status::Queued,
        "sent" => Status::Sent,
        "delivered" => Status::Delivered,
        "delivery_failed" | "expired" => Status::Undelivered,
        "sending_failed" => Status::Failed,
        "delivery_unconfirmed" => Status::Unknown,
        _ => return None,
    })
}
