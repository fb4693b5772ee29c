//! The real binary: started, asked, killed, started again.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::messages_api::{ACCOUNT_SID, AUTH_TOKEN, PHONE_NUMBER};
use crate::process::{Finished, Process, Running, finish};
use crate::twilio::FakeTwilio;
use crate::{Client, Disk, Output, PowerMode, WallClock};

/// The API key that servers of these tests are started with, unless told otherwise.
pub const TEST_KEY: &str = "test-key-7Kq2Wm9Zx4Rb8Ty1Np5Vd3Hs6";

/// What a server prints before its address once it serves.
pub(crate) const READY: &str = "listening on http://";

/// The program under test: `COUNTERSIGN_BIN`, else the release build beside this test.
///
/// # Panics
/// When it is not there, with the line to type.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("COUNTERSIGN_BIN") {
        let path = PathBuf::from(path);
        assert!(
            path.is_file(),
            "COUNTERSIGN_BIN names `{}`, and there is no such file",
            path.display()
        );
        return path;
    }
    program("countersign")
}

/// A program of the workspace: the release build beside this test.
///
/// # Panics
/// When it is not there, with the line to type.
pub fn program(name: &str) -> PathBuf {
    let name = format!("{name}{}", env::consts::EXE_SUFFIX);
    // A test lies in TARGET/PROFILE/deps.
    let test = env::current_exe().expect("a test knows its own path");
    let beside = test
        .ancestors()
        .skip(3)
        .map(|folder| folder.join("release").join(&name));
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/release")
        .join(&name);
    beside
        .chain([workspace])
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!("`{name}` is not built: run `cargo build --release --workspace --bins` first")
        })
}

/// Times that a server gives others, as long as a machine may take that is busy with something else: of
/// tests that are about none of them none shall fail by one. Settings of a test itself come after these.
const PATIENT: [(&str, &str); 6] = [
    ("COUNTERSIGN_HTTP_REQUEST_SECONDS", "120"),
    ("COUNTERSIGN_LIMITS_SERVICE_WALL_MS", "120000"),
    ("COUNTERSIGN_LIMITS_SERVICE_WAIT_MS", "60000"),
    ("COUNTERSIGN_LIMITS_HOLD_MS", "10000"),
    ("COUNTERSIGN_LIMITS_PROVIDER_WALL_MS", "240000"),
    ("COUNTERSIGN_LIMITS_HTTP_REQUEST_MS", "120000"),
];

/// How a server is started. By default: `serve --listen 127.0.0.1:0 --data FOLDER` in a folder that
/// does not exist yet, with [`TEST_KEY`] and no provider.
#[derive(Clone, Debug)]
pub struct Builder {
    home: Arc<TempDir>,
    data: PathBuf,
    subcommand: bool,
    listen: Option<String>,
    args: Vec<OsString>,
    env: BTreeMap<String, String>,
    disk: Option<Arc<Disk>>,
}

impl Builder {
    fn new() -> Self {
        let home = Arc::new(tempfile::tempdir().expect("a temporary folder can be made"));
        let data = home.path().join("data");
        let given = PATIENT
            .into_iter()
            .chain([("COUNTERSIGN_API_KEY", TEST_KEY)]);
        let env = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let env = env.collect();
        Self {
            home,
            data,
            subcommand: true,
            listen: Some("127.0.0.1:0".to_owned()),
            args: Vec::new(),
            env,
            disk: None,
        }
    }

    /// Puts the server, but no other command, on a disk that can lose power, under [`Self::home`].
    #[must_use]
    pub fn on_disk(mut self, mode: PowerMode, seed: u64) -> Self {
        self.disk = Some(Arc::new(Disk::new(self.home.path(), mode, seed)));
        self
    }

    /// The disk of [`Self::on_disk`].
    #[track_caller]
    pub fn disk(&self) -> Arc<Disk> {
        self.disk
            .clone()
            .expect("the server is on a disk of its own")
    }

    /// Sends through `twilio`.
    #[must_use]
    pub fn twilio(self, twilio: &FakeTwilio) -> Self {
        self.twilio_at(&twilio.base_url())
    }

    /// Sends through a Twilio at `base_url`.
    #[must_use]
    pub fn twilio_at(self, base_url: &str) -> Self {
        self.env("TWILIO_ACCOUNT_SID", ACCOUNT_SID)
            .env("TWILIO_AUTH_TOKEN", AUTH_TOKEN)
            .env("TWILIO_PHONE_NUMBER", PHONE_NUMBER)
            .env("TWILIO_BASE_URL", base_url)
    }

    /// Asks for status callbacks at [`PUBLIC_URL`](crate::PUBLIC_URL), which nobody answers: tests bring
    /// them themselves.
    #[must_use]
    pub fn callbacks(self) -> Self {
        self.env("COUNTERSIGN_PUBLIC_URL", crate::PUBLIC_URL)
    }

    /// Prints messages to the terminal: no provider is configured.
    #[must_use]
    pub fn console(mut self) -> Self {
        self.env.retain(|name, _| !name.starts_with("TWILIO_"));
        self
    }

    /// Gives no API key by environment.
    #[must_use]
    pub fn no_key(mut self) -> Self {
        self.env.remove("COUNTERSIGN_API_KEY");
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Gives the server, and every command, the time of day of `clock`. Not on a disk of its own.
    #[must_use]
    pub fn clock(self, clock: &WallClock) -> Self {
        let variables = clock.environment();
        variables.into_iter().fold(self, |builder, (name, value)| {
            builder.env(name, value.to_str().unwrap())
        })
    }

    /// Adds an argument of `serve`.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Writes a configuration file and names it with `--config`.
    #[must_use]
    pub fn config(self, toml: &str) -> Self {
        let path = self.home.path().join("countersign.toml");
        fs::write(&path, toml).unwrap();
        self.arg("--config").arg(path)
    }

    /// Uses another server's data folder, or one that a test has prepared.
    #[must_use]
    pub fn data(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.data);
        self
    }

    /// Passes another address to `--listen`.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        self.listen = Some(address.to_owned());
        self
    }

    /// Passes no `--listen`.
    #[must_use]
    pub fn no_listen(mut self) -> Self {
        self.listen = None;
        self
    }

    /// Names no subcommand and passes no flags; address and folder go by environment.
    #[must_use]
    pub fn no_subcommand(mut self) -> Self {
        self.subcommand = false;
        self
    }

    /// The folder of everything that this server may touch; the data folder lies in it.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .env_clear()
            .current_dir(self.home.path())
            .env("HOME", self.home.path());
        if let Some(path) = env::var_os("PATH") {
            command.env("PATH", path);
        }
        // Error reports are compared by their words, so they had better not be broken into lines.
        command
            .env("COLUMNS", "1000")
            .env("NO_COLOR", "1")
            .envs(&self.env);
        command
    }

    fn serve(&self) -> Command {
        let mut command = self.command();
        if self.subcommand {
            command.arg("serve").arg("--data").arg(&self.data);
            if let Some(listen) = &self.listen {
                command.arg("--listen").arg(listen);
            }
            command.args(&self.args);
        } else {
            command.env("COUNTERSIGN_DATA", &self.data);
            if let Some(listen) = &self.listen {
                command.env("COUNTERSIGN_LISTEN", listen);
            }
        }
        if let Some(disk) = &self.disk {
            command.envs(disk.environment());
        }
        command
    }

    /// Starts the server and waits for its line.
    ///
    /// # Panics
    /// When the process ends before it, with all that it printed.
    pub async fn start(self) -> Server {
        let (process, address) = self.launch().await;
        self.server(process, address)
    }

    /// Starts the server, or returns `None` when it ends by itself with a status other than 0.
    pub async fn start_or_refuse(self) -> Option<Server> {
        match self.try_launch().await {
            Ok((process, address)) => Some(self.server(process, address)),
            Err((_, status)) => {
                assert!(
                    !status.success(),
                    "the server ended with status 0 and has not served"
                );
                None
            }
        }
    }

    fn server(self, process: Process, address: SocketAddr) -> Server {
        let client = Client::new(address, self.key());
        Server {
            builder: self,
            process,
            client,
            past: Vec::new(),
        }
    }

    fn key(&self) -> Option<&str> {
        self.env.get("COUNTERSIGN_API_KEY").map(String::as_str)
    }

    async fn launch(&self) -> (Process, SocketAddr) {
        match self.try_launch().await {
            Ok(launched) => launched,
            Err((process, status)) => {
                panic!(
                    "the server ended with {status} before it listened\n{}",
                    process.report()
                )
            }
        }
    }

    async fn try_launch(&self) -> Result<(Process, SocketAddr), (Process, ExitStatus)> {
        let process = Process::spawn(self.serve());
        let Some(address) = process.address(READY).await else {
            let status = process.wait("a server whose output has ended").await;
            return Err((process, status));
        };
        Ok((process, address))
    }

    /// Starts the server and kills it after `time`, however far it has come.
    pub async fn start_and_kill_after(&self, time: Duration) {
        let process = Process::spawn(self.serve());
        tokio::time::sleep(time).await;
        process.signal(Signal::KILL);
        process.wait("SIGKILL").await;
    }

    /// Starts the server and requires that it ends by itself.
    pub async fn finish(self) -> Finished {
        finish(self.serve()).await
    }

    /// Runs another command on the same data folder and in the same environment.
    pub async fn run(&self, args: &[&str]) -> Finished {
        finish(self.other_command(args)).await
    }

    /// Begins such a command, and does not wait for its end.
    pub fn begin(&self, args: &[&str]) -> Running {
        Running(Process::spawn(self.other_command(args)))
    }

    fn other_command(&self, args: &[&str]) -> Command {
        let mut command = self.command();
        command.env("COUNTERSIGN_DATA", &self.data).args(args);
        // The default port may be taken on this machine, which `doctor` would tell.
        if !self.env.contains_key("COUNTERSIGN_LISTEN") {
            command.env("COUNTERSIGN_LISTEN", "127.0.0.1:0");
        }
        command
    }
}

/// A running server. It is killed when this value goes.
#[derive(Debug)]
pub struct Server {
    builder: Builder,
    process: Process,
    client: Client,
    /// What earlier processes on this folder printed.
    past: Vec<[Output; 2]>,
}

/// A server can be asked directly; the key shown is the one of its environment.
impl Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Server {
    /// A server with [`TEST_KEY`] that sends through `twilio`.
    pub async fn start(twilio: &FakeTwilio) -> Self {
        Self::builder().twilio(twilio).start().await
    }

    /// A server started otherwise.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The client that speaks to this process: cheap to clone, good until the next restart.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.builder.data
    }

    /// The memory that the process has in use now, in KiB.
    ///
    /// # Panics
    /// Where the system does not tell, or the process has ended.
    pub fn resident_kib(&self) -> u64 {
        self.process.resident_kib()
    }

    /// How much the threads of that name give way to others (nice(2)): what they have in common.
    ///
    /// # Panics
    /// Where there is no such thread, or they differ.
    #[track_caller]
    pub fn niceness(&self, name: &str) -> i32 {
        let threads = self.process.niceness();
        let mut found = threads.iter().filter(|(known, _)| known == name);
        let first = found.next();
        match first {
            Some((_, niceness)) if found.all(|(_, other)| other == niceness) => *niceness,
            _ => panic!("threads called {name}: {threads:?}"),
        }
    }

    /// Standard output of the process that runs now.
    pub fn stdout(&self) -> &Output {
        &self.process.stdout
    }

    /// Standard error of the process that runs now.
    pub fn stderr(&self) -> &Output {
        &self.process.stderr
    }

    /// All output of all processes so far, each with a name.
    pub fn outputs(&self) -> Vec<(String, Vec<u8>)> {
        let now = [self.process.stdout.clone(), self.process.stderr.clone()];
        let all = self.past.iter().chain([&now]).enumerate();
        all.flat_map(|(run, [stdout, stderr])| {
            [
                (format!("stdout of run {run}"), stdout.bytes()),
                (format!("stderr of run {run}"), stderr.bytes()),
            ]
        })
        .collect()
    }

    /// SIGKILL, and waits for the end.
    pub async fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait("SIGKILL").await;
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.ask_to_stop();
        self.stopped().await
    }

    /// SIGTERM, without waiting.
    pub fn ask_to_stop(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits for the end of a server that was asked to stop.
    pub async fn stopped(&mut self) -> ExitStatus {
        self.process.wait("SIGTERM").await
    }

    /// Starts the server again on the same folder, after a SIGKILL where it still runs.
    pub async fn restart(&mut self) {
        self.kill().await;
        let (process, address) = self.builder.launch().await;
        self.past
            .push([self.process.stdout.clone(), self.process.stderr.clone()]);
        self.process = process;
        self.client = Client::new(address, self.builder.key());
    }

    /// How it was started.
    pub fn setup(&self) -> &Builder {
        &self.builder
    }

    /// The disk that it was put on.
    #[track_caller]
    pub fn disk(&self) -> Arc<Disk> {
        self.builder.disk()
    }

    /// Waits for the end of a server that ends by itself.
    pub async fn ended(&mut self, why: &str) -> ExitStatus {
        self.process.wait(why).await
    }

    /// Runs another command on this server's data folder and in its environment.
    pub async fn run(&self, args: &[&str]) -> Finished {
        self.builder.run(args).await
    }

    /// Waits for the `n`th code (from 1) that the console provider prints, and returns it.
    pub async fn console_code(&self, n: usize) -> String {
        let find = |text: &str| text.split("code is: ").skip(n).find_map(digits);
        let found = self
            .process
            .stdout
            .find("code on standard output", find)
            .await;
        found.unwrap_or_else(|| panic!("the server ended\n{}", self.process.report()))
    }

    /// Requires that the server still does its work: is ready, and tells a code that was never sent.
    pub async fn expect_healthy(&self) {
        self.get("/healthz").await.expect_status(200);
        self.get("/readyz").await.expect_status(200);
        self.verify("+12025550199", "000000")
            .await
            .expect_status(400);
    }
}

/// The 6 to 10 digits that `text` starts with.
pub(crate) fn digits(text: &str) -> Option<String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (6..=10).contains(&end).then(|| text[..end].to_owned())
}
