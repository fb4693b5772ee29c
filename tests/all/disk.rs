//! A disk that is full, read-only or failing: a clear answer, a clear end, and nothing acknowledged
//! is lost.

use std::fs;

use countersign_tests::{
    Answer, Builder, DiskCall, FakeTwilio, PowerMode, Reply, Server, eventually, join_all, phone,
};
use rustix::io::Errno;
use serde_json::json;

use crate::messages::story_until;
use crate::metrics;
use crate::queue::wait_for_depth;

/// Of the disk of these tests: small, so that they write little, and its quarter is more than a segment
/// of the store, which a restart begins.
const RESERVE: u64 = 40_000_000;

fn builder(twilio: &FakeTwilio) -> Builder {
    Server::builder()
        .twilio(twilio)
        .env("COUNTERSIGN_STORE_RESERVE_BYTES", &RESERVE.to_string())
        .on_disk(PowerMode::Power, 1)
}

/// Waits until `/readyz` says that there is room, or that there is none.
pub(crate) async fn wait_for_room(server: &Server, room: bool) {
    let answer = eventually("the server looks at the disk", async || {
        let answer = server.get("/readyz").await;
        ((answer.status == 200) == room).then_some(answer)
    })
    .await;
    if !room {
        let want = json!(["the disk is nearly full: new messages are turned away"]);
        assert_eq!(answer.json()["reasons"], want);
    }
}

#[tokio::test]
async fn a_disk_that_fills_up_turns_sends_away_and_finishes_what_has_begun() {
    let twilio = FakeTwilio::start().await;
    twilio.always(Reply::Hang);
    let mut server = builder(&twilio).start().await;
    let disk = server.disk();
    let phones: Vec<String> = (0..20).map(phone).collect();
    for answer in join_all(phones.iter().map(|phone| server.send(phone))).await {
        answer.expect_success();
    }
    wait_for_room(&server, true).await;
    // Just too little for new work, and enough for everything else.
    disk.set_capacity(Some(disk.used() + RESERVE - 100_000));
    wait_for_room(&server, false).await;
    let refused = store_full(server.send(&phone(100)).await);
    assert_eq!(refused.retry_after().as_secs(), 10);
    // What has begun is delivered and verified, and tries are counted.
    twilio.always(Reply::Accept);
    twilio.release();
    for phone in &phones {
        let code = twilio.message_to(phone).await.code();
        let wrong = countersign_tests::wrong(&code);
        server.verify(phone, &wrong).await.expect_status(400);
        server.verify(phone, &code).await.expect_success();
    }
    // A restart on the same disk is possible, and it is still nearly full.
    assert!(server.terminate().await.success());
    server.restart().await;
    wait_for_room(&server, false).await;
    store_full(server.send(&phone(101)).await);
    assert!(
        twilio
            .requests()
            .iter()
            .all(|request| request.to() != phone(100))
    );
    // Room again: the server goes on by itself.
    disk.set_capacity(None);
    wait_for_room(&server, true).await;
    server.send(&phone(102)).await.expect_success();
    twilio.message_to(&phone(102)).await;
}

#[tokio::test]
async fn with_half_of_the_reserve_gone_no_call_writes_and_deliveries_still_end() {
    let twilio = FakeTwilio::start().await;
    twilio.always(Reply::Hang);
    let server = builder(&twilio).start().await;
    let disk = server.disk();
    for n in 0..5 {
        server.send(&phone(n)).await.expect_success();
        twilio.wait_for_requests_to(&phone(n), 1).await;
    }
    disk.set_capacity(Some(disk.used() + RESERVE / 2 - 100_000));
    wait_for_room(&server, false).await;
    let code = twilio.requests()[0].code().unwrap();
    let first = twilio.requests()[0].to().to_owned();
    store_full(server.verify(&first, &code).await);
    twilio.always(Reply::Accept);
    twilio.release();
    for n in 0..5 {
        twilio.message_to(&phone(n)).await;
    }
    // A refused call has spent nothing.
    disk.set_capacity(None);
    wait_for_room(&server, true).await;
    server.verify(&first, &code).await.expect_success();
}

#[tokio::test]
async fn with_three_quarters_of_the_reserve_gone_what_is_in_hand_ends_and_nothing_begins() {
    let twilio = FakeTwilio::start().await;
    twilio.always(Reply::Hang);
    let server = builder(&twilio)
        .env("COUNTERSIGN_DELIVERY_CONCURRENCY", "1")
        .start()
        .await;
    let disk = server.disk();
    let mut ids = Vec::new();
    for n in 0..3 {
        let sent = server.send(&phone(n)).await.expect_success().json();
        ids.push(sent["messageId"].as_str().unwrap().to_owned());
    }
    twilio.wait_for_requests_to(&phone(0), 1).await;
    let quarter = RESERVE / 4;
    disk.set_capacity(Some(disk.used() + quarter - 100_000));
    wait_for_room(&server, false).await;
    twilio.always(Reply::Accept);
    twilio.release();
    // The end of the one in hand is written, and the place with the provider is free.
    story_until(&server, &ids[0], "sent").await;
    for _ in 0..20 {
        server.get("/readyz").await.expect_status(503);
    }
    assert_eq!(twilio.requests().len(), 1, "nothing else was handed over");
    for id in &ids[1..] {
        story_until(&server, id, "queued").await;
    }
    // Room for what waits, not yet for new work.
    disk.set_capacity(Some(disk.used() + quarter + 300_000));
    for (n, id) in ids.iter().enumerate() {
        twilio.message_to(&phone(n)).await;
        story_until(&server, id, "sent").await;
    }
    store_full(server.send(&phone(100)).await);
}

#[tokio::test]
async fn deliveries_that_end_together_share_their_syncs() {
    const MESSAGES: usize = 64;
    let twilio = FakeTwilio::start().await;
    twilio.always(Reply::Hang);
    let server = builder(&twilio)
        .env("COUNTERSIGN_ADMIN_TOKEN", "t")
        .env("COUNTERSIGN_METRICS_TOKEN", metrics::TOKEN)
        .start()
        .await;
    let disk = server.disk();
    let phones: Vec<String> = (0..MESSAGES).map(phone).collect();
    for answer in join_all(phones.iter().map(|phone| server.send(phone))).await {
        answer.expect_success();
    }
    for phone in &phones {
        twilio.wait_for_requests_to(phone, 1).await;
    }
    // On a busy machine they would not end together: a slow disk sees to it that they do.
    disk.hold_syncs();
    let before = disk.counts().fdatasyncs;
    twilio.release();
    let accepted = r#"countersign_deliveries_total{provider="twilio",outcome="accepted"}"#;
    metrics::page_when(&server, accepted, MESSAGES as f64).await;
    disk.go_on();
    wait_for_depth(&server.with_key("t"), 0).await;
    // Each end alone would have one; so would a flush of the store that nobody waits for, twice a second.
    let syncs = disk.counts().fdatasyncs - before;
    assert!(syncs > 0 && syncs <= MESSAGES as u64 / 2, "{syncs} syncs");
    assert_eq!(twilio.messages().len(), MESSAGES);
}

#[tokio::test]
async fn a_load_against_a_small_disk_never_meets_its_end() {
    let twilio = FakeTwilio::start().await;
    let server = builder(&twilio).start().await;
    let disk = server.disk();
    disk.set_capacity(Some(disk.used() + RESERVE + 1_500_000));
    let mut acknowledged = Vec::new();
    let mut next = 0..;
    loop {
        let phones: Vec<String> = next.by_ref().take(64).map(phone).collect();
        let answers = join_all(phones.iter().map(|phone| server.send(phone))).await;
        let mut full = false;
        for (phone, answer) in phones.into_iter().zip(answers) {
            match answer.status {
                200 => acknowledged.push(phone),
                _ => {
                    store_full(answer);
                    full = true;
                }
            }
        }
        if full {
            break;
        }
    }
    assert!(acknowledged.len() > 64, "{}", acknowledged.len());
    for phone in &acknowledged {
        twilio.message_to(phone).await;
    }
    server.get("/healthz").await.expect_status(200);
}

/// Requires the answer of a disk that is nearly full.
#[track_caller]
fn store_full(answer: Answer) -> Answer {
    let answer = answer.expect_problem(503);
    assert_eq!(answer.json()["type"], "urn:countersign:error:store-full");
    answer
}

/// What a server says at its end after a failed write, and that it ends by itself.
async fn expect_end(server: &mut Server) {
    let status = server.ended("a failed write").await;
    assert_eq!(status.code(), Some(1));
    let said = server.stderr().text();
    for words in ["the store failed", "restart the server"] {
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn a_sync_that_fails_is_not_tried_again_and_ends_the_process_and_a_restart_recovers() {
    let twilio = FakeTwilio::start().await;
    let mut server = builder(&twilio).start().await;
    let disk = server.disk();
    server.send(&phone(1)).await.expect_success();
    let code = twilio.message_to(&phone(1)).await.code();
    // The next one would work, and what this one was for would not be on the disk all the same.
    disk.fail_once(DiskCall::Sync, Errno::IO);
    let answer = server.client().try_send(&phone(2)).await;
    // Told that it is not known, or not told at all; never that it is done.
    assert!(
        answer.as_ref().map_or(true, |answer| answer.status == 503),
        "{answer:?}"
    );
    expect_end(&mut server).await;
    disk.repair(DiskCall::Sync);
    disk.lose_power();
    server.restart().await;
    server.verify(&phone(1), &code).await.expect_success();
    server.send(&phone(3)).await.expect_success();
    twilio.message_to(&phone(3)).await;
}

#[tokio::test]
async fn a_disk_that_becomes_read_only_ends_the_process_and_refuses_the_next_start() {
    let twilio = FakeTwilio::start().await;
    let mut server = builder(&twilio).start().await;
    let disk = server.disk();
    server.send(&phone(1)).await.expect_success();
    let code = twilio.message_to(&phone(1)).await.code();
    for call in [DiskCall::Create, DiskCall::Write] {
        disk.fail(call, Errno::ROFS, 0);
    }
    let answer = server.client().try_send(&phone(2)).await;
    assert!(
        answer.as_ref().map_or(true, |answer| answer.status == 503),
        "{answer:?}"
    );
    expect_end(&mut server).await;
    let refused = server.setup().clone().finish().await;
    refused.expect_refusal(&["Read-only file system"]);
    for call in [DiskCall::Create, DiskCall::Write] {
        disk.repair(call);
    }
    server.restart().await;
    server.verify(&phone(1), &code).await.expect_success();
}

#[tokio::test]
async fn a_write_that_finds_no_room_ends_the_process_and_loses_nothing_acknowledged() {
    let twilio = FakeTwilio::start().await;
    // Without a reserve sled meets the end of the disk itself.
    let mut server = builder(&twilio)
        .env("COUNTERSIGN_STORE_RESERVE_BYTES", "0")
        .start()
        .await;
    let disk = server.disk();
    disk.set_capacity(Some(disk.used() + 500_000));
    let mut acknowledged = Vec::new();
    for n in 0.. {
        match server.client().try_send(&phone(n)).await {
            Ok(answer) if answer.status == 200 => acknowledged.push(phone(n)),
            _ => break,
        }
    }
    expect_end(&mut server).await;
    disk.set_capacity(None);
    server.restart().await;
    assert!(!acknowledged.is_empty());
    for phone in &acknowledged {
        let code = twilio.message_to(phone).await.code();
        server.verify(phone, &code).await.expect_success();
    }
}

#[tokio::test]
async fn a_store_that_does_not_open_says_what_to_do() {
    let twilio = FakeTwilio::start().await;
    let mut server = builder(&twilio).start().await;
    server.send(&phone(1)).await.expect_success();
    assert!(server.terminate().await.success());
    let db = server.data().join("store").join("db");
    let length = usize::try_from(fs::metadata(&db).unwrap().len()).unwrap();
    fs::write(&db, vec![0x5a; length]).unwrap();
    let refused = server.setup().clone().finish().await;
    refused.expect_refusal(&[
        "is damaged",
        "countersign restore FILE",
        "countersign doctor",
    ]);
}
