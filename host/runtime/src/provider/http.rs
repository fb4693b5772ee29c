//! `countersign:provider/http`: the only code that connects for a guest.
//!
//! The grant is asked before each request; a name's addresses are looked up here and private ones
//! dropped, so that what was checked is what is connected to. No redirect is followed.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::grant::is_private;
use super::since_v0_1::wit::http::{
    Authorization, Body, Failure, Host, Method, Request, Response, Text,
};
use super::{Call, Grants};
use crate::Limits;

const URL_BYTES_MAX: usize = 2_048;
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 8 * 1024;
const FORM_FIELDS_MAX: usize = 64;

/// Headers of the connection, which the host alone writes.
const REFUSED_HEADERS: [&str; 10] = [
    "host",
    "content-length",
    "connection",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
];

/// A client for one provider: its own pool of connections.
pub(super) fn client(limits: &Limits) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .connect_timeout(limits.http_connect)
        .timeout(limits.http_request)
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(64)
        .tcp_nodelay(true)
        .dns_resolver(PublicOnly)
        .build()
}

/// Looks names up and drops addresses that are not on the Internet: a granted name must not lead into
/// the operator's own network. Literal addresses do not come here; their grant is checked before.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> =
                found.filter(|address| !is_private(address.ip())).collect();
            if public.is_empty() {
                return Err("the name has no address on the Internet".into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Nothing was written.
fn not_sent(text: impl Into<String>) -> Failure {
    Failure {
        text: text.into(),
        maybe_sent: false,
    }
}

impl Host for Call {
    async fn send(&mut self, request: Request) -> wasmtime::Result<Result<Response, Failure>> {
        if self.requests >= self.limits.http_requests {
            wasmtime::bail!(
                "more than {} requests in one call",
                self.limits.http_requests
            );
        }
        self.requests += 1;
        let built = match build(&self.grants, &self.limits, request) {
            Ok(built) => built,
            Err(failure) => return Ok(Err(failure)),
        };
        // Until the outcome is known, the worst is assumed: the call may be cut off at any moment.
        let before = self.seen.maybe_sent.swap(true, Ordering::AcqRel);
        self.seen.accepted.store(false, Ordering::Release);
        let answer = match self.grants.client.execute(built).await {
            Ok(answer) => answer,
            Err(error) => {
                // A failure to connect comes before the first byte; anything later may not.
                let maybe_sent = !(error.is_connect() || error.is_builder());
                self.seen
                    .maybe_sent
                    .store(before || maybe_sent, Ordering::Release);
                return Ok(Err(Failure {
                    text: self.grants.credentials.scrub(&describe(&error)),
                    maybe_sent,
                }));
            }
        };
        Ok(match read(answer, self.limits.http_body_bytes).await {
            Ok(response) => {
                let success = (200..300).contains(&response.status);
                self.seen.accepted.store(success, Ordering::Release);
                Ok(response)
            }
            Err(text) => Err(Failure {
                text: self.grants.credentials.scrub(&text),
                maybe_sent: true,
            }),
        })
    }
}

/// The error without the URL, which may hold an account's name, and with its causes.
fn describe(error: &reqwest::Error) -> String {
    let mut text = match () {
        () if error.is_timeout() => "it took too long".to_owned(),
        () if error.is_connect() => "no connection".to_owned(),
        () => "the connection failed".to_owned(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn read(mut answer: reqwest::Response, max: usize) -> Result<Response, String> {
    let status = answer.status().as_u16();
    let headers = answer
        .headers()
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| describe(&error))? {
        if body.len() + chunk.len() > max {
            return Err(format!("the answer is longer than {max} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response {
        status,
        headers,
        body,
    })
}

fn build(grants: &Grants, limits: &Limits, request: Request) -> Result<reqwest::Request, Failure> {
    if request.url.len() > URL_BYTES_MAX {
        return Err(not_sent(format!(
            "the URL is longer than {URL_BYTES_MAX} bytes"
        )));
    }
    let url = Url::parse(&request.url).map_err(|error| not_sent(format!("the URL: {error}")))?;
    grants.hosts.check(&url).map_err(not_sent)?;
    let method = match request.method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
    };
    let mut headers = plain_headers(&request.headers)?;
    if let Some((name, value)) = authorization(grants, &request.authorization)? {
        headers.insert(name, value);
    }
    let mut builder = grants.client.request(method, url).headers(headers);
    builder = match request.body {
        Body::Empty => builder,
        Body::Bytes(bytes) if bytes.len() > limits.http_body_bytes => {
            return Err(not_sent("the body is too long"));
        }
        Body::Bytes(bytes) => builder.body(bytes),
        Body::Form(fields) if form_bytes(&fields) > limits.http_body_bytes => {
            return Err(not_sent("the form is too long"));
        }
        Body::Form(fields) if fields.len() > FORM_FIELDS_MAX => {
            return Err(not_sent(format!("more than {FORM_FIELDS_MAX} form fields")));
        }
        Body::Form(fields) => {
            let body = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(fields)
                .finish();
            builder
                .header("content-type", "application/x-www-form-urlencoded")
                .body(body)
        }
    };
    let asked = request.timeout.map(Duration::from_millis);
    builder
        .timeout(asked.map_or(limits.http_request, |asked| asked.min(limits.http_request)))
        .build()
        .map_err(|error| not_sent(describe(&error)))
}

fn form_bytes(fields: &[(String, String)]) -> usize {
    fields
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum()
}

fn plain_headers(pairs: &[(String, String)]) -> Result<HeaderMap, Failure> {
    let bytes: usize = pairs
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if pairs.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        return Err(not_sent("too many headers"));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = header_name(name)?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| not_sent(format!("the value of the header `{name}` is not allowed")))?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn header_name(name: &str) -> Result<HeaderName, Failure> {
    let parsed: HeaderName = name
        .parse()
        .map_err(|_| not_sent(format!("`{name}` is no header name")))?;
    if REFUSED_HEADERS.contains(&parsed.as_str()) {
        return Err(not_sent(format!("the header `{parsed}` is the host's")));
    }
    Ok(parsed)
}

/// The header that carries the credentials, marked so that nobody prints it.
fn authorization(
    grants: &Grants,
    authorization: &Authorization,
) -> Result<Option<(HeaderName, HeaderValue)>, Failure> {
    let credential = |name: &str| {
        grants
            .credentials
            .get(name)
            .ok_or_else(|| not_sent(format!("no credential `{name}` is configured")))
    };
    let text = |text: &Text| match text {
        Text::Plain(text) => Ok(text.clone()),
        Text::Credential(name) => credential(name).map(str::to_owned),
    };
    let (name, value) = match authorization {
        Authorization::None => return Ok(None),
        Authorization::Basic(basic) => {
            let pair = format!("{}:{}", text(&basic.username)?, text(&basic.password)?);
            let encoded = base64::prelude::BASE64_STANDARD.encode(pair);
            (reqwest::header::AUTHORIZATION, format!("Basic {encoded}"))
        }
        Authorization::Bearer(name) => (
            reqwest::header::AUTHORIZATION,
            format!("Bearer {}", credential(name)?),
        ),
        Authorization::Header(header) => {
            let value = format!("{}{}", header.prefix, credential(&header.credential)?);
            (header_name(&header.name)?, value)
        }
    };
    if value.len() > HEADER_BYTES_MAX {
        return Err(not_sent("the authorization is too long"));
    }
    let mut value = HeaderValue::from_str(&value)
        .map_err(|_| not_sent("a credential has characters that no header may have"))?;
    value.set_sensitive(true);
    Ok(Some((name, value)))
}
