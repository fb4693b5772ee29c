//! How many messages a second a provider is handed.

use std::time::Duration;

use countersign_types::MonotonicMillis;

/// A message may leave so much too early: the clock has milliseconds and timers come late, and what
/// is lost by that must come back. It makes at most one percent more than the rate in any second.
const TOLERANCE_US: u64 = 10_000;

/// The generic cell rate algorithm: messages leave evenly, so many a second, whatever the second
/// begins with. It needs no timer and keeps one number.
///
/// Source: ITU-T I.371, annex A.
#[derive(Debug)]
pub(crate) struct Rate {
    interval_us: u64,
    /// When the next message is due by the rate.
    next_us: u64,
}

impl Rate {
    /// `per_second` messages a second, which must be more than none.
    pub(crate) fn new(per_second: f64) -> Rate {
        // The conversion saturates.
        let interval_us = (1e6 / per_second).round().max(1.0) as u64;
        Rate {
            interval_us,
            next_us: 0,
        }
    }

    /// Takes a place for one message at `now`; else says how long it is until there is one.
    pub(crate) fn take(&mut self, now: MonotonicMillis) -> Result<(), Duration> {
        let now_us = now.0.saturating_mul(1_000);
        if now_us + TOLERANCE_US < self.next_us {
            let wait_us = self.next_us - TOLERANCE_US - now_us;
            // As whole milliseconds, as the clock has them.
            return Err(Duration::from_millis(wait_us.div_ceil(1_000)));
        }
        self.next_us = self.next_us.max(now_us).saturating_add(self.interval_us);
        Ok(())
    }

    /// Gives back a place that was taken and not used.
    pub(crate) fn give_back(&mut self) {
        self.next_us = self.next_us.saturating_sub(self.interval_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: MonotonicMillis = MonotonicMillis(1_000_000);

    /// When 5 seconds of messages leave at `per_second`, each as soon as it is let.
    fn leave(per_second: f64) -> Vec<u64> {
        let mut rate = Rate::new(per_second);
        let mut now = NOW;
        let mut times = Vec::new();
        while now.0 < NOW.0 + 5_000 {
            match rate.take(now) {
                Ok(()) => times.push(now.0 - NOW.0),
                Err(wait) => {
                    assert!(wait > Duration::ZERO);
                    now = now + wait;
                }
            }
        }
        times
    }

    #[test]
    fn no_second_has_more_than_the_rate_and_one_percent() {
        for per_second in [1.0, 3.0, 10.0, 100.0, 999.0] {
            let times = leave(per_second);
            for (n, first) in times.iter().enumerate() {
                let within = times[n..].iter().take_while(|time| **time < first + 1_000);
                let most = (per_second * 1.01).floor() as usize + 1;
                assert!(
                    within.count() <= most,
                    "{per_second} a second, from {first} ms"
                );
            }
            let all = (per_second * 5.0) as usize;
            assert!(times.len() >= all, "{per_second}: {} of {all}", times.len());
        }
    }

    #[test]
    fn less_than_one_a_second_is_a_rate_too() {
        assert_eq!(leave(0.5), [0, 1_990, 3_990]);
    }

    #[test]
    fn a_place_that_was_given_back_is_there_for_the_next() {
        let mut rate = Rate::new(1.0);
        assert_eq!(rate.take(NOW), Ok(()));
        rate.give_back();
        assert_eq!(rate.take(NOW), Ok(()));
        assert!(rate.take(NOW).is_err());
    }

    #[test]
    fn what_was_not_used_is_not_made_up_for() {
        let mut rate = Rate::new(10.0);
        let later = NOW + Duration::from_secs(60);
        assert_eq!(rate.take(NOW), Ok(()));
        assert_eq!(rate.take(later), Ok(()));
        assert!(rate.take(later).is_err());
    }
}
