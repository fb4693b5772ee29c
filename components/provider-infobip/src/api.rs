//! Sending a message, and asking what became of it.

use countersign_provider::{
    Accepted, Authorization, ErrorClass, Header, Host, Message, Response, SendError, Status,
    StatusUpdate, body, class_of_status, error, get, id, is_success, misconfigured, no_answer,
    number, post_json, refused, repeatable, unreadable, wanted, with_failover,
};
use serde_json::{Map, Value, json};

use crate::report;

/// The credential that requests carry.
pub const KEY: &str = "api-key";

/// How many messages one request asks for.
const IDS_MAX: usize = 32;

fn authorization() -> Authorization {
    Authorization::Header(Header {
        name: "authorization".into(),
        prefix: "App ".into(),
        credential: KEY.into(),
    })
}

fn url(host: &impl Host, path: &str) -> Result<String, SendError> {
    let base = wanted(host, "base-url")?;
    Ok(format!("{}/sms/3/{path}", base.trim_end_matches('/')))
}

/// Hands `message` over, under an id of ours: reports then find it also where the answer was lost.
///
/// # Errors
/// When Infobip did not take it, or may not have.
pub fn send(host: &mut impl Host, message: &Message) -> Result<Accepted, SendError> {
    let url = url(host, "messages")?;
    let from = match &message.sender {
        Some(sender) => sender.clone(),
        None => wanted(host, "from")?,
    };
    let digits = |number: &str| number.trim_start_matches('+').to_owned();
    // Rounded down: what arrives after its end is of no use.
    let minutes = (message.validity / 60_000).clamp(1, 2_880);
    let mut fields = json!({
        "sender": digits(&from),
        "destinations": [{"to": digits(&message.to), "messageId": message.id}],
        "content": {"text": message.text},
        "options": {"validityPeriod": {"amount": minutes, "timeUnit": "MINUTES"}},
    });
    let subscribed = match host.setting("reports").as_deref() {
        None | Some("message") => false,
        Some("subscription") => true,
        Some(_) => {
            return Err(misconfigured(
                "setting `reports` must be message or subscription",
            ));
        }
    };
    if let Some(url) = message.status_callback.as_ref().filter(|_| !subscribed) {
        fields["webhooks"] = json!({
            "delivery": {"url": url, "intermediateReport": false, "notify": true},
            "contentType": "application/json",
        });
    }
    let request = post_json(url, &json!({"messages": [fields]}), authorization());
    let response = host.send(&request).map_err(|failure| no_answer(&failure))?;
    if !is_success(&response) {
        return Err(refusal(&response, host.now()));
    }
    let answer = body(&response);
    let first = answer.get("messages").and_then(|all| all.get(0));
    let first = first.and_then(Value::as_object);
    let first = first.ok_or_else(|| unreadable("Infobip"))?;
    match rejection(first) {
        Some(error) => Err(error),
        None => accepted(first).ok_or_else(|| unreadable("Infobip")),
    }
}

fn accepted(message: &Map<String, Value>) -> Option<Accepted> {
    let details = message.get("details");
    Some(Accepted {
        ids: vec![id(message.get("messageId"))?],
        segments: number(details.and_then(|details| details.get("messageCount"))),
        price: None,
        attributes: Vec::new(),
    })
}

/// Why a message that came with a success was not taken all the same.
fn rejection(message: &Map<String, Value>) -> Option<SendError> {
    let status = message.get("status")?;
    let name = status
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if report::status_of(status) != Some(Status::Failed) {
        return None;
    }
    let error = error(
        class_of_rejection(name),
        code_of(status),
        &format!("Infobip {name}"),
    );
    // Another company may be able to send there.
    Some(match is_of_the_way(name) {
        true => with_failover(error),
        false => error,
    })
}

/// Whether a name says that this account, or this sender, may not send to this network, which says nothing
/// of others.
fn is_of_the_way(name: &str) -> bool {
    ["SENDER", "SOURCE", "NETWORK"]
        .iter()
        .any(|word| name.contains(word))
}

fn code_of(status: &Value) -> Option<String> {
    number(status.get("id")).map(|id| id.to_string())
}

/// The class of a message that was rejected, by the words of its status.
#[must_use]
pub fn class_of_rejection(name: &str) -> ErrorClass {
    let says = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if says(&["CREDIT", "ACCOUNT", "SYSTEM"]) {
        ErrorClass::Auth
    } else if is_of_the_way(name) {
        ErrorClass::Blocked
    } else if says(&["FLOODING"]) {
        ErrorClass::Throttled
    } else if report::is_blocking(name) {
        ErrorClass::Blocked
    } else {
        ErrorClass::Permanent
    }
}

/// An answer that is no success, in the form of today's endpoints or of older ones.
fn refusal(response: &Response, now: u64) -> SendError {
    let body = body(response);
    let older = body
        .get("requestError")
        .and_then(|error| error.get("serviceException"));
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let older_text = |name: &str| {
        older
            .and_then(|older| older.get(name))
            .and_then(Value::as_str)
    };
    let code = text("errorCode").or_else(|| older_text("messageId"));
    let said = text("description").or_else(|| older_text("text"));
    let class = class_of_status(response.status);
    let code = code.map(Into::into);
    refused(response, class, code, said.unwrap_or_default(), now)
}

/// Asks for messages in Infobip's logs of the last two days: their reports and prices.
///
/// # Errors
/// When they could not be asked for.
pub fn fetch_status(host: &mut impl Host, ids: &[String]) -> Result<Vec<StatusUpdate>, SendError> {
    // Ours are hexadecimal digits, so they can stand in a URL; what is none of ours is not known there.
    let known = ids.iter().filter(|id| is_ours(id)).take(IDS_MAX);
    let query: Vec<_> = known.map(|id| format!("messageId={id}")).collect();
    if query.is_empty() {
        return Ok(Vec::new());
    }
    let url = format!("{}?{}", url(host, "logs")?, query.join("&"));
    let response = host.send(&get(url, authorization()));
    let response = response.map_err(|failure| repeatable(no_answer(&failure)))?;
    if !is_success(&response) {
        return Err(repeatable(refusal(&response, host.now())));
    }
    Ok(report::updates(&body(&response)).unwrap_or_default())
}

fn is_ours(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !id.is_empty() && id.bytes().all(plain)
}
