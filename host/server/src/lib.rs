//! The server: command line, configuration, HTTP, and the wiring of all that lies below.
//!
//! - [`cli`] is where the program starts.
//! - `config` is the one home of every setting, and the one door to the environment.
//! - `serve` wires store, queue, runtime and delivery together and stops them in order; `services` starts
//!   the runtime, for commands too.
//! - `connections` accepts connections; `api` answers requests.
//! - `keys` are the API keys; `users` are the end users of applications, their tokens and proofs;
//!   `control` is the socket through which the command line reaches a
//!   running server; `data` is the data folder; `sealed` tells which secret keys its rows need;
//!   `doctor` looks for what is wrong with all that;
//!   `queue`, `story`, `stops` and `dashboard` are what is told of messages, `recount` counts them anew;
//!   `providers` is what is told of providers;
//!   `conformance` tries out what others have written for a company;
//!   `components` is what is told of versions, `watched` the folder that brings some;
//!   `metrics` is what monitoring reads; `page` makes pages for people.
//!
//! What never lives here: rules about codes (they are the components'), and anything of wasmtime.

mod api;
pub mod cli;
mod components;
mod config;
mod conformance;
mod connections;
mod control;
mod dashboard;
mod data;
mod doctor;
mod keys;
mod lookup;
mod metrics;
mod page;
mod providers;
mod queue;
mod recount;
mod sealed;
mod serve;
mod services;
mod stops;
mod story;
mod telemetry;
mod users;
mod watched;

#[cfg(test)]
mod testing;
