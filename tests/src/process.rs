//! Processes: started, signalled, waited for, and what they printed.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::watch;

use crate::{Output, PATIENCE};

/// A process with what it printed. It never outlives this value.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    status: watch::Receiver<Option<ExitStatus>>,
    waiter: Option<thread::JoinHandle<()>>,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

impl Process {
    pub(crate) fn spawn(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let pid = Pid::from_child(&child);
        let stdout = Output::read(child.stdout.take().unwrap());
        let stderr = Output::read(child.stderr.take().unwrap());
        let (sender, status) = watch::channel(None);
        let waiter = thread::spawn(move || {
            let status = child.wait().expect("our own child can be waited for");
            sender.send_replace(Some(status));
        });
        Self {
            pid,
            status,
            waiter: Some(waiter),
            stdout,
            stderr,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // Not after its end: the number may be somebody else's by then.
        if self.status.borrow().is_none() {
            let _ = kill_process(self.pid, signal);
        }
    }

    pub(crate) async fn wait(&self, what: &str) -> ExitStatus {
        let mut status = self.status.clone();
        let ended = tokio::time::timeout(PATIENCE, status.wait_for(Option::is_some)).await;
        let status = match ended {
            Ok(status) => status
                .expect("the waiting thread reports")
                .expect("just seen"),
            Err(_) => panic!(
                "{what}: still running after {PATIENCE:?}\n{}",
                self.report()
            ),
        };
        self.stdout.end().await;
        self.stderr.end().await;
        status
    }

    /// Where it serves: the address and port, or the port on this machine, behind `words` at the start of a line of
    /// standard output. `None` when the output ended without it.
    pub(crate) async fn address(&self, words: &str) -> Option<SocketAddr> {
        let line = self.stdout.find(words, |text| {
            let mut lines = text.split_inclusive('\n');
            let rest = lines.find_map(|line| line.strip_prefix(words))?;
            let address = rest.strip_suffix('\n')?;
            Some(address.trim_end_matches('.').to_owned())
        });
        let address = line.await?;
        let of_port = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut found = address.parse().or_else(|_| address.parse().map(of_port));
        if let Ok(address) = &mut found
            && address.ip().is_unspecified()
        {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        Some(found.unwrap_or_else(|_| panic!("`{words}{address}` names no address and port")))
    }

    /// The memory that it has in use now, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid.as_raw_nonzero());
        let status =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        status
            .lines()
            .find_map(|line| {
                line.strip_prefix("VmRSS:")?
                    .trim()
                    .strip_suffix(" kB")?
                    .parse()
                    .ok()
            })
            .unwrap_or_else(|| panic!("{path} does not tell the resident memory"))
    }

    /// How much each of its threads gives way to others (nice(2)), with its name, of which the system keeps 15 bytes.
    pub(crate) fn niceness(&self) -> Vec<(String, i32)> {
        let tasks = format!("/proc/{}/task", self.pid.as_raw_nonzero());
        let tasks = std::fs::read_dir(&tasks).unwrap_or_else(|error| panic!("{tasks}: {error}"));
        let thread = |task: std::io::Result<std::fs::DirEntry>| {
            // It may have ended meanwhile.
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
            // The 19th field; the name is the second.
            let niceness = rest.split(' ').nth(16)?.parse();
            Some((name.to_owned(), niceness.unwrap()))
        };
        tasks.filter_map(thread).collect()
    }

    pub(crate) fn report(&self) -> String {
        format!(
            "--- stdout\n{}\n--- stderr\n{}",
            self.stdout.text(),
            self.stderr.text()
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.join();
        }
    }
}

/// A command that may be running still. It is killed when this value goes.
#[derive(Debug)]
pub struct Running(pub(crate) Process);

impl Running {
    /// What it says of its progress.
    pub fn stderr(&self) -> &Output {
        &self.0.stderr
    }

    /// Waits for its end, whatever that is.
    pub async fn ended(self) -> ExitStatus {
        self.0.wait("the command").await
    }
}

/// A process that has ended by itself.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All that it printed to standard output.
    pub stdout: String,
    /// All that it printed to standard error.
    pub stderr: String,
}

impl Finished {
    /// Requires exit status 0.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        assert!(self.status.success(), "{self:#?}");
        self
    }

    /// Requires an exit status other than 0 and each of `texts` on standard error.
    ///
    /// Lines are joined first: where an error report breaks them is the terminal's business.
    #[track_caller]
    pub fn expect_refusal(self, texts: &[&str]) -> Self {
        assert!(
            !self.status.success() && self.status.code().is_some(),
            "{self:#?}"
        );
        let words: Vec<&str> = self
            .stderr
            .split_whitespace()
            .filter(|word| *word != "│")
            .collect();
        let joined = words.join(" ");
        let squeezed = words.concat();
        for text in texts {
            let found = joined.contains(text) || squeezed.contains(&text.replace(' ', ""));
            assert!(
                found,
                "standard error does not say {text:?}:\n{}",
                self.stderr
            );
        }
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self:#?}"))
    }
}

/// Runs `command` to its end.
pub(crate) async fn finish(command: Command) -> Finished {
    let what = format!("{command:?}");
    let process = Process::spawn(command);
    let status = process.wait(&what).await;
    Finished {
        status,
        stdout: process.stdout.text(),
        stderr: process.stderr.text(),
    }
}
