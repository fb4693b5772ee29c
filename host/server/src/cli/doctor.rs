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
use crate::control::{self, About, Answer, ControlError, Request, with_cause};
use crate::doctor::{self, Finding, Severity};
use crate::serve::check_components;

/// Look for what is wrong with the configuration, the data, the keys and the machine.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
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
    let config = match Config::new(&merged, environment) {
        Ok(config) => Some(config),
        Err(error) => {
            findings.push(doctor::bad_configuration(&error));
            None
        }
    };
    let mut reserve = 0;
    let mut without_keys = &[][..];
    if let Some(config) = &config {
        findings.extend(doctor::look_at_configuration(config));
        findings.extend(doctor::look_at_open_files(config.http.connections_max));
        reserve = config.reserve_bytes;
        without_keys = &config.without_keys;
    }
    findings.extend(doctor::look_at_folders(&folders, reserve));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(DoctorError::System)?;
    let of_store = look_at_store(&folders, without_keys, now, &runtime);
    // Where the store could not be looked at nobody knows, and that is told by itself.
    let no_key = |finding: &Finding| ["no-api-key", "no-data"].contains(&finding.code.as_str());
    let key = !of_store.iter().any(no_key);
    findings.extend(of_store);
    if let Some(config) = config {
        let server = about(&folders);
        findings.extend(doctor::look_at_address(config.listen, server.as_ref()));
        findings.extend(doctor::look_at_mode(&config, key));
        let checked = runtime.block_on(check_components(config.providers, config.services.limits));
        findings.extend(doctor::unusable_components(&checked));
    }
    Ok(findings)
}

/// In the running server, or in a store that this command opens.
fn look_at_store(
    folders: &Folders,
    without_keys: &[String],
    now: UnixMillis,
    runtime: &tokio::runtime::Runtime,
) -> Vec<Finding> {
    let path = folders.data.join("store");
    if !path.exists() {
        return vec![doctor::no_data(folders)];
    }
    let keyring = match doctor::load_keys(&folders.keys, &SystemEntropy) {
        Ok(keyring) => keyring,
        Err(finding) => return vec![finding],
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
        Ok(Held::ByServer(Answer::Findings(findings))) => findings,
        Ok(Held::ByServer(_)) => vec![doctor::unreached(&with_cause(&ControlError::Answer))],
        Ok(Held::Here(store)) => {
            let store: Arc<dyn countersign_store::Store> = store;
            let looked = doctor::look_at_store(&store, &keyring, without_keys, now);
            runtime.block_on(looked)
        }
        Err(Unreached::Control(error)) => vec![doctor::unreached(&with_cause(&error))],
        Err(Unreached::Open(error)) => vec![doctor::unopened(&error)],
    }
}

/// The server that runs on this data, where one does.
fn about(folders: &Folders) -> Option<About> {
    match control::ask(&folders.data, &Request::About) {
        Ok(Some(Answer::About(about))) => Some(about),
        _ => None,
    }
}
