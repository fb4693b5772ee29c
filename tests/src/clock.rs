//! A wall clock that stands where a test puts it, below the real binary. `clock/clock.c` is the other half,
//! which is loaded into the program.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tempfile::TempDir;

/// The clock. Only the time of day stands; time-outs and pauses take as long as they do.
#[derive(Debug)]
pub struct WallClock {
    folder: TempDir,
    file: fs::File,
    /// Nanoseconds since 1970.
    stands: AtomicI64,
}

impl WallClock {
    /// A clock that stands at a time of RFC 3339.
    ///
    /// # Panics
    /// When it is none.
    pub fn at(time: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = fs::File::create(folder.path().join("clock")).unwrap();
        let clock = Self {
            folder,
            file,
            stands: AtomicI64::new(0),
        };
        clock.set(time.parse().expect("a time of RFC 3339"));
        clock
    }

    /// What it shows.
    ///
    /// # Panics
    /// Never: it was put there.
    pub fn now(&self) -> jiff::Timestamp {
        let nanos = self.stands.load(Ordering::SeqCst);
        jiff::Timestamp::from_nanosecond(nanos.into()).unwrap()
    }

    /// Puts it to another time.
    ///
    /// # Panics
    /// When that is centuries away.
    pub fn set(&self, time: jiff::Timestamp) {
        self.put(i64::try_from(time.as_nanosecond()).expect("a time of this age"));
    }

    /// Lets time pass.
    pub fn advance(&self, span: Duration) {
        let span = i64::try_from(span.as_nanos()).expect("a span of this age");
        self.put(self.stands.load(Ordering::SeqCst) + span);
    }

    fn put(&self, nanos: i64) {
        // The program has the file in its memory, and reads all of it at once.
        self.file.write_all_at(&nanos.to_ne_bytes(), 0).unwrap();
        self.stands.store(nanos, Ordering::SeqCst);
    }

    /// The variables that give a program this clock.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("LD_PRELOAD", env!("CLOCK_LIBRARY").into()),
            ("CLOCK_FILE", self.folder.path().join("clock")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_sees_the_time_that_the_clock_is_put_to() {
        let clock = WallClock::at("2026-03-01T08:00:00Z");
        let shown = || {
            let mut date = Command::new("date");
            let date = date.args(["-u", "+%FT%TZ"]).envs(clock.environment());
            String::from_utf8(date.output().unwrap().stdout).unwrap()
        };
        assert_eq!(shown(), "2026-03-01T08:00:00Z\n");
        clock.advance(Duration::from_secs(90));
        assert_eq!(shown(), "2026-03-01T08:01:30Z\n");
    }
}
