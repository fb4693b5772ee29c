mod void;

use std::sync::Mutex;

use countersign_types::{ErrorClass, Priority};

use super::*;
use crate::testing::{Bench, NOW, SECOND, attempt, failed, job, sent};
use crate::{MessageRow, QueueConfig, TurnedAway};

impl Bench {
    async fn nothing_is_due(&self) {
        tokio::select! {
            biased;
            claim = self.claim() => panic!("{claim:?}"),
            () = std::future::ready(()) => {}
        }
    }
}

fn lease_of(bench: &Bench) -> Duration {
    bench.queue.inner.config.lease
}

const MILLISECOND: Duration = Duration::from_millis(1);

fn retry() -> Finish {
    Finish::Retry {
        at: NOW,
        provider: "p".into(),
        error: failed(ErrorClass::Retryable),
        due: NOW,
    }
}

#[tokio::test]
async fn nothing_goes_before_its_time() {
    let bench = Bench::new().await;
    let later = NOW + 5 * SECOND;
    let delayed = bench
        .add(Job {
            due: later,
            priority: Priority::Urgent,
            ..job()
        })
        .await;
    let now = bench.add(job()).await;
    assert_eq!(bench.claim().await.id, now);
    bench.nothing_is_due().await;
    bench.clock.set(later);
    assert_eq!(bench.claim().await.id, delayed);
}

#[tokio::test]
async fn a_full_queue_turns_away_and_a_finished_job_makes_room() {
    let bench = Bench::with(QueueConfig {
        capacity: 1,
        ..QueueConfig::default()
    })
    .await;
    bench.add(job()).await;
    let full = bench.queue.reserve(&job(), NOW).expect_err("full");
    assert_eq!(full, TurnedAway::Full { waiting: 1 });
    let claim = bench.claim().await;
    assert!(bench.finish(claim, sent(&["SM1"])).await);
    assert_eq!(bench.queue.depth(), 0);
    assert!(bench.queue.reserve(&job(), NOW).is_ok());
}

#[tokio::test]
async fn a_start_voids_claims_and_a_void_claim_changes_nothing() {
    let mut bench = Bench::new().await;
    let id = bench.add(job()).await;
    let old_claim = bench.claim().await;
    let next = bench.reopened().await;
    let before = std::mem::replace(&mut bench.queue, next);
    let claim = bench.claim().await;
    assert_eq!(claim.id, id);
    assert!(bench.finish(claim, retry()).await);
    let late = before.finish(old_claim, sent(&["SM1"]), NOW).await;
    assert!(!late.expect("refused"));
    assert_eq!(bench.claim().await.job.attempts.len(), 1);
}

#[tokio::test]
async fn a_lost_claim_makes_way_when_its_lease_ends_and_what_it_brings_then_is_void() {
    let bench = Bench::new().await;
    let id = bench.add(job()).await;
    let lost = bench.claim().await;
    bench.nothing_is_due().await;
    bench.clock.advance(lease_of(&bench));
    let claim = bench.claim().await;
    assert_eq!(claim.id, id);
    assert!(!bench.finish(lost, sent(&["SM1"])).await);
    assert!(bench.finish(claim, sent(&["SM2"])).await);
    let message = bench.queue.message(id, bench.now()).await;
    let message = message.expect("read").expect("known");
    assert_eq!(message.row.sent.expect("sent").parts[0].id, "SM2");
}

#[tokio::test]
async fn a_clock_that_is_set_on_ends_no_claim_so_a_code_does_not_go_out_twice() {
    let bench = Bench::new().await;
    let id = bench.add(job()).await;
    let claim = bench.claim().await;
    bench.clock.set(NOW + 24 * 3_600 * SECOND);
    bench.nothing_is_due().await;
    assert!(bench.finish(claim, sent(&["SM1"])).await);
    assert_eq!(bench.status(id).await, Status::Sent);
}

#[tokio::test]
async fn a_clock_that_is_set_back_keeps_a_lost_claim_no_longer() {
    let bench = Bench::new().await;
    let id = bench.add(job()).await;
    let lost = bench.claim().await;
    bench.clock.set(UnixMillis(NOW.0 - 24 * 3_600_000));
    bench.clock.advance(lease_of(&bench) - MILLISECOND);
    bench.nothing_is_due().await;
    bench.clock.advance(MILLISECOND);
    assert_eq!(bench.claim().await.id, id);
    assert!(!bench.finish(lost, sent(&["SM1"])).await);
}

#[tokio::test]
async fn what_a_claim_does_renews_its_lease_by_the_time_that_passes() {
    let bench = Bench::new().await;
    bench.add(job()).await;
    let mut claim = bench.claim().await;
    bench.clock.advance(lease_of(&bench) - SECOND);
    // The clock is set back in between, and what was begun is dated by it.
    bench.clock.set(UnixMillis(NOW.0 - 3_600_000));
    let begun = bench.queue.begin(&mut claim, bench.now(), "p").await;
    assert!(begun.expect("begun"));
    bench.clock.advance(lease_of(&bench) - SECOND);
    bench.nothing_is_due().await;
    assert!(bench.finish(claim, sent(&["SM1"])).await);
}

#[tokio::test]
async fn a_clock_that_is_set_back_holds_no_message_that_could_go_before() {
    let mut bench = Bench::new().await;
    let id = bench.add(job()).await;
    bench.clock.set(UnixMillis(NOW.0 - 3_600_000));
    // Not in this process, and not in the next one.
    bench.queue = bench.reopened().await;
    assert_eq!(bench.claim().await.id, id);
}

/// A message that has failed once and pauses for 10 seconds.
async fn paused() -> (Bench, MessageId) {
    let bench = Bench::new().await;
    let id = bench.add(job()).await;
    let again = Finish::Retry {
        at: NOW,
        provider: "p".into(),
        error: failed(ErrorClass::Retryable),
        due: NOW + 10 * SECOND,
    };
    let claim = bench.claim().await;
    assert!(bench.finish(claim, again).await);
    (bench, id)
}

#[tokio::test]
async fn a_pause_after_a_failed_try_lasts_as_long_wherever_the_clock_is_set() {
    // Five minutes on its time is not over yet.
    for to in [UnixMillis(NOW.0 - 3_600_000), NOW + 300 * SECOND] {
        let (bench, id) = paused().await;
        bench.clock.set(to);
        bench.clock.advance(9 * SECOND);
        bench.nothing_is_due().await;
        bench.clock.advance(SECOND);
        assert_eq!(bench.claim().await.id, id);
    }
}

#[tokio::test]
async fn after_a_start_the_rest_of_a_pause_is_waited_for_and_never_more_than_all_of_it() {
    let (mut bench, id) = paused().await;
    bench.clock.advance(4 * SECOND);
    bench.queue = bench.reopened().await;
    bench.clock.advance(5 * SECOND);
    bench.nothing_is_due().await;
    bench.clock.advance(SECOND);
    assert_eq!(bench.claim().await.id, id);

    let (mut bench, id) = paused().await;
    bench.clock.set(UnixMillis(NOW.0 - 3_600_000));
    bench.queue = bench.reopened().await;
    bench.clock.advance(9 * SECOND);
    bench.nothing_is_due().await;
    bench.clock.advance(SECOND);
    assert_eq!(bench.claim().await.id, id);
}

/// Whoever made the message named a time of day.
#[tokio::test]
async fn a_message_that_is_not_to_go_before_a_time_waits_for_the_clock_to_show_it() {
    let bench = Bench::new().await;
    let due = NOW + 300 * SECOND;
    let id = bench.add(Job { due, ..job() }).await;
    bench.clock.set(UnixMillis(NOW.0 - 3_600_000));
    bench.clock.advance(400 * SECOND);
    bench.nothing_is_due().await;
    bench.clock.set(due);
    assert_eq!(bench.claim().await.id, id);
}

#[tokio::test]
async fn a_claim_that_is_given_back_waits_again() {
    let bench = Bench::new().await;
    let id = bench.add(job()).await;
    let claim = bench.claim().await;
    bench.queue.put_back(claim.lease, SECOND);
    bench.nothing_is_due().await;
    bench.clock.advance(SECOND);
    assert_eq!(bench.claim().await.id, id);
}

#[tokio::test]
async fn a_sent_message_keeps_neither_text_nor_number() {
    let bench = Bench::new().await;
    let id = bench.add(job()).await;
    let mut claim = bench.claim().await;
    let begun = bench.queue.begin(&mut claim, NOW, "p").await;
    assert!(begun.expect("begun"));
    assert!(bench.finish(claim, sent(&["SM1"])).await);
    let row = bench.queue.get::<MessageRow>(&key(MESSAGES, id), NOW).await;
    let row = row.expect("read").expect("kept").value;
    assert_eq!(row.status, Status::Sent);
    assert_eq!(row.attempts.len(), 1, "the begun try became the sent one");
    let shown = format!("{row:?}");
    assert!(!shown.contains("2025550123") && !shown.contains("hello"));
}

#[tokio::test]
async fn an_expired_message_ends_with_what_was_tried() {
    let bench = Bench::new().await;
    let id = bench.add(job()).await;
    bench.clock.advance(600 * SECOND);
    let taken = bench.queue.next(&Open).await.expect("taken");
    assert!(taken.pass.is_none(), "its time is over");
    let over = Finish::Over {
        status: Status::Expired,
        attempt: Some(attempt(0, failed(ErrorClass::Throttled))),
        reason: None,
    };
    assert!(bench.finish(taken.claim, over).await);
    assert_eq!(bench.status(id).await, Status::Expired);
    let facts = [
        ("channel", "sms"),
        ("was", "queued"),
        ("provider", "p"),
        ("class", "throttled"),
    ];
    let facts = facts.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(
        bench.events().await,
        [("message.expired".to_owned(), facts.to_vec())]
    );
}

/// One place, that a test frees.
#[derive(Default)]
struct OnePlace(Mutex<bool>);

impl Gate for OnePlace {
    type Pass = ();
    fn pass(&self, _: Option<&str>, _: MonotonicMillis) -> Result<(), Option<Duration>> {
        let mut taken = self.0.lock().expect("unlocked");
        if *taken {
            return Err(None);
        }
        *taken = true;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_comes_free_wakes_whoever_waits_for_it() {
    let bench = Bench::new().await;
    bench.add(job()).await;
    let second = bench.add(job()).await;
    let gate = OnePlace::default();
    bench.queue.next(&gate).await.expect("taken");
    let mut next = Box::pin(bench.queue.next(&gate));
    tokio::select! {
        biased;
        _ = &mut next => panic!("there is no place"),
        () = std::future::ready(()) => {}
    }
    *gate.0.lock().expect("unlocked") = false;
    bench.queue.ring();
    // Without the bell it would look again only after this.
    let next = tokio::time::timeout(LOOK_AGAIN / 2, next).await;
    let taken = next.expect("it was woken").expect("taken");
    assert_eq!(taken.claim.id, second);
}

#[tokio::test]
async fn a_new_message_is_accepted_with_its_event_and_what_belongs_to_it() {
    let bench = Bench::new().await;
    let with = |reads| Commit {
        instant: NOW,
        reads,
        ..Commit::default()
    };
    let job = job();
    let id = MessageId::new(NOW, &bench.ids);
    let accept = |id, reads| bench.queue.accept(id, &job, with(reads));
    accept(id, Vec::new()).await.expect("accepted");
    assert_eq!(bench.status(id).await, Status::Queued);
    assert_eq!(bench.kinds().await, ["message.accepted"]);
    let stale = Read {
        key: key(JOBS, id),
        version: None,
        until: None,
    };
    let other = MessageId::new(NOW, &bench.ids);
    let refused = accept(other, vec![stale]).await;
    assert!(matches!(
        refused,
        Err(crate::AcceptError::Refused(CommitError::Stale))
    ));
    assert_eq!(bench.queue.depth(), 1);
}

#[tokio::test]
async fn the_overview_counts_what_waits_what_is_in_hand_and_what_is_dead() {
    let bench = Bench::new().await;
    bench.dead(job()).await;
    bench.clock.advance(SECOND);
    for (priority, second) in [
        (Priority::Urgent, 1),
        (Priority::Normal, 3),
        (Priority::Bulk, 2),
    ] {
        bench
            .add(Job {
                priority,
                accepted: NOW + second * SECOND,
                ..job()
            })
            .await;
    }
    let claim = bench.claim().await;
    let overview = bench.queue.overview(bench.now());
    assert_eq!(
        (overview.waiting, overview.claimed, overview.dead),
        (3, 1, 1)
    );
    assert_eq!((overview.urgent, overview.normal, overview.bulk), (1, 1, 1));
    assert_eq!(overview.oldest, Some(NOW + SECOND));
    assert!(bench.finish(claim, sent(&[])).await);
    let next = bench.reopened().await.overview(bench.now());
    assert_eq!((next.waiting, next.claimed, next.dead), (2, 0, 1));
    assert_eq!(next.oldest, Some(NOW + 2 * SECOND));
    let later = bench.now() + crate::queue::KEPT + 3_600 * SECOND;
    assert_eq!(bench.queue.overview(later).dead, 0, "it is no longer kept");
}
