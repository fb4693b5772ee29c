use countersign_queue::{ANONYMOUS, Attempt, ChallengeRef, Counts, Outcome};
use countersign_types::Priority;

use super::*;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn job(with_code: bool) -> Job {
    let deadline = NOW + 600 * SECOND;
    Job {
        channel: "sms".into(),
        to: "+12025550123".into(),
        country: "US".into(),
        template: "verification".into(),
        text: "{code}".into(),
        variables: Vec::new(),
        locale: None,
        service: "default".into(),
        purpose: "verification".into(),
        caller: ANONYMOUS.into(),
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
        counts: Counts::default(),
    }
}

fn error(class: ErrorClass, asks_s: u64) -> SendError {
    SendError {
        class,
        retry_after_ms: (asks_s > 0).then_some(asks_s * 1_000),
        provider_code: None,
        text: "no".into(),
        failover: false,
    }
}

/// What follows when `tried` have failed before, at `NOW`, and now `provider` fails with `error`.
/// There is no jitter.
fn after(
    job: &mut Job,
    tried: &[(&str, SendError)],
    (provider, error): (&str, SendError),
    now: UnixMillis,
) -> Next {
    for (provider, error) in tried {
        job.attempts.push(Attempt {
            at: NOW,
            ended: NOW,
            provider: (*provider).into(),
            outcome: Outcome::Failed(error.clone()),
        });
        job.counts.tried += 1;
        job.counts.unknown += u32::from(error.class == ErrorClass::UnknownOutcome);
    }
    let route: Vec<Arc<str>> = vec!["a".into(), "b".into(), "c".into()];
    let at = route.iter().position(|name| **name == *provider);
    let next = route[(at.expect("it is in the route") + 1) % route.len()].clone();
    Failure {
        job,
        route: &route,
        next: Some(&next),
        error: &error,
        now,
        jitter: 0.0,
        backoff_base: SECOND,
        backoff_max: 30 * SECOND,
    }
    .next()
}

use ErrorClass::{Auth, Permanent, Retryable, Throttled, UnknownOutcome};

#[test]
fn the_next_provider_is_asked_at_once() {
    for class in [Retryable, Throttled, Auth] {
        let next = after(&mut job(true), &[], ("a", error(class, 40)), NOW);
        assert_eq!(next, Next::Again(NOW), "{class:?}");
    }
}

#[test]
fn when_all_were_asked_the_longest_wait_that_any_asked_for_counts() {
    let waits = |a, b, c| {
        let tried = [("a", error(Throttled, a)), ("b", error(Throttled, b))];
        after(&mut job(true), &tried, ("c", error(Retryable, c)), NOW)
    };
    assert_eq!(waits(40, 5, 0), Next::Again(NOW + 40 * SECOND));
    assert_eq!(waits(5, 40, 0), Next::Again(NOW + 40 * SECOND));
    assert_eq!(waits(0, 5, 40), Next::Again(NOW + 40 * SECOND));
    assert_eq!(waits(0, 0, 0), Next::Again(NOW));
}

#[test]
fn a_wait_that_was_asked_for_is_no_longer_when_the_clock_was_set_back_meanwhile() {
    let back = UnixMillis(NOW.0 - 3_600_000);
    let tried = [("a", error(Throttled, 40)), ("b", error(Throttled, 5))];
    let next = after(&mut job(true), &tried, ("c", error(Retryable, 0)), back);
    assert_eq!(next, Next::Again(back + 40 * SECOND));
}

#[test]
fn whoever_cannot_be_waited_for_does_not_keep_the_message_from_the_others() {
    let tried = [("a", error(Throttled, 5)), ("b", error(Throttled, 3_600))];
    let mut one = job(true);
    let next = after(&mut one, &tried, ("c", error(Retryable, 0)), NOW);
    assert_eq!(next, Next::Again(NOW + 5 * SECOND));
    // After the first one it is the turn of the one who cannot.
    let now = NOW + 5 * SECOND;
    let all = [("c", error(Retryable, 0))];
    assert_eq!(
        after(&mut one, &all, ("a", error(Retryable, 0)), now),
        Next::Over(Status::Expired)
    );
}

#[test]
fn what_cannot_be_in_time_is_expired_and_one_moment_less_is_not() {
    let tried = [("a", error(Retryable, 0)), ("b", error(Retryable, 0))];
    let mut last = job(true);
    let just_before = UnixMillis(last.deadline.0 - 1);
    let next = after(&mut last, &tried, ("c", error(Retryable, 0)), just_before);
    assert_eq!(next, Next::Again(just_before));
    let mut over = job(true);
    let deadline = over.deadline;
    let next = after(&mut over, &tried, ("c", error(Retryable, 0)), deadline);
    assert_eq!(next, Next::Over(Status::Expired));
}

#[test]
fn permanent_for_one_provider_alone_goes_to_those_not_asked_yet() {
    let alone = || SendError {
        failover: true,
        ..error(Permanent, 0)
    };
    assert_eq!(
        after(&mut job(true), &[], ("a", alone()), NOW),
        Next::Again(NOW)
    );
    let tried = [("a", alone()), ("b", alone())];
    assert_eq!(
        after(&mut job(true), &tried, ("c", alone()), NOW),
        Next::Over(Status::Failed)
    );
    let everywhere = error(Permanent, 0);
    assert_eq!(
        after(&mut job(true), &[], ("a", everywhere), NOW),
        Next::Over(Status::Failed)
    );
}

#[test]
fn an_unknown_outcome_is_repeated_for_codes_after_one_and_two_seconds_and_then_not() {
    let unknown = || error(UnknownOutcome, 0);
    let next = after(&mut job(true), &[], ("a", unknown()), NOW);
    assert_eq!(next, Next::Again(NOW + SECOND.mul_f64(0.8)));
    let next = after(&mut job(true), &[("a", unknown())], ("b", unknown()), NOW);
    assert_eq!(next, Next::Again(NOW + SECOND.mul_f64(1.6)));
    let two = [("a", unknown()), ("b", unknown())];
    assert_eq!(
        after(&mut job(true), &two, ("c", unknown()), NOW),
        Next::Over(Status::Unknown)
    );
    assert_eq!(
        after(&mut job(false), &[], ("a", unknown()), NOW),
        Next::Over(Status::Unknown)
    );
}
