use std::sync::Mutex;

use countersign_queue::{Job, Open, QueueConfig};
use countersign_store::{SledStore, Store};
use countersign_types::{ManualClock, MessageId, MonotonicMillis, Reply, SeededEntropy, Wish};

use super::*;
use crate::testing::{NOW, SECOND, accept, notice, refusal, refusal_for, verification};
use crate::{BreakerTerms, Health, Route};

/// Answers what the test says, and remembers what it was given.
#[derive(Default)]
struct Script {
    answers: Mutex<Vec<Result<Accepted, SendError>>>,
    sent: Mutex<Vec<(String, Message)>>,
    /// Counts what was sent, so that waiting needs no polling.
    count: watch::Sender<usize>,
    /// Whoever is called `hangs` answers when this becomes true.
    released: watch::Sender<bool>,
}

#[async_trait]
impl Sender for Script {
    async fn send(&self, provider: &str, message: &Message) -> Result<Accepted, SendError> {
        let call = (provider.to_owned(), message.clone());
        self.sent.lock().expect("unlocked").push(call);
        self.count.send_modify(|count| *count += 1);
        assert!(provider != "panics", "on purpose");
        if provider == "fails" {
            return Err(refusal(ErrorClass::Retryable));
        }
        if provider == "hangs" {
            let mut released = self.released.subscribe();
            released
                .wait_for(|released| *released)
                .await
                .expect("there");
        }
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
        let route = Route {
            providers: providers.iter().map(|name| (*name).to_owned()).collect(),
            ..Route::default()
        };
        Bench::with(vec![route], HashMap::new(), answers).await
    }

    async fn with(
        routes: Vec<Route>,
        providers: HashMap<String, ProviderTerms>,
        answers: Vec<Result<Accepted, SendError>>,
    ) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Store> = SledStore::open(&folder.path().join("store")).expect("opened");
        let entropy = Arc::new(SeededEntropy::new([5; 32]));
        let keys = folder.path().join("keys");
        let keyring = Arc::new(Keyring::load_or_create(&keys, true, &*entropy).expect("made"));
        let clock = Arc::new(ManualClock::new(NOW));
        let health = Health::new(BreakerTerms::default(), clock.clone());
        let routes = Routes::new(routes, health);
        let queue_config = QueueConfig {
            lanes: Arc::new(routes.clone()),
            // Longer than a test lets a provider hang.
            lease: 3_600 * SECOND,
            ..QueueConfig::default()
        };
        let queue = Queue::open(store.clone(), keyring.clone(), clock.clone(), queue_config)
            .await
            .expect("opened");
        let script = Arc::new(Script {
            answers: Mutex::new(answers),
            ..Script::default()
        });
        let config = DeliveryConfig {
            routes,
            providers,
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
        self.add_to("US", with_code).await
    }

    async fn heard_stop(&self, provider: &str, now: UnixMillis) -> bool {
        let stop = Reply {
            phone: "+12025550123".to_owned(),
            wish: Wish::Stop,
            id: None,
            at: None,
        };
        let heard = self.queue.heard(provider, &stop, now).await;
        heard.expect("stored")
    }

    async fn add_to(&self, country: &str, with_code: bool) -> MessageId {
        let job = if with_code {
            verification(NOW)
        } else {
            notice(NOW)
        };
        let country = country.into();
        accept(&self.queue, &*self.entropy, &Job { country, ..job }).await
    }

    /// The next job.
    async fn claim(&self) -> Claim {
        let next = self.queue.next(&Open).await;
        next.expect("claimed").claim
    }

    async fn reopened(&self) -> Queue {
        let config = QueueConfig::default();
        let (store, keyring) = (self.store.clone(), self.keyring.clone());
        let queue = Queue::open(store, keyring, self.clock.clone(), config);
        queue.await.expect("opened again")
    }

    /// Delivers until nothing is due within the next 30 seconds.
    async fn work(&self) {
        for _ in 0..200 {
            if self.queue.depth() == 0 {
                return;
            }
            tokio::select! {
                biased;
                claim = self.claim() => self.delivery.deliver(claim).await.expect("stored"),
                () = std::future::ready(()) => self.clock.advance(SECOND / 4),
            }
        }
    }

    /// A worker on the queue that was opened again.
    fn restarted(&self) -> Delivery {
        Delivery::new(
            self.queue.clone(),
            self.keyring.clone(),
            self.clock.clone(),
            self.entropy.clone(),
            self.script.clone(),
            self.delivery.inner.config.clone(),
        )
    }

    async fn nothing_is_due(&self) {
        tokio::select! {
            biased;
            claim = self.claim() => panic!("{claim:?}"),
            () = std::future::ready(()) => {}
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
    Err(refusal(class))
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
async fn what_a_provider_does_not_say_of_segments_is_counted() {
    let said = Accepted {
        segments: Some(1),
        ..Accepted::default()
    };
    let bench = Bench::new(&["a"], vec![Ok(Accepted::default()), Ok(said)]).await;
    for want in [2, 1] {
        let long = Job {
            text: "{name}".repeat(33),
            variables: vec![("name".into(), "Ada, ".into())],
            ..notice(NOW)
        };
        let id = accept(&bench.queue, &*bench.entropy, &long).await;
        let claim = bench.claim().await;
        bench.delivery.deliver(claim).await.expect("stored");
        let message = bench.queue.message(id, NOW).await.expect("read");
        let sent = message.expect("known").row.sent.expect("sent");
        assert_eq!((sent.segments(), sent.counted), (Some(want), Some(2)));
    }
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

/// How long a message waits for its second try, by the chance of `seed`.
async fn wait_for_second_try(seed: u8) -> Duration {
    let mut bench = Bench::new(&["a"], vec![error(ErrorClass::Retryable)]).await;
    let id = bench.add(true).await;
    bench.entropy = Arc::new(SeededEntropy::new([seed; 32]));
    let claim = bench.claim().await;
    bench.restarted().deliver(claim).await.expect("stored");
    let waiting = bench.queue.message(id, NOW).await.expect("read");
    let due = waiting
        .expect("known")
        .due
        .expect("it is to be tried again");
    due.since(NOW)
}

#[tokio::test]
async fn messages_that_fail_together_are_not_tried_again_together() {
    let mut waits = Vec::new();
    for seed in 1..=4 {
        let wait = wait_for_second_try(seed).await;
        assert!(wait < SECOND, "{wait:?}");
        assert_eq!(wait, wait_for_second_try(seed).await, "seed {seed}");
        waits.push(wait);
    }
    waits.sort();
    waits.dedup();
    assert_eq!(waits.len(), 4, "{waits:?}");
}

#[tokio::test]
async fn another_provider_takes_over_at_once() {
    for class in [
        ErrorClass::Auth,
        ErrorClass::Throttled,
        ErrorClass::Retryable,
    ] {
        for with_code in [true, false] {
            let bench = Bench::new(&["a", "b"], vec![error(class)]).await;
            bench.add(with_code).await;
            for _ in 0..2 {
                let claim = bench.claim().await;
                bench.delivery.deliver(claim).await.expect("stored");
            }
            assert_eq!(bench.tried(), ["a", "b"], "{class:?}, code: {with_code}");
        }
    }
}

#[tokio::test]
async fn when_all_were_asked_the_longest_wait_that_any_asked_for_counts() {
    let asks = |seconds: u64| {
        error(ErrorClass::Throttled).map_err(|error| SendError {
            retry_after_ms: Some(seconds * 1_000),
            ..error
        })
    };
    for with_code in [true, false] {
        for waits in [[40, 5, 1], [5, 40, 1], [1, 5, 40]] {
            let bench = Bench::new(&["a", "b", "c"], waits.map(asks).to_vec()).await;
            bench.add(with_code).await;
            for _ in 0..3 {
                let claim = bench.claim().await;
                bench.delivery.deliver(claim).await.expect("stored");
            }
            bench.clock.advance(40 * SECOND - Duration::from_millis(1));
            bench.nothing_is_due().await;
            bench.clock.advance(Duration::from_millis(1));
            let claim = bench.claim().await;
            bench.delivery.deliver(claim).await.expect("stored");
            assert_eq!(bench.tried(), ["a", "b", "c", "a"], "code: {with_code}");
        }
    }
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
    for with_code in [true, false] {
        let bench = Bench::new(&["a", "b"], vec![no_route(), no_route()]).await;
        bench.add(with_code).await;
        bench.work().await;
        assert_eq!(bench.tried(), ["a", "b"], "code: {with_code}");
        assert_eq!(bench.queue.depth(), 0);
    }
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
    let mut claim = bench.claim().await;
    assert!(
        bench
            .queue
            .begin(&mut claim, NOW, "a")
            .await
            .expect("begun")
    );
    drop(claim);
    let next = Bench {
        queue: bench.reopened().await,
        ..bench
    };
    let claim = next.claim().await;
    next.restarted().deliver(claim).await.expect("stored");
    assert!(next.tried().is_empty());
    assert_eq!(next.reopened().await.depth(), 0);
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
async fn what_cannot_be_handed_over_at_all_says_why_in_its_story() {
    let route = Route {
        country: Some("US".to_owned()),
        providers: vec!["a".to_owned()],
        ..Route::default()
    };
    let bench = Bench::with(vec![route], HashMap::new(), vec![]).await;
    let without_route = bench.add_to("GG", true).await;
    let unfilled = Job {
        variables: Vec::new(),
        ..notice(NOW)
    };
    let unfilled = accept(&bench.queue, &*bench.entropy, &unfilled).await;
    bench.work().await;
    assert!(bench.tried().is_empty());
    for (id, want) in [
        (
            without_route,
            "no route leads to GG, fixed-line-or-mobile, for normal messages",
        ),
        (
            unfilled,
            "it cannot be rendered: nothing fills the placeholder `{name}`",
        ),
    ] {
        let message = bench.queue.message(id, bench.clock.now()).await;
        let row = message.expect("read").expect("known").row;
        assert_eq!(
            (row.status, row.reason.as_deref()),
            (Status::Failed, Some(want))
        );
    }
}

#[tokio::test]
async fn a_provider_that_asks_for_time_gets_it() {
    let asks = Err(refusal_for(ErrorClass::Throttled, 40 * SECOND));
    let bench = Bench::new(&["a"], vec![asks]).await;
    bench.add(true).await;
    let claim = bench.claim().await;
    bench.delivery.deliver(claim).await.expect("stored");
    bench.clock.advance(39 * SECOND);
    bench.nothing_is_due().await;
    bench.clock.advance(SECOND);
    bench.claim().await;
}

/// Waits for what other tasks do. In a test whose time is paused no time passes meanwhile, so that no
/// timer helps them. Only the threads of the store take real time, which is bounded where they are not
/// to be waited for for ever.
async fn until(what: &str, holds: impl Fn() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(60);
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        tokio::task::yield_now().await;
    }
}

fn terms(concurrency: usize, rate: Option<f64>) -> ProviderTerms {
    ProviderTerms {
        concurrency,
        rate,
        status_callback: None,
    }
}

/// Messages to `DE` go to a provider that works, all others to one that hangs and has two places.
async fn one_that_hangs() -> Bench {
    let route = |country: Option<&str>, provider: &str| Route {
        country: country.map(str::to_owned),
        providers: vec![provider.to_owned()],
        ..Route::default()
    };
    let routes = vec![route(Some("DE"), "works"), route(None, "hangs")];
    let providers = HashMap::from([("hangs".to_owned(), terms(2, None))]);
    Bench::with(routes, providers, Vec::new()).await
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_keeps_nobody_from_another_and_its_messages_expire_in_time() {
    let bench = one_that_hangs().await;
    // More than there are hands.
    let parked: Vec<_> = {
        let mut ids = Vec::new();
        for _ in 0..20 {
            ids.push(bench.add(true).await);
        }
        ids
    };
    let (stop, stopped) = watch::channel(false);
    let worker = bench.delivery.clone();
    let worker = tokio::spawn(async move { worker.run(stopped).await });
    until("two are being handed over", || bench.tried().len() == 2).await;
    for _ in 0..20 {
        bench.add_to("DE", true).await;
    }
    let works = || bench.tried().iter().filter(|name| *name == "works").count();
    until("the other provider takes its own", || works() == 20).await;
    until("they are done", || bench.queue.depth() == 20).await;

    bench.clock.set(UnixMillis(NOW.0 + 600_000));
    bench.queue.ring();
    until("the parked ones end at their deadline", || {
        bench.queue.depth() == 2
    })
    .await;
    let mut expired = 0;
    for id in parked {
        let message = bench.queue.message(id, bench.clock.now()).await;
        let status = message.expect("read").expect("known").row.status;
        expired += usize::from(status == Status::Expired);
    }
    assert_eq!(expired, 18);

    bench.script.released.send_replace(true);
    stop.send_replace(true);
    worker.await.expect("ended").expect("stopped");
    assert_eq!(bench.queue.depth(), 0, "a stop waits for what is in hand");
    assert_eq!(bench.tried().len(), 22);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_comes_free_is_used_at_once() {
    let bench = one_that_hangs().await;
    for _ in 0..20 {
        bench.add(true).await;
    }
    let (_stop, stopped) = watch::channel(false);
    let worker = bench.delivery.clone();
    let worker = tokio::spawn(async move { worker.run(stopped).await });
    until("two are being handed over", || bench.tried().len() == 2).await;
    bench.script.released.send_replace(true);
    // By a timer the worker would look again only after five seconds.
    let began = tokio::time::Instant::now();
    until("all are sent", || bench.queue.depth() == 0).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    worker.abort();
}

#[tokio::test]
async fn a_delivery_that_panics_is_put_back_and_gives_its_place_to_the_next() {
    let routes = vec![Route {
        providers: vec!["panics".to_owned()],
        ..Route::default()
    }];
    let providers = HashMap::from([("panics".to_owned(), terms(1, None))]);
    let bench = Bench::with(routes, providers, Vec::new()).await;
    for _ in 0..3 {
        bench.add(true).await;
    }
    let (stop, stopped) = watch::channel(false);
    let worker = bench.delivery.clone();
    let worker = tokio::spawn(async move { worker.run(stopped).await });
    until("each has had its try", || bench.tried().len() == 3).await;
    bench.nothing_is_due().await;
    // Put back for the longest pause, not for the length of a lease.
    bench.clock.advance(30 * SECOND);
    bench.queue.ring();
    until("each has had another", || bench.tried().len() == 6).await;
    stop.send_replace(true);
    worker.await.expect("ended").expect("stopped");
    assert_eq!(bench.queue.depth(), 3);
}

#[tokio::test]
async fn a_rate_lets_so_many_go_in_a_second() {
    let routes = vec![Route {
        providers: vec!["p".to_owned()],
        ..Route::default()
    }];
    let providers = HashMap::from([("p".to_owned(), terms(64, Some(2.0)))]);
    let bench = Bench::with(routes, providers.clone(), Vec::new()).await;
    for _ in 0..10 {
        bench.add(true).await;
    }
    let places = Places::new(bench.queue.clone(), 64, &providers);
    let mut passes = Vec::new();
    for second in 1..=3 {
        loop {
            tokio::select! {
                biased;
                taken = bench.queue.next(&places) => passes.push(taken.expect("taken")),
                () = std::future::ready(()) => {
                    // Half a second on; twice is one second.
                    bench.clock.advance(SECOND / 2);
                    if bench.clock.now() >= NOW + second * SECOND {
                        break;
                    }
                }
            }
        }
        assert_eq!(passes.len(), 2 * second as usize);
    }
}

#[tokio::test]
async fn a_message_says_where_receipts_go_where_there_is_such_a_place() {
    let routes = vec![Route {
        providers: vec!["p".to_owned()],
        ..Route::default()
    }];
    let callback = Some("https://sms.example.test/webhooks/p".to_owned());
    for status_callback in [callback, None] {
        let terms = ProviderTerms {
            status_callback: status_callback.clone(),
            ..terms(1, None)
        };
        let providers = HashMap::from([("p".to_owned(), terms)]);
        let bench = Bench::with(routes.clone(), providers, Vec::new()).await;
        let id = bench.add(false).await;
        bench.work().await;
        let told = bench.script.sent.lock().expect("unlocked")[0]
            .1
            .status_callback
            .clone();
        assert_eq!(told, status_callback);
        let message = bench
            .queue
            .message(id, NOW)
            .await
            .expect("read")
            .expect("known");
        let sent = message.row.sent.expect("sent");
        assert_eq!(sent.receipt_asked, status_callback.is_some());
    }
}

#[tokio::test]
async fn a_replayed_message_begins_with_the_first_provider_and_all_its_tries() {
    let bench = Bench::new(
        &["a", "b"],
        vec![error(ErrorClass::Retryable), error(ErrorClass::Permanent)],
    );
    let bench = bench.await;
    let id = bench.add(false).await;
    bench.work().await;
    assert_eq!(bench.tried(), ["a", "b"]);
    bench
        .queue
        .replay(id, bench.clock.now())
        .await
        .expect("replayed");
    bench.work().await;
    assert_eq!(bench.tried(), ["a", "b", "a"]);
    let message = bench.queue.message(id, bench.clock.now()).await;
    let message = message.expect("read").expect("known").row;
    assert_eq!((message.status, message.attempts.len()), (Status::Sent, 3));
}

#[tokio::test]
async fn a_provider_that_fails_is_passed_by_until_a_probe_finds_it_well() {
    let bench = Bench::new(&["a", "b"], Vec::new()).await;
    let send = async |answers: Vec<Result<Accepted, SendError>>| {
        *bench.script.answers.lock().expect("unlocked") = answers;
        bench.script.sent.lock().expect("unlocked").clear();
        bench.add(true).await;
        while bench.queue.depth() > 0 {
            let claim = bench.claim().await;
            bench.delivery.deliver(claim).await.expect("stored");
        }
        bench.tried()
    };
    let fails = || error(ErrorClass::Retryable);
    for _ in 0..5 {
        assert_eq!(send(vec![fails()]).await, ["a", "b"]);
    }
    assert_eq!(send(vec![]).await, ["b"]);
    bench.clock.advance(5 * SECOND);
    assert_eq!(send(vec![fails()]).await, ["a", "b"], "the probe");
    bench.clock.advance(9 * SECOND);
    assert_eq!(send(vec![]).await, ["b"], "the second pause is longer");
    bench.clock.advance(SECOND);
    assert_eq!(send(vec![]).await, ["a"], "the probe");
    assert_eq!(send(vec![]).await, ["a"]);
}

#[tokio::test]
async fn what_waits_for_a_provider_that_fails_goes_to_the_next_without_asking_it() {
    let route = Route {
        providers: vec!["fails".to_owned(), "works".to_owned()],
        ..Route::default()
    };
    let providers = ["fails", "works"].map(|name| (name.to_owned(), terms(1, None)));
    let bench = Bench::with(vec![route], HashMap::from(providers), Vec::new()).await;
    for _ in 0..40 {
        bench.add(true).await;
    }
    let (stop, stopped) = watch::channel(false);
    let worker = bench.delivery.clone();
    let worker = tokio::spawn(async move { worker.run(stopped).await });
    until("all are sent", || bench.queue.depth() == 0).await;
    stop.send_replace(true);
    worker.await.expect("ended").expect("stopped");
    let tried = bench.tried();
    let times = |provider: &str| tried.iter().filter(|name| *name == provider).count();
    assert_eq!((times("fails"), times("works")), (5, 40), "{tried:?}");
}

/// A message that is not handed over shows nothing of a provider, so it must not be the one by which it is
/// probed.
#[tokio::test]
async fn a_probe_is_not_used_up_by_a_message_that_is_not_handed_over() {
    let bench = Bench::new(&["a", "b"], Vec::new()).await;
    let fails = || error(ErrorClass::Retryable);
    let work = async || {
        while bench.queue.depth() > 0 {
            let claim = bench.claim().await;
            bench.delivery.deliver(claim).await.expect("stored");
        }
    };
    for _ in 0..5 {
        *bench.script.answers.lock().expect("unlocked") = vec![fails()];
        bench.add(true).await;
        work().await;
    }
    bench.clock.advance(5 * SECOND);
    let unfilled = Job {
        variables: Vec::new(),
        ..notice(bench.clock.now())
    };
    accept(&bench.queue, &*bench.entropy, &unfilled).await;
    bench.script.sent.lock().expect("unlocked").clear();
    work().await;
    assert!(bench.tried().is_empty(), "it cannot be rendered");
    assert!(bench.heard_stop("a", bench.clock.now()).await);
    bench.add(true).await;
    work().await;
    assert_eq!(bench.tried(), ["b"], "it was stopped");
    bench.script.sent.lock().expect("unlocked").clear();
    let other = Job {
        to: "+12025550124".to_owned(),
        ..verification(NOW)
    };
    accept(&bench.queue, &*bench.entropy, &other).await;
    work().await;
    assert_eq!(bench.tried(), ["a"], "the probe");
}

#[tokio::test]
async fn a_sender_that_was_told_stop_is_not_asked_and_only_codes_go_by_another() {
    for (with_code, want, tries, status) in [
        (true, &["b"][..], 2, Status::Sent),
        (false, &[], 1, Status::Failed),
    ] {
        let bench = Bench::new(&["a", "b"], Vec::new()).await;
        let id = bench.add(with_code).await;
        assert!(bench.heard_stop("a", NOW).await);
        bench.work().await;
        assert_eq!(bench.tried(), want, "code: {with_code}");
        let message = bench.queue.message(id, bench.clock.now()).await;
        let row = message.expect("read").expect("known").row;
        assert_eq!((row.status, row.attempts.len()), (status, tries));
        let Outcome::Failed(error) = &row.attempts[0].outcome else {
            panic!("not {:?}", row.attempts[0]);
        };
        let class = match with_code {
            true => ErrorClass::Retryable,
            false => ErrorClass::Blocked,
        };
        assert_eq!(error.class, class);
        assert!(error.text.contains("STOP"), "{error:?}");
        // It says nothing of the provider.
        let health = bench.delivery.inner.config.routes.health().of("a");
        assert!(health.failed.is_none());
    }
}

#[tokio::test]
async fn a_stop_for_one_sender_ends_no_code_that_another_may_still_carry() {
    for stumbles in [ErrorClass::Throttled, ErrorClass::UnknownOutcome] {
        let bench = Bench::new(&["b", "a"], vec![error(stumbles)]).await;
        let id = bench.add(true).await;
        assert!(bench.heard_stop("a", NOW).await);
        for _ in 0..3 {
            bench.work().await;
            bench.clock.advance(60 * SECOND);
        }
        assert_eq!(bench.tried(), ["b", "b"], "{stumbles:?}");
        let message = bench.queue.message(id, bench.clock.now()).await;
        let row = message.expect("read").expect("known").row;
        assert_eq!(row.status, Status::Sent, "{stumbles:?}");
    }
    // When nobody is left it is over at once.
    let bench = Bench::new(&["b", "a"], Vec::new()).await;
    let id = bench.add(true).await;
    for provider in ["a", "b"] {
        assert!(bench.heard_stop(provider, NOW).await);
    }
    bench.work().await;
    assert!(bench.tried().is_empty());
    let message = bench.queue.message(id, bench.clock.now()).await;
    assert_eq!(
        message.expect("read").expect("known").row.status,
        Status::Failed
    );
}

#[tokio::test]
async fn what_nobody_asked_for_goes_by_no_sender_where_one_was_told_stop() {
    let bench = Bench::new(&["a", "b"], Vec::new()).await;
    let id = bench.add(false).await;
    assert!(bench.heard_stop("b", NOW).await);
    bench.work().await;
    assert!(bench.tried().is_empty());
    let message = bench.queue.message(id, bench.clock.now()).await;
    assert_eq!(
        message.expect("read").expect("known").row.status,
        Status::Failed
    );
}

/// Shows the start once, and the deadline from then on.
struct LateClock(std::sync::atomic::AtomicBool);

impl Clock for LateClock {
    fn now(&self) -> UnixMillis {
        let late = self.0.swap(true, std::sync::atomic::Ordering::SeqCst);
        if late { NOW + 600 * SECOND } else { NOW }
    }

    fn monotonic(&self) -> MonotonicMillis {
        MonotonicMillis::default()
    }
}

#[tokio::test]
async fn a_message_whose_note_took_until_its_deadline_is_not_handed_over() {
    let bench = Bench::new(&["a"], vec![]).await;
    bench.add(false).await;
    let claim = bench.claim().await;
    let late = Delivery {
        inner: Arc::new(Inner {
            queue: bench.queue.clone(),
            keyring: bench.keyring.clone(),
            clock: Arc::new(LateClock(false.into())),
            entropy: bench.entropy.clone(),
            sender: bench.script.clone(),
            config: bench.delivery.inner.config.clone(),
        }),
    };
    late.deliver(claim).await.expect("stored");
    assert!(bench.tried().is_empty());
    assert_eq!(bench.queue.depth(), 0);
}
