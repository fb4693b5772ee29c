//! Many at once: what is promised once happens once.

use countersign_tests::{
    Answer, TOO_MANY_SENDS, TOO_MANY_TRIES, WRONG_CODE, join_all, nearly, phone, wrong,
};
use serde_json::json;

use crate::queue::stop_with_nothing_left;
use crate::start;

const PHONE: &str = "+12025550123";

/// How many answers succeeded; all others have to be refusals with that body.
#[track_caller]
fn successes(answers: &[Answer], refusal: &serde_json::Value) -> usize {
    let refused = answers.iter().filter(|answer| answer.status != 200);
    for answer in refused {
        answer.clone().expect_body(400, refusal);
    }
    answers.iter().filter(|answer| answer.status == 200).count()
}

/// How many answers are refusals for that reason.
fn reasons(answers: &[Answer], reason: &str) -> usize {
    let body = json!({ "valid": false, "reason": reason });
    answers
        .iter()
        .filter(|answer| answer.status == 400 && answer.json() == body)
        .count()
}

#[tokio::test]
async fn a_code_tried_by_64_at_once_is_accepted_once() {
    let (twilio, server) = start().await;
    server.send(PHONE).await.expect_success();
    let code = twilio.next_message().await.code();
    let answers = join_all((0..64).map(|_| server.verify(PHONE, &code))).await;
    let refusal = json!({ "valid": false, "reason": WRONG_CODE });
    assert_eq!(successes(&answers, &refusal), 1);
}

#[tokio::test]
async fn of_32_sends_at_once_three_go_out() {
    let (twilio, mut server) = start().await;
    let answers = join_all((0..32).map(|_| server.send(PHONE))).await;
    assert_eq!(successes(&answers, &json!({ "error": TOO_MANY_SENDS })), 3);
    let messages = twilio.wait_for_count(3).await;
    assert!(
        messages
            .iter()
            .all(|message| message.code() == messages[0].code()),
        "{messages:?}"
    );
    stop_with_nothing_left(&mut server).await;
    assert_eq!(twilio.messages().len(), 3);
}

#[tokio::test]
async fn after_five_wrong_codes_at_once_the_right_one_is_refused() {
    let (twilio, server) = start().await;
    server.send(PHONE).await.expect_success();
    let code = twilio.next_message().await.code();
    let codes: Vec<String> = (1..=5).map(|n| nearly(&code, n)).collect();
    let answers = join_all(codes.iter().map(|code| server.verify(PHONE, code))).await;
    assert_eq!(reasons(&answers, WRONG_CODE), 5, "{answers:?}");
    let refusal = json!({ "valid": false, "reason": TOO_MANY_TRIES });
    server.verify(PHONE, &code).await.expect_body(400, &refusal);
}

#[tokio::test]
async fn of_32_wrong_codes_at_once_five_are_compared() {
    let (twilio, server) = start().await;
    server.send(PHONE).await.expect_success();
    let code = twilio.next_message().await.code();
    let wrong = wrong(&code);
    let answers = join_all((0..32).map(|_| server.verify(PHONE, &wrong))).await;
    assert_eq!(reasons(&answers, WRONG_CODE), 5, "{answers:?}");
    assert_eq!(reasons(&answers, TOO_MANY_TRIES), 27, "{answers:?}");
    let refusal = json!({ "valid": false, "reason": TOO_MANY_TRIES });
    server.verify(PHONE, &code).await.expect_body(400, &refusal);
}

#[tokio::test]
async fn right_and_wrong_codes_at_once_are_one_success_or_none() {
    let (twilio, server) = start().await;
    for n in 0..8 {
        server.send(&phone(n)).await.expect_success();
        let code = twilio.message_to(&phone(n)).await.code();
        let wrong = wrong(&code);
        // Eight wrong and eight right ones: the right one wins only where it is among the first five
        // that are compared, and then once.
        let number = phone(n);
        let tries =
            (0..16).map(|i| server.verify(&number, if i % 2 == 0 { &wrong } else { &code }));
        let answers = join_all(tries).await;
        let accepted = answers.iter().filter(|answer| answer.status == 200).count();
        assert!(accepted <= 1, "{answers:?}");
        if accepted == 0 {
            assert_eq!(reasons(&answers, WRONG_CODE), 5, "{answers:?}");
        }
        assert_eq!(server.verify(&number, &code).await.status, 400);
    }
}

#[tokio::test]
async fn phones_do_not_disturb_each_other() {
    let (twilio, server) = start().await;
    let phones: Vec<String> = (0..8).map(phone).collect();
    let sends = phones
        .iter()
        .flat_map(|phone| (0..6).map(|_| server.send(phone)));
    let answers = join_all(sends).await;
    for of_one in answers.chunks(6) {
        assert_eq!(successes(of_one, &json!({ "error": TOO_MANY_SENDS })), 3);
    }
    let messages = twilio.wait_for_count(24).await;
    let codes: Vec<String> = phones
        .iter()
        .map(|phone| {
            messages
                .iter()
                .find(|message| message.to == *phone)
                .unwrap()
                .code()
        })
        .collect();
    let tries = phones
        .iter()
        .zip(&codes)
        .flat_map(|(phone, code)| (0..6).map(|_| server.verify(phone, code)));
    let answers = join_all(tries).await;
    let refusal = json!({ "valid": false, "reason": WRONG_CODE });
    for of_one in answers.chunks(6) {
        assert_eq!(successes(of_one, &refusal), 1);
    }
}

#[tokio::test]
async fn spellings_of_one_number_at_once_share_one_limit() {
    let (twilio, mut server) = start().await;
    let spellings = [
        PHONE,
        "+1 202 555 0123",
        "+1 (202) 555-0123",
        "+1.202.555.0123",
    ];
    let answers = join_all((0..16).map(|n| server.send(spellings[n % 4]))).await;
    assert_eq!(successes(&answers, &json!({ "error": TOO_MANY_SENDS })), 3);
    twilio.wait_for_count(3).await;
    stop_with_nothing_left(&mut server).await;
    assert_eq!(twilio.messages().len(), 3);
}
