//! The door: opening, places, new jobs, and what can be asked.

use std::mem::{self, Discriminant};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_store::{Commit, CommitError, Keyring, Section, Store, StoreError, restored_at};
use countersign_types::{Clock, MessageId, Seldom, UnixMillis};
use tokio::sync::Notify;

use crate::dead::{DeadCount, DeadRow};
use crate::events::accepted_event;
use crate::order::{Lane, Now, Order, Ticket, Wait};
use crate::reading::{Found, Unreadable};
use crate::receipts::EarlyCount;
use crate::rows::{self, DEAD, DEAD_END, JOBS, JOBS_END, MESSAGES, dead_key, key};
use crate::shares::{Place, Shares};
use crate::{Destination, Job, Lanes, MessageRow, MessageView};

/// How long finished messages and dead letters are kept where nothing is said.
pub(crate) const KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The settings of the queue.
#[derive(Clone)]
pub struct QueueConfig {
    /// How many jobs may wait before further ones are turned away.
    pub capacity: usize,
    /// How much of that, and of a caller's share, is kept for urgent messages, the second half of it
    /// for those with a code; percent, 0 to 100.
    pub reserved_percent: usize,
    /// How much of the capacity one caller may have while there are others; percent.
    pub caller_percent: usize,
    /// Callers that are there before they ask for anything. Everybody who asks is there from then on, and
    /// [`caller_joined`](Queue::caller_joined) adds others.
    pub callers: Vec<String>,
    /// How long a claim holds: longer than the longest call of a provider and the commit after it.
    pub lease: Duration,
    /// Which providers jobs wait for.
    pub lanes: Arc<dyn Lanes>,
    /// How long messages that are over are kept, from then on, with all that finds them: longer than
    /// receipts are waited for.
    pub kept: Duration,
}

impl Default for QueueConfig {
    fn default() -> QueueConfig {
        QueueConfig {
            capacity: 100_000,
            reserved_percent: 20,
            caller_percent: 50,
            callers: Vec::new(),
            lease: Duration::from_secs(80),
            lanes: Arc::new(Vec::<Arc<str>>::new()),
            kept: KEPT,
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
    /// What is left is kept for what is more urgent.
    #[error(
        "{waiting} messages are waiting to be sent already, and what is left of the queue is kept for urgent ones and codes"
    )]
    Reserved {
        /// How many there are.
        waiting: usize,
    },
    /// Its caller has as many waiting as one may while there are others.
    #[error("{waiting} messages of the same caller are waiting to be sent already")]
    Share {
        /// How many of its own there are.
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
    /// Its receiver has answered STOP.
    #[error("the receiver has answered STOP")]
    Stopped,
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
    _place: Place,
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
    /// Of receipts, by provider.
    pub(crate) dropped: Seldom<String>,
    shares: Arc<Shares>,
    pub(crate) unreadable: Unreadable,
    turned_away: Seldom<(Lane, Discriminant<TurnedAway>)>,
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
        let shares = Shares::new(&config);
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
                dropped: Seldom::default(),
                shares,
                unreadable: Unreadable::default(),
                turned_away: Seldom::default(),
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
                // One that cannot be read stays where it is; the others must not wait for it.
                let Found::Row(job) = self.open_row::<Job>(&key, row, UnixMillis(0)) else {
                    continue;
                };
                let (Some(id), job) = (rows::id_of(JOBS, &key), job.value) else {
                    continue;
                };
                let ticket = Ticket::new(&job, self.lane(&job));
                let wait = self.wait(&job);
                let place = Reservation {
                    _place: self.inner.shares.keep(&ticket.caller),
                    ticket,
                    wait,
                };
                self.add(place, id);
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
            let readable = page.iter().filter_map(|(_, row)| row.as_ref().ok());
            let ends = readable.filter_map(rows::expiry);
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
        self.inner.config.lanes.turn(job)
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

    /// Whether any provider may carry a message to `destination`.
    pub fn has_route(&self, destination: Destination<'_>) -> bool {
        !self.inner.config.lanes.providers(destination).is_empty()
    }

    /// Says that `caller` may ask from now on: it counts as one of several before its first message.
    pub fn caller_joined(&self, caller: &str) {
        self.inner.shares.join(caller);
    }

    /// Says that `caller` may not ask any more: it counts as long as messages of it wait.
    pub fn caller_left(&self, caller: &str) {
        self.inner.shares.leave(caller);
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
    /// When there is no place for it, or when it could not leave before its deadline.
    pub fn reserve(&self, job: &Job, now: UnixMillis) -> Result<Reservation, TurnedAway> {
        let ticket = Ticket::new(job, self.lane(job));
        let now = Now {
            wall: now,
            ..self.now()
        };
        let before = self.order().too_late(&ticket, now);
        let place = match before {
            Some(before) => Err(TurnedAway::TooLate { before }),
            None => self.inner.shares.take(job, &ticket.caller),
        };
        match place {
            Ok(place) => Ok(Reservation {
                _place: place,
                ticket,
                wait: self.wait(job),
            }),
            Err(reason) => {
                self.tell_turned_away(&ticket.lane, reason, now);
                Err(reason)
            }
        }
    }

    /// Tells the operator that messages for a provider are turned away, once a minute for each reason.
    fn tell_turned_away(&self, lane: &Lane, reason: TurnedAway, now: Now) {
        let what = (lane.clone(), mem::discriminant(&reason));
        if let Some(more) = self.inner.turned_away.tell(what, now.monotonic) {
            let provider = lane.as_deref().unwrap_or("none");
            tracing::warn!(provider, %reason, more, "a message was turned away");
        }
    }

    /// Lets the job be worked on that `place` was reserved for. To be called when its commit is
    /// durable.
    pub fn announce(&self, place: Reservation, id: MessageId) {
        self.add(place, id);
        self.ring();
    }

    fn add(&self, place: Reservation, id: MessageId) {
        let (ticket, wait) = (place.ticket.clone(), place.wait);
        self.order().add(id, ticket, wait, Some(place));
    }

    /// Wakes whoever waits for a job: a place has come free with a provider.
    pub fn ring(&self) {
        self.inner.bell.notify_one();
    }

    /// Accepts the message `id` that no component made: `job` and its event are committed with whatever
    /// `with` holds (`Commit { instant, ..Commit::default() }` at least), and the message waits. Returns
    /// when that is durable.
    ///
    /// # Errors
    ///
    /// See [`AcceptError`].
    pub async fn accept(
        &self,
        id: MessageId,
        job: &Job,
        mut with: Commit,
    ) -> Result<(), AcceptError> {
        if self.is_stopped(job).await? {
            return Err(AcceptError::Stopped);
        }
        let place = self.reserve(job, with.instant)?;
        with.events.push(accepted_event(id, job));
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

    /// The row of a message that died at `now`.
    pub(crate) fn dead_row(
        &self,
        id: MessageId,
        job: Job,
        reason: Option<String>,
        now: UnixMillis,
    ) -> Result<countersign_store::Write, StoreError> {
        let ended = now;
        let dead = DeadRow { job, ended, reason };
        let until = self.kept_until(now);
        rows::put(&self.inner.keyring, dead_key(id), &dead, Some(until))
    }

    /// Until when what is over at `now` is kept.
    pub(crate) fn kept_until(&self, now: UnixMillis) -> UnixMillis {
        now + self.inner.config.kept
    }
}
