//! Versions of components: how one takes another's place, and what keeps it from that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign_delivery::Sender;
use countersign_hostile::{OTP_NEXT, OTP_NEXT_ALONE, PROBE_OTP, PROBE_PROVIDER, variant};
use countersign_runtime::{
    By, CallError, Damage, DefaultVersion, InstallError, Installed, Limits, Plan, Record, Registry,
    RegistrySettings, SendRequest, SendVerdict, Sha256,
};
use countersign_store::{Body, Store};
use futures_util::FutureExt;
use futures_util::future::join_all;

use crate::bench::{Bench, context, short, write};
use crate::providers;

pub(crate) const OTP: &[u8] = countersign_embedded::OTP;
const TWO_FACTOR: &[u8] = countersign_embedded::TWO_FACTOR;
const ANALYTICS: &[u8] = countersign_embedded::ANALYTICS;

fn default_version(component: &str, by: By, bytes: &[u8]) -> DefaultVersion {
    DefaultVersion {
        component: component.to_owned(),
        by,
        bytes: bytes.to_vec().into(),
    }
}

async fn open(bench: &Bench, settings: RegistrySettings) -> Arc<Registry> {
    let defaults = vec![
        default_version("otp", By::BuiltIn, OTP),
        default_version("two-factor", By::BuiltIn, TWO_FACTOR),
        default_version("analytics", By::BuiltIn, ANALYTICS),
        default_version("probe-provider", By::Configuration, PROBE_PROVIDER),
    ];
    let (store, clock) = (bench.store.clone(), bench.clock.clone());
    let refuse = Damage::Refuse;
    Registry::open(store, clock, settings, defaults, refuse)
        .await
        .unwrap()
}

async fn serve(bench: &Bench, settings: RegistrySettings) -> Arc<Registry> {
    let registry = open(bench, settings).await;
    registry.serve(bench.runtime.clone()).await.unwrap();
    registry
}

/// With the built-in components.
pub(crate) async fn bench() -> (Bench, Arc<Registry>) {
    let bench = Bench::with_settings(Limits::default(), &[]).await;
    let registry = serve(&bench, RegistrySettings::default()).await;
    (bench, registry)
}

pub(crate) async fn install(
    registry: &Registry,
    component: &str,
    bytes: &[u8],
) -> Result<Installed, InstallError> {
    let plan = Plan {
        by: By::Administrator,
        canary: None,
    };
    registry
        .install(component, bytes.to_vec(), plan, &|_| {})
        .await
}

async fn install_canary(
    registry: &Registry,
    component: &str,
    bytes: &[u8],
    percent: u8,
) -> Result<Installed, InstallError> {
    let plan = Plan {
        by: By::Command,
        canary: Some(percent),
    };
    registry
        .install(component, bytes.to_vec(), plan, &|_| {})
        .await
}

pub(crate) async fn send(bench: &Bench, phone: &str) -> Result<SendVerdict, CallError> {
    let request = SendRequest {
        phone: phone.to_owned(),
        ..SendRequest::default()
    };
    let sent = bench.runtime.otp_send(&context(), request, None).await;
    sent.map(|(verdict, _)| verdict)
}

fn phone(n: usize) -> String {
    format!("+1202456{n:04}")
}

/// The state versions of otp's rows.
async fn states(bench: &Bench) -> Vec<u32> {
    let rows = bench
        .store
        .scan(b"c/otp/p", b"c/otp0", 1_000)
        .await
        .unwrap();
    let mut states: Vec<u32> = rows
        .into_iter()
        .filter_map(|(_, row)| match row.unwrap().body {
            Body::Sections(sections) => Some(sections.service?.state),
            _ => None,
        })
        .collect();
    states.sort_unstable();
    states.dedup();
    states
}

#[track_caller]
fn refused(outcome: Result<Installed, InstallError>, words: &[&str]) {
    let error = outcome.expect_err("refused");
    let text = format!("{error} {}", error.help());
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_its_runs_and_its_nested_calls_end_on_the_versions_that_it_began_with() {
    let (bench, registry) = bench().await;
    let swapped = Arc::new(AtomicBool::new(false));
    let (told, store, again) = (swapped.clone(), bench.beside.clone(), registry.clone());
    bench.store.after_read("a", move |read| {
        let (told, store, registry) = (told.clone(), store.clone(), again.clone());
        async move {
            if read == 1 {
                // In the middle of the first run, which goes stale by that.
                install(&registry, "otp", OTP_NEXT).await.unwrap();
                told.store(true, Ordering::SeqCst);
                write(&store, "a", "new").await;
            }
        }
        .boxed()
    });
    let answer = bench.run(&format!("get a\nnested {}", phone(1))).await;
    assert!(answer.unwrap().starts_with("new\n"));
    assert!(swapped.load(Ordering::SeqCst));
    assert_eq!(states(&bench).await, [1], "the version that it began with");
    send(&bench, &phone(2)).await.unwrap();
    assert_eq!(
        states(&bench).await,
        [1, 2],
        "the next call has the new one"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_versions_change_under_it() {
    let (bench, registry) = bench().await;
    let bench = Arc::new(bench);
    let swaps = async {
        for number in 0..6 {
            let otp = variant(OTP, &number.to_string());
            install(&registry, "otp", &otp).await.unwrap();
            let two_factor = variant(TWO_FACTOR, &number.to_string());
            install(&registry, "two-factor", &two_factor).await.unwrap();
            let analytics = variant(ANALYTICS, &number.to_string());
            install(&registry, "analytics", &analytics).await.unwrap();
        }
    };
    let calls = (0..8).map(|caller| {
        let bench = bench.clone();
        tokio::spawn(async move {
            // The queue has room for 100 messages.
            for call in 0..12 {
                let verdict = send(&bench, &phone(caller * 100 + call)).await.unwrap();
                assert!(matches!(verdict, SendVerdict::Sent { .. }), "{verdict:?}");
            }
        })
    });
    let ((), ended) = tokio::join!(swaps, join_all(calls));
    ended.into_iter().for_each(Result::unwrap);
}

#[tokio::test]
async fn each_step_is_told_in_its_order_with_its_time() {
    let (_bench, registry) = bench().await;
    let told = std::sync::Mutex::new(Vec::new());
    let plan = Plan {
        by: By::Administrator,
        canary: None,
    };
    let hear = |step: &countersign_runtime::Step| told.lock().unwrap().push(step.clone());
    let bytes = variant(OTP, "a");
    let done = registry
        .install("otp", bytes.clone(), plan, &hear)
        .await
        .unwrap();
    let names: Vec<&str> = done.steps.iter().map(|step| step.name).collect();
    let want = [
        "hash",
        "validate",
        "types",
        "compile",
        "describe",
        "self-test",
        "state",
        "keep",
        "swap",
    ];
    assert_eq!(names, want);
    assert_eq!(*told.lock().unwrap(), done.steps);
    let compile = &done.steps[3];
    assert!(compile.took > Duration::from_millis(1), "{compile:?}");
    assert_eq!(done.record.live, Sha256::of(&bytes));
    // What is live already is not installed again.
    let again = install(&registry, "otp", &bytes).await.unwrap();
    assert!(again.steps.is_empty());
    assert_eq!(again.record.versions.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_with_its_reason_and_the_running_version_stays() {
    let bench = Bench::with_settings(short(), &[]).await;
    let settings = RegistrySettings {
        bytes_max: OTP.len() as u64 * 3,
        ..RegistrySettings::default()
    };
    let registry = serve(&bench, settings).await;
    let before = registry.list().await.unwrap();
    refused(
        install(&registry, "nobody", OTP).await,
        &["nobody", "two-factor"],
    );
    refused(
        install(&registry, "otp", b"nonsense").await,
        &["no WebAssembly"],
    );
    refused(
        install(&registry, "otp", &OTP[..OTP.len() - 100]).await,
        &["no WebAssembly"],
    );
    refused(
        install(&registry, "otp", &vec![0; OTP.len() * 3 + 1]).await,
        &["at most", "components.bytes-max"],
    );
    refused(
        install(&registry, "otp", countersign_embedded::PROVIDER_TWILIO).await,
        &["countersign:provider/", "does not offer"],
    );
    refused(
        install(&registry, "probe-provider", OTP).await,
        &["countersign:service/", "does not offer"],
    );
    let old = [OTP, b""].concat();
    let newer = replaced(
        &old,
        b"countersign:service/storage@0.1.0",
        b"countersign:service/storage@0.9.0",
    );
    refused(
        install(&registry, "otp", &newer).await,
        &["countersign:service/storage@0.9.0", "0.1.0", "wit/service"],
    );
    // It traps at what the self-test asks for, since its script is the number.
    refused(
        install(&registry, "otp", PROBE_OTP).await,
        &["self-test", "`otp`"],
    );
    assert_eq!(registry.list().await.unwrap(), before);
    assert!(matches!(
        send(&bench, &phone(1)).await.unwrap(),
        SendVerdict::Sent { .. }
    ));
}

/// `bytes` with one text in the place of another of the same length, wherever it stands.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while at + from.len() <= bytes.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
        at += 1;
    }
    bytes
}

#[tokio::test]
async fn a_compilation_that_takes_too_long_is_given_up() {
    let bench = Bench::with_settings(Limits::default(), &[]).await;
    let settings = RegistrySettings {
        compile: Duration::from_micros(1),
        ..RegistrySettings::default()
    };
    let registry = serve(&bench, settings).await;
    let before = registry.record("otp").await.unwrap();
    refused(
        install(&registry, "otp", &variant(OTP, "slow")).await,
        &["compiling", "components.compile-seconds"],
    );
    assert_eq!(registry.record("otp").await.unwrap(), before);
}

#[tokio::test]
async fn a_format_is_left_behind_in_two_steps() {
    let (bench, registry) = bench().await;
    send(&bench, &phone(1)).await.unwrap();
    refused(
        install(&registry, "otp", OTP_NEXT_ALONE).await,
        &["state version 1", "reads only 2", "two steps"],
    );
    let done = install(&registry, "otp", OTP_NEXT).await.unwrap();
    assert_eq!(done.record.states, [1, 2]);
    // The present one reads nothing of what this one writes, so there is no way back by itself.
    assert_eq!(done.record.trial, None);
    // It reads the old row: three sends in a minute are counted together.
    for _ in 0..2 {
        let sent = send(&bench, &phone(1)).await.unwrap();
        assert!(matches!(sent, SendVerdict::Sent { .. }));
    }
    let fourth = send(&bench, &phone(1)).await.unwrap();
    assert!(matches!(fourth, SendVerdict::Refused(_)), "{fourth:?}");
    assert_eq!(states(&bench).await, [2]);
    send(&bench, &phone(2)).await.unwrap();
    let last = install(&registry, "otp", OTP_NEXT_ALONE).await.unwrap();
    assert_eq!(last.record.states, [2], "no row of the old format was left");
    let sent = send(&bench, &phone(2)).await.unwrap();
    assert!(matches!(sent, SendVerdict::Sent { .. }));
    // Back to the one that reads both, and not to the first.
    let record = registry.roll_back("otp", None).await.unwrap();
    assert_eq!(record.live, Sha256::of(OTP_NEXT));
    let error = registry.roll_back("otp", None).await.unwrap_err();
    assert!(
        matches!(error, InstallError::State { state: 2, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn while_a_row_of_the_old_format_is_there_no_version_is_taken_that_cannot_read_it() {
    let (bench, registry) = bench().await;
    send(&bench, &phone(1)).await.unwrap();
    install(&registry, "otp", OTP_NEXT).await.unwrap();
    refused(
        install(&registry, "otp", OTP_NEXT_ALONE).await,
        &["state version 1"],
    );
    // A day later the row is gone by itself.
    bench.clock.advance(Duration::from_secs(24 * 3_600 + 1));
    install(&registry, "otp", OTP_NEXT_ALONE).await.unwrap();
}

#[tokio::test]
async fn what_was_installed_is_there_after_a_restart_and_the_built_in_is_one_step_back() {
    let (bench, registry) = bench().await;
    let mine = variant(OTP, "mine");
    install(&registry, "otp", &mine).await.unwrap();
    drop(registry);
    let restarted = open(&bench, RegistrySettings::default()).await;
    assert_eq!(restarted.bytes("otp"), (&mine[..], true));
    assert_eq!(restarted.bytes("two-factor"), (TWO_FACTOR, false));
    restarted.serve(bench.runtime.clone()).await.unwrap();
    let record = restarted.record("otp").await.unwrap();
    assert!(record.is_installed());
    let (first, second) = (&record.versions[0], &record.versions[1]);
    assert_eq!((first.by, second.by), (By::Administrator, By::BuiltIn));
    assert_eq!(first.bytes, mine.len() as u64);
    let record = restarted.roll_back("otp", None).await.unwrap();
    assert_eq!(record.live, Sha256::of(OTP));
    assert!(!record.is_installed() && record.versions[0].rolled_back);
    let again = open(&bench, RegistrySettings::default()).await;
    assert_eq!(again.bytes("otp"), (OTP, false));
}

#[tokio::test]
async fn an_installed_version_whose_bytes_are_damaged_is_not_started() {
    let (bench, registry) = bench().await;
    let mine = variant(OTP, "mine");
    install(&registry, "otp", &mine).await.unwrap();
    let rows = bench.store.scan(b"w/", b"w0", 1).await.unwrap();
    let mut run = countersign_store::Transaction::new(
        bench.store.clone(),
        bench.store.newest_instant(),
        countersign_store::Rulings::default(),
    );
    run.set_host(&rows[0].0, None).await.unwrap();
    let commit = run.into_commit(countersign_store::Ending::Commit);
    bench.store.commit(commit).await.unwrap();
    let (store, clock) = (bench.store.clone(), bench.clock.clone());
    let defaults = || vec![default_version("otp", By::BuiltIn, OTP)];
    let settings = RegistrySettings::default();
    let opened = Registry::open(
        store.clone(),
        clock.clone(),
        settings,
        defaults(),
        Damage::Refuse,
    );
    let error = opened.await.err().unwrap();
    assert!(matches!(error, InstallError::Damaged { .. }), "{error}");
    // Who wants to put it right starts with the program's own.
    let opened = Registry::open(store, clock, settings, defaults(), Damage::UseDefault).await;
    let opened = opened.unwrap();
    assert_eq!(opened.bytes("otp"), (OTP, false));
    opened.serve(bench.runtime.clone()).await.unwrap();
    let record = opened.roll_back("otp", None).await.unwrap();
    assert_eq!(record.live, Sha256::of(OTP));
}

#[tokio::test]
async fn versions_are_kept_by_count_and_those_that_went_leave_no_bytes() {
    let bench = Bench::with_settings(Limits::default(), &[]).await;
    let settings = RegistrySettings {
        kept: 2,
        ..RegistrySettings::default()
    };
    let registry = serve(&bench, settings).await;
    for number in 0..5 {
        let version = variant(OTP, &number.to_string());
        install(&registry, "otp", &version).await.unwrap();
    }
    let record = registry.record("otp").await.unwrap();
    let kept: Vec<Sha256> = record
        .versions
        .iter()
        .map(|version| version.sha256)
        .collect();
    let of = |number: usize| Sha256::of(&variant(OTP, &number.to_string()));
    assert_eq!(kept, [of(4), of(3), Sha256::of(OTP)]);
    let rows = bench.store.scan(b"w/", b"w0", 10_000).await.unwrap();
    let live = rows
        .iter()
        .map(|(key, _)| Sha256(key[2..34].try_into().unwrap()));
    assert!(live.into_iter().all(|version| kept.contains(&version)));
}

#[tokio::test]
async fn a_version_that_fails_is_taken_back_at_once_and_for_good() {
    let (bench, registry) = failing().await;
    let live = registry.record("otp").await.unwrap().live;
    assert_eq!(live, Sha256::of(&failing_otp()));
    // The call that finds it out fails; the next one does not.
    let failed = send(&bench, &phone(1)).await;
    assert!(
        matches!(failed, Err(CallError::Component { .. })),
        "{failed:?}"
    );
    let next = send(&bench, &phone(1)).await.unwrap();
    assert!(matches!(next, SendVerdict::Sent { .. }));
    registry.settle_trials().await.unwrap();
    let record = registry.record("otp").await.unwrap();
    assert_eq!(record.live, Sha256::of(OTP));
    assert!(record.versions[0].rolled_back && record.trial.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crossing_a_limit_and_not_deciding_are_failures_as_well() {
    for (last, words) in [(77, "longer than"), (78, "it cannot decide")] {
        let bench = Bench::with_settings(short(), &[]).await;
        let registry = serve(&bench, RegistrySettings::default()).await;
        install(&registry, "otp", &failing_otp()).await.unwrap();
        let failed = send(&bench, &phone(last)).await;
        let Err(CallError::Component { reason, .. }) = failed else {
            panic!("{failed:?}");
        };
        assert!(reason.contains(words), "{reason}");
        let next = send(&bench, &phone(last)).await.unwrap();
        assert!(matches!(next, SendVerdict::Sent { .. }));
    }
}

/// An otp that traps at each number but that of the self-test.
fn failing_otp() -> Vec<u8> {
    countersign_hostile::OTP_FAILING.to_vec()
}

async fn failing() -> (Bench, Arc<Registry>) {
    let (bench, registry) = bench().await;
    install(&registry, "otp", &failing_otp()).await.unwrap();
    (bench, registry)
}

#[tokio::test]
async fn a_version_that_was_tried_long_enough_stays_also_when_it_fails() {
    let (bench, registry) = failing().await;
    bench.clock.advance(Duration::from_secs(301));
    registry.settle_trials().await.unwrap();
    assert_eq!(registry.record("otp").await.unwrap().trial, None);
    assert!(send(&bench, &phone(1)).await.is_err());
    assert!(send(&bench, &phone(1)).await.is_err());
    registry.settle_trials().await.unwrap();
    let record = registry.record("otp").await.unwrap();
    assert_eq!(record.live, Sha256::of(&failing_otp()));
}

#[tokio::test]
async fn a_canary_has_its_share_and_is_taken_back_when_it_fails() {
    let (bench, registry) = bench().await;
    let done = install_canary(&registry, "otp", &failing_otp(), 30)
        .await
        .unwrap();
    assert_eq!(done.record.live, Sha256::of(OTP));
    let mut failed = 0;
    for number in 0..40 {
        failed += usize::from(send(&bench, &phone(number)).await.is_err());
    }
    assert_eq!(failed, 1, "the first failure is its last");
    registry.settle_trials().await.unwrap();
    let record = registry.record("otp").await.unwrap();
    assert_eq!((record.live, record.trial), (Sha256::of(OTP), None));
}

#[tokio::test]
async fn a_canary_is_made_live_or_taken_back_by_hand() {
    let (bench, registry) = bench().await;
    let mine = variant(OTP, "mine");
    install_canary(&registry, "otp", &mine, 50).await.unwrap();
    let restarted = serve(&bench, RegistrySettings::default()).await;
    let trial = restarted.record("otp").await.unwrap().trial.unwrap();
    assert_eq!((trial.percent, trial.sha256), (50, Sha256::of(&mine)));
    let record = restarted.roll_back("otp", None).await.unwrap();
    assert_eq!((record.live, &record.trial), (Sha256::of(OTP), &None));
    install_canary(&restarted, "otp", &mine, 50).await.unwrap();
    let done = install(&restarted, "otp", &mine).await.unwrap();
    assert_eq!(done.record.live, Sha256::of(&mine));
}

#[tokio::test]
async fn a_canary_that_could_not_be_taken_back_is_refused() {
    let (_bench, registry) = bench().await;
    refused(
        install_canary(&registry, "otp", OTP_NEXT, 10).await,
        &["state version 2", "--canary"],
    );
}

#[tokio::test]
async fn all_entries_of_a_providers_component_change_at_once() {
    let base = "http://127.0.0.1:9";
    let first = providers::config(base);
    let mut second = providers::config(base);
    second.name = "second".to_owned();
    let bench = Bench::with(short(), OTP, vec![first, second]).await;
    let registry = serve(&bench, RegistrySettings::default()).await;
    let next = variant(PROBE_PROVIDER, "next");
    let done = install(&registry, "probe-provider", &next).await.unwrap();
    assert_eq!(done.record.live, Sha256::of(&next));
    for name in ["probe", "second"] {
        let sent = bench.runtime.send(name, &providers::message("sends")).await;
        assert_eq!(sent.unwrap().ids, ["1"]);
    }
    // A trap is a failure; one of a version whose predecessor never failed is enough.
    let failed = bench
        .runtime
        .send("second", &providers::message("trap oops"))
        .await;
    assert!(failed.is_err());
    registry.settle_trials().await.unwrap();
    let record: Record = registry.record("probe-provider").await.unwrap();
    assert_eq!(record.live, Sha256::of(PROBE_PROVIDER));
}

#[tokio::test]
async fn the_watched_folders_versions_are_remembered() {
    let (bench, registry) = bench().await;
    let mine = variant(OTP, "mine");
    let plan = Plan {
        by: By::Watch,
        canary: None,
    };
    registry
        .install("otp", mine.clone(), plan, &|_| {})
        .await
        .unwrap();
    registry.roll_back("otp", None).await.unwrap();
    let restarted = serve(&bench, RegistrySettings::default()).await;
    assert!(restarted.has_seen("otp", Sha256::of(&mine)).await.unwrap());
    assert!(
        !restarted
            .has_seen("otp", Sha256::of(b"other"))
            .await
            .unwrap()
    );
}
