//! Twilio's REST API: a message's resource and its errors.
//!
//! Source: `twilio/twilio-oai` `spec/json/twilio_api_v2010.json`; Twilio's pages of error codes.

use serde_json::{Map, Value};

use crate::host::{ErrorClass, Failure, Host, Price, Response, SendError, Status};

const BASE_URL: &str = "https://api.twilio.com";
const SID_BYTES_MAX: usize = 64;
const AMOUNT_BYTES_MAX: usize = 32;

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
        let sid = host
            .setting("account-sid")
            .ok_or_else(|| misconfigured("setting `account-sid` is missing"))?;
        if !is_sid(&sid) {
            return Err(misconfigured(
                "setting `account-sid` must be 1 to 64 letters, digits, `-` or `_`",
            ));
        }
        let base = host.setting("base-url").unwrap_or_else(|| BASE_URL.into());
        let base = base.trim_end_matches('/');
        Ok(Self {
            messages_url: format!("{base}/2010-04-01/Accounts/{sid}/Messages"),
            sid,
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

/// A setting that only the operator can mend; meanwhile another provider may take over.
#[must_use]
pub fn misconfigured(text: &str) -> SendError {
    error(ErrorClass::Auth, None, text)
}

/// An error without a wish to wait. The host cuts its text, after it has taken out of it what nobody
/// may read; of a text that was cut here it might not know that any more.
#[must_use]
pub fn error(class: ErrorClass, provider_code: Option<String>, text: &str) -> SendError {
    SendError {
        class,
        retry_after: None,
        provider_code,
        text: text.into(),
        failover: false,
    }
}

/// A request that got no answer.
#[must_use]
pub fn no_answer(failure: &Failure) -> SendError {
    let class = if failure.maybe_sent {
        ErrorClass::UnknownOutcome
    } else {
        ErrorClass::Retryable
    };
    error(class, None, &failure.text)
}

/// An answer that is not a 2xx. `now` is for a `Retry-After` that names a date.
#[must_use]
pub fn refused(response: &Response, now: u64) -> SendError {
    let status = response.status;
    let body: Map<String, Value> = serde_json::from_slice(&response.body).unwrap_or_default();
    let code = number_of(body.get("code"));
    let text = match (code, body.get("message").and_then(Value::as_str)) {
        (Some(code), Some(message)) => format!("HTTP {status}, Twilio {code}: {message}"),
        (Some(code), None) => format!("HTTP {status}, Twilio {code}"),
        (None, _) => format!("HTTP {status}"),
    };
    SendError {
        retry_after: retry_after(response, now),
        failover: code == Some(21612),
        ..error(
            class_of_refusal(status, code),
            code.map(|code| code.to_string()),
            &text,
        )
    }
}

/// The class of a request that Twilio refused.
#[must_use]
pub fn class_of_refusal(status: u16, code: Option<u32>) -> ErrorClass {
    match (status, code) {
        // Sending is not idempotent, and Twilio says that a repeat may send twice.
        (500.., _) => ErrorClass::UnknownOutcome,
        // 20429 was never processed; 21611: this sender has more than 10 hours waiting.
        (429, _) | (_, Some(20429 | 21611)) => ErrorClass::Throttled,
        // No such account, no such key, a sender that is missing or not able to, suspended.
        (401, _) | (404, Some(20404)) | (_, Some(20003 | 21603 | 21606 | 30002)) => {
            ErrorClass::Auth
        }
        // Opted out, country not enabled, number not verified in a trial.
        (_, Some(21610 | 21408 | 21608)) => ErrorClass::Blocked,
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

/// A number that Twilio writes as a number or as text, depending on the field.
#[must_use]
pub fn number_of(value: Option<&Value>) -> Option<u32> {
    match value? {
        Value::Number(number) => number.as_u64()?.try_into().ok(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The number of segments; Twilio writes 0 for "not yet known".
#[must_use]
pub fn segments_of(message: &Map<String, Value>) -> Option<u32> {
    number_of(message.get("num_segments")).filter(|&segments| segments > 0)
}

/// The price; Twilio writes a charge as a negative number, and null for "not yet known".
#[must_use]
pub fn price_of(message: &Map<String, Value>) -> Option<Price> {
    let amount = match message.get("price")? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let amount = amount.strip_prefix('-').unwrap_or(&amount);
    let currency = message.get("price_unit")?.as_str()?.to_ascii_uppercase();
    let is_currency = currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
    (is_decimal(amount) && is_currency).then(|| Price {
        amount: amount.into(),
        currency,
    })
}

fn is_decimal(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= AMOUNT_BYTES_MAX && digits(whole) && digits(fraction)
}

/// `Retry-After`, in seconds or as a date (RFC 9110 section 10.2.3).
fn retry_after(response: &Response, now: u64) -> Option<u64> {
    let (_, value) = response
        .headers
        .iter()
        .find(|(name, _)| name == "retry-after")?;
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(u64::from(seconds) * 1_000);
    }
    Some(http_date(value)?.saturating_sub(now))
}

/// The instant of an HTTP date, or of the RFC 2822 dates that Twilio writes into JSON, which differ
/// from it in the name of the zone.
#[must_use]
pub fn http_date(text: &str) -> Option<u64> {
    let in_gmt = text.replace("+0000", "GMT");
    let time = httpdate::parse_http_date(&in_gmt).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    since.as_millis().try_into().ok()
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
        check_refusal(400, 21606, ErrorClass::Auth);
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
        for code in [21610, 21408, 21608] {
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

    #[track_caller]
    fn check_price(json: &str, want: Option<(&str, &str)>) {
        let message = serde_json::from_str(json).expect("JSON");
        let want = want.map(|(amount, currency)| Price {
            amount: amount.into(),
            currency: currency.into(),
        });
        assert_eq!(price_of(&message), want, "{json}");
    }

    #[test]
    fn a_charge_is_a_positive_price() {
        check_price(
            r#"{"price":"-0.00750","price_unit":"USD"}"#,
            Some(("0.00750", "USD")),
        );
        check_price(r#"{"price":"1","price_unit":"eur"}"#, Some(("1", "EUR")));
        check_price(r#"{"price":-0.5,"price_unit":"EUR"}"#, Some(("0.5", "EUR")));
    }

    #[test]
    fn what_is_no_price_is_left_out() {
        check_price(r#"{"price":null,"price_unit":"USD"}"#, None);
        check_price(r#"{"price_unit":"USD"}"#, None);
        check_price(r#"{"price":"-0.1","price_unit":null}"#, None);
        check_price(r#"{"price":"-0.1","price_unit":"dollars"}"#, None);
        for amount in ["", "-", "--1", "1.", ".5", "1.2.3", "1e-3", "NaN", "+1"] {
            check_price(
                &format!(r#"{{"price":"{amount}","price_unit":"USD"}}"#),
                None,
            );
        }
    }

    #[track_caller]
    fn check_retry_after(value: &str, want: Option<u64>) {
        let response = Response {
            status: 429,
            headers: vec![("retry-after".into(), value.into())],
            body: Vec::new(),
        };
        // Fri, 31 Dec 1999 23:59:59 GMT
        assert_eq!(refused(&response, 946_684_799_000).retry_after, want);
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        check_retry_after("7", Some(7_000));
        check_retry_after(" 0 ", Some(0));
        check_retry_after("Sat, 01 Jan 2000 00:00:09 GMT", Some(10_000));
        check_retry_after("Fri, 31 Dec 1999 23:00:00 GMT", Some(0));
        check_retry_after("soon", None);
        check_retry_after("-1", None);
    }
}
