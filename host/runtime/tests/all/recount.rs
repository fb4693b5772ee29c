//! What is counted anew from the messages is what was counted from the events of their lives.

use std::sync::Arc;
use std::time::Duration;

use countersign_queue::{Attempt, Claim, Finish, Open, Outcome};
use countersign_runtime::figures::{Interval, Query, Report};
use countersign_runtime::{MessageRequest, Recounted, SendRequest, VerifyRequest, VerifyVerdict};
use countersign_store::{Commit, Store, Write};
use countersign_types::{
    Accepted, Clock, ErrorClass, MessageId, Price, Priority, SendError, Status, StatusUpdate,
    UnixMillis,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::bench::{Bench, NOW, context, patient};
use crate::rows::Taken;

const NUMBERS: [&str; 5] = [
    "+12025550123",
    "+4915123456789",
    "+447400123456",
    "+919876543210",
    "+33612345678",
];

/// Messages that live by chance.
struct Lives {
    bench: Bench,
    chance: StdRng,
    sent: Vec<(String, MessageId)>,
    dead: Vec<MessageId>,
    next: u32,
}

async fn bench() -> Bench {
    Bench::with(patient(), countersign_embedded::OTP, Vec::new()).await
}

impl Lives {
    async fn new(bench: Bench, seed: u64) -> Lives {
        let mut lives = Lives {
            bench,
            chance: StdRng::seed_from_u64(seed),
            sent: Vec::new(),
            dead: Vec::new(),
            next: 0,
        };
        // At least one code that is accepted.
        lives.verified_code().await;
        lives
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.chance.next_u32() % bound
    }

    fn now(&self) -> UnixMillis {
        self.bench.clock.now()
    }

    async fn verified_code(&mut self) {
        let phone = NUMBERS[0].to_owned();
        let request = SendRequest {
            phone: phone.clone(),
            ..SendRequest::default()
        };
        let sent = self.bench.runtime.otp_send(&context(), request, None).await;
        sent.unwrap();
        let taken = Arc::new(Taken::default());
        self.bench.deliver(&taken).await;
        let request = VerifyRequest {
            phone,
            code: taken.code(),
            purpose: None,
        };
        let runtime = &self.bench.runtime;
        let verdict = runtime.otp_verify(&context(), request, None).await;
        assert!(matches!(verdict.unwrap().0, VerifyVerdict::Accepted { .. }));
    }

    /// Something happens to one of the messages, or there is a new one.
    async fn go_on(&mut self) {
        let some_time = Duration::from_millis(u64::from(self.below(20 * 60_000)));
        self.bench.clock.advance(some_time);
        match self.below(10) {
            0..3 => self.accept().await,
            3..6 => self.leave().await,
            6..9 => self.receive().await,
            _ => self.replay().await,
        }
    }

    async fn accept(&mut self) {
        let number = NUMBERS[self.below(NUMBERS.len() as u32) as usize];
        let runtime = &self.bench.runtime;
        let request = MessageRequest {
            to: runtime.parse_phone(number).unwrap(),
            template: "notice".into(),
            text: "hello".into(),
            variables: Vec::new(),
            locale: None,
            purpose: "notice".into(),
            priority: Priority::Normal,
            due: self.now(),
            deadline: self.now() + Duration::from_secs(48 * 3_600),
        };
        let accepted = runtime.send_message(&context(), &request, None).await;
        accepted.unwrap();
    }

    async fn leave(&mut self) {
        if self.bench.queue.depth() == 0 {
            return;
        }
        // What was put off is not due yet.
        let next = self.bench.queue.next(&Open);
        let Ok(next) = tokio::time::timeout(Duration::from_millis(20), next).await else {
            return;
        };
        let claim = next.unwrap().claim;
        let (id, finish) = (claim.id, self.finish(&claim));
        let is_dead = matches!(&finish, Finish::Over { status, .. } if *status == Status::Failed);
        let now = self.now();
        if let Finish::Sent {
            provider, accepted, ..
        } = &finish
        {
            self.sent.extend(
                accepted
                    .ids
                    .iter()
                    .map(|part| (format!("{provider}/{part}"), id)),
            );
        }
        assert!(self.bench.queue.finish(claim, finish, now).await.unwrap());
        if is_dead {
            self.dead.push(id);
        }
    }

    fn finish(&mut self, claim: &Claim) -> Finish {
        let (at, provider) = (self.now(), ["p", "q"][self.below(2) as usize].to_owned());
        self.next += 1;
        let error = SendError {
            class: ErrorClass::Retryable,
            retry_after_ms: None,
            provider_code: None,
            text: "no".into(),
            failover: false,
        };
        match self.below(8) {
            0 => Finish::Retry {
                at,
                provider,
                error,
                due: at + Duration::from_secs(30),
            },
            1 | 2 => Finish::Over {
                status: [Status::Failed, Status::Expired, Status::Unknown]
                    [self.below(3).min(if claim.id.0[15] < 128 { 0 } else { 2 }) as usize],
                attempt: (self.below(3) > 0).then_some(Attempt {
                    at,
                    ended: at,
                    provider,
                    outcome: Outcome::Failed(error),
                }),
                reason: None,
            },
            _ => Finish::Sent {
                at,
                provider,
                accepted: Accepted {
                    ids: (0..=self.below(2))
                        .map(|part| format!("{}-{part}", self.next))
                        .collect(),
                    segments: (self.below(2) == 0).then_some(2),
                    price: (self.below(4) == 0)
                        .then(|| Price::new("0.0100".into(), "USD".into()).unwrap()),
                },
                receipt_asked: true,
                counted: [None, Some(1), Some(3)][self.below(3) as usize],
            },
        }
    }

    async fn receive(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        let at = self.below(self.sent.len() as u32) as usize;
        let (name, _) = self.sent[at].clone();
        let (provider, id) = name.split_once('/').unwrap();
        let statuses = [
            Status::Sent,
            Status::Undelivered,
            Status::Failed,
            Status::Delivered,
            Status::Delivered,
            Status::Read,
        ];
        let news = StatusUpdate {
            id: id.to_owned(),
            status: statuses[self.below(6) as usize],
            error: None,
            at: None,
            price: (self.below(3) == 0).then(|| Price::new("0.0079".into(), "EUR".into()).unwrap()),
            segments: (self.below(3) == 0).then_some(1 + self.below(3)),
        };
        let now = self.now();
        self.bench
            .queue
            .receive(provider, &[news], now)
            .await
            .unwrap();
    }

    async fn replay(&mut self) {
        if let Some(id) = self.dead.pop() {
            // Or its time is over.
            let _ = self.bench.queue.replay(id, self.now()).await;
        }
    }

    async fn fold(&self) {
        let mut next = None;
        loop {
            let folded = self.bench.runtime.fold(next).await.unwrap();
            next = Some(folded.next);
            if !folded.more {
                return;
            }
        }
    }

    /// The figures, by several questions.
    async fn figures(&self) -> Vec<Report> {
        let hour = 3_600_000;
        let first = NOW.0 / hour * hour;
        let all = Query {
            start: first,
            end: self.now().0 / hour * hour + hour,
            interval: Interval::Hour,
            country: None,
            provider: None,
        };
        let of = |provider: &str| Some(provider.to_owned());
        let queries = [
            Query {
                interval: Interval::Month,
                ..all.clone()
            },
            Query {
                provider: of("p"),
                interval: Interval::Day,
                ..all.clone()
            },
            Query {
                country: of("DE"),
                ..all.clone()
            },
            all,
        ];
        let mut reports = Vec::new();
        for query in queries {
            reports.push(self.bench.runtime.dashboard(&query).await.unwrap());
        }
        reports
    }

    /// Counts all anew, and nothing happens meanwhile.
    async fn recount(&self) -> Recounted {
        let mut recount = self.bench.runtime.recount().await.unwrap();
        while !recount.progress().is_over {
            recount.advance().await.unwrap();
        }
        recount.progress()
    }

    /// Loses all that was counted, but not where that had come to.
    async fn lose_figures(&self) {
        let rows = self
            .bench
            .store
            .scan(b"c/analytics/", b"c/analytics0", 10_000);
        let keys = rows.await.unwrap().into_iter().map(|(key, _)| key);
        let lost = keys.filter(|key| !key.ends_with(b"/cursor"));
        let writes: Vec<_> = lost.map(|key| Write { key, body: None }).collect();
        assert!(writes.len() > 5);
        let commit = Commit {
            instant: self.now(),
            writes,
            ..Commit::default()
        };
        self.bench.store.commit(commit).await.unwrap();
    }
}

/// Reports without where their rows lie: all is compared.
#[track_caller]
fn check_same(found: &[Report], want: &[Report], what: &str) {
    assert_eq!(format!("{found:#?}"), format!("{want:#?}"), "{what}");
    assert!(found[0].count > 0, "{what}");
}

#[tokio::test]
async fn hours_that_are_counted_anew_come_to_what_was_counted() {
    let bench = bench().await;
    for seed in 0..12 {
        let mut lives = Lives::new(bench.afresh().await, seed).await;
        for _ in 0..120 {
            lives.go_on().await;
        }
        lives.fold().await;
        let want = lives.figures().await;
        let done = lives.recount().await;
        assert_eq!(
            (done.changed.len(), done.incomplete),
            (0, 0),
            "{seed}: {done:?}"
        );
        assert_eq!(
            (done.same, done.busy.len()),
            (done.hours.1, 0),
            "{seed}: {done:?}"
        );
        check_same(
            &lives.figures().await,
            &want,
            &format!("seed {seed}, again"),
        );
        lives.lose_figures().await;
        assert_eq!(lives.figures().await[0].count, 0);
        let done = lives.recount().await;
        assert!(!done.changed.is_empty(), "{seed}: {done:?}");
        check_same(&lives.figures().await, &want, &format!("seed {seed}, lost"));
    }
}

#[tokio::test]
async fn messages_that_go_on_while_hours_are_counted_anew_count_once() {
    let bench = bench().await;
    for seed in 100..108 {
        let mut lives = Lives::new(bench.afresh().await, seed).await;
        for _ in 0..60 {
            lives.go_on().await;
        }
        let mut recount = lives.bench.runtime.recount().await.unwrap();
        while !recount.progress().is_over {
            recount.advance().await.unwrap();
            if lives.below(3) == 0 {
                lives.go_on().await;
            }
            if lives.below(3) == 0 {
                lives.bench.runtime.fold(None).await.unwrap();
                lives.fold().await;
            }
        }
        lives.fold().await;
        let found = lives.figures().await;
        lives.lose_figures().await;
        lives.recount().await;
        check_same(&found, &lives.figures().await, &format!("seed {seed}"));
    }
}

#[tokio::test]
async fn an_hour_whose_messages_are_not_all_kept_stays_as_it_is() {
    let mut lives = Lives::new(bench().await, 7).await;
    lives.accept().await;
    lives.bench.clock.advance(Duration::from_secs(2 * 3_600));
    lives.accept().await;
    lives.fold().await;
    let before = lives.figures().await;
    // One message of the first hour is gone: expired, or erased with the person that it was for.
    let gone = lives.bench.store.scan(b"j/", b"j0", 1).await.unwrap();
    let commit = Commit {
        instant: lives.now(),
        writes: vec![Write {
            key: gone[0].0.clone(),
            body: None,
        }],
        ..Commit::default()
    };
    lives.bench.store.commit(commit).await.unwrap();
    let done = lives.recount().await;
    assert_eq!(
        (done.incomplete, done.same, done.changed.len()),
        (1, 2, 0),
        "{done:?}"
    );
    check_same(&lives.figures().await, &before, "one is gone");
}

#[tokio::test]
async fn an_hour_whose_messages_go_on_all_the_time_is_left_and_named() {
    let mut lives = Lives::new(bench().await, 7).await;
    let mut recount = lives.bench.runtime.recount().await.unwrap();
    while !recount.progress().is_over {
        recount.advance().await.unwrap();
        lives.accept().await;
    }
    let done = recount.progress();
    let hour = NOW.0 / 3_600_000 * 3_600_000;
    assert_eq!(done.busy, [UnixMillis(hour)], "{done:?}");
    assert_eq!((done.same, done.changed.len()), (0, 0));
    lives.fold().await;
    let found = lives.figures().await;
    assert_eq!(lives.recount().await.busy, []);
    check_same(&lives.figures().await, &found, "left");
}
