//! All messages that were accepted in a span of time, as they stand now: for who counts them anew.

use std::time::Duration;

use countersign_store::StoreError;
use countersign_types::{Event, MessageId, Status, UnixMillis};

use crate::dead::DeadRow;
use crate::reading::Found;
use crate::rows::{JOBS, MESSAGES, dead_id, dead_key, id_of, key};
use crate::{Job, MessageRow, Queue};

/// Where a page of messages begins: in which kind of rows, and at which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingCursor {
    kind: Kind,
    /// `None`: at the first one.
    from: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Waiting,
    Over,
    Dead,
}

/// Some messages, each as an event of the kind `message.stands`, which is in no log: with its status as
/// `is`, and with what the events of its life have told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingPage {
    /// The messages. Of rows that cannot be read there are none.
    pub messages: Vec<Event>,
    /// Where to go on.
    pub next: Option<StandingCursor>,
}

impl Queue {
    /// Messages that were accepted from `from` on and before `to`, from `cursor` on; looks at `rows` rows
    /// at most. A message that goes on between two pages may be in both, or in none: its events say so.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn standing(
        &self,
        (from, to): (UnixMillis, UnixMillis),
        cursor: Option<StandingCursor>,
        rows: usize,
        now: UnixMillis,
    ) -> Result<StandingPage, StoreError> {
        let (first, end) = (MessageId::first_at(from), MessageId::first_at(to));
        let cursor = cursor.unwrap_or(StandingCursor {
            kind: Kind::Waiting,
            from: None,
        });
        let (begin, end) = match cursor.kind {
            Kind::Waiting => (key(JOBS, first), key(JOBS, end)),
            Kind::Over => (key(MESSAGES, first), key(MESSAGES, end)),
            // In the other direction, so that the last one is the first.
            Kind::Dead => (after(&dead_key(end)), after(&dead_key(first))),
        };
        let begin = cursor.from.unwrap_or(begin);
        let found = self.inner.store.scan(&begin, &end, rows).await?;
        let next = match (found.last(), cursor.kind) {
            (Some((last, _)), kind) if found.len() == rows => Some((kind, Some(after(last)))),
            (_, Kind::Waiting) => Some((Kind::Over, None)),
            (_, Kind::Over) => Some((Kind::Dead, None)),
            (_, Kind::Dead) => None,
        };
        let mut messages = Vec::new();
        for (key, row) in found {
            let message = match cursor.kind {
                Kind::Waiting => match (id_of(JOBS, &key), self.open_row::<Job>(&key, row, now)) {
                    (Some(id), Found::Row(job)) => Some(job.value.stands(id)),
                    _ => None,
                },
                Kind::Over => {
                    let id = id_of(MESSAGES, &key);
                    match (id, self.open_row::<MessageRow>(&key, row, now)) {
                        (Some(id), Found::Row(message)) => Some(message.value.stands(id)),
                        _ => None,
                    }
                }
                Kind::Dead => match (dead_id(&key), self.open_row::<DeadRow>(&key, row, now)) {
                    (Some(id), Found::Row(dead)) => {
                        let DeadRow { job, ended, .. } = dead.value;
                        Some(job.into_message(Status::Failed, ended).stands(id))
                    }
                    _ => None,
                },
            };
            messages.extend(message);
        }
        let next = next.map(|(kind, from)| StandingCursor { kind, from });
        Ok(StandingPage { messages, next })
    }

    /// Since when there may be messages: the time of the oldest that waits or is over, rounded down to
    /// the `step`; `None` where there is none.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn oldest(&self, step: Duration) -> Result<Option<UnixMillis>, StoreError> {
        let mut oldest: Option<UnixMillis> = None;
        for (prefix, end) in [(JOBS, b"j0".as_slice()), (MESSAGES, b"m0")] {
            let first = self.inner.store.scan(prefix, end, 1).await?;
            let id = first.first().and_then(|(key, _)| id_of(prefix, key));
            let time = id.map(MessageId::time);
            oldest = [oldest, time].into_iter().flatten().min();
        }
        let step = u64::try_from(step.as_millis()).unwrap_or(1).max(1);
        Ok(oldest.map(|time| UnixMillis(time.0 / step * step)))
    }
}

/// The first key after `key`.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

#[cfg(test)]
mod tests;
