//! Numbers that have answered STOP, and to whom.
//!
//! A sender is a provider as it is configured: its number, or its pool of numbers. What somebody has said
//! to one says nothing of another. A row lies under the keyed hash of the number and holds no number, so
//! it stays when a number is erased: messages must not begin again by that.
//!
//! **The newest word counts, and not the one that comes last.** Companies repeat what they were not
//! thanked for, and whoever has seen a signed STOP or START can send it again. So the time of the newest
//! word is kept, and the ids of the latest ones, also after a START.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_store::{Commit, CommitError, Need, Read, StoreError};
use countersign_types::{Reply, UnixMillis, Wish};
use serde::{Deserialize, Serialize};

use crate::Job;
use crate::claims::RUNS_MAX;
use crate::queue::Queue;
use crate::reading::Found;
use crate::receipts::{ReceiveError, seen, unseen};
use crate::rows::{self, stops_key};

/// How many ids of words are kept for each sender: what says no time is known again by its id alone.
const IDS_MAX: usize = 8;

/// What a number has answered to providers, by their names. There are as many as were ever configured at
/// most.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Stops(BTreeMap<String, Heard>);

/// What it has answered to one.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Heard {
    stopped: bool,
    /// When the newest word was written; where nobody said so, when it came.
    at: UnixMillis,
    /// Of the latest words, the newest first.
    ids: Vec<String>,
}

/// A sender that a number wants nothing from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The provider's name.
    pub provider: String,
    /// When STOP was written.
    pub since: UnixMillis,
}

/// What a word has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It was known, or an older one.
    Nothing,
    /// It is the newest one, and says what the one before it said.
    Time,
    /// It says something else.
    Wish,
}

impl Stops {
    /// Whether the number wants nothing from `provider`.
    pub fn has(&self, provider: &str) -> bool {
        self.0.get(provider).is_some_and(|heard| heard.stopped)
    }

    /// Whether it wants nothing from one of `providers`.
    pub fn has_any(&self, providers: &[Arc<str>]) -> bool {
        providers.iter().any(|provider| self.has(provider))
    }

    /// Whether it wants nothing from any of `providers`, of which there are some.
    pub fn has_all(&self, providers: &[Arc<str>]) -> bool {
        !providers.is_empty() && providers.iter().all(|provider| self.has(provider))
    }

    /// All of which it wants nothing, by their names.
    pub fn list(&self) -> Vec<Stop> {
        let stopped = self.0.iter().filter(|(_, heard)| heard.stopped);
        stopped
            .map(|(provider, heard)| Stop {
                provider: provider.clone(),
                since: heard.at,
            })
            .collect()
    }

    /// Works a word to `provider` in.
    fn take(&mut self, provider: &str, reply: &Reply, now: UnixMillis) -> Change {
        let known = self.0.get(provider);
        let newest = known.map_or(UnixMillis(0), |heard| heard.at);
        let at = match reply.at {
            // One from the future would make all that come until then old.
            Some(at) => at.min(now),
            // What says no time is new, also after a step back of the clock.
            None => now.max(newest),
        };
        let id = reply.id.as_ref();
        let is_known =
            known.is_some_and(|heard| at < heard.at || id.is_some_and(|id| heard.ids.contains(id)));
        if is_known {
            return Change::Nothing;
        }
        let heard = self.0.entry(provider.to_owned()).or_default();
        heard.at = at;
        if let Some(id) = id {
            heard.ids.truncate(IDS_MAX - 1);
            heard.ids.insert(0, id.clone());
        }
        let stop = reply.wish == Wish::Stop;
        match std::mem::replace(&mut heard.stopped, stop) == stop {
            true => Change::Time,
            false => Change::Wish,
        }
    }

    /// Lets messages go again, of `provider` or of all; how many were stopped. What was written before
    /// stays old.
    fn clear(&mut self, provider: Option<&str>, now: UnixMillis) -> usize {
        let mut cleared = 0;
        for (name, heard) in &mut self.0 {
            if heard.stopped && provider.is_none_or(|provider| provider == name) {
                heard.stopped = false;
                heard.at = heard.at.max(now);
                cleared += 1;
            }
        }
        cleared
    }
}

impl Queue {
    /// What the phone that `e164` reaches has answered to senders; `None` where the row of it cannot be
    /// read, which has been told of.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn stops(&self, e164: &str) -> Result<Option<Stops>, StoreError> {
        let row_key = stops_key(&self.number_index(e164));
        // They have no end that the time could be after.
        Ok(match self.find::<Stops>(&row_key, UnixMillis(0)).await? {
            Found::Row(row) => Some(row.value),
            Found::Nothing => Some(Stops::default()),
            Found::Unreadable => None,
        })
    }

    /// Whether the receiver of `job`, which is about to be accepted, is to be left alone: where it carries a
    /// code, which somebody has just asked for, by all senders of its route; else by one of them, since who
    /// has answered STOP to one is not written to by the next. A row that cannot be read holds nobody's
    /// codes back.
    ///
    /// # Errors
    ///
    /// When the store fails, or the row cannot be read and the message carries no code: nobody can say
    /// then that its receiver wants it.
    pub async fn is_stopped(&self, job: &Job) -> Result<bool, StoreError> {
        let Some(stops) = self.stops(&job.to).await? else {
            return match job.challenge {
                Some(_) => Ok(false),
                None => Err(self.unreadable_stops(&job.to)),
            };
        };
        if stops.0.is_empty() {
            return Ok(false);
        }
        let route = self.inner.config.lanes.providers(job.destination());
        Ok(match job.challenge {
            None => stops.has_any(route),
            Some(_) => stops.has_all(route),
        })
    }

    fn unreadable_stops(&self, e164: &str) -> StoreError {
        StoreError::Unreadable {
            key: String::from_utf8_lossy(&stops_key(&self.number_index(e164))).into_owned(),
        }
    }

    /// Remembers what somebody has answered to `provider`; whether it changes anything. Returns when that is
    /// durable.
    ///
    /// # Errors
    ///
    /// See [`ReceiveError`]; also where the row of the number cannot be read, which is not written over: it
    /// may say STOP to others.
    pub async fn heard(
        &self,
        provider: &str,
        reply: &Reply,
        now: UnixMillis,
    ) -> Result<bool, ReceiveError> {
        let row_key = stops_key(&self.number_index(&reply.phone));
        for _ in 0..RUNS_MAX {
            let (mut stops, read) = match self.find::<Stops>(&row_key, now).await? {
                Found::Row(row) => {
                    let read = seen(row_key.clone(), row.version, row.expires);
                    (row.value, read)
                }
                Found::Nothing => (Stops::default(), unseen(row_key.clone())),
                Found::Unreadable => return Err(self.unreadable_stops(&reply.phone).into()),
            };
            let change = stops.take(provider, reply, now);
            let write = (change != Change::Nothing).then_some(&stops);
            if self.keep_stops(&row_key, Some(read), write, now).await? {
                return Ok(change == Change::Wish);
            }
        }
        Err(ReceiveError::Busy)
    }

    /// Lets messages of `provider`, or of all, go to the phone that `e164` reaches again; how many senders
    /// it had answered STOP to. Without a name a row that cannot be read is replaced by one that says
    /// nothing. Returns when that is durable.
    ///
    /// # Errors
    ///
    /// See [`ReceiveError`].
    pub async fn clear_stops(
        &self,
        e164: &str,
        provider: Option<&str>,
        now: UnixMillis,
    ) -> Result<usize, ReceiveError> {
        let row_key = stops_key(&self.number_index(e164));
        for _ in 0..RUNS_MAX {
            let (mut stops, read) = match self.find::<Stops>(&row_key, now).await? {
                Found::Row(row) => {
                    let read = seen(row_key.clone(), row.version, row.expires);
                    (row.value, Some(read))
                }
                Found::Nothing => return Ok(0),
                Found::Unreadable if provider.is_some() => {
                    return Err(self.unreadable_stops(e164).into());
                }
                Found::Unreadable => (Stops::default(), None),
            };
            let cleared = stops.clear(provider, now);
            let write = (cleared > 0 || read.is_none()).then_some(&stops);
            if self.keep_stops(&row_key, read, write, now).await? {
                return Ok(cleared);
            }
        }
        Err(ReceiveError::Busy)
    }

    /// Writes the row of a number; whether what was `read` still held. Also where nothing is written: the
    /// answer must not leave before what was read is durable.
    async fn keep_stops(
        &self,
        row_key: &[u8],
        read: Option<Read>,
        write: Option<&Stops>,
        now: UnixMillis,
    ) -> Result<bool, ReceiveError> {
        let write = match write {
            Some(stops) => Some(rows::put(
                &self.inner.keyring,
                row_key.to_vec(),
                stops,
                None,
            )?),
            None => None,
        };
        let commit = Commit {
            instant: now,
            reads: read.into_iter().collect(),
            writes: write.into_iter().collect(),
            need: Need::Deliver,
            ..Commit::default()
        };
        match self.inner.store.commit(commit).await {
            Ok(_) => Ok(true),
            Err(CommitError::Store(error)) => Err(error.into()),
            Err(CommitError::Full) => Err(ReceiveError::Busy),
            Err(_) => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests;
