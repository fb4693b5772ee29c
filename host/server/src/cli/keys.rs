//! `countersign keys`: through the control socket where a server holds the store, else in the store
//! itself.

use std::io::Write;
use std::sync::Arc;

use clap::{Args, Subcommand};
use countersign_store::OpenError;
use countersign_types::{SystemClock, SystemEntropy};
use miette::Diagnostic;
use serde_json::json;

use super::{Failure, Held, Place, reach};
use crate::config::{Environment, Folders, Merged};
use crate::control::{Answer, ControlError, KeyShown, KeysRequest, Office, Request};
use crate::data::{Data, DataError};

/// Make, list and revoke API keys.
#[derive(Debug, Args)]
pub(super) struct Keys {
    #[command(subcommand)]
    action: Action,
    /// The configuration file [env: COUNTERSIGN_CONFIG].
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<std::path::PathBuf>,
    /// The data folder [env: COUNTERSIGN_DATA] [default: data].
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<std::path::PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
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

/// Why a command about keys failed.
#[derive(Debug, thiserror::Error, Diagnostic)]
enum KeysError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] DataError),
    #[error("{reason}")]
    #[diagnostic(code(countersign::keys::failed))]
    Failed {
        reason: String,
        #[help]
        help: Option<String>,
    },
    #[error("cannot write the answer")]
    #[diagnostic(code(countersign::keys::output))]
    Output(#[source] std::io::Error),
    #[error("the operating system refuses what the command needs")]
    #[diagnostic(code(countersign::keys::system))]
    System(#[source] std::io::Error),
}

impl Keys {
    /// Does it and prints the answer.
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let place = Place {
            config: self.config,
            data: self.data,
        };
        let merged = Merged::load(&place.into(), environment)?;
        let request = match self.action {
            Action::Create { name } => KeysRequest::Create { name },
            Action::List => KeysRequest::List,
            Action::Revoke { id } => KeysRequest::Revoke { id },
        };
        let folders = merged.folders();
        let creates = matches!(request, KeysRequest::Create { .. });
        ask(&folders, Request::Keys(request)).and_then(|answer| print(answer, self.json))?;
        if creates && !self.json {
            // So that a key of the wrong folder is noticed at once. Nobody reading it is no failure.
            let folder = std::path::absolute(&folders.data).unwrap_or(folders.data);
            let _ = writeln!(
                std::io::stderr().lock(),
                "It is a key of the data in {}.",
                folder.display()
            );
        }
        Ok(())
    }
}

fn ask(folders: &Folders, request: Request) -> Result<Answer, KeysError> {
    let creates = matches!(request, Request::Keys(KeysRequest::Create { .. }));
    let open = || {
        // Looking for keys in a folder that is not there must not make one.
        if !creates && !folders.data.join("store").exists() {
            return Err(KeysError::Failed {
                reason: format!("there is no data in `{}`", folders.data.display()),
                help: Some("name the server's data folder with --data or --config".to_owned()),
            });
        }
        Ok(Data::open(folders, &SystemEntropy)?)
    };
    let in_use = |error: &KeysError| {
        matches!(
            error,
            KeysError::Data(DataError::Store(OpenError::InUse { .. }))
        )
    };
    match reach(folders, &request, open, in_use)? {
        Held::ByServer(answer) => Ok(answer),
        Held::Here(data) => perform(data, request),
    }
}

fn perform(data: Data, request: Request) -> Result<Answer, KeysError> {
    if data.keyring.created() {
        // Said once, by whoever makes them. Nobody reading it is no reason to fail.
        let _ = writeln!(
            std::io::stderr().lock(),
            "made the host's secret keys; keep a copy apart from the data: losing them loses all live codes and enrolments"
        );
    }
    let office = Office {
        store: data.store,
        keyring: data.keyring,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(KeysError::System)?;
    Ok(runtime.block_on(office.perform(request)))
}

fn print(answer: Answer, as_json: bool) -> Result<(), KeysError> {
    let text = match answer {
        Answer::Failed { reason, help } => return Err(KeysError::Failed { reason, help }),
        answer if as_json => as_json_line(&answer),
        answer => for_people(&answer),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(KeysError::Output)
}

fn as_json_line(answer: &Answer) -> String {
    let value = match answer {
        Answer::KeyCreated { id, key } => json!({"id": id, "key": key}),
        Answer::Keys(keys) => json!({"keys": keys}),
        Answer::KeyRevoked(key) => json!(key),
        Answer::BackedUp(_) | Answer::Findings(_) | Answer::Failed { .. } => json!({}),
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
        Answer::BackedUp(_) | Answer::Findings(_) | Answer::Failed { .. } => String::new(),
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

    fn folders(root: &std::path::Path) -> Folders {
        Folders {
            data: root.join("data"),
            keys: root.join("data/keys"),
        }
    }

    #[test]
    fn keys_can_be_made_before_the_first_start() {
        let root = tempfile::tempdir().expect("a folder");
        let folders = folders(root.path());
        let made = ask(&folders, Request::Keys(KeysRequest::Create { name: None })).expect("made");
        let Answer::KeyCreated { id, .. } = &made else {
            panic!("{made:?}");
        };
        let listed = ask(&folders, Request::Keys(KeysRequest::List)).expect("listed");
        assert!(matches!(&listed, Answer::Keys(keys) if keys[0].id == *id));
        let revoked = ask(
            &folders,
            Request::Keys(KeysRequest::Revoke { id: id.clone() }),
        )
        .expect("revoked");
        assert!(matches!(revoked, Answer::KeyRevoked(_)));
        // The server then starts on the same folder.
        assert!(Data::open(&folders, &SystemEntropy).is_ok());
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
