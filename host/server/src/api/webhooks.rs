//! `/webhooks/{provider}`: status callbacks of providers. Whoever calls needs no key; what is told is
//! believed by its signature, which the provider's component has the host check.
//!
//! Neither bodies nor addresses are logged: they hold numbers.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use countersign_types::Answer;
use tokio::sync::OwnedSemaphorePermit;

use super::callbacks::Callbacks;
use super::path::Named;
use super::problem::{Kind, Problem, SOON};
use super::{Api, CallbackError, CallbackRequest, Runtime, body};

pub(super) async fn receive(
    State(api): State<Arc<Api>>,
    Named(provider): Named,
    request: Request,
) -> Response {
    let (parts, unread) = request.into_parts();
    let (Some(runtime), Some(callbacks)) = (api.runtime(), api.callbacks.get()) else {
        return body::refuse(&parts, unread, Problem::starting()).await;
    };
    // Known by name before anything is read or taken for it.
    if !callbacks.knows(&provider) {
        let problem = refuse(
            callbacks,
            &provider,
            CallbackError::NoProvider(provider.clone()),
        );
        return body::refuse(&parts, unread, problem).await;
    }
    let http = &api.http;
    let read = body::read(&parts, unread, http.callback_bytes_max, http.body_time);
    let body = match callbacks.bodies.take(read).await {
        Some(Ok(body)) => body,
        Some(Err(problem)) => {
            callbacks.tell_refused(&provider, why_unread(problem.kind()), None);
            return problem.into_response();
        }
        None => {
            let reason = "too many others were coming in, and it was the slowest";
            return no_room(callbacks, &provider, reason).into_response();
        }
    };
    let Some(place) = callbacks.place(&provider) else {
        let reason = "as many of this provider are being worked on as may (http.callbacks-max)";
        return no_room(callbacks, &provider, reason).into_response();
    };
    let request = callback(&parts, body.to_vec());
    let work = work(callbacks.clone(), runtime, provider, request, place);
    match api.run_to_its_end(work).await.and_then(|outcome| outcome) {
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Ok(Some(answer)) => wanted(answer),
        Err(problem) => problem.into_response(),
    }
}

/// What the company wants to read. It is no page: this server's others have a browser's trust.
fn wanted(answer: Answer) -> Response {
    let fixed = HeaderValue::from_static;
    let headers = [
        (CONTENT_TYPE, fixed(answer.media_type)),
        (
            CONTENT_SECURITY_POLICY,
            fixed("default-src 'none'; sandbox"),
        ),
    ];
    (headers, answer.body).into_response()
}

/// Has a callback read and its news stored; what the company wants to read.
async fn work(
    callbacks: Arc<Callbacks>,
    runtime: Runtime,
    provider: String,
    request: CallbackRequest,
    _place: OwnedSemaphorePermit,
) -> Result<Option<Answer>, Problem> {
    let parsed = runtime.parse_callback(&provider, request).await;
    let news = parsed.map_err(|error| refuse(&callbacks, &provider, error))?;
    let (queue, now) = (runtime.queue(), runtime.now());
    let received = queue.receive(&provider, &news.updates, now).await;
    let received = received.map_err(Problem::from)?;
    for reply in &news.replies {
        let heard = queue.heard(&provider, reply, now).await;
        if heard.map_err(Problem::from)? {
            tracing::info!(provider, wish = ?reply.wish, "somebody has answered a sender");
        }
    }
    tracing::debug!(
        provider,
        changed = received.changed,
        early = received.early,
        dropped = received.dropped,
        "a callback was taken"
    );
    Ok(news.answer)
}

fn refuse(callbacks: &Callbacks, provider: &str, error: CallbackError) -> Problem {
    let (reason, cause) = match &error {
        CallbackError::NoProvider(_) | CallbackError::NoPublicUrl => {
            ("no callbacks are taken under this name", None)
        }
        CallbackError::Unsigned => (
            "it has no signature that holds; is public-url the address that was called, and the credential \
             the provider's?",
            None,
        ),
        CallbackError::Malformed => ("it is signed and cannot be understood", None),
        CallbackError::Unavailable => ("the component cannot take it now", None),
        CallbackError::Failed { reason } => ("the component failed", Some(&**reason)),
    };
    callbacks.tell_refused(provider, reason, cause);
    error.into()
}

fn no_room(callbacks: &Callbacks, provider: &str, reason: &'static str) -> Problem {
    callbacks.tell_refused(provider, reason, None);
    Problem::too_many_callbacks(SOON)
}

fn why_unread(kind: Kind) -> &'static str {
    match kind {
        Kind::TooLarge => "it is larger than http.callback-bytes-max",
        Kind::RequestTimeout => "it took longer than http.body-seconds to arrive",
        _ => "it broke off before its end",
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A component's words must not run as a page of this server's, beside the dashboard's session.
    #[test]
    fn what_a_company_wants_to_read_is_no_page() {
        let response = wanted(Answer {
            media_type: "text/xml",
            body: b"<Response/>".to_vec(),
        });
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/xml");
        let policy = &response.headers()[CONTENT_SECURITY_POLICY];
        assert_eq!(policy, "default-src 'none'; sandbox");
    }
}
