//! Arbitrary JSON, headers, paths and bytes for every route: each is answered, none of them with a 500, and
//! the server does afterwards what it did before.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use countersign_tests::{Answer, Client, FakeTwilio, Server, TEST_KEY, phone};
use hyper::Method;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng};
use serde_json::{Map, Value, json};

use crate::rounds::{number_from_environment, seed};

/// Words that mean something to some route.
const WORDS: &[&str] = &[
    "phoneNumber",
    "code",
    "purpose",
    "locale",
    "to",
    "template",
    "variables",
    "kind",
    "factor",
    "user",
    "id",
    "start",
    "end",
    "limit",
    "cursor",
    "phone",
    "verification",
    "enroll",
    "login",
    "otp",
    "order",
    "en",
    "+12025550123",
    "000000",
    "2026-01-31T12:00:00Z",
    "true",
    "null",
    "",
];

/// Headers that the server looks at.
const HEADERS: &[&str] = &[
    "authorization",
    "content-type",
    "idempotency-key",
    "x-countersign-user",
    "x-countersign-proof",
    "x-countersign-client-address",
    "x-twilio-signature",
    "accept",
    "origin",
    "cookie",
    "content-encoding",
    "expect",
    "range",
    "if-none-match",
    "x-forwarded-for",
];

struct Fuzz {
    random: StdRng,
    /// Methods and templates of the description.
    routes: Vec<(String, String)>,
}

impl Fuzz {
    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.random.random_range(0..words.len())]
    }

    fn text(&mut self) -> String {
        match self.random.random_range(0..6) {
            0 | 1 => self.pick(WORDS).to_owned(),
            2 => self.random.random::<u64>().to_string(),
            3 => "9".repeat(self.random.random_range(0..400)),
            _ => {
                let length = self.random.random_range(0..24);
                (0..length).map(|_| self.random.random::<char>()).collect()
            }
        }
    }

    fn value(&mut self, depth: u8) -> Value {
        let most = if depth == 0 { 5 } else { 8 };
        match self.random.random_range(0..most) {
            0 => Value::Null,
            1 => self.random.random::<bool>().into(),
            2 => self.random.random::<i64>().into(),
            3 => json!(f64::from_bits(self.random.random())),
            4 => self.text().into(),
            5 => {
                let length = self.random.random_range(0..4);
                (0..length).map(|_| self.value(depth - 1)).collect()
            }
            _ => self.object(depth - 1),
        }
    }

    fn object(&mut self, depth: u8) -> Value {
        let mut object = Map::new();
        for _ in 0..self.random.random_range(0..5) {
            let (name, value) = (self.text(), self.value(depth));
            object.insert(name, value);
        }
        object.into()
    }

    fn body(&mut self) -> Vec<u8> {
        let mut body = match self.random.random_range(0..8) {
            0 => Vec::new(),
            1 => {
                let mut noise = vec![0; self.random.random_range(0..300)];
                self.random.fill_bytes(&mut noise);
                noise
            }
            2 => "[".repeat(self.random.random_range(1..2_000)).into_bytes(),
            3 => self.value(3).to_string().into_bytes(),
            _ => self.object(3).to_string().into_bytes(),
        };
        if !body.is_empty() && self.random.random_range(0..4) == 0 {
            let at = self.random.random_range(0..body.len());
            body[at] = self.random.random();
        }
        body
    }

    /// What may stand in a path, mostly percent-encoded and now and then wrongly so.
    fn segment(&mut self) -> String {
        match self.random.random_range(0..6) {
            0 => "..".to_owned(),
            1 => "%2e%2e%2f".repeat(self.random.random_range(1..4)),
            2 => "%zz%".to_owned(),
            3 => "%00%ff".to_owned(),
            _ => {
                let text = self.text();
                url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
            }
        }
    }

    fn path(&mut self, template: &str) -> String {
        let parts: Vec<String> = template
            .split('/')
            .map(|part| match part.starts_with('{') {
                true => self.segment(),
                false => part.to_owned(),
            })
            .collect();
        let mut path = parts.join("/");
        if self.random.random_range(0..3) == 0 {
            let (name, value) = (self.segment(), self.segment());
            path += &format!("?{name}={value}&{name}");
        }
        path
    }

    /// A header's value: visible ASCII.
    fn header(&mut self) -> String {
        let text = match self.random.random_range(0..5) {
            0 => format!("Bearer {TEST_KEY}"),
            1 => "application/json".to_owned(),
            2 => "x".repeat(self.random.random_range(0..3_000)),
            _ => self.text(),
        };
        text.chars().filter(|c| (' '..='~').contains(c)).collect()
    }

    fn request(&mut self) -> (Method, String, BTreeMap<&'static str, String>, Vec<u8>) {
        let (method, template) = {
            let at = self.random.random_range(0..self.routes.len());
            self.routes[at].clone()
        };
        let method = match self.random.random_range(0..10) {
            0 => Method::from_bytes(
                self.pick(&["PATCH", "DELETE", "PUT", "HEAD", "WEIRD"])
                    .as_bytes(),
            ),
            _ => Method::from_bytes(method.to_uppercase().as_bytes()),
        };
        let mut headers = BTreeMap::new();
        if self.random.random_range(0..8) > 0 {
            let media_type = self.pick(&[
                "application/json",
                "application/json; charset=utf-8",
                "application/x-www-form-urlencoded",
                "application/wasm",
            ]);
            headers.insert("content-type", media_type.to_owned());
        }
        for _ in 0..self.random.random_range(0..3) {
            let name = self.pick(HEADERS);
            let value = self.header();
            headers.insert(name, value);
        }
        let path = self.path(&template);
        (method.unwrap(), path, headers, self.body())
    }
}

fn check(answer: &Answer, method: &Method) {
    let status = answer.status;
    // 503 is what a server says that has too much to do; it must say when to come back.
    assert!(status < 500 || status == 503, "{status}: {}", answer.text());
    if status == 503 {
        assert!(answer.retry_after() > Duration::ZERO);
    }
    let media_type = answer.header("content-type").unwrap_or_default();
    if media_type.contains("json") && method != Method::HEAD {
        answer.json();
    }
}

#[tokio::test]
async fn whatever_is_asked_is_answered_and_never_with_a_500() {
    let seconds = number_from_environment("COUNTERSIGN_TEST_FUZZ_SECONDS", 5);
    let twilio = FakeTwilio::start().await;
    let server = Server::builder()
        .twilio(&twilio)
        .callbacks()
        .env("COUNTERSIGN_ADMIN_TOKEN", "admin")
        .start()
        .await;
    let description = server.without_key().get("/openapi.json").await.json();
    let routes = description["paths"].as_object().unwrap().iter();
    let routes = routes.flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(|method| (method.clone(), path.clone()))
    });
    let mut fuzz = Fuzz {
        random: StdRng::seed_from_u64(seed()),
        routes: routes.collect(),
    };
    let clients: [Client; 3] = [
        server.with_key(TEST_KEY),
        server.with_key("admin"),
        server.without_key(),
    ];
    let mut statuses: BTreeMap<u16, u32> = BTreeMap::new();
    let until = Instant::now() + Duration::from_secs(seconds.try_into().unwrap());
    while Instant::now() < until {
        let (method, path, headers, body) = fuzz.request();
        let client = &clients[fuzz.random.random_range(0..clients.len())];
        let what = format!(
            "{method} {path} {headers:?} {:?}",
            String::from_utf8_lossy(&body)
        );
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = client.request(method.clone(), &path, &headers, body).await;
        let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        *statuses.entry(answer.status).or_default() += 1;
        let status = answer.status;
        if status >= 500 && status != 503 {
            eprintln!("{what}");
        }
        check(&answer, &method);
    }
    eprintln!("{statuses:?}");
    assert!(statuses.len() > 4, "{statuses:?}");
    server.send(&phone(399_999)).await.expect_success();
}
