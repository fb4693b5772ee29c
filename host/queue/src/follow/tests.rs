use std::time::Duration;

use countersign_types::Status;

use super::*;
use crate::testing::{Bench, NOW, SECOND, job, price, sent, update};
use crate::{Finish, Job};

impl Bench {
    /// A message that was accepted now and is taken by `p` after `delay`.
    async fn sent_after(&self, delay: Duration) -> MessageId {
        let now = self.now();
        let id = self
            .add(Job {
                accepted: now,
                due: now + delay,
                deadline: now + delay + 600 * SECOND,
                ..job()
            })
            .await;
        self.clock.advance(delay);
        let claim = self.claim().await;
        assert!(self.finish(claim, sent(&["SM1"])).await);
        id
    }

    async fn found(&self, line: Line) -> Vec<MessageId> {
        let (from, to) = (line.at(NOW), line.at(self.now() + SECOND));
        let page = self.queue.follow(line, &from, &to, 100, self.now()).await;
        let page = page.expect("read");
        assert!(page.end);
        page.found.into_iter().map(|found| found.id).collect()
    }
}

#[tokio::test]
async fn a_message_stands_in_one_line_by_how_soon_it_was_sent() {
    let bench = Bench::new().await;
    let at_once = bench.sent_after(FOLLOW_SENT_WITHIN).await;
    let late = bench.sent_after(FOLLOW_SENT_WITHIN + SECOND).await;
    assert_eq!(bench.found(Line::Accepted).await, [at_once]);
    assert_eq!(bench.found(Line::Sent).await, [late]);
}

#[tokio::test]
async fn a_message_of_which_all_is_known_is_not_followed() {
    let bench = Bench::new().await;
    let id = bench.sent_after(Duration::ZERO).await;
    let line = Line::Accepted;
    let (from, to) = (line.at(NOW), line.at(NOW + SECOND));
    let page = bench.queue.follow(line, &from, &to, 100, NOW).await;
    let found = page.expect("read").found.remove(0);
    assert_eq!(found.ids, ["SM1"]);
    assert!(found.lacks_price && found.lacks_receipt);
    let mut news = update("SM1", Status::Delivered);
    let take = async |news| {
        bench
            .queue
            .receive("p", &[news], NOW)
            .await
            .expect("received")
    };
    take(news.clone()).await;
    assert_eq!(bench.found(line).await, [id], "its price is not known");
    news.price = Some(price("0.01"));
    take(news).await;
    assert!(bench.found(line).await.is_empty());
}

#[tokio::test]
async fn messages_that_no_provider_took_are_not_followed() {
    let bench = Bench::new().await;
    bench.add(job()).await;
    let claim = bench.claim().await;
    let over = Finish::Over {
        status: Status::Expired,
        attempt: None,
        reason: None,
    };
    assert!(bench.finish(claim, over).await);
    assert!(bench.found(Line::Accepted).await.is_empty());
}

#[tokio::test]
async fn a_line_is_seen_page_by_page_and_nothing_twice() {
    let bench = Bench::new().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(bench.sent_after(Duration::ZERO).await);
        bench.clock.advance(SECOND);
    }
    let line = Line::Accepted;
    let (mut from, to) = (line.at(NOW), line.at(bench.now()));
    let mut found = Vec::new();
    for n in 0..3 {
        let page = bench.queue.follow(line, &from, &to, 2, bench.now()).await;
        let page = page.expect("read");
        found.extend(page.found.into_iter().map(|found| found.id));
        assert_eq!(page.end, n == 2);
        from = page.next;
    }
    assert_eq!((found, from), (ids, to));
}

#[tokio::test]
async fn what_the_follower_notes_is_there_after_a_restart() {
    let bench = Bench::new().await;
    assert_eq!(bench.queue.follower(NOW).await.expect("read"), None);
    let noted = vec![
        (Line::Accepted, Line::Accepted.at(NOW)),
        (Line::Sent, Line::Sent.at(NOW)),
    ];
    bench.queue.note_follower(&noted, NOW).await.expect("noted");
    let read = bench.reopened().await.follower(NOW).await;
    assert_eq!(read.expect("read"), Some(noted));
}
