//! `countersign doctor`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use countersign_tests::{Builder, FakeTwilio, PowerMode, Server};
use serde_json::Value;

/// The codes of a severity. What the machine of the test is like is left out.
fn codes(answer: &Value, severity: &str) -> Vec<String> {
    let findings = answer["findings"].as_array().unwrap();
    let of = findings
        .iter()
        .filter(|finding| finding["severity"] == severity);
    let codes = of.map(|finding| finding["code"].as_str().unwrap().to_owned());
    codes
        .filter(|code| !matches!(code.as_str(), "file-system" | "open-files" | "disk-tight"))
        .collect()
}

/// A server whose keys lie apart from its data, as the doctor wants it.
fn builder(twilio: &FakeTwilio) -> Builder {
    let builder = Server::builder().twilio(twilio);
    let keys = builder.home().join("keys");
    builder
        .env("COUNTERSIGN_KEYS", keys.to_str().unwrap())
        .env("COUNTERSIGN_ADMIN_TOKEN", "a-token")
        .env("COUNTERSIGN_PUBLIC_URL", "https://sms.example.test")
}

#[tokio::test]
async fn a_server_in_good_order_has_no_errors_running_or_stopped() {
    let twilio = FakeTwilio::start().await;
    let mut server = builder(&twilio).start().await;
    server.send("+12025550123").await.expect_success();
    for running in [true, false] {
        if !running {
            assert!(server.terminate().await.success());
        }
        let answer = server
            .run(&["doctor", "--json"])
            .await
            .expect_success()
            .json();
        assert_eq!(answer["errors"], 0, "{answer}");
        assert!(
            codes(&answer, "error").is_empty() && codes(&answer, "warning").is_empty(),
            "{answer}"
        );
        assert_eq!(codes(&answer, "note"), ["no-api-key"]);
    }
}

#[tokio::test]
async fn every_error_has_a_code_a_text_and_what_to_do_and_fails_the_command() {
    let twilio = FakeTwilio::start().await;
    let mut server = builder(&twilio).start().await;
    assert!(server.terminate().await.success());
    let keys = server.data().with_file_name("keys");
    let check = async |want: &str, server: &Server| {
        let answer = server.run(&["doctor", "--json"]).await;
        assert_eq!(answer.status.code(), Some(1), "{answer:?}");
        let shown = answer.json();
        assert_eq!(codes(&shown, "error"), [want]);
        for finding in shown["findings"].as_array().unwrap() {
            assert!(
                finding["text"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{finding}"
            );
        }
        // The same for people.
        let answer = server.run(&["doctor"]).await;
        assert!(
            answer.stdout.contains(&format!("error    {want}: ")),
            "{answer:?}"
        );
        answer.expect_refusal(&["1 of the findings must be put right"]);
    };
    let file = keys.join("rows-1.key");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    check("key-open", &server).await;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&file, keys.join("kept")).unwrap();
    check("key-missing", &server).await;
    fs::rename(keys.join("kept"), &file).unwrap();
    let foreign = builder(&twilio).start().await;
    let theirs = foreign.data().with_file_name("keys").join("index.key");
    fs::rename(keys.join("index.key"), keys.join("kept")).unwrap();
    fs::copy(theirs, keys.join("index.key")).unwrap();
    check("key-foreign", &server).await;
    fs::rename(keys.join("kept"), keys.join("index.key")).unwrap();
    let db = server.data().join("store/db");
    let length = usize::try_from(fs::metadata(&db).unwrap().len()).unwrap();
    fs::write(&db, vec![0x5a; length]).unwrap();
    check("store-unusable", &server).await;
}

#[tokio::test]
async fn what_the_server_would_refuse_is_told_without_a_start() {
    let twilio = FakeTwilio::start().await;
    let answer = builder(&twilio)
        .env("COUNTERSIGN_OTP_DIGITS", "5")
        .run(&["doctor", "--json"])
        .await;
    assert_eq!(codes(&answer.json(), "error"), ["configuration"]);
    assert!(answer.stdout.contains("otp.digits"), "{answer:?}");
    // A credential that is not there.
    let builder = Server::builder().console();
    let file = builder.home().join("countersign.toml");
    let toml = "[[provider]]\nname = \"twilio\"\ncomponent = \"provider-twilio\"\ncredentials = { auth-token = { env = \"NOT_THERE\" } }\n";
    fs::write(&file, toml).unwrap();
    let answer = builder
        .run(&["doctor", "--json", "--config", file.to_str().unwrap()])
        .await;
    assert!(answer.stdout.contains("NOT_THERE"), "{answer:?}");
    assert_eq!(codes(&answer.json(), "error"), ["configuration"]);
    // Looking has made nothing.
    assert!(!builder.home().join("data").exists());
}

#[tokio::test]
async fn a_disk_with_less_than_the_reserve_free_is_an_error() {
    let twilio = FakeTwilio::start().await;
    let server = builder(&twilio).on_disk(PowerMode::Power, 1).start().await;
    let answer = server
        .setup()
        .clone()
        .env("COUNTERSIGN_STORE_RESERVE_BYTES", "1000000000000")
        .run(&["doctor", "--json"])
        .await;
    assert_eq!(codes(&answer.json(), "error"), ["disk-full"]);
}

#[tokio::test]
async fn a_provider_without_a_public_address_to_report_to_is_a_warning() {
    let twilio = FakeTwilio::start().await;
    let server = builder(&twilio)
        .env("COUNTERSIGN_PUBLIC_URL", "")
        .start()
        .await;
    let answer = server.run(&["doctor", "--json"]).await.expect_success();
    let shown = answer.json();
    assert_eq!(codes(&shown, "warning"), ["no-public-url"], "{shown}");
    assert!(answer.stdout.contains("`twilio`"), "{answer:?}");
}

/// What is in the server's memory must not hide that the next start will not find it.
#[tokio::test]
async fn a_key_that_is_lost_under_a_running_server_is_an_error() {
    let twilio = FakeTwilio::start().await;
    let server = builder(&twilio).start().await;
    server.send("+12025550123").await.expect_success();
    twilio.message_to("+12025550123").await;
    server.run(&["keyring", "rotate"]).await.expect_success();
    let look = async || server.run(&["doctor", "--json"]).await.json();
    let shown = look().await;
    let notes = ["key-old", "key-old", "key-still-needed", "no-api-key"];
    assert_eq!(codes(&shown, "note"), notes, "{shown}");
    let keys = server.data().with_file_name("keys");
    fs::remove_file(keys.join("rows-1.key")).unwrap();
    let shown = look().await;
    assert_eq!(codes(&shown, "error"), ["key-needed"], "{shown}");
}
