//! Reading rows: what is found under a key, and what cannot be read.
//!
//! Most rows are one message among many, and the others must not wait for one that is damaged, of a
//! newer format, or sealed under a key that is gone: it stays where it is and is passed by.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use countersign_store::{Row, StoreError};
use countersign_types::UnixMillis;
use serde::de::DeserializeOwned;

use crate::Queue;
use crate::rows::{self, Opened};

/// Of how many rows that cannot be read it is told. Where there are more, something else is wrong, and
/// these say so.
const TOLD_MAX: usize = 1_000;

/// The rows that could not be read and were told of.
#[derive(Debug, Default)]
pub(crate) struct Unreadable(Mutex<HashSet<Vec<u8>>>);

impl Unreadable {
    fn tell(&self, key: &[u8], error: &StoreError) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD_MAX && told.insert(key.to_vec()) {
            let what = rows::kind(key);
            tracing::error!(what, %error, "a row cannot be read and is passed by");
        }
    }
}

/// What was found under a key.
#[derive(Debug)]
pub(crate) enum Found<T> {
    Row(Opened<T>),
    /// No row, or one that has expired.
    Nothing,
    /// One that cannot be read. It has been told of.
    Unreadable,
}

impl Queue {
    /// The row under `key`, where it is there and has not expired, for whoever asks for it alone.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        key: &[u8],
        now: UnixMillis,
    ) -> Result<Option<Opened<T>>, StoreError> {
        match self.inner.store.get(key).await? {
            Some(row) => rows::open(&self.inner.keyring, key, &row, now),
            None => Ok(None),
        }
    }

    /// As [`get`](Queue::get), for whoever goes on with others where it cannot be read.
    pub(crate) async fn find<T: DeserializeOwned>(
        &self,
        key: &[u8],
        now: UnixMillis,
    ) -> Result<Found<T>, StoreError> {
        Ok(match self.inner.store.get(key).await {
            Ok(Some(row)) => self.open_row(key, Ok(row), now),
            Ok(None) => Found::Nothing,
            Err(error @ StoreError::Unreadable { .. }) => self.open_row(key, Err(error), now),
            Err(error) => return Err(error),
        })
    }

    /// What a row holds that a scan has found under `key`.
    pub(crate) fn open_row<T: DeserializeOwned>(
        &self,
        key: &[u8],
        row: Result<Row, StoreError>,
        now: UnixMillis,
    ) -> Found<T> {
        match row.and_then(|row| rows::open(&self.inner.keyring, key, &row, now)) {
            Ok(Some(row)) => Found::Row(row),
            Ok(None) => Found::Nothing,
            Err(error) => {
                self.inner.unreadable.tell(key, &error);
                Found::Unreadable
            }
        }
    }
}

#[cfg(test)]
mod tests;
