//! Twilio's Messages API as such: its requests, what it refuses, its answers.
//!
//! Source: `twilio/twilio-oai` `spec/json/twilio_api_v2010.json` and Twilio's pages on error codes,
//! as noted in the project's contract on SMS providers.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::{Method, Response};
use serde_json::{Value, json};

use crate::server::digits;

/// The account that the fake knows.
pub const ACCOUNT_SID: &str = "AC0123456789abcdef0123456789abcdef";

/// That account's secret.
pub const AUTH_TOKEN: &str = "countersign-test-token-b7e23ec29af22b0b";

/// The number that messages are sent from.
pub const PHONE_NUMBER: &str = "+15005550006";

/// One request as it arrived, whatever became of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// All headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body's bytes.
    pub body: Bytes,
    /// The body as form fields.
    pub form: Vec<(String, String)>,
    /// When it had arrived.
    pub at: Instant,
}

impl Request {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first form field of that name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.form
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
    }

    /// The receiver; empty where there is none.
    pub fn to(&self) -> &str {
        self.field("To").unwrap_or_default()
    }

    /// The code in the message's text.
    pub fn code(&self) -> Option<String> {
        digits(self.field("Body")?.split_once("is: ")?.1)
    }
}

/// A message that the fake has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The receiver, in E.164.
    pub to: String,
    /// The text.
    pub body: String,
    /// The fake's name for it.
    pub sid: String,
    /// Where its status callbacks are to go.
    pub status_callback: Option<String>,
}

impl Message {
    /// The code in the text: 6 to 10 digits after `is: `.
    #[track_caller]
    pub fn code(&self) -> String {
        let rest = self
            .body
            .split_once("is: ")
            .map(|(_, rest)| rest)
            .unwrap_or_default();
        digits(rest).unwrap_or_else(|| panic!("no code in {:?}", self.body))
    }
}

/// The message that is asked about, by its name.
pub(crate) fn asked_about(request: &Request) -> Option<&str> {
    let messages = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Messages/");
    let name = request
        .path
        .strip_prefix(&messages)?
        .strip_suffix(".json")?;
    (request.method == Method::GET.as_str()).then_some(name)
}

/// What Twilio would refuse, with status, code and text.
pub(crate) fn objection(request: &Request) -> Option<(u16, u32, &'static str)> {
    let credentials = format!(
        "Basic {}",
        STANDARD.encode(format!("{ACCOUNT_SID}:{AUTH_TOKEN}"))
    );
    if request.header("authorization") != Some(credentials.as_str()) {
        return Some((401, 20003, "Authenticate"));
    }
    if asked_about(request).is_some() {
        return None;
    }
    if request.path != format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json") {
        return Some((404, 20404, "The requested resource was not found"));
    }
    if request.method != Method::POST.as_str() {
        return Some((405, 20004, "Method not allowed"));
    }
    let media_type = request
        .header("content-type")
        .unwrap_or_default()
        .split(';')
        .next();
    if media_type.map(str::trim) != Some("application/x-www-form-urlencoded") {
        return Some((415, 20015, "Unsupported media type"));
    }
    let present = |name| {
        request
            .field(name)
            .is_some_and(|value: &str| !value.is_empty())
    };
    let e164 = |number: &str| {
        number.strip_prefix('+').is_some_and(|digits| {
            (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    if !present("To") {
        return Some((400, 21604, "A 'To' phone number is required."));
    }
    if !e164(request.to()) {
        return Some((400, 21211, "Invalid 'To' Phone Number"));
    }
    if !present("From") && !present("MessagingServiceSid") {
        return Some((400, 21603, "A 'From' phone number is required."));
    }
    if present("From") && request.field("From") != Some(PHONE_NUMBER) {
        return Some((
            400,
            21606,
            "The 'From' phone number is not a valid, SMS-capable number of this account.",
        ));
    }
    let body = request.field("Body").unwrap_or_default();
    if body.is_empty() {
        return Some((400, 21602, "Message body is required."));
    }
    if body.encode_utf16().count() > 1600 {
        return Some((
            400,
            21617,
            "The concatenated message body exceeds the 1600 character limit",
        ));
    }
    let validity = request.field("ValidityPeriod").map(str::parse::<u32>);
    if validity.is_some_and(|seconds| !seconds.is_ok_and(|seconds| (1..=36_000).contains(&seconds)))
    {
        return Some((400, 20001, "ValidityPeriod is out of range"));
    }
    None
}

/// The whole resource of Twilio's 201.
pub(crate) fn resource(message: &Message) -> Value {
    let now = jiff::Timestamp::now()
        .strftime("%a, %d %b %Y %H:%M:%S +0000")
        .to_string();
    let uri = format!(
        "/2010-04-01/Accounts/{ACCOUNT_SID}/Messages/{}",
        message.sid
    );
    json!({
        "account_sid": ACCOUNT_SID,
        "api_version": "2010-04-01",
        "body": message.body,
        "date_created": now,
        "date_sent": null,
        "date_updated": now,
        "direction": "outbound-api",
        "error_code": null,
        "error_message": null,
        "from": PHONE_NUMBER,
        "messaging_service_sid": null,
        "num_media": "0",
        "num_segments": "1",
        "price": null,
        "price_unit": "USD",
        "sid": message.sid,
        "status": "queued",
        "subresource_uris": { "media": format!("{uri}/Media.json") },
        "tags": null,
        "to": message.to,
        "uri": format!("{uri}.json"),
    })
}

pub(crate) fn error(
    status: u16,
    code: u32,
    text: &str,
    retry_after: Option<u32>,
) -> Response<Full<Bytes>> {
    let body = json!({
        "code": code,
        "message": text,
        "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
        "status": status,
    });
    let mut response = json_response(status, body.to_string().into());
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

pub(crate) fn json_response(status: u16, body: Bytes) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json;charset=utf-8")
        .body(Full::new(body))
        .unwrap()
}
