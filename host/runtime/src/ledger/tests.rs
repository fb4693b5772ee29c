//! Keys without a call: it is stood in for by the rows that it would commit.

use super::*;
use crate::{CallError, Once};
use countersign_store::{CommitError, Ending, Row, SledStore};
use countersign_types::{ManualClock, SystemEntropy};

const NOW: UnixMillis = UnixMillis(1_769_860_800_000);
const DAY: Duration = Duration::from_secs(24 * 3600);
const PATH: &str = "/api/otp/send";

struct Bench {
    _folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    ledger: Arc<Ledger>,
}

impl Bench {
    fn new() -> Bench {
        let limits = LedgerLimits {
            keys_per_day: 3,
            in_flight: 2,
        };
        let folder = tempfile::tempdir().expect("a folder");
        let store = SledStore::open(&folder.path().join("store")).expect("a store");
        let keys = folder.path().join("keys");
        let keyring = Keyring::load_or_create(&keys, true, &SystemEntropy).expect("keys");
        let clock = Arc::new(ManualClock::new(NOW));
        let ledger = Ledger::new(store, Arc::new(keyring), clock.clone(), limits);
        Bench {
            _folder: folder,
            clock,
            ledger,
        }
    }

    /// The same keys as another process has them.
    fn other(&self) -> Arc<Ledger> {
        let Ledger {
            store,
            keyring,
            clock,
            limits,
            ..
        } = &*self.ledger;
        Ledger::new(store.clone(), keyring.clone(), clock.clone(), *limits)
    }

    async fn claim(&self, key: &str, body: &str) -> Result<Claim, ClaimError> {
        claim(&self.ledger, key, body).await
    }

    /// What a call that ends with that answer commits.
    async fn commit(&self, claim: &Claim, answer: KeptAnswer) -> Result<(), CommitError> {
        let once = claim.once(move |_: &(), _| Some(answer.clone()));
        let store = self.ledger.store.clone();
        let mut run = Transaction::new(store.clone(), self.clock.now(), Rulings::default());
        once.begin(&mut run).await.expect("the first, and room");
        once.record(&mut run, &()).await.expect("sealed");
        store.commit(run.into_commit(Ending::Commit)).await?;
        Ok(())
    }

    async fn rows(&self) -> Vec<(Vec<u8>, Row)> {
        let rows = self.ledger.store.scan(b"i", b"j", 99).await.expect("read");
        let rows = rows.into_iter();
        rows.map(|(key, row)| (key, row.expect("readable")))
            .collect()
    }
}

async fn claim(ledger: &Arc<Ledger>, key: &str, body: &str) -> Result<Claim, ClaimError> {
    let scope = Scope {
        asker: (b"key", b"one"),
        user: None,
        path: PATH,
        key,
    };
    ledger.claim(scope, &[body.as_bytes()]).await
}

fn answer(bytes: impl Into<Vec<u8>>) -> KeptAnswer {
    KeptAnswer {
        bytes: bytes.into(),
        secret: false,
    }
}

fn secret() -> KeptAnswer {
    KeptAnswer {
        secret: true,
        ..answer("canary")
    }
}

/// Requires that a key was used for the same request, and returns the answer where it is kept.
#[track_caller]
fn answered(claimed: Result<Claim, ClaimError>) -> Option<Vec<u8>> {
    match claimed {
        Err(ClaimError::Used(Found::Answer { bytes, .. })) => Some(bytes),
        Err(ClaimError::Used(Found::Done)) => None,
        Err(error) => panic!("{error}: {error:?}"),
        Ok(_) => panic!("the key was free"),
    }
}

#[track_caller]
fn check_other(claimed: Result<Claim, ClaimError>) {
    let error = claimed.err();
    let other = matches!(error, Some(ClaimError::Used(Found::Other)));
    assert!(other, "{error:?}");
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_for_a_day() {
    let bench = Bench::new();
    let claim = bench.claim("k", "{}").await.expect("free");
    bench.commit(&claim, answer("a")).await.expect("committed");
    drop(claim);
    bench.clock.advance(DAY - Duration::from_millis(1));
    for _ in 0..2 {
        let Err(ClaimError::Used(Found::Answer { bytes, now })) = bench.claim("k", "{}").await
        else {
            panic!("it was answered");
        };
        assert_eq!((bytes, now), (b"a".to_vec(), bench.clock.now()));
    }
    bench.clock.advance(Duration::from_millis(1));
    bench.claim("k", "{}").await.expect("free after a day");
}

#[tokio::test]
async fn another_request_with_the_key_is_told_apart_also_while_the_first_is_in_flight() {
    let bench = Bench::new();
    let claim = bench.claim("k", "{}").await.expect("free");
    let other = bench.claim("k", "{ }").await.err();
    assert!(
        matches!(other, Some(ClaimError::OtherInFlight)),
        "{other:?}"
    );
    let same = bench.claim("k", "{}").await.err();
    assert!(matches!(same, Some(ClaimError::InFlight)), "{same:?}");
    bench.commit(&claim, answer("a")).await.expect("committed");
    drop(claim);
    check_other(bench.claim("k", "{ }").await);
}

#[tokio::test]
async fn a_claim_that_ends_without_a_commit_leaves_its_key_free() {
    let bench = Bench::new();
    drop(bench.claim("k", "{}").await.expect("free"));
    bench.claim("k", "{ }").await.expect("free again");
    assert!(bench.rows().await.is_empty());
}

#[tokio::test]
async fn a_verdict_that_changes_nothing_or_is_no_answer_leaves_its_key_free_and_uncounted() {
    let bench = Bench::new();
    let claim = bench.claim("k", "{}").await.expect("free");
    let once = claim.once(|_: &(), _| Some(answer("a")));
    let store = bench.ledger.store.clone();
    let no_answer = claim.once(|_: &(), _| None);
    let run = async |once: &Once<'_, ()>, event: Option<&str>| {
        let mut run = Transaction::new(store.clone(), NOW, Rulings::default());
        once.begin(&mut run).await.expect("nobody was first");
        if let Some(event) = event {
            run.emit(event.into());
        }
        once.end(&mut run, &()).await.expect("sealed");
        run.into_commit(Ending::Commit)
    };
    assert!(run(&once, None).await.is_empty());
    let commit = run(&once, Some("something happened")).await;
    assert_eq!((commit.writes.len(), commit.takes.len()), (1, 1));
    // A verdict that is no answer, such as that a proof is missing.
    let commit = run(&no_answer, Some("something happened")).await;
    assert_eq!((commit.writes.len(), commit.takes.len()), (0, 0));
    assert_eq!(commit.events.len(), 1);
}

#[tokio::test]
async fn askers_users_and_paths_have_keys_of_their_own() {
    let bench = Bench::new();
    let first = bench.claim("k", "{}").await.expect("free");
    bench.commit(&first, answer("a")).await.expect("committed");
    drop(first);
    let one = (b"key".as_slice(), b"one".as_slice());
    let two = (b"key".as_slice(), b"two".as_slice());
    let other = (b"token".as_slice(), b"one".as_slice());
    for (asker, user, path, key) in [
        (two, None, PATH, "k"),
        (other, None, PATH, "k"),
        (one, Some("u"), PATH, "k"),
        (one, Some(""), PATH, "k"),
        (one, None, "/api/otp/verify", "k"),
        (one, None, PATH, "K"),
    ] {
        let scope = Scope {
            asker,
            user: user.map(str::as_bytes),
            path,
            key,
        };
        let claimed = bench.ledger.claim(scope, &[b"{}"]).await;
        assert!(claimed.is_ok(), "{scope:?}: {:?}", claimed.err());
    }
}

#[tokio::test]
async fn of_two_that_run_at_once_in_two_processes_one_commits_and_the_other_finds_its_answer() {
    let bench = Bench::new();
    let theirs = claim(&bench.other(), "k", "{}").await.expect("free there");
    let ours = bench.claim("k", "{}").await.expect("free here as well");
    let once = ours.once(|_: &(), _| Some(answer("ours")));
    let store = bench.ledger.store.clone();
    let mut run = Transaction::new(store.clone(), NOW, Rulings::default());
    once.begin(&mut run).await.expect("nobody was first");
    let committed = bench.commit(&theirs, answer("theirs")).await;
    committed.expect("committed");
    once.record(&mut run, &()).await.expect("sealed");
    let late = store.commit(run.into_commit(Ending::Commit)).await;
    assert!(matches!(late, Err(CommitError::Stale)), "{late:?}");
    let mut again = Transaction::new(store, NOW, Rulings::default());
    let begun = once.begin(&mut again).await;
    assert!(matches!(begun, Err(CallError::Happened)), "{begun:?}");
    let found = ours.find().await.expect("read");
    let theirs = Found::Answer {
        bytes: b"theirs".to_vec(),
        now: NOW,
    };
    assert_eq!(found, Some(theirs));
}

#[tokio::test]
async fn an_answer_with_a_secret_is_kept_10_minutes_and_then_only_that_it_was_given() {
    let bench = Bench::new();
    let claim = bench.claim("k", "{}").await.expect("free");
    bench.commit(&claim, secret()).await.expect("committed");
    drop(claim);
    bench.clock.advance(SECRET_KEPT - Duration::from_millis(1));
    let again = answered(bench.claim("k", "{}").await);
    assert_eq!(again.as_deref(), Some(b"canary".as_slice()));
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(answered(bench.claim("k", "{}").await), None);
    check_other(bench.claim("k", "{ }").await);
    // Swept away, not only invisible.
    assert_eq!(bench.rows().await.len(), 3);
    let store = &bench.ledger.store;
    while !store.sweep(bench.clock.now()).await.expect("swept") {}
    let left = bench.rows().await.len();
    assert_eq!(left, 2, "the key and its caller's count");
    bench.clock.advance(DAY - SECRET_KEPT);
    bench.claim("k", "{}").await.expect("free after a day");
}

#[tokio::test]
async fn an_answer_is_kept_at_its_bound_and_only_that_it_was_given_one_past_it() {
    let bench = Bench::new();
    for (key, secret, over) in [("k", false, 0), ("l", false, 1), ("m", true, 1)] {
        let bytes = vec![b'x'; ANSWER_BYTES_MAX + over];
        let claim = bench.claim(key, "{}").await.expect("free");
        let given = KeptAnswer {
            secret,
            ..answer(bytes.clone())
        };
        bench.commit(&claim, given).await.expect("committed");
        drop(claim);
        let again = answered(bench.claim(key, "{}").await);
        assert_eq!(again, (over == 0).then_some(bytes), "{key}");
    }
}

#[tokio::test]
async fn a_process_works_on_so_many_at_once_and_no_more() {
    let bench = Bench::new();
    let one = bench.claim("1", "").await.expect("free");
    let _two = bench.claim("2", "").await.expect("free");
    let three = bench.claim("3", "").await.err();
    assert!(matches!(three, Some(ClaimError::TooMany)), "{three:?}");
    let two = bench.claim("2", "").await.err();
    assert!(matches!(two, Some(ClaimError::InFlight)), "{two:?}");
    drop(one);
    bench.claim("3", "").await.expect("room again");
}

#[tokio::test]
async fn a_caller_has_so_many_keys_a_day_and_one_more_is_told_when() {
    let bench = Bench::new();
    for key in ["1", "2", "3"] {
        let claim = bench.claim(key, "").await.expect("free");
        bench.commit(&claim, answer("a")).await.expect("room");
    }
    let claim = bench.claim("4", "").await.expect("free");
    let once: Once<'_, ()> = claim.once(|(), _| Some(answer("a")));
    let store = bench.ledger.store.clone();
    let mut run = Transaction::new(store, bench.clock.now(), Rulings::default());
    let Err(CallError::TooManyOnce { retry_after }) = once.begin(&mut run).await else {
        panic!("there was room");
    };
    assert!(retry_after >= DAY && retry_after < DAY + DAY / 32);
    bench.clock.advance(retry_after);
    let committed = bench.commit(&claim, answer("a")).await;
    committed.expect("room again");
}

#[tokio::test]
async fn no_row_holds_key_body_or_answer() {
    let bench = Bench::new();
    for (key, answer) in [("canary-key", answer("canary")), ("canary", secret())] {
        let claim = bench.claim(key, "canary-body").await.expect("free");
        bench.commit(&claim, answer).await.expect("committed");
    }
    let rows = format!("{:?}", bench.rows().await);
    for needle in ["canary", "one"] {
        let bytes = format!("{:?}", needle.as_bytes());
        let bytes = bytes.trim_matches(['[', ']']);
        assert!(!rows.contains(bytes), "{needle}");
    }
}
