//! `Idempotency-Key`: what is asked again is answered again and not done again.

use countersign_tests::{
    Answer, Client, FakeTwilio, Server, TOO_MANY_SENDS, WRONG_CODE, eventually, join_all, phone,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::queue::{die, start};

const SEND: &str = "/api/otp/send";
const VERIFY: &str = "/api/otp/verify";
const KEY: &str = "8e03978e-40d5-43e8-bc93-6894a57f9324";

fn to(phone: &str) -> Value {
    json!({ "phoneNumber": phone })
}

/// Requires the stored answer of `first`.
#[track_caller]
fn expect_replay(again: &Answer, first: &Answer) {
    assert_eq!(again.status, first.status, "{}", again.text());
    assert_eq!(again.body, first.body);
    for header in ["content-type", "cache-control"] {
        assert_eq!(again.header(header), first.header(header), "{header}");
    }
    // The wait counts from now.
    let waits = [again, first].map(|answer| answer.header("retry-after").is_some());
    assert_eq!(waits[0], waits[1]);
    if waits[0] {
        assert!(again.retry_after() <= first.retry_after());
    }
    assert_eq!(first.header("idempotency-replayed"), None);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
}

/// Asks until the first request is no longer in flight.
async fn answered(client: &Client, path: &str, key: &str, body: &Value) -> Answer {
    eventually("the first request is answered", async || {
        let answer = client.post_once(path, key, body).await;
        if answer.status != 409 {
            return Some(answer);
        }
        let in_flight = answer.expect_problem(409);
        assert_eq!(in_flight.retry_after().as_secs(), 1);
        None
    })
    .await
}

#[tokio::test]
async fn a_send_that_is_repeated_is_answered_again_and_sent_once() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    let first = server.post_once(SEND, KEY, &to(&phone(1))).await;
    first.clone().expect_success();
    for key in [KEY, &format!("\"{KEY}\"")] {
        let again = server.post_once(SEND, key, &to(&phone(1))).await;
        expect_replay(&again, &first);
    }
    let other = server.post_once(SEND, "another", &to(&phone(1))).await;
    other.clone().expect_success();
    assert_ne!(other.json()["messageId"], first.json()["messageId"]);
    // A stop leaves what nobody has claimed yet for the next start.
    twilio.wait_for_count(2).await;
    assert!(server.terminate().await.success());
    assert_eq!(twilio.messages().len(), 2);
}

#[tokio::test]
async fn of_64_equal_requests_at_once_one_message_goes_out() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    let body = to(&phone(1));
    let answers = join_all((0..64).map(|_| server.post_once(SEND, KEY, &body))).await;
    let is_first =
        |answer: &&Answer| answer.status == 200 && answer.header("idempotency-replayed").is_none();
    let firsts: Vec<_> = answers.iter().filter(is_first).collect();
    assert_eq!(firsts.len(), 1, "{answers:?}");
    for answer in answers.iter().filter(|answer| !is_first(answer)) {
        match answer.status {
            200 => expect_replay(answer, firsts[0]),
            _ => {
                answer.clone().expect_problem(409);
                assert_eq!(answer.retry_after().as_secs(), 1);
            }
        }
    }
    expect_replay(&server.post_once(SEND, KEY, &body).await, firsts[0]);
    // A stop leaves what nobody has claimed yet for the next start.
    twilio.wait_for_count(1).await;
    assert!(server.terminate().await.success());
    assert_eq!(twilio.messages().len(), 1);
}

#[tokio::test]
async fn a_code_is_used_once_and_its_success_can_be_asked_for_again() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    let code = twilio.next_message().await.code();
    let body = json!({ "phoneNumber": phone(1), "code": code });
    let first = server.post_once(VERIFY, KEY, &body).await;
    first.clone().expect_success();
    expect_replay(&server.post_once(VERIFY, KEY, &body).await, &first);
    let refusal = json!({ "valid": false, "reason": WRONG_CODE });
    let used = server.post_once(VERIFY, "another", &body).await;
    used.expect_body(400, &refusal);
}

#[tokio::test]
async fn a_refusal_is_a_verdict_and_is_answered_again() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    for _ in 0..3 {
        server.send(&phone(1)).await.expect_success();
    }
    let refused = server.post_once(SEND, KEY, &to(&phone(1))).await;
    refused
        .clone()
        .expect_body(400, &json!({ "error": TOO_MANY_SENDS }));
    assert!(refused.retry_after().as_secs() > 0);
    expect_replay(&server.post_once(SEND, KEY, &to(&phone(1))).await, &refused);
}

#[tokio::test]
async fn a_key_with_another_body_is_422_and_nothing_is_done() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    let first = server.post_once(SEND, KEY, &to(&phone(1))).await;
    first.expect_success();
    let other = server.post_once(SEND, KEY, &to(&phone(2))).await;
    let other = other.expect_problem(422);
    assert_eq!(
        other.json()["type"],
        "urn:countersign:error:idempotency-key-reused"
    );
    // A malformed body is another body as well.
    let malformed = server.post_once(SEND, KEY, &json!("x")).await;
    malformed.expect_problem(422);
    assert!(server.terminate().await.success());
    assert!(twilio.requests_to(&phone(2)).is_empty());
}

#[tokio::test]
async fn a_refusal_that_changes_nothing_leaves_the_key_free() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    for _ in 0..2 {
        let refused = server.post_once(SEND, KEY, &to("no number")).await;
        assert_eq!(refused.header("idempotency-replayed"), None);
        let want = json!({ "error": "Invalid phone number", "field": "phoneNumber" });
        refused.expect_body(400, &want);
    }
    let corrected = server.post_once(SEND, KEY, &to(&phone(1))).await;
    corrected.expect_success();
}

#[tokio::test]
async fn a_replay_that_is_repeated_is_answered_again_and_replayed_once() {
    let twilio = FakeTwilio::start().await;
    let mut server = start(&twilio).await;
    let admin = server.with_key("t");
    let id = die(&twilio, &server, &phone(1)).await;
    let path = format!("/admin/queue/dead/{id}/replay");
    let first = admin.post_once(&path, KEY, &json!({})).await;
    let first = first.expect_status(202);
    assert_eq!(first.json()["status"], "queued");
    twilio.message_to(&phone(1)).await;
    expect_replay(&admin.post_once(&path, KEY, &json!({})).await, &first);
    // Another request finds nothing to replay, and leaves its key free.
    for body in [json!({}), json!({"another": "body"})] {
        let other = admin.post_once(&path, "another", &body).await;
        other.expect_problem(404);
    }
    // An API key's requests have keys of their own, and none is let in here.
    let stranger = server.post_once(&path, KEY, &json!({})).await;
    stranger.expect_problem(401);
    assert!(server.terminate().await.success());
    assert_eq!(twilio.messages().len(), 1);
}

#[tokio::test]
async fn two_api_keys_do_not_see_each_others_answers() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    let created = server.run(&["keys", "create", "--json"]).await;
    let created = created.expect_success().json();
    let other = server.with_key(created["key"].as_str().unwrap());
    let first = server.post_once(SEND, KEY, &to(&phone(1))).await;
    let second = other.post_once(SEND, KEY, &to(&phone(1))).await;
    second.clone().expect_success();
    assert_eq!(second.header("idempotency-replayed"), None);
    assert_ne!(first.json()["messageId"], second.json()["messageId"]);
}

#[tokio::test]
async fn after_a_503_the_key_is_free() {
    let mut twilio = FakeTwilio::start_refusing();
    let server = Server::builder()
        .twilio(&twilio)
        .env("COUNTERSIGN_QUEUE_CAPACITY", "1")
        .start()
        .await;
    server.send(&phone(1)).await.expect_success();
    for _ in 0..2 {
        let full = server.post_once(SEND, KEY, &to(&phone(2))).await;
        full.expect_problem(503);
    }
    twilio.accept_connections();
    twilio.message_to(&phone(1)).await;
    let sent = eventually("there is room again", async || {
        let answer = server.post_once(SEND, KEY, &to(&phone(2))).await;
        (answer.status != 503).then_some(answer)
    });
    sent.await.expect_success();
    twilio.message_to(&phone(2)).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_finds_its_answer() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    let body = to(&phone(1)).to_string();
    let length = body.len().to_string();
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", length.as_str()),
        ("Idempotency-Key", KEY),
    ];
    let request = server.raw_request("POST", SEND, &headers, body.as_bytes());
    let mut stream = server.connect().await;
    stream.write_all(&request).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    twilio.message_to(&phone(1)).await;
    let again = answered(&server, SEND, KEY, &to(&phone(1))).await;
    again.clone().expect_success();
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert!(server.terminate().await.success());
    assert_eq!(twilio.messages().len(), 1);
}

#[tokio::test]
async fn an_answer_outlives_a_kill() {
    // A kill in the middle of a delivery may send a code twice; so there is none before it.
    let mut twilio = FakeTwilio::start_refusing();
    let mut server = Server::start(&twilio).await;
    let first = server.post_once(SEND, KEY, &to(&phone(1))).await;
    first.clone().expect_success();
    server.kill().await;
    server.restart().await;
    expect_replay(&server.post_once(SEND, KEY, &to(&phone(1))).await, &first);
    twilio.accept_connections();
    twilio.message_to(&phone(1)).await;
    assert!(server.terminate().await.success());
    assert_eq!(twilio.messages().len(), 1);
}

#[tokio::test]
async fn whenever_the_server_is_killed_a_repeat_sends_no_second_message() {
    // No provider answers until all is over, so that a message that comes twice was made twice.
    let mut twilio = FakeTwilio::start_refusing();
    let mut server = Server::start(&twilio).await;
    let phones: Vec<String> = (0..60).map(phone).collect();
    let mut known: Vec<Option<Answer>> = vec![None; phones.len()];
    for round in 0..4 {
        let client = server.client();
        let requests = phones.clone().into_iter().map(|phone| {
            let client = client.clone();
            async move {
                let answer = client.try_post_once(SEND, &phone, &to(&phone)).await;
                answer.ok()
            }
        });
        let requests = tokio::spawn(join_all(requests.collect::<Vec<_>>()));
        // Each time a little later: once some of them are in the middle of it.
        for _ in 0..round * 5 {
            client.get("/healthz").await;
        }
        server.kill().await;
        for (answer, known) in requests.await.unwrap().into_iter().zip(&mut known) {
            let Some(answer) = answer.filter(|answer| answer.status == 200) else {
                continue;
            };
            match known {
                Some(first) => assert_eq!(answer.body, first.body, "another message was made"),
                None => *known = Some(answer),
            }
        }
        server.restart().await;
    }
    for (phone, known) in phones.iter().zip(&known) {
        let answer = answered(&server, SEND, phone, &to(phone)).await;
        answer.clone().expect_success();
        if let Some(first) = known {
            assert_eq!(answer.body, first.body);
        }
    }
    twilio.accept_connections();
    for phone in &phones {
        twilio.message_to(phone).await;
    }
    assert!(server.terminate().await.success());
    assert_eq!(twilio.messages().len(), phones.len());
}
