//! A host to test providers against: it answers requests with what it was given, and checks signatures
//! with the libraries that everybody has.
#![allow(
    clippy::missing_panics_doc,
    reason = "a test harness reports by panicking"
)]

use std::collections::VecDeque;

use ::hmac::{KeyInit as _, Mac as _};
use aws_lc_rs::{digest, hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use crate::{
    Body, Failure, Hash, Host, Key, KeyEncoding, Message, REQUESTS_MAX, Request, Response,
    SIGNED_BYTES_MAX, unhex,
};

/// The host.
#[derive(Debug, Default)]
pub struct Fake {
    /// What the operator has set.
    pub settings: Vec<(&'static str, String)>,
    /// The credentials, of which the provider only knows the names.
    pub credentials: Vec<(&'static str, &'static str)>,
    /// What the next requests are answered with.
    pub answers: VecDeque<Result<Response, Failure>>,
    /// What was sent.
    pub requests: Vec<Request>,
    /// Milliseconds since 1970.
    pub now: u64,
    /// How many signatures were checked.
    pub checks: usize,
}

impl Fake {
    /// A host with these settings and credentials.
    #[must_use]
    pub fn new(
        settings: &[(&'static str, &str)],
        credentials: &[(&'static str, &'static str)],
    ) -> Self {
        let settings = settings.iter();
        Self {
            settings: settings
                .map(|(name, value)| (*name, (*value).into()))
                .collect(),
            credentials: credentials.to_vec(),
            now: 1_780_000_000_000,
            ..Self::default()
        }
    }

    /// Answers the next request.
    #[must_use]
    pub fn answer(mut self, status: u16, body: impl ToString) -> Self {
        self.answers
            .push_back(Ok(response(status, &body.to_string())));
        self
    }

    /// Lets the next request fail.
    #[must_use]
    pub fn fail(mut self, maybe_sent: bool) -> Self {
        let text = "the connection failed".into();
        self.answers.push_back(Err(Failure {
            text,
            maybe_sent,
            attributes: Vec::new(),
        }));
        self
    }

    /// The last request.
    #[must_use]
    #[track_caller]
    pub fn last(&self) -> &Request {
        self.requests.last().expect("a request")
    }

    /// The form of the last request.
    #[must_use]
    #[track_caller]
    pub fn form(&self) -> Vec<(&str, &str)> {
        let Body::Form(form) = &self.last().body else {
            panic!("no form, but {:?}", self.last());
        };
        form.iter()
            .map(|(name, value)| (&**name, &**value))
            .collect()
    }

    /// The JSON of the last request.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let Body::Bytes(body) = &self.last().body else {
            panic!("no bytes, but {:?}", self.last());
        };
        serde_json::from_slice(body).expect("JSON")
    }

    fn key(&mut self, key: &Key, data: &[u8]) -> Option<Vec<u8>> {
        assert!(data.len() <= SIGNED_BYTES_MAX, "the host would trap");
        self.checks += 1;
        assert!(self.checks <= 16, "the host would trap");
        let mut credentials = self.credentials.iter();
        let (_, text) = credentials.find(|(name, _)| *name == key.credential)?;
        match key.encoding {
            KeyEncoding::Text => Some(text.as_bytes().to_vec()),
            KeyEncoding::Hex => unhex(text),
            KeyEncoding::Base64 => STANDARD
                .decode(text.strip_prefix("whsec_").unwrap_or(text))
                .ok(),
        }
    }
}

/// An answer.
#[must_use]
pub fn response(status: u16, body: &str) -> Response {
    Response {
        status,
        headers: Vec::new(),
        body: body.into(),
        attributes: Vec::new(),
    }
}

/// A message with a code.
#[must_use]
pub fn message() -> Message {
    Message {
        id: "0123456789abcdef0123456789abcdef".into(),
        channel: "sms".into(),
        to: "+12025550123".into(),
        country: "US".into(),
        text: "Your code: 123456 & more".into(),
        template: "code".into(),
        variables: Vec::new(),
        code: Some("123456".into()),
        locale: None,
        purpose: "verification".into(),
        sender: None,
        validity: 599_999,
        status_callback: None,
        attributes: Vec::new(),
    }
}

impl Host for Fake {
    fn setting(&self, name: &str) -> Option<String> {
        let mut settings = self.settings.iter();
        let (_, value) = settings.find(|(given, _)| *given == name)?;
        Some(value.clone())
    }

    fn send(&mut self, request: &Request) -> Result<Response, Failure> {
        assert!(self.requests.len() < REQUESTS_MAX, "the host would trap");
        self.requests.push(request.clone());
        self.answers.pop_front().expect("an answer was prepared")
    }

    fn verify_hmac(&mut self, algorithm: Hash, key: &Key, data: &[u8], given: &[u8]) -> bool {
        let Some(key) = self.key(key, data) else {
            return false;
        };
        let algorithm = match algorithm {
            Hash::Md5 => {
                let mut mac = ::hmac::Hmac::<Md5>::new_from_slice(&key).expect("any length");
                mac.update(data);
                return mac.verify_slice(given).is_ok();
            }
            Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha384 => hmac::HMAC_SHA384,
            Hash::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::verify(&hmac::Key::new(algorithm, &key), data, given).is_ok()
    }

    fn verify_digest(&mut self, algorithm: Hash, key: &Key, data: &[u8], given: &[u8]) -> bool {
        let Some(key) = self.key(key, data) else {
            return false;
        };
        let all = [data, &key].concat();
        let algorithm = match algorithm {
            Hash::Md5 => return Md5::digest(&all)[..] == *given,
            Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha384 => &digest::SHA384,
            Hash::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, &all).as_ref() == given
    }

    fn verify_secret(&mut self, key: &Key, given: &[u8]) -> bool {
        self.key(key, given).is_some_and(|key| key == given)
    }

    fn verify_ed25519(&mut self, key: &Key, data: &[u8], given: &[u8]) -> bool {
        let Some(key) = self.key(key, data) else {
            return false;
        };
        let key = signature::UnparsedPublicKey::new(&signature::ED25519, key);
        key.verify(data, given).is_ok()
    }

    fn now(&self) -> u64 {
        self.now
    }
}
