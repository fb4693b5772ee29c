//! Proofs, metrics and answers as others read them: by libraries of another ecosystem, in a process of its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process::{Finished, finish};

/// Checks `proof` with PyJWT, by the key set at `key_set`: prints its header and claims as JSON, or why it
/// does not hold.
///
/// # Panics
/// When there is no Python with PyJWT, with the line to type.
pub async fn check_proof(key_set: &str, issuer: &str, audience: &str, proof: &str) -> Finished {
    let mut command = script("check_proof.py");
    command.args([key_set, issuer, audience, proof]);
    finish(command).await
}

/// Reads `page` with the strict parser of Prometheus' own client, and what `dashboard` and `rules` ask
/// of metrics with a parser of its language: see `read_metrics.py`.
///
/// # Panics
/// When one of them cannot be read, or there is no Python with those parsers, with the line to type.
pub async fn read_metrics(page: &str, dashboard: &Path, rules: &Path) -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("page");
    std::fs::write(&file, page).expect("it can be written");
    let mut command = script("read_metrics.py");
    command.args([&file, dashboard, rules]);
    let read = finish(command).await;
    read.expect_success().json()
}

/// Checks `exchanges` by the OpenAPI `description`, and that itself, with validators of another ecosystem: see
/// `check_answers.py`. Returns which statuses each operation was seen to answer.
///
/// # Panics
/// When one of them is not as described, or there is no Python with those validators, with the line to type.
pub async fn check_answers(description: &Value, exchanges: &[Value]) -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut command = script("check_answers.py");
    for (name, value) in [
        ("description", description.clone()),
        ("exchanges", exchanges.into()),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, value.to_string()).expect("it can be written");
        command.arg(file);
    }
    let checked = finish(command).await;
    checked.expect_success().json()
}

/// A script of `tests/python`, still without arguments.
fn script(name: &str) -> Command {
    let mut command = Command::new(python());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    command.env_clear().arg(folder.join(name));
    command
}

/// The Python that `cargo xtask python` has made in the target folder.
fn python() -> PathBuf {
    in_target("test-python/bin/python", "cargo xtask python")
}

/// What `command` has put into the target folder under `name`.
pub(crate) fn in_target(name: &str, command: &str) -> PathBuf {
    // A test lies in TARGET/PROFILE/deps.
    let test = env::current_exe().expect("a test knows its own path");
    let target = test.ancestors().nth(3).unwrap_or(Path::new(""));
    let path = target.join(name);
    assert!(
        path.exists(),
        "there is no `{}`: run `{command}` first",
        path.display()
    );
    path
}
