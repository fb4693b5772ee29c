//! Bad requests below JSON: size, type, method, path, headers, and what is no HTTP at all.

use countersign_tests::phone;
use hyper::Method;
use serde_json::json;

use crate::bad_input::{SEND, VERIFY, nothing_happened};
use crate::start;

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_post_without_a_body_is_refused() {
    let (twilio, server) = start().await;
    for path in [SEND, VERIFY] {
        let answer = server
            .request(Method::POST, path, &[JSON], "")
            .await
            .unwrap();
        answer.expect_unreadable();
        let answer = server.request(Method::POST, path, &[], "").await.unwrap();
        assert!([400, 415].contains(&answer.status), "{answer:?}");
        answer.json();
        let bare = server.raw_request("POST", path, &[("Connection", "close")], b"");
        let answer = server.raw(&bare).await.expect("an answer");
        assert!([400, 411, 415].contains(&answer.status), "{answer:?}");
    }
    nothing_happened(&twilio, &server).await;
}

#[tokio::test]
async fn five_megabytes_are_refused_as_too_large() {
    let (twilio, server) = start().await;
    let body = json!({ "phoneNumber": phone(1), "locale": "x".repeat(5 * 1024 * 1024) });
    for path in [SEND, VERIFY] {
        let announced = server
            .raw(&server.raw_post(path, &body))
            .await
            .expect("an answer");
        announced.expect_problem(413);
    }
    // The same without saying beforehand how much will come.
    let text = body.to_string();
    let mut chunked = Vec::new();
    for chunk in text.as_bytes().chunks(64 * 1024) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let headers = [
        ("Content-Type", "application/json"),
        ("Transfer-Encoding", "chunked"),
    ];
    let request = server.raw_request("POST", SEND, &headers, &chunked);
    server
        .raw(&request)
        .await
        .expect("an answer")
        .expect_problem(413);
    nothing_happened(&twilio, &server).await;
}

#[tokio::test]
async fn what_is_not_called_json_is_an_unsupported_media_type() {
    let (twilio, server) = start().await;
    let body = json!({ "phoneNumber": phone(1), "code": "123456" }).to_string();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
        "nonsense",
        "",
    ] {
        for path in [SEND, VERIFY] {
            let answer = server
                .request(Method::POST, path, &[("content-type", kind)], body.clone())
                .await
                .unwrap();
            assert_eq!(answer.status, 415, "{kind:?}: {answer:?}");
            answer.expect_problem(415);
        }
    }
    let answer = server
        .request(Method::POST, SEND, &[], body.clone())
        .await
        .unwrap();
    answer.expect_problem(415);
    nothing_happened(&twilio, &server).await;
}

#[tokio::test]
async fn json_may_name_its_character_set() {
    let (twilio, server) = start().await;
    for (n, kind) in [
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "Application/JSON",
    ]
    .iter()
    .enumerate()
    {
        let body = json!({ "phoneNumber": phone(n) }).to_string();
        server
            .request(Method::POST, SEND, &[("content-type", kind)], body)
            .await
            .unwrap()
            .expect_success();
    }
    twilio.wait_for_count(3).await;
}

#[tokio::test]
async fn another_method_is_told_which_is_allowed() {
    let (twilio, server) = start().await;
    for path in [SEND, VERIFY] {
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
            let answer = server
                .request(method, path, &[JSON], "{}")
                .await
                .unwrap()
                .expect_problem(405);
            let allow = answer.header("allow").unwrap_or_default();
            assert!(
                allow.split(',').any(|method| method.trim() == "POST"),
                "Allow: {allow}"
            );
        }
    }
    nothing_happened(&twilio, &server).await;
}

#[tokio::test]
async fn an_unknown_path_is_a_problem_too() {
    let (twilio, server) = start().await;
    for path in [
        "/api",
        "/api/otp",
        "/api/otp/send/",
        "/api/otp/sendx",
        "/api/OTP/send",
        "/api/otp/%73end/x",
        "/..%2f..%2fetc/passwd",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        answer.expect_problem(404);
        let answer = server.post(path, &json!({ "phoneNumber": phone(1) })).await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        answer.expect_problem(404);
    }
    nothing_happened(&twilio, &server).await;
}

#[tokio::test]
async fn a_path_that_cannot_be_decoded_is_a_problem_too() {
    let (twilio, server) = start().await;
    for path in ["/api/messages/%ff", "/webhooks/%ff", "/webhooks/%c0%80"] {
        server.get(path).await.expect_problem(400);
    }
    server.get("/%ff").await.expect_problem(404);
    nothing_happened(&twilio, &server).await;
}

#[tokio::test]
async fn head_and_options_are_answered_as_every_other_wrong_method() {
    let (twilio, server) = start().await;
    for (path, method, status, allow) in [
        (SEND, Method::HEAD, 405, "POST"),
        (SEND, Method::OPTIONS, 405, "POST"),
        ("/healthz", Method::OPTIONS, 405, "GET"),
        ("/healthz", Method::HEAD, 200, ""),
        ("/nothing", Method::HEAD, 404, ""),
    ] {
        let answer = server.request(method.clone(), path, &[], "").await.unwrap();
        assert_eq!(answer.status, status, "{method} {path}");
        let kind = answer.header("content-type").unwrap_or_default();
        let want = if status < 400 {
            "application/json"
        } else {
            "application/problem+json"
        };
        assert_eq!(kind, want, "{method} {path}");
        assert!(answer.header("allow").unwrap_or_default().contains(allow));
        assert_eq!(
            answer.body.is_empty(),
            method == Method::HEAD,
            "{method} {path}"
        );
    }
    nothing_happened(&twilio, &server).await;
}

#[tokio::test]
async fn huge_headers_are_refused() {
    let (twilio, server) = start().await;
    let huge = "x".repeat(1024 * 1024);
    let request = server.raw_request("GET", "/healthz", &[("X-Huge", huge.as_str())], b"");
    let answer = server.raw(&request).await;
    assert!(answer.is_none_or(|answer| [400, 413, 431].contains(&answer.status)));
    let many: Vec<(String, &str)> = (0..2000).map(|n| (format!("X-Many-{n}"), "1")).collect();
    let many: Vec<(&str, &str)> = many
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    let request = server.raw_request("GET", "/healthz", &many, b"");
    let answer = server.raw(&request).await;
    assert!(answer.is_none_or(|answer| [400, 413, 431].contains(&answer.status)));
    let path = format!("/{}", "x".repeat(200_000));
    let request = server.raw_request("GET", &path, &[], b"");
    let answer = server.raw(&request).await;
    assert!(answer.is_none_or(|answer| (400..500).contains(&answer.status)));
    nothing_happened(&twilio, &server).await;
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let (twilio, server) = start().await;
    let requests: [&[u8]; 9] = [
        b"\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00\x00\x00\x00",
        b"POST /api/otp/send HTTP/1.1\r\nHost: x\r\nContent-Length: nonsense\r\n\r\n{}",
        b"POST /api/otp/send HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 4\r\n\r\n{}{}",
        b"POST /api/otp/send HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ];
    for request in requests {
        let answer = server.raw(request).await;
        let text = String::from_utf8_lossy(request);
        assert!(
            answer
                .as_ref()
                .is_none_or(|answer| (400..600).contains(&answer.status)),
            "{text:?}: {answer:?}"
        );
    }
    nothing_happened(&twilio, &server).await;
}
