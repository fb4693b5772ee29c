//! The component's exports, and its imports as a [`Host`].
#![expect(
    unsafe_code,
    reason = "the exports that wit-bindgen generates are raw symbols"
)]

mod bindings {
    #![allow(missing_docs, reason = "generated from the WIT, which is documented")]
    wit_bindgen::generate!({
        path: ["../../wit/service"],
        world: "countersign:service/analytics-service",
    });
}

use bindings::countersign::service::types::{Context, Manifest};
use bindings::countersign::service::{settings, storage};
use bindings::exports::countersign::service::analytics::{self as wit, Guest};

use crate::calendar::Level;
use crate::dashboard::{self, CountryFigures, ProviderFigures, Query, Report, Step};
use crate::event::Event;
use crate::figures::{Conversion, Cost, Latency, Percentiles};
use crate::fold::{self, Batch};
use crate::host::Host;
use crate::recount::{self, Part, Replaced};

/// As many rows as `storage.scan` returns at once.
const SCAN_ROWS: u32 = 256;

struct Component;

bindings::export!(Component with_types_in bindings);

impl bindings::Guest for Component {
    fn describe() -> Manifest {
        Manifest {
            name: "analytics".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            state_writes: 1,
            state_reads: vec![1],
            read_only: vec!["dashboard".into()],
        }
    }
}

impl Guest for Component {
    fn fold(_: Context, batch: wit::Batch) -> Result<u64, String> {
        let batch = Batch {
            from: batch.from,
            next: batch.next,
            events: batch.events.into_iter().map(Into::into).collect(),
        };
        fold::fold(&mut Imports, &batch).map_err(|undecided| undecided.to_string())
    }

    fn recount(_: Context, part: wit::Part) -> Result<(), String> {
        let part = Part {
            hour: part.hour,
            first: part.first,
            events: part.events.into_iter().map(Into::into).collect(),
        };
        recount::recount(&mut Imports, &part).map_err(|undecided| undecided.to_string())
    }

    fn replace(_: Context, hour: u64, cursor: u64) -> Result<wit::Replaced, String> {
        match recount::replace(&mut Imports, hour, cursor) {
            Ok(Replaced::Moved) => Ok(wit::Replaced::Moved),
            Ok(Replaced::Same) => Ok(wit::Replaced::Same),
            Ok(Replaced::Changed) => Ok(wit::Replaced::Changed),
            Err(undecided) => Err(undecided.to_string()),
        }
    }

    fn dashboard(_: Context, query: wit::Query) -> Result<wit::Report, String> {
        let query = Query {
            start: query.start,
            end: query.end,
            interval: match query.interval {
                wit::Interval::Hour => Level::Hour,
                wit::Interval::Day => Level::Day,
                wit::Interval::Month => Level::Month,
            },
            country: query.country,
            provider: query.provider,
        };
        let report = dashboard::dashboard(&mut Imports, &query);
        report
            .map(Into::into)
            .map_err(|undecided| undecided.to_string())
    }
}

struct Imports;

impl Host for Imports {
    fn settings(&self) -> Vec<(String, String)> {
        settings::all()
    }

    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        storage::get(key)
    }

    fn put(&mut self, key: &str, value: &[u8]) {
        storage::put(key, value, None);
    }

    fn delete(&mut self, key: &str) {
        storage::delete(key);
    }

    fn scan(&mut self, from: &str, to: &str) -> Vec<(String, Vec<u8>)> {
        let range = storage::Range {
            from: from.into(),
            to: Some(to.into()),
        };
        let (mut rows, mut cursor) = (Vec::new(), None);
        loop {
            let page = storage::scan(&range, SCAN_ROWS, cursor.as_deref());
            let entries = page.entries.into_iter();
            rows.extend(entries.map(|entry| (entry.key, entry.value)));
            cursor = page.next;
            if cursor.is_none() {
                return rows;
            }
        }
    }
}

impl From<wit::Event> for Event {
    fn from(event: wit::Event) -> Self {
        Self {
            position: event.position,
            kind: event.kind,
            at: event.at,
            source: event.source,
            message: event
                .message
                .map(|(high, low)| u128::from(high) << 64 | u128::from(low)),
            accepted: event.accepted,
            country: event.country,
            attributes: event.attributes,
        }
    }
}

impl From<Report> for wit::Report {
    fn from(report: Report) -> Self {
        let unconverted = report.unconverted.into_iter();
        let by_status = report.by_status.into_iter();
        Self {
            count: report.count,
            delivered: report.delivered,
            failed: report.failed,
            currency: report.currency,
            cost: report.cost.into(),
            unpriced: report.unpriced,
            unconverted: unconverted
                .map(|(currency, amount)| wit::Unconverted { currency, amount })
                .collect(),
            by_country: report.by_country.into_iter().map(Into::into).collect(),
            by_status: by_status
                .map(|(status, count)| wit::StatusFigures {
                    status: status.word().into(),
                    count,
                })
                .collect(),
            by_provider: report.by_provider.into_iter().map(Into::into).collect(),
            conversion: report.conversion.into(),
            latency: report.latency.into(),
            timeline: report.timeline.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Cost> for wit::Cost {
    fn from(cost: Cost) -> Self {
        Self {
            total: cost.total,
            estimated: cost.estimated,
        }
    }
}

impl From<Conversion> for wit::Conversion {
    fn from(conversion: Conversion) -> Self {
        Self {
            sent: conversion.sent,
            verified: conversion.verified,
        }
    }
}

impl From<Percentiles> for wit::Percentiles {
    fn from(percentiles: Percentiles) -> Self {
        Self {
            count: percentiles.count,
            p50: percentiles.p50,
            p95: percentiles.p95,
            p99: percentiles.p99,
        }
    }
}

impl From<Latency> for wit::Latency {
    fn from(latency: Latency) -> Self {
        Self {
            queue: latency.queue.into(),
            delivery: latency.delivery.into(),
        }
    }
}

impl From<CountryFigures> for wit::CountryFigures {
    fn from(figures: CountryFigures) -> Self {
        Self {
            country: figures.country,
            count: figures.count,
            cost: figures.cost.into(),
        }
    }
}

impl From<ProviderFigures> for wit::ProviderFigures {
    fn from(figures: ProviderFigures) -> Self {
        Self {
            provider: figures.provider,
            count: figures.count,
            delivered: figures.delivered,
            failed: figures.failed,
            cost: figures.cost.into(),
            conversion: figures.conversion.into(),
            latency: figures.latency.into(),
        }
    }
}

impl From<Step> for wit::Step {
    fn from(step: Step) -> Self {
        Self {
            start: step.start,
            count: step.count.count,
            delivered: step.count.delivered,
        }
    }
}
