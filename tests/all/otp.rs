//! `POST /api/otp/send` and `/api/otp/verify`: exact bodies, windows, tries.

use std::time::Duration;

use countersign_tests::{
    FakeTwilio, Server, TOO_MANY_SENDS, TOO_MANY_TRIES, WRONG_CODE, nearly, phone, wrong,
};
use hyper::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::start;

const PHONE: &str = "+12025550123";

#[track_caller]
fn expires_at(body: &Value) -> Timestamp {
    let text = body["expiresAt"]
        .as_str()
        .unwrap_or_else(|| panic!("no `expiresAt`: {body}"));
    assert!(
        text.ends_with('Z') && text.contains('T'),
        "{text} is not UTC in the contract's form"
    );
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused_send() -> Value {
    json!({ "error": TOO_MANY_SENDS })
}

fn refused_try(reason: &str) -> Value {
    json!({ "valid": false, "reason": reason })
}

#[tokio::test]
async fn a_send_is_answered_with_the_end_of_the_code_in_ten_minutes() {
    let (_twilio, server) = start().await;
    let before = Timestamp::now();
    let body = server.send(PHONE).await.expect_success().json();
    let after = Timestamp::now();
    let expires = expires_at(&body);
    let slack = Duration::from_secs(2);
    assert!(
        expires >= before + Duration::from_secs(600) - slack,
        "{expires} after {before}"
    );
    assert!(
        expires <= after + Duration::from_secs(600) + slack,
        "{expires} after {after}"
    );
}

#[tokio::test]
async fn the_text_is_the_contracts() {
    let (twilio, server) = start().await;
    server.send(PHONE).await.expect_success();
    let message = twilio.next_message().await;
    let code = message.code();
    assert_eq!(code.len(), 6, "{code}");
    assert_eq!(message.to, PHONE);
    assert_eq!(
        message.body,
        format!("Your verification code is: {code}\n\nValid for 10 minutes.")
    );
}

#[tokio::test]
async fn with_a_domain_and_an_app_the_last_lines_bind_the_code_to_them() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder()
        .twilio(&twilio)
        .env("COUNTERSIGN_OTP_DOMAIN", "login.example.com")
        .env("COUNTERSIGN_OTP_APP_HASH", "FA+9qCX9VSu")
        .start()
        .await;
    // Whose page it is comes from the configuration, whatever a request says of itself.
    let headers = [
        ("content-type", "application/json"),
        ("host", "evil.example"),
        ("origin", "https://evil.example"),
        ("referer", "https://evil.example/"),
        ("forwarded", "host=evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("x-original-host", "evil.example"),
        ("x-countersign-domain", "evil.example"),
    ];
    let body = json!({ "phoneNumber": PHONE, "domain": "evil.example", "appHash": "AAAAAAAAAAA" });
    let sent = server
        .request(Method::POST, "/api/otp/send", &headers, body.to_string())
        .await
        .unwrap();
    sent.expect_success();
    let message = twilio.next_message().await;
    let code = message.code();
    assert_eq!(
        message.body,
        format!(
            "Your verification code is: {code}\n\nValid for 10 minutes.\n\n\
             FA+9qCX9VSu\n@login.example.com #{code}"
        )
    );
    server.verify(PHONE, &code).await.expect_success();
}

#[tokio::test]
async fn a_domain_is_added_to_a_configured_text_too() {
    let twilio = FakeTwilio::start().await;
    let config = "[otp]\ntext = \"Your code for Example is: {code}\"\ndomain = \"example.com\"\n";
    let server = Server::builder().twilio(&twilio).config(config);
    let server = server.start().await;
    server.send(PHONE).await.expect_success();
    let message = twilio.next_message().await;
    let code = message.code();
    assert_eq!(
        message.body,
        format!("Your code for Example is: {code}\n\n@example.com #{code}")
    );
}

#[tokio::test]
async fn no_answer_carries_the_code() {
    let (twilio, server) = start().await;
    let sent = server.send(PHONE).await.expect_success();
    let code = twilio.next_message().await.code();
    let missed = server.verify(PHONE, &wrong(&code)).await.expect_status(400);
    for answer in [&sent, &missed] {
        assert!(!answer.text().contains(&code), "{answer:?}");
        assert!(
            !format!("{:?}", answer.headers).contains(&code),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn the_right_code_is_accepted_once() {
    let (twilio, server) = start().await;
    server.send(PHONE).await.expect_success();
    let code = twilio.next_message().await.code();
    server.verify(PHONE, &code).await.expect_success();
    server
        .verify(PHONE, &code)
        .await
        .expect_body(400, &refused_try(WRONG_CODE));
}

#[tokio::test]
async fn the_fourth_send_in_a_minute_is_refused() {
    let (twilio, server) = start().await;
    for _ in 0..3 {
        server.send(PHONE).await.expect_success();
    }
    let refused = server.send(PHONE).await.expect_body(400, &refused_send());
    let wait = refused.retry_after().as_secs();
    assert!((1..=60).contains(&wait), "{wait} s");
    twilio.wait_for_count(3).await;
    // A limit is one phone's own.
    server.send(&phone(1)).await.expect_success();
}

#[tokio::test]
async fn sending_again_sends_the_same_code_with_the_same_end() {
    let (twilio, server) = start().await;
    let mut ends = Vec::new();
    for _ in 0..3 {
        ends.push(expires_at(
            &server.send(PHONE).await.expect_success().json(),
        ));
    }
    let messages = twilio.wait_for_count(3).await;
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
    assert!(
        messages
            .iter()
            .all(|message| message.code() == messages[0].code()),
        "{messages:?}"
    );
    server
        .verify(PHONE, &messages[0].code())
        .await
        .expect_success();
}

#[tokio::test]
async fn sending_again_does_not_give_tries_back() {
    let (twilio, server) = start().await;
    server.send(PHONE).await.expect_success();
    let code = twilio.next_message().await.code();
    for n in 1..=5 {
        if n == 3 {
            server.send(PHONE).await.expect_success();
        }
        server
            .verify(PHONE, &nearly(&code, n))
            .await
            .expect_body(400, &refused_try(WRONG_CODE));
    }
    server
        .verify(PHONE, &code)
        .await
        .expect_body(400, &refused_try(TOO_MANY_TRIES));
}

#[tokio::test]
async fn all_spellings_of_a_number_share_its_limits() {
    let (twilio, server) = start().await;
    for spelling in [PHONE, "+1 202-555-0123", " +1 (202) 555.0123 "] {
        server.send(spelling).await.expect_success();
    }
    for message in twilio.wait_for_count(3).await {
        assert_eq!(message.to, PHONE);
    }
    for spelling in [
        "+1-202-555-0123",
        "+1.202.555.0123",
        "+1(202)5550123",
        PHONE,
    ] {
        server
            .send(spelling)
            .await
            .expect_body(400, &refused_send());
    }
    // Digits of another script are the same number or none, and never a way around the limit.
    server
        .send("+１２０２５５５０１２３")
        .await
        .expect_status(400);
    server.send("+١٢٠٢٥٥٥٠١٢٣").await.expect_status(400);
}

#[tokio::test]
async fn a_code_sent_to_one_spelling_is_good_for_another() {
    let (twilio, server) = start().await;
    server.send("+1 (202) 555-0123").await.expect_success();
    let code = twilio.next_message().await.code();
    server
        .verify("+1.202.555.0123", &code)
        .await
        .expect_success();
}

#[tokio::test]
async fn a_wrong_code_is_refused_with_exactly_the_contracts_fields() {
    let (twilio, server) = start().await;
    server.send(PHONE).await.expect_success();
    let code = twilio.next_message().await.code();
    server
        .verify(PHONE, &wrong(&code))
        .await
        .expect_body(400, &refused_try(WRONG_CODE));
    server.verify(PHONE, &code).await.expect_success();
}

#[tokio::test]
async fn a_number_that_was_never_sent_to_answers_like_a_wrong_code() {
    let (twilio, server) = start().await;
    server.send(PHONE).await.expect_success();
    let code = twilio.next_message().await.code();
    let known = server.verify(PHONE, &wrong(&code)).await.expect_status(400);
    let unknown = server
        .verify(&phone(7), &wrong(&code))
        .await
        .expect_status(400);
    assert_eq!(known.body, unknown.body);
    let names = |answer: &countersign_tests::Answer| {
        let mut names: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
        names.sort();
        names
    };
    assert_eq!(names(&known), names(&unknown));
}

#[tokio::test]
async fn from_the_sixth_try_on_every_answer_is_too_many_attempts() {
    let (twilio, server) = start().await;
    server.send(PHONE).await.expect_success();
    let code = twilio.next_message().await.code();
    for n in 1..=5 {
        server
            .verify(PHONE, &nearly(&code, n))
            .await
            .expect_body(400, &refused_try(WRONG_CODE));
    }
    for attempt in [&code, &wrong(&code), &code] {
        let refused = server.verify(PHONE, attempt).await;
        let refused = refused.expect_body(400, &refused_try(TOO_MANY_TRIES));
        let wait = refused.retry_after().as_secs();
        assert!((1..=3600).contains(&wait), "{wait} s");
    }
}

#[tokio::test]
async fn the_fifth_try_is_still_compared() {
    let (twilio, server) = start().await;
    server.send(PHONE).await.expect_success();
    let code = twilio.next_message().await.code();
    for n in 1..=4 {
        server
            .verify(PHONE, &nearly(&code, n))
            .await
            .expect_body(400, &refused_try(WRONG_CODE));
    }
    server.verify(PHONE, &code).await.expect_success();
}

#[tokio::test]
async fn after_a_lock_a_new_send_brings_a_new_code() {
    let (twilio, server) = start().await;
    server.send(PHONE).await.expect_success();
    let locked = twilio.next_message().await.code();
    for n in 1..=5 {
        server
            .verify(PHONE, &nearly(&locked, n))
            .await
            .expect_status(400);
    }
    server
        .verify(PHONE, &locked)
        .await
        .expect_body(400, &refused_try(TOO_MANY_TRIES));
    server.send(PHONE).await.expect_success();
    let fresh = twilio.next_message().await.code();
    assert_ne!(locked, fresh);
    server
        .verify(PHONE, &locked)
        .await
        .expect_body(400, &refused_try(WRONG_CODE));
    server.verify(PHONE, &fresh).await.expect_success();
}

#[tokio::test]
async fn after_a_use_a_new_send_brings_a_new_code() {
    let (twilio, server) = start().await;
    server.send(PHONE).await.expect_success();
    let used = twilio.next_message().await.code();
    server.verify(PHONE, &used).await.expect_success();
    server.send(PHONE).await.expect_success();
    let fresh = twilio.next_message().await.code();
    assert_ne!(used, fresh);
    server
        .verify(PHONE, &used)
        .await
        .expect_body(400, &refused_try(WRONG_CODE));
    server.verify(PHONE, &fresh).await.expect_success();
}

#[tokio::test]
async fn a_code_is_good_for_its_own_phone_only() {
    let (twilio, server) = start().await;
    server.send(&phone(1)).await.expect_success();
    let first = twilio.message_to(&phone(1)).await.code();
    server.send(&phone(2)).await.expect_success();
    let second = twilio.message_to(&phone(2)).await.code();
    assert_ne!(first, second);
    server
        .verify(&phone(2), &first)
        .await
        .expect_body(400, &refused_try(WRONG_CODE));
    server.verify(&phone(1), &first).await.expect_success();
    server.verify(&phone(2), &second).await.expect_success();
}

#[tokio::test]
async fn the_codes_of_many_phones_have_nothing_in_common() {
    let (twilio, server) = start().await;
    for n in 0..20 {
        server.send(&phone(n)).await.expect_success();
    }
    let mut codes: Vec<String> = twilio
        .wait_for_count(20)
        .await
        .iter()
        .map(|message| message.code())
        .collect();
    codes.sort();
    codes.dedup();
    // Two of twenty are equal once in five thousand runs; four never are.
    assert!(codes.len() >= 18, "{codes:?}");
}

#[tokio::test]
async fn a_purpose_can_be_named_if_it_is_in_the_list() {
    let (twilio, server) = start().await;
    let send = json!({ "phoneNumber": PHONE, "purpose": "verification", "locale": "en-US" });
    server.post("/api/otp/send", &send).await.expect_success();
    let code = twilio.next_message().await.code();
    let verify = json!({ "phoneNumber": PHONE, "code": code, "purpose": "verification" });
    server
        .post("/api/otp/verify", &verify)
        .await
        .expect_success();
}

#[tokio::test]
async fn no_other_purpose_can_be_named() {
    let (twilio, server) = start().await;
    for purpose in ["login", "enrollment", "", "Verification", "verification "] {
        let send = json!({ "phoneNumber": PHONE, "purpose": purpose });
        server
            .post("/api/otp/send", &send)
            .await
            .expect_field_error("purpose");
        let verify = json!({ "phoneNumber": PHONE, "code": "123456", "purpose": purpose });
        server
            .post("/api/otp/verify", &verify)
            .await
            .expect_field_error("purpose");
    }
    // None of them has cost a send.
    for _ in 0..3 {
        server.send(PHONE).await.expect_success();
    }
    twilio.wait_for_count(3).await;
}

#[tokio::test]
async fn an_invalid_number_costs_nobody_anything() {
    let (twilio, server) = start().await;
    for _ in 0..5 {
        server.send("+1202").await.expect_field_error("phoneNumber");
    }
    server.send(PHONE).await.expect_success();
    assert_eq!(twilio.next_message().await.to, PHONE);
}
