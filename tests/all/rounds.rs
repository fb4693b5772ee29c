//! Rounds of load, a blow at a random moment, a restart, and the question whether everything that
//! was acknowledged is there.
#![expect(
    clippy::print_stderr,
    reason = "a failure is told with its seed and its rounds"
)]

use std::collections::HashMap;
use std::env;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use countersign_tests::{
    Builder, Client, FakeTwilio, PATIENCE, Server, TOO_MANY_SENDS, TOO_MANY_TRIES, join_all,
    nearly, phone,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Rounds on one data folder; then a new one begins, with a new provider, so that a thousand rounds
/// cost a thousand times what one does.
const LOT: usize = 50;
/// Clients that send and verify without a pause.
const CLIENTS: usize = 8;

/// What ends the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// SIGKILL.
    Kill,
    /// SIGKILL, and of the files only what was durable.
    PowerCut,
}

/// When it comes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after so many sends were acknowledged.
    UnderLoad(usize, Duration),
    /// The same, but so long after SIGTERM.
    Stopping(usize, Duration),
    /// So long after a phone's sends and another one's tries were used up.
    Full(Duration),
    /// So long after starts of the program, without a load.
    Starting([Duration; 2]),
}

impl Moment {
    fn random(random: &mut StdRng, start: Duration) -> Self {
        let span = |random: &mut StdRng, longest: Duration| longest.mul_f64(random.random());
        match random.random_range(0..11) {
            10 => Self::full(random),
            0..=1 => Self::Starting([span(random, start), span(random, start)]),
            2 => Self::Stopping(
                random.random_range(1..20),
                span(random, Duration::from_millis(20)),
            ),
            _ => Self::UnderLoad(
                random.random_range(1..60),
                span(random, Duration::from_millis(10)),
            ),
        }
    }

    fn full(random: &mut StdRng) -> Self {
        Self::Full(Duration::from_millis(10).mul_f64(random.random()))
    }
}

/// A number of the environment, else the default.
pub(crate) fn number_from_environment(name: &str, default: usize) -> usize {
    match env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: `{text}`")),
        Err(_) => default,
    }
}

/// The seed of the environment, else a new one; printed, so that a failure names it.
pub(crate) fn seed() -> u64 {
    let seed = match env::var("COUNTERSIGN_TEST_SEED") {
        Ok(text) => text.parse().expect("COUNTERSIGN_TEST_SEED is a number"),
        Err(_) => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .subsec_nanos()
            .into(),
    };
    eprintln!("COUNTERSIGN_TEST_SEED={seed}");
    seed
}

/// What the load was told.
#[derive(Debug, Default)]
struct Ledger {
    /// Phones whose send was acknowledged.
    acknowledged: Vec<String>,
    /// The phones' codes that were tried.
    tried: HashMap<String, Tried>,
    /// A phone that is sent to until it may not, with the sends that were acknowledged.
    limited: Option<(String, usize, Instant)>,
    /// A phone whose code is guessed, with its code and the misses that were acknowledged.
    guessed: Option<(String, String, u8)>,
}

#[derive(Debug, Default)]
struct Tried {
    accepted: usize,
    answer_lost: bool,
}

/// What the clients of a round share.
#[derive(Debug)]
struct Round {
    client: Client,
    twilio: Arc<FakeTwilio>,
    ledger: Mutex<Ledger>,
    next: Arc<AtomicUsize>,
    acks: watch::Sender<usize>,
    /// Whether [`limits`](Round::limits) has used up both.
    full: watch::Sender<bool>,
    stopping: AtomicBool,
    /// Whether the server is gone.
    over: watch::Sender<bool>,
}

impl Round {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    fn phone(&self) -> String {
        phone(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends; `None` when the server is gone or going.
    async fn send(&self, phone: &str) -> Option<()> {
        let answer = self.client.try_send(phone).await.ok()?;
        if answer.status != 200 && self.stopping.load(Ordering::Relaxed) {
            return None;
        }
        answer.expect_success();
        self.acks.send_modify(|count| *count += 1);
        Some(())
    }

    /// The code sent to `phone`. Where the server dies before it delivers, the message comes after
    /// the restart, and the check after the round waits for it.
    async fn code(&self, phone: &str) -> Option<String> {
        tokio::select! {
            message = self.twilio.message_to(phone) => Some(message.code()),
            () = self.gone() => None,
        }
    }

    /// Ends when the server has. Not by connecting to it: its port may be somebody else's by then.
    async fn gone(&self) {
        let mut over = self.over.subscribe();
        // The sender is this round's own.
        let _ = over.wait_for(|over| *over).await;
    }

    /// Sends and verifies without a pause until the server is gone.
    async fn load(&self) -> Option<()> {
        loop {
            let phone = self.phone();
            self.send(&phone).await?;
            self.ledger().acknowledged.push(phone.clone());
            let code = self.code(&phone).await?;
            let answer = self.client.try_verify(&phone, &code).await;
            let mut ledger = self.ledger();
            let tried = ledger.tried.entry(phone).or_default();
            match answer {
                Ok(answer) if answer.status == 200 => tried.accepted += 1,
                Ok(answer) if self.stopping.load(Ordering::Relaxed) => {
                    assert_eq!(answer.status, 503, "{answer:?}");
                    tried.answer_lost = true;
                    return None;
                }
                Ok(answer) => panic!("a right code was refused: {answer:?}"),
                Err(_) => {
                    tried.answer_lost = true;
                    return None;
                }
            }
        }
    }

    /// Uses up a phone's sends, and another one's tries.
    async fn limits(&self) -> Option<()> {
        let (limited, guessed) = (self.phone(), self.phone());
        let began = Instant::now();
        for sends in 1..=3 {
            self.send(&limited).await?;
            self.ledger().limited = Some((limited.clone(), sends, began));
        }
        self.send(&guessed).await?;
        let code = self.code(&guessed).await?;
        for misses in 1..=5 {
            let wrong = nearly(&code, misses);
            let answer = self.client.try_verify(&guessed, &wrong).await.ok()?;
            if answer.status == 503 && self.stopping.load(Ordering::Relaxed) {
                return None;
            }
            assert_eq!(answer.status, 400, "{answer:?}");
            self.ledger().guessed = Some((guessed.clone(), code.clone(), misses));
        }
        self.full.send_replace(true);
        Some(())
    }
}

/// What `rounds` has done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Blows.
    pub(crate) blows: usize,
    /// Sends that were acknowledged and found again.
    pub(crate) sends: usize,
    /// Codes that were accepted before the blow, and refused after it.
    pub(crate) spent: usize,
    /// Phones whose sends were used up before the blow, and after it.
    pub(crate) limits: usize,
    /// Phones whose tries were counted before the blow, and locked after it and the rest of them.
    pub(crate) locks: usize,
}

/// `count` blows at random moments to servers of `builder`.
pub(crate) async fn rounds(
    count: usize,
    seed: u64,
    blow: Blow,
    builder: impl Fn(&FakeTwilio, u64) -> Builder,
) -> Tally {
    let mut random = StdRng::seed_from_u64(seed);
    let mut tally = Tally::default();
    for lot in (0..count).step_by(LOT) {
        let twilio = Arc::new(FakeTwilio::start().await);
        let began = Instant::now();
        let mut server = builder(&twilio, random.random()).start().await;
        let start = began.elapsed();
        let next = Arc::new(AtomicUsize::new(0));
        for round in lot..count.min(lot + LOT) {
            // For certain at least once: by chance it may never come so far.
            let moment = match round - lot {
                0 => Moment::full(&mut random),
                _ => Moment::random(&mut random, start),
            };
            eprintln!("round {round}: {blow:?} {moment:?}");
            let ledger = strike(&mut server, &twilio, &next, blow, moment).await;
            server.restart().await;
            check(&server, &twilio, ledger, &mut tally).await;
            tally.blows += 1;
        }
    }
    tally
}

async fn strike(
    server: &mut Server,
    twilio: &Arc<FakeTwilio>,
    next: &Arc<AtomicUsize>,
    blow: Blow,
    moment: Moment,
) -> Ledger {
    let (enough, pause) = match moment {
        Moment::Starting(times) => {
            hit(server, blow).await;
            for time in times {
                server.setup().start_and_kill_after(time).await;
                if blow == Blow::PowerCut {
                    server.disk().lose_power();
                }
            }
            return Ledger::default();
        }
        Moment::UnderLoad(enough, pause) | Moment::Stopping(enough, pause) => (enough, pause),
        Moment::Full(pause) => (0, pause),
    };
    let round = Arc::new(Round {
        client: server.client(),
        twilio: Arc::clone(twilio),
        ledger: Mutex::default(),
        next: Arc::clone(next),
        acks: watch::Sender::new(0),
        full: watch::Sender::new(false),
        stopping: AtomicBool::new(false),
        over: watch::Sender::new(false),
    });
    let (mut seen, mut full) = (round.acks.subscribe(), round.full.subscribe());
    let mut workers: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let round = Arc::clone(&round);
            tokio::spawn(async move { round.load().await })
        })
        .collect();
    workers.push({
        let round = Arc::clone(&round);
        tokio::spawn(async move { round.limits().await })
    });
    // What `wait_for` returns holds the channel's lock, on which the workers would wait for ever.
    let reached = tokio::time::timeout(PATIENCE, seen.wait_for(|count| *count >= enough))
        .await
        .is_ok();
    assert!(reached, "fewer than {enough} sends within {PATIENCE:?}");
    if let Moment::Full(_) = moment {
        let reached = tokio::time::timeout(PATIENCE, full.wait_for(|full| *full))
            .await
            .is_ok();
        assert!(reached, "no phone's limits are full within {PATIENCE:?}");
    }
    if let Moment::Stopping(..) = moment {
        round.stopping.store(true, Ordering::Relaxed);
        server.ask_to_stop();
    }
    // Not to wait for anything: the moment is to be a random one.
    tokio::time::sleep(pause).await;
    hit(server, blow).await;
    round.over.send_replace(true);
    for worker in workers {
        worker.await.unwrap();
    }
    std::mem::take(&mut *round.ledger())
}

async fn hit(server: &mut Server, blow: Blow) {
    server.kill().await;
    if blow == Blow::PowerCut {
        server.disk().lose_power();
    }
}

async fn check(server: &Server, twilio: &FakeTwilio, ledger: Ledger, tally: &mut Tally) {
    let Ledger {
        acknowledged,
        tried,
        limited,
        guessed,
    } = ledger;
    let checks = acknowledged.iter().map(async |phone| {
        let code = twilio.message_to(phone).await.code();
        let answer = server.verify(phone, &code).await;
        match tried.get(phone) {
            None => {
                answer.expect_success();
            }
            Some(Tried { accepted: 1, .. }) => {
                assert_eq!(answer.status, 400, "{phone}: used twice");
            }
            Some(Tried { answer_lost, .. }) => {
                assert!(*answer_lost, "{phone}: neither accepted nor lost");
            }
        }
        let again = server.verify(phone, &code).await;
        assert_eq!(again.status, 400, "{phone}: used twice");
    });
    join_all(checks).await;
    tally.sends += acknowledged.len();
    tally.spent += tried.values().filter(|tried| tried.accepted == 1).count();
    if let Some((phone, 3, began)) = limited {
        let answer = server.send(&phone).await;
        // On a machine that stood still the window may be over.
        if began.elapsed() < Duration::from_secs(60) {
            answer.expect_body(400, &json!({ "error": TOO_MANY_SENDS }));
            tally.limits += 1;
        }
    }
    if let Some((phone, code, misses)) = guessed {
        for miss in misses + 1..=5 {
            server.verify(&phone, &nearly(&code, miss)).await;
        }
        let refusal: Value = json!({ "valid": false, "reason": TOO_MANY_TRIES });
        server
            .verify(&phone, &code)
            .await
            .expect_body(400, &refusal);
        tally.locks += 1;
    }
    // A message that went out twice has one code.
    let mut codes: HashMap<String, String> = HashMap::new();
    for request in twilio.requests() {
        let code = request.code().unwrap();
        let first = codes
            .entry(request.to().to_owned())
            .or_insert_with(|| code.clone());
        assert_eq!(*first, code, "{}", request.to());
    }
}
