//! Projects in each language, built as somebody builds them who has just begun one.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::Server;
use crate::browser::installed;
use crate::process::{Finished, finish};
use crate::python::in_target;

/// What every project here is called.
const NAME: &str = "my-sms";

/// A language that projects come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// With Cargo.
    Rust,
    /// With componentize-js.
    JavaScript,
    /// With componentize-py.
    Python,
}

impl Language {
    /// As `--lang` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::JavaScript => "js",
            Self::Python => "python",
        }
    }
}

/// A new project, in a folder of its own.
#[derive(Debug)]
pub struct Project {
    language: Language,
    home: TempDir,
}

impl Project {
    /// A project as `countersign provider new` writes it. What its build would install first is there already.
    ///
    /// # Panics
    /// When that is missing, with the line to type.
    pub async fn new(language: Language) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder can be made");
        let project = Self { language, home };
        let folder = project.folder();
        let into = folder.to_string_lossy();
        let new = [
            "provider",
            "new",
            NAME,
            "--lang",
            language.name(),
            "--into",
            &into,
        ];
        let written = Server::builder().console().run(&new).await;
        written.expect_success();
        let put = |there: PathBuf, here: &str| symlink(there, folder.join(here)).unwrap();
        match language {
            // The very versions that this repository is built with, so that nothing is fetched. A copy, since
            // Cargo takes out what the project does not need.
            Language::Rust => {
                let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
                fs::copy(lock, folder.join("Cargo.lock")).unwrap();
            }
            Language::JavaScript => put(
                in_target("provider-js/node_modules", "cargo xtask node"),
                "node_modules",
            ),
            Language::Python => put(in_target("provider-python", "cargo xtask python"), ".venv"),
        }
        project
    }

    /// Where it lies.
    pub fn folder(&self) -> PathBuf {
        self.home.path().join(NAME)
    }

    /// Runs its build command, and returns the component.
    pub async fn build(&self) -> PathBuf {
        let line: &[&str] = match self.language {
            Language::Rust => &["build", "--release", "--target", "wasm32-wasip2"],
            Language::JavaScript => &["run", "build"],
            Language::Python => &["build.py"],
        };
        self.run(line).await.expect_success();
        self.component()
    }

    fn component(&self) -> PathBuf {
        let file = match self.language {
            Language::Rust => "target/wasm32-wasip2/release/my_sms.wasm",
            Language::JavaScript | Language::Python => "my-sms.wasm",
        };
        self.folder().join(file)
    }

    /// Runs its own tests, which may need what the build has written.
    pub async fn tests(&self) -> Finished {
        let line: &[&str] = match self.language {
            Language::Rust => &["test", "--release"],
            Language::JavaScript => &["test"],
            Language::Python => &["-m", "unittest"],
        };
        self.run(line).await
    }

    /// Runs the conformance kit on the component.
    pub async fn kit(&self) -> Finished {
        let component = self.component();
        let component = component.to_string_lossy();
        let conformance = self.folder().join("conformance.toml");
        let conformance = conformance.to_string_lossy();
        let test = [
            "provider",
            "test",
            &component,
            "--conformance",
            &conformance,
        ];
        Server::builder().console().run(&test).await
    }

    /// Runs a command of its language in it. Nothing is fetched: what a project in Rust needs must be among what
    /// this repository was built of.
    async fn run(&self, line: &[&str]) -> Finished {
        let mut command = match self.language {
            Language::Rust => {
                let mut cargo = Command::new("cargo");
                cargo
                    .env("CARGO_NET_OFFLINE", "true")
                    .env("CARGO_TARGET_DIR", self.folder().join("target"))
                    // Of the Cargo that runs the tests.
                    .env_remove("RUSTFLAGS")
                    .env_remove("CARGO_ENCODED_RUSTFLAGS");
                cargo
            }
            Language::JavaScript => self.alone("npm"),
            Language::Python => self.alone("python3"),
        };
        command.args(line).current_dir(self.folder());
        finish(command).await
    }

    /// A program that finds nothing of ours but other programs.
    fn alone(&self, program: &str) -> Command {
        let mut command = Command::new(installed(program));
        command
            .env_clear()
            .envs(env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", self.home.path());
        command
    }
}
