//! Errors as HTTP tells them: the only place that knows which status an error has.
//!
//! Causes go to the log. What a client reads is made here, from fixed texts and from names that the
//! client itself sent; never from a component's, the store's or the operating system's words. Only the
//! administrator is told why a component that was sent cannot be installed.

use std::any::Any;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use countersign_types::UnixMillis;
use serde::Serialize;

use super::UserIdError;
use super::answer::Answer;

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");
/// For troubles that pass by themselves within moments.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// Everything that ends a request before or beside a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    BadRequest,
    Unauthorized,
    WrongToken,
    AdminOff,
    MetricsOff,
    HostNotLoopback,
    TokenScope,
    ProofRequired,
    NoSuchFactor,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    TooLarge,
    NotJson,
    NotWasm,
    NoSuchComponent,
    ComponentRefused,
    IdempotencyKey,
    IdempotencyKeyReused,
    InFlight,
    AlreadyDone,
    TooManyKeys,
    TooManySecrets,
    NoSuchMessage,
    CodeOver,
    ForeignForm,
    TooManyLogins,
    UnsignedCallback,
    TooManyCallbacks,
    Internal,
    Starting,
    Busy,
    QueueFull,
    QueueShare,
    ComponentTimeout,
    StoreFull,
    StoreFailed,
    TookTooLong,
}

impl Kind {
    /// Each at its own place, up to the last.
    pub(crate) const ALL: [Kind; Kind::TookTooLong as usize + 1] = [
        Kind::BadRequest,
        Kind::Unauthorized,
        Kind::WrongToken,
        Kind::AdminOff,
        Kind::MetricsOff,
        Kind::HostNotLoopback,
        Kind::TokenScope,
        Kind::ProofRequired,
        Kind::NoSuchFactor,
        Kind::NotFound,
        Kind::MethodNotAllowed,
        Kind::RequestTimeout,
        Kind::TooLarge,
        Kind::NotJson,
        Kind::NotWasm,
        Kind::NoSuchComponent,
        Kind::ComponentRefused,
        Kind::IdempotencyKey,
        Kind::IdempotencyKeyReused,
        Kind::InFlight,
        Kind::AlreadyDone,
        Kind::TooManyKeys,
        Kind::TooManySecrets,
        Kind::NoSuchMessage,
        Kind::CodeOver,
        Kind::ForeignForm,
        Kind::TooManyLogins,
        Kind::UnsignedCallback,
        Kind::TooManyCallbacks,
        Kind::Internal,
        Kind::Starting,
        Kind::Busy,
        Kind::QueueFull,
        Kind::QueueShare,
        Kind::ComponentTimeout,
        Kind::StoreFull,
        Kind::StoreFailed,
        Kind::TookTooLong,
    ];

    fn status(self) -> StatusCode {
        match self {
            Kind::BadRequest | Kind::IdempotencyKey | Kind::NoSuchFactor => StatusCode::BAD_REQUEST,
            Kind::Unauthorized | Kind::WrongToken => StatusCode::UNAUTHORIZED,
            Kind::AdminOff
            | Kind::MetricsOff
            | Kind::HostNotLoopback
            | Kind::TokenScope
            | Kind::ProofRequired
            | Kind::ForeignForm
            | Kind::UnsignedCallback => StatusCode::FORBIDDEN,
            Kind::NotFound | Kind::NoSuchMessage | Kind::NoSuchComponent => StatusCode::NOT_FOUND,
            Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Kind::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::NotJson | Kind::NotWasm => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::IdempotencyKeyReused | Kind::ComponentRefused => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::InFlight | Kind::AlreadyDone | Kind::CodeOver => StatusCode::CONFLICT,
            Kind::TooManyKeys | Kind::TooManySecrets | Kind::TooManyLogins => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Starting
            | Kind::Busy
            | Kind::QueueFull
            | Kind::QueueShare
            | Kind::TooManyCallbacks
            | Kind::ComponentTimeout
            | Kind::StoreFull
            | Kind::StoreFailed
            | Kind::TookTooLong => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The last part of `type`, which clients may rely on.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Kind::BadRequest => "bad-request",
            Kind::Unauthorized => "no-credentials",
            Kind::WrongToken => "wrong-credentials",
            Kind::AdminOff => "admin-off",
            Kind::MetricsOff => "metrics-off",
            Kind::HostNotLoopback => "host-not-loopback",
            Kind::TokenScope => "token-scope",
            Kind::ProofRequired => "proof-required",
            Kind::NoSuchFactor => "no-such-factor",
            Kind::NotFound => "not-found",
            Kind::MethodNotAllowed => "method-not-allowed",
            Kind::RequestTimeout => "request-timeout",
            Kind::TooLarge => "too-large",
            Kind::NotJson => "not-json",
            Kind::NotWasm => "not-wasm",
            Kind::NoSuchComponent => "no-such-component",
            Kind::ComponentRefused => "component-refused",
            Kind::IdempotencyKey => "idempotency-key",
            Kind::IdempotencyKeyReused => "idempotency-key-reused",
            Kind::InFlight => "in-flight",
            Kind::AlreadyDone => "already-done",
            Kind::TooManyKeys => "too-many-keys",
            Kind::TooManySecrets => "too-many-secrets",
            Kind::NoSuchMessage => "no-such-message",
            Kind::CodeOver => "code-over",
            Kind::ForeignForm => "foreign-form",
            Kind::TooManyLogins => "too-many-logins",
            Kind::UnsignedCallback => "unsigned-callback",
            Kind::TooManyCallbacks => "too-many-callbacks",
            Kind::Internal => "internal",
            Kind::Starting => "starting",
            Kind::Busy => "busy",
            Kind::QueueFull => "queue-full",
            Kind::QueueShare => "queue-share",
            Kind::ComponentTimeout => "component-timeout",
            Kind::StoreFull => "store-full",
            Kind::StoreFailed => "store-failed",
            Kind::TookTooLong => "took-too-long",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Kind::BadRequest => "The request is malformed",
            Kind::Unauthorized => "A key or token is needed",
            Kind::WrongToken => "The key or token is not accepted",
            Kind::AdminOff => "Administration over HTTP is switched off",
            Kind::MetricsOff => "Metrics are switched off",
            Kind::HostNotLoopback => "The host is not a loopback name",
            Kind::TokenScope => "The token is not for this",
            Kind::ProofRequired => "A fresh proof of a factor is needed",
            Kind::NoSuchFactor => "The user has no such factor",
            Kind::NotFound => "There is nothing at this path",
            Kind::MethodNotAllowed => "This method is not allowed here",
            Kind::RequestTimeout => "The request took too long to arrive",
            Kind::TooLarge => "The body is too large",
            Kind::NotJson => "The body must be JSON",
            Kind::NotWasm => "The body must be a WebAssembly component",
            Kind::NoSuchComponent => "There is no such component",
            Kind::ComponentRefused => "The version cannot be installed",
            Kind::IdempotencyKey => "The idempotency key is malformed",
            Kind::IdempotencyKeyReused => "The idempotency key was used for another request",
            Kind::InFlight => "The same request is still being answered",
            Kind::AlreadyDone => "The request was carried out before",
            Kind::TooManyKeys => "Too many idempotency keys",
            Kind::TooManySecrets => "Too many secrets for authenticator apps",
            Kind::NoSuchMessage => "There is no such message",
            Kind::CodeOver => "The message's code is over",
            Kind::ForeignForm => "The form is not one of this server",
            Kind::TooManyLogins => "Too many tries to log in",
            Kind::UnsignedCallback => "The callback is not signed",
            Kind::TooManyCallbacks => "Too many callbacks at once",
            Kind::Internal => "The server failed at this request",
            Kind::Starting => "The server is starting",
            Kind::Busy => "Too many calls are waiting",
            Kind::QueueFull => "Too many messages are waiting",
            Kind::QueueShare => "Too many messages of this API key are waiting",
            Kind::ComponentTimeout => "The call took too long",
            Kind::StoreFull => "The disk is nearly full",
            Kind::StoreFailed => "The store is not available",
            Kind::TookTooLong => "The answer took too long",
        }
    }
}

/// An answer as of RFC 9457.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    /// The field of the request's body that is to blame.
    field: Option<String>,
    retry_after: Option<Duration>,
    /// `WWW-Authenticate`.
    challenge: Option<String>,
}

#[derive(Serialize)]
struct Details<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl Problem {
    /// A problem, with what the client can do about it.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        let challenge = match kind {
            Kind::Unauthorized => Some("Bearer".to_owned()),
            Kind::WrongToken => Some("Bearer error=\"invalid_token\"".to_owned()),
            _ => None,
        };
        Problem {
            kind,
            detail: detail.into(),
            field: None,
            retry_after: None,
            challenge,
        }
    }

    pub(super) fn after(self, retry_after: Duration) -> Problem {
        Problem {
            retry_after: Some(retry_after),
            ..self
        }
    }

    /// The server does not serve calls yet.
    pub(crate) fn starting() -> Problem {
        Problem::new(
            Kind::Starting,
            "Calls are served within seconds; see /readyz.",
        )
        .after(SOON)
    }

    /// The call goes on, but its answer is not waited for any longer.
    pub(crate) fn took_too_long() -> Problem {
        let detail = "The call may still come to its end; its outcome is unknown.";
        Problem::new(Kind::TookTooLong, detail).after(SOON)
    }

    /// Something panicked.
    pub(crate) fn internal() -> Problem {
        Problem::new(Kind::Internal, "The server's log says more.")
    }

    /// Nobody has accepted a message of that name, or it is no longer kept.
    pub(super) fn no_such_message() -> Problem {
        let detail = "Its id is not known; messages are kept for `messages.days` after their end, and until their number is erased.";
        Problem::new(Kind::NoSuchMessage, detail)
    }

    /// An id that no user can have.
    pub(super) fn no_user_id() -> Problem {
        Problem::new(Kind::BadRequest, format!("Name a user: {UserIdError}."))
    }

    /// Something about a user's factors is to change, and nobody has shown one of them just now: within
    /// `time`, that is.
    pub(super) fn proof_required(time: Duration) -> Problem {
        let seconds = time.as_secs();
        let span = match seconds {
            60 => "1 minute".to_owned(),
            seconds if seconds % 60 == 0 => format!("{} minutes", seconds / 60),
            seconds => format!("{seconds} seconds"),
        };
        let detail = format!(
            "Let the user log in with a factor, and let the application send the `proof` of that answer in X-Countersign-Proof: it is good for {span}, for this user, once."
        );
        Problem {
            // RFC 9470: what is missing is not the right to ask, but that the user was asked just now.
            challenge: Some(format!(
                "Bearer error=\"insufficient_user_authentication\", max_age=\"{seconds}\""
            )),
            ..Problem::new(Kind::ProofRequired, detail)
        }
    }

    /// What is asked for needs a factor, active or pending, that the user does not have.
    pub(super) fn no_such_factor(error: impl Into<String>) -> Problem {
        Problem::new(Kind::NoSuchFactor, error)
    }

    /// Callbacks have places of their own, and all are taken.
    pub(super) fn too_many_callbacks(retry_after: Duration) -> Problem {
        let detail = "Send it again; nothing was changed.";
        Problem::new(Kind::TooManyCallbacks, detail).after(retry_after)
    }

    /// `Idempotency-Key` is not one key.
    pub(super) fn malformed_key() -> Problem {
        let detail = "Send `Idempotency-Key` once, with 1 to 255 visible ASCII characters, bare or in quotes.";
        Problem::new(Kind::IdempotencyKey, detail)
    }

    /// The key belongs to a request with another body.
    pub(super) fn key_reused() -> Problem {
        let detail = "Its body differs; a new request needs a new key.";
        Problem::new(Kind::IdempotencyKeyReused, detail)
    }

    /// The same request runs at this moment.
    pub(super) fn in_flight() -> Problem {
        let detail = "Ask again: its answer will be the first one's.";
        Problem::new(Kind::InFlight, detail).after(SOON)
    }

    /// The request has happened, and its answer is not kept.
    pub(super) fn already_done() -> Problem {
        let detail =
            "Its answer is no longer kept; it will not be carried out again under this key.";
        Problem::new(Kind::AlreadyDone, detail)
    }

    /// No token is configured, so nobody can be the administrator.
    pub(super) fn admin_off() -> Problem {
        let detail = "Set COUNTERSIGN_ADMIN_TOKEN and restart to switch it on.";
        Problem::new(Kind::AdminOff, detail)
    }

    /// Too many wrong tokens were typed into the login form.
    pub(super) fn too_many_logins(wait: Duration) -> Problem {
        let seconds = whole_seconds(wait);
        let detail = format!("There were too many wrong tokens. Try again in {seconds} s.");
        Problem::new(Kind::TooManyLogins, detail).after(wait)
    }

    /// So many requests with idempotency keys run that no more are remembered.
    pub(super) fn too_many_in_flight() -> Problem {
        Problem::new(
            Kind::Busy,
            "Too many requests with idempotency keys run at once; try again.",
        )
        .after(SOON)
    }

    /// A refusal as it is told on every route but the seed's.
    pub(super) fn of_field(refused: Refused) -> Problem {
        Problem {
            field: refused.field,
            ..Problem::new(Kind::BadRequest, refused.error)
        }
    }

    /// What it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What it is, for people.
    pub(super) fn title(&self) -> &'static str {
        self.kind.title()
    }

    /// What can be done about it.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The same as a page for people, with all that the status needs.
    pub(super) fn shown(&self, page: String) -> Response {
        let mut headers = self.headers();
        let media_type = HeaderValue::from_static("text/html; charset=utf-8");
        headers.insert(CONTENT_TYPE, media_type);
        let kind = Extension(self.kind);
        (self.kind.status(), headers, kind, Body::from(page)).into_response()
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(span) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(span)));
        }
        // Made here, of ASCII alone.
        let challenge = self.challenge.as_ref().and_then(|text| text.parse().ok());
        if let Some(challenge) = challenge {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        headers
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let details = Details {
            r#type: format!("urn:countersign:error:{}", self.kind.code()),
            title: self.kind.title(),
            status: status.as_u16(),
            detail: &self.detail,
            field: self.field.as_deref(),
        };
        let mut headers = self.headers();
        headers.insert(CONTENT_TYPE, MEDIA_TYPE);
        // Plain texts always become JSON.
        let body = serde_json::to_vec(&details).unwrap_or_default();
        // With what it is, for whoever counts problems.
        (status, headers, Extension(self.kind), Body::from(body)).into_response()
    }
}

/// What `Retry-After` says at most: no limit here is for longer, and a client that waits for days has
/// forgotten why.
const RETRY_AFTER_MAX_S: u64 = 24 * 3_600;

/// A wait as `Retry-After` says it: rounded up and at least one (RFC 9110, 10.2.3), since who comes a
/// moment too early is refused again; and at most a day.
pub(crate) fn whole_seconds(span: Duration) -> u64 {
    let seconds = span.as_millis().div_ceil(1000);
    let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
    seconds.clamp(1, RETRY_AFTER_MAX_S)
}

/// The seed's own form of a refusal: `{error, field?}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Refused {
    pub(crate) error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
}

impl Refused {
    /// A refusal of the field `field`.
    pub(crate) fn field(field: &str, error: impl Into<String>) -> Refused {
        Refused {
            error: error.into(),
            field: Some(field.to_owned()),
        }
    }

    /// A refusal of the body as a whole.
    pub(crate) fn body(error: impl Into<String>) -> Refused {
        Refused {
            error: error.into(),
            field: None,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        Answer::refusal(&self, None, UnixMillis(0)).into_response()
    }
}

/// The answer to a request whose handling panicked. The panic itself is in the log.
pub(crate) fn panicked(_: Box<dyn Any + Send>) -> Response {
    Problem::internal().into_response()
}

/// A problem in place of the router's own bare 405, to which the router adds `Allow`.
pub(crate) fn explain(response: Response) -> Response {
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let detail = "The header `Allow` names the methods that are.";
    Problem::new(Kind::MethodNotAllowed, detail).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    async fn body(response: Response) -> Value {
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await;
        serde_json::from_slice(&bytes.expect("read")).expect("JSON")
    }

    #[tokio::test]
    async fn a_problem_has_the_fields_of_rfc_9457_and_its_media_type() {
        let response = Problem::new(Kind::NotFound, "No.").into_response();
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let want = json!({
            "type": "urn:countersign:error:not-found",
            "title": "There is nothing at this path",
            "status": 404,
            "detail": "No.",
        });
        assert_eq!(body(response).await, want);
    }

    #[test]
    fn every_kind_is_at_its_place_and_has_a_code_of_its_own() {
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{kind:?}");
        }
        let codes: std::collections::BTreeSet<_> = Kind::ALL.map(Kind::code).into();
        assert_eq!(codes.len(), Kind::ALL.len());
    }

    #[test]
    fn retry_after_is_whole_seconds_from_one_to_a_day() {
        let day = 24 * 3_600;
        for (millis, want) in [
            (0, 1),
            (1, 1),
            (1_000, 1),
            (1_001, 2),
            (60_000, 60),
            (day * 1_000, day),
            (day * 1_000 + 1, day),
            (u64::MAX, day),
        ] {
            assert_eq!(
                whole_seconds(Duration::from_millis(millis)),
                want,
                "{millis}"
            );
        }
    }

    #[tokio::test]
    async fn a_refusal_without_a_field_has_no_field() {
        assert_eq!(
            body(Refused::body("x").into_response()).await,
            json!({"error": "x"})
        );
        let want = json!({"error": "x", "field": "code"});
        assert_eq!(
            body(Refused::field("code", "x").into_response()).await,
            want
        );
    }

    #[test]
    fn one_who_is_not_known_is_told_how_to_be() {
        for (kind, want) in [
            (Kind::Unauthorized, "Bearer"),
            (Kind::WrongToken, "Bearer error=\"invalid_token\""),
        ] {
            let response = Problem::new(kind, "").into_response();
            assert_eq!(response.status(), 401);
            assert_eq!(response.headers()[WWW_AUTHENTICATE], want);
        }
    }

    #[tokio::test]
    async fn a_proof_is_asked_for_with_the_time_that_it_is_good_for() {
        for (seconds, said) in [
            (300, "5 minutes"),
            (60, "1 minute"),
            (10, "10 seconds"),
            (90, "90 seconds"),
        ] {
            let response = Problem::proof_required(Duration::from_secs(seconds)).into_response();
            assert_eq!(response.status(), 403);
            let want =
                format!("Bearer error=\"insufficient_user_authentication\", max_age=\"{seconds}\"");
            assert_eq!(response.headers()[WWW_AUTHENTICATE], want);
            let detail = body(response).await["detail"].to_string();
            assert!(detail.contains(&format!("good for {said},")), "{detail}");
        }
    }
}
