//! `/api/analytics/dashboard` and `countersign analytics rebuild`: every message counted once.

use std::sync::atomic::{AtomicBool, Ordering};

use countersign_hostile::variant;
use countersign_tests::{
    Answer, Builder, Client, FakeTwilio, Receipt, Server, WallClock, eventually, join_all, phone,
    wrong,
};
use serde_json::{Value, json};

use crate::components::{export, put};
use crate::messages::story_until;

const TOKEN: &str = "the administrator";
const DASHBOARD: &str = "/api/analytics/dashboard";

/// A range that today is in, whenever that is.
const ALL: &str = "start=2026-01-01&end=2035-12-31&interval=month";

const PRICES: &str = "
[analytics]
currency = 'EUR'
rates = { USD = 0.5 }
[analytics.prices.twilio]
currency = 'USD'
US = 0.01
";

async fn start(config: &str) -> (FakeTwilio, Server) {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder().twilio(&twilio).callbacks().config(config);
    let server = server.env("COUNTERSIGN_ADMIN_TOKEN", TOKEN);
    (twilio, server.start().await)
}

async fn ask(server: &Client, query: &str) -> Answer {
    let path = format!("{DASHBOARD}?{query}");
    server.with_key(TOKEN).get(&path).await
}

/// The figures of all time, once `is` says of them that they are those.
async fn figures_when(server: &Client, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let what = format!("it is told: {what}");
    eventually(&what, async || {
        let figures = ask(server, ALL).await.expect_status(200).json();
        is(&figures).then_some(figures)
    })
    .await
}

/// How many messages have a status.
fn of_status(figures: &Value, status: &str) -> u64 {
    let by_status = figures["byStatus"].as_array().unwrap();
    let found = by_status.iter().find(|of| of["status"] == status);
    found.map_or(0, |of| of["count"].as_u64().unwrap())
}

/// What `countersign analytics rebuild` has done, whether or not the server runs.
async fn rebuild(server: &Server) -> Value {
    let rebuilt = server.run(&["analytics", "rebuild", "--json"]).await;
    rebuilt.expect_success().json()
}

#[track_caller]
fn nothing_was_wrong(rebuilt: &Value) {
    assert_eq!(rebuilt["changed"], json!([]), "{rebuilt}");
    assert_eq!(rebuilt["busy"], json!([]), "{rebuilt}");
    assert_eq!(rebuilt["incomplete"], 0, "{rebuilt}");
    assert_eq!(rebuilt["same"], rebuilt["hours"], "{rebuilt}");
    assert!(rebuilt["hours"].as_u64() >= Some(1), "{rebuilt}");
}

#[tokio::test]
async fn an_empty_range_gives_zeros_and_the_range_that_was_counted() {
    let (_twilio, server) = start("").await;
    let answer = ask(&server, "start=2026-01-30T22:30:00Z&end=2026-01-31").await;
    let none = json!({"count": 0, "p50Ms": 0, "p95Ms": 0, "p99Ms": 0});
    let want = json!({
        "stats": {
            "total": 0, "delivered": 0, "failed": 0, "totalCost": 0, "deliveryRate": "0.00%",
            "avgCost": "0.0000",
        },
        "byCountry": [], "byStatus": [], "timeline": [], "byProvider": [],
        "start": "2026-01-30T22:00:00Z", "end": "2026-02-01T00:00:00Z", "interval": "day",
        "cost": {
            "currency": "USD", "total": 0, "estimated": 0, "estimatedShare": "0.00%", "unpriced": 0,
            "unconverted": [],
        },
        "conversion": {"sent": 0, "verified": 0, "rate": "0.00%"},
        "latency": {"queue": none, "delivery": none},
    });
    answer.expect_body(200, &want);
}

#[tokio::test]
async fn a_bad_range_is_400_and_says_what_a_good_one_looks_like() {
    let (_twilio, server) = start("").await;
    let day = "start=2026-01-31&end=2026-01-31";
    for (query, field) in [
        (String::new(), "start"),
        ("start=2026-01-31".to_owned(), "end"),
        ("start=31.1.2026&end=2026-01-31".to_owned(), "start"),
        ("start=2026-02-01&end=2026-01-30".to_owned(), "end"),
        ("start=2020-01-01&end=2026-01-31".to_owned(), "end"),
        (format!("{day}&interval=week"), "interval"),
        (format!("{day}&country=usa"), "country"),
        (format!("{day}&provider="), "provider"),
    ] {
        let refused = ask(&server, &query).await.expect_field_error(field).json();
        let error = refused["error"].as_str().unwrap();
        assert!(error.contains("`") || error.contains("at most"), "{error}");
        if ["start", "end"].contains(&field) && !query.contains("2020") {
            assert!(error.contains("start=2026-01-01&end=2026-01-31"), "{error}");
        }
    }
    ask(&server, &format!("{day}&contry=US"))
        .await
        .expect_unreadable();
}

#[tokio::test]
async fn figures_are_the_administrators_alone() {
    let (_twilio, server) = start("").await;
    let path = format!("{DASHBOARD}?{ALL}");
    server.get(&path).await.expect_problem(401);
    server.without_key().get(&path).await.expect_problem(401);
    let twilio = FakeTwilio::start().await;
    let without = Server::start(&twilio).await;
    ask(&without, ALL).await.expect_problem(403);
}

#[tokio::test]
async fn a_message_is_counted_through_its_life_with_what_it_costs() {
    let (twilio, server) = start(PRICES).await;
    let sent = server.send(&phone(1)).await.expect_success().json();
    let id = sent["messageId"].as_str().unwrap();
    let message = twilio.message_to(&phone(1)).await;
    story_until(&server, id, "sent").await;
    let sent = figures_when(&server, "sent", |of| of_status(of, "sent") == 1).await;
    assert_eq!(sent["stats"]["total"], 1);
    assert_eq!(sent["cost"]["currency"], "EUR");
    // One cent of the dollar, which is half a cent here.
    assert_eq!(sent["stats"]["totalCost"], 0.005);
    assert_eq!(sent["cost"]["estimatedShare"], "100.00%");
    assert_eq!(sent["latency"]["queue"]["count"], 1);
    let delivered = Receipt::of(&message, "delivered").post(&server).await;
    assert_eq!(delivered.status, 204);
    server
        .verify(&phone(1), &message.code())
        .await
        .expect_success();
    let verified = |of: &Value| of["conversion"]["verified"] == 1;
    let told = figures_when(&server, "verified", verified).await;
    assert_eq!(
        (of_status(&told, "sent"), of_status(&told, "delivered")),
        (0, 1)
    );
    assert_eq!(told["stats"]["deliveryRate"], "100.00%");
    let month = &told["timeline"][0];
    assert_eq!(
        (&month["count"], &month["delivered"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        told["byCountry"],
        json!([{"country": "US", "count": 1, "cost": 0.005}])
    );
    let twilio_figures = &told["byProvider"][0];
    assert_eq!(twilio_figures["provider"], "twilio");
    assert_eq!(
        twilio_figures["conversion"],
        json!({"sent": 1, "verified": 1, "rate": "100.00%"})
    );
    assert_eq!(told["latency"]["delivery"]["count"], 1);
    let elsewhere = ask(&server, &format!("{ALL}&country=DE")).await.json();
    assert_eq!(elsewhere["stats"]["total"], 0);
    let others = ask(&server, &format!("{ALL}&provider=other")).await.json();
    assert_eq!(others["stats"]["total"], 0);
    nothing_was_wrong(&rebuild(&server).await);
}

#[tokio::test]
async fn codes_of_two_factor_count_as_all_others_do() {
    let (twilio, server) = start("").await;
    let user = server.user("user-1");
    user.enrol(&twilio, &phone(1)).await;
    user.login_send().await.expect_success();
    let code = twilio.nth_code(&phone(1), 2).await;
    user.login(&wrong(&code)).await.expect_status(400);
    user.login(&code).await.expect_success();
    let verified = |of: &Value| of["conversion"]["verified"] == 2;
    let told = figures_when(&server, "both codes accepted", verified).await;
    assert_eq!(told["conversion"]["sent"], 2);
    assert_eq!(told["stats"]["total"], 2);
    assert_eq!(told["byProvider"][0]["conversion"]["verified"], 2);
    nothing_was_wrong(&rebuild(&server).await);
}

/// A server by a clock of ours, somewhere where clocks are set on in the night to 8 March 2026.
fn in_new_york(twilio: &FakeTwilio, clock: &WallClock) -> Builder {
    let server = Server::builder()
        .twilio(twilio)
        .env("COUNTERSIGN_ADMIN_TOKEN", TOKEN)
        .env("COUNTERSIGN_MESSAGES_DAYS", "4")
        .env("TZ", "America/New_York");
    let clock = clock.environment();
    clock.iter().fold(server, |server, (name, value)| {
        server.env(name, value.to_str().unwrap())
    })
}

/// Sends a code at that time, and returns its message's id when it has left.
async fn sent_at(server: &Server, clock: &WallClock, time: &str, phone: &str) -> String {
    clock.set(time.parse().unwrap());
    let sent = server.send(phone).await.expect_success().json();
    let id = sent["messageId"].as_str().unwrap().to_owned();
    story_until(server, &id, "sent").await;
    id
}

#[tokio::test]
async fn days_and_hours_are_those_of_utc_wherever_the_server_is() {
    let (twilio, clock) = (
        FakeTwilio::start().await,
        WallClock::at("2026-03-07T23:59:59Z"),
    );
    let server = in_new_york(&twilio, &clock).start().await;
    let times = [
        "2026-03-07T23:59:59Z",
        "2026-03-08T06:59:59Z",
        // There no clock shows two o'clock.
        "2026-03-08T07:00:00Z",
        "2026-03-09T03:59:59Z",
    ];
    for (n, time) in times.into_iter().enumerate() {
        sent_at(&server, &clock, time, &phone(n)).await;
    }
    figures_when(&server, "four", |of| of_status(of, "sent") == 4).await;
    for (interval, want) in [
        (
            "day",
            vec![("2026-03-07", 1), ("2026-03-08", 2), ("2026-03-09", 1)],
        ),
        (
            "hour",
            vec![
                ("2026-03-07T23:00:00Z", 1),
                ("2026-03-08T06:00:00Z", 1),
                ("2026-03-08T07:00:00Z", 1),
                ("2026-03-09T03:00:00Z", 1),
            ],
        ),
        ("month", vec![("2026-03", 4)]),
    ] {
        let query = format!("start=2026-03-07&end=2026-03-09&interval={interval}");
        let told = ask(&server, &query).await.expect_status(200).json();
        let want = want.into_iter();
        let want = want.map(|(date, count)| json!({"date": date, "count": count, "delivered": 0}));
        assert_eq!(told["timeline"], Value::Array(want.collect()), "{interval}");
    }
    // Half-open: what was accepted at the end of a range is of the next one.
    let until = ask(&server, "start=2026-03-08&end=2026-03-08T07:00:00Z").await;
    assert_eq!(until.json()["stats"]["total"], 1);
    let since = ask(&server, "start=2026-03-08T07:00:00Z&end=2026-03-08").await;
    assert_eq!(since.json()["stats"]["total"], 1);
}

#[tokio::test]
async fn figures_outlive_their_messages_also_when_hours_are_counted_anew() {
    let (twilio, clock) = (
        FakeTwilio::start().await,
        WallClock::at("2026-03-07T10:05:00Z"),
    );
    let mut server = in_new_york(&twilio, &clock).start().await;
    let first = sent_at(&server, &clock, "2026-03-07T10:05:00Z", &phone(1)).await;
    let second = sent_at(&server, &clock, "2026-03-07T10:55:00Z", &phone(2)).await;
    figures_when(&server, "both", |of| of_status(of, "sent") == 2).await;

    // The first one's days are over, the second one's are not.
    clock.set("2026-03-11T10:30:00Z".parse().unwrap());
    let gone = server.get(&format!("/api/messages/{first}")).await;
    gone.expect_problem(404);
    let kept = server.get(&format!("/api/messages/{second}")).await;
    kept.expect_status(200);
    for _ in 0..2 {
        let rebuilt = rebuild(&server).await;
        assert_eq!(rebuilt["incomplete"], 1, "{rebuilt}");
        assert_eq!(rebuilt["changed"], json!([]), "{rebuilt}");
        let hour = ask(&server, "start=2026-03-07&end=2026-03-07").await.json();
        assert_eq!(hour["stats"]["total"], 2, "{hour}");
        server.restart().await;
    }

    // Years later nobody knows of either, and both are still counted.
    clock.set("2031-03-11T10:30:00Z".parse().unwrap());
    server.restart().await;
    let rebuilt = rebuild(&server).await;
    assert_eq!(rebuilt["hours"], 0, "{rebuilt}");
    let kept = server.get(&format!("/api/messages/{second}")).await;
    kept.expect_problem(404);
    let told = ask(&server, ALL).await.expect_status(200).json();
    assert_eq!(of_status(&told, "sent"), 2, "{told}");
}

#[tokio::test]
async fn each_message_counts_once_whenever_the_server_is_killed() {
    let (twilio, mut server) = start("").await;
    let mut acknowledged = 0;
    let mut attempted = 0;
    for round in 0..4 {
        let phones: Vec<String> = (0..25).map(|n| phone(round * 25 + n)).collect();
        attempted += phones.len() as u64;
        let client = server.client();
        let sends = join_all(phones.iter().map(|phone| client.try_send(phone)));
        let killed = async {
            // In the middle of it: it accepts, delivers and counts.
            twilio.message_to(&phones[5]).await;
            server.kill().await;
        };
        let (answers, ()) = tokio::join!(sends, killed);
        let is_taken = |answer: &&Result<Answer, String>| {
            answer.as_ref().is_ok_and(|answer| answer.status == 200)
        };
        acknowledged += answers.iter().filter(is_taken).count() as u64;
        server.restart().await;
    }
    let all_left = |of: &Value| of_status(of, "queued") == 0;
    let told = figures_when(&server, "all have left", |of| {
        all_left(of) && of["stats"]["total"].as_u64() >= Some(acknowledged)
    })
    .await;
    let total = told["stats"]["total"].as_u64().unwrap();
    assert!((acknowledged..=attempted).contains(&total), "{told}");
    // The messages themselves say the same.
    nothing_was_wrong(&rebuild(&server).await);
    server.terminate().await;
    nothing_was_wrong(&rebuild(&server).await);
    server.restart().await;
    assert_eq!(ask(&server, ALL).await.json()["stats"], told["stats"]);
}

#[tokio::test]
async fn each_message_counts_once_while_the_component_that_counts_is_swapped() {
    const SWAPS: usize = 12;
    const USERS: usize = 6;
    let (twilio, server) = start("").await;
    let admin = server.with_key(TOKEN);
    let first = export(&server, "analytics").await;
    let over = AtomicBool::new(false);
    let swaps = async {
        for number in 0..SWAPS {
            let version = variant(&first, &number.to_string());
            put(&admin, "analytics", version).await.expect_status(200);
        }
        over.store(true, Ordering::SeqCst);
    };
    let users = (0..USERS).map(|user| {
        let (twilio, server, over) = (&twilio, &server, &over);
        async move {
            let mut sent: u64 = 0;
            while !over.load(Ordering::SeqCst) {
                let phone = phone(user * 10_000 + sent as usize);
                server.send(&phone).await.expect_success();
                let message = twilio.message_to(&phone).await;
                let told = Receipt::of(&message, "delivered").post(server).await;
                assert_eq!(told.status, 204);
                server
                    .verify(&phone, &message.code())
                    .await
                    .expect_success();
                sent += 1;
            }
            sent
        }
    });
    let ((), sent) = tokio::join!(swaps, join_all(users));
    let sent: u64 = sent.iter().sum();
    assert!(sent >= USERS as u64, "{sent} were counted");
    // The receipts of the last ones come before the message has left, and are kept for it.
    let all =
        |of: &Value| of_status(of, "delivered") == sent && of["conversion"]["verified"] == sent;
    let told = figures_when(&server, "each once", all).await;
    assert_eq!(told["stats"]["total"], sent, "{told}");
    assert_eq!(told["conversion"]["sent"], sent, "{told}");
    nothing_was_wrong(&rebuild(&server).await);
}
