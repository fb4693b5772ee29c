//! `/api/messages`: configured texts, their life, their order.

use countersign_tests::{Answer, Client, FakeTwilio, Reply, Server, eventually, join_all, phone};
use hyper::Method;
use serde_json::{Value, json};

use crate::metrics;
use crate::queue::{stop_with_nothing_left, wait_for_depth};

const MESSAGES: &str = "/api/messages";

const TEMPLATES: &str = r#"
[delivery]
concurrency = 1

[[template]]
name = "order"
text = "Order {number} is on its way."

[[template]]
name = "sign-in"
text = "Somebody signs in with your name."
kind = "login"

[[template]]
name = "sale"
text = "Sale!"
kind = "marketing"
"#;

async fn start() -> (FakeTwilio, Server) {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder().twilio(&twilio).config(TEMPLATES);
    (twilio, server.start().await)
}

fn order(to: &str) -> Value {
    json!({ "to": to, "template": "order", "variables": { "number": "12" } })
}

fn sign_in(to: &str) -> Value {
    json!({ "to": to, "template": "sign-in" })
}

fn sale(to: &str) -> Value {
    json!({ "to": to, "template": "sale" })
}

/// Requires 202 with an id, and returns it.
#[track_caller]
fn accepted(answer: &Answer) -> String {
    let answer = answer.clone().expect_status(202);
    let body = answer.json();
    let id = body["id"].as_str().unwrap().to_owned();
    assert_eq!(body, json!({ "id": id, "status": "queued", "segments": 1 }));
    id
}

/// The story of a message once it has that status.
pub(crate) async fn story_until(client: &Client, id: &str, status: &str) -> Value {
    story_when(client, id, status, |story| story["status"] == status).await
}

/// The story of a message once somebody was asked to take it.
pub(crate) async fn story_tried(client: &Client, id: &str) -> Value {
    let tried = |story: &Value| story["attempts"].get(0).is_some();
    story_when(client, id, "a try", tried).await
}

/// The story of a message once it waits no more.
pub(crate) async fn story_over(client: &Client, id: &str) -> Value {
    story_when(client, id, "over", |story| story["status"] != "queued").await
}

pub(crate) async fn story_when(
    client: &Client,
    id: &str,
    what: &str,
    is: impl Fn(&Value) -> bool,
) -> Value {
    let what = format!("{id} is {what}");
    eventually(&what, async || {
        let answer = client.get(&format!("{MESSAGES}/{id}")).await;
        let story = answer.expect_status(200).json();
        is(&story).then_some(story)
    })
    .await
}

#[track_caller]
fn expect_bad_field(answer: Answer, field: &str, words: &str) {
    let body = answer.expect_problem(400).json();
    assert_eq!(body["type"], "urn:countersign:error:bad-request");
    assert_eq!(body["field"], field, "{body}");
    assert!(body["detail"].as_str().unwrap().contains(words), "{body}");
}

#[tokio::test]
async fn a_message_is_queued_sent_and_told_of() {
    let (twilio, server) = start().await;
    let id = accepted(&server.post(MESSAGES, &order("+1 202 456 0001")).await);
    assert_eq!(
        twilio.message_to(&phone(1)).await.body,
        "Order 12 is on its way."
    );
    let story = story_until(&server, &id, "sent").await;
    assert_eq!(story["id"], *id);
    assert_eq!(story["to"], "+1202•••••01");
    assert_eq!(story["template"], "order");
    assert_eq!(story["purpose"], "transactional");
    assert_eq!(story["provider"], "twilio");
    assert_eq!(story["segments"], 1);
    assert_eq!(story["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(story["attempts"][0]["outcome"], "accepted");
    for time in ["acceptedAt", "sentAt"] {
        let text = story[time].as_str().unwrap_or_else(|| panic!("{story}"));
        let time: jiff::Timestamp = text.parse().unwrap();
        assert!(time <= jiff::Timestamp::now(), "{text}");
    }
    // Neither the text nor what fills it.
    assert!(!story.to_string().contains("12 is"), "{story}");
}

#[tokio::test]
async fn the_id_of_a_send_names_its_message() {
    let (twilio, server) = start().await;
    let sent = server.send(&phone(1)).await.expect_success().json();
    let code = twilio.next_message().await.code();
    let story = story_until(&server, sent["messageId"].as_str().unwrap(), "sent").await;
    assert_eq!(story["template"], "verification");
    assert!(!story.to_string().contains(&code));
}

#[tokio::test]
async fn a_message_that_nobody_knows_is_404() {
    let (_twilio, server) = start().await;
    for id in ["0", &"0".repeat(32), &"g".repeat(32), "%2e%2e"] {
        let answer = server.get(&format!("{MESSAGES}/{id}")).await;
        let problem = answer.expect_problem(404).json();
        assert_eq!(problem["type"], "urn:countersign:error:no-such-message");
    }
    let id = "0".repeat(32);
    let stranger = server.without_key();
    stranger
        .get(&format!("{MESSAGES}/{id}"))
        .await
        .expect_problem(401);
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let (twilio, mut server) = start().await;
    let ask = async |change: Value| {
        let mut body = order(&phone(1));
        let changes = change.as_object().unwrap();
        body.as_object_mut().unwrap().extend(changes.clone());
        server.post(MESSAGES, &body).await
    };
    for (change, field, words) in [
        (json!({"to": "12"}), "to", "Invalid phone number"),
        (json!({"to": "2024560001"}), "to", "country code"),
        (json!({"to": "+18005551234"}), "to", "kind of number"),
        (json!({"to": null}), "to", "missing"),
        (json!({"template": "verification"}), "template", "No such"),
        (json!({"template": 1}), "template", "string"),
        (json!({"variables": {}}), "variables", "`{number}`"),
        (
            json!({"variables": {"number": "1", "x": ""}}),
            "variables",
            "`x`",
        ),
        (
            json!({"variables": {"number": "1\n2"}}),
            "variables",
            "control",
        ),
        (
            json!({"variables": {"number": "1".repeat(513)}}),
            "variables",
            "512",
        ),
        (json!({"variables": []}), "variables", "object"),
        (json!({"kind": "urgent"}), "kind", "login"),
        (json!({"kind": "login"}), "kind", "transactional"),
        (json!({"notBefore": "tomorrow"}), "notBefore", "RFC 3339"),
        (json!({"validitySeconds": 0}), "validitySeconds", "1"),
        (json!({"locale": "a b"}), "locale", "language"),
    ] {
        expect_bad_field(ask(change).await, field, words);
    }
    let unreadable = server.post_bytes(MESSAGES, "[]").await;
    unreadable.expect_problem(400);
    assert!(server.terminate().await.success());
    assert!(twilio.requests().is_empty());
}

#[tokio::test]
async fn a_template_that_cannot_be_used_stops_the_start() {
    for (entry, words) in [
        ("name = 'a'\ntext = 'Your code is {code}'", "/api/otp/send"),
        ("name = 'a'\ntext = 'lonely {'", "no partner"),
        ("name = 'verification'\ntext = 'x'", "otp.text"),
        ("name = 'a'\ntext = 'x'\nkind = 'urgent'", "marketing"),
    ] {
        let config = format!("[[template]]\n{entry}\n");
        let refused = Server::builder().console().config(&config).finish().await;
        refused.expect_refusal(&[words]);
    }
}

#[tokio::test]
async fn what_turns_text_around_or_breaks_lines_is_refused_with_its_name() {
    let (_twilio, server) = start().await;
    for c in ["\u{202e}", "\u{2066}", "\u{2028}"] {
        let mut value = order(&phone(1));
        value["variables"]["number"] = json!(format!("1{c}2"));
        let mut name = order(&phone(1));
        name["template"] = json!(format!("order{c}"));
        for (body, field) in [(value, "variables"), (name, "template")] {
            let refused = server.post(MESSAGES, &body).await.expect_problem(400);
            let refused = refused.json();
            assert_eq!(refused["field"], field);
            let code = format!("U+{:04X}", u32::from(c.chars().next().unwrap()));
            let detail = refused["detail"].as_str().unwrap();
            assert!(detail.contains(&code), "{detail}");
        }
    }
}

#[tokio::test]
async fn a_full_queue_is_503_and_the_same_key_is_good_later() {
    let mut twilio = FakeTwilio::start_refusing();
    let config = format!("[queue]\ncapacity = 1\n{TEMPLATES}");
    let server = Server::builder().twilio(&twilio).config(&config);
    let server = server.start().await;
    accepted(&server.post(MESSAGES, &order(&phone(1))).await);
    let full = server.post_once(MESSAGES, "k", &order(&phone(2))).await;
    let full = full.expect_problem(503);
    assert_eq!(full.json()["type"], "urn:countersign:error:queue-full");
    assert!(full.retry_after().as_secs() > 0);
    for _ in 0..20 {
        server.send(&phone(3)).await.expect_problem(503);
    }
    // The operator reads it once, with who it is that takes nothing.
    const LINE: &str = "a message was turned away";
    let told = |text: &str| text.contains(LINE).then(|| text.to_owned());
    let log = server.stderr().find("a line", told).await.unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(LINE)).collect();
    assert_eq!(lines.len(), 1, "{log}");
    let says = |words: &str| lines[0].contains(words);
    assert!(says("twilio") && says("1 messages are waiting"), "{log}");
    twilio.accept_connections();
    twilio.message_to(&phone(1)).await;
    let second = order(&phone(2));
    let again = eventually("there is room again", async || {
        let answer = server.post_once(MESSAGES, "k", &second).await;
        (answer.status != 503).then_some(answer)
    });
    accepted(&again.await);
    twilio.message_to(&phone(2)).await;
}

/// A message that waits for an hour.
fn parked(to: &str) -> Value {
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let mut parked = order(to);
    parked["notBefore"] = json!(format!("{later:.0}"));
    parked
}

#[track_caller]
fn expect_turned_away(answer: Answer, code: &str, words: &str) {
    let problem = answer.expect_problem(503);
    assert!(problem.retry_after().as_secs() > 0);
    let body = problem.json();
    assert_eq!(body["type"], format!("urn:countersign:error:{code}"));
    assert!(body["detail"].as_str().unwrap().contains(words), "{body}");
}

#[tokio::test]
async fn a_caller_that_fills_the_queue_stops_neither_codes_nor_other_callers() {
    let twilio = FakeTwilio::start().await;
    let config = format!("[queue]\ncapacity = 20\n{TEMPLATES}");
    let server = Server::builder().twilio(&twilio).config(&config);
    let server = server.start().await;
    // Alone it may have all but what is kept for what is urgent.
    for n in 0..16 {
        accepted(&server.post(MESSAGES, &parked(&phone(n))).await);
    }
    let away = server.post(MESSAGES, &parked(&phone(16))).await;
    expect_turned_away(away, "queue-full", "more urgent");
    for n in 17..40 {
        server.send(&phone(n)).await.expect_success();
        twilio.message_to(&phone(n)).await;
    }
    // Another key is there, and the first one has more than its share.
    let created = server.run(&["keys", "create", "--json"]).await;
    let created = created.expect_success().json();
    let other = server.with_key(created["key"].as_str().unwrap());
    let away = other.post(MESSAGES, &parked(&phone(40))).await;
    expect_turned_away(away, "queue-full", "more urgent");
    other.send(&phone(41)).await.expect_success();
    twilio.message_to(&phone(41)).await;
    let away = server.send(&phone(42)).await;
    expect_turned_away(away, "queue-share", "caller-percent");
}

#[tokio::test]
async fn a_number_that_no_route_leads_to_is_refused_and_told_of() {
    let twilio = FakeTwilio::start().await;
    let route = "[[route]]\ncountry = \"US\"\nproviders = [\"twilio\"]\n";
    let config = format!("{route}{TEMPLATES}");
    let server = Server::builder().twilio(&twilio).config(&config);
    let server = server.env("COUNTERSIGN_METRICS_TOKEN", metrics::TOKEN);
    let mut server = server.start().await;
    let words = "No message can be sent to this number";
    let german = "+4915123456789";
    expect_bad_field(server.post(MESSAGES, &order(german)).await, "to", words);
    for _ in 0..3 {
        let refused = server.send(german).await.expect_status(400).json();
        assert_eq!(refused, json!({ "error": words, "field": "phoneNumber" }));
    }
    // Each refusal of a code is counted; the log has a line for each kind of message.
    let refusals = r#"countersign_verifications_total{verdict="refused",reason="no-route"}"#;
    metrics::page_when(&server, refusals, 3.0).await;
    accepted(&server.post(MESSAGES, &order(&phone(1))).await);
    server.send(&phone(2)).await.expect_success();
    twilio.wait_for_count(2).await;
    assert!(server.terminate().await.success());
    let log = server.stderr().text();
    let told = log.lines().filter(|line| line.contains("no route leads"));
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 2, "{log}");
    assert!(told.iter().all(|line| line.contains("DE")), "{log}");
}

#[tokio::test]
async fn of_two_keys_none_fills_the_queue() {
    // A key counts before it ever asks: also one that was made a moment ago.
    for restarted in [true, false] {
        let twilio = FakeTwilio::start().await;
        let config = format!("[queue]\ncapacity = 20\n{TEMPLATES}");
        let server = Server::builder().twilio(&twilio).config(&config);
        let server = server.env("COUNTERSIGN_ADMIN_TOKEN", "t");
        let mut server = server.start().await;
        let created = server.run(&["keys", "create", "--json"]).await;
        let created = created.expect_success().json();
        if restarted {
            server.restart().await;
        }
        let other = server.with_key(created["key"].as_str().unwrap());
        for n in 0..8 {
            accepted(&server.post(MESSAGES, &parked(&phone(n))).await);
        }
        let away = server.post(MESSAGES, &parked(&phone(8))).await;
        expect_turned_away(away, "queue-share", "caller-percent");
        server.send(&phone(9)).await.expect_success();
        // It takes a place until its commit is over, which others may see a moment earlier.
        wait_for_depth(&server.with_key("t"), 8).await;
        for n in 10..18 {
            accepted(&other.post(MESSAGES, &parked(&phone(n))).await);
        }
    }
}

#[tokio::test]
async fn a_revoked_key_has_no_share_of_the_queue() {
    let twilio = FakeTwilio::start().await;
    let config = format!("[queue]\ncapacity = 20\n{TEMPLATES}");
    let server = Server::builder().twilio(&twilio).config(&config);
    let server = server.start().await;
    let created = server.run(&["keys", "create", "--json"]).await;
    let id = created.expect_success().json()["id"].clone();
    let revoked = server.run(&["keys", "revoke", id.as_str().unwrap()]).await;
    revoked.expect_success();
    for n in 0..16 {
        accepted(&server.post(MESSAGES, &parked(&phone(n))).await);
    }
    let away = server.post(MESSAGES, &parked(&phone(16))).await;
    expect_turned_away(away, "queue-full", "reserved-percent");
}

#[tokio::test]
async fn of_64_equal_requests_at_once_one_message_is_made() {
    let (twilio, mut server) = start().await;
    let body = order(&phone(1));
    let answers = join_all((0..64).map(|_| server.post_once(MESSAGES, "k", &body))).await;
    let ids: std::collections::BTreeSet<String> = answers
        .iter()
        .filter(|answer| answer.status != 409)
        .map(accepted)
        .collect();
    assert_eq!(ids.len(), 1);
    // A stop leaves what nobody has claimed yet for the next start.
    twilio.wait_for_count(1).await;
    stop_with_nothing_left(&mut server).await;
    assert_eq!(twilio.messages().len(), 1);
}

/// Lets nothing through but one message, which holds the only place, until it is released.
async fn hold_the_place(twilio: &FakeTwilio, server: &Server) {
    twilio.always(Reply::Hang);
    accepted(&server.post(MESSAGES, &sale(&phone(0))).await);
    twilio.wait_for_requests_to(&phone(0), 1).await;
}

/// The numbers that the fake was asked to send to, in order.
async fn order_of(twilio: &FakeTwilio, count: usize) -> Vec<String> {
    twilio.release();
    twilio.wait_for_count(count).await;
    let requests = twilio.requests();
    requests
        .iter()
        .map(|request| request.to().to_owned())
        .collect()
}

#[tokio::test]
async fn a_login_overtakes_a_backlog_of_marketing() {
    let (twilio, server) = start().await;
    hold_the_place(&twilio, &server).await;
    for n in 1..=5 {
        accepted(&server.post(MESSAGES, &sale(&phone(n))).await);
    }
    accepted(&server.post(MESSAGES, &order(&phone(6))).await);
    let mut later = sign_in(&phone(7));
    later["kind"] = json!("marketing");
    accepted(&server.post(MESSAGES, &later).await);
    accepted(&server.post(MESSAGES, &sign_in(&phone(8))).await);
    let order = order_of(&twilio, 9).await;
    assert_eq!(order[..3], [phone(0), phone(8), phone(6)], "{order:?}");
    assert_eq!(order[8], phone(7), "{order:?}");
}

#[tokio::test]
async fn a_callers_backlog_does_not_keep_another_caller_waiting() {
    let (twilio, server) = start().await;
    let created = server.run(&["keys", "create", "--json"]).await;
    let created = created.expect_success().json();
    let other = server.with_key(created["key"].as_str().unwrap());
    hold_the_place(&twilio, &server).await;
    for n in 1..=10 {
        accepted(&server.post(MESSAGES, &sale(&phone(n))).await);
    }
    accepted(&other.post(MESSAGES, &sale(&phone(11))).await);
    let order = order_of(&twilio, 12).await;
    let place = order.iter().position(|to| *to == phone(11)).unwrap();
    assert!(place <= 2, "{order:?}");
}

#[tokio::test]
async fn a_message_waits_until_its_time() {
    let (twilio, server) = start().await;
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let mut waiting = order(&phone(1));
    waiting["notBefore"] = json!(format!("{later:.0}"));
    let id = accepted(&server.post(MESSAGES, &waiting).await);
    accepted(&server.post(MESSAGES, &order(&phone(2))).await);
    twilio.message_to(&phone(2)).await;
    let story = server.get(&format!("{MESSAGES}/{id}")).await.json();
    assert_eq!(story["status"], "queued");
    assert_eq!(story["notBefore"], json!(format!("{later:.0}")));
    assert!(twilio.requests_to(&phone(1)).is_empty());
}

#[tokio::test]
async fn messages_need_a_key_and_json() {
    let (_twilio, server) = start().await;
    let stranger = server.without_key();
    stranger
        .post(MESSAGES, &order(&phone(1)))
        .await
        .expect_problem(401);
    let text = [("content-type", "text/plain")];
    let answer = server.request(Method::POST, MESSAGES, &text, "{}").await;
    answer.unwrap().expect_problem(415);
    server.get(MESSAGES).await.expect_problem(405);
}
