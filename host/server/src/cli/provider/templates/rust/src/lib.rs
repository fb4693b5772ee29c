//! {{name}}: a provider component of countersign.
//!
//! This file speaks to the host: it says what the component is, makes one request for each message,
//! and has the host check the signature of each callback. What the company's words mean is in
//! `api.rs`, which is tested without a host. Every bound is in the doc lines of `wit/`.

pub mod api;

wit_bindgen::generate!({ path: "wit", world: "countersign:provider/provider" });

use countersign::provider::http::{self, Authorization, Body, Method, Request, Response};
use countersign::provider::settings;
use countersign::provider::signatures::{self, Hash, Key, KeyEncoding};
use exports::countersign::provider::sender::{
    Accepted, Callback, CallbackError, Guest, Manifest, Message, News, SendError, Setting,
    StatusUpdate,
};

/// Where the company's API is, unless the setting `base-url` says otherwise.
const BASE_URL: &str = "https://api.example.com";
/// Credentials have names here, and nothing else: the host puts them in.
const API_KEY: &str = "api-key";
const WEBHOOK_SECRET: &str = "webhook-secret";
/// One call may make 8 requests, so it can ask for 8 messages.
const ASKED_MAX: usize = 8;

/// The component.
pub struct Component;

impl Guest for Component {
    /// Asked once, when the component is loaded; no import may be used here.
    fn describe() -> Manifest {
        let setting = |name: &str, description: &str, required| Setting {
            name: name.into(),
            description: description.into(),
            required,
            attributes: Vec::new(),
        };
        Manifest {
            name: "{{name}}".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            settings: vec![
                setting("from", "The sender: a number in E.164 or a name.", true),
                setting(
                    "base-url",
                    "Where the API is, by default https://api.example.com.",
                    false,
                ),
            ],
            credentials: vec![
                setting(API_KEY, "An API key.", true),
                setting(WEBHOOK_SECRET, "What signs the company's callbacks.", false),
            ],
            hosts: vec!["api.example.com".into()],
            attributes: vec![("fetch-status".into(), "supported".into())],
        }
    }

    fn send(message: Message) -> Result<Accepted, SendError> {
        let from = message.sender.clone().or_else(|| settings::get("from"));
        let body = api::body(&message, &from.unwrap_or_default());
        let url = format!("{}/v1/messages", base_url());
        let response = request(Method::Post, url, Body::Bytes(body))?;
        if !api::is_success(response.status) {
            return Err(api::refusal(
                response.status,
                &response.headers,
                &response.body,
            ));
        }
        // Taken, as its status says, and nobody can say under which id: it may be on its way.
        api::accepted(&response.body)
            .ok_or_else(|| api::unknown_outcome("the answer cannot be read"))
    }

    /// Anybody can send a callback: the host drops what this tells, unless a signature has held.
    fn parse_callback(callback: Callback) -> Result<News, CallbackError> {
        if !is_signed(&callback) {
            return Err(CallbackError::Unsigned);
        }
        let update = api::update(&callback.body).ok_or(CallbackError::Malformed)?;
        Ok(News {
            updates: vec![update],
            replies: Vec::new(),
            answer: None,
            attributes: Vec::new(),
        })
    }

    /// For lost receipts and late prices. Asking changes nothing, so it can always be repeated.
    fn fetch_status(ids: Vec<String>) -> Result<Vec<StatusUpdate>, SendError> {
        let mut updates = Vec::new();
        for id in ids.iter().filter(|id| api::is_id(id)).take(ASKED_MAX) {
            let url = format!("{}/v1/messages/{id}", base_url());
            let response = request(Method::Get, url, Body::Empty).map_err(api::repeatable)?;
            match response.status {
                status if api::is_success(status) => updates.extend(api::update(&response.body)),
                404 => {}
                status => {
                    let refusal = api::refusal(status, &response.headers, &response.body);
                    return Err(api::repeatable(refusal));
                }
            }
        }
        Ok(updates)
    }
}

fn base_url() -> String {
    let url = settings::get("base-url").unwrap_or_else(|| BASE_URL.into());
    url.trim_end_matches('/').to_owned()
}

/// One request, authorized by the host. The whole answer, or the error that none is: without one the
/// company may have the message, unless not a byte of the request was written.
fn request(method: Method, url: String, body: Body) -> Result<Response, SendError> {
    let answer = http::send(&Request {
        method,
        url,
        headers: vec![("content-type".into(), "application/json".into())],
        body,
        authorization: Authorization::Bearer(API_KEY.into()),
        timeout: None,
        attributes: Vec::new(),
    });
    answer.map_err(|failure| match failure.maybe_sent {
        true => api::unknown_outcome(&failure.text),
        false => api::not_sent(&failure.text),
    })
}

/// The company signs `TIME.BODY` with HMAC-SHA256. The host compares, and remembers that it held.
fn is_signed(callback: &Callback) -> bool {
    let header = |wanted: &str| {
        let found = callback.headers.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    };
    let (Some(at), Some(signature)) = (header("x-timestamp"), header("x-signature")) else {
        return false;
    };
    let Some(given) = signature.strip_prefix("sha256=").and_then(api::unhex) else {
        return false;
    };
    let key = Key {
        credential: WEBHOOK_SECRET.into(),
        encoding: KeyEncoding::Text,
    };
    let signed = [at.as_bytes(), b".", &callback.body].concat();
    api::is_recent(at, now()) && signatures::verify_hmac(Hash::Sha256, &key, &signed, &given)
}

/// Seconds since 1970, by the host's clock.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(target_family = "wasm")]
export!(Component);
