//! Whether the time of a login's answer tells what its text does not.
//!
//! Users who have different things and get the same answer are asked about one after the other on one
//! connection, in an order that mixes all of them, so that what slows the machine slows each kind alike.
//! The figure is how often one answer's time alone names the right one of two kinds: the area under the
//! ROC curve, which is Mann and Whitney's U over the number of pairs. 50 % is a coin.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::Failure;
use crate::process::Process;
use crate::report::Report;
use crate::server::{self, KEY, digits};
use crate::twilio::Twilio;

/// How often a user is asked about: fewer than lock a kind of code.
const TRIES: usize = 2;
/// Wrong codes that lock it.
const LOCKING: usize = 5;
/// Before anything is measured.
const WARM_UP: usize = 200;
/// How long the provider has been told nothing when all messages have gone out.
const QUIET: Duration = Duration::from_millis(300);
/// Long enough for a message to come.
const MESSAGE_TIME: Duration = Duration::from_secs(30);

const WRONG_DIGITS: &str = "000000";
/// Of the shape of a backup code, and none.
const WRONG_TEXT: &str = "2222-2222-2222-2222";
/// Of an authenticator app of another system, in Base32.
const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

/// Users of one kind, and what they are asked.
struct Kind {
    name: &'static str,
    has: &'static [Has],
    code: Code,
}

/// What users have, in the order in which they get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Has {
    /// A phone, and no backup codes.
    Phone,
    /// An authenticator app, and no backup codes.
    App,
    /// A phone that was verified here, and a set of backup codes.
    Set,
    /// A phone that was never verified.
    Pending,
    /// A message with a code.
    Message,
    /// A backup code less.
    Used,
    /// A lock of the kind that is asked for.
    Lock,
}

/// Which code is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Digits,
    Text,
    /// One that begins as a code of the set does.
    Selector,
    /// The first of the set.
    First,
    /// The second of the set.
    Second,
}

/// Kinds with the same answer; each is compared with the first.
struct Group {
    answer: &'static str,
    kinds: &'static [Kind],
}

const fn kind(name: &'static str, has: &'static [Has], code: Code) -> Kind {
    Kind { name, has, code }
}

const GROUPS: [Group; 5] = [
    Group {
        answer: "Invalid code",
        kinds: &[
            kind("wrong digits, a phone", &[Has::Phone], Code::Digits),
            kind("an app", &[Has::App], Code::Digits),
            kind("both", &[Has::Phone, Has::App], Code::Digits),
            kind("a live code", &[Has::Phone, Has::Message], Code::Digits),
        ],
    },
    Group {
        answer: "Invalid code",
        kinds: &[
            kind("wrong backup code, no set", &[Has::App], Code::Text),
            kind("a set", &[Has::Set], Code::Text),
            kind("a code's beginning", &[Has::Set], Code::Selector),
            kind("a used code", &[Has::Set, Has::Used], Code::First),
        ],
    },
    Group {
        answer: "2FA not enabled",
        kinds: &[
            kind("no factor, an unknown user", &[], Code::Digits),
            kind("a pending phone", &[Has::Pending], Code::Digits),
        ],
    },
    Group {
        answer: "Too many attempts",
        kinds: &[
            kind(
                "locked digits, a phone",
                &[Has::Phone, Has::Lock],
                Code::Digits,
            ),
            kind("an app", &[Has::App, Has::Lock], Code::Digits),
        ],
    },
    Group {
        answer: "Too many attempts",
        kinds: &[
            kind(
                "locked backup codes, no set",
                &[Has::App, Has::Lock],
                Code::Text,
            ),
            kind("a set", &[Has::Set, Has::Lock], Code::Text),
            kind("a right code", &[Has::Set, Has::Lock], Code::Second),
        ],
    },
];

/// A user, with the code that is tried.
struct User {
    id: String,
    code: String,
    backup_codes: Vec<String>,
}

/// Asks `samples` times about users of each kind, and adds what their times tell.
pub(crate) async fn measure(
    binary: &Path,
    folder: &Path,
    samples: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    let folder = folder.join("timing");
    std::fs::create_dir(&folder)?;
    let twilio = Twilio::start()?;
    let mut command = server::configured(Command::new(binary), &folder, &twilio);
    // A cheap hash: beside it nothing else that a check does could be seen.
    command
        .env("COUNTERSIGN_TWO_FACTOR_BACKUP_MEMORY_KIB", "1024")
        .env("COUNTERSIGN_TWO_FACTOR_BACKUP_PASSES", "1");
    let process = Process::start(command, &folder.join("log"))?;
    let client = Client::connect(&process, &twilio).await?;
    let mut asking = Asking { client, used: 0 };
    let kinds: Vec<(&Group, &Kind)> = GROUPS
        .iter()
        .flat_map(|group| group.kinds.iter().map(move |kind| (group, kind)))
        .collect();
    let mut users = Vec::new();
    for (at, (_, kind)) in kinds.iter().enumerate() {
        users.push(asking.users(at, kind, samples.div_ceil(TRIES)));
    }
    let lines = users.iter().flatten().filter_map(|(_, line)| line.clone());
    import(binary, &folder, &lines.collect::<String>())?;
    let mut ready = Vec::new();
    for ((_, kind), users) in kinds.iter().zip(users) {
        let mut prepared = Vec::new();
        for (user, _) in users {
            prepared.push(asking.prepare(kind, user).await?);
        }
        ready.push(prepared);
    }
    asking.client.wait_for_quiet().await;
    let times = asking.ask(&kinds, &ready, samples).await;
    let times = times.map_err(|failure| format!("{failure}\n{}", process.said()))?;
    let mut times = times.into_iter();
    for group in &GROUPS {
        let of_group: Vec<Vec<f64>> = times.by_ref().take(group.kinds.len()).collect();
        tell(group, &of_group, report);
    }
    Ok(())
}

/// Adds the figures of a group.
fn tell(group: &Group, times: &[Vec<f64>], report: &mut Report) {
    let Some((first, reference)) = group.kinds.first().zip(times.first()) else {
        return;
    };
    let name = format!("login: {}", first.name);
    report.fact(&name, "µs", median(reference));
    for (kind, times) in group.kinds.iter().zip(times).skip(1) {
        report.fact(format!("{name}; {}", kind.name), "µs", median(times));
        let told = told_apart(reference, times) * 100.0;
        report.fact(format!("{name}; {}, told by one", kind.name), "%", told);
    }
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// How often who sees one of each knows which is which, if they guess as well as one can: from 0.5 to 1.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn told_apart(left: &[f64], right: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = Vec::with_capacity(left.len() + right.len());
    all.extend(left.iter().map(|&time| (time, true)));
    all.extend(right.iter().map(|&time| (time, false)));
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    // Of all pairs those in which the left one is the longer; equal times count half.
    let (mut shorter, mut longer) = (0.0, 0.0);
    for tied in all.chunk_by(|one, other| one.0 == other.0) {
        let left = tied.iter().filter(|(_, is_left)| *is_left).count() as f64;
        let right = tied.len() as f64 - left;
        longer += left * (shorter + right / 2.0);
        shorter += right;
    }
    let pairs = (left.len() * right.len()).max(1) as f64;
    let share = longer / pairs;
    share.max(1.0 - share)
}

/// Moves in who has a factor before the server knows them.
fn import(binary: &Path, folder: &Path, lines: &str) -> Result<(), Failure> {
    let file = folder.join("users.jsonl");
    std::fs::write(&file, lines)?;
    let done = Command::new(binary)
        .env_clear()
        .current_dir(folder)
        .arg("import")
        .arg(&file)
        .arg("--data")
        .arg(folder.join("data"))
        .output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("users could not be moved in: {said}").into())
}

/// Who asks, and how many numbers have been used.
struct Asking<'a> {
    client: Client<'a>,
    used: u64,
}

impl Asking<'_> {
    fn number(&mut self) -> u64 {
        self.used += 1;
        digits(self.used)
    }

    /// The users of the kind at `at`, each with its line of an import.
    fn users(&mut self, at: usize, kind: &Kind, count: usize) -> Vec<(User, Option<String>)> {
        let (phone, app) = (kind.has.contains(&Has::Phone), kind.has.contains(&Has::App));
        let users = (0..count).map(|n| {
            let id = format!("kind-{at}-{n}");
            let mut fields = vec![("user", id.clone())];
            if phone {
                fields.push(("phoneNumber", format!("+{}", self.number())));
            }
            if app {
                fields.push(("totpSecret", SECRET.to_owned()));
            }
            let mut line = String::new();
            let object: serde_json::Map<String, Value> = fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), Value::from(value)))
                .collect();
            // Writing to a text cannot fail.
            let _ = writeln!(line, "{}", Value::from(object));
            let user = User {
                id,
                code: String::new(),
                backup_codes: Vec::new(),
            };
            (user, (phone || app).then_some(line))
        });
        users.collect()
    }

    /// Gives the user what the kind has and the import does not bring.
    async fn prepare(&mut self, kind: &Kind, mut user: User) -> Result<User, Failure> {
        for has in kind.has {
            match has {
                Has::Phone | Has::App => {}
                Has::Set => user.backup_codes = self.enrol(&user.id).await?,
                Has::Pending => {
                    let number = self.number();
                    self.client.enable(&user.id, number).await?;
                }
                Has::Message => {
                    let (path, body) = ("/api/login/2fa/send", json!({}));
                    let sent = self.client.post(path, &user.id, &body).await?;
                    sent.expect("expiresAt")?;
                }
                Has::Used => {
                    let code = code(Code::First, &user);
                    let used = self.client.log_in(&user.id, &code).await?;
                    used.expect("backupCodesLeft")?;
                }
                Has::Lock => {
                    let wrong = match kind.code {
                        Code::Digits => WRONG_DIGITS,
                        _ => WRONG_TEXT,
                    };
                    for _ in 0..LOCKING {
                        let missed = self.client.log_in(&user.id, wrong).await?;
                        missed.expect("Invalid code")?;
                    }
                }
            }
        }
        user.code = code(kind.code, &user);
        Ok(user)
    }

    async fn enrol(&mut self, id: &str) -> Result<Vec<String>, Failure> {
        let number = self.number();
        self.client.enable(id, number).await?;
        let code = self.client.code(number).await?;
        let body = json!({ "code": format!("{code:06}") });
        let verified = self
            .client
            .post("/api/2fa/verify-enable", id, &body)
            .await?;
        let answer: Value = serde_json::from_slice(&verified.body)?;
        let codes = answer["backupCodes"].as_array();
        let codes = codes.ok_or_else(|| format!("no backup codes: {answer}"))?;
        let codes = codes.iter().filter_map(Value::as_str);
        Ok(codes.map(str::to_owned).collect())
    }

    /// The times of the answers about each kind, in microseconds.
    async fn ask(
        &mut self,
        kinds: &[(&Group, &Kind)],
        users: &[Vec<User>],
        samples: usize,
    ) -> Result<Vec<Vec<f64>>, Failure> {
        for _ in 0..WARM_UP {
            self.client.log_in("nobody", WRONG_DIGITS).await?;
        }
        let mut order: Vec<(usize, usize)> = (0..kinds.len())
            .flat_map(|kind| (0..samples).map(move |sample| (kind, sample / TRIES)))
            .collect();
        shuffle(&mut order);
        let mut times = vec![Vec::with_capacity(samples); kinds.len()];
        for (at, user) in order {
            let (Some((group, _)), Some(user)) = (kinds.get(at), users[at].get(user)) else {
                continue;
            };
            let answered = self.client.log_in(&user.id, &user.code).await?;
            answered.expect(group.answer)?;
            times[at].push(answered.time.as_secs_f64() * 1e6);
        }
        Ok(times)
    }
}

fn code(code: Code, user: &User) -> String {
    let of_set = |at: usize| user.backup_codes.get(at).cloned().unwrap_or_default();
    match code {
        Code::Digits => WRONG_DIGITS.to_owned(),
        Code::Text => WRONG_TEXT.to_owned(),
        Code::First => of_set(0),
        Code::Second => of_set(1),
        Code::Selector => {
            let mut text = of_set(0);
            text.truncate(text.len().saturating_sub(4));
            // The last four of one in a million are these.
            text + "2222"
        }
    }
}

/// Fisher and Yates, always the same way: what is compared is in one run.
fn shuffle<T>(items: &mut [T]) {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    for last in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bound = u64::try_from(last + 1).unwrap_or(u64::MAX);
        // Below `last + 1`, so it fits.
        items.swap(last, usize::try_from(state % bound).unwrap_or_default());
    }
}

/// What came back, and how long it took.
struct Answered {
    time: Duration,
    body: Bytes,
}

impl Answered {
    fn expect(&self, words: &str) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(&self.body);
        match text.contains(words) {
            true => Ok(()),
            false => Err(format!("{words:?} was expected, and not {text}").into()),
        }
    }
}

/// One connection to the server.
struct Client<'a> {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    twilio: &'a Twilio,
}

impl<'a> Client<'a> {
    async fn connect(process: &Process, twilio: &'a Twilio) -> Result<Client<'a>, Failure> {
        let stream = TcpStream::connect(process.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender.
        tokio::spawn(connection);
        Ok(Client {
            sender,
            host: process.address.to_string(),
            twilio,
        })
    }

    async fn post(&mut self, path: &str, user: &str, body: &Value) -> Result<Answered, Failure> {
        let request = Request::post(path)
            .header(HOST, &self.host)
            .header(AUTHORIZATION, format!("Bearer {KEY}"))
            .header(CONTENT_TYPE, "application/json")
            .header("x-countersign-user", user)
            .body(Full::new(body.to_string().into()))?;
        self.sender.ready().await?;
        let asked = Instant::now();
        let response = self.sender.send_request(request).await?;
        let body = response.into_body().collect().await?.to_bytes();
        let time = asked.elapsed();
        Ok(Answered { time, body })
    }

    async fn log_in(&mut self, user: &str, code: &str) -> Result<Answered, Failure> {
        self.post("/api/login/2fa", user, &json!({ "code": code }))
            .await
    }

    async fn enable(&mut self, user: &str, number: u64) -> Result<(), Failure> {
        let body = json!({ "phoneNumber": format!("+{number}") });
        let sent = self.post("/api/2fa/enable", user, &body).await?;
        sent.expect("expiresAt")
    }

    /// The code that was sent to a number.
    async fn code(&self, number: u64) -> Result<u32, Failure> {
        let begun = Instant::now();
        loop {
            if let Some(code) = self.twilio.code(number) {
                return Ok(code);
            }
            if begun.elapsed() > MESSAGE_TIME {
                return Err("a message did not come".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until no message is on its way any more.
    async fn wait_for_quiet(&self) {
        let mut before = None;
        while before != Some(self.twilio.taken()) {
            before = Some(self.twilio.taken());
            tokio::time::sleep(QUIET).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_are_alike_are_told_apart_by_chance_and_others_always() {
        let check = |left: &[f64], right: &[f64], want: f64| {
            assert!(
                (told_apart(left, right) - want).abs() < 1e-9,
                "{left:?} {right:?}"
            );
        };
        check(&[1.0, 2.0], &[1.0, 2.0], 0.5);
        check(&[5.0; 9], &[5.0; 3], 0.5);
        check(&[1.0, 2.0], &[3.0, 4.0], 1.0);
        check(&[3.0, 4.0], &[1.0, 2.0], 1.0);
        // Of six pairs in four the left one is the longer.
        check(&[2.0, 4.0], &[1.0, 3.0, 5.0], 0.5);
        check(&[2.0, 6.0], &[1.0, 3.0, 5.0], 4.0 / 6.0);
    }

    #[test]
    fn every_kind_is_asked_about_in_an_order_that_mixes_them() {
        let mut order: Vec<usize> = (0..1_000).collect();
        shuffle(&mut order);
        let moved = order.iter().enumerate().filter(|(at, was)| at != *was);
        assert!(moved.count() > 900);
        order.sort_unstable();
        assert!(order.into_iter().eq(0..1_000));
    }
}
