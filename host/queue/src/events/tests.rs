use countersign_types::{Accepted, ErrorClass, Event, Status, StatusUpdate};

use super::*;
use crate::testing::{Bench, NOW, SECOND, failed, job, price, sent, update, with_code};
use crate::{Finish, Outcome};

fn check(found: &(String, Vec<(String, String)>), kind: &str, want: &[(&str, &str)]) {
    let facts: Vec<(&str, &str)> = found
        .1
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!((found.0.as_str(), facts.as_slice()), (kind, want));
}

#[test]
fn an_acceptance_says_what_the_message_is_counted_by() {
    let id = MessageId::first_at(NOW);
    let code = with_code(NOW + 600 * SECOND);
    let read = |bytes: Vec<u8>| postcard::from_bytes::<Event>(&bytes).expect("an event");
    let event = read(accepted_event(id, &code));
    assert_eq!((event.message, event.at), (Some(id), NOW));
    assert_eq!(event.source, "host");
    assert_eq!(event.country.as_deref(), Some("US"));
    let want = [("channel", "sms"), ("code", "yes"), ("template", "notice")];
    check(
        &(event.kind, event.attributes[..3].to_vec()),
        "message.accepted",
        &want,
    );
    let nowhere = Job {
        country: "001".into(),
        ..job()
    };
    assert_eq!(read(accepted_event(id, &nowhere)).country, None);
}

#[tokio::test]
async fn each_step_says_what_the_message_was_and_what_is_known_of_its_price() {
    let bench = Bench::new().await;
    bench.add(with_code(NOW + 600 * SECOND)).await;
    bench.clock.advance(3 * SECOND);
    let claim = bench.claim().await;
    assert!(bench.finish(claim, sent(&["SM1"])).await);
    let segments = StatusUpdate {
        segments: Some(2),
        ..update("SM1", Status::Sent)
    };
    let delivered = StatusUpdate {
        at: Some(NOW + 5 * SECOND),
        ..update("SM1", Status::Delivered)
    };
    let priced = StatusUpdate {
        price: Some(price("0.0158")),
        ..update("SM1", Status::Delivered)
    };
    bench.clock.advance(60 * SECOND);
    for news in [segments, delivered, priced, update("SM1", Status::Read)] {
        let received = bench.queue.receive("p", &[news], bench.now()).await;
        received.expect("received");
    }
    let events = bench.events().await;
    let steps: [(&str, &[(&str, &str)]); 5] = [
        (
            "message.sent",
            &[
                ("channel", "sms"),
                ("code", "yes"),
                ("was", "queued"),
                ("provider", "p"),
                ("queue-ms", "3000"),
            ],
        ),
        (
            "message.priced",
            &[
                ("channel", "sms"),
                ("was", "sent"),
                ("provider", "p"),
                ("segments", "2"),
                ("unpriced-was", "1"),
            ],
        ),
        (
            "message.delivered",
            &[
                ("channel", "sms"),
                ("was", "sent"),
                ("provider", "p"),
                ("segments", "2"),
                ("unpriced-was", "2"),
                ("delivery-ms", "2000"),
            ],
        ),
        (
            "message.priced",
            &[
                ("channel", "sms"),
                ("was", "delivered"),
                ("provider", "p"),
                ("price", "0.0158"),
                ("currency", "USD"),
                ("segments", "2"),
                ("unpriced-was", "2"),
            ],
        ),
        (
            "message.read",
            &[
                ("channel", "sms"),
                ("was", "delivered"),
                ("provider", "p"),
                ("price", "0.0158"),
                ("currency", "USD"),
                ("segments", "2"),
            ],
        ),
    ];
    assert_eq!(events.len(), steps.len());
    for (found, (kind, facts)) in events.iter().zip(steps) {
        check(found, kind, facts);
    }
}

#[tokio::test]
async fn a_price_that_comes_before_the_answer_is_told_after_the_message_was_sent() {
    let bench = Bench::new().await;
    bench.add(job()).await;
    let claim = bench.claim().await;
    let early = StatusUpdate {
        price: Some(price("0.01")),
        ..update("SM1", Status::Sent)
    };
    let received = bench.queue.receive("p", &[early], NOW).await;
    assert_eq!(received.expect("received").early, 1);
    assert!(bench.finish(claim, sent(&["SM1"])).await);
    let events = bench.events().await;
    assert_eq!(bench.kinds().await, ["message.sent", "message.priced"]);
    assert!(!events[0].1.iter().any(|(name, _)| name == "price"));
    let was = ("unpriced-was".to_owned(), "1".to_owned());
    assert!(events[1].1.contains(&was), "{events:?}");
}

#[tokio::test]
async fn a_replay_says_with_whom_the_message_had_failed() {
    let bench = Bench::new().await;
    let id = bench.dead(job()).await;
    bench.queue.replay(id, NOW).await.expect("replayed");
    let events = bench.events().await;
    let failed: &[(&str, &str)] = &[
        ("channel", "sms"),
        ("was", "queued"),
        ("provider", "p"),
        ("class", "permanent"),
    ];
    check(&events[0], "message.failed", failed);
    let replayed: &[(&str, &str)] = &[("channel", "sms"), ("was", "failed"), ("provider", "p")];
    check(&events[1], "message.replayed", replayed);
}

#[tokio::test]
async fn the_time_in_the_queue_counts_from_when_the_message_could_go_first() {
    let bench = Bench::new().await;
    let scheduled = Job {
        due: NOW + 100 * SECOND,
        ..job()
    };
    bench.add(scheduled).await;
    bench.clock.advance(101 * SECOND);
    let claim = bench.claim().await;
    let due = bench.now() + 10 * SECOND;
    let again = Finish::Retry {
        at: bench.now(),
        provider: "p".into(),
        error: failed(ErrorClass::Retryable),
        due,
    };
    assert!(bench.finish(claim, again).await);
    bench.clock.advance(10 * SECOND);
    let claim = bench.claim().await;
    let tried = &claim.job.round()[0].outcome;
    assert!(matches!(tried, Outcome::Failed(_)));
    let taken = Finish::Sent {
        at: bench.now(),
        provider: "q".into(),
        accepted: Accepted {
            price: Some(price("0.5")),
            ..Accepted::default()
        },
        receipt_asked: false,
        counted: None,
    };
    assert!(bench.finish(claim, taken).await);
    let events = bench.events().await;
    check(
        &events[0],
        "message.attempt-failed",
        &[
            ("channel", "sms"),
            ("provider", "p"),
            ("class", "retryable"),
        ],
    );
    let sent: &[(&str, &str)] = &[
        ("channel", "sms"),
        ("was", "queued"),
        ("provider", "q"),
        ("price", "0.5"),
        ("currency", "USD"),
        ("queue-ms", "11000"),
    ];
    check(&events[1], "message.sent", sent);
}
