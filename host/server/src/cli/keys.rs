//! `countersign keys`: making, listing and revoking API keys.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::json;

use super::ask::{ask, print};
use super::{Failure, Place};
use crate::config::{Environment, Merged};
use crate::control::{Answer, KeyShown, KeysRequest, Request};

/// Make, list and revoke API keys.
#[derive(Debug, Args)]
pub(super) struct Keys {
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
    /// Make a key and print it; it is shown this once.
    Create {
        /// A name to know it by.
        #[arg(long)]
        name: Option<String>,
    },
    /// List all keys, revoked ones included.
    List,
    /// Revoke a key; it is refused from then on.
    Revoke {
        /// The key's id, as `keys list` shows it.
        id: String,
    },
}

impl Keys {
    /// Does it and prints the answer.
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let merged = Merged::load(&self.place.into(), environment)?;
        let request = match self.action {
            Action::Create { name } => KeysRequest::Create { name },
            Action::List => KeysRequest::List,
            Action::Revoke { id } => KeysRequest::Revoke { id },
        };
        let settings = merged.offline()?;
        let creates = matches!(request, KeysRequest::Create { .. });
        let answer = ask(&settings, Request::Keys(request))?;
        print(&if self.json {
            as_json_line(&answer)
        } else {
            for_people(&answer)
        })?;
        if creates && !self.json {
            // So that a key of the wrong folder is noticed at once. Nobody reading it is no failure.
            let folder =
                std::path::absolute(&settings.folders.data).unwrap_or(settings.folders.data);
            let _ = writeln!(
                std::io::stderr().lock(),
                "It is a key of the data in {}.",
                folder.display()
            );
        }
        Ok(())
    }
}

fn as_json_line(answer: &Answer) -> String {
    let value = match answer {
        Answer::KeyCreated { id, key } => json!({"id": id, "key": key}),
        Answer::Keys(keys) => json!({"keys": keys}),
        Answer::KeyRevoked(key) => json!(key),
        // Answers to what is not asked here.
        other => json!(other),
    };
    format!("{value}\n")
}

fn for_people(answer: &Answer) -> String {
    match answer {
        Answer::KeyCreated { id, key } => format!(
            "{key}\n\nThe key {id} was made. It is shown this once; send it as `Authorization: Bearer KEY`.\n"
        ),
        Answer::Keys(keys) if keys.is_empty() => "There are no keys.\n".to_owned(),
        Answer::Keys(keys) => {
            let head = format!("{:<10}  {:<20}  {:<20}  NAME\n", "ID", "CREATED", "REVOKED");
            let lines = keys.iter().map(line);
            [head].into_iter().chain(lines).collect()
        }
        Answer::KeyRevoked(key) => format!("The key {} is revoked.\n", key.id),
        // Answers to what is not asked here.
        other => format!("{}\n", json!(other)),
    }
}

fn line(key: &KeyShown) -> String {
    let revoked = key.revoked.as_deref().unwrap_or("-");
    let name = key.name.as_deref().unwrap_or("");
    let line = format!("{:<10}  {:<20}  {revoked:<20}  {name}", key.id, key.created);
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Folders, Offline, QueueRoom};
    use crate::data::Data;
    use countersign_types::SystemEntropy;

    fn settings(root: &std::path::Path) -> Offline {
        Offline {
            folders: Folders {
                data: root.join("data"),
                keys: root.join("data/keys"),
            },
            without_keys: Vec::new(),
            queue: QueueRoom {
                capacity: 10,
                reserved_percent: 20,
                caller_percent: 50,
                kept: std::time::Duration::from_secs(30 * 24 * 3_600),
            },
            services: crate::testing::config().services,
        }
    }

    #[test]
    fn keys_can_be_made_before_the_first_start() {
        let root = tempfile::tempdir().expect("a folder");
        let settings = settings(root.path());
        let made = ask(&settings, Request::Keys(KeysRequest::Create { name: None })).expect("made");
        let Answer::KeyCreated { id, .. } = &made else {
            panic!("{made:?}");
        };
        let listed = ask(&settings, Request::Keys(KeysRequest::List)).expect("listed");
        assert!(matches!(&listed, Answer::Keys(keys) if keys[0].id == *id));
        let revoked = ask(
            &settings,
            Request::Keys(KeysRequest::Revoke { id: id.clone() }),
        )
        .expect("revoked");
        assert!(matches!(revoked, Answer::KeyRevoked(_)));
        // The server then starts on the same folder.
        assert!(Data::open(&settings.folders, &SystemEntropy).is_ok());
    }

    #[test]
    fn json_has_the_fields_of_the_contract() {
        let made = Answer::KeyCreated {
            id: "i".to_owned(),
            key: "k".to_owned(),
        };
        assert_eq!(as_json_line(&made), "{\"id\":\"i\",\"key\":\"k\"}\n");
        assert!(for_people(&made).starts_with("k\n"));
        let key = KeyShown {
            id: "i".to_owned(),
            name: None,
            created: "2026-01-31T12:00:00Z".to_owned(),
            revoked: None,
        };
        let want = "{\"keys\":[{\"created\":\"2026-01-31T12:00:00Z\",\"id\":\"i\"}]}\n";
        assert_eq!(as_json_line(&Answer::Keys(vec![key])), want);
    }
}
