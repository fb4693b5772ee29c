//! A message that waits, and what was tried with it.

use countersign_types::{ErrorClass, NumberKind, Price, Priority, SendError, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::Destination;

/// How many tries of a message are kept: the first and the newest. The newest alone are as many as a
/// route can have other providers, so that what each of them asked for is still known.
const ATTEMPTS_KEPT: usize = 64;

/// Which code a message carries: all that its digits are derived from, and none of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeRef {
    /// The challenge's random id.
    pub id: [u8; 16],
    /// The host key that the digits are derived under.
    pub key_id: u32,
    /// The namespace that the challenge belongs to.
    pub service: String,
    /// What the code is good for.
    pub purpose: String,
    /// Whom it is for.
    pub subject: String,
    /// How many digits it has, 6 to 10.
    pub digits: u8,
    /// When it ends.
    pub expires: UnixMillis,
}

/// A message that waits to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// How it is to be carried: `sms`.
    pub channel: String,
    /// The receiver.
    pub to: String,
    /// ISO 3166-1 alpha-2 of the receiver.
    pub country: String,
    /// What kind of line the receiver's is, as far as its digits tell.
    pub line: NumberKind,
    /// The template's name.
    pub template: String,
    /// The text with its placeholders.
    pub text: String,
    /// What fills them, apart from the code.
    pub variables: Vec<(String, String)>,
    /// BCP 47.
    pub locale: Option<String>,
    /// The namespace of settings and limits that it belongs to.
    pub service: String,
    /// What it is for.
    pub purpose: String,
    /// Who asked for it: the id of an API key, or [`ANONYMOUS`]. Callers take turns.
    pub caller: String,
    /// The code that it carries.
    pub challenge: Option<ChallengeRef>,
    /// When it was accepted.
    pub accepted: UnixMillis,
    /// Not to be tried before.
    pub due: UnixMillis,
    /// Not to be tried at or after.
    pub deadline: UnixMillis,
    /// Who goes first.
    pub priority: Priority,
    /// What was tried so far, replays included.
    pub attempts: Vec<Attempt>,
    /// What was counted since it was accepted or replayed.
    pub counts: Counts,
}

/// The caller of a message that nobody's key was given for.
pub const ANONYMOUS: &str = "anonymous";

/// What backoff, turns and the bound of unknown outcomes go by. A replay begins anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// When the message was replayed; `None`: it never was.
    pub replayed: Option<UnixMillis>,
    /// How many tries there were.
    pub tried: u32,
    /// How many of them ended without anybody knowing whether the provider has the message.
    pub unknown: u32,
    /// When it could go for the first time, once a failed try has put that off.
    pub due_first: Option<UnixMillis>,
}

/// One try to hand a message to a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    pub at: UnixMillis,
    /// When it ended; for one that has only begun, when it began.
    pub ended: UnixMillis,
    /// The provider's configured name.
    pub provider: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a try ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It has begun; what became of it is not known yet. Written beforehand for messages that must
    /// not go out twice.
    Started,
    /// The provider took the message.
    Accepted {
        /// The provider's ids.
        ids: Vec<String>,
        /// Number of SMS segments, where known.
        segments: Option<u32>,
        /// The price, where known.
        price: Option<Price>,
    },
    /// It did not, or may not have.
    Failed(SendError),
}

impl Outcome {
    /// The class of a failure, as a word for events; `none` for whatever is no failure.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Outcome::Failed(error) => error.class.word(),
            Outcome::Started | Outcome::Accepted { .. } => "none",
        }
    }
}

impl Attempt {
    /// Until when the provider has asked not to be tried again. A try that ended after `now` was
    /// before the clock was set back: what it asked for counts from `now` on.
    pub fn asked_until(&self, now: UnixMillis) -> UnixMillis {
        match &self.outcome {
            Outcome::Failed(error) => {
                let wait = error.retry_after_ms.unwrap_or(0);
                UnixMillis(self.ended.min(now).0.saturating_add(wait))
            }
            Outcome::Started | Outcome::Accepted { .. } => UnixMillis(0),
        }
    }
}

impl Job {
    /// What its route is found by.
    pub fn destination(&self) -> Destination<'_> {
        Destination {
            country: &self.country,
            line: self.line,
            priority: self.priority,
        }
    }

    /// Since when it has been waiting: its acceptance or its last replay.
    pub fn since(&self) -> UnixMillis {
        self.counts.replayed.unwrap_or(self.accepted)
    }

    /// The newest tries since it was accepted or replayed, at most 63: of more the first one that is
    /// kept may be one from before the replay.
    pub fn round(&self) -> &[Attempt] {
        let since = (self.counts.tried as usize).min(ATTEMPTS_KEPT - 1);
        &self.attempts[self.attempts.len().saturating_sub(since)..]
    }

    /// Whether its last try has begun and nothing is known of its end.
    pub fn is_started(&self) -> bool {
        let last = self.round().last();
        last.is_some_and(|last| last.outcome == Outcome::Started)
    }

    /// Adds a try, in place of the one that had only begun.
    pub(crate) fn record(&mut self, attempt: Attempt) {
        if self.is_started() {
            self.attempts.pop();
        } else {
            self.counts.tried += 1;
        }
        let unknown = matches!(
            &attempt.outcome,
            Outcome::Failed(error) if error.class == ErrorClass::UnknownOutcome
        );
        self.counts.unknown += u32::from(unknown);
        if self.attempts.len() >= ATTEMPTS_KEPT {
            // The first one stays: it says how it all began.
            self.attempts.remove(1);
        }
        self.attempts.push(attempt);
    }

    /// Makes a dead message wait again from `now` on, with all that was tried kept and nothing of it
    /// counted. Returns `None` where it carries a code whose time is over.
    pub(crate) fn replayed(mut self, now: UnixMillis) -> Option<Job> {
        let span = self.deadline.since(self.since());
        let end = match &self.challenge {
            Some(challenge) if challenge.expires <= now => return None,
            Some(challenge) => challenge.expires,
            None => UnixMillis(u64::MAX),
        };
        self.deadline = (now + span).min(end);
        self.due = now;
        self.counts = Counts {
            replayed: Some(now),
            ..Counts::default()
        };
        Some(self)
    }
}

/// `+12025550123` as `+1202•••••23`: enough to recognise one's own number, too little to call it.
pub fn mask(number: &str) -> String {
    let length = number.chars().count();
    number
        .chars()
        .enumerate()
        .map(|(at, digit)| {
            if at < 5.min(length / 2) || at + 2 >= length {
                digit
            } else {
                '•'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{NOW, attempt, failed, job};

    #[test]
    fn a_masked_number_cannot_be_called() {
        assert_eq!(mask("+12025550123"), "+1202•••••23");
        assert_eq!(mask("+4915123456789"), "+4915•••••••89");
        assert_eq!(mask(""), "");
    }

    #[test]
    fn of_many_tries_the_first_and_the_newest_are_kept_and_all_are_counted() {
        let mut job = job();
        for n in 0..100 {
            job.record(attempt(n, failed(ErrorClass::UnknownOutcome)));
        }
        assert_eq!(job.attempts.len(), ATTEMPTS_KEPT);
        assert_eq!(job.attempts[0].at, NOW);
        assert_eq!(job.attempts[1].at, NOW + Duration::from_secs(37));
        assert_eq!((job.counts.tried, job.counts.unknown), (100, 100));
        assert_eq!(job.round().len(), ATTEMPTS_KEPT - 1);
    }

    #[test]
    fn no_try_from_before_a_replay_counts_as_one_after_it_however_many_there_are() {
        for tries in [62, 63, 64, 100] {
            let mut job = job();
            job.record(attempt(0, failed(ErrorClass::Throttled)));
            let mut job = job.replayed(NOW + Duration::from_secs(1)).expect("no code");
            for n in 1..=tries {
                job.record(attempt(n, failed(ErrorClass::Retryable)));
            }
            let own = usize::try_from(tries).expect("few").min(ATTEMPTS_KEPT - 1);
            assert_eq!(job.round().len(), own, "{tries}");
            assert!(job.round().iter().all(|try_| try_.at > NOW), "{tries}");
            assert_eq!(job.attempts[0].at, NOW, "the first one is kept");
        }
    }

    #[test]
    fn a_replay_counts_anew_for_as_long_as_the_first_time() {
        let mut job = job();
        job.record(attempt(0, failed(ErrorClass::UnknownOutcome)));
        let span = job.deadline.since(job.accepted);
        let later = NOW + Duration::from_secs(86_400);
        for now in [later, later + span] {
            job = job.replayed(now).expect("no code in it");
            assert_eq!((job.due, job.deadline), (now, now + span));
            assert_eq!((job.counts.tried, job.counts.unknown), (0, 0));
            assert!(job.round().is_empty() && job.attempts.len() == 1);
        }
    }

    #[test]
    fn a_replay_ends_with_its_code_at_the_latest() {
        let mut job = job();
        let expires = NOW + Duration::from_secs(60);
        job.challenge = Some(ChallengeRef {
            id: [1; 16],
            key_id: 1,
            service: "default".into(),
            purpose: "verification".into(),
            subject: "s".into(),
            digits: 6,
            expires,
        });
        let last = UnixMillis(expires.0 - 1);
        assert_eq!(
            job.clone().replayed(last).expect("in time").deadline,
            expires
        );
        assert_eq!(job.replayed(expires), None);
    }
}
