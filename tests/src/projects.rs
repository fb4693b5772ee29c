//! Projects of others, built as they would be on their machines.

use std::path::Path;
use std::process::Command;

use crate::process::{Finished, finish};

/// Runs Cargo in `project`, whose target folder is its own. Nothing is fetched: what it needs must be among what
/// this repository was built of.
///
/// # Panics
/// When it takes longer than [`PATIENCE`](crate::PATIENCE).
pub async fn cargo(project: &Path, args: &[&str]) -> Finished {
    let mut command = Command::new("cargo");
    command
        .args(args)
        .current_dir(project)
        .env("CARGO_NET_OFFLINE", "true")
        .env("CARGO_TARGET_DIR", project.join("target"))
        // Of the Cargo that runs the tests.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    finish(command).await
}
