//! `examples/login`: the application, as somebody tries it out.

use std::env;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::Client;
use crate::browser::installed;
use crate::process::{Finished, Process, finish};
use crate::server::{READY, Server, TEST_KEY};

/// From the folder of the repository, as its README says.
const SCRIPT: &str = "examples/login/server.mjs";
const TESTS: &str = "examples/login/countersign.test.mjs";

/// The application, running. It is killed when this value goes.
#[derive(Debug)]
pub struct LoginApp {
    process: Process,
    address: SocketAddr,
}

impl LoginApp {
    /// Starts it in front of a server that takes [`TEST_KEY`].
    ///
    /// # Panics
    /// When Node.js is missing, with the line to type, or when the application ends.
    pub async fn start(server: &Server) -> Self {
        Self::start_with(server, &[]).await
    }

    /// The same with variables, which may also take the key away again.
    pub async fn start_with(server: &Server, variables: &[(&str, &str)]) -> Self {
        let url = format!("http://{}", server.address());
        let mut command = node(&[SCRIPT], &url, TEST_KEY);
        command.envs(variables.iter().copied());
        let process = Process::spawn(command);
        let address = process.address(READY).await;
        let address = address.unwrap_or_else(|| panic!("it ended\n{}", process.report()));
        Self { process, address }
    }

    /// Starts it in front of `url`, and requires that it ends by itself.
    pub async fn finish(url: &str, key: &str) -> Finished {
        finish(node(&[SCRIPT], url, key)).await
    }

    /// Runs the tests that lie beside it.
    pub async fn own_tests() -> Finished {
        finish(node(&["--test", TESTS], "", "")).await
    }

    /// Where its pages are. The name `localhost` is one that a code can be bound to.
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }

    /// A client that is no browser.
    pub fn client(&self) -> Client {
        Client::new(self.address, None)
    }

    /// All that it printed.
    pub fn report(&self) -> String {
        self.process.report()
    }
}

fn node(args: &[&str], url: &str, key: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(installed("node"));
    command
        .current_dir(root)
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .env("COUNTERSIGN_URL", url)
        .env("COUNTERSIGN_API_KEY", key)
        .env("PORT", "0")
        .args(args);
    command
}
