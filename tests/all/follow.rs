//! What nobody reports is asked for: late prices and lost receipts; and what is never told ends as `unknown`.

use std::time::Duration;

use countersign_tests::{FakeTwilio, Message, Receipt, Server, WallClock, phone};
use serde_json::{Value, json};

use crate::messages::{story_until, story_when};

const TEMPLATE: &str = "[[template]]\nname = 'order'\ntext = 'It is on its way.'\n";
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const SECOND: Duration = Duration::from_secs(1);

/// Sends a message, and returns its id and what Twilio has got.
async fn sent(twilio: &FakeTwilio, server: &Server, n: usize) -> (String, Message) {
    let body = json!({"to": phone(n), "template": "order"});
    let taken = server.post("/api/messages", &body).await;
    let taken = taken.expect_status(202).json();
    let id = taken["id"].as_str().unwrap().to_owned();
    let story = story_until(server, &id, "sent").await;
    assert_eq!(story["price"], Value::Null, "{story}");
    (id, twilio.message_to(&phone(n)).await)
}

#[tokio::test]
async fn late_prices_and_lost_receipts_are_asked_for_and_the_wait_ends_after_72_hours() {
    let twilio = FakeTwilio::start().await;
    let clock = WallClock::at("2026-03-01T08:00:00Z");
    let server = Server::builder().twilio(&twilio).callbacks().clock(&clock);
    let mut server = server.config(TEMPLATE).start().await;
    let (silent, at_twilio) = sent(&twilio, &server, 1).await;
    let (lost, other_at_twilio) = sent(&twilio, &server, 2).await;
    let (reported, third_at_twilio) = sent(&twilio, &server, 3).await;
    // Of the first its price is all that is known, ever; of the second the receipt is lost; of the third it
    // comes, without a price.
    twilio.tell(&at_twilio, "sent", Some("-0.00790"));
    twilio.tell(&other_at_twilio, "delivered", Some("-0.01000"));
    twilio.tell(&third_at_twilio, "delivered", Some("-0.75000"));
    Receipt::of(&third_at_twilio, "delivered")
        .post(&server)
        .await;
    let story = story_until(&server, &reported, "delivered").await;
    assert_eq!(story["price"], Value::Null, "{story}");
    assert_eq!(twilio.questions(), 0, "too early");

    clock.advance(2 * MINUTE + SECOND);
    for (id, amount, status) in [
        (&silent, "0.00790", "sent"),
        (&lost, "0.01000", "delivered"),
        (&reported, "0.75000", "delivered"),
    ] {
        let priced = |story: &Value| story["price"].is_object();
        let story = story_when(&server, id, "priced", priced).await;
        let price = json!({"amount": amount, "currency": "USD"});
        assert_eq!(
            (&story["price"], &story["status"]),
            (&price, &json!(status))
        );
    }
    assert_eq!(twilio.questions(), 3);

    // Only the first still lacks something: it is asked for twice more, and across a restart.
    for (age, questions) in [(HOUR, 4), (24 * HOUR, 5)] {
        clock.advance(age);
        twilio.wait_for_questions(questions).await;
        assert!(server.terminate().await.success());
        server.restart().await;
        story_until(&server, &silent, "sent").await;
    }
    clock.set("2026-03-04T08:01:01Z".parse().unwrap());
    let story = story_until(&server, &silent, "unknown").await;
    assert_eq!(story["price"]["amount"], "0.00790", "{story}");
    for id in [&lost, &reported] {
        story_until(&server, id, "delivered").await;
    }
    assert_eq!(twilio.questions(), 5);
}
