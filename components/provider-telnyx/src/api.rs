//! Sending, and what Telnyx's words and codes mean.

use countersign_provider::{
    Accepted, Authorization, ErrorClass, Host, Message, Price, Response, SendError, base_url, body,
    class_of_status, error, id, is_success, misconfigured, no_answer, number, post_json, price,
    refused, unreadable,
};
use serde_json::{Map, Value, json};

/// The credential that requests carry.
pub const KEY: &str = "api-key";

const BASE_URL: &str = "https://api.telnyx.com";

/// Hands `message` over.
///
/// # Errors
/// When Telnyx did not take it, or may not have.
pub fn send(host: &mut impl Host, message: &Message) -> Result<Accepted, SendError> {
    let profile = host.setting("messaging-profile-id");
    let from = message.sender.clone().or_else(|| host.setting("from"));
    if from.is_none() && profile.is_none() {
        return Err(misconfigured(
            "one of the settings `from` and `messaging-profile-id` is needed",
        ));
    }
    let mut fields = Map::from_iter([
        ("to".into(), json!(message.to)),
        ("text".into(), json!(message.text)),
        ("type".into(), json!("SMS")),
        // Where the account's own address is set, receipts would go there.
        ("use_profile_webhooks".into(), json!(false)),
    ]);
    let optional = [
        ("from", from),
        ("messaging_profile_id", profile),
        ("webhook_url", message.status_callback.clone()),
    ];
    for (name, value) in optional {
        fields.extend(value.map(|value| (name.into(), json!(value))));
    }
    let url = format!("{}/v2/messages", base_url(host, BASE_URL));
    let authorization = Authorization::Bearer(KEY.into());
    let request = post_json(url, &Value::Object(fields), authorization);
    let response = host.send(&request).map_err(|failure| no_answer(&failure))?;
    if !is_success(&response) {
        return Err(refusal(&response, host.now()));
    }
    accepted(&response).ok_or_else(|| unreadable("Telnyx"))
}

fn accepted(response: &Response) -> Option<Accepted> {
    let body = body(response);
    let message = body.get("data")?.as_object()?;
    Some(Accepted {
        ids: vec![id(message.get("id"))?],
        segments: number(message.get("parts")),
        price: price_of(message),
        attributes: Vec::new(),
    })
}

/// What it costs, where Telnyx knows already.
#[must_use]
pub fn price_of(message: &Map<String, Value>) -> Option<Price> {
    let cost = message.get("cost")?;
    price(cost.get("amount"), cost.get("currency")?.as_str())
}

fn refusal(response: &Response, now: u64) -> SendError {
    let (code, said) = first_error(&body(response)).unwrap_or_default();
    let class = class_of_refusal(response.status, code.as_deref());
    refused(response, class, code, &said, now)
}

/// The first of the `errors` of an answer or a message: its code, and what Telnyx says of it.
#[must_use]
pub fn first_error(object: &Map<String, Value>) -> Option<(Option<String>, String)> {
    let first = object.get("errors")?.as_array()?.first()?;
    let text = |name: &str| first.get(name).and_then(Value::as_str);
    let code = match first.get("code")? {
        Value::String(code) => Some(code.clone()),
        Value::Number(code) => Some(code.to_string()),
        _ => None,
    };
    let said = text("detail").or_else(|| text("title"));
    Some((code, said.unwrap_or_default().into()))
}

/// The class of a request that Telnyx refused.
#[must_use]
pub fn class_of_refusal(status: u16, code: Option<&str>) -> ErrorClass {
    if status >= 500 {
        return ErrorClass::UnknownOutcome;
    }
    class_of_code(code).unwrap_or_else(|| class_of_status(status))
}

/// The class that a code has, in an answer or of a message that was taken.
#[must_use]
pub fn class_of_code(code: Option<&str>) -> Option<ErrorClass> {
    Some(match code? {
        // Key, rights; a source number that is none of ours.
        "10009" | "10010" | "40013" => ErrorClass::Auth,
        "10011" | "40011" => ErrorClass::Throttled,
        // Parameters; a landline or no route; what the message holds.
        "10002" | "10004" | "10015" | "10016" | "40001" | "40008" | "40009" => {
            ErrorClass::Permanent
        }
        // Taken for spam, barred; only verified receivers.
        "40002" | "40003" | "10039" => ErrorClass::Blocked,
        // The destination refuses, its network is down; the time is over.
        "40004" | "40005" | "40006" => ErrorClass::Retryable,
        "10007" | "10008" => ErrorClass::UnknownOutcome,
        _ => return None,
    })
}

/// Why a message was not delivered.
#[must_use]
pub fn delivery_error(message: &Map<String, Value>) -> Option<SendError> {
    let (code, said) = first_error(message)?;
    let class = class_of_code(code.as_deref()).unwrap_or(ErrorClass::UnknownOutcome);
    let text = match &code {
        Some(code) => format!("Telnyx {code}: {said}"),
        None => said,
    };
    Some(error(class, code, &text))
}
