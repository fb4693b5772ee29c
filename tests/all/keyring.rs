//! Rotating the host's secret keys.

use countersign_tests::{FakeTwilio, Reply, Server, TOO_MANY_SENDS, TOO_MANY_TRIES, nearly, phone};
use serde_json::json;

#[tokio::test]
async fn a_rotation_keeps_live_codes_waiting_messages_limits_and_locks() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    let live = twilio.message_to(&phone(1)).await.code();
    for _ in 0..3 {
        server.send(&phone(2)).await.expect_success();
    }
    server.send(&phone(3)).await.expect_success();
    let guessed = twilio.message_to(&phone(3)).await.code();
    for n in 1..=5 {
        server
            .verify(&phone(3), &nearly(&guessed, n))
            .await
            .expect_status(400);
    }
    // One waits, sealed under the old key.
    twilio.always(Reply::Hang);
    server.send(&phone(4)).await.expect_success();
    twilio.wait_for_requests_to(&phone(4), 1).await;

    let rotated = server.run(&["keyring", "rotate", "--json"]).await;
    let rotated = rotated.expect_success().json();
    assert_eq!(rotated["made"], json!(["codes-2.key", "rows-2.key"]));
    assert_eq!(rotated["restartNeeded"], true);
    server.kill().await;
    twilio.always(Reply::Accept);
    server.restart().await;

    server.verify(&phone(1), &live).await.expect_success();
    let limited = json!({ "error": TOO_MANY_SENDS });
    server.send(&phone(2)).await.expect_body(400, &limited);
    let locked = json!({ "valid": false, "reason": TOO_MANY_TRIES });
    server
        .verify(&phone(3), &guessed)
        .await
        .expect_body(400, &locked);
    let waited = twilio.message_to(&phone(4)).await.code();
    server.verify(&phone(4), &waited).await.expect_success();

    // What is new is made with the new keys: without the old ones it works all the same.
    server.send(&phone(5)).await.expect_success();
    let new = twilio.message_to(&phone(5)).await.code();
    assert!(server.terminate().await.success());
    std::fs::remove_file(server.data().join("keys/codes-1.key")).unwrap();
    server.restart().await;
    server.verify(&phone(5), &new).await.expect_success();
}

#[tokio::test]
async fn there_is_nothing_to_rotate_before_the_first_start() {
    let refused = Server::builder()
        .console()
        .run(&["keyring", "rotate"])
        .await;
    refused.expect_refusal(&["index.key", "first start"]);
}
