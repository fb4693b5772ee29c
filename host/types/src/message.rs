//! A message on its way to a provider, and what became of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::MessageId;

/// A telephone number that has been parsed and judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhoneNumber {
    /// ITU-T E.164: `+` and 7 to 15 digits.
    pub e164: String,
    /// ISO 3166-1 alpha-2, or `001` for numbers of no country.
    pub country: String,
    /// What kind of line it is, as far as its digits tell.
    pub kind: NumberKind,
}

/// Kinds of numbers as libphonenumber tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are the industry's own words")]
pub enum NumberKind {
    Mobile,
    FixedLine,
    FixedLineOrMobile,
    TollFree,
    PremiumRate,
    SharedCost,
    Personal,
    Voip,
    Pager,
    Uan,
    Voicemail,
    Unknown,
}

/// Who goes first where not all can go at once; the first is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Priority {
    /// Somebody waits in front of a screen: a login.
    Urgent,
    /// A verification.
    Normal,
    /// Anything that may wait.
    Bulk,
}

/// A message that is ready for a provider: the text contains the code, so it is never stored or
/// logged.
#[derive(Clone)]
pub struct Message {
    /// The same for every attempt at this message.
    pub id: MessageId,
    /// How it is carried: `sms`.
    pub channel: String,
    /// The receiver, for `sms` in E.164.
    pub to: String,
    /// ISO 3166-1 alpha-2 of the receiver.
    pub country: String,
    /// What the receiver reads.
    pub text: String,
    /// The name of the template that `text` was made from.
    pub template: String,
    /// The template's values, without the code.
    pub variables: Vec<(String, String)>,
    /// BCP 47.
    pub locale: Option<String>,
    /// What it is for.
    pub purpose: String,
    /// How much longer it is of use.
    pub validity: Duration,
}

/// A provider took the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The provider's own ids; empty where the provider's component died after a 2xx had arrived.
    pub ids: Vec<String>,
    /// Number of SMS segments, where the provider says so.
    pub segments: Option<u32>,
    /// What it costs, where the provider says so at once.
    pub price: Option<Price>,
}

/// What a message costs the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Decimal, never negative.
    pub amount: String,
    /// ISO 4217.
    pub currency: String,
}

/// Why a provider did not take the message. The class is what the queue acts on; the rest is for
/// people and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendError {
    /// What the queue acts on.
    pub class: ErrorClass,
    /// How long the provider asks to wait.
    pub retry_after_ms: Option<u64>,
    /// The provider's own code.
    pub provider_code: Option<String>,
    /// For the operator; free of codes and numbers.
    pub text: String,
    /// Whether another provider may be able to, though this one never will.
    pub failover: bool,
}

/// Classes of failed sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorClass {
    /// This number or message can never work. No retry.
    Permanent,
    /// Certainly not sent.
    Retryable,
    /// Slow down.
    Throttled,
    /// The operator's account: key, sender, balance.
    Auth,
    /// Opted out, filtered, or not permitted.
    Blocked,
    /// The provider may have it. Resent for one-time codes only.
    UnknownOutcome,
}

impl ErrorClass {
    /// The word for logs, events and metrics, as in the WIT.
    pub fn word(self) -> &'static str {
        match self {
            ErrorClass::Permanent => "permanent",
            ErrorClass::Retryable => "retryable",
            ErrorClass::Throttled => "throttled",
            ErrorClass::Auth => "auth",
            ErrorClass::Blocked => "blocked",
            ErrorClass::UnknownOutcome => "unknown-outcome",
        }
    }
}
