//! A circuit breaker: whether a provider is asked before others of a route.
//!
//! ```text
//! closed ── failures in a row, or trouble with our account ──▶ open ── its pause is over ──▶ half-open
//!    ▲                                                          ▲                               │
//!    └──────────── any message that it takes or judges ─────────┴── a failure: a longer pause ◀─┘
//! ```
//!
//! Nothing here knows the time or waits: whoever asks says what time it is. There is no state that has to
//! be given back: who was let through as a probe and never came back is followed by the next after another
//! pause.
//!
//! Source: M. Nygard, "Release It!", 2nd edition, 2018, chapter 5.

use std::time::Duration;

use countersign_types::{ErrorClass, MonotonicMillis};

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerTerms {
    /// How many failures in a row open it; at least 1.
    pub failures: u32,
    /// How long it stays open at first; doubles with each probe that fails.
    pub pause: Duration,
    /// The longest of these pauses.
    pub pause_max: Duration,
}

impl Default for BreakerTerms {
    fn default() -> BreakerTerms {
        BreakerTerms {
            failures: 5,
            pause: Duration::from_secs(5),
            pause_max: Duration::from_secs(60),
        }
    }
}

/// What a provider's answer says of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It works: it took the message, or judged it.
    Works,
    /// It works, and wants fewer: neither good nor bad news.
    Busy,
    /// It failed, or what became of the message is not known.
    Fails,
    /// It turns our account away, and so all messages.
    Shut,
}

impl Verdict {
    /// What follows from a refusal of that class.
    pub(crate) fn of(class: ErrorClass) -> Verdict {
        match class {
            ErrorClass::Permanent | ErrorClass::Blocked => Verdict::Works,
            ErrorClass::Throttled => Verdict::Busy,
            ErrorClass::Retryable | ErrorClass::UnknownOutcome => Verdict::Fails,
            ErrorClass::Auth => Verdict::Shut,
        }
    }
}

/// How far a provider is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// It is asked when its turn comes.
    Closed,
    /// Others of a route go first.
    Open,
    /// One message has been let through, and its end is waited for.
    HalfOpen,
}

impl BreakerState {
    /// The word for answers.
    pub fn word(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half-open",
        }
    }
}

/// The breaker of one provider.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Breaker {
    /// In a row.
    failures: u32,
    /// `None`: closed.
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    /// When it may be probed.
    until: MonotonicMillis,
    pause: Duration,
    probed: bool,
}

impl Breaker {
    pub(crate) fn state(&self) -> BreakerState {
        match self.open {
            None => BreakerState::Closed,
            Some(Open { probed: true, .. }) => BreakerState::HalfOpen,
            Some(Open { probed: false, .. }) => BreakerState::Open,
        }
    }

    /// How many failures in a row there were.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// How long it is until the provider may be probed; `None`: there is nothing to probe.
    pub(crate) fn rest(&self, now: MonotonicMillis) -> Option<Duration> {
        self.open.map(|open| open.until.since(now))
    }

    /// Whether the provider is asked when its turn comes.
    pub(crate) fn admits(&self, now: MonotonicMillis) -> bool {
        self.open.is_none_or(|open| open.until <= now)
    }

    /// Lets a message through, where it is to be: an open breaker lets one through as a probe, and no
    /// other for another pause.
    pub(crate) fn admit(&mut self, now: MonotonicMillis) -> bool {
        let admits = self.admits(now);
        if admits && let Some(open) = &mut self.open {
            open.until = now + open.pause;
            open.probed = true;
        }
        admits
    }

    /// Learns how a message has ended, whoever let it through: what was on its way when it opened, and
    /// what had nobody else to go to, says as much as a probe. Returns whether it has opened by that.
    pub(crate) fn learn(
        &mut self,
        verdict: Verdict,
        now: MonotonicMillis,
        terms: BreakerTerms,
    ) -> bool {
        match verdict {
            Verdict::Busy => return false,
            Verdict::Works => {
                *self = Breaker::default();
                return false;
            }
            Verdict::Fails | Verdict::Shut => self.failures = self.failures.saturating_add(1),
        }
        let pause = match self.open {
            // It is known.
            Some(Open { probed: false, .. }) => return false,
            Some(Open { pause, .. }) => pause.saturating_mul(2).min(terms.pause_max),
            None if verdict == Verdict::Shut || self.failures >= terms.failures => {
                terms.pause.min(terms.pause_max)
            }
            None => return false,
        };
        self.open = Some(Open {
            until: now + pause,
            pause,
            probed: false,
        });
        true
    }
}

#[cfg(test)]
mod tests;
