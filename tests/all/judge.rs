//! Requests to Twilio, judged by Twilio's own description of its API in a program that is not ours.

use std::time::Duration;

use countersign_tests::{ACCOUNT_SID, AUTH_TOKEN, Builder, Judge, PHONE_NUMBER, Server, WallClock};
use hyper::Method;

use crate::companies::send;
use crate::messages::{story_tried, story_until};

const SERVICE: &str = "MG0123456789abcdef0123456789abcdef";

/// A server that sends through Twilio with one more setting.
fn with(judge: &Judge, setting: &str) -> Builder {
    let config = format!(
        "[[provider]]\nname = 'twilio'\ncomponent = 'provider-twilio'\n\
         settings = {{ base-url = '{}', account-sid = '{ACCOUNT_SID}', {setting} }}\n\
         credentials = {{ auth-token = {{ env = 'TOKEN' }} }}\n",
        judge.base_url()
    );
    Server::builder().config(&config).env("TOKEN", AUTH_TOKEN)
}

#[tokio::test]
async fn a_send_and_the_question_what_became_of_it_are_as_twilio_describes_them() {
    let judge = Judge::start().await;
    let clock = WallClock::at("2026-03-01T08:00:00Z");
    let from = format!("from = '{PHONE_NUMBER}'");
    let server = with(&judge, &from).callbacks().clock(&clock).start().await;
    let id = send(&server, 1).await;
    story_until(&server, &id, "sent").await;
    judge.passed(1).await;
    // Old enough for its price to be asked for.
    clock.advance(Duration::from_secs(180));
    judge.passed(2).await;
}

#[tokio::test]
async fn a_send_through_a_messaging_service_is_as_twilio_describes_it() {
    let judge = Judge::start().await;
    let service = format!("messaging-service-sid = '{SERVICE}'");
    let server = with(&judge, &service).start().await;
    let id = send(&server, 1).await;
    story_until(&server, &id, "sent").await;
    judge.passed(1).await;
}

/// So that it can be believed when it finds nothing.
#[tokio::test]
async fn the_judge_refuses_what_twilio_does_not_describe() {
    let judge = Judge::start().await;
    let server = with(&judge, "messaging-service-sid = 'MG0123'")
        .start()
        .await;
    let id = send(&server, 1).await;
    let story = story_tried(&server, &id).await;
    assert_eq!(story["attempts"][0]["class"], "permanent", "{story}");
    let violations = judge.violations();
    let named = violations
        .iter()
        .filter(|one| one.contains("MessagingServiceSid"));
    assert!(
        !violations.is_empty() && named.count() == violations.len(),
        "{violations:?}"
    );

    let client = judge.client();
    let to = "To=%2B12025550123";
    let right = format!("{to}&From=%2B15005550006&Body=x&ValidityPeriod=600");
    let form = "application/x-www-form-urlencoded";
    for (account, media_type, login, body, status) in [
        (ACCOUNT_SID, form, true, right.as_str(), 201),
        (ACCOUNT_SID, form, false, right.as_str(), 401),
        ("AC0123", form, true, right.as_str(), 422),
        (ACCOUNT_SID, "application/json", true, "{}", 415),
        (ACCOUNT_SID, form, true, "From=%2B15005550006&Body=x", 422),
        (
            ACCOUNT_SID,
            form,
            true,
            &format!("{to}&ValidityPeriod=soon"),
            422,
        ),
        (
            ACCOUNT_SID,
            form,
            true,
            &format!("{to}&StatusCallback=x"),
            422,
        ),
    ] {
        let path = format!("/2010-04-01/Accounts/{account}/Messages.json");
        // `user:password`, whoever that is.
        let login = login.then_some(("authorization", "Basic dXNlcjpwYXNzd29yZA=="));
        let headers: Vec<_> = [("content-type", media_type)]
            .into_iter()
            .chain(login)
            .collect();
        let sent = client.request(Method::POST, &path, &headers, body.to_owned());
        assert_eq!(
            sent.await.unwrap().status,
            status,
            "{account} {media_type} {body}"
        );
    }
}
