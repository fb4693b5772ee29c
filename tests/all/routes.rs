//! Which provider carries a message, and what becomes of one that fails: over two companies of our own.

use std::sync::LazyLock;

use countersign_tests::companies::{TELNYX, json_of, telnyx, telnyx_public_key};
use countersign_tests::{Builder, Client, FakeCompany, Server, phone};
use serde_json::{Value, json};

use crate::messages::story_until;
use crate::metrics::{TOKEN, page_when};

const ADMIN: &str = "token-of-the-admin-9f2c";

/// Two companies, `first` and `second`, with what else a configuration says.
async fn start(more: &str) -> (FakeCompany, FakeCompany, Server) {
    let (first, second, server) = build(more).await;
    (first, second, server.start().await)
}

/// The same where the companies know where to call.
pub(crate) async fn start_with_callbacks(more: &str) -> (FakeCompany, FakeCompany, Server) {
    let (first, second, server) = build(more).await;
    (first, second, server.callbacks().start().await)
}

async fn build(more: &str) -> (FakeCompany, FakeCompany, Builder) {
    let (first, second) = (
        FakeCompany::start(telnyx).await,
        FakeCompany::start(telnyx).await,
    );
    let entry = |name: &str, company: &FakeCompany| {
        format!(
            "[[provider]]\nname = '{name}'\ncomponent = 'provider-telnyx'\n\
             settings = {{ base-url = '{}', from = '+15005550006' }}\n\
             credentials = {{ api-key = {{ env = 'TELNYX_KEY' }}, public-key = '{}' }}\n",
            company.base_url(),
            telnyx_public_key()
        )
    };
    let config = [&entry("first", &first), &entry("second", &second), more].concat();
    let server = Server::builder()
        .config(&config)
        .env("TELNYX_KEY", TELNYX)
        .env("COUNTERSIGN_ADMIN_TOKEN", ADMIN)
        .env("COUNTERSIGN_METRICS_TOKEN", TOKEN);
    (first, second, server)
}

/// Sends a code, and returns its message's story when a provider has taken it.
async fn sent(server: &Server, n: usize) -> Value {
    let sent = server.send(&phone(n)).await.expect_success().json();
    story_until(server, sent["messageId"].as_str().unwrap(), "sent").await
}

fn tried(story: &Value) -> Vec<&str> {
    let attempts = story["attempts"].as_array().unwrap().iter();
    attempts
        .map(|attempt| attempt["provider"].as_str().unwrap())
        .collect()
}

async fn shown(admin: &Client, n: usize) -> Value {
    let answer = admin.get("/admin/providers").await.expect_status(200);
    answer.json()["providers"][n].clone()
}

fn refused() -> (u16, Value) {
    let error = json!({"code": "10009", "title": "Authentication failed"});
    (401, json!({ "errors": [error] }))
}

#[tokio::test]
async fn a_provider_that_turns_the_account_away_is_passed_by_and_operators_see_why() {
    let (first, second, server) = start("").await;
    let admin = server.with_key(ADMIN);
    let unseen = shown(&admin, 0).await;
    assert_eq!(
        unseen,
        json!({
            "name": "first", "component": "provider-telnyx", "state": "closed", "failures": 0,
            "concurrency": 64
        })
    );
    first.next([refused()]);
    let story = sent(&server, 1).await;
    assert_eq!(tried(&story), ["first", "second"], "{story}");
    assert_eq!(story["attempts"][0]["class"], "auth");
    // Nobody asks it for a while.
    assert_eq!(tried(&sent(&server, 2).await), ["second"]);
    assert_eq!((first.count(), second.count()), (1, 2));
    let open = shown(&admin, 0).await;
    assert_eq!(
        (&open["state"], &open["failures"]),
        (&json!("open"), &json!(1))
    );
    assert!(
        open["probeAt"].is_string() && open["takenAt"].is_null(),
        "{open}"
    );
    let error = &open["lastError"];
    assert_eq!(
        (&error["class"], &error["providerCode"]),
        (&json!("auth"), &json!("10009"))
    );
    assert!(
        error["reason"]
            .as_str()
            .unwrap()
            .contains("Authentication failed")
    );
    let other = shown(&admin, 1).await;
    assert_eq!(other["state"], "closed");
    assert!(other["takenAt"].is_string(), "{other}");
    let page = page_when(
        &server,
        r#"countersign_provider_open{provider="first"}"#,
        1.0,
    )
    .await;
    assert!(
        page.contains("countersign_provider_open{provider=\"second\"} 0"),
        "{page}"
    );
    server.get("/admin/providers").await.expect_problem(401);
}

#[tokio::test]
async fn a_probe_finds_a_provider_well_again() {
    let (first, second, server) = start("[delivery]\nbreaker-base-ms = 1\n").await;
    first.next([refused(), refused()]);
    for n in 1..=2 {
        assert_eq!(tried(&sent(&server, n).await), ["first", "second"]);
    }
    assert_eq!(tried(&sent(&server, 3).await), ["first"]);
    assert_eq!((first.count(), second.count()), (3, 2));
    let shown = shown(&server.with_key(ADMIN), 0).await;
    assert_eq!(
        (&shown["state"], &shown["failures"]),
        (&json!("closed"), &json!(0))
    );
}

#[tokio::test]
async fn when_all_fail_the_first_is_still_tried() {
    let (first, second, server) = start("").await;
    first.next([refused()]);
    second.next([refused()]);
    // Both are asked, and then the first once more, after a pause.
    let story = sent(&server, 1).await;
    assert_eq!(tried(&story), ["first", "second", "first"], "{story}");
    assert_eq!(tried(&sent(&server, 2).await), ["first"]);
}

static ROUTES: LazyLock<String> = LazyLock::new(|| {
    let route =
        |lines: &str, provider: &str| format!("[[route]]\n{lines}\nproviders = ['{provider}']\n");
    [
        route("kind = 'marketing'", "second"),
        route("country = 'GB'\nnumber-type = 'fixed-line'", "second"),
        route("number-type = 'mobile'", "first"),
        "[[template]]\nname = 'sale'\ntext = 'Half price'\nkind = 'marketing'\n".into(),
        "[[template]]\nname = 'parcel'\ntext = 'It is there'\n".into(),
    ]
    .concat()
});

#[tokio::test]
async fn routes_go_by_country_number_type_and_kind() {
    let (first, second, server) = start(&ROUTES).await;
    let order = async |to: &str, template: &str| {
        let body = json!({"to": to, "template": template});
        let answer = server.post("/api/messages", &body).await;
        let id = answer.expect_status(202).json()["id"].clone();
        let story = story_until(&server, id.as_str().unwrap(), "sent").await;
        story["provider"].as_str().unwrap().to_owned()
    };
    let (british, mobile) = ("+442079460958", "+4915123456789");
    assert_eq!(order(british, "parcel").await, "second");
    assert_eq!(order(mobile, "parcel").await, "first");
    assert_eq!(order(mobile, "sale").await, "second");
    // Of a number in North America nobody knows which it is.
    assert_eq!(sent(&server, 1).await["provider"], "first");
    assert_eq!((first.count(), second.count()), (2, 2));
    assert_eq!(json_of(&second.request(1).await)["to"], british);
    // A German landline is in no route.
    let refused = server.send("+493023125000").await.expect_status(400);
    let words = "No message can be sent to this number";
    assert_eq!(
        refused.json(),
        json!({"error": words, "field": "phoneNumber"})
    );
}

#[tokio::test]
async fn messages_are_shared_out() {
    let route = "[[route]]\nproviders = ['first', 'second']\nshares = [0, 1]\n";
    let (first, second, server) = start(route).await;
    for n in 1..=5 {
        assert_eq!(tried(&sent(&server, n).await), ["second"]);
    }
    // The other one is there for when that fails.
    second.next([refused()]);
    assert_eq!(tried(&sent(&server, 6).await), ["second", "first"]);
    assert_eq!(first.count(), 1);
}
