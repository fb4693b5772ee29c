//! What an answer means: classes of errors that most companies share.

use serde_json::{Map, Value};

use crate::{ErrorClass, Failure, Response, SendError, retry_after};

/// An error without a wish to wait. The host cuts its text, after it has taken out of it what nobody
/// may read; of a text that was cut here it might not know that any more.
#[must_use]
pub fn error(class: ErrorClass, provider_code: Option<String>, text: &str) -> SendError {
    SendError {
        class,
        retry_after: None,
        provider_code,
        text: text.into(),
        attributes: Vec::new(),
    }
}

/// A setting that only the operator can mend; meanwhile another provider may take over.
#[must_use]
pub fn misconfigured(text: &str) -> SendError {
    error(ErrorClass::Auth, None, text)
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

/// A success whose answer says nothing of the message: it may have been taken.
#[must_use]
pub fn unreadable(company: &str) -> SendError {
    let text = format!("{company}'s answer cannot be read");
    error(ErrorClass::UnknownOutcome, None, &text)
}

/// Whether the request was taken.
#[must_use]
pub fn is_success(response: &Response) -> bool {
    (200..300).contains(&response.status)
}

/// The class of an answer whose HTTP status is all that is known of it. Sending is idempotent nowhere,
/// so a 5xx may have been sent; a redirect is not followed, so it was not. A 4xx that says nothing of the
/// account or of speed is about the message.
#[must_use]
pub fn class_of_status(status: u16) -> ErrorClass {
    match status {
        500.. => ErrorClass::UnknownOutcome,
        429 => ErrorClass::Throttled,
        401..=403 => ErrorClass::Auth,
        400..500 => ErrorClass::Permanent,
        _ => ErrorClass::Retryable,
    }
}

/// A refusal of the HTTP status in `response`: `said` is the company's code and words. `now` is for a
/// `Retry-After` that names a date.
#[must_use]
pub fn refused(
    response: &Response,
    class: ErrorClass,
    code: Option<String>,
    said: &str,
    now: u64,
) -> SendError {
    let status = response.status;
    let text = match (&code, said) {
        (None, "") => format!("HTTP {status}"),
        (None, said) => format!("HTTP {status}: {said}"),
        (Some(code), "") => format!("HTTP {status}, {code}"),
        (Some(code), said) => format!("HTTP {status}, {code}: {said}"),
    };
    SendError {
        retry_after: retry_after(response, now),
        ..error(class, code, &text)
    }
}

/// The error of a question: asking changes nothing, so it can always be repeated.
#[must_use]
pub fn repeatable(error: SendError) -> SendError {
    SendError {
        class: match error.class {
            ErrorClass::UnknownOutcome => ErrorClass::Retryable,
            class => class,
        },
        ..error
    }
}

/// The same error; another provider may be able to, though this one never will.
#[must_use]
pub fn with_failover(mut error: SendError) -> SendError {
    error.attributes.push(("failover".into(), "allowed".into()));
    error
}

/// The object that an answer is in JSON; an empty one where it is none.
#[must_use]
pub fn body(response: &Response) -> Map<String, Value> {
    serde_json::from_slice(&response.body).unwrap_or_default()
}

/// The longest id that the host takes.
const ID_BYTES_MAX: usize = 128;

/// A company's id of a message, one that the host takes.
#[must_use]
pub fn id(value: Option<&Value>) -> Option<String> {
    let id = value?.as_str()?;
    (1..=ID_BYTES_MAX).contains(&id.len()).then(|| id.into())
}

/// A whole number that a company writes as a number or as text.
#[must_use]
pub fn number(value: Option<&Value>) -> Option<u32> {
    match value? {
        Value::Number(number) => number.as_u64()?.try_into().ok(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_a_class() {
        let check = |statuses: &[u16], class| {
            for status in statuses {
                assert_eq!(class_of_status(*status), class, "{status}");
            }
        };
        check(&[500, 503, 599], ErrorClass::UnknownOutcome);
        check(&[401, 402, 403], ErrorClass::Auth);
        check(&[429], ErrorClass::Throttled);
        check(&[400, 404, 405, 422, 499], ErrorClass::Permanent);
        check(&[301, 307], ErrorClass::Retryable);
    }

    #[test]
    fn an_id_is_taken_at_its_bound_and_not_past_it() {
        let longest = "i".repeat(ID_BYTES_MAX);
        assert_eq!(id(Some(&longest.clone().into())), Some(longest.clone()));
        for other in [format!("{longest}i").into(), "".into(), Value::from(7)] {
            assert_eq!(id(Some(&other)), None, "{other}");
        }
        assert_eq!(id(None), None);
    }

    #[test]
    fn a_refusal_says_what_is_known_of_it() {
        let response = Response {
            status: 400,
            headers: Vec::new(),
            body: Vec::new(),
            attributes: Vec::new(),
        };
        let check = |code: Option<&str>, said, want| {
            let class = ErrorClass::Permanent;
            let error = refused(&response, class, code.map(Into::into), said, 0);
            assert_eq!(error.text, want);
        };
        check(None, "", "HTTP 400");
        check(None, "no", "HTTP 400: no");
        check(Some("7"), "", "HTTP 400, 7");
        check(Some("7"), "no", "HTTP 400, 7: no");
    }
}
