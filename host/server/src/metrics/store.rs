//! A store whose commits are counted, with the events in them.

use std::sync::Arc;

use async_trait::async_trait;
use countersign_store::{
    Commit, CommitError, Committed, Hold, Need, Row, Scanned, Store, StoreError,
};
use countersign_types::{Counter, Histogram, UnixMillis};
use tokio::time::Instant;

use super::events::Tally;
use super::{Labels, Metrics, Page, label};

/// Microseconds.
const COMMIT_TIMES: &[u64] = &[
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];

/// How commits end.
const OUTCOMES: [&str; 7] = [
    "written",
    "read-only",
    "stale",
    "limit",
    "misuse",
    "disk-full",
    "failed",
];

fn outcome(ended: &Result<Committed, CommitError>) -> usize {
    match ended {
        Ok(committed) if committed.version.is_some() => 0,
        Ok(_) => 1,
        Err(CommitError::Stale) => 2,
        Err(CommitError::NoRoom { .. }) => 3,
        Err(CommitError::NotASum { .. } | CommitError::NotALimit { .. }) => 4,
        Err(CommitError::Full) => 5,
        Err(CommitError::Store(_)) => 6,
    }
}

#[derive(Debug)]
pub(super) struct Commits {
    outcomes: [Counter; OUTCOMES.len()],
    times: Histogram,
}

impl Commits {
    pub(super) fn new() -> Commits {
        Commits {
            outcomes: Default::default(),
            times: Histogram::new(COMMIT_TIMES),
        }
    }

    pub(super) fn add_to(&self, page: &mut Page) {
        page.counter(
            "countersign_store_commits",
            "Commits, by how they ended; read-only ones wrote nothing and were found valid.",
            OUTCOMES
                .iter()
                .zip(&self.outcomes)
                .map(|(outcome, count)| (vec![label("outcome", outcome)], count.value())),
        );
        page.seconds_histogram(
            "countersign_store_commit_duration",
            "How long it took until a commit that holds was durable, with the wait for its group.",
            [(Labels::new(), self.times.spread())],
        );
    }
}

/// Counts what is committed through it. A commit that does not hold counts none of its events.
pub(super) struct Measured {
    inner: Arc<dyn Store>,
    metrics: Arc<Metrics>,
}

impl Measured {
    pub(super) fn new(inner: Arc<dyn Store>, metrics: Arc<Metrics>) -> Measured {
        Measured { inner, metrics }
    }
}

#[async_trait]
impl Store for Measured {
    async fn get(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        self.inner.get(key).await
    }

    async fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Scanned>, StoreError> {
        self.inner.scan(from, to, limit).await
    }

    async fn scan_back(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Scanned>, StoreError> {
        self.inner.scan_back(from, to, limit).await
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let Metrics {
            events, commits, ..
        } = &*self.metrics;
        let read = commit.events.iter().map(|event| events.read(event));
        let tallies: Vec<Tally> = read.collect();
        let began = Instant::now();
        let ended = self.inner.commit(commit).await;
        commits.outcomes[outcome(&ended)].add_one();
        if ended.is_ok() {
            commits.times.record_time(began.elapsed());
            tallies.into_iter().for_each(|tally| events.count(tally));
        }
        ended
    }

    async fn hold(&self) -> Hold<'_> {
        self.inner.hold().await
    }

    async fn settle(&self) -> Result<(), StoreError> {
        self.inner.settle().await
    }

    fn has_room(&self, need: Need) -> bool {
        self.inner.has_room(need)
    }

    fn newest_instant(&self) -> UnixMillis {
        self.inner.newest_instant()
    }

    fn step_back(&self, instant: UnixMillis) {
        self.inner.step_back(instant);
    }

    async fn await_events(&self, position: u64) {
        self.inner.await_events(position).await;
    }

    async fn sweep(&self, now: UnixMillis) -> Result<bool, StoreError> {
        self.inner.sweep(now).await
    }
}

#[cfg(test)]
mod tests {
    use countersign_store::{Body, Ending, Read, Rulings, Section, Sections, Transaction, Write};
    use countersign_types::Event;

    use super::*;
    use crate::testing::store;

    fn approved() -> Vec<u8> {
        let event = Event {
            kind: "verification.approved".to_owned(),
            at: UnixMillis(1),
            service: "default".to_owned(),
            source: "otp".to_owned(),
            message: None,
            country: Some("US".to_owned()),
            attributes: Vec::new(),
        };
        postcard::to_allocvec(&event).expect("plain data")
    }

    fn commit(seen: Option<u64>) -> Commit {
        let section = Section {
            state: 1,
            expires: None,
            value: b"x".to_vec(),
        };
        let body = Body::Sections(Sections {
            service: None,
            host: Some(section),
        });
        Commit {
            instant: UnixMillis(1),
            reads: vec![Read {
                key: b"k".to_vec(),
                version: seen,
                until: None,
            }],
            writes: vec![Write {
                key: b"k".to_vec(),
                body: Some(body),
            }],
            events: vec![approved(), b"another".to_vec()],
            ..Commit::default()
        }
    }

    #[tokio::test]
    async fn what_did_not_hold_counts_nothing_and_what_did_counts_once() {
        let (_folder, inner) = store();
        let metrics = Metrics::new(Vec::new(), UnixMillis(0));
        let store = metrics.watch(inner);
        let first = store.commit(commit(None)).await.expect("it holds");
        // The same again: whoever else has read nothing there is stale now.
        let stale = store.commit(commit(None)).await;
        assert!(matches!(stale, Err(CommitError::Stale)), "{stale:?}");
        let again = store.commit(commit(first.version)).await;
        again.expect("its second run holds");
        let reading = Transaction::new(store.clone(), UnixMillis(1), Rulings::default());
        let reading = store.commit(reading.into_commit(Ending::Commit)).await;
        reading.expect("nothing has changed");
        let mut page = Page::default();
        metrics.add_to(&mut page);
        let text = page.text().expect("written");
        for line in [
            "countersign_events_total 4",
            r#"countersign_verifications_total{verdict="approved",reason="none"} 2"#,
            r#"countersign_store_commits_total{outcome="written"} 2"#,
            r#"countersign_store_commits_total{outcome="read-only"} 1"#,
            r#"countersign_store_commits_total{outcome="stale"} 1"#,
            "countersign_store_commit_duration_seconds_count 3",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }
}
