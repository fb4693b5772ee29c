//! `countersign backup` and `countersign restore`, with a running server and without.

use std::fs;
use std::path::Path;

use countersign_tests::{
    Answer, FakeTwilio, Finished, Reply, Server, TOO_MANY_SENDS, TOO_MANY_TRIES, WRONG_CODE,
    join_all, nearly, phone,
};
use serde_json::{Value, json};

use crate::messages::{story_over, story_until};

/// Copies the keys, as an operator does who restores.
pub(crate) fn copy_keys(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Restores `file` into the data folder of `builder`.
pub(crate) async fn restore(builder: &countersign_tests::Builder, file: &str) -> Finished {
    builder.run(&["restore", file, "--json"]).await
}

const TEMPLATES: &str = "[[template]]\nname = \"order\"\ntext = \"It is on its way.\"\n";

fn order(to: &str) -> Value {
    json!({ "to": to, "template": "order" })
}

/// The id of an answer's message.
fn id_of(answer: Answer) -> String {
    assert!([200, 202].contains(&answer.status), "{answer:?}");
    let body = answer.json();
    let id = body.get("messageId").or(body.get("id"));
    id.unwrap().as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_backup_under_load_holds_all_that_was_acknowledged_before_it() {
    let twilio = FakeTwilio::start_refusing();
    let server = Server::builder().twilio(&twilio).config(TEMPLATES);
    let server = server.start().await;
    let file = server.data().with_file_name("backup");
    let name = file.to_str().unwrap();
    let before: Vec<String> = (0..50).map(phone).collect();
    let sends = join_all(before.iter().map(|phone| server.send(phone)));
    let codes: Vec<String> = sends.await.into_iter().map(id_of).collect();
    let orders: Vec<Value> = before.iter().map(|phone| order(phone)).collect();
    let posts = orders
        .iter()
        .map(|order| server.post("/api/messages", order));
    let posts = join_all(posts).await;
    let orders: Vec<String> = posts.into_iter().map(id_of).collect();
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
    assert!(made["rows"].as_u64().unwrap() >= 150, "{made}");

    // Elsewhere, with the keys: everything that waited is sent, but for codes, which may have been used
    // since, and what was just being handed over.
    let mut other = FakeTwilio::start().await;
    other.accept_connections();
    let builder = Server::builder().twilio(&other).config(TEMPLATES);
    let data = builder.home().join("data");
    let restored = restore(&builder, name).await.expect_success().json();
    assert_eq!(restored["rows"], made["rows"]);
    assert_eq!(restored["changes"], made["changes"]);
    assert_eq!(restored["keysThere"], false);
    copy_keys(&server.data().join("keys"), &data.join("keys"));
    let second = builder.start().await;
    for id in &codes {
        story_until(&second, id, "expired").await;
    }
    let mut sent = 0;
    for (id, phone) in orders.iter().zip(&before) {
        if story_over(&second, id).await["status"] == "sent" {
            assert_eq!(other.message_to(phone).await.body, "It is on its way.");
            sent += 1;
        }
    }
    assert!(sent > 0, "all were being handed over");
}

#[tokio::test]
async fn what_may_have_been_used_since_a_backup_is_void_after_a_restore() {
    let twilio = FakeTwilio::start().await;
    let one_at_a_time = format!("{TEMPLATES}[delivery]\nconcurrency = 1\n");
    let server = Server::builder().twilio(&twilio).config(&one_at_a_time);
    let mut server = server.start().await;
    let made = server.run(&["keys", "create", "--name", "shop", "--json"]);
    let made = made.await.expect_success().json();
    let (id, key) = (&made["id"], made["key"].as_str().unwrap());
    server.send(&phone(1)).await.expect_success();
    let code = twilio.message_to(&phone(1)).await.code();
    let again = json!({ "phoneNumber": phone(2) });
    let first = server.post_once("/api/otp/send", "once", &again).await;
    let first = first.expect_success().json();
    twilio.message_to(&phone(2)).await;
    // One is with the provider, and one waits behind it whose time is soon over.
    twilio.always(Reply::Hang);
    let begun = id_of(server.post("/api/messages", &order(&phone(3))).await);
    twilio.wait_for_requests_to(&phone(3), 1).await;
    let mut late = order(&phone(4));
    late["validitySeconds"] = json!(2);
    let late = id_of(server.post("/api/messages", &late).await);
    let file = server.data().with_file_name("backup");
    let name = file.to_str().unwrap();
    server.run(&["backup", name]).await.expect_success();
    // What the backup knows nothing of.
    server.verify(&phone(1), &code).await.expect_success();
    let revoke = ["keys", "revoke", id.as_str().unwrap()];
    server.run(&revoke).await.expect_success();
    story_until(&server, &late, "expired").await;
    server.kill().await;
    twilio.always(Reply::Accept);

    for revoked in [false, true] {
        let builder = Server::builder().twilio(&twilio).config(TEMPLATES);
        let mut args = vec!["restore", name, "--json"];
        args.extend(revoked.then_some("--revoke-keys"));
        let told = builder.run(&args).await.expect_success().json();
        let (good, gone) = match revoked {
            false => (
                json!([{ "id": id, "name": "shop", "created": told["keys"][0]["created"] }]),
                json!([]),
            ),
            true => (json!([]), json!([id])),
        };
        assert_eq!((&told["keys"], &told["revoked"]), (&good, &gone));
        let keys = builder.home().join("data/keys");
        copy_keys(&server.data().join("keys"), &keys);
        let second = builder.start().await;
        let of_shop = second.with_key(key).get("/api/messages/x").await;
        assert_eq!(of_shop.status, if revoked { 401 } else { 404 });
        let wrong = json!({ "valid": false, "reason": WRONG_CODE });
        second
            .verify(&phone(1), &code)
            .await
            .expect_body(400, &wrong);
        // The answer of before speaks of a code that is void, so the request is carried out again.
        let new = second.post_once("/api/otp/send", "once", &again).await;
        let new = new.expect_success().json();
        assert_ne!(new["messageId"], first["messageId"]);
        let sent = story_until(&second, new["messageId"].as_str().unwrap(), "sent");
        sent.await;
        story_until(&second, &late, "expired").await;
        story_until(&second, &begun, "unknown").await;
        // A new code for the same phone is good.
        let id = id_of(second.send(&phone(1)).await);
        story_until(&second, &id, "sent").await;
        let code = twilio.message_to(&phone(1)).await.code();
        second.verify(&phone(1), &code).await.expect_success();
    }
}

#[tokio::test]
async fn limits_budgets_and_keys_are_in_a_backup_and_the_hosts_secret_keys_are_not() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    let made = server.run(&["keys", "create", "--json"]).await;
    let made = made.expect_success().json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    for _ in 0..3 {
        server.send(&phone(1)).await.expect_success();
    }
    for _ in 0..3 {
        server.send(&phone(2)).await.expect_success();
        let code = twilio.message_to(&phone(2)).await.code();
        for n in 1..=5 {
            let wrong = nearly(&code, n);
            server.verify(&phone(2), &wrong).await.expect_status(400);
        }
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
    for part in [
        "secret keys are not in it",
        "Codes that were sent before",
        "revoked after the backup nobody knows",
        id,
    ] {
        assert!(said.contains(part), "no {part}:\n{said}");
    }
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
    // All guesses of an hour are spent.
    let spent = json!({ "valid": false, "reason": TOO_MANY_TRIES });
    second
        .verify(&phone(2), "000000")
        .await
        .expect_body(400, &spent);
    second.with_key(key).send(&phone(3)).await.expect_success();
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
    // Not even the folder.
    assert!(!builder.home().join("data").exists());
    // What is left of a backup that was killed does not block its name.
    let left = file.with_file_name("next.part");
    fs::write(&left, &bytes[..bytes.len() / 2]).unwrap();
    fs::set_permissions(&left, fs::metadata(&good).unwrap().permissions()).unwrap();
    let next = file.with_file_name("next");
    let made = server.run(&["backup", next.to_str().unwrap()]).await;
    made.expect_success();
    assert!(next.exists() && !left.exists());
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
