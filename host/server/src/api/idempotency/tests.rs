//! Keys without a server: a call is stood in for by the rows that it would commit.

use super::*;
use crate::testing::{keyring, store};
use crate::users::{Purpose, Token};
use axum::body::to_bytes;
use countersign_store::{CommitError, Ending};
use countersign_types::ManualClock;
use serde_json::json;

const NOW: UnixMillis = UnixMillis(1_769_860_800_000);
const DAY: Duration = Duration::from_secs(24 * 3600);

struct Bench {
    _folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    keys: Arc<Idempotency>,
}

impl Bench {
    fn new() -> Bench {
        let limits = IdempotencyLimits {
            keys_per_day: 3,
            in_flight: 2,
        };
        let (folder, store) = store();
        let clock = Arc::new(ManualClock::new(NOW));
        let keys = Idempotency::new(store, keyring(folder.path()), clock.clone(), limits);
        Bench {
            _folder: folder,
            clock,
            keys,
        }
    }

    async fn claim(&self, key: &str, body: &str) -> Result<Claim, Response> {
        self.claim_as(&application("one"), None, "/api/otp/send", key, body)
            .await
    }

    async fn claim_as(
        &self,
        asker: &Asker,
        user: Option<&str>,
        path: &str,
        key: &str,
        body: &str,
    ) -> Result<Claim, Response> {
        let scope = Scope {
            asker,
            user: user.map(str::as_bytes),
            path,
            key,
        };
        self.keys.claim(scope, body.as_bytes()).await
    }

    /// What a call that ends with that verdict commits.
    async fn commit(
        &self,
        claim: &Claim,
        judge: fn(&u64, UnixMillis) -> Judged,
    ) -> Result<(), CommitError> {
        let once = claim.once(judge);
        let store = self.keys.store.clone();
        let mut run = Transaction::new(store.clone(), self.clock.now(), Rulings::default());
        once.begin(&mut run).await.expect("the first, and room");
        once.end(&mut run, &7).await.expect("sealed");
        store.commit(run.into_commit(Ending::Commit)).await?;
        Ok(())
    }

    async fn rows(&self) -> Vec<(Vec<u8>, countersign_store::Row)> {
        let rows = self.keys.store.scan(b"i", b"j", 99).await.expect("read");
        let rows = rows.into_iter();
        rows.map(|(key, row)| (key, row.expect("readable")))
            .collect()
    }
}

fn application(id: &str) -> Asker {
    Asker::Application(Caller::Key(id.to_owned()))
}

fn answer(verdict: &u64, now: UnixMillis) -> Judged {
    let retry_at = now + Duration::from_secs(*verdict);
    let body = json!({"error": "canary"});
    Ok(Answer::refusal(&body, Some(retry_at), now))
}

fn secret(verdict: &u64, now: UnixMillis) -> Judged {
    answer(verdict, now).map(Answer::secret)
}

fn refused(claimed: Result<Claim, Response>) -> Response {
    match claimed {
        Ok(_) => panic!("the key was free"),
        Err(response) => response,
    }
}

#[track_caller]
fn check_problem(claimed: Result<Claim, Response>, status: u16, retry_after: Option<&str>) {
    let response = refused(claimed);
    assert_eq!(response.status(), status);
    let header = response.headers().get("retry-after");
    assert_eq!(
        header.map(|value| value.to_str().expect("text")),
        retry_after
    );
    assert!(!response.headers().contains_key(REPLAYED));
}

#[track_caller]
fn check_header(value: &str, want: Option<&str>) {
    let mut headers = HeaderMap::new();
    headers.insert(KEY, HeaderValue::from_str(value).expect("a header"));
    let read = header(&headers).ok().flatten();
    assert_eq!(read.as_deref(), want, "{value}");
}

#[test]
fn a_key_is_taken_bare_or_quoted_and_means_the_same() {
    let uuid = "8e03978e-40d5-43e8-bc93-6894a57f9324";
    check_header(uuid, Some(uuid));
    check_header(&format!("\"{uuid}\""), Some(uuid));
    check_header(r#""a\"b\\c""#, Some(r#"a"b\c"#));
    check_header("a;b,c=", Some("a;b,c="));
}

#[test]
fn a_key_has_1_to_255_visible_characters() {
    let of = |length: usize| "k".repeat(length);
    check_header(&of(255), Some(&of(255)));
    check_header(&of(256), None);
    check_header(&format!("\"{}\"", of(255)), Some(&of(255)));
    check_header(&format!("\"{}\"", of(256)), None);
    for wrong in [
        "", "\"\"", "a b", "\"a b\"", "ä", "\"a", "\"a\\b\"", "\"a\"b", "\"a\";b",
    ] {
        check_header(wrong, None);
    }
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_with_its_headers() {
    let bench = Bench::new();
    let claim = bench.claim("k", "{}").await.expect("free");
    bench.commit(&claim, answer).await.expect("committed");
    drop(claim);
    bench.clock.advance(DAY - Duration::from_millis(1));
    for _ in 0..2 {
        let response = refused(bench.claim("k", "{}").await);
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(response.headers()[REPLAYED], "true");
        let body = to_bytes(response.into_body(), 1_000).await.expect("read");
        assert_eq!(body, r#"{"error":"canary"}"#);
    }
    bench.clock.advance(Duration::from_millis(1));
    bench.claim("k", "{}").await.expect("free after a day");
}

#[tokio::test]
async fn another_body_is_422_also_while_the_first_is_in_flight() {
    let bench = Bench::new();
    let claim = bench.claim("k", "{}").await.expect("free");
    check_problem(bench.claim("k", "{ }").await, 422, None);
    check_problem(bench.claim("k", "{}").await, 409, Some("1"));
    bench.commit(&claim, answer).await.expect("committed");
    drop(claim);
    check_problem(bench.claim("k", "{ }").await, 422, None);
}

#[tokio::test]
async fn a_claim_that_ends_without_a_commit_leaves_its_key_free() {
    let bench = Bench::new();
    drop(bench.claim("k", "{}").await.expect("free"));
    bench.claim("k", "{ }").await.expect("free again");
    assert!(bench.rows().await.is_empty());
}

#[tokio::test]
async fn callers_users_and_paths_have_keys_of_their_own() {
    let bench = Bench::new();
    let one = application("one");
    let path = "/api/otp/send";
    let claim = bench.claim("k", "{}").await.expect("free");
    bench.commit(&claim, answer).await.expect("committed");
    let two = application("two");
    let nobody = Asker::Application(Caller::Anonymous);
    let token = |id| {
        Asker::User(Token {
            purpose: Purpose::Login,
            user: "u".parse().expect("an id"),
            id: [id; 16],
            ends: NOW,
            maker: Caller::Key("one".to_owned()),
        })
    };
    for (asker, user, path, key) in [
        (&two, None, path, "k"),
        (&nobody, None, path, "k"),
        (&token(1), None, path, "k"),
        (&token(2), None, path, "k"),
        (&one, Some("u"), path, "k"),
        (&one, Some(""), path, "k"),
        (&one, None, "/api/otp/verify", "k"),
        (&one, None, path, "K"),
    ] {
        let claimed = bench.claim_as(asker, user, path, key, "{}").await;
        assert!(claimed.is_ok(), "{asker:?} {user:?} {path} {key}");
    }
}

#[tokio::test]
async fn of_two_that_run_at_once_in_two_processes_one_commits_and_the_other_finds_its_answer() {
    let bench = Bench::new();
    let other = Bench {
        _folder: tempfile::tempdir().expect("a folder"),
        clock: bench.clock.clone(),
        keys: Idempotency::new(
            bench.keys.store.clone(),
            bench.keys.keyring.clone(),
            bench.clock.clone(),
            bench.keys.limits,
        ),
    };
    let ours = bench.claim("k", "{}").await.expect("free");
    let theirs = other.claim("k", "{}").await.expect("free there as well");
    let once = ours.once(answer);
    let store = bench.keys.store.clone();
    let mut run = Transaction::new(store.clone(), NOW, Rulings::default());
    once.begin(&mut run).await.expect("nobody was first");
    other.commit(&theirs, answer).await.expect("committed");
    once.end(&mut run, &7).await.expect("sealed");
    let late = store.commit(run.into_commit(Ending::Commit)).await;
    assert!(matches!(late, Err(CommitError::Stale)), "{late:?}");
    let mut again = Transaction::new(store, NOW, Rulings::default());
    let begun = once.begin(&mut again).await;
    assert!(matches!(begun, Err(super::super::CallError::Happened)));
    let found = ours.find().await.expect("read").expect("there");
    assert_eq!(found.headers()[REPLAYED], "true");
}

#[tokio::test]
async fn an_answer_with_a_secret_is_kept_10_minutes_and_then_only_that_it_was_given() {
    let bench = Bench::new();
    let claim = bench.claim("k", "{}").await.expect("free");
    bench.commit(&claim, secret).await.expect("committed");
    drop(claim);
    bench.clock.advance(SECRET_KEPT - Duration::from_millis(1));
    let replayed = refused(bench.claim("k", "{}").await);
    assert_eq!(replayed.headers()[REPLAYED], "true");
    bench.clock.advance(Duration::from_millis(1));
    check_problem(bench.claim("k", "{}").await, 409, None);
    check_problem(bench.claim("k", "{ }").await, 422, None);
    // Swept away, not only invisible.
    assert_eq!(bench.rows().await.len(), 3);
    while !bench
        .keys
        .store
        .sweep(bench.clock.now())
        .await
        .expect("swept")
    {}
    assert_eq!(
        bench.rows().await.len(),
        2,
        "the key and its caller's count"
    );
    bench.clock.advance(DAY - SECRET_KEPT);
    bench.claim("k", "{}").await.expect("free after a day");
}

#[tokio::test]
async fn an_answer_is_kept_at_its_bound_and_only_that_it_was_given_one_past_it() {
    fn of(bytes: usize) -> Judged {
        // The quotes are two of them.
        Ok(Answer::ok(&"x".repeat(bytes - 2)))
    }
    let bench = Bench::new();
    let claim = bench.claim("k", "{}").await.expect("free");
    let at = bench.commit(&claim, |_, _| of(ANSWER_BYTES_MAX));
    at.await.expect("committed");
    drop(claim);
    let replayed = refused(bench.claim("k", "{}").await);
    assert_eq!(replayed.status(), 200);
    let claim = bench.claim("l", "{}").await.expect("free");
    let past = bench.commit(&claim, |_, _| of(ANSWER_BYTES_MAX + 1));
    past.await.expect("committed");
    drop(claim);
    check_problem(bench.claim("l", "{}").await, 409, None);
}

#[tokio::test]
async fn a_verdict_that_is_a_problem_leaves_its_key_free() {
    let bench = Bench::new();
    let claim = bench.claim("k", "{}").await.expect("free");
    let judge = |_: &u64, _: UnixMillis| Err(Problem::internal());
    bench.commit(&claim, judge).await.expect("committed");
    drop(claim);
    let claim = bench.claim("k", "{ }").await.expect("free again");
    bench.commit(&claim, answer).await.expect("committed");
    drop(claim);
    assert_eq!(refused(bench.claim("k", "{ }").await).status(), 400);
}

#[tokio::test]
async fn a_process_works_on_so_many_at_once_and_one_more_is_503() {
    let bench = Bench::new();
    let one = bench.claim("1", "").await.expect("free");
    let _two = bench.claim("2", "").await.expect("free");
    check_problem(bench.claim("3", "").await, 503, Some("1"));
    check_problem(bench.claim("2", "").await, 409, Some("1"));
    drop(one);
    bench.claim("3", "").await.expect("room again");
}

#[tokio::test]
async fn a_caller_has_so_many_keys_a_day_and_one_more_is_told_when() {
    let bench = Bench::new();
    for key in ["1", "2", "3"] {
        let claim = bench.claim(key, "").await.expect("free");
        bench.commit(&claim, answer).await.expect("room");
    }
    let claim = bench.claim("4", "").await.expect("free");
    let once = claim.once(answer);
    let store = bench.keys.store.clone();
    let mut run = Transaction::new(store, bench.clock.now(), Rulings::default());
    let Err(super::super::CallError::TooManyOnce { retry_after }) = once.begin(&mut run).await
    else {
        panic!("there was room");
    };
    assert!(retry_after >= DAY && retry_after < DAY + DAY / 32);
    bench.clock.advance(retry_after);
    bench.commit(&claim, answer).await.expect("room again");
}

#[tokio::test]
async fn no_row_holds_key_body_or_answer() {
    let bench = Bench::new();
    let claim = bench
        .claim("canary-key", "canary-body")
        .await
        .expect("free");
    bench.commit(&claim, answer).await.expect("committed");
    let rows = format!("{:?}", bench.rows().await);
    for needle in ["canary", "one"] {
        let bytes = format!("{:?}", needle.as_bytes());
        let bytes = bytes.trim_matches(['[', ']']);
        assert!(!rows.contains(bytes), "{needle}");
    }
}
