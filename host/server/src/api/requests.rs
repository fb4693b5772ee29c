//! Counts requests: by the route's template and never by the path, which anybody can fill with anything.

use std::collections::HashMap;
use std::time::Duration;

use axum::Router;
use axum::http::Method;
use axum::response::Response;
use axum::routing::MethodRouter;
use countersign_types::{Counter, Histogram, Level};

use super::problem::Kind;
use super::{Api, Arc};
use crate::metrics::{Labels, Page, label};

/// What is counted for a path that no route has.
const NO_ROUTE: &str = "none";
/// Any other method is `other`: what a client calls a method is no label.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "other"];
/// Of statuses, by their first digit.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Microseconds.
const TIMES: &[u64] = &[
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

/// Routes, and the templates of their paths.
pub(super) struct Routes {
    pub(super) router: Router<Arc<Api>>,
    templates: Vec<&'static str>,
}

impl Routes {
    pub(super) fn new() -> Routes {
        Routes {
            router: Router::new(),
            templates: Vec::new(),
        }
    }

    /// Adds a route, as [`Router::route`] does.
    pub(super) fn route(
        mut self,
        template: &'static str,
        methods: MethodRouter<Arc<Api>>,
    ) -> Routes {
        self.templates.push(template);
        self.router = self.router.route(template, methods);
        self
    }
}

#[derive(Debug)]
struct MethodCounts {
    classes: [Counter; CLASSES.len()],
    times: Histogram,
}

/// What has been asked and answered, since the process began.
#[derive(Debug)]
pub(super) struct Requests {
    /// Where a template's counts are.
    places: HashMap<&'static str, usize>,
    /// For each template, the first being that of no route, one for each method.
    counts: Vec<(&'static str, [MethodCounts; METHODS.len()])>,
    problems: [Counter; Kind::ALL.len()],
    pub(super) in_flight: Level,
}

impl Requests {
    pub(super) fn new(routes: &Routes) -> Requests {
        let templates: Vec<_> = [NO_ROUTE]
            .iter()
            .chain(&routes.templates)
            .copied()
            .collect();
        let places = templates.iter().enumerate();
        let method = |_| MethodCounts {
            classes: Default::default(),
            times: Histogram::new(TIMES),
        };
        Requests {
            places: places.map(|(place, template)| (*template, place)).collect(),
            counts: templates
                .iter()
                .map(|template| (*template, std::array::from_fn(method)))
                .collect(),
            problems: std::array::from_fn(|_| Counter::default()),
            in_flight: Level::default(),
        }
    }

    /// Counts an answer that took so long.
    pub(super) fn answered(
        &self,
        template: Option<&str>,
        method: &Method,
        response: &Response,
        took: Duration,
    ) {
        let place = template.and_then(|template| self.places.get(template));
        let (_, methods) = &self.counts[place.copied().unwrap_or(0)];
        let named = METHODS.iter().position(|name| *name == method.as_str());
        let counts = &methods[named.unwrap_or(METHODS.len() - 1)];
        let class = usize::from(response.status().as_u16() / 100).saturating_sub(2);
        if let Some(count) = counts.classes.get(class) {
            count.add_one();
        }
        counts.times.record_time(took);
        if let Some(kind) = response.extensions().get::<Kind>() {
            self.problems[*kind as usize].add_one();
        }
    }

    pub(super) fn add_to(&self, page: &mut Page) {
        page.counter(
            "countersign_http_requests",
            "Requests that were answered; a route's method is there from its first request on.",
            self.asked().flat_map(|(labels, counts)| {
                let classes = CLASSES.iter().zip(&counts.classes);
                classes.map(move |(class, count)| {
                    let mut labels = labels.clone();
                    labels.push(label("status", class));
                    (labels, count.value())
                })
            }),
        );
        page.seconds_histogram(
            "countersign_http_request_duration",
            "How long requests took, from their head to the head of the answer.",
            self.asked()
                .map(|(labels, counts)| (labels, counts.times.spread())),
        );
        page.gauge(
            "countersign_http_requests_in_flight",
            "Requests that are being answered, this one included.",
            [(Labels::new(), self.in_flight.value() as f64)],
        );
        page.counter(
            "countersign_http_problems",
            "Answers that were problem details, by the last part of their type.",
            Kind::ALL
                .iter()
                .zip(&self.problems)
                .map(|(kind, count)| (vec![label("code", kind.code())], count.value())),
        );
    }

    /// The counts of what was asked for at least once.
    fn asked(&self) -> impl Iterator<Item = (Labels, &MethodCounts)> {
        self.counts.iter().flat_map(|(template, methods)| {
            let used = METHODS
                .iter()
                .zip(methods)
                .filter(|(_, counts)| counts.classes.iter().any(|count| count.value() > 0));
            used.map(move |(method, counts)| {
                let labels = vec![label("route", template), label("method", method)];
                (labels, counts)
            })
        })
    }
}
