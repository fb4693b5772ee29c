//! `countersign keyring`: the host's secret keys, which are no API keys.

use std::io::Write;

use clap::{Args, Subcommand};
use countersign_store::{Keyring, KeyringError, OpenError, SledStore};
use countersign_types::SystemEntropy;
use miette::Diagnostic;
use serde_json::json;

use super::{Failure, Held, Place, reach};
use crate::config::{Environment, Folders, Merged};
use crate::control::{Answer, ControlError, Refused, Request, RotatedShown};

/// Rotate the host's secret keys.
#[derive(Debug, Args)]
pub(super) struct KeyringCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make new keys for codes, sealed rows and proofs; a running server uses them at once. The old
    /// ones stay for what was made with them.
    Rotate {
        #[command(flatten)]
        place: Place,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Why no new keys are in use.
#[derive(Debug, thiserror::Error, Diagnostic)]
enum Trouble {
    #[error(transparent)]
    #[diagnostic(
        code(countersign::keyring::failed),
        help(
            "the server makes the first keys at its first start; --config or COUNTERSIGN_KEYS names their folder"
        )
    )]
    Keys(#[from] KeyringError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    #[diagnostic(code(countersign::keyring::store), help("nothing was changed"))]
    Open(#[from] OpenError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Refused(#[from] Refused),
    #[error("cannot write the answer")]
    #[diagnostic(code(countersign::keyring::output))]
    Output(#[source] std::io::Error),
}

impl KeyringCommand {
    /// Whether a program reads what it says.
    pub(super) fn wants_json(&self) -> bool {
        let Action::Rotate { json, .. } = self.action;
        json
    }

    /// Does it and prints what was done.
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let Action::Rotate { place, json } = self.action;
        let folders = Merged::load(&place.into(), environment)?.folders();
        let shown = rotate(&folders)?;
        let text = if json {
            format!("{}\n", json!(shown))
        } else {
            for_people(&shown)
        };
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(Trouble::Output)?;
        Ok(())
    }
}

/// Lets the server do it where one runs: then the files are its user's, in its own folder, and it goes
/// on with them.
fn rotate(folders: &Folders) -> Result<RotatedShown, Trouble> {
    let store = folders.data.join("store");
    let here = || -> Result<RotatedShown, Trouble> {
        let rotated = Keyring::rotate(&folders.keys, &SystemEntropy)?;
        Ok(RotatedShown::new(rotated, &folders.keys, false))
    };
    if !store.exists() {
        return here();
    }
    let open = || SledStore::open(&store).map_err(Trouble::Open);
    let in_use = |error: &Trouble| matches!(error, Trouble::Open(OpenError::InUse { .. }));
    match reach(folders, &Request::RotateKeyring, open, in_use)? {
        Held::ByServer(Answer::KeyringRotated(shown)) => Ok(shown),
        Held::ByServer(Answer::Failed(refused)) => Err(refused.into()),
        Held::ByServer(_) => Err(ControlError::Answer.into()),
        // While it is held no server starts, which would have read only one of the new keys.
        Held::Here(_store) => here(),
    }
}

fn for_people(shown: &RotatedShown) -> String {
    let next = if shown.in_use {
        "The running server uses them from now on."
    } else {
        "The next start of the server uses them."
    };
    format!(
        "Made {} in {}. {next}\nKeep the old files: codes need theirs for 10 minutes after that, proofs theirs for a day and 5 minutes, rows theirs for 30 days. Copy the new ones to where your copy of the keys is.\n",
        shown.made.join(", "),
        shown.folder.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_store::Rotated;

    #[test]
    fn what_was_made_is_said_with_what_comes_next() {
        let shown = |in_use| {
            let rotated = Rotated {
                codes: 2,
                rows: 3,
                signing: 4,
            };
            for_people(&RotatedShown::new(
                rotated,
                std::path::Path::new("/keys"),
                in_use,
            ))
        };
        let rest = "Keep the old files: codes need theirs for 10 minutes after that, proofs theirs for a day and 5 minutes, rows theirs for 30 days. Copy the new ones to where your copy of the keys is.\n";
        let made = "Made codes-2.key, rows-3.key, signing-4.key in /keys.";
        assert_eq!(
            shown(true),
            format!("{made} The running server uses them from now on.\n{rest}")
        );
        assert_eq!(
            shown(false),
            format!("{made} The next start of the server uses them.\n{rest}")
        );
    }
}
