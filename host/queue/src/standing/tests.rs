use countersign_types::{Event, Status, StatusUpdate};

use super::*;
use crate::testing::{Bench, NOW, SECOND, attempt, failed, job, price, sent, update, with_code};
use crate::{Finish, Job};
use countersign_types::ErrorClass;

const HOUR: Duration = Duration::from_secs(3_600);

/// All messages of the hour after `NOW`, page by page.
async fn standing(bench: &Bench, rows: usize) -> Vec<Event> {
    let (mut messages, mut cursor) = (Vec::new(), None);
    loop {
        let page = bench
            .queue
            .standing((NOW, NOW + HOUR), cursor, rows, bench.now());
        let page = page.await.expect("read");
        assert!(page.messages.len() <= rows);
        messages.extend(page.messages);
        cursor = page.next;
        if cursor.is_none() {
            return messages;
        }
    }
}

#[track_caller]
fn check(event: &Event, id: MessageId, want: &[(&str, &str)]) {
    let facts = event.attributes.iter();
    let facts: Vec<_> = facts.map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!((event.message, facts.as_slice()), (Some(id), want));
    assert_eq!(
        (event.kind.as_str(), event.source.as_str()),
        (STANDS, "host")
    );
    assert_eq!(event.country.as_deref(), Some("US"));
}

const STANDS: &str = "message.stands";

#[tokio::test]
async fn each_message_stands_as_its_events_have_told() {
    let bench = Bench::new().await;
    let waiting = bench.add(with_code(NOW + 600 * SECOND)).await;
    check(
        &standing(&bench, 10).await[0],
        waiting,
        &[("channel", "sms"), ("code", "yes"), ("is", "queued")],
    );
    bench.clock.advance(3 * SECOND);
    let claim = bench.claim().await;
    assert!(bench.finish(claim, sent(&["SM1"])).await);
    bench.clock.advance(60 * SECOND);
    let delivered = StatusUpdate {
        at: Some(NOW + 5 * SECOND),
        price: Some(price("0.0079")),
        segments: Some(2),
        ..update("SM1", Status::Delivered)
    };
    for news in [delivered, update("SM1", Status::Read)] {
        let received = bench.queue.receive("p", &[news], bench.now()).await;
        received.expect("received");
    }
    check(
        &standing(&bench, 10).await[0],
        waiting,
        &[
            ("channel", "sms"),
            ("code", "yes"),
            ("is", "read"),
            ("taken", "yes"),
            ("provider", "p"),
            ("price", "0.0079"),
            ("currency", "USD"),
            ("segments", "2"),
            ("queue-ms", "3000"),
            // Until it was there, not until it was read.
            ("delivery-ms", "2000"),
        ],
    );
}

#[tokio::test]
async fn what_no_provider_took_stands_with_the_last_one_of_its_last_round() {
    let bench = Bench::new().await;
    let dead = bench.dead(job()).await;
    let failed_with_p = [("channel", "sms"), ("is", "failed"), ("provider", "p")];
    check(&standing(&bench, 10).await[0], dead, &failed_with_p);
    bench.clock.advance(SECOND);
    bench
        .queue
        .replay(dead, bench.now())
        .await
        .expect("replayed");
    let claim = bench.claim().await;
    let over = Finish::Over {
        status: Status::Expired,
        attempt: None,
        reason: None,
    };
    assert!(bench.finish(claim, over).await);
    // Nobody was asked since it was replayed.
    let expired = [("channel", "sms"), ("is", "expired")];
    check(&standing(&bench, 10).await[0], dead, &expired);
    let asked = bench.add(job()).await;
    let claim = bench.claim().await;
    let over = Finish::Over {
        status: Status::Unknown,
        attempt: Some(attempt(2, failed(ErrorClass::UnknownOutcome))),
        reason: None,
    };
    assert!(bench.finish(claim, over).await);
    let unknown = [("channel", "sms"), ("is", "unknown"), ("provider", "p")];
    let all = standing(&bench, 10).await;
    let found = all.iter().find(|event| event.message == Some(asked));
    check(found.expect("there"), asked, &unknown);
}

#[tokio::test]
async fn pages_have_every_message_of_the_span_once_and_no_other() {
    let bench = Bench::new().await;
    let at = |accepted| Job {
        accepted,
        due: accepted,
        deadline: accepted + 600 * SECOND,
        ..job()
    };
    bench.clock.set(NOW - SECOND);
    bench.dead(at(bench.now())).await;
    let mut want = Vec::new();
    for second in [0, 1, 3_599] {
        bench.clock.set(NOW + second * SECOND);
        for ends_dead in [true, false] {
            let id = bench.add(at(bench.now())).await;
            let claim = bench.claim().await;
            let finish = match ends_dead {
                true => Finish::Over {
                    status: Status::Failed,
                    attempt: None,
                    reason: None,
                },
                false => sent(&[&format!("SM{second}")]),
            };
            assert!(bench.finish(claim, finish).await);
            want.push(id);
        }
    }
    bench.clock.set(NOW + HOUR);
    bench.dead(at(bench.now())).await;
    for accepted in [NOW + 2 * SECOND, NOW + 3_598 * SECOND] {
        let waiting = Job {
            deadline: NOW + 2 * HOUR,
            ..at(accepted)
        };
        want.push(bench.add(waiting).await);
    }
    bench.add(at(NOW + HOUR)).await;
    want.sort_unstable();
    for rows in [1, 2, 3, 100] {
        let found = standing(&bench, rows).await;
        let mut found: Vec<_> = found.iter().filter_map(|event| event.message).collect();
        found.sort_unstable();
        assert_eq!(found, want, "{rows} at a time");
    }
}

#[tokio::test]
async fn the_oldest_is_the_one_that_was_accepted_first() {
    let bench = Bench::new().await;
    let oldest = || bench.queue.oldest(HOUR);
    assert_eq!(oldest().await.expect("read"), None);
    bench.add(job()).await;
    let hour = UnixMillis(NOW.0 / 3_600_000 * 3_600_000);
    assert_eq!(oldest().await.expect("read"), Some(hour));
    let claim = bench.claim().await;
    assert!(bench.finish(claim, sent(&["SM1"])).await);
    bench
        .add(Job {
            accepted: NOW + 5 * HOUR,
            ..job()
        })
        .await;
    assert_eq!(oldest().await.expect("read"), Some(hour));
}
