//! A version of a component: what it is named by, and how its calls end.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use countersign_types::hex;
use serde::{Deserialize, Serialize};

/// The SHA-256 of a component's bytes: the name of a version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// That of `bytes`.
    pub fn of(bytes: &[u8]) -> Sha256 {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Sha256(hash)
    }

    /// The first 12 digits: enough for people to tell the versions of a component apart.
    pub fn short(&self) -> String {
        hex(&self.0[..6])
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.short())
    }
}

impl FromStr for Sha256 {
    type Err = ();

    fn from_str(text: &str) -> Result<Sha256, ()> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes());
        let bytes = bytes.map_err(|_| ())?.try_into();
        bytes.map(Sha256).map_err(|_| ())
    }
}

/// How the calls of one version have ended, since it was loaded.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    ended: AtomicU64,
    /// Traps, limits, time-outs, and calls that could not be decided.
    failed: AtomicU64,
    /// Of a provider: messages that were not taken.
    refused: AtomicU64,
}

/// How a call ended, as far as it tells of its component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Well,
    Failed,
    Refused,
}

/// So many refusals and no fewer tell something: each may be a message's own fault.
const REFUSALS_MIN: u64 = 5;
/// So many failures tell something of a version whose predecessor failed now and then, too.
const FAILURES_MIN: u64 = 3;

impl Tally {
    pub(crate) fn count(&self, fate: Fate) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        match fate {
            Fate::Well => {}
            Fate::Failed => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            Fate::Refused => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn counts(&self) -> [u64; 3] {
        [&self.ended, &self.failed, &self.refused].map(|count| count.load(Ordering::Relaxed))
    }

    /// Whether this version is worse than `before`: one failure is enough where the older one never
    /// failed, else more than twice its share of failures, or of refusals.
    pub(crate) fn is_worse_than(&self, before: &Tally) -> bool {
        let [ended, failed, refused] = self.counts();
        let [ended_before, failed_before, refused_before] = before.counts();
        let share_is_worse = |count: u64, count_before: u64| {
            u128::from(count) * u128::from(ended_before.max(1))
                > 2 * u128::from(count_before) * u128::from(ended.max(1))
        };
        let failures_min = if failed_before == 0 { 1 } else { FAILURES_MIN };
        failed >= failures_min && share_is_worse(failed, failed_before)
            || refused >= REFUSALS_MIN && share_is_worse(refused, refused_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(well: u64, failed: u64, refused: u64) -> Tally {
        let tally = Tally::default();
        for (times, fate) in [
            (well, Fate::Well),
            (failed, Fate::Failed),
            (refused, Fate::Refused),
        ] {
            (0..times).for_each(|_| tally.count(fate));
        }
        tally
    }

    #[track_caller]
    fn check(new: (u64, u64, u64), before: (u64, u64, u64), worse: bool) {
        let (new, before) = (
            tally(new.0, new.1, new.2),
            tally(before.0, before.1, before.2),
        );
        assert_eq!(new.is_worse_than(&before), worse, "{new:?} {before:?}");
    }

    #[test]
    fn one_failure_is_enough_where_the_older_version_never_failed() {
        check((1_000, 0, 0), (1_000, 0, 0), false);
        check((1_000, 1, 0), (1_000, 0, 0), true);
        check((0, 1, 0), (0, 0, 0), true);
    }

    #[test]
    fn where_the_older_one_failed_too_more_than_twice_its_share_is_worse() {
        check((98, 2, 0), (99, 1, 0), false);
        check((98, 2, 0), (990, 10, 0), false);
        check((97, 3, 0), (990, 10, 0), true);
        check((0, 2, 0), (999, 1, 0), false);
    }

    #[test]
    fn single_refusals_of_messages_tell_nothing() {
        check((10, 0, 4), (1_000, 0, 0), false);
        check((10, 0, 5), (1_000, 0, 0), true);
        check((90, 0, 10), (90, 0, 10), false);
        check((70, 0, 30), (90, 0, 10), true);
    }

    #[test]
    fn a_version_is_named_by_64_digits() {
        let hash = Sha256::of(b"");
        let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.parse(), Ok(hash));
        assert_eq!(hash.short(), "e3b0c44298fc");
        assert_eq!("e3b0".parse::<Sha256>(), Err(()));
    }
}
