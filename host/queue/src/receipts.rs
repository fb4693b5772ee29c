//! Receipts: what providers tell of messages that they have taken.
//!
//! A provider names a message by its own id. Which message that is says a row under the provider's
//! name, written with the one that says `sent`, and only where the provider was told where receipts
//! go. A receipt that overtakes its provider's answer waits in that row.

use std::collections::{BTreeMap, HashMap};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use countersign_store::{Commit, CommitError, Need, Read, StoreError};
use countersign_types::{MessageId, Status, StatusUpdate, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::claims::RUNS_MAX;
use crate::queue::Queue;
use crate::reading::Found;
use crate::rows::{self, MESSAGES, Opened, key, late_key, receipt_key};
use crate::{Claim, FOLLOW_SENT_WITHIN, MessageRow};

/// How many updates one call takes: as many as a callback may carry.
pub const UPDATES_MAX: usize = 1_000;
/// How many are worked in with one commit.
const UPDATES_A_COMMIT: usize = 64;

/// How long a receipt waits for the answer that it overtook.
const EARLY_KEPT: Duration = Duration::from_secs(3_600);
/// How many receipts wait for one answer; what further ones add is worked into the last of them.
const EARLY_UPDATES_MAX: usize = 8;
/// How often what waits for one id can change: with each receipt that is kept, with each status above
/// all before it, and with a price.
const EARLY_CHANGES_MAX: usize = EARLY_UPDATES_MAX + Status::Read.rank() as usize + 1;
/// For how many ids receipts wait that come within an hour: ids that nobody knows must not fill the
/// disk.
const EARLY_IDS_MAX: usize = 10_000;

/// What lies under a provider's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum ReceiptRow {
    /// The id is that of this message.
    Message(MessageId),
    /// No message has it yet.
    Early(Vec<StatusUpdate>),
}

/// What became of the updates that a provider sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// How many messages they have changed.
    pub changed: usize,
    /// How many ids are not known yet and are kept for an hour.
    pub early: usize,
    /// How many updates were dropped: their ids are not known yet, and as many ids wait as may.
    pub dropped: usize,
}

/// Why updates were not taken. Those that were taken before stay; taking them again changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The same messages are changing all the time, or the disk has no room for news of them.
    #[error("the messages are being changed by others, or the disk is nearly full")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How many early rows were written in the present hour.
#[derive(Debug, Default)]
pub(crate) struct EarlyCount {
    began: UnixMillis,
    written: usize,
}

impl EarlyCount {
    /// For how many ids more there is room at `now`. What is not written yet takes none, so commits of
    /// one moment may go beyond it by what they hold.
    fn room(&mut self, now: UnixMillis) -> usize {
        if now.since(self.began) >= EARLY_KEPT || now < self.began {
            *self = EarlyCount {
                began: now,
                written: 0,
            };
        }
        EARLY_IDS_MAX.saturating_sub(self.written)
    }

    /// Rows of so many ids are durable.
    fn add(&mut self, written: usize) {
        self.written += written;
    }
}

/// An update, and the message it is about where that is known already.
type Item<'a> = (Option<MessageId>, &'a StatusUpdate);

/// The commit that works updates in, as far as it has got.
struct Work<'a> {
    queue: &'a Queue,
    provider: &'a str,
    now: UnixMillis,
    commit: Commit,
    messages: BTreeMap<MessageId, Option<Message>>,
    early: HashMap<&'a str, Early>,
    /// Of how many of those there was no row.
    fresh: usize,
    received: Received,
}

/// What has come for an id that no message has yet.
struct Early {
    updates: Vec<StatusUpdate>,
    expires: Option<UnixMillis>,
    changed: bool,
}

impl Early {
    /// Adds what an update says. Where as many wait as may, what it has above all of them goes into the
    /// last, so that the message ends the same however many came; one that has nothing changes nothing.
    fn keep(&mut self, update: &StatusUpdate) {
        if self.updates.contains(update) {
            return;
        }
        let best = self.updates.iter().map(|one| one.status.rank()).max();
        let news = best.is_none_or(|best| update.status.rank() > best);
        let first_price = self.updates.iter().all(|one| one.price.is_none());
        let price = update.price.as_ref().filter(|_| first_price);
        let is_full = self.updates.len() >= EARLY_UPDATES_MAX;
        match self.updates.last_mut().filter(|_| is_full) {
            None => self.updates.push(update.clone()),
            Some(_) if !news && price.is_none() => return,
            Some(last) => {
                if news {
                    last.status = update.status;
                    last.error.clone_from(&update.error);
                    last.at = update.at;
                }
                if let Some(price) = price {
                    last.price = Some(price.clone());
                }
                last.segments = last.segments.max(update.segments);
            }
        }
        self.changed = true;
    }
}

struct Message {
    row: MessageRow,
    expires: Option<UnixMillis>,
    changed: bool,
}

impl Queue {
    /// Takes what `provider` has told of its messages: idempotent, and never a step back. An id is
    /// looked for among that provider's own messages only; one that nobody knows changes nothing, but
    /// is remembered for an hour, where there are not too many of those; the log tells of what was dropped
    /// for that. Beyond [`UPDATES_MAX`] updates the rest is dropped. Returns when what has changed is
    /// durable.
    ///
    /// # Errors
    ///
    /// See [`ReceiveError`].
    pub async fn receive(
        &self,
        provider: &str,
        updates: &[StatusUpdate],
        now: UnixMillis,
    ) -> Result<Received, ReceiveError> {
        let items: Vec<Item<'_>> = updates.iter().map(|update| (None, update)).collect();
        self.take_in(provider, &items, now).await
    }

    /// As [`receive`](Queue::receive), for updates that were asked for, with the messages they are
    /// about.
    ///
    /// # Errors
    ///
    /// See [`ReceiveError`].
    pub async fn fetched(
        &self,
        provider: &str,
        updates: &[(MessageId, StatusUpdate)],
        now: UnixMillis,
    ) -> Result<Received, ReceiveError> {
        let items = updates.iter().map(|(id, update)| (Some(*id), update));
        let items: Vec<Item<'_>> = items.collect();
        self.take_in(provider, &items, now).await
    }

    async fn take_in(
        &self,
        provider: &str,
        items: &[Item<'_>],
        now: UnixMillis,
    ) -> Result<Received, ReceiveError> {
        let mut received = Received::default();
        let items = &items[..items.len().min(UPDATES_MAX)];
        for items in items.chunks(UPDATES_A_COMMIT) {
            let done = self.take_in_some(provider, items, now).await?;
            received.changed += done.changed;
            received.early += done.early;
            received.dropped += done.dropped;
        }
        self.tell_dropped(provider, received.dropped);
        Ok(received)
    }

    async fn take_in_some(
        &self,
        provider: &str,
        items: &[Item<'_>],
        now: UnixMillis,
    ) -> Result<Received, ReceiveError> {
        for _ in 0..RUNS_MAX {
            let mut work = Work::new(self, provider, now);
            for (id, update) in items {
                work.take(*id, update).await?;
            }
            let fresh = work.fresh;
            let (commit, received) = work.finish()?;
            // Also where nothing is written: the answer must not leave before what was read is
            // durable, or a repeated receipt would be lost with the first one.
            match self.inner.store.commit(commit).await {
                Ok(_) => {
                    self.early_count().add(fresh);
                    return Ok(received);
                }
                Err(CommitError::Store(error)) => return Err(error.into()),
                Err(CommitError::Full) => return Err(ReceiveError::Busy),
                Err(_) => {}
            }
        }
        Err(ReceiveError::Busy)
    }

    /// Adds to the commit that records `message` as sent what its receipts need: rows that find it by
    /// the provider's ids, what has come early for them, and the row of one that was sent late.
    pub(crate) async fn record_sent(
        &self,
        claim: &Claim,
        message: &mut MessageRow,
        commit: &mut Commit,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let id = claim.id;
        let Some(sent) = &message.sent else {
            return Ok(());
        };
        let was_followed = message.is_followed();
        let (was, until) = (message.standing(), self.kept_until(now));
        let event = message.sent_event(id, &claim.job, now);
        commit.events.push(event);
        let provider = sent.provider.clone();
        let ids: Vec<_> = sent.parts.iter().map(|part| part.id.clone()).collect();
        if sent.receipt_asked {
            for provider_id in ids {
                let row_key = receipt_key(&self.inner.keyring, &provider, &provider_id);
                let (early, read) = self.early(row_key.clone(), now).await?;
                commit.reads.extend(read);
                for update in early {
                    message.update(&update, now);
                }
                let row = ReceiptRow::Message(id);
                let keyring = &self.inner.keyring;
                let row = rows::put(keyring, row_key, &row, Some(until))?;
                commit.writes.push(row);
            }
        }
        let is_late = now.since(id.time()) > FOLLOW_SENT_WITHIN;
        if is_late && was_followed {
            let row = rows::put(&self.inner.keyring, late_key(now, id), &(), Some(until))?;
            commit.writes.push(row);
        }
        commit.events.extend(message.news_event(id, was, now));
        Ok(())
    }

    /// The keys of all rows beside its own that exist only because of `message`, which a provider took:
    /// those by which its receipts find it, and the one by which the follower does.
    pub(crate) async fn rows_of_sent(
        &self,
        id: MessageId,
        message: &MessageRow,
        now: UnixMillis,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let Some(sent) = &message.sent else {
            return Ok(Vec::new());
        };
        let mut keys = vec![late_key(message.left, id)];
        for part in &sent.parts {
            let row_key = receipt_key(&self.inner.keyring, &sent.provider, &part.id);
            // A provider may have given one id twice; it is the later message's then.
            if let Found::Row(Opened {
                value: ReceiptRow::Message(owner),
                ..
            }) = self.find::<ReceiptRow>(&row_key, now).await?
                && owner == id
            {
                keys.push(row_key);
            }
        }
        Ok(keys)
    }

    /// What has come early for a provider's id. A row that cannot be read must not keep a message from
    /// being recorded as sent, since it would be sent again: it is no read, and is written over.
    async fn early(
        &self,
        key: Vec<u8>,
        now: UnixMillis,
    ) -> Result<(Vec<StatusUpdate>, Option<Read>), StoreError> {
        Ok(match self.find::<ReceiptRow>(&key, now).await? {
            Found::Row(row) => {
                let read = seen(key, row.version, row.expires);
                let updates = match row.value {
                    ReceiptRow::Early(updates) => updates,
                    ReceiptRow::Message(_) => Vec::new(),
                };
                (updates, Some(read))
            }
            Found::Nothing => (Vec::new(), Some(unseen(key))),
            Found::Unreadable => (Vec::new(), None),
        })
    }

    /// How often at most the commit that records a message as sent under `ids` ids is worked out anew:
    /// each time something new has come early for one of them.
    pub(crate) fn sent_runs_max(ids: usize) -> usize {
        ids * EARLY_CHANGES_MAX + 1
    }

    /// Ends the wait for the receipt of a message, 72 hours after it was sent; whether there was one.
    ///
    /// # Errors
    ///
    /// See [`ReceiveError`].
    pub async fn end_wait(&self, id: MessageId, now: UnixMillis) -> Result<bool, ReceiveError> {
        for _ in 0..RUNS_MAX {
            let row_key = key(MESSAGES, id);
            let Some(found) = self.get::<MessageRow>(&row_key, now).await? else {
                return Ok(false);
            };
            let mut row = found.value;
            let was = row.standing();
            if !row.end_wait(now) {
                return Ok(false);
            }
            let commit = Commit {
                instant: now,
                reads: vec![seen(row_key.clone(), found.version, found.expires)],
                events: row.news_event(id, was, now).into_iter().collect(),
                writes: vec![rows::put(
                    &self.inner.keyring,
                    row_key,
                    &row,
                    found.expires,
                )?],
                ..Commit::default()
            };
            match self.inner.store.commit(commit).await {
                Ok(_) => return Ok(true),
                Err(CommitError::Store(error)) => return Err(error.into()),
                Err(_) => {}
            }
        }
        Err(ReceiveError::Busy)
    }
}

impl Queue {
    fn early_count(&self) -> MutexGuard<'_, EarlyCount> {
        let early = self.inner.early.lock();
        early.unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the operator, once a minute for each provider, that receipts were dropped which are answered
    /// as any other: the provider does not send them again.
    fn tell_dropped(&self, provider: &str, dropped: usize) {
        if dropped == 0 {
            return;
        }
        let now = self.now().monotonic;
        let Some(more) = self.inner.dropped.tell(provider.to_owned(), now) else {
            return;
        };
        tracing::warn!(
            provider,
            dropped,
            more_callbacks = more,
            "receipts were dropped: no message has their ids, and receipts wait for {EARLY_IDS_MAX} other \
             ids of this hour. Is it another system that sends with this account?"
        );
    }
}

pub(crate) fn seen(key: Vec<u8>, version: u64, until: Option<UnixMillis>) -> Read {
    Read {
        key,
        version: Some(version),
        until,
    }
}

pub(crate) fn unseen(key: Vec<u8>) -> Read {
    Read {
        key,
        version: None,
        until: None,
    }
}

impl<'a> Work<'a> {
    fn new(queue: &'a Queue, provider: &'a str, now: UnixMillis) -> Work<'a> {
        Work {
            queue,
            provider,
            now,
            commit: Commit {
                instant: now,
                need: Need::Deliver,
                ..Commit::default()
            },
            messages: BTreeMap::new(),
            early: HashMap::new(),
            fresh: 0,
            received: Received::default(),
        }
    }

    async fn take(
        &mut self,
        id: Option<MessageId>,
        update: &'a StatusUpdate,
    ) -> Result<(), StoreError> {
        let id = match id {
            Some(id) => Some(id),
            None => self.find(update).await?,
        };
        let Some(id) = id else {
            return Ok(());
        };
        if !self.messages.contains_key(&id) {
            let found = self.load(id).await?;
            self.messages.insert(id, found);
        }
        let Some(Some(message)) = self.messages.get_mut(&id) else {
            return Ok(());
        };
        let was = message.row.standing();
        message.changed |= message.row.update(update, self.now);
        let news = message.row.news_event(id, was, self.now);
        self.commit.events.extend(news);
        Ok(())
    }

    /// The message that the update's id belongs to. Where there is none yet, the update is kept.
    async fn find(&mut self, update: &'a StatusUpdate) -> Result<Option<MessageId>, StoreError> {
        if let Some(early) = self.early.get_mut(update.id.as_str()) {
            early.keep(update);
            return Ok(None);
        }
        let keyring = &self.queue.inner.keyring;
        let row_key = receipt_key(keyring, self.provider, &update.id);
        let found = self.queue.find::<ReceiptRow>(&row_key, self.now).await?;
        let (updates, expires) = match found {
            Found::Row(Opened {
                value: ReceiptRow::Message(id),
                ..
            }) => return Ok(Some(id)),
            Found::Row(Opened {
                value: ReceiptRow::Early(updates),
                version,
                expires,
            }) => {
                self.commit.reads.push(seen(row_key, version, expires));
                (updates, expires)
            }
            Found::Nothing => {
                if self.fresh >= self.queue.early_count().room(self.now) {
                    self.received.dropped += 1;
                    return Ok(None);
                }
                self.fresh += 1;
                self.commit.reads.push(unseen(row_key));
                (Vec::new(), None)
            }
            // Nobody can tell which message it is.
            Found::Unreadable => return Ok(None),
        };
        let mut early = Early {
            updates,
            expires,
            changed: false,
        };
        early.keep(update);
        self.early.insert(&update.id, early);
        Ok(None)
    }

    /// The message `id`, if it is this provider's.
    async fn load(&mut self, id: MessageId) -> Result<Option<Message>, StoreError> {
        let row_key = key(MESSAGES, id);
        let Found::Row(found) = self.queue.find::<MessageRow>(&row_key, self.now).await? else {
            return Ok(None);
        };
        let own = found.value.sent.as_ref();
        if own.is_none_or(|sent| sent.provider != self.provider) {
            return Ok(None);
        }
        let read = seen(row_key, found.version, found.expires);
        self.commit.reads.push(read);
        Ok(Some(Message {
            row: found.value,
            expires: found.expires,
            changed: false,
        }))
    }

    fn finish(mut self) -> Result<(Commit, Received), StoreError> {
        let keyring = &self.queue.inner.keyring;
        for (id, message) in self.messages {
            if let Some(message) = message.filter(|message| message.changed) {
                let row_key = key(MESSAGES, id);
                let row = rows::put(keyring, row_key, &message.row, message.expires)?;
                self.commit.writes.push(row);
                self.received.changed += 1;
            }
        }
        for (id, early) in self.early {
            self.received.early += 1;
            // One that says less than is known costs no row, and makes no commit stale.
            if early.changed {
                let expires = early.expires.unwrap_or(self.now + EARLY_KEPT);
                let row_key = receipt_key(keyring, self.provider, id);
                let row = ReceiptRow::Early(early.updates);
                let row = rows::put(keyring, row_key, &row, Some(expires))?;
                self.commit.writes.push(row);
            }
        }
        Ok((self.commit, self.received))
    }
}

#[cfg(test)]
mod tests;
