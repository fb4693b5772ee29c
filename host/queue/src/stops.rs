//! Numbers that have answered STOP, and to whom.
//!
//! A sender is a provider as it is configured: its number, or its pool of numbers. What somebody has said
//! to one says nothing of another. A row lies under the keyed hash of the number and holds no number, so
//! it stays when a number is erased: messages must not begin again by that. It has no end but START.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_store::{Commit, CommitError, Need, StoreError};
use countersign_types::{UnixMillis, Wish};
use serde::{Deserialize, Serialize};

use crate::Job;
use crate::claims::RUNS_MAX;
use crate::queue::Queue;
use crate::reading::Found;
use crate::receipts::{ReceiveError, seen, unseen};
use crate::rows::{self, gone, stops_key};

/// The providers that a number has answered STOP to, and when. There are as many as were ever configured
/// at most.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Stops(BTreeMap<String, UnixMillis>);

impl Stops {
    /// Whether the number wants nothing from `provider`.
    pub fn has(&self, provider: &str) -> bool {
        self.0.contains_key(provider)
    }

    /// Whether it wants nothing from one of `providers`.
    pub fn has_any(&self, providers: &[Arc<str>]) -> bool {
        providers.iter().any(|provider| self.has(provider))
    }

    /// Whether it wants nothing from any of `providers`, of which there are some.
    pub fn has_all(&self, providers: &[Arc<str>]) -> bool {
        !providers.is_empty() && providers.iter().all(|provider| self.has(provider))
    }

    /// Works a wish in; whether it is news.
    fn take(&mut self, provider: &str, wish: Wish, now: UnixMillis) -> bool {
        match wish {
            Wish::Stop if self.has(provider) => false,
            Wish::Stop => self.0.insert(provider.to_owned(), now).is_none(),
            Wish::Start => self.0.remove(provider).is_some(),
        }
    }
}

impl Queue {
    /// What the phone that `e164` reaches has answered STOP to. A row that cannot be read holds nobody's
    /// codes back; it has been told of.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn stops(&self, e164: &str) -> Result<Stops, StoreError> {
        let row_key = stops_key(&self.number_index(e164));
        // They have no end that the time could be after.
        Ok(match self.find::<Stops>(&row_key, UnixMillis(0)).await? {
            Found::Row(row) => row.value,
            Found::Nothing | Found::Unreadable => Stops::default(),
        })
    }

    /// Whether the receiver of `job`, which is about to be accepted, is to be left alone: where it carries a
    /// code, which somebody has just asked for, by all senders of its route; else by one of them, since who
    /// has answered STOP to one is not written to by the next.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn is_stopped(&self, job: &Job) -> Result<bool, StoreError> {
        let stops = self.stops(&job.to).await?;
        if stops.0.is_empty() {
            return Ok(false);
        }
        let route = self.inner.config.lanes.providers(job.destination());
        Ok(match job.challenge {
            None => stops.has_any(route),
            Some(_) => stops.has_all(route),
        })
    }

    /// Remembers what the phone that `e164` reaches has answered to `provider`; whether it is news. Returns
    /// when that is durable.
    ///
    /// # Errors
    ///
    /// See [`ReceiveError`].
    pub async fn heard(
        &self,
        provider: &str,
        e164: &str,
        wish: Wish,
        now: UnixMillis,
    ) -> Result<bool, ReceiveError> {
        let row_key = stops_key(&self.number_index(e164));
        for _ in 0..RUNS_MAX {
            let (mut stops, read) = match self.find::<Stops>(&row_key, now).await? {
                Found::Row(row) => {
                    let read = seen(row_key.clone(), row.version, row.expires);
                    (row.value, Some(read))
                }
                Found::Nothing => (Stops::default(), Some(unseen(row_key.clone()))),
                // It is written over: what is said now must not be lost with it.
                Found::Unreadable => (Stops::default(), None),
            };
            let is_news = stops.take(provider, wish, now);
            let write = match is_news {
                true if stops.0.is_empty() => Some(gone(row_key.clone())),
                true => {
                    let row_key = row_key.clone();
                    Some(rows::put(&self.inner.keyring, row_key, &stops, None)?)
                }
                false => None,
            };
            // Also where nothing is written: the answer must not leave before what was read is durable.
            let commit = Commit {
                instant: now,
                reads: read.into_iter().collect(),
                writes: write.into_iter().collect(),
                need: Need::Deliver,
                ..Commit::default()
            };
            match self.inner.store.commit(commit).await {
                Ok(_) => return Ok(is_news),
                Err(CommitError::Store(error)) => return Err(error.into()),
                Err(CommitError::Full) => return Err(ReceiveError::Busy),
                Err(_) => {}
            }
        }
        Err(ReceiveError::Busy)
    }
}

#[cfg(test)]
mod tests;
