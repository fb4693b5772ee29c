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

/// A word whose company says neither an id nor a time.
fn said(number: &str, wish: Wish) -> Reply {
    Reply {
        phone: number.into(),
        wish,
        id: None,
        at: None,
    }
}

fn written(wish: Wish, id: &str, at: Option<UnixMillis>) -> Reply {
    Reply {
        id: Some(id.into()),
        at,
        ..said(NUMBER, wish)
    }
}

impl Bench {
    async fn heard(&self, provider: &str, number: &str, wish: Wish) -> bool {
        self.told(provider, &said(number, wish)).await
    }

    async fn told(&self, provider: &str, reply: &Reply) -> bool {
        let heard = self.queue.heard(provider, reply, self.now()).await;
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
}

/// Whoever has seen a signed word can send it again, and a company repeats what it was not thanked for.
#[tokio::test]
async fn a_late_or_repeated_word_takes_nothing_back() {
    let bench = bench(&["p"]).await;
    let at = |seconds: u32| Some(NOW + seconds * SECOND);
    bench.clock.set(NOW + 100 * SECOND);
    assert!(bench.told("p", &written(Wish::Stop, "1", at(10))).await);
    assert!(bench.told("p", &written(Wish::Start, "2", at(20))).await);
    for late in [
        written(Wish::Stop, "1", at(10)),
        written(Wish::Stop, "3", at(19)),
        // By its id alone.
        written(Wish::Stop, "1", None),
    ] {
        assert!(!bench.told("p", &late).await, "{late:?}");
        assert!(!bench.is_stopped(&job()).await, "{late:?}");
    }
    assert!(bench.told("p", &written(Wish::Stop, "4", at(21))).await);
    // It says what is known, and is the newest all the same.
    assert!(!bench.told("p", &written(Wish::Stop, "5", at(30))).await);
    assert!(!bench.told("p", &written(Wish::Start, "6", at(25))).await);
    assert!(bench.is_stopped(&job()).await);
    // What says that it comes from the future does not make all that comes until then old.
    assert!(bench.told("p", &written(Wish::Start, "7", at(9_999))).await);
    bench.clock.set(NOW + 101 * SECOND);
    assert!(bench.told("p", &written(Wish::Stop, "8", at(101))).await);
    // After a step back of the clock, too, what says no time is new.
    bench.clock.set(NOW);
    assert!(bench.heard("p", NUMBER, Wish::Start).await);
    assert!(!bench.is_stopped(&job()).await);
}

#[tokio::test]
async fn the_ids_of_the_latest_words_are_kept() {
    let bench = bench(&["p"]).await;
    for n in 0..=IDS_MAX {
        bench
            .told("p", &written(Wish::Start, &n.to_string(), None))
            .await;
    }
    for n in 1..=IDS_MAX {
        let again = written(Wish::Stop, &n.to_string(), None);
        assert!(!bench.told("p", &again).await, "{n}");
    }
    assert!(bench.told("p", &written(Wish::Stop, "0", None)).await);
}

/// A damaged row may say STOP to others than who is heard now.
#[tokio::test]
async fn a_row_that_cannot_be_read_is_kept_and_holds_back_what_nobody_asked_for() {
    let bench = bench(&["p"]).await;
    bench.heard("p", NUMBER, Wish::Stop).await;
    let row_key = stops_key(&bench.queue.number_index(NUMBER));
    let damaged = rows::put(&bench.keyring, row_key.clone(), &"no stops", None);
    let commit = Commit {
        instant: NOW,
        writes: vec![damaged.expect("sealed")],
        ..Commit::default()
    };
    bench.store.commit(commit).await.expect("stored");
    let code = with_code(NOW + 600 * SECOND);
    assert!(!bench.is_stopped(&code).await);
    let refused = bench.queue.is_stopped(&job()).await;
    assert!(
        matches!(refused, Err(StoreError::Unreadable { .. })),
        "{refused:?}"
    );
    for wish in [Wish::Stop, Wish::Start] {
        let heard = bench.queue.heard("q", &said(NUMBER, wish), NOW).await;
        assert!(
            matches!(
                heard,
                Err(ReceiveError::Store(StoreError::Unreadable { .. }))
            ),
            "{heard:?}"
        );
    }
    let clear = |provider| bench.queue.clear_stops(NUMBER, provider, NOW);
    assert!(clear(Some("p")).await.is_err());
    assert_eq!(clear(None).await.expect("stored"), 0);
    assert!(!bench.is_stopped(&job()).await);
    assert!(bench.heard("p", NUMBER, Wish::Stop).await);
}

#[tokio::test]
async fn a_stop_that_was_cleared_is_gone_and_what_was_written_before_stays_old() {
    let bench = bench(&["p", "q"]).await;
    let stop = written(Wish::Stop, "1", Some(NOW));
    for provider in ["p", "q"] {
        bench.told(provider, &stop).await;
    }
    let list = async || {
        let stops = bench.queue.stops(NUMBER).await.expect("read");
        stops.expect("readable").list()
    };
    let [p, q] = &list().await[..] else {
        panic!("two");
    };
    assert_eq!((&*p.provider, p.since, &*q.provider), ("p", NOW, "q"));
    bench.clock.set(NOW + SECOND);
    let clear = |provider| bench.queue.clear_stops(NUMBER, provider, bench.now());
    assert_eq!(clear(Some("other")).await.expect("stored"), 0);
    assert_eq!(clear(Some("q")).await.expect("stored"), 1);
    assert_eq!(list().await.len(), 1);
    assert_eq!(clear(None).await.expect("stored"), 1);
    assert!(list().await.is_empty());
    for provider in ["p", "q"] {
        assert!(!bench.told(provider, &stop).await);
        let late = written(Wish::Stop, "2", Some(NOW));
        assert!(!bench.told(provider, &late).await);
    }
    assert!(!bench.is_stopped(&job()).await);
    let nobody = bench.queue.clear_stops("+12025550199", None, NOW);
    assert_eq!(nobody.await.expect("read"), 0);
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
