//! Proofs as others check them: by a library of another ecosystem, in a process of its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Finished, finish};

/// Checks `proof` with PyJWT, by the key set at `key_set`: prints its header and claims as JSON, or why it
/// does not hold.
///
/// # Panics
/// When there is no Python with PyJWT, with the line to type.
pub async fn check_proof(key_set: &str, issuer: &str, audience: &str, proof: &str) -> Finished {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/check_proof.py");
    let mut command = Command::new(python());
    command
        .env_clear()
        .arg(script)
        .args([key_set, issuer, audience, proof]);
    finish(command).await
}

/// The Python that `cargo xtask python` has made in the target folder.
fn python() -> PathBuf {
    // A test lies in TARGET/PROFILE/deps.
    let test = env::current_exe().expect("a test knows its own path");
    let target = test.ancestors().nth(3).unwrap_or(Path::new(""));
    let python = target.join("test-python/bin/python");
    assert!(
        python.is_file(),
        "there is no `{}`: run `cargo xtask python` first",
        python.display()
    );
    python
}
