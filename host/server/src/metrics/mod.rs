//! What an operator's monitoring reads at `/metrics`: counting it, and how it is told.
//!
//! Whatever is counted of messages and verifications is counted from the events of commits that hold
//! (`events`, `store`), so that neither a run that went stale nor a repeated request counts twice.
//! `sender` watches deliveries, `process` the process; the crates below count what only they can see. A
//! label has a few values, known beforehand: never a number, a code, a user, a key, or a word of a
//! request's. `docs/metrics.md` is the list, and a test compares it with what is told.

mod events;
mod page;
mod process;
mod sender;
mod store;

use std::sync::Arc;

use countersign_delivery::{BreakerState, Health};
use countersign_queue::Overview;
use countersign_runtime::{PlacesOverview, RuntimeOverview};
use countersign_store::{SledStore, Store};
use countersign_types::UnixMillis;

pub(crate) use page::{CONTENT_TYPE, Labels, Page, label};
pub(crate) use sender::Measured as MeasuredSender;

use crate::connections::Counts;
use events::EventCounts;
use sender::Deliveries;
use store::Commits;

/// Whatever the server itself counts since the process began.
#[derive(Debug)]
pub(crate) struct Metrics {
    began: UnixMillis,
    events: EventCounts,
    commits: Commits,
    deliveries: Deliveries,
    pub(crate) connections: Arc<Counts>,
}

impl Metrics {
    /// Of a process that began at `now` and hands messages to `providers`, each with how many it is
    /// handed at once.
    pub(crate) fn new(providers: Vec<(String, usize)>, now: UnixMillis) -> Arc<Metrics> {
        let names = providers.iter().map(|(name, _)| name.clone()).collect();
        Arc::new(Metrics {
            began: now,
            events: EventCounts::new(names),
            commits: Commits::new(),
            deliveries: Deliveries::new(providers),
            connections: Arc::default(),
        })
    }

    /// `store`, with what is committed to it counted.
    pub(crate) fn watch(self: &Arc<Metrics>, store: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(store::Measured::new(store, self.clone()))
    }

    /// Adds all that does not depend on HTTP.
    pub(crate) fn add_to(&self, page: &mut Page) {
        self.events.add_to(page);
        self.commits.add_to(page);
        self.deliveries.add_to(page);
        process::add_to(page, self.began);
        page.gauge(
            "countersign_build_info",
            "Always 1; which version runs.",
            vec![(vec![label("version", env!("CARGO_PKG_VERSION"))], 1.0)],
        );
        let lines = crate::telemetry::lines();
        page.counter(
            "countersign_log_lines",
            "Lines of the log, as far as the filter lets them pass.",
            lines.map(|(level, count)| (vec![label("level", level)], count)),
        );
    }
}

/// Adds what the store has counted, and its disk.
pub(crate) fn add_store(page: &mut Page, store: &SledStore) {
    let figures = store.figures();
    let none = Labels::new;
    page.histogram(
        "countersign_store_group_commits",
        "Commits that were made durable together.",
        vec![(none(), figures.group_commits.spread())],
    );
    page.seconds_histogram(
        "countersign_store_sync_duration",
        "How long it took to make a group of commits durable.",
        vec![(none(), figures.sync_times.spread())],
    );
    let (free, reserve) = store.room();
    page.bytes(
        "countersign_store_free",
        "What may still be written to the disk of the store.",
        free,
    );
    page.bytes(
        "countersign_store_reserve",
        "What is to stay free of it: with less, new messages are turned away.",
        Some(reserve),
    );
}

/// Adds how many of the store's events the reports do not have yet.
pub(crate) fn add_reports(page: &mut Page, store: &SledStore, runtime: Option<&RuntimeOverview>) {
    let first = runtime.and_then(|runtime| runtime.reported);
    let behind = first.map(|first| (store.newest_event() + 1).saturating_sub(first));
    page.gauge(
        "countersign_reports_lag_events",
        "Events that the reports have not counted yet.",
        behind.map(|behind| (Labels::new(), behind as f64)),
    );
}

/// Adds which of `providers` are asked.
pub(crate) fn add_health<'a>(
    page: &mut Page,
    providers: impl Iterator<Item = &'a str>,
    health: &Health,
) {
    let open = |name: &str| health.of(name).state != BreakerState::Closed;
    page.gauge(
        "countersign_provider_open",
        "Whether the circuit breaker of a provider is open, so that others of its routes go first.",
        providers.map(|name| {
            let open = f64::from(u8::from(open(name)));
            (vec![label("provider", name)], open)
        }),
    );
}

/// Adds what is in the queue at `now`.
pub(crate) fn add_queue(page: &mut Page, queue: Option<Overview>, now: UnixMillis) {
    let priorities = |queue: &Overview| {
        let counts = [
            ("urgent", queue.urgent),
            ("normal", queue.normal),
            ("bulk", queue.bulk),
        ];
        counts.map(|(priority, count)| (vec![label("priority", priority)], count as f64))
    };
    let single = |value: f64| vec![(Labels::new(), value)];
    let of = |figure: fn(&Overview) -> usize| {
        let figure = queue.as_ref().map(|queue| figure(queue) as f64);
        figure.map(single).unwrap_or_default()
    };
    page.gauge(
        "countersign_queue_messages",
        "Messages that are not over, those in hand included.",
        queue.as_ref().map(priorities).into_iter().flatten(),
    );
    page.gauge(
        "countersign_queue_claimed",
        "Messages that somebody works on.",
        of(|queue| queue.claimed),
    );
    page.gauge(
        "countersign_queue_capacity",
        "How many messages may wait.",
        of(|queue| queue.capacity),
    );
    page.gauge(
        "countersign_dead_letters",
        "Messages that no provider could take, and that can be replayed.",
        of(|queue| queue.dead),
    );
    let age = queue.map(|queue| {
        let age = queue.oldest.map(|since| now.since(since));
        age.map_or(0.0, |age| age.as_secs_f64())
    });
    page.seconds_gauge(
        "countersign_queue_oldest_age",
        "How long the oldest message that is not over has been waiting; 0 without one.",
        age,
    );
}

/// Adds what goes on in the runtime.
pub(crate) fn add_runtime(page: &mut Page, runtime: Option<RuntimeOverview>) {
    let single = |value: f64| vec![(Labels::new(), value)];
    let of = |figure: fn(&RuntimeOverview) -> f64| {
        let figure = runtime.as_ref().map(figure);
        figure.map(single).unwrap_or_default()
    };
    let places = |figure: fn(&PlacesOverview) -> usize| {
        let all = runtime.iter().flat_map(|runtime| &runtime.places);
        let of_one = |one: &PlacesOverview| {
            let labels = vec![label("component", &one.component)];
            (labels, figure(one) as f64)
        };
        all.map(of_one).collect::<Vec<_>>()
    };
    page.gauge(
        "countersign_call_places",
        "How many calls of a service component may run at once.",
        places(|one| one.places),
    );
    page.gauge(
        "countersign_call_places_taken",
        "How many of them run.",
        places(|one| one.taken),
    );
    page.gauge(
        "countersign_calls_waiting",
        "How many calls wait for a place.",
        places(|one| one.waiting),
    );
    page.gauge(
        "countersign_wasm_instances_max",
        "How many instances of components there may be at once.",
        of(|runtime| f64::from(runtime.instances_max)),
    );
    page.gauge(
        "countersign_wasm_instances",
        "How many instances there are, with those that wait for their next call.",
        of(|runtime| runtime.instances as f64),
    );
    let hashes = runtime.as_ref().map(|runtime| runtime.hashes);
    page.counter(
        "countersign_password_hashes",
        "Hashes of backup codes that were worked out.",
        hashes.map(|hashes| (Labels::new(), hashes)),
    );
    let (services, providers) = match &runtime {
        Some(runtime) => (&*runtime.services, &*runtime.providers),
        None => (&[][..], &[][..]),
    };
    let component = |name: &str| label("component", name);
    page.counter(
        "countersign_calls",
        "Calls of service components, by how they ended.",
        services.iter().flat_map(|service| {
            service.outcomes.iter().map(|(outcome, count)| {
                let labels = vec![component(&service.component), label("outcome", outcome)];
                (labels, *count)
            })
        }),
    );
    page.counter(
        "countersign_call_reruns",
        "Runs of calls that did not count and were made again.",
        services.iter().flat_map(|service| {
            [("stale", service.stale), ("limit", service.no_room)].map(|(cause, count)| {
                let labels = vec![component(&service.component), label("cause", cause)];
                (labels, count)
            })
        }),
    );
    page.seconds_histogram(
        "countersign_call_duration",
        "How long calls of service components took, with the wait for a turn and the commit.",
        services
            .iter()
            .map(|service| (vec![component(&service.component)], service.times.clone())),
    );
    page.counter(
        "countersign_provider_failures",
        "Calls at which a provider's component failed.",
        providers.iter().flat_map(|one| {
            [("failed", one.failed), ("timeout", one.timed_out)].map(|(cause, count)| {
                let labels = vec![label("provider", &one.provider), label("cause", cause)];
                (labels, count)
            })
        }),
    );
}
