//! Whole calls: requests as Infobip's API wants them, answers, and reports.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_provider::fake::{Fake, message};
use countersign_provider::{
    Authorization, Callback, CallbackError, ErrorClass, Header, Message, Provider, Reply,
    SendError, Status, StatusUpdate, reply,
};
use serde_json::{Value, json};

use crate::{Infobip, api, report};

const ID: &str = "0123456789abcdef0123456789abcdef";
const LOGIN: &str = "countersign:a-long-password";

fn fake() -> Fake {
    let settings = [
        ("base-url", "https://abc12.api.infobip.com/"),
        ("from", "HarbourBank"),
    ];
    Fake::new(
        &settings,
        &[("api-key", "key-0123"), ("callback-login", LOGIN)],
    )
}

fn taken(group: u32, name: &str) -> Value {
    json!({"bulkId": "b-1", "messages": [{
        "messageId": ID, "destination": "12025550123",
        "status": {"groupId": group, "groupName": "X", "id": 26, "name": name},
        "details": {"messageCount": 1}
    }]})
}

fn authorized() -> Authorization {
    Authorization::Header(Header {
        name: "authorization".into(),
        prefix: "App ".into(),
        credential: "api-key".into(),
    })
}

#[test]
fn a_message_is_posted_as_json() {
    let mut fake = fake().answer(200, taken(1, "PENDING_ACCEPTED"));
    let url = "https://sms.example.test/webhooks/infobip";
    let wish = Message {
        status_callback: Some(url.into()),
        ..message()
    };
    let accepted = api::send(&mut fake, &wish).expect("accepted");
    assert_eq!(accepted.ids, [ID]);
    assert_eq!(accepted.segments, Some(1));
    assert_eq!(
        fake.last().url,
        "https://abc12.api.infobip.com/sms/3/messages"
    );
    assert_eq!(fake.last().authorization, authorized());
    assert_eq!(
        fake.json(),
        json!({"messages": [{
            "sender": "HarbourBank",
            "destinations": [{"to": "12025550123", "messageId": ID}],
            "content": {"text": "Your code: 123456 & more"},
            "options": {"validityPeriod": {"amount": 9, "timeUnit": "MINUTES"}},
            "webhooks": {
                "delivery": {"url": url, "intermediateReport": false, "notify": true},
                "contentType": "application/json"
            }
        }]})
    );
    fake.settings.push(("reports", "subscription".into()));
    let mut fake = fake.answer(200, taken(1, "PENDING_ACCEPTED"));
    api::send(&mut fake, &wish).expect("accepted");
    assert_eq!(fake.json()["messages"][0].get("webhooks"), None);
    fake.settings.pop();
    fake.settings.push(("reports", "never".into()));
    let error = refused(fake);
    assert_eq!(error.class, ErrorClass::Auth);
    assert!(error.text.contains("`reports`"), "{}", error.text);
}

#[test]
fn the_validity_is_at_least_a_minute_and_at_most_two_days() {
    for (validity, want) in [(0, 1), (59_999, 1), (120_000, 2), (u64::MAX, 2_880)] {
        let mut fake = fake().answer(200, taken(1, "PENDING_ACCEPTED"));
        let wish = Message {
            validity,
            ..message()
        };
        api::send(&mut fake, &wish).expect("accepted");
        let options = &fake.json()["messages"][0]["options"];
        assert_eq!(options["validityPeriod"]["amount"], want);
    }
}

#[track_caller]
fn refused(fake: Fake) -> SendError {
    let mut fake = fake;
    api::send(&mut fake, &message()).expect_err("refused")
}

#[test]
fn a_success_may_be_a_rejection() {
    for (name, class) in [
        ("REJECTED_NOT_ENOUGH_CREDITS", ErrorClass::Auth),
        ("REJECTED_SENDER", ErrorClass::Blocked),
        ("NETWORK_FORBIDDEN", ErrorClass::Blocked),
        ("REJECTED_FLOODING_FILTER", ErrorClass::Throttled),
        ("REJECTED_DESTINATION", ErrorClass::Permanent),
        ("REJECTED_BLACKLISTED", ErrorClass::Blocked),
    ] {
        let error = refused(fake().answer(200, taken(5, name)));
        assert_eq!(error.class, class, "{name}");
        assert_eq!(error.text, format!("Infobip {name}"));
        assert_eq!(error.provider_code.as_deref(), Some("26"));
        let elsewhere = error.attributes.iter().any(|(name, _)| name == "failover");
        let of_the_way = ["REJECTED_SENDER", "NETWORK_FORBIDDEN"].contains(&name);
        assert_eq!(elsewhere, of_the_way, "{name}");
    }
}

#[test]
fn refusals_are_read_in_both_forms() {
    let today = json!({"errorCode": "E401", "description": "Unauthorized."});
    let error = refused(fake().answer(401, today));
    assert_eq!(error.class, ErrorClass::Auth);
    assert_eq!(error.text, "HTTP 401, E401: Unauthorized.");
    let older =
        json!({"requestError": {"serviceException": {"messageId": "BAD_REQUEST", "text": "No"}}});
    let error = refused(fake().answer(400, older));
    assert_eq!(error.class, ErrorClass::Permanent);
    assert_eq!(error.text, "HTTP 400, BAD_REQUEST: No");
    for (status, class) in [
        (403, ErrorClass::Auth),
        (429, ErrorClass::Throttled),
        (500, ErrorClass::UnknownOutcome),
        (200, ErrorClass::UnknownOutcome),
    ] {
        assert_eq!(
            refused(fake().answer(status, "<html>")).class,
            class,
            "{status}"
        );
    }
    assert_eq!(refused(fake().fail(false)).class, ErrorClass::Retryable);
    assert_eq!(refused(fake().fail(true)).class, ErrorClass::UnknownOutcome);
}

fn result(id: &str, group: u32, name: &str) -> Value {
    json!({
        "messageId": id, "bulkId": "b-1", "to": "12025550123", "sender": "HarbourBank",
        "sentAt": "2026-01-02T03:04:00.000+0000", "doneAt": "2026-01-02T03:04:05.678+0000",
        "messageCount": 2, "price": {"pricePerMessage": 0.0079, "currency": "EUR"},
        "status": {"groupId": group, "groupName": "X", "id": 5, "name": name},
        "error": {"groupId": 0, "groupName": "OK", "id": 0, "name": "NO_ERROR", "permanent": false}
    })
}

fn posted(body: &Value, login: Option<&str>) -> Callback {
    let login = login.map(|login| ("authorization".into(), login.into()));
    Callback {
        method: "POST".into(),
        url: "https://sms.example.test/webhooks/infobip".into(),
        headers: login.into_iter().collect(),
        body: body.to_string().into(),
        attributes: Vec::new(),
    }
}

fn read(body: &Value, login: Option<&str>) -> Result<Vec<StatusUpdate>, CallbackError> {
    Infobip::parse_callback(&mut fake(), &posted(body, login)).map(|news| news.updates)
}

#[test]
fn a_report_carries_a_hundred_messages_with_their_prices() {
    let results: Vec<_> = (0..100)
        .map(|n| result(&format!("m-{n}"), 3, "DELIVERED_TO_HANDSET"))
        .collect();
    let basic = format!("Basic {}", STANDARD.encode(LOGIN));
    let updates = read(&json!({"results": results}), Some(&basic)).expect("read");
    assert_eq!(updates.len(), 100);
    let last = &updates[99];
    assert_eq!((last.id.as_str(), last.status), ("m-99", Status::Delivered));
    assert_eq!(last.at, Some(1_767_323_045_678));
    assert_eq!(last.segments, Some(2));
    assert_eq!(
        last.price.as_ref().map(|price| price.amount.as_str()),
        Some("0.0158")
    );
    assert_eq!(last.error, None);
}

#[test]
fn a_wrong_login_is_not_believed() {
    let body = json!({"results": []});
    for login in [
        format!("Basic {}", STANDARD.encode("countersign:another")),
        "Basic %".into(),
        format!("Bearer {LOGIN}"),
        String::new(),
    ] {
        assert_eq!(
            read(&body, Some(&login)),
            Err(CallbackError::Unsigned),
            "{login}"
        );
    }
    // Whether one without a login counts is the host's to say.
    assert_eq!(read(&body, None), Ok(Vec::new()));
}

#[test]
fn every_group_is_known() {
    let check = |group: u32, name: &str, want| {
        let status = json!({"groupId": group, "name": name});
        assert_eq!(report::status_of(&status), want, "{group} {name}");
    };
    check(0, "MESSAGE_ACCEPTED", Some(Status::Queued));
    check(1, "PENDING_ACCEPTED", Some(Status::Queued));
    check(1, "PENDING_ENROUTE", Some(Status::Queued));
    check(1, "PENDING_WAITING_DELIVERY", Some(Status::Sent));
    check(2, "UNDELIVERABLE_NOT_DELIVERED", Some(Status::Undelivered));
    check(3, "DELIVERED_TO_OPERATOR", Some(Status::Sent));
    check(3, "DELIVERED_TO_HANDSET", Some(Status::Delivered));
    check(4, "EXPIRED_EXPIRED", Some(Status::Undelivered));
    check(5, "REJECTED_NETWORK", Some(Status::Failed));
    check(9, "TELEPORTED", None);
    let by_name = json!({"groupName": "DELIVERED", "name": "DELIVERED_TO_HANDSET"});
    assert_eq!(report::status_of(&by_name), Some(Status::Delivered));
}

#[test]
fn the_reason_has_a_class() {
    let class = |name: &str, permanent: bool| {
        let mut one = result("m-1", 2, "UNDELIVERABLE_NOT_DELIVERED");
        one["error"] = json!({"id": 27, "name": name, "permanent": permanent});
        let updates = read(&json!({"results": [one]}), None).expect("read");
        updates[0].error.as_ref().map(|error| error.class)
    };
    assert_eq!(
        class("EC_ABSENT_SUBSCRIBER", false),
        Some(ErrorClass::Retryable)
    );
    assert_eq!(
        class("EC_UNKNOWN_SUBSCRIBER", true),
        Some(ErrorClass::Permanent)
    );
    assert_eq!(class("EC_SPAM_FILTERED", true), Some(ErrorClass::Blocked));
}

#[test]
fn what_is_no_report_is_malformed_and_one_unknown_word_costs_no_other() {
    for body in [
        json!([]),
        json!({}),
        json!({"results": 1}),
        json!({"results": vec![1; 1_001]}),
    ] {
        assert_eq!(read(&body, None), Err(CallbackError::Malformed));
    }
    let results = [
        result("m-1", 9, "TELEPORTED"),
        result("m-2", 3, "DELIVERED_TO_HANDSET"),
    ];
    let updates = read(&json!({"results": results}), None).expect("read");
    assert_eq!(updates.len(), 1);
}

#[test]
fn messages_are_asked_for_in_the_logs() {
    let body = json!({"results": [result(ID, 3, "DELIVERED_TO_HANDSET")]});
    let mut fake = fake().answer(200, body).answer(503, "");
    let ids = [ID, "other-2", "../../x", ""].map(String::from);
    let updates = api::fetch_status(&mut fake, &ids).expect("an answer");
    let url = format!("https://abc12.api.infobip.com/sms/3/logs?messageId={ID}&messageId=other-2");
    assert_eq!(fake.last().url, url);
    assert_eq!(fake.last().authorization, authorized());
    assert_eq!(updates.len(), 1);
    assert!(updates[0].price.is_some());
    let error = api::fetch_status(&mut fake, &ids).expect_err("nothing is known");
    assert_eq!(error.class, ErrorClass::Retryable);
    assert_eq!(api::fetch_status(&mut fake, &ids[2..]), Ok(Vec::new()));
}

#[test]
fn what_somebody_sends_to_us_is_a_reply() {
    let answer = json!({
        "messageId": "817790313235066447", "from": "12025550123", "to": "15005550006", "text": "Stop",
        "cleanText": "Stop", "keyword": "", "receivedAt": "2026-01-02T03:04:05.000+0000", "smsCount": 1
    });
    let body = json!({"results": [answer, result("m-1", 3, "DELIVERED_TO_HANDSET")]});
    let news = Infobip::parse_callback(&mut fake(), &posted(&body, None)).expect("understood");
    let want = Reply {
        id: Some("817790313235066447".into()),
        at: Some(1_767_323_045_000),
        ..reply("+12025550123", "15005550006", "Stop")
    };
    assert_eq!((news.updates.len(), news.replies), (1, vec![want]));
}
