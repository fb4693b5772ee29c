//! Whole calls: messages that are posted, answers, and signed statuses.

use countersign_provider::fake::{Fake, message, response};
use countersign_provider::{
    Authorization, Callback, CallbackError, ErrorClass, Hash, Message, Provider, Reply, Response,
    SendError, Signed, Status, StatusUpdate, TextEncoding, reply,
};
use serde_json::{Value, json};

use crate::{Webhook, key, outgoing};

const AT: u64 = 1_700_000_000_000;
const URL: &str = "https://gateway.example.test/sms";
const BODY: &str = r#"{"id":"msg_1","status":"delivered","at":"2026-01-02T03:04:05Z"}"#;
const SIGNATURE: &str = "v1,Ui5ID5z1YTmatvlJ4FV8krkSss6ZLeaz/QoB8G5cMWo=";

fn fake() -> Fake {
    let key = "whsec_Y291bnRlcnNpZ24tZ2VuZXJpYy13ZWJob29rLWtleS0wMQ==";
    Fake {
        now: AT,
        ..Fake::new(&[("base-url", URL)], &[("signing-key", key)])
    }
}

#[test]
fn a_message_is_posted_and_signed() {
    let mut fake = fake().answer(202, "");
    fake.settings.push(("from", "HarbourBank".into()));
    let accepted = outgoing::send(&mut fake, &message()).expect("accepted");
    let id = message().id;
    assert_eq!(accepted.ids, [id.as_str()]);
    assert_eq!(fake.last().url, URL);
    let signed = Signed {
        name: "webhook-signature".into(),
        prefix: "v1,".into(),
        algorithm: Hash::Sha256,
        key: key(),
        before: format!("{id}.1700000000."),
        with_body: true,
        encoding: TextEncoding::Base64,
    };
    assert_eq!(fake.last().authorization, Authorization::Signed(signed));
    for header in [
        ("webhook-id", id.as_str()),
        ("webhook-timestamp", "1700000000"),
    ] {
        let (name, value) = header;
        assert!(fake.last().headers.contains(&(name.into(), value.into())));
    }
    assert_eq!(
        fake.json(),
        json!({
            "type": "sms.send", "id": id, "to": "+12025550123", "from": "HarbourBank",
            "text": "Your code: 123456 & more", "country": "US",
            "expires_at": "2023-11-14T22:23:19Z", "encoding": "gsm7", "segments": 1,
            "status_callback": null
        })
    );
}

#[test]
fn an_answer_may_bring_id_price_and_segments() {
    let body = json!({"id": "x-1", "price": "0.0075", "currency": "EUR", "segments": 2});
    let accepted = outgoing::send(&mut fake().answer(200, body), &message()).expect("accepted");
    assert_eq!(accepted.ids, ["x-1"]);
    assert_eq!(accepted.segments, Some(2));
    assert_eq!(
        accepted.price.map(|price| price.amount),
        Some("0.0075".into())
    );
}

#[track_caller]
fn refused(fake: Fake) -> SendError {
    let mut fake = fake;
    outgoing::send(&mut fake, &message()).expect_err("refused")
}

#[test]
fn every_status_of_the_table_has_its_class() {
    let check = |statuses: &[u16], class| {
        for status in statuses {
            assert_eq!(refused(fake().answer(*status, "")).class, class, "{status}");
        }
    };
    check(&[400, 404, 410, 422, 418], ErrorClass::Permanent);
    check(&[401, 402], ErrorClass::Auth);
    check(&[403, 451], ErrorClass::Blocked);
    check(&[408, 429], ErrorClass::Throttled);
    check(&[500, 502, 503], ErrorClass::UnknownOutcome);
    check(&[307], ErrorClass::Retryable);
    let mut busy = fake();
    busy.answers.push_back(Ok(Response {
        headers: vec![("retry-after".into(), "7".into())],
        ..response(503, "")
    }));
    let busy = refused(busy);
    assert_eq!(busy.class, ErrorClass::Throttled);
    assert_eq!(busy.retry_after, Some(7_000));
}

#[test]
fn the_body_of_a_refusal_overrides_its_status() {
    let body = json!({"error": {"class": "blocked", "message": "On our list."}});
    let error = refused(fake().answer(500, body));
    assert_eq!(error.class, ErrorClass::Blocked);
    assert_eq!(error.text, "HTTP 500: On our list.");
    let unheard = json!({"error": {"class": "tired"}});
    assert_eq!(refused(fake().answer(401, unheard)).class, ErrorClass::Auth);
}

#[test]
fn what_may_have_been_taken_is_repeated_only_where_that_does_no_harm() {
    let lost = || {
        [
            fake().answer(200, "<html>"),
            fake().answer(500, ""),
            fake().fail(true),
        ]
    };
    for fake in lost() {
        assert_eq!(refused(fake).class, ErrorClass::UnknownOutcome);
    }
    for mut fake in lost() {
        fake.settings.push(("idempotent", "true".into()));
        assert_eq!(refused(fake).class, ErrorClass::Retryable);
    }
    assert_eq!(refused(fake().fail(false)).class, ErrorClass::Retryable);
}

fn posted(body: &str, signature: &str) -> Callback {
    Callback {
        method: "POST".into(),
        url: "https://sms.example.test/webhooks/own".into(),
        headers: vec![
            ("webhook-id".into(), "evt_1".into()),
            ("webhook-timestamp".into(), "1700000000".into()),
            ("webhook-signature".into(), signature.into()),
        ],
        body: body.into(),
        attributes: Vec::new(),
    }
}

fn read(fake: &mut Fake, request: &Callback) -> Result<Vec<StatusUpdate>, CallbackError> {
    Webhook::parse_callback(fake, request).map(|news| news.updates)
}

#[test]
fn a_status_is_signed_by_one_of_several_keys() {
    let other = "v1,AAAA";
    let long = format!("v2,x {other} {SIGNATURE}");
    for signature in [SIGNATURE, &long] {
        let updates = read(&mut fake(), &posted(BODY, signature)).expect("signed");
        assert_eq!(updates.len(), 1);
        assert_eq!(updates[0].id, "msg_1");
        assert_eq!(updates[0].status, Status::Delivered);
        assert_eq!(updates[0].at, Some(1_767_323_045_000));
    }
}

#[test]
fn what_was_changed_or_is_old_is_not_believed() {
    let changed = BODY.replace("msg_1", "msg_2");
    let many = ["v1,AAAA"; 8].join(" ");
    let with = |name: usize, value: &str| {
        let mut request = posted(BODY, SIGNATURE);
        request.headers[name].1 = value.into();
        request
    };
    let mut nameless = posted(BODY, SIGNATURE);
    nameless.headers.remove(0);
    let late = Fake {
        now: AT + 301_000,
        ..fake()
    };
    for (mut fake, request) in [
        (fake(), posted(&changed, SIGNATURE)),
        (fake(), posted(BODY, "")),
        (fake(), posted(BODY, "v1,AAAA")),
        (fake(), posted(BODY, &SIGNATURE.replace("v1,", "v2,"))),
        (fake(), posted(BODY, &format!("{many} {SIGNATURE}"))),
        (fake(), with(0, "evt_2")),
        (fake(), with(0, "evt.1")),
        (fake(), with(1, "1700000001")),
        (fake(), nameless),
        (late, posted(BODY, SIGNATURE)),
    ] {
        assert_eq!(read(&mut fake, &request), Err(CallbackError::Unsigned));
    }
}

/// Whether it counts is the host's to say: no signature has held.
fn unsigned(body: &Value) -> Result<Vec<StatusUpdate>, CallbackError> {
    let request = Callback {
        headers: Vec::new(),
        ..posted(&body.to_string(), "")
    };
    read(&mut fake(), &request)
}

#[test]
fn a_callback_may_carry_many_statuses() {
    let one = |id: &str, status: &str| {
        json!({
            "id": id, "status": status, "error_code": "77", "price": "0.01", "currency": "EUR",
            "segments": 1
        })
    };
    let words = [
        "queued",
        "sent",
        "delivered",
        "undelivered",
        "failed",
        "read",
        "unknown",
    ];
    let all: Vec<_> = words.iter().map(|word| one(word, word)).collect();
    let updates = unsigned(&json!(all)).expect("read");
    assert_eq!(updates.len(), words.len());
    let error = updates[3].error.as_ref().expect("a reason");
    assert_eq!(error.provider_code.as_deref(), Some("77"));
    assert_eq!(updates[3].segments, Some(1));
    assert!(updates[3].price.is_some());
}

#[test]
fn what_cannot_be_a_status_is_malformed() {
    let good = json!({"id": "m", "status": "sent"});
    for body in [
        json!({}),
        json!("sent"),
        json!({"id": "", "status": "sent"}),
        json!({"id": "x".repeat(129), "status": "sent"}),
        json!({"id": "m", "status": "teleported"}),
        json!([good, {}]),
        json!(vec![&good; 1_001]),
    ] {
        assert_eq!(unsigned(&body), Err(CallbackError::Malformed));
    }
    assert_eq!(
        unsigned(&json!(vec![&good; 1_000])).map(|all| all.len()),
        Ok(1_000)
    );
}

#[test]
fn what_is_neither_a_status_nor_an_answer_is_malformed() {
    let status = |word: &str| json!({"type": word, "id": "msg_1", "status": "delivered"});
    assert_eq!(unsigned(&status("sms.status")).map(|all| all.len()), Ok(1));
    for word in ["sms.send", "sms.delivered", ""] {
        assert_eq!(
            unsigned(&status(word)),
            Err(CallbackError::Malformed),
            "{word}"
        );
        let all = json!([{"id": "msg_1", "status": "delivered"}, status(word)]);
        assert_eq!(unsigned(&all), Err(CallbackError::Malformed), "{word}");
    }
}

#[test]
fn the_wish_of_a_route_goes_first() {
    let mut fake = fake().answer(200, "");
    fake.settings.push(("from", "HarbourBank".into()));
    let wish = Message {
        sender: Some("Quay".into()),
        ..message()
    };
    outgoing::send(&mut fake, &wish).expect("accepted");
    assert_eq!(fake.json()["from"], "Quay");
}

#[test]
fn what_somebody_sends_to_us_is_a_reply() {
    let answer = json!({
        "type": "sms.received", "id": "in_1", "at": "2026-01-02T03:04:05Z",
        "from": "+12025550123", "to": "HarbourBank", "text": "Stop"
    });
    let body = json!([answer, {"id": "msg_1", "status": "delivered"}]).to_string();
    let request = Callback {
        headers: Vec::new(),
        ..posted(&body, "")
    };
    let news = Webhook::parse_callback(&mut fake(), &request).expect("understood");
    let want = Reply {
        id: Some("in_1".into()),
        at: Some(1_767_323_045_000),
        ..reply("+12025550123", "HarbourBank", "Stop")
    };
    assert_eq!((news.updates.len(), news.replies), (1, vec![want]));
    let nobody = json!({"type": "sms.received", "text": "Stop"}).to_string();
    let request = Callback {
        body: nobody.into(),
        ..request
    };
    assert_eq!(read(&mut fake(), &request), Err(CallbackError::Malformed));
}
