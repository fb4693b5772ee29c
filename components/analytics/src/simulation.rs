//! What the tests share: a host in memory, and a log of events made from messages' lives.

use std::collections::BTreeMap;

use crate::Undecided;
use crate::calendar::{HOUR, Level};
use crate::cells::Status;
use crate::dashboard::{Query, Report, dashboard};
use crate::event::Event;
use crate::fold::{Batch, fold};
use crate::host::{Host, Instant};
use crate::recount::{Part, Replaced, recount, replace};

/// 2026-01-31T22:00:00Z: two hours before a month ends.
pub(crate) const START: Instant = 1_769_896_800_000;

/// Rows that a call changes only when it is committed.
#[derive(Clone, Default)]
pub(crate) struct Simulation {
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) rows: BTreeMap<String, Vec<u8>>,
    /// Rows read or written by the last call.
    pub(crate) touched: usize,
    pub(crate) writes: usize,
}

impl Host for Simulation {
    fn settings(&self) -> Vec<(String, String)> {
        self.settings.clone()
    }

    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        self.touched += 1;
        self.rows.get(key).cloned()
    }

    fn put(&mut self, key: &str, value: &[u8]) {
        assert!((1..=256).contains(&key.len()) && value.len() <= 32_768);
        self.writes += 1;
        self.rows.insert(key.into(), value.into());
    }

    fn delete(&mut self, key: &str) {
        self.writes += 1;
        self.rows.remove(key);
    }

    fn scan(&mut self, from: &str, to: &str) -> Vec<(String, Vec<u8>)> {
        let found = self.rows.range(from.to_owned()..to.to_owned());
        let found: Vec<_> = found.map(|(key, row)| (key.clone(), row.clone())).collect();
        self.touched += found.len() + 1;
        found
    }
}

impl Simulation {
    pub(crate) fn new(settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter();
        Self {
            settings: settings
                .map(|&(name, value)| (name.into(), value.into()))
                .collect(),
            ..Self::default()
        }
    }

    /// A call that is committed.
    pub(crate) fn fold(&mut self, batch: &Batch) -> u64 {
        (self.touched, self.writes) = (0, 0);
        let next = fold(self, batch).expect("counted");
        assert!(self.touched + self.writes <= 1_024);
        next
    }

    /// A call that is cut off before its commit.
    pub(crate) fn crash(&self, batch: &Batch) {
        let mut lost = self.clone();
        lost.fold(batch);
    }

    /// Counts all of `events`, as one batch after the other.
    pub(crate) fn fold_all(&mut self, events: &[Event]) {
        let end = events.last().map_or(0, |event| event.position) + 1;
        let mut next = self.fold(&batch(&[], 0, 0));
        while next < end {
            let rest: Vec<_> = events
                .iter()
                .filter(|event| event.position >= next)
                .cloned()
                .collect();
            let then = self.fold(&batch(&rest, next, end));
            assert!(then > next);
            next = then;
        }
    }

    /// Counts an hour anew, in parts of at most `size` messages, and puts that in its place.
    pub(crate) fn recount(&mut self, hour: Instant, events: &[Event], size: usize) -> Replaced {
        let mut parts: Vec<_> = events.chunks(size).map(<[Event]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        for (n, events) in parts.into_iter().enumerate() {
            let first = n == 0;
            (self.touched, self.writes) = (0, 0);
            let part = Part {
                hour,
                first,
                events,
            };
            recount(self, &part).expect("counted");
        }
        let cursor = self.fold(&batch(&[], 0, 0));
        (self.touched, self.writes) = (0, 0);
        let replaced = replace(self, hour, cursor).expect("replaced");
        assert!(self.touched + self.writes <= 1_024);
        replaced
    }

    pub(crate) fn ask(&mut self, query: &Query) -> Result<Report, Undecided> {
        (self.touched, self.writes) = (0, 0);
        let report = dashboard(self, query)?;
        assert_eq!(self.writes, 0);
        assert!(self.touched <= 1_024, "{} rows", self.touched);
        Ok(report)
    }
}

pub(crate) fn batch(events: &[Event], from: u64, next: u64) -> Batch {
    Batch {
        from,
        next,
        events: events.to_vec(),
    }
}

/// All hours from `from` to `to`, counted from [`START`].
pub(crate) fn hours(from: i64, to: i64) -> Query {
    let at = |hours: i64| {
        START
            .checked_add_signed(hours * HOUR as i64)
            .expect("in range")
    };
    Query {
        start: at(from),
        end: at(to),
        interval: Level::Day,
        country: None,
        provider: None,
    }
}

/// A log that grows.
#[derive(Default)]
pub(crate) struct Log(pub(crate) Vec<Event>);

impl Log {
    pub(crate) fn push(
        &mut self,
        kind: &str,
        accepted: Option<Instant>,
        country: Option<&str>,
        facts: &[(&str, &str)],
    ) {
        let source = if kind.starts_with("message.") {
            "host"
        } else {
            "otp"
        };
        self.0.push(Event {
            position: self.0.len() as u64 + 1,
            kind: kind.into(),
            at: accepted.unwrap_or(START),
            source: source.into(),
            message: None,
            accepted,
            country: country.map(Into::into),
            attributes: facts
                .iter()
                .map(|&(name, value)| (name.into(), value.into()))
                .collect(),
        });
    }
}

/// The life of one message, as the host would tell of it: what has become of it, step by step.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    /// Its name's low half; the high one is when it was accepted.
    pub(crate) id: u64,
    pub(crate) accepted: Instant,
    pub(crate) country: Option<String>,
    pub(crate) code: bool,
    pub(crate) steps: Vec<Happening>,
}

/// A step of a message's life.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// A provider took it, after so many milliseconds in the queue.
    Sent(String, u64),
    /// No provider did; the last that was tried, if any.
    Over(Status, Option<String>),
    /// It waits again.
    Replayed,
    /// A receipt, after so many milliseconds.
    Receipt(Status, u64),
    /// A price that comes by itself.
    Priced(&'static str, &'static str),
    /// The number of segments.
    Segments(u64),
    /// The code was accepted.
    Verified,
}

/// A message in the middle of its life.
#[derive(Clone, Debug)]
pub(crate) struct Now {
    pub(crate) status: Status,
    pub(crate) provider: String,
    pub(crate) taken: bool,
    pub(crate) price: Option<(&'static str, &'static str)>,
    pub(crate) segments: Option<u64>,
    pub(crate) queue: Option<u64>,
    pub(crate) delivery: Option<u64>,
    pub(crate) verified: u64,
}

impl Now {
    pub(crate) fn new() -> Self {
        Self {
            status: Status::Queued,
            provider: String::new(),
            taken: false,
            price: None,
            segments: None,
            queue: None,
            delivery: None,
            verified: 0,
        }
    }

    /// Who took it; empty where nobody has.
    pub(crate) fn carrier(&self) -> &str {
        if self.taken { &self.provider } else { "" }
    }

    /// Goes on by a step, where it can happen; tells of it as the host does.
    pub(crate) fn live(&mut self, life: &Life, step: &Happening, log: &mut Log) {
        let was = self.clone();
        let verb = match step {
            Happening::Sent(provider, queue) if was.status == Status::Queued => {
                (self.status, self.taken) = (Status::Sent, true);
                self.provider.clone_from(provider);
                self.queue = Some(*queue);
                "sent"
            }
            Happening::Over(status, provider) if was.status == Status::Queued => {
                self.status = *status;
                self.provider = provider.clone().unwrap_or_default();
                status.word()
            }
            Happening::Replayed if was.status == Status::Failed && !was.taken => {
                (self.status, self.provider) = (Status::Queued, String::new());
                "replayed"
            }
            Happening::Receipt(status, delivery)
                if was.taken && rank(*status) > rank(was.status) =>
            {
                self.status = *status;
                if status.arrived() && !was.status.arrived() {
                    self.delivery = Some(*delivery);
                }
                status.word()
            }
            Happening::Priced(amount, currency) if was.taken && was.price.is_none() => {
                self.price = Some((amount, currency));
                "priced"
            }
            Happening::Segments(segments) if was.taken && was.segments < Some(*segments) => {
                self.segments = Some(*segments);
                "priced"
            }
            Happening::Verified if life.code => {
                self.verified += 1;
                return push(log, "verification.approved", life, &self.carried(&[]));
            }
            _ => return,
        };
        self.tell(life, verb, &was, log);
    }

    /// How it stands, as the host tells of it to who counts anew.
    pub(crate) fn stands(&self, life: &Life, log: &mut Log) {
        let mut facts = vec![
            ("channel", "sms".to_owned()),
            ("is", self.status.word().to_owned()),
        ];
        if life.code {
            facts.push(("code", "yes".to_owned()));
        }
        if !self.provider.is_empty() {
            facts.push(("provider", self.provider.clone()));
        }
        if self.taken {
            facts.push(("taken", "yes".to_owned()));
        }
        if let Some((amount, currency)) = self.price {
            facts.push(("price", amount.to_owned()));
            facts.push(("currency", currency.to_owned()));
        }
        let numbers = [
            ("segments", self.segments),
            ("queue-ms", self.queue),
            ("delivery-ms", self.delivery),
        ];
        let numbers = numbers.into_iter();
        facts.extend(numbers.filter_map(|(name, n)| Some((name, n?.to_string()))));
        push(log, "message.stands", life, &facts);
        if self.verified > 0 {
            let times = ("times", self.verified.to_string());
            push(log, "verification.approved", life, &self.carried(&[times]));
        }
    }

    /// Who carried it, where somebody has, and `more`.
    fn carried(&self, more: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
        let carrier = Some(self.carrier()).filter(|carrier| !carrier.is_empty());
        let carrier = carrier.map(|carrier| ("provider", carrier.to_owned()));
        carrier.into_iter().chain(more.iter().cloned()).collect()
    }

    fn tell(&self, life: &Life, verb: &str, was: &Self, log: &mut Log) {
        let mut facts = vec![
            ("channel", "sms".to_owned()),
            ("was", was.status.word().to_owned()),
        ];
        if life.code
            && matches!(verb, "sent" | "replayed" | "failed" | "expired" | "unknown")
            && !was.taken
        {
            facts.push(("code", "yes".to_owned()));
        }
        let provider = match verb {
            "replayed" => &was.provider,
            _ => &self.provider,
        };
        if !provider.is_empty() {
            facts.push(("provider", provider.clone()));
        }
        if let Some((amount, currency)) = self.price {
            facts.push(("price", amount.to_owned()));
            facts.push(("currency", currency.to_owned()));
        }
        let segments = self
            .segments
            .map(|segments| ("segments", segments.to_string()));
        facts.extend(segments);
        if was.taken && was.price.is_none() {
            facts.push(("unpriced-was", was.segments.unwrap_or(1).to_string()));
        }
        if verb == "sent" {
            facts.extend(self.queue.map(|span| ("queue-ms", span.to_string())));
        }
        if self.status.arrived() && !was.status.arrived() {
            facts.extend(self.delivery.map(|span| ("delivery-ms", span.to_string())));
        }
        push(log, &format!("message.{verb}"), life, &facts);
    }
}

fn push(log: &mut Log, kind: &str, life: &Life, facts: &[(&str, String)]) {
    let facts = facts.iter();
    let facts: Vec<_> = facts.map(|(name, value)| (*name, &**value)).collect();
    log.push(kind, Some(life.accepted), life.country.as_deref(), &facts);
    let newest = log.0.last_mut().expect("just pushed");
    newest.message = Some(u128::from(life.accepted) << 80 | u128::from(life.id));
}

/// How much a receipt knows, as the host ranks it.
fn rank(status: Status) -> u8 {
    match status {
        Status::Queued => 0,
        Status::Sent => 1,
        Status::Unknown | Status::Expired => 2,
        Status::Undelivered => 3,
        Status::Failed => 4,
        Status::Delivered => 5,
        Status::Read => 6,
    }
}

/// Tells of the acceptance of a message.
pub(crate) fn accept(life: &Life, log: &mut Log) {
    let facts = [("channel", "sms".to_owned()), ("code", "yes".to_owned())];
    let facts = if life.code { &facts[..] } else { &facts[..1] };
    push(log, "message.accepted", life, facts);
}
