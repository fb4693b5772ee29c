//! How commands reach the data: through the control socket where a server holds the store, else in the
//! store itself.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use countersign_queue::QueueConfig;
use countersign_types::{SystemClock, SystemEntropy};
use miette::Diagnostic;

use super::{Held, reach};
use crate::config::Offline;
use crate::control::{Answer, ControlError, KeysRequest, Office, QueueDoor, Refused, Request};
use crate::data::{Data, DataError};

/// Why a command was not done.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(super) enum AskError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Refused(#[from] Refused),
    #[error("there is no data in `{}`", path.display())]
    #[diagnostic(
        code(countersign::command::no_data),
        help("name the server's data folder with --data or --config")
    )]
    NoData { path: PathBuf },
    #[error("cannot write the answer")]
    #[diagnostic(code(countersign::command::output))]
    Output(#[source] std::io::Error),
    #[error("the operating system refuses what the command needs")]
    #[diagnostic(code(countersign::command::system))]
    System(#[source] std::io::Error),
}

/// Asks the server that holds the data, or does it on the store itself where none runs.
///
/// # Errors
///
/// See [`AskError`]; what is asked for and refused is one, too.
pub(super) fn ask(settings: &Offline, request: Request) -> Result<Answer, AskError> {
    let folders = &settings.folders;
    let creates = matches!(request, Request::Keys(KeysRequest::Create { .. }));
    let open = || {
        // Looking into a folder that is not there must not make one.
        if !creates && !folders.data.join("store").exists() {
            let path = folders.data.clone();
            return Err(AskError::NoData { path });
        }
        Ok(Data::open(folders, &SystemEntropy)?)
    };
    let in_use = |error: &AskError| matches!(error, AskError::Data(DataError::InUse { .. }));
    let answer = match reach(folders, &request, open, in_use)? {
        Held::ByServer(answer) => answer,
        Held::Here(data) => perform(data, settings, request)?,
    };
    match answer {
        Answer::Failed(refused) => Err(refused.into()),
        answer => Ok(answer),
    }
}

fn perform(data: Data, settings: &Offline, request: Request) -> Result<Answer, AskError> {
    if data.keyring.created() {
        // Said once, by whoever makes them. Nobody reading it is no reason to fail.
        let _ = writeln!(
            std::io::stderr().lock(),
            "made the host's secret keys; keep a copy apart from the data: losing them loses all live codes and enrolments"
        );
    }
    // Nothing is claimed here, so that lanes and leases are never asked for.
    let queue = QueueConfig {
        capacity: settings.queue_capacity,
        ..QueueConfig::default()
    };
    let office = Office {
        store: data.store,
        keyring: data.keyring,
        without_keys: settings.without_keys.clone(),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        queue: QueueDoor::Closed(queue),
        server: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AskError::System)?;
    Ok(runtime.block_on(office.perform(request)))
}

/// Prints what a command has to say.
///
/// # Errors
///
/// When nobody can read it.
pub(super) fn print(text: &str) -> Result<(), AskError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(AskError::Output)
}
