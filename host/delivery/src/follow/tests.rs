use countersign_queue::{Finish, Job, Open, QueueConfig};
use countersign_store::{Keyring, SledStore, Store};
use countersign_types::{Accepted, ErrorClass, ManualClock, Price, SeededEntropy, Status};

use super::*;
use crate::testing::{NOW, SECOND, accept, notice, refusal_for};

const HOUR: Duration = Duration::from_secs(3_600);

/// Says of every message what the test has told it to, and remembers what it was asked.
#[derive(Default)]
struct Source {
    asked: Mutex<Vec<Vec<String>>>,
    price: Mutex<Option<Price>>,
    refuses: Mutex<bool>,
}

#[async_trait]
impl StatusSource for Source {
    fn tells_status(&self, provider: &str) -> bool {
        provider == "tells"
    }

    async fn fetch_status(&self, _: &str, ids: &[String]) -> Result<Vec<StatusUpdate>, SendError> {
        self.asked.lock().expect("unlocked").push(ids.to_vec());
        if *self.refuses.lock().expect("unlocked") {
            return Err(refusal_for(ErrorClass::Throttled, 60 * SECOND));
        }
        let price = self.price.lock().expect("unlocked").clone();
        let update = |id: &String| StatusUpdate {
            id: id.clone(),
            status: Status::Sent,
            error: None,
            at: None,
            price: price.clone(),
            segments: None,
        };
        // And of one that nobody has asked for.
        let other = "another".to_owned();
        Ok(ids.iter().chain([&other]).map(update).collect())
    }
}

struct Bench {
    _folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    entropy: SeededEntropy,
    queue: Queue,
    source: Arc<Source>,
    follower: Follower,
}

impl Bench {
    async fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Store> = SledStore::open(&folder.path().join("store")).expect("opened");
        let entropy = SeededEntropy::new([5; 32]);
        let keys = folder.path().join("keys");
        let keyring = Keyring::load_or_create(&keys, true, &entropy).expect("made");
        let clock = Arc::new(ManualClock::new(NOW));
        let queue = Queue::open(
            store,
            Arc::new(keyring),
            clock.clone(),
            QueueConfig::default(),
        );
        let queue = queue.await.expect("opened");
        let source = Arc::new(Source::default());
        let follower = Follower::start(queue.clone(), clock.clone(), source.clone());
        Bench {
            _folder: folder,
            follower: follower.await.expect("started"),
            clock,
            entropy,
            queue,
            source,
        }
    }

    async fn restarted(self) -> Bench {
        let follower = Follower::start(self.queue.clone(), self.clock.clone(), self.source.clone());
        let follower = follower.await.expect("started");
        Bench { follower, ..self }
    }

    /// A message that is accepted now and taken by `provider` as `ids` after `delay`.
    async fn sent_after(&self, delay: Duration, provider: &str, ids: &[&str]) -> MessageId {
        let now = self.clock.now();
        let notice = notice(now);
        let job = Job {
            due: now + delay,
            deadline: notice.deadline + delay,
            ..notice
        };
        let id = accept(&self.queue, &self.entropy, &job).await;
        self.clock.advance(delay);
        let now = self.clock.now();
        let claim = self.queue.next(&Open).await.expect("taken").claim;
        let sent = Finish::Sent {
            at: now,
            provider: provider.into(),
            accepted: Accepted {
                ids: ids.iter().map(|id| (*id).to_owned()).collect(),
                ..Accepted::default()
            },
            receipt_asked: true,
            counted: None,
        };
        let finished = self.queue.finish(claim, sent, now).await;
        assert!(finished.expect("finished"));
        id
    }

    async fn sent(&self, ids: &[&str]) -> MessageId {
        self.sent_after(Duration::ZERO, "tells", ids).await
    }

    /// One step, and whatever is to be asked after it; what was asked.
    async fn step(&mut self) -> Vec<Vec<String>> {
        self.follower.step().await.expect("stepped");
        for provider in self.follower.to_ask() {
            self.follower.asker(provider).ask_all().await;
        }
        std::mem::take(&mut *self.source.asked.lock().expect("unlocked"))
    }

    /// Steps each second for `span`; after how many seconds how many ids were asked for.
    async fn steps(&mut self, span: Duration) -> Vec<(u64, usize)> {
        let mut asked = Vec::new();
        for second in 1..=span.as_secs() {
            self.clock.advance(SECOND);
            let ids: usize = self.step().await.iter().map(Vec::len).sum();
            if ids > 0 {
                asked.push((second, ids));
            }
        }
        asked
    }

    async fn status(&self, id: MessageId) -> Status {
        let message = self.queue.message(id, self.clock.now()).await;
        message.expect("read").expect("known").row.status
    }
}

#[tokio::test]
async fn what_is_not_known_is_asked_for_at_two_minutes_an_hour_and_a_day() {
    let mut bench = Bench::new().await;
    bench.sent(&["SM1"]).await;
    assert_eq!(bench.steps(125 * SECOND).await, [(121, 1)]);
    assert_eq!(bench.steps(HOUR).await, [(3_476, 1)]);
    bench.clock.advance(23 * HOUR - 250 * SECOND);
    assert_eq!(bench.steps(300 * SECOND).await, [(126, 1)]);
    bench.clock.advance(24 * HOUR);
    assert!(bench.step().await.is_empty());
}

#[tokio::test]
async fn what_is_known_is_not_asked_for_again() {
    let mut bench = Bench::new().await;
    let id = bench.sent(&["SM1"]).await;
    let news = StatusUpdate {
        id: "SM1".into(),
        status: Status::Delivered,
        error: None,
        at: None,
        price: None,
        segments: None,
    };
    bench
        .queue
        .receive("tells", &[news], NOW)
        .await
        .expect("received");
    let price = Price {
        amount: "0.0079".into(),
        currency: "USD".into(),
    };
    *bench.source.price.lock().expect("unlocked") = Some(price.clone());
    bench.clock.advance(121 * SECOND);
    assert_eq!(bench.step().await, [["SM1"]], "its price is still to come");
    let message = bench
        .queue
        .message(id, NOW)
        .await
        .expect("read")
        .expect("known");
    assert_eq!(message.row.sent.expect("sent").price, Some(price));
    bench.clock.advance(HOUR);
    assert!(bench.step().await.is_empty());
}

#[tokio::test]
async fn no_more_than_eight_are_asked_for_at_once_and_parts_each_for_themselves() {
    let mut bench = Bench::new().await;
    let ids: Vec<_> = (0..20).map(|n| format!("SM{n}")).collect();
    for pair in ids.chunks(2) {
        let pair: Vec<_> = pair.iter().map(String::as_str).collect();
        bench.sent(&pair).await;
    }
    bench.clock.advance(121 * SECOND);
    let asked = bench.step().await;
    let sizes: Vec<_> = asked.iter().map(Vec::len).collect();
    assert_eq!(sizes, [8, 8, 4]);
    let mut all = asked.concat();
    all.sort();
    let mut ids = ids;
    ids.sort();
    assert_eq!(all, ids);
}

#[tokio::test]
async fn a_message_that_was_sent_late_is_asked_for_by_its_sending() {
    let mut bench = Bench::new().await;
    let id = bench.sent_after(30 * HOUR, "tells", &["SM1"]).await;
    assert_eq!(bench.steps(125 * SECOND).await, [(121, 1)]);
    bench.clock.advance(71 * HOUR);
    bench.step().await;
    assert_eq!(bench.status(id).await, Status::Sent);
    bench.clock.advance(HOUR);
    bench.step().await;
    assert_eq!(bench.status(id).await, Status::Unknown);
}

#[tokio::test]
async fn the_wait_for_a_receipt_ends_after_72_hours() {
    let mut bench = Bench::new().await;
    let id = bench.sent_after(Duration::ZERO, "silent", &["SM1"]).await;
    bench.clock.advance(72 * HOUR);
    bench.step().await;
    assert_eq!(bench.status(id).await, Status::Sent);
    bench.clock.advance(FOLLOW_SENT_WITHIN + SECOND);
    bench.step().await;
    assert_eq!(bench.status(id).await, Status::Unknown);
}

#[tokio::test]
async fn a_provider_that_does_not_tell_is_not_asked() {
    let mut bench = Bench::new().await;
    bench.sent_after(Duration::ZERO, "silent", &["SM1"]).await;
    assert!(bench.steps(130 * SECOND).await.is_empty());
}

/// Two messages, half a minute apart, of which the first was asked for and refused.
async fn refused_once() -> Bench {
    let mut bench = Bench::new().await;
    *bench.source.refuses.lock().expect("unlocked") = true;
    bench.sent(&["SM1"]).await;
    bench.clock.advance(30 * SECOND);
    bench.sent(&["SM2"]).await;
    bench.clock.advance(91 * SECOND);
    assert_eq!(bench.step().await, [["SM1"]]);
    *bench.source.refuses.lock().expect("unlocked") = false;
    bench
}

#[tokio::test]
async fn a_provider_that_refuses_is_left_alone_for_as_long_as_it_asks() {
    let mut bench = refused_once().await;
    // The second is due 30 seconds later, and waits for the end of the pause.
    assert_eq!(bench.steps(65 * SECOND).await, [(60, 1)]);
    // The first is asked for at its next age.
    bench.clock.advance(HOUR - 190 * SECOND);
    assert_eq!(bench.steps(60 * SECOND).await.len(), 2);
}

#[tokio::test]
async fn a_restart_goes_on_where_the_last_one_was() {
    let mut bench = Bench::new().await;
    bench.step().await;
    let before = bench.sent(&["SM1"]).await;
    bench.clock.advance(60 * SECOND);
    // Away while its first age came and went.
    bench.clock.advance(600 * SECOND);
    let mut bench = bench.restarted().await;
    assert_eq!(bench.step().await, [["SM1"]]);
    bench.clock.advance(NOTE_EVERY);
    bench.step().await;
    let mut bench = bench.restarted().await;
    assert!(bench.step().await.is_empty(), "it was noted");
    bench.clock.advance(73 * HOUR);
    let mut bench = bench.restarted().await;
    bench.step().await;
    assert_eq!(bench.status(before).await, Status::Unknown);
}

#[tokio::test]
async fn whoever_is_behind_skips_to_the_age_that_comes_next() {
    let mut bench = Bench::new().await;
    bench.step().await;
    bench.sent(&["SM1"]).await;
    bench.clock.advance(3 * HOUR);
    // Once, by the second age; not for the first as well.
    assert_eq!(bench.step().await, [["SM1"]]);
    assert!(bench.step().await.is_empty());
}

#[test]
fn a_backlog_forgets_the_oldest() {
    let mut backlog = Backlog::default();
    for n in 0..=BACKLOG_MAX {
        backlog.add(Followed {
            id: MessageId([0; 16]),
            provider: "tells".into(),
            ids: vec![n.to_string()],
            lacks_price: true,
            lacks_receipt: true,
        });
    }
    assert_eq!(backlog.ids.len(), BACKLOG_MAX);
    assert_eq!(backlog.ids[0].1, "1");
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_leave_a_provider_alone_for_longer() {
    let mut bench = refused_once().await;
    bench.clock.advance(30 * SECOND);
    bench.follower.step().await.expect("stepped");
    assert!(bench.follower.to_ask().is_empty(), "it pauses for a minute");
    bench.clock.set(NOW - HOUR);
    assert_eq!(bench.steps(65 * SECOND).await, [(30, 1)]);
}

#[tokio::test]
async fn what_is_sent_after_the_clock_was_set_back_is_followed_too() {
    let mut bench = Bench::new().await;
    bench.step().await;
    // A day that nobody has seen: the passes run ahead.
    bench.clock.set(NOW + 24 * HOUR);
    bench.step().await;
    bench.clock.set(NOW);
    bench.step().await;
    bench.sent(&["SM1"]).await;
    assert_eq!(bench.steps(125 * SECOND).await, [(121, 1)]);
}
