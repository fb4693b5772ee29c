//! Sending, and what Vonage's status numbers mean.

use countersign_provider::{
    Accepted, Authorization, Basic, Encoding, ErrorClass, Host, Message, Price, Response,
    SendError, Text, base_url, body, class_of_status, encoding, error, id, is_success,
    misconfigured, no_answer, number, post_form, price, refused, sum, unreadable, wanted,
    with_failover,
};
use serde_json::{Map, Value};

use crate::receipt;

/// The credential that requests carry.
pub const SECRET: &str = "api-secret";

const BASE_URL: &str = "https://rest.nexmo.com";

/// What `ttl` may be, in milliseconds.
const TTL: std::ops::RangeInclusive<u64> = 20_000..=604_800_000;

/// A longer callback address is refused.
const CALLBACK_BYTES_MAX: usize = 100;

/// Vonage's prices have no currency of their own: accounts are kept in euros.
const CURRENCY: &str = "EUR";

const IDS_MAX: usize = 32;

/// Hands `message` over.
///
/// # Errors
/// When Vonage did not take it, or may not have.
pub fn send(host: &mut impl Host, message: &Message) -> Result<Accepted, SendError> {
    let key = wanted(host, "api-key")?;
    receipt::algorithm(host)?;
    let from = match &message.sender {
        Some(sender) => sender.clone(),
        None => wanted(host, "from")?,
    };
    let digits = |number: &str| number.trim_start_matches('+').to_owned();
    // Vonage does not look: as `text`, what is not in the alphabet would be lost.
    let kind = match encoding(&message.text) {
        Encoding::Gsm7 => "text",
        Encoding::Ucs2 => "unicode",
    };
    let ttl = message.validity.clamp(*TTL.start(), *TTL.end());
    let mut form = vec![
        ("from".into(), digits(&from)),
        ("to".into(), digits(&message.to)),
        ("text".into(), message.text.clone()),
        ("type".into(), kind.into()),
        ("ttl".into(), ttl.to_string()),
        ("client-ref".into(), message.id.clone()),
    ];
    if let Some(url) = &message.status_callback {
        if url.len() > CALLBACK_BYTES_MAX {
            return Err(misconfigured(
                "Vonage takes callback addresses of at most 100 bytes: give the server a shorter \
                 public-url, or the provider a shorter name",
            ));
        }
        form.push(("status-report-req".into(), "true".into()));
        form.push(("callback".into(), url.clone()));
    }
    let authorization = Authorization::Basic(Basic {
        username: Text::Plain(key),
        password: Text::Credential(SECRET.into()),
    });
    let url = format!("{}/sms/json", base_url(host, BASE_URL));
    let request = post_form(url, form, authorization);
    let response = host.send(&request).map_err(|failure| no_answer(&failure))?;
    if !is_success(&response) {
        let class = class_of_status(response.status);
        return Err(refused(&response, class, None, "", host.now()));
    }
    answer(&response)
}

/// An answer with HTTP 200, which says of each part what became of it.
fn answer(response: &Response) -> Result<Accepted, SendError> {
    let body = body(response);
    let parts = body.get("messages").and_then(Value::as_array);
    let parts: Vec<_> = parts
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .collect();
    let is_taken = |part: &&Map<String, Value>| number(part.get("status")) == Some(0);
    let (taken, refused): (Vec<_>, Vec<_>) = parts.into_iter().partition(is_taken);
    match (taken.is_empty(), refused.first()) {
        (true, None) => Err(unreadable("Vonage")),
        (true, Some(part)) => Err(refusal(part)),
        // A part of it is on its way, so it must not be sent again without need.
        (false, Some(part)) => Err(SendError {
            class: ErrorClass::UnknownOutcome,
            text: format!("only a part was taken: {}", refusal(part).text),
            ..refusal(part)
        }),
        (false, None) => accepted(&taken).ok_or_else(|| unreadable("Vonage")),
    }
}

fn accepted(parts: &[&Map<String, Value>]) -> Option<Accepted> {
    let ids = parts.iter().filter_map(|part| id(part.get("message-id")));
    let ids: Vec<_> = ids.take(IDS_MAX).collect();
    let prices = parts.iter();
    let prices: Option<Vec<Price>> = prices
        .map(|part| price(part.get("message-price"), Some(CURRENCY)))
        .collect();
    (!ids.is_empty()).then(|| Accepted {
        ids,
        segments: u32::try_from(parts.len()).ok(),
        price: prices.and_then(|prices| sum(&prices)),
        attributes: Vec::new(),
    })
}

fn refusal(part: &Map<String, Value>) -> SendError {
    let status = number(part.get("status"));
    let said = part.get("error-text").and_then(Value::as_str);
    let text = match (status, said) {
        (Some(status), Some(said)) => format!("Vonage {status}: {said}"),
        (Some(status), None) => format!("Vonage {status}"),
        (None, _) => "Vonage's answer has no status".into(),
    };
    let code = status.map(|status| status.to_string());
    let error = error(class_of(status), code, &text);
    // Another company may have a sender that may send there.
    if status == Some(15) {
        return with_failover(error);
    }
    error
}

/// The class of a part that was not taken.
#[must_use]
pub fn class_of(status: Option<u32>) -> ErrorClass {
    match status {
        // Too fast; too many connections.
        Some(1 | 10) => ErrorClass::Throttled,
        // Credentials, barred account, no credit, not enabled, signature.
        Some(4 | 8 | 9 | 11 | 14 | 32) => ErrorClass::Auth,
        // The number is barred, or not on the list of a trial; a sender that may not send there, which
        // differs from country to country.
        Some(7 | 15 | 29) => ErrorClass::Blocked,
        // What we asked for, a prefix that leads nowhere, a number that is gone.
        Some(2 | 3 | 6 | 12 | 22 | 23 | 33) => ErrorClass::Permanent,
        // 5: an error while it was being worked on. Of others nobody knows.
        _ => ErrorClass::UnknownOutcome,
    }
}
