use countersign_queue::{Attempt, Outcome};

use super::*;
use crate::testing::{NOW, SECOND, notice, refusal, refusal_for, verification};

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
        let next = after(
            &mut verification(NOW),
            &[],
            ("a", refusal_for(class, 40 * SECOND)),
            NOW,
        );
        assert_eq!(next, Next::Again(NOW), "{class:?}");
    }
}

#[test]
fn when_all_were_asked_the_longest_wait_that_any_asked_for_counts() {
    let waits = |a, b, c| {
        let tried = [
            ("a", refusal_for(Throttled, a * SECOND)),
            ("b", refusal_for(Throttled, b * SECOND)),
        ];
        after(
            &mut verification(NOW),
            &tried,
            ("c", refusal_for(Retryable, c * SECOND)),
            NOW,
        )
    };
    assert_eq!(waits(40, 5, 0), Next::Again(NOW + 40 * SECOND));
    assert_eq!(waits(5, 40, 0), Next::Again(NOW + 40 * SECOND));
    assert_eq!(waits(0, 5, 40), Next::Again(NOW + 40 * SECOND));
    assert_eq!(waits(0, 0, 0), Next::Again(NOW));
}

#[test]
fn a_wait_that_was_asked_for_is_no_longer_when_the_clock_was_set_back_meanwhile() {
    let back = UnixMillis(NOW.0 - 3_600_000);
    let tried = [
        ("a", refusal_for(Throttled, 40 * SECOND)),
        ("b", refusal_for(Throttled, 5 * SECOND)),
    ];
    let next = after(
        &mut verification(NOW),
        &tried,
        ("c", refusal(Retryable)),
        back,
    );
    assert_eq!(next, Next::Again(back + 40 * SECOND));
}

#[test]
fn whoever_cannot_be_waited_for_does_not_keep_the_message_from_the_others() {
    let tried = [
        ("a", refusal_for(Throttled, 5 * SECOND)),
        ("b", refusal_for(Throttled, 3_600 * SECOND)),
    ];
    let mut one = verification(NOW);
    let next = after(&mut one, &tried, ("c", refusal(Retryable)), NOW);
    assert_eq!(next, Next::Again(NOW + 5 * SECOND));
    // After the first one it is the turn of the one who cannot.
    let now = NOW + 5 * SECOND;
    let all = [("c", refusal(Retryable))];
    assert_eq!(
        after(&mut one, &all, ("a", refusal(Retryable)), now),
        Next::Over(Status::Expired)
    );
}

#[test]
fn what_cannot_be_in_time_is_expired_and_one_moment_less_is_not() {
    let tried = [("a", refusal(Retryable)), ("b", refusal(Retryable))];
    let mut last = verification(NOW);
    let just_before = UnixMillis(last.deadline.0 - 1);
    let next = after(&mut last, &tried, ("c", refusal(Retryable)), just_before);
    assert_eq!(next, Next::Again(just_before));
    let mut over = verification(NOW);
    let deadline = over.deadline;
    let next = after(&mut over, &tried, ("c", refusal(Retryable)), deadline);
    assert_eq!(next, Next::Over(Status::Expired));
}

#[test]
fn permanent_for_one_provider_alone_goes_to_those_not_asked_yet() {
    let alone = || SendError {
        failover: true,
        ..refusal(Permanent)
    };
    assert_eq!(
        after(&mut verification(NOW), &[], ("a", alone()), NOW),
        Next::Again(NOW)
    );
    let tried = [("a", alone()), ("b", alone())];
    assert_eq!(
        after(&mut verification(NOW), &tried, ("c", alone()), NOW),
        Next::Over(Status::Failed)
    );
    let everywhere = refusal(Permanent);
    assert_eq!(
        after(&mut verification(NOW), &[], ("a", everywhere), NOW),
        Next::Over(Status::Failed)
    );
}

#[test]
fn an_unknown_outcome_is_repeated_for_codes_after_one_and_two_seconds_and_then_not() {
    let unknown = || refusal(UnknownOutcome);
    let next = after(&mut verification(NOW), &[], ("a", unknown()), NOW);
    assert_eq!(next, Next::Again(NOW + SECOND.mul_f64(0.8)));
    let next = after(
        &mut verification(NOW),
        &[("a", unknown())],
        ("b", unknown()),
        NOW,
    );
    assert_eq!(next, Next::Again(NOW + SECOND.mul_f64(1.6)));
    let two = [("a", unknown()), ("b", unknown())];
    assert_eq!(
        after(&mut verification(NOW), &two, ("c", unknown()), NOW),
        Next::Over(Status::Unknown)
    );
    assert_eq!(
        after(&mut notice(NOW), &[], ("a", unknown()), NOW),
        Next::Over(Status::Unknown)
    );
}
