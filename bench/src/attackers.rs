//! Components made to do harm run flat out in one runtime with otp, on a real store: what the codes that
//! are sent meanwhile notice of it, and what is left of it in memory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign_runtime::Limits;
use countersign_store::{SledStore, Store};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::component::Bench;
use crate::process::resident_kib;
use crate::report::Report;
use crate::{Failure, as_float};

/// What each does, in the probe's words, and its name.
const ATTACKERS: [(&str, &str); 9] = [
    ("endless loop", "spin"),
    ("memory bomb", "grow"),
    ("deep recursion", "recurse 100000000"),
    ("trap", "trap on purpose"),
    ("handle leak", "handles 100000"),
    ("log flood", "flood 100000"),
    ("scan of everything", "scan-all"),
    ("huge texts", "huge put-value 5000000"),
    ("sleep", "sleep 100"),
];

/// Of each kind at once.
const AT_ONCE: usize = 8;
/// Who send codes meanwhile, each with a pause after each send: a server that has room.
const NEIGHBOURS: usize = 4;
const PAUSE: Duration = Duration::from_millis(5);
/// Rows for the scan: more than a call may touch.
const ROWS: usize = 2_000;

/// What goes on in all tasks.
struct Scene {
    bench: Bench,
    over: AtomicBool,
    /// The next number that a code is sent to.
    next: AtomicU64,
}

/// Measures each attacker for `span`.
pub(crate) async fn measure(
    folder: &Path,
    span: Duration,
    report: &mut Report,
) -> Result<(), Failure> {
    let store: Arc<dyn Store> = SledStore::open(&folder.join("attackers"))?;
    let bench = Bench::over(store, Limits::default(), countersign_embedded::OTP).await?;
    for first in (0..ROWS).step_by(50) {
        let rows = (first..first + 50).map(|row| format!("put row{row} x"));
        bench.run(&rows.collect::<Vec<_>>().join("\n")).await?;
    }
    let scene = Arc::new(Scene {
        bench,
        over: AtomicBool::new(false),
        next: AtomicU64::new(0),
    });
    // The first calls make what later ones use again.
    beside(&scene, None, span).await?;
    let quiet_kib = resident_kib(std::process::id());
    let quiet = beside(&scene, None, span).await?;
    let p99 = |times: &Histogram<u64>| as_float(times.value_at_quantile(0.99));
    report.fact("attackers: p99 of sends without", "ms", p99(&quiet) / 1e3);
    for (name, script) in ATTACKERS {
        eprintln!("    {name}");
        let during = beside(&scene, Some(script), span).await?;
        let ratio = p99(&during) / p99(&quiet);
        report.fact(format!("attackers: p99 beside: {name}"), "times", ratio);
    }
    let left = resident_kib(std::process::id());
    for (when, kib) in [("before", quiet_kib), ("afterwards", left)] {
        let memory = format!("attackers: memory {when}");
        report.fact(memory, "MiB", as_float(kib) / 1_024.0);
    }
    Ok(())
}

/// How long sends take for `span`, in microseconds, while `script` runs flat out.
async fn beside(
    scene: &Arc<Scene>,
    script: Option<&'static str>,
    span: Duration,
) -> Result<Histogram<u64>, Failure> {
    scene.over.store(false, Ordering::SeqCst);
    let mut attacks = JoinSet::new();
    for attacker in 0..script.map_or(0, |_| AT_ONCE) {
        let (scene, script) = (scene.clone(), script.unwrap_or_default());
        attacks.spawn(async move {
            while !scene.over.load(Ordering::SeqCst) {
                // How it ends is its own affair.
                let about = format!("attacker {attacker}");
                let _ = scene.bench.run_about(&about, script).await;
            }
        });
    }
    let mut sending = JoinSet::new();
    for _ in 0..NEIGHBOURS {
        sending.spawn(send_for(scene.clone(), span));
    }
    let mut times = Histogram::new(3)?;
    let mut failed = None;
    while let Some(sent) = sending.join_next().await {
        match sent? {
            Ok(one) => times.add(one)?,
            Err(failure) => failed = Some(failure),
        }
    }
    scene.over.store(true, Ordering::SeqCst);
    attacks.join_all().await;
    match failed {
        Some(failure) => Err(failure),
        None => Ok(times),
    }
}

async fn send_for(scene: Arc<Scene>, span: Duration) -> Result<Histogram<u64>, Failure> {
    let mut times = Histogram::new(3)?;
    let begun = Instant::now();
    while begun.elapsed() < span {
        let number = scene.next.fetch_add(1, Ordering::Relaxed);
        let asked = Instant::now();
        scene.bench.send(number).await?;
        times.record(u64::try_from(asked.elapsed().as_micros())?)?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times)
}
