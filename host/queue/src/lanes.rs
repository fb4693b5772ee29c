//! Which providers may carry a message: what the queue asks whoever knows the routes.

use std::sync::Arc;

use countersign_types::{NumberKind, Priority};

use crate::Job;

/// What a route is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination<'a> {
    /// ISO 3166-1 alpha-2 of the receiver, or `001`.
    pub country: &'a str,
    /// What kind of line the receiver's is.
    pub line: NumberKind,
    /// Who goes first, and so what the message is for.
    pub priority: Priority,
}

/// The routes. They are asked whenever a job is looked at, so they answer at once, and never use the queue.
pub trait Lanes: Send + Sync {
    /// The providers that may carry a message to `destination`, in the operator's order; empty: none may.
    fn providers(&self, destination: Destination<'_>) -> &[Arc<str>];

    /// The provider that `job` waits for: the one whose turn it is now. `None`: none may carry it.
    fn turn(&self, job: &Job) -> Option<Arc<str>>;
}

/// One route for everything, which begins with the first provider each time.
impl Lanes for Vec<Arc<str>> {
    fn providers(&self, _: Destination<'_>) -> &[Arc<str>] {
        self
    }

    fn turn(&self, _: &Job) -> Option<Arc<str>> {
        self.first().cloned()
    }
}
