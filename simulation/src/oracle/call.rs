//! Calls: what clients and providers want, and what they were told.

use std::sync::Arc;

use countersign_types::{MessageId, StatusUpdate, UnixMillis};
use serde::{Deserialize, Serialize};

tokio::task_local! {
    /// The call that the present task makes.
    pub(crate) static CALL: Arc<Call>;
}

/// A call of a client.
#[derive(Debug)]
pub(crate) struct Call {
    /// Counts from 1, over all lives.
    pub(crate) id: u32,
    pub(crate) op: Op,
    /// Its client's key for it, where it must not be done twice.
    pub(crate) key: Option<u32>,
    /// What the clock showed when it began, and how often it had been set back.
    pub(crate) began: UnixMillis,
    pub(crate) set_backs: usize,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// A code for a phone and purpose.
    Send {
        about: (usize, usize),
        address: Option<usize>,
    },
    /// To have a code checked.
    Verify { about: (usize, usize), code: String },
    /// The same through a component that fails afterwards.
    VerifyAndFail { phone: usize, code: String },
    /// A message without a code.
    Notice { phone: usize, deadline: UnixMillis },
    /// To have a dead message sent once more.
    Replay { message: MessageId },
    /// Something about a user and their factors.
    Factor { user: usize, ask: Ask },
    /// A provider tells what became of messages.
    Receipt {
        provider: &'static str,
        updates: Vec<StatusUpdate>,
    },
}

/// What is asked for a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// A code to a phone that is to become theirs.
    Enable { phone: usize, proof: Option<Proof> },
    /// That phone, by its code.
    Verify { code: String },
    /// A secret for an app.
    EnrolApp { proof: Option<Proof> },
    /// That app, by its first code.
    VerifyApp { code: String },
    /// A code for a login.
    SendLogin,
    /// A login.
    LogIn { code: String },
    /// Other backup codes.
    NewCodes { proof: Option<Proof> },
    /// Support takes all factors away.
    Reset,
}

/// That a factor was shown: by the call `id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) id: u32,
    /// To the second.
    pub(crate) made: UnixMillis,
    pub(crate) ends: UnixMillis,
}

/// What whoever called was told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Sent {
        message: MessageId,
        expires: UnixMillis,
    },
    /// The text of the refusal.
    Refused(String),
    Accepted,
    /// The text of the rejection.
    Rejected(String),
    /// It is on its way.
    Noticed(MessageId),
    /// It waits again.
    Replayed,
    /// A factor is active, with these backup codes.
    Enabled(Option<Vec<String>>),
    /// The secret of an app.
    AppPending(Vec<u8>),
    /// New backup codes.
    NewCodes(Vec<String>),
    /// By what.
    LoggedIn(String),
    /// The code of a user was not accepted.
    Missed,
    /// All factors are gone.
    Reset,
    /// What the provider has told is kept.
    Taken,
    /// The component failed, with its reason.
    Failed(String),
    /// It was done before, and the answer is not kept.
    Done,
    /// Its key belongs to another request.
    Reused,
    /// Nothing was decided, or nobody knows: busy, full, in flight, or the store failed.
    Nothing,
}

/// Whether the answers to requests with this key hold a secret.
pub(crate) fn is_secret(key: u32) -> bool {
    key.is_multiple_of(8)
}
