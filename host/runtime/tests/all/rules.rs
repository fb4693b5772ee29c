//! The nine rules of a call, each by its number in `ARCHITECTURE.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign_runtime::{CallError, Limits};
use countersign_store::{Store, read_events};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::Notify;

use crate::bench::{Bench, Log, NOW, failure, patient, short, short_wall, write};

/// A step that ends with the call's time alone.
const FOR_EVER: &str = "sleep 600000";

/// After the first read of `a`, somebody else writes `new` there.
fn change_once(bench: &Bench) {
    let store = bench.beside.clone();
    bench.store.after_read("a", move |read| {
        let store = store.clone();
        async move {
            if read == 1 {
                write(&store, "a", "new").await;
            }
        }
        .boxed()
    });
}

#[tokio::test]
async fn rule_1_an_ok_of_stale_reads_is_run_again() {
    let bench = Bench::new().await;
    change_once(&bench);
    assert_eq!(bench.run("get a\nput b x\nget b").await.unwrap(), "new\nx");
}

#[tokio::test]
async fn rule_1_an_err_a_trap_and_a_time_out_of_stale_reads_are_run_again() {
    for step in ["expect", "must", "spin-unless"] {
        let bench = Bench::with(short(), countersign_hostile::PROBE_OTP, Vec::new()).await;
        change_once(&bench);
        let answer = bench.run(&format!("{step} a new\nget a")).await;
        assert_eq!(answer.unwrap(), "new", "{step}");
    }
}

#[tokio::test]
async fn rule_1_after_eight_runs_the_answer_is_busy() {
    let bench = Bench::new().await;
    let store = bench.beside.clone();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    bench.store.after_read("a", move |_| {
        let n = counted.fetch_add(1, Ordering::SeqCst);
        let store = store.clone();
        async move { write(&store, "a", &n.to_string()).await }.boxed()
    });
    let answer = bench.run("get a\nput b x").await;
    assert!(matches!(answer, Err(CallError::Busy { .. })), "{answer:?}");
    assert_eq!(runs.load(Ordering::SeqCst), 8);
    assert_eq!(
        bench.run("get b").await.unwrap(),
        "-",
        "nothing of it was written"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_1_a_function_that_only_reads_keeps_commits_out_the_second_time() {
    let bench = Bench::new().await;
    let store = bench.beside.clone();
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = reads.clone();
    bench.store.after_read("a", move |read| {
        counted.fetch_add(1, Ordering::SeqCst);
        let store = store.clone();
        async move {
            let change = write_owned(store, read.to_string());
            if read == 1 {
                change.await;
            } else {
                // It would wait for the hold that this very run has.
                tokio::spawn(change);
            }
        }
        .boxed()
    });
    assert_eq!(bench.read("get a").await.unwrap(), "1");
    assert_eq!(reads.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_1_a_function_that_only_reads_keeps_nobody_out_for_long() {
    let limits = Limits {
        hold: Duration::from_millis(50),
        ..patient()
    };
    let bench = Bench::with(limits, countersign_hostile::PROBE_OTP, Vec::new()).await;
    change_once(&bench);
    let answer = bench.read("get a\nsleep 200").await;
    assert!(matches!(answer, Err(CallError::Busy { .. })), "{answer:?}");
    bench.run("put a after").await.unwrap();
}

async fn write_owned(store: Arc<dyn Store>, value: String) {
    write(&store, "a", &value).await;
}

#[tokio::test]
async fn rule_1_a_function_that_only_reads_cannot_write() {
    let bench = Bench::new().await;
    for step in [
        "put a x",
        "del a",
        "add a 1",
        "take a 1 2 1000",
        "open a",
        "emit x.y",
        "send",
        "nested now",
    ] {
        let (component, reason) = failure(bench.read(step).await);
        assert_eq!(component, "probe");
        assert!(reason.contains("read-only"), "{step}: {reason}");
    }
}

#[tokio::test]
async fn rule_2_an_insert_into_a_scanned_interval_is_a_conflict() {
    let bench = Bench::new().await;
    let store = bench.beside.clone();
    bench.store.after_read("z", move |read| {
        let store = store.clone();
        async move {
            if read == 1 {
                write(&store, "p1", "inserted").await;
            }
        }
        .boxed()
    });
    let answer = bench.run("scan p q\nget z\nput count x").await.unwrap();
    assert_eq!(answer, "p1\n-", "the run that saw nothing was thrown away");
}

#[tokio::test]
async fn rule_2_a_missing_key_is_a_read() {
    let bench = Bench::new().await;
    change_once(&bench);
    let answer = bench.run("get a\nput a mine").await.unwrap();
    assert_eq!(answer, "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_3_a_hot_row_is_updated_by_all_and_no_update_is_lost() {
    let bench = Bench::new().await;
    let answers = join_all((0..64).map(|_| bench.run("incr n"))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(bench.run("get n").await.unwrap(), "64");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_3_more_than_the_bound_may_not_wait() {
    let limits = Limits {
        subject_waiting: 4,
        ..patient()
    };
    let bench = Bench::with(limits, countersign_hostile::PROBE_OTP, Vec::new()).await;
    let answers = join_all((0..20).map(|_| bench.run("sleep 20"))).await;
    let busy = |answer: &&Result<_, _>| matches!(answer, Err(CallError::Busy { .. }));
    assert_eq!(
        answers.iter().filter(busy).count(),
        15,
        "one runs, four wait"
    );
}

#[tokio::test]
async fn rule_4_time_is_one_instant_a_run_and_fresh_on_a_re_run() {
    let bench = Bench::new().await;
    let store = bench.beside.clone();
    let clock = bench.clock.clone();
    bench.store.after_read("a", move |read| {
        let (store, clock) = (store.clone(), clock.clone());
        async move {
            clock.advance(Duration::from_secs(1));
            if read == 1 {
                write(&store, "a", "new").await;
            }
        }
        .boxed()
    });
    let answer = bench.run("now\nget a\nnow").await.unwrap();
    let second = (NOW.0 + 1_000).to_string();
    assert_eq!(answer, format!("{second}\nnew\n{second}"));
}

#[tokio::test]
async fn rule_4_time_is_never_before_the_last_commit_unless_the_clock_was_set_back_for_good() {
    let bench = Bench::new().await;
    bench.run("put a x").await.unwrap();
    bench.clock.set(NOW - Duration::from_secs(5));
    assert_eq!(bench.run("now").await.unwrap(), NOW.0.to_string());
    assert!(!bench.runtime.clock_stepped_back());
    let back = NOW - Duration::from_secs(6);
    bench.clock.set(back);
    assert_eq!(bench.run("now").await.unwrap(), back.0.to_string());
    assert!(bench.runtime.clock_stepped_back());
    bench.clock.set(NOW);
    assert!(!bench.runtime.clock_stepped_back(), "time has caught up");
}

#[tokio::test]
async fn rule_4_random_bytes_are_kept_over_re_runs_and_differ_between_calls() {
    let bench = Bench::new().await;
    let first = bench.run("random\nrandom").await.unwrap();
    let (one, two) = first.split_once('\n').unwrap();
    assert_ne!(one, two);
    assert_ne!(bench.run("random\nrandom").await.unwrap(), first);
    // What a stale run has drawn can be told by what it wrote: a row, and the name of its message.
    let bench = Bench::new().await;
    change_once(&bench);
    bench.run("put-random drawn\nsend\nget a").await.unwrap();
    let drawn: Vec<_> = bench
        .store
        .commits
        .lock()
        .unwrap()
        .iter()
        .flat_map(|commit| commit.writes.clone())
        .filter(|write| write.key == b"c/probe/drawn")
        .map(|write| format!("{:?}", write.body))
        .collect();
    assert_eq!(drawn.len(), 2, "two runs");
    assert_eq!(drawn[0], drawn[1]);
    let ids: Vec<_> = bench
        .store
        .commits
        .lock()
        .unwrap()
        .iter()
        .flat_map(|commit| commit.writes.iter().map(|write| write.key.clone()))
        .filter(|key| key.starts_with(b"j/"))
        .collect();
    assert_eq!(ids.len(), 2, "two runs");
    assert_eq!(ids[0][8..], ids[1][8..], "the random part of the name");
    assert_eq!(bench.queue.depth(), 1, "one message");
}

#[tokio::test]
async fn rule_4_of_the_log_only_the_last_runs_lines_are_kept() {
    let log = Log::default();
    let _guard = log.keep();
    let bench = Bench::new().await;
    change_once(&bench);
    bench
        .run("log hello from a run\nprint and from stderr 123456\nget a")
        .await
        .unwrap();
    let text = log.text();
    assert_eq!(text.matches("hello from a run").count(), 1, "{text}");
    assert_eq!(text.matches("and from stderr").count(), 1, "{text}");
    assert!(!text.contains("123456"), "{text}");
}

#[tokio::test]
async fn rule_5_err_and_trap_write_nothing_and_a_counted_try_stays_counted() {
    for (end, fails, limits) in [
        ("err no", "no", short()),
        ("trap oops", "unreachable", short()),
        ("spin", "ran longer than", short()),
        (FOR_EVER, "took longer than", short_wall()),
    ] {
        let bench = Bench::with(limits, countersign_hostile::PROBE_OTP, Vec::new()).await;
        bench.run("open k").await.unwrap();
        let script = format!("check k wrong\nput other x\nemit lost.event\nsend\n{end}");
        let (component, reason) = failure(bench.run(&script).await);
        assert_eq!(component, "probe");
        assert!(reason.contains(fails), "{end}: {reason}");
        assert_eq!(
            bench.run("status k\nget other").await.unwrap(),
            "State::Live 1\n-",
            "{end}"
        );
        assert_eq!(bench.queue.depth(), 0, "{end}");
        let events = read_events(&*bench.store.inner, 1, 10, NOW).await.unwrap();
        assert!(events.is_empty(), "{end}");
    }
}

#[tokio::test]
async fn rule_5_a_right_code_before_a_trap_is_counted_and_not_used_up() {
    let bench = Bench::new().await;
    bench.run("open k").await.unwrap();
    let code = bench.code("k").await;
    failure(bench.run(&format!("check k {code}\ntrap oops")).await);
    assert_eq!(bench.run("status k").await.unwrap(), "State::Live 1");
    assert_eq!(
        bench
            .run(&format!("check k {code}\nstatus k"))
            .await
            .unwrap(),
        "accepted\nState::Used 2"
    );
    assert_eq!(
        bench.run(&format!("check k {code}")).await.unwrap(),
        "absent"
    );
}

#[tokio::test]
async fn rule_5_a_try_in_a_nested_call_that_is_cut_off_stays_counted() {
    for (end, limits) in [
        ("err no", short()),
        ("trap oops", short()),
        ("spin", short()),
        (FOR_EVER, short_wall()),
    ] {
        let bench = Bench::with(limits, countersign_hostile::PROBE_OTP, Vec::new()).await;
        bench.run("nested open k").await.unwrap();
        let answer = bench
            .run(&format!(
                "put mine x\nnested check k wrong|put theirs x|{end}"
            ))
            .await;
        match end {
            "err no" => assert_eq!(answer.unwrap(), "err no"),
            FOR_EVER => assert_eq!(failure(answer).0, "probe", "the whole call was too slow"),
            _ => assert_eq!(failure(answer).0, "otp", "{end}: blamed on the callee"),
        }
        let status = bench.run("nested status k|get theirs").await.unwrap();
        assert_eq!(status, "State::Live 1\n-", "{end}");
    }
}

#[tokio::test]
async fn rule_5_a_try_against_a_replaced_challenge_is_counted_where_the_replacement_is_undone() {
    for end in ["err no", "trap oops"] {
        let bench = Bench::new().await;
        bench.run("open k").await.unwrap();
        failure(
            bench
                .run(&format!("open k replace\ncheck k wrong\n{end}"))
                .await,
        );
        assert_eq!(
            bench.run("status k").await.unwrap(),
            "State::Live 1",
            "{end}"
        );
    }
}

#[tokio::test]
async fn rule_5_a_try_before_a_failed_nested_call_is_counted_once() {
    let bench = Bench::new().await;
    bench.run("open k").await.unwrap();
    bench
        .run("check k wrong\nnested err no\nnested err no")
        .await
        .unwrap();
    assert_eq!(bench.run("status k").await.unwrap(), "State::Live 1");
}

#[tokio::test]
async fn rule_5_a_bug_that_only_the_committer_finds_leaves_the_try_counted() {
    for bug in ["add text 1", "take text 1 2 1000"] {
        let bench = Bench::new().await;
        bench.run("open k\nput text x").await.unwrap();
        failure(bench.run(&format!("check k wrong\n{bug}")).await);
        assert_eq!(
            bench.run("status k").await.unwrap(),
            "State::Live 1",
            "{bug}"
        );
    }
}

#[tokio::test]
async fn rule_5_a_try_stays_counted_when_every_run_was_stale() {
    let bench = Bench::new().await;
    bench.run("open k").await.unwrap();
    let store = bench.beside.clone();
    bench.store.after_read("a", move |read| {
        let store = store.clone();
        async move { write(&store, "a", &read.to_string()).await }.boxed()
    });
    let answer = bench.run("check k wrong\nget a").await;
    assert!(matches!(answer, Err(CallError::Busy { .. })), "{answer:?}");
    assert_eq!(bench.run("status k").await.unwrap(), "State::Live 1");
}

#[tokio::test]
async fn rule_6_an_answer_that_wrote_nothing_is_judged_by_the_committer_too() {
    let bench = Bench::new().await;
    bench.run("put a x").await.unwrap();
    let before = bench.store.commits.lock().unwrap().len();
    bench.run("get a").await.unwrap();
    failure(bench.run("get a\ntrap oops").await);
    let commits = bench.store.commits.lock().unwrap();
    assert_eq!(commits.len(), before + 2);
    assert!(
        commits[before..]
            .iter()
            .all(|commit| commit.reads.len() == 1 && commit.writes.is_empty())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_6_an_answer_waits_for_what_it_read_to_be_durable() {
    // A row is visible before its flush is over. Whoever reads it then must not be answered before
    // the one who wrote it, whose answer waits for the flush.
    let bench = Bench::new().await;
    let mut caught = 0;
    for n in 0..200 {
        let script = format!("put a {n}");
        let mut write = std::pin::pin!(bench.run_about("writer", &script));
        let mut written = write.as_mut().now_or_never();
        let read = bench.run_about("reader", "get a").await.unwrap();
        if read != n.to_string() {
            write.await.unwrap();
            continue;
        }
        caught += 1;
        if written.is_none() {
            written = write.as_mut().now_or_never();
        }
        assert!(written.is_some(), "the reader was answered first");
    }
    assert!(caught > 0, "no reader came between apply and answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_7_a_shared_limit_is_exact_whatever_runs_at_once() {
    let bench = Bench::new().await;
    let subjects: Vec<String> = (0..32).map(|n| n.to_string()).collect();
    let calls = subjects
        .iter()
        .map(|subject| bench.run_about(subject, "take budget 2 7 60000\nadd calls 1"));
    let answers: Vec<String> = join_all(calls)
        .await
        .into_iter()
        .map(|answer| answer.unwrap())
        .collect();
    assert_eq!(
        answers.iter().filter(|answer| *answer == "taken").count(),
        3,
        "3 × 2 of 7"
    );
    assert_eq!(
        bench.run("sum calls").await.unwrap(),
        "32",
        "a refusal is a verdict and commits"
    );
    bench.clock.advance(Duration::from_secs(62));
    assert_eq!(bench.run("take budget 2 7 60000").await.unwrap(), "taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_7_sums_are_added_without_conflicts() {
    let bench = Bench::new().await;
    let subjects: Vec<String> = (0..32).map(|n| n.to_string()).collect();
    let calls = subjects
        .iter()
        .map(|subject| bench.run_about(subject, "add total 3"));
    for answer in join_all(calls).await {
        answer.unwrap();
    }
    assert_eq!(bench.run("sum total").await.unwrap(), "96");
    assert_eq!(
        bench.store.commits.lock().unwrap().len(),
        33,
        "nothing ran twice"
    );
    let (_, reason) = failure(bench.run("add total 1\nget total").await);
    assert!(reason.contains("adds to it"), "{reason}");
}

#[tokio::test]
async fn rule_8_a_nested_call_is_in_the_same_transaction_and_in_its_own_key_space() {
    let bench = Bench::new().await;
    bench
        .run("put k mine\nnested put k theirs|emit inner.event\nemit outer.event")
        .await
        .unwrap();
    assert_eq!(
        bench.run("get k\nnested get k").await.unwrap(),
        "mine\ntheirs"
    );
    let events = read_events(&*bench.store.inner, 1, 10, NOW).await.unwrap();
    assert_eq!(events.len(), 2);
    // One commit for both, and a failure of the outer takes the inner's writes with it.
    failure(bench.run("nested put k changed\ntrap oops").await);
    assert_eq!(bench.run("nested get k").await.unwrap(), "theirs");
}

#[tokio::test]
async fn rule_8_a_callees_err_rolls_back_to_where_it_began() {
    let bench = Bench::new().await;
    let answer = bench
        .run("put k before\nnested put k x|send|err no\nput l after")
        .await
        .unwrap();
    assert_eq!(answer, "err no");
    assert_eq!(
        bench.run("get k\nget l\nnested get k").await.unwrap(),
        "before\nafter\n-"
    );
    assert_eq!(bench.queue.depth(), 0, "nor its message");
}

#[tokio::test]
async fn rule_8_a_callees_trap_ends_the_whole_call_and_is_blamed_on_it() {
    let bench = Bench::new().await;
    let (component, _) = failure(bench.run("put k x\nnested trap oops").await);
    assert_eq!(component, "otp");
    assert_eq!(bench.run("get k").await.unwrap(), "-");
}

#[tokio::test]
async fn rule_8_a_callee_is_told_who_calls_and_cannot_be_lied_to() {
    let bench = Bench::new().await;
    assert_eq!(
        bench.run("context\nnested context").await.unwrap(),
        "key k1\ncomponent probe"
    );
}

#[tokio::test]
async fn rule_8_each_nested_call_draws_its_own_random_bytes() {
    let bench = Bench::new().await;
    let answer = bench
        .run("random\nnested random\nnested random")
        .await
        .unwrap();
    let drawn: std::collections::HashSet<_> = answer.lines().collect();
    assert_eq!(drawn.len(), 3, "{answer}");
}

#[tokio::test]
async fn rule_8_there_are_no_cycles() {
    let bench = Bench::new().await;
    let otp = bench
        .runtime
        .load("otp", countersign_hostile::PROBE)
        .await
        .unwrap();
    let context = crate::bench::context();
    let answer = bench
        .runtime
        .call(
            &otp,
            "s",
            &context,
            "run",
            |probe: &crate::bench::Probe, store, context| {
                Box::pin(async move {
                    probe
                        .countersign_probe_probe()
                        .call_run(store, &context, "nested now")
                        .await
                })
            },
        )
        .await;
    let (_, reason) = failure(answer);
    assert!(reason.contains("already in this call"), "{reason}");
}

#[tokio::test]
async fn rule_8_a_row_of_a_state_version_that_cannot_be_read_ends_the_call() {
    let bench = Bench::new().await;
    // The other probe writes state version 2; put one of its rows where this probe looks.
    bench.run("nested put k x").await.unwrap();
    let row = bench.beside.get(b"c/otp/k").await.unwrap().unwrap();
    let commit = countersign_store::Commit {
        instant: NOW,
        writes: vec![countersign_store::Write {
            key: b"c/probe/k".to_vec(),
            body: Some(row.body),
        }],
        ..Default::default()
    };
    bench.beside.commit(commit).await.unwrap();
    let (_, reason) = failure(bench.run("get k").await);
    assert!(reason.contains("state version 2"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_9_a_readers_cursor_never_passes_an_event_that_is_still_to_come() {
    let bench = Bench::new().await;
    let subjects: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let calls = subjects
        .iter()
        .map(|subject| bench.run_about(subject, "emit a.b\nemit c.d"));
    let reader = async {
        let mut cursor = 1;
        while cursor <= 80 {
            for event in read_events(&*bench.store.inner, cursor, 10, NOW)
                .await
                .unwrap()
            {
                assert_eq!(event.position, cursor, "no gap, no repeat");
                cursor += 1;
            }
            tokio::task::yield_now().await;
        }
    };
    let (answers, ()) = tokio::join!(join_all(calls), reader);
    assert!(answers.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_call_that_is_dropped_in_the_middle_leaves_nothing_behind() {
    let bench = Bench::new().await;
    let reached = Arc::new(Notify::new());
    let told = reached.clone();
    bench.store.after_read("a", move |_| {
        told.notify_one();
        std::future::pending().boxed()
    });
    tokio::select! {
        ended = bench.run("get a") => panic!("{ended:?}"),
        () = reached.notified() => {}
    }
    let store = Arc::downgrade(&bench.store);
    drop(bench);
    assert!(store.upgrade().is_none(), "its run holds the whole host");
}
