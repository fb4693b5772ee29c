use countersign_store::Body;
use countersign_types::ErrorClass;

use super::*;
use crate::testing::{Bench, NOW, SECOND, failed, job, sent, update};
use crate::{Finish, Search};

const NUMBER: &str = "+12025550123";
const OTHER: &str = "+12025550199";

fn to_other() -> Job {
    Job {
        to: OTHER.to_owned(),
        ..job()
    }
}

impl Bench {
    async fn erase(&self) -> Erased {
        let erased = self.queue.erase_number(NUMBER, self.now()).await;
        erased.expect("erased")
    }

    async fn found_by(&self, number: &str) -> Vec<MessageId> {
        let search = Search {
            number: Some(number),
            from: UnixMillis(0),
            to: UnixMillis(u64::MAX),
            after: None,
            limit: 100,
        };
        let page = self.queue.search(search, self.now()).await.expect("read");
        page.messages.iter().map(|view| view.id).collect()
    }

    /// Keys of all rows that hold `digits` when they are opened.
    async fn holding(&self, digits: &str) -> Vec<String> {
        let rows = self.store.scan(b"", b"\xff", 10_000).await.expect("read");
        let mut held = Vec::new();
        for (key, row) in rows {
            let Ok(Body::Sections(sections)) = row.map(|row| row.body) else {
                continue;
            };
            let Some(host) = sections.host else { continue };
            let plain = self.keyring.unseal(&key, &host.value);
            let plain = plain.expect("the host's own rows rest sealed");
            if plain
                .windows(digits.len())
                .any(|bytes| bytes == digits.as_bytes())
            {
                held.push(String::from_utf8_lossy(&key[..2]).into_owned());
            }
        }
        held.sort();
        held
    }

    async fn keys(&self) -> Vec<Vec<u8>> {
        let rows = self.store.scan(b"", b"\xff", 10_000).await.expect("read");
        let keys = rows.into_iter().map(|(key, _)| key);
        keys.filter(|key| key[1] == b'/' && key[0] != b'e')
            .collect()
    }
}

#[tokio::test]
async fn all_that_is_kept_of_a_number_goes_and_nothing_of_another() {
    let bench = Bench::new().await;
    let over = bench.sent(&["SM1", "SM2"]).await;
    bench
        .queue
        .receive("p", &[update("SM1", Status::Delivered)], NOW)
        .await
        .expect("taken");
    let dead = bench.dead(job()).await;
    let others = [bench.dead(to_other()).await, bench.add(to_other()).await];
    let kept = bench.keys().await;
    let waiting = bench.add(job()).await;
    let before = bench.kinds().await;
    assert_eq!(bench.found_by(NUMBER).await, [waiting, dead, over]);
    assert_eq!(bench.holding("2025550123").await, ["d/", "j/", "n/", "n/"]);
    assert_eq!(bench.queue.overview(NOW).dead, 2);

    let want = Erased {
        messages: 1,
        dead: 1,
        waiting: 1,
        ..Erased::default()
    };
    assert_eq!(bench.erase().await, want);
    assert!(want.is_all());
    assert!(bench.found_by(NUMBER).await.is_empty());
    assert!(bench.holding("2025550123").await.is_empty());
    for id in [over, dead, waiting] {
        let gone = bench.queue.message(id, NOW).await.expect("read");
        assert_eq!(gone, None);
    }
    let index = bench.queue.number_index(NUMBER);
    let is_others = |key: &&Vec<u8>| {
        let ids = [over, dead].map(|id| [id.0, id.0.map(|byte| !byte)]);
        let ids = ids.as_flattened();
        !key.starts_with(&number_prefix(&index))
            && !key.starts_with(b"r/")
            && !ids.iter().any(|id| key.ends_with(id))
    };
    let kept: Vec<_> = kept.iter().filter(is_others).cloned().collect();
    assert_eq!(bench.keys().await, kept);
    assert_eq!(bench.found_by(OTHER).await, [others[1], others[0]]);
    let overview = bench.queue.overview(NOW);
    assert_eq!((overview.waiting, overview.dead), (1, 1));

    // What was counted stays counted, and the one that waited has come to its end.
    let mut after = before;
    after.push("message.expired".to_owned());
    assert_eq!(bench.kinds().await, after);
    assert_eq!(bench.erase().await, Erased::default(), "a second time");
    assert_eq!(bench.kinds().await, after);
}

#[tokio::test]
async fn an_erased_message_is_neither_sent_nor_found_by_a_late_receipt() {
    let bench = Bench::new().await;
    bench.sent(&["SM1"]).await;
    let waiting = bench.add(job()).await;
    bench.erase().await;
    let late = [update("SM1", Status::Delivered)];
    let received = bench.queue.receive("p", &late, NOW).await.expect("taken");
    assert_eq!(received.changed, 0);
    let other = bench.add(to_other()).await;
    let next = bench.claim().await;
    assert_eq!(next.id, other, "{waiting} is gone");
    let kept = bench.reopened().await;
    assert_eq!(kept.depth(), 1);
}

#[tokio::test]
async fn what_is_being_handed_over_is_left_until_that_has_ended() {
    let bench = Bench::new().await;
    bench.add(job()).await;
    let claim = bench.claim().await;
    let erased = bench.erase().await;
    assert_eq!((erased.in_hand, erased.is_all()), (1, false));
    assert!(bench.finish(claim, sent(&["SM1"])).await, "the claim holds");
    let erased = bench.erase().await;
    assert_eq!((erased.messages, erased.is_all()), (1, true));
    assert!(bench.holding("2025550123").await.is_empty());
}

#[tokio::test]
async fn a_replayed_message_goes_with_its_old_row() {
    let bench = Bench::new().await;
    let id = bench.dead(job()).await;
    bench.queue.replay(id, NOW).await.expect("replayed");
    let erased = bench.erase().await;
    assert_eq!((erased.waiting, erased.dead), (1, 0));
    assert!(bench.keys().await.is_empty());
}

#[tokio::test]
async fn a_paused_message_is_erased_too_and_its_place_is_free() {
    let bench = Bench::new().await;
    bench.add(job()).await;
    let retry = Finish::Retry {
        at: NOW,
        provider: "p".into(),
        error: failed(ErrorClass::Retryable),
        due: NOW + 30 * SECOND,
    };
    let claim = bench.claim().await;
    assert!(bench.finish(claim, retry).await);
    assert_eq!(bench.erase().await.waiting, 1);
    assert_eq!(bench.queue.overview(NOW).waiting, 0);
}

#[tokio::test]
async fn more_than_goes_at_once_goes_in_several_calls() {
    let bench = Bench::new().await;
    let index = bench.queue.number_index(NUMBER);
    let messages = ERASED_MAX + A_COMMIT + 1;
    for _ in 0..messages {
        // As their ends leave them.
        let id = MessageId::new(NOW, &bench.ids);
        let row = MessageRow {
            number: index.clone(),
            ..job().into_message(Status::Expired, NOW)
        };
        let until = bench.queue.kept_until(NOW);
        let row = crate::rows::put(&bench.keyring, key(MESSAGES, id), &row, Some(until));
        let found_by = bench.queue.number_row(&index, id, NUMBER, until);
        let commit = Commit {
            instant: NOW,
            writes: vec![row.expect("sealed"), found_by.expect("sealed")],
            ..Commit::default()
        };
        bench.store.commit(commit).await.expect("committed");
    }
    let first = bench.erase().await;
    assert!(first.more && first.messages < messages, "{first:?}");
    let second = bench.erase().await;
    assert!(second.is_all(), "{second:?}");
    assert_eq!(first.messages + second.messages, messages);
    assert!(bench.keys().await.is_empty());
}

#[tokio::test]
async fn a_row_that_cannot_be_read_goes_as_well() {
    let bench = Bench::new().await;
    let id = bench.sent(&["SM1"]).await;
    let dead = bench.dead(job()).await;
    for row_key in [key(MESSAGES, id), dead_key(dead)] {
        let row = crate::rows::put(&bench.keyring, row_key, &"nonsense", None);
        let commit = Commit {
            instant: NOW,
            writes: vec![row.expect("sealed")],
            ..Commit::default()
        };
        bench.store.commit(commit).await.expect("committed");
    }
    bench.erase().await;
    for row_key in [key(MESSAGES, id), dead_key(dead)] {
        assert!(bench.store.get(&row_key).await.expect("read").is_none());
    }
}
