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
    spans: VecDeque<Span>,
}

/// What was seen of a lane. The count and its time are kept and no rate of them, since one job in more
/// than ten seconds is slow, and no whole number of jobs in any unit of time.
#[derive(Clone, Copy, Debug)]
struct Span {
    began: MonotonicMillis,
    age: Duration,
    /// How many jobs were taken, at least one.
    taken: u64,
}

impl Span {
    /// How long it would have taken to take `jobs` jobs, times the number of those that were taken.
    fn time_for(&self, jobs: usize) -> u128 {
        jobs as u128 * self.age.as_millis()
    }
}

impl Drain {
    /// Notes that `jobs` are waiting at `now`, before anything changes.
    pub(crate) fn look(&mut self, now: MonotonicMillis, jobs: usize) {
        let age = now.since(self.began);
        if age >= SPAN {
            // A span that nobody looked at for much longer says nothing either.
            if !self.was_empty && self.taken > 0 && age < 2 * SPAN {
                self.spans.push_back(Span {
                    began: self.began,
                    age,
                    taken: self.taken,
                });
            }
            while let Some(span) = self.spans.front()
                && !believed(span.began, now)
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
    /// the last 10 minutes. Without an observation it can, and so can one that nothing is before.
    pub(crate) fn cannot(&self, before: usize, time_left: Duration, now: MonotonicMillis) -> bool {
        let mut recent = self
            .spans
            .iter()
            .filter(|span| believed(span.began, now))
            .peekable();
        if before == 0 || recent.peek().is_none() {
            return false;
        }
        // It cannot at the best rate if it cannot at any.
        recent.all(|span| span.time_for(before) >= time_left.as_millis() * u128::from(span.taken))
    }
}

fn believed(began: MonotonicMillis, now: MonotonicMillis) -> bool {
    now.since(began) <= BELIEVED
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

    /// A lane with much in it that `taken` jobs are taken from in a span that is looked at after `age`.
    fn slow(taken: u64, age: Duration) -> Drain {
        let mut drain = Drain::default();
        drain.look(NOW, 100);
        for n in 1..=taken {
            drain.taken(100 - usize::try_from(n).expect("few"));
        }
        drain.look(NOW + age, 100);
        drain
    }

    #[test]
    fn one_job_in_a_span_is_a_slow_lane_and_none_that_stands_still() {
        for age_ms in [10_000, 10_001, 15_000, 19_999] {
            let age = Duration::from_millis(age_ms);
            let (drain, now) = (slow(1, age), NOW + age);
            assert!(!drain.cannot(30, 600 * SECOND, now), "{age_ms}");
            assert!(drain.cannot(60, 600 * SECOND, now), "{age_ms}");
            assert!(drain.cannot(1, age, now), "{age_ms}");
            assert!(!drain.cannot(1, age + SECOND, now), "{age_ms}");
        }
    }

    #[test]
    fn one_that_nothing_is_before_can_always_be_taken() {
        for drain in [slow(1, 15 * SECOND), busy(5, 100), Drain::default()] {
            assert!(!drain.cannot(0, Duration::ZERO, NOW + 15 * SECOND));
        }
        assert!(slow(1, 15 * SECOND).cannot(1, Duration::ZERO, NOW + 15 * SECOND));
    }

    #[test]
    fn the_best_of_several_spans_counts() {
        let mut drain = slow(1, 15 * SECOND);
        let began = NOW + 15 * SECOND;
        for n in 1..=20 {
            drain.taken(100 - n);
        }
        drain.look(began + SPAN, 100);
        assert!(!drain.cannot(19, 10 * SECOND, began + SPAN));
        assert!(drain.cannot(20, 10 * SECOND, began + SPAN));
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
