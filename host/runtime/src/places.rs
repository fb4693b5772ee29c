//! Room for calls: how many run at once, how many wait, and for how long.
//!
//! A queue is there for bursts. One that does not get empty any more only makes everybody late, so
//! then the wait is cut short and the rest is turned away at once: who is let in is served about as
//! fast as without the crowd, and who is not knows it within milliseconds. (Controlled delay with a
//! time-out for each caller, as in B. Maurer, "Fail at Scale", ACM Queue 13(8), 2015.)

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// How long a caller waits where others have waited all the time.
const CROWDED_WAIT: Duration = Duration::from_millis(5);

/// The places in which calls run.
pub(crate) struct Places {
    /// Served in the order in which callers came.
    free: Semaphore,
    line: Mutex<Line>,
    waiting_max: usize,
    wait: Duration,
}

/// Those who wait.
#[derive(Debug)]
struct Line {
    waiting: usize,
    /// Since when somebody has been waiting without a break; means nothing while nobody waits.
    since: Instant,
}

/// There is no place, and there will be none soon.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Places {
    /// `places` callers at once; `waiting_max` may wait, for `wait` at most.
    pub(crate) fn new(places: usize, waiting_max: usize, wait: Duration) -> Places {
        Places {
            free: Semaphore::new(places),
            line: Mutex::new(Line {
                waiting: 0,
                since: Instant::now(),
            }),
            waiting_max,
            wait,
        }
    }

    /// A place, until it is dropped.
    pub(crate) async fn take(&self) -> Result<SemaphorePermit<'_>, Full> {
        // Fails as well while anybody waits: nobody overtakes.
        if let Ok(place) = self.free.try_acquire() {
            return Ok(place);
        }
        let (_waiting, wait) = self.join(Instant::now())?;
        match tokio::time::timeout(wait, self.free.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(Full),
        }
    }

    /// A place in the line, and how long it is good for.
    fn join(&self, now: Instant) -> Result<(Waiting<'_>, Duration), Full> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.waiting >= self.waiting_max {
            return Err(Full);
        }
        if line.waiting == 0 {
            line.since = now;
        }
        line.waiting += 1;
        let crowded = now.saturating_duration_since(line.since) >= self.wait;
        let wait = if crowded {
            CROWDED_WAIT.min(self.wait)
        } else {
            self.wait
        };
        Ok((Waiting(self), wait))
    }
}

struct Waiting<'a>(&'a Places);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut line = self.0.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn as_many_as_there_are_places_run_and_the_next_waits() {
        let places = Places::new(2, 1, LONG);
        let first = places.take().await.expect("free");
        let _second = places.take().await.expect("free");
        let mut third = Box::pin(places.take());
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!(
            places.take().await.err(),
            Some(Full),
            "one may wait, not two"
        );
        drop(first);
        let _third = third.await.expect("its turn");
    }

    #[tokio::test]
    async fn who_gives_up_makes_room_for_another_to_wait() {
        let places = Places::new(1, 1, LONG);
        let _first = places.take().await.expect("free");
        let mut second = Box::pin(places.take());
        assert!(second.as_mut().now_or_never().is_none());
        drop(second);
        let mut third = Box::pin(places.take());
        assert!(third.as_mut().now_or_never().is_none(), "it may wait");
    }

    #[tokio::test]
    async fn a_wait_ends() {
        let places = Places::new(1, 10, Duration::from_millis(1));
        let _first = places.take().await.expect("free");
        assert_eq!(places.take().await.err(), Some(Full));
    }

    #[test]
    fn a_burst_waits_and_a_standing_crowd_does_not() {
        let wait = Duration::from_millis(100);
        let places = Places::new(1, 100, wait);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (first, span) = places.join(at(0)).expect("room");
        assert_eq!(span, wait);
        let (second, span) = places.join(at(99)).expect("room");
        assert_eq!(span, wait, "the crowd is not old yet");
        drop(first);
        let (third, span) = places.join(at(100)).expect("room");
        assert_eq!(span, CROWDED_WAIT, "somebody has waited all the time");
        drop((second, third));
        let (_fourth, span) = places.join(at(101)).expect("room");
        assert_eq!(span, wait, "nobody was waiting any more");
    }
}
