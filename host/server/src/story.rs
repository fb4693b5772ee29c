//! A message as people and applications are told of it: its life, without its text, and with a masked
//! number. Times are RFC 3339 in UTC.

use countersign_queue::{Attempt, MessageView, Outcome, Receipt};
use countersign_types::{SendError, UnixMillis};
use serde::{Deserialize, Serialize};

/// One message.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Story {
    pub(crate) id: String,
    pub(crate) status: String,
    /// Masked.
    pub(crate) to: String,
    pub(crate) country: String,
    pub(crate) template: String,
    pub(crate) purpose: String,
    pub(crate) priority: String,
    pub(crate) caller: String,
    pub(crate) accepted_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replayed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sent_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ended_at: Option<String>,
    /// Why the server gave it up by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
    /// As the provider says, or as the server counts until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) segments: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) price: Option<Price>,
    pub(crate) attempts: Vec<Try>,
    pub(crate) receipts: Vec<News>,
}

/// Decimal text and ISO 4217.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Price {
    pub(crate) amount: String,
    pub(crate) currency: String,
}

/// One try to hand a message to a provider.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Try {
    pub(crate) at: String,
    pub(crate) provider: String,
    /// `started`, `accepted` or `failed`.
    pub(crate) outcome: String,
    #[serde(flatten)]
    pub(crate) error: Option<Trouble>,
}

/// Why something failed. Numbers and codes have been taken out of the text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trouble {
    pub(crate) class: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider_code: Option<String>,
    pub(crate) reason: String,
}

/// A receipt that was news.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct News {
    pub(crate) at: String,
    pub(crate) status: String,
    #[serde(flatten)]
    pub(crate) error: Option<Trouble>,
}

impl From<MessageView> for Story {
    fn from(view: MessageView) -> Story {
        let text = |time: UnixMillis| time.to_string();
        let row = view.row;
        let sent_at = row.sent.is_some().then_some(row.left);
        let (provider, segments, price, receipts) = match row.sent {
            Some(sent) => {
                let segments = sent.segments();
                (Some(sent.provider), segments, sent.price, sent.receipts)
            }
            None => (None, None, None, Vec::new()),
        };
        Story {
            id: view.id.to_string(),
            status: row.status.word().to_owned(),
            to: row.to,
            country: row.country,
            template: row.template,
            purpose: row.purpose,
            priority: row.priority.word().to_owned(),
            caller: row.caller,
            accepted_at: text(row.accepted),
            replayed_at: row.replayed.map(text),
            // Only where it was asked for, or a provider's trouble makes it wait.
            not_before: view.due.filter(|due| *due > row.accepted).map(text),
            deadline: view.deadline.map(text),
            sent_at: sent_at.map(text),
            ended_at: row.ended.map(text),
            reason: row.reason,
            provider,
            segments,
            price: price.map(|price| Price {
                amount: price.amount,
                currency: price.currency,
            }),
            attempts: row.attempts.into_iter().map(Try::from).collect(),
            receipts: receipts.into_iter().map(News::from).collect(),
        }
    }
}

impl From<Attempt> for Try {
    fn from(attempt: Attempt) -> Try {
        let (outcome, error) = match attempt.outcome {
            Outcome::Started => ("started", None),
            Outcome::Accepted { .. } => ("accepted", None),
            Outcome::Failed(error) => ("failed", Some(error.into())),
        };
        Try {
            at: attempt.at.to_string(),
            provider: attempt.provider,
            outcome: outcome.to_owned(),
            error,
        }
    }
}

impl From<Receipt> for News {
    fn from(receipt: Receipt) -> News {
        News {
            at: receipt.at.to_string(),
            status: receipt.status.word().to_owned(),
            error: receipt.error.map(Trouble::from),
        }
    }
}

impl From<SendError> for Trouble {
    fn from(error: SendError) -> Trouble {
        Trouble {
            class: error.class.word().to_owned(),
            provider_code: error.provider_code,
            reason: error.text,
        }
    }
}
