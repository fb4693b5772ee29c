//! Events become figures: each of them once, whatever is cut off, and in the order of the log.

use std::sync::Arc;
use std::time::Duration;

use countersign_runtime::figures::{Interval, Query, Report};
use countersign_runtime::{CallError, Folded, Runtime, SendRequest, VerifyRequest, VerifyVerdict};
use countersign_store::Commit;
use countersign_types::{Clock, Event, MessageId, Price, Status, StatusUpdate, SystemEntropy};
use tokio::sync::{Notify, watch};

use crate::bench::{Bench, NOW, context, patient};
use crate::rows::Taken;

const PHONE: &str = "+12025550123";

/// Where the component notes how far it has come.
const CURSOR: &[u8] = b"c/analytics/cursor";

fn today() -> Query {
    let day = 24 * 3_600_000;
    Query {
        start: NOW.0 / day * day,
        end: NOW.0 / day * day + day,
        interval: Interval::Day,
        country: None,
        provider: None,
    }
}

impl Bench {
    async fn with_otp() -> Bench {
        Bench::with(patient(), countersign_embedded::OTP, Vec::new()).await
    }

    /// Sends a code to the phone, and has the provider `p` take it under the id `SM1`. Returns the code.
    async fn send_a_code(&self) -> String {
        let request = SendRequest {
            phone: PHONE.into(),
            ..SendRequest::default()
        };
        let sent = self.runtime.otp_send(&context(), request, None).await;
        sent.unwrap();
        let taken = Arc::new(Taken::default());
        self.deliver_and_tell(&taken, Some("https://sms.example.test/webhooks/p"))
            .await;
        taken.code()
    }

    async fn deliver_and_price(&self) {
        let news = StatusUpdate {
            id: "SM1".into(),
            status: Status::Delivered,
            error: None,
            at: None,
            price: Price::new("0.0079".into(), "USD".into()),
            segments: Some(1),
        };
        let received = self.queue.receive("p", &[news], self.clock.now()).await;
        assert_eq!(received.unwrap().changed, 1);
    }

    /// The same store under another process, which has not been told anything.
    fn restarted(&self) -> Runtime {
        self.runtime.again(
            self.store.clone(),
            self.queue.clone(),
            self.clock.clone(),
            Arc::new(SystemEntropy),
        )
    }

    async fn figures(&self) -> Report {
        self.runtime.dashboard(&today()).await.unwrap()
    }
}

/// Counts all that there is.
async fn fold(runtime: &Runtime) -> Result<u64, CallError> {
    let mut next = None;
    loop {
        let folded = runtime.fold(next).await?;
        next = Some(folded.next);
        if !folded.more {
            return Ok(folded.next);
        }
    }
}

#[tokio::test]
async fn a_message_is_counted_through_its_life() {
    let bench = Bench::with_otp().await;
    assert_eq!(bench.runtime.fold(None).await.unwrap().next, 1);
    assert_eq!(bench.figures().await.count, 0);
    bench.clock.advance(Duration::from_secs(2));
    bench.send_a_code().await;
    fold(&bench.runtime).await.unwrap();
    let sent = bench.figures().await;
    assert_eq!((sent.count, sent.delivered, sent.unpriced), (1, 0, 1));
    assert_eq!(sent.by_status[0].status, "sent");
    bench.clock.advance(Duration::from_secs(3));
    bench.deliver_and_price().await;
    fold(&bench.runtime).await.unwrap();
    let arrived = bench.figures().await;
    assert_eq!(
        (arrived.count, arrived.delivered, arrived.unpriced),
        (1, 1, 0)
    );
    assert_eq!(arrived.cost.total, 7_900);
    assert_eq!(arrived.by_country[0].country, "US");
    assert_eq!(
        (arrived.timeline[0].count, arrived.timeline[0].delivered),
        (1, 1)
    );
    assert_eq!(arrived.by_provider[0].provider, "p");
    let delivery = arrived.latency.delivery;
    assert_eq!(delivery.count, 1);
    assert!((2_400..=3_750).contains(&delivery.p50), "{delivery:?}");
}

#[tokio::test]
async fn an_accepted_code_counts_with_the_provider_that_carried_it() {
    let bench = Bench::with_otp().await;
    let code = bench.send_a_code().await;
    let request = VerifyRequest {
        phone: PHONE.into(),
        code,
        purpose: None,
    };
    let verdict = bench.runtime.otp_verify(&context(), request, None).await;
    assert!(matches!(verdict.unwrap().0, VerifyVerdict::Accepted { .. }));
    fold(&bench.runtime).await.unwrap();
    let report = bench.figures().await;
    let conversion = report.by_provider[0].conversion;
    assert_eq!(report.by_provider[0].provider, "p");
    assert_eq!((conversion.sent, conversion.verified), (1, 1));
}

#[tokio::test]
async fn what_is_cut_off_before_its_commit_is_counted_once_by_the_next_process() {
    let bench = Bench::with_otp().await;
    bench.send_a_code().await;
    // The call reads where it is, and never gets any further.
    let reached = Arc::new(Notify::new());
    let told = reached.clone();
    bench.store.after_read_of(CURSOR.to_vec(), move |read| {
        let told = told.clone();
        Box::pin(async move {
            if read == 1 {
                told.notify_one();
                std::future::pending::<()>().await;
            }
        })
    });
    tokio::select! {
        folded = bench.runtime.fold(Some(1)) => panic!("{folded:?}"),
        () = reached.notified() => {}
    }
    let next = fold(&bench.restarted()).await.unwrap();
    assert_eq!(bench.figures().await.count, 1);
    // The answer of that one is lost as well: the same batch is handed over once more.
    let again = bench.restarted().fold(Some(1)).await.unwrap();
    assert_eq!(again.next, next);
    assert_eq!(bench.figures().await.count, 1);
}

#[tokio::test]
async fn of_two_that_count_the_same_at_once_one_does() {
    let bench = Bench::with_otp().await;
    bench.send_a_code().await;
    let other = bench.restarted();
    bench.store.after_read_of(CURSOR.to_vec(), move |read| {
        let other = other.clone();
        Box::pin(async move {
            if read == 1 {
                other.fold(Some(1)).await.unwrap();
            }
        })
    });
    let folded = bench.runtime.fold(Some(1)).await.unwrap();
    assert_eq!(bench.figures().await.count, 1);
    let end = Folded {
        more: false,
        ..folded
    };
    assert_eq!(bench.runtime.fold(Some(folded.next)).await.unwrap(), end);
}

/// A commit of `count` messages' acceptances.
fn acceptances(count: usize, padding: usize) -> Commit {
    let event = |_| {
        let event = Event {
            kind: "message.accepted".into(),
            at: NOW,
            service: "default".into(),
            source: "host".into(),
            message: Some(MessageId::new(NOW, &SystemEntropy)),
            country: Some("US".into()),
            attributes: vec![("template".into(), "t".repeat(padding))],
        };
        postcard::to_allocvec(&event).unwrap()
    };
    Commit {
        instant: NOW,
        events: (0..count).map(event).collect(),
        ..Commit::default()
    }
}

async fn commit(bench: &Bench, commit: Commit) {
    use countersign_store::Store;
    bench.store.commit(commit).await.unwrap();
}

#[tokio::test]
async fn a_batch_has_at_most_4096_events_and_1_mib() {
    let bench = Bench::with_otp().await;
    for _ in 0..41 {
        commit(&bench, acceptances(100, 0)).await;
    }
    // It ends with a row of the log.
    let folded = bench.runtime.fold(Some(1)).await.unwrap();
    assert_eq!((folded.next, folded.more), (4_001, true));
    commit(&bench, acceptances(700, 2_000)).await;
    let folded = bench.runtime.fold(Some(4_001)).await.unwrap();
    assert!(folded.more && folded.next < 4_101 + 530, "{folded:?}");
    assert_eq!(fold(&bench.runtime).await.unwrap(), 4_801);
    assert_eq!(bench.figures().await.count, 4_800);
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_passed_by() {
    let bench = Bench::with_otp().await;
    let mut damaged = acceptances(3, 0);
    damaged.events[1] = vec![0xff; 3];
    commit(&bench, damaged).await;
    commit(
        &bench,
        Commit {
            instant: NOW,
            events: vec![vec![0xff; 3]],
            ..Commit::default()
        },
    )
    .await;
    assert_eq!(fold(&bench.runtime).await.unwrap(), 5);
    assert_eq!(bench.figures().await.count, 2);
}

#[tokio::test]
async fn new_events_are_counted_by_themselves_until_it_is_stopped() {
    let bench = Bench::with_otp().await;
    let (stop, stopped) = watch::channel(false);
    let counting = tokio::spawn({
        let runtime = bench.runtime.clone();
        async move { runtime.fold_all(stopped).await }
    });
    for n in 1..=2 {
        commit(&bench, acceptances(1, 0)).await;
        let counted = async {
            while bench.figures().await.count < n {
                tokio::task::yield_now().await;
            }
        };
        // Sooner than it would look by itself.
        let within = Duration::from_secs(20);
        tokio::time::timeout(within, counted)
            .await
            .expect("counted");
    }
    stop.send_replace(true);
    counting.await.unwrap();
    commit(&bench, acceptances(1, 0)).await;
    assert_eq!(bench.figures().await.count, 2);
}

#[tokio::test]
async fn a_question_out_of_its_bounds_is_no_answer_and_harms_nothing() {
    let bench = Bench::with_otp().await;
    let backwards = Query { end: 0, ..today() };
    let refused = bench.runtime.dashboard(&backwards).await;
    assert!(
        matches!(refused, Err(CallError::Component { .. })),
        "{refused:?}"
    );
    assert_eq!(bench.figures().await.count, 0);
}
