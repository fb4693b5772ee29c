//! Codes that were accepted while nobody was known to carry their message: a phone may have it before the
//! provider's answer is there. They count as nobody's until it is known whose they are.

use std::collections::BTreeMap;

use crate::Undecided;
use crate::event::{Change, Event};
use crate::host::Host;

/// The storage key of the row that they lie in.
const KEY: &str = "early";
/// How many messages are remembered; of the oldest ones beyond that, codes stay nobody's. As many as one
/// row has room for: a name and a number of 10 bytes at most take up to 29.
const MESSAGES_MAX: usize = 1_000;

/// How many codes of which messages.
#[derive(Default)]
pub(crate) struct Early {
    codes: BTreeMap<u128, u64>,
    is_changed: bool,
}

impl Early {
    /// # Errors
    /// [`Undecided::Row`]
    pub(crate) fn read<H: Host>(host: &mut H) -> Result<Self, Undecided> {
        let codes = match host.get(KEY) {
            None => BTreeMap::new(),
            Some(row) => postcard::from_bytes(&row).map_err(|_| Undecided::Row(KEY.to_owned()))?,
        };
        Ok(Self {
            codes,
            is_changed: false,
        })
    }

    /// Remembers the code that `event` tells of, or adds to `change` those whose message has now left.
    pub(crate) fn follow(&mut self, event: &Event, change: &mut Change<'_>) {
        let Some(message) = event.message else {
            return;
        };
        match change.verified {
            Some(("", times)) => self.add(message, times),
            _ if change.is_taken => {
                let codes = self.codes.remove(&message);
                self.is_changed |= codes.is_some();
                change.carried = codes.unwrap_or(0);
            }
            _ => {}
        }
    }

    fn add(&mut self, message: u128, times: u64) {
        let codes = self.codes.entry(message).or_default();
        *codes = codes.saturating_add(times);
        // Names begin with the time of acceptance.
        if self.codes.len() > MESSAGES_MAX {
            self.codes.pop_first();
        }
        self.is_changed = true;
    }

    pub(crate) fn store<H: Host>(self, host: &mut H) {
        match self.codes.is_empty() {
            _ if !self.is_changed => {}
            true => host.delete(KEY),
            // Plain data always becomes bytes.
            false => host.put(KEY, &postcard::to_allocvec(&self.codes).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Simulation;

    #[test]
    fn the_newest_thousand_are_remembered_in_one_row() {
        let mut host = Simulation::default();
        let mut early = Early::read(&mut host).expect("nothing");
        for n in 0..1_500 {
            early.add(u128::MAX - 1_500 + n, u64::MAX);
        }
        assert_eq!(early.codes.len(), MESSAGES_MAX);
        assert!(early.codes.contains_key(&(u128::MAX - 1)));
        early.store(&mut host);
        let early = Early::read(&mut host).expect("a row");
        assert_eq!(early.codes.len(), MESSAGES_MAX);
    }

    #[test]
    fn a_row_that_is_damaged_is_named() {
        let mut host = Simulation::default();
        host.put(KEY, &[255; 7]);
        let refused = Early::read(&mut host).err().expect("damaged");
        assert_eq!(refused, Undecided::Row(KEY.to_owned()));
    }
}
