//! The instants of calls: never before the last committed one, unless the machine's clock was set
//! back for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign_store::Store;
use countersign_types::{Clock, UnixMillis};

/// A step back that is longer than this is the operator's will and is followed; a shorter one is a
/// clock being disciplined, and is waited out.
const STEP_FOLLOWED: Duration = Duration::from_secs(5);

/// Gives each run its instant.
pub(crate) struct Instants {
    clock: Arc<dyn Clock>,
    store: Arc<dyn Store>,
    /// The instant from which on time is as it was before a step back; 0: there was none.
    stepped_back_from: AtomicU64,
}

impl Instants {
    pub(crate) fn new(clock: Arc<dyn Clock>, store: Arc<dyn Store>) -> Instants {
        Instants {
            clock,
            store,
            stepped_back_from: AtomicU64::new(0),
        }
    }

    /// The instant of a run that begins now.
    pub(crate) fn now(&self) -> UnixMillis {
        // In this order: a thread that stops in between must not take its own delay for a clock that
        // was set back.
        let newest = self.store.newest_instant();
        let now = self.clock.now();
        if now >= newest {
            return now;
        }
        if newest.since(now) <= STEP_FOLLOWED {
            return newest;
        }
        let before = self
            .stepped_back_from
            .fetch_max(newest.0, Ordering::Relaxed);
        self.store.step_back(now);
        if before < newest.0 {
            tracing::error!(from = %newest, to = %now, "the machine's clock was set back; limits and expiries follow it");
        }
        now
    }

    /// Whether the clock was set back and has not yet caught up with what was committed before.
    pub(crate) fn stepped_back(&self) -> bool {
        self.clock.now().0 < self.stepped_back_from.load(Ordering::Relaxed)
    }
}
