//! `countersign users`, and the audit trail.

use countersign_tests::{FakeTwilio, Finished, Server, TOO_MANY_TRIES, nearly, phone};
use serde_json::{Value, json};

use super::{not_enabled, rejected, start};

async fn users(server: &Server, action: &str, id: &str) -> Finished {
    server.run(&["users", action, id, "--json"]).await
}

/// The kinds of a user's records, the newest first.
async fn kinds(server: &Server, id: &str) -> Vec<String> {
    let trail = server.get(&format!("/api/audit?user={id}&limit=200")).await;
    let trail = trail.expect_status(200).json();
    let entries = trail["entries"].as_array().unwrap();
    let kinds = entries.iter().map(|entry| entry["kind"].as_str().unwrap());
    kinds.map(str::to_owned).collect()
}

async fn lock(twilio: &FakeTwilio, server: &Server) -> String {
    let user = server.user("user-1");
    user.login_send().await.expect_success();
    let code = twilio.nth_code(&phone(1), 2).await;
    for n in 1..=5 {
        user.login(&nearly(&code, n)).await.expect_status(400);
    }
    user.login(&code)
        .await
        .expect_body(400, &rejected(TOO_MANY_TRIES));
    code
}

#[tokio::test]
async fn a_user_is_shown_with_a_server_and_without_one() {
    let (twilio, mut server) = start().await;
    server.user("user-1").enrol(&twilio, &phone(1)).await;
    let shown = users(&server, "show", "user-1").await;
    let shown = shown.expect_success().json();
    assert_eq!(shown["methods"], json!(["otp", "backup"]));
    assert_eq!(shown["phoneNumber"], "+1202•••••01");
    assert!(!shown["trail"]["entries"].as_array().unwrap().is_empty());
    let people = server.run(&["users", "show", "user-1"]).await;
    let people = people.expect_success().stdout;
    assert!(people.contains("phone         +1202•••••01"), "{people}");
    let unknown = users(&server, "show", "user-2").await;
    unknown.expect_refusal(&["nothing is known of this user"]);
    let malformed = server.run(&["users", "show", " x"]).await;
    malformed.expect_refusal(&["1 to 128 bytes"]);

    assert!(server.terminate().await.success());
    let again = users(&server, "show", "user-1").await;
    let again = again.expect_success().json();
    assert_eq!(again["methods"], shown["methods"]);
    // Both who looked before are in the trail.
    let by = |at: usize| &again["trail"]["entries"][at];
    for entry in [by(0), by(1)] {
        assert_eq!(entry["kind"], "user.shown");
        assert_eq!(entry["by"], json!({ "type": "operator" }));
    }
    assert_ne!(by(2)["kind"], "user.shown");
    let unknown = users(&server, "unlock", "user-2").await;
    unknown.expect_refusal(&["nothing is known of this user"]);
}

#[tokio::test]
async fn unlocking_gives_the_tries_back_and_is_in_the_trail() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    lock(&twilio, &server).await;
    // Backup codes are not locked by that.
    user.login(&enrolled.backup_codes[0]).await.expect_success();
    let done = users(&server, "unlock", "user-1").await;
    assert_eq!(done.expect_success().json(), json!({ "success": true }));
    user.login_send().await.expect_success();
    let code = twilio.nth_code(&phone(1), 3).await;
    user.login(&code).await.expect_success();
    let trail = server.get("/api/audit?user=user-1").await;
    let trail = trail.expect_status(200).json();
    let by_operator: Vec<&Value> = trail["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["by"] == json!({ "type": "operator" }))
        .collect();
    assert_eq!(by_operator.len(), 1, "{trail}");
}

#[tokio::test]
async fn a_reset_tells_the_user_and_lets_them_enrol_anew() {
    let (twilio, mut server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    // Without a server: what is to be told goes out with the next start.
    assert!(server.terminate().await.success());
    let done = server.run(&["users", "reset", "user-1"]).await;
    let said = "The user has no factor any more, and can enrol anew.\n";
    assert_eq!(done.expect_success().stdout, said);
    server.restart().await;
    let notice = twilio.notice_to(&phone(1)).await;
    assert!(!notice.is_empty());
    let user = server.user("user-1");
    user.login(&enrolled.backup_codes[0])
        .await
        .expect_body(400, &not_enabled());
    user.enrol(&twilio, &phone(2)).await;
}

#[tokio::test]
async fn a_deleted_user_is_forgotten_but_for_the_trail() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    let before = kinds(&server, "user-1").await;
    let sent = twilio.messages().len();
    users(&server, "delete", "user-1").await.expect_success();
    user.login(&enrolled.backup_codes[0])
        .await
        .expect_body(400, &not_enabled());
    let state = user.status().await.expect_status(200).json();
    assert_eq!(state["enabled"], false);
    let after = kinds(&server, "user-1").await;
    assert!(after.len() > before.len(), "{after:?}");
    assert_eq!(after[after.len() - before.len()..], before);
    assert_eq!(twilio.messages().len(), sent, "nobody is told");
}

#[tokio::test]
async fn r45_every_step_is_in_the_trail_newest_first_and_page_by_page() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    user.enable(&phone(1)).await.expect_success();
    let code = twilio.nth_code(&phone(1), 1).await;
    user.verify_enable(&nearly(&code, 1))
        .await
        .expect_status(400);
    let enabled = user.verify_enable(&code).await.expect_success().json();
    user.login_send().await.expect_success();
    let code = twilio.nth_code(&phone(1), 2).await;
    user.login(&nearly(&code, 1)).await.expect_status(400);
    user.login(&code).await.expect_success();
    let backup = enabled["backupCodes"][0].as_str().unwrap();
    let proof = user.prove(backup).await;
    server.token("user-1", "login").await;
    user.proving(&proof).disable().await.expect_success();
    let all = kinds(&server, "user-1").await;
    assert!(all.len() >= 9, "{all:?}");
    assert!(all.contains(&"token.issued".to_owned()), "{all:?}");

    // Three at a time.
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/audit?user=user-1&limit=3{cursor}");
        let page = server.get(&path).await.expect_status(200).json();
        let entries = page["entries"].as_array().unwrap();
        assert!((1..=3).contains(&entries.len()), "{page}");
        paged.extend(entries.clone());
        let Some(next) = page["next"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    let paged_kinds: Vec<&str> = paged
        .iter()
        .map(|entry| entry["kind"].as_str().unwrap())
        .collect();
    assert_eq!(paged_kinds, all);
    let times: Vec<&str> = paged
        .iter()
        .map(|entry| entry["at"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted_by(|later, earlier| later >= earlier));
    // Who has done it, and nothing that is secret or personal.
    let by = json!({ "type": "key", "id": "environment" });
    assert!(paged.iter().all(|entry| entry["by"] == by), "{paged:?}");
    let text = json!(paged).to_string();
    for secret in [&code, backup, &phone(1)[1..], "user-1", &proof] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn a_trail_is_one_users_and_for_applications_only() {
    let (twilio, server) = start().await;
    server.user("user-1").enrol(&twilio, &phone(1)).await;
    let empty = json!({ "entries": [] });
    server
        .get("/api/audit?user=user-2")
        .await
        .expect_body(200, &empty);
    for query in ["", "?user=", "?user=a&limit=0", "?user=a&cursor=x", "?id=a"] {
        let refused = server.get(&format!("/api/audit{query}")).await;
        refused.expect_problem(400);
    }
    let stranger = server.without_key().get("/api/audit?user=user-1").await;
    stranger.expect_problem(401);
}
