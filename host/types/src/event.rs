//! Facts for reports and for the audit trail.

use serde::{Deserialize, Serialize};

use crate::{MessageId, UnixMillis};

/// One fact, as it lies in the log of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `noun.verb`, for example `message.sent`.
    pub kind: String,
    /// The instant of the call or the delivery that caused it.
    pub at: UnixMillis,
    /// The namespace of settings and limits that it happened in.
    pub service: String,
    /// Who says so: a component, or `host`.
    pub source: String,
    /// The message it is about.
    pub message: Option<MessageId>,
    /// ISO 3166-1 alpha-2 code of the number's country.
    pub country: Option<String>,
    /// Further facts. Never a code, a number or other personal data.
    pub attributes: Vec<(String, String)>,
}
