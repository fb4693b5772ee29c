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
    let made = json!(["codes-2.key", "rows-2.key", "signing-2.key"]);
    assert_eq!(rotated["made"], made);
    assert_eq!(rotated["inUse"], true);
    // The running server uses them without a restart: what is new needs the old ones no more.
    server.send(&phone(5)).await.expect_success();
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

    let new = twilio.message_to(&phone(5)).await.code();
    server.verify(&phone(5), &new).await.expect_success();
}

/// With a file gone, what is missed and what is not tells which keys were used.
#[tokio::test]
async fn a_running_server_uses_the_new_keys_without_a_restart() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    let old = twilio.message_to(&phone(1)).await.code();
    let told = server.run(&["keyring", "rotate"]).await.expect_success();
    let said = "Made codes-2.key, rows-2.key, signing-2.key in ";
    assert!(told.stdout.starts_with(said), "{told:?}");
    assert!(
        told.stdout
            .contains("The running server uses them from now on."),
        "{told:?}"
    );
    // It still knows the old ones.
    server.verify(&phone(1), &old).await.expect_success();
    // One has a code, and waits sealed.
    twilio.always(Reply::Hang);
    server.send(&phone(2)).await.expect_success();
    twilio.wait_for_requests_to(&phone(2), 1).await;
    server.kill().await;
    let keys = server.data().join("keys");
    let (new_rows, away) = (keys.join("rows-2.key"), keys.join("away"));
    std::fs::rename(&new_rows, &away).unwrap();
    let missed = server.run(&["doctor"]).await;
    let want = "rows are sealed under rows-2.key, which is not there";
    assert!(missed.stdout.contains(want), "{missed:?}");
    std::fs::rename(&away, &new_rows).unwrap();
    std::fs::remove_file(keys.join("codes-1.key")).unwrap();
    twilio.always(Reply::Accept);
    server.restart().await;
    let new = twilio.message_to(&phone(2)).await.code();
    server.verify(&phone(2), &new).await.expect_success();
}

#[tokio::test]
async fn a_start_without_a_key_that_rows_are_sealed_under_is_refused_unless_it_is_named() {
    let twilio = FakeTwilio::start().await;
    twilio.always(Reply::Hang);
    let mut server = Server::start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    twilio.wait_for_requests_to(&phone(1), 1).await;
    server.run(&["keyring", "rotate"]).await.expect_success();
    server.kill().await;
    twilio.always(Reply::Accept);
    let keys = server.data().join("keys");
    let (rows, away) = (keys.join("rows-1.key"), keys.join("away"));
    std::fs::rename(&rows, &away).unwrap();
    let setup = server.setup().clone();
    let refused = setup.clone().finish().await;
    refused.expect_refusal(&[
        rows.to_str().unwrap(),
        "rows are sealed under it",
        "put it back from your copy of the keys",
        "COUNTERSIGN_WITHOUT_KEYS=rows-1",
    ]);
    // Another one's name is not enough.
    let other = setup.clone().env("COUNTERSIGN_WITHOUT_KEYS", "rows-3");
    other.finish().await.expect_refusal(&["rows-1.key"]);
    let setup = setup.env("COUNTERSIGN_WITHOUT_KEYS", "rows-1");
    let mut without = setup.clone().start().await;
    without.send(&phone(2)).await.expect_success();
    twilio.message_to(&phone(2)).await;
    let told = |text: &str| text.contains("started without a key").then_some(());
    assert_eq!(without.stderr().find("a warning", told).await, Some(()));
    let doctor = without.run(&["doctor"]).await.expect_success();
    assert!(
        doctor.stdout.contains("warning  key-needed: "),
        "{doctor:?}"
    );
    assert!(without.terminate().await.success());
    // With the key the message is back.
    std::fs::rename(&away, &rows).unwrap();
    server.restart().await;
    let code = twilio.message_to(&phone(1)).await.code();
    server.verify(&phone(1), &code).await.expect_success();
}

#[tokio::test]
async fn a_rotation_that_fails_leaves_the_running_server_as_it_was() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    let keys = server.data().join("keys");
    let away = server.data().join("index.key");
    std::fs::rename(keys.join("index.key"), &away).unwrap();
    let refused = server.run(&["keyring", "rotate"]).await;
    refused.expect_refusal(&["index.key", "the server goes on with the keys it has"]);
    assert!(!keys.join("codes-2.key").exists());
    std::fs::rename(&away, keys.join("index.key")).unwrap();
    server.send(&phone(1)).await.expect_success();
    let code = twilio.message_to(&phone(1)).await.code();
    server.verify(&phone(1), &code).await.expect_success();
}

#[tokio::test]
async fn a_rotation_without_a_server_counts_from_the_next_start_on() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    assert!(server.terminate().await.success());
    let rotated = server.run(&["keyring", "rotate", "--json"]).await;
    assert_eq!(rotated.expect_success().json()["inUse"], false);
    server.restart().await;
    server.send(&phone(1)).await.expect_success();
    let code = twilio.message_to(&phone(1)).await.code();
    assert!(server.terminate().await.success());
    std::fs::remove_file(server.data().join("keys/codes-1.key")).unwrap();
    server.restart().await;
    server.verify(&phone(1), &code).await.expect_success();
}

#[tokio::test]
async fn there_is_nothing_to_rotate_before_the_first_start() {
    let refused = Server::builder()
        .console()
        .run(&["keyring", "rotate"])
        .await;
    refused.expect_refusal(&["index.key", "first start"]);
}
