//! What monitoring reads at `/metrics`: all that `docs/metrics.md` lists and nothing else, counted once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use countersign_tests::{
    Client, FakeTwilio, Receipt, Reply, Server, TEST_KEY, WallClock, eventually, join_all, phone,
    read_metrics, wrong,
};
use hyper::Method;
use serde_json::{Value, json};

use crate::queue::die;

pub(crate) const TOKEN: &str = "token-of-the-metrics";

async fn start(twilio: &FakeTwilio) -> Server {
    let server = Server::builder().twilio(twilio).callbacks();
    server.env("COUNTERSIGN_METRICS_TOKEN", TOKEN).start().await
}

pub(crate) async fn page(server: &Server) -> String {
    let answer = server.with_key(TOKEN).get("/metrics").await;
    let answer = answer.expect_status(200);
    let media_type = answer.header("content-type");
    assert_eq!(
        media_type,
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    answer.text()
}

/// The value of a sample; 0 where there is none.
pub(crate) fn value(page: &str, sample: &str) -> f64 {
    let mut samples = page.lines().filter_map(|line| line.rsplit_once(' '));
    let found = samples.find(|(name, _)| *name == sample);
    found.map_or(0.0, |(_, value)| value.parse().unwrap())
}

/// The first page on which a sample has come to `want`.
pub(crate) async fn page_when(server: &Server, sample: &str, want: f64) -> String {
    let what = format!("{sample} is {want}");
    eventually(&what, async || {
        let page = page(server).await;
        (value(&page, sample) == want).then_some(page)
    })
    .await
}

fn sent(status: &str) -> String {
    format!(r#"countersign_messages_total{{status="{status}",provider="twilio"}}"#)
}

/// Something of everything that can be counted.
async fn live(twilio: &FakeTwilio, server: &Server) -> String {
    let (one, two) = (phone(1), phone(2));
    server.send(&one).await.expect_success();
    let message = twilio.message_to(&one).await;
    let code = message.code();
    page_when(server, &sent("sent"), 1.0).await;
    Receipt::of(&message, "delivered").post(server).await;
    let forged = Receipt::of(&message, "read").forged().post(server).await;
    forged.expect_problem(403);
    server.verify(&one, &wrong(&code)).await.expect_status(400);
    server.verify(&one, &code).await.expect_success();
    die(twilio, server, &two).await;
    page_when(server, &sent("failed"), 1.0).await;
    // Counted when the commit is over, which others may see a moment earlier.
    page_when(server, "countersign_dead_letters", 1.0).await;
    server.get("/nowhere").await.expect_problem(404);
    server.without_key().send(&one).await.expect_problem(401);
    server.get("/readyz").await.expect_status(200);
    let strange = Method::from_bytes(b"PURGE").unwrap();
    let strange = server.request(strange, "/api/otp/send", &[], "").await;
    strange.unwrap().expect_problem(405);
    code
}

/// The rows of the tables in `docs/metrics.md`: name, type and labels.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let cell = |text: &str| text.trim().trim_matches('`').to_owned();
    let text = std::fs::read_to_string(docs("metrics.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|row| {
        let cells: Vec<&str> = row.split('|').collect();
        let labels = cells[3].split(',').map(cell);
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (cell(cells[1]), (cell(cells[2]), labels))
    });
    rows.collect()
}

fn docs(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn texts(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(text).collect()
}

/// The metric that an expression means by `name`.
fn metric_of<'a>(metrics: &'a Value, name: &str) -> Option<&'a Value> {
    let part = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|part| metrics.get(name.strip_suffix(part)?));
    match metrics.get(name) {
        // Its parts alone have values.
        Some(metric) => (metric["type"] != "histogram").then_some(metric),
        None => part,
    }
}

/// What Prometheus itself adds.
const OF_PROMETHEUS: [&str; 2] = ["job", "instance"];

fn check_expression(metrics: &Value, expression: &Value) {
    let text = &expression["text"];
    let mut labels: BTreeSet<String> = OF_PROMETHEUS.map(str::to_owned).into();
    for selected in expression["selects"].as_array().unwrap() {
        let name = selected[0].as_str().unwrap();
        if name == "up" {
            continue;
        }
        let metric = metric_of(metrics, name);
        let metric = metric.unwrap_or_else(|| panic!("no metric is called {name}: {text}"));
        labels.extend(texts(&metric["labels"]));
        if name.ends_with("_bucket") {
            labels.insert("le".to_owned());
        }
        for wanted in selected[1].as_array().unwrap() {
            let label = wanted[0].as_str().unwrap();
            if !OF_PROMETHEUS.contains(&label) {
                let samples = metric["samples"].as_array().unwrap();
                let told: BTreeSet<_> = samples
                    .iter()
                    .filter_map(|one| one[1][label].as_str())
                    .collect();
                for value in wanted[2].as_str().unwrap().split('|') {
                    assert!(
                        told.contains(value),
                        "no {label} is {value}: {text}\n{told:?}"
                    );
                }
            }
        }
    }
    for label in texts(&expression["labels"]) {
        assert!(labels.contains(&label), "nothing has {label}: {text}");
    }
}

#[tokio::test]
async fn what_is_listed_is_told_and_nothing_else_and_dashboard_and_alerts_name_only_that() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    let code = live(&twilio, &server).await;
    let page = page(&server).await;
    let read = read_metrics(&page, &docs("grafana.json"), &docs("alerts.yml")).await;
    let metrics = read["metrics"].as_object().unwrap();
    let told = metrics.iter().map(|(name, metric)| {
        (
            name.clone(),
            (text(&metric["type"]), texts(&metric["labels"])),
        )
    });
    assert_eq!(told.collect::<BTreeMap<_, _>>(), documented());
    let expressions = read["expressions"].as_array().unwrap();
    assert!(expressions.len() > 50, "some were not found");
    for expression in expressions {
        check_expression(&read["metrics"], expression);
    }
    // Nothing of anybody, and an end to the samples.
    for secret in ["2025550", &phone(1)[1..], &code, TEST_KEY, TOKEN] {
        assert!(!page.contains(secret), "{secret} is told\n{page}");
    }
    let samples = page.lines().filter(|line| !line.starts_with('#')).count();
    assert!(samples < 1_500, "{samples} samples");
}

#[tokio::test]
async fn what_has_happened_is_counted_by_what_it_was() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    live(&twilio, &server).await;
    let page = page(&server).await;
    for (sample, want) in [
        (
            r#"countersign_verifications_total{verdict="sent",reason="none"}"#,
            2.0,
        ),
        (
            r#"countersign_verifications_total{verdict="rejected",reason="code"}"#,
            1.0,
        ),
        (
            r#"countersign_verifications_total{verdict="approved",reason="none"}"#,
            1.0,
        ),
        (
            r#"countersign_messages_total{status="accepted",provider="none"}"#,
            2.0,
        ),
        (&sent("sent"), 1.0),
        (&sent("delivered"), 1.0),
        (&sent("failed"), 1.0),
        ("countersign_message_wait_seconds_count", 1.0),
        ("countersign_message_arrival_seconds_count", 1.0),
        (
            r#"countersign_country_steps_total{country="US",step="accepted"}"#,
            2.0,
        ),
        (
            r#"countersign_country_steps_total{country="US",step="approved"}"#,
            1.0,
        ),
        (
            r#"countersign_deliveries_total{provider="twilio",outcome="accepted"}"#,
            1.0,
        ),
        (
            r#"countersign_deliveries_total{provider="twilio",outcome="permanent"}"#,
            1.0,
        ),
        (r#"countersign_deliveries_in_hand{provider="twilio"}"#, 0.0),
        (r#"countersign_provider_places{provider="twilio"}"#, 64.0),
        ("countersign_dead_letters", 1.0),
        ("countersign_queue_messages{priority=\"urgent\"}", 0.0),
        (
            r#"countersign_calls_total{component="otp",outcome="ok"}"#,
            4.0,
        ),
        (
            r#"countersign_http_requests_total{route="/api/otp/verify",method="POST",status="2xx"}"#,
            1.0,
        ),
        (
            r#"countersign_http_requests_total{route="/api/otp/verify",method="POST",status="4xx"}"#,
            1.0,
        ),
        (
            r#"countersign_http_requests_total{route="none",method="GET",status="4xx"}"#,
            1.0,
        ),
        (
            r#"countersign_http_requests_total{route="/api/otp/send",method="other",status="4xx"}"#,
            1.0,
        ),
        (r#"countersign_http_problems_total{code="not-found"}"#, 1.0),
        (
            r#"countersign_http_problems_total{code="no-credentials"}"#,
            1.0,
        ),
        (
            r#"countersign_http_problems_total{code="method-not-allowed"}"#,
            1.0,
        ),
        (
            r#"countersign_http_problems_total{code="unsigned-callback"}"#,
            1.0,
        ),
        ("countersign_http_requests_in_flight", 1.0),
        ("countersign_ready", 1.0),
    ] {
        assert_eq!(value(&page, sample), want, "{sample}\n{page}");
    }
    for sample in [
        "countersign_store_commit_duration_seconds_count",
        "countersign_store_group_commits_count",
        "countersign_store_sync_duration_seconds_count",
        "countersign_store_free_bytes",
        "countersign_http_connections",
        "countersign_wasm_instances",
        "process_resident_memory_bytes",
        r#"countersign_log_lines_total{level="warn"}"#,
    ] {
        assert!(value(&page, sample) > 0.0, "{sample}\n{page}");
    }
}

/// Every counter of a page: whatever only goes up.
fn counters(page: &str) -> BTreeMap<&str, f64> {
    let samples = page.lines().filter_map(|line| line.rsplit_once(' '));
    let counters = samples.filter(|(name, _)| {
        let name = name.split('{').next().unwrap();
        ["_total", "_count", "_bucket", "_sum"]
            .iter()
            .any(|end| name.ends_with(end))
    });
    counters
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect()
}

#[tokio::test]
async fn nothing_counts_twice_however_often_it_is_run_or_asked_again() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    let to = phone(7);
    let send = json!({"phoneNumber": to});
    // At once, and one after the other: the same request.
    let asked = (0..8).map(|_| server.post_once("/api/otp/send", "one", &send));
    let answers = join_all(asked).await;
    assert!(answers.iter().any(|answer| answer.status == 200));
    let again = server.post_once("/api/otp/send", "one", &send).await;
    again.expect_success();
    let code = twilio.message_to(&to).await.code();
    let before = page_when(&server, &sent("sent"), 1.0).await;
    // The same number for many at once, and many numbers with one shared limit besides.
    let right = (0..32).map(|_| server.verify(&to, &code));
    let others = (100..132).map(|n| {
        let server: Client = server.client();
        async move { server.send(&phone(n)).await }
    });
    let (right, others) = tokio::join!(join_all(right), join_all(others));
    let accepted = right.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(accepted, 1);
    assert!(others.iter().all(|answer| answer.status == 200));
    let after = page_when(&server, &sent("sent"), 33.0).await;
    for (sample, want) in [
        (
            r#"countersign_verifications_total{verdict="sent",reason="none"}"#,
            33.0,
        ),
        (
            r#"countersign_verifications_total{verdict="approved",reason="none"}"#,
            1.0,
        ),
        (
            r#"countersign_messages_total{status="accepted",provider="none"}"#,
            33.0,
        ),
        (
            r#"countersign_country_steps_total{country="US",step="accepted"}"#,
            33.0,
        ),
        (
            r#"countersign_deliveries_total{provider="twilio",outcome="accepted"}"#,
            33.0,
        ),
    ] {
        assert_eq!(value(&after, sample), want, "{sample}\n{after}");
    }
    let later = counters(&after);
    for (name, was) in counters(&before) {
        let is = later.get(name).copied().unwrap_or(-1.0);
        assert!(is >= was, "{name} went back from {was} to {is}");
    }
}

#[tokio::test]
async fn metrics_are_told_to_who_may_read_them() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    server.get("/metrics").await.expect_problem(401);
    let nobody = server.without_key();
    nobody.get("/metrics").await.expect_problem(401);
    let reader = server.with_key(TOKEN);
    reader.get("/admin/queue").await.expect_problem(403);
    reader.send(&phone(1)).await.expect_problem(401);
    drop(server);
    let off = Server::builder().twilio(&twilio).start().await;
    off.get("/metrics").await.expect_problem(403);
    drop(off);
    // Where anybody on this machine may send, anybody on it may see how much is sent.
    let open = Server::builder().console().no_key().start().await;
    open.get("/metrics").await.expect_status(200);
    let foreign = [("host", "evil.example")];
    let foreign = open.request(Method::GET, "/metrics", &foreign, "").await;
    foreign.unwrap().expect_problem(403);
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_seen_while_it_does_not() {
    let twilio = FakeTwilio::start().await;
    let clock = WallClock::at("2026-03-01T08:00:00Z");
    let server = Server::builder().twilio(&twilio).clock(&clock);
    let server = server.env("COUNTERSIGN_METRICS_TOKEN", TOKEN).start().await;
    twilio.always(Reply::Hang);
    server.send(&phone(1)).await.expect_success();
    twilio.wait_for_requests_to(&phone(1), 1).await;
    clock.advance(Duration::from_millis(7_500));
    let page = page(&server).await;
    for (sample, want) in [
        (r#"countersign_deliveries_in_hand{provider="twilio"}"#, 1.0),
        (r#"countersign_queue_messages{priority="urgent"}"#, 1.0),
        ("countersign_queue_claimed", 1.0),
        ("countersign_queue_oldest_age_seconds", 7.5),
    ] {
        assert_eq!(value(&page, sample), want, "{sample}\n{page}");
    }
    twilio.release();
    page_when(&server, &sent("sent"), 1.0).await;
}
