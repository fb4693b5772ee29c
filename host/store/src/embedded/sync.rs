//! Making sled's `flush` reach the disk.
//!
//! sled 0.34.7 syncs its log on Linux with `sync_file_range`, which flushes neither the file's size
//! nor the drive's cache: after a power cut acknowledged writes are gone, and sometimes the whole
//! store (sled issues 1351 and 1452). So this program defines that symbol itself, and the linker
//! binds sled's call to it: every flush becomes an `fdatasync`. A self-test at start counts the calls
//! and refuses to run where the binding did not happen.
//!
//! sled writes a batch and its flush with two writes from two threads, the batch's head first, and
//! asks for a sync after each. Who comes first waits a moment for the other, and one `fdatasync` that
//! begins after both writes serves both.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

static SYNCS: AtomicU64 = AtomicU64::new(0);

/// The two come some 100 µs apart; where only one comes, as when a segment is full, the wait is what
/// it loses.
static SHARED: Shared = Shared::new(Duration::from_micros(500));

/// How often the disk has been asked for a sync since the program began.
pub(super) fn count() -> u64 {
    SYNCS.load(Ordering::Relaxed)
}

/// Says that a batch is about to be applied and flushed: two syncs will be asked for.
pub(super) fn expect_two() {
    SHARED.expects_two.store(true, Ordering::Release);
}

/// Lets two who ask at about the same time share a sync.
struct Shared {
    wait: Duration,
    expects_two: AtomicBool,
    /// The sync that has not begun yet, and its file.
    open: Mutex<Option<(libc::c_int, Arc<Round>)>>,
}

/// One sync of the one who waits, and perhaps of another.
#[derive(Default)]
struct Round {
    state: Mutex<Joined>,
    changed: Condvar,
}

/// Whether another has joined a sync.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Joined {
    #[default]
    Nobody,
    Another,
    /// It is over: 0 or an error number.
    Ended(i32),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    const fn new(wait: Duration) -> Shared {
        Shared {
            wait,
            expects_two: AtomicBool::new(false),
            open: Mutex::new(None),
        }
    }

    /// Syncs `fd` by a call of `sync` that begins after this one; 0 or an error number.
    fn sync(&self, fd: libc::c_int, sync: impl FnOnce(libc::c_int) -> i32) -> i32 {
        let round = {
            let mut open = locked(&self.open);
            match &*open {
                Some((file, round)) if *file == fd => {
                    // It has not begun, so it covers what was written before this call.
                    let round = round.clone();
                    *open = None;
                    drop(open);
                    return round.join();
                }
                None if self.expects_two.swap(false, Ordering::AcqRel) => {
                    let round = Arc::new(Round::default());
                    *open = Some((fd, round.clone()));
                    round
                }
                _ => {
                    drop(open);
                    return sync(fd);
                }
            }
        };
        round.wait_for_another(self.wait);
        // From here on nobody can join any more.
        locked(&self.open).take_if(|(_, open)| Arc::ptr_eq(open, &round));
        let error = sync(fd);
        round.end(error);
        error
    }
}

impl Round {
    fn wait_for_another(&self, wait: Duration) {
        let waited = self
            .changed
            .wait_timeout_while(locked(&self.state), wait, |state| *state == Joined::Nobody);
        drop(waited);
    }

    /// Waits for the end of the other one's sync.
    fn join(&self) -> i32 {
        let mut state = locked(&self.state);
        // The other one may have stopped waiting meanwhile, and even be through.
        if *state == Joined::Nobody {
            *state = Joined::Another;
            self.changed.notify_all();
        }
        loop {
            if let Joined::Ended(error) = *state {
                return error;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end(&self, error: i32) {
        *locked(&self.state) = Joined::Ended(error);
        self.changed.notify_all();
    }
}

/// Asks the disk; 0 or an error number.
fn fdatasync(fd: libc::c_int) -> i32 {
    SYNCS.fetch_add(1, Ordering::Relaxed);
    #[expect(
        unsafe_code,
        reason = "a system call on the descriptor that sled passes"
    )]
    // SAFETY: `fdatasync` takes any integer and answers EBADF for one that is no open file.
    let answer = unsafe { libc::fdatasync(fd) };
    if answer == 0 {
        return 0;
    }
    std::io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}

/// Stands in for the C library's function of this name, for sled's sake. Syncs the whole file, so
/// that offset, length and flags do not matter; returns 0, or -1 with `errno` set.
#[expect(
    unsafe_code,
    reason = "the only way to change sled's sync without a fork: a C symbol, and the C library's `errno`"
)]
#[unsafe(no_mangle)]
extern "C" fn sync_file_range(
    fd: libc::c_int,
    _offset: libc::off64_t,
    _nbytes: libc::off64_t,
    _flags: libc::c_uint,
) -> libc::c_int {
    let error = SHARED.sync(fd, fdatasync);
    if error == 0 {
        return 0;
    }
    // SAFETY: the address of this thread's own `errno`, which is always valid.
    unsafe { *libc::__errno_location() = error };
    -1
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn two_that_are_expected_share_a_sync_that_begins_after_both_have_asked() {
        let shared = Arc::new(Shared::new(LONG));
        shared.expects_two.store(true, Ordering::Release);
        let first = thread::spawn({
            let shared = shared.clone();
            move || shared.sync(7, |_| 5)
        });
        while locked(&shared.open).is_none() {
            thread::yield_now();
        }
        assert_eq!(shared.sync(7, |_| panic!("a sync of its own")), 5);
        assert_eq!(first.join().expect("ended"), 5);
        assert_eq!(shared.sync(7, |_| 28), 28, "nobody is expected any more");
    }

    #[test]
    fn nobody_is_served_by_a_sync_that_began_before_they_asked() {
        let shared = Arc::new(Shared::new(Duration::ZERO));
        shared.expects_two.store(true, Ordering::Release);
        let (inside, is_inside) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let first = thread::spawn({
            let shared = shared.clone();
            move || {
                shared.sync(7, |_| {
                    inside.send(()).expect("heard");
                    goes.recv().expect("told");
                    0
                })
            }
        });
        is_inside.recv().expect("began");
        let mut own = 0;
        assert_eq!(
            shared.sync(7, |_| {
                own += 1;
                0
            }),
            0
        );
        assert_eq!(own, 1);
        go.send(()).expect("heard");
        assert_eq!(first.join().expect("ended"), 0);
    }

    #[test]
    fn who_joins_so_late_that_the_sync_is_over_finds_its_end() {
        let round = Round::default();
        round.end(5);
        assert_eq!(round.join(), 5);
    }

    #[test]
    fn another_file_is_synced_by_itself() {
        let shared = Shared::new(LONG);
        *locked(&shared.open) = Some((7, Arc::default()));
        let mut synced = 0;
        let answer = shared.sync(8, |fd| {
            synced = fd;
            0
        });
        assert_eq!((answer, synced), (0, 8));
        assert!(locked(&shared.open).is_some(), "the other one still waits");
    }
}
