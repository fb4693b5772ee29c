//! The door: opening, places, new jobs, and what can be asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_store::{Commit, CommitError, Keyring, Section, Store, StoreError, restored_at};
use countersign_types::{Clock, Event, MessageId, UnixMillis};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::dead::{DeadCount, DeadRow};
use crate::order::{Lane, Now, Order, Ticket, Wait};
use crate::receipts::EarlyCount;
use crate::rows::{self, DEAD, DEAD_END, JOBS, JOBS_END, MESSAGES, Opened, dead_key, key};
use crate::{Job, MessageRow, MessageView};

/// How long finished messages and dead letters are kept.
pub(crate) const KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Whose turn a job is, by the receiver's country and the provider that was tried last. `None`: no
/// route leads anywhere.
pub type LaneOf = Arc<dyn Fn(&str, Option<&str>) -> Option<Arc<str>> + Send + Sync>;

/// The settings of the queue.
#[derive(Clone)]
pub struct QueueConfig {
    /// How many jobs may wait before further ones are turned away.
    pub capacity: usize,
    /// How long a claim holds: longer than the longest call of a provider and the commit after it.
    pub lease: Duration,
    /// Which provider a job waits for.
    pub lane_of: LaneOf,
}

impl Default for QueueConfig {
    fn default() -> QueueConfig {
        QueueConfig {
            capacity: 100_000,
            lease: Duration::from_secs(80),
            lane_of: Arc::new(|_, _| None),
        }
    }
}

/// The queue does not take another job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnedAway {
    /// As many wait as may.
    #[error("{waiting} messages are waiting to be sent already")]
    Full {
        /// How many there are.
        waiting: usize,
    },
    /// At the best rate of the last 10 minutes it could not leave before its deadline.
    #[error("{before} messages go first, and it could not leave before its deadline")]
    TooLate {
        /// How many go first.
        before: usize,
    },
}

/// Why a new message was not accepted. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The queue does not take it.
    #[error(transparent)]
    TurnedAway(#[from] TurnedAway),
    /// What came with it in the commit was refused: it read what has changed since.
    #[error("what belongs to the message has changed")]
    Refused(#[source] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A place in the queue for one job, held until the job is over.
#[derive(Debug)]
pub struct Reservation {
    _place: OwnedSemaphorePermit,
    ticket: Ticket,
    wait: Wait,
}

/// What is in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overview {
    /// How many jobs are not over.
    pub waiting: usize,
    /// How many of them are urgent.
    pub urgent: usize,
    /// How many of them are normal.
    pub normal: usize,
    /// How many of them may wait.
    pub bulk: usize,
    /// How many of them are being handed over at this moment.
    pub claimed: usize,
    /// Since when the oldest has been waiting: its acceptance or its replay.
    pub oldest: Option<UnixMillis>,
    /// How many may wait.
    pub capacity: usize,
    /// How many dead letters there are.
    pub dead: usize,
}

/// The jobs of one store.
#[derive(Clone)]
pub struct Queue {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    pub(crate) config: QueueConfig,
    /// Codes of before are void.
    restored: UnixMillis,
    order: Mutex<Order>,
    dead: Mutex<DeadCount>,
    pub(crate) early: Mutex<EarlyCount>,
    places: Arc<Semaphore>,
    /// Rings when something may have become possible.
    pub(crate) bell: Notify,
}

/// The row of a new job, for the commit that creates it: sealed, since it holds a number and a text.
///
/// # Errors
///
/// When there is no key to seal it with.
pub fn job_row(
    keyring: &Keyring,
    id: MessageId,
    job: &Job,
) -> Result<(Vec<u8>, Section), StoreError> {
    let key = key(JOBS, id);
    let section = rows::sealed(keyring, &key, job, None)?;
    Ok((key, section))
}

impl Queue {
    /// The queue of `store`, with every job found there waiting again: an earlier process's claims
    /// are void.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn open(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        clock: Arc<dyn Clock>,
        config: QueueConfig,
    ) -> Result<Queue, StoreError> {
        let places = Arc::new(Semaphore::new(config.capacity));
        let restored = restored_at(&store).await?;
        let queue = Queue {
            inner: Arc::new(Inner {
                store,
                keyring,
                clock,
                config,
                restored,
                order: Mutex::default(),
                dead: Mutex::default(),
                early: Mutex::default(),
                places,
                bell: Notify::new(),
            }),
        };
        queue.read_jobs().await?;
        queue.count_dead().await?;
        Ok(queue)
    }

    async fn read_jobs(&self) -> Result<(), StoreError> {
        let mut from = JOBS.to_vec();
        loop {
            let page = self.inner.store.scan(&from, JOBS_END, 1_000).await?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            from = [last.as_slice(), &[0]].concat();
            for (key, row) in page {
                let keyring = &self.inner.keyring;
                let job = match rows::open::<Job>(keyring, &key, &row, UnixMillis(0)) {
                    Ok(Some(job)) => job.value,
                    Ok(None) => continue,
                    Err(error) => {
                        // It stays where it is; the others must not wait for it.
                        tracing::error!(%error, "a waiting message cannot be read and is left out");
                        continue;
                    }
                };
                let id = rows::id_of(JOBS, &key);
                let id = id.ok_or(StoreError::Unreadable { key: "j/".into() })?;
                let ticket = Ticket::new(&job, self.lane(&job));
                let wait = self.wait(&job);
                let place = self.inner.places.clone().try_acquire_owned().ok();
                let place = place.map(|place| Reservation {
                    _place: place,
                    ticket: ticket.clone(),
                    wait,
                });
                self.order().add(id, ticket, wait, place);
            }
        }
    }

    async fn count_dead(&self) -> Result<(), StoreError> {
        let mut from = DEAD.to_vec();
        loop {
            let page = self.inner.store.scan(&from, DEAD_END, 1_000).await?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            from = [last.as_slice(), &[0]].concat();
            let mut dead = self.dead_count();
            let ends = page.iter().filter_map(|(_, row)| rows::expiry(row));
            ends.for_each(|expires| dead.add(expires));
        }
    }

    /// What both clocks show.
    pub(crate) fn now(&self) -> Now {
        Now {
            wall: self.inner.clock.now(),
            monotonic: self.inner.clock.monotonic(),
        }
    }

    /// What a job waits for that somebody has just made, or that is found at the start.
    fn wait(&self, job: &Job) -> Wait {
        let now = self.now();
        match job.round().last() {
            // What is left of its pause; all of it where the clock was set back meanwhile.
            Some(last) => {
                let pause = job.due.since(now.wall).min(job.due.since(last.ended));
                Wait::Pause(now.monotonic + pause)
            }
            None if job.due > job.since() => Wait::Due,
            // It could go when it was made. The clock may have been set back since.
            None => Wait::NONE,
        }
    }

    pub(crate) fn order(&self) -> MutexGuard<'_, Order> {
        let order = self.inner.order.lock();
        order.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn dead_count(&self) -> MutexGuard<'_, DeadCount> {
        let dead = self.inner.dead.lock();
        dead.unwrap_or_else(PoisonError::into_inner)
    }

    /// The provider whose turn it is with `job`.
    pub(crate) fn lane(&self, job: &Job) -> Lane {
        let last = job.round().last().map(|last| last.provider.as_str());
        (self.inner.config.lane_of)(&job.country, last)
    }

    /// When the store was last made from a backup; `UnixMillis(0)`: never. A code of before may have
    /// been used since the backup, so it is void.
    pub fn restored_at(&self) -> UnixMillis {
        self.inner.restored
    }

    /// Whether `job` carries a code that is void: it must not be sent.
    pub fn is_void(&self, job: &Job) -> bool {
        job.challenge.is_some() && job.accepted < self.inner.restored
    }

    /// How many jobs are not over.
    pub fn depth(&self) -> usize {
        self.order().len()
    }

    /// What is in the queue.
    pub fn overview(&self, now: UnixMillis) -> Overview {
        let dead = self.dead_count().count(now);
        let order = self.order();
        let [urgent, normal, bulk] = order.by_priority();
        Overview {
            waiting: order.len(),
            urgent,
            normal,
            bulk,
            claimed: order.claimed(),
            oldest: order.oldest(),
            capacity: self.inner.config.capacity,
            dead,
        }
    }

    /// Takes a place for `job`, which is about to be committed.
    ///
    /// # Errors
    ///
    /// When all places are taken, or when it could not leave before its deadline.
    pub fn reserve(&self, job: &Job, now: UnixMillis) -> Result<Reservation, TurnedAway> {
        let ticket = Ticket::new(job, self.lane(job));
        let now = Now {
            wall: now,
            ..self.now()
        };
        if let Some(before) = self.order().too_late(&ticket, now) {
            return Err(TurnedAway::TooLate { before });
        }
        match self.inner.places.clone().try_acquire_owned() {
            Ok(place) => Ok(Reservation {
                _place: place,
                ticket,
                wait: self.wait(job),
            }),
            Err(_) => Err(TurnedAway::Full {
                waiting: self.inner.config.capacity,
            }),
        }
    }

    /// Lets the job be worked on that `place` was reserved for. To be called when its commit is
    /// durable.
    pub fn announce(&self, place: Reservation, id: MessageId) {
        let (ticket, wait) = (place.ticket.clone(), place.wait);
        self.order().add(id, ticket, wait, Some(place));
        self.ring();
    }

    /// Wakes whoever waits for a job: a place has come free with a provider.
    pub fn ring(&self) {
        self.inner.bell.notify_one();
    }

    /// Accepts the message `id` that no component made: `job` and `event` (whose `message` is filled in)
    /// are committed with whatever `with` holds (`Commit { instant, ..Commit::default() }` at least),
    /// and the message waits. Returns when that is durable.
    ///
    /// # Errors
    ///
    /// See [`AcceptError`].
    pub async fn accept(
        &self,
        id: MessageId,
        job: &Job,
        mut event: Event,
        mut with: Commit,
    ) -> Result<(), AcceptError> {
        let place = self.reserve(job, with.instant)?;
        event.message = Some(id);
        with.events.push(rows::event(&event));
        let row = rows::put(&self.inner.keyring, key(JOBS, id), job, None)?;
        with.writes.push(row);
        match self.inner.store.commit(with).await {
            Ok(_) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
            Err(refused) => return Err(AcceptError::Refused(refused)),
        }
        self.announce(place, id);
        Ok(())
    }

    /// What is known of one message, wherever it is.
    ///
    /// # Errors
    ///
    /// When the store fails or its row cannot be read.
    pub async fn message(
        &self,
        id: MessageId,
        now: UnixMillis,
    ) -> Result<Option<MessageView>, StoreError> {
        // In the order in which a message moves, so that one that moves meanwhile is not missed; a
        // replay goes back, so the waiting ones are looked at once more.
        for _ in 0..2 {
            if let Some(job) = self.get::<Job>(&key(JOBS, id), now).await? {
                let view = MessageView::waiting(id, job.value);
                return Ok(Some(view));
            }
            if let Some(row) = self.get::<MessageRow>(&key(MESSAGES, id), now).await? {
                return Ok(Some(MessageView::over(id, row.value)));
            }
            if let Some(view) = self.dead_letter(id, now).await? {
                return Ok(Some(view));
            }
        }
        Ok(None)
    }

    /// The row under `key`, where it is there and has not expired.
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

    /// The row of a message that died at `now`.
    pub(crate) fn dead_row(
        &self,
        id: MessageId,
        job: Job,
        now: UnixMillis,
    ) -> Result<countersign_store::Write, StoreError> {
        let dead = DeadRow { job, ended: now };
        rows::put(&self.inner.keyring, dead_key(id), &dead, Some(now + KEPT))
    }
}

/// An event about a message that the host itself has caused, ready for a commit.
pub(crate) fn host_event(
    id: MessageId,
    job: &Job,
    kind: &str,
    at: UnixMillis,
    facts: &[(&str, &str)],
) -> Vec<u8> {
    rows::event(&Event {
        kind: kind.to_owned(),
        at,
        service: job.service.clone(),
        source: "host".to_owned(),
        message: Some(id),
        country: Some(job.country.clone()),
        attributes: facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    })
}
