//! Receipts that come before the answer of their provider.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use countersign_store::{Commit, CommitError, Committed, Hold, Row, Scanned, Store, StoreError};

use super::*;
use crate::Queue;
use crate::rows::JOBS;

#[tokio::test]
async fn of_many_early_receipts_the_best_counts_and_the_first_price() {
    let bench = Bench::new().await;
    let id = bench.add(job()).await;
    let claim = bench.claim().await;
    for segments in 1..=20 {
        let news = StatusUpdate {
            segments: Some(segments),
            ..update("SM1", Status::Sent)
        };
        bench.receive(&[news]).await;
    }
    let mut failed = update("SM1", Status::Undelivered);
    failed.price = Some(price("0.0079"));
    let mut delivered = update("SM1", Status::Delivered);
    delivered.price = Some(price("0.5"));
    for news in [failed, delivered, update("SM1", Status::Unknown)] {
        bench.receive(&[news]).await;
    }
    assert!(bench.finish(claim, sent(&["SM1"])).await);
    assert_eq!(bench.status(id).await, Status::Delivered);
    let sent = bench.taken(id).await;
    assert_eq!(sent.price, Some(price("0.0079")));
    assert_eq!(bench.kinds().await, ["message.sent", "message.delivered"]);
}

#[tokio::test]
async fn an_early_receipt_that_says_nothing_new_costs_no_row() {
    let bench = Bench::new().await;
    let row_key = receipt_key(&bench.keyring, "p", "SM1");
    let version = async || {
        let row = bench.store.get(&row_key).await.expect("read");
        row.expect("kept").version
    };
    let news = |n| StatusUpdate {
        segments: Some(n),
        ..update("SM1", Status::Delivered)
    };
    for n in 1..=8 {
        bench.receive(&[news(n)]).await;
    }
    let before = version().await;
    for n in 1..=20 {
        let received = bench.receive(&[news(n)]).await;
        assert_eq!(received.early, 1);
    }
    assert_eq!(version().await, before);
    bench.receive(&[update("SM1", Status::Read)]).await;
    assert!(version().await > before);
}

#[tokio::test]
async fn an_early_receipt_that_ends_while_its_message_is_recorded_keeps_it_from_nothing() {
    let bench = Bench::new().await;
    bench.receive(&[update("SM1", Status::Delivered)]).await;
    let id = bench.add(job()).await;
    let claim = bench.claim().await;
    let end = NOW + EARLY_KEPT;
    // Somebody's commit is of a later time than what the provider has answered at.
    let noted = bench.queue.note_follower(&[], end).await;
    noted.expect("noted");
    let just_before = UnixMillis(end.0 - 1);
    let finished = bench.queue.finish(claim, sent(&["SM1"]), just_before).await;
    assert!(finished.expect("stored"));
    assert_eq!(bench.status(id).await, Status::Sent);
}

/// A store on which one more receipt comes each time before certain commits.
struct Overtaken {
    inner: Arc<dyn Store>,
    others: Queue,
    news: Mutex<VecDeque<StatusUpdate>>,
    before: fn(&Commit) -> bool,
}

impl Overtaken {
    async fn of(
        bench: &Bench,
        news: VecDeque<StatusUpdate>,
        before: fn(&Commit) -> bool,
    ) -> (Arc<Overtaken>, Queue) {
        let store = Arc::new(Overtaken {
            inner: bench.store.clone(),
            others: bench.reopened().await,
            news: Mutex::new(news),
            before,
        });
        let config = bench.queue.inner.config.clone();
        let (keyring, clock) = (bench.keyring.clone(), bench.clock.clone());
        let queue = Queue::open(store.clone(), keyring, clock, config).await;
        (store, queue.expect("opened"))
    }
}

/// Whether it records a message as sent.
fn takes_a_job(commit: &Commit) -> bool {
    let mut writes = commit.writes.iter();
    writes.any(|write| write.key.starts_with(JOBS) && write.body.is_none())
}

#[async_trait]
impl Store for Overtaken {
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
        if (self.before)(&commit) {
            let news = self.news.lock().expect("unlocked").pop_front();
            if let Some(news) = news {
                let received = self.others.receive("p", &[news], NOW).await;
                assert_eq!(received.expect("received").early, 1);
            }
        }
        self.inner.commit(commit).await
    }
    async fn hold(&self) -> Hold<'_> {
        self.inner.hold().await
    }
    async fn settle(&self) -> Result<(), StoreError> {
        self.inner.settle().await
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

/// It would be sent once more otherwise.
#[tokio::test]
async fn a_message_is_recorded_as_sent_however_many_receipts_come_in_between() {
    let bench = Bench::new().await;
    let id = bench.add(job()).await;
    // As many different ones as can be kept, the best first, for each of two parts.
    let statuses = [Status::Read, Status::Delivered, Status::Sent];
    let news: VecDeque<_> = (0..8)
        .flat_map(|n| {
            ["a", "b"].map(|part| StatusUpdate {
                segments: Some(n),
                ..update(part, statuses[n.min(2) as usize])
            })
        })
        .collect();
    assert_eq!(news.len(), 16);
    let (store, queue) = Overtaken::of(&bench, news, takes_a_job).await;
    let claim = queue.next(&crate::Open).await.expect("taken").claim;
    let finished = queue.finish(claim, sent(&["a", "b"]), NOW).await;
    assert!(finished.expect("stored"));
    assert!(store.news.lock().expect("unlocked").is_empty());
    assert_eq!(queue.depth(), 0);
    assert_eq!(bench.status(id).await, Status::Read);
    assert_eq!(bench.kinds().await, ["message.sent", "message.read"]);
}

impl Bench {
    /// For how many ids more receipts may wait.
    pub(super) fn early_room(&self) -> usize {
        self.queue.early_count().room(self.now())
    }
}

#[tokio::test]
async fn an_id_counts_once_however_often_its_receipts_come_and_are_worked_out_anew() {
    let bench = Bench::new().await;
    let news = update("SM1", Status::Delivered);
    let (store, queue) = Overtaken::of(&bench, [news.clone()].into(), |_| true).await;
    // Somebody else's commit makes the first try stale.
    let both = [news.clone(), update("SM2", Status::Delivered)];
    let received = queue.receive("p", &both, NOW).await.expect("received");
    assert_eq!((received.early, received.dropped), (2, 0));
    assert!(store.news.lock().expect("unlocked").is_empty());
    // The first was there by then, and is the other's.
    assert_eq!(queue.early_count().room(NOW), EARLY_IDS_MAX - 1);
    for status in [Status::Delivered, Status::Read] {
        let again = update("SM2", status);
        queue.receive("p", &[again], NOW).await.expect("received");
    }
    assert_eq!(queue.early_count().room(NOW), EARLY_IDS_MAX - 1);
}

#[tokio::test]
async fn where_as_many_ids_wait_as_may_further_ones_are_dropped_and_counted_for_an_hour() {
    let bench = Bench::new().await;
    let id = bench.sent(&["SM1"]).await;
    assert_eq!(bench.early_room(), EARLY_IDS_MAX);
    bench.queue.early_count().add(EARLY_IDS_MAX - 1);
    let delivered = ["SM2", "SM3", "SM4", "SM1"].map(|id| update(id, Status::Delivered));
    for changed in [1, 0] {
        let received = bench.receive(&delivered).await;
        let want = Received {
            changed,
            early: 1,
            dropped: 2,
        };
        assert_eq!(received, want);
    }
    assert_eq!(bench.status(id).await, Status::Delivered);
    bench.clock.advance(EARLY_KEPT);
    let received = bench.receive(&delivered[1..]).await;
    assert_eq!((received.early, received.dropped), (2, 0));
    assert_eq!(bench.early_room(), EARLY_IDS_MAX - 2);
}
