//! The socket in the data folder: who may connect, one request and its answer, and the side of the
//! command that asks.

use std::io::{BufRead, BufReader, Read, Take, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_runtime::Step;
use miette::Diagnostic;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use super::{Answer, Office, Refused, Request};
use crate::components::StepShown;
use crate::users::UsersRequest;

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
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::control::KeysRequest;
    use crate::testing::{embedded_store as store, office};

    async fn ask_from_outside(data: &Path, request: Request) -> Option<Answer> {
        let data = data.to_owned();
        tokio::task::spawn_blocking(move || ask(&data, &request))
            .await
            .expect("not panicked")
            .expect("asked")
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
