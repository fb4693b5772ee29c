//! Every `POST` that says it takes an `Idempotency-Key`: asked twice it is answered twice and done once.

use std::cell::RefCell;
use std::collections::BTreeSet;

use countersign_hostile::variant;
use countersign_tests::{Answer, Client, FakeTwilio, Server, phone, totp};
use serde_json::{Value, json};

use crate::components::{component, export, put};
use crate::messages::story_until;
use crate::queue::die;
use crate::stops::answers;

const ADMIN: &str = "token-of-the-admin-7c1d";
const TEMPLATE: &str = "[[template]]\nname = 'order'\ntext = 'Order {number} is on its way.'\n";

/// Change nothing but the trail, and so leave their keys free.
const SEARCHES: [&str; 2] = ["findMessages", "findStops"];

/// Asks twice, and notes of which operations that was.
struct Twice<'a> {
    server: &'a Server,
    admin: Client,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl Twice<'_> {
    /// As an application.
    async fn ask(&self, operation: &'static str, path: &str, body: Value) -> Value {
        self.twice(self.server, operation, path, body).await
    }

    /// As the administrator.
    async fn order(&self, operation: &'static str, path: &str, body: Value) -> Value {
        self.twice(&self.admin, operation, path, body).await
    }

    async fn twice(
        &self,
        client: &Client,
        operation: &'static str,
        path: &str,
        body: Value,
    ) -> Value {
        let post = async || client.post_once(path, operation, &body).await;
        let first = post().await;
        self.expect_repeat(operation, &first, &post().await)
    }

    /// As an application, for a user, with a proof where there is one.
    async fn factor(
        &self,
        operation: &'static str,
        path: &str,
        body: Value,
        proof: Option<&Value>,
    ) -> Value {
        let user = self.server.user("user-1");
        let user = user.header("idempotency-key", operation);
        let user = match proof {
            Some(proof) => user.proving(proof.as_str().unwrap()),
            None => user,
        };
        let post = async || user.post(path, &body).await;
        let first = post().await;
        self.expect_repeat(operation, &first, &post().await)
    }

    fn expect_repeat(&self, operation: &'static str, first: &Answer, again: &Answer) -> Value {
        let told = format!("{operation}: {first:?}, then {again:?}");
        assert!((200..300).contains(&first.status), "{told}");
        assert_eq!(first.header("idempotency-replayed"), None, "{told}");
        assert_eq!(again.header("idempotency-replayed"), Some("true"), "{told}");
        assert_eq!(again.status, first.status, "{told}");
        assert_eq!(again.body, first.body, "{told}");
        self.asked.borrow_mut().insert(operation);
        first.json()
    }
}

async fn codes(twilio: &FakeTwilio, twice: &Twice<'_>) {
    let to = phone(1);
    let body = json!({"phoneNumber": to});
    twice.ask("sendCode", "/api/otp/send", body).await;
    let code = twilio.message_to(&to).await.code();
    let body = json!({"phoneNumber": to, "code": code});
    twice.ask("verifyCode", "/api/otp/verify", body).await;
    let path = "/api/users/user-1/tokens";
    let body = json!({"purpose": "login"});
    twice.ask("makeUserToken", path, body).await;
}

async fn factors(twilio: &FakeTwilio, twice: &Twice<'_>) {
    let to = phone(2);
    let body = json!({"phoneNumber": to});
    twice
        .factor("enablePhone", "/api/2fa/enable", body, None)
        .await;
    let body = json!({"code": twilio.nth_code(&to, 1).await});
    let path = "/api/2fa/verify-enable";
    let enabled = twice.factor("verifyPhone", path, body, None).await;
    let proof = Some(&enabled["proof"]);
    let app = twice
        .factor("enableApp", "/api/2fa/totp", json!({}), proof)
        .await;
    let body = json!({"code": totp(app["secret"].as_str().unwrap(), 0)});
    let path = "/api/2fa/totp/verify";
    let verified = twice.factor("verifyApp", path, body, None).await;
    let (path, proof) = ("/api/2fa/backup-codes", Some(&verified["proof"]));
    let renewed = twice
        .factor("renewBackupCodes", path, json!({}), proof)
        .await;
    let path = "/api/login/2fa/send";
    twice.factor("sendLoginCode", path, json!({}), None).await;
    let body = json!({"code": renewed["backupCodes"][0]});
    let login = twice
        .factor("checkLogin", "/api/login/2fa", body, None)
        .await;
    let (path, proof) = ("/api/2fa/disable", Some(&login["proof"]));
    twice.factor("disableFactors", path, json!({}), proof).await;
}

async fn messages(twilio: &FakeTwilio, server: &Server, twice: &Twice<'_>) {
    let to = phone(3);
    let body = json!({"to": to, "template": "order", "variables": {"number": "12"}});
    let sent = twice.ask("sendMessage", "/api/messages", body).await;
    story_until(server, sent["id"].as_str().unwrap(), "sent").await;
    let dead = die(twilio, server, &phone(4)).await;
    let path = format!("/admin/messages/{dead}/reveal");
    twice.order("revealNumber", &path, Value::Null).await;
    let path = format!("/admin/queue/dead/{dead}/replay");
    twice.order("replayDeadLetter", &path, Value::Null).await;
    let number = json!({"phoneNumber": to});
    answers(server, &to, "STOP").await;
    let path = "/admin/stops/clear";
    let cleared = twice.order("clearStops", path, number.clone()).await;
    assert_eq!(cleared["cleared"], 1);
    let path = "/api/phones/erase";
    let erased = twice.ask("erasePhone", path, number).await;
    assert_eq!(erased["erased"]["messages"], 1);
}

/// Two versions are installed, and one of them is taken back; then a canary.
async fn components(server: &Server, twice: &Twice<'_>) {
    let admin = &twice.admin;
    let otp = export(server, "otp").await;
    let mut live = Vec::new();
    for name in ["first", "second"] {
        let done = put(admin, "otp", variant(&otp, name)).await;
        live.push(done.expect_status(200).json()["sha256"].clone());
    }
    let path = "/admin/components/otp/rollback";
    let back = twice.order("rollBackComponent", path, Value::Null).await;
    assert_eq!(back["sha256"], live[0]);
    assert_eq!(component(admin, "otp").await["sha256"], live[0]);
    let canary = put(admin, "otp?canary=50", variant(&otp, "canary")).await;
    canary.expect_status(200);
    let key = "another-request";
    for replayed in [None, Some("true")] {
        let back = admin.post_once(path, key, &Value::Null).await;
        assert_eq!(back.header("idempotency-replayed"), replayed);
        assert_eq!(back.expect_status(200).json()["sha256"], live[0]);
    }
    assert_eq!(component(admin, "otp").await["sha256"], live[0]);
}

async fn searches(twice: &Twice<'_>) {
    let paths = ["/admin/messages/search", "/admin/stops/search"];
    for path in paths {
        // Another body under the same key as well.
        for number in [5, 5, 6] {
            let body = json!({"phoneNumber": phone(number)});
            let found = twice.admin.post_once(path, "a-search", &body).await;
            let found = found.expect_status(200);
            assert_eq!(found.header("idempotency-replayed"), None, "{path}");
        }
    }
}

/// The operations of the description that take a key.
async fn described(server: &Server) -> BTreeSet<String> {
    let description = server.get("/openapi.json").await.expect_status(200).json();
    let paths = description["paths"].as_object().unwrap();
    let posts = paths.values().filter_map(|one| one.get("post"));
    let key = json!({"$ref": "#/components/parameters/IdempotencyKey"});
    let takes_key = |post: &&Value| {
        let parameters = post["parameters"].as_array();
        parameters.is_some_and(|all| all.contains(&key))
    };
    let names = posts.filter(takes_key);
    names
        .map(|post| post["operationId"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn every_post_that_takes_a_key_is_done_once_however_often_it_is_asked_for() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder().twilio(&twilio).callbacks();
    let server = server.env("COUNTERSIGN_ADMIN_TOKEN", ADMIN);
    let server = server.config(TEMPLATE).start().await;
    let twice = Twice {
        server: &server,
        admin: server.with_key(ADMIN),
        asked: RefCell::default(),
    };
    codes(&twilio, &twice).await;
    factors(&twilio, &twice).await;
    messages(&twilio, &server, &twice).await;
    components(&server, &twice).await;
    searches(&twice).await;
    let asked = twice.asked.take().into_iter().chain(SEARCHES);
    let asked: BTreeSet<String> = asked.map(str::to_owned).collect();
    assert_eq!(asked, described(&server).await);
}
