//! Two-factor authentication with the real component: what only shows where calls meet, fail and are run
//! again, and what rests on the disk.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use countersign_runtime::{
    Authority, BackupCodesVerdict, CallError, ChangeRequest, Denial, EnableRequest, EnableVerdict,
    Factor, FactorProof, Limits, LoginRequest, LoginSendRequest, LoginSendVerdict, LoginVerdict,
    Method, MoveInRequest, MoveInVerdict, MovedBackupCodes, MovedTotp, SupportVerdict, TotpVerdict,
    UserId, VerifyFactorRequest, VerifyFactorVerdict,
};
use countersign_store::{Body, Store};
use countersign_types::{Clock, Secret, UnixMillis};
use data_encoding::BASE32_NOPAD;
use futures_util::FutureExt;
use futures_util::future::join_all;

use crate::bench::{Bench, NOW, context, failure, patient, short, write};
use crate::rows::Taken;

const PHONE: &str = "+12025550123";
/// Hashes that take no time, so that the tests do not.
const CHEAP: [(&str, &str); 2] = [("backup-memory-kib", "1024"), ("backup-passes", "1")];

fn user() -> UserId {
    "alice@example.com".parse().unwrap()
}

/// What an authenticator app shows for a secret in Base32 (RFC 6238).
fn app_code(secret: &Secret<String>, now: UnixMillis) -> String {
    let key = BASE32_NOPAD.decode(secret.expose().as_bytes()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let hash = hmac::sign(&key, &(now.0 / 30_000).to_be_bytes());
    let hash = hash.as_ref();
    let at = usize::from(hash[19] & 15);
    let number = u32::from_be_bytes(hash[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

impl Bench {
    /// The code of the message that waits.
    async fn sent_code(&self) -> String {
        let taken = Arc::new(Taken::default());
        self.deliver(&taken).await;
        let text = taken.0.lock().unwrap()[0].text.clone();
        let first = text.lines().next().unwrap();
        first.rsplit(' ').next().unwrap().to_owned()
    }

    /// Enrols a phone; returns the backup codes.
    async fn with_phone(&self, user: &UserId) -> Vec<Secret<String>> {
        let context = context();
        let request = EnableRequest {
            authority: Authority::Application,
            phone: PHONE.to_owned(),
            locale: None,
            proof: None,
        };
        let enabled = self
            .runtime
            .two_factor_enable(&context, user, request, None);
        let (enabled, _) = enabled.await.unwrap();
        assert!(matches!(&enabled, EnableVerdict::Sent { phone, .. } if phone == "+1202•••••23"));
        let request = VerifyFactorRequest {
            authority: Authority::Application,
            code: self.sent_code().await,
            proof: None,
        };
        let verified = self
            .runtime
            .two_factor_verify_enable(&context, user, request, None);
        match verified.await.unwrap().0 {
            VerifyFactorVerdict::Enabled {
                factor: Factor::Sms,
                backup_codes: Some(codes),
            } => codes,
            other => panic!("{other:?}"),
        }
    }

    /// Enrols an app beside what is there; returns its secret.
    async fn with_app(&self, user: &UserId) -> Secret<String> {
        let context = context();
        let (id, made) = ("proof".to_owned(), self.clock.now());
        let ends = made + Duration::from_secs(300);
        let request = ChangeRequest {
            authority: Authority::Application,
            proof: Some(FactorProof { id, made, ends }),
        };
        let enrolled = self
            .runtime
            .two_factor_totp_enroll(&context, user, request, None, None);
        let TotpVerdict::Pending { secret, .. } = enrolled.await.unwrap().0 else {
            panic!("pending");
        };
        let request = VerifyFactorRequest {
            authority: Authority::Application,
            code: app_code(&secret, self.clock.now()),
            proof: None,
        };
        let verified = self
            .runtime
            .two_factor_totp_verify(&context, user, request, None);
        let verified = verified.await.unwrap().0;
        assert!(
            matches!(
                verified,
                VerifyFactorVerdict::Enabled {
                    factor: Factor::Totp,
                    ..
                }
            ),
            "{verified:?}"
        );
        self.clock.advance(Duration::from_secs(30));
        secret
    }

    async fn log_in(&self, user: &UserId, code: &str) -> Result<LoginVerdict, CallError> {
        let context = context();
        let request = LoginRequest {
            authority: Authority::Application,
            code: code.to_owned(),
            method: None,
        };
        let answer = self.runtime.two_factor_login(&context, user, request, None);
        answer.await.map(|(verdict, _)| verdict)
    }
}

fn rejected(answer: &Result<LoginVerdict, CallError>) -> Option<&str> {
    match answer {
        Ok(LoginVerdict::Rejected(refusal)) => Some(&refusal.text),
        _ => None,
    }
}

fn count(answers: &[Result<LoginVerdict, CallError>], text: &str) -> usize {
    answers
        .iter()
        .filter(|answer| rejected(answer) == Some(text))
        .count()
}

#[tokio::test]
async fn a_user_enrols_and_logs_in_by_each_method() {
    let context = context();
    let bench = Bench::with_settings(patient(), &CHEAP).await;
    let user = user();
    let codes = bench.with_phone(&user).await;
    assert_eq!(codes.len(), 10);
    let secret = bench.with_app(&user).await;
    let request = LoginSendRequest {
        authority: Authority::Application,
        locale: None,
    };
    let sent = bench
        .runtime
        .two_factor_login_send(&context, &user, request, None);
    let (sent, _) = sent.await.unwrap();
    assert!(matches!(sent, LoginSendVerdict::Sent { .. }), "{sent:?}");
    let code = bench.sent_code().await;
    let accepted = |method, backup_codes_left| LoginVerdict::Accepted {
        method,
        backup_codes_left,
    };
    let answer = bench.log_in(&user, &code).await.unwrap();
    assert_eq!(answer, accepted(Method::Sms, None));
    let code = app_code(&secret, bench.clock.now());
    let answer = bench.log_in(&user, &code).await.unwrap();
    assert_eq!(answer, accepted(Method::Totp, None));
    let typed = codes[0].expose().to_lowercase().replace('-', " ");
    let answer = bench.log_in(&user, &typed).await.unwrap();
    assert_eq!(answer, accepted(Method::Backup, Some(9)));
    // R16, R25, R27: none of them a second time.
    for code in [code, typed] {
        let answer = bench.log_in(&user, &code).await;
        assert_eq!(rejected(&answer), Some("Invalid code"));
    }
    let state = bench.runtime.two_factor_status(&context, &user).await;
    let state = state.unwrap();
    assert!(state.enabled() && state.totp);
    assert_eq!(state.phone.as_deref(), Some("+1202•••••23"));
    assert_eq!(state.backup_codes, Some(9));
    assert!(state.locks.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r16_of_16_logins_with_one_backup_code_at_once_one_succeeds() {
    // So many misses are borne that no cap decides.
    let settings = [
        CHEAP[0],
        CHEAP[1],
        ("backup-misses-per-quarter-hour", "100"),
    ];
    let bench = Bench::with_settings(patient(), &settings).await;
    let user = user();
    let codes = bench.with_phone(&user).await;
    let code = codes[4].expose();
    let answers = join_all((0..16).map(|_| bench.log_in(&user, code))).await;
    let accepted = |answer: &&Result<_, _>| matches!(answer, Ok(LoginVerdict::Accepted { .. }));
    assert_eq!(answers.iter().filter(accepted).count(), 1);
    assert_eq!(count(&answers, "Invalid code"), 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r09_of_64_wrong_backup_codes_at_once_five_are_hashed_and_counted() {
    let bench = Bench::with_settings(patient(), &CHEAP).await;
    let user = user();
    let codes = bench.with_phone(&user).await;
    let before = bench.runtime.hashes();
    let answers = join_all((0..64).map(|n| {
        let code = format!("WRONG-{n}");
        let (bench, user) = (&bench, &user);
        async move { bench.log_in(user, &code).await }
    }));
    let answers = answers.await;
    assert_eq!(count(&answers, "Invalid code"), 5);
    assert_eq!(count(&answers, "Too many attempts"), 59);
    assert_eq!(bench.runtime.hashes() - before, 5);
    // R11: the right one is refused as well, until the lock ends.
    let answer = bench.log_in(&user, codes[0].expose()).await;
    assert_eq!(rejected(&answer), Some("Too many attempts"));
    bench.clock.advance(Duration::from_secs(15 * 60));
    let answer = bench.log_in(&user, codes[0].expose()).await;
    assert!(matches!(answer, Ok(LoginVerdict::Accepted { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r09_of_64_wrong_codes_of_an_app_at_once_five_are_compared() {
    let bench = Bench::with_settings(patient(), &CHEAP).await;
    let user = user();
    bench.with_phone(&user).await;
    let secret = bench.with_app(&user).await;
    let request = LoginRequest {
        authority: Authority::Application,
        code: "no code".to_owned(),
        method: Some(Method::Totp),
    };
    let context = context();
    let log_in = |request| async {
        let runtime = &bench.runtime;
        let answer = runtime.two_factor_login(&context, &user, request, None);
        answer.await.map(|(verdict, _)| verdict)
    };
    let answers = join_all((0..64).map(|_| log_in(request.clone()))).await;
    assert_eq!(count(&answers, "Invalid code"), 5);
    assert_eq!(count(&answers, "Too many attempts"), 59);
    let right = LoginRequest {
        code: app_code(&secret, bench.clock.now()),
        ..request
    };
    assert_eq!(rejected(&log_in(right).await), Some("Too many attempts"));
}

#[tokio::test]
async fn r10_a_counted_try_stays_counted_whatever_comes_after_it() {
    for end in ["trap oops", "err oops", "spin"] {
        let bench = Bench::with(short(), countersign_hostile::PROBE_OTP, Vec::new()).await;
        bench.run("app-enroll a\nbackup-issue b 1").await.unwrap();
        for check in ["app-confirm a 000000", "backup-check b WRONG"] {
            failure(bench.run(&format!("{check}\n{end}")).await);
            failure(bench.run(&format!("{check}\n{check}\n{end}")).await);
            let left = bench.run(check).await.unwrap();
            assert_eq!(left, "wrong, 1 left", "{check}, {end}");
        }
    }
}

#[tokio::test]
async fn r10_a_try_stays_counted_when_every_run_was_stale() {
    let bench = Bench::new().await;
    bench.run("backup-issue b 1").await.unwrap();
    let store = bench.beside.clone();
    bench.store.after_read("a", move |read| {
        let store = store.clone();
        async move { write(&store, "a", &read.to_string()).await }.boxed()
    });
    let before = bench.runtime.hashes();
    let answer = bench.run("backup-check b WRONG\nget a").await;
    assert!(matches!(answer, Err(CallError::Busy { .. })), "{answer:?}");
    assert_eq!(bench.runtime.hashes() - before, 1, "kept over eight runs");
    let left = bench.run("backup-check b WRONG").await.unwrap();
    assert_eq!(left, "wrong, 3 left");
}

#[tokio::test]
async fn what_is_locked_or_absent_counts_and_is_told_the_same() {
    let bench = Bench::new().await;
    bench.run("app-enroll a\nbackup-issue b 1").await.unwrap();
    for (there, absent) in [
        ("app-confirm a 000000", "app-confirm x 000000"),
        ("app-check a 000000", "app-check x 000000"),
        ("backup-check b WRONG", "backup-check y WRONG"),
    ] {
        for _ in 0..6 {
            let (there, absent) = (bench.run(there).await, bench.run(absent).await);
            assert_eq!(there.unwrap(), absent.unwrap());
        }
        assert_eq!(bench.run(there).await.unwrap(), "locked");
    }
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(bench.run("app-check a 0").await.unwrap(), "wrong, 4 left");
}

#[tokio::test]
async fn a_row_holds_one_kind_of_thing_and_a_handle_names_one() {
    let bench = Bench::new().await;
    bench
        .run("open c\napp-enroll a\nbackup-issue b")
        .await
        .unwrap();
    for script in [
        "app-enroll c",
        "app-check c 000000",
        "backup-issue c",
        "backup-check c X",
        "open a",
        "backup-issue a",
        "open b",
        "app-enroll b",
        "app-remove b",
        "app-adopt a 1",
        "app-adopt a 0",
        "backup-issue b\napp-adopt a 1",
        "app-enroll a\nbackup-adopt b 1",
        "backup-issue b 0",
        "backup-issue b 21",
        "backup-issue b 3 1023",
        "backup-issue b 3 262145",
        "backup-issue b 3 1024 17",
        "app-enroll a 999",
        "app-enroll a 3600001",
        "app-check a 0 0",
        "app-check a 0 101",
        "app-check a 0 5 999",
        "audit short some.kind",
        "audit ABCDEF00000000000000000000000000 some.kind",
    ] {
        let (component, reason) = failure(bench.run(script).await);
        assert_eq!(component, "probe", "{script}: {reason}");
    }
    let long = "1".repeat(65);
    for script in [
        format!("app-check a {long}"),
        format!("backup-check b {long}"),
        ["app-check a 0"; 17].join("\n"),
        ["backup-check b 0"; 5].join("\n"),
    ] {
        failure(bench.run(&script).await);
    }
    for script in [
        "app-enroll a",
        "app-check a 0",
        "backup-check b 0",
        "app-remove a",
    ] {
        let (_, reason) = failure(bench.read(script).await);
        assert!(reason.contains("read-only"), "{script}: {reason}");
    }
    assert_eq!(bench.read("app-status a").await.unwrap(), "false true");
    assert_eq!(bench.read("backup-status b").await.unwrap(), "Some(3)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_too_many_hashes_wait_the_call_is_turned_away_and_nothing_is_counted() {
    let limits = Limits {
        hashes: 1,
        hashes_waiting: 0,
        ..patient()
    };
    let bench = Bench::with(limits, countersign_hostile::PROBE_OTP, Vec::new()).await;
    bench.run("backup-issue b 1").await.unwrap();
    // Expensive enough that the other call comes while it is worked out.
    let issue = bench.run_about("one", "backup-issue x 20 65536 4");
    let check = async {
        tokio::task::yield_now().await;
        bench.run_about("two", "backup-check b WRONG").await
    };
    let (issued, checked) = tokio::join!(issue, check);
    issued.unwrap();
    assert!(
        matches!(checked, Err(CallError::Busy { .. })),
        "{checked:?}"
    );
    let left = bench.run("backup-check b WRONG").await.unwrap();
    assert_eq!(left, "wrong, 4 left");
}

#[tokio::test]
async fn r24_r27_no_row_holds_a_secret_or_a_number_that_can_be_read() {
    let bench = Bench::with_settings(patient(), &CHEAP).await;
    let user = user();
    let codes = bench.with_phone(&user).await;
    let secret = bench.with_app(&user).await;
    bench.log_in(&user, codes[0].expose()).await.unwrap();
    let key = BASE32_NOPAD.decode(secret.expose().as_bytes()).unwrap();
    let bare = codes[1].expose().replace('-', "");
    let secrets: [&[u8]; 6] = [
        PHONE.as_bytes(),
        &PHONE.as_bytes()[2..],
        user.as_str().as_bytes(),
        bare.as_bytes(),
        secret.expose().as_bytes(),
        &key,
    ];
    let mut rows = 0;
    for (key, row) in bench.store.scan(b"a", b"\xff", 10_000).await.unwrap() {
        let rests = match row.expect("readable").body {
            Body::Sections(sections) => [sections.service, sections.host]
                .into_iter()
                .flatten()
                .flat_map(|section| section.value)
                .collect(),
            Body::Events { events, .. } => events.concat(),
            _ => Vec::new(),
        };
        rows += 1;
        let row = [key.as_slice(), b" ", &rests].concat();
        for secret in secrets {
            let held = row.windows(secret.len()).any(|bytes| bytes == secret);
            assert!(!held, "{:?}", String::from_utf8_lossy(&key));
        }
    }
    assert!(rows > 10, "{rows}");
    // With the keys a code is still not to be had: what is kept of it is its hash.
    let backup = format!(
        "c/two-factor/backup/default/{}",
        bench.keyring.user_index(user.as_str())
    );
    let row = bench.beside.get(backup.as_bytes()).await.unwrap().unwrap();
    let Body::Sections(sections) = row.body else {
        panic!("sections");
    };
    let opened = String::from_utf8_lossy(&sections.host.unwrap().value).into_owned();
    assert_eq!(opened.matches("$argon2id$v=19$m=1024,t=1,p=1$").count(), 10);
    assert!(!opened.contains(&bare[3..]));
}

#[tokio::test]
async fn each_step_costs_the_rows_of_its_budget() {
    let bench = Bench::with_settings(patient(), &CHEAP).await;
    let user = user();
    let (context, runtime) = (context(), &bench.runtime);
    let rows = || bench.store.last_commit().0;
    let request = EnableRequest {
        authority: Authority::Application,
        phone: PHONE.to_owned(),
        locale: None,
        proof: None,
    };
    let enabled = runtime.two_factor_enable(&context, &user, request, None);
    enabled.await.unwrap();
    assert_eq!(
        rows(),
        5,
        "otp's two, the user, the number's limit, the trail"
    );
    let request = VerifyFactorRequest {
        authority: Authority::Application,
        code: bench.sent_code().await,
        proof: None,
    };
    let verified = runtime.two_factor_verify_enable(&context, &user, request, None);
    let VerifyFactorVerdict::Enabled {
        backup_codes: Some(codes),
        ..
    } = verified.await.unwrap().0
    else {
        panic!("enabled");
    };
    assert_eq!(rows(), 5, "otp's, the user, the set, two in the trail");
    let request = LoginSendRequest {
        authority: Authority::Application,
        locale: None,
    };
    let sent = runtime.two_factor_login_send(&context, &user, request, None);
    sent.await.unwrap();
    assert_eq!(rows(), 4, "otp's two, the user, and the trail");
    let code = bench.sent_code().await;
    let wrong = if code == "000000" { "000001" } else { "000000" };
    bench.log_in(&user, wrong).await.unwrap();
    assert_eq!(rows(), 3, "otp's, the user with their app, the trail");
    bench.log_in(&user, "WRONG").await.unwrap();
    assert_eq!(rows(), 3, "the user, the set, the trail");
    bench.log_in(&user, &code).await.unwrap();
    assert_eq!(rows(), 3, "otp's, the user, the trail");
    bench.log_in(&user, codes[0].expose()).await.unwrap();
    assert_eq!(rows(), 4, "the set, two in the trail, the notice");
}

#[tokio::test]
async fn r38_a_wrong_code_costs_the_same_commit_whichever_factors_there_are() {
    let bench = Bench::with_settings(patient(), &CHEAP).await;
    let (phone, app): (UserId, UserId) = ("phone".parse().unwrap(), "app".parse().unwrap());
    bench.with_phone(&phone).await;
    bench.with_app(&app).await;
    for code in ["000000", "WRONG"] {
        let mut costs = Vec::new();
        for user in [&phone, &app] {
            let answer = bench.log_in(user, code).await;
            assert_eq!(rejected(&answer), Some("Invalid code"));
            costs.push(bench.store.last_commit());
        }
        assert_eq!(costs[0], costs[1], "{code}");
    }
}

#[tokio::test]
async fn what_otp_cannot_decide_leaves_nothing() {
    let bench = Bench::with_settings(patient(), &[("digits", "5")]).await;
    let request = EnableRequest {
        authority: Authority::Application,
        phone: PHONE.to_owned(),
        locale: None,
        proof: None,
    };
    let user = user();
    let (context, runtime) = (context(), &bench.runtime);
    let answer = runtime.two_factor_enable(&context, &user, request, None);
    let Err(CallError::Component {
        component, reason, ..
    }) = answer.await
    else {
        panic!("undecided");
    };
    assert_eq!(component, "two-factor");
    assert!(reason.contains("`digits`"), "{reason}");
    assert_eq!(bench.store.last_commit(), (0, 0));
}

#[tokio::test]
async fn a_user_of_another_system_logs_in_with_what_they_have() {
    let bench = Bench::with_settings(patient(), &CHEAP).await;
    let user = user();
    let (context, runtime) = (context(), &bench.runtime);
    // Both of `A1B2C3D4`, by two costs.
    let hashes = [
        "$2b$04$abcdefghijklmnopqrstuu4dIiD04wpJwpE4x/3HmD00YYMYa3462",
        "$2a$05$abcdefghijklmnopqrstuuBDjJA7TqVa5tMAZiBZc7D3wCC7xPhvu",
    ];
    let request = MoveInRequest {
        phone: Some(PHONE.to_owned()),
        totp: Some(MovedTotp::from_base32("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").unwrap()),
        backup_codes: Some(MovedBackupCodes::new(hashes.map(str::to_owned).to_vec()).unwrap()),
    };
    let moved = runtime.two_factor_move_in(&context, &user, request.clone());
    assert_eq!(moved.await.unwrap(), MoveInVerdict::MovedIn);
    let again = runtime.two_factor_move_in(&context, &user, request);
    assert_eq!(again.await.unwrap(), MoveInVerdict::Present);
    let key = format!(
        "c/two-factor/backup/default/{}",
        bench.keyring.user_index(user.as_str())
    );
    let kept = async || {
        let row = bench.beside.get(key.as_bytes()).await.unwrap().unwrap();
        let Body::Sections(sections) = row.body else {
            panic!("sections");
        };
        let kept = String::from_utf8_lossy(&sections.host.unwrap().value).into_owned();
        // With the second `$`: an argon2 salt may begin with a 2.
        (
            kept.matches("$2a$").count() + kept.matches("$2b$").count(),
            kept.matches("$argon2id$").count(),
        )
    };
    assert_eq!(kept().await, (2, 0));
    let before = runtime.hashes();
    let answer = bench.log_in(&user, "A1B2C3D4").await.unwrap();
    assert!(
        matches!(
            answer,
            LoginVerdict::Accepted {
                method: Method::Backup,
                backup_codes_left: Some(1)
            }
        ),
        "{answer:?}"
    );
    let hit = runtime.hashes() - before;
    assert_eq!(
        hit, 4,
        "each bcrypt hash once, one comparison, one new hash"
    );
    assert_eq!(kept().await, (1, 1), "the used one has been replaced");
    let secret = Secret::new("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ".to_owned());
    let code = app_code(&secret, bench.clock.now());
    let answer = bench.log_in(&user, &code).await.unwrap();
    assert!(matches!(
        answer,
        LoginVerdict::Accepted {
            method: Method::Totp,
            ..
        }
    ));
}

#[tokio::test]
async fn r45_the_trail_is_read_newest_first_and_says_who() {
    let context = context();
    let bench = Bench::with_settings(patient(), &CHEAP).await;
    let (user, other): (UserId, UserId) = (user(), "bob".parse().unwrap());
    let codes = bench.with_phone(&user).await;
    bench.with_phone(&other).await;
    bench.log_in(&user, codes[0].expose()).await.unwrap();
    bench.clock.advance(Duration::from_secs(1));
    bench.log_in(&user, "WRONG").await.unwrap();
    let operator = countersign_runtime::CallContext {
        caller: countersign_runtime::Caller::Operator,
        ..context.clone()
    };
    let unlocked = bench.runtime.two_factor_unlock(&operator, &user).await;
    assert_eq!(unlocked.unwrap(), SupportVerdict::Done);
    let recorded = bench.runtime.audit_record(
        &context,
        &user,
        "token.issued",
        vec![("purpose".to_owned(), "login".to_owned())],
        None,
    );
    recorded.await.unwrap();
    let mut kinds = Vec::new();
    let (mut after, mut pages) = (None, 0);
    loop {
        let page = bench.runtime.audit_trail(&user, after, 3).await.unwrap();
        pages += 1;
        assert!(page.entries.len() <= 3);
        kinds.extend(page.entries);
        match page.next {
            // As it comes back in a query.
            Some(next) => after = Some(next.to_string().parse().unwrap()),
            None => break,
        }
    }
    assert_eq!(pages, 3);
    let told: Vec<&str> = kinds.iter().map(|entry| entry.kind.as_str()).collect();
    let want = [
        "token.issued",
        "user.unlocked",
        "login.failed",
        "backup-code.used",
        "login.succeeded",
        "backup-codes.issued",
        "factor.enabled",
        "enrolment.sent",
    ];
    assert_eq!(told, want);
    assert_eq!(kinds[0].by, context.caller);
    assert_eq!(
        (kinds[0].source.as_str(), kinds[1].source.as_str()),
        ("host", "two-factor")
    );
    assert_eq!(kinds[1].by, operator.caller);
    assert_eq!(kinds[1].at, NOW + Duration::from_secs(1));
    assert_eq!(kinds[3].at, NOW);
    assert_eq!(kinds[3].attributes, [("left".to_owned(), "9".to_owned())]);
    // Another's trail is another's, and one that nobody has is empty.
    let page = bench.runtime.audit_trail(&other, None, 200).await.unwrap();
    assert_eq!(page.entries.len(), 3);
    let nobody = "nobody".parse().unwrap();
    let page = bench.runtime.audit_trail(&nobody, None, 200).await.unwrap();
    assert!(page.entries.is_empty() && page.next.is_none());
    // What is too old is not told.
    bench
        .clock
        .advance(Duration::from_secs(400 * 24 * 3600) - Duration::from_secs(1));
    let page = bench.runtime.audit_trail(&user, None, 200).await.unwrap();
    assert_eq!(page.entries.len(), 3);
    assert!("x".parse::<countersign_runtime::AuditCursor>().is_err());
}

#[tokio::test]
async fn a_proof_and_a_token_are_used_once_whatever_runs_at_once() {
    let bench = Bench::with_settings(patient(), &CHEAP).await;
    let user = user();
    bench.with_phone(&user).await;
    let made = bench.clock.now();
    let request = ChangeRequest {
        authority: Authority::Application,
        proof: Some(FactorProof {
            id: "one".to_owned(),
            made,
            ends: made + Duration::from_secs(300),
        }),
    };
    let (context, runtime) = (context(), &bench.runtime);
    let changes = join_all(
        (0..4).map(|_| runtime.two_factor_new_backup_codes(&context, &user, request.clone(), None)),
    );
    let issued = changes.await.into_iter().filter(|answer| {
        let answer = answer.as_ref().map(|(verdict, _)| verdict);
        matches!(answer, Ok(BackupCodesVerdict::Issued(codes)) if codes.len() == 10)
    });
    assert_eq!(issued.count(), 1);
}

#[tokio::test]
async fn r23_a_proof_from_before_the_codes_were_replaced_changes_nothing() {
    let bench = Bench::with_settings(patient(), &CHEAP).await;
    let (user, context, runtime) = (user(), context(), &bench.runtime);
    bench.with_phone(&user).await;
    let change = |id: &str| ChangeRequest {
        authority: Authority::Application,
        proof: Some(FactorProof {
            id: id.to_owned(),
            made: bench.clock.now(),
            ends: bench.clock.now() + Duration::from_secs(300),
        }),
    };
    let thief = change("thief");
    bench.clock.advance(Duration::from_secs(1));
    let renew = async |request| {
        let renewed = runtime.two_factor_new_backup_codes(&context, &user, request, None);
        renewed.await.unwrap().0
    };
    let renewed = renew(change("owner")).await;
    assert!(matches!(renewed, BackupCodesVerdict::Issued(_)));
    let denied = renew(thief).await;
    assert!(
        matches!(denied, BackupCodesVerdict::Denied(Denial::ProofRequired)),
        "{denied:?}"
    );
    let renewed = renew(change("owner-2")).await;
    assert!(matches!(renewed, BackupCodesVerdict::Issued(_)));
}

#[tokio::test]
async fn r45_records_of_one_user_at_one_moment_are_all_kept() {
    let bench = Bench::new().await;
    let (user, context, runtime) = (user(), context(), &bench.runtime);
    let record = |_| runtime.audit_record(&context, &user, "token.issued", Vec::new(), None);
    for recorded in join_all((0..40).map(record)).await {
        recorded.unwrap();
    }
    let page = runtime.audit_trail(&user, None, 200).await.unwrap();
    assert_eq!(page.entries.len(), 40);
}
