//! The order of the jobs, claims, and the commits that finish them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_store::{
    Body, Commit, CommitError, Keyring, Read, Section, Sections, Store, StoreError, Write,
};
use countersign_types::{Accepted, Clock, Event, MessageId, Priority, SendError, UnixMillis, hex};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::job::key;
use crate::{Attempt, Job, MessageRow, Outcome, Status};

/// Jobs that wait.
const JOBS: &[u8] = b"j/";
const JOBS_END: &[u8] = b"j0";
/// Messages that are over.
const MESSAGES: &[u8] = b"m/";
/// Messages that no provider could take, whole: nothing is lost.
const DEAD: &[u8] = b"d/";

/// The format of the rows' contents.
const STATE: u32 = 1;

/// How long finished messages and dead letters are kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The queue cannot take another job.
#[derive(Debug, thiserror::Error)]
#[error("{waiting} messages are waiting to be sent already")]
pub struct Full {
    /// How many there are.
    pub waiting: usize,
}

/// A place in the queue, held until the job is over.
#[derive(Debug)]
pub struct Reservation {
    _place: OwnedSemaphorePermit,
}

/// The jobs of one store.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    state: Mutex<State>,
    places: Arc<Semaphore>,
    capacity: usize,
    /// Rings when a job has come or a claim has gone back.
    bell: Notify,
}

#[derive(Default)]
struct State {
    /// Not due yet, by time.
    later: BTreeSet<(UnixMillis, Priority, MessageId)>,
    /// Due, by priority and then by age.
    ready: BTreeSet<(Priority, UnixMillis, MessageId)>,
    /// Every job that is not over, claimed ones included, with its place. Jobs found at start have
    /// none where there are more than the queue takes.
    places: HashMap<MessageId, Option<Reservation>>,
}

/// A job that somebody works on.
#[derive(Debug)]
pub struct Claim {
    /// The message's name.
    pub id: MessageId,
    /// What is to be done.
    pub job: Job,
    /// The version of the row: the fencing token.
    version: u64,
}

/// How a claim ended.
#[derive(Clone, Debug)]
pub enum Finish {
    /// A provider took the message.
    Sent {
        /// When the try began, and which provider it was.
        at: UnixMillis,
        /// Its configured name.
        provider: String,
        /// What it said.
        accepted: Accepted,
    },
    /// It is to be tried again.
    Retry {
        /// When the try began.
        at: UnixMillis,
        /// The provider's configured name.
        provider: String,
        /// What went wrong.
        error: SendError,
        /// When to try again.
        due: UnixMillis,
    },
    /// It is not to be tried again.
    Over {
        /// How the message ends: failed, expired or unknown.
        status: Status,
        /// The last try, where there was one.
        attempt: Option<Attempt>,
    },
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
    let section = sealed(keyring, &key, job, None)?;
    Ok((key, section))
}

/// `value` as it rests under `key`.
fn sealed<T: serde::Serialize>(
    keyring: &Keyring,
    key: &[u8],
    value: &T,
    expires: Option<UnixMillis>,
) -> Result<Section, StoreError> {
    let value = keyring
        .seal(key, &bytes(value))
        .map_err(|error| StoreError::Failed(error.to_string()))?;
    Ok(Section {
        state: STATE,
        expires,
        value,
    })
}

fn bytes<T: serde::Serialize>(value: &T) -> Vec<u8> {
    // Serialising plain data into a `Vec` cannot fail.
    postcard::to_allocvec(value).unwrap_or_default()
}

fn write(key: Vec<u8>, host: Section) -> Write {
    Write {
        key,
        body: Some(Body::Sections(Sections {
            service: None,
            host: Some(host),
        })),
    }
}

fn read(keyring: &Keyring, key: &[u8], body: &Body) -> Result<Job, StoreError> {
    let unreadable = || StoreError::Unreadable { key: key_text(key) };
    let Body::Sections(Sections {
        host: Some(host), ..
    }) = body
    else {
        return Err(unreadable());
    };
    if host.state != STATE {
        return Err(unreadable());
    }
    let plain = keyring
        .unseal(key, &host.value)
        .map_err(|error| StoreError::Failed(format!("{}: {error}", key_text(key))))?;
    postcard::from_bytes(&plain).map_err(|_| unreadable())
}

/// The key of a job's row, for people.
fn key_text(key: &[u8]) -> String {
    let (prefix, id) = key.split_at(key.len().min(JOBS.len()));
    format!("{}{}", String::from_utf8_lossy(prefix), hex(id))
}

impl Queue {
    /// The queue of `store`, with every job found there waiting again. New jobs are turned away
    /// while `capacity` are waiting.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn open(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        capacity: usize,
    ) -> Result<Queue, StoreError> {
        let places = Arc::new(Semaphore::new(capacity));
        let mut state = State::default();
        let mut cursor = JOBS.to_vec();
        loop {
            let page = store.scan(&cursor, JOBS_END, 1_000).await?;
            let Some((last, _)) = page.last() else { break };
            cursor = [last.as_slice(), &[0]].concat();
            for (key, row) in page {
                let job = match read(&keyring, &key, &row.body) {
                    Ok(job) => job,
                    Err(error) => {
                        // It stays where it is; the others must not wait for it.
                        tracing::error!(%error, "a waiting message cannot be read and is left out");
                        continue;
                    }
                };
                let id = key
                    .get(JOBS.len()..)
                    .and_then(|id| id.try_into().ok())
                    .map(MessageId)
                    .ok_or(StoreError::Unreadable { key: "j/".into() })?;
                let place = places.clone().try_acquire_owned().ok();
                let place = place.map(|place| Reservation { _place: place });
                state.places.insert(id, place);
                state.later.insert((job.due, job.priority, id));
            }
        }
        Ok(Queue {
            inner: Arc::new(Inner {
                store,
                keyring,
                state: Mutex::new(state),
                places,
                capacity,
                bell: Notify::new(),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How many jobs are not over.
    pub fn depth(&self) -> usize {
        self.state().places.len()
    }

    /// Takes a place for a job that is about to be committed.
    ///
    /// # Errors
    ///
    /// When all places are taken.
    pub fn reserve(&self) -> Result<Reservation, Full> {
        let place = self.inner.places.clone().try_acquire_owned();
        match place {
            Ok(place) => Ok(Reservation { _place: place }),
            Err(_) => Err(Full {
                waiting: self.inner.capacity,
            }),
        }
    }

    /// Lets a job be worked on. To be called when its commit is durable.
    pub fn announce(&self, place: Reservation, id: MessageId, due: UnixMillis, priority: Priority) {
        let mut state = self.state();
        state.places.insert(id, Some(place));
        state.later.insert((due, priority, id));
        drop(state);
        self.inner.bell.notify_one();
    }

    /// Waits for the next job that is due and claims it: the most urgent, among those the oldest.
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn next(&self, clock: &dyn Clock) -> Result<Claim, StoreError> {
        loop {
            // Before the look, so that a ring in between is not missed.
            let bell = self.inner.bell.notified();
            let now = clock.now();
            let (found, wait) = self.pop(now);
            let Some((priority, due, id)) = found else {
                let wait = wait.map_or(Duration::from_secs(3600), |due| due.since(now));
                // A bound on the sleep, since the clock may be set while we sleep.
                let wait = wait.clamp(Duration::from_millis(1), Duration::from_secs(5));
                // Either way it is time to look again.
                let _ = tokio::time::timeout(wait, bell).await;
                continue;
            };
            let back = PutBack {
                queue: self,
                entry: Some((priority, due, id)),
            };
            let key = key(JOBS, id);
            let row = self.inner.store.get(&key).await?;
            back.keep();
            let Some(row) = row else {
                self.forget(id);
                continue;
            };
            match read(&self.inner.keyring, &key, &row.body) {
                Ok(job) => {
                    return Ok(Claim {
                        id,
                        job,
                        version: row.version,
                    });
                }
                Err(error) => {
                    tracing::error!(%error, "a waiting message cannot be read and is left out");
                    self.forget(id);
                }
            }
        }
    }

    /// The next ready entry, or when one will be.
    fn pop(
        &self,
        now: UnixMillis,
    ) -> (
        Option<(Priority, UnixMillis, MessageId)>,
        Option<UnixMillis>,
    ) {
        let mut state = self.state();
        while let Some(first) = state.later.first().copied() {
            if first.0 > now {
                break;
            }
            state.later.pop_first();
            state.ready.insert((first.1, first.0, first.2));
        }
        match state.ready.pop_first() {
            Some(entry) => (Some(entry), None),
            None => (None, state.later.first().map(|first| first.0)),
        }
    }

    /// Takes a job that is over, or somebody else's, out of the order.
    pub fn forget(&self, id: MessageId) {
        self.state().places.remove(&id);
    }

    /// Notes durably that a try has begun, for messages that must not go out twice. Returns whether
    /// the claim still holds.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn begin(
        &self,
        claim: &mut Claim,
        at: UnixMillis,
        provider: &str,
    ) -> Result<bool, StoreError> {
        claim.job.attempts.push(Attempt {
            at,
            provider: provider.to_owned(),
            outcome: Outcome::Started,
        });
        let key = key(JOBS, claim.id);
        let job = sealed(&self.inner.keyring, &key, &claim.job, None)?;
        let writes = vec![write(key, job)];
        let version = self.commit(claim, at, writes, None).await?;
        if let Some(version) = version {
            claim.version = version;
        }
        Ok(version.is_some())
    }

    /// Ends a claim, durably. Returns whether the claim still held; otherwise nothing was changed.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn finish(
        &self,
        mut claim: Claim,
        finish: Finish,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        // A begun try is now known.
        let begun = claim
            .job
            .attempts
            .last()
            .is_some_and(|last| last.outcome == Outcome::Started);
        let id = claim.id;
        let jobs_key = key(JOBS, id);
        let gone = Write {
            key: jobs_key.clone(),
            body: None,
        };
        let kept = Some(now + KEPT);
        let record = |job: &mut Job, attempt: Attempt| {
            if begun {
                job.attempts.pop();
            }
            job.attempts.push(attempt);
        };
        match finish {
            Finish::Sent {
                at,
                provider,
                accepted,
            } => {
                let event = event(&claim, "message.sent", now, &[("provider", &provider)]);
                let attempt = Attempt {
                    at,
                    provider,
                    outcome: Outcome::Accepted {
                        ids: accepted.ids,
                        segments: accepted.segments,
                        price: accepted.price,
                    },
                };
                record(&mut claim.job, attempt);
                let message = claim.job.clone().into_message(Status::Sent, now);
                let writes = vec![gone, over(&self.inner.keyring, id, &message, kept)?];
                let held = self.commit(&claim, now, writes, Some(event)).await?;
                self.forget(id);
                Ok(held.is_some())
            }
            Finish::Retry {
                at,
                provider,
                error,
                due,
            } => {
                let facts = [
                    ("provider", provider.as_str()),
                    ("class", error.class.word()),
                ];
                let event = event(&claim, "message.attempt-failed", now, &facts);
                let attempt = Attempt {
                    at,
                    provider,
                    outcome: Outcome::Failed(error),
                };
                record(&mut claim.job, attempt);
                claim.job.due = due;
                let job = sealed(&self.inner.keyring, &jobs_key, &claim.job, None)?;
                let writes = vec![write(jobs_key, job)];
                let held = self.commit(&claim, now, writes, Some(event)).await?;
                if held.is_some() {
                    self.put_back(id, claim.job.priority, due);
                } else {
                    self.forget(id);
                }
                Ok(held.is_some())
            }
            Finish::Over { status, attempt } => {
                if let Some(attempt) = attempt {
                    record(&mut claim.job, attempt);
                }
                let kind = format!("message.{}", status.word());
                let class = match claim.job.attempts.last().map(|last| &last.outcome) {
                    Some(Outcome::Failed(error)) => error.class.word(),
                    _ => "none",
                };
                let event = event(&claim, &kind, now, &[("class", class)]);
                let last = if status == Status::Failed {
                    let key = key(DEAD, id);
                    let job = sealed(&self.inner.keyring, &key, &claim.job, kept)?;
                    write(key, job)
                } else {
                    let message = claim.job.clone().into_message(status, now);
                    over(&self.inner.keyring, id, &message, kept)?
                };
                let held = self
                    .commit(&claim, now, vec![gone, last], Some(event))
                    .await?;
                self.forget(id);
                Ok(held.is_some())
            }
        }
    }

    /// Lets a claimed job wait again, until `due`, as it stands in its row.
    pub fn put_back(&self, id: MessageId, priority: Priority, due: UnixMillis) {
        self.state().later.insert((due, priority, id));
        self.inner.bell.notify_one();
    }

    /// Commits `writes` if the claimed row is still what it was; the new version, or `None`.
    async fn commit(
        &self,
        claim: &Claim,
        now: UnixMillis,
        writes: Vec<Write>,
        event: Option<Event>,
    ) -> Result<Option<u64>, StoreError> {
        let commit = Commit {
            instant: now,
            reads: vec![Read {
                key: key(JOBS, claim.id),
                version: Some(claim.version),
                until: None,
            }],
            writes,
            events: event
                .iter()
                .map(|event| postcard::to_allocvec(event).unwrap_or_default())
                .collect(),
            ..Commit::default()
        };
        match self.inner.store.commit(commit).await {
            Ok(committed) => Ok(committed.version),
            Err(CommitError::Store(error)) => Err(error),
            // A row that somebody else has moved on: the claim is void.
            Err(_) => Ok(None),
        }
    }
}

/// The row of a message that is over: sealed as well, since what providers have said is in it.
fn over(
    keyring: &Keyring,
    id: MessageId,
    message: &MessageRow,
    kept: Option<UnixMillis>,
) -> Result<Write, StoreError> {
    let key = key(MESSAGES, id);
    let section = sealed(keyring, &key, message, kept)?;
    Ok(write(key, section))
}

fn event(claim: &Claim, kind: &str, at: UnixMillis, facts: &[(&str, &str)]) -> Event {
    Event {
        kind: kind.to_owned(),
        at,
        service: claim.job.service.clone(),
        source: "host".to_owned(),
        message: Some(claim.id),
        country: Some(claim.job.country.clone()),
        attributes: facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

/// Puts an entry back when the claim was cancelled half-way.
struct PutBack<'a> {
    queue: &'a Queue,
    entry: Option<(Priority, UnixMillis, MessageId)>,
}

impl PutBack<'_> {
    fn keep(mut self) {
        self.entry = None;
    }
}

impl Drop for PutBack<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            let (priority, due, id) = entry;
            self.queue.put_back(id, priority, due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_store::{Ending, Rulings, SledStore, Transaction};
    use countersign_types::{ErrorClass, ManualClock, SeededEntropy};

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn job(priority: Priority, due: UnixMillis) -> Job {
        Job {
            channel: "sms".into(),
            to: "+12025550123".into(),
            country: "US".into(),
            template: "verification".into(),
            text: "hello".into(),
            variables: Vec::new(),
            locale: None,
            service: "default".into(),
            purpose: "verification".into(),
            challenge: None,
            accepted: NOW,
            due,
            deadline: NOW + Duration::from_secs(600),
            priority,
            attempts: Vec::new(),
        }
    }

    fn failed(class: ErrorClass) -> SendError {
        SendError {
            class,
            retry_after_ms: None,
            provider_code: None,
            text: "no".into(),
            failover: false,
        }
    }

    async fn store(folder: &tempfile::TempDir) -> Arc<dyn Store> {
        SledStore::open(&folder.path().join("store")).expect("opened")
    }

    /// The same keys for every queue of a test.
    fn keyring() -> Arc<Keyring> {
        let folder = tempfile::tempdir().expect("a folder");
        let entropy = SeededEntropy::new([2; 32]);
        Arc::new(Keyring::load_or_create(folder.path(), true, &entropy).expect("made"))
    }

    async fn add(queue: &Queue, entropy: &SeededEntropy, job: Job) -> MessageId {
        let store = &queue.inner.store;
        let place = queue.reserve().expect("room");
        let id = MessageId::new(NOW, entropy);
        let (key, section) = job_row(&queue.inner.keyring, id, &job).expect("sealed");
        let mut run = Transaction::new(store.clone(), NOW, Rulings::default());
        run.set_host(&key, Some(section)).await.expect("written");
        store
            .commit(run.into_commit(Ending::Commit))
            .await
            .expect("committed");
        queue.announce(place, id, job.due, job.priority);
        id
    }

    #[tokio::test]
    async fn the_urgent_goes_before_the_old_and_nothing_before_its_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let queue = Queue::open(store(&folder).await, keyring(), 10)
            .await
            .expect("opened");
        let entropy = SeededEntropy::new([1; 32]);
        let clock = ManualClock::new(NOW);
        let old = add(&queue, &entropy, job(Priority::Normal, NOW)).await;
        let later = NOW + Duration::from_secs(5);
        let delayed = add(&queue, &entropy, job(Priority::Urgent, later)).await;
        let urgent = add(&queue, &entropy, job(Priority::Urgent, NOW)).await;
        assert_eq!(queue.next(&clock).await.expect("claimed").id, urgent);
        assert_eq!(queue.next(&clock).await.expect("claimed").id, old);
        assert_eq!(queue.pop(NOW), (None, Some(later)));
        clock.set(later);
        assert_eq!(queue.next(&clock).await.expect("claimed").id, delayed);
    }

    #[tokio::test]
    async fn a_full_queue_turns_away_and_a_finished_job_makes_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let queue = Queue::open(store(&folder).await, keyring(), 1)
            .await
            .expect("opened");
        let entropy = SeededEntropy::new([1; 32]);
        add(&queue, &entropy, job(Priority::Normal, NOW)).await;
        assert!(queue.reserve().is_err());
        let claim = queue.next(&ManualClock::new(NOW)).await.expect("claimed");
        let sent = Finish::Sent {
            at: NOW,
            provider: "p".into(),
            accepted: Accepted::default(),
        };
        assert!(queue.finish(claim, sent, NOW).await.expect("finished"));
        assert_eq!(queue.depth(), 0);
        assert!(queue.reserve().is_ok());
    }

    #[tokio::test]
    async fn a_start_voids_claims_and_a_void_claim_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(&folder).await;
        let before = Queue::open(store.clone(), keyring(), 10)
            .await
            .expect("opened");
        let entropy = SeededEntropy::new([1; 32]);
        let clock = ManualClock::new(NOW);
        let id = add(&before, &entropy, job(Priority::Normal, NOW)).await;
        let old_claim = before.next(&clock).await.expect("claimed");
        let after = Queue::open(store.clone(), keyring(), 10)
            .await
            .expect("opened");
        let claim = after.next(&clock).await.expect("claimed again");
        assert_eq!(claim.id, id);
        let retry = Finish::Retry {
            at: NOW,
            provider: "p".into(),
            error: failed(ErrorClass::Retryable),
            due: NOW,
        };
        assert!(after.finish(claim, retry, NOW).await.expect("finished"));
        let sent = Finish::Sent {
            at: NOW,
            provider: "p".into(),
            accepted: Accepted::default(),
        };
        assert!(!before.finish(old_claim, sent, NOW).await.expect("refused"));
        assert_eq!(
            after
                .next(&clock)
                .await
                .expect("still there")
                .job
                .attempts
                .len(),
            1
        );
    }

    #[tokio::test]
    async fn what_no_provider_takes_is_kept_as_dead() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(&folder).await;
        let queue = Queue::open(store.clone(), keyring(), 10)
            .await
            .expect("opened");
        let entropy = SeededEntropy::new([1; 32]);
        let id = add(&queue, &entropy, job(Priority::Normal, NOW)).await;
        let claim = queue.next(&ManualClock::new(NOW)).await.expect("claimed");
        let over = Finish::Over {
            status: Status::Failed,
            attempt: Some(Attempt {
                at: NOW,
                provider: "p".into(),
                outcome: Outcome::Failed(failed(ErrorClass::Permanent)),
            }),
        };
        queue.finish(claim, over, NOW).await.expect("finished");
        let dead = store
            .get(&key(DEAD, id))
            .await
            .expect("read")
            .expect("kept");
        let dead = read(&keyring(), &key(DEAD, id), &dead.body).expect("readable");
        assert_eq!(dead.to, "+12025550123");
        assert_eq!(dead.attempts.len(), 1);
        assert_eq!(store.get(&key(JOBS, id)).await.expect("read"), None);
    }

    #[tokio::test]
    async fn a_sent_message_keeps_neither_text_nor_number() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(&folder).await;
        let queue = Queue::open(store.clone(), keyring(), 10)
            .await
            .expect("opened");
        let entropy = SeededEntropy::new([1; 32]);
        let id = add(&queue, &entropy, job(Priority::Normal, NOW)).await;
        let mut claim = queue.next(&ManualClock::new(NOW)).await.expect("claimed");
        assert!(queue.begin(&mut claim, NOW, "p").await.expect("begun"));
        let sent = Finish::Sent {
            at: NOW,
            provider: "p".into(),
            accepted: Accepted {
                ids: vec!["SM1".into()],
                ..Accepted::default()
            },
        };
        assert!(queue.finish(claim, sent, NOW).await.expect("finished"));
        let row = store
            .get(&key(MESSAGES, id))
            .await
            .expect("read")
            .expect("kept");
        let Body::Sections(Sections {
            host: Some(host), ..
        }) = row.body
        else {
            panic!("a message's row");
        };
        let plain = keyring()
            .unseal(&key(MESSAGES, id), &host.value)
            .expect("sealed");
        let message: MessageRow = postcard::from_bytes(&plain).expect("readable");
        assert_eq!(message.status, Status::Sent);
        assert_eq!(
            message.attempts.len(),
            1,
            "the begun try became the sent one"
        );
        assert!(!format!("{message:?}").contains("2025550123"));
    }
}
