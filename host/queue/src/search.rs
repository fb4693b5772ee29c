//! Finding messages: by time, and by number. The newest come first, page by page.
//!
//! A message lies in one of three places: where it waits, where it is over, or among the dead letters.
//! In each the rows are in order of its acceptance, or turned, so a page is the newest of three lines.
//! Those of a number that are over have rows of their own (`numbers.rs`); the ones that wait are looked
//! through.

use countersign_store::{Scanned, StoreError};
use countersign_types::{MessageId, UnixMillis, one_phone};
use serde::de::DeserializeOwned;

use crate::dead::{self, DeadRow};
use crate::queue::Queue;
use crate::reading::Found;
use crate::rows::{JOBS, MESSAGES, dead_id, dead_key, id_of, key, number_id, number_key};
use crate::{Job, MessageRow, MessageView};

/// How many messages a page holds at most.
pub const SEARCH_PAGE_MAX: usize = 100;
/// How many rows one search looks at in each place: some tens of milliseconds.
const LOOKED_AT_MAX: usize = 20_000;
/// How many of them at once.
const LOOKED_AT_ONCE: usize = 500;
/// The latest time that a message's id can hold.
const TIME_MAX: UnixMillis = UnixMillis((1 << 48) - 1);

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// The receiver in E.164; `None`: any.
    pub number: Option<&'a str>,
    /// Accepted at or after.
    pub from: UnixMillis,
    /// Accepted before.
    pub to: UnixMillis,
    /// Older than this one: the `next` of the page before.
    pub after: Option<MessageId>,
    /// At most so many, and at most [`SEARCH_PAGE_MAX`].
    pub limit: usize,
}

/// Messages, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPage {
    /// Their stories. There may be fewer than were asked for though there are more: then as many rows
    /// have been looked at as one search may.
    pub messages: Vec<MessageView>,
    /// Where to go on; `None` at the end.
    pub next: Option<MessageId>,
}

/// Ids from `low` on, up to and without `below`.
#[derive(Clone, Copy)]
struct Span {
    low: MessageId,
    below: MessageId,
}

/// What one place has, the newest first.
struct Line<T> {
    found: Vec<T>,
    /// Down to which id it was looked through; `None`: all of it.
    looked_to: Option<MessageId>,
}

impl Search<'_> {
    fn span(&self) -> Span {
        let low = MessageId::first_at(self.from.min(TIME_MAX));
        let to = match self.to > TIME_MAX {
            true => MessageId([0xff; 16]),
            false => MessageId::first_at(self.to),
        };
        Span {
            low,
            below: self.after.map_or(to, |after| after.min(to)),
        }
    }
}

impl Span {
    /// The keys of rows that lie by age, from the oldest on.
    fn keys(self, prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (key(prefix, self.low), key(prefix, self.below))
    }

    /// The keys of rows that lie turned, as `key_of` makes them.
    fn turned(self, key_of: impl Fn(MessageId) -> Vec<u8>) -> (Vec<u8>, Vec<u8>) {
        let behind = |id| [key_of(id).as_slice(), &[0]].concat();
        (behind(self.below), behind(self.low))
    }
}

impl Queue {
    /// The messages that `search` is after. One that moves meanwhile (it is sent, or replayed) is there
    /// once, or, where it was replayed, may be missing from that page.
    ///
    /// # Errors
    ///
    /// When the store fails. What cannot be read is passed by.
    pub async fn search(
        &self,
        search: Search<'_>,
        now: UnixMillis,
    ) -> Result<SearchPage, StoreError> {
        let limit = search.limit.clamp(1, SEARCH_PAGE_MAX);
        let span = search.span();
        let lines = match search.number {
            // In the order in which a message moves.
            Some(number) => vec![
                self.waiting_in(span, Some(&one_phone(number)), limit, now)
                    .await?,
                self.of_number(span, number, limit, now).await?,
            ],
            None => vec![
                self.waiting_in(span, None, limit, now).await?,
                self.over_in(span, limit, now).await?,
                self.dead_in(span, limit, now).await?,
            ],
        };
        Ok(merged(lines, limit))
    }

    async fn waiting_in(
        &self,
        span: Span,
        phone: Option<&str>,
        limit: usize,
        now: UnixMillis,
    ) -> Result<Line<MessageView>, StoreError> {
        let (from, to) = span.keys(JOBS);
        self.look_back(from, to, limit, |key, row| {
            let job = self.row_of::<Job>(key, row, now)?;
            if phone.is_some_and(|phone| one_phone(&job.to) != phone) {
                return None;
            }
            Some(MessageView::waiting(id_of(JOBS, key)?, job))
        })
        .await
    }

    async fn over_in(
        &self,
        span: Span,
        limit: usize,
        now: UnixMillis,
    ) -> Result<Line<MessageView>, StoreError> {
        let (from, to) = span.keys(MESSAGES);
        self.look_back(from, to, limit, |key, row| {
            let row = self.row_of::<MessageRow>(key, row, now)?;
            Some(MessageView::over(id_of(MESSAGES, key)?, row))
        })
        .await
    }

    async fn dead_in(
        &self,
        span: Span,
        limit: usize,
        now: UnixMillis,
    ) -> Result<Line<MessageView>, StoreError> {
        let (from, to) = span.turned(dead_key);
        self.look_on(from, to, limit, dead_id, |id, key, row| {
            let dead = self.row_of::<DeadRow>(key, row, now)?;
            Some(dead::view(id, dead))
        })
        .await
    }

    async fn of_number(
        &self,
        span: Span,
        number: &str,
        limit: usize,
        now: UnixMillis,
    ) -> Result<Line<MessageView>, StoreError> {
        let index = self.number_index(number);
        let (from, to) = span.turned(|id| number_key(&index, id));
        let ids = self.look_on(from, to, limit, number_id, |id, key, row| {
            let to = self.row_of::<String>(key, row, now)?;
            (one_phone(&to) == one_phone(number)).then_some(id)
        });
        let ids = ids.await?;
        let mut found = Vec::new();
        for id in ids.found {
            found.extend(self.look_for(id, now).await?);
        }
        let looked_to = ids.looked_to;
        Ok(Line { found, looked_to })
    }

    /// What lies from `from` up to `to` in order of age and `read` takes, from the end on.
    async fn look_back<T>(
        &self,
        from: Vec<u8>,
        mut to: Vec<u8>,
        limit: usize,
        read: impl Fn(&[u8], Scanned) -> Option<T>,
    ) -> Result<Line<T>, StoreError> {
        let mut found = Vec::new();
        let mut looked_at = 0;
        while looked_at < LOOKED_AT_MAX && found.len() < limit {
            let rows = self
                .inner
                .store
                .scan_back(&from, &to, LOOKED_AT_ONCE)
                .await?;
            let is_end = rows.len() < LOOKED_AT_ONCE;
            looked_at += rows.len();
            for row in rows {
                to.clone_from(&row.0);
                found.extend(read(&to, row));
                if found.len() == limit {
                    break;
                }
            }
            if is_end && found.len() < limit {
                let looked_to = None;
                return Ok(Line { found, looked_to });
            }
            tokio::task::yield_now().await;
        }
        let looked_to = to.last_chunk().copied().map(MessageId);
        Ok(Line { found, looked_to })
    }

    /// What lies from `from` up to `to`, turned, and `read` takes; `id_of` says whose row it is.
    async fn look_on<T>(
        &self,
        mut from: Vec<u8>,
        to: Vec<u8>,
        limit: usize,
        id_of: impl Fn(&[u8]) -> Option<MessageId>,
        read: impl Fn(MessageId, &[u8], Scanned) -> Option<T>,
    ) -> Result<Line<T>, StoreError> {
        let mut found = Vec::new();
        let mut looked_at = 0;
        let mut looked_to = None;
        while looked_at < LOOKED_AT_MAX && found.len() < limit {
            let rows = self.inner.store.scan(&from, &to, LOOKED_AT_ONCE).await?;
            let is_end = rows.len() < LOOKED_AT_ONCE;
            looked_at += rows.len();
            for row in rows {
                let key = row.0.clone();
                let Some(id) = id_of(&key) else { continue };
                found.extend(read(id, &key, row));
                looked_to = Some(id);
                from = [key.as_slice(), &[0]].concat();
                if found.len() == limit {
                    break;
                }
            }
            if is_end && found.len() < limit {
                let looked_to = None;
                return Ok(Line { found, looked_to });
            }
            tokio::task::yield_now().await;
        }
        Ok(Line { found, looked_to })
    }

    /// As [`message`](Queue::message), where what cannot be read is passed by.
    async fn look_for(
        &self,
        id: MessageId,
        now: UnixMillis,
    ) -> Result<Option<MessageView>, StoreError> {
        match self.message(id, now).await {
            Err(StoreError::Unreadable { .. }) => Ok(None),
            found => found,
        }
    }

    fn row_of<T: DeserializeOwned>(&self, key: &[u8], row: Scanned, now: UnixMillis) -> Option<T> {
        match self.open_row::<T>(key, row.1, now) {
            Found::Row(row) => Some(row.value),
            Found::Nothing | Found::Unreadable => None,
        }
    }
}

/// The newest of all lines, as far as all of them were looked through.
fn merged(lines: Vec<Line<MessageView>>, limit: usize) -> SearchPage {
    let floor = lines.iter().filter_map(|line| line.looked_to).max();
    let found = lines.into_iter().flat_map(|line| line.found);
    let mut messages: Vec<_> = found
        .filter(|view| floor.is_none_or(|floor| view.id >= floor))
        .collect();
    // Stable, so that of one that has moved meanwhile the later state is the last.
    messages.sort_by_key(|view| std::cmp::Reverse(view.id));
    messages.dedup_by(|later, kept| {
        let same = later.id == kept.id;
        if same {
            std::mem::swap(later, kept);
        }
        same
    });
    let is_more = messages.len() > limit;
    messages.truncate(limit);
    let next = match is_more {
        true => messages.last().map(|view| view.id),
        false => floor,
    };
    SearchPage { messages, next }
}

#[cfg(test)]
mod tests;
