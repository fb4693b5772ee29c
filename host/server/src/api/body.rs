//! Request bodies: their type, their size, the time they may take, and the fields in them.

use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, EXPECT};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use serde_json::{Map, Value};

use super::problem::{Kind, Problem, Refused};

/// How much of a body that is refused is read and thrown away, so that a client that is still
/// writing gets to read the answer in place of a reset connection.
const DISCARDED_BYTES_MAX: usize = 16 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// Which media types are taken for JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// `application/json` and nothing else.
    Exact,
    /// Also `application/…+json` (RFC 6839).
    Usual,
}

/// Whether the body claims to be JSON.
///
/// # Errors
///
/// 415 where it does not.
pub(crate) fn check_json(headers: &HeaderMap, strictness: Strictness) -> Result<(), Problem> {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value
        .and_then(|value| value.split(';').next())
        .unwrap_or("");
    let essence = essence.trim().to_ascii_lowercase();
    let usual = || essence.starts_with("application/") && essence.ends_with("+json");
    if essence == "application/json" || strictness == Strictness::Usual && usual() {
        Ok(())
    } else {
        let detail = "Send the header `Content-Type: application/json`.";
        Err(Problem::new(Kind::NotJson, detail))
    }
}

/// Reads a body of at most `bytes_max` within `time`.
///
/// # Errors
///
/// 413, 408, or 400 where the connection breaks off.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    time: Duration,
) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("At most {bytes_max} bytes are taken.");
        Problem::new(Kind::TooLarge, detail)
    };
    // A client that waits for `100 Continue` has not sent anything yet and need not.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bytes_max && headers.contains_key(EXPECT) {
        return Err(too_large());
    }
    match tokio::time::timeout(time, collect(body, bytes_max)).await {
        Ok(Collected::All(bytes)) => Ok(bytes),
        Ok(Collected::TooLarge(rest)) => {
            discard(rest).await;
            Err(too_large())
        }
        Ok(Collected::Broken) => {
            let detail = "The body broke off before its end.";
            Err(Problem::new(Kind::BadRequest, detail))
        }
        Err(_) => {
            let detail = format!("The body must arrive within {} seconds.", time.as_secs());
            Err(Problem::new(Kind::RequestTimeout, detail))
        }
    }
}

enum Collected {
    All(Bytes),
    TooLarge(Body),
    Broken,
}

async fn collect(mut body: Body, bytes_max: usize) -> Collected {
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Collected::Broken;
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let so_far = first.as_ref().map_or(all.len(), Bytes::len);
        if so_far + data.len() > bytes_max {
            return Collected::TooLarge(body);
        }
        // Most bodies are one piece, which then is not copied.
        match first.take() {
            None if all.is_empty() => first = Some(data),
            None => all.extend_from_slice(&data),
            Some(earlier) => {
                all.extend_from_slice(&earlier);
                all.extend_from_slice(&data);
            }
        }
    }
    Collected::All(first.unwrap_or_else(|| all.freeze()))
}

/// Reads the rest of a body that nobody wants, within bounds.
pub(crate) async fn discard(mut body: Body) {
    if body.is_end_stream() {
        return;
    }
    let read = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DISCARDED_BYTES_MAX {
                break;
            }
        }
    };
    // Either way the answer follows.
    let _ = tokio::time::timeout(DISCARD_TIME, read).await;
}

/// Answers `problem` to a request whose body was not read.
pub(crate) async fn refuse(parts: &Parts, body: Body, problem: Problem) -> Response {
    if !parts.headers.contains_key(EXPECT) {
        discard(body).await;
    }
    problem.into_response()
}

/// The fields of a JSON object.
#[derive(Debug)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads the object that a body is.
    ///
    /// # Errors
    ///
    /// Where it is no JSON object.
    pub(crate) fn parse(body: &[u8]) -> Result<Fields, Refused> {
        if body.trim_ascii().is_empty() {
            return Err(Refused::body("The body is empty; it must be a JSON object"));
        }
        let invalid = |error: &serde_json::Error| {
            Refused::body(format!(
                "The body is not valid JSON (line {}, column {})",
                error.line(),
                error.column()
            ))
        };
        let error = match serde_json::from_slice(body) {
            Ok(Unique(fields)) => return Ok(Fields(fields)),
            Err(error) => error,
        };
        match serde_json::from_slice(body) {
            Ok(Value::Object(_)) => Err(Refused::body("A field of the object comes twice")),
            Ok(other) => Err(Refused::body(format!(
                "The body must be a JSON object, not {}",
                kind(&other)
            ))),
            Err(_) => Err(invalid(&error)),
        }
    }

    /// The text of a field that must be there: 1 to `bytes_max` bytes, no control characters.
    ///
    /// # Errors
    ///
    /// Names the field and what it must be.
    pub(crate) fn text(&mut self, name: &str, bytes_max: usize) -> Result<String, Refused> {
        self.optional_text(name, bytes_max)?.ok_or_else(|| {
            Refused::field(name, format!("`{name}` is missing; it must be a string"))
        })
    }

    /// As [`text`](Fields::text), for a field that may be left out or `null`.
    ///
    /// # Errors
    ///
    /// Names the field and what it must be.
    pub(crate) fn optional_text(
        &mut self,
        name: &str,
        bytes_max: usize,
    ) -> Result<Option<String>, Refused> {
        let text = match self.0.remove(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text,
            Some(other) => {
                let error = format!("`{name}` must be a string, not {}", kind(&other));
                return Err(Refused::field(name, error));
            }
        };
        if text.is_empty() {
            return Err(Refused::field(name, format!("`{name}` must not be empty")));
        }
        if text.len() > bytes_max {
            let error = format!("`{name}` must have at most {bytes_max} bytes");
            return Err(Refused::field(name, error));
        }
        if text.contains(char::is_control) {
            let error = format!("`{name}` must not contain control characters");
            return Err(Refused::field(name, error));
        }
        Ok(Some(text))
    }
}

/// An object in which no field comes twice: two readers of one body might otherwise each believe
/// another one (RFC 8259 section 4).
struct Unique(Map<String, Value>);

impl<'de> serde::Deserialize<'de> for Unique {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Unique, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Unique;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut access: A,
            ) -> Result<Unique, A::Error> {
                let mut fields = Map::new();
                while let Some((name, value)) = access.next_entry()? {
                    if fields.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a field comes twice"));
                    }
                }
                Ok(Unique(fields))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[track_caller]
    fn check_type(value: &'static str, exact: bool, usual: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
        assert_eq!(
            check_json(&headers, Strictness::Exact).is_ok(),
            exact,
            "{value}"
        );
        assert_eq!(
            check_json(&headers, Strictness::Usual).is_ok(),
            usual,
            "{value}"
        );
    }

    #[test]
    fn only_json_is_json() {
        check_type("application/json", true, true);
        check_type("Application/JSON; charset=utf-8", true, true);
        check_type("application/vnd.shop+json", false, true);
        check_type("text/plain", false, false);
        check_type("text/json", false, false);
        check_type("application/x-www-form-urlencoded", false, false);
        assert!(check_json(&HeaderMap::new(), Strictness::Usual).is_err());
    }

    #[track_caller]
    fn check_body(body: &str, want: &str) {
        let refused = Fields::parse(body.as_bytes()).expect_err(body);
        assert_eq!(refused, Refused::body(want), "{body}");
    }

    #[test]
    fn a_body_that_cannot_be_read_is_told_so_without_quoting_it() {
        check_body("", "The body is empty; it must be a JSON object");
        check_body(" \n", "The body is empty; it must be a JSON object");
        check_body("{\"a\":", "The body is not valid JSON (line 1, column 5)");
        check_body("hunter2", "The body is not valid JSON (line 1, column 1)");
        check_body("[1]", "The body must be a JSON object, not an array");
        check_body("null", "The body must be a JSON object, not null");
        let deep = "[".repeat(10_000);
        assert!(Fields::parse(deep.as_bytes()).is_err());
        assert!(Fields::parse(&[b'{', b'"', 0xff, b'"', b':', b'1', b'}']).is_err());
    }

    #[track_caller]
    fn check_field(value: &str, want: Result<&str, &str>) {
        let body = format!("{{\"code\":{value}}}");
        let text = Fields::parse(body.as_bytes()).and_then(|mut fields| fields.text("code", 64));
        let want = want
            .map(str::to_owned)
            .map_err(|error| Refused::field("code", error));
        assert_eq!(text, want, "{value}");
    }

    #[test]
    fn a_field_of_the_wrong_type_is_named_with_the_type_it_must_have() {
        check_field("\"123456\"", Ok("123456"));
        check_field("123456", Err("`code` must be a string, not a number"));
        check_field("true", Err("`code` must be a string, not a boolean"));
        check_field("{}", Err("`code` must be a string, not an object"));
        check_field("[\"1\"]", Err("`code` must be a string, not an array"));
        check_field("null", Err("`code` is missing; it must be a string"));
        check_field("\"\"", Err("`code` must not be empty"));
        check_field(
            "\"1\\u00002\"",
            Err("`code` must not contain control characters"),
        );
        check_field(
            "\"1\\n\"",
            Err("`code` must not contain control characters"),
        );
    }

    #[test]
    fn a_field_is_taken_at_its_bound_and_refused_one_past_it() {
        let of = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
        check_field(&of(64), Ok(&"x".repeat(64)));
        check_field(&of(65), Err("`code` must have at most 64 bytes"));
    }

    #[tokio::test]
    async fn a_body_is_read_at_its_bound_and_refused_one_past_it() {
        let read = async |bytes: usize| {
            let body = Body::from(vec![b'x'; bytes]);
            let time = Duration::from_secs(5);
            let read = read(&HeaderMap::new(), body, 100, time).await;
            read.map(|bytes| bytes.len())
                .map_err(|problem| problem.kind())
        };
        assert_eq!(read(0).await, Ok(0));
        assert_eq!(read(100).await, Ok(100));
        assert_eq!(read(101).await, Err(Kind::TooLarge));
        assert_eq!(read(5_000_000).await, Err(Kind::TooLarge));
    }
}
