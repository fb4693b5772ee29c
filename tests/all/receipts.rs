//! Status callbacks: signed, idempotent, never a step back.

use countersign_tests::{Client, FakeTwilio, PUBLIC_URL, Receipt, Reply, Server, join_all, phone};
use hyper::Method;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::messages::story_until;

const WEBHOOK: &str = "/webhooks/twilio";

async fn start() -> (FakeTwilio, Server) {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder().twilio(&twilio).callbacks();
    (twilio, server.start().await)
}

/// Sends a code, and returns the id of its message.
async fn send(server: &Server, phone: &str) -> String {
    let sent = server.send(phone).await.expect_success().json();
    sent["messageId"].as_str().unwrap().to_owned()
}

async fn story(client: &Client, id: &str) -> Value {
    let answer = client.get(&format!("/api/messages/{id}")).await;
    answer.expect_status(200).json()
}

#[tokio::test]
async fn a_message_is_queued_then_sent_then_delivered() {
    let (twilio, server) = start().await;
    twilio.always(Reply::Hang);
    let id = send(&server, &phone(1)).await;
    twilio.wait_for_requests_to(&phone(1), 1).await;
    assert_eq!(story(&server, &id).await["status"], "queued");
    twilio.release();
    story_until(&server, &id, "sent").await;
    let message = twilio.message_to(&phone(1)).await;
    let asked_for = format!("{PUBLIC_URL}{WEBHOOK}");
    assert_eq!(message.status_callback.as_deref(), Some(&*asked_for));
    let taken = Receipt::of(&message, "delivered").post(&server).await;
    assert_eq!((taken.status, taken.body.len()), (204, 0));
    // The answer leaves only when it is durable, so there is nothing to wait for.
    let story = story(&server, &id).await;
    assert_eq!(story["status"], "delivered");
    assert!(story["endedAt"].is_string(), "{story}");
    assert_eq!(story["receipts"].as_array().unwrap().len(), 1);
    assert_eq!(story["receipts"][0]["status"], "delivered");
}

#[tokio::test]
async fn a_forged_callback_is_403_and_changes_nothing() {
    let (twilio, server) = start().await;
    let id = send(&server, &phone(1)).await;
    let message = twilio.next_message().await;
    story_until(&server, &id, "sent").await;
    let good = Receipt::of(&message, "delivered");
    let forged = good
        .clone()
        .forged()
        .post(&server)
        .await
        .expect_problem(403);
    assert_eq!(
        forged.json()["type"],
        "urn:countersign:error:unsigned-callback"
    );
    // Signed for another address: what a proxy may rewrite is not what was signed.
    let elsewhere = Receipt {
        url: format!("{PUBLIC_URL}{WEBHOOK}?tenant=2"),
        ..good.clone()
    };
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("x-twilio-signature", &*elsewhere.signature()),
    ];
    let stranger = server.without_key();
    for headers in [&headers[..], &headers[..1]] {
        let body = "MessageSid=SM1&MessageStatus=delivered";
        let answer = stranger.request(Method::POST, WEBHOOK, headers, body).await;
        answer.unwrap().expect_problem(403);
    }
    assert_eq!(story(&server, &id).await["status"], "sent");
    assert_eq!(good.post(&server).await.status, 204);
    assert_eq!(story(&server, &id).await["status"], "delivered");
}

#[tokio::test]
async fn repeated_and_late_callbacks_are_204_and_never_a_step_back() {
    let (twilio, server) = start().await;
    let id = send(&server, &phone(1)).await;
    let message = twilio.next_message().await;
    story_until(&server, &id, "sent").await;
    for (status, then) in [
        ("sent", "sent"),
        ("undelivered", "undelivered"),
        ("delivered", "delivered"),
        ("delivered", "delivered"),
        ("sent", "delivered"),
        ("failed", "delivered"),
        ("read", "read"),
        ("delivered", "read"),
    ] {
        let taken = Receipt::of(&message, status).post(&server).await;
        assert_eq!(taken.status, 204, "{status}");
        assert_eq!(story(&server, &id).await["status"], then, "after {status}");
    }
}

#[tokio::test]
async fn a_callback_that_overtakes_the_answer_to_its_send_counts() {
    let (twilio, server) = start().await;
    twilio.always(Reply::Hang);
    let id = send(&server, &phone(1)).await;
    twilio.wait_for_requests_to(&phone(1), 1).await;
    let url = format!("{PUBLIC_URL}{WEBHOOK}");
    let early = Receipt::about(&url, &twilio.next_sid(), &phone(1), "delivered");
    assert_eq!(early.post(&server).await.status, 204);
    assert_eq!(story(&server, &id).await["status"], "queued");
    twilio.release();
    story_until(&server, &id, "delivered").await;
}

#[tokio::test]
async fn what_nobody_knows_is_204_and_what_nobody_understands_is_400() {
    let (_twilio, server) = start().await;
    let url = format!("{PUBLIC_URL}{WEBHOOK}");
    let sid = "SM0123456789abcdef0123456789abcdef";
    let unknown = Receipt::about(&url, sid, &phone(1), "delivered");
    assert_eq!(unknown.post(&server).await.status, 204);
    assert_eq!(unknown.get(&server).await.status, 204);
    let garbled = Receipt::about(&url, sid, &phone(1), "on holiday");
    garbled.post(&server).await.expect_problem(400);
    garbled.forged().post(&server).await.expect_problem(403);
    server.expect_healthy().await;
}

#[tokio::test]
async fn a_callback_may_be_a_get() {
    let (twilio, server) = start().await;
    let id = send(&server, &phone(1)).await;
    let message = twilio.next_message().await;
    story_until(&server, &id, "sent").await;
    let receipt = Receipt::of(&message, "delivered");
    receipt
        .clone()
        .forged()
        .get(&server)
        .await
        .expect_problem(403);
    assert_eq!(receipt.get(&server).await.status, 204);
    assert_eq!(story(&server, &id).await["status"], "delivered");
}

#[tokio::test]
async fn only_configured_providers_are_called_and_only_up_to_64_kib() {
    let (_twilio, server) = start().await;
    for path in [
        "/webhooks/other",
        "/webhooks/twilio/x",
        "/webhooks/",
        "/webhooks",
    ] {
        let answer = server.without_key().post(path, &Value::Null).await;
        answer.expect_problem(404);
    }
    let client = server.without_key();
    let at = client.post_bytes(WEBHOOK, vec![b'x'; 64 * 1024]).await;
    at.expect_problem(403);
    let past = client.post_bytes(WEBHOOK, vec![b'x'; 64 * 1024 + 1]).await;
    past.expect_problem(413);
}

/// The bytes of a callback whose body is announced and does not come.
fn unfinished(server: &Server, path: &str) -> Vec<u8> {
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-length", "100"),
    ];
    server
        .without_key()
        .raw_request("POST", path, &headers, b"M")
}

#[tokio::test]
async fn strangers_who_never_finish_keep_no_receipt_out() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder()
        .twilio(&twilio)
        .callbacks()
        .env("COUNTERSIGN_HTTP_CALLBACKS_MAX", "1")
        .start()
        .await;
    let id = send(&server, &phone(1)).await;
    let message = twilio.next_message().await;
    story_until(&server, &id, "sent").await;
    // More than there is room for bodies that are coming in.
    let mut slow = Vec::new();
    for n in 0..320 {
        let path = if n < 300 { WEBHOOK } else { "/webhooks/other" };
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(&unfinished(&server, path)).await.unwrap();
        slow.push(stream);
    }
    let taken = Receipt::of(&message, "delivered").post(&server).await;
    assert_eq!(taken.status, 204);
    assert_eq!(story(&server, &id).await["status"], "delivered");
}

#[tokio::test]
async fn refused_callbacks_are_told_in_one_line_for_each_reason() {
    let (twilio, server) = start().await;
    send(&server, &phone(1)).await;
    let message = twilio.next_message().await;
    let forged = Receipt::of(&message, "delivered")
        .with("Note", "canary")
        .forged();
    let garbled = Receipt::of(&message, "on holiday").with("Note", "canary");
    // Far fewer than would take the minute after which it is told again.
    for _ in 0..5 {
        forged.post(&server).await.expect_problem(403);
        garbled.post(&server).await.expect_problem(400);
        let client = server.without_key();
        let unknown = client.post_bytes("/webhooks/canary", "canary").await;
        unknown.expect_problem(404);
        let large = client.post_bytes(WEBHOOK, vec![b'x'; 64 * 1024 + 1]).await;
        large.expect_problem(413);
    }
    const LINE: &str = "a callback was refused";
    let all_told = |text: &str| (text.matches(LINE).count() >= 4).then(|| text.to_owned());
    let log = server.stderr().find("four lines", all_told).await.unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(LINE)).collect();
    assert_eq!(lines.len(), 4, "{log}");
    for (provider, reason) in [
        ("twilio", "no signature that holds"),
        ("twilio", "cannot be understood"),
        ("twilio", "http.callback-bytes-max"),
        ("none", "no callbacks are taken"),
    ] {
        let told = |line: &&&str| line.contains(provider) && line.contains(reason);
        assert_eq!(lines.iter().filter(told).count(), 1, "{reason}: {lines:?}");
    }
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test]
async fn without_a_public_address_no_callback_is_asked_for_or_taken() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    let id = send(&server, &phone(1)).await;
    let message = twilio.next_message().await;
    assert_eq!(message.status_callback, None);
    let url = format!("{PUBLIC_URL}{WEBHOOK}");
    let receipt = Receipt::about(&url, &message.sid, &phone(1), "delivered");
    receipt.post(&server).await.expect_problem(404);
    story_until(&server, &id, "sent").await;
}

#[tokio::test]
async fn a_flood_of_callbacks_leaves_sends_alone() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder()
        .twilio(&twilio)
        .callbacks()
        .env("COUNTERSIGN_HTTP_CALLBACKS_MAX", "4")
        .start()
        .await;
    let url = format!("{PUBLIC_URL}{WEBHOOK}");
    let sid = "SM0123456789abcdef0123456789abcdef";
    let forged = Receipt::about(&url, sid, &phone(1), "delivered").forged();
    let flood = join_all((0..500).map(|_| forged.post(&server)));
    let sends = async {
        for n in 0..20 {
            server.send(&phone(n)).await.expect_success();
        }
    };
    let (answers, ()) = tokio::join!(flood, sends);
    for answer in answers {
        match answer.status {
            503 => assert!(answer.expect_problem(503).retry_after().as_secs() > 0),
            _ => drop(answer.expect_problem(403)),
        }
    }
    for n in 0..20 {
        let code = twilio.message_to(&phone(n)).await.code();
        server.verify(&phone(n), &code).await.expect_success();
    }
}

#[tokio::test]
async fn a_receipt_that_was_taken_outlives_a_kill() {
    let (twilio, mut server) = start().await;
    let id = send(&server, &phone(1)).await;
    let message = twilio.next_message().await;
    story_until(&server, &id, "sent").await;
    assert_eq!(
        Receipt::of(&message, "delivered")
            .post(&server)
            .await
            .status,
        204
    );
    server.kill().await;
    server.restart().await;
    assert_eq!(story(&server, &id).await["status"], "delivered");
}

#[tokio::test]
async fn no_callback_is_in_the_log() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder()
        .twilio(&twilio)
        .callbacks()
        .env("COUNTERSIGN_LOG", "trace")
        .start()
        .await;
    let url = format!("{PUBLIC_URL}{WEBHOOK}");
    let sid = "SM0123456789abcdef0123456789abcdef";
    let receipt = Receipt::about(&url, sid, &phone(7), "delivered").with("Note", "canary");
    assert_eq!(receipt.post(&server).await.status, 204);
    assert_eq!(receipt.get(&server).await.status, 204);
    receipt.forged().post(&server).await.expect_problem(403);
    let log = server.stderr().text();
    for needle in ["canary", &phone(7)[1..], "MessageStatus", sid] {
        assert!(!log.contains(needle), "the log has {needle:?}:\n{log}");
    }
}
