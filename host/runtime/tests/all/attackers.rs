//! Components made to do harm run flat out, and what their neighbours notice of it.
//!
//! How much exactly is for a quiet machine (`cargo xtask bench --only attackers`); here it is that calls
//! beside an attacker succeed, that they do not wait for it, and that nothing is left of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use countersign_runtime::{CallError, Limits};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use crate::bench::{Bench, failure, patient};

/// One for each way of doing harm, and what the host says of it; nothing where it does none.
const ATTACKERS: &[(&str, Option<&str>)] = &[
    ("spin", Some("it ran longer than")),
    ("grow", Some("")),
    ("recurse 100000000", Some("")),
    ("trap on purpose", Some("")),
    ("exit", Some("")),
    ("handles 100000", Some("")),
    ("flood 10000000", Some("")),
    ("scan-all", Some("")),
    ("big k 32769", Some("")),
    ("sleep 20", None),
    ("err again", Some("again")),
];

/// How many of each attack at once: more than there are processors.
const AT_ONCE: usize = 8;
/// How many calls of a neighbour each attack is measured by.
const CALLS: usize = 20;

fn limits() -> Limits {
    Limits {
        service_time: Duration::from_millis(100),
        ..patient()
    }
}

async fn bench() -> Arc<Bench> {
    let bench = Bench::with(limits(), countersign_hostile::PROBE_OTP, Vec::new()).await;
    // What `scan-all` finds: more than one call may touch.
    for n in 0..40 {
        let rows: Vec<String> = (0..50).map(|row| format!("put row{n}-{row} x")).collect();
        bench.run(&rows.join("\n")).await.unwrap();
    }
    Arc::new(bench)
}

/// Some calls beside whatever else runs.
async fn call_beside(bench: &Bench) {
    for _ in 0..CALLS {
        bench.run_about("neighbour", "incr n\nget n").await.unwrap();
    }
}

/// What is soon is told by how often attackers have come to their end meanwhile: how long it takes is the
/// machine's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_each_attacker_calls_succeed_without_waiting_for_it_and_nothing_of_it_is_left() {
    let bench = bench().await;
    for (script, end) in ATTACKERS {
        let over = Arc::new(AtomicBool::new(false));
        let begun = Arc::new(Semaphore::new(0));
        let ended = Arc::new(AtomicUsize::new(0));
        let attacks = (0..AT_ONCE).map(|attacker| {
            let (bench, over, begun) = (bench.clone(), over.clone(), begun.clone());
            let ended = ended.clone();
            tokio::spawn(async move {
                begun.add_permits(1);
                while !over.load(Ordering::SeqCst) {
                    let subject = format!("attacker {attacker}");
                    let outcome = bench.run_about(&subject, script).await;
                    match end {
                        Some(words) => {
                            let (component, reason) = failure(outcome);
                            assert_eq!(component, "probe", "{script}");
                            assert!(reason.contains(words), "{script}: {reason}");
                        }
                        None => drop(outcome.unwrap()),
                    }
                    ended.fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        let attacks: Vec<_> = attacks.collect();
        let all = u32::try_from(AT_ONCE).unwrap();
        drop(begun.acquire_many(all).await.unwrap());
        call_beside(&bench).await;
        let ended = ended.load(Ordering::SeqCst);
        over.store(true, Ordering::SeqCst);
        join_all(attacks).await.into_iter().for_each(Result::unwrap);
        // A call that waited for all that spin, in turn, would see each of them to its end.
        let all_each_time = CALLS * AT_ONCE;
        let is_long = *script == "spin";
        assert!(!is_long || ended < all_each_time, "{script}: {ended}");
    }
    // Whoever was cut off is gone with its memory: what is left are the idle instances of three components
    // and the probe, one for each call that ran at once at most.
    let left = bench.runtime.overview().instances;
    let most = u64::try_from(4 * (AT_ONCE + 1)).unwrap();
    assert!(left <= most, "{left} instances are left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_guests_that_compute_for_long_leave_the_processors_to_others() {
    let bench = bench().await;
    let spinning = (0..24).map(|n| {
        let bench = bench.clone();
        tokio::spawn(async move { bench.run_about(&n.to_string(), "spin").await })
    });
    let spinning: Vec<_> = spinning.collect();
    // They are past their first moments.
    tokio::time::sleep(Duration::from_millis(300)).await;
    call_beside(&bench).await;
    // With turns of their own they take far longer than this; without them, others wait for their end.
    let running = spinning.iter().filter(|spun| !spun.is_finished()).count();
    assert!(running > 0, "it had to wait for all of them");
    for spun in join_all(spinning).await {
        assert_eq!(failure(spun.unwrap()).0, "probe");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_computes_for_long_pauses_in_between() {
    let limits = Limits {
        service_time: Duration::from_millis(400),
        ..Limits::default()
    };
    let bench = Bench::with(limits, countersign_hostile::PROBE_OTP, Vec::new()).await;
    let began = Instant::now();
    failure(bench.run("spin").await);
    // A pause of an epoch comes before each turn, and a turn is an epoch or a few.
    assert!(began.elapsed() > Duration::from_millis(500));
}

#[tokio::test]
async fn huge_texts_for_every_host_function_end_the_call_or_do_nothing() {
    const FUNCTIONS: [&str; 19] = [
        "get",
        "get-many",
        "put-key",
        "put-value",
        "delete",
        "scan",
        "scan-cursor",
        "add",
        "take",
        "open-key",
        "open-subject",
        "check-key",
        "check-code",
        "status",
        "emit-kind",
        "emit-attribute",
        "parse",
        "parse-region",
        "log",
    ];
    let bench = bench().await;
    for function in FUNCTIONS {
        // More than may be handed over in one call of any function.
        let (component, reason) = failure(
            bench
                .run(&format!("put k x\nhuge {function} 5000000"))
                .await,
        );
        assert_eq!(component, "probe", "{function}: {reason}");
        // What may be handed over and is far beyond each function's own bound.
        let outcome = bench
            .run(&format!("put k x\nhuge {function} 1000000"))
            .await;
        match function {
            // What is no number is a verdict, and lines are cut.
            "parse" | "parse-region" | "log" if outcome.is_ok() => {}
            _ => assert_eq!(failure(outcome).0, "probe", "{function}"),
        }
    }
    assert_eq!(bench.run("del k\nget k").await.unwrap(), "-");
}

#[tokio::test]
async fn a_trap_at_any_point_of_a_call_undoes_all_of_it_but_a_counted_try() {
    let steps = [
        "get a",
        "put a x",
        "incr n",
        "add sum 5",
        "take limit 1 1 1000",
        "scan a z",
        "check c wrong",
        "open d",
        "emit a.b",
        "send",
        "nested put b y|emit a.b",
        "log a line",
        "random",
        "sleep 1",
    ];
    let first = Bench::new().await;
    for number in 0..=steps.len() {
        let bench = first.afresh().await;
        bench.run("open c").await.unwrap();
        let script = [&steps[..number], &["trap here"]].concat().join("\n");
        let (component, reason) = failure(bench.run(&script).await);
        assert_eq!(component, "probe", "{script}: {reason}");
        let tried = usize::from(steps[..number].contains(&"check c wrong"));
        let left = bench
            .run("get a\nget n\nsum sum\ntake limit 1 1 1000\nstatus c\nstatus d\nnested get b")
            .await
            .unwrap();
        let want = format!("-\n-\n0\ntaken\nState::Live {tried}\n-\n-");
        assert_eq!(left, want, "after {script}");
        assert_eq!(bench.queue.depth(), 0, "after {script}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_is_slow_takes_its_own_places_alone() {
    let limits = Limits {
        service_calls: 2,
        service_waiting: 0,
        ..Limits::default()
    };
    let otp = countersign_embedded::OTP;
    let bench = Bench::with(limits, otp, Vec::new()).await;
    let mut slow: Vec<_> = ["a", "b"]
        .map(|subject| Box::pin(bench.run_about(subject, "sleep 300")))
        .into();
    for call in &mut slow {
        assert!(call.as_mut().now_or_never().is_none());
    }
    let one_more = bench.run_about("c", "get a").await;
    let Err(CallError::Busy { retry_after }) = one_more else {
        panic!("{one_more:?}");
    };
    assert!(retry_after > Duration::ZERO);
    let request = countersign_runtime::SendRequest {
        phone: "+12025550123".to_owned(),
        ..Default::default()
    };
    let context = crate::bench::context();
    let sent = bench.runtime.otp_send(&context, request, None).await;
    sent.unwrap();
    for call in slow {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn a_thousand_checks_in_a_call_are_too_many_and_those_that_were_made_count() {
    let bench = Bench::new().await;
    bench.run("open c").await.unwrap();
    let script = vec!["check c wrong"; 1_000].join("\n");
    let (component, reason) = failure(bench.run(&script).await);
    assert_eq!(component, "probe");
    assert!(reason.contains("checks"), "{reason}");
    assert_eq!(bench.run("status c").await.unwrap(), "State::Locked 5");
}
