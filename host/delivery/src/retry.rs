//! When to try again.

use std::time::Duration;

/// How long to wait before the next try of a message: exponential backoff with full jitter.
///
/// `attempt` counts from 1, the first send. The delay is `base * 2^(attempt - 1)`, at most `max`,
/// times `jitter`, which the caller draws from `[0, 1)` so that a simulation replays. Returns `None`
/// when the delay would not end before `time_left`: an expired code helps nobody.
///
/// Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
pub fn retry_delay(
    attempt: u32,
    jitter: f64,
    base: Duration,
    max: Duration,
    time_left: Duration,
) -> Option<Duration> {
    let doublings = attempt.saturating_sub(1).min(31);
    let whole = base.saturating_mul(1 << doublings).min(max);
    let delay = whole.mul_f64(jitter.clamp(0.0, 1.0));
    (delay < time_left).then_some(delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[track_caller]
    fn check(attempt: u32, jitter: f64, time_left: Duration, want: Option<Duration>) {
        let delay = retry_delay(attempt, jitter, SECOND, 30 * SECOND, time_left);
        assert_eq!(delay, want);
    }

    #[test]
    fn the_delay_doubles_up_to_its_bound() {
        check(1, 0.5, 600 * SECOND, Some(SECOND / 2));
        check(3, 0.5, 600 * SECOND, Some(2 * SECOND));
        check(50, 0.5, 600 * SECOND, Some(15 * SECOND));
    }

    #[test]
    fn a_code_that_would_arrive_expired_is_not_sent() {
        check(3, 0.5, 2 * SECOND, None);
    }
}
