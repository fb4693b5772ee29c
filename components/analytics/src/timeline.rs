//! Timelines: how many messages there were and how many arrived, over all countries, by the hours of a day
//! and by the days of a month. A year by the day is then twelve rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::calendar::{DAY, Level, first_day, month};
use crate::cells::OTHER;

/// How many providers a row has; further ones are counted together.
const PROVIDERS_MAX: usize = 66;

/// Messages that were counted, and how many of them have arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// All of them.
    pub count: u64,
    /// Those that the receiver has.
    pub delivered: u64,
}

/// The steps of one row, by provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps(BTreeMap<String, BTreeMap<u8, Count>>);

impl Steps {
    /// The count of a provider in one of the row's steps.
    pub fn count(&mut self, provider: &str, step: u8) -> &mut Count {
        let has_room = self.0.len() < PROVIDERS_MAX || self.0.contains_key(provider);
        let provider = if has_room { provider } else { OTHER };
        let steps = self.0.entry(provider.to_owned()).or_default();
        steps.entry(step).or_default()
    }

    /// Puts `counts`, by provider, in the place of what is counted of a step.
    pub fn replace(&mut self, step: u8, counts: &BTreeMap<&str, Count>) {
        for steps in self.0.values_mut() {
            steps.remove(&step);
        }
        self.0.retain(|_, steps| !steps.is_empty());
        for (provider, counted) in counts {
            let count = self.count(provider, step);
            count.count = count.count.saturating_add(counted.count);
            count.delivered = count.delivered.saturating_add(counted.delivered);
        }
    }

    /// What all steps come to, by provider.
    #[must_use]
    pub fn sums(&self) -> BTreeMap<&str, Count> {
        let sum = |steps: &BTreeMap<u8, Count>| {
            let counts = steps.values();
            counts.fold(Count::default(), |sum, more| Count {
                count: sum.count.saturating_add(more.count),
                delivered: sum.delivered.saturating_add(more.delivered),
            })
        };
        let own = self.0.iter();
        own.map(|(provider, steps)| (provider.as_str(), sum(steps)))
            .collect()
    }

    /// Whether others say the same, whatever counts of nothing there are.
    #[must_use]
    pub fn says_as(&self, other: &Self) -> bool {
        let plain = |all: &Self| {
            let own = all.0.iter();
            let counts = own.flat_map(|(provider, steps)| {
                steps
                    .iter()
                    .map(move |(step, count)| ((provider.clone(), *step), *count))
            });
            let counted = counts.filter(|(_, count)| *count != Count::default());
            counted.collect::<BTreeMap<_, _>>()
        };
        plain(self) == plain(other)
    }

    /// All counts of `provider`, or of all where it is `None`, with their steps.
    pub fn of<'a>(&'a self, provider: Option<&'a str>) -> impl Iterator<Item = (u8, Count)> + 'a {
        let own = self.0.iter();
        let own = own.filter(move |(name, _)| provider.is_none_or(|wanted| *name == wanted));
        own.flat_map(|(_, steps)| steps.iter().map(|(step, count)| (*step, *count)))
    }

    /// Reads a row. `None`: it was not written by [`encode`](Self::encode).
    #[must_use]
    pub fn decode(row: &[u8]) -> Option<Self> {
        postcard::from_bytes(row).ok()
    }

    /// The row.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Plain data always becomes bytes.
        postcard::to_allocvec(self).unwrap_or_default()
    }
}

/// The row of hours or days that an hour belongs to, by the number of its day or month, and its step in
/// it.
#[must_use]
pub fn place(level: Level, hour: u32) -> (u32, u8) {
    let day = hour / DAY;
    let (row, step) = match level {
        Level::Hour => (day, hour % DAY),
        Level::Day | Level::Month => (month(day), day - first_day(month(day))),
    };
    // 0 to 30.
    (row, step as u8)
}

/// The hour or the day that is a row's step.
#[must_use]
pub fn step(level: Level, row: u32, step: u8) -> u32 {
    match level {
        Level::Hour => row * DAY + u32::from(step),
        Level::Day | Level::Month => first_day(row) + u32::from(step),
    }
}

/// The storage key of the hours of a day, or of the days of a month.
#[must_use]
pub fn key(level: Level, row: u32) -> String {
    let steps = match level {
        Level::Hour => "hours",
        Level::Day | Level::Month => "days",
    };
    format!("{steps}/{row:010}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hour_has_its_place() {
        for level in [Level::Hour, Level::Day] {
            for hour in (0..1_000_000).step_by(7) {
                let (row, at) = place(level, hour);
                assert_eq!(step(level, row, at), level.of(hour), "{hour}");
            }
        }
    }

    #[test]
    fn the_fullest_row_is_taken() {
        let mut steps = Steps::default();
        for provider in 0..2 * PROVIDERS_MAX {
            for step in 0..31 {
                let count = steps.count(&format!("{provider:064}"), step);
                count.count += 1 << 34;
                count.delivered += 1 << 34;
            }
        }
        let row = steps.encode();
        assert!(row.len() <= 32_768, "{}", row.len());
        assert_eq!(Steps::decode(&row), Some(steps.clone()));
        let all: u64 = steps.of(None).map(|(_, count)| count.count).sum();
        assert_eq!(all, (2 * PROVIDERS_MAX as u64 * 31) << 34);
        assert_eq!(steps.of(Some(OTHER)).count(), 31);
    }
}
