//! Versions of components: installed, swapped under load, refused, taken back, watched for.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use countersign_hostile::{OTP_FAILING, OTP_NEXT, OTP_NEXT_ALONE, PROBE, variant};
use countersign_tests::{
    Answer, Client, FakeTwilio, Server, TOO_MANY_TRIES, WRONG_CODE, join_all, nearly, phone,
};
use hyper::Method;
use serde_json::{Value, json};

use crate::rounds::number_from_environment;

const COMPONENTS: [&str; 4] = ["otp", "two-factor", "analytics", "provider-twilio"];

pub(crate) async fn start(twilio: &FakeTwilio) -> (Server, Client) {
    let server = Server::builder()
        .twilio(twilio)
        .env("COUNTERSIGN_ADMIN_TOKEN", "t")
        .start()
        .await;
    let admin = server.with_key("t");
    (server, admin)
}

/// The live version of a component, by the command.
pub(crate) async fn export(server: &Server, name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("exported.wasm");
    let args = ["component", "export", name, file.to_str().unwrap()];
    server.run(&args).await.expect_success();
    fs::read(file).unwrap()
}

pub(crate) async fn put(admin: &Client, path: &str, bytes: Vec<u8>) -> Answer {
    let path = format!("/admin/components/{path}");
    let headers = [("content-type", "application/wasm")];
    admin
        .request(Method::PUT, &path, &headers, bytes)
        .await
        .unwrap()
}

pub(crate) async fn component(admin: &Client, name: &str) -> Value {
    let path = format!("/admin/components/{name}");
    admin.get(&path).await.expect_status(200).json()
}

#[tokio::test]
async fn a_version_is_live_when_its_put_is_answered_and_after_a_restart() {
    let twilio = FakeTwilio::start().await;
    let (mut server, admin) = start(&twilio).await;
    let listed = admin
        .get("/admin/components")
        .await
        .expect_status(200)
        .json();
    let names = listed["components"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|one| one["name"].as_str().unwrap()).collect();
    for name in COMPONENTS {
        assert!(names.contains(&name), "{names:?}");
    }
    let built_in = component(&admin, "otp").await;
    assert_eq!(built_in["versions"][0]["by"], "built-in");
    let mine = variant(&export(&server, "otp").await, "mine");

    let done = put(&admin, "otp", mine.clone())
        .await
        .expect_status(200)
        .json();
    assert_eq!(done["sha256"], done["installedSha256"]);
    assert_eq!(done["versions"][0]["by"], "administrator");
    assert_eq!(done["versions"][0]["bytes"], mine.len());
    let steps = done["steps"].as_array().unwrap();
    assert!(steps.iter().all(|step| step["ms"].is_number()), "{steps:?}");
    assert_eq!(steps.last().unwrap()["name"], "swap");
    server.send(&phone(1)).await.expect_success();
    assert_eq!(export(&server, "otp").await, mine);

    server.kill().await;
    server.restart().await;
    let admin = server.with_key("t");
    assert_eq!(component(&admin, "otp").await["sha256"], done["sha256"]);
    let code = twilio.message_to(&phone(1)).await.code();
    server.verify(&phone(1), &code).await.expect_success();
    let found = server.run(&["doctor", "--json"]).await.json();
    let findings = found["findings"].as_array().unwrap();
    let told = findings
        .iter()
        .find(|one| one["code"] == "component-installed");
    assert!(told.unwrap()["text"].as_str().unwrap().contains("`otp`"));

    let back = server
        .run(&["component", "rollback", "otp", "--json"])
        .await;
    let back = back.expect_success().json();
    assert_eq!(back["sha256"], built_in["sha256"]);
    assert_eq!(back["installed"], false);
    server.send(&phone(2)).await.expect_success();
}

/// Every component is swapped again and again while users are sent codes and type them, several at
/// once.
#[tokio::test]
async fn r50_while_components_are_swapped_no_request_fails_and_no_code_or_try_is_lost_or_counts_twice()
 {
    let swaps_wanted = number_from_environment("COUNTERSIGN_TEST_SWAPS", 5);
    let twilio = FakeTwilio::start().await;
    let (server, admin) = start(&twilio).await;
    let mut versions = Vec::new();
    for name in COMPONENTS {
        versions.push((name, export(&server, name).await));
    }
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let swaps = async {
        for number in 0..swaps_wanted {
            for (name, bytes) in &versions {
                let version = variant(bytes, &number.to_string());
                put(&admin, name, version).await.expect_status(200);
            }
        }
        over.store(true, Ordering::SeqCst);
    };
    let users = (0..8).map(|user| {
        let (server, twilio) = (&server, &twilio);
        let (over, done) = (&over, &done);
        async move {
            let mut turn = 0;
            while !over.load(Ordering::SeqCst) || turn < 3 {
                let phone = phone(user * 10_000 + turn);
                server.send(&phone).await.expect_success();
                let code = twilio.message_to(&phone).await.code();
                if turn % 3 == 2 {
                    guess(server, &phone, &code).await;
                    turn += 1;
                    continue;
                }
                let answers = join_all((0..3).map(|_| server.verify(&phone, &code))).await;
                let accepted = answers.iter().filter(|answer| answer.status == 200);
                assert_eq!(accepted.count(), 1, "{answers:?}");
                let refusal = json!({ "valid": false, "reason": WRONG_CODE });
                for answer in answers.iter().filter(|answer| answer.status != 200) {
                    answer.clone().expect_body(400, &refusal);
                }
                turn += 1;
            }
            done.fetch_add(turn, Ordering::SeqCst);
        }
    });
    tokio::join!(swaps, join_all(users));
    assert!(done.load(Ordering::SeqCst) >= 24);
    for name in COMPONENTS {
        let versions = component(&admin, name).await["versions"].clone();
        let by = versions.as_array().unwrap().iter();
        assert!(by.clone().any(|version| version["by"] == "administrator"));
        assert!(by.clone().all(|version| version["state"] != "rolled-back"));
    }
}

/// Of seven wrong codes at once five are compared, and the right one is too late.
async fn guess(server: &Server, phone: &str, code: &str) {
    let guesses: Vec<String> = (1..=7).map(|n| nearly(code, n)).collect();
    let answers = join_all(guesses.iter().map(|guess| server.verify(phone, guess))).await;
    let compared = json!({ "valid": false, "reason": WRONG_CODE });
    let compared = answers.iter().filter(|answer| answer.json() == compared);
    assert_eq!(compared.count(), 5, "{answers:?}");
    let locked = json!({ "valid": false, "reason": TOO_MANY_TRIES });
    server.verify(phone, code).await.expect_body(400, &locked);
}

#[tokio::test]
async fn a_version_that_cannot_be_installed_is_refused_with_the_reason() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder()
        .twilio(&twilio)
        .env("COUNTERSIGN_ADMIN_TOKEN", "t")
        .env("COUNTERSIGN_COMPONENTS_BYTES_MAX", "2000000")
        .start()
        .await;
    let admin = server.with_key("t");
    let before = component(&admin, "otp").await;
    let otp = export(&server, "otp").await;
    let twilio_bytes = export(&server, "provider-twilio").await;
    let check = async |path: &str, bytes: Vec<u8>, status: u16, kind: &str, words: &str| {
        let problem = put(&admin, path, bytes).await.expect_problem(status);
        let problem = problem.json();
        let want = format!("urn:countersign:error:{kind}");
        assert_eq!(problem["type"], want, "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{words}: {detail}");
    };
    check(
        "nothing",
        otp.clone(),
        404,
        "no-such-component",
        "two-factor",
    )
    .await;
    check("otp", vec![0; 2_000_001], 413, "too-large", "2000000").await;
    check(
        "otp",
        b"nonsense".to_vec(),
        422,
        "component-refused",
        "no WebAssembly",
    )
    .await;
    let half = otp[..otp.len() / 2].to_vec();
    check("otp", half, 422, "component-refused", "no WebAssembly").await;
    check(
        "otp",
        twilio_bytes,
        422,
        "component-refused",
        "does not offer",
    )
    .await;
    check(
        "otp",
        PROBE.to_vec(),
        422,
        "component-refused",
        "does not offer",
    )
    .await;
    check("otp?canary=0", otp.clone(), 400, "bad-request", "canary").await;
    let alone = OTP_NEXT_ALONE.to_vec();
    check("otp", alone, 422, "component-refused", "state version 1").await;
    let json = [("content-type", "application/json")];
    let path = "/admin/components/otp";
    let answer = admin.request(Method::PUT, path, &json, otp.clone()).await;
    answer.unwrap().expect_problem(415);
    let wasm = [("content-type", "application/wasm")];
    let stranger = server.request(Method::PUT, path, &wasm, otp).await;
    stranger.unwrap().expect_problem(401);

    assert_eq!(component(&admin, "otp").await, before);
    server.send(&phone(1)).await.expect_success();
}

#[tokio::test]
async fn a_version_that_fails_is_taken_back_by_itself() {
    let twilio = FakeTwilio::start().await;
    let (mut server, admin) = start(&twilio).await;
    let before = component(&admin, "otp").await["sha256"].clone();
    let done = put(&admin, "otp", OTP_FAILING.to_vec()).await;
    let done = done.expect_status(200).json();
    assert_eq!(done["state"], "trial");
    server.send(&phone(1)).await.expect_status(500);
    // At once, before anything is noted.
    server.send(&phone(1)).await.expect_success();
    let rolled_back =
        async { while component(&admin, "otp").await["versions"][0]["state"] != "rolled-back" {} };
    tokio::time::timeout(countersign_tests::PATIENCE, rolled_back)
        .await
        .unwrap();
    server.kill().await;
    server.restart().await;
    let admin = server.with_key("t");
    assert_eq!(component(&admin, "otp").await["sha256"], before);
    server.send(&phone(2)).await.expect_success();
}

#[tokio::test]
async fn a_new_format_of_rows_keeps_limits_and_codes() {
    let twilio = FakeTwilio::start().await;
    let (server, admin) = start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    let code = twilio.message_to(&phone(1)).await.code();
    put(&admin, "otp", OTP_NEXT.to_vec())
        .await
        .expect_status(200);
    server.send(&phone(1)).await.expect_success();
    server.send(&phone(1)).await.expect_success();
    let fourth = json!({ "error": countersign_tests::TOO_MANY_SENDS });
    server.send(&phone(1)).await.expect_body(400, &fourth);
    server.verify(&phone(1), &code).await.expect_success();
    let back = admin.request(Method::POST, "/admin/components/otp/rollback", &[], "");
    let problem = back.await.unwrap().expect_problem(422).json();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("state version 2"), "{detail}");
}

#[tokio::test]
async fn a_kill_in_the_middle_of_an_installation_leaves_one_version_or_the_other() {
    let twilio = FakeTwilio::start().await;
    let (mut server, _) = start(&twilio).await;
    let otp = export(&server, "otp").await;
    let mut known = vec![component(&server.with_key("t"), "otp").await["sha256"].clone()];
    for number in 0..6u64 {
        let admin = server.with_key("t");
        let version = variant(&otp, &format!("killed {number}"));
        let installing = tokio::spawn(async move {
            let path = "/admin/components/otp";
            let headers = [("content-type", "application/wasm")];
            // It may be answered or not.
            let _ = admin.request(Method::PUT, path, &headers, version).await;
        });
        tokio::time::sleep(std::time::Duration::from_millis(number * 60)).await;
        server.kill().await;
        let _ = installing.await;
        server.restart().await;
        let shown = component(&server.with_key("t"), "otp").await;
        let versions = shown["versions"].as_array().unwrap();
        let live = versions.iter().filter(|version| version["state"] == "live");
        assert_eq!(live.count(), 1, "{shown}");
        known.push(shown["sha256"].clone());
        server
            .send(&phone(usize::try_from(number).unwrap()))
            .await
            .expect_success();
    }
}

#[tokio::test]
async fn a_file_in_the_watched_folder_is_installed_and_a_rollback_stays() {
    let twilio = FakeTwilio::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::builder()
        .twilio(&twilio)
        .env("COUNTERSIGN_ADMIN_TOKEN", "t")
        .arg("--watch")
        .arg(folder.path())
        .start()
        .await;
    let admin = server.with_key("t");
    let built_in = component(&admin, "otp").await["sha256"].clone();
    let mine = variant(&export(&server, "otp").await, "watched");
    let half = folder.path().join("half");
    fs::write(&half, &mine).unwrap();
    fs::rename(&half, folder.path().join("otp.wasm")).unwrap();
    let installed = async {
        loop {
            let shown = component(&admin, "otp").await;
            if shown["sha256"] != built_in {
                return shown;
            }
        }
    };
    let shown = tokio::time::timeout(countersign_tests::PATIENCE, installed)
        .await
        .unwrap();
    assert_eq!(shown["versions"][0]["by"], "watch");
    let back = server.run(&["component", "rollback", "otp"]).await;
    back.expect_success();
    // What is no component is told in the log, and a sign that the folder was looked into.
    fs::write(folder.path().join("two-factor.wasm"), "no component").unwrap();
    server.kill().await;
    server.restart().await;
    let told = server.stderr().find("the refusal", |text| {
        let line = text
            .lines()
            .find(|line| line.contains("was not installed"))?;
        line.contains("two-factor").then(|| line.to_owned())
    });
    assert!(told.await.is_some());
    let admin = server.with_key("t");
    assert_eq!(component(&admin, "otp").await["sha256"], built_in);
}

#[tokio::test]
async fn components_are_handled_by_commands_with_and_without_a_server() {
    let twilio = FakeTwilio::start().await;
    let builder = Server::builder()
        .twilio(&twilio)
        .env("COUNTERSIGN_ADMIN_TOKEN", "t");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();

    // Neither data nor server.
    let args = ["component", "export", "otp", &file("otp.wasm"), "--json"];
    let exported = builder.run(&args).await.expect_success().json();
    assert_eq!(exported["name"], "otp");
    let shown = builder
        .run(&["component", "inspect", &file("otp.wasm"), "--json"])
        .await;
    let shown = shown.expect_success().json();
    assert_eq!(shown["sha256"], exported["sha256"]);
    assert_eq!(shown["world"], "countersign:service/otp-service@0.1.0");
    assert_eq!(shown["fits"], true);
    let imports = shown["imports"].as_array().unwrap();
    assert!(imports.contains(&json!("countersign:service/codes@0.1.0")));

    let mine = variant(&fs::read(file("otp.wasm")).unwrap(), "mine");
    fs::write(file("mine.wasm"), &mine).unwrap();
    let mut server = builder.clone().start().await;
    server.send(&phone(1)).await.expect_success();
    assert!(server.terminate().await.success());

    // Data, and no server: it is live from the next start on.
    let args = ["component", "install", "otp", &file("mine.wasm"), "--json"];
    let done = builder.run(&args).await.expect_success().json();
    assert_eq!(done["versions"][0]["by"], "command");
    let mut server = builder.clone().start().await;
    let admin = server.with_key("t");
    assert_eq!(
        component(&admin, "otp").await["sha256"],
        done["installedSha256"]
    );

    // With a server, which tells of the steps.
    let other = variant(&mine, "other");
    fs::write(file("other.wasm"), &other).unwrap();
    let install = [
        "component",
        "install",
        "otp",
        &file("other.wasm"),
        "--canary",
        "20",
    ];
    let done = server.run(&install).await.expect_success();
    assert!(done.stdout.contains("20 percent"), "{done:?}");
    assert!(done.stderr.contains("compile"), "{done:?}");
    assert_eq!(component(&admin, "otp").await["state"], "canary");
    let listed = server.run(&["component", "list"]).await.expect_success();
    for words in [
        "otp, ",
        "with 20 percent",
        "two-factor",
        "built-in",
        "provider-twilio",
    ] {
        assert!(listed.stdout.contains(words), "{words}: {}", listed.stdout);
    }
    fs::write(file("broken.wasm"), "no component").unwrap();
    let broken = ["component", "install", "otp", &file("broken.wasm")];
    server
        .run(&broken)
        .await
        .expect_refusal(&["no WebAssembly component"]);
    let unknown = ["component", "rollback", "nothing"];
    server
        .run(&unknown)
        .await
        .expect_refusal(&["`nothing`", "two-factor"]);
    let missing = ["component", "install", "otp", &file("missing.wasm")];
    server
        .run(&missing)
        .await
        .expect_refusal(&["cannot read", "missing.wasm"]);
    server.terminate().await;
}
