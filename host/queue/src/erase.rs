//! Erasing what is kept of a number: messages that are over, dead letters, and messages that wait.
//!
//! A row by which a message is found goes in the commit in which the message goes, so whoever was
//! broken off begins again and goes on where it was; and erasing twice is erasing once. Events stay: they
//! name no number, and the sums that are made of them must not change.

use std::collections::BTreeSet;

use countersign_store::{Commit, CommitError, StoreError};
use countersign_types::{MessageId, Status, UnixMillis, one_phone};

use crate::claims::{Claim, PutBack, RUNS_MAX};
use crate::dead::DeadRow;
use crate::queue::Queue;
use crate::reading::Found;
use crate::receipts::seen;
use crate::rows::{
    JOBS, JOBS_END, MESSAGES, dead_key, gone, id_of, key, number_id, number_key, number_prefix,
};
use crate::{Job, MessageRow};

/// How many messages that are over go with one commit.
const A_COMMIT: usize = 32;
/// How many messages one call erases, of those that are over and of those that wait.
const ERASED_MAX: usize = 1_000;
/// How many waiting messages are looked at in one step.
const LOOKED_AT_ONCE: usize = 500;

/// What was erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Messages that were over.
    pub messages: usize,
    /// Messages that no provider had taken.
    pub dead: usize,
    /// Messages that waited; each counts as expired.
    pub waiting: usize,
    /// Messages that are still there, since they are being handed over at this moment.
    pub in_hand: usize,
    /// There may be more: as many are gone as go at once.
    pub more: bool,
}

impl Erased {
    /// Whether nothing is left.
    pub fn is_all(&self) -> bool {
        self.in_hand == 0 && !self.more
    }

    fn over(&self) -> usize {
        self.messages + self.dead
    }
}

/// What one commit erases.
#[derive(Default)]
struct Page {
    commit: Commit,
    messages: usize,
    /// When each of the dead ones would have gone.
    dead: Vec<Option<UnixMillis>>,
}

impl Queue {
    /// Erases all messages to the phone that `e164` reaches, but at most 1,000 of those that are over and
    /// 1,000 of those that wait. What is being handed over is left until that has ended. Returns when
    /// that is durable; to be called again until nothing is left.
    ///
    /// # Errors
    ///
    /// When the store fails; what was erased until then stays erased.
    pub async fn erase_number(&self, e164: &str, now: UnixMillis) -> Result<Erased, StoreError> {
        let (phone, index) = (one_phone(e164), self.number_index(e164));
        let mut erased = Erased::default();
        self.erase_over(&index, &mut erased, now).await?;
        self.erase_waiting(&phone, &index, &mut erased, now).await?;
        // Those that have ended meanwhile.
        self.erase_over(&index, &mut erased, now).await?;
        Ok(erased)
    }

    async fn erase_over(
        &self,
        index: &str,
        erased: &mut Erased,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let prefix = number_prefix(index);
        // `0` follows the `/` that ends the prefix.
        let to = [&prefix[..prefix.len() - 1], b"0"].concat();
        let mut from = prefix;
        let mut runs = 0;
        loop {
            let rows = self.inner.store.scan(&from, &to, A_COMMIT).await?;
            let Some((last, _)) = rows.last() else {
                return Ok(());
            };
            if erased.over() >= ERASED_MAX || runs == RUNS_MAX {
                erased.more = true;
                return Ok(());
            }
            let behind = [last.as_slice(), &[0]].concat();
            let ids = rows.iter().filter_map(|(key, _)| number_id(key));
            let page = self.page(index, ids.collect(), now).await?;
            match self.inner.store.commit(page.commit).await {
                Ok(_) => {}
                Err(CommitError::Store(error)) => return Err(error),
                // One of them has changed in between.
                Err(_) => {
                    runs += 1;
                    continue;
                }
            }
            (from, runs) = (behind, 0);
            erased.messages += page.messages;
            erased.dead += page.dead.len();
            let ends = page.dead.into_iter().flatten();
            ends.for_each(|expires| self.dead_count().remove(expires));
        }
    }

    /// What goes with the messages `ids` of one number.
    async fn page(
        &self,
        index: &str,
        ids: Vec<MessageId>,
        now: UnixMillis,
    ) -> Result<Page, StoreError> {
        let mut page = Page {
            commit: Commit {
                instant: now,
                ..Commit::default()
            },
            ..Page::default()
        };
        // A key may be written once, and two messages may share the id of a provider.
        let mut keys = BTreeSet::new();
        for id in ids {
            // One that was replayed goes with those that wait.
            if self.inner.store.get(&key(JOBS, id)).await?.is_some() {
                continue;
            }
            keys.insert(number_key(index, id));
            // What cannot be read goes too.
            let row_key = key(MESSAGES, id);
            match self.find::<MessageRow>(&row_key, now).await? {
                Found::Row(row) => {
                    keys.extend(self.rows_of_sent(id, &row.value, now).await?);
                    let read = seen(row_key.clone(), row.version, row.expires);
                    page.commit.reads.push(read);
                    page.messages += 1;
                }
                Found::Nothing | Found::Unreadable => {}
            }
            keys.insert(row_key);
            let row_key = dead_key(id);
            match self.find::<DeadRow>(&row_key, now).await? {
                Found::Row(row) => {
                    let read = seen(row_key.clone(), row.version, row.expires);
                    page.commit.reads.push(read);
                    page.dead.push(row.expires);
                }
                Found::Unreadable => page.dead.push(None),
                Found::Nothing => {}
            }
            keys.insert(row_key);
        }
        page.commit.writes = keys.into_iter().map(gone).collect();
        Ok(page)
    }

    async fn erase_waiting(
        &self,
        phone: &str,
        index: &str,
        erased: &mut Erased,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let mut from = JOBS.to_vec();
        loop {
            let rows = self
                .inner
                .store
                .scan(&from, JOBS_END, LOOKED_AT_ONCE)
                .await?;
            let Some((last, _)) = rows.last() else {
                return Ok(());
            };
            from = [last.as_slice(), &[0]].concat();
            for (row_key, row) in rows {
                let Found::Row(row) = self.open_row::<Job>(&row_key, row, now) else {
                    continue;
                };
                let (Some(id), job) = (id_of(JOBS, &row_key), row.value) else {
                    continue;
                };
                if one_phone(&job.to) != phone {
                    continue;
                }
                if erased.waiting >= ERASED_MAX {
                    erased.more = true;
                    return Ok(());
                }
                match self.end_erased(id, job, row.version, index, now).await? {
                    true => erased.waiting += 1,
                    false => erased.in_hand += 1,
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Ends a waiting message with nothing left of it; whether it was there to be ended.
    async fn end_erased(
        &self,
        id: MessageId,
        job: Job,
        version: u64,
        index: &str,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        // As whoever hands messages over does, so that nobody begins with it meanwhile.
        let until = self.now().monotonic + self.inner.config.lease;
        let Some(lease) = self.order().claim_waiting(id, until) else {
            return Ok(false);
        };
        let back = PutBack::new(self, lease);
        let event = job.over_event(id, Status::Expired, now);
        let claim = Claim::new(job, lease, version);
        let writes = vec![gone(key(JOBS, id)), gone(number_key(index, id))];
        let held = self.commit(claim.commit(now, writes, vec![event])).await?;
        back.keep();
        match held {
            Some(_) => self.order().forget(lease),
            None => self.void(&claim).await?,
        }
        Ok(held.is_some())
    }
}

#[cfg(test)]
mod tests;
