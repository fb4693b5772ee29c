//! Exact limits that subjects share: at most so much in any window of time.
//!
//! The window is cut into 64 equal sub-windows, and what was taken is summed by sub-window. A take
//! leaves when its whole sub-window is more than one window old, so that never more than the maximum
//! falls into any window; room comes back up to 1/63 of the window late.

use countersign_types::UnixMillis;
use serde::{Deserialize, Serialize};

/// The most that a limit can be, and the most that is taken at once: what every language counts exactly
/// in a number (ECMA-262, `Number.MAX_SAFE_INTEGER` and one), and sums of 64 of them do not wrap.
pub const TAKE_MAX: u64 = 1 << 53;

/// How many sums stand in for a window.
pub const SUB_WINDOWS: u64 = 64;

/// What was taken, by sub-window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Length of a sub-window. 0 where nothing was ever taken.
    sub_ms: u64,
    /// Number of the sub-window and what was taken in it, oldest first, at most 64.
    taken: Vec<(u64, u64)>,
}

impl Window {
    /// Takes `amount`, or says when there is room for it.
    ///
    /// `amount` is at most `max`, that at most [`TAKE_MAX`], and `window_ms` at least 1: the callers see
    /// to it.
    pub fn take(
        &mut self,
        now: UnixMillis,
        amount: u64,
        max: u64,
        window_ms: u64,
    ) -> Result<(), UnixMillis> {
        self.measure_by(window_ms.div_ceil(SUB_WINDOWS - 1).max(1));
        let current = now.0 / self.sub_ms;
        self.taken.retain(|(sub, _)| sub + SUB_WINDOWS > current);
        let mut sum: u64 = self.taken.iter().map(|(_, n)| n).sum();
        if sum.saturating_add(amount) > max {
            for (sub, n) in &self.taken {
                sum -= n;
                if sum.saturating_add(amount) <= max {
                    return Err(UnixMillis((sub + SUB_WINDOWS) * self.sub_ms));
                }
            }
            // Not reached while `amount <= max`: with everything gone, the amount fits.
            return Err(UnixMillis(now.0.saturating_add(window_ms)));
        }
        if amount > 0 {
            // A clock that was set back counts in the newest sub-window, never before it.
            match self.taken.last_mut() {
                Some((sub, n)) if *sub >= current => *n += amount,
                _ => self.taken.push((current, amount)),
            }
        }
        Ok(())
    }

    /// Whether all that was taken has left the window at `now`.
    pub fn empty_at(&self, now: UnixMillis) -> bool {
        self.taken
            .last()
            .is_none_or(|(sub, _)| (sub + SUB_WINDOWS).saturating_mul(self.sub_ms) <= now.0)
    }

    /// Changes the length of a sub-window. What was taken counts from the end of its old sub-window
    /// on: a changed setting may give room late, never early.
    fn measure_by(&mut self, sub_ms: u64) {
        if self.sub_ms == sub_ms {
            return;
        }
        let old_ms = std::mem::replace(&mut self.sub_ms, sub_ms);
        let old = std::mem::take(&mut self.taken);
        for (sub, n) in old {
            let at = ((sub + 1) * old_ms).saturating_sub(1) / sub_ms;
            match self.taken.last_mut() {
                Some((last, sum)) if *last == at => *sum += n,
                _ => self.taken.push((at, n)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_is_taken_or_nothing() {
        let mut window = Window::default();
        assert_eq!(window.take(UnixMillis(0), 3, 5, 63_000), Ok(()));
        assert!(window.take(UnixMillis(0), 3, 5, 63_000).is_err());
        assert_eq!(window.take(UnixMillis(0), 2, 5, 63_000), Ok(()));
    }

    #[test]
    fn room_is_there_at_the_instant_that_was_told() {
        let mut window = Window::default();
        assert_eq!(window.take(UnixMillis(500), 5, 5, 63_000), Ok(()));
        let until = window
            .take(UnixMillis(900), 1, 5, 63_000)
            .expect_err("full");
        assert!(window.take(UnixMillis(until.0 - 1), 1, 5, 63_000).is_err());
        assert_eq!(window.take(until, 1, 5, 63_000), Ok(()));
    }

    #[test]
    fn the_largest_limit_is_one_like_any_other() {
        let mut window = Window::default();
        let (half, max) = (TAKE_MAX / 2, TAKE_MAX);
        for at in [0, 10_000] {
            assert_eq!(window.take(UnixMillis(at), half, max, 63_000), Ok(()));
        }
        for amount in [1, half, max] {
            let full = window.take(UnixMillis(20_000), amount, max, 63_000);
            assert!(full.is_err(), "{amount}");
        }
        let later = UnixMillis(10_000 + 2 * 63_000);
        assert_eq!(window.take(later, max, max, 63_000), Ok(()));
    }

    #[test]
    fn a_changed_window_gives_no_room_early() {
        let mut window = Window::default();
        assert_eq!(window.take(UnixMillis(60_000), 5, 5, 63_000), Ok(()));
        let until = window
            .take(UnixMillis(60_000), 1, 5, 126_000)
            .expect_err("full");
        assert!(until >= UnixMillis(60_000 + 126_000));
    }

    proptest! {
        #[test]
        fn never_more_than_max_in_any_window(
            steps in proptest::collection::vec((0u64..4_000, 1u64..4), 1..200),
            max in 4u64..12,
        ) {
            const WINDOW: u64 = 10_000;
            let mut window = Window::default();
            let mut now = 1_000_000;
            let mut granted: Vec<(u64, u64)> = Vec::new();
            for (wait, amount) in steps {
                now += wait;
                match window.take(UnixMillis(now), amount, max, WINDOW) {
                    Ok(()) => granted.push((now, amount)),
                    Err(until) => {
                        prop_assert!(until.0 > now);
                        prop_assert!(until.0 <= now + WINDOW + 2 * WINDOW.div_ceil(63));
                    }
                }
                let sum: u64 = granted.iter().filter(|(at, _)| at + WINDOW > now).map(|(_, n)| n).sum();
                prop_assert!(sum <= max, "{sum} of {max} at {now}");
                prop_assert!(window.taken.len() <= SUB_WINDOWS as usize);
            }
        }
    }
}
