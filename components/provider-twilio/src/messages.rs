//! Sending a message, and asking what became of it.

use countersign_provider::{
    Accepted, Host, Message, REQUESTS_MAX, Request, SendError, StatusUpdate, get, http_date,
    is_success, misconfigured, no_answer, number, post_form, repeatable, unreadable,
};
use serde_json::{Map, Value};

use crate::api::{self, Account, Word};

/// What `ValidityPeriod` may be, in seconds.
const VALIDITY_SECONDS: std::ops::RangeInclusive<u64> = 1..=36_000;

/// Hands `message` over.
///
/// # Errors
/// When Twilio did not take it, or may not have.
pub fn send(host: &mut impl Host, message: &Message) -> Result<Accepted, SendError> {
    let account = Account::read(host)?;
    let (sender_field, sender) = sender(host, message)?;
    let validity =
        (message.validity / 1_000).clamp(*VALIDITY_SECONDS.start(), *VALIDITY_SECONDS.end());
    let mut form = vec![
        ("To".into(), message.to.clone()),
        (sender_field.into(), sender),
        ("Body".into(), message.text.clone()),
        ("ValidityPeriod".into(), validity.to_string()),
    ];
    if let Some(url) = &message.status_callback {
        form.push(("StatusCallback".into(), url.clone()));
    }
    let url = format!("{}.json", account.messages_url);
    let request = post_form(url, form, account.authorization());
    let response = host.send(&request).map_err(|failure| no_answer(&failure))?;
    if !is_success(&response) {
        return Err(api::refusal(&response, host.now()));
    }
    // It was taken, but without its SID nothing more will be known of it.
    accepted(&response.body).ok_or_else(|| unreadable("Twilio"))
}

/// Asks for the present state of the messages `ids`, as many of them as one call may: the rest can
/// be asked for in another.
///
/// # Errors
/// When not one of them could be asked for.
pub fn fetch_status(host: &mut impl Host, ids: &[String]) -> Result<Vec<StatusUpdate>, SendError> {
    let account = Account::read(host)?;
    let mut updates = Vec::new();
    let known = ids.iter().filter(|id| api::is_sid(id));
    for id in known.take(REQUESTS_MAX) {
        let url = format!("{}/{id}.json", account.messages_url);
        match fetch(host, &get(url, account.authorization())) {
            Ok(update) => updates.extend(update),
            Err(error) if updates.is_empty() => return Err(error),
            // What is known by now is worth more than the reason why it is not all.
            Err(_) => break,
        }
    }
    Ok(updates)
}

fn fetch(host: &mut impl Host, request: &Request) -> Result<Option<StatusUpdate>, SendError> {
    let response = host
        .send(request)
        .map_err(|failure| repeatable(no_answer(&failure)))?;
    match response.status {
        404 => Ok(None),
        _ if is_success(&response) => Ok(update(&response.body)),
        _ => Err(repeatable(api::refusal(&response, host.now()))),
    }
}

/// The route's sender before the operator's own, and a messaging service before a number: whoever
/// configures both wants the service to choose.
fn sender(host: &impl Host, message: &Message) -> Result<(&'static str, String), SendError> {
    if let Some(sender) = &message.sender {
        let is_service = sender.len() == 34 && sender.starts_with("MG") && api::is_sid(sender);
        let field = if is_service {
            "MessagingServiceSid"
        } else {
            "From"
        };
        return Ok((field, sender.clone()));
    }
    if let Some(service) = host.setting("messaging-service-sid") {
        return Ok(("MessagingServiceSid", service));
    }
    match host.setting("from") {
        Some(from) => Ok(("From", from)),
        None => Err(misconfigured(
            "one of the settings `from` and `messaging-service-sid` is needed",
        )),
    }
}

fn accepted(body: &[u8]) -> Option<Accepted> {
    let message: Map<String, Value> = serde_json::from_slice(body).ok()?;
    Some(Accepted {
        ids: vec![sid_of(&message)?],
        segments: api::segments_of(&message),
        price: api::price_of(&message),
        attributes: Vec::new(),
    })
}

fn update(body: &[u8]) -> Option<StatusUpdate> {
    let message: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let text = |name: &str| message.get(name).and_then(Value::as_str);
    let Word::Outbound(status) = api::status_of(text("status")?)? else {
        return None;
    };
    let code = number(message.get("error_code")).filter(|&code| code != 0);
    Some(StatusUpdate {
        id: sid_of(&message)?,
        status,
        error: code.map(|code| api::delivery_error(code, text("error_message"))),
        at: text("date_updated").and_then(http_date),
        price: api::price_of(&message),
        segments: api::segments_of(&message),
        attributes: Vec::new(),
    })
}

fn sid_of(message: &Map<String, Value>) -> Option<String> {
    let sid = message.get("sid")?.as_str()?;
    api::is_sid(sid).then(|| sid.into())
}
