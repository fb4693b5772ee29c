use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use countersign_store::{Commit, CommitError, Committed, Hold, Row, Scanned, Store, StoreError};
use countersign_types::{MessageId, Status, UnixMillis};

use crate::rows::{self, FOLLOWER, JOBS, MESSAGES, dead_key, key, receipt_key};
use crate::testing::{Bench, NOW, SECOND, job, sent, update};
use crate::{Line, Open, Queue};

/// How a row cannot be read.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Not as a row: as one of a newer format.
    Row,
    /// As a row, whose contents were sealed for another place.
    Seal,
}

/// A store that cannot read some of its rows.
struct Damaged {
    inner: Arc<dyn Store>,
    keys: Mutex<HashSet<Vec<u8>>>,
}

impl Damaged {
    fn judge(&self, key: &[u8]) -> Result<(), StoreError> {
        if self.keys.lock().expect("unlocked").contains(key) {
            let key = String::from_utf8_lossy(key).into_owned();
            return Err(StoreError::Unreadable { key });
        }
        Ok(())
    }

    fn judge_each(&self, found: &mut [Scanned]) {
        for (key, row) in found {
            if let Err(error) = self.judge(key) {
                *row = Err(error);
            }
        }
    }
}

#[async_trait]
impl Store for Damaged {
    async fn get(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        self.judge(key)?;
        self.inner.get(key).await
    }
    async fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Scanned>, StoreError> {
        let mut found = self.inner.scan(from, to, limit).await?;
        self.judge_each(&mut found);
        Ok(found)
    }
    async fn scan_back(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Scanned>, StoreError> {
        let mut found = self.inner.scan_back(from, to, limit).await?;
        self.judge_each(&mut found);
        Ok(found)
    }
    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        for read in &commit.reads {
            self.judge(&read.key)?;
        }
        for write in &commit.writes {
            self.keys.lock().expect("unlocked").remove(&write.key);
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

impl Damaged {
    /// The store of `bench`, as it is.
    fn on(bench: &Bench) -> Arc<Damaged> {
        Arc::new(Damaged {
            inner: bench.store.clone(),
            keys: Mutex::default(),
        })
    }

    /// From now on the row `key` cannot be read.
    async fn damage(&self, bench: &Bench, key: Vec<u8>, damage: Damage) {
        match damage {
            Damage::Row => assert!(self.keys.lock().expect("unlocked").insert(key)),
            Damage::Seal => {
                let foreign = rows::sealed(&bench.keyring, b"elsewhere", &(), None);
                let commit = Commit {
                    instant: bench.now(),
                    writes: vec![rows::row(key, foreign.expect("sealed"))],
                    ..Commit::default()
                };
                self.inner.commit(commit).await.expect("committed");
            }
        }
    }

    /// The queue of a process that begins on it.
    async fn open(self: &Arc<Self>, bench: &Bench) -> Queue {
        let config = bench.queue.inner.config.clone();
        let (keyring, clock) = (bench.keyring.clone(), bench.clock.clone());
        let queue = Queue::open(self.clone(), keyring, clock, config).await;
        queue.expect("it begins")
    }
}

/// The queue of a process that begins on what `bench` has stored, with the row `key` damaged.
async fn damaged(bench: &Bench, key: Vec<u8>, damage: Damage) -> Queue {
    let store = Damaged::on(bench);
    store.damage(bench, key, damage).await;
    store.open(bench).await
}

const BOTH: [Damage; 2] = [Damage::Row, Damage::Seal];

/// What is told of: the keys of rows, each once.
fn told(queue: &Queue) -> Vec<&'static str> {
    let told = queue.inner.unreadable.0.lock().expect("unlocked");
    told.iter().map(|key| rows::kind(key)).collect()
}

#[tokio::test]
async fn a_waiting_message_that_cannot_be_read_keeps_no_other_waiting() {
    for damage in BOTH {
        let bench = Bench::new().await;
        let id = bench.add(job()).await;
        let next = bench.add(job()).await;
        let queue = damaged(&bench, key(JOBS, id), damage).await;
        assert_eq!(queue.depth(), 1, "{damage:?}");
        let claim = queue.next(&Open).await.expect("taken").claim;
        assert_eq!(claim.id, next, "{damage:?}");
        assert_eq!(told(&queue), ["a waiting message"], "{damage:?}");
        assert!(
            queue
                .finish(claim, sent(&["SM1"]), NOW)
                .await
                .expect("stored")
        );
    }
}

#[tokio::test]
async fn a_waiting_message_that_is_damaged_later_keeps_no_other_waiting() {
    for damage in BOTH {
        let bench = Bench::new().await;
        let id = bench.add(job()).await;
        let next = bench.add(job()).await;
        let store = Damaged::on(&bench);
        let queue = store.open(&bench).await;
        assert_eq!(queue.depth(), 2);
        store.damage(&bench, key(JOBS, id), damage).await;
        let claim = queue.next(&Open).await.expect("taken").claim;
        assert_eq!(claim.id, next, "{damage:?}");
        assert_eq!(queue.depth(), 1, "{damage:?}");
    }
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_read_leaves_the_others_on_the_page() {
    for damage in BOTH {
        let bench = Bench::new().await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(bench.dead(job()).await);
        }
        let queue = damaged(&bench, dead_key(ids[1]), damage).await;
        for _ in 0..2 {
            let page = queue.dead_letters(None, 10, NOW).await.expect("read");
            let mut found: Vec<MessageId> = page.letters.iter().map(|one| one.id).collect();
            found.sort();
            let mut want = vec![ids[0], ids[2]];
            want.sort();
            assert_eq!(found, want, "{damage:?}");
        }
        assert_eq!(told(&queue), ["a dead letter"], "once: {damage:?}");
    }
}

#[tokio::test]
async fn a_sent_message_that_cannot_be_read_does_not_stop_the_follower() {
    for damage in BOTH {
        let bench = Bench::new().await;
        let id = bench.sent(&["SM1"]).await;
        let next = bench.sent(&["SM2"]).await;
        let queue = damaged(&bench, key(MESSAGES, id), damage).await;
        let (from, to) = (
            Line::Accepted.at(NOW),
            Line::Accepted.at(NOW + 1_000 * SECOND),
        );
        let page = queue.follow(Line::Accepted, &from, &to, 10, NOW).await;
        let page = page.expect("followed");
        let found: Vec<_> = page.found.iter().map(|one| one.id).collect();
        assert_eq!((found, page.end), (vec![next], true), "{damage:?}");
        // Nor does news of it keep out news of others.
        let news = ["SM1", "SM2"].map(|id| update(id, Status::Delivered));
        let received = queue.receive("p", &news, NOW).await.expect("received");
        assert_eq!(received.changed, 1, "{damage:?}");
        assert_eq!(bench.status(next).await, Status::Delivered);
    }
}

#[tokio::test]
async fn a_note_of_the_follower_that_cannot_be_read_is_none_and_is_written_over() {
    for damage in BOTH {
        let bench = Bench::new().await;
        let cursors = [(Line::Sent, Line::Sent.at(NOW))];
        bench
            .queue
            .note_follower(&cursors, NOW)
            .await
            .expect("noted");
        let queue = damaged(&bench, FOLLOWER.to_vec(), damage).await;
        assert_eq!(queue.follower(NOW).await.expect("read"), None, "{damage:?}");
        queue.note_follower(&cursors, NOW).await.expect("noted");
        let noted = queue.follower(NOW).await.expect("read");
        assert_eq!(noted.as_deref(), Some(&cursors[..]), "{damage:?}");
    }
}

/// It would be sent again otherwise.
#[tokio::test]
async fn a_receipt_that_cannot_be_read_does_not_keep_its_message_from_being_sent() {
    for damage in BOTH {
        let bench = Bench::new().await;
        let id = bench.add(job()).await;
        let early = [update("SM1", Status::Delivered)];
        bench
            .queue
            .receive("p", &early, NOW)
            .await
            .expect("received");
        let queue = damaged(&bench, receipt_key(&bench.keyring, "p", "SM1"), damage).await;
        // One more is lost, and keeps no other out.
        let news = ["SM1", "SM2"].map(|id| update(id, Status::Read));
        let received = queue.receive("p", &news, NOW).await.expect("received");
        assert_eq!((received.changed, received.early), (0, 1), "{damage:?}");
        let claim = queue.next(&Open).await.expect("taken").claim;
        let finished = queue.finish(claim, sent(&["SM1"]), NOW).await;
        assert!(finished.expect("stored"), "{damage:?}");
        assert_eq!(bench.status(id).await, Status::Sent, "{damage:?}");
        // From now on its receipts find it.
        let received = queue.receive("p", &early, NOW).await.expect("received");
        assert_eq!(received.changed, 1, "{damage:?}");
    }
}
