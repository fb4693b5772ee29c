//! What a process counts of itself while it works: numbers that go up, and how values are spread.
//!
//! Each is a few atomic numbers, so that whoever adds to one waits for nobody. Names, labels and the
//! form in which they are told belong to whoever tells them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often something has happened since the process began.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Nothing yet.
    pub const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    /// Once more.
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often until now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many of something there are at this moment.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// One more, until the result is dropped.
    pub fn rise(&self) -> Risen<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Risen(self)
    }

    /// How many there are.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of those that a [`Level`] counts.
#[derive(Debug)]
pub struct Risen<'a>(&'a Level);

impl Drop for Risen<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How values are spread: for each bound, how many were at most that and more than the one before.
/// Times are in microseconds.
#[derive(Debug)]
pub struct Histogram {
    /// Rising.
    bounds: &'static [u64],
    /// One for each bound, and one for what is above all of them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// What a [`Histogram`] has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The bounds, rising.
    pub bounds: &'static [u64],
    /// How many values there were up to each bound and above the one before; the last is of those
    /// above all bounds.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: u64,
}

impl Histogram {
    /// Nothing yet. `bounds` must rise.
    pub fn new(bounds: &'static [u64]) -> Histogram {
        Histogram {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts `value`.
    pub fn record(&self, value: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts `span`, in microseconds.
    pub fn record_time(&self, span: Duration) {
        self.record(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
    }

    /// What has been counted until now. Values that are being counted meanwhile may be in the sum and
    /// not among the counts yet, or the other way round.
    pub fn spread(&self) -> Spread {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Spread {
            bounds: self.bounds,
            counts: self.counts.iter().map(load).collect(),
            sum: load(&self.sum),
        }
    }
}

impl Spread {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_under_the_first_bound_that_it_does_not_exceed() {
        let histogram = Histogram::new(&[1, 10, 100]);
        for value in [0, 1, 2, 10, 11, 100, 101, 1_000] {
            histogram.record(value);
        }
        let spread = histogram.spread();
        assert_eq!(spread.counts, [2, 2, 2, 2]);
        assert_eq!((spread.count(), spread.sum), (8, 1_225));
    }

    #[test]
    fn times_count_in_microseconds() {
        let histogram = Histogram::new(&[1_000]);
        histogram.record_time(Duration::from_millis(1));
        histogram.record_time(Duration::from_micros(1_001));
        let spread = histogram.spread();
        assert_eq!((spread.counts, spread.sum), (vec![1, 1], 2_001));
    }

    #[test]
    fn a_level_falls_when_what_has_risen_goes() {
        let level = Level::default();
        let (first, second) = (level.rise(), level.rise());
        assert_eq!(level.value(), 2);
        drop(first);
        assert_eq!(level.value(), 1);
        drop(second);
        assert_eq!(level.value(), 0);
    }
}
