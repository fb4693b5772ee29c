//! Places with providers: how many messages each is handed at once, and how many a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_queue::{Gate, Queue};
use countersign_types::MonotonicMillis;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ProviderTerms;
use crate::rate::Rate;

/// Lets a message through when its provider has a place and its rate allows one more. A provider that
/// is full keeps nobody waiting but those who want it: they wait in the queue, and hold nothing.
pub(crate) struct Places {
    queue: Queue,
    hands: Arc<Semaphore>,
    providers: HashMap<String, Door>,
    in_hand: u32,
}

struct Door {
    places: Arc<Semaphore>,
    rate: Option<Mutex<Rate>>,
}

/// A place, for as long as a message is being handed over.
pub(crate) struct Pass {
    held: Option<(OwnedSemaphorePermit, Option<OwnedSemaphorePermit>)>,
    queue: Queue,
}

impl Places {
    pub(crate) fn new(
        queue: Queue,
        in_hand: usize,
        providers: &HashMap<String, ProviderTerms>,
    ) -> Places {
        let doors = providers.iter().map(|(name, terms)| {
            let door = Door {
                places: Arc::new(Semaphore::new(terms.concurrency.max(1))),
                rate: terms.rate.map(|rate| Mutex::new(Rate::new(rate))),
            };
            (name.clone(), door)
        });
        let in_hand = u32::try_from(in_hand.max(1)).unwrap_or(u32::MAX);
        Places {
            queue,
            hands: Arc::new(Semaphore::new(in_hand as usize)),
            providers: doors.collect(),
            in_hand,
        }
    }

    /// Waits until nothing is being handed over.
    pub(crate) async fn empty(&self) {
        // They are never closed.
        let _ = self.hands.acquire_many(self.in_hand).await;
    }
}

impl Gate for Places {
    type Pass = Pass;

    fn pass(&self, lane: Option<&str>, now: MonotonicMillis) -> Result<Pass, Option<Duration>> {
        let place = |places: &Arc<Semaphore>| places.clone().try_acquire_owned().map_err(|_| None);
        let hand = place(&self.hands)?;
        let mut held = (hand, None);
        if let Some(door) = lane.and_then(|lane| self.providers.get(lane)) {
            held.1 = Some(place(&door.places)?);
            if let Some(rate) = &door.rate {
                let mut rate = rate.lock().unwrap_or_else(PoisonError::into_inner);
                rate.take(now).map_err(Some)?;
            }
        }
        Ok(Pass {
            held: Some(held),
            queue: self.queue.clone(),
        })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        // First the place, then the bell: whoever wakes must find it.
        self.held = None;
        self.queue.ring();
    }
}
