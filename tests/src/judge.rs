//! A judge of requests to Twilio that is not ours: Prism, an HTTP server that answers by an OpenAPI description,
//! with the one that Twilio hands out in its own command line.

use std::env;
use std::net::SocketAddr;
use std::process::Command;

use crate::Client;
use crate::browser::installed;
use crate::process::Process;
use crate::python::in_target;

/// Where both lie when npm has installed `tests/judge`.
const PRISM: &str = "test-judge/node_modules/@stoplight/prism-cli/dist/index.js";
const DESCRIPTION: &str =
    "test-judge/node_modules/@twilio/cli-core/src/services/twilio-api/twilio_api_v2010.json";

/// What Prism prints before its address, of a request that is as described, and of one that is not.
const READY: &str = "Prism is listening on http://";
const PASSED: &str = "The request passed the validation rules";
const VIOLATION: &str = "[VALIDATOR] ✖  error";

/// The judge, running. It is killed when this value goes.
#[derive(Debug)]
pub struct Judge {
    process: Process,
    address: SocketAddr,
}

impl Judge {
    /// Starts it on a free port.
    ///
    /// # Panics
    /// When Node.js, Prism or the description is missing, with the line to type.
    pub async fn start() -> Self {
        let mut command = Command::new(installed("node"));
        command
            .env_clear()
            .envs(env::var_os("PATH").map(|path| ("PATH", path)))
            .arg(in_target(PRISM, "cargo xtask node"))
            .arg("mock")
            .arg(in_target(DESCRIPTION, "cargo xtask node"))
            // What is not as described is refused instead of being answered as well as may be.
            .args(["--errors", "--host", "127.0.0.1", "--port", "0"]);
        let process = Process::spawn(command);
        let address = process.stdout.find(READY, |text| {
            let (_, rest) = text.split_once(READY)?;
            rest.split_once('\n')?.0.trim().parse().ok()
        });
        let address = address.await;
        let address = address.unwrap_or_else(|| panic!("it ended\n{}", process.report()));
        Self { process, address }
    }

    /// What the setting `base-url` has to be.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(self.address, None)
    }

    /// Waits until `n` requests were found to be as described, and requires that none was not.
    ///
    /// # Panics
    /// When there are violations, with what is wrong, or when it ends.
    pub async fn passed(&self, n: usize) {
        let judged = self.process.stdout.find("judgement", |text| {
            (text.contains(VIOLATION) || text.matches(PASSED).count() >= n).then_some(())
        });
        let judged = judged.await;
        let violations = self.violations();
        assert!(
            judged.is_some() && violations.is_empty(),
            "{violations:#?}\n{}",
            self.process.report()
        );
    }

    /// What was wrong with requests so far, in Prism's words.
    pub fn violations(&self) -> Vec<String> {
        let text = self.process.stdout.text();
        let lines = text.lines().filter_map(|line| line.split_once(VIOLATION));
        lines.map(|(_, words)| words.trim().to_owned()).collect()
    }
}
