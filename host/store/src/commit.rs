//! What a transaction asks the committer to do.

use countersign_types::UnixMillis;

use crate::{Body, StoreError};

/// Everything that a finished run has read, and what it wants to change. Applied as a whole or not
/// at all.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The instant of the run.
    pub instant: UnixMillis,
    /// Rows that were read.
    pub reads: Vec<Read>,
    /// Intervals that were read.
    pub scans: Vec<ScanRead>,
    /// Rows to write; each key at most once.
    pub writes: Vec<Write>,
    /// Sums to add to.
    pub sums: Vec<SumAdd>,
    /// Shared limits to take from.
    pub takes: Vec<Take>,
    /// Events to append; they get their positions in commit order.
    pub events: Vec<Vec<u8>>,
    /// What it is for.
    pub need: Need,
}

impl Commit {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
            && self.sums.is_empty()
            && self.takes.is_empty()
            && self.events.is_empty()
    }
}

/// What a commit is for, which says until when it is taken on a disk that fills up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Need {
    /// It ends what has begun, counts, gives room back, or is the operator's: always taken. So nothing
    /// may begin without bound whose end is of this kind.
    #[default]
    Finish,
    /// A message is handed over, or a provider tells what became of one: refused with less than a
    /// quarter of the reserve free.
    Deliver,
    /// A call answers or refuses: refused with less than half of the reserve free.
    Call,
    /// It brings work that will need more room: refused with less than the reserve free.
    NewWork,
}

/// One row that was read.
#[derive(Clone, Debug)]
pub struct Read {
    /// Its key.
    pub key: Vec<u8>,
    /// The version seen; `None`: nothing could be seen there.
    pub version: Option<u64>,
    /// From when on something else would have been seen, since part of the row expires.
    pub until: Option<UnixMillis>,
}

/// One interval that was read, `from..to`.
#[derive(Clone, Debug)]
pub struct ScanRead {
    /// First key of it.
    pub from: Vec<u8>,
    /// First key after it.
    pub to: Vec<u8>,
    /// All keys that could be seen, in order.
    pub seen: Vec<Read>,
}

/// A new content for a row.
#[derive(Clone, Debug)]
pub struct Write {
    /// Its key.
    pub key: Vec<u8>,
    /// What it shall hold; `None`: nothing.
    pub body: Option<Body>,
}

/// An addition to a sum.
#[derive(Clone, Debug)]
pub struct SumAdd {
    /// The sum's key.
    pub key: Vec<u8>,
    /// What to add. The sum saturates.
    pub delta: i64,
    /// When the sum goes back to nothing.
    pub expires: Option<UnixMillis>,
}

/// A take from a shared limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Take {
    /// The limit's key.
    pub key: Vec<u8>,
    /// How much.
    pub amount: u64,
    /// How much there is in any window.
    pub max: u64,
    /// Length of the window in milliseconds.
    pub window_ms: u64,
}

/// A commit was applied, or had nothing to apply and was found valid; and all of it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The version of the rows that it wrote; `None` where it wrote nothing.
    pub version: Option<u64>,
    /// The position of its first event.
    pub first_event: Option<u64>,
}

/// Why a commit was not applied. Nothing of it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// Something that the run has read has changed since. Nothing of the run can be believed.
    #[error("the run read what has changed since")]
    Stale,
    /// A shared limit has no room.
    #[error("the limit has no room until {until}")]
    NoRoom {
        /// Which of the commit's takes.
        take: Take,
        /// When there is room.
        until: UnixMillis,
    },
    /// `add` to a row that is no sum.
    #[error("the row `{key}` holds no sum")]
    NotASum {
        /// The row's key.
        key: String,
    },
    /// `take` from a row that is no limit.
    #[error("the row `{key}` holds no limit")]
    NotALimit {
        /// The row's key.
        key: String,
    },
    /// The disk is too full for a commit of this [`Need`]. It is worth another try.
    #[error("the disk is nearly full")]
    Full,
    /// The store failed: whether the commit is durable is unknown until it has been reopened.
    #[error(transparent)]
    Store(#[from] StoreError),
}
