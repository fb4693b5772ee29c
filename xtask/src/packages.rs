//! What the tests need beside Rust: a browser and Node.js for the example, Python for proofs.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::{Failure, run, run_with};

/// Programs, and the packages of Debian that have them.
const PROGRAMS: [(&str, &str); 3] = [
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
    ("node", "nodejs"),
];
const NODE_MIN: u32 = 18;
const INSTALL: [&str; 3] = ["install", "--yes", "--no-install-recommends"];

/// Installs packages where that can be done; `what` needs them.
pub(crate) fn install(what: &str, packages: &[&str]) -> Result<(), Failure> {
    let line = format!("apt-get {} {}", INSTALL.join(" "), packages.join(" "));
    let needed = |why: String| {
        Failure(format!(
            "{what} needs {} ({why}); type: sudo apt-get update && sudo {line}",
            packages.join(", ")
        ))
    };
    if !is_root() {
        return Err(needed("only root can install packages".to_owned()));
    }
    let quiet = [("DEBIAN_FRONTEND", "noninteractive".to_owned())];
    run("apt-get", ["update"]).map_err(|failure| needed(failure.0))?;
    run_with("apt-get", INSTALL.iter().chain(packages), &quiet).map_err(|failure| needed(failure.0))
}

/// Makes sure that all of them are there: installs what is missing where that can be done.
pub(crate) fn browser() -> Result<(), Failure> {
    let missing = missing();
    if !missing.is_empty() {
        install("what is tested and shown in a browser", &missing)?;
    }
    let version = node_version();
    if version.is_some_and(|version| version >= NODE_MIN) {
        return Ok(());
    }
    let found = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
    Err(Failure(format!(
        "the example runs with Node.js {NODE_MIN} or newer, and `node` is {found}: put a newer one on the PATH"
    )))
}

/// The packages of what is not on the path.
fn missing() -> Vec<&'static str> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there =
        |program: &str| env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let missing = PROGRAMS
        .into_iter()
        .filter(|(program, _)| !is_there(program));
    missing.map(|(_, package)| package).collect()
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The first number of what `node --version` says.
fn node_version() -> Option<u32> {
    let output = Command::new("node").arg("--version").output().ok()?;
    major(&String::from_utf8_lossy(&output.stdout))
}

/// The first number of a version such as `v20.19.2`.
fn major(version: &str) -> Option<u32> {
    let number = version.trim().strip_prefix('v')?.split('.').next()?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_node_is_its_first_number() {
        assert_eq!(major("v20.19.2\n"), Some(20));
        assert_eq!(major("v9.0.0"), Some(9));
        assert_eq!(major("node: not found"), None);
        assert_eq!(major(""), None);
    }
}
