//! `countersign doctor`: prints what `doctor.rs` has found.

use std::io::Write;
use std::sync::Arc;

use clap::Args;
use countersign_store::{OpenError, SledStore};
use countersign_types::{Clock, SystemClock, SystemEntropy, UnixMillis};
use miette::Diagnostic;
use serde_json::json;

use super::{Failure, Held, Place, reach};
use crate::config::{Config, Environment, Folders, Merged};
use crate::control::{Answer, ControlError, Request, with_cause};
use crate::doctor::{self, Finding, Severity};

/// Look for what is wrong with the configuration, the data, the keys and the machine.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error, Diagnostic)]
enum DoctorError {
    #[error("{0} of the findings must be put right")]
    #[diagnostic(code(countersign::doctor::errors))]
    Errors(usize),
    #[error("cannot write the findings")]
    #[diagnostic(code(countersign::doctor::output))]
    Output(#[source] std::io::Error),
    #[error("the operating system refuses what the command needs")]
    #[diagnostic(code(countersign::doctor::system))]
    System(#[source] std::io::Error),
}

impl Doctor {
    /// Looks and prints; fails where a finding is an error.
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let findings = look(self.place, environment)?;
        let count = |wanted| {
            let of = findings.iter().filter(|finding| finding.severity == wanted);
            of.count()
        };
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let text = if self.json {
            let shown = json!({"findings": findings, "errors": errors, "warnings": warnings});
            format!("{shown}\n")
        } else {
            let lines: String = findings.iter().map(Finding::for_people).collect();
            format!("{lines}{errors} errors, {warnings} warnings\n")
        };
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(DoctorError::Output)?;
        match errors {
            0 => Ok(()),
            errors => Err(DoctorError::Errors(errors).into()),
        }
    }
}

fn look(place: Place, environment: &Environment) -> Result<Vec<Finding>, DoctorError> {
    let now = SystemClock.now();
    let mut findings = doctor::look_at_clock(now);
    let merged = match Merged::load(&place.into(), environment) {
        Ok(merged) => merged,
        Err(error) => {
            findings.push(doctor::bad_configuration(&error));
            return Ok(findings);
        }
    };
    let folders = merged.folders();
    let reserve = match Config::new(&merged, environment) {
        Ok(config) => {
            findings.extend(doctor::look_at_configuration(&config));
            findings.extend(doctor::look_at_open_files(config.http.connections_max));
            config.reserve_bytes
        }
        Err(error) => {
            findings.push(doctor::bad_configuration(&error));
            0
        }
    };
    findings.extend(doctor::look_at_folders(&folders, reserve));
    findings.extend(look_at_store(&folders, now)?);
    Ok(findings)
}

/// In the running server, or in a store that this command opens.
fn look_at_store(folders: &Folders, now: UnixMillis) -> Result<Vec<Finding>, DoctorError> {
    let path = folders.data.join("store");
    if !path.exists() {
        return Ok(vec![doctor::no_data(folders)]);
    }
    let keyring = match doctor::load_keys(&folders.keys, &SystemEntropy) {
        Ok(keyring) => keyring,
        Err(finding) => return Ok(vec![finding]),
    };
    /// Why the store was not reached.
    enum Unreached {
        Control(ControlError),
        Open(OpenError),
    }
    impl From<ControlError> for Unreached {
        fn from(error: ControlError) -> Unreached {
            Unreached::Control(error)
        }
    }
    let open = || SledStore::open(&path).map_err(Unreached::Open);
    let in_use = |error: &Unreached| matches!(error, Unreached::Open(OpenError::InUse { .. }));
    match reach(folders, &Request::Doctor, open, in_use) {
        Ok(Held::ByServer(Answer::Findings(findings))) => Ok(findings),
        Ok(Held::ByServer(_)) => Ok(vec![doctor::unreached(&with_cause(&ControlError::Answer))]),
        Ok(Held::Here(store)) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .map_err(DoctorError::System)?;
            let store: Arc<dyn countersign_store::Store> = store;
            Ok(runtime.block_on(doctor::look_at_store(&store, &keyring, now)))
        }
        Err(Unreached::Control(error)) => Ok(vec![doctor::unreached(&with_cause(&error))]),
        Err(Unreached::Open(error)) => Ok(vec![doctor::unopened(&error)]),
    }
}
