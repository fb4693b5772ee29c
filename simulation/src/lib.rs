//! The product under seeded time, chance, faults and interleavings, against a model.
//!
//! A seed decides everything: what clients want and when, in which order tasks go on, how long a read
//! or a sync takes, what providers answer, where the clock jumps, and at which step the process
//! crashes. All runs on one thread over paused time, so a seed that fails fails again, at the same
//! step.
//!
//! Real are the call loop, the components otp, two-factor and analytics with their instances, the capabilities,
//! transactions, the committer, the keys of requests, the queue, the delivery and the follower. Simulated
//! are the disk and its thread (`disk`, `store`), the clock and chance (`world`), providers (`provider`,
//! `carrier`) and whoever calls (`client`, `users`, `outside`). `oracle` watches the seams and asks
//! `model`, `factors` and `news` what must come out; `count` compares what was counted in the end.

mod carrier;
mod client;
mod count;
mod disk;
mod factors;
mod model;
mod news;
mod oracle;
mod outside;
mod parts;
mod plant;
mod probe;
mod process;
mod provider;
mod seed;
mod store;
mod users;
mod world;

#[cfg(test)]
mod tests;

pub use parts::Parts;
pub use plant::Plant;
pub use seed::{Report, run};

use std::fmt;

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A commit was applied though something that it had read had changed.
    LostUpdate,
    /// A code was accepted, or compared, after it had been used up.
    DoubleUse,
    /// A code was accepted that had ended or was never sent.
    ExpiredCode,
    /// More tries than allowed were compared, or a try was not counted.
    UncountedTry,
    /// More was let through than a limit allows.
    LimitExceeded,
    /// A send was accepted and its message has no job, or never came to an end.
    JobWithoutRow,
    /// A job is there and nothing that made it.
    RowWithoutJob,
    /// A message was handed over at or after its deadline.
    ExpiredSend,
    /// A message went out again that must not.
    SentTwice,
    /// A request that must be done once was done again, or was done and is not remembered.
    DoneTwice,
    /// Less is known of a message than was known before.
    StepBack,
    /// What a provider has told of a message is not known.
    LostReceipt,
    /// A message had more requests of unknown outcome than allowed.
    TooManyRequests,
    /// What was acknowledged is not durable.
    LostAcknowledgement,
    /// The log of events is not what was committed.
    Events,
    /// The figures are not those of the messages.
    Miscounted,
    /// A run had an instant that it must not have.
    WrongInstant,
    /// Another answer than the model's.
    WrongAnswer,
    /// Something never came to its end.
    Stuck,
    /// Something panicked.
    Panic,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Kind::LostUpdate => "lost update",
            Kind::DoubleUse => "double use of a code",
            Kind::ExpiredCode => "use of an ended code",
            Kind::UncountedTry => "uncounted try",
            Kind::LimitExceeded => "exceeded limit",
            Kind::JobWithoutRow => "job without its row",
            Kind::RowWithoutJob => "row without its cause",
            Kind::ExpiredSend => "expired send",
            Kind::SentTwice => "message sent twice",
            Kind::DoneTwice => "request done twice",
            Kind::StepBack => "receipt that steps back",
            Kind::LostReceipt => "lost receipt",
            Kind::TooManyRequests => "too many requests",
            Kind::LostAcknowledgement => "lost acknowledgement",
            Kind::Events => "events out of place",
            Kind::Miscounted => "miscounted message",
            Kind::WrongInstant => "wrong instant",
            Kind::WrongAnswer => "wrong answer",
            Kind::Stuck => "something that never ends",
            Kind::Panic => "panic",
        };
        f.write_str(word)
    }
}

/// What was found, and at which step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise was broken.
    pub kind: Kind,
    /// How, for people.
    pub text: String,
    /// The step of the trace.
    pub step: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {}: {}", self.step, self.kind, self.text)
    }
}
