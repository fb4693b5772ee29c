//! What the runtime counts of calls, for whoever watches it. Each call costs a few atomic additions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_types::{Counter, Histogram, Spread};

use crate::CallError;

/// Microseconds.
const CALL_TIMES: &[u64] = &[
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

/// How calls of services end, in words for people and metrics.
const OUTCOMES: [&str; 10] = [
    "ok",
    "busy",
    "queue-full",
    "store-full",
    "failed",
    "timeout",
    "happened",
    "too-many-keys",
    "store-failed",
    "stopped",
];

/// Which of [`OUTCOMES`] it is.
fn outcome(error: &CallError) -> usize {
    match error {
        CallError::Busy { .. } | CallError::Erasing { .. } => 1,
        CallError::QueueFull { .. } => 2,
        CallError::StoreFull { .. } => 3,
        CallError::Component {
            timed_out: false, ..
        } => 4,
        CallError::Component {
            timed_out: true, ..
        } => 5,
        CallError::Happened => 6,
        CallError::TooManyOnce { .. } => 7,
        CallError::Store(_) => 8,
        CallError::Stopped => 9,
    }
}

/// One service component's calls.
#[derive(Debug)]
pub(crate) struct ServiceFigures {
    outcomes: [Counter; OUTCOMES.len()],
    /// Runs that did not count: something that they had read had changed.
    pub(crate) stale: Counter,
    /// Runs that did not count: a shared limit had no room.
    pub(crate) no_room: Counter,
    times: Histogram,
}

impl ServiceFigures {
    fn new() -> ServiceFigures {
        ServiceFigures {
            outcomes: Default::default(),
            stale: Counter::default(),
            no_room: Counter::default(),
            times: Histogram::new(CALL_TIMES),
        }
    }
}

/// Why a provider's component failed at a call.
#[derive(Debug, Default)]
pub(crate) struct ProviderFigures {
    /// It trapped, or broke a limit.
    pub(crate) failed: Counter,
    /// It was cut off for the time that it took.
    pub(crate) timed_out: Counter,
}

/// The figures of one process's services.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    components: Mutex<BTreeMap<String, Arc<ServiceFigures>>>,
    /// The position of the first event that the reports do not have; 0: not known yet.
    pub(crate) reported: AtomicU64,
}

impl Figures {
    /// Those of the component `name`: the same for all its versions. Not for the path of a call, since
    /// it takes a lock.
    pub(crate) fn of(&self, name: &str) -> Arc<ServiceFigures> {
        let mut all = self
            .components
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let of_name = all.entry(name.to_owned());
        of_name
            .or_insert_with(|| Arc::new(ServiceFigures::new()))
            .clone()
    }

    /// Counts a call of a component whose figures are `own`. A failure is counted for whoever is to
    /// blame: the called one, in a nested call.
    pub(crate) fn ended<T>(
        &self,
        own: &ServiceFigures,
        took: Duration,
        end: Result<&T, &CallError>,
    ) {
        own.times.record_time(took);
        let Err(error) = end else {
            return own.outcomes[0].add_one();
        };
        let place = outcome(error);
        match error {
            // Seldom, so that a lock does no harm.
            CallError::Component { component, .. } => {
                self.of(component).outcomes[place].add_one();
            }
            _ => own.outcomes[place].add_one(),
        }
    }

    /// The position of the first event that the reports do not have, once that is known.
    pub(crate) fn reported(&self) -> Option<u64> {
        let position = self.reported.load(Ordering::Relaxed);
        (position > 0).then_some(position)
    }

    pub(crate) fn overview(&self) -> Vec<ServiceOverview> {
        let all = self
            .components
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let of_one = |(component, figures): (&String, &Arc<ServiceFigures>)| ServiceOverview {
            component: component.clone(),
            outcomes: std::array::from_fn(|at| (OUTCOMES[at], figures.outcomes[at].value())),
            stale: figures.stale.value(),
            no_room: figures.no_room.value(),
            times: figures.times.spread(),
        };
        all.iter().map(of_one).collect()
    }
}

/// One service component's calls since the process began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceOverview {
    /// Its name.
    pub component: String,
    /// How often calls have ended in which way, in fixed words.
    pub outcomes: [(&'static str, u64); OUTCOMES.len()],
    /// How many runs did not count since something that they had read had changed.
    pub stale: u64,
    /// How many runs did not count since a shared limit had no room.
    pub no_room: u64,
    /// How long calls took, with the wait for their turn and the commit, in microseconds.
    pub times: Spread,
}

/// One provider's component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderOverview {
    /// The provider's configured name.
    pub provider: String,
    /// How many calls failed since the component trapped or broke a limit.
    pub failed: u64,
    /// How many calls were cut off for the time that they took.
    pub timed_out: u64,
}

/// The places of one service component's calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacesOverview {
    /// Its name.
    pub component: String,
    /// How many of its calls may run at once.
    pub places: usize,
    /// How many of those places are taken.
    pub taken: usize,
    /// How many calls wait for one.
    pub waiting: usize,
}

/// What goes on in the runtime at this moment, and what has happened since the process began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeOverview {
    /// The service components, by name.
    pub services: Vec<ServiceOverview>,
    /// The providers, by name.
    pub providers: Vec<ProviderOverview>,
    /// The places of service components, by name.
    pub places: Vec<PlacesOverview>,
    /// How many instances of components there may be at once.
    pub instances_max: u32,
    /// How many there are, those that wait for their next call included.
    pub instances: u64,
    /// How many password hashes have been worked out.
    pub hashes: u64,
    /// The position of the first event that the reports do not have; `None`: not known yet.
    pub reported: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(figures: &Figures, error: CallError) {
        let own = figures.of("two-factor");
        figures.ended::<()>(&own, Duration::from_millis(1), Err(&error));
    }

    #[track_caller]
    fn check(figures: &Figures, component: &str, want: &[(&str, u64)]) {
        let all = figures.overview();
        let found = all.iter().find(|one| one.component == component);
        let outcomes = &found.expect("it is there").outcomes;
        let counted: Vec<_> = outcomes.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, want.iter().collect::<Vec<_>>());
    }

    #[test]
    fn every_end_of_a_call_counts_once_and_a_failure_for_whoever_is_to_blame() {
        let figures = Figures::default();
        let second = Duration::from_secs(1);
        let failed = |timed_out| CallError::Component {
            component: "otp".to_owned(),
            reason: String::new(),
            timed_out,
        };
        ended(&figures, failed(false));
        ended(&figures, failed(true));
        ended(
            &figures,
            CallError::Busy {
                retry_after: second,
            },
        );
        ended(
            &figures,
            CallError::StoreFull {
                retry_after: second,
            },
        );
        ended(&figures, CallError::Happened);
        let own = figures.of("two-factor");
        figures.ended(&own, second, Ok(&()));
        check(&figures, "otp", &[("failed", 1), ("timeout", 1)]);
        let want = [("ok", 1), ("busy", 1), ("store-full", 1), ("happened", 1)];
        check(&figures, "two-factor", &want);
        let calls = figures.overview();
        assert_eq!(calls[1].times.count(), 6, "all of them were its calls");
        assert_eq!(calls[0].times.count(), 0);
    }
}
