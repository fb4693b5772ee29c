//! A child process that serves: started, looked at, and ended with this value.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;

/// How long a server may take to start: under valgrind it compiles its components for most of a minute.
const START_TIME: Duration = Duration::from_secs(180);

/// What a server prints when it serves.
pub(crate) const READY: &str = "listening on http://";

/// Time on a processor by the names of threads.
pub(crate) type Cpu = BTreeMap<String, Duration>;

/// A running server. It is killed when this value goes.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Where it serves.
    pub(crate) address: SocketAddr,
    /// From its start to its line.
    pub(crate) started: Duration,
    log: PathBuf,
}

impl Process {
    /// Starts `command` and waits for its line. What it says on standard error goes to the file `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Process, Failure> {
        let begun = Instant::now();
        let child = command
            // Kept open as long as this program lives: a child that listens to it ends with it.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log)?)
            .spawn()
            .map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
        let mut process = Process {
            child,
            address: ([127, 0, 0, 1], 0).into(),
            started: Duration::ZERO,
            log: log.to_owned(),
        };
        let (line, lines) = mpsc::channel();
        let stdout = process.child.stdout.take().ok_or("no standard output")?;
        // Read to its end, so that a full pipe never stops the process.
        thread::spawn(move || {
            for text in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(address) = text.strip_prefix(READY) {
                    let _ = line.send(address.to_owned());
                }
            }
        });
        let address = lines.recv_timeout(START_TIME).map_err(|_| {
            let program = command.get_program().to_string_lossy();
            format!("{program} does not serve:\n{}", process.said())
        })?;
        process.started = begun.elapsed();
        process.address = address.parse()?;
        Ok(process)
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it has said on standard error.
    pub(crate) fn said(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Time on a processor by the names of its threads; empty where the kernel does not say.
    pub(crate) fn cpu(&self) -> Cpu {
        let mut all = Cpu::new();
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        for task in tasks.into_iter().flatten().flatten() {
            let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
            let nanoseconds = read("schedstat")
                .split(' ')
                .next()
                .and_then(|first| first.parse().ok());
            let name = read("comm").trim_end().to_owned();
            *all.entry(name).or_default() += Duration::from_nanos(nanoseconds.unwrap_or_default());
        }
        all
    }

    /// Resident memory in KiB; 0 where the kernel does not say.
    pub(crate) fn resident_kib(&self) -> u64 {
        resident_kib(self.child.id())
    }
}

/// Resident memory of a process in KiB; 0 where the kernel does not say.
pub(crate) fn resident_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse().ok())
        .unwrap_or_default()
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
