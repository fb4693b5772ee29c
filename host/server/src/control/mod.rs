//! The control socket: how the command line reaches a server that holds the store.
//!
//! One request and one answer a connection, each one line of JSON; what takes long is told of step by step
//! before the answer. Whoever may enter the data folder and owns the process is the administrator; there
//! is no other check, and no network.
//!
//! `words` is what is said.

mod words;

use std::io::{BufRead, BufReader, Read, Take, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_queue::{Queue, QueueConfig};
use countersign_runtime::{Damage, Runtime, Step};
use countersign_store::{BindError, Keyring, RotateError, SledStore, Store, StoreError};
use countersign_types::{Clock, Entropy};
use miette::Diagnostic;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::{OnceCell, Semaphore, mpsc, watch};

pub(crate) use words::{
    About, Answer, BackupShown, KeyShown, KeysRequest, Refused, Request, RotatedShown,
    backup_refused, with_cause,
};

use crate::components::{self, ComponentsRequest, StepShown};
use crate::config::Services;
use crate::doctor::{self, Finding};
use crate::keys;
use crate::lookup::{self, MessagesRequest};
use crate::queue::{self, QueueError, QueueRequest};
use crate::recount::{AnalyticsRequest, Recounts};
use crate::services::{self, Parts, ServicesError, Started};
use crate::stops::{self, StopsRequest};
use crate::users::{self, UsersRequest};

const FILE: &str = "control.sock";
/// The kernel's `sun_path` has 108 bytes, the last of which is zero.
const PATH_BYTES_MAX: usize = 107;
/// Room for as many users as are moved in at once.
const REQUEST_BYTES_MAX: u64 = 1024 * 1024;
/// Room for the longest list of keys.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;
const CONNECTIONS_MAX: usize = 8;
const REQUEST_TIME: Duration = Duration::from_secs(5);
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// A component's own time in a command's call.
const COMMAND_TIME_MS: u64 = 10_000;
/// Raised when a request changes its meaning; a new request does not need it.
const VERSION: u32 = 1;

/// Why the socket cannot be used.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum ControlError {
    #[error("cannot use the control socket `{}`", path.display())]
    #[diagnostic(
        code(countersign::control::socket),
        help("the command must run as the user that runs the server, on the same machine")
    )]
    Socket {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("another server answers on the control socket `{}`", path.display())]
    #[diagnostic(code(countersign::control::in_use))]
    InUse { path: PathBuf },
    #[error("the server's answer cannot be read")]
    #[diagnostic(
        code(countersign::control::answer),
        help("are the command and the server of the same version?")
    )]
    Answer,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    request: T,
}

/// What a request needs, in the server and in a command that has opened the store itself.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) store: Arc<SledStore>,
    pub(crate) keyring: Arc<Keyring>,
    /// Secret keys that may be missing.
    pub(crate) without_keys: Vec<String>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) door: Door,
    /// What is being counted anew.
    pub(crate) recounts: Recounts,
    /// `None` in a command.
    pub(crate) server: Option<Served>,
}

/// What a server knows of itself.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    /// Becomes true when it is told to stop.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// How queue and services are reached.
#[derive(Clone)]
pub(crate) enum Door {
    /// They are the server's.
    Served(Started),
    /// A command opens them, where it needs them.
    Closed(Arc<Closed>),
}

/// What a command opens them with.
pub(crate) struct Closed {
    queue: QueueConfig,
    services: Services,
    /// For compiled components.
    cache: PathBuf,
    /// Once they have been.
    opened: OnceCell<Started>,
}

impl Closed {
    /// Nothing is opened yet.
    pub(crate) fn new(queue: QueueConfig, services: Services, cache: PathBuf) -> Arc<Closed> {
        Arc::new(Closed {
            queue,
            services,
            cache,
            opened: OnceCell::new(),
        })
    }
}

/// Why a command could not open the services.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Keys(#[from] BindError),
    #[error("the queue cannot be read")]
    Queue(#[from] StoreError),
    #[error("the components cannot be started")]
    Start(#[from] ServicesError),
}

impl Office {
    /// Does what is asked; `told` hears of the steps of what takes long.
    pub(crate) async fn perform(
        &self,
        request: Request,
        told: &(dyn Fn(&Step) + Send + Sync),
    ) -> Answer {
        match request {
            Request::Components(request) => self.components(request, told).await,
            Request::Keys(request) => self.keys(request).await,
            Request::Queue(request) => match self.queue(request).await {
                Ok(answer) => answer,
                Err(error) => failed(&error),
            },
            Request::Users(request) => self.users(request).await,
            Request::Messages(request) => self.messages(request).await,
            Request::Stops(request) => self.stops(request).await,
            Request::Analytics(request) => self.analytics(request).await,
            Request::Backup { file } => self.backup(file).await,
            Request::Doctor => Answer::Findings(self.doctor().await),
            Request::RotateKeyring => self.rotate_keyring().await,
            Request::About => self.about(),
        }
    }

    fn about(&self) -> Answer {
        match &self.server {
            Some(Served { address, stopping }) => Answer::About(About {
                process: std::process::id(),
                address: *address,
                stopping: *stopping.borrow(),
            }),
            None => Answer::Failed(Refused::new(
                "countersign::control::no_server",
                "no server runs on this data folder",
                None,
            )),
        }
    }

    /// By the keys that the next start would find: those in memory hide what has gone from the folder.
    async fn doctor(&self) -> Vec<Finding> {
        let there = match doctor::load_keys(self.keyring.folder(), &*self.entropy) {
            Ok(there) => there,
            Err(finding) => return vec![finding],
        };
        let store: Arc<dyn Store> = self.store.clone();
        let now = self.clock.now();
        let mut findings = doctor::look_at_store(&store, &there, &self.without_keys, now).await;
        findings.extend(doctor::look_at_use(&self.keyring, &there));
        findings
    }

    async fn rotate_keyring(&self) -> Answer {
        let store: Arc<dyn Store> = self.store.clone();
        let (keyring, entropy) = (self.keyring.clone(), self.entropy.clone());
        let here = tokio::runtime::Handle::current();
        // It waits for the disk.
        let done = tokio::task::spawn_blocking(move || {
            here.block_on(keyring.rotate_in_use(&store, &*entropy))
        });
        match done.await {
            Ok(Ok(rotated)) => {
                let folder = self.keyring.folder();
                tracing::info!(
                    codes = rotated.codes,
                    rows = rotated.rows,
                    signing = rotated.signing,
                    "new secret keys are in use"
                );
                Answer::KeyringRotated(RotatedShown::new(rotated, folder, true))
            }
            Ok(Err(error)) => Answer::Failed(Refused::new(
                "countersign::keyring::failed",
                with_cause(&error),
                Some(rotation_help(&error)),
            )),
            Err(_) => Answer::Failed(Refused::new(
                "countersign::keyring::failed",
                "the rotation was broken off",
                Some("the server's log says more"),
            )),
        }
    }

    async fn backup(&self, file: PathBuf) -> Answer {
        let (store, target) = (self.store.clone(), file.clone());
        let done = tokio::task::spawn_blocking(move || store.backup(&target)).await;
        match done {
            Ok(Ok(summary)) => {
                tracing::info!(file = %file.display(), rows = summary.rows, "a backup was made");
                Answer::BackedUp(BackupShown::new(file, summary))
            }
            Ok(Err(error)) => Answer::Failed(backup_refused(&error)),
            Err(_) => Answer::Failed(Refused::new(
                "countersign::backup::failed",
                "the backup was broken off",
                Some("the server's log says more"),
            )),
        }
    }

    async fn queue(&self, request: QueueRequest) -> Result<Answer, QueueError> {
        let now = self.clock.now().max(self.store.newest_instant());
        let queue = match &self.door {
            Door::Served(started) => started.runtime.queue().clone(),
            Door::Closed(closed) => self.open_queue(closed).await?,
        };
        queue::perform(&queue, request, now).await
    }

    async fn open_queue(&self, closed: &Closed) -> Result<Queue, StoreError> {
        let (store, keyring) = (self.store.clone(), self.keyring.clone());
        Queue::open(store, keyring, self.clock.clone(), closed.queue.clone()).await
    }

    async fn users(&self, request: UsersRequest) -> Answer {
        let runtime = match self.runtime("countersign::users::not_opened").await {
            Ok(runtime) => runtime,
            Err(refused) => return Answer::Failed(refused),
        };
        match users::perform(runtime, request).await {
            Ok(answer) => answer,
            Err(error) => failed(&error),
        }
    }

    async fn messages(&self, request: MessagesRequest) -> Answer {
        let runtime = match self.runtime("countersign::messages::not_opened").await {
            Ok(runtime) => runtime,
            Err(refused) => return Answer::Failed(refused),
        };
        match lookup::perform(runtime, request).await {
            Ok(answer) => answer,
            Err(error) => failed(&error),
        }
    }

    async fn stops(&self, request: StopsRequest) -> Answer {
        let runtime = match self.runtime("countersign::stops::not_opened").await {
            Ok(runtime) => runtime,
            Err(refused) => return Answer::Failed(refused),
        };
        match stops::perform(runtime, request).await {
            Ok(answer) => answer,
            Err(error) => failed(&error),
        }
    }

    async fn components(
        &self,
        request: ComponentsRequest,
        told: &(dyn Fn(&Step) + Send + Sync),
    ) -> Answer {
        // Who wants to go back from a version that is not whole must be able to.
        let opened = self.services("countersign::component::not_opened", Damage::UseDefault);
        match opened.await {
            Ok(started) => components::perform(&started.registry, request, told).await,
            Err(refused) => Answer::Failed(refused),
        }
    }

    async fn analytics(&self, request: AnalyticsRequest) -> Answer {
        let runtime = match self.runtime("countersign::analytics::not_opened").await {
            Ok(runtime) => runtime,
            Err(refused) => return Answer::Failed(refused),
        };
        match self.recounts.perform(runtime, request).await {
            Ok(shown) => Answer::Recounted(shown),
            Err(error) => failed(&error),
        }
    }

    async fn runtime(&self, code: &str) -> Result<&Runtime, Refused> {
        let started = self.services(code, Damage::Refuse).await?;
        Ok(&started.runtime)
    }

    /// The services: the server's, or opened for this command; `code` is the refusal's where they cannot
    /// be.
    async fn services(&self, code: &str, damage: Damage) -> Result<&Started, Refused> {
        let closed = match &self.door {
            Door::Served(started) => return Ok(started),
            Door::Closed(closed) => closed,
        };
        let open = || self.open_services(closed, damage);
        let opened = closed.opened.get_or_try_init(open);
        opened.await.map_err(|error| {
            let help = Some("`countersign doctor` says more");
            Refused::new(code, with_cause(&error), help)
        })
    }

    /// Without providers: what there is to be sent goes out with the next start of the server.
    async fn open_services(&self, closed: &Closed, damage: Damage) -> Result<Started, OpenError> {
        let store: Arc<dyn Store> = self.store.clone();
        self.keyring.bind(&store).await?;
        let parts = Parts {
            store,
            keyring: self.keyring.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            queue: self.open_queue(closed).await?,
            cache: closed.cache.clone(),
            damage,
        };
        let mut services = closed.services.clone();
        // Nobody waits behind a command, and its first call does what a server has done by then: the table
        // of numbers is still being made.
        let time = services.limits.service_time_ms.unwrap_or_default();
        services.limits.service_time_ms = Some(time.max(COMMAND_TIME_MS));
        Ok(services::start(services, parts, Vec::new(), None).await?)
    }

    async fn keys(&self, request: KeysRequest) -> Answer {
        // A time before the newest commit would be taken for a stale one.
        let now = self.clock.now().max(self.store.newest_instant());
        let store: Arc<dyn Store> = self.store.clone();
        let done = match request {
            KeysRequest::Create { name } => keys::create(&store, now, &*self.entropy, name)
                .await
                .map(|new| {
                    tracing::info!(key = new.id, "an API key was made");
                    if let Door::Served(started) = &self.door {
                        started.runtime.queue().caller_joined(&new.id);
                    }
                    Answer::KeyCreated {
                        id: new.id,
                        key: new.key.expose().clone(),
                    }
                }),
            KeysRequest::List => keys::list(&store)
                .await
                .map(|keys| Answer::Keys(keys.into_iter().map(KeyShown::from).collect())),
            KeysRequest::Revoke { id } => keys::revoke(&store, now, &id).await.map(|key| {
                tracing::info!(key = key.id, "an API key was revoked");
                if let Door::Served(started) = &self.door {
                    started.runtime.queue().caller_left(&key.id);
                }
                Answer::KeyRevoked(key.into())
            }),
        };
        done.unwrap_or_else(|error| failed(&error))
    }
}

fn rotation_help(error: &RotateError) -> &'static str {
    match error {
        RotateError::Keys(_) => {
            "the server goes on with the keys it has; put that right and type it again"
        }
        RotateError::Bind(_) => {
            "the server goes on with the keys it has; its next start uses the new ones"
        }
    }
}

/// What is answered where an error has all that is to be said.
fn failed(error: &dyn Diagnostic) -> Answer {
    Answer::Failed(Refused {
        reason: error.to_string(),
        help: error.help().map(|help| help.to_string()),
        code: error.code().map(|code| code.to_string()),
    })
}

/// A path that the kernel takes, however long the data folder's own is.
struct Address {
    path: PathBuf,
    /// Keeps `path` good where it leads through `/proc`.
    _folder: Option<OwnedFd>,
}

fn address(data: &Path) -> std::io::Result<Address> {
    let path = data.join(FILE);
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return Ok(Address {
            path,
            _folder: None,
        });
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(data, flags, Mode::empty())?;
    Ok(Address {
        path: Path::new("/proc/self/fd")
            .join(folder.as_raw_fd().to_string())
            .join(FILE),
        _folder: Some(folder),
    })
}

/// Opens the socket for the server that holds the data folder. A file that a killed server left
/// behind is replaced, but only when nobody answers there.
///
/// # Errors
///
/// When somebody answers, or the operating system refuses.
pub(crate) fn bind(data: &Path) -> Result<UnixListener, ControlError> {
    let path = data.join(FILE);
    let failed = |source| ControlError::Socket {
        path: path.clone(),
        source,
    };
    let address = address(data).map_err(failed)?;
    match BlockingStream::connect(&address.path) {
        Ok(_) => return Err(ControlError::InUse { path }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(&address.path).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    let socket = UnixSocket::new_stream().map_err(failed)?;
    // Before it is bound, so that at no moment anybody else can connect.
    rustix::fs::fchmod(socket.as_fd(), Mode::RUSR | Mode::WUSR)
        .map_err(|error| failed(error.into()))?;
    socket.bind(&address.path).map_err(failed)?;
    socket.listen(16).map_err(failed)
}

/// Removes the socket's file when the server stops.
pub(crate) fn remove(data: &Path) {
    // A file left behind is replaced at the next start.
    let _ = std::fs::remove_file(data.join(FILE));
}

/// Answers requests until it is dropped.
pub(crate) async fn serve(listener: UnixListener, office: Office) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let office = office.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, office).await {
                        tracing::debug!(%error, "a conversation on the control socket broke off");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, office: Office) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = tokio::io::BufReader::new(read.take(REQUEST_BYTES_MAX));
    tokio::time::timeout(REQUEST_TIME, read.read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Envelope<Request>>(&line) {
        Ok(envelope) if line.ends_with('\n') && envelope.version == VERSION => {
            perform(&office, envelope.request, &mut write).await?
        }
        _ => Answer::Failed(Refused::new(
            "countersign::control::request",
            "the server does not know this request",
            Some("are the command and the server of the same version?"),
        )),
    };
    say(&mut write, &answer).await
}

async fn say(write: &mut OwnedWriteHalf, answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    tokio::time::timeout(REQUEST_TIME, write.write_all(&line)).await?
}

/// Does what is asked, to its end; who asks is told of the steps as they are done, as long as they listen.
async fn perform(
    office: &Office,
    request: Request,
    write: &mut OwnedWriteHalf,
) -> std::io::Result<Answer> {
    let (steps, mut done) = mpsc::unbounded_channel();
    let told = move |step: &Step| {
        // Where nobody listens it is not told.
        let _ = steps.send(StepShown::from(step));
    };
    let performing = office.perform(request, &told);
    tokio::pin!(performing);
    let mut listening = true;
    let answer = loop {
        tokio::select! {
            biased;
            Some(step) = done.recv(), if listening => {
                listening = say(write, &Answer::Progress(step)).await.is_ok();
            }
            answer = &mut performing => break answer,
        }
    };
    // Those of its last moment.
    while listening && let Ok(step) = done.try_recv() {
        listening = say(write, &Answer::Progress(step)).await.is_ok();
    }
    Ok(answer)
}

/// Asks the server that holds the data folder; `None` where no server answers.
///
/// # Errors
///
/// When the socket cannot be used, or the answer cannot be read.
pub(crate) fn ask(data: &Path, request: &Request) -> Result<Option<Answer>, ControlError> {
    ask_and_hear(data, request, &mut |_| {})
}

/// As [`ask`]; `heard` is told of the steps of what takes long.
///
/// # Errors
///
/// As [`ask`].
pub(crate) fn ask_and_hear(
    data: &Path,
    request: &Request,
    heard: &mut dyn FnMut(StepShown),
) -> Result<Option<Answer>, ControlError> {
    let failed = |source| ControlError::Socket {
        path: data.join(FILE),
        source,
    };
    let nobody = |error: &std::io::Error| {
        use std::io::ErrorKind::{ConnectionRefused, NotFound};
        matches!(error.kind(), NotFound | ConnectionRefused)
    };
    let stream = match address(data).and_then(|address| BlockingStream::connect(&address.path)) {
        Ok(stream) => stream,
        Err(error) if nobody(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut answers = send(stream, request).map_err(failed)?;
    loop {
        let mut line = Vec::new();
        answers.read_until(b'\n', &mut line).map_err(failed)?;
        match serde_json::from_slice(&line) {
            Ok(Answer::Progress(step)) => heard(step),
            Ok(answer) => return Ok(Some(answer)),
            Err(_) => return Err(ControlError::Answer),
        }
    }
}

/// Sends a request; its answer comes on a line of its own.
fn send(
    mut stream: BlockingStream,
    request: &Request,
) -> std::io::Result<BufReader<Take<BlockingStream>>> {
    stream.set_write_timeout(Some(REQUEST_TIME))?;
    // These take as long as they take; a server that ends closes its side.
    let is_long = matches!(
        request,
        Request::Backup { .. }
            | Request::Doctor
            | Request::RotateKeyring
            | Request::Components(_)
            | Request::Users(UsersRequest::MoveIn { .. })
    );
    stream.set_read_timeout((!is_long).then_some(ANSWER_TIME))?;
    let envelope = Envelope {
        version: VERSION,
        request,
    };
    let mut line = serde_json::to_vec(&envelope)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(BufReader::new(stream.take(ANSWER_BYTES_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::embedded_store as store;
    use countersign_types::{SystemClock, SystemEntropy};
    use std::os::unix::fs::PermissionsExt;

    async fn ask_from_outside(data: &Path, request: Request) -> Option<Answer> {
        let data = data.to_owned();
        tokio::task::spawn_blocking(move || ask(&data, &request))
            .await
            .expect("not panicked")
            .expect("asked")
    }

    fn office(store: Arc<SledStore>) -> Office {
        let keys = tempfile::tempdir().expect("a folder");
        let keyring = Keyring::load_or_create(keys.path(), true, &SystemEntropy).expect("made");
        Office {
            store,
            keyring: Arc::new(keyring),
            without_keys: Vec::new(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            recounts: Recounts::default(),
            door: Door::Closed(Closed::new(
                QueueConfig {
                    capacity: 7,
                    ..QueueConfig::default()
                },
                crate::testing::config().services,
                keys.path().to_owned(),
            )),
            server: None,
        }
    }

    #[tokio::test]
    async fn the_queue_can_be_asked_where_no_server_runs() {
        let (_folder, store) = store();
        let office = office(store);
        let ask = async |request| office.perform(Request::Queue(request), &|_| {}).await;
        let Answer::Queue(status) = ask(QueueRequest::Status).await else {
            panic!("no status");
        };
        assert_eq!((status.depth, status.dead), (0, 0));
        assert_eq!(status.capacity, 7);
        let page = ask(QueueRequest::Dead { after: None }).await;
        assert!(matches!(page, Answer::Dead(page) if page.letters.is_empty()));
        let none = ask(QueueRequest::ReplaySome { after: None }).await;
        assert!(matches!(none, Answer::ReplayedSome(done) if done.next.is_none()));
        let unknown = "0".repeat(32);
        for (id, words) in [(unknown.as_str(), "no dead message"), ("canary", "32 hex")] {
            let id = id.to_owned();
            let Answer::Failed(refused) = ask(QueueRequest::Replay { id }).await else {
                panic!("replayed");
            };
            let Refused { reason, code, .. } = refused;
            assert!(code.is_some_and(|code| code.starts_with("countersign::queue::")));
            assert!(
                reason.contains(words) && !reason.contains("canary"),
                "{reason}"
            );
        }
    }

    #[tokio::test]
    async fn a_command_reaches_the_running_server() {
        let (folder, store) = store();
        let data = folder.path();
        assert!(
            ask_from_outside(data, Request::Keys(KeysRequest::List))
                .await
                .is_none()
        );
        tokio::spawn(serve(bind(data).expect("bound"), office(store)));
        let made = ask_from_outside(data, Request::Keys(KeysRequest::Create { name: None })).await;
        let Some(Answer::KeyCreated { id, .. }) = made else {
            panic!("no key: {made:?}");
        };
        let listed = ask_from_outside(data, Request::Keys(KeysRequest::List)).await;
        assert!(matches!(listed, Some(Answer::Keys(keys)) if keys[0].id == id));
        let revoked = ask_from_outside(data, Request::Keys(KeysRequest::Revoke { id })).await;
        assert!(matches!(revoked, Some(Answer::KeyRevoked(key)) if key.revoked.is_some()));
    }

    #[tokio::test]
    async fn a_server_says_which_it_is_and_whether_it_stops() {
        let (_folder, store) = store();
        let (stop, stopping) = watch::channel(false);
        let address = SocketAddr::from(([127, 0, 0, 1], 4));
        let office = Office {
            server: Some(Served { address, stopping }),
            ..office(store)
        };
        for told in [false, true] {
            stop.send_replace(told);
            let answer = office.perform(Request::About, &|_| {}).await;
            let want = About {
                process: std::process::id(),
                address,
                stopping: told,
            };
            assert!(
                matches!(&answer, Answer::About(about) if *about == want),
                "{answer:?}"
            );
        }
    }

    #[tokio::test]
    async fn only_the_owner_may_connect() {
        let folder = tempfile::tempdir().expect("a folder");
        let _listener = bind(folder.path()).expect("bound");
        let found = std::fs::metadata(folder.path().join(FILE)).expect("there");
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(bind(folder.path()).expect("bound"));
        let _live = bind(folder.path()).expect("bound in place of the dead one");
        let second = bind(folder.path());
        assert!(matches!(second, Err(ControlError::InUse { .. })));
    }

    #[tokio::test]
    async fn a_data_folder_with_a_long_path_has_a_socket_too() {
        let (folder, store) = store();
        let data = folder.path().join("d".repeat(120));
        std::fs::create_dir(&data).expect("made");
        tokio::spawn(serve(bind(&data).expect("bound"), office(store)));
        let listed = ask_from_outside(&data, Request::Keys(KeysRequest::List)).await;
        assert!(matches!(listed, Some(Answer::Keys(_))));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_answered_and_hurts_nobody() {
        let (folder, store) = store();
        let data = folder.path();
        tokio::spawn(serve(bind(data).expect("bound"), office(store)));
        for line in [
            "\n",
            "nonsense\n",
            r#"{"version":2,"request":{"keys":"list"}}"#,
            &"x".repeat(2_000_000),
        ] {
            let mut stream = UnixStream::connect(data.join(FILE))
                .await
                .expect("connected");
            // The server may have closed before it has read all of the longest.
            let _ = stream.write_all(format!("{line}\n").as_bytes()).await;
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            assert!(answer.is_empty() || answer.contains("failed"), "{answer}");
        }
        assert!(
            ask_from_outside(data, Request::Keys(KeysRequest::List))
                .await
                .is_some()
        );
    }
}
