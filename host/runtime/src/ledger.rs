//! What has happened already: requests by the keys that their clients gave them, and their answers.
//!
//! An answer is written in the commit of the call itself ([`Once`](crate::Once)), so a crash leaves
//! both or neither: there is no claim that could outlive its process, and no lease. Requests with one
//! key that run at the same time, here or in another process, make each other's runs stale, and the
//! later one finds the earlier one's answer. The table of what is in flight only lets this process say
//! so at once, before a repeat would wait for its subject; nothing depends on it.
//!
//! A request uses its key up when it has changed something and has an answer. What ends it before its
//! call, what ends it without a commit, a verdict that changes nothing, and one that is no answer leave the
//! key free.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_store::{Keyring, Rulings, Section, Store, StoreError, Take, Transaction};
use countersign_types::{Clock, UnixMillis};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longer answers are not kept, only that there was one. Those of today have some 200 bytes; a row of a
/// component may have 32 KiB.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// How long a key is remembered. A client that has tried for a day has given up.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long the answer itself is, where it holds a secret: long enough to lose a connection and ask
/// again.
const SECRET_KEPT: Duration = Duration::from_secs(10 * 60);

/// How many keys a caller has.
const LIMITS: &[u8] = b"il/";
/// The format of the rows' contents.
const STATE: u32 = 2;

type Hash = [u8; 32];

/// Bounds of requests with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerLimits {
    /// How many keys a caller may use up in 24 hours.
    pub keys_per_day: u64,
    /// How many requests with keys this process works on at once.
    pub in_flight: usize,
}

/// Where a key counts: in another place it is another key.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Who asks: what kind of asker, and which of them. Nobody sees another's keys.
    pub asker: (&'a [u8], &'a [u8]),
    /// The user for whom is asked.
    pub user: Option<&'a [u8]>,
    /// The path that is asked for, all of it: what stands in it tells requests apart.
    pub path: &'a str,
    /// What the client calls its request.
    pub key: &'a str,
}

/// An answer as it is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// What gives the answer again; more than 16 KiB are not kept.
    pub bytes: Vec<u8>,
    /// Whether it holds what nobody may read twice for long, such as backup codes: then it is kept for
    /// 10 minutes, and after that only that it was given.
    pub secret: bool,
}

/// What became of a request whose key was used before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It has happened.
    Answer {
        /// Its answer as it was kept.
        bytes: Vec<u8>,
        /// The instant of looking.
        now: UnixMillis,
    },
    /// It has happened, and its answer is not kept, or no longer.
    Done,
    /// The key belongs to another request.
    Other,
}

/// Why a request must not be carried out now.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Its key was used before.
    #[error("the key was used before")]
    Used(Found),
    /// Another request with the key runs at this moment.
    #[error("another request with the key is being worked on")]
    OtherInFlight,
    /// The same request runs at this moment.
    #[error("the same request is being worked on")]
    InFlight,
    /// So many requests with keys run that no more are remembered.
    #[error("too many requests with keys are being worked on")]
    TooMany,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What rests of a key.
#[derive(Serialize, Deserialize)]
struct Record {
    /// Of the request.
    fingerprint: Hash,
    /// `None` where the answer was too long, or holds a secret: then it lies in a row of its own.
    answer: Option<Vec<u8>>,
}

/// The keys of all requests.
pub struct Ledger {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    limits: LedgerLimits,
    /// The fingerprints of the requests that this process works on, by row.
    in_flight: Mutex<HashMap<Vec<u8>, Hash>>,
}

/// A request with a key that is free. While it lives, its repeats are refused here.
#[derive(Clone)]
pub struct Claim(Arc<Claimed>);

struct Claimed {
    ledger: Arc<Ledger>,
    row: Vec<u8>,
    limit: Vec<u8>,
    fingerprint: Hash,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.ledger.in_flight().remove(&self.row);
    }
}

impl Ledger {
    /// Where it lies what has been answered, by key.
    pub const ANSWERS: &'static [u8] = b"i/";

    /// Keys that are kept in `store`.
    pub fn new(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        clock: Arc<dyn Clock>,
        limits: LedgerLimits,
    ) -> Arc<Ledger> {
        Arc::new(Ledger {
            store,
            keyring,
            clock,
            limits,
            in_flight: Mutex::default(),
        })
    }

    /// Claims a key for `request`: all that makes it the same request when it comes again.
    ///
    /// # Errors
    ///
    /// See [`ClaimError`].
    pub async fn claim(
        self: &Arc<Ledger>,
        scope: Scope<'_>,
        request: &[&[u8]],
    ) -> Result<Claim, ClaimError> {
        let fields = [&[b"request".as_slice()], request].concat();
        let fingerprint = self.keyring.idempotency_hash(&fields);
        let claim = self.enter(self.row(&scope), self.limit(&scope), fingerprint)?;
        // After it has been entered: whoever has it first and is done by now has left a row.
        match claim.find().await? {
            None => Ok(claim),
            Some(found) => Err(ClaimError::Used(found)),
        }
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Hash>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn row(&self, scope: &Scope<'_>) -> Vec<u8> {
        let (kind, asker) = scope.asker;
        let hash = self.keyring.idempotency_hash(&[
            b"key",
            kind,
            asker,
            if scope.user.is_some() { b"user" } else { b"" },
            scope.user.unwrap_or_default(),
            scope.path.as_bytes(),
            scope.key.as_bytes(),
        ]);
        [Ledger::ANSWERS, &hash].concat()
    }

    fn limit(&self, scope: &Scope<'_>) -> Vec<u8> {
        let (kind, asker) = scope.asker;
        let hash = self.keyring.idempotency_hash(&[b"caller", kind, asker]);
        [LIMITS, &hash].concat()
    }

    fn enter(
        self: &Arc<Ledger>,
        row: Vec<u8>,
        limit: Vec<u8>,
        fingerprint: Hash,
    ) -> Result<Claim, ClaimError> {
        let mut in_flight = self.in_flight();
        let full = in_flight.len() >= self.limits.in_flight;
        match in_flight.entry(row) {
            Entry::Occupied(other) if *other.get() != fingerprint => Err(ClaimError::OtherInFlight),
            Entry::Occupied(_) => Err(ClaimError::InFlight),
            Entry::Vacant(_) if full => Err(ClaimError::TooMany),
            Entry::Vacant(vacant) => {
                let row = vacant.key().clone();
                vacant.insert(fingerprint);
                Ok(Claim(Arc::new(Claimed {
                    ledger: self.clone(),
                    row,
                    limit,
                    fingerprint,
                })))
            }
        }
    }
}

impl Claim {
    /// The row whose host section says that the request has happened.
    pub(crate) fn row(&self) -> &[u8] {
        &self.0.row
    }

    /// What each request that happens takes from: a bound on how many such rows there are.
    pub(crate) fn take(&self) -> Take {
        Take {
            key: self.0.limit.clone(),
            amount: 1,
            max: self.0.ledger.limits.keys_per_day,
            window_ms: u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// What says that the request has happened at `now`, and was answered so.
    pub(crate) fn rows(
        &self,
        answer: KeptAnswer,
        now: UnixMillis,
    ) -> Result<Vec<(Vec<u8>, Section)>, StoreError> {
        let mut rows = Vec::new();
        let KeptAnswer { bytes, secret } = answer;
        let mut kept = (bytes.len() <= ANSWER_BYTES_MAX).then_some(bytes);
        if secret && let Some(bytes) = kept.take() {
            let row = self.secret_row();
            let section = self.sealed(&row, &bytes, now + SECRET_KEPT)?;
            rows.push((row, section));
        }
        let record = Record {
            fingerprint: self.0.fingerprint,
            answer: kept,
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
        let sealed = self.0.ledger.keyring.seal(row, &plain);
        Ok(Section {
            state: STATE,
            expires: Some(expires),
            value: sealed.map_err(|error| StoreError::Failed(error.to_string()))?,
        })
    }

    /// What is known of the request; `None` where it has not happened. Returns when that is durable.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn find(&self) -> Result<Option<Found>, StoreError> {
        let ledger = &self.0.ledger;
        let now = ledger.clock.now().max(ledger.store.newest_instant());
        let mut run = Transaction::new(ledger.store.clone(), now, Rulings::default());
        let Some(record) = self.read::<Record>(&mut run, &self.0.row).await? else {
            return Ok(None);
        };
        if record.fingerprint != self.0.fingerprint {
            return Ok(Some(Found::Other));
        }
        let bytes = match record.answer {
            Some(bytes) => Some(bytes),
            None => self.read(&mut run, &self.secret_row()).await?,
        };
        // Another process may have written it a moment ago.
        ledger.store.settle().await?;
        Ok(Some(match bytes {
            Some(bytes) => Found::Answer { bytes, now },
            None => Found::Done,
        }))
    }

    async fn read<T: DeserializeOwned>(
        &self,
        run: &mut Transaction,
        row: &[u8],
    ) -> Result<Option<T>, StoreError> {
        let Some(section) = run.host(row).await.map_err(StoreError::from)? else {
            return Ok(None);
        };
        let plain = self.0.ledger.keyring.unseal(row, &section.value).ok();
        let read = plain.filter(|_| section.state == STATE);
        let read = read.and_then(|plain| postcard::from_bytes(&plain).ok());
        // Not answered, rather than done a second time.
        read.map(Some).ok_or_else(|| StoreError::Unreadable {
            key: "i/".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
