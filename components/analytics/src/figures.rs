//! Figures: what the cells of a country or a provider come to.

use crate::cells::{Cell, Status};
use crate::histogram::Sum;
use crate::host::Duration;
use crate::money::{Amounts, Micros};
use crate::settings::Settings;

/// What messages cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// All of it.
    pub total: Micros,
    /// What of it is estimated.
    pub estimated: Micros,
}

/// How long it took some of a hundred messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// How many messages were measured.
    pub count: u64,
    /// Half of them.
    pub p50: Duration,
    /// 95 of a hundred.
    pub p95: Duration,
    /// 99 of a hundred.
    pub p99: Duration,
}

/// The times in the queue, and on the way from the provider to the receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// In the queue.
    pub queue: Percentiles,
    /// On the way.
    pub delivery: Percentiles,
}

/// Codes that were sent, and those of them that were accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conversion {
    /// Messages with a code.
    pub sent: u64,
    /// Codes accepted.
    pub verified: u64,
}

/// What a country's or a provider's cells come to.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Messages, in the order of [`Status::ALL`].
    pub statuses: [u64; 8],
    /// What providers have said.
    pub costs: Amounts,
    /// What price tables say for the others.
    pub estimates: Amounts,
    /// Messages that cost something, and nobody knows how much.
    pub unpriced: u64,
    /// What became of codes.
    pub conversion: Conversion,
    queue: Sum,
    delivery: Sum,
}

impl Figures {
    /// Adds a cell, but for what its messages are estimated to cost.
    pub fn add(&mut self, cell: &Cell) {
        for (sum, count) in self.statuses.iter_mut().zip(cell.statuses) {
            *sum = sum.saturating_add(count);
        }
        for (currency, amount) in &cell.costs {
            let sum = self.costs.entry(*currency).or_default();
            *sum = sum.saturating_add(u128::from(*amount));
        }
        self.conversion.sent = self.conversion.sent.saturating_add(cell.codes);
        self.conversion.verified = self.conversion.verified.saturating_add(cell.verified);
        self.queue.add(&cell.queue);
        self.delivery.add(&cell.delivery);
    }

    /// Adds other figures.
    pub fn merge(&mut self, other: &Self) {
        for (sum, count) in self.statuses.iter_mut().zip(other.statuses) {
            *sum = sum.saturating_add(count);
        }
        for (own, other) in [
            (&mut self.costs, &other.costs),
            (&mut self.estimates, &other.estimates),
        ] {
            for (currency, amount) in other {
                let sum = own.entry(*currency).or_default();
                *sum = sum.saturating_add(*amount);
            }
        }
        self.unpriced = self.unpriced.saturating_add(other.unpriced);
        let (own, other_codes) = (&mut self.conversion, other.conversion);
        own.sent = own.sent.saturating_add(other_codes.sent);
        own.verified = own.verified.saturating_add(other_codes.verified);
        self.queue.merge(&other.queue);
        self.delivery.merge(&other.delivery);
    }

    /// All messages.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.statuses
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Messages with a status; who has read a message has it.
    #[must_use]
    pub fn of(&self, status: Status) -> u64 {
        let own = self.statuses[status as usize];
        match status {
            Status::Delivered => own.saturating_add(self.statuses[Status::Read as usize]),
            _ => own,
        }
    }

    /// What they cost, in the reporting currency.
    #[must_use]
    pub fn cost(&self, settings: &Settings) -> Cost {
        Cost {
            total: settings
                .rates
                .convert(self.costs.iter().chain(&self.estimates)),
            estimated: settings.rates.convert(&self.estimates),
        }
    }

    /// How long they took.
    #[must_use]
    pub fn latency(&self) -> Latency {
        let percentiles = |sum: &Sum| Percentiles {
            count: sum.count(),
            p50: sum.percentile(50),
            p95: sum.percentile(95),
            p99: sum.percentile(99),
        };
        Latency {
            queue: percentiles(&self.queue),
            delivery: percentiles(&self.delivery),
        }
    }
}
