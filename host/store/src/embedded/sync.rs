//! Making sled's `flush` reach the disk.
//!
//! sled 0.34.7 syncs its log on Linux with `sync_file_range`, which flushes neither the file's size
//! nor the drive's cache: after a power cut acknowledged writes are gone, and sometimes the whole
//! store (sled issues 1351 and 1452). So this program defines that symbol itself, and the linker
//! binds sled's call to it: every flush becomes an `fdatasync`. A self-test at start counts the calls
//! and refuses to run where the binding did not happen.

use std::sync::atomic::{AtomicU64, Ordering};

static CALLS: AtomicU64 = AtomicU64::new(0);

/// How often sled has asked for a sync since the program began.
pub(super) fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// Stands in for the C library's function of this name, for sled's sake. Syncs the whole file, so
/// that offset, length and flags do not matter; returns 0, or -1 with `errno` set.
#[expect(
    unsafe_code,
    reason = "the only way to change sled's sync without a fork: a C symbol, and a system call on the \
              file descriptor that sled passes"
)]
#[unsafe(no_mangle)]
extern "C" fn sync_file_range(
    fd: libc::c_int,
    _offset: libc::off64_t,
    _nbytes: libc::off64_t,
    _flags: libc::c_uint,
) -> libc::c_int {
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: `fdatasync` takes any integer and answers EBADF for one that is no open file.
    unsafe { libc::fdatasync(fd) }
}
