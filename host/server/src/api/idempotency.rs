//! `Idempotency-Key` on every `POST` under `/api` and `/admin`, as in
//! draft-ietf-httpapi-idempotency-key-header-07. What is remembered, and how, is the [`Ledger`]'s
//! business; here is what of it clients see.
//!
//! Kept is a verdict that has changed something. Whatever ends a request before its call leaves the key
//! free, since nothing was done: 400 for its form, 401, 403, 404, 405, 408, 413, 415. So does what is
//! said about keys (409, 422, 429), a verdict that changed nothing or is a problem (a proof is missing), and
//! every 5xx. Callbacks of
//! providers have no keys: nobody knows who sends them, and a repeated one changes nothing anyway.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use countersign_runtime::{ClaimError, Found, Scope};

use super::answer::Answer;
use super::problem::Problem;
use super::{Api, Asker, Caller, Part, body};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
pub(super) const USER: HeaderName = HeaderName::from_static("x-countersign-user");
/// Where a proof of a factor stands.
pub(super) const PROOF: HeaderName = HeaderName::from_static("x-countersign-proof");

/// The longest key: four times a UUID's text and more.
const KEY_BYTES_MAX: usize = 255;

/// Reads the body of a `POST` with a key, and lets it pass with a [`Claim`](super::Claim) or answers it.
pub(super) async fn claim(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let part = Part::of(request.uri());
    if request.method() != Method::POST || matches!(part, Part::Public | Part::Page) {
        return next.run(request).await;
    }
    let (mut parts, unread) = request.into_parts();
    let key = match header(&parts.headers) {
        Ok(None) => return next.run(Request::from_parts(parts, unread)).await,
        Ok(Some(key)) => key,
        Err(problem) => return body::refuse(&parts, unread, problem).await,
    };
    // The gate has put it in, where there can be several.
    let asker = parts.extensions.get::<Asker>().cloned();
    let asker = match (part, &asker) {
        (Part::Admin, _) => (b"administrator".as_slice(), b"".as_slice()),
        (_, Some(asker)) => fields(asker),
        (_, None) => {
            tracing::error!("a request came past the gate");
            return Problem::internal().into_response();
        }
    };
    let http = &api.http;
    let read = body::read(&parts, unread, http.body_bytes_max, http.body_time);
    let bytes = match read.await {
        Ok(bytes) => bytes,
        Err(problem) => return problem.into_response(),
    };
    let scope = Scope {
        asker,
        user: parts.headers.get(USER).map(HeaderValue::as_bytes),
        // Not the route: what stands in the path says what the request is about.
        path: parts.uri.path(),
        key: &key,
    };
    let whole = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    // An answer that was given to who had shown a factor is not given again to who has not.
    let proof = parts.headers.get(PROOF).map(HeaderValue::as_bytes);
    let asked: [&[u8]; 4] = [b"POST", whole.as_bytes(), &bytes, proof.unwrap_or_default()];
    match api.ledger.claim(scope, &asked).await {
        Ok(claim) => {
            parts.extensions.insert(claim);
            next.run(Request::from_parts(parts, Body::from(bytes)))
                .await
        }
        Err(ClaimError::Used(found)) => replay(found),
        Err(error) => Problem::from(error).into_response(),
    }
}

/// What kind of asker it is, and which of them.
fn fields(asker: &Asker) -> (&'static [u8], &[u8]) {
    match asker {
        Asker::Application(Caller::Anonymous) => (b"anonymous", b""),
        Asker::Application(Caller::Key(id)) => (b"key", id.as_bytes()),
        Asker::User(token) => (b"token", &token.id),
        // Nobody who asks over HTTP is either.
        Asker::Application(Caller::Token(id)) => (b"caller token", id.as_bytes()),
        Asker::Application(Caller::Operator) => (b"operator", b""),
    }
}

/// What is answered to a request that has happened before.
pub(super) fn replay(found: Found) -> Response {
    match found {
        Found::Other => Problem::key_reused().into_response(),
        Found::Done => Problem::already_done().into_response(),
        Found::Answer { bytes, now } => match Answer::from_kept(&bytes, now) {
            Some(answer) => {
                let mut response = answer.into_response();
                let replayed = HeaderValue::from_static("true");
                response.headers_mut().insert(REPLAYED, replayed);
                response
            }
            // Another version's.
            None => Problem::already_done().into_response(),
        },
    }
}

/// The key that the header gives: bare, or a string as of RFC 9651, which are the same key.
fn header(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let key = match values.next() {
        None => unquoted(value.as_bytes()),
        // Of two, a proxy in front might believe the other one.
        Some(_) => None,
    };
    let fits = |key: &Vec<u8>| {
        (1..=KEY_BYTES_MAX).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic)
    };
    key.filter(fits)
        .and_then(|key| String::from_utf8(key).ok())
        .map(Some)
        .ok_or_else(Problem::malformed_key)
}

/// What stands between the quotes, or all of it where there are none.
fn unquoted(value: &[u8]) -> Option<Vec<u8>> {
    let Some(rest) = value.strip_prefix(b"\"") else {
        return Some(value.to_vec());
    };
    let mut key = Vec::with_capacity(rest.len());
    let mut bytes = rest.iter().copied();
    loop {
        match bytes.next()? {
            b'"' => break,
            b'\\' => match bytes.next()? {
                escaped @ (b'"' | b'\\') => key.push(escaped),
                _ => return None,
            },
            byte => key.push(byte),
        }
    }
    // Parameters would be another key for one reader and none for the next.
    bytes.next().is_none().then_some(key)
}

#[cfg(test)]
mod tests;
