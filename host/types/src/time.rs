//! Points in time, and the one door to the clock.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
///
/// Whole milliseconds, since that is what crosses to components and to disk. Text is RFC 3339 in
/// UTC, rounded down to the second: `2026-01-31T12:00:00Z`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// How long it is from `earlier` to `self`; zero where `earlier` is later.
    pub fn since(self, earlier: UnixMillis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The text is no time as of RFC 3339, or one before 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTime;

impl FromStr for UnixMillis {
    type Err = NoTime;

    /// RFC 3339, with any offset.
    fn from_str(text: &str) -> Result<UnixMillis, NoTime> {
        let time: jiff::Timestamp = text.parse().map_err(|_| NoTime)?;
        let millis = u64::try_from(time.as_millisecond()).map_err(|_| NoTime)?;
        Ok(UnixMillis(millis))
    }
}

impl Add<Duration> for UnixMillis {
    type Output = UnixMillis;
    fn add(self, span: Duration) -> UnixMillis {
        UnixMillis(self.0.saturating_add(millis(span)))
    }
}

impl Sub<Duration> for UnixMillis {
    type Output = UnixMillis;
    fn sub(self, span: Duration) -> UnixMillis {
        UnixMillis(self.0.saturating_sub(millis(span)))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0 / 1000).unwrap_or(i64::MAX);
        // Beyond the year 9999 there is no RFC 3339; such a time is only ever "never".
        let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{time:.0}")
    }
}

/// A point in time that setting the machine's clock does not move: milliseconds since a moment of
/// this process's own.
///
/// For spans inside of one process: how long a claim holds, how long a provider is left alone. What
/// is written down or told to anybody is [`UnixMillis`], since this one means nothing elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonotonicMillis(pub u64);

impl MonotonicMillis {
    /// How long it is from `earlier` to `self`; zero where `earlier` is later.
    pub fn since(self, earlier: MonotonicMillis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for MonotonicMillis {
    type Output = MonotonicMillis;
    fn add(self, span: Duration) -> MonotonicMillis {
        MonotonicMillis(self.0.saturating_add(millis(span)))
    }
}

/// Tells the time. Everything that needs "now" is given one of these, so that tests and simulations
/// decide what time it is.
pub trait Clock: Send + Sync + 'static {
    /// The present time. It may step back when the machine's clock is set.
    fn now(&self) -> UnixMillis;

    /// The present time on a clock that nobody sets: it never steps, neither back nor on. It may
    /// stand still while the machine sleeps.
    fn monotonic(&self) -> MonotonicMillis;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one door to the machine's clock"
        )]
        let now = std::time::SystemTime::now();
        let since_epoch = now
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        UnixMillis(millis(since_epoch))
    }

    fn monotonic(&self) -> MonotonicMillis {
        // All of a process's clocks must agree, so the first reading is everybody's zero.
        static ZERO: OnceLock<Instant> = OnceLock::new();
        MonotonicMillis(millis(ZERO.get_or_init(Instant::now).elapsed()))
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicU64,
    monotonic: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `start`.
    pub fn new(start: UnixMillis) -> ManualClock {
        ManualClock {
            wall: AtomicU64::new(start.0),
            monotonic: AtomicU64::new(0),
        }
    }

    /// Lets time pass.
    pub fn advance(&self, span: Duration) {
        self.wall.fetch_add(millis(span), Ordering::SeqCst);
        self.monotonic.fetch_add(millis(span), Ordering::SeqCst);
    }

    /// Sets the clock, back as well as on. No time passes by that.
    pub fn set(&self, time: UnixMillis) {
        self.wall.store(time.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.wall.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> MonotonicMillis {
        MonotonicMillis(self.monotonic.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_rfc_3339_in_utc_to_the_second() {
        assert_eq!(UnixMillis(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(
            UnixMillis(1_769_860_800_999).to_string(),
            "2026-01-31T12:00:00Z"
        );
    }

    #[test]
    fn rfc_3339_is_read_with_any_offset() {
        let noon = Ok(UnixMillis(1_769_860_800_000));
        for text in ["2026-01-31T12:00:00Z", "2026-01-31T13:00:00.000+01:00"] {
            assert_eq!(text.parse(), noon, "{text}");
        }
        for text in ["", "2026-01-31", "noon", "1969-12-31T23:59:59Z"] {
            assert_eq!(text.parse::<UnixMillis>(), Err(NoTime), "{text}");
        }
    }

    #[test]
    fn a_time_beyond_the_calendar_is_still_text() {
        assert!(UnixMillis(u64::MAX).to_string().starts_with("9999-12-3"));
    }

    #[test]
    fn setting_a_clock_lets_no_time_pass() {
        let clock = ManualClock::new(UnixMillis(5_000));
        clock.advance(Duration::from_secs(2));
        clock.set(UnixMillis(1));
        assert_eq!(clock.monotonic(), MonotonicMillis(2_000));
        assert_eq!(clock.now(), UnixMillis(1));
    }

    #[test]
    fn the_machines_clocks_agree_on_where_they_began() {
        let before = SystemClock.monotonic();
        let after = SystemClock.monotonic();
        assert!(before <= after && after.since(before) < Duration::from_secs(60));
    }
}
