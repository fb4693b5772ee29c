//! Which providers may carry a message, and whose turn it is.

use std::sync::Arc;

use countersign_queue::{Destination, Job, Lanes};
use countersign_types::{NumberKind, Priority};

use crate::Health;

/// Which providers may carry which messages, in the order in which they are tried. What is left out
/// matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// ISO 3166-1 alpha-2 of the receiver.
    pub country: Option<String>,
    /// What kind of line the receiver's is. Where the two cannot be told apart, as in North America, a line
    /// counts as a mobile one.
    pub line: Option<NumberKind>,
    /// What the message is for, by who goes first.
    pub priority: Option<Priority>,
    /// Configured names; never empty.
    pub providers: Vec<String>,
    /// How many of the messages begin with each of the providers, as parts of the sum, which is not zero;
    /// empty: all begin with the first.
    pub shares: Vec<u32>,
}

/// All routes; the first that matches is taken.
#[derive(Clone, Debug)]
pub struct Routes {
    routes: Arc<Vec<SharedRoute>>,
    health: Arc<Health>,
}

/// A route whose names are shared with the jobs that wait for them.
#[derive(Debug)]
struct SharedRoute {
    route: Route,
    providers: Vec<Arc<str>>,
}

impl Routes {
    /// The routes in their order. `health` reorders what is left of one: a provider that fails goes after
    /// those that do not.
    pub fn new(routes: Vec<Route>, health: Arc<Health>) -> Routes {
        let shared = routes.into_iter().map(|route| SharedRoute {
            providers: route
                .providers
                .iter()
                .map(|name| Arc::from(name.as_str()))
                .collect(),
            route,
        });
        Routes {
            routes: Arc::new(shared.collect()),
            health,
        }
    }

    /// What is known of the providers.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Whose turn it is with a message that is about to be handed over.
    pub(crate) fn admit(&self, job: &Job) -> Option<Arc<str>> {
        self.health.admit(&self.left(job, None)).cloned()
    }

    /// Whose turn it is after `failed`, which was tried last and is not in `job` yet.
    pub(crate) fn after(&self, job: &Job, failed: &str) -> Option<Arc<str>> {
        self.health.turn(&self.left(job, Some(failed))).cloned()
    }

    fn find(&self, destination: Destination<'_>) -> Option<&SharedRoute> {
        self.routes
            .iter()
            .find(|shared| shared.route.matches(destination))
    }

    /// Those that have not been asked in this pass over the route, in the route's order.
    fn left(&self, job: &Job, failed: Option<&str>) -> Vec<&Arc<str>> {
        let Some(route) = self.find(job.destination()) else {
            return Vec::new();
        };
        let tries = job.counts.tried as usize + usize::from(failed.is_some());
        let tried = job.round().iter().rev();
        let tried = tried.map(|attempt| attempt.provider.as_str());
        let tried = failed.into_iter().chain(tried);
        let tried: Vec<&str> = tried.take(tries % route.providers.len()).collect();
        let order = route.order(job);
        order.filter(|name| !tried.contains(&&***name)).collect()
    }
}

impl Lanes for Routes {
    fn providers(&self, destination: Destination<'_>) -> &[Arc<str>] {
        self.find(destination).map_or(&[], |route| &route.providers)
    }

    fn turn(&self, job: &Job) -> Option<Arc<str>> {
        self.health.turn(&self.left(job, None)).cloned()
    }
}

impl Route {
    fn matches(&self, destination: Destination<'_>) -> bool {
        let line = |only: NumberKind| match destination.line {
            NumberKind::FixedLineOrMobile if only == NumberKind::Mobile => true,
            line => line == only,
        };
        let country = |only: &str| only == destination.country;
        self.country.as_deref().is_none_or(country)
            && self.line.is_none_or(line)
            && self
                .priority
                .is_none_or(|only| only == destination.priority)
    }
}

impl SharedRoute {
    /// The one whose share the message falls into, then the others in the operator's order.
    fn order(&self, job: &Job) -> impl Iterator<Item = &Arc<str>> {
        let first = self.first(job);
        let others = self.providers.iter().enumerate();
        let others = others.filter(move |(at, _)| *at != first);
        let first = self.providers.get(first);
        first.into_iter().chain(others.map(|(_, name)| name))
    }

    fn first(&self, job: &Job) -> usize {
        let shares = self.route.shares.iter().map(|&share| u64::from(share));
        let all: u64 = shares.clone().sum();
        if all == 0 {
            return 0;
        }
        let mut drawn = draw(job) % all;
        let drawn_by = |share: u64| match drawn.checked_sub(share) {
            Some(rest) => {
                drawn = rest;
                false
            }
            None => true,
        };
        shares.map(drawn_by).position(|drawn| drawn).unwrap_or(0)
    }
}

/// A number that is the same whenever one message is looked at, and evenly spread over messages: of the
/// receiver and the time of the acceptance.
///
/// Source: the output function of SplitMix64 (G. Steele, D. Lea, C. Flood, OOPSLA 2014).
fn draw(job: &Job) -> u64 {
    let mix = |mut bits: u64| {
        bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    };
    let bytes = job.to.bytes().map(u64::from);
    bytes.fold(mix(job.accepted.0), |bits, byte| mix(bits ^ byte))
}

#[cfg(test)]
mod tests;
