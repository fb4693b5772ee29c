//! `countersign stops`: what a number has answered to senders, and taking it back.

use clap::{Args, Subcommand};
use serde_json::json;

use super::ask::{Session, print};
use super::messages::typed;
use super::{Failure, Place};
use crate::config::{Environment, Merged};
use crate::control::{Answer, Request};
use crate::stops::{Listed, StopsRequest};

/// Look at what a number has answered STOP to, and take it back.
#[derive(Debug, Args)]
pub(super) struct Stops {
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
    /// List the providers that a number has answered STOP to, and since when.
    List {
        /// The number; `-` reads it from standard input, so that it stands in no list of processes and in
        /// no history.
        #[arg(allow_hyphen_values = true)]
        number: String,
    },
    /// Let messages go to a number again; it stands in the audit trail.
    Clear {
        /// The number; `-` reads it from standard input.
        #[arg(allow_hyphen_values = true)]
        number: String,
        /// Those of this provider only.
        #[arg(long, value_name = "NAME")]
        provider: Option<String>,
    },
}

impl Stops {
    /// Does it and prints the answer.
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let settings = Merged::load(&self.place.into(), environment)?.offline()?;
        let request = match self.action {
            Action::List { number } => StopsRequest::List {
                phone: typed(number)?,
            },
            Action::Clear { number, provider } => StopsRequest::Clear {
                phone: typed(number)?,
                provider,
            },
        };
        let answer = Session::new(&settings).ask(Request::Stops(request))?;
        let (value, text) = match answer {
            Answer::Stops(listed) => (json!(listed), for_people(&listed)),
            Answer::StopsCleared(cleared) => {
                let text = format!("{} taken back.\n", cleared.cleared);
                (json!(cleared), text)
            }
            other => (json!(other), format!("{}\n", json!(other))),
        };
        Ok(print(&if self.json {
            format!("{value}\n")
        } else {
            text
        })?)
    }
}

fn for_people(listed: &Listed) -> String {
    if !listed.readable {
        return "What the number has answered cannot be read: messages without a code are refused. \
                `countersign stops clear` forgets it.\n"
            .to_owned();
    }
    if listed.stops.is_empty() {
        return "The number has answered STOP to nobody.\n".to_owned();
    }
    let lines = listed.stops.iter();
    lines
        .map(|stop| format!("{}  {}\n", stop.since, stop.provider))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stops::StopShown;

    #[test]
    fn a_line_says_since_when_and_to_whom() {
        let listed = |stops: Vec<StopShown>, readable| Listed { stops, readable };
        let stop = StopShown {
            provider: "twilio".to_owned(),
            since: "2026-01-31T12:00:00Z".to_owned(),
        };
        assert_eq!(
            for_people(&listed(vec![stop], true)),
            "2026-01-31T12:00:00Z  twilio\n"
        );
        assert!(for_people(&listed(Vec::new(), true)).contains("nobody"));
        assert!(for_people(&listed(Vec::new(), false)).contains("stops clear"));
    }
}
