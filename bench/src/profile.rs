//! Where the time of a send and its delivery goes, by `perf`: samples of the server's threads under load, each
//! counted for the innermost function of its stack whose work is known, so the kernel's time counts for
//! whoever called it. Taking them costs some of the time, so shares are what can be read here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Failure;
use crate::load::Load;
use crate::report::{self, Report};
use crate::server::Server;
use crate::steps::{CALLS, SYNCS, Steps, work};

/// In a second of each thread that runs; no divisor of anything that the server does by time.
const SAMPLES: &str = "997";
/// Of each sample's stack, in bytes: as deep as a request's goes.
const STACK: &str = "dwarf,24576";
/// What syncs a file, and is no other step whoever has called it.
const SYNC: &str = "fdatasync";

/// Measures sends while `perf` looks at the server, and adds the table to `report`.
///
/// # Errors
///
/// Where there is no `perf`, or it may not look.
pub(crate) async fn measure(
    binary: &Path,
    folder: &Path,
    load: &Load,
    report: &mut Report,
) -> Result<(), Failure> {
    let folder = folder.join("profile");
    fs::create_dir(&folder)?;
    let data = folder.join("perf.data");
    let mut server = Server::start(Command::new(binary), &folder).await?;
    let mut samples = Command::new("perf");
    samples
        .args(["record", "-q", "-F", SAMPLES, "--call-graph", STACK])
        .args(["-p", &server.id().to_string(), "-o"])
        .arg(&data)
        // It ends by itself, whatever becomes of this program.
        .args(["--", "sleep", &seconds(load.duration)]);
    let needed = |error| format!("`perf` is needed, and leave to use it: {error}");
    let mut samples = samples.spawn().map_err(needed)?;
    let sent = server.send(load).await?.measured;
    let ended = samples.wait()?;
    if !ended.success() {
        return Err(needed(std::io::Error::other(ended.to_string())).into());
    }
    drop(server);
    let mut script = Command::new("perf");
    script
        .args(["script", "--no-inline", "-F", "comm,ip,sym", "-i"])
        .arg(&data);
    let text = script.output()?.stdout;
    let counts = counts(&String::from_utf8_lossy(&text));
    if counts.is_empty() {
        return Err("`perf` has seen nothing of the server".into());
    }
    let mut of_thread: BTreeMap<&str, u64> = BTreeMap::new();
    for ((thread, _), samples) in &counts {
        *of_thread.entry(thread).or_default() += samples;
    }
    let mut us: BTreeMap<&str, f64> = BTreeMap::new();
    for (name, each) in &sent.cpu_us {
        *us.entry(report::work(name)).or_default() += each;
    }
    let mut steps = Steps::default();
    for ((thread, work), samples) in &counts {
        let all = of_thread.get(thread).copied().unwrap_or_default();
        let us = us.get(thread).copied().unwrap_or_default();
        steps.add(thread, work, us * ratio(*samples, all));
    }
    steps.report("time of a send", "µs", report);
    Ok(())
}

fn seconds(span: Duration) -> String {
    span.as_secs().max(1).to_string()
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn ratio(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}

/// The samples of `perf script`, by thread and work: each is a line with its thread's name, then one for
/// each function of its stack, the innermost first, then an empty one.
fn counts(script: &str) -> BTreeMap<(&'static str, &'static str), u64> {
    let mut counts = BTreeMap::new();
    for sample in script.split("\n\n") {
        let mut lines = sample.lines().filter(|line| !line.trim().is_empty());
        let Some(thread) = lines.next() else {
            continue;
        };
        let stack = lines.filter_map(|line| line.trim().split_once(' '));
        let stack: Vec<&str> = stack.map(|(_, function)| function.trim()).collect();
        let key = (report::work(thread.trim()), of_stack(&stack));
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// What the innermost function that is known does. Code that was compiled from a component has no name.
fn of_stack(stack: &[&str]) -> &'static str {
    if stack.iter().any(|function| function.contains(SYNC)) {
        return SYNCS;
    }
    let is_guest = |function: &&&str| !function.starts_with('[');
    let known = stack.iter().take_while(is_guest);
    let known = known.map(|function| work(function)).find(Option::is_some);
    known.flatten().unwrap_or_else(|| {
        // The stack of a guest cannot be followed: what comes before it is the guest's.
        match stack.iter().any(|function| function.starts_with('[')) {
            true => CALLS,
            false => "the rest",
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\
countersign
\t    ffffffff81 tcp_sendmsg
\t         1f00 __GI___writev
\t         2f00 hyper::proto::h1::io::Buffered<T,B>::poll_flush
\t         3f00 tokio::runtime::task::core::Core<T,S>::poll

countersign
\t    7f38fc904d5a [unknown]
\t    7f38fc904d00 [unknown]

countersign-del
\t         4f00 _mi_page_malloc_zero
\t         5f00 countersign_queue::queue::Queue::next

sled-io-4
\t    ffffffff82 io_schedule
\t         6f00 fdatasync
\t         7f00 sled::threadpool::perform_work

countersign
\t         8f00 memcpy
";

    #[test]
    fn a_sample_counts_for_the_innermost_function_whose_work_is_known() {
        let counts = counts(SCRIPT);
        let expected = [
            (("deliveries", "queue"), 1),
            (("requests", "HTTP"), 1),
            (("requests", CALLS), 1),
            (("requests", "the rest"), 1),
            (("sled's own", SYNCS), 1),
        ];
        assert_eq!(counts, BTreeMap::from(expected));
    }
}
