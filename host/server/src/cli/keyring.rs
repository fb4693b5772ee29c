//! `countersign keyring`: the host's secret keys, which are no API keys.

use std::io::Write;

use clap::{Args, Subcommand};
use countersign_store::{Keyring, KeyringError};
use countersign_types::SystemEntropy;
use miette::Diagnostic;
use serde_json::json;

use super::{Failure, Place};
use crate::config::{Environment, Merged};
use crate::control;

/// Rotate the host's secret keys.
#[derive(Debug, Args)]
pub(super) struct KeyringCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make new keys for codes and for sealed rows; the old ones stay for what was made with them.
    Rotate {
        #[command(flatten)]
        place: Place,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Why no keys were made.
#[derive(Debug, thiserror::Error, Diagnostic)]
enum KeyringTrouble {
    #[error(transparent)]
    #[diagnostic(
        code(countersign::keyring::failed),
        help(
            "the server makes the first keys at its first start; --config or COUNTERSIGN_KEYS names their folder"
        )
    )]
    Keys(#[from] KeyringError),
    #[error("cannot write the answer")]
    #[diagnostic(code(countersign::keyring::output))]
    Output(#[source] std::io::Error),
}

impl KeyringCommand {
    /// Does it and prints what was done.
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let Action::Rotate { place, json } = self.action;
        let folders = Merged::load(&place.into(), environment)?.folders();
        let rotated =
            Keyring::rotate(&folders.keys, &SystemEntropy).map_err(KeyringTrouble::from)?;
        let runs = control::is_served(&folders.data);
        let names = [
            format!("codes-{}.key", rotated.codes),
            format!("rows-{}.key", rotated.rows),
        ];
        let text = if json {
            let shown = json!({"made": names, "folder": folders.keys, "restartNeeded": runs});
            format!("{shown}\n")
        } else {
            let [codes, rows] = names;
            let next = if runs {
                "Restart the server: it goes on with the old keys until then."
            } else {
                "The next start of the server uses them."
            };
            format!(
                "Made {codes} and {rows} in {}. {next}\nKeep the old files: codes need theirs for 10 minutes after that, rows theirs for 30 days. Copy the new ones to where your copy of the keys is.\n",
                folders.keys.display(),
            )
        };
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(KeyringTrouble::Output)?;
        Ok(())
    }
}
