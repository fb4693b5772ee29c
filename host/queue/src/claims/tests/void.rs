//! Claims that are void: somebody else has changed the job's row, or it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use countersign_store::{Committed, Hold, Row, Scanned, Store};
use countersign_types::ErrorClass;
use tokio::sync::Semaphore;

use super::super::*;
use crate::testing::{Bench, NOW, attempt, failed, job, sent};

/// What another host on the same store has made of the job meanwhile.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    /// It failed there and waits again.
    Failed,
    /// It has ended there.
    Ended,
}

/// A claim whose job another host has worked on since, and that is not known to be lost here.
async fn overtaken(meanwhile: Meanwhile) -> (Bench, Claim) {
    let bench = Bench::new().await;
    bench.add(job()).await;
    let claim = bench.claim().await;
    let other = bench.reopened().await;
    let theirs = other.next(&Open).await.expect("taken").claim;
    let finish = match meanwhile {
        Meanwhile::Failed => again(),
        Meanwhile::Ended => sent(&["THEIRS"]),
    };
    let held = other.finish(theirs, finish, NOW).await;
    assert!(held.expect("finished"));
    (bench, claim)
}

fn again() -> Finish {
    Finish::Retry {
        at: NOW,
        provider: "p".into(),
        error: failed(ErrorClass::Retryable),
        due: NOW,
    }
}

fn over(status: Status) -> Finish {
    Finish::Over {
        status,
        attempt: Some(attempt(0, failed(ErrorClass::Permanent))),
        reason: None,
    }
}

/// The job is not lost to this host: it waits, as its row is now, or is over.
async fn check_left(bench: &Bench, meanwhile: Meanwhile, what: &str) {
    match meanwhile {
        Meanwhile::Failed => {
            assert_eq!(bench.queue.depth(), 1, "{what}");
            let claim = bench.claim().await;
            assert_eq!(claim.job.attempts.len(), 1, "{what}: theirs alone");
            assert!(bench.finish(claim, sent(&["SM1"])).await, "{what}");
        }
        Meanwhile::Ended => assert_eq!(bench.queue.depth(), 0, "{what}"),
    }
    let overview = bench.queue.overview(bench.now());
    assert_eq!((overview.waiting, overview.claimed), (0, 0), "{what}");
    assert_eq!(overview.dead, 0, "{what}");
}

#[tokio::test]
async fn whatever_a_void_claim_ends_with_changes_nothing_and_its_job_is_left_as_it_is() {
    let ends = [
        again(),
        sent(&["MINE"]),
        over(Status::Failed),
        over(Status::Expired),
    ];
    for meanwhile in [Meanwhile::Failed, Meanwhile::Ended] {
        for end in &ends {
            let what = format!("{meanwhile:?}, then {end:?}");
            let (bench, claim) = overtaken(meanwhile).await;
            let before = bench.kinds().await;
            assert!(!bench.finish(claim, end.clone()).await, "{what}");
            assert_eq!(bench.kinds().await, before, "{what}");
            check_left(&bench, meanwhile, &what).await;
        }
    }
}

#[tokio::test]
async fn a_void_claim_begins_no_try() {
    for meanwhile in [Meanwhile::Failed, Meanwhile::Ended] {
        let (bench, mut claim) = overtaken(meanwhile).await;
        let begun = bench.queue.begin(&mut claim, NOW, "p").await;
        assert!(!begun.expect("asked"), "{meanwhile:?}");
        check_left(&bench, meanwhile, "begun").await;
    }
}

/// It is the job's row that counts, not the one of the message: a receipt may write that meanwhile.
#[tokio::test]
async fn a_claim_whose_job_was_replaced_by_the_same_job_is_void_too() {
    let bench = Bench::new().await;
    let id = bench.add(job()).await;
    let claim = bench.claim().await;
    let row = rows::put(&bench.keyring, key(JOBS, id), &claim.job, None).expect("sealed");
    write(&bench, row).await;
    assert!(!bench.finish(claim, sent(&["SM1"])).await);
    assert_eq!(bench.claim().await.id, id);
}

async fn write(bench: &Bench, write: Write) {
    let commit = Commit {
        instant: NOW,
        writes: vec![write],
        ..Commit::default()
    };
    bench.store.commit(commit).await.expect("committed");
}

#[tokio::test]
async fn a_job_that_another_host_has_ended_is_not_claimed() {
    let bench = Bench::new().await;
    let id = bench.add(job()).await;
    let next = bench.add(job()).await;
    write(&bench, gone(key(JOBS, id))).await;
    assert_eq!(bench.claim().await.id, next);
    assert_eq!(bench.queue.depth(), 1);
}

#[tokio::test]
async fn a_job_that_cannot_be_read_keeps_nobody_waiting_and_its_row_stays() {
    let bench = Bench::new().await;
    let id = bench.add(job()).await;
    let next = bench.add(job()).await;
    // Sealed for another place.
    let foreign = rows::sealed(&bench.keyring, b"j/elsewhere", &job(), None).expect("sealed");
    write(&bench, rows::row(key(JOBS, id), foreign)).await;
    assert_eq!(bench.claim().await.id, next);
    assert_eq!(bench.queue.depth(), 1);
    let row = bench.store.get(&key(JOBS, id)).await.expect("read");
    assert!(row.is_some());
    // Nor does it keep the next process from starting.
    assert_eq!(bench.reopened().await.depth(), 1);
}

/// A store whose reads need a permit each, so that a test knows where somebody is, that counts what is
/// to be synced, and whose disk is as full as a test says.
struct Metered {
    inner: Arc<dyn Store>,
    reads: Semaphore,
    asked: tokio::sync::Notify,
    /// Requests that reach the disk.
    commits: AtomicUsize,
    full: AtomicBool,
}

impl Metered {
    /// A queue on such a store, with all that `bench` has put there.
    async fn on(bench: &Bench, reads: usize) -> (Arc<Metered>, Queue) {
        let store = Arc::new(Metered {
            inner: bench.store.clone(),
            // The opening reads once.
            reads: Semaphore::new(1),
            asked: tokio::sync::Notify::new(),
            commits: AtomicUsize::new(0),
            full: AtomicBool::new(false),
        });
        let config = bench.queue.inner.config.clone();
        let (keyring, clock) = (bench.keyring.clone(), bench.clock.clone());
        let queue = Queue::open(store.clone(), keyring, clock, config).await;
        store.asked.notified().await;
        store.reads.add_permits(reads);
        (store, queue.expect("opened"))
    }
}

#[async_trait]
impl Store for Metered {
    async fn get(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        self.asked.notify_one();
        self.reads.acquire().await.expect("never closed").forget();
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
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.inner.commit(commit).await
    }
    async fn hold(&self) -> Hold<'_> {
        self.inner.hold().await
    }
    async fn settle(&self) -> Result<(), StoreError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.inner.settle().await
    }
    fn has_room(&self, need: Need) -> bool {
        let is_full = self.full.load(Ordering::SeqCst);
        !(is_full && need == Need::Deliver)
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

#[tokio::test]
async fn claiming_and_giving_back_reach_no_disk_and_an_end_does_once() {
    let bench = Bench::new().await;
    for _ in 0..20 {
        bench.add(job()).await;
    }
    let (store, queue) = Metered::on(&bench, 100).await;
    let mut claims = Vec::new();
    for _ in 0..20 {
        claims.push(queue.next(&Open).await.expect("taken").claim);
    }
    queue.put_back(claims[0].lease, Duration::ZERO);
    claims[0] = queue.next(&Open).await.expect("taken").claim;
    assert_eq!(store.commits.load(Ordering::SeqCst), 0);
    for claim in claims {
        let finished = queue.finish(claim, again(), NOW).await;
        assert!(finished.expect("finished"));
    }
    assert_eq!(store.commits.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn whoever_gives_up_while_the_row_is_read_leaves_the_job_to_the_others() {
    let bench = Bench::new().await;
    let id = bench.add(job()).await;
    let (store, queue) = Metered::on(&bench, 0).await;
    tokio::select! {
        biased;
        taken = queue.next(&Open) => panic!("{taken:?}"),
        () = store.asked.notified() => {}
    }
    assert_eq!(queue.overview(NOW).claimed, 0);
    store.reads.add_permits(1);
    assert_eq!(queue.next(&Open).await.expect("taken").claim.id, id);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_claimed_while_the_disk_has_no_room_for_what_it_would_end_with() {
    let bench = Bench::new().await;
    let id = bench.add(job()).await;
    let (store, queue) = Metered::on(&bench, 1).await;
    store.full.store(true, Ordering::SeqCst);
    // Nor is one ended whose time is over.
    bench.clock.advance(600 * crate::testing::SECOND);
    let waiting = tokio::time::timeout(60 * ROOM_AGAIN, queue.next(&Open)).await;
    assert!(waiting.is_err(), "{waiting:?}");
    store.full.store(false, Ordering::SeqCst);
    let taken = tokio::time::timeout(2 * ROOM_AGAIN, queue.next(&Open)).await;
    assert_eq!(taken.expect("room again").expect("taken").claim.id, id);
}
