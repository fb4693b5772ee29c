//! Why a server does not start, or ends by itself, with what to do about it.

use std::net::SocketAddr;
use std::path::PathBuf;

use countersign_runtime::{InstallError, StartError};
use countersign_store::{BindError, StoreError};
use miette::Diagnostic;

use crate::control::ControlError;
use crate::data::DataError;

/// Why the server did not start, or ended by itself.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum ServeError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] DataError),
    #[error("the data folder `{}` is in use already: {who}", path.display())]
    #[diagnostic(code(countersign::serve::in_use))]
    InUse {
        path: PathBuf,
        who: String,
        #[help]
        help: &'static str,
    },
    #[error("{}", told_of(lost))]
    #[diagnostic(
        code(countersign::serve::key_missing),
        help(
            "put it back from your copy of the keys, or name the folder of the keys with COUNTERSIGN_KEYS\nto start without it, with those messages out of sight and unsent until it is back: COUNTERSIGN_WITHOUT_KEYS={}",
            names_of(lost)
        )
    )]
    KeyMissing { lost: Vec<Lost> },
    #[error("there is no API key yet, and {reason}")]
    #[diagnostic(code(countersign::serve::needs_key))]
    NeedsKey {
        reason: String,
        #[help]
        help: String,
    },
    #[error("cannot listen on {address}")]
    #[diagnostic(
        code(countersign::serve::listen),
        help("name another address with --listen, or port 0 for any free port")
    )]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Control(#[from] ControlError),
    #[error("cannot read the component `{}`", path.display())]
    #[diagnostic(code(countersign::serve::component))]
    Component {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the components cannot be started")]
    #[diagnostic(code(countersign::serve::runtime))]
    Runtime(#[source] StartError),
    #[error("an installed component cannot be used")]
    #[diagnostic(
        code(countersign::serve::installed),
        help(
            "`countersign component list` shows them; go back with `countersign component rollback NAME`, which needs no server"
        )
    )]
    Installed(#[source] InstallError),
    #[error(transparent)]
    #[diagnostic(code(countersign::serve::keys))]
    Bind(#[from] BindError),
    #[error("the store cannot be read")]
    #[diagnostic(code(countersign::serve::store))]
    Store(#[from] StoreError),
    #[error("the worker that delivers messages has ended")]
    #[diagnostic(
        code(countersign::serve::delivery),
        help("restart the server: nothing that was acknowledged is lost; the log says more")
    )]
    DeliveryEnded,
    #[error("the task that accepts connections has ended")]
    #[diagnostic(
        code(countersign::serve::accept),
        help("restart the server: nothing that was acknowledged is lost; the log says more")
    )]
    AcceptEnded,
    #[error("the store failed: {reason}")]
    #[diagnostic(
        code(countersign::serve::store_failed),
        help(
            "restart the server: nothing that was acknowledged is lost; check the disk and its free space with `countersign doctor`"
        )
    )]
    StoreFailed { reason: String },
    #[error("the operating system refuses what the server needs")]
    #[diagnostic(code(countersign::serve::system))]
    System(#[source] std::io::Error),
}

/// A key that rows are sealed under and that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The file's name without its ending.
    pub(super) name: String,
    pub(super) file: PathBuf,
    /// How many rows are sealed under it.
    pub(super) rows: usize,
}

fn told_of(lost: &[Lost]) -> String {
    let lines = lost.iter().map(|Lost { file, rows, .. }| {
        let file = file.display();
        format!(
            "the key file `{file}` is missing, and {rows} rows are sealed under it: messages that wait, have failed or are over"
        )
    });
    lines.collect::<Vec<_>>().join("; ")
}

fn names_of(lost: &[Lost]) -> String {
    let names: Vec<&str> = lost.iter().map(|lost| lost.name.as_str()).collect();
    names.join(",")
}
