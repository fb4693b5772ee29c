//! Kills and stops: what was acknowledged is kept, what was spent stays spent.

use countersign_tests::{
    FakeTwilio, PATIENCE, Reply, Server, TOO_MANY_SENDS, TOO_MANY_TRIES, WRONG_CODE, join_all,
    nearly, phone,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rounds::{Blow, number_from_environment, rounds, seed};

#[tokio::test]
async fn a_send_acknowledged_before_a_kill_goes_out_after_the_restart() {
    let mut twilio = FakeTwilio::start_refusing();
    let mut server = Server::start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    server.kill().await;
    assert!(twilio.requests().is_empty());
    twilio.accept_connections();
    server.restart().await;
    let code = twilio.message_to(&phone(1)).await.code();
    server.verify(&phone(1), &code).await.expect_success();
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_provider_call_loses_nothing() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    twilio.always(Reply::Hang);
    server.send(&phone(1)).await.expect_success();
    let cut = twilio.wait_for_requests_to(&phone(1), 1).await;
    server.kill().await;
    twilio.always(Reply::Accept);
    server.restart().await;
    let code = twilio.message_to(&phone(1)).await.code();
    assert_eq!(
        cut[0].code(),
        Some(code.clone()),
        "a message that may go out twice has the same code"
    );
    server.verify(&phone(1), &code).await.expect_success();
}

#[tokio::test]
async fn many_sends_acknowledged_before_a_kill_all_go_out() {
    let mut twilio = FakeTwilio::start_refusing();
    let mut server = Server::start(&twilio).await;
    let phones: Vec<String> = (0..100).map(phone).collect();
    for answer in join_all(phones.iter().map(|phone| server.send(phone))).await {
        answer.expect_success();
    }
    server.kill().await;
    twilio.accept_connections();
    server.restart().await;
    for phone in &phones {
        let code = twilio.message_to(phone).await.code();
        server.verify(phone, &code).await.expect_success();
    }
}

#[tokio::test]
async fn send_windows_survive_a_kill() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    for _ in 0..3 {
        server.send(&phone(1)).await.expect_success();
    }
    server.kill().await;
    server.restart().await;
    let refused = server
        .send(&phone(1))
        .await
        .expect_body(400, &json!({ "error": TOO_MANY_SENDS }));
    assert!(
        (1..=60).contains(&refused.retry_after().as_secs()),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_code_used_before_a_kill_stays_used() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    let code = twilio.next_message().await.code();
    server.verify(&phone(1), &code).await.expect_success();
    server.kill().await;
    server.restart().await;
    let refusal = json!({ "valid": false, "reason": WRONG_CODE });
    server
        .verify(&phone(1), &code)
        .await
        .expect_body(400, &refusal);
}

#[tokio::test]
async fn tries_and_locks_survive_a_kill() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    let code = twilio.next_message().await.code();
    // A kill after every single try: none of them is forgotten.
    for n in 1..=5 {
        let refusal = json!({ "valid": false, "reason": WRONG_CODE });
        server
            .verify(&phone(1), &nearly(&code, n))
            .await
            .expect_body(400, &refusal);
        server.kill().await;
        server.restart().await;
    }
    let refusal = json!({ "valid": false, "reason": TOO_MANY_TRIES });
    server
        .verify(&phone(1), &code)
        .await
        .expect_body(400, &refusal);
}

#[tokio::test]
async fn a_code_sent_before_a_restart_is_good_after_it() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    let code = twilio.next_message().await.code();
    assert!(server.terminate().await.success());
    server.restart().await;
    server.send(&phone(1)).await.expect_success();
    assert_eq!(
        twilio.next_message().await.code(),
        code,
        "the same code goes out again"
    );
    server.verify(&phone(1), &code).await.expect_success();
}

#[tokio::test]
async fn kills_at_random_moments_lose_nothing_acknowledged_and_accept_no_code_twice() {
    let kills = number_from_environment("COUNTERSIGN_TEST_KILLS", 25);
    let tally = rounds(kills, seed(), Blow::Kill, |twilio, _| {
        Server::builder().twilio(twilio)
    })
    .await;
    eprintln!("{tally:?}");
    assert_eq!(tally.blows, kills);
    // A round of the kind that has a load comes at least every few.
    assert!(
        tally.sends >= kills && tally.spent >= kills / 2,
        "{tally:?}"
    );
    let least = kills.min(1);
    assert!(tally.limits >= least && tally.locks >= least, "{tally:?}");
}

#[tokio::test]
async fn sigterm_ends_the_server_with_status_0() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    let status = server.terminate().await;
    assert!(status.success(), "{status}\n{}", server.stderr().text());
}

#[tokio::test]
async fn sigterm_lets_a_request_in_flight_finish() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    let body = json!({ "phoneNumber": phone(1) }).to_string();
    let length = body.len().to_string();
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", length.as_str()),
        ("Expect", "100-continue"),
    ];
    let mut stream = server.connect().await;
    stream
        .write_all(&server.raw_request("POST", "/api/otp/send", &headers, b""))
        .await
        .unwrap();
    // "100 Continue" says that the server has the request in its hands and wants the body.
    let mut received = Vec::new();
    let go_on = async {
        while !received.ends_with(b"\r\n\r\n") {
            let mut chunk = [0; 1024];
            let length = stream.read(&mut chunk).await.unwrap();
            assert!(
                length > 0,
                "the connection ended: {}",
                String::from_utf8_lossy(&received)
            );
            received.extend_from_slice(&chunk[..length]);
        }
    };
    tokio::time::timeout(PATIENCE, go_on)
        .await
        .expect("the server asks for the body");
    assert!(
        received.starts_with(b"HTTP/1.1 100"),
        "{}",
        String::from_utf8_lossy(&received)
    );
    server.ask_to_stop();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("the connection ends")
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let status = server.stopped().await;
    assert!(status.success(), "{status}");
    // Delivered before the end or after the next start: lost it is not.
    server.restart().await;
    let code = twilio.message_to(&phone(1)).await.code();
    server.verify(&phone(1), &code).await.expect_success();
}

#[tokio::test]
async fn what_is_acknowledged_while_the_server_stops_is_delivered() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    let client = server.client();
    let phones: Vec<String> = (0..64).map(phone).collect();
    let sends = join_all(phones.iter().map(|phone| client.try_send(phone)));
    let stop = async {
        twilio.wait_for_count(1).await;
        server.ask_to_stop();
    };
    let (answers, ()) = tokio::join!(sends, stop);
    let status = server.stopped().await;
    assert!(status.success(), "{status}");
    server.restart().await;
    for (phone, answer) in phones.iter().zip(answers) {
        // A connection that came too late is closed, or told so.
        if answer.is_ok_and(|answer| answer.status == 200) {
            twilio.message_to(phone).await;
        }
    }
}

#[tokio::test]
async fn a_stop_is_not_held_up_by_a_provider_that_hangs() {
    let twilio = FakeTwilio::start().await;
    // The provider has far longer.
    let server = Server::builder().env("COUNTERSIGN_HTTP_STOP_SECONDS", "1");
    let mut server = server.twilio(&twilio).start().await;
    twilio.always(Reply::Hang);
    server.send(&phone(1)).await.expect_success();
    twilio.wait_for_requests_to(&phone(1), 1).await;
    let status = server.terminate().await;
    assert!(status.success(), "{status}");
    twilio.always(Reply::Accept);
    server.restart().await;
    let code = twilio.message_to(&phone(1)).await.code();
    server.verify(&phone(1), &code).await.expect_success();
}
