//! What is said on the control socket: requests, answers and refusals, as JSON has them, and how the
//! command line shows them.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use countersign_store::{BackupError, BackupSummary, Rotated};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};

use crate::components::{ComponentShown, ComponentsRequest, Exported, InstalledShown, StepShown};
use crate::doctor::Finding;
use crate::keys;
use crate::lookup::{self, MessagesRequest, WithNumber};
use crate::queue::{Page, QueueRequest, Replayed, Status};
use crate::recount::{AnalyticsRequest, RecountShown};
use crate::stops::{self, StopsRequest};
use crate::story::Story;
use crate::users::{Moved, Trail, UserShown, UsersRequest};

/// What the command line can ask for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    Keys(KeysRequest),
    Queue(QueueRequest),
    Users(UsersRequest),
    Messages(MessagesRequest),
    Stops(StopsRequest),
    Components(ComponentsRequest),
    Analytics(AnalyticsRequest),
    /// Write a backup to the file, an absolute path.
    Backup {
        file: PathBuf,
    },
    /// Look at the store and the keys.
    Doctor,
    /// Which server this is.
    About,
    /// Make new secret keys and use them.
    RotateKeyring,
}

/// What can be done with API keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeysRequest {
    Create { name: Option<String> },
    List,
    Revoke { id: String },
}

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    KeyCreated {
        id: String,
        key: String,
    },
    Keys(Vec<KeyShown>),
    KeyRevoked(KeyShown),
    Queue(Status),
    Dead(Page),
    Letter(Box<Story>),
    Replayed(Box<Story>),
    ReplayedSome(Replayed),
    Messages(lookup::Page),
    Message(Box<Story>),
    Revealed(WithNumber),
    Trail(Trail),
    Stops(stops::Listed),
    StopsCleared(stops::Cleared),
    User(Box<UserShown>),
    UserChanged,
    MovedIn(Vec<Moved>),
    Components(Vec<ComponentShown>),
    Installed(Box<InstalledShown>),
    RolledBack(Box<ComponentShown>),
    Exported(Exported),
    /// A step is done, and the answer is still to come.
    Progress(StepShown),
    Recounted(RecountShown),
    BackedUp(BackupShown),
    KeyringRotated(RotatedShown),
    Findings(Vec<Finding>),
    About(About),
    Failed(Refused),
}

/// Why a request was not carried out, as the command line says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Refused {
    pub(crate) reason: String,
    pub(crate) help: Option<String>,
    /// The error's code; a server of another version may say none.
    #[serde(default)]
    pub(crate) code: Option<String>,
}

impl Refused {
    pub(crate) fn new(code: &str, reason: impl Into<String>, help: Option<&str>) -> Refused {
        Refused {
            reason: reason.into(),
            help: help.map(str::to_owned),
            code: Some(code.to_owned()),
        }
    }
}

impl Diagnostic for Refused {
    fn code<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        let code = self
            .code
            .as_deref()
            .unwrap_or("countersign::command::failed");
        Some(Box::new(code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        let help = self.help.as_ref()?;
        Some(Box::new(help))
    }
}

/// Why there is no backup.
pub(crate) fn backup_refused(error: &BackupError) -> Refused {
    let code = match error {
        BackupError::Exists { .. } => "countersign::backup::exists",
        BackupError::Running => "countersign::backup::running",
        BackupError::TooSlow { .. } => "countersign::backup::too_slow",
        BackupError::Write { .. } => "countersign::backup::write",
        BackupError::Store(_) => "countersign::backup::store",
    };
    Refused::new(code, with_cause(error), None)
}

/// An error with what it comes from, on one line.
pub(crate) fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_cause(cause)),
        None => error.to_string(),
    }
}

/// The server that holds a data folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    /// The id of its process.
    pub(crate) process: u32,
    /// Where it serves.
    pub(crate) address: SocketAddr,
    /// It was told to stop, and ends what it has begun.
    pub(crate) stopping: bool,
}

/// A backup as the command line shows it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BackupShown {
    pub(crate) file: PathBuf,
    pub(crate) rows: u64,
    pub(crate) changes: u64,
    pub(crate) bytes: u64,
}

impl BackupShown {
    pub(crate) fn new(file: PathBuf, summary: BackupSummary) -> BackupShown {
        BackupShown {
            file,
            rows: summary.rows,
            changes: summary.changes,
            bytes: summary.bytes,
        }
    }
}

/// New secret keys as the command line shows them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RotatedShown {
    /// The names of the new files.
    pub(crate) made: Vec<String>,
    /// Where they lie.
    pub(crate) folder: PathBuf,
    /// Whether a running server uses them already.
    pub(crate) in_use: bool,
}

impl RotatedShown {
    pub(crate) fn new(rotated: Rotated, folder: &Path, in_use: bool) -> RotatedShown {
        let Rotated {
            codes,
            rows,
            signing,
        } = rotated;
        RotatedShown {
            made: vec![
                format!("codes-{codes}.key"),
                format!("rows-{rows}.key"),
                format!("signing-{signing}.key"),
            ],
            folder: std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()),
            in_use,
        }
    }
}

/// A key as the command line shows it. Times are RFC 3339.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeyShown {
    pub(crate) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revoked: Option<String>,
}

impl From<keys::Key> for KeyShown {
    fn from(key: keys::Key) -> KeyShown {
        KeyShown {
            id: key.id,
            name: key.name,
            created: key.created.to_string(),
            revoked: key.revoked.map(|time| time.to_string()),
        }
    }
}
