//! A message after its last try: what its receipts have said, and what can be told of any message.

use countersign_types::{
    Accepted, MessageId, Price, Priority, SendError, Status, StatusUpdate, UnixMillis,
};
use serde::{Deserialize, Serialize};

use crate::{Attempt, Job, mask};

/// How many receipts of a message are kept, the newest.
const RECEIPTS_KEPT: usize = 16;

/// What is kept of a message that is over: no text, and only a masked number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRow {
    /// How it ended, as far as is known.
    pub status: Status,
    /// When it was accepted.
    pub accepted: UnixMillis,
    /// When it could go for the first time since it was accepted or replayed.
    pub due: UnixMillis,
    /// When it left the queue: sent, expired or given up.
    pub left: UnixMillis,
    /// When it was replayed last.
    pub replayed: Option<UnixMillis>,
    /// When its status became final.
    pub ended: Option<UnixMillis>,
    /// When the receiver had it, read or not.
    pub arrived: Option<UnixMillis>,
    /// Why the host gave it up by itself, where no provider's answer says it: for the operator, free of
    /// codes and numbers.
    pub reason: Option<String>,
    /// How it was carried.
    pub channel: String,
    /// The receiver, masked.
    pub to: String,
    /// The keyed hash of the receiver's number, under which that rests (`numbers.rs`); empty where it
    /// does not.
    pub number: String,
    /// ISO 3166-1 alpha-2 of the receiver.
    pub country: String,
    /// The template's name.
    pub template: String,
    /// The namespace it belonged to.
    pub service: String,
    /// What it was for.
    pub purpose: String,
    /// Whether it carried a code.
    pub code: bool,
    /// Who asked for it.
    pub caller: String,
    /// Who went first.
    pub priority: Priority,
    /// All that was tried.
    pub attempts: Vec<Attempt>,
    /// What the provider that took it has said.
    pub sent: Option<Sent>,
}

/// A message that a provider took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The provider's configured name.
    pub provider: String,
    /// Each of the provider's ids; a provider with an id for each part of a long text has several.
    pub parts: Vec<Part>,
    /// Number of SMS segments, where the provider has said it: what counts then.
    pub told_segments: Option<u32>,
    /// Number of SMS that its text takes as we count; `None` for what is no SMS.
    pub counted: Option<u32>,
    /// What it costs, where known.
    pub price: Option<Price>,
    /// Whether the provider was asked for receipts.
    pub receipt_asked: bool,
    /// What has come since.
    pub receipts: Vec<Receipt>,
}

/// How far the part of a message has come that a provider's id stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The provider's id.
    pub id: String,
    /// By its receipts.
    pub status: Status,
    /// When that happened.
    pub at: UnixMillis,
}

/// A receipt that was news.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The provider's id that it was about.
    pub id: String,
    /// What it said.
    pub status: Status,
    /// When it happened, as the provider says, or when it was told.
    pub at: UnixMillis,
    /// Why it was not delivered.
    pub error: Option<SendError>,
}

impl Job {
    /// What remains of it when it is over.
    pub(crate) fn into_message(self, status: Status, now: UnixMillis) -> MessageRow {
        MessageRow {
            status,
            accepted: self.accepted,
            due: self.due_first(),
            left: now,
            replayed: self.counts.replayed,
            ended: status.is_final().then_some(now),
            arrived: None,
            reason: None,
            channel: self.channel,
            to: mask(&self.to),
            number: String::new(),
            country: self.country,
            template: self.template,
            service: self.service,
            purpose: self.purpose,
            code: self.challenge.is_some(),
            caller: self.caller,
            priority: self.priority,
            attempts: self.attempts,
            sent: None,
        }
    }
}

impl Sent {
    pub(crate) fn new(
        provider: String,
        accepted: Accepted,
        receipt_asked: bool,
        now: UnixMillis,
    ) -> Sent {
        let mut parts: Vec<Part> = Vec::new();
        for id in accepted.ids {
            if !parts.iter().any(|part| part.id == id) {
                parts.push(Part {
                    id,
                    status: Status::Sent,
                    at: now,
                });
            }
        }
        Sent {
            provider,
            parts,
            told_segments: accepted.segments,
            counted: None,
            price: accepted.price,
            receipt_asked,
            receipts: Vec::new(),
        }
    }

    /// Number of SMS segments, where known: a provider may replace letters that make a text longer, so
    /// what it says counts before what we do.
    pub fn segments(&self) -> Option<u32> {
        self.told_segments.or(self.counted)
    }

    /// The status of the whole: that of the part that has come least far, so that a message is
    /// delivered when all its parts are. Each part only climbs, so the whole does.
    fn status(&self) -> Status {
        let parts = self.parts.iter().map(|part| part.status);
        parts
            .min_by_key(|status| status.rank())
            .unwrap_or(Status::Sent)
    }
}

impl MessageRow {
    /// Takes news of one part; whether it has changed anything. News that are not better than what is
    /// known change nothing but the price, which may come late.
    pub(crate) fn update(&mut self, update: &StatusUpdate, now: UnixMillis) -> bool {
        let Some(sent) = &mut self.sent else {
            return false;
        };
        let Some(part) = sent.parts.iter_mut().find(|part| part.id == update.id) else {
            return false;
        };
        // A provider's clock may be wrong; nothing has happened that is still to come.
        let at = update.at.unwrap_or(now).min(now);
        let news = update.status.rank() > part.status.rank();
        if news {
            part.status = update.status;
            part.at = at;
            if sent.receipts.len() >= RECEIPTS_KEPT {
                sent.receipts.remove(0);
            }
            sent.receipts.push(Receipt {
                id: update.id.clone(),
                status: update.status,
                at,
                error: update.error.clone(),
            });
        }
        // Of two prices the first stays, and of two numbers of segments the larger one, so that here
        // too the end does not depend on the order.
        let mut price = false;
        if sent.price.is_none() && update.price.is_some() {
            sent.price.clone_from(&update.price);
            price = true;
        }
        if update.segments > sent.told_segments {
            sent.told_segments = update.segments;
            price = true;
        }
        if news {
            self.settle(at);
        }
        news || price
    }

    /// Lets the status follow the parts.
    fn settle(&mut self, at: UnixMillis) {
        let Some(sent) = &self.sent else { return };
        let status = sent.status();
        if status.rank() > self.status.rank() {
            self.status = status;
            self.ended = status.is_final().then_some(at);
            if matches!(status, Status::Delivered | Status::Read) {
                self.arrived.get_or_insert(at);
            }
        }
    }

    /// Ends the wait for receipts that were asked for and have not come; whether there was one.
    pub(crate) fn end_wait(&mut self, now: UnixMillis) -> bool {
        let Some(sent) = self.sent.as_mut().filter(|sent| sent.receipt_asked) else {
            return false;
        };
        if self.status.is_final() {
            return false;
        }
        let silent = sent.parts.iter_mut().filter(|part| !part.status.is_final());
        for part in silent {
            part.status = Status::Unknown;
            part.at = now;
        }
        // Where the provider gave no id there is no part that could say it.
        self.status = sent.status();
        if !self.status.is_final() {
            self.status = Status::Unknown;
        }
        self.ended = Some(now);
        true
    }
}

/// One message's story, whatever has become of it: without its text, and with a masked number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageView {
    /// Its id.
    pub id: MessageId,
    /// What is, or would now be, kept of it.
    pub row: MessageRow,
    /// Not tried before; while it waits.
    pub due: Option<UnixMillis>,
    /// Not tried at or after; while it waits.
    pub deadline: Option<UnixMillis>,
}

impl MessageView {
    /// A message that waits.
    pub(crate) fn waiting(id: MessageId, job: Job) -> MessageView {
        let (due, deadline) = (job.due, job.deadline);
        MessageView {
            due: Some(due),
            deadline: Some(deadline),
            // It has not left the queue; nobody looks at when before it has.
            ..MessageView::over(id, job.into_message(Status::Queued, UnixMillis(0)))
        }
    }

    /// A message that is over.
    pub(crate) fn over(id: MessageId, row: MessageRow) -> MessageView {
        MessageView {
            id,
            row,
            due: None,
            deadline: None,
        }
    }
}
