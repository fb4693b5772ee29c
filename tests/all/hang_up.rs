//! Clients that hang up once the body is sent: what was asked is done to its end.

use countersign_tests::{Client, FakeTwilio, Server, TOO_MANY_TRIES, nearly, phone};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

/// Sends a whole request and is gone, without a look at the answer.
async fn hang_up(client: &Client, request: &[u8]) {
    let mut stream = client.connect().await;
    stream.write_all(request).await.unwrap();
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_send_whose_client_hangs_up_goes_out() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    for n in 0..5 {
        let request = server.raw_post("/api/otp/send", &json!({ "phoneNumber": phone(n) }));
        hang_up(&server, &request).await;
    }
    for n in 0..5 {
        let code = twilio.message_to(&phone(n)).await.code();
        server.verify(&phone(n), &code).await.expect_success();
    }
}

#[tokio::test]
async fn a_try_whose_client_hangs_up_is_counted() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    let code = twilio.next_message().await.code();
    for n in 1..=5 {
        let body = json!({ "phoneNumber": phone(1), "code": nearly(&code, n) });
        // Ends the sending half and waits until the server is done with the connection: by then it
        // has begun the call or never will.
        server.raw(&server.raw_post("/api/otp/verify", &body)).await;
    }
    let refusal = json!({ "valid": false, "reason": TOO_MANY_TRIES });
    server
        .verify(&phone(1), &code)
        .await
        .expect_body(400, &refusal);
}

#[tokio::test]
async fn a_client_that_never_finishes_its_body_sends_nothing() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    let request = server.raw_post("/api/otp/send", &json!({ "phoneNumber": phone(1) }));
    for cut in [1, 2, 10] {
        let answer = server.raw(&request[..request.len() - cut]).await;
        assert!(answer.is_none_or(|answer| (400..500).contains(&answer.status)));
    }
    server.send(&phone(2)).await.expect_success();
    assert_eq!(twilio.next_message().await.to, phone(2));
    assert!(twilio.requests_to(&phone(1)).is_empty());
    server.expect_healthy().await;
}
