//! The contract, from outside: one binary, one module per topic. The names of tests are the rules.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests report by panicking, and read the clock of the world they test in"
)]

mod analytics;
mod backup;
mod bad_http;
mod bad_input;
mod commands;
mod companies;
mod components;
mod config;
mod console;
mod crash;
mod dashboard;
mod disk;
mod doctor;
mod example;
mod follow;
mod fuzz;
mod hang_up;
mod http2;
mod idempotency;
mod installs;
mod judge;
mod keyring;
mod keys;
mod languages;
mod lookup;
mod messages;
mod metrics;
mod openapi;
mod otp;
mod overload;
mod power;
mod provider_kit;
mod providers;
mod queue;
mod races;
mod readme;
mod receipts;
mod repeats;
mod rounds;
mod routes;
mod secrets;
mod serving;
mod stops;
mod texts;
mod two_factor;

use countersign_tests::{FakeTwilio, Server};

/// A server whose messages go to a Twilio of our own.
async fn start() -> (FakeTwilio, Server) {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    (twilio, server)
}
