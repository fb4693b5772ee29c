//! A reserve of free space. sled's first write error is final, so a disk that fills up must be
//! noticed before sled meets it: new work is turned away first, and what has begun is finished out of
//! the reserve.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Need;

/// How long a look at the disk is good for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How many bytes sled writes for one of a row: 3.6 kB for the 0.7 kB of a send were measured, and its
/// moving of old rows comes on top. What is written between two looks counts so often.
const BYTES_FOR_ONE: u64 = 8;
/// After writing such a part of the reserve the disk is looked at again, however soon.
const LOOK_AFTER_PART: u64 = 16;

/// Whether a commit is taken while `free` bytes are free, of which `reserve` are to stay free.
///
/// The first half of the reserve is for what calls count and record, the next quarter for deliveries.
/// The last one is for the ends of what is in hand when it is reached (at most `delivery.in-hand`
/// messages), for tries of failed calls, the operator's commands and sled's own moving of rows; with
/// nothing new begun, that comes to an end.
fn has_room(free: u64, reserve: u64, need: Need) -> bool {
    match need {
        Need::Finish => true,
        Need::Deliver => free >= reserve / 4,
        Need::Call => free >= reserve / 2,
        Need::NewWork => free >= reserve,
    }
}

#[derive(Debug)]
struct Look {
    at: Option<Instant>,
    free: u64,
    /// By the store, since then.
    written: u64,
}

/// The free space of the disk that a folder lies on.
#[derive(Debug)]
pub(super) struct Room {
    folder: PathBuf,
    reserve: AtomicU64,
    look: Mutex<Look>,
    low: AtomicBool,
}

impl Room {
    /// Without a reserve yet.
    pub(super) fn new(folder: PathBuf) -> Room {
        Room {
            folder,
            reserve: AtomicU64::new(0),
            look: Mutex::new(Look {
                at: None,
                free: u64::MAX,
                written: 0,
            }),
            low: AtomicBool::new(false),
        }
    }

    pub(super) fn set_reserve(&self, bytes: u64) {
        self.reserve.store(bytes, Ordering::Relaxed);
    }

    /// Whether such a commit may be applied.
    pub(super) fn is_for(&self, need: Need) -> bool {
        let reserve = self.reserve.load(Ordering::Relaxed);
        if reserve == 0 || need == Need::Finish {
            return true;
        }
        let free = self.free(reserve);
        self.tell(free, reserve);
        has_room(free, reserve, need)
    }

    /// The store has written rows of so many bytes.
    pub(super) fn wrote(&self, bytes: u64) {
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        look.written = look.written.saturating_add(bytes * BYTES_FOR_ONE);
    }

    /// What is free by the operating system, where it says so, and what is to stay free.
    pub(super) fn overview(&self) -> (Option<u64>, u64) {
        let reserve = self.reserve.load(Ordering::Relaxed);
        (available(&self.folder).ok(), reserve)
    }

    fn free(&self, reserve: u64) -> u64 {
        self.free_at(Instant::now(), reserve, || available(&self.folder))
    }

    /// As much as there was when the disk was last asked, less what was written since; at `now` it is
    /// asked again with `ask` where that is too long ago, or was too much.
    fn free_at(&self, now: Instant, reserve: u64, ask: impl FnOnce() -> io::Result<u64>) -> u64 {
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let is_good = look
            .at
            .is_some_and(|at| now.saturating_duration_since(at) < LOOK_EVERY)
            && look.written < reserve / LOOK_AFTER_PART;
        if !is_good {
            match ask() {
                Ok(free) => look.free = free,
                // What was known before is all that is known.
                Err(error) => tracing::warn!(%error, "the free space of the disk cannot be told"),
            }
            look.at = Some(now);
            look.written = 0;
        }
        look.free.saturating_sub(look.written)
    }

    fn tell(&self, free: u64, reserve: u64) {
        let low = !has_room(free, reserve, Need::NewWork);
        if self.low.swap(low, Ordering::Relaxed) == low {
            return;
        }
        if low {
            tracing::error!(
                free,
                reserve,
                "the disk is nearly full: new messages are turned away; what waits is delivered while a quarter of the reserve is free"
            );
        } else {
            tracing::info!(free, reserve, "the disk has room again");
        }
    }
}

/// What this user may still write to the disk of `folder`, in bytes.
pub(super) fn available(folder: &std::path::Path) -> io::Result<u64> {
    fs2::available_space(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(free: u64, want: [bool; 4]) {
        let needs = [Need::Finish, Need::Deliver, Need::Call, Need::NewWork];
        assert_eq!(
            needs.map(|need| has_room(free, 1_000, need)),
            want,
            "{free}"
        );
    }

    #[test]
    fn new_work_stops_at_the_reserve_calls_at_half_deliveries_at_a_quarter_and_finishing_never() {
        check(1_000, [true, true, true, true]);
        check(999, [true, true, true, false]);
        check(500, [true, true, true, false]);
        check(499, [true, true, false, false]);
        check(250, [true, true, false, false]);
        check(249, [true, false, false, false]);
        check(0, [true, false, false, false]);
    }

    #[test]
    fn what_was_written_counts_before_the_disk_is_asked_again() {
        const RESERVE: u64 = 1 << 20;
        let room = Room::new(PathBuf::new());
        let now = Instant::now();
        let free = |now, bytes| room.free_at(now, RESERVE, || Ok(bytes));
        assert_eq!(free(now, 5_000_000), 5_000_000);
        room.wrote(1_000);
        assert_eq!(free(now, 0), 5_000_000 - 8_000, "the disk is not asked");
        // A sixteenth of the reserve: the next question is for the disk.
        room.wrote(8_192);
        assert_eq!(free(now, 4_000_000), 4_000_000);
        // So it is after a while.
        room.wrote(1_000);
        let soon = now + LOOK_EVERY - Duration::from_nanos(1);
        assert_eq!(free(soon, 0), 4_000_000 - 8_000);
        assert_eq!(free(now + LOOK_EVERY, 3_000_000), 3_000_000);
        // A disk that does not answer is as it was.
        let silent = room.free_at(now + 2 * LOOK_EVERY, RESERVE, || {
            Err(io::Error::other("no answer"))
        });
        assert_eq!(silent, 3_000_000);
    }

    #[test]
    fn the_disk_is_asked_for_what_is_free() {
        let folder = tempfile::tempdir().expect("a folder");
        let room = Room::new(folder.path().to_owned());
        room.set_reserve(1);
        assert!(room.is_for(Need::NewWork));
        room.set_reserve(u64::MAX);
        assert!(!room.is_for(Need::NewWork) && room.is_for(Need::Finish));
    }

    #[test]
    fn without_a_reserve_there_is_always_room() {
        let room = Room::new(PathBuf::from("/nowhere/at/all"));
        assert!(room.is_for(Need::NewWork));
    }
}
