//! Numbers that have answered STOP: remembered for the sender that was told, until START.

use std::sync::atomic::{AtomicU32, Ordering};

use countersign_tests::companies::{
    INFOBIP, Notice, TELNYX, VONAGE, WEBHOOK, infobip, telnyx, telnyx_public_key, vonage, webhook,
};
use countersign_tests::{
    Answer, Client, FakeCompany, FakeTwilio, PUBLIC_URL, Receipt, Server, phone,
};
use serde_json::json;

use crate::companies;
use crate::messages::story_over;
use crate::queue::wait_for_depth;

const STOPPED: &str = "This number has answered STOP and gets no messages until it answers START";
const ADMIN: &str = "token-of-the-admin-4e71";
const TEMPLATE: &str = "[[template]]\nname = 'parcel'\ntext = 'It is there'\n";

/// What `phone` writes to our number at Twilio, each time anew.
pub(crate) fn reply(phone: &str, text: &str) -> Receipt {
    static WRITTEN: AtomicU32 = AtomicU32::new(0);
    let sid = format!("SM{:032}", WRITTEN.fetch_add(1, Ordering::Relaxed));
    let url = format!("{PUBLIC_URL}/webhooks/twilio");
    let mut reply = Receipt::about(&url, &sid, "", "received");
    reply.fields.remove("MessageStatus");
    reply
        .with("From", phone)
        .with("To", "+15005550006")
        .with("Body", text)
}

async fn start(twilio: &FakeTwilio) -> Server {
    let server = Server::builder().twilio(twilio).callbacks();
    let server = server.env("COUNTERSIGN_ADMIN_TOKEN", ADMIN);
    server.config(TEMPLATE).start().await
}

pub(crate) async fn answers(server: &Server, phone: &str, text: &str) {
    let taken = reply(phone, text).post(server).await;
    assert_eq!(taken.status, 204, "{}", taken.text());
}

async fn order(client: &Client, to: &str) -> Answer {
    let body = json!({"to": to, "template": "parcel"});
    client.post("/api/messages", &body).await
}

#[track_caller]
fn expect_stopped(answer: Answer, field: Option<&str>) {
    let mut body = json!({ "error": STOPPED });
    if let Some(field) = field {
        body["field"] = field.into();
    }
    assert_eq!(answer.expect_status(400).json(), body);
}

#[tokio::test]
async fn a_number_that_answered_stop_gets_nothing_until_start() {
    let twilio = FakeTwilio::start().await;
    let mut server = start(&twilio).await;
    let (one, other) = (phone(1), phone(2));
    // Not one of the words, and not signed.
    answers(&server, &one, "Stop it").await;
    reply(&one, "STOP")
        .forged()
        .post(&server)
        .await
        .expect_problem(403);
    server.send(&one).await.expect_success();
    twilio.message_to(&one).await;

    answers(&server, &one, " stop.").await;
    answers(&server, &one, "STOP").await;
    expect_stopped(server.send(&one).await, Some("phoneNumber"));
    for restarted in [false, true] {
        if restarted {
            assert!(server.terminate().await.success());
            server.restart().await;
        }
        let refused = order(&server, &one).await.expect_problem(400).json();
        assert_eq!(
            (&refused["field"], &refused["detail"]),
            (&json!("to"), &json!(STOPPED))
        );
    }
    // It holds for a number, not for those who write to others.
    server.send(&other).await.expect_success();
    order(&server, &other).await.expect_status(202);
    twilio.wait_for_count(3).await;

    let body = json!({ "phoneNumber": one });
    let erased = server.post("/api/phones/erase", &body).await;
    erased.expect_status(200);
    order(&server, &one).await.expect_problem(400);

    answers(&server, &one, "START").await;
    server.send(&one).await.expect_success();
    order(&server, &one).await.expect_status(202);
    twilio.wait_for_count(5).await;
}

/// Else whoever may ask for codes could ask without end who has answered STOP.
#[tokio::test]
async fn a_refusal_counts_as_any_other_send() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    answers(&server, &phone(1), "STOP").await;
    for _ in 0..3 {
        expect_stopped(server.send(&phone(1)).await, Some("phoneNumber"));
    }
    let refused = server.send(&phone(1)).await.expect_status(400).json();
    assert_eq!(refused["error"], "Too many attempts. Please wait 1 minute.");
    assert_eq!(twilio.messages().len(), 0);
}

#[tokio::test]
async fn an_operator_takes_a_stop_back_and_that_is_in_the_trail() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    let admin = server.with_key(ADMIN);
    let (one, other) = (phone(1), phone(2));
    answers(&server, &one, "STOP").await;
    answers(&server, &other, "STOP").await;
    let listed = server.run(&["stops", "list", &one, "--json"]).await;
    let listed = listed.expect_success().json();
    assert_eq!(
        (&listed["stops"][0]["provider"], &listed["readable"]),
        (&json!("twilio"), &json!(true))
    );
    let clear = ["stops", "clear", &one, "--provider", "twilio"];
    let cleared = server.run(&clear).await.expect_success();
    assert_eq!(cleared.stdout, "1 taken back.\n");
    server.send(&one).await.expect_success();
    let listed = server.run(&["stops", "list", &one]).await;
    let listed = listed.expect_success().stdout;
    assert!(listed.contains("nobody"), "{listed}");

    let search = "/admin/stops/search";
    let number = json!({ "phoneNumber": other });
    let found = admin.post(search, &number).await.expect_status(200).json();
    assert_eq!(found["stops"][0]["provider"], "twilio");
    let misspelt = json!({ "phoneNumber": other, "providr": "twilio" });
    for path in [search, "/admin/stops/clear"] {
        admin.post(path, &misspelt).await.expect_problem(400);
        server.post(path, &number).await.expect_problem(401);
    }
    let cleared = admin.post("/admin/stops/clear", &number).await;
    assert_eq!(cleared.expect_status(200).json(), json!({ "cleared": 1 }));
    server.send(&other).await.expect_success();
    let again = admin.post("/admin/stops/clear", &number).await;
    assert_eq!(again.expect_status(200).json(), json!({ "cleared": 0 }));

    let trail = admin.get("/admin/audit").await.expect_status(200).json();
    let kinds = trail["entries"].as_array().unwrap().iter();
    let kinds: Vec<_> = kinds.map(|entry| entry["kind"].as_str().unwrap()).collect();
    let (cleared, listed) = ("stops.cleared", "stops.listed");
    assert_eq!(kinds, [cleared, cleared, listed, listed, cleared, listed]);
}

/// Whoever has seen a signed word can post it again.
#[tokio::test]
async fn a_word_that_is_posted_again_takes_nothing_back() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    let stop = reply(&phone(1), "STOP");
    assert_eq!(stop.post(&server).await.status, 204);
    answers(&server, &phone(1), "START").await;
    assert_eq!(stop.post(&server).await.status, 204);
    server.send(&phone(1)).await.expect_success();
}

#[tokio::test]
async fn a_second_factor_says_so_and_a_backup_code_still_logs_in() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    let stopped = server.user("stopped");
    answers(&server, &phone(1), "STOP").await;
    expect_stopped(stopped.enable(&phone(1)).await, None);

    let user = server.user("enrolled");
    let enrolled = user.enrol(&twilio, &phone(2)).await;
    answers(&server, &phone(2), "STOP").await;
    expect_stopped(user.login_send().await, None);
    // The notice of it is not sent either, and undoes nothing.
    user.login(&enrolled.backup_codes[0]).await.expect_success();
    wait_for_depth(&server.with_key(ADMIN), 0).await;
    // The code of the enrolment is all that there was.
    assert_eq!(twilio.messages().len(), 1);
}

/// A code goes by another sender, since it was asked for; nothing else does.
#[tokio::test]
async fn stop_is_for_one_sender() {
    let (first, second, server) = crate::routes::start_with_callbacks(TEMPLATE).await;
    let told = Notice::telnyx_reply(&phone(1), "STOP");
    assert_eq!(told.post(&server, "first").await.status, 204);
    let sent = server.send(&phone(1)).await.expect_success().json();
    let story = story_over(&server, sent["messageId"].as_str().unwrap()).await;
    assert_eq!(
        (&story["status"], &story["provider"]),
        (&json!("sent"), &json!("second"))
    );
    let tried = &story["attempts"][0];
    assert_eq!(
        (&tried["provider"], &tried["class"]),
        (&json!("first"), &json!("retryable"))
    );
    assert!(
        tried["reason"].as_str().unwrap().contains("STOP"),
        "{story}"
    );
    order(&server, &phone(1)).await.expect_problem(400);
    assert_eq!((first.count(), second.count()), (0, 1));
    let told = Notice::telnyx_reply(&phone(1), "STOP");
    assert_eq!(told.post(&server, "second").await.status, 204);
    expect_stopped(server.send(&phone(1)).await, Some("phoneNumber"));
    let told = Notice::telnyx_reply(&phone(1), "START");
    assert_eq!(told.post(&server, "first").await.status, 204);
    server.send(&phone(1)).await.expect_success();
    order(&server, &phone(1)).await.expect_problem(400);
    let told = Notice::telnyx_reply(&phone(1), "START");
    assert_eq!(told.post(&server, "second").await.status, 204);
    order(&server, &phone(1)).await.expect_status(202);
}

/// A reply as a company tells it, of a number and a text.
type Said = fn(&str, &str) -> Notice;

/// A company, its name, and the settings and credentials of its entry.
type Entry<'a> = (FakeCompany, &'a str, &'a str, Vec<(&'a str, &'a str)>, Said);

#[tokio::test]
async fn every_company_tells_of_stop_in_its_own_way() {
    let public_key = telnyx_public_key();
    let vonage_settings = format!(", api-key = '{}', from = '15005550006'", VONAGE.0);
    let from = ", from = '15005550006'";
    let all: [Entry<'_>; 4] = [
        (
            FakeCompany::start(vonage).await,
            "vonage",
            vonage_settings.as_str(),
            vec![("api-secret", VONAGE.1), ("signature-secret", VONAGE.2)],
            Notice::vonage_reply,
        ),
        (
            FakeCompany::start(telnyx).await,
            "telnyx",
            from,
            vec![("api-key", TELNYX), ("public-key", public_key.as_str())],
            Notice::telnyx_reply,
        ),
        (
            FakeCompany::start(infobip).await,
            "infobip",
            from,
            vec![("api-key", INFOBIP.0), ("callback-login", INFOBIP.1)],
            Notice::infobip_reply,
        ),
        (
            FakeCompany::start(webhook).await,
            "webhook",
            from,
            vec![("signing-key", WEBHOOK.0)],
            Notice::webhook_reply,
        ),
    ];
    for (company, name, settings, credentials, said) in all {
        let server = companies::start(&company, name, settings, &credentials).await;
        let unsigned = said(&phone(1), "STOP").unsigned().post(&server, name).await;
        unsigned.expect_problem(403);
        server.send(&phone(1)).await.expect_success();
        for (texts, stopped) in [(&["STOP", "hello"][..], true), (&["START"], false)] {
            for text in texts {
                let told = said(&phone(1), text).post(&server, name).await;
                assert_eq!(told.status, 204, "{name}: {}", told.text());
            }
            let answer = server.send(&phone(1)).await;
            match stopped {
                true => expect_stopped(answer, Some("phoneNumber")),
                false => drop(answer.expect_success()),
            }
        }
    }
}

/// An entry that is believed without a signature is not believed in this.
#[tokio::test]
async fn nobody_can_stop_others_where_receipts_need_no_signature() {
    let company = FakeCompany::start(infobip).await;
    let config = format!(
        "[[provider]]\nname = 'infobip'\ncomponent = 'provider-infobip'\nunsigned = true\n\
         settings = {{ base-url = '{}', from = 'HarbourBank' }}\n\
         credentials = {{ api-key = {{ env = 'KEY' }} }}\n",
        company.base_url()
    );
    let server = Server::builder()
        .config(&config)
        .callbacks()
        .env("KEY", INFOBIP.0);
    let server = server.start().await;
    let told = Notice::infobip_reply(&phone(1), "STOP").unsigned();
    assert_eq!(told.post(&server, "infobip").await.status, 204);
    server.send(&phone(1)).await.expect_success();
    company.request(1).await;
}
