//! The real binary: durable sends with deliveries running, and verifications.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::load::{self, Bodies, Load, Measured, Target};
use crate::process::Process;
use crate::twilio::Twilio;
use crate::{Failure, only_expected};

/// The API key that requests show.
pub(crate) const KEY: &str = "bench-key-7Kq2Wm9Zx4Rb8Ty1Np5Vd3Hs6";

/// The token of its administrator.
pub(crate) const ADMIN_TOKEN: &str = "bench-admin";

/// How long deliveries may take after the last send.
const DRAIN_TIME: Duration = Duration::from_secs(120);

/// Below the time that an outgoing request may take, so that what is held back stays held back.
const HELD_TIME_MAX: Duration = Duration::from_secs(8);

/// Before anything is measured: instances, connections and pages that the first requests need.
const WARM_UP: Duration = Duration::from_millis(500);

/// Area codes whose numbers exist whatever their last seven digits are, as far as the exchange code
/// begins with 2 to 9.
const AREA_CODES: [u64; 8] = [202, 212, 213, 312, 415, 512, 617, 718];

/// The digits of the `n`th number, all different: mobiles of the United States and of Germany in
/// turns, so that no country's share of the work of parsing is the whole.
pub(crate) fn digits(n: u64) -> u64 {
    let half = n / 2;
    if n.is_multiple_of(2) {
        let areas = AREA_CODES.len() as u64;
        let area = AREA_CODES[usize::try_from(half % areas).unwrap_or_default()];
        // Scattered over the 8 million numbers of an area, without meeting twice.
        let number = (half / areas).wrapping_mul(3_777_777) % 8_000_000;
        10_000_000_000 + area * 10_000_000 + 2_000_000 + number
    } else {
        let number = half.wrapping_mul(37_777_777) % 100_000_000;
        4_915_100_000_000 + number
    }
}

/// The body of the `n`th send.
pub(crate) fn send_body(n: u64) -> Bytes {
    format!(r#"{{"phoneNumber":"+{}"}}"#, digits(n)).into()
}

/// The server's binary beside this program.
pub(crate) fn beside(program: &Path) -> Result<PathBuf, Failure> {
    let name = format!("countersign{}", std::env::consts::EXE_SUFFIX);
    let found = program
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(&name))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        "the server is not built: run `cargo build --release` first, or name it with --server"
            .into()
    })
}

/// `command` with what the server needs to serve on a port of its own, with its data in `folder`.
pub(crate) fn configured(mut command: Command, folder: &Path, twilio: &Twilio) -> Command {
    command
        .env_clear()
        .current_dir(folder)
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.join("data"))
        .env("COUNTERSIGN_API_KEY", KEY)
        .env("COUNTERSIGN_ADMIN_TOKEN", ADMIN_TOKEN)
        .env("COUNTERSIGN_LOG", "warn")
        .env("COUNTERSIGN_QUEUE_CAPACITY", "2000000")
        .env("TWILIO_ACCOUNT_SID", "AC0123456789abcdef0123456789abcdef")
        .env("TWILIO_AUTH_TOKEN", "bench-token-b7e23ec29af22b0b")
        .env("TWILIO_PHONE_NUMBER", "+15005550006")
        .env("TWILIO_BASE_URL", format!("http://{}", twilio.address));
    command
}

/// Which code a verification shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The one that was sent.
    Right,
    /// Another one.
    Wrong,
}

/// What a measurement of sends has found.
#[derive(Debug)]
pub(crate) struct Sent {
    /// The sends.
    pub(crate) measured: Measured,
    /// The numbers that were sent to: digits and code.
    pub(crate) numbers: Arc<[(u64, u32)]>,
    /// How many messages had not reached the provider at the last answer.
    pub(crate) behind: u64,
    /// How long it took from there until all had.
    pub(crate) drained: Duration,
}

/// A server with its provider.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    twilio: Twilio,
    /// From its start to the first send's answer.
    pub(crate) to_first_answer: Duration,
    /// Resident memory in KiB before the first request.
    pub(crate) idle_kib: u64,
    /// How many numbers have been used.
    used: u64,
    /// How many sends were accepted.
    accepted: u64,
}

impl Server {
    /// Starts the binary by `command` with its data in `folder`: the queue may grow beyond its default,
    /// since deliveries that are held back let it, and a call waits for a place as long as this machine
    /// takes, since each that is refused ends a measurement.
    pub(crate) async fn start(command: Command, folder: &Path) -> Result<Server, Failure> {
        let patient = [
            ("COUNTERSIGN_LIMITS_SERVICE_WALL_MS", "120000"),
            ("COUNTERSIGN_LIMITS_SERVICE_WAIT_MS", "60000"),
        ];
        Server::start_warm(command, folder, &patient).await
    }

    /// The same with waiting as it comes.
    pub(crate) async fn start_refusing(command: Command, folder: &Path) -> Result<Server, Failure> {
        Server::start_warm(command, folder, &[]).await
    }

    async fn start_warm(
        command: Command,
        folder: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Server, Failure> {
        let mut server = Server::start_cold(command, folder, settings).await?;
        let warm_up = Load {
            connections: 16,
            duration: WARM_UP,
            per_second: None,
            overload: false,
        };
        server.send(&warm_up).await?;
        Ok(server)
    }

    /// Starts it with other settings, by their variables, and sends once.
    pub(crate) async fn start_cold(
        command: Command,
        folder: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Server, Failure> {
        let twilio = Twilio::start()?;
        let mut command = configured(command, folder, &twilio);
        command.envs(settings.iter().copied());
        let process = Process::start(command, &folder.join("log"))?;
        let mut server = Server {
            to_first_answer: Duration::ZERO,
            idle_kib: process.resident_kib(),
            process,
            twilio,
            used: 0,
            accepted: 0,
        };
        let first = Load {
            connections: 1,
            duration: Duration::from_millis(1),
            per_second: Some(1.0),
            overload: false,
        };
        let asked = Instant::now();
        server.post_sends(&first).await?;
        server.to_first_answer = server.process.started + asked.elapsed();
        Ok(server)
    }

    /// From its start to the line that says that it serves.
    pub(crate) fn started(&self) -> Duration {
        self.process.started
    }

    /// Where it serves.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.process.address
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.process.resident_kib()
    }

    /// Sends to new numbers and waits until all messages have reached the provider.
    pub(crate) async fn send(&mut self, load: &Load) -> Result<Sent, Failure> {
        let first = self.used;
        let cpu_before = self.process.cpu();
        let mut measured = self.post_sends(load).await?;
        let behind = self.accepted.saturating_sub(self.twilio.taken());
        let drained = self.drain().await?;
        // With its delivery: at this moment there are as many of the ones as of the others.
        measured.share_cpu(&cpu_before, self.process.cpu());
        let numbers = (first..self.used).map(digits);
        let numbers = numbers.filter_map(|digits| Some((digits, self.twilio.code(digits)?)));
        Ok(Sent {
            numbers: numbers.collect(),
            measured,
            behind,
            drained,
        })
    }

    /// Sends while the provider answers nothing. The server is of no more use afterwards.
    pub(crate) async fn send_held(mut self, load: &Load) -> Result<Measured, Failure> {
        self.twilio.hold();
        let load = Load {
            duration: load.duration.min(HELD_TIME_MAX),
            ..*load
        };
        let cpu_before = self.process.cpu();
        let mut measured = self.post_sends(&load).await?;
        measured.share_cpu(&cpu_before, self.process.cpu());
        Ok(measured)
    }

    /// Sends of which some may be refused, and waits until the others have been delivered.
    pub(crate) async fn overload(&mut self, load: &Load) -> Result<Measured, Failure> {
        let measured = self.post_sends(load).await?;
        // Refused numbers were used as well, in the same order.
        self.used += measured.refused.len() + measured.refused_before;
        self.drain().await?;
        Ok(measured)
    }

    /// Accepts sends until `sends` have been accepted, and returns the resident memory in KiB then.
    pub(crate) async fn resident_after(&mut self, load: &Load, sends: u64) -> Result<u64, Failure> {
        while self.accepted < sends {
            self.send(load).await?;
        }
        Ok(self.resident_kib())
    }

    /// Shows a code for each of `numbers`, until the time or the numbers are used up.
    pub(crate) async fn verify(
        &self,
        load: &Load,
        numbers: &Arc<[(u64, u32)]>,
        code: Code,
    ) -> Result<Measured, Failure> {
        let numbers = numbers.clone();
        let bodies: Bodies = Arc::new(move |n| {
            let (digits, sent) = *numbers.get(usize::try_from(n).ok()?)?;
            let shown = match code {
                Code::Right => sent,
                Code::Wrong => (sent + 1) % 1_000_000,
            };
            Some(format!(r#"{{"phoneNumber":"+{digits}","code":"{shown:06}"}}"#).into())
        });
        let (what, expected): (_, load::Expected) = match code {
            Code::Right => ("right codes", |status, _| status == 200),
            Code::Wrong => ("wrong codes", |status, body| {
                status == 400 && has(body, "Invalid or expired code")
            }),
        };
        let cpu_before = self.process.cpu();
        let measured = load::run(self.target("/api/otp/verify"), *load, bodies, expected).await;
        let mut measured = self.explained(what, measured)?;
        measured.share_cpu(&cpu_before, self.process.cpu());
        Ok(measured)
    }

    async fn post_sends(&mut self, load: &Load) -> Result<Measured, Failure> {
        let first = self.used;
        let bodies: Bodies = Arc::new(move |n| Some(send_body(first + n)));
        let expected = |status, body: &[u8]| status == 200 && has(body, "expiresAt");
        let measured = load::run(self.target("/api/otp/send"), *load, bodies, expected).await;
        let measured = self.explained("sends", measured)?;
        // Every answer was one of these, so every number that was taken was used.
        let accepted = measured.answers + measured.answers_before;
        self.used += accepted;
        self.accepted += accepted;
        Ok(measured)
    }

    fn target(&self, path: &'static str) -> Target {
        Target {
            address: self.process.address,
            path,
            key: Some(KEY),
        }
    }

    async fn drain(&self) -> Result<Duration, Failure> {
        let begun = Instant::now();
        while self.twilio.taken() < self.accepted {
            if begun.elapsed() > DRAIN_TIME {
                let (taken, accepted) = (self.twilio.taken(), self.accepted);
                let said = self.process.said();
                return Err(format!("deliveries ended at {taken} of {accepted}\n{said}").into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(begun.elapsed())
    }

    /// A failure with what the server says of it.
    fn explained(
        &self,
        what: &str,
        measured: Result<Measured, Failure>,
    ) -> Result<Measured, Failure> {
        measured
            .and_then(|measured| only_expected(what, measured))
            .map_err(|failure| format!("{failure}\n{}", self.process.said()).into())
    }
}

fn has(body: &[u8], text: &str) -> bool {
    body.windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_are_different_and_of_the_right_length() {
        let numbers: HashSet<u64> = (0..400_000).map(digits).collect();
        assert_eq!(numbers.len(), 400_000);
        assert!(numbers.iter().all(|number| {
            let text = number.to_string();
            text.len() == 11 && text.starts_with('1') || text.len() == 13
        }));
    }
}
