//! The other end: what a provider is asked, and what its answers lead to.

use std::time::Duration;

use countersign_tests::{
    ACCOUNT_SID, AUTH_TOKEN, FakeTwilio, PATIENCE, PHONE_NUMBER, Reply, Request, Server, join_all,
    phone,
};

use crate::start;

/// Lets as much time pass as three tries of an unknown outcome need, by watching just that.
///
/// A retry of anything that was sent before would have come by the end of it.
async fn three_tries_later(twilio: &FakeTwilio, server: &Server, other: &str) {
    twilio.next_to(
        other,
        [
            Reply::error(500, 20500),
            Reply::error(500, 20500),
            Reply::Accept,
        ],
    );
    server.send(other).await.expect_success();
    twilio.wait_for_requests_to(other, 3).await;
}

#[track_caller]
fn same_code(requests: &[Request]) -> String {
    let codes: Vec<_> = requests
        .iter()
        .map(|request| request.code().expect("every text has a code"))
        .collect();
    assert!(codes.iter().all(|code| *code == codes[0]), "{codes:?}");
    codes[0].clone()
}

#[tokio::test]
async fn a_request_is_what_twilio_asks_for() {
    let (twilio, server) = start().await;
    server.send(&phone(1)).await.expect_success();
    let message = twilio.next_message().await;
    let requests = twilio.requests();
    let [request] = requests.as_slice() else {
        panic!("one request, not {requests:#?}")
    };
    assert_eq!(request.method, "POST");
    assert_eq!(
        request.path,
        format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json")
    );
    assert_eq!(
        request.header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(request.field("From"), Some(PHONE_NUMBER));
    assert_eq!(request.field("To"), Some(phone(1).as_str()));
    assert_eq!(request.field("Body"), Some(message.body.as_str()));
    // The provider drops what would arrive when the code has ended: less than the whole time only by what
    // the message has waited here, which no test does for longer than it is patient.
    let validity: u32 = request
        .field("ValidityPeriod")
        .expect("a ValidityPeriod")
        .parse()
        .unwrap();
    let waited = u32::try_from(PATIENCE.as_secs()).unwrap();
    assert!((600 - waited..=600).contains(&validity), "{validity} s");
    // Nothing of the caller's goes along.
    for name in ["cookie", "x-countersign-client-address", "x-forwarded-for"] {
        assert_eq!(request.header(name), None);
    }
    assert!(!String::from_utf8_lossy(&request.body).contains(AUTH_TOKEN));
}

#[tokio::test]
async fn a_send_to_a_slow_provider_is_answered_at_once() {
    let (twilio, server) = start().await;
    twilio.always(Reply::Hang);
    let phones: Vec<String> = (0..40).map(phone).collect();
    for answer in join_all(phones.iter().map(|phone| server.send(phone))).await {
        answer.expect_success();
    }
    // All of them wait, and everything else goes on.
    server.expect_healthy().await;
    assert!(twilio.messages().is_empty());
    twilio.release();
    twilio.wait_for_count(40).await;
    for phone in &phones {
        let code = twilio.message_to(phone).await.code();
        server.verify(phone, &code).await.expect_success();
    }
}

#[tokio::test]
async fn many_messages_are_on_their_way_at_once() {
    let (twilio, server) = start().await;
    twilio.always(Reply::Hang);
    let phones: Vec<String> = (0..32).map(phone).collect();
    for answer in join_all(phones.iter().map(|phone| server.send(phone))).await {
        answer.expect_success();
    }
    for phone in &phones {
        twilio.wait_for_requests_to(phone, 1).await;
    }
    twilio.release();
    twilio.wait_for_count(32).await;
}

#[tokio::test]
async fn what_never_works_is_asked_once() {
    let (twilio, server) = start().await;
    let permanent = [21211, 21614, 21635, 21610, 21408, 29_999];
    for (n, code) in permanent.into_iter().enumerate() {
        twilio.next_to(&phone(n), [Reply::error(400, code)]);
        server.send(&phone(n)).await.expect_success();
        twilio.wait_for_requests_to(&phone(n), 1).await;
    }
    three_tries_later(&twilio, &server, &phone(100)).await;
    for (n, code) in permanent.into_iter().enumerate() {
        assert_eq!(twilio.requests_to(&phone(n)).len(), 1, "error {code}");
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_three_times_with_one_code() {
    let (twilio, server) = start().await;
    twilio.next_to(&phone(1), vec![Reply::error(500, 20500); 10]);
    twilio.next_to(&phone(2), vec![Reply::CloseAfterBody; 10]);
    server.send(&phone(1)).await.expect_success();
    server.send(&phone(2)).await.expect_success();
    for phone in [phone(1), phone(2)] {
        let requests = twilio.wait_for_requests_to(&phone, 3).await;
        same_code(&requests);
        // After about one second and about two: not at once.
        let waits = [
            requests[1].at - requests[0].at,
            requests[2].at - requests[1].at,
        ];
        assert!(
            waits.iter().all(|wait| *wait >= Duration::from_millis(200)),
            "{waits:?}"
        );
    }
    three_tries_later(&twilio, &server, &phone(100)).await;
    for phone in [phone(1), phone(2)] {
        assert_eq!(twilio.requests_to(&phone).len(), 3);
        let code = same_code(&twilio.requests_to(&phone));
        // It may have arrived all the same.
        server.verify(&phone, &code).await.expect_success();
    }
}

#[tokio::test]
async fn an_unknown_outcome_may_end_well() {
    let (twilio, server) = start().await;
    twilio.next_to(&phone(1), [Reply::error(503, 20503), Reply::CloseAfterBody]);
    server.send(&phone(1)).await.expect_success();
    let code = twilio.message_to(&phone(1)).await.code();
    assert_eq!(same_code(&twilio.requests_to(&phone(1))), code);
    server.verify(&phone(1), &code).await.expect_success();
}

#[tokio::test]
async fn a_throttled_message_comes_back_when_it_was_told_to() {
    let (twilio, server) = start().await;
    twilio.next_to(&phone(1), [Reply::throttled(2), Reply::throttled(1)]);
    server.send(&phone(1)).await.expect_success();
    let code = twilio.message_to(&phone(1)).await.code();
    let requests = twilio.requests_to(&phone(1));
    assert_eq!(requests.len(), 3);
    assert_eq!(same_code(&requests), code);
    let waits = [
        requests[1].at - requests[0].at,
        requests[2].at - requests[1].at,
    ];
    assert!(waits[0] >= Duration::from_millis(1900), "{waits:?}");
    assert!(waits[1] >= Duration::from_millis(900), "{waits:?}");
}

#[tokio::test]
async fn a_refused_connection_is_tried_until_it_works() {
    let mut twilio = FakeTwilio::start_refusing();
    let server = Server::start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    // By when the second has been answered, the first has met the refusal at least once, or will.
    server.send(&phone(2)).await.expect_success();
    twilio.accept_connections();
    for phone in [phone(1), phone(2)] {
        let code = twilio.message_to(&phone).await.code();
        server.verify(&phone, &code).await.expect_success();
    }
}

#[tokio::test]
async fn a_connection_cut_before_the_body_is_tried_again() {
    let (twilio, server) = start().await;
    twilio.next([Reply::CloseBeforeBody]);
    server.send(&phone(1)).await.expect_success();
    let code = twilio.message_to(&phone(1)).await.code();
    assert_eq!(twilio.requests().len(), 2);
    server.verify(&phone(1), &code).await.expect_success();
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_not_asked_for_ever() {
    let (twilio, server) = start().await;
    twilio.next_to(&phone(1), vec![Reply::Garbage; 10]);
    server.send(&phone(1)).await.expect_success();
    twilio.wait_for_requests_to(&phone(1), 1).await;
    three_tries_later(&twilio, &server, &phone(100)).await;
    three_tries_later(&twilio, &server, &phone(101)).await;
    assert!(twilio.requests_to(&phone(1)).len() <= 3);
    server.expect_healthy().await;
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect() {
    let (twilio, server) = start().await;
    let elsewhere = FakeTwilio::start().await;
    let location = format!(
        "{}/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json",
        elsewhere.base_url()
    );
    twilio.next_to(&phone(1), vec![Reply::Redirect(location); 10]);
    server.send(&phone(1)).await.expect_success();
    twilio.wait_for_requests_to(&phone(1), 1).await;
    three_tries_later(&twilio, &server, &phone(100)).await;
    assert!(
        elsewhere.requests().is_empty(),
        "{:#?}",
        elsewhere.requests()
    );
}

#[tokio::test]
async fn a_bad_message_does_not_hold_up_a_good_one() {
    let (twilio, server) = start().await;
    // They are tried again when nobody waits for anything here any more.
    let later = 2 * u32::try_from(PATIENCE.as_secs()).unwrap();
    for n in 0..20 {
        twilio.next_to(&phone(n), vec![Reply::throttled(later); 3]);
        server.send(&phone(n)).await.expect_success();
        twilio.wait_for_requests_to(&phone(n), 1).await;
    }
    server.send(&phone(100)).await.expect_success();
    let code = twilio.message_to(&phone(100)).await.code();
    for n in 0..20 {
        assert_eq!(twilio.requests_to(&phone(n)).len(), 1);
    }
    server.verify(&phone(100), &code).await.expect_success();
}

#[tokio::test]
async fn a_provider_is_told_where_receipts_go_where_the_server_has_a_public_address() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder()
        .twilio(&twilio)
        .env("COUNTERSIGN_PUBLIC_URL", "https://sms.example.test/a/")
        .start()
        .await;
    server.send(&phone(1)).await.expect_success();
    twilio.next_message().await;
    let told = "https://sms.example.test/a/webhooks/twilio";
    assert_eq!(twilio.requests()[0].field("StatusCallback"), Some(told));

    let (twilio, server) = start().await;
    server.send(&phone(1)).await.expect_success();
    twilio.next_message().await;
    assert_eq!(twilio.requests()[0].field("StatusCallback"), None);
}

#[tokio::test]
async fn a_provider_that_hangs_does_not_keep_messages_from_another() {
    let (hangs, works) = (FakeTwilio::start().await, FakeTwilio::start().await);
    hangs.always(Reply::Hang);
    let provider = |name: &str, twilio: &FakeTwilio| {
        format!(
            r#"
[[provider]]
name = "{name}"
component = "provider-twilio"
settings = {{ account-sid = "{ACCOUNT_SID}", from = "{PHONE_NUMBER}", base-url = "{}" }}
credentials = {{ auth-token = "{AUTH_TOKEN}" }}
"#,
            twilio.base_url()
        )
    };
    let routes = r#"
[[route]]
country = "DE"
providers = ["works"]
[[route]]
providers = ["hangs"]
"#;
    // One hand less than there are messages for the one that hangs.
    let config = format!(
        "[delivery]\nin-hand = 8\nconcurrency = 4\n{}{}{routes}",
        provider("hangs", &hangs),
        provider("works", &works)
    );
    let server = Server::builder().config(&config).start().await;
    let phones: Vec<String> = (0..9).map(phone).collect();
    for answer in join_all(phones.iter().map(|phone| server.send(phone))).await {
        answer.expect_success();
    }
    for n in 0..9 {
        let german = format!("+49151234567{n:02}");
        server.send(&german).await.expect_success();
        works.message_to(&german).await;
    }
    hangs.release();
    for phone in &phones {
        hangs.message_to(phone).await;
    }
}
