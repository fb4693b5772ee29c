//! The dry run of a service: its calls, on rows that nobody keeps.
//!
//! It runs in an instance like any other, with the host's real functions behind its imports, over a store
//! in memory. Nothing that it writes or wants sent reaches anything else.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use countersign_queue::{Queue, QueueConfig};
use countersign_store::committer::{Committer, Group, Rows};
use countersign_store::{Commit, CommitError, Committed, Hold, Row, Scanned, Store, StoreError};
use countersign_types::UnixMillis;
use tokio::sync::{RwLock, watch};

use super::ready::Ready;
use crate::{
    Authority, CallContext, CallError, Caller, EnableRequest, Runtime, SendRequest, UserId,
    VerifyRequest, figures,
};

/// A number that exists as far as libphonenumber knows, and that nobody can have: it is kept for
/// fiction.
const PHONE: &str = "+12025550123";
const HOUR_MS: u64 = 3_600_000;
/// Of the right form, and as likely as any other.
const CODE: &str = "000000";

/// Calls what `ready` is for; nothing is asked of its verdicts but that there are some.
///
/// # Errors
///
/// What went wrong, for people.
pub(super) async fn dry_run(runtime: &Runtime, ready: &Ready) -> Result<(), String> {
    let runtime = aside_of(runtime, ready)
        .await
        .map_err(|error| error.to_string())?;
    let context = CallContext {
        service: "default".to_owned(),
        caller: Caller::Operator,
        client_address: None,
    };
    let outcome = match ready {
        Ready::Otp(_) => otp(&runtime, &context).await,
        Ready::TwoFactor(_) => two_factor(&runtime, &context).await,
        Ready::Analytics(_) => analytics(&runtime).await,
        Ready::Providers(_) => Ok(()),
    };
    outcome.map_err(|error| match error {
        CallError::Component {
            component, reason, ..
        } => format!("`{component}`: {reason}"),
        error => error.to_string(),
    })
}

/// A runtime like `runtime`, over a store of its own, where `ready` is live.
async fn aside_of(runtime: &Runtime, ready: &Ready) -> Result<Runtime, StoreError> {
    let store: Arc<dyn Store> = Arc::new(Scratch::new()?);
    let host = &runtime.host;
    let config = QueueConfig {
        lanes: Arc::new(vec![Arc::<str>::from("self-test")]),
        ..QueueConfig::default()
    };
    let (clock, entropy) = (host.clock.clone(), host.entropy.clone());
    let queue = Queue::open(store.clone(), host.keyring.clone(), clock.clone(), config).await?;
    let scratch = runtime.again(store, queue, clock, entropy);
    ready.again(&scratch.host).put(&scratch.live, false);
    Ok(scratch)
}

async fn otp(runtime: &Runtime, context: &CallContext) -> Result<(), CallError> {
    let request = SendRequest {
        phone: PHONE.to_owned(),
        ..SendRequest::default()
    };
    runtime.otp_send(context, request, None).await?;
    let request = VerifyRequest {
        phone: PHONE.to_owned(),
        code: CODE.to_owned(),
        ..VerifyRequest::default()
    };
    runtime.otp_verify(context, request, None).await?;
    Ok(())
}

async fn two_factor(runtime: &Runtime, context: &CallContext) -> Result<(), CallError> {
    let Ok(user) = "self-test".parse::<UserId>() else {
        return Ok(());
    };
    runtime.two_factor_status(context, &user).await?;
    let request = EnableRequest {
        authority: Authority::Application,
        phone: PHONE.to_owned(),
        locale: None,
        proof: None,
    };
    runtime
        .two_factor_enable(context, &user, request, None)
        .await?;
    runtime.two_factor_status(context, &user).await?;
    Ok(())
}

async fn analytics(runtime: &Runtime) -> Result<(), CallError> {
    runtime.fold(None).await?;
    // The present hour.
    let start = runtime.now().0 / HOUR_MS * HOUR_MS;
    let query = figures::Query {
        start,
        end: start + HOUR_MS,
        interval: figures::Interval::Hour,
        country: None,
        provider: None,
    };
    runtime.dashboard(&query).await?;
    Ok(())
}

type Map = Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>;

/// Rows in memory.
#[derive(Clone, Default)]
struct Memory(Map);

impl Rows for Memory {
    type Bytes = Vec<u8>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(rows.get(key).cloned())
    }

    fn range<'a>(
        &'a self,
        range: (Bound<&'a [u8]>, Bound<&'a [u8]>),
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + 'a {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = rows.range::<[u8], _>(range);
        let found: Vec<_> = found
            .map(|(key, row)| Ok((key.clone(), row.clone())))
            .collect();
        found.into_iter()
    }
}

/// A store in memory, judged by the committer that judges the real one.
struct Scratch {
    rows: Memory,
    committer: Mutex<Committer<Memory>>,
    gate: RwLock<()>,
    newest_event: watch::Sender<u64>,
}

impl Scratch {
    fn new() -> Result<Scratch, StoreError> {
        let rows = Memory::default();
        Ok(Scratch {
            committer: Mutex::new(Committer::open(rows.clone(), false)?),
            rows,
            gate: RwLock::default(),
            newest_event: watch::Sender::default(),
        })
    }

    fn committer(&self) -> std::sync::MutexGuard<'_, Committer<Memory>> {
        self.committer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies what `judge` adds to a group.
    fn apply<T, E>(
        &self,
        judge: impl FnOnce(&mut Committer<Memory>, &mut Group) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut committer = self.committer();
        let mut group = Group::default();
        let judged = judge(&mut committer, &mut group)?;
        let batch = committer.batch(group);
        let mut rows = self.rows.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, row) in batch {
            match row {
                Some(row) => rows.insert(key, row),
                None => rows.remove(&key),
            };
        }
        self.newest_event.send_replace(committer.newest_event());
        Ok(judged)
    }
}

#[async_trait]
impl Store for Scratch {
    async fn get(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        let row = self.rows.get(key)?;
        row.map(|row| Row::from_bytes(key, &row)).transpose()
    }

    async fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Scanned>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let found = self
            .rows
            .range((Bound::Included(from), Bound::Excluded(to)));
        let mut rows = Vec::new();
        for found in found.take(limit) {
            let (key, row) = found?;
            let row = Row::from_bytes(&key, &row);
            rows.push((key, row));
        }
        Ok(rows)
    }

    async fn scan_back(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Scanned>, StoreError> {
        // All of them: what a dry run leaves is little.
        let mut rows = self.scan(from, to, usize::MAX).await?;
        rows.reverse();
        rows.truncate(limit);
        Ok(rows)
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let _gate = self.gate.write().await;
        self.apply(|committer, group| committer.admit(group, commit))
    }

    async fn hold(&self) -> Hold<'_> {
        self.gate.read().await
    }

    async fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn newest_instant(&self) -> UnixMillis {
        self.committer().newest_instant()
    }

    fn step_back(&self, instant: UnixMillis) {
        self.committer().set_newest_instant(instant);
    }

    async fn await_events(&self, position: u64) {
        let mut newest = self.newest_event.subscribe();
        // The sender lives as long as the store.
        let _ = newest.wait_for(|newest| *newest > position).await;
    }

    async fn sweep(&self, now: UnixMillis) -> Result<bool, StoreError> {
        let _gate = self.gate.write().await;
        self.apply(|committer, group| committer.sweep(group, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_store_of_a_dry_run_is_one_like_any_other() {
        countersign_store::conformance::all(|| {
            let store: Arc<dyn Store> = Arc::new(Scratch::new().expect("opened"));
            std::future::ready(store)
        })
        .await;
    }
}
