//! Components that misbehave hurt their own call and nothing else.

use std::time::Duration;

use countersign_runtime::{CallError, Limits, LoadError};
use futures_util::future::join_all;

use crate::bench::{Bench, Probe, failure, patient, short};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_is_ended_for_each_way_of_running_away_and_the_next_call_is_fine() {
    let bench = Bench::with(short(), countersign_hostile::PROBE_OTP, Vec::new()).await;
    for (script, why) in [
        ("spin", "ran longer than 50ms"),
        ("grow", ""),
        ("recurse 100000000", ""),
        ("exit", ""),
        ("trap on purpose", ""),
    ] {
        let (component, reason) = failure(bench.run(script).await);
        assert_eq!(component, "probe");
        assert!(reason.contains(why), "{script}: {reason}");
        assert!(!reason.contains("took longer"), "{script}: {reason}");
        assert_eq!(
            bench.run("put k x\nget k").await.unwrap(),
            "x",
            "after {script}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_is_not_charged_as_the_guests_own_time() {
    let limits = Limits {
        service_time: Duration::from_millis(50),
        ..patient()
    };
    let bench = Bench::with(limits, countersign_hostile::PROBE_OTP, Vec::new()).await;
    bench.run("sleep 300").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spinning_guests_do_not_keep_others_from_running() {
    let limits = Limits {
        service_time: Duration::from_millis(400),
        ..patient()
    };
    let bench = Bench::with(limits, countersign_hostile::PROBE_OTP, Vec::new()).await;
    let subjects: Vec<String> = (0..4).map(|n| n.to_string()).collect();
    let spinning = join_all(
        subjects
            .iter()
            .map(|subject| bench.run_about(subject, "spin")),
    );
    tokio::pin!(spinning);
    // All in one task: it comes to its end only because those that spin let others run.
    tokio::select! {
        biased;
        spun = &mut spinning => panic!("it had to wait for all of them: {spun:?}"),
        neighbour = bench.run_about("neighbour", "get k") => assert_eq!(neighbour.unwrap(), "-"),
    }
    let spun = spinning.await;
    assert!(spun.into_iter().all(|answer| failure(answer).0 == "probe"));
}

#[tokio::test]
async fn every_bound_of_every_host_function_holds() {
    let bench = Bench::new().await;
    let long_key = "k".repeat(257);
    let many_checks = ["check k 1"; 17].join("\n");
    let many_events = ["emit a.b"; 17].join("\n");
    let many_takes = ["take k 1 2 1000"; 17].join("\n");
    let many_messages = ["send"; 9].join("\n");
    let long_code = format!("check k {}", "1".repeat(65));
    for script in [
        format!("get {long_key}"),
        "get ".to_owned(),
        "big k 32769".to_owned(),
        long_code,
        many_checks,
        many_events,
        many_takes,
        many_messages,
        "take k 3 2 1000".to_owned(),
        "take k 1 2 999".to_owned(),
        "take k 1 9007199254740993 1000".to_owned(),
        format!("take k {} {} 1000", u64::MAX, u64::MAX),
        "open k x 5".to_owned(),
        "open k x 11".to_owned(),
        "send nothing-there".to_owned(),
        "put k x\nadd k 1".to_owned(),
        "put k x\ntake k 1 2 1000".to_owned(),
        "take k 1 2 1000\nopen k".to_owned(),
        format!("emit {}", "e".repeat(65)),
        format!("text {} p", "t".repeat(65)),
        format!("text t {}", "p".repeat(65)),
        format!("text t p {}", "l".repeat(36)),
        "text t".to_owned(),
    ] {
        let (component, reason) = failure(bench.run(&script).await);
        assert_eq!(component, "probe", "{script:.40}: {reason}");
    }
    // At the bound it works.
    let key = "k".repeat(256);
    bench.run(&format!("big {key} 32768")).await.unwrap();
    bench.run(&["emit a.b"; 16].join("\n")).await.unwrap();
    bench.run("open k x 6\nopen k x 10").await.unwrap();
    let most = "take limit 9007199254740992 9007199254740992 1000";
    bench.run(most).await.unwrap();
    let longest = format!("text {0} {0} {1}", "t".repeat(64), "l".repeat(35));
    assert_eq!(bench.run(&longest).await.unwrap(), "-");
}

#[tokio::test]
async fn a_full_queue_turns_the_call_away() {
    let otp = countersign_hostile::PROBE_OTP;
    let bench = Bench::with_capacity(patient(), otp, Vec::new(), 1).await;
    bench.run("send").await.unwrap();
    let answer = bench.run("put k x\nsend").await;
    assert!(
        matches!(answer, Err(CallError::QueueFull { .. })),
        "{answer:?}"
    );
    assert_eq!(bench.run("get k").await.unwrap(), "-");
}

#[tokio::test]
async fn a_guest_sees_no_environment_and_no_files() {
    let bench = Bench::new().await;
    assert_eq!(bench.run("env").await.unwrap(), "0 false");
}

#[tokio::test]
async fn a_component_that_does_not_fit_is_refused_by_name() {
    let bench = Bench::new().await;
    let runtime = &bench.runtime;
    let malformed = runtime.load::<Probe>("x", b"nonsense").await.err().unwrap();
    assert!(
        matches!(malformed, LoadError::Malformed { .. }),
        "{malformed}"
    );
    // The otp component exports no `probe`; a provider imports what no service is offered.
    for bytes in [
        countersign_embedded::OTP,
        countersign_embedded::PROVIDER_TWILIO,
    ] {
        let misfit = runtime.load::<Probe>("x", bytes).await.err().unwrap();
        assert!(matches!(misfit, LoadError::DoesNotFit { .. }), "{misfit}");
    }
}

#[tokio::test]
async fn a_challenge_that_replaces_another_keeps_its_tries_and_both_codes_work() {
    let bench = Bench::new().await;
    bench.run("open k").await.unwrap();
    let first = bench.code("k").await;
    bench.run("check k wrong\nopen k replace").await.unwrap();
    assert_eq!(bench.run("status k").await.unwrap(), "State::Live 1");
    let second = bench.code("k").await;
    let third = {
        bench.run("open k replace").await.unwrap();
        bench.code("k").await
    };
    if first != second && first != third {
        assert_eq!(
            bench.run(&format!("check k {first}")).await.unwrap(),
            "wrong, 3 left",
            "a third drops the oldest"
        );
    }
    assert_eq!(
        bench.run(&format!("check k {second}")).await.unwrap(),
        "accepted"
    );
    assert_eq!(
        bench.run(&format!("check k {third}")).await.unwrap(),
        "absent",
        "one use for both"
    );
}

#[tokio::test]
async fn the_sixth_try_is_locked_whatever_it_is() {
    let bench = Bench::new().await;
    bench.run("open k").await.unwrap();
    let code = bench.code("k").await;
    for left in (0..5).rev() {
        assert_eq!(
            bench.run("check k wrong").await.unwrap(),
            format!("wrong, {left} left")
        );
    }
    assert_eq!(
        bench
            .run(&format!("check k {code}\nstatus k"))
            .await
            .unwrap(),
        "locked\nState::Locked 5"
    );
    bench.run("open k replace").await.unwrap();
    assert_eq!(
        bench.run("status k").await.unwrap(),
        "State::Live 0",
        "a locked one is not joined"
    );
}

#[tokio::test]
async fn a_code_ends_after_ten_minutes_to_the_millisecond() {
    let bench = Bench::new().await;
    bench.run("open k").await.unwrap();
    let code = bench.code("k").await;
    bench.clock.advance(Duration::from_millis(600_000 - 1));
    assert_eq!(bench.run("status k").await.unwrap(), "State::Live 0");
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(
        bench
            .run(&format!("check k {code}\nstatus k"))
            .await
            .unwrap(),
        "absent\n-"
    );
}

#[tokio::test]
async fn deleting_the_components_part_of_a_row_leaves_the_challenge() {
    let bench = Bench::new().await;
    bench.run("put k windows\nopen k").await.unwrap();
    bench.run("del k").await.unwrap();
    assert_eq!(
        bench.run("get k\nstatus k").await.unwrap(),
        "-\nState::Live 0"
    );
}
