//! The other end of the deliveries: takes every message, keeps its code, and spends as little as it
//! can.
//!
//! Whether requests are right is what the end-to-end tests look at; here only their number and codes
//! count.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::sync::watch;

use crate::Failure;
use crate::fake::{self, Answer};

/// How many codes are kept at most.
const CODES_MAX: usize = 2_000_000;

/// A message's resource as Twilio answers it, but for its SID.
const RESOURCE: (&str, &str) = (
    r#"{"account_sid":"AC0123456789abcdef0123456789abcdef","api_version":"2010-04-01","body":"Your verification code is: ","date_created":"Tue, 24 Nov 2026 12:00:00 +0000","date_sent":null,"date_updated":"Tue, 24 Nov 2026 12:00:00 +0000","direction":"outbound-api","error_code":null,"error_message":null,"from":"+15005550006","messaging_service_sid":null,"num_media":"0","num_segments":"1","price":null,"price_unit":"USD","sid":"SM"#,
    r#"","status":"queued","tags":null,"to":"","uri":"/2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/Messages/SM.json"}"#,
);

/// The fake. Its thread ends when it goes.
#[derive(Debug)]
pub(crate) struct Twilio {
    /// Where it serves.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    held: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Shared {
    taken: AtomicU64,
    /// By the number's digits.
    codes: Mutex<HashMap<u64, u32>>,
}

impl Twilio {
    /// Starts it.
    pub(crate) fn start() -> Result<Twilio, Failure> {
        let shared = Arc::new(Shared::default());
        let (held, ends) = watch::channel(false);
        let service = Service {
            shared: shared.clone(),
            held: ends.clone(),
        };
        let address = fake::serve("bench-twilio", service, ends, answer)?;
        Ok(Twilio {
            address,
            shared,
            held,
        })
    }

    /// Answers nothing until this value goes.
    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    /// How many messages it has taken.
    pub(crate) fn taken(&self) -> u64 {
        self.shared.taken.load(Ordering::Acquire)
    }

    /// The code that was last sent to a number.
    pub(crate) fn code(&self, digits: u64) -> Option<u32> {
        let codes = self.shared.codes.lock();
        let codes = codes.unwrap_or_else(PoisonError::into_inner);
        codes.get(&digits).copied()
    }
}

#[derive(Clone)]
struct Service {
    shared: Arc<Shared>,
    held: watch::Receiver<bool>,
}

async fn answer(mut service: Service, request: Request<Incoming>) -> Answer {
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    // An error is the end of the fake.
    let _ = service.held.wait_for(|held| !held).await;
    let Some((number, code)) = read(&body) else {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    {
        let codes = service.shared.codes.lock();
        let mut codes = codes.unwrap_or_else(PoisonError::into_inner);
        if codes.len() < CODES_MAX {
            codes.insert(number, code);
        }
    }
    let count = service.shared.taken.fetch_add(1, Ordering::AcqRel);
    let (before, after) = RESOURCE;
    let body = format!("{before}{count:032x}{after}");
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::CREATED;
    let json = HeaderValue::from_static("application/json;charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

/// The receiver's digits and the code in a form.
fn read(form: &[u8]) -> Option<(u64, u32)> {
    let form = std::str::from_utf8(form).ok()?;
    let field = |name: &str| {
        form.split('&')
            .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    let number = field("To")?.strip_prefix("%2B")?.parse().ok()?;
    let (_, code) = field("Body")?.split_once("is%3A")?;
    let code = code.trim_start_matches('+').trim_start_matches("%20");
    Some((number, code.get(..6)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_code_are_read_from_a_form() {
        let form =
            b"To=%2B4915112345678&From=%2B15005550006&Body=Your+code+is%3A+012345%0A%0AValid";
        assert_eq!(read(form), Some((4_915_112_345_678, 12_345)));
        assert_eq!(read(b"To=%2B1&Body=hello"), None);
    }
}
