//! The only code that connects for a guest.
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

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use url::Url;

use super::authorization::{self, Unsigned};
use super::grant::is_private;
use super::spellings::{SECRET_BYTES_MIN, Spellings};
use super::tokens::{self, NoToken};
use super::words::{Authorization, Body, Failure, Method, Request, Response};
use super::{Call, Grants};
use crate::Limits;

const URL_BYTES_MAX: usize = 2_048;
const HEADERS_MAX: usize = 64;
pub(super) const HEADER_BYTES_MAX: usize = 8 * 1024;
/// Of an answer's headers, names and values.
const ANSWER_HEADER_BYTES_MAX: usize = 64 * 1024;
const FORM_FIELDS_MAX: usize = 64;

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
pub(super) fn not_sent(text: impl Into<String>) -> Failure {
    Failure {
        text: text.into(),
        maybe_sent: false,
    }
}

impl Call {
    /// Counts a request towards what the call may send.
    pub(super) fn count_request(&mut self) -> wasmtime::Result<()> {
        let max = self.limits.http_requests;
        if self.one.requests >= max {
            wasmtime::bail!("more than {max} requests in one call");
        }
        self.one.requests += 1;
        Ok(())
    }

    /// Sends a request that the component asks for.
    pub(super) async fn request(
        &mut self,
        request: Request,
    ) -> wasmtime::Result<Result<Response, Failure>> {
        self.count_request()?;
        if self.one.reads_callback && !self.one.signature_held {
            // Else anybody who calls could have this server call others.
            return Ok(Err(not_sent(
                "a callback sends no request before a signature has held",
            )));
        }
        let asked = match &request.authorization {
            Authorization::ClientCredentials(asked) => Some(asked.clone()),
            _ => None,
        };
        let token = match &asked {
            Some(asked) => match self.token(asked).await? {
                Ok(token) => Some(token),
                Err(NoToken::Failed(failure)) => return Ok(Err(failure)),
                // As if the very request had been refused: it is our account in both cases.
                Err(NoToken::Refused) => return Ok(Ok(unauthorized())),
            },
            None => None,
        };
        let token = token.as_ref().map(|token| token.expose().as_str());
        let at = self.grants.clock.now().0;
        let Built { request, secrets } = match build(&self.grants, &self.limits, request, at, token)
        {
            Ok(built) => built,
            Err(failure) => return Ok(Err(failure)),
        };
        let seen = &mut self.one.seen;
        // Until the outcome is known, the worst is assumed: the call may be cut off at any moment.
        let before = std::mem::replace(&mut seen.maybe_sent, true);
        seen.accepted = false;
        let answer = match self.grants.client.execute(request).await {
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
                if let (401, Some(asked), Some(token)) = (response.status, &asked, token) {
                    tokens::forget(&self.grants, asked, token);
                }
                Ok(without_credentials(&self.grants, &secrets, response))
            }
            Err(text) => Err(Failure {
                text: self.grants.credentials.scrub(&text),
                maybe_sent: true,
            }),
        })
    }
}

fn unauthorized() -> Response {
    Response {
        status: 401,
        headers: Vec::new(),
        body: Vec::new(),
    }
}

/// The error without the URL, which may hold an account's name, and with its causes.
pub(super) fn describe(error: &reqwest::Error) -> String {
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

/// What a component may see of an answer: no credential, and nothing of what authorized the request.
fn without_credentials(grants: &Grants, secrets: &Spellings, response: Response) -> Response {
    let clean_text = |text: String| {
        let clean = secrets.remove(text.as_bytes());
        grants.credentials.scrub(&String::from_utf8_lossy(&clean))
    };
    let headers = response.headers.into_iter();
    let headers = headers.map(|(name, value)| (clean_text(name), clean_text(value)));
    Response {
        status: response.status,
        headers: headers.collect(),
        body: {
            let body = secrets.remove(&response.body).into_owned();
            grants.credentials.scrub_bytes(body)
        },
    }
}

pub(super) async fn read(mut answer: reqwest::Response, max: usize) -> Result<Response, String> {
    let status = answer.status().as_u16();
    let encodings = answer.headers().get_all(CONTENT_ENCODING).iter();
    if encodings
        .map(HeaderValue::as_bytes)
        .any(|encoding| encoding != b"identity")
    {
        return Err("the answer is encoded, which was not asked for".to_owned());
    }
    let given = answer.headers().iter();
    let bytes: usize = given
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes > ANSWER_HEADER_BYTES_MAX {
        return Err(format!(
            "the answer's headers are longer than {ANSWER_HEADER_BYTES_MAX} bytes"
        ));
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

/// A request that can be sent, and what it carries that nobody may read in its answer.
struct Built {
    request: reqwest::Request,
    secrets: Spellings,
}

/// `at` is the time in milliseconds, `token` what was given out for client credentials.
fn build(
    grants: &Grants,
    limits: &Limits,
    request: Request,
    at: u64,
    token: Option<&str>,
) -> Result<Built, Failure> {
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
    let body = body(grants, request.body, &request.authorization, &mut headers)?;
    if body
        .as_ref()
        .is_some_and(|body| body.len() > limits.http_body_bytes)
    {
        return Err(not_sent("the body is too long"));
    }
    let unsigned = Unsigned {
        method: method.as_str(),
        url: &url,
        headers: &headers,
        body: body.as_deref().unwrap_or_default(),
        at,
        token,
    };
    let authorized = authorization::headers(grants, &request.authorization, &unsigned)?;
    let made: Vec<&str> = match &request.authorization {
        Authorization::Signed(signed) => authorized
            .iter()
            .filter_map(|(_, value)| value.to_str().ok()?.strip_prefix(&*signed.prefix))
            .collect(),
        _ => Vec::from_iter(token),
    };
    let made = made
        .into_iter()
        .filter(|text| text.len() >= SECRET_BYTES_MIN);
    let secrets = Spellings::of(made);
    for (name, value) in authorized {
        headers.insert(name, value);
    }
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let mut builder = grants.client.request(method, url).headers(headers);
    if let Some(body) = body {
        builder = builder.body(body);
    }
    let asked = request.timeout_ms.map(Duration::from_millis);
    let request = builder
        .timeout(asked.map_or(limits.http_request, |asked| asked.min(limits.http_request)))
        .build()
        .map_err(|error| not_sent(describe(&error)))?;
    Ok(Built { request, secrets })
}

/// The bytes of a body; a form says in `headers` that it is one, and has the credentials that go into its
/// fields.
fn body(
    grants: &Grants,
    body: Body,
    authorization: &Authorization,
    headers: &mut HeaderMap,
) -> Result<Option<Vec<u8>>, Failure> {
    let secret = match (authorization, &body) {
        (Authorization::Fields(fields), Body::Form(form)) => {
            authorization::fields(grants, fields, form, headers)?
        }
        (Authorization::Fields(_), _) => {
            return Err(not_sent("credentials in fields need a body that is a form"));
        }
        _ => Vec::new(),
    };
    match body {
        Body::Empty => Ok(None),
        Body::Bytes(bytes) => Ok(Some(bytes)),
        Body::Form(fields) if fields.len() > FORM_FIELDS_MAX => {
            Err(not_sent(format!("more than {FORM_FIELDS_MAX} form fields")))
        }
        Body::Form(fields) => {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(CONTENT_TYPE, form);
            let mut body = url::form_urlencoded::Serializer::new(String::new());
            body.extend_pairs(fields).extend_pairs(secret);
            Ok(Some(body.finish().into_bytes()))
        }
    }
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

pub(super) fn header_name(name: &str) -> Result<HeaderName, Failure> {
    let parsed: HeaderName = name
        .parse()
        .map_err(|_| not_sent(format!("`{name}` is no header name")))?;
    if REFUSED_HEADERS.contains(&parsed.as_str()) {
        return Err(not_sent(format!("the header `{parsed}` is the host's")));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use countersign_types::{Clock, Secret, SystemClock};
    use reqwest::header::AUTHORIZATION;

    use super::super::words::{Field, Hash, Header, Key, KeyEncoding, Signed, TextEncoding};
    use super::*;
    use crate::ProviderConfig;

    fn built(request: Request) -> Result<reqwest::Request, String> {
        let config = ProviderConfig {
            component_name: "p".into(),
            name: "p".to_owned(),
            component: Vec::new(),
            settings: vec![("base-url".to_owned(), "http://127.0.0.1:9".to_owned())],
            credentials: [
                ("token", "swordfish"),
                (
                    "signing-key",
                    "whsec_Y291bnRlcnNpZ24tZ2VuZXJpYy13ZWJob29rLWtleS0wMQ==",
                ),
            ]
            .map(|(name, secret)| (name.to_owned(), Secret::new(secret.to_owned())))
            .to_vec(),
            allow_hosts: None,
            terminal: false,
            own: false,
            unsigned: false,
        };
        let limits = Limits {
            http_body_bytes: 1_024,
            ..Limits::default()
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let grants = Grants::new(&config, &[], &limits, &clock).expect("granted");
        let built = build(&grants, &limits, request, 0, None);
        built
            .map(|built| built.request)
            .map_err(|failure| failure.text)
    }

    fn form(fields: usize, value: &str) -> Request {
        Request {
            method: Method::Post,
            url: "http://127.0.0.1:9/".to_owned(),
            headers: vec![("Content-Type".to_owned(), "text/plain".to_owned())],
            body: Body::Form(vec![("a".to_owned(), value.to_owned()); fields]),
            authorization: Authorization::Bearer("token".to_owned()),
            timeout_ms: None,
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
    fn what_stands_before_a_credential_is_short_and_can_be_seen() {
        let carry = |prefix: &str| {
            let header = Header {
                name: "authorization".to_owned(),
                prefix: prefix.to_owned(),
                credential: "token".to_owned(),
            };
            built(Request {
                authorization: Authorization::Header(header),
                ..form(1, "b")
            })
        };
        let request = carry(&"p".repeat(64)).expect("built");
        assert!(request.headers()[AUTHORIZATION].is_sensitive());
        // An answer that repeats a header that is no text would not be freed of it.
        for prefix in [&*"p".repeat(65), "é", "a\tb"] {
            assert!(carry(prefix).is_err(), "{prefix:?}");
        }
    }

    fn signed(name: &str, before: &str, key: &str) -> Request {
        let body = r#"{"id":"msg_1","status":"delivered","at":"2026-01-02T03:04:05Z"}"#;
        Request {
            body: Body::Bytes(body.into()),
            authorization: Authorization::Signed(Signed {
                name: name.to_owned(),
                prefix: "v1,".to_owned(),
                algorithm: Hash::Sha256,
                key: Key {
                    credential: key.to_owned(),
                    encoding: KeyEncoding::Base64,
                },
                before: before.to_owned(),
                with_body: true,
                encoding: TextEncoding::Base64,
            }),
            ..form(1, "b")
        }
    }

    #[test]
    fn a_webhook_is_signed_as_others_check_it() {
        let request = built(signed(
            "webhook-signature",
            "evt_1.1700000000.",
            "signing-key",
        ));
        assert_eq!(
            request.expect("built").headers()["webhook-signature"],
            "v1,Ui5ID5z1YTmatvlJ4FV8krkSss6ZLeaz/QoB8G5cMWo="
        );
    }

    #[test]
    fn what_is_signed_without_the_body_is_what_stands_before_it() {
        let mac = |body: &str| {
            let mut request = signed("webhook-signature", "evt_1.", "signing-key");
            request.body = Body::Bytes(body.into());
            if let Authorization::Signed(signed) = &mut request.authorization {
                signed.with_body = false;
            }
            built(request).expect("built").headers()["webhook-signature"].clone()
        };
        assert_eq!(mac("a"), mac("b"));
    }

    #[test]
    fn a_credential_in_a_form_stands_in_a_field_that_is_meant_for_one() {
        let with = |names: &[&str]| {
            let fields = names.iter().map(|name| Field {
                name: (*name).to_owned(),
                credential: "token".to_owned(),
            });
            built(Request {
                authorization: Authorization::Fields(fields.collect()),
                ..form(1, "b")
            })
        };
        let request = with(&["api_key", "Password"]).expect("built");
        let body = request.body().and_then(reqwest::Body::as_bytes);
        assert_eq!(
            body.expect("a body"),
            b"a=b&api_key=swordfish&Password=swordfish"
        );
        assert_eq!(request.headers().get(AUTHORIZATION), None);
        assert!(with(&["key"; 8]).is_ok());
        for names in [
            &["key"; 9][..],
            &["text"],
            &["to"],
            &["from"],
            &["a"],
            &[""],
        ] {
            assert!(with(names).is_err(), "{names:?}");
        }
        let with_body = |body, credential: &str| {
            built(Request {
                body,
                authorization: Authorization::Fields(vec![Field {
                    name: "key".to_owned(),
                    credential: credential.to_owned(),
                }]),
                ..form(1, "b")
            })
        };
        let taken = vec![("key".to_owned(), "mine".to_owned())];
        assert!(with_body(Body::Form(taken), "token").is_err(), "twice");
        assert!(with_body(Body::Bytes(b"a=b".to_vec()), "token").is_err());
        assert!(with_body(Body::Form(Vec::new()), "other").is_err());
        // Nobody leaves a credential in another account.
        for (header, allowed) in [
            ("authorization", false),
            ("x-api-key", false),
            ("accept", true),
        ] {
            let request = Request {
                headers: vec![(header.to_owned(), "Basic YTpi".to_owned())],
                authorization: Authorization::Fields(vec![Field {
                    name: "password".to_owned(),
                    credential: "token".to_owned(),
                }]),
                ..form(1, "b")
            };
            assert_eq!(built(request).is_ok(), allowed, "{header}");
        }
    }

    #[test]
    fn what_cannot_be_signed_is_not_sent() {
        let longest = "x".repeat(4_096);
        assert!(built(signed("webhook-signature", &longest, "signing-key")).is_ok());
        for (name, before, key) in [
            ("webhook-signature", format!("{longest}x"), "signing-key"),
            ("cookie", String::new(), "signing-key"),
            ("webhook-signature", String::new(), "other"),
            // It is no Base64.
            ("webhook-signature", String::new(), "token"),
        ] {
            assert!(built(signed(name, &before, key)).is_err(), "{name} {key}");
        }
    }
}
