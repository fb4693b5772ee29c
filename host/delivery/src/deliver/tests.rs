use std::sync::Mutex;

use countersign_queue::{ChallengeRef, Job, job_row};
use countersign_store::{Ending, Rulings, SledStore, Store, Transaction};
use countersign_types::{ManualClock, MessageId, Priority, SeededEntropy};

use super::*;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

/// Answers what the test says, and remembers what it was given.
#[derive(Default)]
struct Script {
    answers: Mutex<Vec<Result<Accepted, SendError>>>,
    sent: Mutex<Vec<(String, Message)>>,
}

#[async_trait]
impl Sender for Script {
    async fn send(&self, provider: &str, message: &Message) -> Result<Accepted, SendError> {
        let mut sent = self.sent.lock().expect("unlocked");
        sent.push((provider.to_owned(), message.clone()));
        let mut answers = self.answers.lock().expect("unlocked");
        if answers.is_empty() {
            return Ok(Accepted::default());
        }
        answers.remove(0)
    }
}

struct Bench {
    _folder: tempfile::TempDir,
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
    queue: Queue,
    keyring: Arc<Keyring>,
    script: Arc<Script>,
    delivery: Delivery,
}

impl Bench {
    async fn new(providers: &[&str], answers: Vec<Result<Accepted, SendError>>) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Store> = SledStore::open(&folder.path().join("store")).expect("opened");
        let entropy = Arc::new(SeededEntropy::new([5; 32]));
        let keys = folder.path().join("keys");
        let keyring = Arc::new(Keyring::load_or_create(&keys, true, &*entropy).expect("made"));
        let clock = Arc::new(ManualClock::new(NOW));
        let queue = Queue::open(store.clone(), keyring.clone(), 100)
            .await
            .expect("opened");
        let script = Arc::new(Script {
            answers: Mutex::new(answers),
            sent: Mutex::default(),
        });
        let config = DeliveryConfig {
            routes: vec![Route {
                country: None,
                providers: providers.iter().map(|name| (*name).to_owned()).collect(),
            }],
            concurrency: HashMap::new(),
            in_hand: 8,
            backoff_base: SECOND,
            backoff_max: 30 * SECOND,
        };
        let delivery = Delivery::new(
            queue.clone(),
            keyring.clone(),
            clock.clone(),
            entropy.clone(),
            script.clone(),
            config,
        );
        Bench {
            _folder: folder,
            store,
            clock,
            entropy,
            queue,
            keyring,
            script,
            delivery,
        }
    }

    async fn add(&self, with_code: bool) -> MessageId {
        let id = MessageId::new(NOW, &*self.entropy);
        let deadline = NOW + 600 * SECOND;
        let job = Job {
            channel: "sms".into(),
            to: "+12025550123".into(),
            country: "US".into(),
            template: "verification".into(),
            text: if with_code {
                "Your verification code is: {code}\n\nValid for {minutes} minutes.".into()
            } else {
                "Hello {name}".into()
            },
            variables: vec![("name".into(), "Ann".into())],
            locale: None,
            service: "default".into(),
            purpose: "verification".into(),
            challenge: with_code.then(|| ChallengeRef {
                id: [9; 16],
                key_id: 1,
                service: "default".into(),
                purpose: "verification".into(),
                subject: "s".into(),
                digits: 6,
                expires: deadline,
            }),
            accepted: NOW,
            due: NOW,
            deadline,
            priority: Priority::Normal,
            attempts: Vec::new(),
        };
        let place = self.queue.reserve().expect("room");
        let (key, section) = job_row(&self.keyring, id, &job).expect("sealed");
        let mut run = Transaction::new(self.store.clone(), NOW, Rulings::default());
        run.set_host(&key, Some(section)).await.expect("written");
        let commit = run.into_commit(Ending::Commit);
        self.store.commit(commit).await.expect("committed");
        self.queue.announce(place, id, NOW, Priority::Normal);
        id
    }

    /// Delivers until nothing is due within the next 30 seconds.
    async fn work(&self) {
        for _ in 0..200 {
            if self.queue.depth() == 0 {
                return;
            }
            let next = self.queue.next(&*self.clock);
            tokio::select! {
                biased;
                claim = next => self.delivery.deliver(claim.expect("claimed")).await.expect("stored"),
                () = std::future::ready(()) => self.clock.advance(SECOND / 4),
            }
        }
    }

    fn tried(&self) -> Vec<String> {
        let sent = self.script.sent.lock().expect("unlocked");
        sent.iter().map(|(provider, _)| provider.clone()).collect()
    }

    fn texts(&self) -> Vec<String> {
        let sent = self.script.sent.lock().expect("unlocked");
        sent.iter()
            .map(|(_, message)| message.text.clone())
            .collect()
    }
}

fn error(class: ErrorClass) -> Result<Accepted, SendError> {
    Err(SendError {
        class,
        retry_after_ms: None,
        provider_code: None,
        text: "no".into(),
        failover: false,
    })
}

#[tokio::test]
async fn the_text_is_the_contracts() {
    let bench = Bench::new(&["a"], vec![]).await;
    bench.add(true).await;
    bench.work().await;
    let text = bench.texts().remove(0);
    let code = text
        .strip_prefix("Your verification code is: ")
        .and_then(|rest| rest.strip_suffix("\n\nValid for 10 minutes."))
        .expect("the text of the contract");
    assert_eq!(code.len(), 6);
    let sent = bench.script.sent.lock().expect("unlocked");
    assert_eq!(sent[0].1.validity, 600 * SECOND);
}

#[tokio::test]
async fn a_retryable_failure_is_tried_again_with_the_same_code() {
    let bench = Bench::new(
        &["a"],
        vec![error(ErrorClass::Retryable), error(ErrorClass::Throttled)],
    )
    .await;
    bench.add(true).await;
    bench.work().await;
    assert_eq!(bench.tried(), ["a", "a", "a"]);
    assert_eq!(bench.queue.depth(), 0);
    let codes: Vec<_> = bench
        .texts()
        .iter()
        .map(|text| text[..33].to_owned())
        .collect();
    assert!(codes.iter().all(|code| *code == codes[0]));
}

#[tokio::test]
async fn another_provider_takes_over_at_once() {
    let bench = Bench::new(&["a", "b"], vec![error(ErrorClass::Auth)]).await;
    bench.add(true).await;
    for _ in 0..2 {
        let claim = bench.queue.next(&*bench.clock).await.expect("due now");
        bench.delivery.deliver(claim).await.expect("stored");
    }
    assert_eq!(bench.tried(), ["a", "b"]);
}

#[tokio::test]
async fn permanent_and_blocked_are_not_tried_again() {
    for class in [ErrorClass::Permanent, ErrorClass::Blocked] {
        let bench = Bench::new(&["a", "b"], vec![error(class)]).await;
        bench.add(true).await;
        bench.work().await;
        assert_eq!(bench.tried(), ["a"], "{class:?}");
        assert_eq!(bench.queue.depth(), 0);
    }
}

#[tokio::test]
async fn a_permanent_failure_of_one_provider_alone_is_tried_through_another_once() {
    let no_route = || {
        error(ErrorClass::Permanent).map_err(|error| SendError {
            failover: true,
            ..error
        })
    };
    let bench = Bench::new(&["a", "b"], vec![no_route(), no_route()]).await;
    bench.add(true).await;
    bench.work().await;
    assert_eq!(bench.tried(), ["a", "b"]);
    assert_eq!(bench.queue.depth(), 0);
}

#[tokio::test]
async fn an_unknown_outcome_is_resent_for_codes_only_and_three_times_in_all() {
    let unknown = || (0..9).map(|_| error(ErrorClass::UnknownOutcome)).collect();
    let bench = Bench::new(&["a", "b"], unknown()).await;
    bench.add(true).await;
    bench.work().await;
    assert_eq!(bench.tried(), ["a", "b", "a"]);
    let bench = Bench::new(&["a", "b"], unknown()).await;
    bench.add(false).await;
    bench.work().await;
    assert_eq!(bench.tried(), ["a"]);
    assert_eq!(bench.queue.depth(), 0);
}

#[tokio::test]
async fn a_message_without_a_code_that_was_begun_before_a_crash_is_not_sent_twice() {
    let bench = Bench::new(&["a"], vec![]).await;
    bench.add(false).await;
    let mut claim = bench.queue.next(&*bench.clock).await.expect("claimed");
    assert!(
        bench
            .queue
            .begin(&mut claim, NOW, "a")
            .await
            .expect("begun")
    );
    drop(claim);
    let queue = Queue::open(bench.store.clone(), bench.keyring.clone(), 100)
        .await
        .expect("opened again");
    let claim = queue.next(&*bench.clock).await.expect("claimed again");
    bench.delivery.deliver(claim).await.expect("stored");
    assert!(bench.tried().is_empty());
    let queue = Queue::open(bench.store.clone(), bench.keyring.clone(), 100)
        .await
        .expect("opened again");
    assert_eq!(queue.depth(), 0);
}

#[tokio::test]
async fn an_expired_code_is_never_sent() {
    let bench = Bench::new(&["a"], vec![]).await;
    bench.add(true).await;
    bench.clock.advance(600 * SECOND);
    bench.work().await;
    assert!(bench.tried().is_empty());
    assert_eq!(bench.queue.depth(), 0);
}

#[tokio::test]
async fn a_provider_that_asks_for_time_gets_it() {
    let asks = Err(SendError {
        class: ErrorClass::Throttled,
        retry_after_ms: Some(40_000),
        provider_code: None,
        text: "slow down".into(),
        failover: false,
    });
    let bench = Bench::new(&["a"], vec![asks]).await;
    bench.add(true).await;
    let claim = bench.queue.next(&*bench.clock).await.expect("claimed");
    bench.delivery.deliver(claim).await.expect("stored");
    bench.clock.advance(39 * SECOND);
    let early = tokio::time::timeout(Duration::from_millis(20), bench.queue.next(&*bench.clock));
    assert!(early.await.is_err());
    bench.clock.advance(SECOND);
    bench.queue.next(&*bench.clock).await.expect("due now");
}
