//! `countersign provider`: for whoever writes a provider component. Needs neither a server nor data.

mod new;
mod templates;
mod test;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Failure;
use super::ask::print;

/// Write a provider component of your own, and test it.
#[derive(Debug, Args)]
pub(super) struct Provider {
    #[command(subcommand)]
    action: Action,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a new project that builds a provider component, with its tests.
    New {
        /// The project's name, such as acme-sms.
        #[arg(value_parser = new::name)]
        name: String,
        /// What it is to be written in.
        #[arg(long, value_name = "LANGUAGE")]
        lang: new::Language,
        /// The project's folder, which must be empty or not there [default: ./NAME].
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
    },
    /// Run a component against a server that plays its company, and say what is wrong. Nothing is sent to
    /// anybody.
    Test(test::Test),
}

impl Provider {
    /// Does it and prints what came of it.
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::New { name, lang, into } => {
                let folder = into.unwrap_or_else(|| PathBuf::from(&name));
                let project = new::write(&name, lang, &folder)?;
                let text = match self.json {
                    true => project.as_json(),
                    false => project.for_people(),
                };
                Ok(print(&text)?)
            }
            Action::Test(test) => test.run(self.json),
        }
    }
}
