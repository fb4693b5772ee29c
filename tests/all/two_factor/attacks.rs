//! What somebody tries who has a password, a token, an old proof or many of them.

use countersign_tests::{
    Answer, FakeTwilio, Server, TOO_MANY_SENDS, TOO_MANY_TRIES, join_all, nearly, phone, totp,
};
use serde_json::json;

use super::{INVALID_CODE, asked_for_a_code, expect_code, expect_proof_required, rejected, start};
use crate::backup::{copy_keys, restore};

#[track_caller]
fn expect_key_reused(answer: Answer) {
    let text = answer.text();
    expect_code(answer, 422, "idempotency-key-reused");
    assert!(!text.contains("backupCodes"), "{text}");
}

#[tokio::test]
async fn r23_a_stored_answer_is_not_given_to_who_has_not_shown_its_factor() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    // Whoever has the session sees or guesses the key that the user's browser has made.
    let thief = user.header("idempotency-key", "renew-1");
    let owner = thief.proving(&enrolled.proof);
    let renewed = owner.new_backup_codes().await.expect_success();
    expect_key_reused(thief.new_backup_codes().await);
    expect_key_reused(thief.proving("x").new_backup_codes().await);
    let other = server.user("user-2").enrol(&twilio, &phone(2)).await;
    expect_key_reused(thief.proving(&other.proof).new_backup_codes().await);
    // Who has lost the answer still gets it.
    let again = owner.new_backup_codes().await.expect_success();
    assert_eq!(again.body, renewed.body);
}

#[tokio::test]
async fn r09_many_tokens_and_keys_at_once_are_no_more_guesses() {
    let (twilio, server) = start().await;
    let (user, code) = asked_for_a_code(&server, &twilio).await;
    let wrong = nearly(&code, 1);
    let tokens = join_all((0..12).map(|_| server.token("user-1", "login"))).await;
    // Each by a token of its own with a key of its own, some of them twice, and by the application.
    let mut guessers = vec![user.clone(); 12];
    for (n, token) in tokens.iter().enumerate() {
        let device = server.device(token);
        for key in [2 * n, 2 * n + 1, 2 * n + 1] {
            guessers.push(device.header("idempotency-key", &format!("guess-{key}")));
        }
    }
    let body = json!({ "code": wrong, "method": "otp" });
    let guesses = guessers
        .iter()
        .map(|guesser| guesser.post("/api/login/2fa", &body));
    let answers = join_all(guesses).await;
    let compared = |answer: &&Answer| {
        let first = answer.header("idempotency-replayed").is_none();
        first && answer.status == 400 && answer.json() == rejected(INVALID_CODE)
    };
    assert_eq!(answers.iter().filter(compared).count(), 5, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.status != 200));
    user.login(&code)
        .await
        .expect_body(400, &rejected(TOO_MANY_TRIES));
}

#[tokio::test]
async fn who_holds_an_enrolment_token_cannot_make_the_trail_grow() {
    let (_twilio, server) = start().await;
    let device = server.device(&server.token("user-1", "enroll").await);
    let mut pending = 0;
    for _ in 0..40 {
        let answer = device.totp().await;
        match answer.status {
            200 => pending += 1,
            _ => {
                let problem = answer.clone().expect_problem(429);
                assert_eq!(problem.json()["detail"], TOO_MANY_SENDS);
                expect_code(answer, 429, "too-many-secrets");
                assert!((1..=60).contains(&problem.retry_after().as_secs()));
            }
        }
    }
    // Three a minute, and this has not taken an hour.
    assert!((3..=10).contains(&pending), "{pending} of 40");
    let trail = server.get("/api/audit?user=user-1&limit=200").await;
    let trail = trail.expect_status(200).json();
    let entries = trail["entries"].as_array().unwrap().len();
    assert_eq!(entries, pending + 1, "and the token: {trail}");
}

#[tokio::test]
async fn ids_that_look_alike_are_different_users() {
    let (twilio, server) = start().await;
    let enrolled = server.user("renée").enrol(&twilio, &phone(1)).await;
    for alike in [
        "Renée",
        "rene\u{301}e",
        "ren\u{e9}e\u{200b}",
        "renée,x",
        "x,renée",
        "ren%C3%A9e",
        "r\u{435}née",
    ] {
        let other = server.user(alike);
        let state = other.status().await.expect_status(200).json();
        assert_eq!(state["enabled"], false, "{alike}");
        let answer = other.login(&enrolled.backup_codes[0]).await;
        answer.expect_body(400, &super::not_enabled());
        let proving = other.proving(&enrolled.proof);
        expect_code(proving.disable().await, 400, "no-such-factor");
    }
    let user = server.user("renée");
    user.proving(&enrolled.proof)
        .disable()
        .await
        .expect_success();
}

#[tokio::test]
async fn what_was_used_after_a_backup_is_not_good_again_after_a_restore() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    let phone_user = server.user("phone");
    let enrolled = phone_user.enrol(&twilio, &phone(1)).await;
    let app_user = server.user("app");
    let secret = app_user.enrol_totp().await;
    let (login, enrol) = (
        server.token("phone", "login").await,
        server.token("new", "enroll").await,
    );
    let file = server.data().with_file_name("backup");
    let name = file.to_str().unwrap();
    server.run(&["backup", name]).await.expect_success();
    // What the backup knows nothing of.
    let code = totp(&secret, 1);
    app_user.login(&code).await.expect_success();
    server
        .device(&login)
        .login(&enrolled.backup_codes[0])
        .await
        .expect_success();
    let proving = phone_user.proving(&enrolled.proof);
    proving.new_backup_codes().await.expect_success();
    server.device(&enrol).enrol(&twilio, &phone(2)).await;
    server.kill().await;

    let builder = Server::builder().twilio(&twilio);
    restore(&builder, name).await.expect_success();
    copy_keys(
        &server.data().join("keys"),
        &builder.home().join("data/keys"),
    );
    let second = builder.start().await;
    second
        .user("app")
        .login(&code)
        .await
        .expect_body(400, &rejected(INVALID_CODE));
    let user = second.user("phone").proving(&enrolled.proof);
    expect_proof_required(user.new_backup_codes().await);
    let holder = second.device(&login).login(&enrolled.backup_codes[1]).await;
    expect_code(holder, 401, "wrong-credentials");
    let holder = second.device(&enrol).enable(&phone(3)).await;
    expect_code(holder, 401, "wrong-credentials");
    // What is made from now on is good.
    let device = second.device(&second.token("phone", "login").await);
    let proof = device.prove(&enrolled.backup_codes[1]).await;
    let user = second.user("phone").proving(&proof);
    user.new_backup_codes().await.expect_success();
}
