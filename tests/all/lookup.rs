//! Messages as operators look for them: by number, by time, one with its whole number, and how long all of
//! that is kept.

use countersign_tests::{
    Answer, Client, FakeTwilio, Needle, Receipt, Scan, Server, eventually, phone,
};
use hyper::Method;
use serde_json::{Value, json};

use crate::messages::story_until;
use crate::queue::{die, start, wait_for_dead, wait_for_depth};

const SEARCH: &str = "/admin/messages/search";

async fn search(admin: &Client, body: Value) -> Value {
    admin.post(SEARCH, &body).await.expect_status(200).json()
}

#[track_caller]
fn ids(page: &Value) -> Vec<&str> {
    let messages = page["messages"].as_array().unwrap().iter();
    messages.map(|one| one["id"].as_str().unwrap()).collect()
}

async fn reveal(client: &Client, id: &str) -> Answer {
    let path = format!("/admin/messages/{id}/reveal");
    client.request(Method::POST, &path, &[], "").await.unwrap()
}

/// Sends a code and returns its message's id when it has been sent.
async fn sent(server: &Server, phone: &str) -> String {
    let sent = server.send(phone).await.expect_success().json();
    let id = sent["messageId"].as_str().unwrap().to_owned();
    story_until(server, &id, "sent").await;
    id
}

#[tokio::test]
async fn a_message_is_found_by_its_number_with_its_tries_and_receipts() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder()
        .twilio(&twilio)
        .callbacks()
        .env("COUNTERSIGN_ADMIN_TOKEN", "t")
        .start()
        .await;
    let admin = server.with_key("t");
    let id = sent(&server, &phone(1)).await;
    let message = twilio.message_to(&phone(1)).await;
    let receipt = Receipt::of(&message, "delivered");
    receipt.post(&server).await.expect_status(204);
    let dead = die(&twilio, &server, &phone(1)).await;
    sent(&server, &phone(2)).await;

    // However it is spelt.
    for number in [phone(1), "+1 (202) 456-0001".to_owned()] {
        let page = search(&admin, json!({ "phoneNumber": number })).await;
        assert_eq!(ids(&page), [&dead, &id]);
        let found = &page["messages"][1];
        assert_eq!(
            (&found["status"], &found["to"]),
            (&json!("delivered"), &json!("+1202•••••01"))
        );
        assert_eq!(found["attempts"][0]["outcome"], "accepted");
        assert_eq!(found["receipts"][0]["status"], "delivered");
        assert_eq!(page["messages"][0]["attempts"][0]["providerCode"], "21211");
        assert!(!page.to_string().contains(&phone(1)[1..]), "{page}");
    }
    let path = format!("/admin/messages/{id}");
    let shown = admin.get(&path).await.expect_status(200).json();
    assert_eq!(shown["status"], "delivered");
    let none = search(&admin, json!({ "phoneNumber": phone(3) })).await;
    assert_eq!(none, json!({ "messages": [] }));
}

#[tokio::test]
async fn messages_that_wait_are_found_too() {
    let twilio = FakeTwilio::start_refusing();
    let server = start(&twilio).await;
    let admin = server.with_key("t");
    let sent = server.send(&phone(1)).await.expect_success().json();
    let page = search(&admin, json!({ "phoneNumber": phone(1) })).await;
    assert_eq!(ids(&page), [sent["messageId"].as_str().unwrap()]);
    assert_eq!(page["messages"][0]["status"], "queued");
    assert!(page["messages"][0]["deadline"].is_string());
}

#[tokio::test]
async fn messages_are_found_by_time_in_pages_the_newest_first() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    let admin = server.with_key("t");
    let mut all = Vec::new();
    for n in 0..5 {
        all.insert(0, sent(&server, &phone(n)).await);
    }
    let mut seen: Vec<String> = Vec::new();
    let mut body = json!({ "limit": 2 });
    loop {
        let page = search(&admin, body.clone()).await;
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        match page["next"].as_str() {
            Some(next) => body["cursor"] = json!(next),
            None => break,
        }
    }
    assert_eq!(seen, all);
    let before = json!({ "end": "2026-01-31T12:00:00Z" });
    assert_eq!(ids(&search(&admin, before).await), Vec::<&str>::new());
    let since = json!({ "start": "2026-01-31T12:00:00Z" });
    assert_eq!(ids(&search(&admin, since).await), all);
    for (wrong, field) in [
        (json!({ "limit": 0 }), "limit"),
        (json!({ "phoneNumber": "+1202" }), "phoneNumber"),
        (json!({ "start": "now" }), "start"),
        (
            json!({ "start": "2026-01-31T12:00:00Z", "end": "2026-01-31T12:00:00Z" }),
            "end",
        ),
        (json!({ "cursor": "x" }), "cursor"),
        (json!({ "phone": phone(1) }), "phone"),
    ] {
        let refused = admin.post(SEARCH, &wrong).await.expect_problem(400).json();
        assert_eq!(refused["field"], field, "{refused}");
    }
}

#[tokio::test]
async fn whoever_looks_at_a_whole_number_leaves_a_trace() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    let admin = server.with_key("t");
    let id = sent(&server, &phone(1)).await;
    let empty = admin.get("/admin/audit").await.expect_status(200).json();
    assert_eq!(empty, json!({ "entries": [] }));
    let want = json!({ "id": id, "phoneNumber": phone(1) });
    let shown = reveal(&admin, &id).await.expect_status(200);
    assert_eq!(shown.json(), want);
    assert_eq!(shown.header("cache-control"), Some("no-store"));
    let typed = server.run(&["messages", "reveal", &id, "--json"]).await;
    assert_eq!(typed.expect_success().json(), want);

    let trail = admin.get("/admin/audit").await.expect_status(200).json();
    let entries = trail["entries"].as_array().unwrap();
    let ways: Vec<_> = entries
        .iter()
        .map(|entry| &entry["attributes"]["way"])
        .collect();
    assert_eq!(ways, ["command", "http"], "{trail}");
    for entry in entries {
        assert_eq!(entry["kind"], "number.revealed");
        assert_eq!(entry["by"], json!({ "type": "operator" }));
        assert_eq!(entry["attributes"]["message"], *id);
        let at: jiff::Timestamp = entry["at"].as_str().unwrap().parse().unwrap();
        assert!(at <= jiff::Timestamp::now());
    }
    assert!(!trail.to_string().contains(&phone(1)[1..]), "{trail}");

    // What is not shown leaves none.
    reveal(&admin, &"0".repeat(32)).await.expect_problem(404);
    reveal(&admin, "x").await.expect_problem(404);
    reveal(&server, &id).await.expect_problem(401);
    reveal(&server.without_key(), &id).await.expect_problem(401);
    let after = admin.get("/admin/audit").await.expect_status(200).json();
    assert_eq!(after, trail);
}

#[tokio::test]
async fn whoever_tries_numbers_until_one_is_found_leaves_a_trace() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    let admin = server.with_key("t");
    sent(&server, &phone(1)).await;
    for (number, found) in [(phone(2), 0), (phone(1), 1), (phone(1), 1)] {
        let page = search(&admin, json!({ "phoneNumber": number })).await;
        assert_eq!(ids(&page).len(), found);
    }
    // By time alone nobody is looked for.
    assert_eq!(ids(&search(&admin, json!({})).await).len(), 1);
    let trail = admin.get("/admin/audit").await.expect_status(200).json();
    let entries = trail["entries"].as_array().unwrap();
    let told: Vec<_> = entries
        .iter()
        .map(|entry| {
            let of = |name: &str| entry["attributes"][name].as_str().unwrap();
            assert_eq!(entry["kind"], "number.searched");
            (of("way"), of("found"), of("phone"))
        })
        .collect();
    let [(way, "1", last), (_, "1", middle), (_, "0", first)] = told[..] else {
        panic!("{trail}");
    };
    assert_eq!(way, "http");
    // The same number is known again, and nobody can read it.
    assert!(last == middle && last != first);
    assert!(!trail.to_string().contains(&phone(1)[1..]), "{trail}");
}

#[tokio::test]
async fn the_messages_view_is_for_administrators() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    let id = sent(&server, &phone(1)).await;
    for client in [server.client(), server.without_key()] {
        let body = json!({ "phoneNumber": phone(1) });
        client.post(SEARCH, &body).await.expect_problem(401);
        for path in ["/admin/audit", &format!("/admin/messages/{id}")] {
            client.get(path).await.expect_problem(401);
        }
    }
}

#[tokio::test]
async fn the_command_finds_and_shows_with_and_without_a_server() {
    let twilio = FakeTwilio::start().await;
    let mut server = start(&twilio).await;
    let id = sent(&server, &phone(1)).await;
    let dead = die(&twilio, &server, &phone(2)).await;
    for stopped in [false, true] {
        if stopped {
            assert!(server.terminate().await.success());
        }
        let found = server.run(&["messages", "find"]).await.expect_success();
        assert!(
            found.stdout.contains(&id) && found.stdout.contains(&dead),
            "{found:#?}"
        );
        assert!(!found.stdout.contains(&phone(1)), "{found:#?}");
        let number = phone(1);
        let one = ["messages", "find", "--phone", &number, "--json"];
        let found = server.run(&one).await.expect_success().json();
        assert_eq!(ids(&found), [&id]);
        let newest = server
            .run(&["messages", "find", "--limit", "1", "--json"])
            .await;
        let newest = newest.expect_success().json();
        assert_eq!(ids(&newest), [&dead]);
        let next = newest["next"].as_str().unwrap();
        let rest = ["messages", "find", "--cursor", next, "--json"];
        assert_eq!(ids(&server.run(&rest).await.expect_success().json()), [&id]);
        let shown = server.run(&["messages", "show", &id, "--json"]).await;
        assert_eq!(shown.expect_success().json()["status"], "sent");
        let revealed = server
            .run(&["messages", "reveal", &dead])
            .await
            .expect_success();
        assert_eq!(revealed.stdout, format!("{}\n", phone(2)));
    }
    let trail = server.run(&["messages", "trail", "--json"]).await;
    let trail = trail.expect_success().json();
    let kinds = trail["entries"].as_array().unwrap().iter();
    let kinds: Vec<_> = kinds.map(|entry| &entry["kind"]).collect();
    let one = ["number.revealed", "number.searched"];
    assert_eq!(kinds, [one, one].concat(), "{trail}");
    for (line, words) in [
        (["messages", "show", "x"], "32 hexadecimal digits"),
        (["messages", "show", &"0".repeat(32)], "no such message"),
        (["messages", "reveal", &"0".repeat(32)], "no such message"),
        (["messages", "find", "--phone=12"], "number"),
        (["messages", "find", "--start=now"], "RFC 3339"),
    ] {
        server.run(&line).await.expect_refusal(&[words]);
    }
}

async fn erase(client: &Client, number: &str) -> Value {
    let body = json!({ "phoneNumber": number });
    client
        .post("/api/phones/erase", &body)
        .await
        .expect_status(200)
        .json()
}

/// The figures of all time, once two messages are counted as sent and one as failed.
async fn figures(admin: &Client) -> Value {
    let path = "/api/analytics/dashboard?start=2026-01-01&end=2035-12-31&interval=month";
    let count = |figures: &Value, status: &str| {
        let by_status = figures["byStatus"].as_array().unwrap().iter();
        let mut found = by_status.filter(|of| of["status"] == status);
        found.next().map_or(0, |of| of["count"].as_u64().unwrap())
    };
    eventually("they are counted", async || {
        let figures = admin.get(path).await.expect_status(200).json();
        let is_all = count(&figures, "sent") == 2 && count(&figures, "failed") == 1;
        is_all.then_some(figures)
    })
    .await
}

#[tokio::test]
async fn an_erased_number_is_found_nowhere_and_what_was_counted_stays() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::builder()
        .twilio(&twilio)
        .env("COUNTERSIGN_ADMIN_TOKEN", "t")
        .env("COUNTERSIGN_OTP_SENDS_PER_HOUR", "3")
        .start()
        .await;
    let admin = server.with_key("t");
    let number = phone(1);
    let id = sent(&server, &number).await;
    let code = twilio.message_to(&number).await.code();
    let dead = die(&twilio, &server, &number).await;
    let other = sent(&server, &phone(2)).await;

    wait_for_dead(&admin, 1).await;
    let before = figures(&admin).await;
    let want = json!({
        "success": true, "complete": true,
        "erased": { "messages": 1, "dead": 1, "waiting": 0 }, "inHand": 0,
    });
    assert_eq!(erase(&server, "+1 202 456 0001").await, want);
    for id in [&id, &dead] {
        server
            .get(&format!("/api/messages/{id}"))
            .await
            .expect_problem(404);
        reveal(&admin, id).await.expect_problem(404);
    }
    let page = search(&admin, json!({ "phoneNumber": number })).await;
    assert_eq!(page, json!({ "messages": [] }));
    assert_eq!(ids(&search(&admin, json!({})).await), [&other]);
    let queue = admin.get("/admin/queue").await.json();
    assert_eq!(queue["dead"], 0, "{queue}");

    // Also when messages are counted anew, which leaves alone what is no longer there to be counted.
    assert_eq!(figures(&admin).await, before);
    let rebuilt = server.run(&["analytics", "rebuild", "--json"]).await;
    let rebuilt = rebuilt.expect_success().json();
    assert_eq!(rebuilt["changed"], json!([]), "{rebuilt}");
    assert_eq!(figures(&admin).await, before);

    // Again: nothing is left, and that is no error.
    let again = erase(&server, &number).await;
    assert_eq!(
        again["erased"],
        json!({ "messages": 0, "dead": 0, "waiting": 0 })
    );
    let trail = admin.get("/admin/audit").await.expect_status(200).json();
    let entries = trail["entries"].as_array().unwrap().iter();
    let entries: Vec<_> = entries
        .filter(|entry| entry["kind"] != "number.searched")
        .collect();
    let (begun, entries): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .partition(|entry| entry["kind"] == "number.erasing");
    assert_eq!((begun.len(), entries.len()), (2, 2));
    for (entry, messages) in entries.iter().zip(["0", "1"]) {
        assert_eq!(entry["kind"], "number.erased");
        assert_eq!(entry["by"]["type"], "key");
        assert_eq!(entry["attributes"]["messages"], messages);
    }
    assert_eq!(
        entries[0]["attributes"]["phone"],
        entries[1]["attributes"]["phone"]
    );

    // Nor is it in any file, also when the store has been closed and read again.
    assert!(server.terminate().await.success());
    server.restart().await;
    let mut scan = Scan::new(vec![Needle::digits("the number", &number[1..])]);
    assert!(scan.folder(server.data()) > 3);
    assert!(scan.finds().is_empty(), "{:#?}", scan.finds());

    // No limit begins anew: two codes were sent, so one more in this hour.
    server.send(&number).await.expect_success();
    server.send(&number).await.expect_status(400);
    server.verify(&number, &code).await.expect_success();
    server.restart().await;
    let page = search(&server.with_key("t"), json!({ "phoneNumber": number })).await;
    assert_eq!(ids(&page).len(), 1, "{page}");
    assert!(!page.to_string().contains(&id), "{page}");
}

#[tokio::test]
async fn a_waiting_message_is_erased_and_never_sent() {
    let mut twilio = FakeTwilio::start_refusing();
    let server = start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    server.send(&phone(2)).await.expect_success();
    let mut waiting = 0;
    eventually("nothing of it is in hand", async || {
        // One that is being handed over is left until that has failed.
        let told = erase(&server, &phone(1)).await;
        waiting += told["erased"]["waiting"].as_u64().unwrap();
        (told["complete"] == true).then_some(())
    })
    .await;
    assert_eq!(waiting, 1);
    twilio.accept_connections();
    twilio.message_to(&phone(2)).await;
    assert!(twilio.requests_to(&phone(1)).is_empty());
}

#[tokio::test]
async fn erasing_goes_by_a_key_and_is_answered_once() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    sent(&server, &phone(1)).await;
    // It is in hand until its commit is over, which others may see a moment earlier.
    wait_for_depth(&server.with_key("t"), 0).await;
    let body = json!({ "phoneNumber": phone(1) });
    let path = "/api/phones/erase";
    server
        .without_key()
        .post(path, &body)
        .await
        .expect_problem(401);
    server
        .with_key("t")
        .post(path, &body)
        .await
        .expect_problem(401);
    for (wrong, words) in [
        (json!({}), "missing"),
        (json!({ "phoneNumber": "+1202" }), "phone number"),
    ] {
        let refused = server.post(path, &wrong).await.expect_problem(400).json();
        assert_eq!(refused["field"], "phoneNumber");
        assert!(
            refused["detail"].as_str().unwrap().contains(words),
            "{refused}"
        );
    }
    let first = server
        .post_once(path, "erase-1", &body)
        .await
        .expect_status(200);
    let again = server
        .post_once(path, "erase-1", &body)
        .await
        .expect_status(200);
    assert_eq!(first.json()["erased"]["messages"], 1);
    assert_eq!(again.json(), first.json());
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
}

#[tokio::test]
async fn a_users_factor_outlives_the_erasing_of_its_number() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    let user = server.user("u1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    eventually("all of it is erased", async || {
        let is_all = erase(&server, &phone(1)).await["complete"] == true;
        is_all.then_some(())
    })
    .await;
    // With the key of an application alone nobody takes a second factor away.
    let code = &enrolled.backup_codes[0];
    user.login(code).await.expect_success();
    let state = user.status().await.expect_status(200).json();
    assert_eq!(state["phoneNumber"], "+1202•••••01", "{state}");
}
