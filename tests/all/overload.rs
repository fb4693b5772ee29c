//! More than it can do, and clients that hold on to what they have: quick refusals, everybody else is
//! served, memory stays bounded.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign_tests::{
    Builder, Client, FakeTwilio, PATIENCE, PowerMode, Server, eventually, phone,
};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SALE: &str = r#"
[[template]]
name = "sale"
text = "Sale!"
"#;

/// One place, and a line that is soon full.
fn small(twilio: &FakeTwilio) -> Builder {
    Server::builder()
        .twilio(twilio)
        .env("COUNTERSIGN_LIMITS_SERVICE_CALLS", "1")
        .env("COUNTERSIGN_LIMITS_SERVICE_WAITING", "3")
        .env("COUNTERSIGN_LIMITS_SERVICE_WAIT_MS", "20")
}

#[tokio::test]
async fn where_not_all_can_go_at_once_what_accepts_goes_before_what_delivers_and_what_counts() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    twilio.message_to(&phone(1)).await;
    let accepting = server.niceness("countersign");
    // The most that there is; the system keeps the beginning of a name.
    let behind = (accepting + 10).min(19);
    assert!(behind > accepting, "the tests themselves go last");
    assert_eq!(server.niceness("countersign-del"), behind);
    assert_eq!(server.niceness("countersign-ana"), behind);
}

/// How slow the machine is does not matter here: whoever stood in a line without a bound, or until a place
/// comes free, would wait for as long as the disk does, which is until all have been answered.
#[tokio::test]
async fn who_finds_no_room_is_refused_while_the_only_place_stays_taken() {
    let twilio = FakeTwilio::start().await;
    let server = small(&twilio).on_disk(PowerMode::Power, 1).start().await;
    let disk = server.disk();
    disk.hold_syncs();
    let phones: Vec<String> = (0..16).map(phone).collect();
    let sends = phones.iter().map(|phone| server.send(phone));
    let mut sends: FuturesUnordered<_> = sends.collect();
    for _ in 1..phones.len() {
        let answer = sends.next().await.unwrap().expect_problem(503);
        assert!(answer.retry_after() >= Duration::from_secs(1));
    }
    disk.go_on();
    // Whose place it was, unless the host's own call had it.
    let last = sends.next().await.unwrap();
    assert!([200, 503].contains(&last.status), "{last:?}");
    eventually("there is room again", async || {
        let answer = server.send(&phone(100)).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

/// Neither do they who ask for messages, of which no component decides: they stand in the same line for
/// the store.
#[tokio::test]
async fn who_finds_no_room_for_a_message_is_refused_while_the_only_place_stays_taken() {
    let twilio = FakeTwilio::start().await;
    let server = small(&twilio).config(SALE).on_disk(PowerMode::Power, 1);
    let server = server.start().await;
    let disk = server.disk();
    disk.hold_syncs();
    let bodies: Vec<_> = (0..16)
        .map(|n| json!({ "to": phone(n), "template": "sale" }))
        .collect();
    let asks = bodies.iter().map(|body| server.post("/api/messages", body));
    let mut asks: FuturesUnordered<_> = asks.collect();
    for _ in 1..bodies.len() {
        let answer = asks.next().await.unwrap().expect_problem(503);
        assert!(answer.retry_after() >= Duration::from_secs(1));
    }
    disk.go_on();
    asks.next().await.unwrap().expect_status(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_crowd_some_are_always_served_and_what_is_admitted_is_delivered() {
    const CLIENTS: usize = 48;
    // However quickly others are refused, and ask again: so many find a place in the end.
    const ENOUGH: usize = 64;
    let twilio = FakeTwilio::start().await;
    let server = small(&twilio).start().await;
    let server = &server;
    let (asked, admitted, refused) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let clients = (0..CLIENTS).map(|_| async {
        while admitted.load(Ordering::Relaxed) < ENOUGH {
            let n = asked.fetch_add(1, Ordering::Relaxed);
            let answer = server.send(&phone(n)).await;
            if answer.status == 503 {
                let answer = answer.expect_problem(503);
                assert!(answer.retry_after() >= Duration::from_secs(1));
                refused.fetch_add(1, Ordering::Relaxed);
            } else {
                answer.expect_success();
                admitted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let crowd = tokio::time::timeout(PATIENCE, join_all(clients)).await;
    let (admitted, refused) = (admitted.into_inner(), refused.into_inner());
    assert!(
        crowd.is_ok(),
        "in {PATIENCE:?} {admitted} were served and {refused} refused"
    );
    assert!(refused > 0, "48 clients found room in a line of 3");
    // What was admitted is delivered, and nothing else.
    assert_eq!(twilio.wait_for_count(admitted).await.len(), admitted);
    // The crowd is gone: so is the refusing, once the host's own calls have left the place as well.
    eventually("nobody is refused any more", async || {
        let answer = server.verify("+12025550199", "000000").await;
        (answer.status == 400).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_burst_within_the_line_is_served_whole() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder()
        .twilio(&twilio)
        .env("COUNTERSIGN_LIMITS_SERVICE_CALLS", "1")
        .env("COUNTERSIGN_LIMITS_SERVICE_WAITING", "64")
        .env("COUNTERSIGN_LIMITS_SERVICE_WAIT_MS", "30000")
        .start()
        .await;
    let phones: Vec<String> = (0..64).map(phone).collect();
    for answer in join_all(phones.iter().map(|phone| server.send(phone))).await {
        answer.expect_success();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_asks_without_end_has_no_call_of_another_key_refused() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder()
        .twilio(&twilio)
        .env("COUNTERSIGN_LIMITS_SERVICE_CALLS", "1")
        .env("COUNTERSIGN_LIMITS_SERVICE_WAITING", "3")
        // Nobody is refused for the time that this machine takes.
        .env("COUNTERSIGN_LIMITS_SERVICE_WAIT_MS", "30000")
        .start()
        .await;
    let created = server.run(&["keys", "create", "--json"]).await;
    let created = created.expect_success().json();
    let other = server.with_key(created["key"].as_str().unwrap());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let flood = (0..24).map(|client| {
        let (server, stopped) = (&server, stopped.clone());
        async move {
            let mut refused = 0;
            while !*stopped.borrow() {
                let answer = server.verify(&phone(client), "000000").await;
                refused += usize::from(answer.status == 503);
            }
            refused
        }
    });
    let sends = async {
        for n in 100..130 {
            other.send(&phone(n)).await.expect_success();
        }
        stop.send_replace(true);
    };
    let (refused, ()) = tokio::join!(join_all(flood), sends);
    let refused: usize = refused.iter().sum();
    assert!(refused > 0, "24 clients found room in a line of 3");
}

/// Writes `bytes`, then `drip` again and again, until the server ends the connection.
async fn drip_until_closed(client: &Client, bytes: &[u8], drip: &[u8]) {
    let (mut reader, mut writer) = client.connect().await.into_split();
    writer.write_all(bytes).await.expect("written");
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let dripping = async {
        loop {
            ticks.tick().await;
            if writer.write_all(drip).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut answer = Vec::new();
    let closed = async {
        // An answer and an end, or an end, or a reset.
        let _ = reader.read_to_end(&mut answer).await;
    };
    let ended = async {
        tokio::select! {
            () = dripping => {}
            () = closed => {}
        }
    };
    let ended = tokio::time::timeout(PATIENCE, ended).await;
    assert!(ended.is_ok(), "still open after {PATIENCE:?}");
    let answer = String::from_utf8_lossy(&answer);
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_drip_heads_and_bodies_are_cut_off_and_others_served_meanwhile() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder()
        .twilio(&twilio)
        .env("COUNTERSIGN_HTTP_HEADER_SECONDS", "1")
        .env("COUNTERSIGN_HTTP_BODY_SECONDS", "1")
        .start()
        .await;
    let whole = server.raw_post("/api/otp/send", &json!({ "phoneNumber": phone(1) }));
    let head = whole.len() - br#"{"phoneNumber":"+12024560001"}"#.len();
    let long = server.raw_request(
        "POST",
        "/api/otp/send",
        &[
            ("Content-Type", "application/json"),
            ("Content-Length", "10000"),
        ],
        b"{",
    );
    let heads = (0..100).map(|_| drip_until_closed(&server, &whole[..head - 2], b"X"));
    let bodies = (0..100).map(|_| drip_until_closed(&server, &long, b" "));
    let others = async {
        for n in 2..22 {
            server.send(&phone(n)).await.expect_success();
        }
    };
    tokio::join!(join_all(heads), join_all(bodies), others);
    assert!(twilio.requests_to(&phone(1)).is_empty());
    server.expect_healthy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_idle_connections_are_in_nobodys_way() {
    const IDLE: usize = 3_000;
    let all = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: all,
        maximum: all,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit");
    let twilio = FakeTwilio::start().await;
    // None of them is cut off before the end: that would make room as well.
    let server = Server::builder()
        .twilio(&twilio)
        .env("COUNTERSIGN_HTTP_HEADER_SECONDS", "3600")
        .start()
        .await;
    let before = server.resident_kib();
    let mut idle: Vec<TcpStream> = Vec::new();
    for _ in 0..IDLE {
        let mut stream = server.connect().await;
        // A part of a head, so that the server keeps a buffer for it.
        stream.write_all(b"GET /healthz HT").await.expect("written");
        idle.push(stream);
    }
    for n in 0..20 {
        // Each on a connection of its own, behind all the others.
        let request = server.raw_post("/api/otp/send", &json!({ "phoneNumber": phone(n) }));
        server
            .raw(&request)
            .await
            .expect("an answer")
            .expect_success();
    }
    let grown = server.resident_kib().saturating_sub(before);
    assert!(
        grown < 48 * IDLE as u64,
        "{grown} KiB for {IDLE} connections"
    );
    drop(idle);
    server.expect_healthy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_no_answers_is_cut_off() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder()
        .twilio(&twilio)
        .env("COUNTERSIGN_HTTP_IDLE_SECONDS", "1")
        .start()
        .await;
    let before = server.resident_kib();
    let (_unread, mut writer) = server.connect().await.into_split();
    let requests = server.raw_request("GET", "/healthz", &[], b"").repeat(500);
    // Once both sides' buffers are full nothing more is taken, and then the server has had enough.
    let written = async { while writer.write_all(&requests).await.is_ok() {} };
    let cut_off = tokio::time::timeout(PATIENCE, written).await;
    assert!(cut_off.is_ok(), "it may still write after {PATIENCE:?}");
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 20 * 1024, "{grown} KiB for one client");
    server.send(&phone(1)).await.expect_success();
}

/// 64 clients, 20 sends each, one after the other.
async fn ask_64_at_once(server: &Server, round: usize) {
    let client = |client: usize| async move {
        for n in 0..20 {
            let number = phone((round * 64 + client) * 20 + n);
            let answer = server.send(&number).await;
            assert!([200, 503].contains(&answer.status), "{answer:?}");
        }
    };
    join_all((0..64).map(client)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusing_takes_no_memory() {
    let twilio = FakeTwilio::start().await;
    let server = small(&twilio).start().await;
    ask_64_at_once(&server, 0).await;
    let before = server.resident_kib();
    for n in 1..4 {
        ask_64_at_once(&server, n).await;
    }
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 40 * 1024, "{grown} KiB for 3,840 requests");
}
