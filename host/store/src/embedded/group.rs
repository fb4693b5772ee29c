//! The storage thread: judges commits, applies them in groups, makes them durable.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::Ordering;

use countersign_types::UnixMillis;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::{GROUP_EVENTS_MAX, OpenError, Request, Shared, failed, sync};
use crate::limit::Window;
use crate::{Body, Commit, CommitError, Committed, Read, Row, ScanRead, StoreError, event};

/// How many commits one group holds at most: bounds the time that the first one waits for the last.
const GROUP_COMMITS_MAX: usize = 512;

/// How many rows one sweep looks at.
const SWEEP_ROWS: usize = 2_000;

/// How long events are kept.
const EVENTS_KEPT: std::time::Duration = std::time::Duration::from_secs(400 * 24 * 3600);

/// Where the committer's own counters lie, written with every group.
const COUNTERS_KEY: &[u8] = b"!counters";

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Counters {
    /// Of the last commit.
    version: u64,
    /// Of the last event.
    position: u64,
    /// The latest instant of any commit.
    instant: UnixMillis,
}

/// Rows that the present group has written and sled does not have yet.
type Overlay = BTreeMap<Vec<u8>, Option<Row>>;

type Answer = oneshot::Sender<Result<Committed, CommitError>>;

pub(super) struct Committer {
    tree: sled::Tree,
    counters: Counters,
    sweep_from: Vec<u8>,
}

/// What a group has gathered.
#[derive(Default)]
struct Group {
    rows: Overlay,
    events: Vec<Vec<u8>>,
    judged: Vec<(Answer, Result<Committed, CommitError>)>,
    settled: Vec<oneshot::Sender<Result<(), StoreError>>>,
    swept: Vec<(oneshot::Sender<Result<bool, StoreError>>, bool)>,
}

impl Committer {
    /// Reads the counters and proves that a flush syncs.
    pub(super) fn open(
        tree: sled::Tree,
        path: &Path,
        has_held_data: bool,
    ) -> Result<Committer, OpenError> {
        let unusable = |reason: String| OpenError::Unusable {
            path: path.to_owned(),
            reason,
        };
        let counters = match tree.get(COUNTERS_KEY) {
            Ok(None) if has_held_data => {
                return Err(OpenError::Damaged {
                    path: path.to_owned(),
                });
            }
            Ok(None) => Counters::default(),
            Ok(Some(bytes)) => postcard::from_bytes(&bytes).map_err(|_| OpenError::Damaged {
                path: path.to_owned(),
            })?,
            Err(error) => return Err(unusable(error.to_string())),
        };
        let mut committer = Committer {
            tree,
            counters,
            sweep_from: Vec::new(),
        };
        // Another number than the stored one, so that there is something to write.
        committer.counters.version += 1;
        let before = sync::calls();
        committer
            .apply(Group::default())
            .map_err(|error| unusable(error.to_string()))?;
        if sync::calls() == before {
            return Err(OpenError::NotDurable {
                path: path.to_owned(),
            });
        }
        Ok(committer)
    }

    pub(super) fn newest_instant(&self) -> UnixMillis {
        self.counters.instant
    }

    /// Serves requests until the last sender is gone or a write has failed.
    pub(super) fn run(
        mut self,
        shared: &Shared,
        mut inbox: mpsc::Receiver<Request>,
        broken: &watch::Sender<Option<String>>,
    ) {
        while let Some(first) = inbox.blocking_recv() {
            // The machine's clock may have been set back since.
            self.counters.instant = UnixMillis(shared.newest_instant.load(Ordering::Acquire));
            let mut group = Group::default();
            let mut next = Some(first);
            let mut commits = 0;
            while let Some(request) = next.take() {
                self.judge(&mut group, request);
                commits += 1;
                if commits < GROUP_COMMITS_MAX && group.events.len() < GROUP_EVENTS_MAX / 2 {
                    next = inbox.try_recv().ok();
                }
            }
            if let Err(error) = self.finish(shared, group) {
                // What the disk holds is unknown now, so nothing is tried again and nobody gets an
                // answer that says more than this.
                let _ = broken.send(Some(error.to_string()));
                inbox.close();
                while inbox.blocking_recv().is_some() {}
                return;
            }
        }
    }

    fn judge(&mut self, group: &mut Group, request: Request) {
        match request {
            Request::Commit(commit, answer) => {
                let judged = self.admit(group, *commit);
                group.judged.push((answer, judged));
            }
            Request::Settle(answer) => group.settled.push(answer),
            Request::Sweep(now, answer) => match self.sweep(group, now) {
                Ok(done) => group.swept.push((answer, done)),
                Err(error) => {
                    let _ = answer.send(Err(error));
                }
            },
        }
    }

    /// Applies the group, makes it durable and answers everybody in it.
    fn finish(&mut self, shared: &Shared, group: Group) -> Result<(), StoreError> {
        let Group {
            judged,
            settled,
            swept,
            rows,
            events,
        } = group;
        if !(rows.is_empty() && events.is_empty()) {
            let group = Group {
                rows,
                events,
                ..Group::default()
            };
            let batch = self.batch(group);
            {
                let _closed = shared.gate.blocking_write();
                self.tree
                    .apply_batch(batch)
                    .map_err(|error| failed(&error))?;
                shared
                    .newest_instant
                    .store(self.counters.instant.0, Ordering::Release);
            }
            self.tree.flush().map_err(|error| failed(&error))?;
        }
        // A caller that has gone away needs no answer.
        for (answer, result) in judged {
            let _ = answer.send(result);
        }
        for answer in settled {
            let _ = answer.send(Ok(()));
        }
        for (answer, done) in swept {
            let _ = answer.send(Ok(done));
        }
        Ok(())
    }

    /// As `finish`, for the self-test, before anybody shares the store.
    fn apply(&mut self, group: Group) -> Result<(), StoreError> {
        let batch = self.batch(group);
        self.tree
            .apply_batch(batch)
            .and_then(|()| self.tree.flush())
            .map(|_| ())
            .map_err(|error| failed(&error))
    }

    fn batch(&mut self, group: Group) -> sled::Batch {
        let mut batch = sled::Batch::default();
        for (key, row) in group.rows {
            match row {
                Some(row) => batch.insert(key, row.to_bytes()),
                None => batch.remove(key),
            }
        }
        if !group.events.is_empty() {
            let first = self.counters.position + 1 - group.events.len() as u64;
            let row = Row {
                version: self.counters.version,
                body: Body::Events {
                    events: group.events,
                    expires: Some(self.counters.instant + EVENTS_KEPT),
                },
            };
            batch.insert(event::key(first), row.to_bytes());
        }
        // Serialising three numbers into a `Vec` cannot fail.
        let counters = postcard::to_allocvec(&self.counters).unwrap_or_default();
        batch.insert(COUNTERS_KEY, counters);
        batch
    }

    /// Judges one commit against the applied state and the group so far, and adds it to the group.
    fn admit(&mut self, group: &mut Group, commit: Commit) -> Result<Committed, CommitError> {
        for read in &commit.reads {
            let stored = self.stored(&group.rows, &read.key)?;
            self.check(read, stored.as_ref(), commit.instant)?;
        }
        for scan in &commit.scans {
            self.check_scan(&group.rows, scan, commit.instant)?;
        }
        // Limits and sums are worked out before anything is changed: all or nothing.
        let mut changed: BTreeMap<Vec<u8>, Body> = BTreeMap::new();
        let now = commit.instant.max(self.counters.instant);
        for take in commit.takes {
            let body = match changed.remove(&take.key) {
                Some(body) => Some(body),
                None => self.stored(&group.rows, &take.key)?.map(|row| row.body),
            };
            let mut window = match body {
                Some(Body::Limit(window)) => window,
                Some(body) if !body.expired(now) => {
                    return Err(CommitError::NotALimit {
                        key: text(&take.key),
                    });
                }
                _ => Window::default(),
            };
            match window.take(now, take.amount, take.max, take.window_ms) {
                Ok(()) => changed.insert(take.key, Body::Limit(window)),
                Err(until) => return Err(CommitError::NoRoom { take, until }),
            };
        }
        for sum in commit.sums {
            let body = match changed.remove(&sum.key) {
                Some(body) => Some(body),
                None => self
                    .stored(&group.rows, &sum.key)?
                    .map(|row| row.body)
                    .filter(|body| !body.expired(now)),
            };
            let value = match body {
                None => 0,
                Some(Body::Sum { value, .. }) => value,
                Some(_) => {
                    return Err(CommitError::NotASum {
                        key: text(&sum.key),
                    });
                }
            };
            let body = Body::Sum {
                value: value.saturating_add(sum.delta),
                expires: sum.expires,
            };
            changed.insert(sum.key, body);
        }
        if changed.is_empty() && commit.writes.is_empty() && commit.events.is_empty() {
            return Ok(Committed {
                version: None,
                first_event: None,
            });
        }
        self.counters.version += 1;
        self.counters.instant = now;
        let version = self.counters.version;
        for write in commit.writes {
            let row = write.body.map(|body| Row { version, body });
            group.rows.insert(write.key, row);
        }
        for (key, body) in changed {
            group.rows.insert(key, Some(Row { version, body }));
        }
        let first_event = (!commit.events.is_empty()).then_some(self.counters.position + 1);
        self.counters.position += commit.events.len() as u64;
        group.events.extend(commit.events);
        Ok(Committed {
            version: Some(version),
            first_event,
        })
    }

    fn stored(&self, overlay: &Overlay, key: &[u8]) -> Result<Option<Row>, StoreError> {
        if let Some(row) = overlay.get(key) {
            return Ok(row.clone());
        }
        match self.tree.get(key).map_err(|error| failed(&error))? {
            None => Ok(None),
            Some(bytes) => Row::from_bytes(key, &bytes).map(Some),
        }
    }

    /// Whether what was read is what would be read now, in commit order.
    fn check(
        &self,
        read: &Read,
        stored: Option<&Row>,
        instant: UnixMillis,
    ) -> Result<(), CommitError> {
        let visible = stored.filter(|row| !row.body.expired(instant));
        let same = visible.map(|row| row.version) == read.version;
        // A later commit may have seen a part of the row as expired that this run saw alive.
        let in_time = read.until.is_none_or(|until| until > self.counters.instant);
        if same && in_time {
            Ok(())
        } else {
            Err(CommitError::Stale)
        }
    }

    fn check_scan(
        &self,
        overlay: &Overlay,
        scan: &ScanRead,
        instant: UnixMillis,
    ) -> Result<(), CommitError> {
        let range = (
            Bound::Included(scan.from.as_slice()),
            Bound::Excluded(scan.to.as_slice()),
        );
        if scan.from >= scan.to {
            return Ok(());
        }
        let mut rows: BTreeMap<Vec<u8>, Row> = BTreeMap::new();
        for entry in self.tree.range::<&[u8], _>(range) {
            let (key, bytes) = entry.map_err(|error| CommitError::Store(failed(&error)))?;
            rows.insert(key.to_vec(), Row::from_bytes(&key, &bytes)?);
        }
        for (key, row) in overlay.range::<[u8], _>(range) {
            match row {
                Some(row) => rows.insert(key.clone(), row.clone()),
                None => rows.remove(key),
            };
        }
        rows.retain(|_, row| !row.body.expired(instant));
        if rows.len() != scan.seen.len() {
            return Err(CommitError::Stale);
        }
        for (read, (key, row)) in scan.seen.iter().zip(&rows) {
            if read.key != *key {
                return Err(CommitError::Stale);
            }
            self.check(read, Some(row), instant)?;
        }
        Ok(())
    }

    /// Drops some expired rows. A run whose instant lies before the expiry and that saw the row is
    /// stale from now on, since `now` becomes the newest instant.
    fn sweep(&mut self, group: &mut Group, now: UnixMillis) -> Result<bool, StoreError> {
        let from = std::mem::take(&mut self.sweep_from);
        let mut seen = 0;
        for entry in self.tree.range(from..) {
            let (key, bytes) = entry.map_err(|error| failed(&error))?;
            seen += 1;
            if seen > SWEEP_ROWS {
                self.sweep_from = key.to_vec();
                break;
            }
            if key == COUNTERS_KEY || group.rows.contains_key(key.as_ref()) {
                continue;
            }
            let Ok(row) = Row::from_bytes(&key, &bytes) else {
                tracing::error!(
                    key = text(&key),
                    "a row cannot be read and stays where it is"
                );
                continue;
            };
            if row.body.expired(now) {
                group.rows.insert(key.to_vec(), None);
                self.counters.instant = self.counters.instant.max(now);
            }
        }
        Ok(self.sweep_from.is_empty())
    }
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
