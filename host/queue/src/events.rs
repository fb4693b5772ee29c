//! What the log of events tells of messages: one event for each step of a message's life, in the
//! commit of that step.
//!
//! Each carries what it needs to be counted by, with nothing else at hand: the message's id, which has
//! the instant of its acceptance in it, its country and channel, what its status `was`, and what was
//! known of its price before and after. So a reader can move a message from one figure to another
//! without remembering any message.

use countersign_types::{Event, MessageId, Status, UnixMillis};

use crate::{Attempt, Job, MessageRow, rows};

/// The kind of what is in no log: how a message stands.
const STANDS: &str = "message.stands";

/// Facts that are known of a step, by name.
type Facts = Vec<(String, String)>;

fn add(facts: &mut Facts, name: &str, value: impl ToString) {
    facts.push((name.to_owned(), value.to_string()));
}

/// Where a message stood before something was learnt of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) status: Status,
    /// As how many segments it counts for a price that is not known; `None` where the price is, or
    /// where no provider has taken it.
    unpriced: Option<u32>,
    told_segments: Option<u32>,
    arrived: bool,
}

/// The event of a message's acceptance, ready for the commit that creates its job.
pub fn accepted_event(id: MessageId, job: &Job) -> Vec<u8> {
    let mut facts = job.facts(None);
    add(&mut facts, "template", &job.template);
    add(&mut facts, "purpose", &job.purpose);
    job.told(id, "message.accepted", job.accepted, facts)
}

impl Job {
    fn facts(&self, was: Option<Status>) -> Facts {
        let mut facts = Facts::new();
        add(&mut facts, "channel", &self.channel);
        if self.challenge.is_some() {
            add(&mut facts, "code", "yes");
        }
        if let Some(was) = was {
            add(&mut facts, "was", was.word());
        }
        facts
    }

    fn told(&self, id: MessageId, kind: &str, at: UnixMillis, facts: Facts) -> Vec<u8> {
        told(id, kind, at, &self.service, &self.country, facts)
    }

    /// When it could go for the first time since it was accepted or replayed.
    pub(crate) fn due_first(&self) -> UnixMillis {
        self.counts.due_first.unwrap_or(self.due).max(self.since())
    }

    /// How it stands while it waits: for who counts it anew.
    pub(crate) fn stands(&self, id: MessageId) -> Event {
        let mut facts = self.facts(None);
        add(&mut facts, "is", Status::Queued.word());
        event(
            id,
            STANDS,
            self.accepted,
            &self.service,
            &self.country,
            facts,
        )
    }

    /// A try failed, and there will be another one.
    pub(crate) fn attempt_failed_event(&self, id: MessageId, at: UnixMillis) -> Vec<u8> {
        let mut facts = self.facts(None);
        self.add_last_try(&mut facts);
        self.told(id, "message.attempt-failed", at, facts)
    }

    /// No provider took it, and none is asked any more.
    pub(crate) fn over_event(&self, id: MessageId, status: Status, at: UnixMillis) -> Vec<u8> {
        let mut facts = self.facts(Some(Status::Queued));
        self.add_last_try(&mut facts);
        let kind = format!("message.{}", status.word());
        self.told(id, &kind, at, facts)
    }

    /// A message that `dead` was waits again: with the provider that it had failed with.
    pub(crate) fn replayed_event(dead: &Job, id: MessageId, at: UnixMillis) -> Vec<u8> {
        let mut facts = dead.facts(Some(Status::Failed));
        if let Some(last) = dead.round().last() {
            add(&mut facts, "provider", &last.provider);
        }
        dead.told(id, "message.replayed", at, facts)
    }

    fn add_last_try(&self, facts: &mut Facts) {
        if let Some(last) = self.round().last() {
            add(facts, "provider", &last.provider);
            add(facts, "class", last.outcome.class());
        }
    }
}

impl MessageRow {
    pub(crate) fn standing(&self) -> Standing {
        let sent = self.sent.as_ref();
        let unpriced = sent.filter(|sent| sent.price.is_none());
        Standing {
            status: self.status,
            unpriced: unpriced.map(|sent| sent.segments().unwrap_or(1).max(1)),
            told_segments: sent.and_then(|sent| sent.told_segments),
            arrived: self.arrived.is_some(),
        }
    }

    /// A provider took it; `job` is what it was until then.
    pub(crate) fn sent_event(&self, id: MessageId, job: &Job, at: UnixMillis) -> Vec<u8> {
        let mut facts = job.facts(Some(Status::Queued));
        self.add_sent(&mut facts);
        self.add_queue_time(&mut facts);
        job.told(id, "message.sent", at, facts)
    }

    /// What a provider has told of it since it stood as `was`; `None` where that is no news.
    pub(crate) fn news_event(
        &self,
        id: MessageId,
        was: Standing,
        at: UnixMillis,
    ) -> Option<Vec<u8>> {
        let is = self.standing();
        let kind = match self.status {
            status if status != was.status => format!("message.{}", status.word()),
            _ if is != was => "message.priced".to_owned(),
            _ => return None,
        };
        let mut facts = Facts::new();
        add(&mut facts, "channel", &self.channel);
        add(&mut facts, "was", was.status.word());
        self.add_sent(&mut facts);
        if let Some(segments) = was.unpriced {
            add(&mut facts, "unpriced-was", segments);
        }
        if !was.arrived {
            self.add_delivery_time(&mut facts);
        }
        if self.status != was.status
            && let Some(class) = self.newest_error_class()
        {
            add(&mut facts, "class", class);
        }
        Some(told(id, &kind, at, &self.service, &self.country, facts))
    }

    /// How it stands now, whatever has become of it: for who counts it anew.
    pub(crate) fn stands(&self, id: MessageId) -> Event {
        let mut facts = Facts::new();
        add(&mut facts, "channel", &self.channel);
        if self.code {
            add(&mut facts, "code", "yes");
        }
        add(&mut facts, "is", self.status.word());
        if self.sent.is_some() {
            add(&mut facts, "taken", "yes");
            self.add_sent(&mut facts);
            self.add_queue_time(&mut facts);
            self.add_delivery_time(&mut facts);
        } else if let Some(last) = self.last_try() {
            add(&mut facts, "provider", &last.provider);
        }
        event(id, STANDS, self.left, &self.service, &self.country, facts)
    }

    /// The last try since it was accepted or replayed.
    fn last_try(&self) -> Option<&Attempt> {
        let last = self.attempts.last()?;
        self.replayed
            .is_none_or(|since| last.at >= since)
            .then_some(last)
    }

    fn add_queue_time(&self, facts: &mut Facts) {
        add(facts, "queue-ms", millis(self.left, self.due));
    }

    fn add_delivery_time(&self, facts: &mut Facts) {
        if let Some(arrived) = self.arrived {
            add(facts, "delivery-ms", millis(arrived, self.left));
        }
    }

    fn newest_error_class(&self) -> Option<&'static str> {
        let mut receipts = self.sent.as_ref()?.receipts.iter().rev();
        let newest = receipts.find_map(|receipt| receipt.error.as_ref())?;
        Some(newest.class.word())
    }

    fn add_sent(&self, facts: &mut Facts) {
        let Some(sent) = &self.sent else { return };
        add(facts, "provider", &sent.provider);
        if let Some(price) = &sent.price {
            add(facts, "price", &price.amount);
            add(facts, "currency", &price.currency);
        }
        if let Some(segments) = sent.segments() {
            add(facts, "segments", segments);
        }
    }
}

/// From `start` to `end`, in milliseconds; 0 where a clock was set back in between.
fn millis(end: UnixMillis, start: UnixMillis) -> u64 {
    end.0.saturating_sub(start.0)
}

fn told(
    id: MessageId,
    kind: &str,
    at: UnixMillis,
    service: &str,
    country: &str,
    attributes: Facts,
) -> Vec<u8> {
    rows::event(&event(id, kind, at, service, country, attributes))
}

fn event(
    id: MessageId,
    kind: &str,
    at: UnixMillis,
    service: &str,
    country: &str,
    attributes: Facts,
) -> Event {
    Event {
        kind: kind.to_owned(),
        at,
        service: service.to_owned(),
        source: "host".to_owned(),
        message: Some(id),
        // Numbers of no country have none.
        country: (country.len() == 2).then(|| country.to_owned()),
        attributes,
    }
}

#[cfg(test)]
mod tests;
