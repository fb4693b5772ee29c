use countersign_types::{ErrorClass, Priority};

use super::*;
use crate::testing::{Bench, NOW, SECOND, attempt, failed, job, sent, with_code};
use crate::{Finish, QueueConfig};

#[tokio::test]
async fn what_no_provider_takes_is_kept_whole_and_shown_masked() {
    let bench = Bench::new().await;
    let id = bench.dead(job()).await;
    let row = bench.queue.get::<DeadRow>(&dead_key(id), NOW).await;
    let row = row.expect("read").expect("kept").value;
    assert_eq!(
        (row.job.to.as_str(), row.job.text.as_str()),
        ("+12025550123", "hello")
    );
    let shown = bench.queue.dead_letter(id, NOW).await.expect("read");
    let shown = shown.expect("dead");
    assert_eq!(
        (shown.row.to.as_str(), shown.row.status),
        ("+1202•••••23", Status::Failed)
    );
    assert_eq!((shown.row.attempts.len(), shown.row.ended), (1, Some(NOW)));
    assert!(!format!("{shown:?}").contains("2025550123"));
    assert_eq!(bench.status(id).await, Status::Failed);
    let other = bench.queue.dead_letter(MessageId([9; 16]), NOW).await;
    assert_eq!(other.expect("read"), None);
}

#[tokio::test]
async fn dead_letters_come_newest_first_page_by_page() {
    let bench = Bench::new().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let accepted = NOW + n * SECOND;
        bench.clock.set(accepted);
        ids.push(bench.dead(Job { accepted, ..job() }).await);
    }
    ids.reverse();
    let now = bench.now();
    let mut found = Vec::new();
    let mut after = None;
    for expected in [2, 2, 1] {
        let page = bench.queue.dead_letters(after, 2, now).await.expect("read");
        assert_eq!(page.letters.len(), expected);
        found.extend(page.letters.iter().map(|letter| letter.id));
        after = page.next;
    }
    assert_eq!((found, after), (ids, None));
    let gone = NOW + crate::queue::KEPT + 10 * SECOND;
    let page = bench.queue.dead_letters(None, 1_000, gone).await;
    assert!(page.expect("read").letters.is_empty());
}

#[tokio::test]
async fn a_page_is_never_longer_than_its_bound() {
    let bench = Bench::new().await;
    for _ in 0..=DEAD_PAGE_MAX {
        bench.dead(job()).await;
    }
    let page = bench
        .queue
        .dead_letters(None, usize::MAX, NOW)
        .await
        .expect("read");
    assert_eq!(page.letters.len(), DEAD_PAGE_MAX);
    let rest = bench.queue.dead_letters(page.next, usize::MAX, NOW).await;
    assert_eq!(rest.expect("read").letters.len(), 1);
}

#[tokio::test]
async fn a_replayed_message_waits_again_with_its_history_and_as_much_time_as_before() {
    let bench = Bench::new().await;
    let id = bench.dead(job()).await;
    bench.clock.advance(86_400 * SECOND);
    let now = bench.now();
    let replayed = bench.queue.replay(id, now).await.expect("replayed");
    assert_eq!((replayed.id, replayed.row.status), (id, Status::Queued));
    assert_eq!(replayed.deadline, Some(now + 600 * SECOND));
    assert_eq!(
        (replayed.row.replayed, replayed.row.accepted),
        (Some(now), NOW)
    );
    assert_eq!(bench.queue.dead_letter(id, now).await.expect("read"), None);
    let overview = bench.queue.overview(now);
    assert_eq!(
        (overview.waiting, overview.dead, overview.oldest),
        (1, 0, Some(now))
    );
    assert_eq!(bench.kinds().await, ["message.failed", "message.replayed"]);

    let claim = bench.claim().await;
    assert_eq!((claim.job.attempts.len(), claim.job.counts.tried), (1, 0));
    assert!(bench.finish(claim, sent(&["SM1"])).await);
    let message = bench
        .queue
        .message(id, now)
        .await
        .expect("read")
        .expect("known")
        .row;
    assert_eq!((message.status, message.attempts.len()), (Status::Sent, 2));
    assert_eq!(message.replayed, Some(now), "it stays known");
    let again = bench.queue.replay(id, now).await;
    assert!(matches!(again, Err(ReplayError::NotDead(_))), "{again:?}");
}

#[tokio::test]
async fn a_code_is_replayed_until_its_end_and_never_after_it() {
    let bench = Bench::new().await;
    let expires = NOW + 600 * SECOND;
    let id = bench.dead(with_code(expires)).await;
    let refused = bench.queue.replay(id, expires).await;
    assert!(matches!(refused, Err(ReplayError::CodeOver { ended }) if ended == expires));
    assert_eq!(bench.status(id).await, Status::Failed, "it stays dead");
    let last = UnixMillis(expires.0 - 1);
    let replayed = bench.queue.replay(id, last).await.expect("in time");
    assert_eq!(replayed.deadline, Some(expires));
}

#[tokio::test]
async fn a_replay_needs_a_place_like_any_other_message() {
    let bench = Bench::with(QueueConfig {
        capacity: 1,
        ..QueueConfig::default()
    })
    .await;
    let id = bench.dead(job()).await;
    let other = bench
        .add(Job {
            priority: Priority::Bulk,
            ..job()
        })
        .await;
    let refused = bench.queue.replay(id, NOW).await;
    assert!(
        matches!(refused, Err(ReplayError::TurnedAway(_))),
        "{refused:?}"
    );
    let claim = bench.claim().await;
    assert_eq!(claim.id, other);
    let over = Finish::Over {
        status: Status::Unknown,
        attempt: Some(attempt(0, failed(ErrorClass::UnknownOutcome))),
        reason: None,
    };
    assert!(bench.finish(claim, over).await);
    bench.queue.replay(id, NOW).await.expect("there is room");
}

#[tokio::test]
async fn of_two_who_replay_at_once_one_does() {
    let bench = Bench::new().await;
    let id = bench.dead(job()).await;
    let replay = || bench.queue.replay(id, NOW);
    let (a, b) = tokio::join!(replay(), replay());
    assert_eq!(
        [&a, &b].iter().filter(|answer| answer.is_ok()).count(),
        1,
        "{a:?} {b:?}"
    );
    assert_eq!(bench.queue.depth(), 1);
}
