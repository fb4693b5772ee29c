//! Events: what a step of a message's life changes in what is counted.
//!
//! An event says what the message was and what it is, so nothing has to be remembered of any message.

use crate::cells::{Country, Status};
use crate::host::{Duration, Instant};
use crate::money::{AMOUNT_PLACES, Currency, Micros, decimal};

/// One fact, as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the log.
    pub position: u64,
    /// `noun.verb`.
    pub kind: String,
    /// When it happened.
    pub at: Instant,
    /// Who says so.
    pub source: String,
    /// The message that it is about.
    pub message: Option<u128>,
    /// When that was accepted.
    pub accepted: Option<Instant>,
    /// ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// Further facts.
    pub attributes: Vec<(String, String)>,
}

/// What an event changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// When the message was accepted: where it is counted.
    pub accepted: Instant,
    /// The receiver's country.
    pub country: Country,
    /// How it is carried.
    pub channel: &'a str,
    /// How it was counted before; `None`: it was not.
    pub from: Option<Standing<'a>>,
    /// How it counts now; `None`: as before.
    pub to: Option<Standing<'a>>,
    /// A price that has just become known.
    pub paid: Option<(Currency, Micros)>,
    /// Whether it carries a code.
    pub code: bool,
    /// How long it was in the queue, where it has just left it.
    pub queue: Option<Duration>,
    /// How long it was on its way, where it has just arrived.
    pub delivery: Option<Duration>,
    /// The provider of messages whose codes were accepted, and how many those are. The empty name: nobody
    /// is known to have carried them yet.
    pub verified: Option<(&'a str, u64)>,
    /// Whether a provider has just taken it.
    pub is_taken: bool,
    /// Codes of it that were accepted, and counted, before a provider was known to have taken it.
    pub carried: u64,
}

/// How messages are carried of which nothing else is said.
pub const CHANNEL: &str = "sms";

/// As what a message is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing<'a> {
    /// Its status.
    pub status: Status,
    /// The provider that has it, or was tried last; empty: none yet.
    pub provider: &'a str,
    /// Its segments, where its price is not known and is to be estimated.
    pub unpriced: Option<u64>,
}

impl Event {
    /// What the event changes; `None`: nothing that is counted here.
    #[must_use]
    pub fn change(&self) -> Option<Change<'_>> {
        match (&*self.source, &*self.kind) {
            ("otp", "verification.approved") => Some(self.verified()),
            ("host", kind) => self.step(kind.strip_prefix("message.")?),
            _ => None,
        }
    }

    fn about(&self, accepted: Instant) -> Change<'_> {
        let country = self.country.as_deref().and_then(Country::read);
        Change {
            accepted,
            country: country.unwrap_or(Country::NONE),
            channel: self.text("channel").unwrap_or(CHANNEL),
            from: None,
            to: None,
            paid: None,
            code: self.text("code").is_some(),
            queue: self.number("queue-ms"),
            delivery: self.number("delivery-ms"),
            verified: None,
            is_taken: false,
            carried: 0,
        }
    }

    fn verified(&self) -> Change<'_> {
        let provider = self.text("provider").unwrap_or("");
        Change {
            verified: Some((provider, self.number("times").unwrap_or(1))),
            ..self.about(self.accepted.unwrap_or(self.at))
        }
    }

    fn step(&self, verb: &str) -> Option<Change<'_>> {
        let change = self.about(self.accepted?);
        let provider = self.text("provider").unwrap_or("");
        let was = self.text("was").and_then(Status::read);
        let is = match verb {
            "accepted" | "replayed" => Status::Queued,
            "priced" => was?,
            "stands" => self.text("is").and_then(Status::read)?,
            verb => Status::read(verb)?,
        };
        let segments = self.number("segments").unwrap_or(1).max(1);
        let unpriced_was = self.number("unpriced-was");
        let price = self.price();
        // Whoever has just taken it has not been counted with yet.
        let is_new = verb == "sent" || self.text("taken").is_some();
        let may_cost = is_new || unpriced_was.is_some();
        let standing = |status, unpriced: Option<u64>| Standing {
            status,
            // Who waits is with nobody.
            provider: if status == Status::Queued {
                ""
            } else {
                provider
            },
            // What never left the provider costs nothing until the provider says so.
            unpriced: unpriced.filter(|_| status != Status::Failed),
        };
        let from = match verb {
            "accepted" | "stands" => None,
            _ => Some(standing(was?, unpriced_was)),
        };
        let unpriced = (may_cost && price.is_none()).then_some(segments);
        Some(Change {
            from,
            to: Some(standing(is, unpriced)),
            paid: price.filter(|_| may_cost),
            is_taken: verb == "sent",
            ..change
        })
    }

    fn price(&self) -> Option<(Currency, Micros)> {
        let currency = Currency::read(self.text("currency")?)?;
        // The host lets decimals only through; one that is too large for anything is none.
        Some((currency, decimal(self.text("price")?, AMOUNT_PLACES)?))
    }

    fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.attributes.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}
