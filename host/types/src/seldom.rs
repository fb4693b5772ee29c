//! Lines of the log about what may happen any number of times.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::MonotonicMillis;

/// How long the same is not told again.
const PAUSE: Duration = Duration::from_secs(60);

/// Decides which of many equal lines is written: the first, and then one a minute at most. Without it
/// whoever can make the server refuse something could fill its log.
///
/// Each `K` that was ever told is remembered, so there must be few of them: made of what is configured,
/// never of what a request holds.
#[derive(Debug)]
pub struct Seldom<K>(Mutex<HashMap<K, Told>>);

#[derive(Debug)]
struct Told {
    at: MonotonicMillis,
    since: u64,
}

impl<K> Default for Seldom<K> {
    fn default() -> Seldom<K> {
        Seldom(Mutex::default())
    }
}

impl<K: Eq + Hash> Seldom<K> {
    /// `what` has happened. `Some`: it is to be told, with how many more there were that have not been
    /// told since the last line.
    pub fn tell(&self, what: K, now: MonotonicMillis) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match told.get_mut(&what) {
            Some(told) if now.since(told.at) < PAUSE => {
                told.since += 1;
                None
            }
            Some(told) => {
                told.at = now;
                Some(std::mem::take(&mut told.since))
            }
            None => {
                told.insert(what, Told { at: now, since: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_a_minute_with_how_often_it_was_not() {
        let seldom = Seldom::default();
        let at = |seconds: u64| MonotonicMillis(seconds * 1_000);
        assert_eq!(seldom.tell("a", at(1)), Some(0));
        assert_eq!(seldom.tell("a", at(1)), None);
        assert_eq!(seldom.tell("a", at(60)), None);
        assert_eq!(seldom.tell("b", at(60)), Some(0), "another line");
        assert_eq!(seldom.tell("a", at(61)), Some(2));
        assert_eq!(seldom.tell("a", at(120)), None);
        assert_eq!(seldom.tell("a", at(200)), Some(1));
    }
}
