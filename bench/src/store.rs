//! The store alone, with the rows of a send: what is left of the server's rate when nothing else is
//! done.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign_store::{Body, Commit, Read, Section, Sections, SledStore, Store, Write};
use countersign_types::{Clock, SystemClock, UnixMillis, hex};
use tokio::task::JoinSet;

use crate::load::{Load, Measured};
use crate::{Failure, only_expected};

/// The bytes of a challenge row: the component's windows and the host's challenge.
const CHALLENGE_BYTES: (usize, usize) = (50, 130);
/// The bytes of a message row: the job.
const JOB_BYTES: usize = 335;
/// The bytes of an event.
const EVENT_BYTES: usize = 80;
/// How long a challenge lives.
const VALID: Duration = Duration::from_secs(600);

/// How often the disk is asked to sync.
const SYNCS: usize = 100;

/// What commits wait for.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    /// The file system's name.
    pub(crate) file_system: String,
    /// The median of appending 4 KiB and an `fdatasync`.
    pub(crate) sync: Duration,
}

/// Asks the disk under `folder`.
pub(crate) fn disk(folder: &Path) -> Result<Disk, Failure> {
    let path = folder.join("sync");
    let mut file = File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    fs::remove_file(&path)?;
    times.sort_unstable();
    Ok(Disk {
        file_system: file_system(folder),
        sync: times[SYNCS / 2],
    })
}

fn file_system(folder: &Path) -> String {
    let Ok(found) = rustix::fs::statfs(folder) else {
        return "unknown file system".to_owned();
    };
    // Source: statfs(2).
    match found.f_type {
        0xef53 => "ext4".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683e => "btrfs".to_owned(),
        0x2fc1_2fc1 => "zfs".to_owned(),
        0x794c_7630 => "overlayfs".to_owned(),
        0x0102_1994 => "tmpfs: memory, where a sync is free".to_owned(),
        other => format!("file system {other:#x}"),
    }
}

/// As many tasks as there are connections commit one send after the other, each awaited: durable.
pub(crate) async fn measure(folder: &Path, load: &Load) -> Result<Measured, Failure> {
    let store = SledStore::open(folder)?;
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let ends = started + load.duration;
    let mut tasks = JoinSet::new();
    for _ in 0..load.connections {
        let (store, next) = (store.clone(), next.clone());
        tasks.spawn(async move {
            let mut measured = Measured::new()?;
            loop {
                let begun = Instant::now();
                if begun >= ends {
                    break;
                }
                let commit = send(next.fetch_add(1, Ordering::Relaxed), SystemClock.now());
                // A send looks for the number's row before it decides.
                store.get(&commit.reads[0].key).await?;
                store.commit(commit).await?;
                measured.count(begun.elapsed());
            }
            measured.elapsed = started.elapsed();
            Ok::<_, Failure>(measured)
        });
    }
    let mut all = Measured::new()?;
    while let Some(measured) = tasks.join_next().await {
        all.merge(measured??)?;
    }
    only_expected("the store alone", all)
}

/// What a send costs at the store among `few` stored sends and among `many`: the time of a commit
/// with as many tasks as there are connections, in microseconds.
pub(crate) async fn growth(
    folder: &Path,
    tasks: usize,
    (few, many): (u64, u64),
) -> Result<(f64, f64), Failure> {
    let store = SledStore::open(folder)?;
    let next = Arc::new(AtomicU64::new(0));
    commit_until(&store, &next, tasks, few).await?;
    let among_few = commit_until(&store, &next, tasks, few * 2).await?;
    commit_until(&store, &next, tasks, many - few).await?;
    let among_many = commit_until(&store, &next, tasks, many).await?;
    Ok((among_few, among_many))
}

/// Commits sends until there are `end`; returns the time of each, in microseconds.
async fn commit_until(
    store: &Arc<SledStore>,
    next: &Arc<AtomicU64>,
    tasks: usize,
    end: u64,
) -> Result<f64, Failure> {
    let first = next.load(Ordering::Relaxed);
    let started = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        let (store, next) = (store.clone(), next.clone());
        running.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= end {
                    return Ok::<_, Failure>(());
                }
                let commit = send(n, SystemClock.now());
                store.get(&commit.reads[0].key).await?;
                store.commit(commit).await?;
            }
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    // Each task has taken one number beyond the end.
    next.store(end, Ordering::Relaxed);
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let commits = end.saturating_sub(first).max(1) as f64;
    Ok(started.elapsed().as_secs_f64() * 1e6 / commits)
}

/// What the `n`th send to a new number commits: two rows and an event, having read that there was no
/// challenge.
fn send(n: u64, now: UnixMillis) -> Commit {
    let scattered = [mix(n), mix(n ^ 0xa5a5)].map(u64::to_be_bytes).concat();
    let challenge = format!("c/otp/p/default/{}", hex(&scattered)).into_bytes();
    // Names of messages begin with the time.
    let job = [b"j/", &now.0.to_be_bytes()[2..], &scattered[..10]].concat();
    let section = |bytes: usize| Section {
        state: 1,
        expires: Some(now + VALID),
        value: filler(n, bytes),
    };
    let row = |key: Vec<u8>, service: Option<Section>, host: Option<Section>| Write {
        key,
        body: Some(Body::Sections(Sections { service, host })),
    };
    let (service_bytes, host_bytes) = CHALLENGE_BYTES;
    Commit {
        instant: now,
        reads: vec![Read {
            key: challenge.clone(),
            version: None,
            until: None,
        }],
        writes: vec![
            row(
                challenge,
                Some(section(service_bytes)),
                Some(section(host_bytes)),
            ),
            row(job, None, Some(section(JOB_BYTES))),
        ],
        events: vec![filler(n, EVENT_BYTES)],
        ..Commit::default()
    }
}

/// Bytes that differ from row to row.
fn filler(n: u64, bytes: usize) -> Vec<u8> {
    let words = (0..).flat_map(|at: u64| mix(n.wrapping_add(at << 32)).to_le_bytes());
    words.take(bytes).collect()
}

/// Scatters numbers: SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA 2014).
pub(crate) fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
