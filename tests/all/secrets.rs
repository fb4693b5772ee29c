//! After a run with everything that can go wrong, no secret lies anywhere.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_tests::{
    ACCOUNT_SID, AUTH_TOKEN, FakeTwilio, Find, Needle, Reply, Scan, Server, TEST_KEY, base32,
    nearly, phone, totp,
};
use hyper::Method;
use serde_json::json;

use texts::{TEMPLATE, TEXT, leave_texts, use_texts};

mod texts;

const IDEMPOTENCY_KEY: &str = "order-5b0e72c4-of-the-shop";
/// Client addresses, and what the server makes of them.
const ADDRESSES: [&str; 2] = ["198.51.100.77", "2001:db8:c0de:77::1"];
const NETWORK: &str = "2001:db8:c0de:77::/64";
const ADMIN_TOKEN: &str = "admin-token-9f2c51d0a7b84e36";

/// What the run has made: its name, and what it is.
type Made = (&'static str, String);

/// Every secret that the run has used. Phones and texts count: their place is the provider; and ids of users.
fn needles(twilio: &FakeTwilio, made: &[Made]) -> Vec<Needle> {
    let mut all = Vec::new();
    all.extend(Needle::secret("Twilio's auth token", AUTH_TOKEN));
    let basic = STANDARD.encode(format!("{ACCOUNT_SID}:{AUTH_TOKEN}"));
    all.extend(Needle::secret("the Basic header", &basic));
    all.extend(Needle::secret("the API key of the environment", TEST_KEY));
    all.extend(Needle::secret("the admin token", ADMIN_TOKEN));
    for (name, text) in made {
        all.extend(Needle::secret(name, text));
        if *name == APP_SECRET {
            all.extend(Needle::bytes(name, &base32(text)));
        }
        if *name == BACKUP_CODE {
            let plain = text.replace('-', "");
            all.extend(Needle::secret(name, &plain.to_lowercase()));
            all.extend(Needle::secret(name, &plain));
        }
    }
    all.extend(Needle::secret("an idempotency key", IDEMPOTENCY_KEY));
    for address in ADDRESSES.iter().chain([&NETWORK]) {
        all.extend(Needle::secret("a client address", address));
    }
    let requests = twilio.requests();
    let codes: BTreeSet<String> = requests
        .iter()
        .filter_map(countersign_tests::Request::code)
        .collect();
    assert!(codes.len() >= 10, "the run has sent too little: {codes:?}");
    all.extend(codes.iter().map(|code| Needle::digits("a code", code)));
    let phones: BTreeSet<&str> = requests
        .iter()
        .map(countersign_tests::Request::to)
        .collect();
    let digits = phones.iter().filter_map(|phone| phone.strip_prefix('+'));
    all.extend(digits.map(|digits| Needle::digits("a phone", digits)));
    all
}

const APP_SECRET: &str = "the secret of an authenticator app";
const BACKUP_CODE: &str = "a backup code";

/// Uses everything of two-factor, rightly and wrongly, and returns what must not be found.
async fn use_second_factors(twilio: &FakeTwilio, server: &Server, n: usize) -> Vec<Made> {
    let id = format!("canary-user-{n}-8d41f7");
    let number = phone(n);
    let user = server.user(&id);
    let enrolled = user.enrol(twilio, &number).await;
    let mut made = vec![("a user", id.clone()), ("a proof", enrolled.proof.clone())];
    let codes = &enrolled.backup_codes;
    // Whatever leaks one of a set leaks the first.
    made.extend(codes[..2].iter().map(|code| (BACKUP_CODE, code.clone())));

    // A login, right and wrong, with a device of the user's own.
    let token = server.token(&id, "login").await;
    let device = server.device(&token);
    device.login_send().await.expect_success();
    let code = twilio.nth_code(&number, 2).await;
    device.login(&nearly(&code, 1)).await.expect_status(400);
    device.login(&code).await.expect_success();
    device.login(&codes[0]).await.expect_status(401);
    let enrolment = server.token(&id, "enroll").await;
    let refused = server.device(&enrolment).enable(&number).await;
    assert_ne!(refused.status, 200);
    server
        .device(&token[1..])
        .login_send()
        .await
        .expect_status(401);
    made.extend([("a token", token), ("a token", enrolment)]);

    // Backup codes: right, used, of another's making, and where something else is wrong.
    let proof = user.prove(&codes[0]).await;
    user.login(&codes[0]).await.expect_status(400);
    user.login(&format!("{}X", codes[1]))
        .await
        .expect_status(400);
    let broken = format!("{{\"code\":\"{}\",}}", codes[1]);
    server
        .post_bytes("/api/login/2fa", broken)
        .await
        .expect_status(400);
    let other_field = json!({ "code": [codes[1]] });
    user.post("/api/login/2fa", &other_field)
        .await
        .expect_status(400);

    // An app beside the phone; its proof, twice.
    let proving = user.proving(&proof);
    let pending = proving.totp().await.expect_success().json();
    let secret = pending["secret"].as_str().unwrap().to_owned();
    let uri = pending["otpauthUri"].as_str().unwrap().to_owned();
    proving.totp().await.expect_status(403);
    user.totp_verify("000000").await;
    user.totp_verify(&totp(&secret, 0)).await.expect_success();
    user.login(&totp(&secret, 1)).await.expect_success();
    made.extend([
        ("a proof", proof),
        (APP_SECRET, secret),
        ("an app's address", uri),
    ]);

    // A new set, answered twice.
    let proof = user.prove(&codes[1]).await;
    let once = user.proving(&proof).header("idempotency-key", "renewed");
    for _ in 0..2 {
        let renewed = once.new_backup_codes().await.expect_success().json();
        let code = renewed["backupCodes"][0].as_str().unwrap().to_owned();
        made.push((BACKUP_CODE, code));
    }
    made.push(("a proof", proof));

    // Paths and commands that name the user.
    server
        .get(&format!("/api/audit?user={id}"))
        .await
        .expect_status(200);
    server
        .get(&format!("/api/users/{id}"))
        .await
        .expect_status(404);
    server.run(&["users", "show", &id]).await.expect_success();
    server.run(&["users", "unlock", &id]).await.expect_success();
    made
}

/// What was found, without chance: six digits that stand alone are now and then a number of
/// something else, so one code alone proves nothing. The run sends at least two codes down every
/// path, so a path that leaks shows two.
fn proven(finds: &[Find]) -> Vec<&Find> {
    let codes: BTreeSet<&Needle> = finds
        .iter()
        .map(|find| &find.needle)
        .filter(|needle| needle.name == "a code")
        .collect();
    finds
        .iter()
        .filter(|find| find.needle.name != "a code" || codes.len() > 1)
        .collect()
}

#[track_caller]
fn search(twilio: &FakeTwilio, server: &Server, made: &[Made], least_files: usize) {
    let mut scan = Scan::new(needles(twilio, made));
    let files = scan.folder(server.data());
    assert!(
        files >= least_files,
        "only {files} files in the data folder"
    );
    for (name, bytes) in server.outputs() {
        scan.bytes(&name, &bytes);
    }
    assert!(
        scan.searched() > 10_000,
        "only {} bytes to search: was anything logged?",
        scan.searched()
    );
    let proven = proven(scan.finds());
    assert!(proven.is_empty(), "{proven:#?}");
}

#[tokio::test]
async fn no_file_and_no_log_has_a_code_a_number_a_text_or_a_credential() {
    let twilio = FakeTwilio::start().await;
    let builder = Server::builder()
        .twilio(&twilio)
        .callbacks()
        .config(TEMPLATE)
        .env("COUNTERSIGN_LOG", "trace");
    let mut server = builder
        .env("COUNTERSIGN_ADMIN_TOKEN", ADMIN_TOKEN)
        .start()
        .await;

    // Keys: made, used, revoked, wrong; the admin's too.
    let created = server
        .run(&["keys", "create", "--json"])
        .await
        .expect_success()
        .json();
    let key = created["key"].as_str().unwrap().to_owned();
    server.with_key(&key).send(&phone(0)).await.expect_success();
    server
        .with_key(&key[1..])
        .send(&phone(0))
        .await
        .expect_status(401);
    server.with_key(ADMIN_TOKEN).get("/admin/x").await;
    server.run(&["keys", "list"]).await.expect_success();

    // Right, wrong and used codes, and a lock.
    for n in [1, 2] {
        server.send(&phone(n)).await.expect_success();
        let code = twilio.message_to(&phone(n)).await.code();
        server
            .verify(&phone(n), &nearly(&code, 1))
            .await
            .expect_status(400);
        server.verify(&phone(n), &code).await.expect_success();
        server.verify(&phone(n), &code).await.expect_status(400);
    }
    for n in [3, 4] {
        server.send(&phone(n)).await.expect_success();
        let code = twilio.message_to(&phone(n)).await.code();
        for wrong in 1..=6 {
            server
                .verify(&phone(n), &nearly(&code, wrong))
                .await
                .expect_status(400);
        }
        server.verify(&phone(n), &code).await.expect_status(400);
    }

    // A right code where something else is wrong with the request: error paths love to quote.
    for n in [5, 6] {
        server.send(&phone(n)).await.expect_success();
        let code = twilio.message_to(&phone(n)).await.code();
        let number = phone(n);
        server
            .post(
                "/api/otp/verify",
                &json!({ "phoneNumber": "+1202", "code": code }),
            )
            .await
            .expect_status(400);
        server
            .post(
                "/api/otp/verify",
                &json!({ "phoneNumber": [number], "code": code }),
            )
            .await
            .expect_status(400);
        let purpose = json!({ "phoneNumber": number, "code": code, "purpose": "none" });
        server
            .post("/api/otp/verify", &purpose)
            .await
            .expect_status(400);
        let broken = format!("{{\"phoneNumber\":\"{number}\",\"code\":\"{code}\",}}");
        server
            .post_bytes("/api/otp/verify", broken)
            .await
            .expect_status(400);
        server
            .without_key()
            .verify(&number, &code)
            .await
            .expect_status(401);
        let request = server.raw_post(
            "/api/otp/verify",
            &json!({ "phoneNumber": number, "code": code }),
        );
        server.raw(&request[..request.len() - 1]).await;
        server.raw(&request).await;
    }

    // The same request twice: its answer is kept.
    for n in [7, 8] {
        let body = json!({ "phoneNumber": phone(n) });
        let key = format!("{IDEMPOTENCY_KEY}-{n}");
        for _ in 0..2 {
            let answer = server.post_once("/api/otp/send", &key, &body).await;
            answer.expect_status(200);
        }
        let code = twilio.message_to(&phone(n)).await.code();
        let body = json!({ "phoneNumber": phone(n), "code": code });
        let key = format!("{IDEMPOTENCY_KEY}-verify-{n}");
        for _ in 0..2 {
            let answer = server.post_once("/api/otp/verify", &key, &body).await;
            answer.expect_status(200);
        }
    }

    // Looked for, looked at in full, and erased.
    for n in [13, 14] {
        let number = phone(n);
        let sent = server.send(&number).await.expect_success().json();
        let id = sent["messageId"].as_str().unwrap();
        twilio.message_to(&number).await;
        let admin = server.with_key(ADMIN_TOKEN);
        let body = json!({ "phoneNumber": number });
        let found = admin.post("/admin/messages/search", &body).await;
        found.expect_status(200);
        let path = format!("/admin/messages/{id}/reveal");
        let key = [("idempotency-key", IDEMPOTENCY_KEY)];
        let revealed = admin.request(Method::POST, &path, &key, "").await;
        revealed.unwrap().expect_status(200);
        let line = ["messages", "find", "--phone", &number];
        server.run(&line).await.expect_success();
        let erased = server.post("/api/phones/erase", &body).await;
        erased.expect_status(200);
    }

    // From addresses that the application passes on.
    for (n, address) in (10..).zip(ADDRESSES) {
        let body = json!({ "phoneNumber": phone(n) }).to_string();
        let headers = [
            ("content-type", "application/json"),
            ("x-countersign-client-address", address),
        ];
        let answer = server.request(Method::POST, "/api/otp/send", &headers, body);
        answer.await.unwrap().expect_success();
    }

    // Everything that a provider can do.
    let troubles = [
        vec![Reply::error(400, 21211)],
        vec![Reply::error(401, 20003)],
        vec![Reply::error(500, 20500); 3],
        vec![Reply::CloseAfterBody; 3],
        vec![Reply::Garbage; 3],
        vec![Reply::throttled(1)],
    ];
    for (n, replies) in troubles.into_iter().enumerate() {
        for number in [phone(20 + 2 * n), phone(21 + 2 * n)] {
            let all = replies.len();
            twilio.next_to(&number, replies.clone());
            server.send(&number).await.expect_success();
            // Not all of them are asked again; those that are, to the end.
            let certain = matches!(
                replies[0],
                Reply::Error { status: 500, .. } | Reply::CloseAfterBody
            );
            twilio
                .wait_for_requests_to(&number, if certain { all } else { 1 })
                .await;
        }
    }

    // Second factors: everything that can be done with them, and done wrongly.
    let mut made = vec![("a created API key", key.clone())];
    for n in [50, 51] {
        made.extend(use_second_factors(&twilio, &server, n).await);
    }

    // Texts, and what comes back of them.
    for n in [60, 70] {
        made.extend(use_texts(&twilio, &server, n).await);
    }

    // Killed with messages waiting, so that their rows rest on disk.
    twilio.always(Reply::Hang);
    for n in [40, 41] {
        server.send(&phone(n)).await.expect_success();
        twilio.wait_for_requests_to(&phone(n), 1).await;
    }
    made.extend(leave_texts(&twilio, &server, 80).await);
    server.kill().await;
    search(&twilio, &server, &made, 1);

    // The search itself: what is planted is found, in the data folder and in a log.
    let planted = server.data().join("store").join("planted");
    fs::write(&planted, format!("a note about {}", phone(1))).unwrap();
    let mut scan = Scan::new(needles(&twilio, &made));
    scan.folder(server.data());
    scan.bytes("a log", format!("the key is {key}").as_bytes());
    let app = made.iter().find(|(name, _)| *name == APP_SECRET).unwrap();
    scan.bytes("a row", &base32(&app.1));
    let text = made.iter().rfind(|(name, _)| *name == TEXT).unwrap();
    scan.bytes("another row", text.1.as_bytes());
    let found: BTreeSet<&str> = scan
        .finds()
        .iter()
        .map(|find| find.needle.name.as_str())
        .collect();
    assert!(
        found.contains("a phone")
            && found.contains("a created API key")
            && found.contains(TEXT)
            && found.contains(APP_SECRET),
        "{found:?}"
    );
    fs::remove_file(planted).unwrap();

    twilio.always(Reply::Accept);
    server.restart().await;
    // A backup lies where others may put it; new keys lie with the old ones.
    let backup = server.data().join("backup");
    server
        .run(&["backup", backup.to_str().unwrap()])
        .await
        .expect_success();
    server.run(&["keyring", "rotate"]).await.expect_success();
    server.run(&["doctor"]).await.expect_success();
    for n in [40, 41] {
        let code = twilio.message_to(&phone(n)).await.code();
        server.verify(&phone(n), &code).await.expect_success();
    }
    let id = created["id"].as_str().unwrap();
    server.run(&["keys", "revoke", id]).await.expect_success();
    assert!(server.terminate().await.success());
    // conf, db, the marker, seven keys and the backup.
    search(&twilio, &server, &made, 11);
}

#[track_caller]
fn closed_to_others(path: &Path) {
    let mode = fs::metadata(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .permissions()
        .mode();
    assert_eq!(
        mode & 0o077,
        0,
        "{} has mode {:o}",
        path.display(),
        mode & 0o7777
    );
}

#[tokio::test]
async fn data_and_keys_are_closed_to_other_users() {
    let server = Server::builder().console().start().await;
    server.send(&phone(1)).await.expect_success();
    let mode = fs::metadata(server.data()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700, "the data folder has mode {mode:o}");
    let keys = server.data().join("keys");
    let mode = fs::metadata(&keys).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700, "DATA/keys has mode {mode:o}");
    let mut files = 0;
    for entry in fs::read_dir(&keys).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{} has mode {mode:o}", path.display());
        files += 1;
    }
    assert!(files > 0, "there are no keys in DATA/keys");
    let mut sockets = 0;
    for entry in fs::read_dir(server.data()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_socket() {
            closed_to_others(&entry.path());
            sockets += 1;
        }
    }
    assert!(sockets > 0, "there is no socket for the command line");
}

#[tokio::test]
async fn keys_may_lie_in_another_folder() {
    let builder = Server::builder().console();
    let keys = builder.home().join("elsewhere");
    let server = builder
        .env("COUNTERSIGN_KEYS", keys.to_str().unwrap())
        .start()
        .await;
    assert!(
        fs::read_dir(&keys).unwrap().next().is_some(),
        "COUNTERSIGN_KEYS is not where the keys are"
    );
    closed_to_others(&keys);
    let inside = server.data().join("keys");
    assert!(!inside.exists() || fs::read_dir(&inside).unwrap().next().is_none());
}

#[tokio::test]
async fn codes_are_good_only_with_the_keys_that_made_them() {
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    let code = twilio.next_message().await.code();
    assert!(server.terminate().await.success());
    // The store without its keys: either no start at all, or a code that nobody can check.
    fs::rename(
        server.data().join("keys"),
        server.data().parent().unwrap().join("kept"),
    )
    .unwrap();
    let without = Server::builder()
        .twilio(&twilio)
        .data(server.data())
        .start_or_refuse()
        .await;
    if let Some(server) = without {
        assert_ne!(server.verify(&phone(1), &code).await.status, 200);
    }
}
