//! Durable jobs: what waits to be sent, who works on it, and what became of it.
//!
//! A job is a row, written in the same commit as whatever caused it, so it exists exactly if its
//! cause does. The queue keeps the order of the rows in memory: names, due times, priorities and
//! callers.
//!
//! - `shares.rs` bounds how many wait, and whose; `order.rs` decides who goes next; `drain.rs` whether
//!   that could be too late.
//! - `claims.rs` lets somebody work on a job, and ends that. A start voids every claim.
//! - `message.rs` is what remains of a message, `receipts.rs` what providers tell of it, `follow.rs`
//!   finds those of which something is still to be learnt, `dead.rs` keeps what nobody could take.
//! - `search.rs` finds messages by time and by number, `numbers.rs` says under which number each lies,
//!   `erase.rs` removes all that is kept of a number.
//! - `events.rs` is what the log of events tells of all that.
//! - `rows.rs` says where rows lie and how they are sealed, `reading.rs` passes by what cannot be read.
//!
//! What never lives here: how a message is rendered and which provider gets it.

mod claims;
mod dead;
mod drain;
mod erase;
mod events;
mod follow;
mod job;
mod lanes;
mod message;
mod numbers;
mod order;
mod queue;
mod reading;
mod receipts;
mod rows;
mod search;
mod shares;
mod standing;
mod stops;
#[cfg(test)]
mod testing;

pub use claims::{Claim, Finish, Gate, Open, Taken};
pub use dead::{DEAD_PAGE_MAX, DeadPage, Replay, ReplayError};
pub use erase::Erased;
pub use events::accepted_event;
pub use follow::{Cursor, FOLLOW_SENT_WITHIN, FollowPage, Followed, Line};
pub use job::{ANONYMOUS, Attempt, ChallengeRef, Counts, Job, Outcome, mask};
pub use lanes::{Destination, Lanes};
pub use message::{MessageRow, MessageView, Part, Receipt, Sent};
pub use order::Lease;
pub use queue::{AcceptError, Overview, Queue, QueueConfig, Reservation, TurnedAway, job_row};
pub use receipts::{ReceiveError, Received, UPDATES_MAX};
pub use search::{SEARCH_PAGE_MAX, Search, SearchPage};
pub use standing::{StandingCursor, StandingPage};
pub use stops::{Stop, Stops};
