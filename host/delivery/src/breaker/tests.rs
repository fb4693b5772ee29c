use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Two failures in a row open it, for 4 s at first and 10 s at most.
const TERMS: BreakerTerms = BreakerTerms {
    failures: 2,
    pause: Duration::from_secs(4),
    pause_max: Duration::from_secs(10),
};

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Wait(u64),
    Admit,
    Learn(Verdict),
}

const STEPS: [Step; 7] = [
    Step::Wait(1),
    Step::Wait(4),
    Step::Admit,
    Step::Learn(Verdict::Works),
    Step::Learn(Verdict::Busy),
    Step::Learn(Verdict::Fails),
    Step::Learn(Verdict::Shut),
];

/// What has to be so, told by what has happened: no states, no timers.
#[derive(Clone, Debug, Default)]
struct History {
    now: MonotonicMillis,
    /// Since it last worked.
    failures: u32,
    shut: bool,
    /// When it opened, by the first failure or by that of a probe, and for how long.
    opened: Option<(MonotonicMillis, Duration)>,
    /// When the last probe was let through, since it opened.
    probed: Option<MonotonicMillis>,
}

impl History {
    fn is_admitted(&self) -> bool {
        match (self.opened, self.probed) {
            (None, _) => true,
            (Some((at, pause)), None) => self.now.since(at) >= pause,
            (Some((_, pause)), Some(probe)) => self.now.since(probe) >= pause,
        }
    }

    fn learn(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Busy => return,
            Verdict::Works => {
                *self = History {
                    now: self.now,
                    ..History::default()
                };
                return;
            }
            Verdict::Fails => {}
            Verdict::Shut => self.shut = true,
        }
        self.failures += 1;
        match self.opened {
            None if self.shut || self.failures >= TERMS.failures => {
                self.opened = Some((self.now, TERMS.pause));
            }
            Some((_, pause)) if self.probed.is_some() => {
                self.opened = Some((self.now, (2 * pause).min(TERMS.pause_max)));
                self.probed = None;
            }
            None | Some(_) => {}
        }
    }
}

/// Takes every way of `left` further steps.
fn explore(breaker: Breaker, history: &History, left: u32, way: &mut Vec<Step>) {
    let admits = history.is_admitted();
    assert_eq!(breaker.admits(history.now), admits, "{way:?}");
    assert_eq!(breaker.failures(), history.failures, "{way:?}");
    let state = match (history.opened, history.probed) {
        (None, _) => BreakerState::Closed,
        (Some(_), None) => BreakerState::Open,
        (Some(_), Some(_)) => BreakerState::HalfOpen,
    };
    assert_eq!(breaker.state(), state, "{way:?}");
    // Nobody is shut out for ever, whatever has happened and whatever is never heard of again.
    let later = history.now + TERMS.pause_max;
    assert!(breaker.admits(later), "{way:?}");
    if left == 0 {
        return;
    }
    for step in STEPS {
        let (mut breaker, mut history) = (breaker, history.clone());
        match step {
            Step::Wait(seconds) => history.now = history.now + Duration::from_secs(seconds),
            Step::Admit => {
                assert_eq!(breaker.admit(history.now), admits, "{way:?}");
                if admits && history.opened.is_some() {
                    history.probed = Some(history.now);
                }
            }
            Step::Learn(verdict) => {
                history.learn(verdict);
                let opens = match state {
                    BreakerState::Closed => history.opened.is_some(),
                    BreakerState::Open => false,
                    BreakerState::HalfOpen => matches!(verdict, Verdict::Fails | Verdict::Shut),
                };
                let opened = breaker.learn(verdict, history.now, TERMS);
                assert_eq!(opened, opens, "{way:?} {step:?}");
            }
        }
        way.push(step);
        explore(breaker, &history, left - 1, way);
        way.pop();
    }
}

#[test]
fn it_does_what_its_history_says_on_every_way_of_seven_steps() {
    explore(Breaker::default(), &History::default(), 7, &mut Vec::new());
}

#[test]
fn each_probe_that_fails_doubles_the_pause_up_to_the_longest() {
    let mut breaker = Breaker::default();
    let mut now = MonotonicMillis(1_000);
    breaker.learn(Verdict::Shut, now, TERMS);
    for pause in [4, 8, 10, 10] {
        let pause = pause * SECOND;
        assert_eq!(breaker.rest(now), Some(pause));
        now = now + (pause - Duration::from_millis(1));
        assert!(!breaker.admit(now));
        now = now + Duration::from_millis(1);
        assert!(breaker.admit(now), "the probe");
        assert!(!breaker.admit(now), "and no other");
        breaker.learn(Verdict::Fails, now, TERMS);
    }
    now = now + 10 * SECOND;
    assert!(breaker.admit(now));
    breaker.learn(Verdict::Works, now, TERMS);
    assert_eq!(
        (breaker.state(), breaker.rest(now)),
        (BreakerState::Closed, None)
    );
}

#[test]
fn a_class_says_whether_the_provider_or_the_message_is_to_blame() {
    let check = |class, want| assert_eq!(Verdict::of(class), want, "{class:?}");
    check(ErrorClass::Permanent, Verdict::Works);
    check(ErrorClass::Blocked, Verdict::Works);
    check(ErrorClass::Throttled, Verdict::Busy);
    check(ErrorClass::Retryable, Verdict::Fails);
    check(ErrorClass::UnknownOutcome, Verdict::Fails);
    check(ErrorClass::Auth, Verdict::Shut);
}

#[test]
fn no_pause_is_longer_than_the_longest() {
    let terms = BreakerTerms {
        pause: 2 * TERMS.pause_max,
        ..TERMS
    };
    let mut breaker = Breaker::default();
    let now = MonotonicMillis::default();
    assert!(breaker.learn(Verdict::Shut, now, terms));
    assert!(breaker.admits(now + terms.pause_max));
}
