//! A request that happens once: its row is read first and written with the verdict.

use std::sync::Arc;

use countersign_runtime::{CallError, Limits, Once, SendRequest, SendVerdict};
use countersign_store::{Ending, Rulings, Section, SledStore, Store, Take, Transaction};
use futures_util::FutureExt;

use crate::bench::{Bench, NOW, context};

const ROW: &[u8] = b"i/request";

fn section() -> Section {
    Section {
        state: 1,
        expires: None,
        value: b"happened".to_vec(),
    }
}

fn once(max: u64) -> Once<'static, SendVerdict> {
    Once {
        key: ROW.to_vec(),
        take: Take {
            key: b"il/caller".to_vec(),
            amount: 1,
            max,
            window_ms: 1_000,
        },
        rows: Box::new(|verdict, instant| {
            assert_eq!(instant, NOW);
            assert!(matches!(verdict, SendVerdict::Sent { .. }), "{verdict:?}");
            Ok(vec![(ROW.to_vec(), section())])
        }),
    }
}

async fn bench() -> Bench {
    Bench::with(Limits::default(), countersign_embedded::OTP, Vec::new()).await
}

async fn send(bench: &Bench, once: Once<'_, SendVerdict>) -> Result<SendVerdict, CallError> {
    let request = SendRequest {
        phone: "+12025550123".into(),
        ..SendRequest::default()
    };
    let context = context();
    let sent = bench.runtime.otp_send(&context, request, Some(once)).await;
    sent.map(|(verdict, _)| verdict)
}

/// What another process does that answers the same request first.
async fn happen(store: Arc<SledStore>) {
    let mut run = Transaction::new(store.clone(), NOW, Rulings::default());
    run.set_host(ROW, Some(section())).await.unwrap();
    store.commit(run.into_commit(Ending::Commit)).await.unwrap();
}

#[tokio::test]
async fn what_has_happened_does_not_happen_again() {
    let bench = bench().await;
    send(&bench, once(9)).await.unwrap();
    assert_eq!(bench.queue.depth(), 1);
    let again = send(&bench, once(9)).await;
    assert!(matches!(again, Err(CallError::Happened)), "{again:?}");
    assert_eq!(bench.queue.depth(), 1);
}

#[tokio::test]
async fn its_row_is_in_the_commit_of_the_call() {
    let bench = bench().await;
    send(&bench, once(9)).await.unwrap();
    let commits = bench.store.commits.lock().unwrap();
    let [commit] = commits.as_slice() else {
        panic!("more than one commit: {commits:?}");
    };
    let keys: Vec<_> = commit.writes.iter().map(|write| &write.key[..2]).collect();
    assert!(keys.contains(&b"j/".as_slice()) && keys.contains(&b"i/".as_slice()));
    assert_eq!(commit.takes.len(), 1);
}

#[tokio::test]
async fn where_another_process_was_faster_nothing_happens_here() {
    let bench = bench().await;
    let store = bench.store.inner.clone();
    bench.store.after_read_of(ROW.to_vec(), move |read| {
        let store = store.clone();
        async move {
            if read == 1 {
                happen(store).await;
            }
        }
        .boxed()
    });
    let late = send(&bench, once(9)).await;
    assert!(matches!(late, Err(CallError::Happened)), "{late:?}");
    assert_eq!(bench.queue.depth(), 0, "the place was given back");
    let jobs = bench.store.scan(b"j/", b"j0", 9).await.unwrap();
    assert!(jobs.is_empty(), "{jobs:?}");
}

/// Writes the row `key` as it is: whoever has read it is stale.
async fn touch(store: Arc<SledStore>, key: Vec<u8>) {
    let mut run = Transaction::new(store.clone(), NOW, Rulings::default());
    let section = run.service(&key).await.unwrap();
    assert!(section.is_some(), "there is such a row");
    run.set_service(&key, section).await.unwrap();
    store.commit(run.into_commit(Ending::Commit)).await.unwrap();
}

#[tokio::test]
async fn a_run_that_is_repeated_happens_once() {
    let bench = bench().await;
    let index = bench.keyring.phone_index("+12025550123");
    let windows = format!("c/otp/p/default/{index}").into_bytes();
    let request = SendRequest {
        phone: "+12025550123".into(),
        ..SendRequest::default()
    };
    let context = context();
    let earlier = bench.runtime.otp_send(&context, request, None).await;
    earlier.unwrap();
    let store = bench.store.inner.clone();
    let row = windows.clone();
    bench.store.after_read_of(windows, move |read| {
        let (store, row) = (store.clone(), row.clone());
        async move {
            if read == 1 {
                touch(store, row).await;
            }
        }
        .boxed()
    });
    send(&bench, once(9)).await.unwrap();
    assert_eq!(bench.queue.depth(), 2);
    assert_eq!(
        bench.store.commits.lock().unwrap().len(),
        3,
        "one was stale"
    );
}

#[tokio::test]
async fn one_too_many_is_told_when_there_is_room() {
    let bench = bench().await;
    let full = send(&bench, once(0)).await;
    let Err(CallError::TooManyOnce { retry_after }) = full else {
        panic!("{full:?}");
    };
    assert!(!retry_after.is_zero());
    assert_eq!(bench.queue.depth(), 0);
}
