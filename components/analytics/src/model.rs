//! The same figures, worked out from the messages themselves: no cells, no batches, no cursor.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::calendar::{HOUR, Level, hour};
use crate::cells::Status;
use crate::dashboard::{CountryFigures, Query, Report};
use crate::event::Event;
use crate::figures::{Conversion, Cost};
use crate::histogram::{Histogram, Sum};
use crate::recount::Replaced;
use crate::simulation::{Happening, Life, Log, Now, START, Simulation, accept, batch, hours};

const SETTINGS: &[(&str, &str)] = &[
    ("rates", "EUR=1.1"),
    ("prices/p", "USD *=0.01 DE=0.02"),
    ("prices/q", "EUR DE=0.07"),
];

/// What a message is known to cost, or is taken to, in millionths of its currency.
enum Price {
    Known(&'static str, u128),
    Estimated(&'static str, u128),
    Unknown,
    Nothing,
}

fn price(life: &Life, now: &Now) -> Price {
    let segments = u128::from(now.segments.unwrap_or(1));
    let country = life.country.as_deref();
    match (now.price, &*now.provider, country) {
        (Some(("0.0079", currency)), ..) => Price::Known(currency, 7_900),
        (Some((_, currency)), ..) => Price::Known(currency, 1_500_000),
        _ if !now.taken || now.status == Status::Failed => Price::Nothing,
        (None, "p", Some("DE")) => Price::Estimated("USD", 20_000 * segments),
        (None, "p", _) => Price::Estimated("USD", 10_000 * segments),
        (None, "q", Some("DE")) => Price::Estimated("EUR", 70_000 * segments),
        _ => Price::Unknown,
    }
}

/// Millionths of a dollar, times ten.
fn dollars(currency: &str, amount: u128) -> u128 {
    match currency {
        "USD" => amount * 10,
        "EUR" => amount * 11,
        _ => 0,
    }
}

fn rounded(tenths: u128) -> u64 {
    u64::try_from((tenths + 5) / 10).expect("small")
}

fn country(life: &Life) -> String {
    life.country.clone().unwrap_or_else(|| "001".into())
}

/// What is to be answered, of what the model knows.
#[derive(Debug, PartialEq)]
struct Figures {
    count: u64,
    delivered: u64,
    failed: u64,
    cost: Cost,
    unpriced: u64,
    unconverted: Vec<(String, u64)>,
    by_country: Vec<CountryFigures>,
    by_status: Vec<(Status, u64)>,
    by_provider: Vec<(String, u64, u64)>,
    conversion: Conversion,
    latency: [(u64, u64); 2],
    timeline: Vec<(u64, u64, u64)>,
}

impl From<Report> for Figures {
    fn from(report: Report) -> Self {
        let latency = [report.latency.queue, report.latency.delivery];
        Self {
            count: report.count,
            delivered: report.delivered,
            failed: report.failed,
            cost: report.cost,
            unpriced: report.unpriced,
            unconverted: report.unconverted,
            by_country: report.by_country,
            by_status: report.by_status,
            by_provider: report
                .by_provider
                .into_iter()
                .map(|of| (of.provider, of.count, of.conversion.verified))
                .collect(),
            conversion: report.conversion,
            latency: latency.map(|of| (of.count, of.p95)),
            timeline: report
                .timeline
                .into_iter()
                .map(|step| (step.start, step.count.count, step.count.delivered))
                .collect(),
        }
    }
}

fn model(messages: &[(Life, Now)], query: &Query) -> Figures {
    let in_range = |life: &Life| (query.start..query.end).contains(&life.accepted);
    let of_country = |life: &Life| {
        query
            .country
            .as_ref()
            .is_none_or(|wanted| *wanted == country(life))
    };
    let of = |provider: &str| {
        query
            .provider
            .as_ref()
            .is_none_or(|wanted| wanted == provider)
    };
    let about: Vec<_> = messages
        .iter()
        .filter(|(life, _)| in_range(life) && of_country(life))
        .collect();
    let own: Vec<_> = about.iter().filter(|(_, now)| of(&now.provider)).collect();
    let number =
        |test: &dyn Fn(&Now) -> bool| own.iter().filter(|(_, now)| test(now)).count() as u64;
    let verified = |provider: &str| {
        let own = about.iter().filter(|(_, now)| now.carrier() == provider);
        own.map(|(_, now)| now.verified).sum::<u64>()
    };
    let (mut known, mut estimated, mut unpriced) = (0, 0, 0);
    let mut unconverted: BTreeMap<&str, u128> = BTreeMap::new();
    let mut countries: BTreeMap<String, (u64, u128, u128)> = BTreeMap::new();
    for (life, now) in &own {
        let sums = countries.entry(country(life)).or_default();
        sums.0 += 1;
        match price(life, now) {
            Price::Known(currency, amount) => {
                known += dollars(currency, amount);
                sums.1 += dollars(currency, amount);
                if currency == "GBP" {
                    *unconverted.entry(currency).or_default() += amount;
                }
            }
            Price::Estimated(currency, amount) => {
                estimated += dollars(currency, amount);
                sums.2 += dollars(currency, amount);
            }
            Price::Unknown => unpriced += 1,
            Price::Nothing => {}
        }
    }
    let cost = |known: u128, estimated: u128| Cost {
        total: rounded(known + estimated),
        estimated: rounded(estimated),
    };
    let mut by_country: Vec<_> = countries
        .into_iter()
        .map(|(country, (count, known, estimated))| CountryFigures {
            country,
            count,
            cost: cost(known, estimated),
        })
        .collect();
    by_country.sort_by(|a, b| {
        let key = |of: &CountryFigures| (of.cost.total, of.count);
        key(b).cmp(&key(a)).then(a.country.cmp(&b.country))
    });
    by_country.truncate(10);
    let status = |of: Status| match of {
        Status::Delivered => number(&|now| now.status.arrived()),
        of => number(&|now| now.status == of),
    };
    let statuses = Status::ALL.into_iter().filter(|of| *of != Status::Read);
    let providers: BTreeSet<&str> = own
        .iter()
        .map(|(_, now)| &*now.provider)
        .chain(
            about
                .iter()
                .filter(|(_, now)| now.verified > 0)
                .map(|(_, now)| now.carrier()),
        )
        .filter(|provider| of(provider))
        .collect();
    let percentile = |spans: Vec<u64>| {
        let mut histogram = Histogram::default();
        spans.iter().for_each(|span| histogram.record(*span));
        let mut sum = Sum::default();
        sum.add(&histogram);
        (sum.count(), sum.percentile(95))
    };
    let mut timeline: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for (life, now) in &own {
        let step = query.interval.start(query.interval.of(hour(life.accepted)));
        let count = timeline.entry(step).or_default();
        count.0 += 1;
        count.1 += u64::from(now.status.arrived());
    }
    Figures {
        count: own.len() as u64,
        delivered: status(Status::Delivered),
        failed: status(Status::Failed),
        cost: cost(known, estimated),
        unpriced,
        unconverted: unconverted
            .into_iter()
            .map(|(currency, amount)| (currency.to_owned(), u64::try_from(amount).expect("small")))
            .collect(),
        by_country,
        by_status: statuses
            .map(|of| (of, status(of)))
            .filter(|(_, count)| *count > 0)
            .collect(),
        by_provider: providers
            .iter()
            .map(|of| {
                (
                    (*of).to_owned(),
                    number(&|now| now.provider == *of),
                    verified(of),
                )
            })
            .collect(),
        conversion: Conversion {
            sent: own.iter().filter(|(life, _)| life.code).count() as u64,
            verified: providers.iter().map(|of| verified(of)).sum(),
        },
        latency: [
            percentile(own.iter().filter_map(|(_, now)| now.queue).collect()),
            percentile(own.iter().filter_map(|(_, now)| now.delivery).collect()),
        ],
        timeline: timeline
            .into_iter()
            .map(|(start, (count, came))| (start, count, came))
            .collect(),
    }
}

/// The messages of each hour, as they stand.
fn hours_of(messages: &[(Life, Now)]) -> BTreeMap<u64, Vec<Event>> {
    let mut hours: BTreeMap<u64, Log> = BTreeMap::new();
    for (life, now) in messages {
        let log = hours.entry(life.accepted / HOUR * HOUR).or_default();
        now.stands(life, log);
    }
    let hours = hours.into_iter();
    hours.map(|(hour, log)| (hour, log.0)).collect()
}

fn provider() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["p", "q", "r"]).prop_map(Into::into)
}

fn happening() -> impl Strategy<Value = Happening> {
    let over = prop::sample::select(vec![Status::Failed, Status::Expired, Status::Unknown]);
    let receipt = prop::sample::select(vec![
        Status::Unknown,
        Status::Undelivered,
        Status::Failed,
        Status::Delivered,
        Status::Read,
    ]);
    let priced = prop::sample::select(vec![("0.0079", "USD"), ("1.5", "EUR"), ("1.5", "GBP")]);
    prop_oneof![
        4 => (provider(), 0u64..100_000).prop_map(|(by, after)| Happening::Sent(by, after)),
        1 => (over, prop::option::of(provider())).prop_map(|(to, by)| Happening::Over(to, by)),
        1 => Just(Happening::Replayed),
        3 => (receipt, 0u64..100_000).prop_map(|(to, after)| Happening::Receipt(to, after)),
        2 => priced.prop_map(|(amount, currency)| Happening::Priced(amount, currency)),
        1 => (1u64..4).prop_map(Happening::Segments),
        1 => Just(Happening::Verified),
    ]
}

fn life() -> impl Strategy<Value = Life> {
    let country = prop::sample::select(vec![Some("US"), Some("DE"), Some("IN"), Some("FR"), None]);
    let steps = prop::collection::vec(happening(), 0..7);
    (0u64..80 * 24, country, any::<bool>(), steps).prop_map(|(after, country, code, steps)| Life {
        id: 0,
        accepted: START + after * HOUR + after % 7 * 1_000,
        country: country.map(Into::into),
        code,
        steps,
    })
}

fn query() -> impl Strategy<Value = Query> {
    let country = prop::sample::select(vec![None, None, Some("DE"), Some("001"), Some("JP")]);
    let provider = prop::sample::select(vec![None, None, Some("p"), Some("")]);
    let interval = prop::sample::select(vec![Level::Hour, Level::Day, Level::Month]);
    (-50i64..85 * 24, 0i64..90 * 24, interval, country, provider).prop_map(
        |(from, length, interval, country, provider)| {
            let most = if interval == Level::Hour {
                31 * 24
            } else {
                i64::MAX
            };
            Query {
                interval,
                country: country.map(Into::into),
                provider: provider.map(Into::into),
                ..hours(from, from + length.min(most))
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_the_batches_and_the_crashes_the_figures_are_those_of_the_messages(
        lives in prop::collection::vec(life(), 0..40),
        turns in prop::collection::vec(any::<prop::sample::Index>(), 300),
        batches in prop::collection::vec((1u64..20, any::<bool>(), any::<bool>()), 1..40),
        queries in prop::collection::vec(query(), 6),
        foresight in prop::collection::vec(any::<bool>(), 1..50),
    ) {
        // Messages live side by side: whose turn it is decides chance.
        let mut log = Log::default();
        let lives = (0..).zip(lives).map(|(id, life)| Life { id, ..life });
        let mut messages: Vec<(Life, Now)> = lives.map(|life| (life, Now::new())).collect();
        let mut done: Vec<usize> = vec![0; messages.len()];
        for turn in turns {
            let open: Vec<usize> = (0..messages.len())
                .filter(|n| done[*n] <= messages[*n].0.steps.len())
                .collect();
            if open.is_empty() {
                break;
            }
            let n = *turn.get(&open);
            let (life, now) = &mut messages[n];
            match done[n].checked_sub(1) {
                None => accept(life, &mut log),
                Some(step) => now.live(life, &life.steps[step].clone(), &mut log),
            }
            done[n] += 1;
        }
        let accepted = messages.into_iter().zip(&done).filter(|(_, done)| **done > 0);
        let messages: Vec<_> = accepted.map(|(message, _)| message).collect();
        // The host looks for the carrier when it hands an event over, so it may know more than the log
        // has told by then.
        let accepted = log.0.iter_mut().filter(|event| event.kind == "verification.approved");
        for (event, sees) in accepted.zip(foresight.iter().cycle()) {
            let id = event.message.expect("of a message") as u64;
            let (_, now) = messages.iter().find(|(life, _)| life.id == id).expect("accepted");
            if *sees && event.attributes.is_empty() && now.taken {
                event.attributes.push(("provider".into(), now.provider.clone()));
            }
        }

        let mut host = Simulation::new(SETTINGS);
        let end = log.0.len() as u64 + 1;
        let mut next = host.fold(&batch(&[], 0, 0));
        let mut sizes = batches.iter().cycle();
        while next < end {
            let (size, crash, again) = sizes.next().expect("a cycle");
            let to = (next + size).min(end);
            let some = &log.0[next as usize - 1..to as usize - 1];
            let batch = batch(some, next, to);
            if *crash {
                host.crash(&batch);
            }
            let then = host.fold(&batch);
            if *again {
                // The host has not heard of it and hands the same over once more.
                prop_assert_eq!(host.fold(&batch), then);
            }
            next = then;
        }
        for query in &queries {
            let found = Figures::from(host.ask(query).expect("answered"));
            prop_assert_eq!(found, model(&messages, query), "{:?}", query);
        }
        // Counted anew, every hour comes to the same, whether it was there before or not.
        let mut again = Simulation::new(SETTINGS);
        again.fold(&batch(&[], 1, end.max(2)));
        for (hour, events) in hours_of(&messages) {
            let size = batches[0].0 as usize;
            prop_assert_eq!(host.recount(hour, &events, size), Replaced::Same);
            prop_assert_eq!(again.recount(hour, &events, size), Replaced::Changed);
        }
        for query in &queries {
            let found = Figures::from(again.ask(query).expect("answered"));
            prop_assert_eq!(found, model(&messages, query), "anew: {:?}", query);
        }
    }
}
