//! `countersign component`: the versions of the components.

mod inspected;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ask::{Session, print};
use super::{Failure, Place};
use crate::components::{
    self, ComponentShown, ComponentsRequest, Exported, InstalledShown, StepShown, VersionShown,
};
use crate::config::{Environment, Merged};
use crate::control::{Answer, Request};
use crate::services::{self, built_in};

use inspected::Inspected;

/// List, inspect, install, take back and export the components that decide and speak.
#[derive(Debug, Args)]
pub(super) struct Component {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all components with their versions.
    List,
    /// Show what a file asks for and offers, whether its world has that, what it wants to be given, and its limits.
    /// Needs no server.
    Inspect {
        /// A component, or a core module that carries its component type.
        file: PathBuf,
    },
    /// Install a version; in the running server it is live when this returns.
    Install {
        /// The component's name, as `list` shows it.
        name: String,
        /// The version.
        file: PathBuf,
        /// Give it so many of a hundred phones' and users' calls only.
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=99))]
        canary: Option<u8>,
    },
    /// Take the newest version back: a canary, or else the live one.
    Rollback {
        /// The component's name, as `list` shows it.
        name: String,
    },
    /// Write the live version to a new file; a built-in one where there is no data yet.
    Export {
        /// The component's name, as `list` shows it.
        name: String,
        /// The file, which must not be there yet.
        file: PathBuf,
    },
}

impl Component {
    /// Does it and prints the answer.
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let json = self.json;
        let request = match self.action {
            Action::Inspect { file } => {
                let limits = Merged::load(&self.place.into(), environment)?.offline()?;
                let limits = services::limits(limits.services.limits);
                let shown = Inspected::of(&file, limits)?;
                return Ok(print(&match json {
                    true => shown.as_json(),
                    false => shown.for_people(),
                })?);
            }
            Action::List => ComponentsRequest::List,
            Action::Install { name, file, canary } => {
                let file = std::path::absolute(&file).unwrap_or(file);
                ComponentsRequest::Install { name, file, canary }
            }
            Action::Rollback { name } => ComponentsRequest::RollBack { name },
            Action::Export { name, file } => {
                let file = std::path::absolute(&file).unwrap_or(file);
                ComponentsRequest::Export { name, file }
            }
        };
        let settings = Merged::load(&self.place.into(), environment)?.offline()?;
        if let ComponentsRequest::Export { name, file } = &request
            && !settings.folders.data.join("store").exists()
            && let Some(bytes) = built_in(name)
        {
            components::write_new(file, bytes)?;
            let exported = Exported::new(name, file.clone(), bytes);
            return Ok(print(&said(&Answer::Exported(exported), json))?);
        }
        let heard = |step: StepShown| {
            if !json {
                // Nobody reading it is no reason to fail.
                let _ = writeln!(
                    std::io::stderr().lock(),
                    "{:<10} {:>9.2} ms",
                    step.name,
                    step.ms
                );
            }
        };
        let answer = Session::new(&settings).ask_and_hear(Request::Components(request), &heard)?;
        Ok(print(&said(&answer, json))?)
    }
}

fn said(answer: &Answer, json: bool) -> String {
    if json {
        format!("{}\n", as_json(answer))
    } else {
        for_people(answer)
    }
}

fn as_json(answer: &Answer) -> Value {
    match answer {
        Answer::Components(all) => json!({ "components": all }),
        Answer::Installed(installed) => json!(installed),
        Answer::RolledBack(component) => json!(component),
        Answer::Exported(exported) => json!(exported),
        // Answers to what is not asked here.
        other => json!(other),
    }
}

fn for_people(answer: &Answer) -> String {
    match answer {
        Answer::Components(all) => all.iter().map(lines).collect(),
        Answer::Installed(installed) => installed_lines(installed),
        Answer::RolledBack(component) => {
            format!(
                "{} is at {} again.\n",
                component.name,
                short(&component.sha256)
            )
        }
        Answer::Exported(exported) => format!(
            "{} {} was written to {}.\n",
            exported.name,
            short(&exported.sha256),
            exported.file.display()
        ),
        // Answers to what is not asked here.
        other => format!("{}\n", json!(other)),
    }
}

/// Enough to tell the versions of a component apart.
fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}

fn lines(component: &ComponentShown) -> String {
    let trial = match &component.trial {
        Some(trial) if trial.percent < 100 => {
            format!(", {} with {} percent", short(&trial.sha256), trial.percent)
        }
        Some(trial) => {
            let until = trial.until.as_deref().unwrap_or_default();
            format!(", on trial until {until}")
        }
        None => String::new(),
    };
    let head = format!("{}{trial}\n", component.name);
    let versions = component.versions.iter().map(version_line);
    [head].into_iter().chain(versions).collect()
}

fn version_line(version: &VersionShown) -> String {
    format!(
        "  {}  {:<11}  {}  {:>9} bytes  {}\n",
        short(&version.sha256),
        version.state,
        version.installed_at,
        version.bytes,
        version.by
    )
}

fn installed_lines(installed: &InstalledShown) -> String {
    let (name, sha256) = (
        &installed.component.name,
        short(&installed.installed_sha256),
    );
    if installed.steps.is_empty() {
        return format!("{name} {sha256} is live already.\n");
    }
    let ms: f64 = installed.steps.iter().map(|step| step.ms).sum();
    match &installed.component.trial {
        Some(trial) if trial.percent < 100 => {
            format!(
                "{name} {sha256} has {} percent after {ms:.0} ms.\n",
                trial.percent
            )
        }
        Some(_) => format!(
            "{name} {sha256} is live after {ms:.0} ms. Where it fails, the version before it takes over again.\n"
        ),
        None => format!("{name} {sha256} is live after {ms:.0} ms.\n"),
    }
}
