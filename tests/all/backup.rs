//! `countersign backup` and `countersign restore`, with a running server and without.

use std::fs;
use std::path::Path;

use countersign_tests::{
    FakeTwilio, Finished, Server, TOO_MANY_SENDS, TOO_MANY_TRIES, join_all, nearly, phone,
};
use serde_json::json;

/// Copies the keys, as an operator does who restores.
fn copy_keys(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Restores `file` into the data folder of `builder`.
async fn restore(builder: &countersign_tests::Builder, file: &str) -> Finished {
    builder.run(&["restore", file, "--json"]).await
}

#[tokio::test]
async fn a_backup_under_load_holds_all_that_was_acknowledged_before_it() {
    let twilio = FakeTwilio::start_refusing();
    let server = Server::start(&twilio).await;
    let file = server.data().with_file_name("backup");
    let name = file.to_str().unwrap();
    let before: Vec<String> = (0..50).map(phone).collect();
    for answer in join_all(before.iter().map(|phone| server.send(phone))).await {
        answer.expect_success();
    }
    // Sends go on meanwhile.
    let meanwhile: Vec<String> = (100..400).map(phone).collect();
    let sends = join_all(meanwhile.iter().map(|phone| server.send(phone)));
    let args = ["backup", name, "--json"];
    let (made, answers) = tokio::join!(server.run(&args), sends);
    for answer in answers {
        answer.expect_success();
    }
    let made = made.expect_success().json();
    assert_eq!(made["file"], name);
    assert_eq!(made["bytes"], fs::metadata(&file).unwrap().len());
    assert!(made["rows"].as_u64().unwrap() >= 100, "{made}");

    // Elsewhere, with the keys: everything that waited is sent, and the codes are good.
    let mut other = FakeTwilio::start().await;
    other.accept_connections();
    let builder = Server::builder().twilio(&other);
    let data = builder.home().join("data");
    let restored = restore(&builder, name).await.expect_success().json();
    assert_eq!(restored["rows"], made["rows"]);
    assert_eq!(restored["changes"], made["changes"]);
    assert_eq!(restored["keysThere"], false);
    copy_keys(&server.data().join("keys"), &data.join("keys"));
    let second = builder.start().await;
    for phone in &before {
        let code = other.message_to(phone).await.code();
        second.verify(phone, &code).await.expect_success();
    }
}

#[tokio::test]
async fn limits_locks_and_keys_are_in_a_backup_and_the_hosts_secret_keys_are_not() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    let made = server.run(&["keys", "create", "--json"]).await;
    let key = made.expect_success().json()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    for _ in 0..3 {
        server.send(&phone(1)).await.expect_success();
    }
    server.send(&phone(2)).await.expect_success();
    let code = twilio.message_to(&phone(2)).await.code();
    for n in 1..=5 {
        server
            .verify(&phone(2), &nearly(&code, n))
            .await
            .expect_status(400);
    }
    // Of a stopped server this time.
    assert!(server.terminate().await.success());
    let file = server.data().with_file_name("backup");
    let name = file.to_str().unwrap();
    let said = server.run(&["backup", name]).await.expect_success().stdout;
    assert!(said.contains("secret keys are not in it"), "{said}");

    let builder = Server::builder().twilio(&twilio);
    let said = builder
        .run(&["restore", name])
        .await
        .expect_success()
        .stdout;
    assert!(said.contains("secret keys are not in it"), "{said}");
    // Without the keys there is no start, with another server's neither.
    let keys = builder.home().join("data/keys");
    let missing = builder.clone().finish().await;
    missing.expect_refusal(&["index.key", "put it back from your backup of the keys"]);
    let foreign = Server::builder().twilio(&twilio).start().await;
    copy_keys(&foreign.data().join("keys"), &keys);
    let refused = builder.clone().finish().await;
    refused.expect_refusal(&["is not the one that this data was written with"]);
    fs::remove_dir_all(&keys).unwrap();
    copy_keys(&server.data().join("keys"), &keys);
    let second = builder.start().await;
    let limited = json!({ "error": TOO_MANY_SENDS });
    second.send(&phone(1)).await.expect_body(400, &limited);
    let locked = json!({ "valid": false, "reason": TOO_MANY_TRIES });
    second
        .verify(&phone(2), &code)
        .await
        .expect_body(400, &locked);
    second.with_key(&key).send(&phone(3)).await.expect_success();
}

#[tokio::test]
async fn nothing_is_written_over() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    let file = server.data().with_file_name("backup");
    let name = file.to_str().unwrap();
    fs::write(&file, "something else").unwrap();
    let refused = server.run(&["backup", name]).await;
    refused.expect_refusal(&["is there already"]);
    assert_eq!(fs::read(&file).unwrap(), b"something else");
    // A data folder with a store is not restored into, whoever holds it.
    let refused = server.run(&["restore", name]).await;
    refused.expect_refusal(&["there is a store in", "already"]);
    server.expect_healthy().await;
    // A file that is no backup, or a damaged one, makes nothing.
    let builder = Server::builder().twilio(&twilio);
    restore(&builder, name)
        .await
        .expect_refusal(&["is not a backup of countersign"]);
    let good = file.with_file_name("good");
    server
        .run(&["backup", good.to_str().unwrap()])
        .await
        .expect_success();
    let bytes = fs::read(&good).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    restore(&builder, name)
        .await
        .expect_refusal(&["cannot be used", "damaged"]);
    assert!(!builder.home().join("data/store").exists());
    // The server's folders, for its user alone; the backup too.
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&good).unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o600);
}

#[tokio::test]
async fn a_restore_that_was_cut_off_is_no_new_beginning() {
    let twilio = FakeTwilio::start().await;
    let builder = Server::builder().twilio(&twilio);
    let half = builder.home().join("data/store.restoring");
    fs::create_dir_all(&half).unwrap();
    let refused = builder.clone().finish().await;
    refused.expect_refusal(&["a restore into", "was cut off", "countersign restore FILE"]);
    // Typed again it goes through.
    let server = Server::start(&twilio).await;
    let file = server.data().with_file_name("backup");
    server
        .run(&["backup", file.to_str().unwrap()])
        .await
        .expect_success();
    restore(&builder, file.to_str().unwrap())
        .await
        .expect_success();
    assert!(!half.exists());
}
