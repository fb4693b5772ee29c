//! Texts of messages for the search: sent, refused, dead, waiting, and what people answer to them.

use countersign_tests::{FakeTwilio, PUBLIC_URL, Receipt, Reply, Server, phone};
use hyper::Method;
use serde_json::{Value, json};

use super::{ADMIN_TOKEN, IDEMPOTENCY_KEY, Made};
use crate::messages::{story_tried, story_until};
use crate::stops::reply;

/// What is configured, and what of it is in each message.
pub(super) const TEMPLATE: &str =
    "[[template]]\nname = 'canary'\ntext = 'Tonight in the harbour sings {animal}'\n";
const SENTENCE: &str = "Tonight in the harbour sings";
pub(super) const TEXT: &str = "a text";

/// What is sent to `phone`, and what must not be found of it.
fn order(phone: &str) -> (Value, String) {
    let animal = format!("the canary of {}", &phone[phone.len() - 4..]);
    let variables = json!({ "animal": animal });
    let body = json!({ "to": phone, "template": "canary", "variables": variables });
    (body, animal)
}

async fn accepted(server: &Server, body: &Value) -> String {
    let accepted = server.post("/api/messages", body).await.expect_status(202);
    accepted.json()["id"].as_str().unwrap().to_owned()
}

/// Uses everything that has to do with texts, rightly and wrongly, and returns what must not be found.
pub(super) async fn use_texts(twilio: &FakeTwilio, server: &Server, first: usize) -> Vec<Made> {
    let [sent, dead, stopped] = [0, 1, 2].map(|n| phone(first + n));
    let mut made = vec![(TEXT, SENTENCE.to_owned())];

    // Sent, asked for twice, delivered.
    let (body, animal) = order(&sent);
    let key = format!("{IDEMPOTENCY_KEY}-{first}");
    for _ in 0..2 {
        let answer = server.post_once("/api/messages", &key, &body).await;
        answer.expect_status(202);
    }
    let message = twilio.message_to(&sent).await;
    assert!(
        message.body.contains(SENTENCE) && message.body.contains(&animal),
        "{message:?}"
    );
    made.push((TEXT, animal));
    let note = format!("what a provider adds for {first}");
    let receipt = Receipt::of(&message, "delivered").with("Note", &note);
    assert_eq!(receipt.post(server).await.status, 204);
    assert_eq!(receipt.get(server).await.status, 204);
    let garbled = receipt.clone().with("MessageStatus", &note);
    garbled.post(server).await.expect_problem(400);
    receipt.forged().post(server).await.expect_problem(403);
    made.push(("a field of a callback", note));

    // Refused where something else is wrong.
    let (body, animal) = order(&phone(first + 3));
    for (field, wrong) in [
        ("to", json!("+1202")),
        ("template", json!(animal)),
        ("variables", json!({ "animal": [animal] })),
        ("variables", json!({ "animal": animal, "plant": animal })),
    ] {
        let mut body = body.clone();
        body[field] = wrong;
        let refused = server.post("/api/messages", &body).await;
        refused.expect_problem(400);
    }
    let broken = format!("{body},");
    let broken = server.post_bytes("/api/messages", broken).await;
    broken.expect_problem(400);
    let nobody = server.without_key().post("/api/messages", &body).await;
    nobody.expect_problem(401);
    made.push((TEXT, animal));

    // Dead, and looked at.
    let (body, animal) = order(&dead);
    twilio.next_to(&dead, [Reply::error(400, 21211)]);
    let id = accepted(server, &body).await;
    story_until(server, &id, "failed").await;
    let admin = server.with_key(ADMIN_TOKEN);
    let path = format!("/admin/queue/dead/{id}");
    admin.get(&path).await.expect_status(200);
    let line = ["queue", "dead", &id];
    server.run(&line).await.expect_success();
    let path = format!("/admin/messages/{id}/reveal");
    let revealed = admin.request(Method::POST, &path, &[], "").await;
    revealed.unwrap().expect_status(200);
    made.push((TEXT, animal));

    // What somebody writes, a word among it, and what they do not get then.
    let said = format!("do not write to me before {first} o'clock");
    for text in [&said, "STOP"] {
        assert_eq!(reply(&stopped, text).post(server).await.status, 204);
        let forged = reply(&stopped, text).forged().post(server).await;
        forged.expect_problem(403);
    }
    made.push(("what somebody wrote", said));
    let (body, animal) = order(&stopped);
    let refused = server.post("/api/messages", &body).await;
    refused.expect_problem(400);
    server.send(&stopped).await.expect_status(400);
    let line = ["stops", "list", &stopped];
    server.run(&line).await.expect_success();
    made.extend([(TEXT, animal), ("a phone", stopped[1..].to_owned())]);

    // Nobody knows this one, or not yet.
    let url = format!("{PUBLIC_URL}/webhooks/twilio");
    let sid = format!("SM{first:032}");
    let early = Receipt::about(&url, &sid, &sent, "delivered");
    assert_eq!(early.post(server).await.status, 204);
    made
}

/// Leaves a message with a provider that does not answer, and one that waits until it may be tried again.
pub(super) async fn leave_texts(twilio: &FakeTwilio, server: &Server, first: usize) -> Vec<Made> {
    let [in_hand, waiting] = [0, 1].map(|n| phone(first + n));
    let mut made = Vec::new();
    twilio.next_to(&waiting, [Reply::throttled(60)]);
    for phone in [&waiting, &in_hand] {
        let (body, animal) = order(phone);
        let id = accepted(server, &body).await;
        twilio.wait_for_requests_to(phone, 1).await;
        if *phone == waiting {
            let story = story_tried(server, &id).await;
            assert_eq!(story["status"], "queued", "{story}");
        }
        made.push((TEXT, animal));
    }
    made
}
