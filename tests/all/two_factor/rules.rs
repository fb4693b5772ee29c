//! Rules of security that are about all of it, named after them.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign_tests::{
    Answer, FakeTwilio, Server, TOO_MANY_TRIES, User, WallClock, nearly, phone, totp, totp_at,
};
use serde_json::json;

use super::{INVALID_CODE, asked_for_a_code, rejected, start};
use crate::queue::stop_with_nothing_left;

/// Tries wrong codes until the kind is locked, and returns how many were looked at.
async fn guess(user: &User, wrong: impl Fn(u32) -> String) -> u32 {
    for n in 0..40 {
        let answer = user.login(&wrong(n)).await.expect_status(400);
        if answer.json() == rejected(TOO_MANY_TRIES) {
            assert!(answer.retry_after().as_secs() >= 1);
            return n;
        }
        answer.expect_body(400, &rejected(INVALID_CODE));
    }
    panic!("40 wrong codes were looked at");
}

#[tokio::test]
async fn r07_r08_every_kind_of_code_has_its_cap_without_any_setting() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    user.login_send().await.expect_success();
    let code = twilio.nth_code(&phone(1), 2).await;
    let looked_at = guess(&user, |n| nearly(&code, 1 + u8::try_from(n % 9).unwrap())).await;
    assert_eq!(looked_at, 5);
    let looked_at = guess(&user, |n| format!("ZZZZ-ZZZZ-ZZZZ-{n:04}")).await;
    assert_eq!(looked_at, 5);
    user.login(&enrolled.backup_codes[0])
        .await
        .expect_body(400, &rejected(TOO_MANY_TRIES));

    let other = server.user("user-2");
    let secret = other.enrol_totp().await;
    let right = [-1, 0, 1, 2].map(|steps| totp(&secret, steps));
    let wrong = (0..1_000_000)
        .map(|n| format!("{n:06}"))
        .find(|code| !right.contains(code))
        .unwrap();
    let looked_at = guess(&other, |_| wrong.clone()).await;
    assert_eq!(looked_at, 5);
    other
        .login(&totp(&secret, 1))
        .await
        .expect_body(400, &rejected(TOO_MANY_TRIES));
}

#[tokio::test]
async fn r10_a_wrong_code_counts_when_its_client_has_gone() {
    let (twilio, server) = start().await;
    let (user, code) = asked_for_a_code(&server, &twilio).await;
    let wrong = json!({ "code": nearly(&code, 1) }).to_string();
    let length = wrong.len().to_string();
    let headers = [
        ("X-Countersign-User", "user-1"),
        ("Content-Type", "application/json"),
        ("Content-Length", length.as_str()),
    ];
    let request = server.raw_request("POST", "/api/login/2fa", &headers, wrong.as_bytes());
    for _ in 0..5 {
        use tokio::io::AsyncWriteExt as _;
        let mut connection = server.connect().await;
        connection.write_all(&request).await.unwrap();
        drop(connection);
    }
    // Whichever of them have been read by now are counted; the rest follow at once, or never will.
    let mut misses = 0;
    loop {
        let answer = user.login(&nearly(&code, 2)).await.expect_status(400);
        if answer.json() == rejected(TOO_MANY_TRIES) {
            break;
        }
        misses += 1;
        assert!(misses <= 5);
    }
    user.login(&code)
        .await
        .expect_body(400, &rejected(TOO_MANY_TRIES));
}

#[tokio::test]
async fn r12_a_restart_gives_no_tries_back() {
    let (twilio, mut server) = start().await;
    server.user("user-1").enrol(&twilio, &phone(1)).await;
    let user = server.user("user-1");
    assert_eq!(guess(&user, |n| format!("ZZZZ-ZZZZ-ZZZZ-{n:04}")).await, 5);
    server.kill().await;
    server.restart().await;
    let user = server.user("user-1");
    assert_eq!(guess(&user, |n| format!("YYYY-YYYY-YYYY-{n:04}")).await, 0);
}

#[tokio::test]
async fn r13_whoever_floods_the_public_routes_with_a_victims_number_locks_no_login() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    user.enrol(&twilio, &phone(1)).await;
    let mut before = twilio.messages().len();
    for _ in 0..5 {
        let flooded = server.send(&phone(1)).await;
        before += usize::from(flooded.status == 200);
    }
    for n in 0..20 {
        server.verify(&phone(1), &format!("{n:06}")).await;
    }
    // All of the flood has arrived, so that what comes next is the login's.
    twilio.wait_for_count(before).await;
    user.login_send().await.expect_success();
    let codes = twilio.wait_for_count(before + 1).await;
    let code = codes.last().unwrap().code();
    user.login(&code).await.expect_success();
}

#[tokio::test]
async fn r14_a_user_is_told_of_failed_logins_once() {
    let (twilio, mut server) = start().await;
    let user = server.user("user-1");
    user.enrol(&twilio, &phone(1)).await;
    guess(&user, |n| format!("ZZZZ-ZZZZ-ZZZZ-{n:04}")).await;
    for _ in 0..5 {
        user.login("123456").await.expect_status(400);
    }
    let notice = twilio.notice_to(&phone(1)).await;
    assert!(!notice.is_empty());
    stop_with_nothing_left(&mut server).await;
    assert_eq!(twilio.messages().len(), 2, "{:?}", twilio.messages());
}

#[tokio::test]
async fn r17_r18_a_code_is_good_for_what_it_was_sent_for() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    // A login's code changes no number, and one for a new number logs nobody in.
    user.login_send().await.expect_success();
    let login = twilio.nth_code(&phone(1), 2).await;
    let proving = user.proving(&enrolled.proof);
    proving.enable(&phone(2)).await.expect_success();
    let enrolment = twilio.nth_code(&phone(2), 1).await;
    assert_ne!(login, enrolment);
    user.verify_enable(&login).await.expect_status(400);
    user.login(&enrolment).await.expect_status(400);
    // Nor is either one's of the public routes.
    server.verify(&phone(1), &login).await.expect_status(400);
    server
        .verify(&phone(2), &enrolment)
        .await
        .expect_status(400);
    user.login(&login).await.expect_success();
    user.verify_enable(&enrolment).await.expect_success();
}

#[tokio::test]
async fn r20_no_get_verifies_anything() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    user.enable(&phone(1)).await.expect_success();
    let code = twilio.nth_code(&phone(1), 1).await;
    for path in [
        format!("/api/2fa/verify-enable?code={code}"),
        format!("/api/login/2fa?code={code}"),
        "/api/2fa/disable".to_owned(),
        "/api/users/user-1/tokens".to_owned(),
    ] {
        server.get(&path).await.expect_problem(405);
    }
    user.verify_enable(&code).await.expect_success();
}

#[tokio::test]
async fn r24_backup_codes_have_64_bits_and_no_letters_that_look_alike() {
    let (twilio, server) = start().await;
    let mut all = BTreeSet::new();
    let mut letters = BTreeSet::new();
    for n in 0..5 {
        let user = server.user(&format!("user-{n}"));
        for code in user.enrol(&twilio, &phone(n)).await.backup_codes {
            letters.extend(code.bytes().filter(|byte| *byte != b'-'));
            all.insert(code);
        }
    }
    assert_eq!(all.len(), 50);
    for alike in [b'0', b'O', b'1', b'I', b'L'] {
        assert!(!letters.contains(&alike), "{}", char::from(alike));
    }
    // Thirteen of the sixteen characters tell who knows the code (R24).
    let bits = 13.0 * f64::from(u32::try_from(letters.len()).unwrap()).log2();
    assert!(bits >= 60.0, "{bits} bits by the letters that came");
}

#[tokio::test]
async fn r25_codes_are_shown_once_and_a_new_set_ends_the_old_one() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    let state = user.status().await.expect_status(200).text();
    assert!(
        enrolled
            .backup_codes
            .iter()
            .all(|code| !state.contains(code))
    );
    let proving = user.proving(&enrolled.proof);
    let new = proving.new_backup_codes().await.expect_success().json();
    let new = new["backupCodes"].as_array().unwrap();
    assert_eq!(new.len(), 10);
    user.login(&enrolled.backup_codes[9])
        .await
        .expect_body(400, &rejected(INVALID_CODE));
    user.login(new[9].as_str().unwrap()).await.expect_success();
}

#[tokio::test]
async fn r26_a_used_backup_code_is_told_with_how_many_are_left() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    let login = user.login(&enrolled.backup_codes[0]).await;
    assert_eq!(login.expect_success().json()["backupCodesLeft"], 9);
    let notice = twilio.notice_to(&phone(1)).await;
    assert!(notice.contains('9'), "{notice}");
    assert!(!notice.contains(&enrolled.backup_codes[0]));
    let trail = server.get("/api/audit?user=user-1").await;
    assert!(trail.text().contains("backup"), "{trail:?}");
}

#[tokio::test]
async fn r27_a_step_of_an_app_is_accepted_once_and_no_earlier_one_after_it() {
    let (twilio, clock) = (
        FakeTwilio::start().await,
        WallClock::at("2026-03-01T08:00:00Z"),
    );
    let mut server = Server::builder()
        .twilio(&twilio)
        .clock(&clock)
        .start()
        .await;
    let user = server.user("user-1");
    let pending = user.totp().await.expect_success().json();
    let secret = pending["secret"].as_str().unwrap();
    let uri_secret_bits = secret.len() * 5;
    assert!(uri_secret_bits >= 160, "{uri_secret_bits} bits");
    let begin = clock.now();
    let code = |steps| totp_at(secret, begin, steps);
    user.totp_verify(&code(0)).await.expect_success();
    let is_refused = async |user: &User, steps| {
        let refused = user.login(&code(steps)).await;
        refused.expect_body(400, &rejected(INVALID_CODE));
    };
    // The step that confirmed it is used.
    is_refused(&user, 0).await;
    user.login(&code(1)).await.expect_success();
    // So is the one that was accepted, also when its own time has come, or is over, and after a kill.
    for kill in [true, false, true] {
        if kill {
            server.restart().await;
        }
        clock.advance(Duration::from_secs(30));
        let user = server.user("user-1");
        for steps in [0, 1] {
            is_refused(&user, steps).await;
        }
        // Else it would be locked: whatever is wrong is counted.
        let unlock = ["users", "unlock", "user-1"];
        server.run(&unlock).await.expect_success();
    }
}

fn names(answer: &Answer) -> Vec<String> {
    let mut names: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
    names.sort();
    names
}

#[tokio::test]
async fn r38_a_wrong_code_is_answered_the_same_whatever_factors_there_are() {
    let (twilio, server) = start().await;
    let phone_user = server.user("phone");
    phone_user.enrol(&twilio, &phone(1)).await;
    let app_user = server.user("app");
    app_user.enrol_totp().await;
    for code in ["123456", "ZZZZ-ZZZZ-ZZZZ-ZZZZ"] {
        let one = phone_user.login(code).await.expect_status(400);
        let other = app_user.login(code).await.expect_status(400);
        assert_eq!(one.body, other.body, "{code}");
        assert_eq!(names(&one), names(&other), "{code}");
    }
}

#[tokio::test]
async fn r40_no_address_that_was_asked_for_is_logged() {
    let twilio = FakeTwilio::start().await;
    let builder = Server::builder()
        .twilio(&twilio)
        .env("COUNTERSIGN_LOG", "trace");
    let mut server = builder.start().await;
    server.token("canary-user", "login").await;
    server.get("/api/audit?user=canary-user").await;
    assert!(server.terminate().await.success());
    for (name, output) in server.outputs() {
        let text = String::from_utf8_lossy(&output);
        assert!(!text.contains("canary-user"), "{name}: {text}");
    }
}
