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

/// An [`Event`] as it is read out of its bytes, without a copy of its texts. Its fields are those of
/// [`Event`], in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "those of `Event`")]
pub struct EventView<'a> {
    pub kind: &'a str,
    pub at: UnixMillis,
    pub service: &'a str,
    pub source: &'a str,
    pub message: Option<MessageId>,
    pub country: Option<&'a str>,
    #[serde(borrow)]
    pub attributes: Vec<(&'a str, &'a str)>,
}

impl EventView<'_> {
    /// The attribute `name`.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let mut found = self.attributes.iter().filter(|(is, _)| *is == name);
        found.next().map(|(_, value)| *value)
    }
}
