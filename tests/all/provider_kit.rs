//! For whoever writes a provider: the conformance kit.

use std::fs;
use std::path::Path;

use countersign_hostile::{FAULTY_PROVIDER, FAULTY_PROVIDER_CONFORMANCE};
use countersign_tests::{FakeCompany, Finished, Server};
use serde_json::{Value, json};

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
            &[
                "malformed answer: cut off",
                "malformed answer: HTML",
                "malformed answer: other JSON",
                "status: malformed answer",
            ],
        ),
        (
            "all errors are permanent",
            &[
                "refusal: unsubscribed",
                "HTTP 401",
                "HTTP 429",
                "HTTP 500",
                "HTTP 503",
                "connection refused",
                "hang-up before the answer",
                "hang-up in the answer",
                "no answer in time",
                "huge answer",
                "malformed answer: cut off",
                "malformed answer: HTML",
                "malformed answer: other JSON",
            ],
        ),
        ("refused connections may be sent", &["connection refused"]),
        (
            "3xx and 4xx are success",
            &[
                "refusal: no such number",
                "refusal: unsubscribed",
                "HTTP 401",
                "HTTP 429",
                "redirect to a private address",
                "redirect to another path",
                "refusal that repeats the request",
            ],
        ),
        ("tells no status", &["status"]),
        (
            "believes any status answer",
            &[
                "status: HTTP 404",
                "status: HTTP 500",
                "status: malformed answer",
                "status: hang-up",
            ],
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
async fn what_the_description_has_wrong_fails_a_case_of_its_own() {
    let right = FAULTY_PROVIDER_CONFORMANCE;
    for (wrong, cases) in [
        // What the manifest requires is not there; without it nothing else can be tried.
        (right.replace("base-url =", "fault ="), ["configuration"]),
        (format!("{right}[skip]\n'HTTP 402' = 'prepaid'\n"), ["skip"]),
    ] {
        let folder = faulty(&wrong);
        assert_eq!(failed_cases(folder.path(), "none").await, cases);
    }
}

#[tokio::test]
async fn nobody_but_the_kit_is_called_whatever_the_settings_say() {
    let right = FAULTY_PROVIDER_CONFORMANCE;
    let folder = faulty(right);
    let elsewhere = FakeCompany::start(|_, _| (200, json!({"id": "m-1"}))).await;
    let others = [
        elsewhere.base_url(),
        "http://169.254.169.254".to_owned(),
        "https://api.example.com/{server}".to_owned(),
        "{server}@169.254.169.254".to_owned(),
        "{server}1".to_owned(),
    ];
    let file = folder.path().join("faulty.wasm");
    let file = file.to_str().unwrap();
    let words = ["`base-url` leads elsewhere", "`{server}`"];
    for other in others {
        let set = format!("base-url={other}");
        let args = ["provider", "test", file, "--set", &set];
        run(&args).await.expect_refusal(&words);
        // In a description that has `{server}` in another setting.
        let described = right.replace("{server}", &other);
        let described = described.replace("[credentials]", "fault = '{server}'\n[credentials]");
        fs::write(folder.path().join("conformance.toml"), described).unwrap();
        let args = ["provider", "test", file];
        run(&args).await.expect_refusal(&words);
        fs::write(folder.path().join("conformance.toml"), right).unwrap();
    }
    assert_eq!(elsewhere.count(), 0);
    let below = ["provider", "test", file, "--set", "base-url={server}/v1"];
    run(&below).await.expect_success();
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
    let (file, set) = (folder.path().join("faulty.wasm"), "fault=none");
    let args = ["provider", "test", file.to_str().unwrap(), "--set", set];
    let refused = run(&args).await.expect_refusal(&["1 cases failed"]);
    for words in [
        "FAILED   callback: delivered",
        "came:     it wants a signature of a company that has none\n",
    ] {
        assert!(refused.stdout.contains(words), "{}", refused.stdout);
    }
}

#[tokio::test]
async fn a_failure_is_told_to_people_with_what_to_do() {
    let skip = "[skip]\n'long id' = 'its ids are short'\n";
    let folder = faulty(&format!("{FAULTY_PROVIDER_CONFORMANCE}{skip}"));
    let file = folder.path().join("faulty.wasm");
    let file = file.to_str().unwrap();
    let finished = run(&["provider", "test", file, "--set", "fault=believes all"]).await;
    let finished = finished.expect_refusal(&["3 cases failed", "docs/providers.md"]);
    for words in [
        "FAILED   callback: delivered",
        "came:     no signature was checked: either it told without one, or it returned `unsigned` before asking\n",
        "to do:    call a function of `signatures`",
        "ok       success",
        "skipped  long id ",
        "  its ids are short\n",
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
