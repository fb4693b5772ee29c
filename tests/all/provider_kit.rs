//! For whoever writes a provider: new projects, the conformance kit, and what `inspect` shows.

use std::fs;
use std::path::Path;

use countersign_hostile::{FAULTY_PROVIDER, FAULTY_PROVIDER_CONFORMANCE};
use countersign_tests::companies::{code_in, json_of};
use countersign_tests::{FakeCompany, Finished, Server, cargo, phone};
use serde_json::{Value, json};

use crate::messages::story_until;

async fn run(args: &[&str]) -> Finished {
    Server::builder().console().run(args).await
}

/// What came of each case.
fn outcomes(report: &Value) -> Vec<(&str, &str)> {
    let cases = report["cases"].as_array().unwrap().iter();
    cases
        .map(|case| {
            let text = |field: &str| case[field].as_str().unwrap();
            (text("name"), text("outcome"))
        })
        .collect()
}

#[tokio::test]
async fn every_provider_that_is_built_in_passes_the_kit() {
    for name in ["twilio", "vonage", "telnyx", "infobip", "webhook"] {
        let finished = run(&["provider", "test", "--builtin", name, "--json"]).await;
        let report = finished.expect_success().json();
        let outcomes = outcomes(&report);
        for case in [
            "success",
            "unusual text",
            "longest text",
            "HTTP 429",
            "connection refused",
            "hang-up before the answer",
            "hang-up in the answer",
            "no answer in time",
            "redirect to a private address",
            "huge answer",
            "malformed answer: cut off",
            "long id",
            "callback: delivered",
            "callback: STOP",
            "forged callback: delivered",
            "unsigned callback: delivered",
            "stray callback: deep JSON",
            "log",
        ] {
            // Where the company's own 429 is described, that one was tried.
            let described = case == "HTTP 429" && !outcomes.iter().any(|(name, _)| *name == case);
            assert!(
                described || outcomes.contains(&(case, "ok")),
                "{name}, {case}: {report}"
            );
        }
        assert!(
            !outcomes.iter().any(|(_, outcome)| *outcome == "failed"),
            "{report}"
        );
        for class in ["refusal: permanent", "refusal: blocked"] {
            assert!(!outcomes.contains(&(class, "skipped")), "{name}: {report}");
        }
        let used = &report["used"];
        assert!(
            used["memoryBytes"]
                .as_u64()
                .is_some_and(|bytes| bytes > 64 * 1024),
            "{report}"
        );
    }
}

/// A folder with the faulty provider and the description of its company.
fn faulty(conformance: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("faulty.wasm"), FAULTY_PROVIDER).unwrap();
    fs::write(folder.path().join("conformance.toml"), conformance).unwrap();
    folder
}

async fn failed_cases(folder: &Path, fault: &str) -> Vec<String> {
    let file = folder.join("faulty.wasm");
    let set = format!("fault={fault}");
    let args = [
        "provider",
        "test",
        file.to_str().unwrap(),
        "--set",
        &set,
        "--json",
    ];
    let finished = run(&args).await;
    let report = finished.json();
    let failed: Vec<String> = outcomes(&report)
        .into_iter()
        .filter(|(_, outcome)| *outcome == "failed")
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(finished.status.success(), failed.is_empty(), "{finished:?}");
    failed
}

#[tokio::test]
async fn each_mistake_fails_the_cases_that_are_about_it() {
    let folder = faulty(FAULTY_PROVIDER_CONFORMANCE);
    for (fault, cases) in [
        ("none", &[][..]),
        (
            "believes all",
            &[
                "callback: delivered",
                "forged callback: delivered",
                "changed callback: delivered",
            ],
        ),
        ("any time", &["old callback: delivered"]),
        (
            "slow callbacks",
            &[
                "callback: delivered",
                "forged callback: delivered",
                "changed callback: delivered",
                "unsigned callback: delivered",
                "old callback: delivered",
                "stray callback: nothing",
                "stray callback: GET",
                "stray callback: no text",
                "stray callback: deep JSON",
                "stray callback: long form",
            ],
        ),
        ("5xx is not sent", &["HTTP 500", "HTTP 503"]),
        (
            "repeats",
            &[
                "HTTP 500",
                "HTTP 503",
                "hang-up before the answer",
                "hang-up in the answer",
                "no answer in time",
                "huge answer",
            ],
        ),
        ("no wait", &["HTTP 429"]),
        ("follows", &["redirect to another path"]),
        (
            "trusts answers",
            &["malformed answer: cut off", "malformed answer: HTML"],
        ),
        ("any id", &["long id", "empty id"]),
        ("cuts texts", &["longest text"]),
        ("plain texts", &["unusual text", "longest text"]),
        ("unnamed setting", &["settings"]),
        ("logs messages", &["log"]),
    ] {
        assert_eq!(failed_cases(folder.path(), fault).await, cases, "{fault}");
    }
}

#[tokio::test]
async fn a_code_without_its_text_is_right_for_companies_that_keep_the_texts() {
    let folder = faulty(FAULTY_PROVIDER_CONFORMANCE);
    let texts = [
        "success",
        "no callback address",
        "unusual text",
        "longest text",
    ];
    assert_eq!(failed_cases(folder.path(), "code alone").await, texts);
    let keeps = FAULTY_PROVIDER_CONFORMANCE.replace("[success]", "[success]\ncarries = 'code'");
    let folder = faulty(&keeps);
    assert!(failed_cases(folder.path(), "code alone").await.is_empty());
}

#[tokio::test]
async fn a_signature_that_covers_the_time_alone_fails_the_kit() {
    let weak = FAULTY_PROVIDER_CONFORMANCE.replace("{seconds}.{body}", "{seconds}.");
    let folder = faulty(&weak);
    let failed = failed_cases(folder.path(), "signs the time alone").await;
    assert_eq!(failed, ["changed callback: delivered"]);
}

#[tokio::test]
async fn a_company_that_signs_nothing_is_believed_where_the_description_says_so() {
    let (before, _) = FAULTY_PROVIDER_CONFORMANCE
        .split_once("[signature]")
        .unwrap();
    let (_, callback) = FAULTY_PROVIDER_CONFORMANCE
        .split_once("[[callback]]")
        .unwrap();
    let folder = faulty(&format!(
        "{before}[signature]\nkind = 'none'\n[[callback]]{callback}"
    ));
    assert!(failed_cases(folder.path(), "believes all").await.is_empty());
    // One that wants a signature all the same tells nothing.
    let failed = failed_cases(folder.path(), "none").await;
    assert_eq!(failed, ["callback: delivered"]);
}

#[tokio::test]
async fn a_failure_is_told_to_people_with_what_to_do() {
    let folder = faulty(FAULTY_PROVIDER_CONFORMANCE);
    let file = folder.path().join("faulty.wasm");
    let file = file.to_str().unwrap();
    let finished = run(&["provider", "test", file, "--set", "fault=believes all"]).await;
    let finished = finished.expect_refusal(&["3 cases failed", "docs/providers.md"]);
    for words in [
        "FAILED   callback: delivered",
        "without having the signature checked",
        "to do:    call a function of `signatures`",
        "ok       success",
        "skipped  status",
    ] {
        assert!(
            finished.stdout.contains(words),
            "{words}: {}",
            finished.stdout
        );
    }
    // The log of the host says what has failed, and nothing of the message.
    assert!(
        !finished.stderr.contains("12025550123"),
        "{}",
        finished.stderr
    );
}

#[tokio::test]
async fn what_cannot_be_tested_is_said_with_what_to_do() {
    let folder = faulty("settings = { base-url = 'x' }\nsuccess = { ids = ['a'] }\n");
    let file = folder.path().join("faulty.wasm");
    let file = file.to_str().unwrap();
    for (args, words) in [
        (&[file][..], "no setting has `{server}` in it"),
        (
            &[file, "--conformance", "nowhere.toml"],
            "countersign provider new",
        ),
        (&["nowhere.wasm"], "nowhere.wasm"),
        (&["--builtin", "console"], "there are infobip, telnyx"),
    ] {
        let args = [&["provider", "test"], args].concat();
        run(&args).await.expect_refusal(&[words]);
    }
    // What is no provider fails its first case, and there are no others.
    fs::write(folder.path().join("faulty.wasm"), b"\0asm").unwrap();
    fs::write(
        folder.path().join("conformance.toml"),
        FAULTY_PROVIDER_CONFORMANCE,
    )
    .unwrap();
    let finished = run(&["provider", "test", file, "--json"]).await;
    assert!(!finished.status.success(), "{finished:?}");
    assert_eq!(outcomes(&finished.json()), [("manifest", "failed")]);
}

/// The API of the Rust template's made-up company.
fn example(request: &countersign_tests::Request, n: usize) -> (u16, Value) {
    let authorized = request.header("authorization") == Some("Bearer key-of-the-test");
    if !authorized || request.path != "/v1/messages" {
        return (401, json!({"error": {"code": "no-key", "message": "no"}}));
    }
    (201, json!({"id": format!("m-{n}"), "parts": 1}))
}

#[tokio::test]
async fn a_new_project_in_rust_builds_passes_the_kit_and_sends() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("project");
    let into = folder.to_str().unwrap();
    let new = [
        "provider", "new", "acme-sms", "--lang", "rust", "--into", into,
    ];
    let written = run(&new).await.expect_success();
    assert!(
        written
            .stdout
            .contains("cargo build --release --target wasm32-wasip2")
    );
    run(&new).await.expect_refusal(&["is not empty"]);
    // The very versions that this repository is built with, so that nothing is fetched.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    fs::copy(lock, folder.join("Cargo.lock")).unwrap();
    let tested = cargo(&folder, &["test", "--release"])
        .await
        .expect_success();
    assert!(tested.stdout.contains("7 passed"), "{tested:?}");
    let build = ["build", "--release", "--target", "wasm32-wasip2"];
    cargo(&folder, &build).await.expect_success();

    let file = folder.join("target/wasm32-wasip2/release/acme_sms.wasm");
    let file = file.to_str().unwrap();
    let conformance = folder.join("conformance.toml");
    let conformance = conformance.to_str().unwrap();
    let args = ["provider", "test", file, "--conformance", conformance];
    let tested = run(&args).await.expect_success();
    assert!(
        tested.stdout.contains(" 0 failed, 0 skipped"),
        "{}",
        tested.stdout
    );

    let inspected = run(&["component", "inspect", file]).await.expect_success();
    for words in [
        "It is acme-sms 0.1.0. It can be asked",
        "webhook-secret  optional  What signs",
        "  api.example.com\n",
        "a callback  50ms of running",
    ] {
        assert!(
            inspected.stdout.contains(words),
            "{words}: {}",
            inspected.stdout
        );
    }

    let company = FakeCompany::start(example).await;
    let config = format!(
        "[[provider]]\nname = 'acme'\ncomponent = '{file}'\n\
         settings = {{ base-url = '{}', from = 'Example' }}\n\
         credentials = {{ api-key = {{ env = 'ACME' }} }}\n",
        company.base_url()
    );
    let server = Server::builder()
        .config(&config)
        .env("ACME", "key-of-the-test");
    let server = server.start().await;
    let sent = server.send(&phone(1)).await.expect_success().json();
    let request = company.request(1).await;
    let body = json_of(&request);
    assert_eq!(body["to"], phone(1));
    assert_eq!(body["from"], "Example");
    assert_eq!(body["reference"], sent["messageId"]);
    let id = sent["messageId"].as_str().unwrap();
    story_until(&server, id, "sent").await;
    let code = code_in(body["text"].as_str().unwrap());
    server.verify(&phone(1), &code).await.expect_success();
}
