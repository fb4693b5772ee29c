//! API keys and open mode: who may call, from where, and what ends it.

use std::net::SocketAddr;

use countersign_tests::{Answer, Client, FakeTwilio, Server, TEST_KEY, phone};
use hyper::Method;
use serde_json::{Value, json};

const JSON: (&str, &str) = ("content-type", "application/json");

#[track_caller]
fn expect_unauthorized(answer: Answer) {
    let answer = answer.expect_problem(401);
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    assert!(
        challenge.to_lowercase().starts_with("bearer"),
        "WWW-Authenticate: {challenge}"
    );
}

async fn send_with(client: &Client, headers: &[(&str, &str)]) -> Answer {
    let body = json!({ "phoneNumber": phone(1) }).to_string();
    let headers: Vec<_> = [JSON].iter().chain(headers).copied().collect();
    client
        .request(Method::POST, "/api/otp/send", &headers, body)
        .await
        .unwrap()
}

/// `keys create --json` → `(id, key)`.
async fn create(server: &Server) -> (String, String) {
    let created = server
        .run(&["keys", "create", "--json"])
        .await
        .expect_success()
        .json();
    id_and_key(&created)
}

#[track_caller]
fn id_and_key(created: &Value) -> (String, String) {
    let text = |name: &str| {
        created[name]
            .as_str()
            .unwrap_or_else(|| panic!("no `{name}`: {created}"))
            .to_owned()
    };
    let (id, key) = (text("id"), text("key"));
    assert!(!id.is_empty());
    assert!(key.len() >= 32, "{key} is shorter than 32");
    assert!(
        key.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)),
        "{key}"
    );
    assert!(
        !key.contains(&id) || key.len() >= id.len() + 32,
        "without its id the key is too short"
    );
    (id, key)
}

#[tokio::test]
async fn without_the_key_nothing_is_sent() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    let stranger = server.without_key();
    expect_unauthorized(stranger.send(&phone(1)).await);
    expect_unauthorized(stranger.verify(&phone(1), "123456").await);
    for value in [
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic dXNlcjpwYXNz",
        TEST_KEY,
        &format!("Bearer {TEST_KEY}x"),
        &format!("Bearer {}", &TEST_KEY[..TEST_KEY.len() - 1]),
        &format!("Bearer {}", TEST_KEY.to_lowercase()),
        &format!("Token {TEST_KEY}"),
        &format!("Bearer {}", "x".repeat(4000)),
    ] {
        expect_unauthorized(send_with(&stranger, &[("authorization", value)]).await);
    }
    // Whoever may not call learns nothing about the body either.
    expect_unauthorized(stranger.post_bytes("/api/otp/send", "{").await);
    expect_unauthorized(stranger.post("/api/otp/send", &json!({})).await);
    server.send(&phone(2)).await.expect_success();
    assert_eq!(twilio.next_message().await.to, phone(2));
    assert_eq!(twilio.requests().len(), 1);
}

#[tokio::test]
async fn the_key_is_nowhere_but_in_its_header() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    let stranger = server.without_key();
    let body = json!({ "phoneNumber": phone(1) });
    for name in ["key", "api_key", "access_token"] {
        let path = format!("/api/otp/send?{name}={TEST_KEY}");
        expect_unauthorized(stranger.post(&path, &body).await);
    }
    expect_unauthorized(send_with(&stranger, &[("x-api-key", TEST_KEY)]).await);
}

#[tokio::test]
async fn the_word_bearer_is_read_in_any_case() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    let bearer = format!("bearer {TEST_KEY}");
    send_with(&server.without_key(), &[("authorization", &bearer)])
        .await
        .expect_success();
    twilio.next_message().await;
}

#[tokio::test]
async fn without_any_key_the_api_is_open_on_loopback_with_the_console() {
    let mut server = Server::builder().console().no_key().start().await;
    server.send(&phone(1)).await.expect_success();
    let code = server.console_code(1).await;
    server.verify(&phone(1), &code).await.expect_success();
    assert!(server.terminate().await.success());
    let said = server.stdout().text() + &server.stderr().text();
    assert!(
        said.to_lowercase().contains("open"),
        "the server does not say that it is open: {said}"
    );
}

#[tokio::test]
async fn open_mode_answers_a_loopback_host_only() {
    let server = Server::builder().console().no_key().start().await;
    let port = server.address().port();
    for host in [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        format!("127.0.0.1.evil.example:{port}"),
        format!("localhost.evil.example:{port}"),
        format!("192.168.0.1:{port}"),
        format!("0.0.0.0:{port}"),
    ] {
        let answer = send_with(&server, &[("host", &host)]).await;
        assert!(
            [400, 401, 403, 421].contains(&answer.status),
            "Host: {host}: {answer:?}"
        );
    }
    for host in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        "localhost".to_owned(),
    ] {
        send_with(&server, &[("host", &host)])
            .await
            .expect_success();
    }
    // Three sends in a minute: had a strange host sent one, the last would have been refused.
}

#[tokio::test]
async fn open_mode_takes_nothing_that_a_web_page_can_send_unasked() {
    let server = Server::builder().console().no_key().start().await;
    let body = json!({ "phoneNumber": phone(1) }).to_string();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/plain; application/json",
    ] {
        let headers = [("content-type", kind)];
        let answer = server
            .request(Method::POST, "/api/otp/send", &headers, body.clone())
            .await
            .unwrap();
        answer.expect_problem(415);
    }
    let answer = server
        .request(Method::POST, "/api/otp/send", &[], body.clone())
        .await
        .unwrap();
    answer.expect_problem(415);
    // A page of another origin that asks first is not told yes.
    let headers = [
        ("origin", "https://evil.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    let answer = server
        .request(Method::OPTIONS, "/api/otp/send", &headers, "")
        .await
        .unwrap();
    assert!(
        answer.header("access-control-allow-origin").is_none(),
        "{answer:?}"
    );
}

#[tokio::test]
async fn the_first_key_ends_open_mode_at_once() {
    let server = Server::builder().console().no_key().start().await;
    server.send(&phone(1)).await.expect_success();
    let (_, key) = create(&server).await;
    expect_unauthorized(server.send(&phone(1)).await);
    server.with_key(&key).send(&phone(1)).await.expect_success();
}

#[tokio::test]
async fn revoking_the_last_key_does_not_reopen() {
    let mut server = Server::builder().console().no_key().start().await;
    let (id, key) = create(&server).await;
    server.with_key(&key).send(&phone(1)).await.expect_success();
    server.run(&["keys", "revoke", &id]).await.expect_success();
    expect_unauthorized(server.with_key(&key).send(&phone(1)).await);
    expect_unauthorized(server.send(&phone(1)).await);
    server.restart().await;
    expect_unauthorized(server.with_key(&key).send(&phone(1)).await);
    expect_unauthorized(server.send(&phone(1)).await);
    // A new key is all it takes.
    let (_, key) = create(&server).await;
    server.with_key(&key).send(&phone(1)).await.expect_success();
}

#[tokio::test]
async fn a_created_key_survives_a_kill() {
    let mut server = Server::builder().console().no_key().start().await;
    let (_, key) = create(&server).await;
    server.kill().await;
    server.restart().await;
    expect_unauthorized(server.send(&phone(1)).await);
    server.with_key(&key).send(&phone(1)).await.expect_success();
}

#[tokio::test]
async fn keys_are_independent_of_each_other() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    let (first_id, first) = create(&server).await;
    let (second_id, second) = create(&server).await;
    assert_ne!(first_id, second_id);
    assert_ne!(first, second);
    server
        .run(&["keys", "revoke", &first_id, "--json"])
        .await
        .expect_success();
    expect_unauthorized(server.with_key(&first).send(&phone(1)).await);
    server
        .with_key(&second)
        .send(&phone(1))
        .await
        .expect_success();
    // The key of the environment stays good beside them.
    server.send(&phone(1)).await.expect_success();
    twilio.wait_for_count(2).await;
}

#[tokio::test]
async fn the_list_shows_ids_and_no_key() {
    let server = Server::builder().console().start().await;
    let (id, key) = create(&server).await;
    let list = server
        .run(&["keys", "list", "--json"])
        .await
        .expect_success();
    list.json();
    assert!(list.stdout.contains(&id), "{}", list.stdout);
    let list_for_people = server.run(&["keys", "list"]).await.expect_success();
    assert!(
        list_for_people.stdout.contains(&id),
        "{}",
        list_for_people.stdout
    );
    for text in [
        list.stdout,
        list.stderr,
        list_for_people.stdout,
        list_for_people.stderr,
    ] {
        assert!(!text.contains(&key) && !text.contains(TEST_KEY), "{text}");
        // Nor enough of it to guess the rest.
        let secret = &key[key.len() - 24..];
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn an_unknown_key_id_cannot_be_revoked() {
    let server = Server::builder().console().start().await;
    let unknown = server.run(&["keys", "revoke", "AbCdEf1234"]).await;
    unknown.expect_refusal(&["no key has the id `AbCdEf1234`"]);
    // Somebody may have given the whole key.
    let no_id = server.run(&["keys", "revoke", "AbCdEf1234_canary"]).await;
    let no_id = no_id.expect_refusal(&["10 letters and digits"]);
    assert!(!no_id.stderr.contains("canary"), "{no_id:#?}");
}

#[tokio::test]
async fn keys_can_be_made_with_no_server_running() {
    let twilio = FakeTwilio::start().await;
    let builder = Server::builder().twilio(&twilio).no_key();
    let created = builder
        .run(&["keys", "create", "--json"])
        .await
        .expect_success()
        .json();
    let (id, key) = id_and_key(&created);
    let list = builder
        .run(&["keys", "list", "--json"])
        .await
        .expect_success();
    assert!(
        list.stdout.contains(&id) && !list.stdout.contains(&key),
        "{}",
        list.stdout
    );
    // With a key in the store, a real provider needs no key by environment.
    let mut server = builder.clone().start().await;
    expect_unauthorized(server.send(&phone(1)).await);
    server.with_key(&key).send(&phone(1)).await.expect_success();
    twilio.next_message().await;
    assert!(server.terminate().await.success());
    builder.run(&["keys", "revoke", &id]).await.expect_success();
    let list = builder
        .run(&["keys", "list", "--json"])
        .await
        .expect_success();
    assert!(!list.stdout.contains(&key), "{}", list.stdout);
}

#[tokio::test]
async fn an_open_address_without_a_key_is_refused_with_the_line_to_type() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let refused = Server::builder()
            .console()
            .no_key()
            .listen(address)
            .finish()
            .await;
        refused.expect_refusal(&["keys create"]);
    }
}

#[tokio::test]
async fn a_real_provider_without_a_key_is_refused_with_the_line_to_type() {
    let twilio = FakeTwilio::start().await;
    let refused = Server::builder().twilio(&twilio).no_key().finish().await;
    refused.expect_refusal(&["keys create"]);
}

#[tokio::test]
async fn open_says_that_one_knows_better() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder()
        .twilio(&twilio)
        .no_key()
        .arg("--open")
        .start()
        .await;
    server.send(&phone(1)).await.expect_success();
    twilio.next_message().await;
    let server = Server::builder()
        .console()
        .no_key()
        .listen("0.0.0.0:0")
        .arg("--open")
        .start()
        .await;
    server.send(&phone(1)).await.expect_success();
    server.console_code(1).await;
}

#[tokio::test]
async fn with_a_key_any_address_is_served() {
    let server = Server::builder()
        .console()
        .listen("0.0.0.0:0")
        .start()
        .await;
    expect_unauthorized(server.without_key().send(&phone(1)).await);
    // With a key the Host header is nobody's business.
    let bearer = format!("Bearer {TEST_KEY}");
    let headers = [
        ("host", "sms.example.test"),
        ("authorization", bearer.as_str()),
    ];
    send_with(&server, &headers).await.expect_success();
    let address: SocketAddr = server.address();
    assert_ne!(address.port(), 0);
}

#[tokio::test]
async fn a_short_key_is_refused_and_not_repeated() {
    let short = "short-key-of-31-characters-----";
    let refused = Server::builder()
        .console()
        .env("COUNTERSIGN_API_KEY", short)
        .finish()
        .await;
    let refused = refused.expect_refusal(&["COUNTERSIGN_API_KEY", "32"]);
    assert!(
        !refused.stderr.contains(short) && !refused.stdout.contains(short),
        "{refused:?}"
    );
}
