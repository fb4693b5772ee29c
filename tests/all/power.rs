//! Power cuts: what was acknowledged is on the disk, names and sizes included.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use countersign_tests::{Disk, FakeTwilio, PowerMode, Reply, Server, join_all, phone, program};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::rounds::{Blow, number_from_environment, rounds, seed};

/// Rows that the control flushes before its power goes.
const CONTROL_ROWS: u64 = 300;

/// Whether everything is there that sled as it is has called flushed, after a power cut.
fn stock_sled_survives(mode: PowerMode, seed: u64) -> bool {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("store");
    let disk = Disk::new(root.path(), mode, seed);
    let mut writer = Command::new(program("stock-sled"))
        .arg("write")
        .arg(&folder)
        .envs(disk.environment())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut last = 0;
    for line in BufReader::new(writer.stdout.take().unwrap()).lines() {
        last = line.unwrap().parse().unwrap();
        if last >= CONTROL_ROWS {
            break;
        }
    }
    let _ = writer.kill();
    writer.wait().unwrap();
    assert!(
        last >= CONTROL_ROWS,
        "the control has ended after {last} rows"
    );
    assert!(disk.counts().range_syncs > 0, "the control has not flushed");
    disk.lose_power();
    Command::new(program("stock-sled"))
        .arg("check")
        .arg(&folder)
        .arg(last.to_string())
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

#[tokio::test]
async fn power_cuts_at_random_moments_lose_nothing_acknowledged_and_accept_no_code_twice() {
    // The same disk must be one on which a program that trusts sled's own flush loses what it has
    // acknowledged: else it keeps what a real one does not, and the rest of this test says nothing.
    let seed = seed();
    for mode in PowerMode::ALL {
        assert!(
            !stock_sled_survives(mode, seed),
            "{mode:?}: the disk of this test is broken, nothing is lost on it"
        );
    }
    let cuts = number_from_environment("COUNTERSIGN_TEST_CUTS", 24);
    let modes = PowerMode::ALL.len();
    for (n, mode) in PowerMode::ALL.into_iter().enumerate() {
        let share = (cuts + modes - 1 - n) / modes;
        let tally = rounds(share, seed + n as u64, Blow::PowerCut, |twilio, seed| {
            Server::builder().twilio(twilio).on_disk(mode, seed)
        })
        .await;
        eprintln!("{mode:?}: {tally:?}");
        assert_eq!(tally.blows, share);
        assert!(
            tally.sends >= share && tally.spent >= share / 2,
            "{tally:?}"
        );
        let least = share.min(1);
        assert!(tally.limits >= least && tally.locks >= least, "{tally:?}");
    }
}

#[tokio::test]
async fn a_first_start_that_loses_its_power_at_a_random_moment_is_taken_up() {
    let mut random = StdRng::seed_from_u64(seed());
    let twilio = FakeTwilio::start().await;
    for round in 0..12 {
        let mode = PowerMode::ALL[round % PowerMode::ALL.len()];
        let builder = Server::builder().twilio(&twilio);
        let builder = builder.on_disk(mode, random.random());
        // Most of what a first start writes, it writes at once.
        let time = Duration::from_micros(random.random_range(0..100_000));
        eprintln!("round {round}: {mode:?} after {time:?}");
        builder.start_and_kill_after(time).await;
        builder.disk().lose_power();
        let server = builder.start().await;
        server.send(&phone(round)).await.expect_success();
        let code = twilio.message_to(&phone(round)).await.code();
        server.verify(&phone(round), &code).await.expect_success();
    }
}

#[tokio::test]
async fn after_a_clean_stop_every_file_is_durable() {
    let twilio = FakeTwilio::start().await;
    let builder = Server::builder().twilio(&twilio);
    let mut server = builder.on_disk(PowerMode::Power, 1).start().await;
    for n in 0..20 {
        server.send(&phone(n)).await.expect_success();
        twilio.message_to(&phone(n)).await;
    }
    assert!(server.terminate().await.success());
    // What is compiled can be compiled again.
    server.disk().expect_all_durable("cache");
}

/// How many rows the store has, by a backup.
async fn rows_of(server: &Server, name: &str) -> u64 {
    let file = server.data().join(name);
    let backup = ["backup", file.to_str().unwrap(), "--json"];
    let shown = server.run(&backup).await.expect_success().json();
    shown["rows"].as_u64().unwrap()
}

/// Each group of commits has one row with its events, so rows tell how many groups there were.
#[tokio::test]
async fn of_sends_at_once_every_group_has_a_sync_and_every_answer_comes_after_one() {
    const SENDS: u64 = 256;
    let twilio = FakeTwilio::start().await;
    // No delivery ends meanwhile, so that sends alone make rows.
    twilio.always(Reply::Hang);
    let builder = Server::builder().twilio(&twilio);
    let server = builder.on_disk(PowerMode::Power, 1).start().await;
    let disk = server.disk();
    let rows = rows_of(&server, "before").await;
    let before = disk.counts();
    let sends = (0..SENDS).map(|n| {
        let (server, disk) = (&server, &disk);
        async move {
            let phone = phone(usize::try_from(n).unwrap());
            let before = disk.counts();
            server.send(&phone).await.expect_success();
            let after = disk.counts();
            assert!(after.fdatasyncs > before.fdatasyncs, "send {n}: {after:?}");
        }
    });
    join_all(sends).await;
    let syncs = disk.counts().fdatasyncs - before.fdatasyncs;
    // Two rows a send: the phone's, and the message.
    let groups = rows_of(&server, "after").await - rows - 2 * SENDS;
    eprintln!("{SENDS} sends in {groups} groups with {syncs} syncs");
    assert!(
        groups > 0 && groups < SENDS,
        "they did come at once: {groups}"
    );
    assert!(syncs >= groups, "{groups} groups, {syncs} syncs");
}

#[tokio::test]
async fn every_acknowledgement_comes_after_a_sync_of_its_own_or_its_groups() {
    let twilio = FakeTwilio::start().await;
    let builder = Server::builder().twilio(&twilio);
    let server = builder.on_disk(PowerMode::Power, 1).start().await;
    let disk = server.disk();
    for n in 0..20 {
        let before = disk.counts();
        server.send(&phone(n)).await.expect_success();
        let code = twilio.message_to(&phone(n)).await.code();
        let sent = disk.counts();
        assert!(sent.fdatasyncs > before.fdatasyncs, "send {n}: {sent:?}");
        server.verify(&phone(n), &code).await.expect_success();
        let verified = disk.counts();
        assert!(
            verified.fdatasyncs > sent.fdatasyncs,
            "verify {n}: {verified:?}"
        );
    }
    let counts = disk.counts();
    assert!(counts.writes > 0);
    assert_eq!(counts.range_syncs, 0, "sled's own sync reached the kernel");
}
