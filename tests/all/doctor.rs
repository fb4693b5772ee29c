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
        .env("COUNTERSIGN_ADMIN_TOKEN", "a-token-of-the-doctors-tests")
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

/// What the doctor says of a configuration, and that a start says no to it as well.
async fn both_refuse(builder: Builder, toml: &str, want: &str) {
    let builder = builder.config(toml);
    let file = builder.home().join("countersign.toml");
    let args = ["doctor", "--json", "--config", file.to_str().unwrap()];
    let answer = builder.run(&args).await;
    assert_eq!(codes(&answer.json(), "error"), [want], "{answer:?}");
    assert!(!builder.home().join("data").exists(), "looking has made it");
    builder.finish().await.expect_refusal(&[]);
}

#[tokio::test]
async fn a_component_that_a_start_cannot_use_is_told_without_one() {
    let entry = |component: &str, more: &str| {
        format!("[[provider]]\nname = \"one\"\ncomponent = \"{component}\"\n{more}")
    };
    let check = async |toml: String, want: &str| {
        let builder = Server::builder().console();
        fs::write(builder.home().join("text.wasm"), "no component").unwrap();
        // A component without any export.
        let empty = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
        fs::write(builder.home().join("empty.wasm"), empty).unwrap();
        both_refuse(builder, &toml, want).await;
    };
    check(entry("nowhere.wasm", ""), "component-unreadable").await;
    check(entry("text.wasm", ""), "component-unfit").await;
    check(entry("empty.wasm", ""), "component-unfit").await;
    let unknown = "settings = { account-side = \"AC1\", from = \"+15005550006\" }";
    check(entry("provider-twilio", unknown), "provider-incomplete").await;
    let half = "settings = { account-sid = \"AC0123456789abcdef0123456789abcdef\", from = \"+15005550006\" }";
    check(entry("provider-twilio", half), "provider-incomplete").await;
}

#[tokio::test]
async fn an_address_or_a_missing_api_key_that_stops_a_start_is_told_without_one() {
    let server = Server::builder().console().start().await;
    let taken = server.address().to_string();
    let other = Server::builder().console().no_listen();
    let other = other.env("COUNTERSIGN_LISTEN", &taken);
    both_refuse(other, "", "address-in-use").await;
    // Its own server may have it.
    let setup = server.setup().clone().env("COUNTERSIGN_LISTEN", &taken);
    let answer = setup.run(&["doctor", "--json"]).await.expect_success();
    assert_eq!(answer.json()["errors"], 0, "{answer:?}");

    let twilio = FakeTwilio::start().await;
    let keyless = Server::builder().twilio(&twilio).no_key();
    both_refuse(keyless, "", "needs-key").await;
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
