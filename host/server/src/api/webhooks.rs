//! `/webhooks/{provider}`: status callbacks of providers. Whoever calls needs no key; what is told is
//! believed by its signature, which the provider's component has the host check.
//!
//! Neither bodies nor addresses are logged: they hold numbers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::{Api, CallbackRequest, body};

/// As the WIT bounds a callback's body.
const BODY_BYTES_MAX: usize = 1024 * 1024;

pub(super) async fn receive(
    State(api): State<Arc<Api>>,
    Path(provider): Path<String>,
    request: Request,
) -> Response {
    let (parts, unread) = request.into_parts();
    // Places of its own, so that a flood of callbacks takes none of the requests', nor they of it.
    let Ok(place) = api.callbacks.clone().try_acquire_owned() else {
        let problem = Problem::too_many_callbacks(Duration::from_secs(1));
        return problem.into_response();
    };
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    let read = body::read(&parts.headers, unread, BODY_BYTES_MAX, api.http.body_time).await;
    let request = match read {
        Ok(body) => callback(&parts, body.to_vec()),
        Err(problem) => return problem.into_response(),
    };
    let told = api.run_to_its_end(async move {
        let updates = runtime.parse_callback(&provider, request).await?;
        let received = runtime.queue().receive(&provider, &updates, runtime.now());
        let received = received.await.map_err(Problem::from)?;
        tracing::debug!(
            provider,
            changed = received.changed,
            early = received.early,
            "a callback was taken"
        );
        drop(place);
        Ok::<_, Problem>(())
    });
    match told.await.and_then(|outcome| outcome) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(problem) => problem.into_response(),
    }
}

fn callback(parts: &Parts, body: Vec<u8>) -> CallbackRequest {
    let headers = parts.headers.iter();
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    CallbackRequest {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        headers: headers
            .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
            .collect(),
        body,
    }
}
