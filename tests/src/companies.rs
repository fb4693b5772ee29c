//! The manners of the companies that providers are built in for, and how each tells what became of a
//! message.
//!
//! Source: the project's contract on SMS providers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde_json::{Value, json};

use crate::messages_api::Request;
use crate::server::digits;
use crate::{Answer, Client};

/// Vonage's account, and what signs its receipts.
pub const VONAGE: (&str, &str, &str) = ("abcd1234", "vonage-secret-7d31", "vonage-signs-51c0");
/// Telnyx's API key.
pub const TELNYX: &str = "KEY0190-telnyx-51a7";
/// Infobip's API key, and the login of its subscription.
pub const INFOBIP: (&str, &str) = ("infobip-key-90b2", "countersign:reports-4f1d");
/// The key of a webhook of one's own, and its bytes.
pub const WEBHOOK: (&str, &[u8]) = (
    "whsec_Y291bnRlcnNpZ24tZ2VuZXJpYy13ZWJob29rLWtleS0wMQ==",
    b"countersign-generic-webhook-key-01",
);

/// The API key of the company that new projects begin with, and what signs its callbacks.
pub const EXAMPLE: (&str, &str) = ("example-key-3c90", "example-signs-77e1");

/// The code in a text.
#[track_caller]
pub fn code_in(text: &str) -> String {
    let rest = text.split_once("is: ").map(|(_, rest)| rest);
    rest.and_then(digits)
        .unwrap_or_else(|| panic!("no code in {text:?}"))
}

/// The JSON of a request.
#[track_caller]
pub fn json_of(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap_or_else(|error| panic!("{error}: {request:?}"))
}

fn is_plain(number: &str) -> bool {
    (7..=15).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_json(request: &Request) -> bool {
    request.method == "POST" && request.header("content-type") == Some("application/json")
}

/// Vonage's SMS API: always 200, and what is wrong stands in the body.
pub fn vonage(request: &Request, n: usize) -> (u16, Value) {
    let answer = |part: Value| (200, json!({"message-count": "1", "messages": [part]}));
    let refuse =
        |status: u8, text: &str| answer(json!({"status": status.to_string(), "error-text": text}));
    let (key, secret, _) = VONAGE;
    let basic = format!("Basic {}", STANDARD.encode(format!("{key}:{secret}")));
    if request.header("authorization") != Some(&basic) || request.path != "/sms/json" {
        return refuse(4, "Bad Credentials");
    }
    let field = |name: &str| request.field(name).unwrap_or_default();
    let ttl = field("ttl").parse::<u64>();
    let long = field("callback").len() > 100 || field("client-ref").len() > 40;
    if field("from").is_empty() || field("text").is_empty() || long {
        return refuse(2, "Missing Parameters");
    }
    if !is_plain(field("to")) || !ttl.is_ok_and(|ttl| (20_000..=604_800_000).contains(&ttl)) {
        return refuse(3, "Invalid Parameters");
    }
    answer(json!({
        "to": field("to"), "message-id": format!("0A{n:04}"), "status": "0",
        "remaining-balance": "3.14", "message-price": "0.03330000", "network": "310004",
        "client-ref": field("client-ref")
    }))
}

/// Telnyx's Messaging API.
pub fn telnyx(request: &Request, n: usize) -> (u16, Value) {
    let refuse = |status: u16, code: &str, title: &str| {
        (status, json!({"errors": [{"code": code, "title": title}]}))
    };
    if request.header("authorization") != Some(&format!("Bearer {TELNYX}")) {
        return refuse(401, "10009", "Authentication failed");
    }
    if request.path != "/v2/messages" || !is_json(request) {
        return refuse(404, "10005", "Resource not found");
    }
    let body = json_of(request);
    let to = body["to"].as_str().unwrap_or_default();
    if !to.strip_prefix('+').is_some_and(is_plain) || !body["text"].is_string() {
        return refuse(400, "10002", "Invalid phone number");
    }
    let message = json!({
        "id": format!("telnyx-{n}"), "to": [{"phone_number": to, "status": "queued"}],
        "from": {"phone_number": body["from"]}, "parts": 1, "errors": [],
        "cost": {"amount": "0.0051", "currency": "USD"}
    });
    (200, json!({"data": message}))
}

/// Infobip's SMS API.
pub fn infobip(request: &Request, _: usize) -> (u16, Value) {
    if request.header("authorization") != Some(&format!("App {}", INFOBIP.0)) {
        return (
            401,
            json!({"errorCode": "E401", "description": "Unauthorized."}),
        );
    }
    if request.path != "/sms/3/messages" || !is_json(request) {
        return (
            404,
            json!({"errorCode": "E404", "description": "Not found."}),
        );
    }
    let body = json_of(request);
    let message = &body["messages"][0];
    let to = &message["destinations"][0];
    let plain = to["to"].as_str().is_some_and(is_plain);
    let minutes = message["options"]["validityPeriod"]["amount"].as_u64();
    let valid = minutes.is_some_and(|minutes| (1..=2_880).contains(&minutes));
    if !plain || !valid || !message["content"]["text"].is_string() {
        return (
            400,
            json!({"errorCode": "E400", "description": "Bad request."}),
        );
    }
    let taken = json!({
        "messageId": to["messageId"], "destination": to["to"], "details": {"messageCount": 1},
        "status": {"groupId": 1, "groupName": "PENDING", "id": 26, "name": "PENDING_ACCEPTED"}
    });
    (200, json!({"bulkId": "b-1", "messages": [taken]}))
}

/// The company that is made up for new projects, as their README describes it.
pub fn example(request: &Request, n: usize) -> (u16, Value) {
    let refuse = |status: u16, code: &str| {
        (
            status,
            json!({"error": {"code": code, "message": "Refused"}}),
        )
    };
    if request.header("authorization") != Some(&format!("Bearer {}", EXAMPLE.0)) {
        return refuse(401, "unauthorized");
    }
    if request.path != "/v1/messages" || !is_json(request) {
        return refuse(404, "not-found");
    }
    let body = json_of(request);
    let to = body["to"].as_str().unwrap_or_default();
    let valid = body["validity_seconds"].as_u64();
    if !to.strip_prefix('+').is_some_and(is_plain) || valid.is_none_or(|valid| valid == 0) {
        return refuse(422, "invalid-number");
    }
    let price = json!({"amount": "0.0079", "currency": "EUR"});
    (
        202,
        json!({"id": format!("m-{n}"), "parts": 1, "price": price}),
    )
}

/// A webhook of one's own: takes what is signed.
pub fn webhook(request: &Request, _: usize) -> (u16, Value) {
    let header = |name: &str| request.header(name).unwrap_or_default();
    let before = format!("{}.{}.", header("webhook-id"), header("webhook-timestamp"));
    let signature = standard_signature(&before, &request.body);
    if header("webhook-signature") != signature || !is_json(request) {
        return (401, json!({"error": {"message": "not signed"}}));
    }
    (202, json!({"segments": 1}))
}

fn standard_signature(before: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, WEBHOOK.1);
    let code = hmac::sign(&key, &[before.as_bytes(), body].concat());
    format!("v1,{}", STANDARD.encode(code))
}

/// Telnyx's public key, which its account shows.
pub fn telnyx_public_key() -> String {
    STANDARD.encode(telnyx_keys().public_key())
}

fn telnyx_keys() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&std::array::from_fn::<_, 32, _>(|n| n as u8)).unwrap()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs()
}

/// A callback, signed as its company signs.
#[derive(Clone, Debug)]
pub struct Notice {
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// An id of what somebody has written, each time another one.
fn written(prefix: &str) -> String {
    static WRITTEN: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}{:04}", WRITTEN.fetch_add(1, Ordering::Relaxed))
}

impl Notice {
    /// Vonage's receipt for a part, with HMAC-SHA256.
    pub fn vonage(id: &str, status: &str) -> Self {
        Self::vonage_signed([
            ("err-code", "0"),
            ("messageId", id),
            ("msisdn", "12024560001"),
            ("nonce", "n1"),
            ("status", status),
            ("timestamp", &now().to_string()),
            ("to", "AcmeInc"),
        ])
    }

    /// What `phone` writes to a number at Vonage.
    pub fn vonage_reply(phone: &str, text: &str) -> Self {
        Self::vonage_signed([
            ("messageId", &written("0B")),
            ("msisdn", phone.trim_start_matches('+')),
            ("nonce", "n1"),
            ("text", text),
            ("timestamp", &now().to_string()),
            ("to", "15005550006"),
            ("type", "text"),
        ])
    }

    /// `fields` are in order of name.
    fn vonage_signed(fields: [(&str, &str); 7]) -> Self {
        let signed: String = fields
            .iter()
            .map(|(name, value)| format!("&{name}={value}"))
            .collect();
        let key = hmac::Key::new(hmac::HMAC_SHA256, VONAGE.2.as_bytes());
        let code = hmac::sign(&key, signed.as_bytes());
        let code: String = code
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            headers: vec![("content-type", "application/x-www-form-urlencoded".into())],
            body: format!("{}&sig={code}", &signed[1..]),
        }
    }

    /// Telnyx's webhook about the end of a message.
    pub fn telnyx(id: &str, status: &str) -> Self {
        Self::telnyx_signed(
            &json!({"id": "e-1", "event_type": "message.finalized", "payload": {
                "id": id, "to": [{"status": status}], "cost": {"amount": "0.0051", "currency": "USD"}
            }}),
        )
    }

    /// What `phone` writes to a number at Telnyx.
    pub fn telnyx_reply(phone: &str, text: &str) -> Self {
        Self::telnyx_signed(
            &json!({"id": "e-2", "event_type": "message.received", "payload": {
                "id": written("t-"), "direction": "inbound", "text": text, "from": {"phone_number": phone},
                "to": [{"phone_number": "+15005550006"}]
            }}),
        )
    }

    fn telnyx_signed(event: &Value) -> Self {
        let body = json!({ "data": event }).to_string();
        let at = now().to_string();
        let signature = telnyx_keys().sign(format!("{at}|{body}").as_bytes());
        Self {
            headers: vec![
                ("telnyx-signature-ed25519", STANDARD.encode(signature)),
                ("telnyx-timestamp", at),
            ],
            body,
        }
    }

    /// Infobip's report of several messages, as a subscription sends it with a login.
    pub fn infobip(ids: &[&str], name: &str) -> Self {
        let result = |id: &&str| {
            json!({
                "messageId": id, "messageCount": 1, "doneAt": "2026-01-02T03:04:05.000+0000",
                "price": {"pricePerMessage": 0.0079, "currency": "EUR"},
                "status": {"groupId": 3, "groupName": "DELIVERED", "name": name}
            })
        };
        Self::infobip_results(ids.iter().map(result).collect())
    }

    /// What `phone` writes to a number at Infobip.
    pub fn infobip_reply(phone: &str, text: &str) -> Self {
        Self::infobip_results(vec![json!({
            "messageId": written("81"), "from": phone.trim_start_matches('+'), "to": "15005550006",
            "text": text, "receivedAt": "2026-01-02T03:04:05.000+0000", "smsCount": 1
        })])
    }

    fn infobip_results(results: Vec<Value>) -> Self {
        Self {
            headers: vec![(
                "authorization",
                format!("Basic {}", STANDARD.encode(INFOBIP.1)),
            )],
            body: json!({"results": results}).to_string(),
        }
    }

    /// What the company tells that new projects begin with; `body` may be anything.
    pub fn example(body: &str) -> Self {
        let at = now().to_string();
        let key = hmac::Key::new(hmac::HMAC_SHA256, EXAMPLE.1.as_bytes());
        let code = hmac::sign(&key, format!("{at}.{body}").as_bytes());
        let digits: String = code
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            headers: vec![
                ("x-timestamp", at),
                ("x-signature", format!("sha256={digits}")),
            ],
            body: body.to_owned(),
        }
    }

    /// What a webhook of one's own is told.
    pub fn webhook(id: &str, status: &str) -> Self {
        Self::webhook_signed(
            &json!({"id": id, "status": status, "price": "0.0075", "currency": "EUR"}),
        )
    }

    /// What `phone` writes to the sender of a webhook of one's own.
    pub fn webhook_reply(phone: &str, text: &str) -> Self {
        Self::webhook_signed(&json!({
            "type": "sms.received", "id": written("in_"), "from": phone, "text": text
        }))
    }

    fn webhook_signed(body: &Value) -> Self {
        let (body, at) = (body.to_string(), now().to_string());
        let signature = standard_signature(&format!("evt_1.{at}."), body.as_bytes());
        Self {
            headers: vec![
                ("webhook-id", "evt_1".into()),
                ("webhook-timestamp", at),
                ("webhook-signature", signature),
            ],
            body,
        }
    }

    /// The same about another message, the signature left as it is.
    #[must_use]
    pub fn about(mut self, id: &str, other: &str) -> Self {
        self.body = self.body.replace(id, other);
        self
    }

    /// The same without what it is believed by.
    #[must_use]
    pub fn unsigned(mut self) -> Self {
        self.headers.clear();
        self.body = match self.body.split_once("&sig=") {
            Some((body, _)) => body.to_owned(),
            None => self.body,
        };
        self
    }

    /// Sends it to the server behind `client`, for the provider `name`.
    pub async fn post(&self, client: &Client, name: &str) -> Answer {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let path = format!("/webhooks/{name}");
        let client = client.without_key();
        let sent = client.request(Method::POST, &path, &headers, self.body.clone());
        sent.await.unwrap()
    }
}

/// Whether the body or the address of a request shows `secret`.
pub fn shows(request: &Request, secret: &str) -> bool {
    String::from_utf8_lossy(&request.body).contains(secret) || request.path.contains(secret)
}
