//! What providers do with messages that they have taken: texts arrive or do not, and receipts come back
//! late, twice, early, and in any order. A crash of the process changes nothing of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use countersign_delivery::StatusSource;
use countersign_types::{Accepted, ErrorClass, Price, SendError, Status, StatusUpdate};
use tokio::sync::Notify;

use crate::oracle::Oracle;
use crate::provider::{NAMES, RECEIPTS_FROM, refusal};
use crate::world::World;

/// A callback that has not been taken.
#[derive(Clone, Debug)]
pub(crate) struct Callback {
    pub(crate) number: u32,
    pub(crate) provider: &'static str,
    pub(crate) updates: Vec<StatusUpdate>,
}

/// The providers' own side.
pub(crate) struct Carrier {
    world: Arc<World>,
    oracle: Arc<Oracle>,
    state: Mutex<State>,
    /// Rings when there is a new callback.
    bell: Notify,
}

#[derive(Default)]
struct State {
    /// By provider and id: what became of it, as the provider would tell now.
    texts: BTreeMap<(&'static str, String), StatusUpdate>,
    callbacks: BTreeMap<u32, Callback>,
    /// Those that nobody has begun to send in this life.
    fresh: Vec<Callback>,
    numbers: u32,
}

impl Carrier {
    pub(crate) fn new(world: &Arc<World>, oracle: &Arc<Oracle>) -> Carrier {
        Carrier {
            world: world.clone(),
            oracle: oracle.clone(),
            state: Mutex::default(),
            bell: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A provider takes a message: what it says of it at once. Its receipts are on their way.
    pub(crate) fn take(&self, provider: &str) -> Accepted {
        let world = &*self.world;
        let provider = NAMES.into_iter().find(|name| *name == provider);
        let provider = provider.unwrap_or(NAMES[0]);
        // Two parts where it has an id for each; none where it died after its answer.
        let parts = [1, 1, 1, 1, 1, 2, 2, 0][world.below(8) as usize];
        let priced_at_once = world.once_in(4);
        let mut accepted = Accepted {
            price: priced_at_once.then(price),
            segments: (parts > 0).then_some(parts as u32),
            ..Accepted::default()
        };
        for _ in 0..parts {
            let id = format!("{}", self.number());
            if provider == RECEIPTS_FROM {
                self.tell(provider, &id);
            } else {
                let update = self.update(&id, Status::Delivered, true);
                self.state().texts.insert((provider, id.clone()), update);
            }
            accepted.ids.push(id);
        }
        self.bell.notify_one();
        accepted
    }

    fn number(&self) -> u32 {
        let mut state = self.state();
        state.numbers += 1;
        state.numbers
    }

    fn update(&self, id: &str, status: Status, priced: bool) -> StatusUpdate {
        let failed = matches!(status, Status::Undelivered | Status::Failed);
        StatusUpdate {
            id: id.to_owned(),
            status,
            error: failed.then(|| refusal(ErrorClass::Blocked, None, false)),
            at: None,
            price: priced.then(price),
            segments: None,
        }
    }

    /// What becomes of one text, and the receipts for it: some of them lost, some sent twice, and in an
    /// order of their own.
    fn tell(&self, provider: &'static str, id: &str) {
        use Status::{Delivered, Failed, Read, Sent, Undelivered};
        let world = &*self.world;
        let story: &[Status] = match world.below(8) {
            0..4 => &[Sent, Delivered],
            4 => &[Sent, Undelivered],
            5 => &[Failed],
            6 => &[Delivered, Read],
            // The network changes its mind.
            _ => &[Sent, Failed, Delivered],
        };
        // A price that comes with no receipt comes only for who asks.
        let priced = world.below(4) as usize;
        let mut receipts = Vec::new();
        for (at, status) in story.iter().enumerate() {
            let update = self.update(id, *status, at >= priced);
            let copies = [0, 1, 1, 1, 1, 1, 2, 3][world.below(8) as usize];
            receipts.extend(std::iter::repeat_n(update, copies));
        }
        let last = story.last().copied().unwrap_or(Sent);
        let known = self.update(id, last, true);
        self.state().texts.insert((provider, id.to_owned()), known);
        while !receipts.is_empty() {
            // Most come alone, some together.
            let together = (1 + world.below(4).saturating_sub(2) as usize).min(receipts.len());
            let updates = (0..together)
                .map(|_| receipts.swap_remove(world.below(receipts.len() as u64) as usize))
                .collect();
            let callback = Callback {
                number: self.number(),
                provider,
                updates,
            };
            let mut state = self.state();
            state.callbacks.insert(callback.number, callback.clone());
            state.fresh.push(callback);
        }
    }

    /// A process begins: nothing of what it has not taken is being sent to it.
    pub(crate) fn begin_life(&self) {
        let mut state = self.state();
        state.fresh = state.callbacks.values().cloned().collect();
    }

    /// Waits for callbacks that nobody sends yet.
    pub(crate) async fn fresh(&self) -> Vec<Callback> {
        loop {
            let fresh = std::mem::take(&mut self.state().fresh);
            if !fresh.is_empty() {
                return fresh;
            }
            self.bell.notified().await;
        }
    }

    /// A callback was taken.
    pub(crate) fn taken(&self, callback: &Callback) {
        self.state().callbacks.remove(&callback.number);
    }

    /// How many callbacks have not been taken.
    pub(crate) fn waiting(&self) -> usize {
        self.state().callbacks.len()
    }

    /// How long the next try of a callback takes to come.
    pub(crate) fn delay(&self) -> Duration {
        let world = &*self.world;
        Duration::from_millis(match world.below(8) {
            0..2 => 0,
            2..4 => world.below(8),
            4..6 => world.below(4_000),
            6 => world.below(200_000),
            _ => world.below(1_500_000),
        })
    }
}

fn price() -> Price {
    Price {
        amount: "0.0079".to_owned(),
        currency: "USD".to_owned(),
    }
}

#[async_trait]
impl StatusSource for Carrier {
    fn tells_status(&self, _: &str) -> bool {
        true
    }

    async fn fetch_status(
        &self,
        provider: &str,
        ids: &[String],
    ) -> Result<Vec<StatusUpdate>, SendError> {
        let world = &*self.world;
        world
            .pass(format!("{provider} is asked for {}", ids.join(" ")))
            .await;
        if world.fault_once_in(4) {
            world.step(format_args!("{provider} does not answer"));
            return Err(refusal(ErrorClass::Retryable, None, false));
        }
        let state = self.state();
        let known = state.texts.iter();
        let asked = known.filter(|((name, id), _)| *name == provider && ids.contains(id));
        let updates: Vec<_> = asked.map(|(_, update)| update.clone()).collect();
        drop(state);
        self.oracle.fetched(provider, &updates);
        Ok(updates)
    }
}
