//! What administrators see of the queue, over HTTP and on the command line.

use std::time::Duration;

use countersign_tests::{Client, FakeTwilio, Reply, Server, WallClock, eventually, phone};
use hyper::Method;
use serde_json::{Value, json};

use crate::messages::story_until;

const DEAD: &str = "/admin/queue/dead";

pub(crate) async fn start(twilio: &FakeTwilio) -> Server {
    let server = Server::builder()
        .twilio(twilio)
        .env("COUNTERSIGN_ADMIN_TOKEN", "t");
    server.start().await
}

/// Sends a code that no provider can take, and returns its message's id.
pub(crate) async fn die(twilio: &FakeTwilio, server: &Server, phone: &str) -> String {
    twilio.next_to(phone, [Reply::error(400, 21211)]);
    let sent = server.send(phone).await.expect_success().json();
    let id = sent["messageId"].as_str().unwrap().to_owned();
    story_until(server, &id, "failed").await;
    id
}

/// Waits until so many dead letters are counted: when the commit is over, which others may see a moment earlier.
pub(crate) async fn wait_for_dead(admin: &Client, dead: u64) {
    wait_for_queue(admin, "dead", dead).await;
}

/// Waits until so many messages are not over.
pub(crate) async fn wait_for_depth(admin: &Client, depth: u64) {
    wait_for_queue(admin, "depth", depth).await;
}

async fn wait_for_queue(admin: &Client, figure: &str, want: u64) {
    let what = format!("{figure} of the queue is {want}");
    eventually(&what, async || {
        let is_so = get(admin, "/admin/queue").await[figure] == want;
        is_so.then_some(())
    })
    .await;
}

/// Stops the server, which ends what is in hand, and requires that no message waits for the next start.
pub(crate) async fn stop_with_nothing_left(server: &mut Server) {
    assert!(server.terminate().await.success());
    let status = server.run(&["queue", "status", "--json"]).await;
    let status = status.expect_success().json();
    assert_eq!(status["depth"], 0, "{status}");
}

async fn get(admin: &Client, path: &str) -> Value {
    admin.get(path).await.expect_status(200).json()
}

async fn replay(admin: &Client, id: &str) -> countersign_tests::Answer {
    let path = format!("{DEAD}/{id}/replay");
    let answer = admin.request(Method::POST, &path, &[], "").await;
    answer.unwrap()
}

#[tokio::test]
async fn a_dead_letter_is_listed_looked_at_and_replayed() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    let admin = server.with_key("t");
    let id = die(&twilio, &server, &phone(1)).await;
    let page = get(&admin, DEAD).await;
    let letter = &page["letters"][0];
    assert_eq!(page["letters"].as_array().unwrap().len(), 1);
    assert_eq!(letter["id"], *id);
    assert_eq!(letter["to"], "+1202•••••01");
    assert_eq!(letter["attempts"][0]["class"], "permanent");
    assert_eq!(letter["attempts"][0]["providerCode"], "21211");
    assert_eq!(letter["attempts"][0]["provider"], "twilio");
    assert_eq!(get(&admin, &format!("{DEAD}/{id}")).await, *letter);
    wait_for_dead(&admin, 1).await;
    let replayed = replay(&admin, &id).await.expect_status(202).json();
    assert_eq!(replayed["status"], "queued");
    let code = twilio.message_to(&phone(1)).await.code();
    server.verify(&phone(1), &code).await.expect_success();
    let story = story_until(&server, &id, "sent").await;
    assert!(story["replayedAt"].is_string(), "{story}");
    assert_eq!(story["attempts"].as_array().unwrap().len(), 2, "{story}");
    wait_for_dead(&admin, 0).await;
    let again = replay(&admin, &id).await.expect_problem(404);
    assert_eq!(
        again.json()["type"],
        "urn:countersign:error:no-such-message"
    );
}

#[tokio::test]
async fn dead_letters_come_in_pages_the_newest_first() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    let admin = server.with_key("t");
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.insert(0, die(&twilio, &server, &phone(n)).await);
    }
    let mut seen = Vec::new();
    let mut path = format!("{DEAD}?limit=2");
    loop {
        let page = get(&admin, &path).await;
        let letters = page["letters"].as_array().unwrap();
        assert!(letters.len() <= 2);
        seen.extend(
            letters
                .iter()
                .map(|one| one["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => path = format!("{DEAD}?limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    for query in ["limit=0", "limit=101", "cursor=x", "page=1"] {
        admin
            .get(&format!("{DEAD}?{query}"))
            .await
            .expect_problem(400);
    }
}

#[tokio::test]
async fn the_queue_says_what_waits_and_since_when() {
    let twilio = FakeTwilio::start_refusing();
    let clock = WallClock::at("2026-03-01T08:00:00Z");
    let server = Server::builder()
        .twilio(&twilio)
        .env("COUNTERSIGN_ADMIN_TOKEN", "t")
        .clock(&clock)
        .start()
        .await;
    let admin = server.with_key("t");
    for n in 0..3 {
        server.send(&phone(n)).await.expect_success();
        clock.advance(Duration::from_secs(20));
    }
    let status = get(&admin, "/admin/queue").await;
    assert_eq!(status["depth"], 3);
    assert_eq!(
        status["byPriority"],
        json!({"urgent": 3, "normal": 0, "bulk": 0})
    );
    assert_eq!(status["dead"], 0);
    assert_eq!(status["oldestAgeSeconds"], 60);
    let told = server
        .run(&["queue", "--json"])
        .await
        .expect_success()
        .json();
    assert_eq!(
        (&told["depth"], &told["oldestAgeSeconds"]),
        (&json!(3), &json!(60))
    );
}

#[tokio::test]
async fn the_queue_is_for_administrators() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    let id = "0".repeat(32);
    for path in ["/admin/queue", DEAD, &format!("{DEAD}/{id}")] {
        server.get(path).await.expect_problem(401);
        server.without_key().get(path).await.expect_problem(401);
    }
    replay(&server, &id).await.expect_problem(401);
    let admin = server.with_key("t");
    admin.get(&format!("{DEAD}/{id}")).await.expect_problem(404);
    admin.get(&format!("{DEAD}/x")).await.expect_problem(404);
}

#[tokio::test]
async fn the_command_shows_and_replays_with_and_without_a_server() {
    let twilio = FakeTwilio::start().await;
    let mut server = start(&twilio).await;
    let ids = [
        die(&twilio, &server, &phone(1)).await,
        die(&twilio, &server, &phone(2)).await,
        die(&twilio, &server, &phone(3)).await,
    ];
    let listed = server.run(&["queue", "dead"]).await.expect_success();
    assert!(
        ids.iter().all(|id| listed.stdout.contains(id)),
        "{listed:#?}"
    );
    assert!(!listed.stdout.contains(&phone(1)), "{listed:#?}");
    assert!(listed.stdout.contains("21211"), "{listed:#?}");
    let shown = server.run(&["queue", "dead", &ids[0], "--json"]).await;
    assert_eq!(shown.expect_success().json()["status"], "failed");
    let replayed = server.run(&["queue", "replay", &ids[0]]).await;
    replayed.expect_success();
    twilio.message_to(&phone(1)).await;
    let again = server.run(&["queue", "replay", &ids[0]]).await;
    again.expect_refusal(&["no dead message"]);
    server
        .run(&["queue", "replay", "x"])
        .await
        .expect_refusal(&["32 hexadecimal digits"]);

    assert!(server.terminate().await.success());
    let offline = server.run(&["queue", "status", "--json"]).await;
    let offline = offline.expect_success().json();
    assert_eq!(
        (&offline["depth"], &offline["dead"]),
        (&json!(0), &json!(2))
    );
    let all = server.run(&["queue", "replay", "--all", "--json"]).await;
    let all = all.expect_success().json();
    assert_eq!(all["replayed"].as_array().unwrap().len(), 2, "{all}");
    assert_eq!(all["left"], json!([]));
    server.restart().await;
    twilio.message_to(&phone(2)).await;
    twilio.message_to(&phone(3)).await;
}

#[tokio::test]
async fn without_a_server_the_command_goes_by_what_is_configured() {
    let twilio = FakeTwilio::start().await;
    let mut server = start(&twilio).await;
    die(&twilio, &server, &phone(1)).await;
    die(&twilio, &server, &phone(2)).await;
    assert!(server.terminate().await.success());
    let by_variable = server
        .setup()
        .clone()
        .env("COUNTERSIGN_QUEUE_CAPACITY", "1");
    let all = by_variable
        .run(&["queue", "replay", "--all", "--json"])
        .await;
    let all = all.expect_success().json();
    assert_eq!(all["replayed"].as_array().unwrap().len(), 1, "{all}");
    let reason = all["left"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("1 messages are waiting"), "{all}");

    let file = server.data().join("other.toml");
    std::fs::write(&file, "[queue]\ncapacity = 5\n").unwrap();
    let by_file = ["queue", "--json", "--config", file.to_str().unwrap()];
    let data = server.data().to_str().unwrap().to_owned();
    let status = server
        .run(&[&by_file[..], &["--data", &data]].concat())
        .await;
    assert_eq!(status.expect_success().json()["capacity"], 5);
    let wrong = server
        .setup()
        .clone()
        .env("COUNTERSIGN_QUEUE_CAPACITY", "0");
    let refused = wrong.run(&["queue"]).await;
    refused.expect_refusal(&["queue.capacity", "COUNTERSIGN_QUEUE_CAPACITY"]);
}
