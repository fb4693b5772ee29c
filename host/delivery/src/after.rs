//! What follows from a provider's refusal.

use std::sync::Arc;
use std::time::Duration;

use countersign_queue::Job;
use countersign_types::{ErrorClass, SendError, Status, UnixMillis};

use crate::retry_delay;

/// How often a code's message goes to a provider at most when nobody knows what became of it: no
/// provider here is idempotent, so each may be a second message.
const UNKNOWN_OUTCOMES_MAX: u32 = 3;

/// What is to be done after a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Again(UnixMillis),
    Over(Status),
}

/// A failed try and all that decides what follows from it.
pub(crate) struct Failure<'a> {
    /// The message as it was before this try, so without the note that it began.
    pub(crate) job: &'a Job,
    /// The providers of its route.
    pub(crate) route: &'a [Arc<str>],
    /// The one whose turn is next.
    pub(crate) next: Option<&'a str>,
    pub(crate) error: &'a SendError,
    pub(crate) now: UnixMillis,
    /// A random share in `[0, 1)`.
    pub(crate) jitter: f64,
    pub(crate) backoff_base: Duration,
    pub(crate) backoff_max: Duration,
}

impl Failure<'_> {
    /// What follows.
    ///
    /// `retryable`, `throttled` and `auth` go to the next provider at once. When all have been asked
    /// it is tried again after a backoff with full jitter, not before the time that any of them asked
    /// for, unless only the one whose turn it is can still be waited for. `permanent` and `blocked`
    /// end the message, unless this holds for this provider alone and another has not been asked yet.
    /// `unknown-outcome` is repeated for codes only.
    pub(crate) fn next(&self) -> Next {
        match self.error.class {
            ErrorClass::Permanent | ErrorClass::Blocked
                if self.error.failover && self.has_another() =>
            {
                self.another().unwrap_or(Next::Over(Status::Failed))
            }
            ErrorClass::Permanent | ErrorClass::Blocked => Next::Over(Status::Failed),
            ErrorClass::UnknownOutcome => self.after_unknown(),
            ErrorClass::Retryable | ErrorClass::Throttled | ErrorClass::Auth => {
                let next = if self.has_another() {
                    self.another()
                } else {
                    self.after_all()
                };
                next.unwrap_or(Next::Over(Status::Expired))
            }
        }
    }

    fn tried(&self) -> u32 {
        self.job.counts.tried.saturating_add(1)
    }

    /// Whether somebody in this pass over the route has not been asked yet.
    fn has_another(&self) -> bool {
        !(self.tried() as usize).is_multiple_of(self.route.len().max(1))
    }

    /// At `due`, if that is in time.
    fn at(&self, due: UnixMillis) -> Option<Next> {
        (due < self.job.deadline).then_some(Next::Again(due))
    }

    fn another(&self) -> Option<Next> {
        self.at(self.now.max(self.next_asks()))
    }

    fn after_all(&self) -> Option<Next> {
        let delay = retry_delay(
            self.tried(),
            self.jitter,
            self.backoff_base,
            self.backoff_max,
            self.job.deadline.since(self.now),
        )?;
        let due = self.now + delay;
        let all = self.at(due.max(self.all_ask()));
        all.or_else(|| self.at(due.max(self.next_asks())))
    }

    fn after_unknown(&self) -> Next {
        let unknown = self.job.counts.unknown + 1;
        if self.job.challenge.is_none() || unknown >= UNKNOWN_OUTCOMES_MAX {
            return Next::Over(Status::Unknown);
        }
        // After about 1 s and 2 s, without waiting for a receipt: somebody waits for a code.
        let delay = Duration::from_secs(unknown.into()).mul_f64(0.8 + 0.4 * self.jitter);
        let due = (self.now + delay).max(self.next_asks());
        self.at(due).unwrap_or(Next::Over(Status::Unknown))
    }

    /// Until when this provider asks not to be tried again.
    fn this_asks(&self) -> UnixMillis {
        UnixMillis(
            self.now
                .0
                .saturating_add(self.error.retry_after_ms.unwrap_or(0)),
        )
    }

    /// Until when anybody asked in this pass over the route.
    fn all_ask(&self) -> UnixMillis {
        let others = self
            .job
            .round()
            .iter()
            .rev()
            .take(self.route.len().saturating_sub(1));
        let asked = others.map(|attempt| attempt.asked_until(self.now));
        asked.fold(self.this_asks(), UnixMillis::max)
    }

    /// Until when the provider whose turn is next has asked not to be tried.
    fn next_asks(&self) -> UnixMillis {
        if self.route.len() <= 1 {
            return self.this_asks();
        }
        let mut tries = self.job.round().iter().rev();
        let last = tries.find(|attempt| Some(attempt.provider.as_str()) == self.next);
        last.map_or(UnixMillis(0), |attempt| attempt.asked_until(self.now))
    }
}

#[cfg(test)]
mod tests;
