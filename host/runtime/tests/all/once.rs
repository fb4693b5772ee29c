//! A request that happens once: its row is read first and written with the verdict.

use std::sync::Arc;
use std::time::Duration;

use countersign_hostile::variant;
use countersign_queue::{Finish, Open};
use countersign_runtime::{
    CallError, Claim, ClaimError, Found, InstallError, KeptAnswer, Ledger, LedgerLimits,
    MessageRequest, Once, ReplayCallError, Scope, SendRequest, SendVerdict, Sha256,
};
use countersign_store::{Ending, Rulings, SledStore, Store, Transaction};
use countersign_types::{MessageId, Priority, Status};
use futures_util::FutureExt;

use crate::bench::{Bench, NOW, context, patient};
use crate::registry;

impl Bench {
    /// The keys of requests as a process has them.
    fn ledger(&self, keys_per_day: u64) -> Arc<Ledger> {
        let limits = LedgerLimits {
            keys_per_day,
            in_flight: 9,
        };
        // Past the meddling, which is for the runs.
        let store = self.store.inner.clone();
        Ledger::new(store, self.keyring.clone(), self.clock.clone(), limits)
    }
}

async fn claim(ledger: &Arc<Ledger>) -> Result<Claim, ClaimError> {
    let scope = Scope {
        asker: (b"key", b"k1"),
        user: None,
        path: "/api/otp/send",
        key: "k",
    };
    ledger.claim(scope, &[b"{}"]).await
}

async fn free(bench: &Bench) -> Claim {
    let claimed = claim(&bench.ledger(9)).await;
    claimed.unwrap_or_else(|error| panic!("{error}"))
}

/// Keeps a verdict as its text.
fn once<R: std::fmt::Debug>(claim: &Claim) -> Once<'static, R> {
    claim.once(|verdict: &R, instant| {
        assert_eq!(instant, NOW);
        Some(KeptAnswer {
            bytes: format!("{verdict:?}").into_bytes(),
            secret: false,
        })
    })
}

async fn bench() -> Bench {
    Bench::with(patient(), countersign_embedded::OTP, Vec::new()).await
}

fn request(phone: &str) -> SendRequest {
    SendRequest {
        phone: phone.to_owned(),
        ..SendRequest::default()
    }
}

const PHONE: &str = "+12025550123";

async fn send(bench: &Bench, claim: &Claim) -> Result<SendVerdict, CallError> {
    let (context, once) = (context(), Some(once(claim)));
    let sent = bench.runtime.otp_send(&context, request(PHONE), once).await;
    sent.map(|(verdict, _)| verdict)
}

/// The answer that is kept, as a text.
#[track_caller]
fn answered(claimed: Result<Claim, ClaimError>) -> String {
    let Err(ClaimError::Used(Found::Answer { bytes, .. })) = claimed else {
        panic!("{:?}", claimed.err());
    };
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn what_has_happened_does_not_happen_again() {
    let bench = bench().await;
    let first = free(&bench).await;
    let verdict = send(&bench, &first).await.unwrap();
    assert_eq!(bench.queue.depth(), 1);
    let again = send(&bench, &first).await;
    assert!(matches!(again, Err(CallError::Happened)), "{again:?}");
    assert_eq!(bench.queue.depth(), 1);
    let kept = answered(claim(&bench.ledger(9)).await);
    assert_eq!(kept, format!("{verdict:?}"));
}

#[tokio::test]
async fn its_row_is_in_the_commit_of_the_call() {
    let bench = bench().await;
    send(&bench, &free(&bench).await).await.unwrap();
    let commits = bench.store.commits.lock().unwrap();
    let [commit] = commits.as_slice() else {
        panic!("more than one commit: {commits:?}");
    };
    let keys: Vec<_> = commit.writes.iter().map(|write| &write.key[..2]).collect();
    assert!(keys.contains(&b"j/".as_slice()) && keys.contains(&b"i/".as_slice()));
    assert_eq!(commit.takes.len(), 1);
}

#[tokio::test]
async fn a_refusal_that_changes_nothing_leaves_the_key_free_and_one_that_does_uses_it_up() {
    let bench = bench().await;
    let refuse = async |phone: &str| {
        let free = free(&bench).await;
        let (context, once) = (context(), Some(once(&free)));
        let verdict = bench.runtime.otp_send(&context, request(phone), once).await;
        let (verdict, _) = verdict.unwrap();
        assert!(matches!(verdict, SendVerdict::Refused(_)), "{verdict:?}");
        verdict
    };
    refuse("no number").await;
    assert_eq!(bench.store.last_commit(), (0, 0));
    // A premium rate number: its refusal is an event.
    let verdict = refuse("+19002345678").await;
    assert_eq!(bench.store.last_commit(), (2, 1));
    let kept = answered(claim(&bench.ledger(9)).await);
    assert_eq!(kept, format!("{verdict:?}"));
}

#[tokio::test]
async fn a_call_that_fails_leaves_its_key_free() {
    // The scripted component takes the number for its script.
    let bench = Bench::new().await;
    for script in ["put row 1\nerr no", "put row 1\ntrap oops"] {
        let claimed = free(&bench).await;
        let (context, once) = (context(), Some(once(&claimed)));
        let failed = bench.runtime.otp_send(&context, request(script), once);
        let failed = failed.await;
        assert!(
            matches!(failed, Err(CallError::Component { .. })),
            "{failed:?}"
        );
    }
    assert!(claim(&bench.ledger(9)).await.is_ok(), "free again");
}

/// The row that a send has read after the key's.
fn windows(bench: &Bench) -> Vec<u8> {
    let index = bench.keyring.phone_index(PHONE);
    format!("c/otp/p/default/{index}").into_bytes()
}

/// What another process does that answers the same request first.
async fn happen(store: Arc<SledStore>, claim: Claim) {
    let once: Once<'_, &str> = once(&claim);
    let mut run = Transaction::new(store.clone(), NOW, Rulings::default());
    once.begin(&mut run).await.unwrap();
    once.record(&mut run, &"theirs").await.unwrap();
    store.commit(run.into_commit(Ending::Commit)).await.unwrap();
}

#[tokio::test]
async fn where_another_process_was_faster_nothing_happens_here() {
    let bench = bench().await;
    let store = bench.store.inner.clone();
    let (ours, theirs) = (free(&bench).await, free(&bench).await);
    bench.store.after_read_of(windows(&bench), move |read| {
        let (store, theirs) = (store.clone(), theirs.clone());
        async move {
            if read == 1 {
                happen(store, theirs).await;
            }
        }
        .boxed()
    });
    let late = send(&bench, &ours).await;
    assert!(matches!(late, Err(CallError::Happened)), "{late:?}");
    assert_eq!(bench.queue.depth(), 0, "the place was given back");
    let jobs = bench.store.scan(b"j/", b"j0", 9).await.unwrap();
    assert!(jobs.is_empty(), "{jobs:?}");
    assert_eq!(answered(claim(&bench.ledger(9)).await), "\"theirs\"");
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
    let context = context();
    let earlier = bench.runtime.otp_send(&context, request(PHONE), None).await;
    earlier.unwrap();
    let (store, row) = (bench.store.inner.clone(), windows(&bench));
    bench.store.after_read_of(row.clone(), move |read| {
        let (store, row) = (store.clone(), row.clone());
        async move {
            if read == 1 {
                touch(store, row).await;
            }
        }
        .boxed()
    });
    send(&bench, &free(&bench).await).await.unwrap();
    assert_eq!(bench.queue.depth(), 2);
    let commits = bench.store.commits.lock().unwrap().len();
    assert_eq!(commits, 3, "one was stale");
}

#[tokio::test]
async fn one_too_many_is_told_when_there_is_room() {
    let bench = bench().await;
    let Ok(none_left) = claim(&bench.ledger(0)).await else {
        panic!("the key is used");
    };
    let full = send(&bench, &none_left).await;
    let Err(CallError::TooManyOnce { retry_after }) = full else {
        panic!("{full:?}");
    };
    assert!(!retry_after.is_zero());
    assert_eq!(bench.queue.depth(), 0);
}

async fn message(bench: &Bench, once: Option<Once<'_, MessageId>>) -> Result<MessageId, CallError> {
    let to = bench.runtime.parse_phone(PHONE).unwrap();
    let request = MessageRequest {
        to,
        template: "hello".into(),
        text: "Hello".into(),
        variables: Vec::new(),
        locale: None,
        purpose: "transactional".into(),
        priority: Priority::Normal,
        due: NOW,
        deadline: NOW + Duration::from_secs(60),
    };
    let sent = bench.runtime.send_message(&context(), &request, once).await;
    sent.map(|(id, _)| id)
}

#[tokio::test]
async fn a_message_is_made_once_and_not_on_a_disk_that_is_nearly_full() {
    let bench = bench().await;
    let first = free(&bench).await;
    bench.store.inner.set_reserve(u64::MAX);
    let full = message(&bench, Some(once(&first))).await;
    assert!(matches!(full, Err(CallError::StoreFull { .. })), "{full:?}");
    bench.store.inner.set_reserve(0);
    let id = message(&bench, Some(once(&first))).await.unwrap();
    let again = message(&bench, Some(once(&first))).await;
    assert!(matches!(again, Err(CallError::Happened)), "{again:?}");
    assert_eq!(bench.queue.depth(), 1);
    drop(first);
    let kept = answered(claim(&bench.ledger(9)).await);
    assert_eq!(kept, format!("{id:?}"));
}

#[tokio::test]
async fn a_dead_message_is_replayed_once() {
    let bench = bench().await;
    let id = message(&bench, None).await.unwrap();
    let die = async || {
        let taken = bench.queue.next(&Open).await.unwrap();
        let failed = Finish::Over {
            status: Status::Failed,
            attempt: None,
            reason: None,
        };
        bench.queue.finish(taken.claim, failed, NOW).await.unwrap();
    };
    die().await;
    let first = free(&bench).await;
    let (view, instant) = bench.runtime.replay(id, Some(once(&first))).await.unwrap();
    assert_eq!((view.id, view.row.status), (id, Status::Queued));
    assert_eq!((instant, bench.queue.depth()), (NOW, 1));
    let again = bench.runtime.replay(id, Some(once(&first))).await;
    let happened = ReplayCallError::Call(CallError::Happened);
    assert_eq!(again.unwrap_err().to_string(), happened.to_string());
    drop(first);
    assert_eq!(answered(claim(&bench.ledger(9)).await), format!("{view:?}"));
    // It dies again, and another request replays it again.
    die().await;
    bench.runtime.replay(id, None).await.unwrap();
}

#[tokio::test]
async fn a_rollback_happens_once_and_says_so_in_its_own_commit() {
    let (bench, registry) = registry::bench().await;
    let mine = variant(registry::OTP, "mine");
    registry::install(&registry, "otp", &mine).await.unwrap();
    let back = async |claim: &Claim| registry.roll_back("otp", Some(once(claim))).await;
    let Ok(none_left) = claim(&bench.ledger(0)).await else {
        panic!("the key is used");
    };
    let full = back(&none_left).await;
    assert!(
        matches!(full, Err(InstallError::Call(CallError::TooManyOnce { .. }))),
        "{full:?}"
    );
    assert_eq!(
        registry.record("otp").await.unwrap().live,
        Sha256::of(&mine)
    );
    // Two processes on one store have let the same request in.
    let (ours, theirs) = (free(&bench).await, free(&bench).await);
    let record = back(&theirs).await.unwrap();
    assert_eq!(record.live, Sha256::of(registry::OTP));
    {
        let commits = bench.store.commits.lock().unwrap();
        let writes = &commits.last().unwrap().writes;
        let keys: Vec<_> = writes.iter().map(|write| &write.key[..2]).collect();
        assert!(keys.contains(&b"v/".as_slice()) && keys.contains(&b"i/".as_slice()));
    }
    // Nothing is left to go back to, which would be another answer.
    let late = back(&ours).await;
    assert!(
        matches!(late, Err(InstallError::Call(CallError::Happened))),
        "{late:?}"
    );
    let kept = answered(claim(&bench.ledger(9)).await);
    assert_eq!(kept, format!("{record:?}"));
}

#[tokio::test]
async fn where_another_process_was_faster_no_version_is_taken_back_here() {
    let (bench, registry) = registry::bench().await;
    let mine = variant(registry::OTP, "mine");
    registry::install(&registry, "otp", &mine).await.unwrap();
    let store = bench.store.inner.clone();
    let (ours, theirs) = (free(&bench).await, free(&bench).await);
    bench.store.after_read_of(b"v/otp".to_vec(), move |read| {
        let (store, theirs) = (store.clone(), theirs.clone());
        async move {
            // The second is that of the run which is to be committed.
            if read == 2 {
                happen(store, theirs).await;
            }
        }
        .boxed()
    });
    let late = registry.roll_back("otp", Some(once(&ours))).await;
    assert!(
        matches!(late, Err(InstallError::Call(CallError::Happened))),
        "{late:?}"
    );
    let record = registry.record("otp").await.unwrap();
    assert_eq!(record.live, Sha256::of(&mine));
}
