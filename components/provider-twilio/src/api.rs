//! Twilio's REST API: a message's resource and its errors.
//!
//! Source: `twilio/twilio-oai` `spec/json/twilio_api_v2010.json`; Twilio's pages of error codes.

use countersign_provider::{
    Authorization, Basic, ErrorClass, Host, Price, Response, SendError, Status, Text, base_url,
    body, error, misconfigured, number, price, refused, wanted, with_failover,
};
use serde_json::{Map, Value};

use crate::AUTH_TOKEN;

const BASE_URL: &str = "https://api.twilio.com";
const SID_BYTES_MAX: usize = 64;

/// The account that messages are sent by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its SID, which is also the user name of HTTP Basic.
    pub sid: String,
    /// Where its messages are, without a slash at the end.
    pub messages_url: String,
}

impl Account {
    /// The account of the settings.
    ///
    /// # Errors
    /// When it is not set, or could not stand in a URL.
    pub fn read(host: &impl Host) -> Result<Self, SendError> {
        let sid = wanted(host, "account-sid")?;
        if !is_sid(&sid) {
            return Err(misconfigured(
                "setting `account-sid` must be 1 to 64 letters, digits, `-` or `_`",
            ));
        }
        let base = base_url(host, BASE_URL);
        Ok(Self {
            messages_url: format!("{base}/2010-04-01/Accounts/{sid}/Messages"),
            sid,
        })
    }

    /// HTTP Basic by the account's auth token.
    #[must_use]
    pub fn authorization(&self) -> Authorization {
        Authorization::Basic(Basic {
            username: Text::Plain(self.sid.clone()),
            password: Text::Credential(AUTH_TOKEN.into()),
        })
    }
}

/// Whether `text` can be a SID: nothing that means something in a URL.
#[must_use]
pub fn is_sid(text: &str) -> bool {
    (1..=SID_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// An answer that is not a 2xx. `now` is for a `Retry-After` that names a date.
#[must_use]
pub fn refusal(response: &Response, now: u64) -> SendError {
    let body = body(response);
    let code = number(body.get("code"));
    let said = body.get("message").and_then(Value::as_str);
    let class = class_of_refusal(response.status, code);
    let code_text = code.map(|code| code.to_string());
    let error = refused(response, class, code_text, said.unwrap_or_default(), now);
    // No route from this sender to this receiver, or none for this kind of sender: another may have one.
    if let Some(21606 | 21612) = code {
        return with_failover(error);
    }
    error
}

/// The class of a request that Twilio refused.
#[must_use]
pub fn class_of_refusal(status: u16, code: Option<u32>) -> ErrorClass {
    match (status, code) {
        // Sending is not idempotent, and Twilio says that a repeat may send twice.
        (500.., _) => ErrorClass::UnknownOutcome,
        // 20429 was never processed; 21611: this sender has more than 10 hours waiting.
        (429, _) | (_, Some(20429 | 21611)) => ErrorClass::Throttled,
        // No such account, no such key, a sender that is missing, suspended.
        (401, _) | (404, Some(20404)) | (_, Some(20003 | 21603 | 30002)) => ErrorClass::Auth,
        // Opted out, country not enabled, number not verified in a trial; a sender that is not able to
        // send there: of other destinations that says nothing.
        (_, Some(21610 | 21408 | 21608 | 21606)) => ErrorClass::Blocked,
        (400..500, _) => ErrorClass::Permanent,
        // Redirects are not followed: nothing was taken.
        _ => ErrorClass::Retryable,
    }
}

/// The class of a message that was taken and then not delivered.
#[must_use]
pub fn class_of_delivery_error(code: u32) -> ErrorClass {
    match code {
        // The queue ran over; the handset is unreachable; the validity period is over.
        30001 | 30003 | 30036 => ErrorClass::Retryable,
        30002 => ErrorClass::Auth,
        // Blocked, filtered.
        30004 | 30007 | 21610 => ErrorClass::Blocked,
        // No such handset, a landline.
        30005 | 30006 => ErrorClass::Permanent,
        // 30008 is Twilio's "unknown error"; at 30410 the operator did not answer Twilio in time,
        // and may have it.
        _ => ErrorClass::UnknownOutcome,
    }
}

/// Why a message was not delivered, by the code in a callback or in the message's resource.
#[must_use]
pub fn delivery_error(code: u32, message: Option<&str>) -> SendError {
    let text = match message {
        Some(message) => format!("Twilio {code}: {message}"),
        None => format!("Twilio {code}"),
    };
    error(class_of_delivery_error(code), Some(code.to_string()), &text)
}

/// What a word of Twilio's says about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// A state of a message that was sent.
    Outbound(Status),
    /// It is a message that somebody sent to us.
    Inbound,
}

/// Reads a message's status; `None` for a word that Twilio did not have when this was written.
#[must_use]
pub fn status_of(word: &str) -> Option<Word> {
    Some(match word {
        "accepted" | "scheduled" | "queued" | "sending" => Word::Outbound(Status::Queued),
        "sent" | "partially_delivered" => Word::Outbound(Status::Sent),
        "delivered" => Word::Outbound(Status::Delivered),
        "undelivered" => Word::Outbound(Status::Undelivered),
        "failed" | "canceled" => Word::Outbound(Status::Failed),
        "read" => Word::Outbound(Status::Read),
        "receiving" | "received" => Word::Inbound,
        _ => return None,
    })
}

/// The number of segments; Twilio writes 0 for "not yet known".
#[must_use]
pub fn segments_of(message: &Map<String, Value>) -> Option<u32> {
    number(message.get("num_segments")).filter(|&segments| segments > 0)
}

/// The price; Twilio writes a charge as a negative number, and null for "not yet known".
#[must_use]
pub fn price_of(message: &Map<String, Value>) -> Option<Price> {
    let currency = message.get("price_unit").and_then(Value::as_str);
    price(message.get("price"), currency)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refusal(status: u16, code: impl Into<Option<u32>>, class: ErrorClass) {
        assert_eq!(class_of_refusal(status, code.into()), class);
    }

    #[test]
    fn trouble_with_our_account_is_auth() {
        check_refusal(401, 20003, ErrorClass::Auth);
        check_refusal(401, None, ErrorClass::Auth);
        check_refusal(404, 20404, ErrorClass::Auth);
        check_refusal(400, 21603, ErrorClass::Auth);
        check_refusal(400, 30002, ErrorClass::Auth);
    }

    #[test]
    fn too_much_at_once_is_throttled() {
        check_refusal(429, 20429, ErrorClass::Throttled);
        check_refusal(429, None, ErrorClass::Throttled);
        check_refusal(400, 21611, ErrorClass::Throttled);
    }

    #[test]
    fn a_number_or_text_that_never_works_is_permanent() {
        for code in [21211, 21614, 21635, 21602, 21617, 21612] {
            check_refusal(400, code, ErrorClass::Permanent);
        }
    }

    #[test]
    fn a_receiver_that_is_not_permitted_is_blocked() {
        for code in [21610, 21408, 21608, 21606] {
            check_refusal(400, code, ErrorClass::Blocked);
        }
    }

    #[test]
    fn a_5xx_may_have_been_sent() {
        check_refusal(500, 20500, ErrorClass::UnknownOutcome);
        check_refusal(503, 20429, ErrorClass::UnknownOutcome);
        check_refusal(502, None, ErrorClass::UnknownOutcome);
    }

    #[test]
    fn any_other_4xx_is_permanent_and_a_redirect_was_not_sent() {
        check_refusal(400, None, ErrorClass::Permanent);
        check_refusal(403, 99999, ErrorClass::Permanent);
        check_refusal(404, None, ErrorClass::Permanent);
        check_refusal(499, None, ErrorClass::Permanent);
        check_refusal(301, None, ErrorClass::Retryable);
    }

    #[test]
    fn delivery_errors_have_the_classes_of_the_table() {
        let check = |code, class| assert_eq!(class_of_delivery_error(code), class, "{code}");
        check(30001, ErrorClass::Retryable);
        check(30003, ErrorClass::Retryable);
        check(30036, ErrorClass::Retryable);
        check(30004, ErrorClass::Blocked);
        check(30007, ErrorClass::Blocked);
        check(30005, ErrorClass::Permanent);
        check(30006, ErrorClass::Permanent);
        check(30008, ErrorClass::UnknownOutcome);
        check(30410, ErrorClass::UnknownOutcome);
    }

    #[test]
    fn every_status_of_twilio_is_known() {
        let check = |words: &[&str], want: Option<Word>| {
            for word in words {
                assert_eq!(status_of(word), want, "{word}");
            }
        };
        let outbound = |status| Some(Word::Outbound(status));
        check(
            &["accepted", "scheduled", "queued", "sending"],
            outbound(Status::Queued),
        );
        check(&["sent", "partially_delivered"], outbound(Status::Sent));
        check(&["delivered"], outbound(Status::Delivered));
        check(&["undelivered"], outbound(Status::Undelivered));
        check(&["failed", "canceled"], outbound(Status::Failed));
        check(&["read"], outbound(Status::Read));
        check(&["receiving", "received"], Some(Word::Inbound));
        check(&["", "Delivered", "teleported"], None);
    }
}
