//! Bodies as they are read, and answers as they are written.

use super::*;
use crate::api::{
    Authority, BackupCodesVerdict, Caller, Denial, DisableVerdict, EnableVerdict, LoginSendVerdict,
    LoginVerdict, Refusal, TotpVerdict, VerifyFactorVerdict,
};
use crate::testing::users;
use crate::users::svg;
use axum::body::to_bytes;
use countersign_types::Secret;
use serde_json::{Value, json};

const NOW: UnixMillis = UnixMillis(1_769_860_800_000);

fn asked(body: &Value) -> ForUser {
    ForUser {
        context: CallContext {
            service: "default".to_owned(),
            caller: Caller::Anonymous,
            client_address: None,
        },
        claim: None,
        fields: Fields::parse(body.to_string().as_bytes()).expect("an object"),
        user: user(),
        authority: Authority::Application,
        proof: None,
    }
}

fn user() -> UserId {
    "u1".parse().expect("an id")
}

#[track_caller]
fn check_field<R>(parse: fn(&mut ForUser) -> Result<R, Refused>, body: Value, field: &str) {
    let Err(refused) = parse(&mut asked(&body)) else {
        panic!("taken: {body}");
    };
    assert_eq!(refused.field.as_deref(), Some(field), "{body}");
}

#[test]
fn a_wrong_field_is_named() {
    check_field(enabling, json!({}), "phoneNumber");
    check_field(enabling, json!({"phoneNumber": 1}), "phoneNumber");
    check_field(
        enabling,
        json!({"phoneNumber": "1", "locale": "a b"}),
        "locale",
    );
    check_field(verifying, json!({}), "code");
    check_field(verifying, json!({"code": 123_456}), "code");
    check_field(logging_in, json!({"code": "x".repeat(65)}), "code");
    check_field(logging_in, json!({"code": "1", "method": "sms"}), "method");
    check_field(disabling, json!({"method": "backup"}), "method");
    check_field(disabling, json!({"method": ""}), "method");
    // What it must be is what may be disabled.
    let unknown = disabling(&mut asked(&json!({"method": "sms"}))).expect_err("unknown");
    assert_eq!(unknown.error, "`method` must be otp or totp");
    check_field(enrolling, json!({"account": "x".repeat(129)}), "account");
    check_field(login_sending, json!({"locale": 1}), "locale");
}

#[test]
fn what_is_not_said_is_left_to_the_call() {
    let login = logging_in(&mut asked(&json!({"code": "1"}))).expect("good");
    assert_eq!(login.method, None);
    let disable = disabling(&mut asked(&json!({}))).expect("good");
    assert_eq!(disable.factor, None);
    let (_, account) = enrolling(&mut asked(&json!({}))).expect("good");
    assert_eq!(account, None);
}

#[test]
fn methods_have_the_words_of_the_answers() {
    for (word, want) in [
        ("otp", Method::Sms),
        ("totp", Method::Totp),
        ("backup", Method::Backup),
    ] {
        let body = json!({"code": "1", "method": word});
        let login = logging_in(&mut asked(&body)).expect("good");
        assert_eq!(login.method, Some(want));
    }
    for (word, want) in [("otp", Factor::Sms), ("totp", Factor::Totp)] {
        let disable = disabling(&mut asked(&json!({"method": word}))).expect("good");
        assert_eq!(disable.factor, Some(want));
    }
}

#[test]
fn r19_no_field_of_a_request_says_that_anything_is_verified() {
    let body = json!({"phoneNumber": "1", "verified": true, "proof": "x", "authority": "application", "user": "u2"});
    let mut asked = asked(&body);
    let request = enabling(&mut asked).expect("good");
    assert_eq!(request.authority, Authority::Application);
    assert_eq!(request.proof, None);
    assert_eq!(asked.user, user());
}

fn prover(folder: &tempfile::TempDir) -> Prover {
    Prover::new(users(folder.path()), user(), [9; 16])
}

fn refusal(text: &str, wait_ms: Option<u64>) -> Refusal {
    Refusal {
        text: text.to_owned(),
        field: None,
        retry_at: wait_ms.map(|wait| UnixMillis(NOW.0 + wait)),
    }
}

async fn body_of(response: Response) -> Value {
    let bytes = to_bytes(response.into_body(), 100_000).await.expect("read");
    serde_json::from_slice(&bytes).expect("JSON")
}

async fn check(judged: Judged, status: u16, want: Value) {
    let response = judged.expect("an answer").into_response();
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(body_of(response).await, want);
}

async fn check_problem(judged: Judged, status: u16, code: &str) {
    let response = judged.expect_err("a problem").into_response();
    assert_eq!(response.status(), status);
    let want = format!("urn:countersign:error:{code}");
    assert_eq!(body_of(response).await["type"], want);
}

/// The proof in an answer, taken out.
async fn proof_in(judged: Judged) -> (Value, String) {
    let response = judged.expect("an answer").into_response();
    assert_eq!(response.status(), 200);
    let mut body = body_of(response).await;
    let proof = body.as_object_mut().and_then(|body| body.remove("proof"));
    let proof = proof.expect("a proof");
    (body, proof.as_str().expect("text").to_owned())
}

#[tokio::test]
async fn answers_to_an_enrolment_are_the_seeds() {
    let folder = tempfile::tempdir().expect("a folder");
    let prover = prover(&folder);
    let sent = EnableVerdict::Sent {
        phone: "+1202•••••23".to_owned(),
        message_id: "m1".to_owned(),
        expires: NOW,
    };
    let want = json!({
        "success": true, "phoneNumber": "+1202•••••23", "expiresAt": "2026-01-31T12:00:00Z", "messageId": "m1",
    });
    check(answers::enable(&sent, NOW, &prover), 200, want).await;
    let refused = EnableVerdict::Refused(refusal("Invalid phone number", None));
    let want = json!({"error": "Invalid phone number"});
    check(answers::enable(&refused, NOW, &prover), 400, want).await;

    let codes = Some(vec![Secret::new("AAAA-BBBB-CCCC-DDDD".to_owned())]);
    let enabled = VerifyFactorVerdict::Enabled {
        factor: Factor::Sms,
        backup_codes: codes,
    };
    let answer = answers::verify_enable(&enabled, NOW, &prover);
    assert!(answer.as_ref().expect("an answer").secret);
    let (body, proof) = proof_in(answer).await;
    let want = json!({"success": true, "backupCodes": ["AAAA-BBBB-CCCC-DDDD"]});
    assert_eq!(body, want);
    let held = prover.users.proofs.check(&proof, &user(), NOW);
    assert_eq!(held.expect("good").id, "09".repeat(16));
    let wrong = VerifyFactorVerdict::Rejected(refusal("Invalid or expired code", None));
    let want = json!({"valid": false, "reason": "Invalid or expired code"});
    check(answers::verify_enable(&wrong, NOW, &prover), 400, want).await;
    let nothing = VerifyFactorVerdict::Refused(refusal("2FA setup not initiated", None));
    let want = json!({"error": "2FA setup not initiated"});
    check(answers::verify_enable(&nothing, NOW, &prover), 400, want).await;
}

#[tokio::test]
async fn answers_to_a_login_are_the_seeds() {
    let folder = tempfile::tempdir().expect("a folder");
    let prover = prover(&folder);
    for (method, word, left) in [
        (Method::Sms, "otp", None),
        (Method::Totp, "totp", None),
        (Method::Backup, "backup", Some(9)),
    ] {
        let accepted = LoginVerdict::Accepted {
            method,
            backup_codes_left: left,
        };
        let answer = answers::login(&accepted, NOW, &prover);
        assert!(answer.as_ref().expect("an answer").secret);
        let (body, proof) = proof_in(answer).await;
        let mut want = json!({"success": true, "method": word});
        if let Some(left) = left {
            want["backupCodesLeft"] = json!(left);
        }
        assert_eq!(body, want);
        assert!(prover.users.proofs.check(&proof, &user(), NOW).is_some());
    }
    let locked = LoginVerdict::Rejected(refusal("Too many attempts", Some(59_001)));
    let answer = answers::login(&locked, NOW, &prover).expect("an answer");
    let response = answer.clone().into_response();
    assert_eq!(response.headers()["retry-after"], "60");
    let want = json!({"valid": false, "reason": "Too many attempts"});
    check(Ok(answer), 400, want).await;
    let off = LoginVerdict::Refused(refusal("2FA not enabled", None));
    let want = json!({"error": "2FA not enabled"});
    check(answers::login(&off, NOW, &prover), 400, want.clone()).await;
    let off = LoginSendVerdict::Refused(refusal("2FA not enabled", None));
    check(answers::login_send(&off, NOW, &prover), 400, want).await;
    let sent = LoginSendVerdict::Sent {
        message_id: "m1".to_owned(),
        expires: NOW,
    };
    let want = json!({"success": true, "expiresAt": "2026-01-31T12:00:00Z", "messageId": "m1"});
    check(answers::login_send(&sent, NOW, &prover), 200, want).await;
}

#[tokio::test]
async fn r23_a_denied_change_is_a_problem_on_every_route() {
    let folder = tempfile::tempdir().expect("a folder");
    let prover = prover(&folder);
    for (denial, status, code) in [
        (Denial::ProofRequired, 403, "proof-required"),
        (Denial::TokenUsed, 401, "wrong-credentials"),
        (Denial::NotPermitted, 403, "token-scope"),
    ] {
        let verify = VerifyFactorVerdict::Denied(denial);
        for judged in [
            answers::enable(&EnableVerdict::Denied(denial), NOW, &prover),
            answers::verify_enable(&verify, NOW, &prover),
            answers::totp_verify(&verify, NOW, &prover),
            answers::totp(&TotpVerdict::Denied(denial), NOW, &prover),
            answers::disable(&DisableVerdict::Denied(denial), NOW, &prover),
            answers::backup_codes(&BackupCodesVerdict::Denied(denial), NOW, &prover),
            answers::login_send(&LoginSendVerdict::Denied(denial), NOW, &prover),
            answers::login(&LoginVerdict::Denied(denial), NOW, &prover),
        ] {
            check_problem(judged, status, code).await;
        }
    }
}

#[tokio::test]
async fn refusals_elsewhere_are_problems_that_say_when_to_come_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let prover = prover(&folder);
    let refused = || refusal("2FA not enabled", Some(1));
    for judged in [
        answers::disable(&DisableVerdict::Refused(refused()), NOW, &prover),
        answers::backup_codes(&BackupCodesVerdict::Refused(refused()), NOW, &prover),
        answers::totp_verify(&VerifyFactorVerdict::Refused(refused()), NOW, &prover),
    ] {
        let response = judged.expect_err("a problem").into_response();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["retry-after"], "1");
        let body = body_of(response).await;
        assert_eq!(body["type"], "urn:countersign:error:no-such-factor");
        assert_eq!(body["detail"], "2FA not enabled");
    }
    let too_many = refusal("Too many attempts. Please wait 1 minute.", Some(1_001));
    let judged = answers::totp(&TotpVerdict::Refused(too_many), NOW, &prover);
    let response = judged.expect_err("a problem").into_response();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "2");
}

#[tokio::test]
async fn a_secret_is_marked_as_one_and_comes_with_its_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let prover = prover(&folder);
    let codes = BackupCodesVerdict::Issued(vec![Secret::new("A".to_owned()); 10]);
    let answer = answers::backup_codes(&codes, NOW, &prover).expect("an answer");
    assert!(answer.secret);
    let uri = "otpauth://totp/countersign:u1?secret=GEZDGNBVGY3TQOJQ&issuer=countersign";
    let pending = TotpVerdict::Pending {
        secret: Secret::new("GEZDGNBVGY3TQOJQ".to_owned()),
        uri: Secret::new(uri.to_owned()),
    };
    let answer = answers::totp(&pending, NOW, &prover).expect("an answer");
    assert!(answer.secret);
    let body = body_of(answer.into_response()).await;
    assert_eq!(body["success"], true);
    assert_eq!(body["secret"], "GEZDGNBVGY3TQOJQ");
    assert_eq!(body["otpauthUri"], uri);
    assert_eq!(body["qrSvg"], svg(uri).expect("drawn"));
}
