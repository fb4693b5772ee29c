//! Where the instructions of a send and its delivery go, by callgrind: the same on a busy machine as on
//! a quiet one. The kernel's are not in it.
//!
//! What a function of the standard library, the allocator or a serializer does is counted for whoever
//! called it, in the shares of its callers.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Failure;
use crate::load::Load;
use crate::report::Report;
use crate::server::Server;
use crate::steps::{Steps, work};

/// Few connections: the server runs at a fiftieth of its speed.
const CONNECTIONS: usize = 2;
const WARM_UP: Duration = Duration::from_secs(8);
/// How often callers are asked for their own callers: longer than any chain of generic functions.
const ROUNDS: usize = 40;
/// callgrind cannot reserve the address space of a thousand instances, and what is slow is no fault.
const SETTINGS: [(&str, &str); 5] = [
    ("COUNTERSIGN_LIMITS_EPOCH_MS", "1000"),
    ("COUNTERSIGN_LIMITS_INSTANCES", "12"),
    ("COUNTERSIGN_LIMITS_IDLE_INSTANCES", "8"),
    ("COUNTERSIGN_LIMITS_SERVICE_TIME_MS", "10000"),
    ("COUNTERSIGN_LIMITS_PROVIDER_TIME_MS", "10000"),
];
/// What a thread does, by a function that no other thread has.
const THREADS: [(&str, &str); 5] = [
    ("countersign_store::embedded::group::Writer", "storage"),
    ("sled::threadpool", "sled's own"),
    ("sled::flusher", "sled's own"),
    ("reqwest::", "deliveries"),
    ("axum::", "requests"),
];

/// One thread's functions, by number.
#[derive(Debug, Default)]
struct Profile {
    names: Vec<String>,
    own: Vec<f64>,
    /// Of caller and called one: the instructions of the calls, all that they called included.
    calls: HashMap<(usize, usize), f64>,
}

/// Measures sends under callgrind and adds the table to `report`.
///
/// # Errors
///
/// Where there is no valgrind, or the server does not work under it.
pub(crate) async fn measure(
    binary: &Path,
    folder: &Path,
    seconds: Duration,
    report: &mut Report,
) -> Result<(), Failure> {
    let folder = folder.join("instructions");
    fs::create_dir(&folder)?;
    let out = folder.join("callgrind");
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--separate-threads=yes"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(binary);
    let started = Server::start_cold(command, &folder, &SETTINGS).await;
    let mut server = started.map_err(|failure| {
        format!(
            "valgrind is needed (`apt-get install valgrind`), and the server under it: {failure}"
        )
    })?;
    let load = Load {
        connections: CONNECTIONS,
        duration: WARM_UP,
        per_second: None,
        overload: false,
    };
    server.send(&load).await?;
    control("--zero", server.id())?;
    let load = Load {
        duration: seconds,
        ..load
    };
    let sends = server.send(&load).await?.measured.count_as_float();
    control("--dump", server.id())?;
    let mut steps = Steps::default();
    for file in fs::read_dir(&folder)? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // `callgrind.1-02`: the second thread in the first dump.
        if !name.starts_with("callgrind.1-") {
            continue;
        }
        let profile = parse(&fs::read_to_string(&path)?);
        let thread = thread(&profile);
        for (work, instructions) in shares(&profile) {
            steps.add(thread, work, instructions / sends / 1e3);
        }
    }
    if steps.is_empty() {
        return Err("callgrind has written nothing".into());
    }
    steps.report("instructions of a send", "thousands", report);
    Ok(())
}

/// Asks callgrind in process `id` for something.
fn control(what: &str, id: u32) -> Result<(), Failure> {
    let output = Command::new("callgrind_control")
        .arg(what)
        .arg(id.to_string())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("callgrind_control {what} failed: {said}").into())
}

/// Reads callgrind's format: lines of costs below `fn=`, and below `calls=` one with what the calls of
/// `cfn=` cost altogether. A name is written once, with a number in parentheses for the other times.
fn parse(text: &str) -> Profile {
    let mut profile = Profile::default();
    let mut by_number: HashMap<&str, usize> = HashMap::new();
    let mut by_name: HashMap<String, usize> = HashMap::new();
    let mut function = |profile: &mut Profile, value| -> usize {
        let (number, name) = numbered(value);
        if name.is_empty() {
            return by_number.get(number).copied().unwrap_or_default();
        }
        let next = profile.names.len();
        let found = *by_name.entry(name.to_owned()).or_insert(next);
        if found == next {
            profile.names.push(name.to_owned());
            profile.own.push(0.0);
        }
        by_number.insert(number, found);
        found
    };
    let (mut at, mut called, mut is_call) = (None, None, false);
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("fn=") {
            at = Some(function(&mut profile, value));
        } else if let Some(value) = line.strip_prefix("cfn=") {
            called = Some(function(&mut profile, value));
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(['+', '-', '*'])
            || line.starts_with(|c: char| c.is_ascii_digit())
        {
            let cost = line
                .split(' ')
                .nth(1)
                .and_then(|cost| cost.parse::<f64>().ok());
            let (Some(caller), Some(cost)) = (at, cost) else {
                continue;
            };
            match called {
                Some(called) if is_call => {
                    *profile.calls.entry((caller, called)).or_default() += cost;
                }
                _ => profile.own[caller] += cost,
            }
            is_call = false;
        }
    }
    profile
}

/// `(12) name'2`: the number, and the name without the mark of a recursion.
fn numbered(value: &str) -> (&str, &str) {
    let (number, name) = value.split_once(')').unwrap_or((value, ""));
    let name = name.trim();
    let name = match name.rsplit_once('\'') {
        Some((name, depth)) if depth.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => name,
    };
    (number, name)
}

fn thread(profile: &Profile) -> &'static str {
    let has = |part: &str| {
        let mut functions = profile.names.iter().zip(&profile.own);
        functions.any(|(name, own)| *own > 0.0 && name.contains(part))
    };
    let found = THREADS.iter().find(|(part, _)| has(part));
    found.map_or("the rest", |(_, thread)| thread)
}

/// The thread's instructions by what they are for.
fn shares(profile: &Profile) -> BTreeMap<&'static str, f64> {
    let works: Vec<Option<&str>> = profile.names.iter().map(|name| work(name)).collect();
    let mut callers: HashMap<usize, Vec<(usize, f64)>> = HashMap::new();
    for (&(caller, called), &cost) in &profile.calls {
        if works[called].is_none() && caller != called {
            callers.entry(called).or_default().push((caller, cost));
        }
    }
    let mut shares: BTreeMap<&'static str, f64> = BTreeMap::new();
    // What a generic function has done goes to its callers, round after round, until it has come to
    // somebody who is known.
    let mut left: HashMap<usize, f64> = HashMap::new();
    for (function, own) in profile.own.iter().enumerate() {
        match works[function] {
            Some(work) => *shares.entry(work).or_default() += own,
            None => *left.entry(function).or_default() += own,
        }
    }
    for _ in 0..ROUNDS {
        for (function, instructions) in std::mem::take(&mut left) {
            let callers = callers.get(&function).map_or(&[][..], Vec::as_slice);
            let all: f64 = callers.iter().map(|(_, cost)| cost).sum();
            if all <= 0.0 {
                *shares.entry("the rest").or_default() += instructions;
                continue;
            }
            for (caller, cost) in callers {
                let part = instructions * cost / all;
                match works[*caller] {
                    Some(work) => *shares.entry(work).or_default() += part,
                    None => *left.entry(*caller).or_default() += part,
                }
            }
        }
    }
    *shares.entry("the rest").or_default() += left.values().sum::<f64>();
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of what callgrind 3.19 writes.
    const DUMP: &str = "\
positions: line
events: Ir
fl=(1) a.rs
fn=(1) hyper::proto::h1::role::parse
10 100
cfn=(2) malloc'2
calls=3 +4
12 300
fn=(3) sled::tree::Tree::get
+2 50
cfn=(2)
calls=1 20
* 100
fn=(2)
20 200
cfn=(4) memset
calls=4 30
20 200
fn=(4)
30 200
fn=(5) lonely
1 7
";

    #[test]
    fn generic_work_counts_for_its_callers() {
        let profile = parse(DUMP);
        assert_eq!(profile.names.len(), 5);
        let shares = shares(&profile);
        // 400 of `malloc` with its `memset`: three quarters for hyper.
        assert_eq!(shares["HTTP"], 100.0 + 300.0);
        assert_eq!(shares["sled"], 50.0 + 100.0);
        assert_eq!(shares["the rest"], 7.0);
    }

    #[test]
    fn threads_are_known_by_what_they_alone_do() {
        assert_eq!(
            thread(&parse("fn=(1) axum::routing::Router::call\n1 5\n")),
            "requests"
        );
        assert_eq!(
            thread(&parse("fn=(1) axum::routing::Router::call\n")),
            "the rest"
        );
        assert_eq!(
            thread(&parse("fn=(1) sled::threadpool::spawn\n1 5\n")),
            "sled's own"
        );
    }
}
