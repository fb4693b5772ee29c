//! Whole calls: requests as Vonage's API wants them, answers, and signed receipts.

use countersign_provider::fake::{Fake, message};
use countersign_provider::{
    Authorization, Basic, Callback, CallbackError, ErrorClass, Message, Price, Provider, Reply,
    SendError, Status, StatusUpdate, Text, reply,
};
use serde_json::json;

use crate::{Vonage, api, receipt};

/// The time of the receipt below.
const AT: u64 = 1_582_650_446_000;

fn fake() -> Fake {
    let settings = [("api-key", "abcd1234"), ("from", "AcmeInc")];
    let credentials = [
        ("api-secret", "vonage-api-secret"),
        ("signature-secret", "vonage-secret"),
    ];
    Fake {
        now: AT,
        ..Fake::new(&settings, &credentials)
    }
}

fn part(id: &str) -> serde_json::Value {
    json!({
        "to": "12025550123", "message-id": id, "status": "0", "remaining-balance": "3.14",
        "message-price": "0.03330000", "network": "310004"
    })
}

fn taken(parts: &[serde_json::Value]) -> serde_json::Value {
    json!({"message-count": parts.len().to_string(), "messages": parts})
}

#[track_caller]
fn refused(fake: Fake) -> SendError {
    let mut fake = fake;
    api::send(&mut fake, &message()).expect_err("refused")
}

#[test]
fn a_message_is_posted_as_a_form() {
    let mut fake = fake().answer(200, taken(&[part("0A01")]));
    let url = "https://sms.example.test/webhooks/vonage";
    let wish = Message {
        status_callback: Some(url.into()),
        ..message()
    };
    let accepted = api::send(&mut fake, &wish).expect("accepted");
    assert_eq!(accepted.ids, ["0A01"]);
    assert_eq!(accepted.segments, Some(1));
    let price = Price {
        amount: "0.0333".into(),
        currency: "EUR".into(),
    };
    assert_eq!(accepted.price, Some(price));
    assert_eq!(fake.last().url, "https://rest.nexmo.com/sms/json");
    let basic = Authorization::Basic(Basic {
        username: Text::Plain("abcd1234".into()),
        password: Text::Credential("api-secret".into()),
    });
    assert_eq!(fake.last().authorization, basic);
    assert_eq!(
        fake.form(),
        [
            ("from", "AcmeInc"),
            ("to", "12025550123"),
            ("text", "Your code: 123456 & more"),
            ("type", "text"),
            ("ttl", "599999"),
            ("client-ref", "0123456789abcdef0123456789abcdef"),
            ("status-report-req", "true"),
            ("callback", url),
        ]
    );
}

#[test]
fn each_part_has_an_id_and_a_price() {
    let mut fake = fake().answer(200, taken(&[part("0A01"), part("0A02")]));
    let accepted = api::send(&mut fake, &message()).expect("accepted");
    assert_eq!(accepted.ids, ["0A01", "0A02"]);
    assert_eq!(accepted.segments, Some(2));
    assert_eq!(
        accepted.price.map(|price| price.amount),
        Some("0.0666".into())
    );
}

#[test]
fn a_text_beyond_the_alphabet_is_unicode_and_the_ttl_in_bounds() {
    let check = |wish: Message, field: (&str, &str)| {
        let mut fake = fake().answer(200, taken(&[part("0A01")]));
        api::send(&mut fake, &wish).expect("accepted");
        assert!(fake.form().contains(&field), "{:?}", fake.form());
    };
    let text = "Ihr Code: 123456 – gültig".to_owned();
    check(Message { text, ..message() }, ("type", "unicode"));
    let validity = |validity| Message {
        validity,
        ..message()
    };
    check(validity(19_999), ("ttl", "20000"));
    check(validity(u64::MAX), ("ttl", "604800000"));
    let sender = Some("+447700900000".to_owned());
    check(
        Message {
            sender,
            ..message()
        },
        ("from", "447700900000"),
    );
}

#[test]
fn a_callback_address_that_vonage_would_refuse_is_told() {
    let wish = Message {
        status_callback: Some(format!("https://sms.example.test/{}", "x".repeat(76))),
        ..message()
    };
    let error = api::send(&mut fake(), &wish).expect_err("too long");
    assert_eq!(error.class, ErrorClass::Auth);
    assert!(error.text.contains("at most 100 bytes"), "{}", error.text);
}

#[test]
fn an_algorithm_that_vonage_does_not_have_is_told_with_the_send() {
    let mut fake = fake();
    fake.settings
        .push(("signature-algorithm", "sha-256".into()));
    let error = refused(fake);
    assert_eq!(error.class, ErrorClass::Auth);
    assert!(error.text.contains("md5-hash"), "{}", error.text);
}

#[test]
fn every_status_of_the_table_has_its_class() {
    let check = |statuses: &[u32], class| {
        for status in statuses {
            let part = json!({"status": status.to_string(), "error-text": "No"});
            let error = refused(fake().answer(200, taken(&[part])));
            assert_eq!(error.class, class, "{status}");
            assert_eq!(error.provider_code, Some(status.to_string()));
            assert_eq!(error.text, format!("Vonage {status}: No"));
        }
    };
    check(&[1, 10], ErrorClass::Throttled);
    check(&[2, 3, 12, 22, 23, 6, 33], ErrorClass::Permanent);
    check(&[4, 8, 9, 11, 14, 32], ErrorClass::Auth);
    check(&[7, 15, 29], ErrorClass::Blocked);
    check(&[5, 99], ErrorClass::UnknownOutcome);
}

#[test]
fn a_message_of_which_only_a_part_was_taken_has_an_unknown_outcome() {
    let throttled = json!({"status": "1", "error-text": "Throughput Rate Exceeded"});
    let error = refused(fake().answer(200, taken(&[part("0A01"), throttled])));
    assert_eq!(error.class, ErrorClass::UnknownOutcome);
}

#[test]
fn answers_that_say_nothing_go_by_their_http_status() {
    for body in [
        "",
        "<html>",
        "[]",
        "{}",
        r#"{"messages":[]}"#,
        r#"{"messages":[{"status":"0"}]}"#,
    ] {
        assert_eq!(
            refused(fake().answer(200, body)).class,
            ErrorClass::UnknownOutcome
        );
    }
    assert_eq!(refused(fake().answer(401, "")).class, ErrorClass::Auth);
    assert_eq!(refused(fake().answer(429, "")).class, ErrorClass::Throttled);
    assert_eq!(
        refused(fake().answer(503, "")).class,
        ErrorClass::UnknownOutcome
    );
    assert_eq!(refused(fake().fail(false)).class, ErrorClass::Retryable);
    assert_eq!(refused(fake().fail(true)).class, ErrorClass::UnknownOutcome);
}

// Receipts. The signatures were made with Vonage's own SDK.

const SHA256: &str = "2f387377f459a4b39bc23178d6bbc1eb6c5c97b32b3c4e26db67b2292ead5647";
const QUERY: &str = "msisdn=447700900000&to=AcmeInc&messageId=0A01&status=delivered&err-code=0\
    &timestamp=1582650446&nonce=n1&text=a%26b%3Dc";

fn posted(media_type: &str, body: String) -> Callback {
    Callback {
        method: "POST".into(),
        url: "https://sms.example.test/webhooks/vonage".into(),
        headers: vec![("content-type".into(), media_type.into())],
        body: body.into(),
        attributes: Vec::new(),
    }
}

fn posted_form(signature: &str) -> Callback {
    let body = format!("{QUERY}&sig={signature}");
    posted("application/x-www-form-urlencoded", body)
}

fn read(fake: &mut Fake, request: &Callback) -> Result<Vec<StatusUpdate>, CallbackError> {
    Vonage::parse_callback(fake, request).map(|news| news.updates)
}

#[track_caller]
fn check_delivered(fake: &mut Fake, request: &Callback) {
    let updates = read(fake, request).expect("signed and understood");
    let [update] = &updates[..] else {
        panic!("{updates:?}")
    };
    assert_eq!(
        (update.id.as_str(), update.status),
        ("0A01", Status::Delivered)
    );
    assert_eq!(update.error, None);
}

#[test]
fn a_receipt_is_signed_by_any_of_vonages_algorithms() {
    check_delivered(&mut fake(), &posted_form(SHA256));
    check_delivered(&mut fake(), &posted_form(&SHA256.to_uppercase()));
    for (algorithm, signature) in [
        ("sha256", SHA256),
        ("sha1", "10f56a6012fdaf42d6345eabd06054699d5fe028"),
        ("md5", "3c875ae3215d0874d97514f60918ea40"),
        ("md5-hash", "93a081bd4f1949263f1cd28a9ea149b0"),
    ] {
        let mut fake = fake();
        fake.settings
            .push(("signature-algorithm", algorithm.into()));
        check_delivered(&mut fake, &posted_form(signature));
        let other = if algorithm == "sha1" { SHA256 } else { "00" };
        let refused = read(&mut fake, &posted_form(other));
        assert_eq!(refused, Err(CallbackError::Unsigned), "{algorithm}");
    }
}

#[test]
fn a_receipt_may_be_a_get_or_json() {
    let get = Callback {
        method: "GET".into(),
        url: format!("https://sms.example.test/webhooks/vonage?{QUERY}&sig={SHA256}"),
        headers: Vec::new(),
        body: Vec::new(),
        attributes: Vec::new(),
    };
    check_delivered(&mut fake(), &get);
    let json = json!({
        "msisdn": "447700900000", "to": "AcmeInc", "messageId": "0A01", "status": "delivered",
        "err-code": "0", "timestamp": 1_582_650_446, "nonce": "n1", "text": "a&b=c", "sig": SHA256
    });
    check_delivered(
        &mut fake(),
        &posted("application/json; charset=utf-8", json.to_string()),
    );
}

#[test]
fn what_was_changed_or_is_old_is_not_believed() {
    let unsigned = |fake: &mut Fake, request: &Callback| {
        assert_eq!(read(fake, request), Err(CallbackError::Unsigned));
    };
    let mut changed = posted_form(SHA256);
    let body = String::from_utf8(changed.body).expect("text");
    changed.body = body.replace("0A01", "0A02").into();
    unsigned(&mut fake(), &changed);
    let mut more = posted_form(SHA256);
    more.body.extend(b"&price=0");
    unsigned(&mut fake(), &more);
    for now in [AT + 301_000, AT - 301_000] {
        unsigned(&mut Fake { now, ..fake() }, &posted_form(SHA256));
    }
    for signature in ["", "zz", "2f38"] {
        unsigned(&mut fake(), &posted_form(signature));
    }
    let mut keyless = fake();
    keyless.credentials.pop();
    unsigned(&mut keyless, &posted_form(SHA256));
}

/// Whether it counts is the host's to say: no signature has held.
#[test]
fn a_receipt_without_a_signature_is_read() {
    let plain = posted("application/x-www-form-urlencoded", QUERY.into());
    check_delivered(&mut fake(), &plain);
}

#[test]
fn every_status_and_error_of_a_receipt_is_known() {
    let status = |word: &str, code: u32| {
        let body = format!("messageId=0A01&status={word}&err-code={code}");
        read(&mut fake(), &posted("", body)).map(|mut updates| updates.remove(0))
    };
    for (word, want) in [
        ("accepted", Status::Sent),
        ("buffered", Status::Sent),
        ("delivered", Status::Delivered),
        ("expired", Status::Undelivered),
        ("failed", Status::Undelivered),
        ("rejected", Status::Undelivered),
        ("unknown", Status::Unknown),
    ] {
        assert_eq!(
            status(word, 0).map(|update| update.status),
            Ok(want),
            "{word}"
        );
    }
    assert_eq!(status("teleported", 0), Err(CallbackError::Malformed));
    let error = status("failed", 6).expect("read").error.expect("an error");
    assert_eq!(error.class, ErrorClass::Blocked);
    assert_eq!(error.provider_code, Some("6".into()));
    for (code, class) in [
        (2, ErrorClass::Retryable),
        (9, ErrorClass::Permanent),
        (99, ErrorClass::UnknownOutcome),
    ] {
        assert_eq!(receipt::class_of(code), class, "{code}");
    }
}

#[test]
fn what_cannot_be_a_receipt_is_malformed() {
    let many = ["a=b"; 101].join("&");
    for (media_type, body) in [
        ("", String::new()),
        ("", "messageId=&status=delivered".into()),
        (
            "",
            format!("messageId={}&status=delivered", "x".repeat(129)),
        ),
        ("", format!("messageId=1&status=delivered&{many}")),
        ("application/json", "[]".into()),
    ] {
        let read = read(&mut fake(), &posted(media_type, body));
        assert_eq!(read, Err(CallbackError::Malformed));
    }
}

#[test]
fn what_somebody_sends_to_us_is_a_reply() {
    let body = "msisdn=12025550123&to=15005550006&messageId=0B01&text=Stop&type=text\
        &message-timestamp=2026-01-02+03%3A04%3A05";
    let request = posted("application/x-www-form-urlencoded", body.into());
    let news = Vonage::parse_callback(&mut fake(), &request).expect("understood");
    let want = Reply {
        id: Some("0B01".into()),
        at: Some(1_767_323_045_000),
        ..reply("+12025550123", "15005550006", "Stop")
    };
    assert_eq!((news.updates.len(), news.replies), (0, vec![want]));
    let nobody = posted("", "to=15005550006&text=Stop".into());
    assert_eq!(read(&mut fake(), &nobody), Err(CallbackError::Malformed));
}
