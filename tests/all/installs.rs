//! Installing under attack: many at once, odd names, a kill after each step, a disk that is full.

use std::fs;

use countersign_hostile::variant;
use countersign_tests::{Client, FakeTwilio, PowerMode, Running, Server, join_all, phone};
use hyper::Method;
use serde_json::Value;

use crate::components::{component, export, put, start};
use crate::disk::wait_for_room;

#[tokio::test]
async fn of_many_installations_at_once_each_is_done_or_told_to_come_again() {
    let twilio = FakeTwilio::start().await;
    let (server, admin) = start(&twilio).await;
    let otp = export(&server, "otp").await;
    let puts = (0..12).map(|number| put(&admin, "otp", variant(&otp, &number.to_string())));
    let answers = join_all(puts).await;
    let (mut done, mut later) = (Vec::new(), 0);
    for answer in answers {
        if answer.status == 200 {
            done.push(answer.json()["installedSha256"].clone());
        } else {
            let busy = answer.expect_problem(503);
            assert!(busy.retry_after().as_secs() > 0);
            later += 1;
        }
    }
    assert!(!done.is_empty(), "{later} were told to come again");
    let shown = component(&admin, "otp").await;
    assert!(done.contains(&shown["sha256"]), "{shown}");
    server.send(&phone(1)).await.expect_success();
}

#[tokio::test]
async fn a_name_is_looked_up_and_is_never_a_path() {
    let twilio = FakeTwilio::start().await;
    let (server, admin) = start(&twilio).await;
    let otp = export(&server, "otp").await;
    let names = [
        "..%2fotp",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "otp%00",
        "OTP",
        "otp%20",
        "otp.wasm",
        "%2fotp",
        &"o".repeat(5_000),
    ];
    for name in names {
        let answer = put(&admin, name, otp.clone()).await;
        assert!(
            [400, 404, 414].contains(&answer.status),
            "{name}: {answer:?}"
        );
        let shown = answer.text();
        assert!(shown.len() < 1_000, "{name} is told in full");
        let path = format!("/admin/components/{name}/rollback");
        let back = admin.request(Method::POST, &path, &[], "").await.unwrap();
        assert!([400, 404, 414].contains(&back.status), "{name}: {back:?}");
    }
    for name in ["../otp", "/etc/passwd", "", "otp\n"] {
        let file = server.data().join("none.wasm");
        let export = ["component", "export", name, file.to_str().unwrap()];
        let refused = server.run(&export).await;
        assert!(!refused.status.success(), "{name:?}");
        assert!(!file.exists());
    }
    let wrong = [
        ("content-type", "application/wasm"),
        ("content-length", "7"),
    ];
    let raw = admin.raw_request("PUT", "/admin/components/otp", &wrong, b"\0asm");
    // It hangs up in the middle of its body.
    let _ = admin.raw(&raw).await;
    assert_eq!(component(&admin, "otp").await["state"], "live");
}

/// Installs by the command, and returns once it has told of `steps` steps.
async fn install_until(server: &Server, file: &str, steps: usize) -> Running {
    let args = ["component", "install", "otp", file];
    let installing = server.setup().begin(&args);
    let told = installing.stderr().find("step", |text| {
        (text.matches('\n').count() >= steps).then_some(())
    });
    assert!(told.await.is_some(), "{}", installing.stderr().text());
    installing
}

#[tokio::test]
async fn a_kill_after_any_step_leaves_the_old_version_or_the_new_one_whole() {
    // All but the last, after which the answer comes.
    const STEPS: usize = 8;
    let twilio = FakeTwilio::start().await;
    let (mut server, _) = start(&twilio).await;
    let otp = export(&server, "otp").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("otp.wasm");
    let live = async |client: &Client| component(client, "otp").await["sha256"].clone();
    let mut before = live(&server.with_key("t")).await;
    for steps in 0..=STEPS {
        fs::write(&file, variant(&otp, &format!("killed after {steps}"))).unwrap();
        let installing = install_until(&server, file.to_str().unwrap(), steps).await;
        server.kill().await;
        installing.ended().await;
        server.restart().await;
        let admin = server.with_key("t");
        let shown = component(&admin, "otp").await;
        let all = shown["versions"].as_array().unwrap();
        let is_live = |version: &&Value| version["state"] == "live";
        assert_eq!(all.iter().filter(is_live).count(), 1, "{shown}");
        let now = live(&admin).await;
        if now != before {
            assert_eq!(all[0]["sha256"], now, "after {steps} steps: {shown}");
            assert_eq!(all[0]["by"], "command");
        }
        // It is whole, whichever it is.
        let bytes = export(&server, "otp").await;
        assert!(bytes.len() >= otp.len());
        server.send(&phone(steps)).await.expect_success();
        before = now;
    }
    // The same file goes in after all that.
    let again = ["component", "install", "otp", file.to_str().unwrap()];
    server.run(&again).await.expect_success();
}

#[tokio::test]
async fn with_a_full_disk_nothing_is_installed_and_a_version_can_still_be_taken_back() {
    const RESERVE: u64 = 40_000_000;
    let twilio = FakeTwilio::start().await;
    let server = Server::builder()
        .twilio(&twilio)
        .env("COUNTERSIGN_ADMIN_TOKEN", "t")
        .env("COUNTERSIGN_STORE_RESERVE_BYTES", &RESERVE.to_string())
        .on_disk(PowerMode::Power, 1)
        .start()
        .await;
    let admin = server.with_key("t");
    let otp = export(&server, "otp").await;
    let built_in = component(&admin, "otp").await["sha256"].clone();
    put(&admin, "otp", variant(&otp, "first"))
        .await
        .expect_status(200);
    let first = component(&admin, "otp").await;
    let disk = server.disk();
    disk.set_capacity(Some(disk.used() + RESERVE - 100_000));
    wait_for_room(&server, false).await;
    let full = put(&admin, "otp", variant(&otp, "second"))
        .await
        .expect_problem(503);
    assert_eq!(full.json()["type"], "urn:countersign:error:store-full");
    assert_eq!(component(&admin, "otp").await, first);
    let back = admin.request(Method::POST, "/admin/components/otp/rollback", &[], "");
    back.await.unwrap().expect_status(200);
    assert_eq!(component(&admin, "otp").await["sha256"], built_in);
    disk.set_capacity(None);
    wait_for_room(&server, true).await;
    put(&admin, "otp", variant(&otp, "second"))
        .await
        .expect_status(200);
}
