//! Sent messages in the order of time, for whoever asks providers what became of them.
//!
//! Most messages are sent at once, and lie in order of their acceptance anyway. One that was sent
//! later than [`FOLLOW_SENT_WITHIN`] after it has a row of its own, by the time of sending, so that
//! it is not passed by before it was sent.

use std::time::Duration;

use countersign_store::{Commit, CommitError, StoreError};
use countersign_types::{MessageId, Status, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::MessageRow;
use crate::queue::Queue;
use crate::rows::{self, FOLLOWER, MESSAGES, key, late_key};

/// Up to so long after its acceptance a message counts as sent at once.
pub const FOLLOW_SENT_WITHIN: Duration = Duration::from_secs(60);

/// How a sent message is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Line {
    /// By its acceptance: one that was sent at once.
    Accepted,
    /// By its sending: one that was sent late.
    Sent,
}

/// A place in a line: everything before it has been seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor(Vec<u8>);

impl Line {
    /// The place of what happened at `time`.
    pub fn at(self, time: UnixMillis) -> Cursor {
        Cursor(match self {
            Line::Accepted => key(MESSAGES, MessageId::first_at(time)),
            Line::Sent => late_key(time, MessageId([0; 16])),
        })
    }
}

/// A sent message that something is still to be learnt of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Its id.
    pub id: MessageId,
    /// Which provider took it.
    pub provider: String,
    /// The provider's ids.
    pub ids: Vec<String>,
    /// Whether it has no price yet.
    pub lacks_price: bool,
    /// Whether its receipt was asked for and has not come.
    pub lacks_receipt: bool,
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowPage {
    /// What was found.
    pub found: Vec<Followed>,
    /// Where to go on.
    pub next: Cursor,
    /// Whether the end was reached.
    pub end: bool,
}

impl MessageRow {
    /// Whether something is still to be learnt of it.
    pub(crate) fn is_followed(&self) -> bool {
        self.sent
            .as_ref()
            .is_some_and(|sent| sent.price.is_none() || self.lacks_receipt())
    }

    fn lacks_receipt(&self) -> bool {
        let asked = self.sent.as_ref().is_some_and(|sent| sent.receipt_asked);
        asked && self.status == Status::Sent
    }
}

impl Queue {
    /// The sent messages of `line` from `from` up to `to` that something is still to be learnt of;
    /// looks at `rows` rows at most.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn follow(
        &self,
        line: Line,
        from: &Cursor,
        to: &Cursor,
        rows: usize,
        now: UnixMillis,
    ) -> Result<FollowPage, StoreError> {
        let mut page = FollowPage {
            found: Vec::new(),
            next: from.clone(),
            end: true,
        };
        if from >= to {
            return Ok(page);
        }
        let found = self.inner.store.scan(&from.0, &to.0, rows).await?;
        page.end = found.len() < rows;
        page.next = match found.last() {
            Some((last, _)) if !page.end => Cursor([last.as_slice(), &[0]].concat()),
            _ => to.clone(),
        };
        for (row_key, row) in found {
            let (id, message) = match line {
                Line::Accepted => {
                    let read = rows::open(&self.inner.keyring, &row_key, &row, now);
                    (rows::id_of(MESSAGES, &row_key), read)
                }
                Line::Sent => {
                    let Some((_, id)) = rows::late_of(&row_key) else {
                        continue;
                    };
                    (Some(id), self.get(&key(MESSAGES, id), now).await)
                }
            };
            let (Some(id), Ok(Some(message))) = (id, message) else {
                continue;
            };
            let message: MessageRow = message.value;
            let is_late = message.left.since(id.time()) > FOLLOW_SENT_WITHIN;
            if is_late != (line == Line::Sent) || !message.is_followed() {
                continue;
            }
            page.found.extend(Followed::of(id, message));
        }
        Ok(page)
    }

    /// What the follower has noted of where it is; nothing where that is sealed under a key that is not
    /// there: it is a note only.
    ///
    /// # Errors
    ///
    /// When the store fails or the row cannot be read.
    pub async fn follower(
        &self,
        now: UnixMillis,
    ) -> Result<Option<Vec<(Line, Cursor)>>, StoreError> {
        let Some(row) = self.inner.store.get(FOLLOWER).await? else {
            return Ok(None);
        };
        let keyring = &self.inner.keyring;
        if rows::key_is_missing(keyring, &row) {
            return Ok(None);
        }
        let opened = rows::open(keyring, FOLLOWER, &row, now)?;
        Ok(opened.map(|row| row.value))
    }

    /// Notes where the follower is.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn note_follower(
        &self,
        cursors: &[(Line, Cursor)],
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let row = rows::put(&self.inner.keyring, FOLLOWER.to_vec(), &cursors, None)?;
        let commit = Commit {
            instant: now,
            writes: vec![row],
            ..Commit::default()
        };
        match self.inner.store.commit(commit).await {
            Err(CommitError::Store(error)) => Err(error),
            // It has read nothing that could have changed.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl Followed {
    fn of(id: MessageId, message: MessageRow) -> Option<Followed> {
        let lacks_receipt = message.lacks_receipt();
        let sent = message.sent?;
        Some(Followed {
            id,
            lacks_price: sent.price.is_none(),
            lacks_receipt,
            provider: sent.provider,
            ids: sent.parts.into_iter().map(|part| part.id).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
