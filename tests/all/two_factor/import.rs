//! `countersign import`: users of another system go on with what they have.

use std::fmt::Write as _;

use countersign_tests::{Builder, Server, phone, totp};
use serde_json::{Value, json};

use super::{INVALID_CODE, not_enabled, rejected, start};

/// 160 bits, as an authenticator app was told them elsewhere.
const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
/// `A1B2C3D4` and `9F8E7D6C`, hashed by another system (bcrypt, cost 4).
const HASHES: [&str; 2] = [
    "$2b$04$Y66UpaQgWQKnpcS6VbhgOO7QSYAcs.liuY4RxigJvSyX9V.5tBVLu",
    "$2b$04$hibokea8gOktnDF1wENEf.IGzo7rLwqslWUSfRO1DtbB.b.UPbd/a",
];

fn write(builder: &Builder, lines: &[Value]) -> String {
    let mut text = String::new();
    for line in lines {
        writeln!(text, "{line}").unwrap();
    }
    let path = builder.home().join("users.jsonl");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn moving() -> Vec<Value> {
    vec![
        json!({ "user": "old-1", "phoneNumber": phone(1), "backupCodes": HASHES }),
        json!({ "user": "old-2", "totpSecret": SECRET }),
        json!({ "user": "old-3", "phoneNumber": "+1 (202) 456-0003", "totpSecret": SECRET }),
    ]
}

async fn check_moved(server: &Server, twilio: &countersign_tests::FakeTwilio) {
    // The phone, as it was written there.
    let one = server.user("old-1");
    one.login_send().await.expect_success();
    let code = twilio.nth_code(&phone(1), 1).await;
    let login = one.login(&code).await.expect_success().json();
    assert_eq!(login["method"], "otp");
    // Old codes go on, each once.
    let login = one.login("9F8E7D6C").await.expect_success().json();
    assert_eq!(
        (&login["method"], &login["backupCodesLeft"]),
        (&json!("backup"), &json!(1))
    );
    one.login("9F8E7D6C")
        .await
        .expect_body(400, &rejected(INVALID_CODE));
    one.login("A1B2C3D4").await.expect_success();
    // The app.
    let two = server.user("old-2");
    let login = two.login(&totp(SECRET, 0)).await.expect_success().json();
    assert_eq!(login["method"], "totp");
    let three = server
        .user("old-3")
        .status()
        .await
        .expect_status(200)
        .json();
    assert_eq!(three["methods"], json!(["otp", "totp"]));
    assert_eq!(three["phoneNumber"], "+1202•••••03");
}

#[tokio::test]
async fn users_move_in_while_the_server_runs_and_go_on_with_what_they_have() {
    let (twilio, server) = start().await;
    let file = write(server.setup(), &moving());
    let report = server.run(&["import", &file, "--json"]).await;
    let want = json!({ "movedIn": 3, "present": 0, "refused": [] });
    assert_eq!(report.expect_success().json(), want);
    assert!(twilio.messages().is_empty(), "nobody is told");
    check_moved(&server, &twilio).await;
    // Typed again: who is in stays.
    let again = server.run(&["import", &file]).await.expect_success();
    let said = "0 users were moved in, 3 have a factor here already, 0 lines were refused.\n";
    assert_eq!(again.stdout, said);
    let trail = server.get("/api/audit?user=old-1").await.json();
    let moved = trail["entries"].as_array().unwrap().last().unwrap();
    assert_eq!(moved["by"], json!({ "type": "operator" }));
}

#[tokio::test]
async fn users_move_in_before_the_first_start() {
    let twilio = countersign_tests::FakeTwilio::start().await;
    let builder = Server::builder().twilio(&twilio);
    // The folder must be there, so that none is made by a mistyped name.
    let file = write(&builder, &moving());
    let nowhere = builder.run(&["import", &file]).await;
    nowhere.expect_refusal(&["there is no data"]);
    let mut server = builder.clone().start().await;
    assert!(server.terminate().await.success());
    builder.run(&["import", &file]).await.expect_success();
    server.restart().await;
    check_moved(&server, &twilio).await;
}

#[tokio::test]
async fn what_is_refused_is_told_with_its_line_and_the_others_are_in() {
    let (_twilio, server) = start().await;
    let lines = [
        json!({ "user": "good-1", "phoneNumber": phone(1) }),
        json!({ "user": "bad-1", "phoneNumber": "12" }),
        json!({ "user": "bad-9", "phoneNumber": "+1 800 234 5678" }),
        json!({ "user": "bad-2" }),
        json!({ "user": "bad-3", "totpSecret": "GEZDGNBV" }),
        json!({ "user": "bad-4", "totpSecret": "not base32!" }),
        json!({ "user": "bad-5", "phoneNumber": phone(2), "backupCodes": ["canary"] }),
        json!({ "user": " bad-6", "phoneNumber": phone(2) }),
        json!({ "user": "bad-7", "phone": phone(2) }),
        json!(["bad-8"]),
        json!({ "user": "good-2", "phoneNumber": phone(2) }),
    ];
    let file = write(server.setup(), &lines);
    let report = server.run(&["import", &file, "--json"]).await;
    assert_eq!(report.status.code(), Some(1), "{report:?}");
    let shown = report.json();
    assert_eq!(
        (&shown["movedIn"], &shown["present"]),
        (&json!(2), &json!(0))
    );
    let refused = shown["refused"].as_array().unwrap();
    let numbers: Vec<u64> = refused
        .iter()
        .map(|line| line["line"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    for (at, want) in [
        "Invalid phone number: add the country code, for example +1",
        "This kind of number cannot receive codes",
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(&refused[at]["reason"], want);
    }
    for line in refused {
        let reason = line["reason"].as_str().unwrap();
        assert!(!reason.is_empty() && !reason.contains("canary"), "{line}");
    }
    for n in [1, 2] {
        let user = server.user(&format!("good-{n}"));
        user.login_send().await.expect_success();
    }
    for n in 1..=5 {
        let user = server.user(&format!("bad-{n}"));
        user.login_send().await.expect_body(400, &not_enabled());
    }
}

#[tokio::test]
async fn many_users_move_in_and_an_import_that_was_broken_off_goes_on() {
    let (_twilio, mut server) = start().await;
    let all: Vec<Value> = (0..500)
        .map(|n| json!({ "user": format!("old-{n}"), "phoneNumber": phone(n) }))
        .collect();
    // As if it had been broken off in the middle, and the server with it.
    let file = write(server.setup(), &all[..217]);
    server.run(&["import", &file]).await.expect_success();
    server.restart().await;
    let file = write(server.setup(), &all);
    let report = server.run(&["import", &file, "--json"]).await;
    let want = json!({ "movedIn": 283, "present": 217, "refused": [] });
    assert_eq!(report.expect_success().json(), want);
    for n in [0, 216, 217, 499] {
        let user = server.user(&format!("old-{n}"));
        let state = user.status().await.expect_status(200).json();
        assert_eq!(state["enabled"], true, "old-{n}");
    }
}
