//! Projects in JavaScript and Python, built as somebody builds them who has just begun one.

use std::env;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::Server;
use crate::browser::installed;
use crate::process::{Finished, finish};
use crate::python::in_target;

/// What every project here is called.
const NAME: &str = "my-sms";

/// A language beside Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// With componentize-js.
    JavaScript,
    /// With componentize-py.
    Python,
}

impl Language {
    /// As `--lang` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::JavaScript => "js",
            Self::Python => "python",
        }
    }

    fn command(self, line: &[&str]) -> Command {
        let program = match self {
            Self::JavaScript => "npm",
            Self::Python => "python3",
        };
        let mut command = Command::new(installed(program));
        command
            .env_clear()
            .envs(env::var_os("PATH").map(|path| ("PATH", path)))
            .args(line);
        command
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
        let (there, here) = match language {
            Language::JavaScript => (
                in_target("provider-js/node_modules", "cargo xtask node"),
                "node_modules",
            ),
            Language::Python => (in_target("provider-python", "cargo xtask python"), ".venv"),
        };
        symlink(there, folder.join(here)).unwrap();
        project
    }

    /// Where it lies.
    pub fn folder(&self) -> PathBuf {
        self.home.path().join(NAME)
    }

    /// Runs its build command, and returns the component.
    pub async fn build(&self) -> PathBuf {
        let line: &[&str] = match self.language {
            Language::JavaScript => &["run", "build"],
            Language::Python => &["build.py"],
        };
        self.run(line).await.expect_success();
        self.folder().join(format!("{NAME}.wasm"))
    }

    /// Runs its own tests, which may need what the build has written.
    pub async fn tests(&self) -> Finished {
        let line: &[&str] = match self.language {
            Language::JavaScript => &["test"],
            Language::Python => &["-m", "unittest"],
        };
        self.run(line).await
    }

    /// Runs the conformance kit on the component.
    pub async fn kit(&self) -> Finished {
        let component = self.folder().join(format!("{NAME}.wasm"));
        let component = component.to_string_lossy();
        let test = ["provider", "test", &component];
        Server::builder().console().run(&test).await
    }

    async fn run(&self, line: &[&str]) -> Finished {
        let mut command = self.language.command(line);
        command
            .current_dir(self.folder())
            .env("HOME", self.home.path());
        finish(command).await
    }
}
