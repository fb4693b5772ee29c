use std::sync::Arc;

use super::*;
use crate::QueueConfig;
use crate::testing::{Bench, NOW, SECOND, job, with_code};

const NUMBER: &str = "+12025550123";

/// A queue whose only route has these providers.
async fn bench(providers: &[&str]) -> Bench {
    let lanes: Vec<Arc<str>> = providers.iter().map(|name| (*name).into()).collect();
    let config = QueueConfig {
        lanes: Arc::new(lanes),
        ..QueueConfig::default()
    };
    Bench::with(config).await
}

impl Bench {
    async fn heard(&self, provider: &str, number: &str, wish: Wish) -> bool {
        let heard = self.queue.heard(provider, number, wish, self.now()).await;
        heard.expect("stored")
    }

    async fn is_stopped(&self, job: &Job) -> bool {
        self.queue.is_stopped(job).await.expect("read")
    }
}

#[tokio::test]
async fn stop_is_remembered_for_its_sender_until_start() {
    let bench = bench(&["p"]).await;
    let code = with_code(NOW + 600 * SECOND);
    assert!(!bench.is_stopped(&job()).await && !bench.is_stopped(&code).await);
    assert!(bench.heard("p", NUMBER, Wish::Stop).await);
    assert!(!bench.heard("p", NUMBER, Wish::Stop).await, "it is no news");
    assert!(bench.is_stopped(&job()).await && bench.is_stopped(&code).await);
    let other = Job {
        to: "+12025550124".into(),
        ..job()
    };
    assert!(!bench.is_stopped(&other).await);
    // A year later and after a restart.
    bench.clock.set(NOW + 365 * 86_400 * SECOND);
    let reopened = bench.reopened().await;
    assert!(reopened.is_stopped(&job()).await.expect("read"));
    // START to somebody else is no START to this one.
    assert!(!bench.heard("q", NUMBER, Wish::Start).await);
    assert!(bench.is_stopped(&job()).await);
    assert!(bench.heard("p", NUMBER, Wish::Start).await);
    assert!(!bench.heard("p", NUMBER, Wish::Start).await);
    assert!(!bench.is_stopped(&job()).await && !bench.is_stopped(&code).await);
    let rows = bench.store.scan(b"o/", b"o0", 9).await.expect("read");
    assert!(rows.is_empty(), "nothing is left of it");
}

#[tokio::test]
async fn a_code_goes_by_another_sender_and_nothing_else_does() {
    let bench = bench(&["p", "q"]).await;
    let code = with_code(NOW + 600 * SECOND);
    bench.heard("q", NUMBER, Wish::Stop).await;
    assert!(bench.is_stopped(&job()).await && !bench.is_stopped(&code).await);
    bench.heard("q", NUMBER, Wish::Start).await;
    assert!(!bench.is_stopped(&job()).await && !bench.is_stopped(&code).await);
    bench.heard("p", NUMBER, Wish::Stop).await;
    assert!(bench.is_stopped(&job()).await && !bench.is_stopped(&code).await);
    bench.heard("q", NUMBER, Wish::Stop).await;
    assert!(bench.is_stopped(&job()).await && bench.is_stopped(&code).await);
}

#[tokio::test]
async fn both_numbers_of_one_phone_have_stopped() {
    let bench = bench(&["p"]).await;
    bench.heard("p", "+5491123456789", Wish::Stop).await;
    let other = Job {
        to: "+541123456789".into(),
        ..job()
    };
    assert!(bench.is_stopped(&other).await);
}

#[tokio::test]
async fn a_stop_outlives_the_erasing_of_its_number_and_names_no_number() {
    let bench = bench(&["p"]).await;
    let id = bench.sent(&["SM1"]).await;
    bench.heard("p", NUMBER, Wish::Stop).await;
    let erased = bench.queue.erase_number(NUMBER, NOW).await.expect("erased");
    assert!(erased.is_all() && erased.messages == 1);
    assert!(bench.queue.message(id, NOW).await.expect("read").is_none());
    assert!(bench.is_stopped(&job()).await);
    let rows = bench.store.scan(b"o/", b"o0", 9).await.expect("read");
    let [(key, row)] = &rows[..] else {
        panic!("one row, not {rows:?}");
    };
    let index = bench.queue.number_index(NUMBER);
    assert_eq!(*key, [b"o/", index.as_bytes()].concat());
    let Ok(countersign_store::Body::Sections(sections)) = row.as_ref().map(|row| &row.body) else {
        panic!("not {row:?}");
    };
    let host = sections.host.as_ref().expect("the host's own");
    let plain = bench.keyring.unseal(key, &host.value).expect("opened");
    assert!(!plain.windows(10).any(|bytes| bytes == b"2025550123"));
}
