//! Many at once: what is promised once happens once, and what is counted is counted.

use countersign_tests::{Answer, TOO_MANY_TRIES, join_all, nearly, phone, totp};
use serde_json::json;

use super::{INVALID_CODE, asked_for_a_code, expect_proof_required, rejected, start};
use crate::queue::stop_with_nothing_left;

fn successes(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.status == 200).count()
}

/// How many answers are refusals for that reason; the others are successes, or asked to come again.
#[track_caller]
fn reasons(answers: &[Answer], reason: &str) -> usize {
    let body = rejected(reason);
    let is = |answer: &&Answer| answer.status == 400 && answer.json() == body;
    answers.iter().filter(is).count()
}

#[tokio::test]
async fn r16_a_backup_code_used_by_16_at_once_is_accepted_once() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    let code = &enrolled.backup_codes[0];
    let answers = join_all((0..16).map(|_| user.login(code))).await;
    assert_eq!(successes(&answers), 1, "{answers:?}");
    let state = user.status().await.expect_status(200).json();
    assert_eq!(state["backupCodesLeft"], 9);
}

#[tokio::test]
async fn r16_a_messages_code_used_by_16_at_once_is_accepted_once() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    user.enrol(&twilio, &phone(1)).await;
    user.login_send().await.expect_success();
    let code = twilio.nth_code(&phone(1), 2).await;
    let answers = join_all((0..16).map(|_| user.login(&code))).await;
    assert_eq!(successes(&answers), 1, "{answers:?}");
}

#[tokio::test]
async fn r16_a_code_of_an_app_used_by_16_at_once_is_accepted_once() {
    let (_twilio, server) = start().await;
    let user = server.user("user-1");
    let secret = user.enrol_totp().await;
    let code = totp(&secret, 1);
    let answers = join_all((0..16).map(|_| user.login(&code))).await;
    assert_eq!(successes(&answers), 1, "{answers:?}");
}

#[tokio::test]
async fn r16_an_enrolments_code_used_by_16_at_once_shows_the_backup_codes_once() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    user.enable(&phone(1)).await.expect_success();
    let code = twilio.nth_code(&phone(1), 1).await;
    let answers = join_all((0..16).map(|_| user.verify_enable(&code))).await;
    assert_eq!(successes(&answers), 1, "{answers:?}");
    let shown = answers.iter().find(|answer| answer.status == 200).unwrap();
    let codes = shown.json()["backupCodes"].as_array().unwrap().clone();
    user.login(codes[0].as_str().unwrap())
        .await
        .expect_success();
}

#[tokio::test]
async fn a_proof_used_by_16_at_once_makes_one_change() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    let proving = user.proving(&enrolled.proof);
    let answers = join_all((0..16).map(|_| proving.new_backup_codes())).await;
    assert_eq!(successes(&answers), 1, "{answers:?}");
    for answer in answers {
        match answer.status {
            200 => {}
            // Hashes have places, and too many wait.
            503 => assert!(answer.retry_after().as_secs() >= 1),
            _ => expect_proof_required(answer),
        }
    }
}

#[tokio::test]
async fn a_login_token_used_by_16_at_once_is_one_login() {
    let (twilio, server) = start().await;
    let enrolled = server.user("user-1").enrol(&twilio, &phone(1)).await;
    let device = server.device(&server.token("user-1", "login").await);
    // Different codes, all of them right.
    let codes = enrolled.backup_codes.iter();
    let answers = join_all(codes.map(|code| device.login(code))).await;
    assert_eq!(successes(&answers), 1, "{answers:?}");
    let state = server.user("user-1").status().await.expect_status(200);
    assert_eq!(state.json()["backupCodesLeft"], 9);
}

#[tokio::test]
async fn r09_of_64_wrong_codes_at_once_five_are_compared() {
    let (twilio, server) = start().await;
    let (user, code) = asked_for_a_code(&server, &twilio).await;
    let wrong = nearly(&code, 1);
    let answers = join_all((0..64).map(|_| user.login(&wrong))).await;
    assert_eq!(successes(&answers), 0);
    let compared = reasons(&answers, INVALID_CODE);
    assert_eq!(compared, 5, "{answers:?}");
    user.login(&code)
        .await
        .expect_body(400, &rejected(TOO_MANY_TRIES));
}

#[tokio::test]
async fn r09_of_64_wrong_backup_codes_at_once_no_more_are_compared_than_are_allowed() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    let wrong = "ZZZZ-ZZZZ-ZZZZ-ZZZZ";
    let answers = join_all((0..64).map(|_| user.login(wrong))).await;
    assert_eq!(successes(&answers), 0);
    let compared = reasons(&answers, INVALID_CODE);
    assert!((1..=10).contains(&compared), "{compared} of 64");
    // The lock of one kind leaves the others usable.
    user.login(&enrolled.backup_codes[0])
        .await
        .expect_body(400, &rejected(TOO_MANY_TRIES));
    user.login_send().await.expect_success();
    let code = twilio.nth_code(&phone(1), 2).await;
    user.login(&code).await.expect_success();
}

#[tokio::test]
async fn of_32_login_sends_at_once_three_go_out() {
    let (twilio, mut server) = start().await;
    let user = server.user("user-1");
    user.enrol(&twilio, &phone(1)).await;
    let answers = join_all((0..32).map(|_| user.login_send())).await;
    assert_eq!(successes(&answers), 3, "{answers:?}");
    twilio.wait_for_count(4).await;
    stop_with_nothing_left(&mut server).await;
    assert_eq!(twilio.messages().len(), 4);
}

#[tokio::test]
async fn two_enrolments_at_once_leave_one_phone() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let numbers = [phone(1), phone(2)];
    join_all(numbers.iter().map(|number| user.enable(number))).await;
    let mut codes = Vec::new();
    for number in &numbers {
        codes.push(twilio.nth_code(number, 1).await);
    }
    let answers = join_all(codes.iter().map(|code| user.verify_enable(code))).await;
    assert_eq!(successes(&answers), 1, "{answers:?}");
    let state = user.status().await.expect_status(200).json();
    assert_eq!(state["methods"], json!(["otp", "backup"]));
}
