//! With a factor, nothing about a user's factors changes without a fresh proof of one.

use countersign_tests::{User, phone, totp};
use serde_json::json;

use super::{INVALID_CODE, expect_code, expect_proof_required, not_enabled, rejected, start};

/// Tries every change.
async fn change_everything(user: &User) -> Vec<countersign_tests::Answer> {
    vec![
        user.enable(&phone(7)).await,
        user.totp().await,
        user.new_backup_codes().await,
        user.disable().await,
        user.post("/api/2fa/disable", &json!({ "method": "otp" }))
            .await,
    ]
}

#[tokio::test]
async fn r23_with_a_factor_every_change_needs_a_proof() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    let before = user.status().await.expect_status(200).json();
    let sent = twilio.messages().len();
    for answer in change_everything(&user).await {
        expect_proof_required(answer);
    }
    // What is no proof is none.
    for wrong in ["", "x", "a.b.c", &enrolled.proof[1..], "null"] {
        for answer in change_everything(&user.proving(wrong)).await {
            expect_proof_required(answer);
        }
    }
    // Of two, a proxy in front might believe the other one.
    let proof = enrolled.proof.as_str();
    let two = [
        ("X-Countersign-User", "user-1"),
        ("X-Countersign-Proof", proof),
        ("X-Countersign-Proof", proof),
        ("Content-Type", "application/json"),
        ("Content-Length", "2"),
    ];
    let raw = server.raw_request("POST", "/api/2fa/disable", &two, b"{}");
    expect_proof_required(server.raw(&raw).await.unwrap());
    assert_eq!(user.status().await.expect_status(200).json(), before);
    assert_eq!(twilio.messages().len(), sent, "nothing was sent");
    user.login(&enrolled.backup_codes[0]).await.expect_success();
}

#[tokio::test]
async fn r23_another_users_proof_changes_nothing() {
    let (twilio, server) = start().await;
    let (one, two) = (server.user("user-1"), server.user("user-2"));
    one.enrol(&twilio, &phone(1)).await;
    let other = two.enrol(&twilio, &phone(2)).await;
    for answer in change_everything(&one.proving(&other.proof)).await {
        expect_proof_required(answer);
    }
    // It was not used up by that.
    two.proving(&other.proof)
        .new_backup_codes()
        .await
        .expect_success();
}

#[tokio::test]
async fn r23_a_proof_is_good_for_one_change() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    let proving = user.proving(&enrolled.proof);
    let new = proving.new_backup_codes().await.expect_success().json();
    expect_proof_required(proving.new_backup_codes().await);
    expect_proof_required(proving.disable().await);
    // The old set is dead, the new one lives.
    user.login(&enrolled.backup_codes[0])
        .await
        .expect_body(400, &rejected(INVALID_CODE));
    let code = new["backupCodes"][0].as_str().unwrap();
    let proof = user.prove(code).await;
    user.proving(&proof).disable().await.expect_success();
    user.login_send().await.expect_body(400, &not_enabled());
}

#[tokio::test]
async fn a_change_of_number_keeps_the_old_one_until_the_new_one_is_verified() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    user.proving(&enrolled.proof)
        .enable(&phone(2))
        .await
        .expect_success();
    let code = twilio.nth_code(&phone(2), 1).await;
    let state = user.status().await.expect_status(200).json();
    assert_eq!(state["phoneNumber"], "+1202•••••01");
    user.login_send().await.expect_success();
    twilio.nth_code(&phone(1), 2).await;
    user.verify_enable(&code).await.expect_success();
    let state = user.status().await.expect_status(200).json();
    assert_eq!(state["phoneNumber"], "+1202•••••02");
    // The old number is told.
    let notice = twilio.notice_to(&phone(1)).await;
    assert!(!notice.is_empty());
}

#[tokio::test]
async fn an_app_beside_a_phone_needs_a_proof_to_be_asked_for_and_its_code_to_count() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    let pending = user.proving(&enrolled.proof).totp().await;
    let pending = pending.expect_success().json();
    let secret = pending["secret"].as_str().unwrap();
    user.login(&totp(secret, 0))
        .await
        .expect_body(400, &rejected(INVALID_CODE));
    let enabled = user.totp_verify(&totp(secret, 0)).await.expect_success();
    // The set that there is stays.
    assert!(enabled.json().get("backupCodes").is_none(), "{enabled:?}");
    user.login(&enrolled.backup_codes[0]).await.expect_success();
    let proof = user.prove(&totp(secret, 1)).await;
    let one = json!({ "method": "otp" });
    user.proving(&proof)
        .post("/api/2fa/disable", &one)
        .await
        .expect_success();
    let state = user.status().await.expect_status(200).json();
    assert_eq!(state["methods"], json!(["totp", "backup"]));
}

#[tokio::test]
async fn without_a_factor_there_is_nothing_to_disable_or_to_renew() {
    let (_twilio, server) = start().await;
    let user = server.user("user-1");
    expect_code(user.disable().await, 400, "no-such-factor");
    expect_code(user.new_backup_codes().await, 400, "no-such-factor");
}

#[tokio::test]
async fn a_disabled_user_is_told_and_enrols_anew_without_a_proof() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    user.proving(&enrolled.proof)
        .disable()
        .await
        .expect_success();
    let notice = twilio.notice_to(&phone(1)).await;
    assert!(!notice.is_empty());
    user.login(&enrolled.backup_codes[0])
        .await
        .expect_body(400, &not_enabled());
    user.enrol(&twilio, &phone(2)).await;
}

#[tokio::test]
async fn a_secret_is_answered_again_under_its_key_and_a_missing_proof_is_not_kept() {
    let (twilio, server) = start().await;
    let user = server.user("user-1").header("idempotency-key", "k-1");
    user.enable(&phone(1)).await.expect_success();
    let code = twilio.nth_code(&phone(1), 1).await;
    let first = user.verify_enable(&code).await.expect_success();
    let again = user.verify_enable(&code).await.expect_success();
    assert_eq!(first.body, again.body, "the codes were lost and are back");
    assert_eq!(again.header("idempotency-replayed"), Some("true"));

    // The same key, without the proof and then with it.
    let proof = first.json()["proof"].as_str().unwrap().to_owned();
    expect_proof_required(user.new_backup_codes().await);
    let renewed = user.proving(&proof).new_backup_codes().await;
    let renewed = renewed.expect_success();
    let again = user.proving(&proof).new_backup_codes().await;
    assert_eq!(again.expect_success().body, renewed.body);
}
