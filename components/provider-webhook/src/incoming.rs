//! Reading what became of messages, and what people answered.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_provider::{
    Callback, CallbackError, ErrorClass, Hash, Host, News, Reply, SIGNED_BYTES_MAX, Status,
    StatusUpdate, UPDATES_MAX, error, header, id, is_recent, news, number, price, reply, rfc3339,
};
use serde_json::{Map, Value};

use crate::key;

/// During a change of keys there are two; more are not looked at.
const SIGNATURES_MAX: usize = 8;

/// Reads a status or an answer, or an array of these. One without a signature is read too: whether it counts is the
/// host's to say.
///
/// # Errors
/// When no signature holds or its time is wrong, or when it cannot be understood.
pub fn parse(host: &mut impl Host, request: &Callback) -> Result<News, CallbackError> {
    if let Some(signatures) = header(request, "webhook-signature")
        && !is_signed(host, request, signatures)
    {
        return Err(CallbackError::Unsigned);
    }
    let body = serde_json::from_slice(&request.body).map_err(|_| CallbackError::Malformed)?;
    read(body).ok_or(CallbackError::Malformed)
}

fn is_signed(host: &mut impl Host, request: &Callback, signatures: &str) -> bool {
    let (Some(id), Some(at)) = (
        header(request, "webhook-id"),
        header(request, "webhook-timestamp"),
    ) else {
        return false;
    };
    // The parts are told apart by points, so none may have one of its own.
    if id.contains('.') || !is_recent(at, host.now()) {
        return false;
    }
    let data = [id.as_bytes(), b".", at.as_bytes(), b".", &request.body].concat();
    if data.len() > SIGNED_BYTES_MAX {
        return false;
    }
    let given = signatures.split_ascii_whitespace().take(SIGNATURES_MAX);
    given
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .any(|given| host.verify_hmac(Hash::Sha256, &key(), &data, &given))
}

fn read(body: Value) -> Option<News> {
    let all = match body {
        Value::Array(all) if all.len() <= UPDATES_MAX => all,
        one @ Value::Object(_) => vec![one],
        _ => return None,
    };
    let (mut updates, mut replies) = (Vec::new(), Vec::new());
    for one in &all {
        let one = one.as_object()?;
        match one.get("type").and_then(Value::as_str) {
            Some("sms.received") => replies.push(answer(one)?),
            None | Some("sms.status") => updates.push(update(one)?),
            // A message that was posted to the operator and comes back, or what is not known here: taken
            // for a status, it would be one that nobody has told.
            Some(_) => return None,
        }
    }
    Some(news(updates, replies))
}

/// What somebody wrote to the sender.
fn answer(fields: &Map<String, Value>) -> Option<Reply> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let to = text("to").unwrap_or_default();
    Some(Reply {
        id: id(fields.get("id")),
        at: text("at").and_then(rfc3339),
        ..reply(text("from")?, to, text("text").unwrap_or_default())
    })
}

fn update(fields: &Map<String, Value>) -> Option<StatusUpdate> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let code = text("error_code").filter(|code| !code.is_empty());
    Some(StatusUpdate {
        id: id(fields.get("id"))?,
        status: status_of(text("status")?)?,
        error: code.map(|code| {
            let said = format!("error {code}");
            error(ErrorClass::UnknownOutcome, Some(code.into()), &said)
        }),
        at: text("at").and_then(rfc3339),
        price: price(fields.get("price"), text("currency")),
        segments: number(fields.get("segments")),
        attributes: Vec::new(),
    })
}

fn status_of(word: &str) -> Option<Status> {
    Some(match word {
        "queued" => Status::Queued,
        "sent" => Status::Sent,
        "delivered" => Status::Delivered,
        "undelivered" => Status::Undelivered,
        "failed" => Status::Failed,
        "read" => Status::Read,
        "unknown" => Status::Unknown,
        _ => return None,
    })
}
