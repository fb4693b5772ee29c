//! The real `countersign` binary, from outside.
//!
//! [`Server`] starts the program that a user would start and speaks HTTP to it; [`FakeTwilio`] is
//! the provider at the other end, a real HTTP server with Twilio's manners. Between the two stands
//! nothing of ours: a test that passes here says what a stranger will see.
//!
//! Nothing in here waits for a time that should be enough. What has to happen is waited for, at most
//! [`PATIENCE`], and the panic says what was waited for and what came instead.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    reason = "a test harness reports by panicking, and reads the clock of the world it tests in"
)]

use std::time::Duration;

mod accept;
mod browser;
mod client;
mod clock;
pub mod companies;
mod company;
mod disk;
mod judge;
mod languages;
mod login_app;
mod messages_api;
mod output;
mod process;
mod python;
mod receipts;
mod scan;
mod server;
mod traffic;
mod twilio;
mod users;

pub use browser::{Browser, Element};
pub use client::{Answer, Client, Header};
pub use clock::WallClock;
pub use company::{FakeCompany, Manners};
pub use disk::{Disk, DiskCall, DiskCounts, PowerMode};
pub use futures_util::future::join_all;
pub use judge::Judge;
pub use languages::{Language, Project};
pub use login_app::LoginApp;
pub use messages_api::{ACCOUNT_SID, AUTH_TOKEN, Message, PHONE_NUMBER, Request};
pub use output::Output;
pub use process::{Finished, Running};
pub use python::{check_answers, check_proof, read_metrics};
pub use receipts::{PUBLIC_URL, Receipt};
pub use scan::{Find, Needle, Scan};
pub use server::{Builder, Server, TEST_KEY, binary, program};
pub use traffic::{ADMIN_TOKEN, Traffic};
pub use twilio::{FakeTwilio, Reply};
pub use users::{Enrolled, User, base32, totp, totp_at};

/// How long anything may take before a test gives up on it.
///
/// Long, because two cores that also compile are slow; only a failing test ever waits this long.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Between two looks at what a server shows, so that those who wait leave the machine to what they wait for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Looks again and again until there is what is looked for.
///
/// # Panics
/// When that takes longer than [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// The text of the send that is one too many in a minute (*contract*).
pub const TOO_MANY_SENDS: &str = "Too many attempts. Please wait 1 minute.";

/// The reason for a code that is wrong, expired, used, or was never sent (*contract*).
pub const WRONG_CODE: &str = "Invalid or expired code";

/// The reason for every answer after the fifth wrong one (*contract*).
pub const TOO_MANY_TRIES: &str = "Too many attempts";

/// The `n`th of 400,000 numbers that exist as far as libphonenumber knows.
#[track_caller]
pub fn phone(n: usize) -> String {
    assert!(n < 400_000, "only 400,000 numbers are at hand");
    format!("+1202{:03}{:04}", 456 + n / 10_000, n % 10_000)
}

/// A code that differs from `code` in its last digit only.
#[track_caller]
pub fn wrong(code: &str) -> String {
    nearly(code, 1)
}

/// The `n`th of nine codes that differ from `code` in the last digit only (`n` from 1 to 9).
#[track_caller]
pub fn nearly(code: &str, n: u8) -> String {
    assert!((1..=9).contains(&n), "there are nine other digits");
    let (head, last) = code.split_at(code.len() - 1);
    let last: u8 = last.parse().expect("a code is made of digits");
    format!("{head}{}", (last + n) % 10)
}
