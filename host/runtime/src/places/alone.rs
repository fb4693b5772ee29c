//! A component whose calls usually compute for long has all its places, and one processor: its calls run
//! one after the other. Many at once would not be done sooner, and whoever shares the processors with them
//! would wait for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The permit of a component that computes for long: until it is dropped no other call of it runs.
pub(crate) type Alone = OwnedSemaphorePermit;

/// What one call has of a processor, on a moving average.
pub(super) struct Usual {
    nanos: AtomicU64,
    /// For those of a component that computes for long.
    alone: Arc<Semaphore>,
    /// How often a guest is asked whether its time is over, which is the measure of what is long here: a
    /// quarter of it, ten times what a call of a built-in component has on a busy machine.
    epoch: Duration,
}

impl Usual {
    /// Of a component of which nothing is known yet; `epoch` is that of [`Limits`](crate::Limits).
    pub(super) fn new(epoch: Duration) -> Usual {
        Usual {
            nanos: AtomicU64::new(0),
            alone: Arc::new(Semaphore::new(1)),
            epoch,
        }
    }

    /// A run of one of the calls has had a processor for so long.
    pub(super) fn ran(&self, used: Duration) {
        // Of two at once one may not count.
        let before = self.nanos.load(Ordering::Relaxed);
        let used = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
        let after = before - before / 8 + used / 8;
        self.nanos.store(after, Ordering::Relaxed);
    }

    /// Waits until no other call runs, where they usually compute for long; and, where one did, for as long
    /// again, five epochs at most, so that the processor is others' for half of the time.
    pub(super) async fn alone(&self) -> Option<Alone> {
        let usual = Duration::from_nanos(self.nanos.load(Ordering::Relaxed));
        if usual < self.epoch / 4 {
            return None;
        }
        if let Ok(alone) = self.alone.clone().try_acquire_owned() {
            return Some(alone);
        }
        let alone = self.alone.clone().acquire_owned().await.ok();
        tokio::time::sleep(usual.min(self.epoch * 5)).await;
        alone
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::*;

    const EPOCH: Duration = Duration::from_millis(5);

    #[tokio::test(start_paused = true)]
    async fn calls_that_usually_compute_for_long_run_one_after_the_other_with_pauses() {
        let usual = Usual::new(EPOCH);
        assert!(usual.alone().await.is_none(), "nothing is known yet");
        (0..100).for_each(|_| usual.ran(EPOCH / 10));
        assert!(usual.alone().await.is_none(), "they are short");
        (0..100).for_each(|_| usual.ran(4 * EPOCH / 5));
        let began = Instant::now();
        let first = usual.alone().await;
        assert!(first.is_some());
        assert!(began.elapsed().is_zero());
        let mut second = Box::pin(usual.alone());
        assert!(second.as_mut().now_or_never().is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(second.as_mut().now_or_never().is_none(), "one runs");
        drop(first);
        let second = second.await;
        let paused = began.elapsed() - Duration::from_secs(1);
        assert!(paused >= EPOCH / 2 && paused <= EPOCH, "{paused:?}");
        // A few quick ones, and they are as others again.
        (0..100).for_each(|_| usual.ran(EPOCH / 500));
        assert!(usual.alone().await.is_none());
        drop(second);
    }
}
