//! What rests on disk of a message, before and after it was sent.

use countersign_types::{ErrorClass, MessageId, Price, Priority, SendError, UnixMillis};
use serde::{Deserialize, Serialize};

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
    /// What was tried so far.
    pub attempts: Vec<Attempt>,
}

/// One try to hand a message to a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    pub at: UnixMillis,
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

/// Where a message is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It waits, or is being tried.
    Queued,
    /// A provider took it.
    Sent,
    /// No provider could take it.
    Failed,
    /// Its time was over before one did.
    Expired,
    /// A provider may have taken it, and it is not tried again.
    Unknown,
}

impl Status {
    /// The word for logs, events and answers.
    pub fn word(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Sent => "sent",
            Status::Failed => "failed",
            Status::Expired => "expired",
            Status::Unknown => "unknown",
        }
    }
}

/// What is kept of a message that is over: no text, and only a masked number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRow {
    /// How it ended.
    pub status: Status,
    /// When it was accepted.
    pub accepted: UnixMillis,
    /// When it was over.
    pub ended: UnixMillis,
    /// How it was carried.
    pub channel: String,
    /// The receiver, masked.
    pub to: String,
    /// ISO 3166-1 alpha-2 of the receiver.
    pub country: String,
    /// The template's name.
    pub template: String,
    /// The namespace it belonged to.
    pub service: String,
    /// What it was for.
    pub purpose: String,
    /// All that was tried.
    pub attempts: Vec<Attempt>,
}

impl Job {
    /// What remains of it when it is over.
    pub fn into_message(self, status: Status, ended: UnixMillis) -> MessageRow {
        MessageRow {
            status,
            accepted: self.accepted,
            ended,
            channel: self.channel,
            to: mask(&self.to),
            country: self.country,
            template: self.template,
            service: self.service,
            purpose: self.purpose,
            attempts: self.attempts,
        }
    }

    /// How many tries ended without anybody knowing whether the provider has the message.
    pub fn unknown_outcomes(&self) -> usize {
        let unknown = |attempt: &&Attempt| match &attempt.outcome {
            Outcome::Started => true,
            Outcome::Failed(error) => error.class == ErrorClass::UnknownOutcome,
            Outcome::Accepted { .. } => false,
        };
        self.attempts.iter().filter(unknown).count()
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

/// Row keys of the host's own rows.
pub(crate) fn key(prefix: &[u8], id: MessageId) -> Vec<u8> {
    [prefix, &id.0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_number_cannot_be_called() {
        assert_eq!(mask("+12025550123"), "+1202•••••23");
        assert_eq!(mask("+4915123456789"), "+4915•••••••89");
        assert_eq!(mask(""), "");
    }
}
