//! The page that monitoring reads: OpenMetrics text.
//!
//! Source: the OpenMetrics specification 1.0.0, which Prometheus reads since 2.5.

use std::fmt;

use countersign_types::Spread;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

/// The media type of the page.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const MICROS_PER_SECOND: f64 = 1_000_000.0;

/// The labels of one sample.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// One label.
pub(crate) fn label(name: &'static str, value: &str) -> (&'static str, String) {
    (name, value.to_owned())
}

/// One metric with all its samples.
#[derive(Debug)]
struct Family {
    /// Without its unit, and without `_total`.
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    samples: Samples,
}

#[derive(Debug)]
enum Samples {
    Counts(Vec<(Labels, u64)>),
    /// A counter that is not whole.
    Sums(Vec<(Labels, f64)>),
    Gauges(Vec<(Labels, f64)>),
    /// With what one unit of the page is made of.
    Spreads(Vec<(Labels, Spread)>, f64),
}

/// The metrics, in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Page(Vec<Family>);

impl Page {
    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        unit: Option<Unit>,
        samples: Samples,
    ) {
        self.0.push(Family {
            name,
            help,
            unit,
            samples,
        });
    }

    /// Adds a counter, whose name on the page ends in `_total`.
    pub(crate) fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let samples = Samples::Counts(samples.into_iter().collect());
        self.add(name, help, None, samples);
    }

    /// Adds a counter of seconds, whose name on the page ends in `_seconds_total`.
    pub(crate) fn seconds_counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        seconds: Option<f64>,
    ) {
        let samples = seconds.map(|value| (Labels::new(), value));
        let samples = Samples::Sums(samples.into_iter().collect());
        self.add(name, help, Some(Unit::Seconds), samples);
    }

    /// Adds a gauge.
    pub(crate) fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        let samples = Samples::Gauges(samples.into_iter().collect());
        self.add(name, help, None, samples);
    }

    /// Adds a gauge of seconds, whose name on the page ends in `_seconds`.
    pub(crate) fn seconds_gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        seconds: Option<f64>,
    ) {
        let samples = seconds.map(|value| (Labels::new(), value));
        let samples = Samples::Gauges(samples.into_iter().collect());
        self.add(name, help, Some(Unit::Seconds), samples);
    }

    /// Adds a gauge of bytes, whose name on the page ends in `_bytes`.
    pub(crate) fn bytes(&mut self, name: &'static str, help: &'static str, bytes: Option<u64>) {
        let samples = bytes.map(|value| (Labels::new(), value as f64));
        let samples = Samples::Gauges(samples.into_iter().collect());
        self.add(name, help, Some(Unit::Bytes), samples);
    }

    /// Adds a histogram of numbers.
    pub(crate) fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, Spread)>,
    ) {
        let samples = Samples::Spreads(samples.into_iter().collect(), 1.0);
        self.add(name, help, None, samples);
    }

    /// Adds a histogram of times in microseconds, whose name on the page ends in `_seconds`.
    pub(crate) fn seconds_histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, Spread)>,
    ) {
        let samples = Samples::Spreads(samples.into_iter().collect(), MICROS_PER_SECOND);
        self.add(name, help, Some(Unit::Seconds), samples);
    }

    /// The page's text.
    ///
    /// # Errors
    ///
    /// When it cannot be written, which a `String` always can.
    pub(crate) fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut page = String::with_capacity(64 * 1024);
        text::encode(&mut page, &registry)?;
        Ok(page)
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|family| family.encode(&mut encoder))
    }
}

impl Family {
    fn encode(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let Family {
            name, help, unit, ..
        } = self;
        let kind = match &self.samples {
            Samples::Counts(_) | Samples::Sums(_) => MetricType::Counter,
            Samples::Gauges(_) => MetricType::Gauge,
            Samples::Spreads(..) => MetricType::Histogram,
        };
        let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
        match &self.samples {
            Samples::Counts(samples) => samples.iter().try_for_each(|(labels, count)| {
                let mut sample = family.encode_family(labels)?;
                sample.encode_counter::<NoLabelSet, _, u64>(count, None)
            }),
            Samples::Sums(samples) => samples.iter().try_for_each(|(labels, sum)| {
                let mut sample = family.encode_family(labels)?;
                sample.encode_counter::<NoLabelSet, _, f64>(sum, None)
            }),
            Samples::Gauges(samples) => samples.iter().try_for_each(|(labels, value)| {
                let mut sample = family.encode_family(labels)?;
                sample.encode_gauge(value)
            }),
            Samples::Spreads(samples, one) => samples.iter().try_for_each(|(labels, spread)| {
                let bounds = spread.bounds.iter().map(|bound| *bound as f64 / one);
                let bounds = bounds.chain([f64::INFINITY]);
                let buckets: Vec<(f64, u64)> = bounds.zip(spread.counts.clone()).collect();
                let sum = spread.sum as f64 / one;
                let mut sample = family.encode_family(labels)?;
                sample.encode_histogram::<NoLabelSet>(sum, spread.count(), &buckets, None)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_types::Histogram;

    use super::*;

    #[test]
    fn a_page_is_open_metrics_text() {
        let times = Histogram::new(&[1_000, 2_500_000]);
        times.record(1_000);
        times.record(2_000_000);
        times.record(3_000_000);
        let mut page = Page::default();
        page.counter("a", "First.", [(vec![label("name", "x\"y\\z\n")], 3)]);
        page.seconds_histogram("b", "Second.", [(Labels::new(), times.spread())]);
        page.bytes("c", "Third.", Some(5));
        page.seconds_counter("d", "Fourth.", Some(1.5));
        page.gauge("e", "Nothing yet.", []);
        let want = r#"# HELP a First.
# TYPE a counter
a_total{name="x\"y\\z\n"} 3
# HELP b_seconds Second.
# TYPE b_seconds histogram
# UNIT b_seconds seconds
b_seconds_sum 5.001
b_seconds_count 3
b_seconds_bucket{le="0.001"} 1
b_seconds_bucket{le="2.5"} 2
b_seconds_bucket{le="+Inf"} 3
# HELP c_bytes Third.
# TYPE c_bytes gauge
# UNIT c_bytes bytes
c_bytes 5.0
# HELP d_seconds Fourth.
# TYPE d_seconds counter
# UNIT d_seconds seconds
d_seconds_total 1.5
# HELP e Nothing yet.
# TYPE e gauge
# EOF
"#;
        assert_eq!(page.text().expect("written"), want);
    }
}
