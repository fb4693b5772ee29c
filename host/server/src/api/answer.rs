//! Answers to calls: what a verdict becomes for the client, and what is kept of it under an idempotency
//! key. Problems are no answers: they end a request before, beside or by a verdict and are never kept.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use countersign_types::UnixMillis;
use serde::{Deserialize, Serialize};

use super::problem::{Problem, whole_seconds};

/// What a verdict becomes. A problem leaves an idempotency key free.
pub(super) type Judged = Result<Answer, Problem>;

/// An answer in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    status: u16,
    retry_after_s: Option<u64>,
    body: Vec<u8>,
    /// Whether it holds what nobody may read twice for long, such as backup codes.
    #[serde(skip)]
    pub(super) secret: bool,
}

impl Answer {
    fn new(status: StatusCode, body: &impl Serialize) -> Answer {
        Answer {
            status: status.as_u16(),
            retry_after_s: None,
            // Plain texts and numbers always become JSON.
            body: serde_json::to_vec(body).unwrap_or_default(),
            secret: false,
        }
    }

    /// 200.
    pub(super) fn ok(body: &impl Serialize) -> Answer {
        Answer::new(StatusCode::OK, body)
    }

    /// 201.
    pub(super) fn created(body: &impl Serialize) -> Answer {
        Answer::new(StatusCode::CREATED, body)
    }

    /// The same, marked as one that holds what nobody may read twice for long.
    pub(super) fn secret(self) -> Answer {
        Answer {
            secret: true,
            ..self
        }
    }

    /// 202: it will be done.
    pub(super) fn accepted(body: &impl Serialize) -> Answer {
        Answer::new(StatusCode::ACCEPTED, body)
    }

    /// A verdict that is a no: 400, with `Retry-After` where waiting helps.
    pub(super) fn refusal(
        body: &impl Serialize,
        retry_at: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Answer {
        Answer {
            retry_after_s: retry_at.map(|retry_at| whole_seconds(retry_at.since(now))),
            ..Answer::new(StatusCode::BAD_REQUEST, body)
        }
    }

    /// How many bytes of the client's own data it holds.
    pub(super) fn body_bytes(&self) -> usize {
        self.body.len()
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        // It was made from a status; a row that says otherwise has been damaged.
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, headers, Body::from(self.body)).into_response()
    }
}
