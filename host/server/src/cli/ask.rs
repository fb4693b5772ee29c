//! How commands reach the data: through the control socket where a server holds the store, else in the
//! store itself.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use countersign_runtime::Step;
use countersign_types::{SystemClock, SystemEntropy};
use miette::Diagnostic;

use super::{Held, reach_and_hear};
use crate::components::StepShown;
use crate::config::Offline;
use crate::control::{Access, Answer, Closed, ControlError, KeysRequest, Office, Refused, Request};
use crate::data::{Data, DataError};
use crate::recount::Recounts;

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
    Session::new(settings).ask(request)
}

/// Several requests, one after the other. A store that was opened for the first stays open.
pub(super) struct Session<'a> {
    settings: &'a Offline,
    here: Option<Here>,
}

impl<'a> Session<'a> {
    /// Nobody has been asked yet.
    pub(super) fn new(settings: &'a Offline) -> Session<'a> {
        Session {
            settings,
            here: None,
        }
    }

    /// As [`ask`].
    ///
    /// # Errors
    ///
    /// See [`AskError`].
    pub(super) fn ask(&mut self, request: Request) -> Result<Answer, AskError> {
        self.ask_and_hear(request, &|_| {})
    }

    /// As [`ask`](Session::ask); `heard` is told of the steps of what takes long.
    ///
    /// # Errors
    ///
    /// See [`AskError`].
    pub(super) fn ask_and_hear(
        &mut self,
        request: Request,
        heard: &(dyn Fn(StepShown) + Send + Sync),
    ) -> Result<Answer, AskError> {
        let here = match &self.here {
            Some(here) => here,
            None => match find(self.settings, &request, heard)? {
                Held::ByServer(answer) => return judge(answer),
                Held::Here(data) => self.here.insert(Here::new(data, self.settings)?),
            },
        };
        let told = |step: &Step| heard(step.into());
        let performing = here.office.perform(request, &told);
        judge(here.runtime.block_on(performing))
    }
}

/// What is asked for and refused is an error.
fn judge(answer: Answer) -> Result<Answer, AskError> {
    match answer {
        Answer::Failed(refused) => Err(refused.into()),
        answer => Ok(answer),
    }
}

/// Asks the server, or opens the data.
fn find(
    settings: &Offline,
    request: &Request,
    heard: &(dyn Fn(StepShown) + Send + Sync),
) -> Result<Held<Data>, AskError> {
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
    reach_and_hear(folders, request, &mut |step| heard(step), open, in_use)
}

/// The data, opened by this command.
struct Here {
    runtime: tokio::runtime::Runtime,
    office: Office,
}

impl Here {
    fn new(data: Data, settings: &Offline) -> Result<Here, AskError> {
        if data.keyring.created() {
            // Said once, by whoever makes them. Nobody reading it is no reason to fail.
            let _ = writeln!(
                std::io::stderr().lock(),
                "made the host's secret keys; keep a copy apart from the data: losing them loses all live codes and enrolments"
            );
        }
        // Nothing is claimed here, so that lanes and leases are never asked for.
        let queue = settings.queue.into();
        let closed = Closed::new(queue, settings.services.clone(), data.cache);
        let office = Office {
            store: data.store,
            keyring: data.keyring,
            without_keys: settings.without_keys.clone(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            access: Access::Closed(closed),
            recounts: Recounts::default(),
            server: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(AskError::System)?;
        Ok(Here { runtime, office })
    }
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
