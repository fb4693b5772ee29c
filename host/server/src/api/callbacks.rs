//! Room for callbacks of providers.
//!
//! Whoever sends one needs no key, so a stranger can reach every bound here, and none may keep receipts
//! out. While its body comes in, a callback costs memory alone: there are places for many, and where all
//! are taken, who has been sending for the longest gives way. A receipt is there within a round trip;
//! who is slow on purpose is the first to go. When it is there, and is for a provider that is configured,
//! it takes one of that provider's places to be worked on: a flood for one leaves those of the others.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_types::{Clock, Seldom};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How many bodies may be coming in at once, each of `http.callback-bytes-max` at most.
const BODIES_MAX: usize = 256;

/// The room for callbacks of all providers.
pub(super) struct Callbacks {
    pub(super) bodies: Bodies,
    places: HashMap<String, Arc<Semaphore>>,
    clock: Arc<dyn Clock>,
    refused: Seldom<(Option<String>, &'static str)>,
}

impl Callbacks {
    /// Room for the callbacks of `providers`, who share `places` equally and have one each at least.
    pub(super) fn new(providers: &[String], places: usize, clock: Arc<dyn Clock>) -> Callbacks {
        let share = (places / providers.len().max(1)).max(1);
        let places = providers.iter().cloned();
        Callbacks {
            bodies: Bodies::new(BODIES_MAX),
            places: places
                .map(|name| (name, Arc::new(Semaphore::new(share))))
                .collect(),
            clock,
            refused: Seldom::default(),
        }
    }

    /// Whether callbacks of a provider of that name are taken.
    pub(super) fn knows(&self, provider: &str) -> bool {
        self.places.contains_key(provider)
    }

    /// A place in which a callback of `provider` is worked on, until it is dropped; `None` where all are
    /// taken.
    pub(super) fn place(&self, provider: &str) -> Option<OwnedSemaphorePermit> {
        let places = self.places.get(provider)?;
        places.clone().try_acquire_owned().ok()
    }

    /// Tells the operator why a callback was refused, once a minute for each provider and reason. What was
    /// sent is not told, the name of a provider that is not configured included.
    pub(super) fn tell_refused(&self, provider: &str, reason: &'static str, cause: Option<&str>) {
        let provider = self.knows(provider).then_some(provider);
        let what = (provider.map(str::to_owned), reason);
        let Some(more) = self.refused.tell(what, self.clock.monotonic()) else {
            return;
        };
        let provider = provider.unwrap_or("none of that name");
        tracing::warn!(provider, reason, cause, more, "a callback was refused");
    }
}

/// Bodies that are coming in.
pub(super) struct Bodies {
    max: usize,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    /// By age, the oldest first. What is dropped out of here has to go.
    coming: BTreeMap<u64, oneshot::Sender<()>>,
    next: u64,
}

impl Bodies {
    fn new(max: usize) -> Bodies {
        Bodies {
            max,
            line: Mutex::default(),
        }
    }

    /// Reads a body by `read`; `None` where it has to give way to younger ones.
    pub(super) async fn take<T>(&self, read: impl Future<Output = T>) -> Option<T> {
        let (number, gives_way) = self.enter();
        let _coming = Coming(self, number);
        tokio::select! {
            biased;
            read = read => Some(read),
            _ = gives_way => None,
        }
    }

    fn enter(&self) -> (u64, oneshot::Receiver<()>) {
        let (stay, gives_way) = oneshot::channel();
        let mut line = self.line();
        while line.coming.len() >= self.max {
            line.coming.pop_first();
        }
        let number = line.next;
        line.next += 1;
        line.coming.insert(number, stay);
        (number, gives_way)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body that is coming in.
struct Coming<'a>(&'a Bodies, u64);

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.0.line().coming.remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_types::{ManualClock, UnixMillis};
    use std::future::{pending, ready};
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
        let mut context = Context::from_waker(Waker::noop());
        future.as_mut().poll(&mut context)
    }

    fn callbacks(providers: &[&str], places: usize) -> Callbacks {
        let providers: Vec<_> = providers.iter().map(|name| (*name).to_owned()).collect();
        Callbacks::new(
            &providers,
            places,
            Arc::new(ManualClock::new(UnixMillis(0))),
        )
    }

    #[test]
    fn a_flood_for_one_provider_leaves_the_places_of_the_others() {
        let callbacks = callbacks(&["a", "b"], 5);
        let flood: Vec<_> = std::iter::from_fn(|| callbacks.place("a")).collect();
        assert_eq!(flood.len(), 2);
        let other = callbacks.place("b");
        assert!(other.is_some());
        drop(flood);
        assert!(callbacks.place("a").is_some());
        assert!(callbacks.place("c").is_none() && !callbacks.knows("c"));
    }

    #[test]
    fn every_provider_has_a_place() {
        let callbacks = callbacks(&["a", "b", "c"], 2);
        let places: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .filter_map(|name| callbacks.place(name))
            .collect();
        assert_eq!(places.len(), 3);
    }

    #[tokio::test]
    async fn who_has_been_sending_for_the_longest_gives_way() {
        let bodies = Bodies::new(2);
        let slow = || Box::pin(bodies.take(pending::<()>()));
        let (mut first, mut second, mut third) = (slow(), slow(), slow());
        assert!(poll(&mut first).is_pending());
        assert!(poll(&mut second).is_pending());
        // What is there at once keeps its place for a moment alone, and needs one.
        assert_eq!(bodies.take(ready(1)).await, Some(1));
        assert_eq!(poll(&mut first), Poll::Ready(None), "the oldest went");
        assert!(poll(&mut third).is_pending(), "there is room again");
        assert!(poll(&mut second).is_pending());
        drop(second);
        drop(third);
        assert!(bodies.line().coming.is_empty());
    }
}
