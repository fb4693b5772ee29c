//! The company that new provider projects speak to: takes every message, remembers when, and spends as little as it
//! can.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde_json::Value;
use tokio::sync::watch;

use crate::Failure;
use crate::fake::{self, Answer};

/// The company. Its thread ends when it goes.
#[derive(Debug)]
pub(crate) struct Company {
    /// Where it serves.
    pub(crate) address: SocketAddr,
    arrived: Arrived,
    held: watch::Sender<bool>,
}

/// When the first message for a number has arrived, by the number's digits.
type Arrived = Arc<Mutex<HashMap<u64, Instant>>>;

#[derive(Clone)]
struct Service {
    arrived: Arrived,
    held: watch::Receiver<bool>,
    delay: Duration,
}

impl Company {
    /// One that answers each request after `delay`.
    pub(crate) fn start(delay: Duration) -> Result<Company, Failure> {
        let arrived = Arrived::default();
        let (held, ends) = watch::channel(false);
        let service = Service {
            arrived: arrived.clone(),
            held: ends.clone(),
            delay,
        };
        let address = fake::serve("bench-company", service, ends, answer)?;
        Ok(Company {
            address,
            arrived,
            held,
        })
    }

    /// Answers nothing from now on, or everything again.
    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// How many numbers have got a message.
    pub(crate) fn taken(&self) -> usize {
        lock(&self.arrived).len()
    }

    /// When a message for a number has arrived.
    pub(crate) fn arrival(&self, digits: u64) -> Option<Instant> {
        lock(&self.arrived).get(&digits).copied()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(mut service: Service, request: Request<Incoming>) -> Answer {
    let arrival = Instant::now();
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let Some(number) = read(&body) else {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    lock(&service.arrived).entry(number).or_insert(arrival);
    // An error is the end of the company.
    let _ = service.held.wait_for(|held| !held).await;
    if service.delay > Duration::ZERO {
        tokio::time::sleep(service.delay).await;
    }
    let body = format!(r#"{{"id":"m-{number}","parts":1}}"#);
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::ACCEPTED;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

/// The receiver's digits.
fn read(body: &[u8]) -> Option<u64> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body.get("to")?.as_str()?.strip_prefix('+')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receiver_is_read_from_json() {
        assert_eq!(
            read(br#"{"to": "+4915112345678"}"#),
            Some(4_915_112_345_678)
        );
        for other in ["", "{}", r#"{"to": 7}"#, r#"{"to": "0151"}"#] {
            assert_eq!(read(other.as_bytes()), None, "{other}");
        }
    }
}
