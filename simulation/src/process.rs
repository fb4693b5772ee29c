//! One life of the process: the product over the disk, a delivery, clients, and a clock that jumps.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign_delivery::{Delivery, DeliveryConfig, ProviderTerms, Route, Routes};
use countersign_queue::{ANONYMOUS, Counts, Job, Queue, QueueConfig};
use countersign_runtime::world::Service;
use countersign_runtime::{
    CallContext, CallError, Caller, Runtime, SendRequest, SendVerdict, VerifyRequest, VerifyVerdict,
};
use countersign_store::{Commit, Keyring, Store, StoreError, read_events};
use countersign_types::{Clock, Event, MessageId, MonotonicMillis, Priority, UnixMillis};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::disk::Disk;
use crate::model::{ADDRESSES, DIGITS, PURPOSES};
use crate::oracle::{Answer, CALL, Op, Oracle, address};
use crate::plant::Plant;
use crate::probe::Probe;
use crate::provider::{NAMES, SimulatedProviders};
use crate::store::SimulatedStore;
use crate::world::World;
use crate::{Kind, Parts};

/// Numbers of which no two are the same, all valid.
pub(crate) const PHONES: [&str; 3] = ["+12025550123", "+12025550124", "+12025550125"];

const CLIENTS: u64 = 4;
/// How many wishes a client has in one life, at most.
const WISHES: u64 = 12;
/// Places in the queue: few enough that it is full now and then.
const QUEUE_CAPACITY: usize = 12;
/// Longer than any message lives, as far as the clock does not jump.
const DRAIN: Duration = Duration::from_secs(3_600);

/// What is the same in all lives of a seed.
pub(crate) struct Seed<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) world: Arc<World>,
    pub(crate) disk: Disk,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) plant: Option<Plant>,
}

/// The two doors through which clients come: two hosts on one store, which agree on nothing but the
/// committer's word, as several processes on a shared store would. Both use one queue.
struct Process {
    world: Arc<World>,
    oracle: Arc<Oracle>,
    store: Arc<SimulatedStore>,
    keyring: Arc<Keyring>,
    queue: Queue,
    doors: Vec<(Runtime, Arc<Service<Probe>>)>,
    /// Calls that have not been answered, those included whose client has hung up.
    open: AtomicUsize,
}

/// A clock that is slow.
struct SlowClock(Arc<World>, Duration);

impl Clock for SlowClock {
    fn now(&self) -> UnixMillis {
        self.0.now() - self.1
    }

    fn monotonic(&self) -> MonotonicMillis {
        self.0.monotonic()
    }
}

/// Runs one life. `last`: everything is brought to its end, and the disk is what it must be.
pub(crate) async fn live(seed: &Seed<'_>, last: bool) -> Result<(), StoreError> {
    let Seed {
        parts,
        world,
        disk,
        oracle,
        plant,
    } = seed;
    oracle.opened(disk);
    let store = SimulatedStore::open(world, disk, oracle, *plant)?;
    let queue_config = QueueConfig {
        capacity: QUEUE_CAPACITY,
        lane_of: routes().lane_of(),
        ..QueueConfig::default()
    };
    let clock: Arc<dyn Clock> = match plant {
        Some(Plant::ExpiredSend) => Arc::new(SlowClock(world.clone(), Duration::from_secs(120))),
        _ => world.clone(),
    };
    let keyring = parts.keyring.clone();
    let queue = Queue::open(store.clone(), keyring, clock.clone(), queue_config).await?;
    let doors = (0..2)
        .map(|_| {
            let clock = world.clone();
            let entropy = world.clone();
            let runtime = parts
                .runtime
                .again(store.clone(), queue.clone(), clock, entropy);
            let probe = runtime.share(&parts.probe);
            (runtime, probe)
        })
        .collect();
    let process = Arc::new(Process {
        world: world.clone(),
        oracle: oracle.clone(),
        store: store.clone(),
        keyring: parts.keyring.clone(),
        queue: queue.clone(),
        doors,
        open: AtomicUsize::new(0),
    });
    let (stop, stopped) = watch::channel(false);
    let delivery = tokio::spawn({
        let (delivery, world) = (process.delivery(clock), world.clone());
        async move {
            let done = delivery.run(stopped).await;
            if let Err(error) = &done {
                // The server ends its process when its delivery fails.
                world.step(format_args!("the delivery ends: {error}"));
                world.halt();
            }
            done
        }
    });
    let mut clients = JoinSet::new();
    for _ in 0..=world.below(CLIENTS) {
        clients.spawn(process.clone().client());
    }
    let clock = tokio::spawn(process.clone().clock());
    while let Some(done) = clients.join_next().await {
        if let Err(error) = done {
            return panicked(world, &error);
        }
    }
    if !last {
        // The crash comes into what is still under way, or into nothing at all.
        world.pass("the clients are gone".to_owned()).await;
        return Ok(());
    }
    clock.abort();
    world.calm();
    world.step(format_args!("no more faults"));
    let drained = tokio::time::timeout(DRAIN, async {
        while process.open.load(Ordering::Relaxed) > 0 || queue.depth() > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    if drained.await.is_err() {
        let text = format!("{} messages do not end", queue.depth());
        world.violation(Kind::Stuck, text);
    }
    // The receiver is gone only with the delivery.
    let _ = stop.send(true);
    match delivery.await {
        Ok(done) => done?,
        Err(error) => return panicked(world, &error),
    }
    let events = read_events(&*store, 1, usize::MAX, world.now()).await?;
    oracle.ended(disk, &events);
    Ok(())
}

fn panicked(world: &World, error: &tokio::task::JoinError) -> Result<(), StoreError> {
    world.violation(Kind::Panic, error.to_string());
    Ok(())
}

impl Process {
    fn delivery(&self, clock: Arc<dyn Clock>) -> Delivery {
        let world = &self.world;
        let outage = match world.once_in(3) {
            true => Duration::from_millis(world.below(900_000)),
            false => Duration::ZERO,
        };
        let providers = SimulatedProviders {
            world: world.clone(),
            oracle: self.oracle.clone(),
            outage_until: world.now() + outage,
        };
        let terms = ProviderTerms {
            concurrency: 2,
            rate: None,
            status_callback: None,
        };
        let config = DeliveryConfig {
            routes: routes(),
            providers: HashMap::from(NAMES.map(|name| (name.to_owned(), terms.clone()))),
            in_hand: 8,
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
        };
        Delivery::new(
            self.queue.clone(),
            self.keyring.clone(),
            clock,
            world.clone(),
            Arc::new(providers),
            config,
        )
    }

    /// Moves the clock now and then, and sweeps.
    async fn clock(self: Arc<Process>) {
        let world = &*self.world;
        loop {
            tokio::time::sleep(Duration::from_millis(world.below(240_000))).await;
            let second = Duration::from_secs(1);
            let (by, back) = match world.below(16) {
                0..4 => (second * world.below(600) as u32, false),
                4 => (second * world.below(7_200) as u32, false),
                5 => (second * (86_000 + world.below(4_000) as u32), false),
                6..9 => (Duration::from_millis(world.below(5_500)), true),
                9 => (second * world.below(120) as u32, true),
                _ => {
                    world.step(format_args!("sweep"));
                    let now = self.doors[0].0.now();
                    // A store that has failed ends the process by itself.
                    let _ = self.store.sweep(now).await;
                    continue;
                }
            };
            if world.fault_once_in(2) {
                world.step(format_args!(
                    "clock: {by:?} {}",
                    if back { "back" } else { "on" }
                ));
                world.move_clock(by, back);
            }
        }
    }

    /// One client: wishes, with time between them.
    async fn client(self: Arc<Process>) {
        let world = &*self.world;
        for _ in 0..=world.below(WISHES) {
            let wait = match world.below(8) {
                0..3 => 0,
                3..5 => world.below(50),
                5 => world.below(5_000),
                6 => world.below(60_000),
                _ => world.below(400_000),
            };
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let op = self.wish();
            // The same again at once, as impatient clients and attackers do.
            let times = match world.below(8) {
                0 => 2 + world.below(5),
                _ => 1,
            };
            let mut calls = JoinSet::new();
            for _ in 0..times {
                calls.spawn(self.clone().call(op.clone()));
            }
            if world.once_in(10) {
                // The client hangs up; what it began goes on.
                world.mark("a client that hangs up");
                calls.detach_all();
            }
            while let Some(done) = calls.join_next().await {
                if let Err(error) = done {
                    world.violation(Kind::Panic, error.to_string());
                }
            }
        }
    }

    fn wish(&self) -> Op {
        let world = &*self.world;
        let phone = world.below(PHONES.len() as u64) as usize;
        let purpose = usize::from(world.once_in(6));
        let about = (phone, purpose);
        let wrong = || format!("{:0width$}", world.below(10_000_000_000), width = DIGITS);
        // Mostly the newest code that has arrived, sometimes an older one.
        let received = || {
            let received = self.oracle.received(about);
            let back = match world.below(3) {
                0 => world.below(4) as usize,
                _ => 0,
            };
            received.into_iter().rev().nth(back).unwrap_or_else(wrong)
        };
        match world.below(24) {
            0..8 => Op::Send {
                about,
                address: world
                    .once_in(2)
                    .then(|| world.below(ADDRESSES as u64) as usize),
            },
            8..15 => Op::Verify {
                about,
                code: received(),
            },
            15..20 => Op::Verify {
                about,
                code: wrong(),
            },
            20..22 => {
                let received = self.oracle.received((phone, 0));
                let code = received
                    .into_iter()
                    .next_back()
                    .filter(|_| world.once_in(2));
                Op::VerifyAndFail {
                    phone,
                    code: code.unwrap_or_else(wrong),
                }
            }
            _ => Op::Notice {
                phone,
                deadline: world.now() + Duration::from_millis(1 + world.below(60_000)),
            },
        }
    }

    async fn call(self: Arc<Process>, op: Op) {
        self.world.alive().await;
        self.open.fetch_add(1, Ordering::Relaxed);
        let (runtime, probe) = &self.doors[self.world.below(2) as usize];
        let call = self.oracle.call(op);
        self.world
            .step(format_args!("call {}: {:?}", call.id, call.op));
        let answer = CALL
            .scope(call.clone(), self.answer(runtime, probe, &call.op))
            .await;
        self.world.alive().await;
        self.oracle.answered(&call, &answer);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    async fn answer(&self, runtime: &Runtime, probe: &Arc<Service<Probe>>, op: &Op) -> Answer {
        let mut context = CallContext {
            service: "default".to_owned(),
            caller: Caller::Anonymous,
            client_address: None,
        };
        match op {
            Op::Send {
                about: (phone, purpose),
                address: from,
            } => {
                context.client_address = from.map(address);
                let request = SendRequest {
                    phone: PHONES[*phone].to_owned(),
                    purpose: Some(PURPOSES[*purpose].to_owned()),
                    locale: None,
                };
                match runtime.otp_send(&context, request, None).await {
                    Ok((
                        SendVerdict::Sent {
                            message_id,
                            expires,
                        },
                        _,
                    )) => match message_id.parse() {
                        Ok(message) => Answer::Sent { message, expires },
                        Err(_) => Answer::Failed(format!("`{message_id}` is no message")),
                    },
                    Ok((SendVerdict::Refused(refusal), _)) => Answer::Refused(refusal.text),
                    Err(error) => failed(&self.world, error),
                }
            }
            Op::Verify {
                about: (phone, purpose),
                code,
            } => {
                let request = VerifyRequest {
                    phone: PHONES[*phone].to_owned(),
                    code: code.clone(),
                    purpose: Some(PURPOSES[*purpose].to_owned()),
                };
                match runtime.otp_verify(&context, request, None).await {
                    Ok((VerifyVerdict::Accepted { .. }, _)) => Answer::Accepted,
                    Ok((VerifyVerdict::Rejected(refusal), _)) => Answer::Rejected(refusal.text),
                    Ok((VerifyVerdict::Refused(refusal), _)) => Answer::Refused(refusal.text),
                    Err(error) => failed(&self.world, error),
                }
            }
            Op::VerifyAndFail { phone, code } => {
                let end = if self.world.once_in(2) {
                    "trap oops"
                } else {
                    "err no"
                };
                let script = format!("nested verify {} {code}\n{end}", PHONES[*phone]);
                let called =
                    runtime.call(probe, "probe", &context, "run", |probe, store, context| {
                        let script = script.clone();
                        Box::pin(async move {
                            let guest = probe.countersign_probe_probe();
                            guest.call_run(store, &context, &script).await
                        })
                    });
                match called.await {
                    Ok(answer) => Answer::Failed(format!("it did not fail: {answer}")),
                    Err(error) => failed(&self.world, error),
                }
            }
            Op::Notice { phone, deadline } => self.notice(runtime, *phone, *deadline).await,
        }
    }

    /// Makes a message without a code, as the server would.
    async fn notice(&self, runtime: &Runtime, phone: usize, deadline: UnixMillis) -> Answer {
        let now = runtime.now();
        let job = Job {
            channel: "sms".to_owned(),
            to: PHONES[phone].to_owned(),
            country: "US".to_owned(),
            template: "notice".to_owned(),
            text: "Your account was used".to_owned(),
            variables: Vec::new(),
            locale: None,
            service: "default".to_owned(),
            purpose: "notice".to_owned(),
            caller: ANONYMOUS.to_owned(),
            challenge: None,
            accepted: now,
            due: now,
            deadline,
            priority: Priority::Normal,
            attempts: Vec::new(),
            counts: Counts::default(),
        };
        let event = Event {
            kind: "message.accepted".to_owned(),
            at: now,
            service: "default".to_owned(),
            source: "simulation".to_owned(),
            message: None,
            country: None,
            attributes: Vec::new(),
        };
        let commit = Commit {
            instant: now,
            ..Commit::default()
        };
        let id = MessageId::new(now, &*self.world);
        match self.queue.accept(id, &job, event, commit).await {
            Ok(()) => Answer::Noticed(id),
            Err(_) => Answer::Nothing,
        }
    }
}

/// Both providers for everybody.
fn routes() -> Routes {
    Routes::new(vec![Route {
        country: None,
        providers: NAMES.map(str::to_owned).to_vec(),
    }])
}

fn failed(world: &World, error: CallError) -> Answer {
    match &error {
        CallError::Component {
            timed_out: true, ..
        } => world.mark("a call that takes too long"),
        CallError::Busy { .. } => world.mark("too many calls or conflicts"),
        CallError::QueueFull { .. } => world.mark("a full queue"),
        _ => {}
    }
    match error {
        CallError::Component { reason, .. } => Answer::Failed(reason),
        _ => Answer::Nothing,
    }
}
