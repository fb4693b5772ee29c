//! What this process has seen of each provider: its breaker, and what it last said.
//!
//! None of it is stored, and no other process needs it: another host's connection to a provider may work
//! where this one's does not, and after a restart one failure in a row costs less than a wrong memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_types::{Accepted, Clock, SendError, UnixMillis};

use crate::breaker::{Breaker, BreakerState, BreakerTerms, Verdict};

/// The health of all providers.
pub struct Health {
    terms: BreakerTerms,
    clock: Arc<dyn Clock>,
    providers: Mutex<HashMap<String, Record>>,
}

#[derive(Debug, Default)]
struct Record {
    breaker: Breaker,
    taken: Option<UnixMillis>,
    failed: Option<(UnixMillis, SendError)>,
}

/// What is known of one provider.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderHealth {
    /// Whether it is asked before others.
    pub state: BreakerState,
    /// How many failures in a row there were.
    pub failures: u32,
    /// When it may be probed, where it is not closed.
    pub probe: Option<UnixMillis>,
    /// When it last took a message.
    pub taken: Option<UnixMillis>,
    /// When it last did not take one, and why.
    pub failed: Option<(UnixMillis, SendError)>,
}

impl Health {
    /// Nothing is known yet, so every provider is asked.
    pub fn new(terms: BreakerTerms, clock: Arc<dyn Clock>) -> Arc<Health> {
        Arc::new(Health {
            terms,
            clock,
            providers: Mutex::default(),
        })
    }

    /// What is known of `provider`.
    pub fn of(&self, provider: &str) -> ProviderHealth {
        let now = self.clock.now();
        let providers = self.providers();
        let unknown = Record::default();
        let record = providers.get(provider).unwrap_or(&unknown);
        let rest = record.breaker.rest(self.clock.monotonic());
        ProviderHealth {
            state: record.breaker.state(),
            failures: record.breaker.failures(),
            probe: rest.map(|rest| now + rest),
            taken: record.taken,
            failed: record.failed.clone(),
        }
    }

    /// Of `providers` the first that is asked now; where none is, the first, since somebody has to be.
    pub(crate) fn turn<'a>(&self, providers: &[&'a Arc<str>]) -> Option<&'a Arc<str>> {
        let now = self.clock.monotonic();
        let known = self.providers();
        let admits = |name: &str| {
            let record = known.get(name);
            record.is_none_or(|record| record.breaker.admits(now))
        };
        let turn = providers.iter().find(|name| admits(name));
        turn.or(providers.first()).copied()
    }

    /// The same for a message that is about to be handed over: it may be the one by which a provider is
    /// probed.
    pub(crate) fn admit<'a>(&self, providers: &[&'a Arc<str>]) -> Option<&'a Arc<str>> {
        let now = self.clock.monotonic();
        let mut known = self.providers();
        let mut admit = |name: &str| {
            let record = known.get_mut(name);
            record.is_none_or(|record| record.breaker.admit(now))
        };
        let turn = providers.iter().find(|name| admit(name));
        turn.or(providers.first()).copied()
    }

    /// Learns what `provider` made of a message.
    pub(crate) fn learn(&self, provider: &str, ended: &Result<Accepted, SendError>) {
        let (wall, now) = (self.clock.now(), self.clock.monotonic());
        let verdict = match ended {
            Ok(_) => Verdict::Works,
            Err(error) => Verdict::of(error.class),
        };
        let mut providers = self.providers();
        let record = providers.entry(provider.to_owned()).or_default();
        let was = record.breaker.state();
        let opened = record.breaker.learn(verdict, now, self.terms);
        match ended {
            Ok(_) => record.taken = Some(wall),
            Err(error) => record.failed = Some((wall, error.clone())),
        }
        let failures = record.breaker.failures();
        let rest = record.breaker.rest(now);
        let is_closed = record.breaker.state() == BreakerState::Closed;
        drop(providers);
        if opened && verdict == Verdict::Shut {
            tracing::error!(
                provider,
                ?rest,
                "a provider turns the account away; others of its routes go first"
            );
        } else if opened {
            tracing::warn!(
                provider,
                failures,
                ?rest,
                "a provider fails; others of its routes go first"
            );
        } else if is_closed && was != BreakerState::Closed {
            tracing::info!(provider, "a provider works again");
        }
    }

    fn providers(&self) -> MutexGuard<'_, HashMap<String, Record>> {
        self.providers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
