//! The storage thread: gathers commits into groups, applies them, makes them durable.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign_types::UnixMillis;
use tokio::sync::{mpsc, oneshot, watch};

use super::backup::{Alive, Followed, Follower, bytes_of};
use super::{OpenError, Request, Shared, failed, sync};
use crate::committer::{Batch, Committer, Group};
use crate::{CommitError, Committed, StoreError};

/// How many commits one group holds at most: bounds the time that the first one waits for the last.
const GROUP_COMMITS_MAX: usize = 512;

/// How long a group waits for more commits where there is some load, before it is synced. Each sync
/// wakes all seven of sled's idle threads and takes some 300 µs of the disk; without this, half the
/// load cost more for each commit than all of it, since groups of two were synced one after the other.
const COMPANY_WAIT: Duration = Duration::from_micros(500);

/// As many commits as make a wait for more not worth while.
const COMPANY_ENOUGH: usize = 32;

/// Whether a group waits for more commits: `last` were in the group before, `here` are here already.
/// Who commits alone, one after the other, never waits.
fn waits_for_company(last: usize, here: usize) -> bool {
    last > 1 && here < COMPANY_ENOUGH
}

type Answer = oneshot::Sender<Result<Committed, CommitError>>;

/// What the storage thread works with.
pub(super) struct Storage {
    tree: sled::Tree,
    committer: Committer<sled::Tree>,
    following: Option<Following>,
}

/// A backup that is being made. It stays until it says that it has ended, or has died, so that a second
/// one cannot take its place, nor be ended by its end.
struct Following {
    /// `None`: it could not keep up, and is passed nothing more.
    follower: Option<Follower>,
    alive: Alive,
}

/// A group, and who waits for it.
#[derive(Default)]
struct Gathered {
    group: Group,
    judged: Vec<(Answer, Result<Committed, CommitError>)>,
    settled: Vec<oneshot::Sender<Result<(), StoreError>>>,
    swept: Vec<(oneshot::Sender<Result<bool, StoreError>>, bool)>,
    /// A backup begins or ends between two groups.
    followed: Vec<Request>,
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
            following: None,
        };
        let before = syncs();
        storage
            .apply(storage.committer.batch(Group::default()))
            .and_then(|()| storage.flush())
            .map_err(not_opened)?;
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

    /// Serves requests until the last sender is gone or a write has failed.
    pub(super) fn run(
        mut self,
        shared: &Shared,
        mut inbox: mpsc::Receiver<Request>,
        broken: &watch::Sender<Option<String>>,
    ) {
        let mut last = 0;
        while let Some(first) = inbox.blocking_recv() {
            if waits_for_company(last, 1 + inbox.len()) {
                std::thread::sleep(COMPANY_WAIT);
            }
            // The machine's clock may have been set back since.
            let newest = shared.newest_instant.load(Ordering::Acquire);
            self.committer.set_newest_instant(UnixMillis(newest));
            let mut gathered = Gathered::default();
            let mut next = Some(first);
            let mut commits = 0;
            while let Some(request) = next.take() {
                self.judge(shared, &mut gathered, request);
                commits += 1;
                if commits < GROUP_COMMITS_MAX && gathered.group.has_room() {
                    next = inbox.try_recv().ok();
                }
            }
            last = commits;
            if let Err(error) = self.finish(shared, gathered) {
                // What the disk holds is unknown now, so nothing is tried again and nobody gets an
                // answer that says more than this.
                let _ = broken.send(Some(error.to_string()));
                inbox.close();
                while inbox.blocking_recv().is_some() {}
                return;
            }
        }
    }

    fn judge(&mut self, shared: &Shared, gathered: &mut Gathered, request: Request) {
        match request {
            Request::Commit(commit, answer) => {
                let judged = if commit.is_empty() || shared.room.is_for(commit.need) {
                    self.committer.admit(&mut gathered.group, *commit)
                } else {
                    Err(CommitError::Full)
                };
                gathered.judged.push((answer, judged));
            }
            Request::Settle(answer) => gathered.settled.push(answer),
            Request::Sweep(now, answer) => match self.committer.sweep(&mut gathered.group, now) {
                Ok(done) => gathered.swept.push((answer, done)),
                Err(error) => {
                    let _ = answer.send(Err(error));
                }
            },
            request @ (Request::Follow(..) | Request::Unfollow(_)) => {
                gathered.followed.push(request);
            }
        }
    }

    /// Begins or ends to pass on what is written.
    fn follow(&mut self, request: Request) {
        match request {
            Request::Follow(follower, answer) => {
                let taken = self.following.as_ref().is_some_and(|one| one.alive.is());
                if !taken {
                    self.following = Some(Following {
                        alive: follower.alive(),
                        follower: Some(follower),
                    });
                }
                let _ = answer.send(!taken);
            }
            Request::Unfollow(answer) => {
                let whole = self
                    .following
                    .take()
                    .is_some_and(|one| one.follower.is_some());
                let _ = answer.send(match whole {
                    true => Followed::Whole,
                    false => Followed::Overrun,
                });
            }
            _ => {}
        }
    }

    /// Applies the group, makes it durable and answers everybody in it.
    fn finish(&mut self, shared: &Shared, gathered: Gathered) -> Result<(), StoreError> {
        if !gathered.group.is_empty() {
            let batch = self.committer.batch(gathered.group);
            let follower = self
                .following
                .as_ref()
                .and_then(|one| one.follower.as_ref());
            let passed = follower.is_some().then(|| batch.clone());
            shared.room.wrote(bytes_of(&batch));
            {
                let _closed = shared.gate.blocking_write();
                sync::expect_two();
                self.apply(batch)?;
                shared
                    .newest_instant
                    .store(self.committer.newest_instant().0, Ordering::Release);
            }
            self.flush()?;
            if let (Some(following), Some(batch)) = (&mut self.following, passed)
                && let Some(follower) = &following.follower
                && !follower.pass(batch)
            {
                following.follower = None;
            }
        }
        for request in gathered.followed {
            self.follow(request);
        }
        // A caller that has gone away needs no answer.
        for (answer, result) in gathered.judged {
            let _ = answer.send(result);
        }
        for answer in gathered.settled {
            let _ = answer.send(Ok(()));
        }
        for (answer, done) in gathered.swept {
            let _ = answer.send(Ok(done));
        }
        Ok(())
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

    fn flush(&self) -> Result<(), StoreError> {
        self.tree
            .flush()
            .map(|_| ())
            .map_err(|error| failed(&error))
    }
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
