//! How often the token may be tried at the login form.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_types::{Clock, MonotonicMillis};

/// Wrong tokens in a minute, of everybody together: behind a proxy all have one address. A token of 20
/// letters stands that for longer than there are stars; who knows it can use it as a bearer meanwhile.
const TRIES_MAX: usize = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// The tries of the last minute.
pub(crate) struct Tries {
    clock: Arc<dyn Clock>,
    last: Mutex<VecDeque<MonotonicMillis>>,
}

impl Tries {
    /// None yet.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Tries {
        Tries {
            clock,
            last: Mutex::new(VecDeque::with_capacity(TRIES_MAX)),
        }
    }

    /// Counts a try, before anything is compared, so that many at once are no more than the bound.
    ///
    /// # Errors
    ///
    /// How long to wait where there were too many.
    pub(crate) fn begin(&self) -> Result<(), Duration> {
        let now = self.clock.monotonic();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        while last.front().is_some_and(|at| now.since(*at) >= WINDOW) {
            last.pop_front();
        }
        match last.front() {
            Some(oldest) if last.len() >= TRIES_MAX => {
                Err(WINDOW.saturating_sub(now.since(*oldest)))
            }
            _ => {
                last.push_back(now);
                Ok(())
            }
        }
    }

    /// Takes the newest back: it was right.
    pub(crate) fn was_right(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.pop_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_types::{ManualClock, UnixMillis};

    #[test]
    fn ten_tries_a_minute_and_no_more_right_ones_apart() {
        let clock = Arc::new(ManualClock::new(UnixMillis(0)));
        let tries = Tries::new(clock.clone());
        for _ in 0..30 {
            assert_eq!(tries.begin(), Ok(()));
            tries.was_right();
        }
        for _ in 0..TRIES_MAX {
            assert_eq!(tries.begin(), Ok(()));
            clock.advance(Duration::from_secs(1));
        }
        assert_eq!(tries.begin(), Err(Duration::from_secs(50)));
        clock.advance(Duration::from_millis(49_999));
        assert_eq!(tries.begin(), Err(Duration::from_millis(1)));
        clock.advance(Duration::from_millis(1));
        assert_eq!(tries.begin(), Ok(()));
        assert!(tries.begin().is_err(), "one has left, and one has come");
    }
}
