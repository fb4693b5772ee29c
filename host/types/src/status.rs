//! What becomes of a message after a provider has taken it, and how providers tell.

use serde::{Deserialize, Serialize};

use crate::{Price, SendError, UnixMillis};

/// Where a message is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// It waits, or is being tried.
    Queued,
    /// A provider took it.
    Sent,
    /// The receiver has it.
    Delivered,
    /// The network or the handset did not take it.
    Undelivered,
    /// No provider could take it, or it never left the one that did.
    Failed,
    /// Its time was over before a provider took it.
    Expired,
    /// A provider may have taken it and it is not tried again, or the receipt that was asked for
    /// never came.
    Unknown,
    /// The receiver has read it; counts as delivered.
    Read,
}

impl Status {
    /// The word for logs, events and answers.
    pub fn word(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Sent => "sent",
            Status::Delivered => "delivered",
            Status::Undelivered => "undelivered",
            Status::Failed => "failed",
            Status::Expired => "expired",
            Status::Unknown => "unknown",
            Status::Read => "read",
        }
    }

    /// How much a receipt with this status knows: news counts only where its rank is higher, so that
    /// receipts may come late, twice and in any order.
    ///
    /// queued < sent < unknown < undelivered < failed < delivered < read. That it arrived outranks
    /// whatever was feared before, since operators report late and change their minds; the other way
    /// it never goes. `Expired` is not a provider's word and ranks with `Unknown`.
    pub const fn rank(self) -> u8 {
        match self {
            Status::Queued => 0,
            Status::Sent => 1,
            Status::Unknown | Status::Expired => 2,
            Status::Undelivered => 3,
            Status::Failed => 4,
            Status::Delivered => 5,
            Status::Read => 6,
        }
    }

    /// Whether nothing more is expected, though better news is still taken.
    pub fn is_final(self) -> bool {
        !matches!(self, Status::Queued | Status::Sent)
    }
}

/// What a number wants of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// No more messages.
    Stop,
    /// Messages again.
    Start,
}

/// What somebody has answered to a provider's sender, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Who has: E.164.
    pub phone: String,
    /// What they want.
    pub wish: Wish,
    /// The provider's own id of the answer, where it has one.
    pub id: Option<String>,
    /// When it was written, where the provider says so.
    pub at: Option<UnixMillis>,
}

/// What a company wants to read as the answer to its callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// One of [`Answer::MEDIA_TYPES`].
    pub media_type: &'static str,
    /// At most [`Answer::BODY_BYTES_MAX`].
    pub body: Vec<u8>,
}

impl Answer {
    /// None of them is a page in a browser.
    pub const MEDIA_TYPES: [&str; 4] = [
        "text/plain",
        "text/xml",
        "application/xml",
        "application/json",
    ];
    /// As the WIT bounds it.
    pub const BODY_BYTES_MAX: usize = 4 * 1024;
}

/// What a provider tells of its own accord.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Of messages that it has taken.
    pub updates: Vec<StatusUpdate>,
    /// Of people who have answered.
    pub replies: Vec<Reply>,
    /// `None`: nothing.
    pub answer: Option<Answer>,
}

/// News of a message, as a provider tells them: in a callback, or because it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusUpdate {
    /// The provider's own id of the message or of one part of it.
    pub id: String,
    /// How far it has come.
    pub status: Status,
    /// Why it was not delivered: for reports, and never a reason to send again.
    pub error: Option<SendError>,
    /// When it happened, where the provider says so.
    pub at: Option<UnixMillis>,
    /// What it costs, where the provider says so here.
    pub price: Option<Price>,
    /// Number of SMS segments, where the provider says so here.
    pub segments: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_arrived_outranks_every_doubt_and_never_the_other_way() {
        let order = [
            Status::Queued,
            Status::Sent,
            Status::Unknown,
            Status::Undelivered,
            Status::Failed,
            Status::Delivered,
            Status::Read,
        ];
        assert!(order.windows(2).all(|pair| pair[0].rank() < pair[1].rank()));
        assert!(!Status::Sent.is_final() && Status::Unknown.is_final());
    }
}
