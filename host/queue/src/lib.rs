//! Durable jobs: what waits to be sent, who works on it, and what became of it.
//!
//! A job is a row, written in the same commit as whatever caused it, so it exists exactly if its
//! cause does. The queue keeps the order of the rows in memory: names, due times and priorities.
//! Claiming writes nothing: on the embedded store one process owns all jobs, and a start voids every
//! claim. The version of the claimed row is the fencing token: whoever finishes a claim that somebody
//! else has moved on changes nothing.
//!
//! What never lives here: how a message is rendered and which provider gets it.

mod job;
mod queue;

pub use job::{Attempt, ChallengeRef, Job, MessageRow, Outcome, Status, mask};
pub use queue::{Claim, Finish, Full, Queue, Reservation, job_row};
