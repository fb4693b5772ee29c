//! How long a guest has been running.
//!
//! The engine's epoch counts wall-clock time, waiting included. A guest is charged only for the
//! processor's time that its call has while it is being polled: while it waits for an answer, a hash
//! or a place, its call is not polled and costs it nothing, nor does it cost anything that the machine
//! runs something else meanwhile. Otherwise a busy machine would end guests that have hardly begun.
//!
//! A service's guest that computes for long gives way: from then on it runs in turns with the others of
//! its kind, and never on more than half of one in four processors, so that calls which are done in a
//! moment are served about as if there were none of them.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{Store, UpdateDeadline};

/// Who has run for longer computes for long. A call of a built-in component needs a hundredth of it.
const LONG: Duration = Duration::from_millis(5);

/// Polls shorter than this are charged by the wall clock. Longer ones are charged by the thread's time, whose
/// value at their start may be up to this old, so that a poll is charged at most this much too much. Asking
/// the kernel for that time is a system call, and twice a poll that was a fifth of a quick call.
const GRAIN_NS: u64 = 200_000;

/// Turns of the guests that compute for long.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    free: Arc<Semaphore>,
    pause: Duration,
}

impl Turns {
    /// A turn lasts until the next epoch, and a pause of the same length comes before it.
    pub(crate) fn new(epoch: Duration) -> Turns {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Turns {
            free: Arc::new(Semaphore::new(processors.div_ceil(4))),
            pause: epoch,
        }
    }

    /// Waits for a turn, which lasts until it is dropped. They are given in the order in which they are
    /// asked for.
    async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        let turn = self.free.clone().acquire_owned().await.ok();
        tokio::time::sleep(self.pause).await;
        turn
    }
}

/// The time of one call, shared by all stores that it passes through.
#[derive(Debug)]
pub(crate) struct Meter {
    budget: Duration,
    /// Of all polls that are over, in nanoseconds.
    spent_ns: AtomicU64,
    /// When the present poll began, by the monotonic clock, in nanoseconds.
    poll_began_ns: AtomicU64,
    /// What its thread had run for then, in nanoseconds, or a little earlier.
    thread_began_ns: AtomicU64,
    /// For those who compute for long, where they are to give way.
    turns: Option<Turns>,
    /// What this one has of them, until the end of the present poll.
    turn: Mutex<Option<OwnedSemaphorePermit>>,
}

/// The guest's own time is over.
#[derive(Debug, thiserror::Error)]
#[error("it ran longer than {0:?}")]
pub(crate) struct TimeOver(pub(crate) Duration);

impl Meter {
    pub(crate) fn new(budget: Duration) -> Arc<Meter> {
        Meter::of(budget, None)
    }

    /// One for a guest that gives way once it computes for long.
    pub(crate) fn giving_way(budget: Duration, turns: &Turns) -> Arc<Meter> {
        Meter::of(budget, Some(turns.clone()))
    }

    fn of(budget: Duration, turns: Option<Turns>) -> Arc<Meter> {
        Arc::new(Meter {
            budget,
            spent_ns: AtomicU64::new(0),
            poll_began_ns: AtomicU64::new(0),
            thread_began_ns: AtomicU64::new(0),
            turns,
            turn: Mutex::default(),
        })
    }

    fn turn(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time that the call's own code has run for. To be asked while it is running, on its thread.
    fn used(&self) -> Duration {
        self.spent() + self.present()
    }

    fn poll_begins(&self) {
        let now = monotonic_ns();
        self.poll_began_ns.store(now, Ordering::Relaxed);
        let ran = thread_ns_lately(now);
        self.thread_began_ns.store(ran, Ordering::Relaxed);
    }

    /// How long the present poll has had a processor.
    fn present(&self) -> Duration {
        let wall = monotonic_ns().saturating_sub(self.poll_began_ns.load(Ordering::Relaxed));
        let ran = match wall < GRAIN_NS {
            true => wall,
            false => thread_ns()
                .saturating_sub(self.thread_began_ns.load(Ordering::Relaxed))
                .min(wall),
        };
        Duration::from_nanos(ran)
    }

    fn poll_ends(&self) {
        let ran = u64::try_from(self.present().as_nanos()).unwrap_or(u64::MAX);
        self.spent_ns.fetch_add(ran, Ordering::Relaxed);
        if self.turns.is_some() {
            *self.turn() = None;
        }
    }

    /// How long what is over of the call has had a processor.
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent_ns.load(Ordering::Relaxed))
    }

    /// Runs `call` on the meter.
    pub(crate) fn run<F: Future>(self: &Arc<Self>, call: F) -> Metered<F> {
        Metered {
            meter: self.clone(),
            call: Box::pin(call),
        }
    }
}

/// How long the present thread has had a processor, in nanoseconds.
#[expect(
    unsafe_code,
    reason = "the C library's clock: rustix looks for the kernel's by itself, which ends the process under \
              valgrind, and with it the counting of instructions"
)]
fn thread_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writing for the length of the call, which keeps no pointer to it. On
    // failure, which only an unknown clock has, it stays zero.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let whole = u64::try_from(time.tv_sec).unwrap_or(0);
    whole * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The same, as it was at `now` or at most [`GRAIN_NS`] earlier.
fn thread_ns_lately(now: u64) -> u64 {
    thread_local! {
        /// When it was asked for, and what it was.
        static ASKED: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    }
    let asked = ASKED.get();
    if let Some((_, ran)) = asked.filter(|(at, _)| now.saturating_sub(*at) < GRAIN_NS) {
        return ran;
    }
    let ran = thread_ns();
    ASKED.set(Some((now, ran)));
    ran
}

/// Without a system call, where the kernel lends its clock.
fn monotonic_ns() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGAN.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Ends the guest in `store` when the time on its meter is over, and lets others run meanwhile.
pub(crate) fn watch<T: 'static>(store: &mut Store<T>, meter: fn(&T) -> &Arc<Meter>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |store| {
        let meter = meter(store.data());
        let used = meter.used();
        if used > meter.budget {
            return Err(wasmtime::Error::new(TimeOver(meter.budget)));
        }
        let Some(turns) = meter.turns.clone().filter(|_| used > LONG) else {
            return Ok(UpdateDeadline::Yield(1));
        };
        let meter = meter.clone();
        // A turn that it has ends with this poll, so it can wait for the next one.
        let next = async move {
            let turn = turns.wait().await;
            *meter.turn() = turn;
        };
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(next)))
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
        // A poll begins and ends on one thread.
        self.meter.poll_begins();
        let result = self.call.as_mut().poll(cx);
        self.meter.poll_ends();
        result
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_computes_for_long_waits_for_a_turn_and_for_a_pause_before_it() {
        let turns = Turns {
            free: Arc::new(Semaphore::new(1)),
            pause: Duration::from_millis(5),
        };
        let began = Instant::now();
        let first = turns.wait().await;
        assert!(first.is_some());
        assert_eq!(began.elapsed(), turns.pause);
        let mut second = Box::pin(turns.wait());
        assert!(second.as_mut().now_or_never().is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(second.as_mut().now_or_never().is_none(), "it is taken");
        drop(first);
        second.await;
        assert_eq!(began.elapsed(), 2 * turns.pause + Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_turn_ends_with_its_poll() {
        let turns = Turns::new(Duration::ZERO);
        let all = turns.free.available_permits();
        let meter = Meter::giving_way(Duration::from_secs(1), &turns);
        let taken = async {
            *meter.turn() = turns.wait().await;
            assert_eq!(turns.free.available_permits(), all - 1);
            tokio::task::yield_now().await;
            assert_eq!(turns.free.available_permits(), all);
        };
        meter.run(taken).await;
    }

    const SPAN: Duration = Duration::from_millis(20);

    /// Keeps a processor busy for a [`SPAN`] of its time.
    fn run_for_a_span() {
        let end = thread_ns() + u64::try_from(SPAN.as_nanos()).expect("small");
        while thread_ns() < end {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn what_is_run_is_charged_over_all_polls() {
        let meter = Meter::new(Duration::from_secs(1));
        for polls in 1..=2 {
            meter.run(async { run_for_a_span() }).await;
            assert!(meter.spent() >= polls * SPAN, "{:?}", meter.spent());
        }
        let asked = meter.run(async {
            run_for_a_span();
            meter.used()
        });
        assert!(asked.await >= 3 * SPAN);
    }

    #[tokio::test]
    async fn waiting_is_not_running_nor_is_a_machine_that_runs_something_else() {
        let meter = Meter::new(Duration::from_secs(1));
        meter.run(tokio::time::sleep(SPAN)).await;
        assert!(meter.spent() < SPAN / 2, "{:?}", meter.spent());
        // Its poll takes so long, and has a processor for next to none of it.
        meter.run(async { std::thread::sleep(SPAN) }).await;
        assert!(meter.spent() < SPAN, "{:?}", meter.spent());
    }
}
