//! The seed's flow, exactly: enrol, log in by a message, by an app, by a backup code.

use std::collections::BTreeSet;

use countersign_tests::{TOO_MANY_SENDS, TOO_MANY_TRIES, WRONG_CODE, nearly, phone, totp, wrong};
use jiff::Timestamp;
use serde_json::json;

use super::{INVALID_CODE, expect_code, not_enabled, rejected, start};

#[tokio::test]
async fn a_user_enrols_and_logs_in_as_in_the_seed() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    // Nothing yet.
    user.login_send().await.expect_body(400, &not_enabled());
    user.login("123456").await.expect_body(400, &not_enabled());
    let uninitiated = json!({ "error": "2FA setup not initiated" });
    user.verify_enable("123456")
        .await
        .expect_body(400, &uninitiated);
    let invalid = json!({ "error": "Invalid phone number" });
    user.enable("not a number").await.expect_body(400, &invalid);

    // Enrolment.
    let number = phone(1);
    user.enable(" +1 (202) 456-0001 ").await.expect_success();
    let code = twilio.nth_code(&number, 1).await;
    user.verify_enable(&wrong(&code))
        .await
        .expect_body(400, &rejected(WRONG_CODE));
    // Pending is not enabled.
    user.login_send().await.expect_body(400, &not_enabled());
    let enabled = user.verify_enable(&code).await.expect_success().json();
    let codes = enabled["backupCodes"].as_array().unwrap();
    let different: BTreeSet<_> = codes.iter().map(ToString::to_string).collect();
    assert_eq!((codes.len(), different.len()), (10, 10));
    assert!(enabled["proof"].is_string(), "{enabled}");
    user.verify_enable(&code)
        .await
        .expect_body(400, &uninitiated);

    // Login by a message.
    let sent = user.login_send().await.expect_success().json();
    let expires: Timestamp = sent["expiresAt"].as_str().unwrap().parse().unwrap();
    assert!(expires > Timestamp::now());
    let code = twilio.nth_code(&number, 2).await;
    user.login(&wrong(&code))
        .await
        .expect_body(400, &rejected(INVALID_CODE));
    let login = user.login(&code).await.expect_success().json();
    assert_eq!(login["method"], "otp");
    assert!(login["proof"].is_string(), "{login}");
    user.login(&code)
        .await
        .expect_body(400, &rejected(INVALID_CODE));

    // By a backup code, once.
    let backup = codes[3].as_str().unwrap();
    let login = user.login(backup).await.expect_success().json();
    assert_eq!(login["method"], "backup");
    assert_eq!(login["backupCodesLeft"], 9);
    user.login(backup)
        .await
        .expect_body(400, &rejected(INVALID_CODE));
}

#[tokio::test]
async fn the_messages_text_is_the_contracts() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    user.enable(&phone(1)).await.expect_success();
    let code = twilio.nth_code(&phone(1), 1).await;
    let text = format!("Your verification code is: {code}\n\nValid for 10 minutes.");
    assert_eq!(twilio.messages()[0].body, text);
    user.verify_enable(&code).await.expect_success();
    user.login_send().await.expect_success();
    let code = twilio.nth_code(&phone(1), 2).await;
    let text = format!("Your verification code is: {code}\n\nValid for 10 minutes.");
    assert_eq!(twilio.messages()[1].body, text);
    // Enrolling sends no notice, nor does a login.
    assert_eq!(twilio.messages().len(), 2);
}

#[tokio::test]
async fn r46_an_authenticator_app_enrols_and_logs_in_without_a_phone() {
    let (_twilio, server) = start().await;
    let user = server.user("user-1");
    expect_code(user.totp_verify("123456").await, 400, "no-such-factor");
    let pending = user.totp().await.expect_success().json();
    let (secret, uri) = (
        pending["secret"].as_str().unwrap(),
        pending["otpauthUri"].as_str().unwrap(),
    );
    assert!(
        uri.starts_with("otpauth://totp/countersign:user-1?"),
        "{uri}"
    );
    assert!(uri.contains(secret) && uri.contains("issuer=countersign"));
    let image = pending["qrSvg"].as_str().unwrap();
    assert!(image.starts_with("<svg ") && image.ends_with("</svg>"));
    assert!(!image.contains(secret), "the image is drawn, not written");
    user.login_send().await.expect_body(400, &not_enabled());
    user.totp_verify(&wrong(&totp(secret, 0)))
        .await
        .expect_status(400);
    let enabled = user.totp_verify(&totp(secret, 0)).await.expect_success();
    assert!(enabled.json()["proof"].is_string());
    assert_eq!(enabled.json()["backupCodes"].as_array().unwrap().len(), 10);

    let state = user.status().await.expect_status(200).json();
    assert_eq!(state["methods"], json!(["totp", "backup"]));
    assert_eq!(state["phoneNumber"], json!(null));
    // There is no phone to send to.
    user.login_send().await.expect_status(400);
    let login = user.login(&totp(secret, 1)).await.expect_success().json();
    assert_eq!(login["method"], "totp");
}

#[tokio::test]
async fn a_user_is_told_what_there_is_with_a_masked_number() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let nothing = json!({
        "enabled": false, "methods": [], "phoneNumber": null, "backupCodesLeft": null,
        "pending": {"otp": null, "totp": null}, "locks": [],
    });
    user.status().await.expect_body(200, &nothing);
    user.enable(&phone(1)).await.expect_success();
    let pending = user.status().await.expect_status(200).json();
    assert_eq!(pending["enabled"], false);
    assert!(pending["pending"]["otp"].is_string(), "{pending}");
    let code = twilio.nth_code(&phone(1), 1).await;
    user.verify_enable(&code).await.expect_success();
    let state = user.status().await.expect_status(200).json();
    let want = json!({
        "enabled": true, "methods": ["otp", "backup"], "phoneNumber": "+1202•••••01",
        "backupCodesLeft": 10, "pending": {"otp": null, "totp": null}, "locks": [],
    });
    assert_eq!(state, want);
}

#[tokio::test]
async fn backup_codes_are_taken_in_any_dress() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let codes = user.enrol(&twilio, &phone(1)).await.backup_codes;
    for code in &codes {
        let groups: Vec<&str> = code.split('-').collect();
        assert!(groups.len() > 1, "{code} has no hyphens");
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        assert!(groups.concat().bytes().all(plain), "{code}");
    }
    for code in [
        codes[0].clone(),
        codes[1].replace('-', ""),
        codes[2].to_lowercase(),
        codes[3].replace('-', " "),
    ] {
        let login = user.login(&code).await.expect_success().json();
        assert_eq!(login["method"], "backup", "{code}");
    }
    let state = user.status().await.expect_status(200).json();
    assert_eq!(state["backupCodesLeft"], 6);
}

#[tokio::test]
async fn a_second_enrolment_takes_the_place_of_the_first() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    user.enable(&phone(1)).await.expect_success();
    let first = twilio.nth_code(&phone(1), 1).await;
    user.enable(&phone(2)).await.expect_success();
    let second = twilio.nth_code(&phone(2), 1).await;
    assert_ne!(first, second);
    user.verify_enable(&first)
        .await
        .expect_body(400, &rejected(WRONG_CODE));
    user.verify_enable(&second).await.expect_success();
    let state = user.status().await.expect_status(200).json();
    assert_eq!(state["phoneNumber"], "+1202•••••02");
}

#[tokio::test]
async fn enabling_and_login_sends_are_limited_as_otp_sends_are() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    for _ in 0..3 {
        user.enable(&phone(1)).await.expect_success();
    }
    let limited = json!({ "error": TOO_MANY_SENDS });
    let refused = user.enable(&phone(1)).await.expect_body(400, &limited);
    assert!((1..=60).contains(&refused.retry_after().as_secs()));

    let other = server.user("user-2");
    other.enrol(&twilio, &phone(2)).await;
    for _ in 0..3 {
        other.login_send().await.expect_success();
    }
    let refused = other.login_send().await.expect_body(400, &limited);
    assert!((1..=60).contains(&refused.retry_after().as_secs()));
}

#[tokio::test]
async fn from_the_sixth_wrong_code_on_an_enrolment_and_a_login_are_locked() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    user.enable(&phone(1)).await.expect_success();
    let code = twilio.nth_code(&phone(1), 1).await;
    for n in 1..=5 {
        user.verify_enable(&nearly(&code, n))
            .await
            .expect_body(400, &rejected(WRONG_CODE));
    }
    let locked = user.verify_enable(&code).await;
    let locked = locked.expect_body(400, &rejected(TOO_MANY_TRIES));
    assert!(locked.retry_after().as_secs() >= 1);

    let other = server.user("user-2");
    other.enrol(&twilio, &phone(2)).await;
    other.login_send().await.expect_success();
    let code = twilio.nth_code(&phone(2), 2).await;
    for n in 1..=5 {
        other
            .login(&nearly(&code, n))
            .await
            .expect_body(400, &rejected(INVALID_CODE));
    }
    let locked = other.login(&code).await;
    locked.expect_body(400, &rejected(TOO_MANY_TRIES));
}

#[tokio::test]
async fn the_user_must_be_named_by_one_id() {
    let (_twilio, server) = start().await;
    let body = json!({ "phoneNumber": phone(1) });
    let unnamed = server.post("/api/2fa/enable", &body).await;
    let unnamed = unnamed.expect_unreadable();
    assert!(unnamed.text().contains("X-Countersign-User"));
    for id in ["", " ", &"x".repeat(129), "a\u{1}b"] {
        let raw = server.raw_request(
            "POST",
            "/api/login/2fa/send",
            &[
                ("X-Countersign-User", id),
                ("Content-Type", "application/json"),
                ("Content-Length", "2"),
            ],
            b"{}",
        );
        let answer = server.raw(&raw).await.unwrap();
        assert_eq!(answer.status, 400, "{id:?}: {answer:?}");
    }
    let status = server.get("/api/2fa").await;
    status.expect_problem(400);
    let longest = server.user(&"x".repeat(128));
    longest.status().await.expect_status(200);
    // Of two, a proxy in front might believe the other one.
    let two = [
        ("X-Countersign-User", "a"),
        ("X-Countersign-User", "b"),
        ("Content-Type", "application/json"),
        ("Content-Length", "2"),
    ];
    let raw = server.raw_request("POST", "/api/login/2fa/send", &two, b"{}");
    let answer = server.raw(&raw).await.unwrap();
    answer.expect_unreadable();
}

#[tokio::test]
async fn users_do_not_know_each_other() {
    let (twilio, server) = start().await;
    let (one, two) = (server.user("user-1"), server.user("user-2"));
    // One phone may be two users'.
    one.enable(&phone(1)).await.expect_success();
    let first = twilio.nth_code(&phone(1), 1).await;
    two.enable(&phone(1)).await.expect_success();
    let second = twilio.nth_code(&phone(1), 2).await;
    assert_ne!(first, second);
    two.verify_enable(&first)
        .await
        .expect_body(400, &rejected(WRONG_CODE));
    let codes = one.verify_enable(&first).await.expect_success().json();
    two.verify_enable(&second).await.expect_success();
    let backup = codes["backupCodes"][0].as_str().unwrap();
    two.login(backup)
        .await
        .expect_body(400, &rejected(INVALID_CODE));
    one.login(backup).await.expect_success();
}

#[tokio::test]
async fn factors_survive_a_kill() {
    let (twilio, mut server) = start().await;
    let enrolled = server.user("user-1").enrol(&twilio, &phone(1)).await;
    let secret = server.user("user-2").enrol_totp().await;
    server.kill().await;
    server.restart().await;
    let (one, two) = (server.user("user-1"), server.user("user-2"));
    one.login(&enrolled.backup_codes[0]).await.expect_success();
    two.login(&totp(&secret, 1)).await.expect_success();
    server.restart().await;
    let (one, two) = (server.user("user-1"), server.user("user-2"));
    one.login(&enrolled.backup_codes[0])
        .await
        .expect_body(400, &rejected(INVALID_CODE));
    two.login(&totp(&secret, 1))
        .await
        .expect_body(400, &rejected(INVALID_CODE));
}
