//! How long a guest has been running.
//!
//! The engine's epoch counts wall-clock time, waiting included. A guest is charged only for the time
//! in which its call is being polled: while it waits for an answer, a hash or a place, its call is
//! not polled and costs it nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

// Not the one of `std`, so that a test can let time pass.
use tokio::time::Instant;
use wasmtime::{Store, UpdateDeadline};

/// The time of one call, shared by all stores that it passes through.
#[derive(Debug)]
pub(crate) struct Meter {
    began: Instant,
    budget: Duration,
    /// Of all polls that are over, in nanoseconds.
    spent_ns: AtomicU64,
    /// When the present poll began, in nanoseconds since `began`.
    poll_began_ns: AtomicU64,
}

/// The guest's own time is over.
#[derive(Debug, thiserror::Error)]
#[error("it ran longer than {0:?}")]
pub(crate) struct TimeOver(pub(crate) Duration);

impl Meter {
    pub(crate) fn new(budget: Duration) -> Arc<Meter> {
        Arc::new(Meter {
            began: Instant::now(),
            budget,
            spent_ns: AtomicU64::new(0),
            poll_began_ns: AtomicU64::new(0),
        })
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Time that the call's own code has run for. To be asked while it is running.
    fn used(&self) -> Duration {
        let present = self.now_ns() - self.poll_began_ns.load(Ordering::Relaxed);
        Duration::from_nanos(self.spent_ns.load(Ordering::Relaxed) + present)
    }

    /// Runs `call` on the meter.
    pub(crate) fn run<F: Future>(self: &Arc<Self>, call: F) -> Metered<F> {
        Metered {
            meter: self.clone(),
            call: Box::pin(call),
        }
    }
}

/// Ends the guest in `store` when the time on its meter is over, and lets others run meanwhile.
pub(crate) fn watch<T: 'static>(store: &mut Store<T>, meter: fn(&T) -> &Arc<Meter>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |store| {
        let meter = meter(store.data());
        if meter.used() > meter.budget {
            return Err(wasmtime::Error::new(TimeOver(meter.budget)));
        }
        Ok(UpdateDeadline::Yield(1))
    });
}

/// A call on the meter.
pub(crate) struct Metered<F> {
    meter: Arc<Meter>,
    call: Pin<Box<F>>,
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let began = self.meter.now_ns();
        self.meter.poll_began_ns.store(began, Ordering::Relaxed);
        let result = self.call.as_mut().poll(cx);
        let ran = self.meter.now_ns() - began;
        self.meter.spent_ns.fetch_add(ran, Ordering::Relaxed);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_is_not_running() {
        let meter = Meter::new(Duration::from_secs(1));
        let spent = || Duration::from_nanos(meter.spent_ns.load(Ordering::Relaxed));
        let span = Duration::from_millis(30);
        meter.run(tokio::time::sleep(span)).await;
        assert_eq!(spent(), Duration::ZERO);
        // Sets the clock on while it is polled, as long as code takes that runs.
        meter.run(tokio::time::advance(span)).await;
        assert_eq!(spent(), span);
        meter.run(tokio::time::sleep(span)).await;
        assert_eq!(spent(), span);
    }
}
