//! The storage threads: gather commits into groups, apply them, make them durable.
//!
//! Two threads do the same work in turns. One has the committer: it gathers a group, judges it and
//! applies it; then it lets the other one have the committer, makes its own group durable and answers
//! it. So the next group is judged and applied while the one before is being synced, and a group takes
//! the longer of the two times and not their sum. Answers leave in the order of the groups, and none
//! before everything that was applied before it is durable, also those of a group that wrote nothing.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign_types::UnixMillis;
use tokio::sync::{mpsc, oneshot, watch};

use super::backup::{Followed, Follower, bytes_of};
use super::{OpenError, Request, Shared, failed, sync};
use crate::committer::{Batch, Committer, Group};
use crate::{CommitError, Committed, StoreError};

/// How many threads take turns, and so how many groups may be applied and not durable yet: while one
/// is being synced the next is applied, and a third would only wait for both.
pub(super) const THREADS: usize = 2;

/// How many commits one group holds at most: bounds the time that the first one waits for the last.
const GROUP_COMMITS_MAX: usize = 512;

/// How long a group waits for more commits where there is some load, before it is applied. Each sync
/// wakes several of sled's threads (`pool.rs`) and takes some 300 µs of the disk; without this, half the
/// load cost more for each commit than all of it, since groups of two were synced one after the other.
const COMPANY_WAIT: Duration = Duration::from_micros(500);

/// As many commits as make a wait for more not worth while.
const COMPANY_ENOUGH: usize = 32;

/// Whether a group waits for more commits: `last` were in the group before, `here` are here already.
/// Who commits alone, one after the other, never waits.
fn waits_for_company(last: usize, here: usize) -> bool {
    last > 1 && here < COMPANY_ENOUGH
}

/// Where sled's log ends, or ended at some moment: how many bytes of it come before.
pub(super) type LogEnd = sled::Lsn;

/// Returns when sled's log is durable up to there.
pub(super) type MakeDurable =
    Box<dyn Fn(&sled::Db, LogEnd) -> Result<(), StoreError> + Send + Sync>;

/// As sled does it. Unlike `flush`, this goes on while the next batch is applied.
pub(super) fn make_durable(db: &sled::Db, end: LogEnd) -> Result<(), StoreError> {
    // sled counts the last byte, not those before the end.
    let made = db.context.pagecache.log.make_stable(end - 1);
    made.map(|_| ()).map_err(|error| failed(&error))
}

/// What is written, and the backup that wants it too.
type Passed = (Arc<Follower>, Batch);

type Answer = oneshot::Sender<Result<Committed, CommitError>>;

/// Who waits for a group.
#[derive(Default)]
struct Waiting {
    judged: Vec<(Answer, Result<Committed, CommitError>)>,
    settled: Vec<oneshot::Sender<Result<(), StoreError>>>,
    swept: Vec<(oneshot::Sender<Result<bool, StoreError>>, bool)>,
    followed: Vec<(oneshot::Sender<bool>, bool)>,
    unfollowed: Vec<(oneshot::Sender<Followed>, Option<Arc<Follower>>)>,
}

/// A group that was applied, and not answered yet.
struct Applied {
    /// Where it ends in the log; `None` where it wrote nothing and waits for those before it alone.
    end: Option<LogEnd>,
    /// What it wrote, for the backup that is under way.
    passed: Option<Passed>,
    /// The position of the newest event in it or before it.
    newest_event: u64,
    waiting: Waiting,
}

impl Applied {
    /// Tells everybody. A caller that has gone away needs no answer.
    fn answer(self, newest_event: &watch::Sender<u64>) {
        newest_event.send_if_modified(|position| {
            let more = *position < self.newest_event;
            *position = self.newest_event;
            more
        });
        if let Some((follower, batch)) = self.passed {
            follower.pass(batch);
        }
        let waiting = self.waiting;
        for (answer, first) in waiting.followed {
            let _ = answer.send(first);
        }
        for (answer, follower) in waiting.unfollowed {
            let _ = answer.send(follower.map_or(Followed::Whole, |follower| follower.end()));
        }
        for (answer, result) in waiting.judged {
            let _ = answer.send(result);
        }
        for answer in waiting.settled {
            let _ = answer.send(Ok(()));
        }
        for (answer, done) in waiting.swept {
            let _ = answer.send(Ok(done));
        }
    }
}

/// The groups that were applied and are not durable, in commit order.
#[derive(Default)]
struct Unanswered {
    groups: VecDeque<Applied>,
    /// A write has failed: nobody is answered any more.
    failed: bool,
}

impl Unanswered {
    fn add(&mut self, group: Applied) {
        if !self.failed {
            self.groups.push_back(group);
        }
    }

    /// Answers what is durable when the log is up to `end`, and what waits for nothing else.
    fn answer(&mut self, end: LogEnd, newest_event: &watch::Sender<u64>) {
        let is_durable = |group: &mut Applied| group.end.is_none_or(|place| place <= end);
        while let Some(group) = self.groups.pop_front_if(is_durable) {
            group.answer(newest_event);
        }
    }

    fn fail(&mut self) {
        self.failed = true;
        self.groups.clear();
    }
}

/// What the thread works with whose turn it is.
struct Turn {
    storage: Storage,
    inbox: mpsc::Receiver<Request>,
    /// How many requests the group before had.
    last: usize,
}

/// What the storage threads share.
pub(super) struct Writer {
    turn: Mutex<Turn>,
    unanswered: Mutex<Unanswered>,
    shared: Arc<Shared>,
    broken: watch::Sender<Option<String>>,
    make_durable: MakeDurable,
    /// Closing it, after the last group, joins sled's own threads.
    db: sled::Db,
}

impl Writer {
    pub(super) fn new(
        db: sled::Db,
        storage: Storage,
        shared: Arc<Shared>,
        inbox: mpsc::Receiver<Request>,
        broken: watch::Sender<Option<String>>,
        make_durable: MakeDurable,
    ) -> Arc<Writer> {
        Arc::new(Writer {
            turn: Mutex::new(Turn {
                storage,
                inbox,
                last: 0,
            }),
            unanswered: Mutex::default(),
            shared,
            broken,
            make_durable,
            db,
        })
    }

    /// Serves requests, in turns with the other threads that do, until the last sender is gone or a
    /// write has failed.
    pub(super) fn serve(&self) {
        // Whoever waits for a group of a thread that panics must not wait for ever.
        let _failing = FailWithPanic(self);
        loop {
            let done = match self.apply_next() {
                Ok(None) => return,
                Ok(Some(end)) => {
                    let began = Instant::now();
                    (self.make_durable)(&self.db, end).map(|()| {
                        let figures = &self.shared.figures;
                        figures.sync_times.record_time(began.elapsed());
                        self.unanswered().answer(end, &self.shared.newest_event);
                    })
                }
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                return self.fail(&error.to_string());
            }
        }
    }

    fn unanswered(&self) -> MutexGuard<'_, Unanswered> {
        let unanswered = self.unanswered.lock();
        unanswered.unwrap_or_else(PoisonError::into_inner)
    }

    /// What the disk holds is unknown now, so nothing is tried again and nobody gets an answer that
    /// says more than this.
    fn fail(&self, reason: &str) {
        self.unanswered().fail();
        self.broken.send_if_modified(|broken| {
            let first = broken.is_none();
            broken.get_or_insert_with(|| reason.to_owned());
            first
        });
    }

    /// Waits for its turn, gathers a group and applies it; returns where it ends in the log. `None`
    /// when there is nothing more to do.
    fn apply_next(&self) -> Result<Option<LogEnd>, StoreError> {
        let Ok(mut turn) = self.turn.lock() else {
            // Another thread has panicked.
            return Ok(None);
        };
        let turn = &mut *turn;
        loop {
            let Some(first) = turn.inbox.blocking_recv() else {
                return Ok(None);
            };
            // What is dropped here, and with the inbox, is answered by that.
            if self.broken.borrow().is_some() {
                return Ok(None);
            }
            let (group, waiting) = turn.gather(&self.shared, first);
            let (end, passed) = match group.is_empty() {
                true => (None, None),
                false => {
                    let figures = &self.shared.figures;
                    figures.group_commits.record(turn.last as u64);
                    let (end, passed) = turn.storage.write(&self.shared, &self.db, group)?;
                    (Some(end), passed)
                }
            };
            // Still in turn, so that they are in order.
            let mut unanswered = self.unanswered();
            unanswered.add(Applied {
                end,
                passed,
                newest_event: turn.storage.newest_event(),
                waiting,
            });
            if end.is_some() {
                return Ok(end);
            }
            // It may have nobody to wait for.
            unanswered.answer(LogEnd::MIN, &self.shared.newest_event);
        }
    }
}

/// Ends the store with a thread that panics.
struct FailWithPanic<'a>(&'a Writer);

impl Drop for FailWithPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("a storage thread has panicked");
        }
    }
}

impl Turn {
    /// Judges `first` and what has come after it.
    fn gather(&mut self, shared: &Shared, first: Request) -> (Group, Waiting) {
        if waits_for_company(self.last, 1 + self.inbox.len()) {
            std::thread::sleep(COMPANY_WAIT);
        }
        // The machine's clock may have been set back since.
        let newest = shared.newest_instant.load(Ordering::Acquire);
        let committer = &mut self.storage.committer;
        committer.set_newest_instant(UnixMillis(newest));
        let (mut group, mut waiting) = (Group::default(), Waiting::default());
        let mut next = Some(first);
        let mut requests = 0;
        while let Some(request) = next.take() {
            self.storage
                .judge(shared, &mut group, &mut waiting, request);
            requests += 1;
            if requests < GROUP_COMMITS_MAX && group.has_room() {
                next = self.inbox.try_recv().ok();
            }
        }
        self.last = requests;
        (group, waiting)
    }
}

/// The rows, who judges, and who follows what is written.
pub(super) struct Storage {
    tree: sled::Tree,
    committer: Committer<sled::Tree>,
    follower: Option<Arc<Follower>>,
}

impl Storage {
    /// Reads the counters and proves that a flush syncs: `syncs` must go up by it.
    pub(super) fn open(
        tree: sled::Tree,
        path: &Path,
        has_held_data: bool,
        syncs: fn() -> u64,
    ) -> Result<Storage, OpenError> {
        let not_opened = |error: StoreError| match error {
            StoreError::Unreadable { .. } => OpenError::Damaged {
                path: path.to_owned(),
            },
            _ => OpenError::Unusable {
                path: path.to_owned(),
                reason: error.to_string(),
            },
        };
        let mut committer = Committer::open(tree.clone(), has_held_data).map_err(not_opened)?;
        // Another number than the stored one, so that there is something to write.
        committer.skip_version();
        let storage = Storage {
            tree,
            committer,
            follower: None,
        };
        let before = syncs();
        let batch = storage.committer.batch(Group::default());
        storage.apply(batch).map_err(not_opened)?;
        let flushed = storage.tree.flush();
        flushed.map_err(|error| not_opened(failed(&error)))?;
        if syncs() == before {
            return Err(OpenError::NotDurable {
                path: path.to_owned(),
            });
        }
        Ok(storage)
    }

    pub(super) fn newest_instant(&self) -> UnixMillis {
        self.committer.newest_instant()
    }

    pub(super) fn newest_event(&self) -> u64 {
        self.committer.newest_event()
    }

    fn judge(
        &mut self,
        shared: &Shared,
        group: &mut Group,
        waiting: &mut Waiting,
        request: Request,
    ) {
        match request {
            Request::Commit(commit, answer) => {
                let judged = if commit.is_empty() || shared.room.is_for(commit.need) {
                    self.committer.admit(group, *commit)
                } else {
                    Err(CommitError::Full)
                };
                waiting.judged.push((answer, judged));
            }
            Request::Settle(answer) => waiting.settled.push(answer),
            Request::Sweep(now, answer) => match self.committer.sweep(group, now) {
                Ok(done) => waiting.swept.push((answer, done)),
                Err(error) => {
                    let _ = answer.send(Err(error));
                }
            },
            // What is applied from now on is passed on; what was before can be read by who is told.
            Request::Follow(follower, answer) => {
                // It stays until it says that it has ended, or has died, so that a second one can
                // neither take its place nor be ended by its end.
                let taken = self.follower.as_ref().is_some_and(|one| one.is_alive());
                if !taken {
                    self.follower = Some(follower);
                }
                waiting.followed.push((answer, !taken));
            }
            Request::Unfollow(answer) => {
                waiting.unfollowed.push((answer, self.follower.take()));
            }
        }
    }

    /// Applies a group; returns where it ends in the log, and what is to be passed on when it is
    /// durable.
    fn write(
        &self,
        shared: &Shared,
        db: &sled::Db,
        group: Group,
    ) -> Result<(LogEnd, Option<Passed>), StoreError> {
        let batch = self.committer.batch(group);
        let follower = self.follower.clone().filter(|follower| follower.follows());
        let passed = follower.map(|follower| (follower, batch.clone()));
        shared.room.wrote(bytes_of(&batch));
        let _closed = shared.gate.blocking_write();
        sync::expect_two();
        self.apply(batch)?;
        shared
            .newest_instant
            .store(self.committer.newest_instant().0, Ordering::Release);
        Ok((end_of_log(db)?, passed))
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let mut all = sled::Batch::default();
        for (key, row) in batch {
            match row {
                Some(row) => all.insert(key, row),
                None => all.remove(key),
            }
        }
        self.tree.apply_batch(all).map_err(|error| failed(&error))
    }
}

/// The place behind everything that was applied. sled tells none but that of an entry of one's own, so
/// this adds one, of some ten bytes, and cancels it, as sled does with those that it does not need.
fn end_of_log(db: &sled::Db) -> Result<LogEnd, StoreError> {
    let log = &db.context.pagecache.log;
    let entry = log.reserve(sled::LogKind::Free, 0, &(), &sled::pin());
    let canceled = entry.and_then(|entry| entry.abort());
    let (place, _) = canceled.map_err(|error| failed(&error))?;
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_of_a_store_under_some_load_wait_for_more() {
        assert!(!waits_for_company(0, 1), "the first commit");
        assert!(!waits_for_company(1, 1), "one after the other");
        assert!(waits_for_company(2, 1));
        assert!(waits_for_company(2, COMPANY_ENOUGH - 1));
        assert!(!waits_for_company(2, COMPANY_ENOUGH));
    }
}
