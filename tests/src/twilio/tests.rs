use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde_json::json;

use super::*;
use crate::Client;
use crate::messages_api::{ACCOUNT_SID, AUTH_TOKEN};

fn path(account: &str) -> String {
    format!("/2010-04-01/Accounts/{account}/Messages.json")
}

async fn post(twilio: &FakeTwilio, path: &str, token: &str, form: &str) -> crate::Answer {
    let basic = format!(
        "Basic {}",
        STANDARD.encode(format!("{ACCOUNT_SID}:{token}"))
    );
    let headers = [
        ("authorization", basic.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let client = Client::new(twilio.address, None);
    client
        .request(Method::POST, path, &headers, form.to_owned())
        .await
        .unwrap()
}

const FORM: &str = "To=%2B12025550123&From=%2B15005550006&Body=code+is%3A+123456%0A%0AValid";

#[tokio::test]
async fn a_right_request_gets_the_resource() {
    let twilio = FakeTwilio::start().await;
    let answer = post(&twilio, &path(ACCOUNT_SID), AUTH_TOKEN, FORM)
        .await
        .expect_status(201);
    let message = twilio.next_message().await;
    assert_eq!(
        (message.to.as_str(), message.code().as_str()),
        ("+12025550123", "123456")
    );
    assert_eq!(answer.json()["sid"], json!(message.sid));
}

#[tokio::test]
async fn a_wrong_request_gets_twilios_code() {
    let twilio = FakeTwilio::start().await;
    let code = async |path: &str, token: &str, form: &str| {
        let answer = post(&twilio, path, token, form).await;
        (answer.status, answer.json()["code"].as_u64().unwrap())
    };
    let right = path(ACCOUNT_SID);
    assert_eq!(code(&right, "wrong", FORM).await, (401, 20003));
    assert_eq!(code(&path("AC1"), AUTH_TOKEN, FORM).await, (404, 20404));
    assert_eq!(
        code(&right, AUTH_TOKEN, "From=%2B15005550006&Body=x").await,
        (400, 21604)
    );
    assert_eq!(
        code(&right, AUTH_TOKEN, "To=12&From=%2B15005550006&Body=x").await,
        (400, 21211)
    );
    assert_eq!(
        code(&right, AUTH_TOKEN, "To=%2B12025550123&From=%2B15005550006").await,
        (400, 21602)
    );
    assert!(twilio.messages().is_empty());
    assert_eq!(twilio.requests().len(), 5);
}

#[tokio::test]
async fn who_asks_about_a_message_is_told_what_became_of_it() {
    let twilio = FakeTwilio::start().await;
    twilio.always(Reply::error(500, 20500));
    twilio.next([Reply::Accept]);
    let sent = post(&twilio, &path(ACCOUNT_SID), AUTH_TOKEN, FORM).await;
    sent.expect_status(201);
    let message = twilio.next_message().await;
    let ask = async |token: &str, sid: &str| {
        let path = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Messages/{sid}.json");
        let login = STANDARD.encode(format!("{ACCOUNT_SID}:{token}"));
        let headers = [("authorization", &*format!("Basic {login}"))];
        let client = Client::new(twilio.address, None);
        let told = client.request(Method::GET, &path, &headers, "").await;
        told.unwrap()
    };
    let sid = message.sid.as_str();
    let told = ask(AUTH_TOKEN, sid).await.expect_status(200).json();
    assert_eq!(
        (&told["sid"], &told["status"]),
        (&json!(sid), &json!("sent"))
    );
    assert_eq!(told["price"], Value::Null);
    twilio.tell(&message, "delivered", Some("-0.00790"));
    let told = ask(AUTH_TOKEN, sid).await.expect_status(200).json();
    let want = (&json!("delivered"), &json!("-0.00790"));
    assert_eq!((&told["status"], &told["price"]), want);
    ask("wrong", sid).await.expect_status(401);
    ask(AUTH_TOKEN, "SM1").await.expect_status(404);
    assert_eq!(twilio.questions(), 3);
    assert_eq!((twilio.requests().len(), twilio.messages().len()), (1, 1));
}

#[tokio::test]
async fn scripted_replies_come_in_order() {
    let twilio = FakeTwilio::start().await;
    twilio.next_to("+12025550123", [Reply::throttled(7)]);
    twilio.next([Reply::error(500, 20500)]);
    let right = path(ACCOUNT_SID);
    let answer = post(&twilio, &right, AUTH_TOKEN, FORM)
        .await
        .expect_status(429);
    assert_eq!(answer.retry_after(), Duration::from_secs(7));
    post(&twilio, &right, AUTH_TOKEN, FORM)
        .await
        .expect_status(500);
    post(&twilio, &right, AUTH_TOKEN, FORM)
        .await
        .expect_status(201);
}

#[tokio::test]
async fn a_hanging_request_is_answered_on_release() {
    let twilio = FakeTwilio::start().await;
    twilio.always(Reply::Hang);
    let right = path(ACCOUNT_SID);
    let hanging = post(&twilio, &right, AUTH_TOKEN, FORM);
    let release = async {
        twilio.wait_for_requests_to("+12025550123", 1).await;
        assert!(twilio.messages().is_empty());
        twilio.release();
    };
    let (answer, ()) = tokio::join!(hanging, release);
    answer.expect_status(201);
}

#[tokio::test]
async fn connections_are_refused_until_they_are_accepted() {
    let mut twilio = FakeTwilio::start_refusing();
    let refused = tokio::net::TcpStream::connect(twilio.address).await;
    assert_eq!(
        refused.unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
    twilio.accept_connections();
    post(&twilio, &path(ACCOUNT_SID), AUTH_TOKEN, FORM)
        .await
        .expect_status(201);
}
