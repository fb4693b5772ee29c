//! One life of the process: the product over the disk, a delivery, clients, and a clock that jumps.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign_delivery::{
    BreakerTerms, Delivery, DeliveryConfig, Health, ProviderTerms, Route, Routes,
};
use countersign_queue::{Queue, QueueConfig};
use countersign_runtime::world::Service;
use countersign_runtime::{Ledger, LedgerLimits, Runtime};
use countersign_store::{Keyring, Store, StoreError, read_events};
use countersign_types::{Clock, MonotonicMillis, UnixMillis};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::carrier::Carrier;
use crate::count;
use crate::disk::Disk;
use crate::oracle::Oracle;
use crate::plant::Plant;
use crate::probe::Probe;
use crate::provider::{NAMES, RECEIPTS_FROM, SimulatedProviders};
use crate::store::SimulatedStore;
use crate::world::World;
use crate::{Kind, Parts};

/// Numbers of which no two are the same, all valid.
pub(crate) const PHONES: [&str; 3] = ["+12025550123", "+12025550124", "+12025550125"];

const CLIENTS: u64 = 4;
/// Places in the queue: few enough that it is full now and then.
const QUEUE_CAPACITY: usize = 12;
/// Longer than any message lives and than its receipts are on their way, as far as the clock does not
/// jump.
const DRAIN: Duration = Duration::from_secs(6 * 3_600);
/// More than any seed needs.
const LEDGER_LIMITS: LedgerLimits = LedgerLimits {
    keys_per_day: 1_000,
    in_flight: 100,
};

/// What is the same in all lives of a seed.
pub(crate) struct Seed<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) world: Arc<World>,
    pub(crate) disk: Disk,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) carrier: Arc<Carrier>,
    pub(crate) plant: Option<Plant>,
}

/// A process. It has two doors through which clients come: two hosts on one store, which agree on
/// nothing but the committer's word, as several processes on a shared store would. Both use one queue.
pub(crate) struct Process {
    pub(crate) world: Arc<World>,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) carrier: Arc<Carrier>,
    store: Arc<SimulatedStore>,
    keyring: Arc<Keyring>,
    routes: Routes,
    pub(crate) queue: Queue,
    pub(crate) doors: [Door; 2],
    /// Calls that have not been answered, those included whose client has hung up.
    pub(crate) open: AtomicUsize,
}

/// One host.
pub(crate) struct Door {
    pub(crate) runtime: Runtime,
    pub(crate) probe: Arc<Service<Probe>>,
    pub(crate) ledger: Arc<Ledger>,
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
        carrier,
        plant,
    } = seed;
    oracle.opened(disk);
    let store = SimulatedStore::open(world, disk, oracle, *plant)?;
    let routes = routes(world.clone());
    let queue_config = QueueConfig {
        capacity: QUEUE_CAPACITY,
        lanes: Arc::new(routes.clone()),
        ..QueueConfig::default()
    };
    let clock: Arc<dyn Clock> = match plant {
        Some(Plant::ExpiredSend) => Arc::new(SlowClock(world.clone(), Duration::from_secs(120))),
        _ => world.clone(),
    };
    let keyring = parts.keyring.clone();
    let queue = Queue::open(store.clone(), keyring, clock.clone(), queue_config).await?;
    let door = || {
        let (store, queue) = (store.clone(), queue.clone());
        let keyring = parts.keyring.clone();
        let ledger = Ledger::new(store.clone(), keyring, world.clone(), LEDGER_LIMITS);
        let runtime = parts
            .runtime
            .again(store, queue, world.clone(), world.clone());
        Door {
            probe: runtime.share(&parts.probe),
            runtime,
            ledger,
        }
    };
    carrier.begin_life();
    let process = Arc::new(Process {
        world: world.clone(),
        oracle: oracle.clone(),
        carrier: carrier.clone(),
        store: store.clone(),
        keyring: parts.keyring.clone(),
        routes,
        queue: queue.clone(),
        doors: [door(), door()],
        open: AtomicUsize::new(0),
    });
    let (stop, stopped) = watch::channel(false);
    let delivery = tokio::spawn({
        let (delivery, world) = (process.delivery(clock.clone()), world.clone());
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
    tokio::spawn(process.clone().callbacks());
    let follower = tokio::spawn(process.clone().follow(clock));
    // Both hosts count the same events, as several processes would.
    let (stop_counting, counting_stopped) = watch::channel(false);
    let counting = process.doors.iter().map(|door| {
        let (runtime, stopped) = (door.runtime.clone(), counting_stopped.clone());
        tokio::spawn(async move { runtime.fold_all(stopped).await })
    });
    let counting: Vec<_> = counting.collect();
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
    process.drain().await;
    follower.abort();
    // The receiver is gone only with the delivery.
    let _ = stop.send(true);
    match delivery.await {
        Ok(done) => done?,
        Err(error) => return panicked(world, &error),
    }
    let events = read_events(&*store, 1, usize::MAX, world.now()).await?;
    let mut views = Vec::new();
    for message in oracle.messages() {
        views.extend(queue.message(message, world.now()).await?);
    }
    oracle.ended(disk, &events, &views);
    let _ = stop_counting.send(true);
    for counting in counting {
        if let Err(error) = counting.await {
            return panicked(world, &error);
        }
    }
    match count::check(&process.doors[0].runtime, oracle, &events).await {
        Ok(()) => world.mark("counted messages"),
        Err(text) => world.violation(Kind::Miscounted, text),
    }
    Ok(())
}

fn panicked(world: &World, error: &tokio::task::JoinError) -> Result<(), StoreError> {
    world.violation(Kind::Panic, error.to_string());
    Ok(())
}

impl Process {
    /// Waits until nothing is under way any more.
    async fn drain(&self) {
        let open = || {
            let calls = self.open.load(Ordering::Relaxed);
            (calls, self.queue.depth(), self.carrier.waiting())
        };
        let drained = tokio::time::timeout(DRAIN, async {
            while open() != (0, 0, 0) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        if drained.await.is_err() {
            let text = format!("calls, messages and callbacks do not end: {:?}", open());
            self.world.violation(Kind::Stuck, text);
        }
    }

    fn delivery(&self, clock: Arc<dyn Clock>) -> Delivery {
        let world = &self.world;
        let outage = match world.once_in(3) {
            true => Duration::from_millis(world.below(900_000)),
            false => Duration::ZERO,
        };
        let providers = SimulatedProviders {
            world: world.clone(),
            oracle: self.oracle.clone(),
            carrier: self.carrier.clone(),
            outage_until: world.now() + outage,
        };
        let terms = |name: &str| ProviderTerms {
            concurrency: 2,
            rate: None,
            status_callback: (name == RECEIPTS_FROM).then(|| "https://sms.example.test".to_owned()),
        };
        let config = DeliveryConfig {
            routes: self.routes.clone(),
            providers: HashMap::from(NAMES.map(|name| (name.to_owned(), terms(name)))),
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
                // A day, or some.
                5 => {
                    let days = 1 + world.below(6).saturating_sub(2) as u32;
                    let day = second * (86_000 + world.below(4_000) as u32);
                    (day * days, false)
                }
                6..9 => (Duration::from_millis(world.below(5_500)), true),
                9 => (second * world.below(120) as u32, true),
                _ => {
                    world.step(format_args!("sweep"));
                    let now = self.doors[0].runtime.now();
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
}

/// Both providers for everybody.
fn routes(clock: Arc<dyn Clock>) -> Routes {
    let route = Route {
        providers: NAMES.map(str::to_owned).to_vec(),
        ..Route::default()
    };
    Routes::new(vec![route], Health::new(BreakerTerms::default(), clock))
}
