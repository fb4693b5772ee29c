//! Wrong codes of late, and when there are too many: the cap of each kind of code that has one.

use std::time::Duration;

use countersign_types::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::bindings::service::countersign::service::types::MissLimit;
use crate::call::misuse;

const LIMITS_MAX: usize = 4;
const MISSES: std::ops::RangeInclusive<u32> = 1..=100;
const WINDOW_MS: std::ops::RangeInclusive<u64> = 1_000..=366 * 24 * 3600 * 1_000;

/// How many misses are borne, in all windows at once.
#[derive(Clone, Debug)]
pub(super) struct Caps(Vec<(usize, Duration)>);

impl Caps {
    /// The component's wish, which must be within its bounds: at least one limit, so that nothing can be
    /// guessed at without end.
    pub(super) fn new(limits: &[MissLimit]) -> wasmtime::Result<Caps> {
        if limits.is_empty() || limits.len() > LIMITS_MAX {
            return misuse(format!("1 to {LIMITS_MAX} limits of misses are needed"));
        }
        for limit in limits {
            if !MISSES.contains(&limit.misses) || !WINDOW_MS.contains(&limit.window) {
                return misuse("a limit of 1 to 100 misses in 1 s to 366 days is needed");
            }
        }
        let caps = limits
            .iter()
            .map(|limit| (limit.misses as usize, Duration::from_millis(limit.window)));
        Ok(Caps(caps.collect()))
    }

    fn most(&self) -> usize {
        self.0.iter().map(|(misses, _)| *misses).max().unwrap_or(0)
    }

    fn longest(&self) -> Duration {
        self.0
            .iter()
            .map(|(_, span)| *span)
            .max()
            .unwrap_or_default()
    }
}

/// When codes were wrong, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Misses(Vec<UnixMillis>);

impl Misses {
    /// Until when nothing is looked at, where there were too many: until every window has room.
    pub(super) fn locked(&self, caps: &Caps, now: UnixMillis) -> Option<UnixMillis> {
        let until = caps.0.iter().filter_map(|(misses, span)| {
            let filling = self.0.len().checked_sub(*misses)?;
            // What lies ahead was made before the clock was set back.
            let room_at = (*self.0.get(filling)?).min(now) + *span;
            (room_at > now).then_some(room_at)
        });
        until.max()
    }

    /// How many more are borne at `now`.
    pub(super) fn left(&self, caps: &Caps, now: UnixMillis) -> u32 {
        let left = caps.0.iter().map(|(misses, span)| {
            let inside = self.0.iter().filter(|&&miss| miss.min(now) + *span > now);
            misses.saturating_sub(inside.count())
        });
        // At most 100.
        left.min().unwrap_or(0) as u32
    }

    /// One more, at `now`. Forgets those that no limit looks at.
    pub(super) fn add(&mut self, caps: &Caps, now: UnixMillis) {
        for miss in &mut self.0 {
            *miss = (*miss).min(now);
        }
        self.0.push(now);
        self.0.retain(|miss| *miss + caps.longest() > now);
        let too_many = self.0.len().saturating_sub(caps.most());
        self.0.drain(..too_many);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(limits: &[(u32, u64)]) -> Caps {
        let limits: Vec<MissLimit> = limits
            .iter()
            .map(|&(misses, seconds)| MissLimit {
                misses,
                window: seconds * 1_000,
            })
            .collect();
        Caps::new(&limits).expect("within bounds")
    }

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis(1_700_000_000_000) + Duration::from_secs(seconds)
    }

    #[test]
    fn a_window_has_room_again_when_its_oldest_miss_has_left() {
        let caps = caps(&[(3, 60)]);
        let mut misses = Misses::default();
        for (second, left) in [(0, 2), (10, 1), (20, 0)] {
            assert_eq!(misses.locked(&caps, at(second)), None);
            misses.add(&caps, at(second));
            assert_eq!(misses.left(&caps, at(second)), left);
        }
        assert_eq!(misses.locked(&caps, at(20)), Some(at(60)));
        assert_eq!(misses.locked(&caps, at(60)), None);
        assert_eq!(misses.left(&caps, at(60)), 1);
        misses.add(&caps, at(60));
        assert_eq!(misses.locked(&caps, at(60)), Some(at(70)));
    }

    #[test]
    fn of_several_limits_the_longest_lock_counts() {
        let caps = caps(&[(2, 60), (3, 3_600)]);
        let mut misses = Misses::default();
        for second in [0, 1] {
            misses.add(&caps, at(second));
        }
        assert_eq!(misses.locked(&caps, at(2)), Some(at(60)));
        misses.add(&caps, at(70));
        assert_eq!(misses.locked(&caps, at(70)), Some(at(3_600)));
        misses.clear();
        assert_eq!(misses.left(&caps, at(70)), 2);
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_for_years() {
        let caps = caps(&[(2, 60)]);
        let mut misses = Misses::default();
        misses.add(&caps, at(1_000_000));
        misses.add(&caps, at(1_000_000));
        assert_eq!(misses.locked(&caps, at(0)), Some(at(60)));
        misses.add(&caps, at(0));
        assert_eq!(misses.locked(&caps, at(60)), None);
    }

    #[test]
    fn a_limit_that_is_none_is_refused() {
        let limit = |misses, window| MissLimit { misses, window };
        for limits in [
            vec![],
            vec![limit(0, 60_000)],
            vec![limit(101, 60_000)],
            vec![limit(5, 999)],
            vec![limit(5, 366 * 24 * 3600 * 1_000 + 1)],
            vec![limit(5, 60_000); 5],
        ] {
            assert!(Caps::new(&limits).is_err(), "{limits:?}");
        }
    }
}
