use std::time::Duration;

use countersign_types::{ErrorClass, ManualClock};

use super::*;
use crate::testing::{NOW, SECOND, refusal};

fn health() -> (Arc<Health>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(NOW));
    (Health::new(BreakerTerms::default(), clock.clone()), clock)
}

fn taken() -> Result<Accepted, SendError> {
    Ok(Accepted::default())
}

fn failed(class: ErrorClass) -> Result<Accepted, SendError> {
    Err(refusal(class))
}

#[track_caller]
fn check_turn(health: &Health, want: &str) {
    let names: [Arc<str>; 3] = ["a", "b", "c"].map(Arc::from);
    let names: Vec<&Arc<str>> = names.iter().collect();
    assert_eq!(health.turn(&names).map(|name| &**name), Some(want));
}

#[test]
fn whoever_fails_goes_after_the_others_and_the_first_is_tried_when_all_do() {
    let (health, _clock) = health();
    check_turn(&health, "a");
    for _ in 0..4 {
        health.learn("a", &failed(ErrorClass::Retryable));
    }
    check_turn(&health, "a");
    health.learn("a", &failed(ErrorClass::UnknownOutcome));
    check_turn(&health, "b");
    health.learn("b", &failed(ErrorClass::Auth));
    check_turn(&health, "c");
    health.learn("c", &failed(ErrorClass::Auth));
    check_turn(&health, "a");
    health.learn("b", &taken());
    check_turn(&health, "b");
}

#[test]
fn one_message_probes_and_the_others_pass_by_until_it_is_back() {
    let (health, clock) = health();
    health.learn("a", &failed(ErrorClass::Auth));
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    let admit = || health.admit(&[&a, &b]).map(|name| name.to_string());
    assert_eq!(admit().as_deref(), Some("b"));
    clock.advance(5 * SECOND);
    assert_eq!(health.of("a").state, BreakerState::Open);
    // To look changes nothing.
    check_turn(&health, "a");
    check_turn(&health, "a");
    assert_eq!(admit().as_deref(), Some("a"));
    assert_eq!(health.of("a").state, BreakerState::HalfOpen);
    assert_eq!(admit().as_deref(), Some("b"));
    health.learn("a", &taken());
    assert_eq!(admit().as_deref(), Some("a"));
    assert_eq!(health.of("a").state, BreakerState::Closed);
}

#[test]
fn what_was_last_seen_is_told_with_its_time() {
    let (health, clock) = health();
    let unknown = health.of("a");
    assert_eq!((unknown.state, unknown.failures), (BreakerState::Closed, 0));
    assert_eq!(
        (unknown.taken, unknown.failed, unknown.probe),
        (None, None, None)
    );
    health.learn("a", &taken());
    clock.advance(SECOND);
    // Not the provider's fault, but the last thing that it refused.
    health.learn("a", &failed(ErrorClass::Permanent));
    let known = health.of("a");
    assert_eq!((known.state, known.failures), (BreakerState::Closed, 0));
    assert_eq!(known.taken, Some(NOW));
    let (at, error) = known.failed.expect("it is told");
    assert_eq!((at, error.class), (NOW + SECOND, ErrorClass::Permanent));
    health.learn("a", &failed(ErrorClass::Auth));
    let known = health.of("a");
    assert_eq!((known.state, known.failures), (BreakerState::Open, 1));
    assert_eq!(known.probe, Some(NOW + SECOND + Duration::from_secs(5)));
    assert_eq!(health.of("b").state, BreakerState::Closed);
}
