//! The dashboard's figures as they are told: amounts and shares rounded, never without a number.

use countersign_types::UnixMillis;
use serde::{Serialize, Serializer};

use crate::api::figures::{
    Conversion, Cost, CountryFigures, Interval, Latency, Percentiles, ProviderFigures, Report,
    StatusFigures, Step, Unconverted,
};

/// The range that was counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) start: UnixMillis,
    pub(crate) end: UnixMillis,
    pub(crate) interval: Interval,
}

/// Millionths as a number of whole units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Amount(u64);

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1_000_000) {
            return serializer.serialize_u64(self.0 / 1_000_000);
        }
        // Exact up to 9,007,199,254: there are that many millionths in the mantissa.
        serializer.serialize_f64(self.0 as f64 / 1_000_000.0)
    }
}

/// `part` of `whole` in percent, two decimals, rounded half up; 0 of nothing.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let hundredths = rounded(u128::from(part) * 10_000, u128::from(whole));
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

/// What one costs on average, four decimals, rounded half up; 0 of none.
pub(crate) fn average(micros: u64, count: u64) -> String {
    let tenths = rounded(u128::from(micros), u128::from(count) * 100);
    format!("{}.{:04}", tenths / 10_000, tenths % 10_000)
}

fn rounded(dividend: u128, divisor: u128) -> u128 {
    match divisor {
        0 => 0,
        divisor => (dividend + divisor / 2) / divisor,
    }
}

/// The answer to `GET /api/analytics/dashboard`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Dashboard {
    stats: Stats,
    by_country: Vec<ByCountry>,
    by_status: Vec<ByStatus>,
    timeline: Vec<Point>,
    start: String,
    end: String,
    interval: &'static str,
    cost: Costs,
    by_provider: Vec<ByProvider>,
    conversion: Converted,
    latency: Times,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    total: u64,
    delivered: u64,
    failed: u64,
    total_cost: Amount,
    delivery_rate: String,
    avg_cost: String,
}

#[derive(Debug, Serialize)]
struct ByCountry {
    country: String,
    count: u64,
    cost: Amount,
}

#[derive(Debug, Serialize)]
struct ByStatus {
    status: String,
    count: u64,
}

#[derive(Debug, Serialize)]
struct Point {
    date: String,
    count: u64,
    delivered: u64,
}

/// What is behind the sum.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Costs {
    currency: String,
    total: Amount,
    estimated: Amount,
    estimated_share: String,
    /// Messages whose price nobody says.
    unpriced: u64,
    unconverted: Vec<Foreign>,
}

#[derive(Debug, Serialize)]
struct Foreign {
    currency: String,
    amount: Amount,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ByProvider {
    /// `null`: none has been tried.
    provider: Option<String>,
    count: u64,
    delivered: u64,
    failed: u64,
    delivery_rate: String,
    cost: Amount,
    estimated: Amount,
    conversion: Converted,
    latency: Times,
}

#[derive(Debug, Serialize)]
struct Converted {
    sent: u64,
    verified: u64,
    rate: String,
}

#[derive(Debug, Serialize)]
struct Times {
    queue: Spans,
    delivery: Spans,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spans {
    count: u64,
    p50_ms: u64,
    p95_ms: u64,
    p99_ms: u64,
}

impl Dashboard {
    /// What `report` says of `range`.
    pub(crate) fn new(range: &Range, report: Report) -> Dashboard {
        let interval = range.interval;
        let timeline = report.timeline.iter();
        let by_provider = report.by_provider.into_iter();
        let by_country = report.by_country.into_iter();
        let by_status = report.by_status.into_iter();
        Dashboard {
            stats: Stats {
                total: report.count,
                delivered: report.delivered,
                failed: report.failed,
                total_cost: Amount(report.cost.total),
                delivery_rate: percent(report.delivered, report.count),
                avg_cost: average(report.cost.total, report.count),
            },
            by_country: by_country.map(ByCountry::of).collect(),
            by_status: by_status.map(ByStatus::of).collect(),
            timeline: timeline.map(|step| Point::of(*step, interval)).collect(),
            start: range.start.to_string(),
            end: range.end.to_string(),
            interval: match interval {
                Interval::Hour => "hour",
                Interval::Day => "day",
                Interval::Month => "month",
            },
            cost: Costs {
                currency: report.currency,
                total: Amount(report.cost.total),
                estimated: Amount(report.cost.estimated),
                estimated_share: percent(report.cost.estimated, report.cost.total),
                unpriced: report.unpriced,
                unconverted: report.unconverted.into_iter().map(Foreign::of).collect(),
            },
            by_provider: by_provider.map(ByProvider::of).collect(),
            conversion: Converted::of(report.conversion),
            latency: Times::of(report.latency),
        }
    }
}

impl ByCountry {
    fn of(figures: CountryFigures) -> ByCountry {
        ByCountry {
            country: figures.country,
            count: figures.count,
            cost: Amount(figures.cost.total),
        }
    }
}

impl ByStatus {
    fn of(figures: StatusFigures) -> ByStatus {
        ByStatus {
            status: figures.status,
            count: figures.count,
        }
    }
}

impl Point {
    fn of(step: Step, interval: Interval) -> Point {
        let start = UnixMillis(step.start).to_string();
        let length = match interval {
            Interval::Hour => start.len(),
            Interval::Day => "2026-01-31".len(),
            Interval::Month => "2026-01".len(),
        };
        Point {
            date: start.get(..length).unwrap_or(&start).to_owned(),
            count: step.count,
            delivered: step.delivered,
        }
    }
}

impl Foreign {
    fn of(amount: Unconverted) -> Foreign {
        Foreign {
            currency: amount.currency,
            amount: Amount(amount.amount),
        }
    }
}

impl ByProvider {
    fn of(figures: ProviderFigures) -> ByProvider {
        let Cost { total, estimated } = figures.cost;
        ByProvider {
            provider: Some(figures.provider).filter(|name| !name.is_empty()),
            count: figures.count,
            delivered: figures.delivered,
            failed: figures.failed,
            delivery_rate: percent(figures.delivered, figures.count),
            cost: Amount(total),
            estimated: Amount(estimated),
            conversion: Converted::of(figures.conversion),
            latency: Times::of(figures.latency),
        }
    }
}

impl Converted {
    fn of(conversion: Conversion) -> Converted {
        Converted {
            sent: conversion.sent,
            verified: conversion.verified,
            rate: percent(conversion.verified, conversion.sent),
        }
    }
}

impl Times {
    fn of(latency: Latency) -> Times {
        let spans = |of: Percentiles| Spans {
            count: of.count,
            p50_ms: of.p50,
            p95_ms: of.p95,
            p99_ms: of.p99,
        };
        Times {
            queue: spans(latency.queue),
            delivery: spans(latency.delivery),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shares_and_averages_are_rounded_half_up_and_of_nothing_they_are_0() {
        for (part, whole, want) in [
            (0, 0, "0.00%"),
            (9_731, 10_000, "97.31%"),
            (1, 3, "33.33%"),
            (2, 3, "66.67%"),
            (1, 1, "100.00%"),
            (1, 20_000, "0.01%"),
            (1, 20_001, "0.00%"),
            (u64::MAX, u64::MAX, "100.00%"),
        ] {
            assert_eq!(percent(part, whole), want, "{part} of {whole}");
        }
        for (micros, count, want) in [
            (0, 0, "0.0000"),
            (7_500, 1, "0.0075"),
            (15_000, 2, "0.0075"),
            (7_449, 1, "0.0074"),
            (7_450, 1, "0.0075"),
            (12_000_000, 5, "2.4000"),
        ] {
            assert_eq!(average(micros, count), want, "{micros} by {count}");
        }
    }

    #[test]
    fn an_amount_is_a_json_number_without_an_error_of_its_own() {
        for (micros, want) in [
            (0, "0"),
            (2_000_000, "2"),
            (7_900, "0.0079"),
            (100_000, "0.1"),
            (1, "1e-6"),
            (123_456_789_123, "123456.789123"),
        ] {
            let text = serde_json::to_string(&Amount(micros)).expect("a number");
            assert_eq!(text, want);
        }
    }

    #[test]
    fn an_empty_range_has_zeros_in_it_and_no_lists() {
        let percentiles = Percentiles {
            count: 0,
            p50: 0,
            p95: 0,
            p99: 0,
        };
        let report = Report {
            count: 0,
            delivered: 0,
            failed: 0,
            currency: "USD".to_owned(),
            cost: Cost {
                total: 0,
                estimated: 0,
            },
            unpriced: 0,
            unconverted: Vec::new(),
            by_country: Vec::new(),
            by_status: Vec::new(),
            by_provider: Vec::new(),
            conversion: Conversion {
                sent: 0,
                verified: 0,
            },
            latency: Latency {
                queue: percentiles,
                delivery: percentiles,
            },
            timeline: Vec::new(),
        };
        let range = Range {
            start: UnixMillis(0),
            end: UnixMillis(3_600_000),
            interval: Interval::Day,
        };
        let spans = json!({"count": 0, "p50Ms": 0, "p95Ms": 0, "p99Ms": 0});
        let want = json!({
            "stats": {
                "total": 0, "delivered": 0, "failed": 0, "totalCost": 0,
                "deliveryRate": "0.00%", "avgCost": "0.0000",
            },
            "byCountry": [], "byStatus": [], "timeline": [],
            "start": "1970-01-01T00:00:00Z", "end": "1970-01-01T01:00:00Z", "interval": "day",
            "cost": {
                "currency": "USD", "total": 0, "estimated": 0, "estimatedShare": "0.00%",
                "unpriced": 0, "unconverted": [],
            },
            "byProvider": [],
            "conversion": {"sent": 0, "verified": 0, "rate": "0.00%"},
            "latency": {"queue": spans, "delivery": spans},
        });
        let told = serde_json::to_value(Dashboard::new(&range, report)).expect("JSON");
        assert_eq!(told, want);
    }

    #[test]
    fn a_step_is_named_by_its_day_its_hour_or_its_month() {
        let step = Step {
            start: 1_769_904_000_000,
            count: 1,
            delivered: 0,
        };
        let date = |interval| Point::of(step, interval).date;
        assert_eq!(date(Interval::Day), "2026-02-01");
        assert_eq!(date(Interval::Hour), "2026-02-01T00:00:00Z");
        assert_eq!(date(Interval::Month), "2026-02");
    }
}
