//! What every store must do, as one suite that each implementation runs.
//!
//! Each check gets an empty store and panics where the store breaks a promise of [`Store`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_types::UnixMillis;

use crate::{
    Body, Bound, CommitError, Committed, Ending, Rulings, Section, Store, SumAdd, Take,
    Transaction, read_event_rows, read_events,
};

const T0: UnixMillis = UnixMillis(1_700_000_000_000);

fn at(seconds: u64) -> UnixMillis {
    T0 + Duration::from_secs(seconds)
}

fn run_at(store: &Arc<dyn Store>, instant: UnixMillis) -> Transaction {
    Transaction::new(store.clone(), instant, Rulings::default())
}

fn section(value: &str, expires: Option<UnixMillis>) -> Option<Section> {
    Some(Section {
        state: 1,
        expires,
        value: value.as_bytes().to_vec(),
    })
}

/// Counts in a section that holds the number of its tries.
fn one_more() -> crate::Recount {
    Arc::new(|before| {
        let tried: u32 = std::str::from_utf8(&before.value).ok()?.parse().ok()?;
        section(&(tried + 1).to_string(), None)
    })
}

async fn put(transaction: &mut Transaction, key: &str, value: &str) {
    transaction
        .set_service(key.as_bytes(), section(value, None))
        .await
        .expect("put");
}

async fn get(transaction: &mut Transaction, key: &str) -> Option<String> {
    transaction
        .service(key.as_bytes())
        .await
        .expect("get")
        .map(|section| String::from_utf8(section.value).expect("text"))
}

async fn finish(
    store: &Arc<dyn Store>,
    transaction: Transaction,
) -> Result<Committed, CommitError> {
    store.commit(transaction.into_commit(Ending::Commit)).await
}

fn assert_stale(result: &Result<Committed, CommitError>) {
    assert!(matches!(result, Err(CommitError::Stale)), "{result:?}");
}

/// Runs every check, each on a store of its own.
pub async fn all<S, F>(mut open: S)
where
    S: FnMut() -> F,
    F: Future<Output = Arc<dyn Store>>,
{
    what_was_written_is_read(&open().await).await;
    a_read_that_changed_makes_the_commit_stale(&open().await).await;
    a_missing_key_is_a_read(&open().await).await;
    an_insert_into_a_scanned_interval_is_a_conflict(&open().await).await;
    a_scan_sees_the_runs_own_writes(&open().await).await;
    a_scan_from_the_end_is_the_scan_from_the_beginning_turned(&open().await).await;
    a_stale_commit_changes_nothing(&open().await).await;
    expired_is_invisible_at_once(&open().await).await;
    what_a_later_commit_saw_as_expired_cannot_be_seen_alive(&open().await).await;
    sections_of_one_row_do_not_touch_each_other(&open().await).await;
    sums_need_no_reads(&open().await).await;
    takes_are_judged_in_commit_order(&open().await).await;
    events_are_numbered_without_gaps(&open().await).await;
    who_waits_for_an_event_is_woken_by_the_commit_that_has_it(&open().await).await;
    a_counted_try_outlives_the_run(&open().await).await;
    a_rolled_back_part_leaves_only_counted_tries(&open().await).await;
    tries_of_a_run_that_cannot_be_committed_are_settled(&open().await).await;
    a_hold_keeps_commits_out(&open().await).await;
    a_sweep_removes_only_what_has_expired(&open().await).await;
    one_row_added_to_by_many_at_once(&open().await).await;
    whoever_reads_a_row_is_answered_after_its_writer(&open().await).await;
}

async fn what_was_written_is_read(store: &Arc<dyn Store>) {
    let mut write = run_at(store, at(0));
    put(&mut write, "a", "1").await;
    assert_eq!(
        get(&mut write, "a").await.as_deref(),
        Some("1"),
        "own write"
    );
    let committed = finish(store, write).await.expect("committed");
    assert!(committed.version.is_some());
    let mut read = run_at(store, at(0));
    assert_eq!(get(&mut read, "a").await.as_deref(), Some("1"));
    read.set_service(b"a", None).await.expect("deleted");
    finish(store, read).await.expect("committed");
    assert_eq!(get(&mut run_at(store, at(0)), "a").await, None);
}

async fn a_read_that_changed_makes_the_commit_stale(store: &Arc<dyn Store>) {
    let mut slow = run_at(store, at(0));
    get(&mut slow, "a").await;
    put(&mut slow, "b", "from what a was").await;
    let mut fast = run_at(store, at(0));
    put(&mut fast, "a", "2").await;
    finish(store, fast).await.expect("committed");
    assert_stale(&finish(store, slow).await);
    // A run that only reads is judged as well: its answer would be as wrong.
    let mut reader = run_at(store, at(0));
    get(&mut reader, "a").await;
    let mut writer = run_at(store, at(0));
    put(&mut writer, "a", "3").await;
    finish(store, writer).await.expect("committed");
    assert_stale(&finish(store, reader).await);
}

async fn a_missing_key_is_a_read(store: &Arc<dyn Store>) {
    let mut first = run_at(store, at(0));
    let mut second = run_at(store, at(0));
    for run in [&mut first, &mut second] {
        assert_eq!(get(run, "only once").await, None);
        put(run, "only once", "x").await;
    }
    finish(store, first).await.expect("committed");
    assert_stale(&finish(store, second).await);
}

async fn an_insert_into_a_scanned_interval_is_a_conflict(store: &Arc<dyn Store>) {
    for (key, conflict) in [("p1", true), ("p15", true), ("p3", false), ("q", false)] {
        let mut scanner = run_at(store, at(0));
        let (_, next) = scanner.scan(b"p1", b"p3", 10).await.expect("scanned");
        assert_eq!(next, None);
        put(&mut scanner, "count", "n").await;
        let mut writer = run_at(store, at(0));
        put(&mut writer, key, "new").await;
        finish(store, writer).await.expect("committed");
        let result = finish(store, scanner).await;
        assert_eq!(result.is_err(), conflict, "{key}: {result:?}");
    }
}

async fn a_scan_sees_the_runs_own_writes(store: &Arc<dyn Store>) {
    let mut setup = run_at(store, at(0));
    for key in ["k1", "k2", "k3", "k4"] {
        put(&mut setup, key, "old").await;
    }
    finish(store, setup).await.expect("committed");
    let mut run = run_at(store, at(0));
    run.set_service(b"k2", None).await.expect("deleted");
    put(&mut run, "k15", "own").await;
    let keys = |found: &[(Vec<u8>, Section)]| {
        found
            .iter()
            .map(|(key, _)| String::from_utf8_lossy(key).into_owned())
            .collect::<Vec<_>>()
    };
    let (page, next) = run.scan(b"k", b"l", 2).await.expect("scanned");
    assert_eq!(keys(&page), ["k1", "k15"]);
    let next = next.expect("there is more");
    let (page, next) = run.scan(&next, b"l", 2).await.expect("scanned");
    assert_eq!(keys(&page), ["k3", "k4"]);
    assert_eq!(next, None);
    finish(store, run).await.expect("committed");
}

async fn a_scan_from_the_end_is_the_scan_from_the_beginning_turned(store: &Arc<dyn Store>) {
    let mut write = run_at(store, at(0));
    for key in ["a", "b1", "b2", "b3", "b4", "c"] {
        put(&mut write, key, key).await;
    }
    finish(store, write).await.expect("committed");
    let check = async |from: &str, to: &str, limit: usize, want: &[&str]| {
        let rows = store.scan_back(from.as_bytes(), to.as_bytes(), limit).await;
        let rows = rows.expect("scanned");
        let keys: Vec<_> = rows.iter().map(|(key, _)| key.as_slice()).collect();
        let want: Vec<_> = want.iter().map(|key| key.as_bytes()).collect();
        assert_eq!(keys, want, "{from}..{to}, {limit}");
        assert!(rows.iter().all(|(_, row)| row.is_ok()));
    };
    check("b", "c", 10, &["b4", "b3", "b2", "b1"]).await;
    check("b", "c", 2, &["b4", "b3"]).await;
    check("b2", "b4", 10, &["b3", "b2"]).await;
    check("b", "c", 0, &[]).await;
    check("b5", "c", 10, &[]).await;
    check("c", "b", 10, &[]).await;
}

async fn a_stale_commit_changes_nothing(store: &Arc<dyn Store>) {
    let mut loser = run_at(store, at(0));
    get(&mut loser, "a").await;
    put(&mut loser, "b", "lost").await;
    loser.emit(b"lost".to_vec());
    loser
        .add(SumAdd {
            key: b"sum".to_vec(),
            delta: 1,
            expires: None,
        })
        .expect("added");
    let mut winner = run_at(store, at(0));
    put(&mut winner, "a", "won").await;
    finish(store, winner).await.expect("committed");
    assert_stale(&finish(store, loser).await);
    let mut read = run_at(store, at(0));
    assert_eq!(get(&mut read, "b").await, None);
    assert_eq!(get(&mut read, "sum").await, None);
    let events = read_events(&**store, 1, 10, at(0)).await.expect("read");
    assert!(events.is_empty());
}

async fn expired_is_invisible_at_once(store: &Arc<dyn Store>) {
    let mut write = run_at(store, at(0));
    write
        .set_service(b"a", section("1", Some(at(10))))
        .await
        .expect("put");
    finish(store, write).await.expect("committed");
    let before = UnixMillis(at(10).0 - 1);
    assert!(get(&mut run_at(store, before), "a").await.is_some());
    assert_eq!(get(&mut run_at(store, at(10)), "a").await, None);
    let (page, _) = run_at(store, at(10))
        .scan(b"a", b"b", 5)
        .await
        .expect("scanned");
    assert!(page.is_empty());
    // A run that saw nothing there may write there.
    let mut again = run_at(store, at(10));
    assert_eq!(get(&mut again, "a").await, None);
    put(&mut again, "a", "2").await;
    finish(store, again).await.expect("committed");
}

async fn what_a_later_commit_saw_as_expired_cannot_be_seen_alive(store: &Arc<dyn Store>) {
    let mut write = run_at(store, at(0));
    write
        .set_service(b"a", section("1", Some(at(10))))
        .await
        .expect("put");
    finish(store, write).await.expect("committed");
    let mut early = run_at(store, at(9));
    assert!(get(&mut early, "a").await.is_some());
    put(&mut early, "b", "a was there").await;
    let mut late = run_at(store, at(11));
    assert_eq!(get(&mut late, "a").await, None);
    put(&mut late, "c", "a was gone").await;
    finish(store, late).await.expect("committed");
    assert_eq!(store.newest_instant(), at(11));
    assert_stale(&finish(store, early).await);
}

async fn sections_of_one_row_do_not_touch_each_other(store: &Arc<dyn Store>) {
    let mut run = run_at(store, at(0));
    run.set_host(b"r", section("host", Some(at(10))))
        .await
        .expect("put");
    put(&mut run, "r", "service").await;
    finish(store, run).await.expect("committed");
    let mut run = run_at(store, at(1));
    run.set_service(b"r", None).await.expect("deleted");
    finish(store, run).await.expect("committed");
    let mut run = run_at(store, at(2));
    assert_eq!(get(&mut run, "r").await, None);
    let host = run.host(b"r").await.expect("read").expect("still there");
    assert_eq!(host.value, b"host");
    assert_eq!(run_at(store, at(10)).host(b"r").await.expect("read"), None);
}

async fn sums_need_no_reads(store: &Arc<dyn Store>) {
    let sum = |delta| SumAdd {
        key: b"s".to_vec(),
        delta,
        expires: None,
    };
    let mut first = run_at(store, at(0));
    let mut second = run_at(store, at(0));
    first.add(sum(3)).expect("added");
    second.add(sum(-1)).expect("added");
    second.add(sum(-1)).expect("added");
    assert!(second.service(b"s").await.is_err(), "read after add");
    finish(store, first).await.expect("committed");
    finish(store, second).await.expect("committed");
    let mut read = run_at(store, at(0));
    let value = read
        .service(b"s")
        .await
        .expect("read")
        .expect("there")
        .value;
    assert_eq!(value, 1i64.to_le_bytes());
    assert!(read.add(sum(1)).is_err(), "add after read");
    put(&mut run_at(store, at(0)), "t", "text").await;
    let mut text = run_at(store, at(0));
    put(&mut text, "t", "text").await;
    finish(store, text).await.expect("committed");
    let mut wrong = run_at(store, at(0));
    wrong
        .add(SumAdd {
            key: b"t".to_vec(),
            delta: 1,
            expires: None,
        })
        .expect("buffered");
    let result = finish(store, wrong).await;
    assert!(
        matches!(result, Err(CommitError::NotASum { .. })),
        "{result:?}"
    );
}

async fn takes_are_judged_in_commit_order(store: &Arc<dyn Store>) {
    let take = Take {
        key: b"limit".to_vec(),
        amount: 2,
        max: 3,
        window_ms: 63_000,
    };
    let mut first = run_at(store, at(0));
    let mut second = run_at(store, at(0));
    for run in [&mut first, &mut second] {
        assert_eq!(run.take(take.clone()).await.expect("asked"), Ok(()));
        assert!(
            run.take(take.clone()).await.expect("asked").is_err(),
            "own takes count"
        );
    }
    put(&mut second, "with it", "x").await;
    finish(store, first).await.expect("committed");
    let until = match finish(store, second).await {
        Err(CommitError::NoRoom { take: told, until }) => {
            assert_eq!(told, take);
            until
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(get(&mut run_at(store, at(0)), "with it").await, None);
    // The next run gets the committer's word, and may commit a refusal.
    let mut rulings = Rulings::default();
    rulings.add(take.clone(), until);
    let mut again = Transaction::new(store.clone(), at(0), rulings);
    assert_eq!(again.take(take.clone()).await.expect("asked"), Err(until));
    put(&mut again, "refused", "x").await;
    finish(store, again).await.expect("committed");
    let mut later = run_at(store, until);
    assert_eq!(later.take(take).await.expect("asked"), Ok(()));
    finish(store, later).await.expect("committed");
}

async fn events_are_numbered_without_gaps(store: &Arc<dyn Store>) {
    let mut firsts = Vec::new();
    for run in 0..5u8 {
        let mut transaction = run_at(store, at(0));
        for event in 0..=run {
            transaction.emit(vec![run, event]);
        }
        firsts.push(
            finish(store, transaction)
                .await
                .expect("committed")
                .first_event,
        );
    }
    assert_eq!(firsts, [1, 2, 4, 7, 11].map(Some));
    let events = read_events(&**store, 1, 100, at(0)).await.expect("read");
    let positions: Vec<u64> = events.iter().map(|event| event.position).collect();
    assert_eq!(positions, (1..=15).collect::<Vec<_>>());
    let events = read_events(&**store, 8, 100, at(0)).await.expect("read");
    assert_eq!((events.len(), events[0].position), (8, 8));
    for (from, limit, want) in [(1, 3, 1..=3), (6, 4, 6..=9), (15, 9, 15..=15)] {
        let some = read_events(&**store, from, limit, at(0)).await;
        let some = some.expect("read").into_iter();
        let positions: Vec<u64> = some.map(|event| event.position).collect();
        assert_eq!(positions, want.collect::<Vec<_>>(), "{from}, {limit}");
    }
    // Rows begin at 1, 2, 4, 7 and 11, and two events have four bytes.
    for (from, events, bytes, want, more) in [
        (1, 100, 1_000, 1..=15, false),
        (1, 15, 1_000, 1..=15, true),
        (1, 8, 1_000, 1..=6, true),
        (4, 4, 1_000, 4..=6, true),
        (4, 2, 1_000, 4..=5, true),
        (6, 5, 1_000, 6..=10, true),
        (1, 100, 12, 1..=6, true),
        (1, 100, 13, 1..=6, true),
        (11, 100, 4, 11..=12, true),
        (11, 100, 1, 11..=11, true),
        (11, 100, 10, 11..=15, false),
    ] {
        let bound = Bound { events, bytes };
        let read = read_event_rows(&**store, from, bound, at(0)).await;
        let (some, is_more) = read.expect("read");
        let positions: Vec<u64> = some.iter().map(|event| event.position).collect();
        assert_eq!(positions, want.collect::<Vec<_>>(), "{from}, {bound:?}");
        assert_eq!(is_more, more, "{from}, {bound:?}");
    }
    assert_eq!(events[0].event, [3, 1]);
    assert!(
        read_events(&**store, 16, 100, at(0))
            .await
            .expect("read")
            .is_empty()
    );
}

async fn who_waits_for_an_event_is_woken_by_the_commit_that_has_it(store: &Arc<dyn Store>) {
    let emit = async |event: &[u8]| {
        let mut run = run_at(store, at(0));
        run.emit(event.to_vec());
        finish(store, run).await.expect("committed");
    };
    let mut first = std::pin::pin!(store.await_events(0));
    let nothing = tokio::time::timeout(Duration::ZERO, first.as_mut()).await;
    assert!(nothing.is_err(), "there is none yet");
    emit(b"first").await;
    first.await;
    store.await_events(0).await;
    let mut second = std::pin::pin!(store.await_events(1));
    let mut quiet = run_at(store, at(0));
    put(&mut quiet, "a", "no event").await;
    finish(store, quiet).await.expect("committed");
    let nothing = tokio::time::timeout(Duration::ZERO, second.as_mut()).await;
    assert!(nothing.is_err(), "no second one yet");
    emit(b"second").await;
    second.await;
    let read = read_events(&**store, 2, 10, at(0)).await.expect("read");
    assert_eq!(read[0].event, b"second");
}

async fn a_counted_try_outlives_the_run(store: &Arc<dyn Store>) {
    let mut setup = run_at(store, at(0));
    setup.set_host(b"c", section("0", None)).await.expect("put");
    finish(store, setup).await.expect("committed");
    let mut run = run_at(store, at(0));
    put(&mut run, "other", "x").await;
    run.emit(b"lost".to_vec());
    run.count(b"c", one_more()).await.expect("counted");
    run.set_host(b"c", section("used", None))
        .await
        .expect("consumed");
    store
        .commit(run.into_commit(Ending::CountedOnly))
        .await
        .expect("committed");
    let mut read = run_at(store, at(0));
    assert_eq!(
        read.host(b"c").await.expect("read").expect("there").value,
        b"1"
    );
    assert_eq!(get(&mut read, "other").await, None);
    assert!(
        read_events(&**store, 1, 10, at(0))
            .await
            .expect("read")
            .is_empty()
    );
}

async fn a_rolled_back_part_leaves_only_counted_tries(store: &Arc<dyn Store>) {
    let mut setup = run_at(store, at(0));
    setup.set_host(b"c", section("0", None)).await.expect("put");
    finish(store, setup).await.expect("committed");
    let mut run = run_at(store, at(0));
    put(&mut run, "outer", "x").await;
    run.count(b"c", one_more()).await.expect("counted");
    let savepoint = run.savepoint();
    put(&mut run, "outer", "changed").await;
    put(&mut run, "inner", "x").await;
    run.emit(b"inner".to_vec());
    run.count(b"c", one_more()).await.expect("counted");
    run.set_host(b"c", section("used", None))
        .await
        .expect("consumed");
    run.set_host(b"new", section("0", None))
        .await
        .expect("opened");
    run.count(b"new", one_more()).await.expect("counted");
    run.roll_back(savepoint);
    run.emit(b"outer".to_vec());
    assert_eq!(get(&mut run, "outer").await.as_deref(), Some("x"));
    assert_eq!(get(&mut run, "inner").await, None);
    finish(store, run).await.expect("committed");
    let mut read = run_at(store, at(0));
    assert_eq!(get(&mut read, "outer").await.as_deref(), Some("x"));
    assert_eq!(get(&mut read, "inner").await, None);
    assert_eq!(
        read.host(b"c").await.expect("read").expect("there").value,
        b"2"
    );
    assert_eq!(
        read.host(b"new").await.expect("read"),
        None,
        "was never opened"
    );
    let events = read_events(&**store, 1, 10, at(0)).await.expect("read");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event, b"outer");
}

async fn tries_of_a_run_that_cannot_be_committed_are_settled(store: &Arc<dyn Store>) {
    let mut setup = run_at(store, at(0));
    setup.set_host(b"c", section("0", None)).await.expect("put");
    finish(store, setup).await.expect("committed");
    let mut run = run_at(store, at(0));
    // Replaced and tried in one run: the try was one of what was there before.
    run.set_host(b"c", section("0", None))
        .await
        .expect("replaced");
    run.count(b"c", one_more()).await.expect("counted");
    run.count(b"c", one_more()).await.expect("counted");
    let counted = run.counted();
    let mut other = run_at(store, at(0));
    other.set_host(b"c", section("3", None)).await.expect("put");
    finish(store, other).await.expect("committed");
    assert_stale(&finish(store, run).await);
    crate::settle_counts(store, at(0), &counted)
        .await
        .expect("settled");
    let tried = run_at(store, at(0))
        .host(b"c")
        .await
        .expect("read")
        .expect("there");
    assert_eq!(tried.value, b"5");
}

async fn a_hold_keeps_commits_out(store: &Arc<dyn Store>) {
    let hold = store.hold().await;
    let mut write = run_at(store, at(0));
    put(&mut write, "a", "1").await;
    let commit = tokio::spawn({
        let store = store.clone();
        async move { finish(&store, write).await }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&mut run_at(store, at(0)), "a").await, None);
    assert!(!commit.is_finished());
    drop(hold);
    commit.await.expect("joined").expect("committed");
    store.settle().await.expect("settled");
    assert!(get(&mut run_at(store, at(0)), "a").await.is_some());
}

async fn a_sweep_removes_only_what_has_expired(store: &Arc<dyn Store>) {
    let mut write = run_at(store, at(0));
    for (key, expires) in [("s1", Some(at(5))), ("s2", None), ("s3", Some(at(50)))] {
        write
            .set_service(key.as_bytes(), section(key, expires))
            .await
            .expect("put");
    }
    finish(store, write).await.expect("committed");
    while !store.sweep(at(10)).await.expect("swept") {}
    let keys: Vec<_> = store.scan(b"s", b"t", 10).await.expect("scanned");
    let keys: Vec<_> = keys.iter().map(|(key, _)| key.as_slice()).collect();
    assert_eq!(keys, [b"s2", b"s3"]);
}

async fn one_row_added_to_by_many_at_once(store: &Arc<dyn Store>) {
    const CALLS: usize = 32;
    let calls = (0..CALLS).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            loop {
                let mut run = run_at(&store, at(0));
                let old: u32 = get(&mut run, "n")
                    .await
                    .map_or(0, |n| n.parse().expect("number"));
                put(&mut run, "n", &(old + 1).to_string()).await;
                tokio::task::yield_now().await;
                match finish(&store, run).await {
                    Ok(_) => return,
                    Err(CommitError::Stale) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("joined");
    }
    let n = get(&mut run_at(store, at(0)), "n").await;
    assert_eq!(
        n.as_deref(),
        Some(CALLS.to_string().as_str()),
        "no update was lost"
    );
}

async fn whoever_reads_a_row_is_answered_after_its_writer(store: &Arc<dyn Store>) {
    use std::task::{Context, Poll, Waker};

    let mut context = Context::from_waker(Waker::noop());
    for n in 0..50 {
        let mut write = run_at(store, at(0));
        put(&mut write, "a", &n.to_string()).await;
        // Without tokio's own limit of steps, at which it would wait for a waker that there is none of.
        let mut write = std::pin::pin!(tokio::task::unconstrained(finish(store, write)));
        // Handed in; whoever looks at once may see it before it is durable.
        if let Poll::Ready(written) = write.as_mut().poll(&mut context) {
            // The store was faster than this thread: nothing can be seen in this round.
            written.expect("valid");
            continue;
        }
        let read = loop {
            let mut read = run_at(store, at(0));
            if get(&mut read, "a").await == Some(n.to_string()) {
                break read;
            }
        };
        finish(store, read).await.expect("valid");
        assert!(
            matches!(write.as_mut().poll(&mut context), Poll::Ready(Ok(_))),
            "the reader was answered before the row was durable"
        );
    }
}

/// One step of an interleaving for [`interleaving_is_serial`].
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Run `.0` reads key `.1`.
    Get(usize, u8),
    /// Run `.0` writes key `.1`, or deletes it where `.2` is 0.
    Put(usize, u8, u8),
    /// Run `.0` scans from key `.1` on.
    Scan(usize, u8),
    /// Run `.0` commits; a new run takes its place.
    Commit(usize),
}

/// How many runs are open at once in an interleaving.
pub const RUNS: usize = 4;

/// What a run has read, and what it did in between: enough to do it again.
#[derive(Clone, Debug)]
enum Did {
    Got(u8, Option<u8>),
    Put(u8, u8),
    Scanned(u8, Vec<(u8, u8)>),
}

/// A commit that is not answered yet, and what its run did.
type Underway = (
    tokio::task::JoinHandle<Result<Committed, CommitError>>,
    Vec<Did>,
);

/// Plays `steps`, with `at_once` commits under way at most, and checks that every run that was
/// committed read exactly what it would have read alone, one after the other in commit order.
///
/// # Panics
///
/// Where a committed run saw anything else.
pub async fn interleaving_is_serial(store: &Arc<dyn Store>, steps: &[Step], at_once: usize) {
    let mut runs: Vec<(Transaction, Vec<Did>)> = (0..RUNS)
        .map(|_| (run_at(store, at(0)), Vec::new()))
        .collect();
    let mut underway: Vec<Underway> = Vec::new();
    // By version, and those that wrote nothing.
    let (mut wrote, mut looked) = (BTreeMap::new(), Vec::new());
    for step in steps {
        match *step {
            Step::Get(run, key) => {
                let (transaction, did) = &mut runs[run];
                let found = transaction.service(&[b'i', key]).await.expect("read");
                did.push(Did::Got(key, found.map(|section| section.value[0])));
            }
            Step::Put(run, key, value) => {
                let (transaction, did) = &mut runs[run];
                let section = (value != 0).then(|| Section {
                    state: 1,
                    expires: None,
                    value: vec![value],
                });
                transaction
                    .set_service(&[b'i', key], section)
                    .await
                    .expect("written");
                did.push(Did::Put(key, value));
            }
            Step::Scan(run, key) => {
                let (transaction, did) = &mut runs[run];
                let (found, _) = transaction
                    .scan(&[b'i', key], b"j", 3)
                    .await
                    .expect("scanned");
                let found = found
                    .iter()
                    .map(|(key, section)| (key[1], section.value[0]));
                did.push(Did::Scanned(key, found.collect()));
            }
            Step::Commit(run) => {
                let fresh = (run_at(store, at(0)), Vec::new());
                let (transaction, did) = std::mem::replace(&mut runs[run], fresh);
                let store = store.clone();
                let commit = tokio::spawn(async move { finish(&store, transaction).await });
                // The commit is on its way before the next step.
                tokio::task::yield_now().await;
                underway.push((commit, did));
                if underway.len() >= at_once {
                    ended(underway.remove(0), &mut wrote, &mut looked).await;
                }
            }
        }
    }
    for one in underway {
        ended(one, &mut wrote, &mut looked).await;
    }
    // Whoever wrote nothing comes somewhere in between.
    let mut model: BTreeMap<u8, u8> = BTreeMap::new();
    looked.retain(|did| !saw(&model, did));
    for did in wrote.values() {
        replay(&mut model, did);
        looked.retain(|did| !saw(&model, did));
    }
    assert!(looked.is_empty(), "seen at no time: {looked:?}");
    let rows = store.scan(b"i", b"j", 1_000).await.expect("scanned");
    let rows: BTreeMap<u8, u8> = rows
        .iter()
        .map(|(key, row)| match &row.as_ref().expect("readable").body {
            Body::Sections(sections) => {
                (key[1], sections.service.as_ref().expect("there").value[0])
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(rows, model);
}

/// Waits for the end of a commit and keeps what its run did, where it counts.
async fn ended(
    (commit, did): Underway,
    wrote: &mut BTreeMap<u64, Vec<Did>>,
    looked: &mut Vec<Vec<Did>>,
) {
    match commit.await.expect("not panicked") {
        Ok(Committed {
            version: Some(version),
            ..
        }) => {
            let other = wrote.insert(version, did);
            assert!(other.is_none(), "version {version} was given twice");
        }
        Ok(_) => looked.push(did),
        Err(CommitError::Stale) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Whether a run that wrote nothing saw what `model` holds.
fn saw(model: &BTreeMap<u8, u8>, did: &[Did]) -> bool {
    did.iter().all(|step| match step {
        Did::Got(key, value) => model.get(key) == value.as_ref(),
        Did::Put(..) => true,
        Did::Scanned(from, found) => found.iter().copied().eq(first_three(model, *from)),
    })
}

fn first_three(model: &BTreeMap<u8, u8>, from: u8) -> impl Iterator<Item = (u8, u8)> + '_ {
    model
        .range(from..)
        .take(3)
        .map(|(key, value)| (*key, *value))
}

fn replay(model: &mut BTreeMap<u8, u8>, did: &[Did]) {
    for step in did {
        match step {
            Did::Got(key, value) => assert_eq!(model.get(key), value.as_ref(), "key {key}"),
            Did::Put(key, 0) => {
                model.remove(key);
            }
            Did::Put(key, value) => {
                model.insert(*key, *value);
            }
            Did::Scanned(from, found) => {
                let alone: Vec<_> = first_three(model, *from).collect();
                assert_eq!(&alone, found, "from {from}");
            }
        }
    }
}
