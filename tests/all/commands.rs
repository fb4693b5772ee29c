//! What commands say to programs.

use std::fs;

use countersign_tests::{FakeTwilio, Finished, Server};
use serde_json::Value;

/// The error of a command that was told to print JSON: the only line on standard error.
#[track_caller]
fn error(finished: &Finished, status: i32) -> Value {
    assert_eq!(finished.status.code(), Some(status), "{finished:?}");
    let lines: Vec<&str> = finished.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{finished:?}");
    let told: Value = serde_json::from_str(lines[0]).unwrap();
    let error = told["error"].clone();
    let message = error["message"].as_str();
    assert!(message.is_some_and(|text| !text.is_empty()), "{told}");
    error
}

#[tokio::test]
async fn every_command_that_fails_says_so_in_json_where_json_was_asked_for() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    let backup = server.data().with_file_name("backup");
    fs::write(&backup, "something else").unwrap();
    let file = backup.to_str().unwrap();
    let id = "0".repeat(32);
    // With the server's words, and with those of a command by itself.
    for (args, code) in [
        (vec!["keys", "revoke", "AbCdEf1234"], "keys::unknown"),
        (vec!["keys", "revoke", "x"], "keys::no_id"),
        (vec!["messages", "show", "x"], "messages::no_id"),
        (vec!["messages", "show", &id], "messages::absent"),
        (vec!["queue", "dead", "x"], "queue::no_id"),
        (vec!["queue", "replay", &id], "queue::replay"),
        (vec!["backup", file], "backup::exists"),
        (vec!["restore", file], "restore::failed"),
        (vec!["keys", "list", "--config", "no"], "config::unreadable"),
    ] {
        let args: Vec<&str> = args.into_iter().chain(["--json"]).collect();
        let finished = server.run(&args).await;
        assert_eq!(finished.stdout, "", "{args:?}");
        let error = error(&finished, 1);
        assert_eq!(error["code"], format!("countersign::{code}"), "{args:?}");
    }
    let nowhere = Server::builder().twilio(&twilio);
    for (args, code) in [
        (["keys", "list"], "command::no_data"),
        (["queue", "status"], "command::no_data"),
        (["keyring", "rotate"], "keyring::failed"),
        (["backup", file], "backup::no_data"),
        (["restore", file], "restore::failed"),
    ] {
        let args: Vec<&str> = args.into_iter().chain(["--json"]).collect();
        let finished = nowhere.run(&args).await;
        let error = error(&finished, 1);
        assert_eq!(error["code"], format!("countersign::{code}"), "{args:?}");
    }
    // Findings are an answer; that some must be put right is a failure.
    let doctor = nowhere.env("COUNTERSIGN_OTP_DIGITS", "5");
    let finished = doctor.run(&["doctor", "--json"]).await;
    assert_eq!(error(&finished, 1)["code"], "countersign::doctor::errors");
    assert_eq!(finished.json()["errors"], 1);
}

#[tokio::test]
async fn a_command_line_that_is_not_understood_ends_with_2_in_json_too() {
    let builder = Server::builder().console();
    for args in [
        &["keys", "revoke", "--json"][..],
        &["keys", "--json", "nonsense"],
        &["queue", "replay", "x", "--all", "--json"],
        &["nonsense", "--json"],
    ] {
        let error = error(&builder.run(args).await, 2);
        assert_eq!(error["code"], "countersign::usage", "{args:?}");
        assert!(
            error["help"]
                .as_str()
                .is_some_and(|help| help.contains("Usage"))
        );
    }
    // To people as ever, and what is asked for is no failure.
    let finished = builder.run(&["nonsense"]).await;
    assert_eq!(finished.status.code(), Some(2), "{finished:?}");
    assert!(finished.stderr.contains("unrecognized subcommand"));
    let help = builder.run(&["--help", "--json"]).await.expect_success();
    assert!(help.stdout.contains("Exit status"), "{help:?}");
}
