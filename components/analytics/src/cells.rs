//! Cells: what is counted of an hour, a day or a month, by country, channel and provider.
//!
//! The cells of a span of time lie in a few rows, by groups of countries, so that a batch writes few of
//! them and a question reads few. A cell, once there, stays, so a message that was counted in it is found
//! again however late news of it come.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::calendar::Level;
use crate::histogram::Histogram;
use crate::money::{Currency, Micros};

/// In how many rows the cells of a span of time lie.
pub const GROUPS: u8 = 4;
/// How many names of providers and channels a row has.
const NAMES_MAX: usize = 80;
/// How many currencies a cell has; further ones are counted together.
const CURRENCIES_MAX: usize = 4;
/// What the host takes as a value.
const ROW_BYTES_MAX: usize = 32_768;
/// What is left of a row that had grown beyond it.
const ROW_BYTES_KEPT: usize = 24_576;

/// The provider of what there was no room for.
pub const OTHER: &str = "other";

/// ISO 3166-1 alpha-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Country([u8; 2]);

impl Country {
    /// Of numbers that belong to no country.
    pub const NONE: Self = Self(*b"--");

    /// Reads one; `None` where `text` does not have its form.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let letters: [u8; 2] = text.as_bytes().try_into().ok()?;
        let is_country = letters.iter().all(u8::is_ascii_uppercase);
        is_country.then_some(Self(letters))
    }

    /// Its letters, or `001`, which is ITU-T E.164's word for no country.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::NONE => "001".into(),
            Self(letters) => String::from_utf8_lossy(&letters).into_owned(),
        }
    }

    /// Which of the rows of a span of time it is in.
    #[must_use]
    pub fn group(self) -> u8 {
        let Self([first, second]) = self;
        first.wrapping_mul(7).wrapping_add(second) % GROUPS
    }
}

/// Where a message is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It waits.
    Queued,
    /// A provider took it.
    Sent,
    /// The receiver has it.
    Delivered,
    /// The network or the receiver did not take it.
    Undelivered,
    /// No provider could take it, or it never left the one that did.
    Failed,
    /// Its time was over first.
    Expired,
    /// A provider may have it, or a receipt never came.
    Unknown,
    /// The receiver has read it.
    Read,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Sent,
        Self::Delivered,
        Self::Undelivered,
        Self::Failed,
        Self::Expired,
        Self::Unknown,
        Self::Read,
    ];

    /// Its word in events and reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Undelivered => "undelivered",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::Read => "read",
        }
    }

    /// The status of a word.
    #[must_use]
    pub fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }

    /// Whether the receiver has the message.
    #[must_use]
    pub fn arrived(self) -> bool {
        matches!(self, Self::Delivered | Self::Read)
    }
}

/// What is counted of the messages of a country, a channel and a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// How many messages there are, in the order of [`Status::ALL`].
    pub statuses: [u64; 8],
    /// Messages that a provider has taken, that have not failed, and whose price is not known.
    pub unpriced: u64,
    /// Their segments.
    pub unpriced_segments: u64,
    /// What providers have said that messages cost, by currency.
    pub costs: Vec<(Currency, Micros)>,
    /// Messages with a code.
    pub codes: u64,
    /// How many of those were accepted.
    pub verified: u64,
    /// From when a message could go until a provider had taken it.
    pub queue: Histogram,
    /// From then until the receiver had it.
    pub delivery: Histogram,
}

impl Cell {
    /// Adds to what messages cost.
    pub fn pay(&mut self, currency: Currency, amount: Micros) {
        let is_full = self.costs.len() >= CURRENCIES_MAX;
        let known = |wanted| self.costs.iter().position(|(known, _)| *known == wanted);
        let at = match known(currency) {
            None if is_full => known(Currency::NONE).ok_or(Currency::NONE),
            None => Err(currency),
            Some(at) => Ok(at),
        };
        match at {
            Ok(at) => self.costs[at].1 = self.costs[at].1.saturating_add(amount),
            Err(currency) => self.costs.push((currency, amount)),
        }
    }

    /// How many messages there are.
    fn count(&self) -> u64 {
        self.statuses
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Adds what another cell has counted.
    fn merge(&mut self, other: Self) {
        for (own, count) in self.statuses.iter_mut().zip(other.statuses) {
            *own = own.saturating_add(count);
        }
        self.unpriced = self.unpriced.saturating_add(other.unpriced);
        let segments = &mut self.unpriced_segments;
        *segments = segments.saturating_add(other.unpriced_segments);
        for (currency, amount) in other.costs {
            self.pay(currency, amount);
        }
        self.codes = self.codes.saturating_add(other.codes);
        self.verified = self.verified.saturating_add(other.verified);
        self.queue.merge(&other.queue);
        self.delivery.merge(&other.delivery);
    }
}

/// Which of a row's cells it is: the names by their numbers in the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The receivers' country.
    pub country: Country,
    /// How they are carried.
    pub channel: u8,
    /// Who carries them; the empty name: nobody yet.
    pub provider: u8,
}

/// The cells of one row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cells {
    names: Vec<String>,
    cells: BTreeMap<Place, Cell>,
    /// Whether whatever has no cell yet is counted as [`OTHER`].
    full: bool,
}

impl Cells {
    /// The cell of a country, a channel and a provider, or what stands for it where there is no room.
    pub fn cell(&mut self, country: Country, channel: &str, provider: &str) -> &mut Cell {
        let channel = name(&mut self.names, channel);
        let place = Place {
            country,
            channel,
            provider: name(&mut self.names, provider),
        };
        let has_room = !self.full || self.cells.contains_key(&place);
        let place = if has_room { place } else { self.other(place) };
        self.cells.entry(place).or_default()
    }

    /// Adds what other cells have counted.
    pub fn add(&mut self, other: &Self) {
        for (place, cell) in &other.cells {
            let name = |at: u8| other.names.get(usize::from(at)).map_or("", String::as_str);
            self.cell(place.country, name(place.channel), name(place.provider))
                .merge(cell.clone());
        }
    }

    /// Whether others say the same: however they lie, and whatever cells of nothing there are.
    #[must_use]
    pub fn says_as(&self, other: &Self) -> bool {
        self.plain() == other.plain()
    }

    /// What is counted, by name and in order.
    fn plain(&self) -> BTreeMap<(Country, &str, &str), Cell> {
        let name = |at: u8| self.names.get(usize::from(at)).map_or("", String::as_str);
        let cells = self.cells.iter().map(|(place, cell)| {
            let mut cell = cell.clone();
            cell.costs.retain(|(_, amount)| *amount > 0);
            cell.costs.sort_unstable();
            let names = (name(place.channel), name(place.provider));
            ((place.country, names.0, names.1), cell)
        });
        cells.filter(|(_, cell)| *cell != Cell::default()).collect()
    }

    fn other(&mut self, place: Place) -> Place {
        Place {
            provider: name(&mut self.names, OTHER),
            ..place
        }
    }

    /// All cells, and the name of each one's provider by its number.
    pub fn all(&self) -> impl Iterator<Item = (Place, &Cell)> {
        self.cells.iter().map(|(place, cell)| (*place, cell))
    }

    /// The names that places speak of.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads a row. `None`: it was not written by [`encode`](Self::encode).
    #[must_use]
    pub fn decode(row: &[u8]) -> Option<Self> {
        postcard::from_bytes(row).ok()
    }

    /// The row. Where it would be too long its histograms are made coarser, and if that is not enough the
    /// smallest cells are counted as [`OTHER`], from then on: what was counted stays.
    #[must_use]
    pub fn encode(&mut self) -> Vec<u8> {
        let mut row = self.bytes();
        for bits in 1..=3 {
            if row.len() <= ROW_BYTES_MAX {
                return row;
            }
            for cell in self.cells.values_mut() {
                cell.queue.coarsen(bits);
                cell.delivery.coarsen(bits);
            }
            row = self.bytes();
        }
        if row.len() > ROW_BYTES_MAX {
            self.full = true;
            while row.len() > ROW_BYTES_KEPT && self.merge_smallest() {
                row = self.bytes();
            }
        }
        row
    }

    fn bytes(&self) -> Vec<u8> {
        // Plain data always becomes bytes.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Counts the smallest cell as [`OTHER`]; whether there was one left.
    fn merge_smallest(&mut self) -> bool {
        let other = name(&mut self.names, OTHER);
        let own = self.cells.iter();
        let own = own.filter(|(place, _)| place.provider != other);
        let smallest = own.min_by_key(|(_, cell)| cell.count());
        let Some(place) = smallest.map(|(place, _)| *place) else {
            return false;
        };
        if let Some(cell) = self.cells.remove(&place) {
            let place = self.other(place);
            self.cells.entry(place).or_default().merge(cell);
        }
        true
    }
}

/// The number of a name; where there is no room for it, that of [`OTHER`].
fn name(names: &mut Vec<String>, wanted: &str) -> u8 {
    let known = |names: &[String], wanted: &str| names.iter().position(|name| name == wanted);
    let at = known(names, wanted).or_else(|| {
        let wanted = match names.len() < NAMES_MAX {
            true => wanted,
            false => OTHER,
        };
        known(names, wanted).or_else(|| {
            names.push(wanted.to_owned());
            Some(names.len() - 1)
        })
    });
    // At most one more than there are names for.
    at.unwrap_or(0) as u8
}

/// The storage key of the cells of the `n`th hour, day or month, of a group of countries.
#[must_use]
pub fn key(level: Level, group: u8, n: u32) -> String {
    let level = match level {
        Level::Hour => 'h',
        Level::Day => 'd',
        Level::Month => 'm',
    };
    format!("{level}/{group}/{n:010}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd() -> Currency {
        Currency::read("USD").expect("a currency")
    }

    fn country(n: usize) -> Country {
        Country([b'A' + (n / 26) as u8, b'A' + (n % 26) as u8])
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_together_and_found_again() {
        let mut cells = Cells::default();
        let all = || (0..63).flat_map(|n| (0..40).map(move |p| (country(n), format!("p{p}"))));
        for (country, provider) in all() {
            let cell = cells.cell(country, "sms", &provider);
            cell.statuses = cell.statuses.map(|count| count + (1 << 20));
            let _ = cells.encode();
        }
        let mut cells = Cells::decode(&cells.encode()).expect("a row");
        assert!(cells.full && cells.cells.len() < 63 * 40);
        for (country, provider) in all() {
            let cell = cells.cell(country, "sms", &provider);
            let counts = &mut cell.statuses;
            *counts = counts.map(|count: u64| count.checked_sub(1 << 20).expect("counted here"));
        }
        assert!(cells.all().all(|(_, cell)| cell.count() == 0));
        let mut names = Cells::default();
        for n in 0..2 * NAMES_MAX {
            names.cell(Country::NONE, "sms", &n.to_string()).codes += 1;
        }
        assert_eq!(names.names().len(), NAMES_MAX + 1);
        let other = names.cell(Country::NONE, "sms", "one more").codes;
        assert_eq!(other as usize, NAMES_MAX + 1);
    }

    #[test]
    fn the_fullest_row_is_taken_and_loses_no_count() {
        let mut cells = Cells::default();
        for n in 0..400 {
            let cell = cells.cell(country(n % 63), "sms", &(n / 63).to_string());
            cell.statuses = [1 << 40; 8];
            for span in 0..32 {
                cell.queue.record(1 << span);
                cell.delivery.record(3 << span);
            }
            for currency in ["USD", "EUR", "GBP", "JPY", "CHF", "SEK"] {
                cell.pay(Currency::read(currency).expect("a currency"), u64::MAX / 9);
            }
            assert_eq!(cell.costs.len(), CURRENCIES_MAX + 1);
        }
        let counts = |cells: &Cells| -> u64 {
            let mut sum = crate::histogram::Sum::default();
            cells.all().for_each(|(_, cell)| sum.add(&cell.delivery));
            sum.count()
        };
        let before = counts(&cells);
        assert_eq!(before, 400 * 32);
        let row = cells.encode();
        assert!(row.len() <= ROW_BYTES_MAX, "{}", row.len());
        let read = Cells::decode(&row).expect("a row");
        assert_eq!(read, cells);
        assert_eq!(counts(&read), before);
    }

    #[test]
    fn amounts_of_the_first_currencies_are_kept_apart() {
        let mut cell = Cell::default();
        for letter in 'A'..='F' {
            let currency = Currency::read(&format!("US{letter}")).expect("a currency");
            cell.pay(currency, 1);
        }
        cell.pay(Currency::read("USA").expect("a currency"), 5);
        assert_eq!(cell.costs[0].1, 6);
        assert_eq!(cell.costs[CURRENCIES_MAX], (Currency::NONE, 2));
    }

    #[test]
    fn a_row_that_is_damaged_is_not_read() {
        let mut cells = Cells::default();
        cells.cell(country(1), "sms", "p").pay(usd(), 7);
        let row = cells.encode();
        assert_eq!(Cells::decode(&row), Some(cells));
        assert_eq!(Cells::decode(&row[..row.len() - 1]), None);
    }

    #[test]
    fn countries_are_spread_over_all_groups() {
        let mut groups = [0; GROUPS as usize];
        for n in 0..676 {
            groups[usize::from(country(n).group())] += 1;
        }
        assert!(groups.iter().all(|&count| count > 150), "{groups:?}");
        assert_eq!(key(Level::Hour, 1, 42), "h/1/0000000042");
    }
}
