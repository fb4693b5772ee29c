//! A small HTTP client: what an application's back end would use, and raw bytes for what it never would.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::PATIENCE;

/// A header's name and value.
pub type Header<'a> = (&'a str, &'a str);

/// A keep-alive client of one server, with or without an API key.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    key: Option<String>,
    http: legacy::Client<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// A client of the server at `address` that shows `key` where one is given.
    pub fn new(address: SocketAddr, key: Option<&str>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            address,
            key: key.map(str::to_owned),
            http: legacy::Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// The same client with another key.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..self.clone()
        }
    }

    /// The same client without a key.
    #[must_use]
    pub fn without_key(&self) -> Self {
        Self {
            key: None,
            ..self.clone()
        }
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `POST /api/otp/send`.
    pub async fn send(&self, phone: &str) -> Answer {
        self.post("/api/otp/send", &json!({ "phoneNumber": phone }))
            .await
    }

    /// `POST /api/otp/verify`.
    pub async fn verify(&self, phone: &str, code: &str) -> Answer {
        self.post(
            "/api/otp/verify",
            &json!({ "phoneNumber": phone, "code": code }),
        )
        .await
    }

    /// `POST /api/otp/send`; `Err` when no answer came, because the server died meanwhile.
    ///
    /// # Errors
    /// The connection's end, as text.
    pub async fn try_send(&self, phone: &str) -> Result<Answer, String> {
        self.try_post("/api/otp/send", &json!({ "phoneNumber": phone }))
            .await
    }

    /// `POST /api/otp/verify`; `Err` when no answer came, because the server died meanwhile.
    ///
    /// # Errors
    /// The connection's end, as text.
    pub async fn try_verify(&self, phone: &str, code: &str) -> Result<Answer, String> {
        self.try_post(
            "/api/otp/verify",
            &json!({ "phoneNumber": phone, "code": code }),
        )
        .await
    }

    /// A `POST` of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body)
            .await
            .unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    async fn try_post(&self, path: &str, body: &Value) -> Result<Answer, String> {
        let body = serde_json::to_vec(body).unwrap();
        self.request(
            Method::POST,
            path,
            &[("content-type", "application/json")],
            body,
        )
        .await
    }

    /// A `POST` of a JSON body with an `Idempotency-Key`.
    pub async fn post_once(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.try_post_once(path, key, body)
            .await
            .unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// As [`Client::post_once`]; `Err` when no answer came, because the server died meanwhile.
    ///
    /// # Errors
    /// The connection's end, as text.
    pub async fn try_post_once(
        &self,
        path: &str,
        key: &str,
        body: &Value,
    ) -> Result<Answer, String> {
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        let body = serde_json::to_vec(body).unwrap();
        self.request(Method::POST, path, &headers, body).await
    }

    /// A `POST` of a body that is called JSON and need not be.
    pub async fn post_bytes(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.request(
            Method::POST,
            path,
            &[("content-type", "application/json")],
            body,
        )
        .await
        .unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// A `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &[], Bytes::new())
            .await
            .unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// Any request. A header of `headers` replaces the one that the client would have sent.
    ///
    /// # Errors
    /// Why no answer came, as text.
    ///
    /// # Panics
    /// When the answer takes longer than [`PATIENCE`].
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[Header<'_>],
        body: impl Into<Bytes>,
    ) -> Result<Answer, String> {
        let what = format!("{method} {path}");
        let mut request = hyper::Request::new(Full::new(body.into()));
        *request.method_mut() = method;
        *request.uri_mut() = format!("http://{}{path}", self.address).parse().unwrap();
        if let Some(key) = &self.key {
            let bearer = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
            request.headers_mut().insert(AUTHORIZATION, bearer);
        }
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request
                .headers_mut()
                .insert(name, HeaderValue::from_str(value).unwrap());
        }
        let exchange = async {
            let response = self
                .http
                .request(request)
                .await
                .map_err(|error| chain(&error))?;
            let (head, body) = response.into_parts();
            let body = body
                .collect()
                .await
                .map_err(|error| chain(&error))?
                .to_bytes();
            Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body,
            })
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(answer) => answer,
            Err(_) => panic!("{what}: no answer within {PATIENCE:?}"),
        }
    }

    /// The bytes of a request on a connection of its own, with this client's key, for use with
    /// [`Client::raw`] and for clients that hang up.
    pub fn raw_request(
        &self,
        method: &str,
        path: &str,
        headers: &[Header<'_>],
        body: &[u8],
    ) -> Vec<u8> {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        if let Some(key) = &self.key {
            text += &format!("Authorization: Bearer {key}\r\n");
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        let mut bytes = (text + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    /// The bytes of a well-formed `POST` of JSON.
    pub fn raw_post(&self, path: &str, body: &Value) -> Vec<u8> {
        let body = serde_json::to_vec(body).unwrap();
        let length = body.len().to_string();
        let headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", length.as_str()),
        ];
        self.raw_request("POST", path, &headers, &body)
    }

    /// Writes `bytes` to a new connection and ends the sending half of it. What came back up to the
    /// server's own end of the connection is the answer; `None` when that was nothing at all.
    pub async fn raw(&self, bytes: &[u8]) -> Option<Answer> {
        let stream = self.connect().await;
        let (mut reader, mut writer) = stream.into_split();
        // Both at once: a server that refuses a large body answers while it is still being sent,
        // and then may reset the connection, so errors are an end like any other.
        let write = async {
            if writer.write_all(bytes).await.is_ok() {
                let _ = writer.shutdown().await;
            }
        };
        let mut received = Vec::new();
        let read = async {
            let mut chunk = [0; 16 * 1024];
            while let Ok(length @ 1..) = reader.read(&mut chunk).await {
                received.extend_from_slice(&chunk[..length]);
            }
        };
        let both = async { tokio::join!(write, read) };
        let done = tokio::time::timeout(PATIENCE, both).await;
        assert!(
            done.is_ok(),
            "the connection is still open after {PATIENCE:?}"
        );
        Answer::parse(&received)
    }

    /// A bare connection to the server.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address)
            .await
            .expect("the server accepts connections")
    }
}

/// An error with all its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

/// An answer, complete.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body's bytes.
    pub body: Bytes,
}

impl Answer {
    /// Reads the first complete answer in `received`.
    fn parse(received: &[u8]) -> Option<Self> {
        let end = received
            .windows(4)
            .position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&received[..end]);
        let mut lines = head.split("\r\n");
        let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let rest = &received[end + 4..];
        if (100..200).contains(&status) {
            return Self::parse(rest);
        }
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let name: HeaderName = name.parse().ok()?;
            headers.append(name, HeaderValue::from_str(value.trim()).ok()?);
        }
        let length = headers
            .get("content-length")
            .and_then(|value| value.to_str().ok());
        let length = length
            .and_then(|length| length.parse().ok())
            .unwrap_or(rest.len());
        let body = Bytes::copy_from_slice(&rest[..length.min(rest.len())]);
        Some(Self {
            status,
            headers,
            body,
        })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!(
                "not JSON ({error}): status {}, body {:?}",
                self.status,
                self.text()
            )
        })
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The `Retry-After` header in seconds, which has to be there.
    #[track_caller]
    pub fn retry_after(&self) -> Duration {
        let value = self
            .header("retry-after")
            .unwrap_or_else(|| panic!("no Retry-After: {self:?}"));
        let seconds = value
            .parse()
            .unwrap_or_else(|_| panic!("Retry-After is {value:?}, not seconds"));
        Duration::from_secs(seconds)
    }

    /// Requires `status`, and shows the whole answer where it is another.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        let name = StatusCode::from_u16(status).ok();
        assert!(
            self.status == status,
            "expected {name:?}, got {} {:?}",
            self.status,
            self.text()
        );
        self
    }

    /// Requires `status` and exactly the fields of `body`, as `application/json`.
    #[track_caller]
    pub fn expect_body(self, status: u16, body: &Value) -> Self {
        let answer = self.expect_status(status);
        assert_eq!(&answer.json(), body);
        answer.expect_media_type("application/json")
    }

    /// Requires 200 and `success: true`; what else the body carries is free.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        let answer = self.expect_status(200);
        assert_eq!(answer.json()["success"], json!(true), "{}", answer.text());
        answer.expect_media_type("application/json")
    }

    /// Requires an RFC 9457 problem of that status.
    #[track_caller]
    pub fn expect_problem(self, status: u16) -> Self {
        let answer = self
            .expect_status(status)
            .expect_media_type("application/problem+json");
        let problem = answer.json();
        for member in ["type", "title"] {
            let text = problem[member].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "the problem has no `{member}`: {problem}");
        }
        assert_eq!(problem["status"], json!(status), "{problem}");
        answer
    }

    /// Requires 400 with exactly `{error, field}`.
    #[track_caller]
    pub fn expect_field_error(self, field: &str) -> Self {
        let answer = self
            .expect_status(400)
            .expect_media_type("application/json");
        let body = answer.json();
        let error = body["error"].as_str().unwrap_or_default();
        assert!(!error.is_empty(), "no `error`: {body}");
        assert_eq!(body, json!({ "error": error, "field": field }));
        answer
    }

    /// Requires 400 with exactly `{error}`: the body could not be read.
    #[track_caller]
    pub fn expect_unreadable(self) -> Self {
        let answer = self
            .expect_status(400)
            .expect_media_type("application/json");
        let body = answer.json();
        let error = body["error"].as_str().unwrap_or_default();
        assert!(!error.is_empty(), "no `error`: {body}");
        assert_eq!(body, json!({ "error": error }));
        answer
    }

    #[track_caller]
    fn expect_media_type(self, want: &str) -> Self {
        let header = self
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let media_type = header
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        assert_eq!(media_type, want, "of {:?}", self.text());
        self
    }
}
