//! How often a span of time was how long: counts in fixed buckets, four to a doubling. What is read from
//! them is never off by more than a bucket, a quarter of the span, and mostly by far less.

use serde::{Deserialize, Serialize};

use crate::host::Duration;

/// Four buckets for each bit of a span, and one for what is shorter than a millisecond.
pub const BUCKETS: usize = 4 * 32 + 1;

/// Counts by bucket; only buckets with something in them, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram(Vec<(u8, u64)>);

impl Histogram {
    /// Counts one span.
    pub fn record(&mut self, span: Duration) {
        self.add(bucket(span), 1);
    }

    fn add(&mut self, bucket: u8, count: u64) {
        match self.0.binary_search_by_key(&bucket, |&(known, _)| known) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(count),
            Err(at) => self.0.insert(at, (bucket, count)),
        }
    }

    /// Adds what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        for &(bucket, count) in &other.0 {
            self.add(bucket, count);
        }
    }

    /// Throws buckets together, `1 << bits` of them each, to take less room.
    pub fn coarsen(&mut self, bits: u32) {
        let counts = std::mem::take(&mut self.0);
        for (bucket, count) in counts {
            self.add(bucket >> bits << bits, count);
        }
    }
}

/// The bucket of a span: the position of its highest bit, and the two bits after it.
fn bucket(span: Duration) -> u8 {
    let Some(bit) = span.checked_ilog2() else {
        return 0;
    };
    if bit >= 32 {
        return (BUCKETS - 1) as u8;
    }
    let fraction = (span << 2 >> bit) & 3;
    (1 + 4 * bit) as u8 + fraction as u8
}

/// The shortest span of a bucket.
fn floor(bucket: usize) -> f64 {
    match bucket.checked_sub(1) {
        None => 0.0,
        Some(above) => f64::powi(2.0, (above / 4) as i32) * (1.0 + (above % 4) as f64 / 4.0),
    }
}

/// The sum of many histograms.
#[derive(Clone, Debug)]
pub struct Sum([u64; BUCKETS]);

impl Default for Sum {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Sum {
    /// Adds one.
    pub fn add(&mut self, histogram: &Histogram) {
        for &(bucket, count) in &histogram.0 {
            if let Some(sum) = self.0.get_mut(usize::from(bucket)) {
                *sum = sum.saturating_add(count);
            }
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(count);
        }
    }

    /// How many spans there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The span that `percent` of a hundred are not longer than; 0 where there are none. Inside a
    /// bucket they are taken to lie evenly.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Duration {
        let total = u128::from(self.count());
        let rank = (total * u128::from(percent)).div_ceil(100) as u64;
        let mut before: u64 = 0;
        for (bucket, &count) in self.0.iter().enumerate() {
            if rank <= before.saturating_add(count) && count > 0 {
                let (low, high) = (floor(bucket), floor(bucket + 1));
                let share = (rank - before) as f64 / count as f64;
                return (low + (high - low) * share).round() as Duration;
            }
            before = before.saturating_add(count);
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(spans: &[Duration]) -> Sum {
        let mut histogram = Histogram::default();
        spans.iter().for_each(|&span| histogram.record(span));
        let mut sum = Sum::default();
        sum.add(&histogram);
        sum
    }

    #[test]
    fn nothing_has_the_percentile_0() {
        assert_eq!((sum(&[]).count(), sum(&[]).percentile(50)), (0, 0));
    }

    #[test]
    fn buckets_do_not_overlap_and_are_a_quarter_of_a_doubling() {
        let mut last = 0;
        for span in 0..100_000 {
            let bucket = usize::from(bucket(span));
            assert!(bucket >= last && bucket < BUCKETS);
            assert!(floor(bucket) <= span as f64 && (span as f64) < floor(bucket + 1));
            last = bucket;
        }
        assert_eq!(usize::from(bucket(u64::MAX)), BUCKETS - 1);
    }

    #[test]
    fn a_coarser_histogram_has_the_same_count() {
        let mut histogram = Histogram::default();
        (0..1_000).for_each(|span| histogram.record(span));
        let fine = histogram.0.len();
        histogram.coarsen(2);
        assert!(histogram.0.len() <= fine / 3);
        let mut sum = Sum::default();
        sum.add(&histogram);
        assert_eq!(sum.count(), 1_000);
    }

    proptest! {
        #[test]
        fn a_percentile_is_right_to_within_a_bucket(
            mut spans in prop::collection::vec(0u64..1_000_000, 1..200),
            percent in 1u64..=100,
        ) {
            spans.sort_unstable();
            let rank = (spans.len() as u64 * percent).div_ceil(100) as usize;
            let exact = spans[rank - 1] as f64;
            let found = sum(&spans).percentile(percent) as f64;
            prop_assert!(found >= exact * 0.8 - 1.0 && found <= exact * 1.25 + 1.0);
        }
    }
}
