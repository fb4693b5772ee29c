//! Sending most of sled's pool of threads to sleep.
//!
//! sled 0.34.7 keeps seven threads waiting for its writes and wakes *all* of them for each one, of which a
//! group of commits has two: each finds nothing, and waits again. That was a third of what the kernel did
//! for this program under load. The pool has no setting, and its threads cannot be ended. But the one that
//! has done an asynchronous flush wakes whoever waits for it, and is this program's for that moment: here
//! for good.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, Once, PoisonError, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::StoreError;

use super::failed;

/// How many threads sled's pool has (`DESIRED_WAITING_THREADS` of its `threadpool.rs`).
pub(super) const THREADS: usize = 7;

/// How many go on: the two writes of a group, which wait for each other (`sync.rs`), and whatever else
/// comes up, as giving space back to the disk.
pub(super) const AWAKE: usize = 3;

/// How often it is tried to stop one. A flush that is over before anybody waits for it stops none.
const TRIES_MAX: usize = 100;

/// How long one may take to say that it stops. A start does not wait for it any longer: what is not stopped
/// costs time and nothing else.
const WAIT: Duration = Duration::from_secs(1);

/// Stops the thread that wakes it, and says so first.
struct Stop(Mutex<mpsc::Sender<()>>);

impl Wake for Stop {
    fn wake(self: Arc<Self>) {
        // Whoever listens no longer wants nothing else of this thread either.
        let _ = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .send(());
        loop {
            std::thread::park();
        }
    }
}

/// Stops all but [`AWAKE`] threads of the pool, which all databases of this process share: once. `tree` has
/// nothing to flush and nobody writes to it, so that no flush waits for a write for which there is no
/// thread.
pub(super) fn quiet(tree: &sled::Tree) -> Result<(), StoreError> {
    static DONE: Once = Once::new();
    let mut stopped = Ok(0);
    DONE.call_once(|| stopped = stop(tree, THREADS - AWAKE));
    stopped.map(|_| ())
}

/// Stops `threads` of them, if it can; returns how many.
fn stop(tree: &sled::Tree, threads: usize) -> Result<usize, StoreError> {
    let (said, hears) = mpsc::channel();
    let mut stopped = 0;
    for _ in 0..TRIES_MAX {
        if stopped == threads {
            break;
        }
        let waker = Waker::from(Arc::new(Stop(Mutex::new(said.clone()))));
        #[expect(
            clippy::disallowed_methods,
            reason = "one at a time, before anything is written"
        )]
        let mut flush = pin!(tree.flush_async());
        match flush.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(flushed) => {
                flushed.map_err(|error| failed(&error))?;
            }
            // Before the next one, so that never two of them flush.
            Poll::Pending if hears.recv_timeout(WAIT).is_ok() => stopped += 1,
            Poll::Pending => break,
        }
    }
    Ok(stopped)
}
