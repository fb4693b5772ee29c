//! The built-in providers beside Twilio: from the configuration through a request as the company wants it
//! to the receipt as the company signs it.

use countersign_tests::companies::{
    INFOBIP, Notice, TELNYX, VONAGE, WEBHOOK, code_in, infobip, json_of, shows, telnyx,
    telnyx_public_key, vonage, webhook,
};
use countersign_tests::{FakeCompany, PUBLIC_URL, Server, phone};
use serde_json::{Value, json};

use crate::messages::{story_tried, story_until};

/// A server whose only provider is `name`, which reports.
pub(crate) async fn start(
    company: &FakeCompany,
    name: &str,
    settings: &str,
    credentials: &[(&str, &str)],
) -> Server {
    let given: Vec<_> = credentials
        .iter()
        .enumerate()
        .map(|(n, (name, _))| format!("{name} = {{ env = 'SECRET_{n}' }}"))
        .collect();
    let config = format!(
        "[[provider]]\nname = '{name}'\ncomponent = 'provider-{name}'\n\
         settings = {{ base-url = '{}'{settings} }}\ncredentials = {{ {} }}\n",
        company.base_url(),
        given.join(", ")
    );
    let mut server = Server::builder().config(&config).callbacks();
    for (n, (_, secret)) in credentials.iter().enumerate() {
        server = server.env(&format!("SECRET_{n}"), secret);
    }
    server.start().await
}

/// Sends a code, and returns the id of its message.
pub(crate) async fn send(server: &Server, n: usize) -> String {
    let sent = server.send(&phone(n)).await.expect_success().json();
    sent["messageId"].as_str().unwrap().to_owned()
}

pub(crate) async fn is_right(server: &Server, n: usize, text: &str) {
    server
        .verify(&phone(n), &code_in(text))
        .await
        .expect_success();
}

/// A receipt that was changed or is not signed is 403; the right one counts.
pub(crate) async fn check_receipt(
    server: &Server,
    name: &str,
    id: &str,
    theirs: &str,
    notice: Notice,
) {
    let changed = notice.clone().about(theirs, "another");
    for wrong in [changed, notice.clone().unsigned()] {
        wrong.post(server, name).await.expect_problem(403);
    }
    assert_eq!(story_until(server, id, "sent").await["receipts"], json!([]));
    assert_eq!(notice.post(server, name).await.status, 204);
    let story = story_until(server, id, "delivered").await;
    assert_eq!(story["receipts"].as_array().map(Vec::len), Some(1));
}

/// The first try failed, and the story says why.
pub(crate) fn check_attempt(story: &Value, class: &str, code: &str) {
    let attempt = &story["attempts"][0];
    assert_eq!(attempt["class"], class, "{story}");
    assert_eq!(attempt["providerCode"], code, "{story}");
}

#[tokio::test]
async fn vonage_from_the_send_to_the_receipt() {
    let company = FakeCompany::start(vonage).await;
    let (key, secret, signs) = VONAGE;
    let settings = format!(", api-key = '{key}', from = 'AcmeInc'");
    let credentials = [("api-secret", secret), ("signature-secret", signs)];
    let server = start(&company, "vonage", &settings, &credentials).await;
    // Throttled once: what was certainly not taken is asked for again.
    let throttled =
        json!({"messages": [{"status": "1", "error-text": "Throughput Rate Exceeded"}]});
    company.next([(200, throttled)]);
    let id = send(&server, 1).await;
    let request = company.request(2).await;
    assert_eq!(request.field("client-ref"), Some(id.as_str()));
    let callback = format!("{PUBLIC_URL}/webhooks/vonage");
    assert_eq!(request.field("callback"), Some(callback.as_str()));
    let ttl: u64 = request.field("ttl").unwrap().parse().unwrap();
    assert!((540_000..=600_000).contains(&ttl), "{ttl}");
    assert!(!shows(&request, secret) && !shows(&request, signs));
    let story = story_until(&server, &id, "sent").await;
    check_attempt(&story, "throttled", "1");
    assert_eq!(
        story["price"],
        json!({"amount": "0.0333", "currency": "EUR"})
    );
    let notice = Notice::vonage("0A0002", "delivered");
    check_receipt(&server, "vonage", &id, "0A0002", notice).await;
    is_right(&server, 1, request.field("text").unwrap()).await;
}

#[tokio::test]
async fn telnyx_from_the_send_to_the_receipt() {
    let company = FakeCompany::start(telnyx).await;
    let public_key = telnyx_public_key();
    let credentials = [("api-key", TELNYX), ("public-key", public_key.as_str())];
    let settings = ", from = '+15005550006'";
    let server = start(&company, "telnyx", settings, &credentials).await;
    let id = send(&server, 1).await;
    let request = company.request(1).await;
    let body = json_of(&request);
    assert_eq!(body["to"], phone(1));
    assert_eq!(body["webhook_url"], format!("{PUBLIC_URL}/webhooks/telnyx"));
    assert!(!shows(&request, TELNYX));
    let story = story_until(&server, &id, "sent").await;
    assert_eq!(
        story["price"],
        json!({"amount": "0.0051", "currency": "USD"})
    );
    let notice = Notice::telnyx("telnyx-1", "delivered");
    check_receipt(&server, "telnyx", &id, "telnyx-1", notice).await;
    is_right(&server, 1, body["text"].as_str().unwrap()).await;
}

#[tokio::test]
async fn infobip_reports_several_messages_at_once_with_their_prices() {
    let company = FakeCompany::start(infobip).await;
    let (key, login) = INFOBIP;
    let credentials = [("api-key", key), ("callback-login", login)];
    let settings = ", from = 'HarbourBank'";
    let server = start(&company, "infobip", settings, &credentials).await;
    let (first, second) = (send(&server, 1).await, send(&server, 2).await);
    let request = company.request(1).await;
    let message = &json_of(&request)["messages"][0];
    let url = format!("{PUBLIC_URL}/webhooks/infobip");
    assert_eq!(message["webhooks"]["delivery"]["url"], url);
    assert!(!shows(&request, key));
    for id in [&first, &second] {
        assert_eq!(story_until(&server, id, "sent").await["price"], Value::Null);
    }
    let notice = Notice::infobip(&[&first, &second], "DELIVERED_TO_HANDSET");
    notice
        .clone()
        .unsigned()
        .post(&server, "infobip")
        .await
        .expect_problem(403);
    // That the operator has it is no news of a message that was sent.
    let halfway = Notice::infobip(&[&first], "DELIVERED_TO_OPERATOR");
    assert_eq!(halfway.post(&server, "infobip").await.status, 204);
    assert_eq!(notice.post(&server, "infobip").await.status, 204);
    for id in [&first, &second] {
        let story = story_until(&server, id, "delivered").await;
        assert_eq!(
            story["price"],
            json!({"amount": "0.0079", "currency": "EUR"})
        );
    }
    let to = message["destinations"][0]["to"].as_str().unwrap();
    let n = if phone(1).ends_with(to) { 1 } else { 2 };
    is_right(&server, n, message["content"]["text"].as_str().unwrap()).await;
}

#[tokio::test]
async fn a_webhook_of_ones_own_is_signed_in_both_directions() {
    let company = FakeCompany::start(webhook).await;
    let settings = ", from = 'HarbourBank', idempotent = true";
    let server = start(&company, "webhook", settings, &[("signing-key", WEBHOOK.0)]).await;
    // Its receiver takes each id once, so what may have been lost is posted again under the same one.
    company.next([(500, json!({}))]);
    let id = send(&server, 1).await;
    let (lost, request) = (company.request(1).await, company.request(2).await);
    for request in [&lost, &request] {
        assert_eq!(request.header("webhook-id"), Some(id.as_str()));
    }
    let body = json_of(&request);
    assert_eq!(body["type"], "sms.send");
    assert_eq!(body["to"], phone(1));
    assert_eq!(body["country"], "US");
    assert_eq!(body["from"], "HarbourBank");
    assert!(!shows(&request, WEBHOOK.0));
    let story = story_until(&server, &id, "sent").await;
    assert_eq!(story["segments"], 1);
    let notice = Notice::webhook(&id, "delivered");
    check_receipt(&server, "webhook", &id, &id, notice).await;
    let story = story_until(&server, &id, "delivered").await;
    assert_eq!(
        story["price"],
        json!({"amount": "0.0075", "currency": "EUR"})
    );
    is_right(&server, 1, body["text"].as_str().unwrap()).await;
}

#[tokio::test]
async fn a_refused_key_is_told_without_it() {
    let company = FakeCompany::start(telnyx).await;
    let wrong = "KEY0190-another-7731";
    let server = start(&company, "telnyx", ", from = 'Acme'", &[("api-key", wrong)]).await;
    let said = json!({"errors": [{"code": "10009", "title": format!("no key {wrong} here")}]});
    company.next([(401, said)]);
    let id = send(&server, 1).await;
    let story = story_tried(&server, &id).await;
    check_attempt(&story, "auth", "10009");
    assert!(!story.to_string().contains(wrong), "{story}");
    for (name, printed) in server.outputs() {
        let printed = String::from_utf8_lossy(&printed).into_owned();
        assert!(!printed.contains(wrong), "{name}: {printed}");
    }
}
