//! `countersign:provider/http`: the only code that connects for a guest.
//!
//! The grant is asked before each request; a name's addresses are looked up here and private ones
//! dropped, so that what was checked is what is connected to. No redirect is followed.
//!
//! **No answer shows a credential to a component.** A server may repeat what it was asked with, in a
//! header, an error or a page that shows the request; what of it is a credential that the host has put
//! in is removed. Removed and not refused: an account's id that is configured as a credential stands in
//! ordinary answers of many APIs, and a message whose answer is withheld would be sent once more, since
//! nobody could say that it was taken. So that it is found, an answer must come as it is: the host asks
//! for no encoding and for no part of one, and refuses an answer that is encoded nevertheless.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue,
};
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

const CREDENTIAL_NAME_BYTES_MAX: usize = 64;
const CREDENTIAL_PREFIX_BYTES_MAX: usize = 64;

/// Headers of the connection and of how an answer is to come, which the host alone writes.
const REFUSED_HEADERS: [&str; 14] = [
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
    "expect",
    "accept-encoding",
    "range",
    "if-range",
];

/// What the name of a header has as one of its words, between hyphens, where it is there to carry a
/// credential: `api-key`, `apikey`, `access-token`, `ocp-apim-subscription-key`.
const CREDENTIAL_WORDS: [&str; 7] = [
    "authorization",
    "auth",
    "key",
    "apikey",
    "accesskey",
    "token",
    "secret",
];

/// Names that have such a word and are something else: for the machines on the way, or repeated by
/// servers as a matter of course.
const NO_CREDENTIAL: [&str; 9] = [
    "idempotency-key",
    "sec-",
    "proxy-",
    "x-forwarded",
    "x-real-ip",
    "x-original",
    "x-http-method",
    "x-request-id",
    "x-correlation-id",
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
        if self.one.requests >= self.limits.http_requests {
            wasmtime::bail!(
                "more than {} requests in one call",
                self.limits.http_requests
            );
        }
        self.one.requests += 1;
        let built = match build(&self.grants, &self.limits, request) {
            Ok(built) => built,
            Err(failure) => return Ok(Err(failure)),
        };
        let seen = &mut self.one.seen;
        // Until the outcome is known, the worst is assumed: the call may be cut off at any moment.
        let before = std::mem::replace(&mut seen.maybe_sent, true);
        seen.accepted = false;
        let answer = match self.grants.client.execute(built).await {
            Ok(answer) => answer,
            Err(error) => {
                // A failure to connect comes before the first byte; anything later may not.
                let maybe_sent = !(error.is_connect() || error.is_builder());
                seen.maybe_sent = before || maybe_sent;
                return Ok(Err(Failure {
                    text: self.grants.credentials.scrub(&describe(&error)),
                    maybe_sent,
                }));
            }
        };
        Ok(match read(answer, self.limits.http_body_bytes).await {
            Ok(response) => {
                seen.accepted = (200..300).contains(&response.status);
                Ok(without_credentials(&self.grants, response))
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

/// What a component may see of an answer.
fn without_credentials(grants: &Grants, response: Response) -> Response {
    let credentials = &grants.credentials;
    let headers = response.headers.into_iter();
    let headers =
        headers.map(|(name, value)| (credentials.scrub(&name), credentials.scrub(&value)));
    Response {
        status: response.status,
        headers: headers.collect(),
        body: credentials.scrub_bytes(response.body),
    }
}

async fn read(mut answer: reqwest::Response, max: usize) -> Result<Response, String> {
    let status = answer.status().as_u16();
    let encodings = answer.headers().get_all(CONTENT_ENCODING).iter();
    if encodings
        .map(HeaderValue::as_bytes)
        .any(|encoding| encoding != b"identity")
    {
        return Err("the answer is encoded, which was not asked for".to_owned());
    }
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
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let body = match request.body {
        Body::Empty => None,
        Body::Bytes(bytes) => Some(bytes),
        Body::Form(fields) if fields.len() > FORM_FIELDS_MAX => {
            return Err(not_sent(format!("more than {FORM_FIELDS_MAX} form fields")));
        }
        Body::Form(fields) => {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(CONTENT_TYPE, form);
            let mut body = url::form_urlencoded::Serializer::new(String::new());
            Some(body.extend_pairs(fields).finish().into_bytes())
        }
    };
    let mut builder = grants.client.request(method, url).headers(headers);
    if let Some(body) = body {
        if body.len() > limits.http_body_bytes {
            return Err(not_sent("the body is too long"));
        }
        builder = builder.body(body);
    }
    let asked = request.timeout.map(Duration::from_millis);
    builder
        .timeout(asked.map_or(limits.http_request, |asked| asked.min(limits.http_request)))
        .build()
        .map_err(|error| not_sent(describe(&error)))
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

/// The name of a header in which the host may put a credential: `Authorization`, names that say that they
/// carry one, and names beginning with `X-`, which are a provider's own. Anywhere else a credential would
/// be read by somebody it is not for: as a cookie, as an address, by the machines on the way.
fn credential_header(name: &str) -> Result<HeaderName, Failure> {
    let parsed = header_name(name)?;
    let text = parsed.as_str();
    let meant =
        text.starts_with("x-") || text.split('-').any(|word| CREDENTIAL_WORDS.contains(&word));
    let other = NO_CREDENTIAL.iter().any(|start| text.starts_with(start));
    if !meant || other || text.len() > CREDENTIAL_NAME_BYTES_MAX {
        return Err(not_sent(format!(
            "no credential may stand in the header `{parsed}`; `authorization`, `api-key` and `x-…` are \
             for that"
        )));
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
            (AUTHORIZATION, format!("Basic {encoded}"))
        }
        Authorization::Bearer(name) => (AUTHORIZATION, format!("Bearer {}", credential(name)?)),
        Authorization::Header(header) => {
            if header.prefix.len() > CREDENTIAL_PREFIX_BYTES_MAX {
                return Err(not_sent("what stands before a credential is too long"));
            }
            let value = format!("{}{}", header.prefix, credential(&header.credential)?);
            (credential_header(&header.name)?, value)
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

#[cfg(test)]
mod tests {
    use super::super::since_v0_1::wit::http::Header;
    use super::*;
    use crate::ProviderConfig;
    use countersign_types::Secret;

    fn built(request: Request) -> Result<reqwest::Request, String> {
        let config = ProviderConfig {
            component_name: "p".into(),
            name: "p".to_owned(),
            component: Vec::new(),
            settings: vec![("base-url".to_owned(), "http://127.0.0.1:9".to_owned())],
            credentials: vec![("token".to_owned(), Secret::new("swordfish".to_owned()))],
            allow_hosts: None,
            terminal: false,
            own: false,
            unsigned: false,
        };
        let limits = Limits {
            http_body_bytes: 1_024,
            ..Limits::default()
        };
        let grants = Grants::new(&config, &[], &limits).expect("granted");
        build(&grants, &limits, request).map_err(|failure| failure.text)
    }

    fn form(fields: usize, value: &str) -> Request {
        Request {
            method: Method::Post,
            url: "http://127.0.0.1:9/".to_owned(),
            headers: vec![("Content-Type".to_owned(), "text/plain".to_owned())],
            body: Body::Form(vec![("a".to_owned(), value.to_owned()); fields]),
            authorization: Authorization::Bearer("token".to_owned()),
            timeout: None,
        }
    }

    #[test]
    fn a_form_has_the_type_of_one_and_no_other() {
        let request = built(form(1, "b")).expect("built");
        let types: Vec<_> = request.headers().get_all(CONTENT_TYPE).iter().collect();
        assert_eq!(types, ["application/x-www-form-urlencoded"]);
    }

    #[test]
    fn a_form_is_bounded_as_it_is_sent() {
        assert!(built(form(64, "b")).is_ok());
        assert!(built(form(65, "b")).is_err());
        assert!(built(form(1, &"x".repeat(1_022))).is_ok());
        assert!(built(form(1, &"x".repeat(1_023))).is_err());
        assert!(built(form(1, &"€".repeat(114))).is_err(), "nine bytes each");
    }

    #[test]
    fn what_stands_before_a_credential_is_short() {
        let carry = |prefix: usize| {
            let header = Header {
                name: "authorization".to_owned(),
                prefix: "p".repeat(prefix),
                credential: "token".to_owned(),
            };
            built(Request {
                authorization: Authorization::Header(header),
                ..form(1, "b")
            })
        };
        let request = carry(64).expect("built");
        assert!(request.headers()[AUTHORIZATION].is_sensitive());
        assert!(carry(65).is_err());
    }
}
