//! `/openapi.json`: what the server really answers is what its description says, by the word of validators
//! that are not ours.

use std::cell::RefCell;
use std::collections::BTreeMap;

use countersign_hostile::variant;
use countersign_tests::{
    Answer, Client, FakeTwilio, Receipt, Server, check_answers, phone, totp, wrong,
};
use hyper::Method;
use serde_json::{Value, json};

use crate::messages::story_until;
use crate::queue::die;

const CONFIG: &str = r#"
[[template]]
name = "order"
text = "Order {number} is on its way."
"#;

/// What has been asked and answered.
#[derive(Default)]
struct Exchanges(RefCell<Vec<Value>>);

impl Exchanges {
    fn note(&self, method: &str, path: &str, asked: &Value, answer: &Answer) {
        let headers = answer.headers.iter().map(|(name, value)| {
            let value = value.to_str().unwrap().to_owned();
            (name.as_str().to_owned(), value)
        });
        self.0.borrow_mut().push(json!({
            "method": method.to_lowercase(),
            "path": path,
            "asked": asked,
            "status": answer.status,
            "headers": headers.collect::<BTreeMap<_, _>>(),
            "body": answer.text(),
        }));
    }

    async fn get(&self, client: &Client, path: &str) -> Answer {
        let answer = client.get(path).await;
        self.note("GET", path, &Value::Null, &answer);
        answer
    }

    /// A `POST`, of nobody or of the user `user`, with a proof where there is one.
    async fn post(
        &self,
        client: &Client,
        path: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        let bytes = serde_json::to_vec(&body).unwrap();
        let answer = client.request(Method::POST, path, &all, bytes).await;
        let answer = answer.unwrap();
        self.note("POST", path, &body, &answer);
        answer
    }
}

async fn codes(twilio: &FakeTwilio, server: &Server, exchanges: &Exchanges) {
    let (send, verify) = ("/api/otp/send", "/api/otp/verify");
    let to = phone(1);
    let body = json!({"phoneNumber": to});
    let once = [("idempotency-key", "one")];
    exchanges.post(server, send, body.clone(), &once).await;
    let replayed = exchanges.post(server, send, body.clone(), &once).await;
    replayed.expect_success();
    let other = json!({"phoneNumber": phone(2)});
    let reused = exchanges.post(server, send, other, &once).await;
    reused.expect_problem(422);
    let code = twilio.message_to(&to).await.code();
    for _ in 0..3 {
        exchanges.post(server, send, body.clone(), &[]).await;
    }
    exchanges
        .post(server, send, json!({"phoneNumber": "12"}), &[])
        .await;
    exchanges.post(server, send, json!({}), &[]).await;
    let nobody = server.without_key();
    let refused = exchanges.post(&nobody, send, body.clone(), &[]).await;
    refused.expect_problem(401);
    let text = [("content-type", "text/plain")];
    let refused = server
        .request(Method::POST, send, &text, "{}")
        .await
        .unwrap();
    exchanges.note("POST", send, &Value::Null, &refused);
    refused.expect_problem(415);
    let answer = |code: &str| json!({"phoneNumber": to, "code": code});
    let refused = exchanges
        .post(server, verify, answer(&wrong(&code)), &[])
        .await;
    refused.expect_status(400);
    let accepted = exchanges.post(server, verify, answer(&code), &[]).await;
    accepted.expect_success();
}

async fn factors(twilio: &FakeTwilio, server: &Server, exchanges: &Exchanges) {
    let user = [("x-countersign-user", "user-1")];
    let to = phone(3);
    let post = async |path: &str, body: Value, proof: Option<&str>| {
        let mut headers = user.to_vec();
        headers.extend(proof.map(|proof| ("x-countersign-proof", proof)));
        exchanges.post(server, path, body, &headers).await
    };
    let show = async || {
        let shown = server
            .request(Method::GET, "/api/2fa", &user, "")
            .await
            .unwrap();
        exchanges.note("GET", "/api/2fa", &Value::Null, &shown);
        shown.expect_status(200);
    };
    show().await;
    let nothing = post("/api/login/2fa/send", json!({}), None).await;
    nothing.expect_status(400);
    let sent = post("/api/2fa/enable", json!({"phoneNumber": to}), None).await;
    sent.expect_success();
    show().await;
    let code = twilio.nth_code(&to, 1).await;
    let refused = post(
        "/api/2fa/verify-enable",
        json!({"code": wrong(&code)}),
        None,
    )
    .await;
    refused.expect_status(400);
    let enabled = post("/api/2fa/verify-enable", json!({"code": code}), None).await;
    let enabled = enabled.expect_success().json();
    let refused = post("/api/2fa/totp", json!({}), None).await;
    refused.expect_problem(403);
    let proof = enabled["proof"].as_str();
    let app = post("/api/2fa/totp", json!({}), proof).await;
    let app = app.expect_success().json();
    show().await;
    let code = totp(app["secret"].as_str().unwrap(), 0);
    let refused = post("/api/2fa/totp/verify", json!({"code": wrong(&code)}), None).await;
    refused.expect_status(400);
    let verified = post("/api/2fa/totp/verify", json!({"code": code}), None).await;
    let proof = verified.expect_success().json();
    let renewed = post("/api/2fa/backup-codes", json!({}), proof["proof"].as_str()).await;
    let renewed = renewed.expect_success().json();
    let sent = post("/api/login/2fa/send", json!({}), None).await;
    sent.expect_success();
    let refused = post(
        "/api/login/2fa",
        json!({"code": "0000-0000-0000-0000"}),
        None,
    )
    .await;
    refused.expect_status(400);
    let right = json!({"code": renewed["backupCodes"][0]});
    let proof = post("/api/login/2fa", right, None).await;
    let proof = proof.expect_success().json();
    let gone = post("/api/2fa/disable", json!({}), proof["proof"].as_str()).await;
    gone.expect_success();
    for (purpose, status) in [("login", 201), ("fun", 400)] {
        let path = "/api/users/user-1/tokens";
        let made = exchanges
            .post(server, path, json!({"purpose": purpose}), &[])
            .await;
        made.expect_status(status);
    }
    let trail = exchanges
        .get(server, "/api/audit?user=user-1&limit=5")
        .await;
    assert!(trail.expect_status(200).json()["next"].is_string());
    exchanges
        .get(server, "/api/audit")
        .await
        .expect_problem(400);
}

async fn messages(twilio: &FakeTwilio, server: &Server, exchanges: &Exchanges) {
    let order = json!({"to": phone(4), "template": "order", "variables": {"number": "12"}});
    let sent = exchanges
        .post(server, "/api/messages", order.clone(), &[])
        .await;
    let id = sent.expect_status(202).json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let unknown = json!({"to": phone(4), "template": "unknown"});
    let refused = exchanges.post(server, "/api/messages", unknown, &[]).await;
    refused.expect_problem(400);
    story_until(server, &id, "sent").await;
    let message = twilio.message_to(&phone(4)).await;
    let hook = "/webhooks/twilio";
    let failed = Receipt::of(&message, "undelivered").with("ErrorCode", "30003");
    exchanges.note("POST", hook, &Value::Null, &failed.post(server).await);
    let delivered = Receipt::of(&message, "delivered");
    exchanges.note("GET", hook, &Value::Null, &delivered.get(server).await);
    let forged = delivered.forged().post(server).await;
    exchanges.note("POST", hook, &Value::Null, &forged);
    let path = format!("/api/messages/{id}");
    let story = exchanges.get(server, &path).await.expect_status(200).json();
    assert_eq!(story["receipts"].as_array().unwrap().len(), 2);
    let unknown = format!("/api/messages/{}", "0".repeat(32));
    exchanges.get(server, &unknown).await.expect_problem(404);
}

async fn administration(twilio: &FakeTwilio, server: &Server, exchanges: &Exchanges) {
    let admin = server.with_key("admin");
    let (first, _) = (
        die(twilio, server, &phone(5)).await,
        die(twilio, server, &phone(6)).await,
    );
    let path = "/api/analytics/dashboard";
    let range = format!("{path}?start=2026-01-01&end=2027-12-31");
    exchanges.get(&admin, &range).await.expect_status(200);
    exchanges
        .get(&admin, path)
        .await
        .expect_field_error("start");
    exchanges
        .get(&admin, "/admin/providers")
        .await
        .expect_status(200);
    exchanges
        .get(&admin, "/admin/queue")
        .await
        .expect_status(200);
    exchanges
        .get(server, "/admin/queue")
        .await
        .expect_problem(401);
    let page = exchanges.get(&admin, "/admin/queue/dead?limit=1").await;
    page.expect_status(200);
    let path = format!("/admin/queue/dead/{first}");
    exchanges.get(&admin, &path).await.expect_status(200);
    lookups(server, &admin, exchanges, &first).await;
    let replay = format!("{path}/replay");
    let replayed = exchanges.post(&admin, &replay, Value::Null, &[]).await;
    replayed.expect_status(202);
    exchanges.get(&admin, &path).await.expect_problem(404);
}

async fn lookups(server: &Server, admin: &Client, exchanges: &Exchanges, id: &str) {
    let search = "/admin/messages/search";
    let one = json!({"limit": 1});
    let page = exchanges.post(admin, search, one, &[]).await;
    assert!(page.expect_status(200).json()["next"].is_string());
    let wrong = json!({"phone": phone(5)});
    let refused = exchanges.post(admin, search, wrong, &[]).await;
    refused.expect_problem(400);
    let path = format!("/admin/messages/{id}");
    exchanges.get(admin, &path).await.expect_status(200);
    let reveal = format!("{path}/reveal");
    let shown = exchanges.post(admin, &reveal, Value::Null, &[]).await;
    shown.expect_status(200);
    let number = || json!({"phoneNumber": phone(4)});
    for path in ["/admin/stops/search", "/admin/stops/clear"] {
        let done = exchanges.post(admin, path, number(), &[]).await;
        done.expect_status(200);
        let refused = exchanges.post(admin, path, json!({}), &[]).await;
        refused.expect_problem(400);
    }
    let erase = "/api/phones/erase";
    let erased = exchanges.post(server, erase, number(), &[]).await;
    erased.expect_success();
    let refused = exchanges.post(server, erase, json!({}), &[]).await;
    refused.expect_problem(400);
    let trail = exchanges.get(admin, "/admin/audit?limit=1").await;
    assert!(trail.expect_status(200).json()["next"].is_string());
    let refused = exchanges.get(admin, "/admin/audit?limit=0").await;
    refused.expect_problem(400);
}

async fn components(server: &Server, exchanges: &Exchanges) {
    let admin = server.with_key("admin");
    let list = exchanges.get(&admin, "/admin/components").await;
    list.expect_status(200);
    let path = "/admin/components/otp";
    exchanges.get(&admin, path).await.expect_status(200);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("otp.wasm");
    let args = ["component", "export", "otp", file.to_str().unwrap()];
    server.run(&args).await.expect_success();
    let bytes = variant(&std::fs::read(file).unwrap(), "described");
    for (media_type, bytes, status) in [
        ("application/json", b"{}".to_vec(), 415),
        ("application/wasm", b"no component".to_vec(), 422),
        ("application/wasm", bytes, 200),
    ] {
        let headers = [("content-type", media_type)];
        let put = admin.request(Method::PUT, path, &headers, bytes).await;
        let put = put.unwrap();
        exchanges.note("PUT", path, &Value::Null, &put);
        put.expect_status(status);
    }
    let back = format!("{path}/rollback");
    let back = exchanges.post(&admin, &back, Value::Null, &[]).await;
    back.expect_status(200);
}

#[tokio::test]
async fn what_is_answered_is_what_the_description_says() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder().twilio(&twilio).callbacks().config(CONFIG);
    let server = server.env("COUNTERSIGN_ADMIN_TOKEN", "admin").start().await;
    let exchanges = Exchanges::default();
    for path in ["/healthz", "/readyz", "/.well-known/jwks.json"] {
        let open = server.without_key();
        exchanges.get(&open, path).await.expect_status(200);
    }
    let admin = server.with_key("admin");
    exchanges.get(&admin, "/metrics").await.expect_status(200);
    exchanges.get(&server, "/metrics").await.expect_problem(401);
    codes(&twilio, &server, &exchanges).await;
    factors(&twilio, &server, &exchanges).await;
    messages(&twilio, &server, &exchanges).await;
    administration(&twilio, &server, &exchanges).await;
    components(&server, &exchanges).await;
    let open = server.without_key();
    let description = exchanges.get(&open, "/openapi.json").await;
    let description = description.expect_status(200).json();
    let exchanges = exchanges.0.into_inner();
    let answered = check_answers(&description, &exchanges).await;
    // Each operation has been seen to succeed.
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            let statuses = answered[name].as_array().cloned().unwrap_or_default();
            let mut statuses = statuses.iter().filter_map(Value::as_u64);
            let succeeded = statuses.any(|status| (200..300).contains(&status));
            assert!(succeeded, "{method} {path} was not seen to succeed");
        }
    }
}
