//! Providers that somebody else writes, in each language: from a new project and its own build command to a receipt.

use std::path::Path;

use countersign_tests::companies::{EXAMPLE, Notice, example, json_of, shows};
use countersign_tests::{FakeCompany, Language, PUBLIC_URL, Project, Server, phone};
use serde_json::json;

use crate::companies::{check_attempt, check_receipt, is_right, send};
use crate::messages::{story_tried, story_until};

#[tokio::test]
async fn a_provider_in_rust_from_a_new_project_to_a_receipt() {
    from_a_new_project_to_a_receipt(Language::Rust).await;
}

#[tokio::test]
async fn a_provider_in_javascript_from_a_new_project_to_a_receipt() {
    from_a_new_project_to_a_receipt(Language::JavaScript).await;
}

#[tokio::test]
async fn a_provider_in_python_from_a_new_project_to_a_receipt() {
    from_a_new_project_to_a_receipt(Language::Python).await;
}

async fn from_a_new_project_to_a_receipt(language: Language) {
    let project = Project::new(language).await;
    let component = project.build().await;
    project.tests().await.expect_success();
    let passed = project.kit().await.expect_success();
    let passed = passed.stdout;
    assert!(passed.contains(" 0 failed, 0 skipped"), "{passed}");
    is_shown(&component).await;
    let company = FakeCompany::start(example).await;
    let config = format!(
        "[[provider]]\nname = 'my-sms'\ncomponent = '{}'\n\
         settings = {{ base-url = '{}', from = 'Example' }}\n\
         credentials = {{ api-key = {{ env = 'KEY' }}, webhook-secret = {{ env = 'SIGNS' }} }}\n",
        component.display(),
        company.base_url()
    );
    let (key, signs) = EXAMPLE;
    let server = Server::builder()
        .config(&config)
        .callbacks()
        .env("KEY", key)
        .env("SIGNS", signs)
        .start()
        .await;
    // Throttled once: what was certainly not taken is asked for again.
    let error = |code: &str| json!({"error": {"code": code, "message": "Not now"}});
    company.next([(429, error("busy"))]);
    let id = send(&server, 1).await;
    let request = company.request(2).await;
    let body = json_of(&request);
    assert_eq!(body["to"], phone(1));
    assert_eq!(body["from"], "Example");
    assert_eq!(body["reference"], id);
    assert_eq!(
        body["callback_url"],
        format!("{PUBLIC_URL}/webhooks/my-sms")
    );
    assert!(!shows(&request, key) && !shows(&request, signs));
    let story = story_until(&server, &id, "sent").await;
    check_attempt(&story, "throttled", "busy");
    assert_eq!(
        story["price"],
        json!({"amount": "0.0079", "currency": "EUR"})
    );
    assert_eq!(story["segments"], 1);
    is_right(&server, 1, body["text"].as_str().unwrap()).await;

    let delivered = Notice::example(r#"{"id":"m-2","status":"delivered"}"#);
    check_receipt(&server, "my-sms", &id, "m-2", delivered).await;
    let unreadable = Notice::example("<html>").post(&server, "my-sms").await;
    unreadable.expect_problem(400);

    company.next([(400, error("opted-out"))]);
    let blocked = send(&server, 2).await;
    check_attempt(
        &story_tried(&server, &blocked).await,
        "blocked",
        "opted-out",
    );
}

/// Whoever is to install it sees what it wants to be given.
async fn is_shown(component: &Path) {
    let args = ["component", "inspect", component.to_str().unwrap()];
    let inspected = Server::builder().console().run(&args).await;
    let shown = inspected.expect_success().stdout;
    for words in [
        "It is my-sms 0.1.0. It can be asked",
        "webhook-secret  optional  What signs",
        "  api.example.com\n",
        "a callback  50ms of running",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}
