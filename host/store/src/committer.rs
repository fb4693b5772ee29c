//! Judges commits, in commit order: what is valid, what it writes, and which versions and positions it
//! gets.
//!
//! Nothing here reads or writes a disk. The rows come through [`Rows`], and what is to be written
//! leaves as a [`Batch`], so the same judging runs over sled and in a simulation.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use countersign_types::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::limit::Window;
use crate::row::{KEY_BYTES_MAX, ROW_BYTES_MAX};
use crate::{Body, Commit, CommitError, Committed, Read, Row, ScanRead, StoreError, event};

/// How many rows one sweep looks at.
const SWEEP_ROWS: usize = 2_000;

/// How long events are kept.
const EVENTS_KEPT: Duration = Duration::from_secs(400 * 24 * 3600);

/// Where the committer's own counters lie, written with every group.
const COUNTERS_KEY: &[u8] = b"!counters";

/// How many events one group's row holds at most.
pub(crate) const GROUP_EVENTS_MAX: usize = 4_096;

/// The applied rows, as stored bytes in byte order of their keys.
pub trait Rows {
    /// A key or a row.
    type Bytes: AsRef<[u8]>;

    /// The row under `key`.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Self::Bytes>, StoreError>;

    /// The rows of `range`, in order.
    fn range<'a>(
        &'a self,
        range: (Bound<&'a [u8]>, Bound<&'a [u8]>),
    ) -> impl Iterator<Item = Result<(Self::Bytes, Self::Bytes), StoreError>> + 'a;
}

/// What a group writes, each key once: the stored bytes, or `None` where the row goes. To be applied
/// as a whole or not at all.
pub type Batch = Vec<(Vec<u8>, Option<Vec<u8>>)>;

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Counters {
    /// Of the last commit.
    version: u64,
    /// Of the last event.
    position: u64,
    /// The latest instant of any commit.
    instant: UnixMillis,
}

/// Rows that the present group has written and the applied state does not have yet.
type Overlay = BTreeMap<Vec<u8>, Option<Row>>;

/// What the commits of one group have written so far.
#[derive(Debug, Default)]
pub struct Group {
    rows: Overlay,
    events: Vec<Vec<u8>>,
}

impl Group {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.events.is_empty()
    }

    /// Whether the row of its events has room for those of another commit.
    pub fn has_room(&self) -> bool {
        self.events.len() < GROUP_EVENTS_MAX / 2
    }
}

/// Judges the commits of one store. There is one at a time.
#[derive(Debug)]
pub struct Committer<R> {
    rows: R,
    counters: Counters,
    sweep_from: Vec<u8>,
}

impl<R: Rows> Committer<R> {
    /// Goes on from the counters among `rows`, or begins with new ones.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`] where there are none though the store `has_held_data`, or they make
    /// no sense: it is damaged. Others when the rows cannot be read.
    pub fn open(rows: R, has_held_data: bool) -> Result<Committer<R>, StoreError> {
        let damaged = || StoreError::Unreadable {
            key: text(COUNTERS_KEY),
        };
        let counters = match rows.get(COUNTERS_KEY)? {
            None if has_held_data => return Err(damaged()),
            None => Counters::default(),
            Some(bytes) => postcard::from_bytes(bytes.as_ref()).map_err(|_| damaged())?,
        };
        Ok(Committer {
            rows,
            counters,
            sweep_from: Vec::new(),
        })
    }

    /// The newest instant of any commit, of the present group as well.
    pub fn newest_instant(&self) -> UnixMillis {
        self.counters.instant
    }

    /// The position of the newest event, of the present group as well; 0 where there never was one.
    pub fn newest_event(&self) -> u64 {
        self.counters.position
    }

    /// Lets the newest instant be another one, also an earlier one: the machine's clock was set back.
    pub fn set_newest_instant(&mut self, instant: UnixMillis) {
        self.counters.instant = instant;
    }

    /// Uses up a version, so that a batch without rows has something to write.
    pub(crate) fn skip_version(&mut self) {
        self.counters.version += 1;
    }

    /// What the group writes, the counters included.
    pub fn batch(&self, group: Group) -> Batch {
        let mut batch: Batch = group
            .rows
            .into_iter()
            .map(|(key, row)| (key, row.map(|row| row.to_bytes())))
            .collect();
        let mut first = self.counters.position + 1 - group.events.len() as u64;
        for events in event::packed(group.events) {
            let next = first + events.len() as u64;
            let row = Row {
                version: self.counters.version,
                body: Body::Events {
                    events,
                    expires: Some(self.counters.instant + EVENTS_KEPT),
                },
            };
            batch.push((event::key(first), Some(row.to_bytes())));
            first = next;
        }
        // Serialising three numbers into a `Vec` cannot fail.
        let counters = postcard::to_allocvec(&self.counters).unwrap_or_default();
        batch.push((COUNTERS_KEY.to_vec(), Some(counters)));
        batch
    }

    /// Judges one commit against the applied state and the group so far, and adds it to the group.
    /// It counts when the group's batch has been applied, and may be told when that is durable.
    ///
    /// # Errors
    ///
    /// See [`CommitError`]: nothing of it was added.
    pub fn admit(&mut self, group: &mut Group, commit: Commit) -> Result<Committed, CommitError> {
        for write in &commit.writes {
            let bytes = write.body.as_ref().map_or(0, Body::bytes);
            if write.key.len() > KEY_BYTES_MAX || bytes > ROW_BYTES_MAX {
                let key = text(&write.key);
                return Err(StoreError::TooLong { key }.into());
            }
        }
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
        match self.rows.get(key)? {
            None => Ok(None),
            Some(bytes) => Row::from_bytes(key, bytes.as_ref()).map(Some),
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
        for entry in self.rows.range(range) {
            let (key, bytes) = entry?;
            let row = Row::from_bytes(key.as_ref(), bytes.as_ref())?;
            rows.insert(key.as_ref().to_vec(), row);
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
    /// Returns whether the pass over all rows is complete.
    ///
    /// # Errors
    ///
    /// When rows cannot be read.
    pub fn sweep(&mut self, group: &mut Group, now: UnixMillis) -> Result<bool, StoreError> {
        let from = std::mem::take(&mut self.sweep_from);
        let range = (Bound::Included(from.as_slice()), Bound::Unbounded);
        let mut seen = 0;
        for entry in self.rows.range(range) {
            let (key, bytes) = entry?;
            let (key, bytes) = (key.as_ref(), bytes.as_ref());
            seen += 1;
            if seen > SWEEP_ROWS {
                self.sweep_from = key.to_vec();
                break;
            }
            if key == COUNTERS_KEY || group.rows.contains_key(key) {
                continue;
            }
            let Ok(row) = Row::from_bytes(key, bytes) else {
                tracing::error!(
                    key = text(key),
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
