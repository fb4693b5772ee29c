//! A provider that is right, but for the mistake that its setting `fault` names.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::allow_attributes_without_reason,
    reason = "the bindings are generated; the documents are in the WIT"
)]
#![cfg(target_family = "wasm")]

mod bindings {
    wit_bindgen::generate!({
        path: "../../../../wit/provider/0.1",
        world: "countersign:provider/provider",
    });
    use super::Faulty;
    export!(Faulty);
}

use bindings::countersign::provider::{http, log, settings, signatures};
use bindings::exports::countersign::provider::sender::{
    Accepted, Callback, CallbackError, ErrorClass, Guest, Manifest, Message, News, SendError,
    Setting, Status, StatusUpdate,
};
use serde_json::{Value, json};

struct Faulty;

fn is(fault: &str) -> bool {
    settings::get("fault").is_some_and(|set| set == fault)
}

fn error(class: ErrorClass, retry_after: Option<u64>) -> SendError {
    SendError {
        class: match is("all errors are permanent") {
            true => ErrorClass::Permanent,
            false => class,
        },
        retry_after,
        provider_code: None,
        text: "not taken".to_owned(),
        attributes: Vec::new(),
    }
}

fn post(url: &str, body: &Value) -> Result<http::Response, http::Failure> {
    let body = http::Body::Bytes(body.to_string().into_bytes());
    ask(http::Method::Post, url.to_owned(), body)
}

fn ask(
    method: http::Method,
    url: String,
    body: http::Body,
) -> Result<http::Response, http::Failure> {
    http::send(&http::Request {
        method,
        url,
        headers: Vec::new(),
        body,
        authorization: http::Authorization::Bearer("token".to_owned()),
        timeout: None,
        attributes: Vec::new(),
    })
}

fn header<'a>(headers: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(name, _)| name == wanted);
    found.map(|(_, value)| value.as_str())
}

/// The refusal that an answer is.
fn refusal(response: &http::Response) -> SendError {
    let wait = header(&response.headers, "retry-after").and_then(|value| value.parse::<u64>().ok());
    let wait = wait
        .filter(|_| !is("no wait"))
        .map(|seconds| seconds * 1_000);
    let class = match response.status {
        500.. if is("5xx is not sent") => ErrorClass::Retryable,
        500.. => ErrorClass::UnknownOutcome,
        429 => ErrorClass::Throttled,
        410 => ErrorClass::Blocked,
        401 => ErrorClass::Auth,
        400..500 => ErrorClass::Permanent,
        _ => ErrorClass::Retryable,
    };
    error(class, wait)
}

fn id(body: &[u8]) -> Option<String> {
    let answer = serde_json::from_slice::<Value>(body).ok();
    let id = answer
        .as_ref()
        .and_then(|answer| answer.get("id")?.as_str());
    let id = match is("trusts answers") {
        true => id.expect("an answer with an id"),
        false => id?,
    };
    let bounded = (1..=128).contains(&id.len()) || is("any id");
    bounded.then(|| id.to_owned())
}

impl Guest for Faulty {
    fn describe() -> Manifest {
        let setting = |name: &str, required| Setting {
            name: name.to_owned(),
            description: "What a test configures.".to_owned(),
            required,
            attributes: Vec::new(),
        };
        Manifest {
            name: "faulty-provider".to_owned(),
            version: "1".to_owned(),
            settings: vec![setting("base-url", true), setting("fault", false)],
            credentials: vec![setting("token", true)],
            hosts: Vec::new(),
            attributes: vec![("fetch-status".to_owned(), "supported".to_owned())],
        }
    }

    fn send(message: Message) -> Result<Accepted, SendError> {
        if is("unnamed setting") {
            settings::get("colour");
        }
        if is("logs messages") {
            log::log(log::Level::Info, &format!("sending {}", message.text));
        }
        let text: String = match () {
            () if is("cuts texts") => message.text.chars().take(160).collect(),
            () if is("code alone") => message.code.unwrap_or_default(),
            () if is("plain texts") => message.text.replace(|c: char| !c.is_ascii(), "?"),
            () => message.text,
        };
        let url = settings::get("base-url").unwrap_or_default();
        let body = json!({ "to": message.to, "text": text });
        let mut answer = post(&url, &body);
        let lost = |answer: &Result<http::Response, http::Failure>| match answer {
            Ok(response) => response.status >= 500,
            Err(failure) => failure.maybe_sent,
        };
        if is("repeats") && lost(&answer) {
            answer = post(&url, &body);
        }
        if let Ok(response) = &answer
            && is("follows")
            && let Some(location) = header(&response.headers, "location")
        {
            answer = post(location, &body);
        }
        let response = answer.map_err(|failure| match failure.maybe_sent {
            true => error(ErrorClass::UnknownOutcome, None),
            false if is("refused connections may be sent") => {
                error(ErrorClass::UnknownOutcome, None)
            }
            false => error(ErrorClass::Retryable, None),
        })?;
        if (300..500).contains(&response.status) && is("3xx and 4xx are success") {
            return Ok(accepted("m-1".to_owned()));
        }
        if !(200..300).contains(&response.status) {
            return Err(refusal(&response));
        }
        let id = id(&response.body).ok_or_else(|| error(ErrorClass::UnknownOutcome, None))?;
        Ok(accepted(id))
    }

    fn parse_callback(callback: Callback) -> Result<News, CallbackError> {
        if is("slow callbacks") {
            let mut n = 0u64;
            loop {
                n = std::hint::black_box(n.wrapping_add(1));
            }
        }
        if !is("believes all") && !is_signed(&callback) {
            return Err(CallbackError::Unsigned);
        }
        let id = id(&callback.body).ok_or(CallbackError::Malformed)?;
        Ok(News {
            updates: vec![delivered(id)],
            replies: Vec::new(),
            answer: None,
            attributes: Vec::new(),
        })
    }

    fn fetch_status(ids: Vec<String>) -> Result<Vec<StatusUpdate>, SendError> {
        if is("tells no status") {
            return Ok(Vec::new());
        }
        let mut updates = Vec::new();
        for asked in ids {
            let url = settings::get("base-url").unwrap_or_default();
            let answer = ask(
                http::Method::Get,
                format!("{url}/{asked}"),
                http::Body::Empty,
            );
            let told = match answer {
                Ok(answer) if answer.status == 200 => id(&answer.body),
                _ => None,
            };
            let believed = is("believes any status answer").then_some(asked);
            updates.extend(told.or(believed).map(delivered));
        }
        Ok(updates)
    }
}

fn accepted(id: String) -> Accepted {
    Accepted {
        ids: vec![id],
        segments: None,
        price: None,
        attributes: Vec::new(),
    }
}

fn delivered(id: String) -> StatusUpdate {
    StatusUpdate {
        id,
        status: Status::Delivered,
        error: None,
        at: None,
        price: None,
        segments: None,
        attributes: Vec::new(),
    }
}

fn is_signed(callback: &Callback) -> bool {
    let at = header(&callback.headers, "x-time").unwrap_or_default();
    let given = header(&callback.headers, "x-signature").unwrap_or_default();
    let given: Option<Vec<u8>> = (0..given.len() / 2)
        .map(|n| u8::from_str_radix(given.get(2 * n..2 * n + 2)?, 16).ok())
        .collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let recent = at.parse::<u64>().is_ok_and(|at| at.abs_diff(now) < 300);
    let key = signatures::Key {
        credential: "token".to_owned(),
        encoding: signatures::KeyEncoding::Text,
    };
    let body = match is("signs the time alone") {
        true => Vec::new(),
        false => callback.body.clone(),
    };
    let signed = [at.as_bytes(), b".", &body].concat();
    let held = signatures::verify_hmac(
        signatures::Hash::Sha256,
        &key,
        &signed,
        &given.unwrap_or_default(),
    );
    held && (recent || is("any time"))
}
