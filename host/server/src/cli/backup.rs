//! `countersign backup` and `countersign restore`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use countersign_store::{
    CheckedBackup, OpenError, RestoreError, SledStore, Store, StoreError, note_restore,
};
use countersign_types::{Clock, SystemClock, UnixMillis};
use miette::Diagnostic;
use serde::Serialize;
use serde_json::json;

use super::{Failure, Held, Place, reach};
use crate::api::Ledger;
use crate::config::{Environment, Folders, Merged};
use crate::control::{
    Answer, BackupShown, ControlError, KeyShown, Refused, Request, backup_refused,
};
use crate::data::{self, DataError};
use crate::keys::{self, KeyError};

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
    pub(super) json: bool,
}

/// Put a backup into a data folder without a store.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup.
    file: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Revoke all API keys that are good in the backup: some may have been revoked since.
    #[arg(long)]
    revoke_keys: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
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
    #[diagnostic(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    #[diagnostic(code(countersign::restore::failed))]
    Restore(#[from] RestoreError),
    #[error("the restored data cannot be used")]
    #[diagnostic(code(countersign::restore::failed))]
    Store(#[from] StoreError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Keys(#[from] KeyError),
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
        Held::ByServer(Answer::Failed(refused)) => Err(refused.into()),
        Held::ByServer(_) => Err(ControlError::Answer.into()),
        Held::Here(store) => {
            let made = store.backup(&file);
            let made = made.map_err(|error| backup_refused(&error))?;
            Ok(BackupShown::new(file, made))
        }
    }
}

impl Restore {
    /// Does it and prints what was done.
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let folders = Merged::load(&self.place.into(), environment)?.folders();
        let restored = restore(&folders, &self.file, self.revoke_keys)?;
        let text = if self.json {
            format!("{}\n", json!(restored))
        } else {
            restored.for_people(&folders)
        };
        Ok(print(&text)?)
    }
}

/// What was restored, as the command line shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Restored {
    #[serde(flatten)]
    backup: BackupShown,
    /// The data folder.
    data: PathBuf,
    /// Codes from before are void.
    restored_at: String,
    /// API keys that are good now.
    keys: Vec<KeyShown>,
    /// Ids of API keys that were good in the backup.
    revoked: Vec<String>,
    keys_there: bool,
}

/// Fills a store from the backup `file`, and makes void in it what may have been used since: codes, tokens,
/// proofs, and answers to idempotency keys; with `revoke` API keys too.
fn restore(folders: &Folders, file: &Path, revoke: bool) -> Result<Restored, Trouble> {
    let path = folders.data.join("store");
    SledStore::may_restore(&path)?;
    let backup = CheckedBackup::read(file)?;
    // Only now is there anything to be made.
    data::make_folder(&folders.data)?;
    let restoring = SledStore::restore(&backup, &path, |key| key.starts_with(Ledger::ANSWERS))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(Trouble::System)?;
    let (at, keys, revoked) = {
        let store: Arc<dyn Store> = restoring.store()?;
        runtime.block_on(make_void(&store, revoke))?
    };
    restoring.finish()?;
    Ok(Restored {
        backup: BackupShown::new(file.to_owned(), backup.summary()),
        data: folders.data.clone(),
        restored_at: at.to_string(),
        keys: keys.into_iter().map(KeyShown::from).collect(),
        revoked,
        keys_there: folders.keys.join("index.key").exists(),
    })
}

/// Since when the store is what was restored, the API keys that are good in it, and those that were
/// revoked just now.
async fn make_void(
    store: &Arc<dyn Store>,
    revoke: bool,
) -> Result<(UnixMillis, Vec<keys::Key>, Vec<String>), Trouble> {
    let at = note_restore(store, SystemClock.now()).await?;
    let (mut live, mut revoked) = (Vec::new(), Vec::new());
    for key in keys::list(store).await? {
        match key.revoked {
            Some(_) => {}
            None if revoke => revoked.push(keys::revoke(store, at, &key.id).await?.id),
            None => live.push(key),
        }
    }
    Ok((at, live, revoked))
}

impl Restored {
    fn for_people(&self, folders: &Folders) -> String {
        let mut text = format!(
            "Restored {} rows and {} changes into {}.\n\
             What happened after the backup is not in it:\n\
             - Codes that were sent before {} are void.\n\
             - Messages that waited go out, again where they went out before, but for those with codes.\n\
             - Answers to idempotency keys were dropped: a request that comes again is carried out again.\n\
             - Tokens and proofs of users from before are void, and codes of their apps for a minute.\n\
             - Users have the factors of the backup, and backup codes that were used since are good again.\n",
            self.backup.rows,
            self.backup.changes,
            self.data.display(),
            self.restored_at,
        );
        text += &self.of_keys();
        let keys = folders.keys.display();
        let advice = if self.keys_there {
            format!("the next start looks whether those in {keys} are the right ones")
        } else {
            format!("put your copy of them into {keys} before the next start")
        };
        text += &format!("{KEYS_ARE_NOT_IN_IT}: {advice}.\n");
        text
    }

    fn of_keys(&self) -> String {
        let again = "Which API keys were revoked after the backup nobody knows";
        if !self.revoked.is_empty() {
            return format!(
                "- {again}, so all are revoked now: {}. Make new ones: countersign keys create\n",
                self.revoked.join(", ")
            );
        }
        if self.keys.is_empty() {
            return "- No API key is good.\n".to_owned();
        }
        let lines = self.keys.iter().map(|key| {
            let name = key.name.as_deref().unwrap_or("");
            let line = format!("    {}  {}  {name}", key.id, key.created);
            format!("{}\n", line.trim_end())
        });
        let head =
            format!("- {again}. Good are, until you revoke them (countersign keys revoke ID):\n");
        [head].into_iter().chain(lines).collect()
    }
}

fn print(text: &str) -> Result<(), Trouble> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Trouble::Output)
}
