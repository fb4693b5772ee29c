//! Dead letters: messages that no provider could take. They are kept whole, can be looked at, and can
//! be sent once more.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_store::{Commit, CommitError, Read, StoreError, Write};
use countersign_types::{MessageId, Status, UnixMillis};

use crate::queue::Queue;
use crate::reading::Found;
use crate::rows::{self, DEAD, DEAD_END, JOBS, dead_key, gone, key};
use crate::{Job, MessageRow, MessageView, Reservation, TurnedAway};

/// How many dead letters a page holds at most.
pub const DEAD_PAGE_MAX: usize = 100;

/// A page of dead letters, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadPage {
    /// Their stories.
    pub letters: Vec<MessageView>,
    /// The cursor of the next page, where there may be one.
    pub next: Option<MessageId>,
}

/// Why a message was not replayed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It is not dead, or no longer kept.
    #[error("there is no dead message `{0}`")]
    NotDead(MessageId),
    /// It carries a code, which has ended.
    #[error("its code ended at {ended}, and a code is never sent after its end")]
    CodeOver {
        /// When the code ended.
        ended: UnixMillis,
    },
    /// The queue does not take it now.
    #[error(transparent)]
    TurnedAway(#[from] TurnedAway),
    /// Somebody else replays it at this moment.
    #[error("somebody else is changing this message")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How many dead letters there are, by when they are no longer kept: counted at the start and kept up,
/// since the store removes them by itself.
#[derive(Debug, Default)]
pub(crate) struct DeadCount(BTreeMap<u64, usize>);

const HOUR: Duration = Duration::from_secs(3_600);

impl DeadCount {
    fn hour(expires: UnixMillis) -> u64 {
        expires.0 / (HOUR.as_secs() * 1_000)
    }

    pub(crate) fn add(&mut self, expires: UnixMillis) {
        *self.0.entry(DeadCount::hour(expires)).or_default() += 1;
    }

    pub(crate) fn remove(&mut self, expires: UnixMillis) {
        if let Some(count) = self.0.get_mut(&DeadCount::hour(expires)) {
            *count = count.saturating_sub(1);
        }
    }

    /// How many there are at `now`; one that has just expired may still be counted, for an hour.
    pub(crate) fn count(&mut self, now: UnixMillis) -> usize {
        self.0 = self.0.split_off(&DeadCount::hour(now));
        self.0.values().sum()
    }
}

/// A dead message that is about to wait again.
#[derive(Debug)]
pub struct Replay {
    view: MessageView,
    place: Reservation,
    read: Read,
    writes: [Write; 2],
    event: Vec<u8>,
    expires: Option<UnixMillis>,
}

impl Replay {
    /// What will be known of it.
    pub fn view(&self) -> &MessageView {
        &self.view
    }
}

/// What lies under a dead letter's key.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct DeadRow {
    pub(crate) job: Job,
    /// When it was given up.
    pub(crate) ended: UnixMillis,
    /// As [`MessageRow::reason`](crate::MessageRow::reason).
    pub(crate) reason: Option<String>,
}

impl Queue {
    /// Dead letters, the newest first: at most `limit` (and at most [`DEAD_PAGE_MAX`]) after the one
    /// that `after` names.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn dead_letters(
        &self,
        after: Option<MessageId>,
        limit: usize,
        now: UnixMillis,
    ) -> Result<DeadPage, StoreError> {
        let limit = limit.clamp(1, DEAD_PAGE_MAX);
        let mut from = match after {
            Some(id) => [dead_key(id).as_slice(), &[0]].concat(),
            None => DEAD.to_vec(),
        };
        let mut page = DeadPage {
            letters: Vec::new(),
            next: None,
        };
        loop {
            let found = self.inner.store.scan(&from, DEAD_END, limit).await?;
            let Some((last, _)) = found.last() else {
                return Ok(page);
            };
            from = [last.as_slice(), &[0]].concat();
            for (key, row) in found {
                let Some(id) = rows::dead_id(&key) else {
                    continue;
                };
                // Where one cannot be read the others can still be looked at.
                if let Found::Row(dead) = self.open_row::<DeadRow>(&key, row, now) {
                    page.letters.push(view(id, dead.value));
                }
                if page.letters.len() == limit {
                    page.next = Some(id);
                    return Ok(page);
                }
            }
        }
    }

    /// One dead letter.
    ///
    /// # Errors
    ///
    /// When the store fails or its row cannot be read.
    pub async fn dead_letter(
        &self,
        id: MessageId,
        now: UnixMillis,
    ) -> Result<Option<MessageView>, StoreError> {
        let dead = self.get::<DeadRow>(&dead_key(id), now).await?;
        Ok(dead.map(|dead| view(id, dead.value)))
    }

    /// Lets a dead message wait again under its id, with its tries kept and none of them counted. One
    /// with a code may go out until the code's end; any other has as long as it had at first.
    ///
    /// # Errors
    ///
    /// See [`ReplayError`].
    pub async fn replay(&self, id: MessageId, now: UnixMillis) -> Result<MessageView, ReplayError> {
        let replay = self.prepare_replay(id, now).await?;
        let commit = Commit {
            instant: now,
            ..Commit::default()
        };
        match self.commit_replay(replay, commit).await {
            Ok(view) => Ok(view),
            Err(CommitError::Store(error)) => Err(error.into()),
            Err(_) => Err(ReplayError::Busy),
        }
    }

    /// The first half of [`replay`](Queue::replay), for whoever commits something with it.
    ///
    /// # Errors
    ///
    /// See [`ReplayError`].
    pub async fn prepare_replay(
        &self,
        id: MessageId,
        now: UnixMillis,
    ) -> Result<Replay, ReplayError> {
        let dead_key = dead_key(id);
        let dead = self.get::<DeadRow>(&dead_key, now).await?;
        let dead = dead.ok_or(ReplayError::NotDead(id))?;
        if self.is_void(&dead.value.job) {
            let ended = self.restored_at();
            return Err(ReplayError::CodeOver { ended });
        }
        let code_ends = dead.value.job.challenge.as_ref().map(|code| code.expires);
        let event = Job::replayed_event(&dead.value.job, id, now);
        let job = dead.value.job.replayed(now);
        let job = job.ok_or(ReplayError::CodeOver {
            ended: code_ends.unwrap_or(now),
        })?;
        let place = self.reserve(&job, now)?;
        let keyring = &self.inner.keyring;
        let waiting = rows::put(keyring, key(JOBS, id), &job, None)?;
        Ok(Replay {
            place,
            event,
            read: Read {
                key: dead_key.clone(),
                version: Some(dead.version),
                until: dead.expires,
            },
            writes: [gone(dead_key), waiting],
            expires: dead.expires,
            view: MessageView::waiting(id, job),
        })
    }

    /// The second half of [`replay`](Queue::replay): commits it with whatever `with` holds, which has
    /// the instant of the first half. Returns when that is durable.
    ///
    /// # Errors
    ///
    /// Why it was not committed: above all that somebody else has replayed the message meanwhile.
    pub async fn commit_replay(
        &self,
        replay: Replay,
        mut with: Commit,
    ) -> Result<MessageView, CommitError> {
        with.reads.push(replay.read);
        with.writes.extend(replay.writes);
        with.events.push(replay.event);
        self.inner.store.commit(with).await?;
        if let Some(expires) = replay.expires {
            self.dead_count().remove(expires);
        }
        self.announce(replay.place, replay.view.id);
        Ok(replay.view)
    }
}

pub(crate) fn view(id: MessageId, dead: DeadRow) -> MessageView {
    let row = dead.job.into_message(Status::Failed, dead.ended);
    let reason = dead.reason;
    MessageView::over(id, MessageRow { reason, ..row })
}

#[cfg(test)]
mod tests;
