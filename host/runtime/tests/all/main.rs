//! The runtime with real components: scripted ones made for it, and the built-in ones.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod analytics;
mod attackers;
mod bench;
mod callbacks;
mod erase;
mod fuzz;
mod hostile;
mod kept;
mod once;
mod providers;
mod recount;
mod registry;
mod rows;
mod rules;
mod two_factor;
