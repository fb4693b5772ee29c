//! A provider that does what the text of its message says.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::allow_attributes_without_reason,
    reason = "the bindings are generated; the documents are in the WIT"
)]
#![cfg(target_family = "wasm")]

mod bindings {
    wit_bindgen::generate!({
        path: "../../../../wit/provider/0.1",
        world: "countersign:provider/provider",
    });
    use super::Probe;
    export!(Probe);
}

use std::sync::atomic::{AtomicU32, Ordering};

use bindings::countersign::provider::{http, log, settings, signatures};
use bindings::exports::countersign::provider::sender;

struct Probe;

/// How many messages this instance has been handed.
static SENDS: AtomicU32 = AtomicU32::new(0);

fn failed(class: sender::ErrorClass, text: String) -> sender::SendError {
    sender::SendError {
        class,
        retry_after: None,
        provider_code: None,
        text,
        attributes: Vec::new(),
    }
}

fn token() -> signatures::Key {
    signatures::Key {
        credential: "token".to_owned(),
        encoding: signatures::KeyEncoding::Text,
    }
}

fn request(url: &str) -> http::Request {
    http::Request {
        method: http::Method::Post,
        url: url.to_owned(),
        headers: Vec::new(),
        body: http::Body::Bytes(b"x".to_vec()),
        authorization: http::Authorization::Bearer("token".to_owned()),
        timeout: None,
        attributes: Vec::new(),
    }
}

impl sender::Guest for Probe {
    fn describe() -> sender::Manifest {
        sender::Manifest {
            name: "probe-provider".to_owned(),
            version: "1".to_owned(),
            settings: ["base-url", "colour"]
                .map(|name| sender::Setting {
                    name: name.to_owned(),
                    description: "what a test configures".to_owned(),
                    required: false,
                    attributes: Vec::new(),
                })
                .to_vec(),
            credentials: vec![sender::Setting {
                name: "token".to_owned(),
                description: "what it authenticates with".to_owned(),
                required: true,
                attributes: Vec::new(),
            }],
            hosts: Vec::new(),
            attributes: Vec::new(),
        }
    }

    fn send(message: sender::Message) -> Result<sender::Accepted, sender::SendError> {
        let mut ids = Vec::new();
        let sends = SENDS.fetch_add(1, Ordering::Relaxed) + 1;
        for line in message.text.lines() {
            let (step, rest) = line.split_once(' ').unwrap_or((line, ""));
            match step {
                "post" => match http::send(&request(rest)) {
                    Ok(response) => ids.push(response.status.to_string()),
                    Err(failure) => {
                        let class = if failure.maybe_sent {
                            sender::ErrorClass::UnknownOutcome
                        } else {
                            sender::ErrorClass::Retryable
                        };
                        return Err(failed(class, failure.text));
                    }
                },
                // Whether the answer shows what stands before the blank.
                "shows" => {
                    let (needle, url) = rest.split_once(' ').expect("a needle and a URL");
                    let response = http::send(&request(url)).expect("an answer");
                    let shows = |bytes: &[u8]| {
                        let mut windows = bytes.windows(needle.len());
                        windows.any(|window| window == needle.as_bytes())
                    };
                    let mut headers = response.headers.iter();
                    let header = headers.any(|(_, value)| shows(value.as_bytes()));
                    ids.push((header || shows(&response.body)).to_string());
                }
                "carry" => {
                    let (name, url) = rest.split_once(' ').expect("a name and a URL");
                    let header = http::Header {
                        name: name.to_owned(),
                        prefix: "App ".to_owned(),
                        credential: "token".to_owned(),
                    };
                    let request = http::Request {
                        authorization: http::Authorization::Header(header),
                        ..request(url)
                    };
                    ids.push(match http::send(&request) {
                        Ok(response) => response.status.to_string(),
                        Err(failure) => failure.text.chars().take(100).collect(),
                    });
                }
                "header" => {
                    let (name, url) = rest.split_once(' ').expect("a name and a URL");
                    let mut request = request(url);
                    request
                        .headers
                        .push((name.to_owned(), "elsewhere".to_owned()));
                    let failure = http::send(&request).expect_err("refused");
                    ids.push(failure.text);
                }
                "oauth" => {
                    let (token_url, url) = rest.split_once(' ').expect("two URLs");
                    let lent = http::ClientCredentials {
                        token_url: token_url.to_owned(),
                        client_id: http::Text::Plain("client".to_owned()),
                        client_secret: "token".to_owned(),
                        scope: None,
                        parameters: vec![("audience".to_owned(), "sms".to_owned())],
                    };
                    let request = http::Request {
                        authorization: http::Authorization::ClientCredentials(lent),
                        ..request(url)
                    };
                    ids.push(match http::send(&request) {
                        Ok(response) => response.status.to_string(),
                        Err(failure) => failure.text.chars().take(100).collect(),
                    });
                }
                // What the answer shows behind the prefix of a signature.
                "signed" => {
                    let signed = http::Signed {
                        name: "authorization".to_owned(),
                        prefix: "v1,".to_owned(),
                        algorithm: signatures::Hash::Sha256,
                        key: token(),
                        before: String::new(),
                        with_body: true,
                        encoding: http::TextEncoding::Hex,
                    };
                    let request = http::Request {
                        authorization: http::Authorization::Signed(signed),
                        ..request(rest)
                    };
                    let response = http::send(&request).expect("an answer");
                    let body = String::from_utf8_lossy(&response.body).into_owned();
                    let (_, shown) = body.split_once("v1,").expect("the header");
                    ids.push(shown.chars().take(3).collect());
                }
                "hmac" => {
                    let right =
                        signatures::verify_hmac(signatures::Hash::Sha256, &token(), b"x", b"y");
                    ids.push(right.to_string());
                }
                "code" => ids.push(message.code.clone().unwrap_or_else(|| "-".to_owned())),
                "setting" => ids.push(settings::get(rest).unwrap_or_else(|| "-".to_owned())),
                "socket" => ids.push(std::net::TcpStream::connect(rest).is_ok().to_string()),
                "sends" => ids.push(sends.to_string()),
                "log" => log::log(log::Level::Info, rest),
                "trap" => panic!("{rest}"),
                "spin" => {
                    let mut n = 0u64;
                    loop {
                        n = std::hint::black_box(n.wrapping_add(1));
                    }
                }
                "fail" => return Err(failed(sender::ErrorClass::Permanent, rest.to_owned())),
                other => panic!("the step `{other}` does not exist"),
            }
        }
        Ok(sender::Accepted {
            ids,
            segments: None,
            price: None,
            attributes: Vec::new(),
        })
    }

    /// The first line of the body says what to do, the rest is the signature of `x`.
    fn parse_callback(request: sender::Callback) -> Result<sender::News, sender::CallbackError> {
        let reply = |phone: &str, text: &str| sender::Reply {
            id: None,
            at: None,
            phone: phone.to_owned(),
            to: "+15005550006".to_owned(),
            text: text.to_owned(),
            wish: None,
            attributes: Vec::new(),
        };
        let step = request.body.split(|byte| *byte == b'\n').next();
        let replies = match step.unwrap_or_default() {
            b"reply" | b"ignore reply" => vec![reply("+12025550123", "Stop!")],
            b"replies" => vec![reply("+12025550123", "hello"); 1_000],
            b"many replies" => vec![reply("+12025550123", "hello"); 1_001],
            b"long reply" => vec![reply(&"1".repeat(65), "hello")],
            _ => Vec::new(),
        };
        let answer = match step.unwrap_or_default() {
            b"challenge" | b"ignore challenge" => Some(("text/plain", 4_096)),
            b"long challenge" => Some(("text/plain", 4_097)),
            b"page" => Some(("text/html", 1)),
            _ => None,
        };
        let answer = answer.map(|(media_type, bytes)| sender::Answer {
            media_type: media_type.to_owned(),
            body: vec![b'a'; bytes],
        });
        let updates = Probe::updates(request)?;
        Ok(sender::News {
            updates,
            replies,
            answer,
            attributes: Vec::new(),
        })
    }

    fn fetch_status(_: Vec<String>) -> Result<Vec<sender::StatusUpdate>, sender::SendError> {
        Ok(Vec::new())
    }
}

impl Probe {
    /// The updates that a callback tells.
    fn updates(
        request: sender::Callback,
    ) -> Result<Vec<sender::StatusUpdate>, sender::CallbackError> {
        let end = request.body.iter().position(|byte| *byte == b'\n');
        let (step, given) = request.body.split_at(end.expect("two lines"));
        if !step.starts_with(b"ignore") {
            signatures::verify_hmac(signatures::Hash::Sha256, &token(), b"x", &given[1..]);
        }
        let update = |id: &str| sender::StatusUpdate {
            id: id.to_owned(),
            status: sender::Status::Delivered,
            error: None,
            at: None,
            price: None,
            segments: None,
            attributes: Vec::new(),
        };
        match step {
            b"ignore" | b"check" => Ok(vec![update("SM1")]),
            step if step.ends_with(b"reply") || step.ends_with(b"replies") => Ok(Vec::new()),
            step if step.ends_with(b"challenge") || step == b"page" => Ok(Vec::new()),
            b"call" | b"ignore call" => {
                let base = settings::get("base-url").unwrap_or_default();
                Ok(vec![update(match http::send(&self::request(&base)) {
                    Ok(_) => "called",
                    Err(_) => "refused",
                })])
            }
            b"ignore unavailable" => Err(sender::CallbackError::Unavailable),
            b"attributes" => Ok(vec![sender::StatusUpdate {
                attributes: vec![("x-most".to_owned(), "v".repeat(1_024)); 32],
                ..update("SM1")
            }]),
            b"many attributes" => Ok(vec![sender::StatusUpdate {
                attributes: vec![("x-most".to_owned(), String::new()); 33],
                ..update("SM1")
            }]),
            b"long attribute" => Ok(vec![sender::StatusUpdate {
                attributes: vec![("x-most".to_owned(), "v".repeat(1_025))],
                ..update("SM1")
            }]),
            b"nameless attribute" => Ok(vec![sender::StatusUpdate {
                attributes: vec![(String::new(), String::new())],
                ..update("SM1")
            }]),
            b"url" => Ok(vec![update(&request.url)]),
            b"sends" => Ok(vec![update(&SENDS.load(Ordering::Relaxed).to_string())]),
            b"most" => Ok(vec![update(&"i".repeat(128)); 1_000]),
            b"many" => Ok(vec![update("SM1"); 1_001]),
            b"long" => Ok(vec![update(&"i".repeat(129))]),
            b"nameless" => Ok(vec![update("")]),
            b"prices" => {
                let price = |amount: &str| sender::StatusUpdate {
                    price: Some(sender::Price {
                        amount: amount.to_owned(),
                        currency: "USD".to_owned(),
                    }),
                    ..update("SM1")
                };
                Ok(["0.01", "-0.01", "much"].map(price).to_vec())
            }
            b"chat" => {
                let text = "your token a-token-that-nobody-sees, number +12025550123".to_owned();
                let error = Some(failed(sender::ErrorClass::Permanent, text));
                let update = update("SM1");
                Ok(vec![sender::StatusUpdate { error, ..update }])
            }
            b"spin" => loop {
                std::hint::black_box(&update);
            },
            b"talk" => {
                log::log(log::Level::Error, "what a stranger has written");
                println!("what a stranger has written");
                Ok(Vec::new())
            }
            b"malformed" => Err(sender::CallbackError::Malformed),
            _ => panic!("on purpose"),
        }
    }
}
