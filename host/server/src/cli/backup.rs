//! `countersign backup` and `countersign restore`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use countersign_store::{BackupError, OpenError, RestoreError, SledStore};
use miette::Diagnostic;
use serde_json::{Value, json};

use super::{Failure, Held, Place, reach};
use crate::config::{Environment, Folders, Merged};
use crate::control::{Answer, BackupShown, ControlError, Request};
use crate::data::{self, DataError};

/// Said by both, since a backup alone is of no use.
const KEYS_ARE_NOT_IN_IT: &str = "The host's secret keys are not in it";

/// Write everything that is kept to one file.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The file to write; it must not be there yet.
    file: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Put a backup into a data folder without a store.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup.
    file: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error, Diagnostic)]
enum Trouble {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    #[diagnostic(code(countersign::backup::store))]
    Open(#[from] OpenError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] DataError),
    #[error("there is no data in `{}`", path.display())]
    #[diagnostic(
        code(countersign::backup::no_data),
        help("name the server's data folder with --data or --config")
    )]
    NoData { path: PathBuf },
    #[error(transparent)]
    #[diagnostic(code(countersign::backup::failed))]
    Backup(#[from] BackupError),
    #[error("{reason}")]
    #[diagnostic(code(countersign::backup::failed))]
    Failed {
        reason: String,
        #[help]
        help: Option<String>,
    },
    #[error(transparent)]
    #[diagnostic(code(countersign::restore::failed))]
    Restore(#[from] RestoreError),
    #[error("the operating system refuses what the command needs")]
    #[diagnostic(code(countersign::backup::system))]
    System(#[source] std::io::Error),
    #[error("cannot write the answer")]
    #[diagnostic(code(countersign::backup::output))]
    Output(#[source] std::io::Error),
}

impl Backup {
    /// Does it and prints what was done.
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let folders = Merged::load(&self.place.into(), environment)?.folders();
        let shown = back_up(&folders, &self.file)?;
        let text = if self.json {
            format!("{}\n", json!(shown))
        } else {
            format!(
                "Wrote {} rows and {} changes made meanwhile to {}, {} bytes.\n{KEYS_ARE_NOT_IN_IT}: copy {} too, to another place.\n",
                shown.rows,
                shown.changes,
                shown.file.display(),
                shown.bytes,
                folders.keys.display(),
            )
        };
        Ok(print(&text)?)
    }
}

fn back_up(folders: &Folders, file: &Path) -> Result<BackupShown, Trouble> {
    // The server has a working folder of its own.
    let file = std::path::absolute(file).map_err(Trouble::System)?;
    let path = folders.data.join("store");
    let open = || {
        if !path.exists() {
            let path = folders.data.clone();
            return Err(Trouble::NoData { path });
        }
        Ok(SledStore::open(&path)?)
    };
    let in_use = |error: &Trouble| matches!(error, Trouble::Open(OpenError::InUse { .. }));
    let request = Request::Backup { file: file.clone() };
    match reach(folders, &request, open, in_use)? {
        Held::ByServer(Answer::BackedUp(shown)) => Ok(shown),
        Held::ByServer(Answer::Failed { reason, help }) => Err(Trouble::Failed { reason, help }),
        Held::ByServer(_) => Err(ControlError::Answer.into()),
        Held::Here(store) => {
            let summary = store.backup(&file)?;
            Ok(BackupShown::new(file, summary))
        }
    }
}

impl Restore {
    /// Does it and prints what was done.
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let folders = Merged::load(&self.place.into(), environment)?.folders();
        let store = folders.data.join("store");
        data::make_folder(&folders.data).map_err(Trouble::from)?;
        let summary = SledStore::restore(&self.file, &store).map_err(Trouble::from)?;
        let have_keys = folders.keys.join("index.key").exists();
        let text = if self.json {
            let mut shown = json!(BackupShown::new(self.file, summary));
            shown["data"] = json!(folders.data);
            shown["keysThere"] = Value::Bool(have_keys);
            format!("{shown}\n")
        } else {
            let keys = folders.keys.display();
            let advice = if have_keys {
                format!("the next start looks whether those in {keys} are the right ones")
            } else {
                format!("put your copy of them into {keys} before the next start")
            };
            format!(
                "Restored {} rows and {} changes into {}.\n{KEYS_ARE_NOT_IN_IT}: {advice}.\n",
                summary.rows,
                summary.changes,
                folders.data.display(),
            )
        };
        Ok(print(&text)?)
    }
}

fn print(text: &str) -> Result<(), Trouble> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Trouble::Output)
}
