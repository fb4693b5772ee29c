//! Whatever comes in, the answer says what is wrong with it, and the next client notices nothing.

use countersign_tests::{FakeTwilio, Server, WRONG_CODE, phone};
use serde_json::{Value, json};

use crate::start;

pub(crate) const SEND: &str = "/api/otp/send";
pub(crate) const VERIFY: &str = "/api/otp/verify";

/// Requires that the server works, and that of all before nothing went out.
pub(crate) async fn nothing_happened(twilio: &FakeTwilio, server: &Server) {
    server.expect_healthy().await;
    server.send(&phone(9)).await.expect_success();
    let message = twilio.next_message().await;
    assert_eq!(message.to, phone(9), "something else went out");
    server
        .verify(&phone(9), &message.code())
        .await
        .expect_success();
}

#[tokio::test]
async fn a_body_that_is_no_json_is_unreadable() {
    let (twilio, server) = start().await;
    let bodies: [&[u8]; 16] = [
        b"",
        b" ",
        b"{",
        b"}",
        b"phoneNumber=%2B12025550123",
        b"{phoneNumber: \"+12025550123\"}",
        b"{'phoneNumber': '+12025550123'}",
        b"{\"phoneNumber\": \"+12025550123\"",
        b"{\"phoneNumber\": \"+12025550123\",}",
        b"{\"phoneNumber\": \"+12025550123\"} {}",
        b"{\"phoneNumber\": \"+12025550123\"}x",
        b"{\"phoneNumber\": \"+1202555\x000123\"}",
        b"{\"phoneNumber\": \"+1202555\n0123\"}",
        b"{\"phoneNumber\": \"+1202555\xff0123\"}",
        b"{\"phoneNumber\": \"\\ud800\"}",
        b"\xef\xbb\xbf{\"phoneNumber\": \"+12025550123\"}",
    ];
    for body in bodies {
        for path in [SEND, VERIFY] {
            let answer = server.post_bytes(path, body).await;
            assert_eq!(
                answer.status,
                400,
                "{path} {:?}: {answer:?}",
                String::from_utf8_lossy(body)
            );
            answer.expect_unreadable();
        }
    }
    nothing_happened(&twilio, &server).await;
}

#[tokio::test]
async fn json_that_is_no_object_is_refused() {
    let (twilio, server) = start().await;
    let phone = phone(1);
    let bodies = [
        json!(null),
        json!(true),
        json!(12_025_550_123_i64),
        json!(phone),
        json!([]),
        json!([phone]),
        json!([phone, "123456"]),
        json!([{ "phoneNumber": phone }]),
    ];
    for body in bodies {
        for path in [SEND, VERIFY] {
            let answer = server.post(path, &body).await;
            assert_eq!(answer.status, 400, "{path} {body}: {answer:?}");
            assert!(
                answer.json()["error"].is_string(),
                "{path} {body}: {answer:?}"
            );
        }
    }
    nothing_happened(&twilio, &server).await;
}

#[tokio::test]
async fn a_missing_field_is_named() {
    let (twilio, server) = start().await;
    server
        .post(SEND, &json!({}))
        .await
        .expect_field_error("phoneNumber");
    server
        .post(SEND, &json!({ "phone": phone(1) }))
        .await
        .expect_field_error("phoneNumber");
    server
        .post(SEND, &json!({ "PhoneNumber": phone(1) }))
        .await
        .expect_field_error("phoneNumber");
    server
        .post(SEND, &json!({ "phone_number": phone(1) }))
        .await
        .expect_field_error("phoneNumber");
    server
        .post(VERIFY, &json!({ "code": "123456" }))
        .await
        .expect_field_error("phoneNumber");
    server
        .post(VERIFY, &json!({ "phoneNumber": phone(1) }))
        .await
        .expect_field_error("code");
    nothing_happened(&twilio, &server).await;
}

#[tokio::test]
async fn a_field_of_the_wrong_type_is_named() {
    let (twilio, server) = start().await;
    let wrong = [
        json!(null),
        json!(true),
        json!(12_025_550_123_i64),
        json!(1.5),
        json!([]),
        json!(["+12025550123"]),
        json!({}),
    ];
    for value in wrong {
        let answer = server.post(SEND, &json!({ "phoneNumber": value })).await;
        answer.expect_field_error("phoneNumber");
        let answer = server
            .post(VERIFY, &json!({ "phoneNumber": value, "code": "123456" }))
            .await;
        answer.expect_field_error("phoneNumber");
        let answer = server
            .post(VERIFY, &json!({ "phoneNumber": phone(1), "code": value }))
            .await;
        answer.expect_field_error("code");
        if !value.is_null() {
            let answer = server
                .post(SEND, &json!({ "phoneNumber": phone(1), "purpose": value }))
                .await;
            answer.expect_field_error("purpose");
            let answer = server
                .post(SEND, &json!({ "phoneNumber": phone(1), "locale": value }))
                .await;
            answer.expect_field_error("locale");
        }
    }
    nothing_happened(&twilio, &server).await;
}

#[tokio::test]
async fn a_key_that_comes_twice_is_refused() {
    let (twilio, server) = start().await;
    let twice = format!(
        r#"{{"phoneNumber":"{}","phoneNumber":"{}"}}"#,
        phone(1),
        phone(2)
    );
    let answer = server.post_bytes(SEND, twice).await.expect_status(400);
    assert!(answer.json()["error"].is_string(), "{answer:?}");
    let twice = format!(
        r#"{{"phoneNumber":"{}","code":"123456","code":"654321"}}"#,
        phone(1)
    );
    let answer = server.post_bytes(VERIFY, twice).await.expect_status(400);
    assert!(answer.json()["error"].is_string(), "{answer:?}");
    nothing_happened(&twilio, &server).await;
}

/// Numbers to which no text can be sent.
fn no_numbers() -> Vec<String> {
    let mut numbers: Vec<String> = [
        "",
        " ",
        "+",
        "++",
        "+1",
        "+12",
        "+1202",
        "+1202555",
        "+1202555012",
        "+120255501234",
        "+12025550123456789",
        "+1 000 000 0000",
        "+11111111111",
        "+0000000000",
        "+999123456789",
        "+49",
        "+44 12",
        "0",
        "123",
        "2025550123",
        "12025550123",
        "-12025550123",
        "abc",
        "+abc",
        "null",
        "+12025550123 ext. 5",
        "+12025550123 ext 5",
        "+12025550123x5",
        "+12025550123 x 55",
        "+12025550123;ext=5",
        "+12025550123#5",
        "tel:+12025550123;ext=5",
        "+12025550123,+12025550124",
        "+12025550123;+12025550124",
        "+12025550123 +12025550124",
        "+12025550123\u{0}",
        "+1202\u{0}5550123",
        "\u{0}",
        "\u{1b}[2J",
        "+12025550123\r\nX-Header: 1",
        "+12025550123&To=%2B12025550124",
        "\u{202e}\u{202d}",
        "🤙",
        "' OR 1=1 --",
        "{\"$gt\":\"\"}",
        "../../etc/passwd",
        "{code}",
    ]
    .map(str::to_owned)
    .into();
    numbers.push("+1".to_owned() + &"2".repeat(64));
    numbers.push("2".repeat(10_000));
    numbers.push(format!("{}+12025550123", " ".repeat(1000)));
    numbers.push("é".repeat(60));
    numbers
}

#[tokio::test]
async fn a_number_that_cannot_be_is_refused_by_its_field() {
    let (twilio, server) = start().await;
    for number in no_numbers() {
        for (path, body) in [
            (SEND, json!({ "phoneNumber": number })),
            (VERIFY, json!({ "phoneNumber": number, "code": "123456" })),
        ] {
            let answer = server.post(path, &body).await;
            assert_eq!(answer.status, 400, "{path} {number:?}: {answer:?}");
            assert_eq!(
                answer.json()["field"],
                json!("phoneNumber"),
                "{path} {number:?}: {answer:?}"
            );
            answer.expect_field_error("phoneNumber");
        }
    }
    nothing_happened(&twilio, &server).await;
}

#[tokio::test]
async fn an_extension_is_called_one() {
    let (_twilio, server) = start().await;
    let answer = server
        .send("+12025550123 ext. 5")
        .await
        .expect_field_error("phoneNumber");
    let error = answer.json()["error"].as_str().unwrap().to_lowercase();
    assert!(error.contains("extension"), "{error}");
}

#[tokio::test]
async fn a_code_of_any_shape_is_only_wrong() {
    let (twilio, server) = start().await;
    server.send(&phone(1)).await.expect_success();
    let code = twilio.next_message().await.code();
    let shapes: Vec<String> = vec![
        String::new(),
        " ".into(),
        code[..5].into(),
        format!("{code}0"),
        format!("0{code}"),
        "abcdef".into(),
        "12345\u{0}".into(),
        "\r\n".into(),
        "{code}".into(),
        "١٢٣٤٥٦".into(),
        "1".repeat(64),
        "1".repeat(10_000),
        "é".repeat(40),
    ];
    for shape in shapes {
        let answer = server.verify(&phone(1), &shape).await.expect_status(400);
        let body = answer.json();
        // Whether a shape costs a try is the server's to decide; that it is refused is not.
        let wrong = body == json!({ "valid": false, "reason": WRONG_CODE });
        let locked = body == json!({ "valid": false, "reason": "Too many attempts" });
        let named = body["field"] == json!("code") && body["error"].is_string();
        assert!(wrong || locked || named, "{shape:?}: {body}");
    }
    nothing_happened(&twilio, &server).await;
}

#[tokio::test]
async fn a_deep_nest_is_unreadable() {
    let (twilio, server) = start().await;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(5000), close.repeat(5000));
        let answer = server.post_bytes(SEND, deep).await;
        assert!([400, 413].contains(&answer.status), "{answer:?}");
        let nested = format!(
            r#"{{"phoneNumber": "+12025550123", "x": {}1{}}}"#,
            open.repeat(5000),
            close.repeat(5000)
        );
        let answer = server.post_bytes(SEND, nested).await;
        assert!([400, 413].contains(&answer.status), "{answer:?}");
    }
    nothing_happened(&twilio, &server).await;
}

#[tokio::test]
async fn an_error_does_not_repeat_what_was_sent() {
    let (_twilio, server) = start().await;
    let canary = "+1202555CANARY";
    let answers: [Value; 3] = [
        server.send(canary).await.json(),
        server
            .post(SEND, &json!({ "phoneNumber": phone(1), "purpose": canary }))
            .await
            .json(),
        server
            .post_bytes(SEND, format!("{{\"{canary}\""))
            .await
            .json(),
    ];
    for answer in answers {
        assert!(!answer.to_string().contains("CANARY"), "{answer}");
    }
}
