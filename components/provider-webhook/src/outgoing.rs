//! Posting messages.

use countersign_provider::{
    Accepted, Authorization, Encoding, ErrorClass, Hash, Host, Message, Response, SendError,
    Signed, TextEncoding, class_of_status, encoding, id, is_success, no_answer, number, post_json,
    price, refused, retry_after, segments, to_rfc3339, unreadable, wanted,
};
use serde_json::{Map, Value, json};

use crate::key;

/// Posts `message`.
///
/// # Errors
/// When it was not taken, or may not have been.
pub fn send(host: &mut impl Host, message: &Message) -> Result<Accepted, SendError> {
    let url = wanted(host, "base-url")?;
    let from = message.sender.clone().or_else(|| host.setting("from"));
    let now = host.now();
    let body = json!({
        "type": "sms.send",
        "id": message.id,
        "to": message.to,
        "from": from,
        "text": message.text,
        "country": message.country,
        "expires_at": to_rfc3339(now.saturating_add(message.validity)),
        "encoding": match encoding(&message.text) {
            Encoding::Gsm7 => "gsm7",
            Encoding::Ucs2 => "ucs2",
        },
        "segments": segments(&message.text),
        "status_callback": message.status_callback,
    });
    let seconds = now / 1_000;
    let signed = Signed {
        name: "webhook-signature".into(),
        prefix: "v1,".into(),
        algorithm: Hash::Sha256,
        key: key(),
        before: format!("{}.{seconds}.", message.id),
        with_body: true,
        encoding: TextEncoding::Base64,
    };
    let mut request = post_json(url, &body, Authorization::Signed(signed));
    request.headers.extend([
        // The same whenever the message is posted, so that its receiver can take it once.
        ("webhook-id".into(), message.id.clone()),
        ("webhook-timestamp".into(), seconds.to_string()),
    ]);
    let idempotent = host
        .setting("idempotent")
        .is_some_and(|value| value == "true");
    let lost = |error: SendError| match error.class {
        ErrorClass::UnknownOutcome if idempotent => SendError {
            class: ErrorClass::Retryable,
            ..error
        },
        _ => error,
    };
    let response = host.send(&request);
    let response = response.map_err(|failure| lost(no_answer(&failure)))?;
    if !is_success(&response) {
        return Err(lost(refusal(&response, now)));
    }
    accepted(&response, message).ok_or_else(|| lost(unreadable("the webhook")))
}

/// An answer whose fields are all optional, and so the answer itself.
fn accepted(response: &Response, message: &Message) -> Option<Accepted> {
    let body: Map<String, Value> = match response.body.trim_ascii() {
        [] => Map::new(),
        body => serde_json::from_slice(body).ok()?,
    };
    let id = id(body.get("id"));
    let currency = body.get("currency").and_then(Value::as_str);
    Some(Accepted {
        ids: vec![id.unwrap_or_else(|| message.id.clone())],
        segments: number(body.get("segments")),
        price: price(body.get("price"), currency),
        attributes: Vec::new(),
    })
}

fn refusal(response: &Response, now: u64) -> SendError {
    let body = countersign_provider::body(response);
    let said = body.get("error");
    let text = |name: &str| {
        said.and_then(|error| error.get(name))
            .and_then(Value::as_str)
    };
    let class = text("class").and_then(class_of_word);
    let waits = retry_after(response, now).is_some();
    let class = class.unwrap_or_else(|| class_of(response.status, waits));
    refused(
        response,
        class,
        None,
        text("message").unwrap_or_default(),
        now,
    )
}

/// The class of an HTTP status; `waits` where the answer says when to come back.
#[must_use]
pub fn class_of(status: u16, waits: bool) -> ErrorClass {
    match status {
        403 | 451 => ErrorClass::Blocked,
        408 => ErrorClass::Throttled,
        503 if waits => ErrorClass::Throttled,
        _ => class_of_status(status),
    }
}

fn class_of_word(word: &str) -> Option<ErrorClass> {
    Some(match word {
        "permanent" => ErrorClass::Permanent,
        "retryable" => ErrorClass::Retryable,
        "throttled" => ErrorClass::Throttled,
        "auth" => ErrorClass::Auth,
        "blocked" => ErrorClass::Blocked,
        "unknown-outcome" => ErrorClass::UnknownOutcome,
        _ => return None,
    })
}
