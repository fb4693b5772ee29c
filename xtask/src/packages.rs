//! What the tests need beside Rust: a browser and Node.js for the example, Python for proofs, and what
//! providers in other languages are built with.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use crate::{Failure, root, run, run_in, run_with, target};

/// A program, and the package of Debian that has it.
type Program = (&'static str, &'static str);

const NODE: Program = ("node", "nodejs");
const BROWSER: [Program; 3] = [
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
    NODE,
];
const NPM: [Program; 2] = [NODE, ("npm", "npm")];

/// Packages of npm in the target folder.
struct Modules {
    /// Where they lie there.
    folder: &'static str,
    /// The folder of their `package.json` and `package-lock.json`.
    source: &'static str,
}

const MODULES: [Modules; 2] = [
    // What a provider in JavaScript is built with: the lock is that of every new project.
    Modules {
        folder: "provider-js",
        source: "host/server/src/cli/provider/templates/js",
    },
    // Twilio's own description of its API, and what judges requests by it.
    Modules {
        folder: "test-judge",
        source: "tests/judge",
    },
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

/// Makes sure that a browser is there, and what runs the example.
pub(crate) fn browser() -> Result<(), Failure> {
    programs("what is tested and shown in a browser", &BROWSER)
}

/// Makes sure that the packages of npm are there that tests need; they are installed anew only when
/// their lock has changed.
pub(crate) fn node() -> Result<(), Failure> {
    let what = "what is tested with packages of npm";
    programs(what, &NPM)?;
    MODULES.iter().try_for_each(|modules| {
        modules.install().map_err(|failure| {
            Failure(format!(
                "{what} could not be set up ({failure}); to try again type: cargo xtask node"
            ))
        })
    })
}

impl Modules {
    fn install(&self) -> Result<(), Failure> {
        let folder = root().join(target()).join(self.folder);
        let read = |name: &str| {
            let path = root().join(self.source).join(name);
            let text = std::fs::read_to_string(&path);
            let text =
                text.map_err(|error| Failure(format!("cannot read {}: {error}", path.display())))?;
            // A template's own name is no name for npm.
            Ok(text.replace("{{name}}", "provider"))
        };
        let wanted = read("package.json")? + &read("package-lock.json")?;
        let installed = folder.join("installed");
        if std::fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        let write = |path: PathBuf, text: &str| {
            std::fs::write(&path, text)
                .map_err(|error| Failure(format!("cannot write {}: {error}", path.display())))
        };
        std::fs::create_dir_all(&folder)
            .map_err(|error| Failure(format!("cannot make {}: {error}", folder.display())))?;
        for name in ["package.json", "package-lock.json"] {
            write(folder.join(name), &read(name)?)?;
        }
        // Nothing that comes along is run, and nobody is asked about it.
        let args = [
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ];
        run_in(&folder, "npm", args, &[])?;
        // Last, so that what was broken off is done again.
        write(installed, &wanted)
    }
}

/// Makes sure that all `programs` are there: installs what is missing where that can be done.
fn programs(what: &str, programs: &[Program]) -> Result<(), Failure> {
    let missing = missing(programs);
    if !missing.is_empty() {
        install(what, &missing)?;
    }
    let version = node_version();
    if version.is_some_and(|version| version >= NODE_MIN) {
        return Ok(());
    }
    let found = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
    Err(Failure(format!(
        "{what} needs Node.js {NODE_MIN} or newer, and `node` is {found}: put a newer one on the PATH"
    )))
}

/// The packages of those that are not on the path.
fn missing(programs: &[Program]) -> Vec<&'static str> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there =
        |program: &str| env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let missing = programs.iter().filter(|(program, _)| !is_there(program));
    missing.map(|(_, package)| *package).collect()
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
