//! What is told of the versions of components, over HTTP, on the socket of the commands, and in a command
//! that has opened the store itself.

use std::path::PathBuf;

use countersign_runtime::{
    By, InstallError, Installed, Plan, Record, Registry, Sha256, Step, Version,
};
use countersign_types::one_line;
use miette::Diagnostic;
use serde::{Deserialize, Serialize};

use crate::control::{Answer, Refused, with_cause};

/// What can be done with components.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ComponentsRequest {
    List,
    Install {
        name: String,
        /// An absolute path.
        file: PathBuf,
        canary: Option<u8>,
    },
    RollBack {
        name: String,
    },
    /// The live version into a new file, an absolute path.
    Export {
        name: String,
        file: PathBuf,
    },
}

/// A component with its versions.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ComponentShown {
    pub(crate) name: String,
    /// Of the version that all calls use, or most.
    pub(crate) sha256: String,
    /// `live`; `trial` where the newest may still be taken back by itself; `canary` where it has a share.
    pub(crate) state: String,
    /// Whether the live version is one that somebody has installed.
    pub(crate) installed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trial: Option<TrialShown>,
    /// Newest first.
    pub(crate) versions: Vec<VersionShown>,
}

/// A version that may still be taken back by itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrialShown {
    pub(crate) sha256: String,
    /// In how many of a hundred subjects' calls it is used.
    pub(crate) percent: u8,
    /// What takes over when it fails.
    pub(crate) before: String,
    /// RFC 3339; a canary has no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<String>,
}

/// A version of a component. Times are RFC 3339.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionShown {
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
    pub(crate) installed_at: String,
    pub(crate) by: String,
    /// `live`, `canary`, `rolled-back` or `kept`.
    pub(crate) state: String,
    /// The state version of the rows that a service's writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state_version: Option<u32>,
}

/// A step of an installation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StepShown {
    pub(crate) name: String,
    pub(crate) ms: f64,
}

/// What came of an installation.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InstalledShown {
    /// Of the version that was installed.
    pub(crate) installed_sha256: String,
    /// What was done, in order; nothing where it was live already.
    pub(crate) steps: Vec<StepShown>,
    #[serde(flatten)]
    pub(crate) component: ComponentShown,
}

impl ComponentShown {
    pub(crate) fn all(records: &[(String, Record)]) -> Vec<ComponentShown> {
        let all = records.iter();
        all.map(|(name, record)| ComponentShown::of(name, record))
            .collect()
    }

    pub(crate) fn of(name: &str, record: &Record) -> ComponentShown {
        let canary = record.trial.as_ref().filter(|trial| trial.percent < 100);
        let canary = canary.map(|trial| trial.sha256);
        let state = match (&record.trial, canary) {
            (_, Some(_)) => "canary",
            (Some(_), None) => "trial",
            (None, None) => "live",
        };
        let versions = record.versions.iter();
        ComponentShown {
            name: name.to_owned(),
            sha256: record.live.to_string(),
            state: state.to_owned(),
            installed: record.is_installed(),
            trial: record.trial.as_ref().map(|trial| TrialShown {
                sha256: trial.sha256.to_string(),
                percent: trial.percent,
                before: trial.before.to_string(),
                until: (trial.percent == 100).then(|| trial.until.to_string()),
            }),
            versions: versions
                .map(|version| VersionShown::of(version, record.live, canary))
                .collect(),
        }
    }
}

impl VersionShown {
    fn of(version: &Version, live: Sha256, canary: Option<Sha256>) -> VersionShown {
        let state = if version.sha256 == live {
            "live"
        } else if canary == Some(version.sha256) {
            "canary"
        } else if version.rolled_back {
            "rolled-back"
        } else {
            "kept"
        };
        VersionShown {
            sha256: version.sha256.to_string(),
            bytes: version.bytes,
            installed_at: version.installed_at.to_string(),
            by: version.by.as_str().to_owned(),
            state: state.to_owned(),
            state_version: (version.state_writes != 0).then_some(version.state_writes),
        }
    }
}

impl From<&Step> for StepShown {
    fn from(step: &Step) -> StepShown {
        // To a hundredth of a millisecond: more is noise.
        let ms = (step.took.as_secs_f64() * 1e5).round() / 1e2;
        StepShown {
            name: step.name.to_owned(),
            ms,
        }
    }
}

impl InstalledShown {
    pub(crate) fn of(name: &str, installed: &Installed) -> InstalledShown {
        InstalledShown {
            installed_sha256: installed.sha256.to_string(),
            steps: installed.steps.iter().map(StepShown::from).collect(),
            component: ComponentShown::of(name, &installed.record),
        }
    }
}

/// Why something was not done with a component.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum ComponentError {
    #[error("cannot read the component file `{}`", path.display())]
    #[diagnostic(
        code(countersign::component::unreadable),
        help(
            "check the path; a running server reads the file itself, so its user must be able to"
        )
    )]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write `{}`", path.display())]
    #[diagnostic(
        code(countersign::component::unwritable),
        help(
            "name a file that is not there yet; a running server writes it itself, so its user must be able to"
        )
    )]
    Unwritable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Does what is asked; `told` hears of the steps of an installation.
pub(crate) async fn perform(
    registry: &Registry,
    request: ComponentsRequest,
    told: &(dyn Fn(&Step) + Send + Sync),
) -> Answer {
    match request {
        ComponentsRequest::List => match registry.list().await {
            Ok(all) => Answer::Components(ComponentShown::all(&all)),
            Err(error) => refused(&error),
        },
        ComponentsRequest::Install { name, file, canary } => {
            let _room = match registry.room_to_read() {
                Ok(room) => room,
                Err(error) => return refused(&error),
            };
            let bytes = match read_aside(&file, registry.bytes_max()).await {
                Ok(bytes) => bytes,
                Err(error) => return not_done(&error),
            };
            let by = By::Command;
            let plan = Plan { by, canary };
            match registry.install(&name, bytes, plan, told).await {
                Ok(done) => Answer::Installed(Box::new(InstalledShown::of(&name, &done))),
                Err(error) => refused(&error),
            }
        }
        ComponentsRequest::RollBack { name } => match registry.roll_back(&name, None).await {
            Ok(record) => Answer::RolledBack(Box::new(ComponentShown::of(&name, &record))),
            Err(error) => refused(&error),
        },
        ComponentsRequest::Export { name, file } => {
            let bytes = match registry.live_bytes(&name).await {
                Ok(bytes) => bytes,
                Err(error) => return refused(&error),
            };
            match write_new(&file, &bytes) {
                Ok(()) => Answer::Exported(Exported::new(&name, file, &bytes)),
                Err(error) => not_done(&error),
            }
        }
    }
}

/// With what the operating system says.
fn not_done(error: &ComponentError) -> Answer {
    let code = error.code().map(|code| code.to_string());
    let help = error.help().map(|help| help.to_string());
    let code = code.unwrap_or_default();
    Answer::Failed(Refused::new(&code, with_cause(error), help.as_deref()))
}

/// A version that was written to a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Exported {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
}

impl Exported {
    pub(crate) fn new(name: &str, file: PathBuf, bytes: &[u8]) -> Exported {
        Exported {
            name: name.to_owned(),
            file,
            sha256: Sha256::of(bytes).to_string(),
            bytes: bytes.len() as u64,
        }
    }
}

/// The bytes of a file, and one more than `bytes_max` at most: that one says that it is too large.
pub(crate) fn read(file: &std::path::Path, bytes_max: u64) -> Result<Vec<u8>, ComponentError> {
    use std::io::Read;

    let read = std::fs::File::open(file).and_then(|opened| {
        let mut bytes = Vec::new();
        opened.take(bytes_max + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    read.map_err(|source| ComponentError::Unreadable {
        path: file.to_owned(),
        source,
    })
}

/// As [`read`], where it keeps no call waiting.
pub(crate) async fn read_aside(
    file: &std::path::Path,
    bytes_max: u64,
) -> Result<Vec<u8>, ComponentError> {
    let path = file.to_owned();
    let reading = tokio::task::spawn_blocking(move || read(&path, bytes_max));
    reading.await.unwrap_or_else(|source| {
        Err(ComponentError::Unreadable {
            path: file.to_owned(),
            source: std::io::Error::other(source),
        })
    })
}

/// Writes a file that is not there yet.
pub(crate) fn write_new(file: &std::path::Path, bytes: &[u8]) -> Result<(), ComponentError> {
    use std::io::Write;

    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file);
    let written = opened.and_then(|mut opened| opened.write_all(bytes));
    written.map_err(|source| ComponentError::Unwritable {
        path: file.to_owned(),
        source,
    })
}

fn refused(error: &InstallError) -> Answer {
    Answer::Failed(unfit(error))
}

/// As the command line says it.
pub(crate) fn unfit(error: &InstallError) -> Refused {
    let code = format!("countersign::component::{}", error.code());
    // Names in a file may hold anything.
    Refused::new(
        &code,
        one_line(&with_cause(error)),
        Some(&one_line(&error.help())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_types::UnixMillis;

    fn version(name: &str, by: By, rolled_back: bool) -> Version {
        Version {
            sha256: Sha256::of(name.as_bytes()),
            bytes: 7,
            installed_at: UnixMillis(1_769_860_800_000),
            by,
            rolled_back,
            state_writes: 1,
            state_reads: vec![1],
        }
    }

    #[test]
    fn a_component_is_told_with_its_versions_their_times_and_who_brought_them() {
        let live = version("new", By::Administrator, false);
        let old = version("old", By::BuiltIn, true);
        let record = Record {
            live: live.sha256,
            trial: None,
            before: vec![old.sha256],
            states: vec![1],
            seen: Vec::new(),
            versions: vec![live, old],
        };
        let shown = serde_json::to_value(ComponentShown::of("otp", &record)).expect("JSON");
        let sha = |name: &str| Sha256::of(name.as_bytes()).to_string();
        let want = serde_json::json!({
            "name": "otp",
            "sha256": sha("new"),
            "state": "live",
            "installed": true,
            "versions": [
                {
                    "sha256": sha("new"),
                    "bytes": 7,
                    "installedAt": "2026-01-31T12:00:00Z",
                    "by": "administrator",
                    "state": "live",
                    "stateVersion": 1,
                },
                {
                    "sha256": sha("old"),
                    "bytes": 7,
                    "installedAt": "2026-01-31T12:00:00Z",
                    "by": "built-in",
                    "state": "rolled-back",
                    "stateVersion": 1,
                },
            ],
        });
        assert_eq!(shown, want);
    }

    #[test]
    fn what_was_installed_is_read_as_it_was_written() {
        let live = version("new", By::Administrator, false);
        let record = Record {
            live: live.sha256,
            trial: None,
            before: Vec::new(),
            states: vec![1],
            seen: Vec::new(),
            versions: vec![live.clone()],
        };
        let installed = Installed {
            sha256: live.sha256,
            record,
            steps: Vec::new(),
        };
        let written = serde_json::to_string(&InstalledShown::of("otp", &installed)).expect("JSON");
        let read: InstalledShown = serde_json::from_str(&written).expect("no name stands twice");
        assert_eq!(read.installed_sha256, live.sha256.to_string());
        assert!(read.component.installed);
    }

    #[test]
    fn an_export_writes_over_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("otp.wasm");
        write_new(&file, b"one").expect("written");
        assert!(write_new(&file, b"two").is_err());
        assert_eq!(read(&file, 3).expect("read"), b"one");
        assert_eq!(read(&file, 1).expect("read").len(), 2);
    }
}
