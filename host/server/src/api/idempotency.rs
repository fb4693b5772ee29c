//! `Idempotency-Key` on every `POST` under `/api`, as in draft-ietf-httpapi-idempotency-key-header-07.
//!
//! What is answered is written in the commit of the call itself ([`Once`]), so a crash leaves both or
//! neither: there is no claim that could outlive its process, and no lease. Requests with one key that
//! run at the same time, here or in another process, make each other's runs stale, and the later one
//! finds the earlier one's answer. The table of what is in flight only lets this process say 409 at
//! once, before a repeat would wait for its subject; nothing depends on it.
//!
//! Only verdicts are kept. What ends a request before its call (a malformed body, no key, too large), a
//! verdict that is a problem (a proof is missing) and what ends it without a commit (every 5xx) leave the
//! key free.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use countersign_store::{
    Keyring, Rulings, Section, Store, StoreError, Take, Transaction, TransactionError,
};
use countersign_types::{Clock, UnixMillis};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Judged};
use super::problem::Problem;
use super::{Api, Asker, Caller, Once, Part, body};
use crate::config::IdempotencyLimits;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
pub(super) const USER: HeaderName = HeaderName::from_static("x-countersign-user");

/// The longest key: four times a UUID's text and more.
const KEY_BYTES_MAX: usize = 255;
/// Longer answers are not kept, only that there was one. Those of today have some 200 bytes; a row of a
/// component may have 32 KiB.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// How long a key is remembered. A client that has tried for a day has given up.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long the answer itself is, where it holds a secret: long enough to lose a connection and ask
/// again.
const SECRET_KEPT: Duration = Duration::from_secs(10 * 60);

/// What has been answered, by key.
pub(crate) const ANSWERS: &[u8] = b"i/";
/// How many keys a caller has.
const LIMITS: &[u8] = b"il/";
/// The format of the rows' contents.
const STATE: u32 = 1;

type Hash = [u8; 32];

/// What rests of a key.
#[derive(Serialize, Deserialize)]
struct Record {
    /// Of the request: method, path and body.
    fingerprint: Hash,
    /// `None` where the answer was too long, or holds a secret: then it lies in a row of its own.
    answer: Option<Answer>,
}

/// The keys of all requests.
pub(crate) struct Idempotency {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    limits: IdempotencyLimits,
    /// The fingerprints of the requests that this process works on, by row.
    in_flight: Mutex<HashMap<Vec<u8>, Hash>>,
}

/// A request with a key that nobody has used before. While it lives, its repeats are 409.
#[derive(Clone)]
pub(crate) struct Claim(Arc<Claimed>);

struct Claimed {
    keys: Arc<Idempotency>,
    row: Vec<u8>,
    limit: Vec<u8>,
    fingerprint: Hash,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.keys.in_flight().remove(&self.row);
    }
}

/// What a key was used for, and by whom.
struct Scope<'a> {
    asker: &'a Asker,
    user: Option<&'a [u8]>,
    path: &'a str,
    key: &'a str,
}

impl Idempotency {
    /// Keys that are kept in `store`.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        clock: Arc<dyn Clock>,
        limits: IdempotencyLimits,
    ) -> Arc<Idempotency> {
        Arc::new(Idempotency {
            store,
            keyring,
            clock,
            limits,
            in_flight: Mutex::default(),
        })
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Hash>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims the key for the request whose body is `body`, or says what became of it before.
    async fn claim(
        self: &Arc<Idempotency>,
        scope: Scope<'_>,
        body: &[u8],
    ) -> Result<Claim, Response> {
        let fingerprint =
            self.keyring
                .idempotency_hash(&[b"request", b"POST", scope.path.as_bytes(), body]);
        let claim = self.enter(self.row(&scope), self.limit(scope.asker), fingerprint);
        let claim = claim.map_err(IntoResponse::into_response)?;
        // After it has been entered: whoever has it first and is done by now has left a row.
        match claim.find().await {
            Ok(None) => Ok(claim),
            Ok(Some(response)) => Err(response),
            Err(problem) => Err(problem.into_response()),
        }
    }

    fn row(&self, scope: &Scope<'_>) -> Vec<u8> {
        let (kind, asker) = asker_fields(scope.asker);
        let hash = self.keyring.idempotency_hash(&[
            b"key",
            kind,
            asker,
            if scope.user.is_some() { b"user" } else { b"" },
            scope.user.unwrap_or_default(),
            scope.path.as_bytes(),
            scope.key.as_bytes(),
        ]);
        [ANSWERS, &hash].concat()
    }

    fn limit(&self, asker: &Asker) -> Vec<u8> {
        let (kind, asker) = asker_fields(asker);
        let hash = self.keyring.idempotency_hash(&[b"caller", kind, asker]);
        [LIMITS, &hash].concat()
    }

    fn enter(
        self: &Arc<Idempotency>,
        row: Vec<u8>,
        limit: Vec<u8>,
        fingerprint: Hash,
    ) -> Result<Claim, Problem> {
        let mut in_flight = self.in_flight();
        let full = in_flight.len() >= self.limits.in_flight;
        match in_flight.entry(row) {
            Entry::Occupied(other) if *other.get() != fingerprint => Err(Problem::key_reused()),
            Entry::Occupied(_) => Err(Problem::in_flight()),
            Entry::Vacant(_) if full => Err(Problem::too_many_in_flight()),
            Entry::Vacant(vacant) => {
                let row = vacant.key().clone();
                vacant.insert(fingerprint);
                Ok(Claim(Arc::new(Claimed {
                    keys: self.clone(),
                    row,
                    limit,
                    fingerprint,
                })))
            }
        }
    }
}

impl Claim {
    /// What the call needs to happen once: its verdict is kept as `judge` says.
    pub(super) fn once<R: 'static>(
        &self,
        judge: impl Fn(&R, UnixMillis) -> Judged + Send + Sync + 'static,
    ) -> Once<'static, R> {
        let claim = self.clone();
        Once {
            key: self.0.row.clone(),
            take: Take {
                key: self.0.limit.clone(),
                amount: 1,
                max: self.0.keys.limits.keys_per_day,
                window_ms: u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX),
            },
            rows: Box::new(move |verdict, now| match judge(verdict, now) {
                Ok(answer) => claim.rows(answer, now),
                Err(_) => Ok(Vec::new()),
            }),
        }
    }

    fn rows(&self, answer: Answer, now: UnixMillis) -> Result<Vec<(Vec<u8>, Section)>, StoreError> {
        let mut rows = Vec::new();
        let fits = answer.body_bytes() <= ANSWER_BYTES_MAX;
        if fits && answer.secret {
            let row = self.secret_row();
            let section = self.sealed(&row, &answer, now + SECRET_KEPT)?;
            rows.push((row, section));
        }
        let record = Record {
            fingerprint: self.0.fingerprint,
            answer: (fits && !answer.secret).then_some(answer),
        };
        let section = self.sealed(&self.0.row, &record, now + KEPT)?;
        rows.push((self.0.row.clone(), section));
        Ok(rows)
    }

    fn secret_row(&self) -> Vec<u8> {
        [&self.0.row, b"/answer".as_slice()].concat()
    }

    fn sealed(
        &self,
        row: &[u8],
        value: &impl Serialize,
        expires: UnixMillis,
    ) -> Result<Section, StoreError> {
        // Serialising plain data into a `Vec` cannot fail.
        let plain = postcard::to_allocvec(value).unwrap_or_default();
        let sealed = self.0.keys.keyring.seal(row, &plain);
        Ok(Section {
            state: STATE,
            expires: Some(expires),
            value: sealed.map_err(|error| StoreError::Failed(error.to_string()))?,
        })
    }

    /// What is to be answered to a request that has happened before; `None` where it has not.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub(super) async fn find(&self) -> Result<Option<Response>, Problem> {
        let keys = &self.0.keys;
        let now = keys.clock.now().max(keys.store.newest_instant());
        let mut run = Transaction::new(keys.store.clone(), now, Rulings::default());
        let Some(record) = self.read::<Record>(&mut run, &self.0.row).await? else {
            return Ok(None);
        };
        if record.fingerprint != self.0.fingerprint {
            return Ok(Some(Problem::key_reused().into_response()));
        }
        let answer = match record.answer {
            Some(answer) => Some(answer),
            None => self.read::<Answer>(&mut run, &self.secret_row()).await?,
        };
        // Another process may have written it a moment ago.
        keys.store.settle().await?;
        Ok(Some(match answer {
            Some(answer) => {
                let mut response = answer.into_response();
                let replayed = HeaderValue::from_static("true");
                response.headers_mut().insert(REPLAYED, replayed);
                response
            }
            None => Problem::already_done().into_response(),
        }))
    }

    async fn read<T: DeserializeOwned>(
        &self,
        run: &mut Transaction,
        row: &[u8],
    ) -> Result<Option<T>, StoreError> {
        let section = run.host(row).await.map_err(|error| match error {
            TransactionError::Store(error) => error,
            TransactionError::Misuse(text) => StoreError::Failed(text),
        })?;
        let Some(section) = section else {
            return Ok(None);
        };
        let plain = self.0.keys.keyring.unseal(row, &section.value).ok();
        let read = plain.filter(|_| section.state == STATE);
        let read = read.and_then(|plain| postcard::from_bytes(&plain).ok());
        // Not answered, rather than done a second time.
        read.map(Some).ok_or_else(|| StoreError::Unreadable {
            key: "i/".to_owned(),
        })
    }
}

fn asker_fields(asker: &Asker) -> (&'static [u8], &[u8]) {
    match asker {
        Asker::Application(Caller::Anonymous) => (b"anonymous", b""),
        Asker::Application(Caller::Key(id)) => (b"key", id.as_bytes()),
        Asker::User(token) => (b"token", &token.id),
        // Nobody who asks over HTTP is either.
        Asker::Application(Caller::Token(id)) => (b"caller token", id.as_bytes()),
        Asker::Application(Caller::Operator) => (b"operator", b""),
    }
}

/// Reads the body of a `POST` with a key, and lets it pass with a [`Claim`] or answers it.
pub(super) async fn claim(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || Part::of(request.uri()) != Part::Api {
        return next.run(request).await;
    }
    let (mut parts, unread) = request.into_parts();
    let key = match header(&parts.headers) {
        Ok(None) => return next.run(Request::from_parts(parts, unread)).await,
        Ok(Some(key)) => key,
        Err(problem) => return body::refuse(&parts, unread, problem).await,
    };
    // The gate has put it in.
    let Some(asker) = parts.extensions.get::<Asker>().cloned() else {
        tracing::error!("a request came past the gate");
        return Problem::internal().into_response();
    };
    let http = &api.http;
    let read = body::read(&parts.headers, unread, http.body_bytes_max, http.body_time);
    let bytes = match read.await {
        Ok(bytes) => bytes,
        Err(problem) => return problem.into_response(),
    };
    let scope = Scope {
        asker: &asker,
        user: parts.headers.get(USER).map(HeaderValue::as_bytes),
        path: parts.uri.path(),
        key: &key,
    };
    match api.idempotency.claim(scope, &bytes).await {
        Ok(claim) => {
            parts.extensions.insert(claim);
            next.run(Request::from_parts(parts, Body::from(bytes)))
                .await
        }
        Err(response) => response,
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
