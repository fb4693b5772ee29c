//! How fast a lane empties: what a send is turned away by.

use std::collections::VecDeque;
use std::time::Duration;

use countersign_types::MonotonicMillis;

/// Over so long jobs are counted.
const SPAN: Duration = Duration::from_secs(10);
/// For so long a count is believed.
const BELIEVED: Duration = Duration::from_secs(600);

/// What was taken from a lane in spans in which it was never empty: only then the lane shows what it
/// is able to. A span without a single job says nothing, since it may be a provider that hangs and
/// comes back.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    began: MonotonicMillis,
    taken: u64,
    /// Whether the lane was empty in this span.
    was_empty: bool,
    /// When a span began, and how many jobs were taken in it.
    spans: VecDeque<(MonotonicMillis, u64)>,
}

impl Drain {
    /// Notes that `jobs` are waiting at `now`, before anything changes.
    pub(crate) fn look(&mut self, now: MonotonicMillis, jobs: usize) {
        let age = now.since(self.began);
        if age >= SPAN {
            // A span that nobody looked at for much longer says nothing either.
            if !self.was_empty && self.taken > 0 && age < 2 * SPAN {
                let taken = self.taken * 1_000 * SPAN.as_secs() / age_ms(age);
                self.spans.push_back((self.began, taken));
            }
            while let Some((began, _)) = self.spans.front()
                && !believed(*began, now)
            {
                self.spans.pop_front();
            }
            self.began = now;
            self.taken = 0;
            self.was_empty = false;
        }
        if jobs == 0 {
            // Work comes to an empty lane: what it is able to shows from here on.
            self.began = now;
            self.taken = 0;
            self.was_empty = false;
        }
    }

    /// Notes that a job was taken, which leaves `jobs`.
    pub(crate) fn taken(&mut self, jobs: usize) {
        self.taken += 1;
        self.was_empty |= jobs == 0;
    }

    /// Whether the job behind `before` others cannot be taken within `time_left`, at the best rate of
    /// the last 10 minutes. Without an observation it can.
    pub(crate) fn cannot(&self, before: usize, time_left: Duration, now: MonotonicMillis) -> bool {
        let recent = self.spans.iter().filter(|(began, _)| believed(*began, now));
        let Some(best) = recent.map(|(_, taken)| *taken).max() else {
            return false;
        };
        let needs = before as u128 * SPAN.as_millis();
        needs >= time_left.as_millis() * u128::from(best)
    }
}

fn believed(began: MonotonicMillis, now: MonotonicMillis) -> bool {
    now.since(began) <= BELIEVED
}

fn age_ms(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: MonotonicMillis = MonotonicMillis(1_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    /// A lane that `rate` jobs a second are taken from for 10 seconds, with `left` left at the end.
    fn busy(rate: u64, left: usize) -> Drain {
        let mut drain = Drain::default();
        let jobs = left + usize::try_from(rate).expect("few") * 10;
        drain.look(NOW, jobs);
        for n in 0..rate * 10 {
            let now = NOW + SECOND * u32::try_from(n / rate).expect("few");
            let jobs = jobs - usize::try_from(n).expect("few");
            drain.look(now, jobs);
            drain.taken(jobs - 1);
        }
        drain.look(NOW + SPAN, left);
        drain
    }

    #[test]
    fn what_takes_until_the_deadline_cannot_and_one_less_can() {
        let drain = busy(5, 100);
        let now = NOW + SPAN;
        assert!(drain.cannot(50, 10 * SECOND, now));
        assert!(!drain.cannot(49, 10 * SECOND, now));
    }

    #[test]
    fn an_observation_is_believed_for_ten_minutes() {
        let drain = busy(5, 100);
        assert!(drain.cannot(1_000_000, SECOND, NOW + BELIEVED));
        assert!(!drain.cannot(1_000_000, SECOND, NOW + BELIEVED + SECOND));
    }

    #[test]
    fn a_lane_that_was_empty_has_shown_nothing() {
        assert!(!busy(5, 0).cannot(1_000_000, SECOND, NOW + SPAN));
        assert!(!Drain::default().cannot(1_000_000, SECOND, NOW));
    }

    #[test]
    fn a_provider_that_hangs_has_shown_nothing() {
        let mut drain = Drain::default();
        drain.look(NOW, 10);
        drain.look(NOW + SPAN, 10);
        drain.look(NOW + 2 * SPAN, 10);
        assert!(!drain.cannot(1_000_000, SECOND, NOW + 2 * SPAN));
    }
}
