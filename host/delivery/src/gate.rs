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
#[derive(Clone)]
pub(crate) struct Places {
    queue: Queue,
    hands: Arc<Semaphore>,
    providers: Arc<HashMap<String, Door>>,
    in_hand: u32,
}

struct Door {
    places: Arc<Semaphore>,
    rate: Option<Mutex<Rate>>,
}

/// A place, for as long as a message is being handed over.
pub(crate) struct Pass {
    lane: Option<Arc<str>>,
    held: Option<Held>,
    share: Share,
    places: Places,
}

struct Held {
    _hand: OwnedSemaphorePermit,
    /// `None`: with a provider that has no bounds.
    _place: Option<OwnedSemaphorePermit>,
}

/// What of a provider's rate is not used is there for the next message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Share {
    Held,
    Used,
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
            providers: Arc::new(doors.collect()),
            in_hand,
        }
    }

    /// Waits until nothing is being handed over.
    pub(crate) async fn empty(&self) {
        // They are never closed.
        let _ = self.hands.acquire_many(self.in_hand).await;
    }

    /// A place with `provider`, and of its rate what one message takes.
    fn enter(
        &self,
        provider: &str,
        now: MonotonicMillis,
    ) -> Result<Option<OwnedSemaphorePermit>, Option<Duration>> {
        let Some(door) = self.providers.get(provider) else {
            return Ok(None);
        };
        let place = take(&door.places)?;
        if let Some(rate) = &door.rate {
            let mut rate = rate.lock().unwrap_or_else(PoisonError::into_inner);
            rate.take(now).map_err(Some)?;
        }
        Ok(Some(place))
    }
}

fn take(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Option<Duration>> {
    places.clone().try_acquire_owned().map_err(|_| None)
}

impl Gate for Places {
    type Pass = Pass;

    fn pass(&self, lane: Option<&str>, now: MonotonicMillis) -> Result<Pass, Option<Duration>> {
        let held = Held {
            _hand: take(&self.hands)?,
            _place: match lane {
                Some(provider) => self.enter(provider, now)?,
                None => None,
            },
        };
        Ok(Pass {
            lane: lane.map(Arc::from),
            held: Some(held),
            share: Share::Held,
            places: self.clone(),
        })
    }
}

impl Pass {
    /// Whether it leads to `provider`. One for another provider is exchanged, where that one has a place
    /// too; what was held with the first is free at once.
    pub(crate) fn leads_to(&mut self, provider: &Arc<str>, now: MonotonicMillis) -> bool {
        if self.lane.as_ref() == Some(provider) {
            return true;
        }
        let Ok(place) = self.places.enter(provider, now) else {
            return false;
        };
        self.give_back();
        if let Some(held) = &mut self.held {
            held._place = place;
        }
        self.lane = Some(provider.clone());
        self.places.queue.ring();
        true
    }

    /// A message is handed over with it, whatever comes of that.
    pub(crate) fn is_used(&mut self) {
        self.share = Share::Used;
    }

    /// Gives back what was taken of a rate for a message that was not handed over.
    fn give_back(&self) {
        let lane = self.lane.as_deref();
        let door = lane.and_then(|provider| self.places.providers.get(provider));
        if let (Share::Held, Some(rate)) = (self.share, door.and_then(|door| door.rate.as_ref())) {
            let mut rate = rate.lock().unwrap_or_else(PoisonError::into_inner);
            rate.give_back();
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        // First the place, then the bell: whoever wakes must find it.
        self.give_back();
        self.held = None;
        self.places.queue.ring();
    }
}

#[cfg(test)]
mod tests;
