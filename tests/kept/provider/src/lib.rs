//! A provider that uses all of its interface, for a company whose words are lines of text.
//!
//! What it does is in its settings and in what the company answers, so that one binary can show
//! everything: which authorization a request has, which signature a callback.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::allow_attributes_without_reason,
    reason = "the bindings are generated; the documents are in the WIT"
)]
#![cfg(target_family = "wasm")]

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit/provider/0.1",
        world: "countersign:provider/provider",
    });
    use super::Kept;
    export!(Kept);
}

use bindings::countersign::provider::{http, log, settings, signatures};
use bindings::exports::countersign::provider::sender::{
    Accepted, Answer, Callback, CallbackError, ErrorClass, Guest, Manifest, Message, News, Price,
    Reply, SendError, Setting, Status, StatusUpdate, Wish,
};

struct Kept;

/// An attribute that no host knows.
fn unknown() -> Vec<(String, String)> {
    vec![("x-kept".to_owned(), "said".to_owned())]
}

fn setting(name: &str, required: bool) -> Setting {
    Setting {
        name: name.to_owned(),
        description: format!("The {name}."),
        required,
        attributes: unknown(),
    }
}

fn key(credential: &str, encoding: signatures::KeyEncoding) -> signatures::Key {
    signatures::Key {
        credential: credential.to_owned(),
        encoding,
    }
}

/// What the setting `authorization` names.
fn authorization() -> http::Authorization {
    use signatures::KeyEncoding::{Base64, Hex, Text};

    let signed = |encoding, with_body, text_encoding| {
        http::Authorization::Signed(http::Signed {
            name: "x-signature".to_owned(),
            prefix: "v1=".to_owned(),
            algorithm: signatures::Hash::Sha512,
            key: key("signing-key", encoding),
            before: "before.".to_owned(),
            with_body,
            encoding: text_encoding,
        })
    };
    match settings::get("authorization").as_deref() {
        Some("basic") => http::Authorization::Basic(http::Basic {
            username: http::Text::Plain("user".to_owned()),
            password: http::Text::Credential("api-key".to_owned()),
        }),
        Some("bearer") => http::Authorization::Bearer("api-key".to_owned()),
        Some("header") => http::Authorization::Header(http::Header {
            name: "x-api-key".to_owned(),
            prefix: "App ".to_owned(),
            credential: "api-key".to_owned(),
        }),
        Some("signed") => signed(Hex, true, http::TextEncoding::Hex),
        Some("signed-before") => signed(Base64, false, http::TextEncoding::Base64),
        Some("signed-text") => signed(Text, true, http::TextEncoding::Base64),
        Some("sigv4") => http::Authorization::Sigv4(http::Sigv4 {
            access_key_id: http::Text::Plain("AKIDEXAMPLE".to_owned()),
            secret_access_key: "api-key".to_owned(),
            session_token: Some("signing-key".to_owned()),
            region: "eu-west-1".to_owned(),
            service: "sms".to_owned(),
        }),
        Some("client-credentials") => {
            http::Authorization::ClientCredentials(http::ClientCredentials {
                token_url: url("/token"),
                client_id: http::Text::Plain("client".to_owned()),
                client_secret: "api-key".to_owned(),
                scope: Some("sms".to_owned()),
                parameters: vec![("audience".to_owned(), "example".to_owned())],
            })
        }
        Some("fields") => http::Authorization::Fields(vec![http::Field {
            name: "api_key".to_owned(),
            credential: "api-key".to_owned(),
        }]),
        _ => http::Authorization::None,
    }
}

fn url(path: &str) -> String {
    format!("{}{path}", settings::get("base-url").unwrap_or_default())
}

fn request(method: http::Method, path: &str, body: http::Body) -> http::Request {
    http::Request {
        method,
        url: url(path),
        headers: vec![("accept".to_owned(), "text/plain".to_owned())],
        body,
        authorization: authorization(),
        timeout: Some(5_000),
        attributes: unknown(),
    }
}

fn error(class: ErrorClass, text: &str) -> SendError {
    SendError {
        class,
        retry_after: None,
        provider_code: None,
        text: text.to_owned(),
        attributes: unknown(),
    }
}

fn refused(response: &http::Response) -> SendError {
    let header = |name: &str| {
        let mut headers = response.headers.iter();
        headers.find(|(given, _)| given == name)
    };
    let class = match response.status {
        401 => ErrorClass::Auth,
        403 => ErrorClass::Blocked,
        429 => ErrorClass::Throttled,
        500.. => ErrorClass::UnknownOutcome,
        400.. => ErrorClass::Permanent,
        _ => ErrorClass::Retryable,
    };
    let mut refused = error(class, &String::from_utf8_lossy(&response.body));
    refused.retry_after = header("retry-after").and_then(|(_, after)| after.parse().ok());
    refused.provider_code = Some(response.status.to_string());
    if header("x-elsewhere").is_some() {
        let elsewhere = ("failover".to_owned(), "allowed".to_owned());
        refused.attributes.push(elsewhere);
    }
    refused
}

fn asked(request: &http::Request) -> Result<http::Response, SendError> {
    match http::send(request) {
        Ok(response) if response.status < 300 => Ok(response),
        Ok(response) => Err(refused(&response)),
        Err(failure) => {
            let class = match failure.maybe_sent {
                true => ErrorClass::UnknownOutcome,
                false => ErrorClass::Retryable,
            };
            Err(error(class, &failure.text))
        }
    }
}

fn price(text: &str) -> Option<Price> {
    let (amount, currency) = text.split_once('-')?;
    Some(Price {
        amount: amount.to_owned(),
        currency: currency.to_owned(),
    })
}

/// `ID STATUS AT PRICE-CURRENCY SEGMENTS CODE`, with `-` for what is not told.
fn update(line: &str) -> Option<StatusUpdate> {
    let mut words = line.split(' ');
    let id = words.next()?.to_owned();
    let status = match words.next()? {
        "queued" => Status::Queued,
        "sent" => Status::Sent,
        "delivered" => Status::Delivered,
        "undelivered" => Status::Undelivered,
        "failed" => Status::Failed,
        "read" => Status::Read,
        "unknown" => Status::Unknown,
        _ => return None,
    };
    Some(StatusUpdate {
        id,
        status,
        at: words.next()?.parse().ok(),
        price: price(words.next()?),
        segments: words.next()?.parse().ok(),
        error: words.next().map(|code| error(ErrorClass::Permanent, code)),
        attributes: unknown(),
    })
}

/// `ID AT PHONE TO WISH TEXT`.
fn reply(line: &str) -> Option<Reply> {
    let mut words = line.splitn(6, ' ');
    Some(Reply {
        id: Some(words.next()?.to_owned()),
        at: words.next()?.parse().ok(),
        phone: words.next()?.to_owned(),
        to: words.next()?.to_owned(),
        wish: match words.next()? {
            "stop" => Some(Wish::Stop),
            "start" => Some(Wish::Start),
            _ => None,
        },
        text: words.next()?.to_owned(),
        attributes: unknown(),
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

/// By the header `x-signed`: `KIND HEXADECIMAL`, over the URL, a line's end, and the body.
fn is_signed(request: &Callback) -> Option<bool> {
    use signatures::{Hash, KeyEncoding::Text};

    let mut headers = request.headers.iter();
    let (_, signed) = headers.find(|(name, _)| name == "x-signed")?;
    let (kind, given) = signed.split_once(' ')?;
    let given = unhex(given)?;
    let data = [request.url.as_bytes(), b"\n", &request.body].concat();
    let hmac = |hash| signatures::verify_hmac(hash, &key("api-key", Text), &data, &given);
    Some(match kind {
        "md5" => hmac(Hash::Md5),
        "sha1" => hmac(Hash::Sha1),
        "sha256" => hmac(Hash::Sha256),
        "sha384" => hmac(Hash::Sha384),
        "sha512" => hmac(Hash::Sha512),
        "digest" => signatures::verify_digest(Hash::Sha256, &key("api-key", Text), &data, &given),
        "secret" => signatures::verify_secret(&key("api-key", Text), &given),
        "ed25519" => {
            let public = key("public-key", signatures::KeyEncoding::Base64);
            signatures::verify_ed25519(&public, &data, &given)
        }
        _ => false,
    })
}

impl Guest for Kept {
    fn describe() -> Manifest {
        Manifest {
            name: "kept-provider".to_owned(),
            version: "1".to_owned(),
            settings: vec![setting("base-url", true), setting("authorization", false)],
            credentials: ["api-key", "signing-key", "public-key"]
                .map(|name| setting(name, false))
                .to_vec(),
            hosts: vec!["sms.example.test".to_owned()],
            attributes: vec![("fetch-status".to_owned(), "supported".to_owned())],
        }
    }

    fn send(message: Message) -> Result<Accepted, SendError> {
        for (level, word) in [
            (log::Level::Error, "error"),
            (log::Level::Warn, "warn"),
            (log::Level::Info, "info"),
            (log::Level::Debug, "debug"),
        ] {
            log::log(level, &format!("kept {word}"));
        }
        let text = |of: &Option<String>| of.clone().unwrap_or_default();
        let mut form = vec![
            ("id".to_owned(), message.id),
            ("channel".to_owned(), message.channel),
            ("to".to_owned(), message.to),
            ("country".to_owned(), message.country),
            ("text".to_owned(), message.text),
            ("template".to_owned(), message.template),
            ("code".to_owned(), text(&message.code)),
            ("locale".to_owned(), text(&message.locale)),
            ("purpose".to_owned(), message.purpose),
            ("sender".to_owned(), text(&message.sender)),
            ("validity".to_owned(), message.validity.to_string()),
            ("callback".to_owned(), text(&message.status_callback)),
        ];
        form.extend(message.variables);
        form.extend(message.attributes);
        let request = request(http::Method::Post, "/send", http::Body::Form(form));
        let response = asked(&request)?;
        let body = String::from_utf8_lossy(&response.body).into_owned();
        let mut lines = body.lines();
        let told = lines.next().unwrap_or_default();
        let (segments, cost) = told.split_once(' ').unwrap_or_default();
        Ok(Accepted {
            ids: lines.map(str::to_owned).collect(),
            segments: segments.parse().ok(),
            price: price(cost),
            attributes: unknown(),
        })
    }

    fn parse_callback(request: Callback) -> Result<News, CallbackError> {
        if is_signed(&request) != Some(true) {
            return Err(CallbackError::Unsigned);
        }
        let mut news = News {
            updates: Vec::new(),
            replies: Vec::new(),
            answer: None,
            attributes: unknown(),
        };
        if request.method == "GET" {
            let body = http::Body::Bytes(b"confirmed".to_vec());
            asked(&self::request(http::Method::Put, "/confirm", body))
                .map_err(|_| CallbackError::Unavailable)?;
        }
        for line in String::from_utf8_lossy(&request.body).lines() {
            match line.split_once(' ') {
                Some(("update", rest)) => {
                    news.updates
                        .push(update(rest).ok_or(CallbackError::Malformed)?);
                }
                Some(("reply", rest)) => {
                    news.replies
                        .push(reply(rest).ok_or(CallbackError::Malformed)?);
                }
                Some(("answer", rest)) => {
                    news.answer = Some(Answer {
                        media_type: "text/plain".to_owned(),
                        body: rest.as_bytes().to_vec(),
                    });
                }
                _ => return Err(CallbackError::Malformed),
            }
        }
        Ok(news)
    }

    fn fetch_status(ids: Vec<String>) -> Result<Vec<StatusUpdate>, SendError> {
        let path = format!("/status?ids={}", ids.join(","));
        let response = asked(&request(http::Method::Get, &path, http::Body::Empty))?;
        let body = String::from_utf8_lossy(&response.body).into_owned();
        Ok(body.lines().filter_map(update).collect())
    }
}
