use super::*;
use crate::rows;
use crate::testing::{Bench, NOW, SECOND, job, sent};
use crate::{Job, QueueConfig};

const OTHER: &str = "+12025550199";

fn any() -> Search<'static> {
    Search {
        number: None,
        from: UnixMillis(0),
        to: UnixMillis(u64::MAX),
        after: None,
        limit: 50,
    }
}

fn of(number: &str) -> Search<'_> {
    Search {
        number: Some(number),
        ..any()
    }
}

impl Bench {
    /// A message to `to` of `second` seconds after the start, as `state` says: waiting, sent or dead.
    async fn message(&self, second: u32, to: &str, state: &str) -> MessageId {
        let accepted = NOW + second * SECOND;
        self.clock.set(accepted);
        let job = Job {
            to: to.to_owned(),
            accepted,
            due: accepted,
            deadline: accepted + 600 * SECOND,
            ..job()
        };
        match state {
            "dead" => self.dead(job).await,
            "sent" => {
                let id = self.add(job).await;
                let claim = self.claim().await;
                assert_eq!(claim.id, id);
                assert!(self.finish(claim, sent(&[&format!("SM{second}")])).await);
                id
            }
            _ => {
                let due = accepted + 300 * SECOND;
                self.add(Job { due, ..job }).await
            }
        }
    }

    async fn ids(&self, search: Search<'_>) -> (Vec<MessageId>, Option<MessageId>) {
        let page = self.queue.search(search, self.now()).await.expect("read");
        let ids = page.messages.iter().map(|view| view.id).collect();
        (ids, page.next)
    }
}

/// Waiting, sent and dead ones of two numbers, the newest first.
async fn mixed(bench: &Bench) -> Vec<MessageId> {
    let mut ids = Vec::new();
    let states = ["sent", "waiting", "dead", "sent", "dead", "waiting", "sent"];
    for (second, state) in (0..).zip(states) {
        let to = [job().to, OTHER.to_owned()][second as usize % 2].clone();
        ids.insert(0, bench.message(second, &to, state).await);
    }
    ids
}

#[tokio::test]
async fn messages_are_found_by_time_wherever_they_are_the_newest_first() {
    let bench = Bench::new().await;
    let ids = mixed(&bench).await;
    assert_eq!(bench.ids(any()).await, (ids.clone(), None));
    let some = Search {
        from: NOW + 2 * SECOND,
        to: NOW + 5 * SECOND,
        ..any()
    };
    assert_eq!(bench.ids(some).await.0, ids[2..5]);
    let page = bench.queue.search(some, bench.now()).await.expect("read");
    assert!(
        page.messages
            .iter()
            .all(|view| view.row.to == "+1202•••••23" || view.row.to == "+1202•••••99")
    );
    let none = Search {
        from: NOW + 3 * SECOND,
        to: NOW + 3 * SECOND,
        ..any()
    };
    assert_eq!(bench.ids(none).await, (vec![], None));
}

#[tokio::test]
async fn messages_are_found_by_number_wherever_they_are_the_newest_first() {
    let bench = Bench::new().await;
    let ids = mixed(&bench).await;
    let every_second = |first: usize| ids.iter().skip(first).step_by(2).copied().collect();
    let want: Vec<MessageId> = every_second(0);
    assert_eq!(bench.ids(of("+12025550123")).await, (want.clone(), None));
    let want_other: Vec<MessageId> = every_second(1);
    assert_eq!(bench.ids(of(OTHER)).await, (want_other, None));
    assert_eq!(bench.ids(of("+12025550124")).await, (vec![], None));
    let some = Search {
        from: NOW + SECOND,
        to: NOW + 6 * SECOND,
        ..of("+12025550123")
    };
    assert_eq!(bench.ids(some).await.0, want[1..3]);
}

#[tokio::test]
async fn pages_of_any_length_have_each_message_once() {
    let bench = Bench::new().await;
    let ids = mixed(&bench).await;
    for limit in 1..=8 {
        for number in [None, Some("+12025550123")] {
            let mut found = Vec::new();
            let mut search = Search {
                number,
                limit,
                ..any()
            };
            loop {
                let (page, next) = bench.ids(search).await;
                assert!(page.len() <= limit);
                found.extend(page);
                search.after = next;
                if next.is_none() {
                    break;
                }
            }
            let step = if number.is_some() { 2 } else { 1 };
            let want: Vec<_> = ids.iter().step_by(step).copied().collect();
            assert_eq!(found, want, "{limit} {number:?}");
        }
    }
}

#[tokio::test]
async fn one_phone_is_found_by_both_of_its_numbers() {
    let bench = Bench::new().await;
    let over = bench.message(0, "+5491123456789", "sent").await;
    let waiting = bench.message(1, "+541123456789", "waiting").await;
    for number in ["+5491123456789", "+541123456789"] {
        assert_eq!(bench.ids(of(number)).await.0, [waiting, over]);
    }
}

#[tokio::test]
async fn what_is_no_longer_kept_is_not_found_before_it_is_removed() {
    let bench = Bench::with(QueueConfig {
        kept: 100 * SECOND,
        ..QueueConfig::default()
    })
    .await;
    let old = bench.message(0, OTHER, "sent").await;
    let dead = bench.message(1, OTHER, "dead").await;
    let new = bench.message(2, OTHER, "sent").await;
    assert_eq!(bench.ids(of(OTHER)).await.0, [new, dead, old]);
    bench.clock.set(NOW + 101 * SECOND);
    for search in [of(OTHER), any()] {
        assert_eq!(bench.ids(search).await.0, [new]);
    }
    // The rows that find it go with it.
    bench.clock.set(NOW + 200 * SECOND);
    while !bench.store.sweep(bench.now()).await.expect("swept") {}
    for prefix in ["d", "m", "n", "r"] {
        let (from, to) = (format!("{prefix}/"), format!("{prefix}0"));
        let rows = bench.store.scan(from.as_bytes(), to.as_bytes(), 9).await;
        assert!(rows.expect("read").is_empty(), "{prefix}");
    }
}

#[tokio::test]
async fn a_search_looks_at_so_many_rows_and_says_where_to_go_on() {
    let bench = Bench::new().await;
    let rare = bench.message(0, OTHER, "waiting").await;
    // Straight into the store: nobody sends them here.
    let mut writes = Vec::new();
    for n in 1..=LOOKED_AT_MAX {
        let id = MessageId::new(NOW + u32::try_from(n).expect("few") * SECOND, &bench.ids);
        let (key, section) = crate::job_row(&bench.keyring, id, &job()).expect("sealed");
        writes.push(rows::row(key, section));
    }
    for writes in writes.chunks(1_000) {
        let commit = countersign_store::Commit {
            instant: NOW,
            writes: writes.to_vec(),
            ..countersign_store::Commit::default()
        };
        bench.store.commit(commit).await.expect("committed");
    }
    let (found, next) = bench.ids(of(OTHER)).await;
    assert_eq!((found, next.is_some()), (vec![], true));
    let more = Search {
        after: next,
        ..of(OTHER)
    };
    assert_eq!(bench.ids(more).await, (vec![rare], None));
}
