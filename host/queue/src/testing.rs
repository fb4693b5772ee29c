//! What the tests of this crate share: a queue on a real store, and its jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign_store::{Commit, Keyring, SledStore, Store, read_events};
use countersign_types::{
    Accepted, Clock, Entropy, ErrorClass, Event, ManualClock, MessageId, NumberKind, Price,
    Priority, SeededEntropy, SendError, Status, StatusUpdate, UnixMillis,
};

use crate::{
    ANONYMOUS, Attempt, ChallengeRef, Claim, Counts, Finish, Job, Open, Outcome, Queue,
    QueueConfig, job_row,
};

pub(crate) const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A message without a code that is due now and has ten minutes.
pub(crate) fn job() -> Job {
    Job {
        channel: "sms".into(),
        to: "+12025550123".into(),
        country: "US".into(),
        line: NumberKind::FixedLineOrMobile,
        template: "notice".into(),
        text: "hello".into(),
        variables: Vec::new(),
        locale: None,
        service: "default".into(),
        purpose: "notice".into(),
        caller: ANONYMOUS.into(),
        challenge: None,
        accepted: NOW,
        due: NOW,
        deadline: NOW + 600 * SECOND,
        priority: Priority::Normal,
        attempts: Vec::new(),
        counts: Counts::default(),
    }
}

/// The same with a code that ends at `expires`.
pub(crate) fn with_code(expires: UnixMillis) -> Job {
    Job {
        challenge: Some(ChallengeRef {
            id: [1; 16],
            key_id: 1,
            service: "default".into(),
            purpose: "verification".into(),
            subject: "s".into(),
            digits: 6,
            expires,
        }),
        ..job()
    }
}

pub(crate) fn failed(class: ErrorClass) -> SendError {
    SendError {
        class,
        retry_after_ms: None,
        provider_code: None,
        text: "no".into(),
        failover: false,
    }
}

/// A failed try that took no time, `n` seconds after the start.
pub(crate) fn attempt(n: u32, error: SendError) -> Attempt {
    let at = NOW + n * SECOND;
    Attempt {
        at,
        ended: at,
        provider: "p".into(),
        outcome: Outcome::Failed(error),
    }
}

pub(crate) fn update(id: &str, status: Status) -> StatusUpdate {
    StatusUpdate {
        id: id.into(),
        status,
        error: None,
        at: None,
        price: None,
        segments: None,
    }
}

pub(crate) fn price(amount: &str) -> Price {
    Price {
        amount: amount.into(),
        currency: "USD".into(),
    }
}

/// Fills with numbers that go up, so that of messages of one instant the first is the one that was
/// added first.
#[derive(Debug, Default)]
pub(crate) struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        let number = self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let (zeros, end) = bytes.split_at_mut(bytes.len() - number.len());
        zeros.fill(0);
        end.copy_from_slice(&number);
    }
}

pub(crate) struct Bench {
    _folder: tempfile::TempDir,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ids: Counting,
    pub(crate) queue: Queue,
}

impl Bench {
    pub(crate) async fn new() -> Bench {
        Bench::with(QueueConfig::default()).await
    }

    pub(crate) async fn with(config: QueueConfig) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Store> = SledStore::open(&folder.path().join("store")).expect("opened");
        let entropy = SeededEntropy::new([1; 32]);
        let keyring = Keyring::load_or_create(&folder.path().join("keys"), true, &entropy);
        let keyring = Arc::new(keyring.expect("made"));
        let clock = Arc::new(ManualClock::new(NOW));
        let queue = Queue::open(store.clone(), keyring.clone(), clock.clone(), config);
        let queue = queue.await.expect("opened");
        Bench {
            _folder: folder,
            store,
            keyring,
            clock,
            ids: Counting::default(),
            queue,
        }
    }

    /// The queue of the same store, as the next process opens it.
    pub(crate) async fn reopened(&self) -> Queue {
        let config = self.queue.inner.config.clone();
        let (store, keyring) = (self.store.clone(), self.keyring.clone());
        let queue = Queue::open(store, keyring, self.clock.clone(), config);
        queue.await.expect("opened")
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// Commits `job` as a call would, and announces it.
    pub(crate) async fn add(&self, job: Job) -> MessageId {
        let place = self.queue.reserve(&job, self.now()).expect("room");
        let id = MessageId::new(job.accepted, &self.ids);
        let (key, section) = job_row(&self.keyring, id, &job).expect("sealed");
        let commit = Commit {
            instant: self.now(),
            writes: vec![crate::rows::row(key, section)],
            ..Commit::default()
        };
        self.store.commit(commit).await.expect("committed");
        self.queue.announce(place, id);
        id
    }

    pub(crate) async fn claim(&self) -> Claim {
        let next = self.queue.next(&Open).await;
        next.expect("claimed").claim
    }

    pub(crate) async fn finish(&self, claim: Claim, finish: Finish) -> bool {
        let finished = self.queue.finish(claim, finish, self.now()).await;
        finished.expect("finished")
    }

    /// A message that the provider `p` has taken under `ids`, and was asked for receipts of.
    pub(crate) async fn sent(&self, ids: &[&str]) -> MessageId {
        let id = self.add(job()).await;
        let claim = self.claim().await;
        assert!(self.finish(claim, sent(ids)).await);
        id
    }

    /// A message that no provider could take.
    pub(crate) async fn dead(&self, job: Job) -> MessageId {
        let id = self.add(job).await;
        let claim = self.claim().await;
        let over = Finish::Over {
            status: Status::Failed,
            attempt: Some(attempt(0, failed(ErrorClass::Permanent))),
            reason: None,
        };
        assert!(self.finish(claim, over).await);
        id
    }

    pub(crate) async fn status(&self, id: MessageId) -> Status {
        let message = self.queue.message(id, self.now()).await.expect("read");
        message.expect("known").row.status
    }

    /// Kinds and attributes of all events, in order.
    pub(crate) async fn events(&self) -> Vec<(String, Vec<(String, String)>)> {
        let events = read_events(&*self.store, 1, 1_000, self.now()).await;
        let read = |bytes: &[u8]| postcard::from_bytes::<Event>(bytes).expect("an event");
        let events = events.expect("read").into_iter();
        events
            .map(|stored| read(&stored.event))
            .map(|event| (event.kind, event.attributes))
            .collect()
    }

    pub(crate) async fn kinds(&self) -> Vec<String> {
        let events = self.events().await.into_iter();
        events.map(|(kind, _)| kind).collect()
    }
}

/// The provider `p` took it under `ids`, and was told where receipts go.
pub(crate) fn sent(ids: &[&str]) -> Finish {
    Finish::Sent {
        at: NOW,
        provider: "p".into(),
        accepted: Accepted {
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            ..Accepted::default()
        },
        receipt_asked: true,
        counted: None,
    }
}
