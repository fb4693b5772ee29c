mod early;

use countersign_types::{ErrorClass, SendError, Status};
use proptest::prelude::*;

use super::*;
use crate::testing::{Bench, NOW, SECOND, failed, job, price, sent, update};
use crate::{Finish, Sent};

impl Bench {
    async fn receive(&self, updates: &[StatusUpdate]) -> Received {
        let received = self.queue.receive("p", updates, self.now()).await;
        received.expect("received")
    }

    async fn row(&self, id: MessageId) -> MessageRow {
        let message = self.queue.message(id, self.now()).await.expect("read");
        message.expect("known").row
    }

    async fn taken(&self, id: MessageId) -> Sent {
        self.row(id).await.sent.expect("a provider took it")
    }
}

fn facts(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[tokio::test]
async fn a_receipt_changes_its_message_and_says_so_once() {
    let bench = Bench::new().await;
    let id = bench.sent(&["SM1"]).await;
    bench.clock.advance(5 * SECOND);
    let mut news = update("SM1", Status::Undelivered);
    news.error = Some(SendError {
        provider_code: Some("30003".into()),
        ..failed(ErrorClass::Retryable)
    });
    news.price = Some(price("0.0079"));
    news.at = Some(NOW + 3 * SECOND);
    for changed in [1, 0] {
        let received = bench.receive(std::slice::from_ref(&news)).await;
        assert_eq!((received.changed, received.early), (changed, 0));
    }
    let message = bench.row(id).await;
    assert_eq!(message.status, Status::Undelivered);
    assert_eq!(message.left, NOW);
    assert_eq!(message.ended, Some(NOW + 3 * SECOND));
    let sent = bench.taken(id).await;
    assert_eq!(sent.price, Some(price("0.0079")));
    assert_eq!(sent.receipts.len(), 1);
    let events = bench.events().await;
    let attributes = facts(&[
        ("channel", "sms"),
        ("was", "sent"),
        ("provider", "p"),
        ("price", "0.0079"),
        ("currency", "USD"),
        ("unpriced-was", "1"),
        ("class", "retryable"),
    ]);
    assert_eq!(events.len(), 2);
    assert_eq!(events[1], ("message.undelivered".to_owned(), attributes));
}

#[tokio::test]
async fn delivered_replaces_undelivered_and_unknown_and_nothing_replaces_delivered() {
    let bench = Bench::new().await;
    let id = bench.sent(&["SM1"]).await;
    for (news, status) in [
        (Status::Queued, Status::Sent),
        (Status::Unknown, Status::Unknown),
        (Status::Undelivered, Status::Undelivered),
        (Status::Unknown, Status::Undelivered),
        (Status::Sent, Status::Undelivered),
        (Status::Delivered, Status::Delivered),
        (Status::Undelivered, Status::Delivered),
        (Status::Failed, Status::Delivered),
        (Status::Unknown, Status::Delivered),
        (Status::Sent, Status::Delivered),
        (Status::Read, Status::Read),
        (Status::Delivered, Status::Read),
    ] {
        bench.receive(&[update("SM1", news)]).await;
        assert_eq!(bench.status(id).await, status, "after {news:?}");
    }
    let kinds = ["sent", "unknown", "undelivered", "delivered", "read"];
    assert_eq!(
        bench.kinds().await,
        kinds.map(|kind| format!("message.{kind}"))
    );
}

#[tokio::test]
async fn a_message_in_parts_is_delivered_when_all_of_them_are() {
    let bench = Bench::new().await;
    let id = bench.sent(&["a", "b", "b", "c"]).await;
    let parts = ["a", "b"].map(|part| update(part, Status::Delivered));
    bench.receive(&parts).await;
    assert_eq!(bench.status(id).await, Status::Sent);
    bench.receive(&[update("c", Status::Undelivered)]).await;
    assert_eq!(bench.status(id).await, Status::Undelivered);
    bench.receive(&[update("c", Status::Delivered)]).await;
    assert_eq!(bench.status(id).await, Status::Delivered);
    assert_eq!(bench.taken(id).await.parts.len(), 3);
}

#[tokio::test]
async fn a_receipt_that_overtakes_its_answer_is_worked_in_with_it() {
    let bench = Bench::new().await;
    let id = bench.add(job()).await;
    let claim = bench.claim().await;
    for early in [1, 1] {
        let news = [
            update("SM1", Status::Sent),
            update("SM1", Status::Delivered),
        ];
        let received = bench.receive(&news).await;
        assert_eq!((received.changed, received.early), (0, early));
    }
    assert!(bench.finish(claim, sent(&["SM1"])).await);
    assert_eq!(bench.status(id).await, Status::Delivered);
    assert_eq!(bench.taken(id).await.receipts.len(), 1);
    assert_eq!(bench.kinds().await, ["message.sent", "message.delivered"]);
    // From now on the id is known.
    let received = bench.receive(&[update("SM1", Status::Read)]).await;
    assert_eq!((received.changed, received.early), (1, 0));
}

#[tokio::test]
async fn a_receipt_that_came_more_than_an_hour_too_early_is_forgotten() {
    let bench = Bench::new().await;
    bench.receive(&[update("SM1", Status::Delivered)]).await;
    bench.clock.advance(EARLY_KEPT);
    let late = bench.now();
    let id = bench
        .add(crate::Job {
            accepted: late,
            due: late,
            deadline: late + 600 * SECOND,
            ..job()
        })
        .await;
    let claim = bench.claim().await;
    assert!(bench.finish(claim, sent(&["SM1"])).await);
    assert_eq!(bench.status(id).await, Status::Sent);
}

#[tokio::test]
async fn few_receipts_wait_for_one_answer_and_a_bounded_number_of_ids() {
    let bench = Bench::new().await;
    let segments = |n| StatusUpdate {
        segments: Some(n),
        ..update("SM1", Status::Sent)
    };
    let many: Vec<_> = (0..20).map(segments).collect();
    bench.receive(&many).await;
    let key = receipt_key(&bench.keyring, "p", "SM1");
    let row = bench
        .queue
        .get::<ReceiptRow>(&key, NOW)
        .await
        .expect("read");
    let ReceiptRow::Early(kept) = row.expect("kept").value else {
        panic!("nobody has this id");
    };
    assert_eq!(kept.len(), EARLY_UPDATES_MAX);
    assert_eq!(bench.early_room(), EARLY_IDS_MAX - 1);
}

#[tokio::test]
async fn a_provider_speaks_of_its_own_messages_only() {
    let bench = Bench::new().await;
    let id = bench.sent(&["SM1"]).await;
    let news = update("SM1", Status::Delivered);
    let other = bench.queue.receive("q", std::slice::from_ref(&news), NOW);
    assert_eq!(other.await.expect("received").changed, 0);
    let fetched = bench.queue.fetched("q", &[(id, news.clone())], NOW).await;
    assert_eq!(fetched.expect("received").changed, 0);
    assert_eq!(bench.status(id).await, Status::Sent);
    let fetched = bench.queue.fetched("p", &[(id, news)], NOW).await;
    assert_eq!(fetched.expect("received").changed, 1);
    assert_eq!(bench.status(id).await, Status::Delivered);
}

#[tokio::test]
async fn without_a_callback_there_is_no_row_for_the_providers_id() {
    let bench = Bench::new().await;
    bench.add(job()).await;
    let claim = bench.claim().await;
    let Finish::Sent {
        at,
        provider,
        accepted,
        ..
    } = sent(&["SM1"])
    else {
        panic!("it was sent");
    };
    let unasked = Finish::Sent {
        at,
        provider,
        accepted,
        receipt_asked: false,
        counted: None,
    };
    assert!(bench.finish(claim, unasked).await);
    let row = bench
        .store
        .get(&receipt_key(&bench.keyring, "p", "SM1"))
        .await;
    assert_eq!(row.expect("read"), None);
}

#[tokio::test]
async fn what_a_provider_puts_into_its_ids_can_be_read_in_no_row_and_no_key() {
    let bench = Bench::new().await;
    bench.sent(&["+12025550123-481234"]).await;
    let early = update("481234-to-12025550123", Status::Delivered);
    assert_eq!(bench.receive(&[early]).await.early, 1);
    let rows = bench.store.scan(b"", b"\xff", 100).await.expect("read");
    let receipts = rows.iter().filter(|(key, _)| key.starts_with(b"r/"));
    assert_eq!(receipts.count(), 2);
    for (key, row) in rows {
        let stored = format!("{key:?}{row:?}");
        for secret in [b"2025550123".as_slice(), b"481234"] {
            let bytes = format!("{secret:?}");
            assert!(!stored.contains(bytes.trim_matches(['[', ']'])), "{key:?}");
        }
    }
}

#[tokio::test]
async fn segments_that_a_provider_tells_count_before_ours_more_or_fewer() {
    let bench = Bench::new().await;
    for (told, want) in [(None, "3"), (Some(1), "1"), (Some(4), "4")] {
        let id = bench.add(job()).await;
        let claim = bench.claim().await;
        let provider_id = format!("SM{want}");
        let Finish::Sent {
            at,
            provider,
            accepted,
            ..
        } = sent(&[&provider_id])
        else {
            panic!("it was sent");
        };
        let counted = Finish::Sent {
            at,
            provider,
            accepted,
            receipt_asked: true,
            counted: Some(3),
        };
        assert!(bench.finish(claim, counted).await);
        let (_, was) = bench.events().await.pop().expect("told");
        assert!(
            was.contains(&("segments".to_owned(), "3".to_owned())),
            "{was:?}"
        );
        let news = StatusUpdate {
            segments: told,
            ..update(&provider_id, Status::Delivered)
        };
        bench.receive(std::slice::from_ref(&news)).await;
        assert_eq!(bench.taken(id).await.segments(), want.parse().ok());
        let (_, is) = bench.events().await.pop().expect("told");
        for (name, value) in [("segments", want), ("unpriced-was", "3")] {
            let fact = (name.to_owned(), value.to_owned());
            assert!(is.contains(&fact), "{fact:?} in {is:?}");
        }
    }
}

#[tokio::test]
async fn a_price_that_comes_late_is_told_without_a_change_of_status() {
    let bench = Bench::new().await;
    let id = bench.sent(&["SM1"]).await;
    bench.receive(&[update("SM1", Status::Delivered)]).await;
    let late = StatusUpdate {
        price: Some(price("0.0079")),
        segments: Some(2),
        ..update("SM1", Status::Delivered)
    };
    for _ in 0..2 {
        bench.receive(std::slice::from_ref(&late)).await;
    }
    let message = bench.taken(id).await;
    assert_eq!(
        (message.price, message.told_segments),
        (Some(price("0.0079")), Some(2))
    );
    let events = bench.events().await;
    assert_eq!(events.len(), 3);
    let attributes = facts(&[
        ("channel", "sms"),
        ("was", "delivered"),
        ("provider", "p"),
        ("price", "0.0079"),
        ("currency", "USD"),
        ("segments", "2"),
        ("unpriced-was", "1"),
    ]);
    assert_eq!(events[2], ("message.priced".to_owned(), attributes));
}

#[tokio::test]
async fn the_wait_for_a_receipt_ends_as_unknown_once() {
    let bench = Bench::new().await;
    let id = bench.sent(&["a", "b"]).await;
    bench.receive(&[update("a", Status::Delivered)]).await;
    let nameless = bench.sent(&[]).await;
    for id in [id, nameless] {
        assert!(bench.queue.end_wait(id, NOW).await.expect("ended"));
        assert!(!bench.queue.end_wait(id, NOW).await.expect("no more"));
        assert_eq!(bench.status(id).await, Status::Unknown);
    }
    // It comes after all.
    bench.receive(&[update("b", Status::Delivered)]).await;
    assert_eq!(bench.status(id).await, Status::Delivered);
    assert!(!bench.queue.end_wait(id, NOW).await.expect("it is known"));
}

#[tokio::test]
async fn updates_beyond_the_bound_are_dropped() {
    let bench = Bench::new().await;
    let id = bench.sent(&["SM1"]).await;
    let mut updates = vec![update("SM1", Status::Sent); UPDATES_MAX];
    updates.push(update("SM1", Status::Delivered));
    bench.receive(&updates).await;
    assert_eq!(bench.status(id).await, Status::Sent);
    bench.receive(&updates[1..]).await;
    assert_eq!(bench.status(id).await, Status::Delivered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_that_come_at_once_for_the_parts_of_one_message_all_count() {
    let bench = std::sync::Arc::new(Bench::new().await);
    let ids: Vec<_> = (0..8).map(|n| n.to_string()).collect();
    let parts: Vec<_> = ids.iter().map(String::as_str).collect();
    let id = bench.sent(&parts).await;
    let mut tasks = tokio::task::JoinSet::new();
    for part in ids {
        let bench = bench.clone();
        tasks.spawn(async move {
            // Whoever meets the others too often is told to come again, as providers do.
            let news = [update(&part, Status::Delivered)];
            while let Err(error) = bench.queue.receive("p", &news, NOW).await {
                assert!(matches!(error, ReceiveError::Busy), "{error}");
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(bench.status(id).await, Status::Delivered);
}

#[test]
fn of_many_receipts_the_newest_are_kept() {
    let parts: Vec<_> = (0..16).map(|n| n.to_string()).collect();
    let accepted = countersign_types::Accepted {
        ids: parts.clone(),
        ..Default::default()
    };
    let mut message = job().into_message(Status::Sent, NOW);
    message.sent = Some(crate::Sent::new("p".into(), accepted, true, NOW));
    for status in [Status::Unknown, Status::Delivered] {
        for part in &parts {
            message.update(&update(part, status), NOW);
        }
    }
    let receipts = message.sent.expect("sent").receipts;
    assert_eq!(receipts.len(), 16);
    assert!(
        receipts
            .iter()
            .all(|receipt| receipt.status == Status::Delivered)
    );
}

fn news() -> impl Strategy<Value = (usize, Status)> {
    let statuses = [
        Status::Queued,
        Status::Sent,
        Status::Unknown,
        Status::Undelivered,
        Status::Failed,
        Status::Delivered,
        Status::Read,
    ];
    (0..3usize, prop::sample::select(statuses.to_vec()))
}

proptest! {
    #[test]
    fn any_order_and_repetition_of_news_ends_the_same_and_never_steps_back(
        (news, shuffled) in prop::collection::vec(news(), 0..30).prop_flat_map(|news| {
            let twice = [news.clone(), news.clone()].concat();
            (Just(news), Just(twice).prop_shuffle())
        }),
    ) {
        let accepted = countersign_types::Accepted {
            ids: ["0", "1", "2"].map(str::to_owned).to_vec(),
            ..Default::default()
        };
        let mut fresh = job().into_message(Status::Sent, NOW);
        fresh.sent = Some(crate::Sent::new("p".into(), accepted, true, NOW));
        let end = |news: &[(usize, Status)]| {
            let mut message = fresh.clone();
            let mut rank = message.status.rank();
            for (part, status) in news {
                let before = message.status;
                message.update(&update(&part.to_string(), *status), NOW);
                assert!(message.status.rank() >= rank, "{before:?} to {:?}", message.status);
                rank = message.status.rank();
            }
            message.status
        };
        let best = (0..3).map(|part| {
            let own = news.iter().filter(|(about, _)| *about == part);
            own.map(|(_, status)| status.rank()).max().unwrap_or(0).max(Status::Sent.rank())
        });
        prop_assert_eq!(end(&news).rank(), best.min().expect("three parts"));
        prop_assert_eq!(end(&news), end(&shuffled));
    }
}

/// With the bounds of what providers may say (`runtime/src/provider/since_v0_1.rs`) and of names in
/// the configuration: a row that were longer than the store takes could never be written, and its
/// message would be handed over again and again.
#[tokio::test]
async fn the_longest_message_that_there_can_be_fits_into_its_row() {
    let bench = Bench::new().await;
    let long = |byte: &str, bytes: usize| byte.repeat(bytes);
    let error = SendError {
        retry_after_ms: Some(u64::MAX),
        provider_code: Some(long("c", 64)),
        text: long("t", 512),
        ..failed(ErrorClass::UnknownOutcome)
    };
    let provider = long("p", 64);
    let ids: Vec<String> = (0..100).map(|n| format!("{n:0>128}")).collect();
    let attempts = (0..100).map(|n| crate::Attempt {
        provider: provider.clone(),
        ..crate::testing::attempt(n, error.clone())
    });
    let mut longest = crate::Job {
        template: long("n", 64),
        text: long("x", 1_600),
        variables: vec![(long("n", 32), long("v", 512)); 16],
        purpose: long("u", 64),
        caller: long("k", 64),
        ..job()
    };
    attempts.for_each(|attempt| longest.record(attempt));
    let id = bench.add(longest).await;
    let claim = bench.claim().await;
    let taken = Finish::Sent {
        at: NOW,
        provider: provider.clone(),
        accepted: countersign_types::Accepted {
            ids: ids.clone(),
            ..countersign_types::Accepted::default()
        },
        receipt_asked: true,
        counted: None,
    };
    assert!(bench.finish(claim, taken).await);
    for id in ids.iter().take(20) {
        let news = StatusUpdate {
            error: Some(error.clone()),
            ..update(id, Status::Undelivered)
        };
        let received = bench.queue.receive(&provider, &[news], bench.now()).await;
        received.expect("received");
    }
    let sent = bench.taken(id).await;
    assert_eq!((sent.parts.len(), sent.receipts.len()), (100, 16));
}
