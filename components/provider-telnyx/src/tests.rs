//! Whole calls: requests as Telnyx's API wants them, answers, and signed webhooks.

use countersign_provider::fake::{Fake, message};
use countersign_provider::{
    Authorization, Callback, CallbackError, ErrorClass, Message, Price, Provider, Reply, SendError,
    Status, StatusUpdate, reply,
};
use serde_json::{Value, json};

use crate::{Telnyx, api, webhook};

/// Of the seed bytes 0 to 31.
const PUBLIC_KEY: &str = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
const AT: u64 = 1_700_000_000_000;
/// Accepted by Telnyx's own SDK.
const BODY: &str = r#"{"data":{"event_type":"message.finalized","payload":{"id":"t-1","to":[{"status":"delivered"}]}}}"#;
const SIGNATURE: &str =
    "xQh+0MLSoe7gFGLKcDFRDEIurk9QS9iqJv2cg9yWFwlmg46sj+jUO6A3AcfPNhbJtfRogTI/DUHpU1QwnlAfDA==";

fn fake() -> Fake {
    let settings = [("from", "+15005550006")];
    let credentials = [("api-key", "KEY0123"), ("public-key", PUBLIC_KEY)];
    Fake {
        now: AT,
        ..Fake::new(&settings, &credentials)
    }
}

fn created() -> Value {
    json!({"data": {
        "id": "t-1", "record_type": "message", "parts": 1, "encoding": "GSM-7",
        "to": [{"phone_number": "+12025550123", "status": "queued", "carrier": "", "line_type": ""}],
        "cost": {"amount": "0.0051", "currency": "USD"}, "errors": []
    }})
}

#[test]
fn a_message_is_posted_as_json() {
    let mut fake = fake().answer(200, created());
    let url = "https://sms.example.test/webhooks/telnyx";
    let wish = Message {
        status_callback: Some(url.into()),
        ..message()
    };
    let accepted = api::send(&mut fake, &wish).expect("accepted");
    assert_eq!(accepted.ids, ["t-1"]);
    assert_eq!(accepted.segments, Some(1));
    let price = Price {
        amount: "0.0051".into(),
        currency: "USD".into(),
    };
    assert_eq!(accepted.price, Some(price));
    assert_eq!(fake.last().url, "https://api.telnyx.com/v2/messages");
    let bearer = Authorization::Bearer("api-key".into());
    assert_eq!(fake.last().authorization, bearer);
    let media_type = ("content-type".to_owned(), "application/json".to_owned());
    assert!(fake.last().headers.contains(&media_type));
    assert_eq!(
        fake.json(),
        json!({
            "to": "+12025550123", "from": "+15005550006", "text": "Your code: 123456 & more",
            "type": "SMS", "use_profile_webhooks": false, "webhook_url": url
        })
    );
}

#[test]
fn a_profile_may_choose_the_sender_and_the_route_goes_first() {
    let mut fake = fake().answer(200, created()).answer(200, created());
    fake.settings = vec![("messaging-profile-id", "p-1".into())];
    api::send(&mut fake, &message()).expect("accepted");
    assert_eq!(fake.json()["messaging_profile_id"], "p-1");
    assert_eq!(fake.json().get("from"), None);
    let wish = Message {
        sender: Some("Acme".into()),
        ..message()
    };
    api::send(&mut fake, &wish).expect("accepted");
    assert_eq!(fake.json()["from"], "Acme");
    fake.settings.clear();
    let error = api::send(&mut fake, &message()).expect_err("no sender");
    assert_eq!(error.class, ErrorClass::Auth);
    assert!(
        error.text.contains("`messaging-profile-id`"),
        "{}",
        error.text
    );
}

#[track_caller]
fn refused(fake: Fake) -> SendError {
    let mut fake = fake;
    api::send(&mut fake, &message()).expect_err("refused")
}

#[test]
fn every_code_of_the_table_has_its_class() {
    let check = |codes: &[&str], class| {
        for code in codes {
            let errors = json!({"errors": [{"code": code, "title": "No", "detail": "Not so"}]});
            let error = refused(fake().answer(400, errors));
            assert_eq!(error.class, class, "{code}");
            assert_eq!(error.text, format!("HTTP 400, {code}: Not so"));
            assert_eq!(error.provider_code.as_deref(), Some(*code));
        }
    };
    check(&["10009", "10010", "40013"], ErrorClass::Auth);
    check(&["10011", "40011"], ErrorClass::Throttled);
    let permanent = [
        "10002", "10004", "10015", "10016", "40001", "40008", "40009",
    ];
    check(&permanent, ErrorClass::Permanent);
    check(&["40002", "40003", "10039"], ErrorClass::Blocked);
    check(&["40004", "40006"], ErrorClass::Retryable);
    check(&["10007", "10008"], ErrorClass::UnknownOutcome);
    check(&["99999"], ErrorClass::Permanent);
}

#[test]
fn answers_without_a_code_go_by_their_http_status() {
    for (status, class) in [
        (401, ErrorClass::Auth),
        (403, ErrorClass::Auth),
        (422, ErrorClass::Permanent),
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
    let code = json!({"errors": [{"code": "10009"}]});
    assert_eq!(
        refused(fake().answer(502, code)).class,
        ErrorClass::UnknownOutcome
    );
    assert_eq!(refused(fake().fail(false)).class, ErrorClass::Retryable);
    assert_eq!(refused(fake().fail(true)).class, ErrorClass::UnknownOutcome);
}

fn posted(body: &str, signature: &str, timestamp: &str) -> Callback {
    Callback {
        method: "POST".into(),
        url: "https://sms.example.test/webhooks/telnyx".into(),
        headers: vec![
            ("telnyx-signature-ed25519".into(), signature.into()),
            ("telnyx-timestamp".into(), timestamp.into()),
        ],
        body: body.into(),
        attributes: Vec::new(),
    }
}

fn read(fake: &mut Fake, request: &Callback) -> Result<Vec<StatusUpdate>, CallbackError> {
    Telnyx::parse_callback(fake, request).map(|news| news.updates)
}

#[test]
fn a_webhook_is_signed() {
    let updates = read(&mut fake(), &posted(BODY, SIGNATURE, "1700000000"));
    let updates = updates.expect("signed and understood");
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0].id, "t-1");
    assert_eq!(updates[0].status, Status::Delivered);
}

#[test]
fn what_was_changed_or_is_old_is_not_believed() {
    let changed = BODY.replace("t-1", "t-2");
    let mut keyless = fake();
    keyless.credentials.pop();
    let late = Fake {
        now: AT + 301_000,
        ..fake()
    };
    let early = Fake {
        now: AT - 301_000,
        ..fake()
    };
    let at = "1700000000";
    for (mut fake, request) in [
        (fake(), posted(&changed, SIGNATURE, at)),
        (fake(), posted(BODY, SIGNATURE, "1700000001")),
        (fake(), posted(BODY, SIGNATURE, "")),
        (fake(), posted(BODY, "", at)),
        (fake(), posted(BODY, "%", at)),
        (late, posted(BODY, SIGNATURE, at)),
        (early, posted(BODY, SIGNATURE, at)),
        (keyless, posted(BODY, SIGNATURE, at)),
    ] {
        assert_eq!(read(&mut fake, &request), Err(CallbackError::Unsigned));
    }
}

/// Whether it counts is the host's to say: no signature has held.
fn unsigned(body: &Value) -> Result<Vec<StatusUpdate>, CallbackError> {
    let request = Callback {
        headers: Vec::new(),
        ..posted(&body.to_string(), "", "")
    };
    read(&mut fake(), &request)
}

#[test]
fn a_webhook_tells_price_time_and_reason() {
    let body = json!({"data": {
        "id": "e-1", "event_type": "message.finalized", "occurred_at": "2026-01-02T03:04:06.000+00:00",
        "payload": {
            "id": "t-1", "parts": 2, "completed_at": "2026-01-02T03:04:05.000+00:00",
            "to": [{"phone_number": "+12025550123", "status": "delivery_failed"}],
            "cost": {"amount": "0.0102", "currency": "USD"},
            "errors": [{"code": "40002", "title": "Blocked as spam"}]
        }
    }});
    let update = unsigned(&body).expect("read").remove(0);
    assert_eq!(update.status, Status::Undelivered);
    assert_eq!(update.at, Some(1_767_323_045_000));
    assert_eq!(update.segments, Some(2));
    assert_eq!(
        update.price.map(|price| price.amount),
        Some("0.0102".into())
    );
    let error = update.error.expect("a reason");
    assert_eq!(error.class, ErrorClass::Blocked);
    assert_eq!(error.text, "Telnyx 40002: Blocked as spam");
}

#[test]
fn every_status_is_known_and_other_events_are_no_news() {
    for (word, want) in [
        ("queued", Status::Queued),
        ("sending", Status::Queued),
        ("sent", Status::Sent),
        ("delivered", Status::Delivered),
        ("delivery_failed", Status::Undelivered),
        ("expired", Status::Undelivered),
        ("sending_failed", Status::Failed),
        ("delivery_unconfirmed", Status::Unknown),
    ] {
        assert_eq!(webhook::status_of(word), Some(want), "{word}");
    }
    let other = json!({"data": {"event_type": "call.initiated", "payload": {}}});
    assert_eq!(unsigned(&other), Ok(Vec::new()));
    let teleported = BODY.replace("delivered", "teleported");
    let teleported = serde_json::from_str(&teleported).expect("JSON");
    for body in [teleported, json!([]), json!({}), json!({"data": {}})] {
        assert_eq!(unsigned(&body), Err(CallbackError::Malformed), "{body}");
    }
}

#[test]
fn what_somebody_sends_to_us_is_a_reply() {
    let body = json!({"data": {"event_type": "message.received", "payload": {
        "id": "t-2", "text": "Stop", "direction": "inbound", "received_at": "2026-01-02T03:04:05.000+00:00",
        "from": {"phone_number": "+12025550123"}, "to": [{"phone_number": "+15005550006"}]
    }}});
    let request = Callback {
        headers: Vec::new(),
        ..posted(&body.to_string(), "", "")
    };
    let news = Telnyx::parse_callback(&mut fake(), &request).expect("understood");
    let want = Reply {
        id: Some("t-2".into()),
        at: Some(1_767_323_045_000),
        ..reply("+12025550123", "+15005550006", "Stop")
    };
    assert_eq!((news.updates.len(), news.replies), (0, vec![want]));
    let nobody = json!({"data": {"event_type": "message.received", "payload": {"text": "Stop"}}});
    assert_eq!(unsigned(&nobody), Err(CallbackError::Malformed));
}
