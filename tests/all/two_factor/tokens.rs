//! Tokens that an application hands to its user's device.

use countersign_tests::{Server, phone};
use hyper::Method;
use jiff::Timestamp;
use serde_json::json;

use super::{INVALID_CODE, expect_code, expect_proof_required, rejected, start};

#[tokio::test]
async fn a_token_is_made_for_a_purpose_and_for_so_long() {
    let (_twilio, server) = start().await;
    for (purpose, seconds) in [("login", 600), ("enroll", 1_800)] {
        let body = json!({ "purpose": purpose });
        let made = server.post("/api/users/user-1/tokens", &body).await;
        let made = made.expect_status(201).json();
        assert_eq!(made["purpose"], purpose);
        let token = made["token"].as_str().unwrap();
        assert!(token.starts_with("cst_") && !token.contains("user-1"));
        let ends: Timestamp = made["expiresAt"].as_str().unwrap().parse().unwrap();
        let left = ends.as_second() - Timestamp::now().as_second();
        assert!((seconds - 60..=seconds).contains(&left), "{left} s");
    }
    for body in [
        json!({}),
        json!({ "purpose": "admin" }),
        json!({ "purpose": 1 }),
    ] {
        let refused = server.post("/api/users/user-1/tokens", &body).await;
        let problem = refused.expect_problem(400).json();
        assert_eq!(problem["field"], "purpose");
    }
    let body = json!({ "purpose": "login" });
    for id in ["%20a", "a%00", "%ff", &"x".repeat(129)] {
        let path = format!("/api/users/{id}/tokens");
        server.post(&path, &body).await.expect_problem(400);
    }
    let path = "/api/users/user-1/tokens";
    let stranger = server.without_key().post(path, &body).await;
    stranger.expect_problem(401);
}

#[tokio::test]
async fn a_device_enrols_with_its_token() {
    let (twilio, server) = start().await;
    let device = server.device(&server.token("user-1", "enroll").await);
    let enrolled = device.enrol(&twilio, &phone(1)).await;
    let state = server.user("user-1").status().await.expect_status(200);
    assert_eq!(state.json()["enabled"], true);
    // With a factor, the token alone changes nothing any more.
    let answers = [
        device.enable(&phone(2)).await,
        device.totp().await,
        device.proving("x").enable(&phone(2)).await,
    ];
    for answer in answers {
        let status = answer.status;
        assert!([401, 403].contains(&status), "{answer:?}");
        answer.expect_problem(status);
    }
    server
        .user("user-1")
        .login(&enrolled.backup_codes[0])
        .await
        .expect_success();
}

#[tokio::test]
async fn an_enrolment_token_of_a_user_with_a_factor_serves_nothing() {
    let (twilio, server) = start().await;
    server.user("user-1").enrol(&twilio, &phone(1)).await;
    let device = server.device(&server.token("user-1", "enroll").await);
    let sent = twilio.messages().len();
    let answers = [
        device.enable(&phone(2)).await,
        device.verify_enable("123456").await,
        device.totp().await,
        device.totp_verify("123456").await,
    ];
    for answer in answers {
        assert_ne!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(twilio.messages().len(), sent);
}

#[tokio::test]
async fn a_device_finishes_one_login_with_its_token_and_nothing_else() {
    let (twilio, server) = start().await;
    let enrolled = server.user("user-1").enrol(&twilio, &phone(1)).await;
    let device = server.device(&server.token("user-1", "login").await);
    device.login_send().await.expect_success();
    let code = twilio.nth_code(&phone(1), 2).await;
    device
        .login("000-no-such-code")
        .await
        .expect_body(400, &rejected(INVALID_CODE));
    let login = device.login(&code).await.expect_success().json();
    assert_eq!(login["method"], "otp");
    // Used.
    let used = [
        device.login_send().await,
        device.login(&enrolled.backup_codes[0]).await,
    ];
    for answer in used {
        expect_code(answer, 401, "wrong-credentials");
    }
    // Another login is another token.
    let device = server.device(&server.token("user-1", "login").await);
    device
        .login(&enrolled.backup_codes[0])
        .await
        .expect_success();
}

#[tokio::test]
async fn r21_a_login_token_opens_no_other_route() {
    let (twilio, server) = start().await;
    let enrolled = server.user("user-1").enrol(&twilio, &phone(1)).await;
    let token = server.token("user-1", "login").await;
    let device = server.device(&token).proving(&enrolled.proof);
    let answers = [
        device.status().await,
        device.enable(&phone(2)).await,
        device.verify_enable("123456").await,
        device.totp().await,
        device.totp_verify("123456").await,
        device.new_backup_codes().await,
        device.disable().await,
        device.post("/api/otp/send", &json!({})).await,
        device.post("/api/otp/verify", &json!({})).await,
        device.post("/api/messages", &json!({})).await,
        device
            .post("/api/users/user-1/tokens", &json!({ "purpose": "enroll" }))
            .await,
    ];
    for answer in answers {
        expect_code(answer, 403, "token-scope");
    }
    let client = server.with_key(&token);
    for path in ["/api/audit?user=user-1", "/api/messages/x", "/api/nothing"] {
        expect_code(client.get(path).await, 403, "token-scope");
    }
    client.get("/admin/queue").await.expect_status(403);
    // It is still good for what it is for.
    device
        .login(&enrolled.backup_codes[0])
        .await
        .expect_success();
}

#[tokio::test]
async fn a_token_is_its_users_alone_and_whoever_holds_it_says_nothing_of_an_address() {
    let (twilio, server) = start().await;
    server.user("user-1").enrol(&twilio, &phone(1)).await;
    let two = server.user("user-2").enrol(&twilio, &phone(2)).await;
    let device = server.device(&server.token("user-1", "login").await);
    device
        .login(&two.backup_codes[0])
        .await
        .expect_body(400, &rejected(INVALID_CODE));
    // The token says who it is.
    let named = device.header("x-countersign-user", "user-2");
    named.login(&two.backup_codes[0]).await.expect_unreadable();
    // An address from there is not looked at: not even whether it is one.
    let placed = device.header("x-countersign-client-address", "nowhere");
    placed.login_send().await.expect_success();
    assert_eq!(twilio.requests_to(&phone(2)).len(), 1);
}

#[tokio::test]
async fn a_token_that_is_over_or_changed_is_401() {
    let twilio = countersign_tests::FakeTwilio::start().await;
    let server = Server::builder().twilio(&twilio).start().await;
    let token = server.token("user-1", "login").await;
    let shorter = &token[..token.len() - 1];
    for wrong in [shorter, "cst_", "cst_AAAA", &format!("{token}A")] {
        let answer = server.device(wrong).login_send().await;
        expect_code(answer, 401, "wrong-credentials");
    }
    // Of another server.
    let other = Server::builder().twilio(&twilio).start().await;
    let foreign = other.token("user-1", "login").await;
    expect_code(
        server.device(&foreign).login_send().await,
        401,
        "wrong-credentials",
    );
}

#[tokio::test]
async fn a_token_ends_with_the_key_that_asked_for_it() {
    let (twilio, server) = start().await;
    server.user("user-1").enrol(&twilio, &phone(1)).await;
    let created = server.run(&["keys", "create", "--json"]).await;
    let created = created.expect_success().json();
    let key = created["key"].as_str().unwrap();
    let token = server.with_key(key).token("user-1", "login").await;
    server.device(&token).login_send().await.expect_success();
    let id = created["id"].as_str().unwrap();
    server.run(&["keys", "revoke", id]).await.expect_success();
    let answer = server.device(&token).login_send().await;
    expect_code(answer, 401, "wrong-credentials");
}

#[tokio::test]
async fn a_token_survives_a_restart_and_is_answered_again_under_its_key() {
    let (twilio, mut server) = start().await;
    server.user("user-1").enrol(&twilio, &phone(1)).await;
    let body = json!({ "purpose": "login" });
    let path = "/api/users/user-1/tokens";
    let first = server.post_once(path, "k-1", &body).await;
    let first = first.expect_status(201);
    let again = server.post_once(path, "k-1", &body).await;
    assert_eq!(again.expect_status(201).body, first.body);
    // Another user under the same key is another request.
    let other = server.post_once("/api/users/user-2/tokens", "k-1", &body);
    assert_ne!(other.await.expect_status(201).body, first.body);
    server.restart().await;
    let token = first.json()["token"].as_str().unwrap().to_owned();
    server.device(&token).login_send().await.expect_success();
    twilio.nth_code(&phone(1), 2).await;
}

#[tokio::test]
async fn open_mode_has_tokens_too_and_they_end_with_it() {
    let server = Server::builder().console().no_key().start().await;
    let token = server.token("user-1", "enroll").await;
    let device = server.device(&token);
    device.enable(&phone(1)).await.expect_success();
    let code = server.console_code(1).await;
    device.verify_enable(&code).await.expect_success();
    let token = server.token("user-1", "login").await;
    server.device(&token).login_send().await.expect_success();
    server.run(&["keys", "create"]).await.expect_success();
    let answer = server.device(&token).login_send().await;
    expect_code(answer, 401, "wrong-credentials");
}

#[tokio::test]
async fn a_token_is_no_key_and_a_key_no_token_in_any_header() {
    let (twilio, server) = start().await;
    let enrolled = server.user("user-1").enrol(&twilio, &phone(1)).await;
    let token = server.token("user-1", "login").await;
    let stranger = server.without_key();
    let answer = stranger
        .request(
            Method::POST,
            &format!("/api/login/2fa?access_token={token}"),
            &[("content-type", "application/json"), ("x-token", &token)],
            json!({ "code": enrolled.backup_codes[0] }).to_string(),
        )
        .await
        .unwrap();
    answer.expect_problem(401);
    // A proof opens nothing either.
    let proof = server.with_key(&enrolled.proof);
    proof
        .post("/api/2fa/disable", &json!({}))
        .await
        .expect_problem(401);
    let user = server.user("user-1");
    expect_proof_required(user.proving(&token).disable().await);
}
