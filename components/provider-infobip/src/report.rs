//! Delivery reports and what people answer, many in one request, and what Infobip's groups and names mean.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_provider::{
    Callback, CallbackError, ErrorClass, Host, News, Price, Reply, SendError, Status, StatusUpdate,
    UPDATES_MAX, error, header, id, news, number, price, reply, rfc3339, sign_key, times,
};
use serde_json::{Map, Value};

/// The credential that callbacks carry: `user:password`.
pub const LOGIN: &str = "callback-login";

/// Reads a report. Infobip signs nothing: a subscription sends a login, and whether a report without one
/// counts is the host's to say.
///
/// # Errors
/// When its login is wrong, or when it cannot be understood.
pub fn parse(host: &mut impl Host, request: &Callback) -> Result<News, CallbackError> {
    if let Some(authorization) = header(request, "authorization") {
        let login = authorization.strip_prefix("Basic ");
        let login = login.and_then(|login| STANDARD.decode(login).ok());
        let login = login.ok_or(CallbackError::Unsigned)?;
        if !host.verify_secret(&sign_key(LOGIN), &login) {
            return Err(CallbackError::Unsigned);
        }
    }
    let body = serde_json::from_slice(&request.body).map_err(|_| CallbackError::Malformed)?;
    let updates = updates(&body).ok_or(CallbackError::Malformed)?;
    Ok(news(updates, results(&body).filter_map(answer).collect()))
}

/// The news in `results`, of a report or of the logs. What has a status that was not known when this
/// was written is left out, so that the rest counts.
#[must_use]
pub fn updates(body: &Map<String, Value>) -> Option<Vec<StatusUpdate>> {
    let all = body.get("results")?.as_array()?;
    (all.len() <= UPDATES_MAX).then(|| results(body).filter_map(update).collect())
}

fn results(body: &Map<String, Value>) -> impl Iterator<Item = &Map<String, Value>> {
    let results = body.get("results").and_then(Value::as_array);
    let results = results.into_iter().flatten();
    results.filter_map(Value::as_object)
}

/// What somebody wrote to our number: it has no status.
fn answer(result: &Map<String, Value>) -> Option<Reply> {
    if result.contains_key("status") {
        return None;
    }
    let field = |name: &str| result.get(name).and_then(Value::as_str);
    let text = field("text").unwrap_or_default();
    Some(Reply {
        id: id(result.get("messageId")),
        at: field("receivedAt").and_then(rfc3339),
        ..reply(field("from")?, field("to").unwrap_or_default(), text)
    })
}

fn update(result: &Map<String, Value>) -> Option<StatusUpdate> {
    let status = status_of(result.get("status")?)?;
    let segments = number(result.get("messageCount")).filter(|&count| count > 0);
    let time = |name: &str| rfc3339(result.get(name)?.as_str()?);
    Some(StatusUpdate {
        id: id(result.get("messageId"))?,
        status,
        error: result.get("error").and_then(delivery_error),
        at: time("doneAt").or_else(|| time("sentAt")),
        price: price_of(result, segments),
        segments,
        attributes: Vec::new(),
    })
}

/// What all segments cost: Infobip says what one does.
fn price_of(result: &Map<String, Value>, segments: Option<u32>) -> Option<Price> {
    let said = result.get("price")?;
    let one = price(said.get("pricePerMessage"), said.get("currency")?.as_str())?;
    times(one, segments.unwrap_or(1))
}

/// Reads a status by its group.
#[must_use]
pub fn status_of(status: &Value) -> Option<Status> {
    let name = status
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let group = status.get("groupName").and_then(Value::as_str);
    Some(match (number(status.get("groupId")), group) {
        // It has left for the operator.
        (Some(1), _) | (None, Some("PENDING")) if name.starts_with("PENDING_WAITING") => {
            Status::Sent
        }
        (Some(0 | 1), _) | (None, Some("ACCEPTED" | "PENDING")) => Status::Queued,
        (Some(2 | 4), _) | (None, Some("UNDELIVERABLE" | "EXPIRED")) => Status::Undelivered,
        // The operator has it: in spite of the group that is not the end.
        (Some(3), _) | (None, Some("DELIVERED")) if name == "DELIVERED_TO_OPERATOR" => Status::Sent,
        (Some(3), _) | (None, Some("DELIVERED")) => Status::Delivered,
        (Some(5), _) | (None, Some("REJECTED")) => Status::Failed,
        _ => return None,
    })
}

/// Why a message was not delivered; id 0 says that nothing went wrong.
fn delivery_error(said: &Value) -> Option<SendError> {
    let id = number(said.get("id")).filter(|&id| id != 0)?;
    let name = said.get("name").and_then(Value::as_str).unwrap_or_default();
    let permanent = said.get("permanent").and_then(Value::as_bool);
    let class = match permanent {
        _ if is_blocking(name) => ErrorClass::Blocked,
        Some(true) => ErrorClass::Permanent,
        Some(false) => ErrorClass::Retryable,
        None => ErrorClass::UnknownOutcome,
    };
    Some(error(
        class,
        Some(id.to_string()),
        &format!("Infobip {id}: {name}"),
    ))
}

/// Whether a name says that the receiver or a filter wants none of it.
#[must_use]
pub fn is_blocking(name: &str) -> bool {
    [
        "SPAM",
        "BLOCK",
        "BLACKLIST",
        "BARRED",
        "OPT_OUT",
        "UNSUBSCRIBED",
        "DND",
    ]
    .iter()
    .any(|word| name.contains(word))
}
