//! Answers to calls: what a verdict becomes for the client, and what is kept of it under an idempotency
//! key. Problems are no answers: they end a request before, beside or by a verdict and are never kept.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use countersign_runtime::KeptAnswer;
use countersign_types::UnixMillis;
use serde::{Deserialize, Serialize};

use super::problem::{Problem, whole_seconds};

/// What a verdict becomes. A problem leaves an idempotency key free.
pub(super) type Judged = Result<Answer, Problem>;

/// An answer in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    status: u16,
    /// When a repeat can succeed, where waiting helps: `Retry-After` counts from `now` to then.
    retry_at: Option<UnixMillis>,
    body: Vec<u8>,
    /// When it is given; of one that is given again, when that is.
    #[serde(skip)]
    now: UnixMillis,
    /// Whether it holds what nobody may read twice for long, such as backup codes.
    #[serde(skip)]
    pub(super) secret: bool,
    /// Whether the same request has more to do when it comes again.
    #[serde(skip)]
    unfinished: bool,
}

impl Answer {
    fn new(status: StatusCode, body: &impl Serialize) -> Answer {
        Answer {
            status: status.as_u16(),
            retry_at: None,
            // Plain texts and numbers always become JSON.
            body: serde_json::to_vec(body).unwrap_or_default(),
            now: UnixMillis(0),
            secret: false,
            unfinished: false,
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

    /// The same, where the same request has more to do when it comes again: its key stays free.
    pub(super) fn unfinished(self) -> Answer {
        Answer {
            unfinished: true,
            ..self
        }
    }

    /// Whether a repeat under the same key is given this answer.
    pub(super) fn is_kept(&self) -> bool {
        !self.unfinished
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
            retry_at,
            now,
            ..Answer::new(StatusCode::BAD_REQUEST, body)
        }
    }

    /// As it is kept under an idempotency key.
    pub(super) fn to_kept(&self) -> KeptAnswer {
        KeptAnswer {
            // Serialising plain data into a `Vec` cannot fail.
            bytes: postcard::to_allocvec(self).unwrap_or_default(),
            secret: self.secret,
        }
    }

    /// One that was kept, to be given again; `None` where it cannot be read.
    pub(super) fn from_kept(bytes: &[u8], now: UnixMillis) -> Option<Answer> {
        let answer: Answer = postcard::from_bytes(bytes).ok()?;
        Some(Answer { now, ..answer })
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(retry_at) = self.retry_at {
            let seconds = whole_seconds(retry_at.since(self.now));
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        // It was made from a status; a row that says otherwise has been damaged.
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, headers, Body::from(self.body)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    const NOW: UnixMillis = UnixMillis(1_769_860_800_000);

    /// Checks `Retry-After` of a refusal until `wait` from now that is given again after `later`.
    #[track_caller]
    fn check_again(wait: Duration, later: Duration, want: &str) {
        let first = Answer::refusal(&json!({"error": "x"}), Some(NOW + wait), NOW);
        let again = Answer::from_kept(&first.to_kept().bytes, NOW + later);
        let response = again.expect("readable").into_response();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[RETRY_AFTER], want, "{wait:?} {later:?}");
    }

    #[test]
    fn an_answer_that_is_given_again_counts_its_wait_anew() {
        let seconds = Duration::from_secs;
        check_again(seconds(60), seconds(0), "60");
        check_again(seconds(60), Duration::from_millis(58_500), "2");
        // It is over: a repeat with a key of its own can succeed at once.
        check_again(seconds(60), seconds(60), "1");
        check_again(seconds(60), seconds(3_600), "1");
    }

    #[test]
    fn nobody_is_told_to_wait_for_more_than_a_day() {
        let day = Duration::from_secs(24 * 3_600);
        check_again(day, Duration::ZERO, "86400");
        check_again(day + Duration::from_secs(1), Duration::ZERO, "86400");
        // A component may say anything.
        check_again(day * 10_000, day, "86400");
    }
}
