//! Which provider carries a message, and which one when that fails.

use std::sync::Arc;

use countersign_queue::LaneOf;

/// Which providers may carry a message, in the order in which they are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// ISO 3166-1 alpha-2 of the receiver; `None` matches all.
    pub country: Option<String>,
    /// Configured names; never empty.
    pub providers: Vec<String>,
}

/// All routes; the first that matches is taken.
#[derive(Clone, Debug, Default)]
pub struct Routes(Arc<Vec<SharedRoute>>);

/// A route whose names are shared with the jobs that wait for them.
#[derive(Debug)]
struct SharedRoute {
    country: Option<String>,
    providers: Vec<Arc<str>>,
}

impl Routes {
    /// The routes in their order.
    pub fn new(routes: Vec<Route>) -> Routes {
        let shared = routes.into_iter().map(|route| SharedRoute {
            country: route.country,
            providers: route
                .providers
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
        });
        Routes(Arc::new(shared.collect()))
    }

    /// The providers for a receiver in `country`; empty where no route matches.
    pub fn providers(&self, country: &str) -> &[Arc<str>] {
        let matches = |only: &Option<String>| only.as_ref().is_none_or(|only| only == country);
        let route = self.0.iter().find(|route| matches(&route.country));
        route.map_or(&[], |route| &route.providers)
    }

    /// Whose turn it is: the first of the route, and after a try the one after the last tried.
    pub fn provider(&self, country: &str, last: Option<&str>) -> Option<Arc<str>> {
        let providers = self.providers(country);
        let last = last.and_then(|last| providers.iter().position(|name| **name == *last));
        let turn = last.map_or(0, |at| (at + 1) % providers.len());
        providers.get(turn).cloned()
    }

    /// What the queue asks to know whom a job waits for.
    pub fn lane_of(&self) -> LaneOf {
        let routes = self.clone();
        Arc::new(move |country, last| routes.provider(country, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_route_that_matches_is_taken_and_its_providers_take_turns() {
        let route = |country: Option<&str>, providers: &[&str]| Route {
            country: country.map(str::to_owned),
            providers: providers.iter().map(|name| (*name).to_owned()).collect(),
        };
        let routes = Routes::new(vec![
            route(Some("IN"), &["c"]),
            route(None, &["a", "b"]),
            route(Some("US"), &["d"]),
        ]);
        let turn = |country, last| routes.provider(country, last);
        assert_eq!(turn("IN", None).as_deref(), Some("c"));
        assert_eq!(turn("IN", Some("c")).as_deref(), Some("c"));
        assert_eq!(turn("US", None).as_deref(), Some("a"));
        assert_eq!(turn("US", Some("a")).as_deref(), Some("b"));
        assert_eq!(turn("US", Some("b")).as_deref(), Some("a"));
        assert_eq!(turn("US", Some("gone")).as_deref(), Some("a"));
        assert_eq!(Routes::default().provider("US", None), None);
    }
}
