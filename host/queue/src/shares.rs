//! How many messages may wait, and whose.
//!
//! The queue is one for all, and a message may wait for days. So that whoever fills it stops nobody
//! else, a part is kept for what is urgent, the last of it for codes, and where there are several
//! callers, none has more than a share. Of that share as much is kept for the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_types::Priority;

use crate::{Job, QueueConfig, TurnedAway};

/// The places of the queue.
#[derive(Debug)]
pub(crate) struct Shares {
    capacity: usize,
    reserved_percent: usize,
    share: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Whoever is in here is there, also with no message: it may want to send some. They are API keys,
    /// so there are only as many as the operator has made.
    callers: HashMap<Arc<str>, Own>,
}

/// What one caller has.
#[derive(Debug, Default)]
struct Own {
    waiting: usize,
    /// It cannot ask any more: it is there only as long as messages of it wait.
    left: bool,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    shares: Arc<Shares>,
    caller: Arc<str>,
}

/// Who may fill the queue up to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    /// It carries a code: nobody else can take the last places, and it is over within minutes.
    Code,
    Urgent,
    Other,
}

impl Rank {
    fn of(job: &Job) -> Rank {
        match (&job.challenge, job.priority) {
            (Some(_), _) => Rank::Code,
            (None, Priority::Urgent) => Rank::Urgent,
            (None, Priority::Normal | Priority::Bulk) => Rank::Other,
        }
    }
}

fn percent(places: usize, percent: usize) -> usize {
    places.saturating_mul(percent) / 100
}

impl Shares {
    pub(crate) fn new(config: &QueueConfig) -> Arc<Shares> {
        let callers = config.callers.iter();
        Arc::new(Shares {
            capacity: config.capacity,
            reserved_percent: config.reserved_percent.min(100),
            share: percent(config.capacity, config.caller_percent).max(1),
            taken: Mutex::new(Taken {
                all: 0,
                callers: callers
                    .map(|name| (name.as_str().into(), Own::default()))
                    .collect(),
            }),
        })
    }

    /// `caller` is there from now on, before it has asked for anything.
    pub(crate) fn join(&self, caller: &str) {
        let mut taken = self.taken();
        taken.callers.entry(caller.into()).or_default().left = false;
    }

    /// `caller` will not ask any more.
    pub(crate) fn leave(&self, caller: &str) {
        let mut taken = self.taken();
        if let Some(own) = taken.callers.get_mut(caller) {
            own.left = true;
            taken.forget(caller);
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of `places` may be taken before one of this rank finds none.
    fn level(&self, places: usize, rank: Rank) -> usize {
        let reserved = percent(places, self.reserved_percent);
        match rank {
            Rank::Code => places,
            Rank::Urgent => places - reserved / 2,
            Rank::Other => places - reserved,
        }
    }

    /// A place for `job` of `caller`.
    pub(crate) fn take(
        self: &Arc<Shares>,
        job: &Job,
        caller: &Arc<str>,
    ) -> Result<Place, TurnedAway> {
        let rank = Rank::of(job);
        let mut taken = self.taken();
        let waiting = taken.all;
        // Also one who is turned away is there.
        let own = taken.callers.entry(caller.clone()).or_default().waiting;
        if taken.callers.len() > 1 && own >= self.level(self.share, rank) {
            return Err(TurnedAway::Share { waiting: own });
        }
        if waiting >= self.capacity {
            return Err(TurnedAway::Full { waiting });
        }
        if waiting >= self.level(self.capacity, rank) {
            return Err(TurnedAway::Reserved { waiting });
        }
        Ok(self.add(&mut taken, caller))
    }

    /// A place for a job that waits already: one that is found at the start, when there may be more
    /// than would be taken now.
    pub(crate) fn keep(self: &Arc<Shares>, caller: &Arc<str>) -> Place {
        let mut taken = self.taken();
        self.add(&mut taken, caller)
    }

    fn add(self: &Arc<Shares>, taken: &mut Taken, caller: &Arc<str>) -> Place {
        taken.all += 1;
        taken.callers.entry(caller.clone()).or_default().waiting += 1;
        Place {
            shares: self.clone(),
            caller: caller.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.shares.taken();
        taken.all -= 1;
        if let Some(own) = taken.callers.get_mut(&self.caller) {
            own.waiting -= 1;
            taken.forget(&self.caller);
        }
    }
}

impl Taken {
    /// Whoever has left and has nothing here is not there any more.
    fn forget(&mut self, caller: &str) {
        let is_over = |own: &Own| own.left && own.waiting == 0;
        if self.callers.get(caller).is_some_and(is_over) {
            self.callers.remove(caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, SECOND, job, with_code};

    fn shares(callers: &[&str]) -> Arc<Shares> {
        Shares::new(&QueueConfig {
            capacity: 100,
            callers: callers.iter().map(|name| (*name).to_owned()).collect(),
            ..QueueConfig::default()
        })
    }

    fn urgent() -> Job {
        Job {
            priority: Priority::Urgent,
            ..job()
        }
    }

    fn code() -> Job {
        with_code(NOW + 600 * SECOND)
    }

    /// How many of `job` the caller finds places for.
    #[track_caller]
    fn check_fills(
        shares: &Arc<Shares>,
        caller: &str,
        job: &Job,
        places: usize,
        then: TurnedAway,
    ) -> Vec<Place> {
        let caller = caller.into();
        let mut held = Vec::new();
        loop {
            match shares.take(job, &caller) {
                Ok(place) => held.push(place),
                Err(away) => {
                    assert_eq!((held.len(), away), (places, then));
                    return held;
                }
            }
        }
    }

    #[test]
    fn what_can_wait_leaves_room_for_what_is_urgent_and_that_for_codes() {
        let shares = shares(&[]);
        let other = TurnedAway::Reserved { waiting: 80 };
        let _bulk = check_fills(&shares, "a", &job(), 80, other);
        let other = TurnedAway::Reserved { waiting: 90 };
        let _urgent = check_fills(&shares, "a", &urgent(), 10, other);
        let full = TurnedAway::Full { waiting: 100 };
        let codes = check_fills(&shares, "a", &code(), 10, full);
        drop(codes);
        let _codes = check_fills(&shares, "a", &code(), 10, full);
    }

    #[test]
    fn codes_alone_may_fill_the_queue() {
        let full = TurnedAway::Full { waiting: 100 };
        check_fills(&shares(&[]), "a", &code(), 100, full);
    }

    #[test]
    fn a_caller_has_its_share_while_others_are_there_and_the_whole_queue_alone() {
        let together = shares(&["a", "b"]);
        let share = |waiting| TurnedAway::Share { waiting };
        let _a = check_fills(&together, "a", &job(), 40, share(40));
        let _a = check_fills(&together, "a", &code(), 10, share(50));
        // The first has stopped nobody.
        let _b = check_fills(
            &together,
            "b",
            &job(),
            30,
            TurnedAway::Reserved { waiting: 80 },
        );
        let _b = check_fills(&together, "b", &code(), 20, share(50));

        let alone = shares(&["a"]);
        let held = check_fills(
            &alone,
            "a",
            &job(),
            80,
            TurnedAway::Reserved { waiting: 80 },
        );
        // Somebody who was not known comes, finds nothing, and is there from now on.
        let away = alone.take(&job(), &"b".into()).err();
        assert_eq!(away, Some(TurnedAway::Reserved { waiting: 80 }));
        let away = alone.take(&code(), &"a".into()).err();
        assert_eq!(away, Some(share(80)));
        drop(held);
        check_fills(&alone, "a", &job(), 40, share(40));
    }

    #[test]
    fn a_caller_is_there_before_its_first_message_and_gone_with_its_last() {
        let shares = shares(&["a"]);
        let share = |waiting| TurnedAway::Share { waiting };
        let alone = TurnedAway::Reserved { waiting: 80 };
        shares.join("b");
        drop(check_fills(&shares, "a", &job(), 40, share(40)));
        shares.leave("b");
        drop(check_fills(&shares, "a", &job(), 80, alone));
        shares.join("b");
        let last = shares.take(&job(), &"b".into()).expect("there is room");
        shares.leave("b");
        drop(check_fills(&shares, "a", &job(), 40, share(40)));
        drop(last);
        drop(check_fills(&shares, "a", &job(), 80, alone));
        shares.leave("nobody");
    }

    #[test]
    fn what_is_found_at_the_start_keeps_its_place_beyond_every_bound() {
        let shares = shares(&["b"]);
        let mut held: Vec<_> = (0..130).map(|_| shares.keep(&"a".into())).collect();
        let away = |job: &Job| shares.take(job, &"b".into()).err();
        assert_eq!(away(&code()), Some(TurnedAway::Full { waiting: 130 }));
        held.truncate(99);
        assert_eq!(away(&job()), Some(TurnedAway::Reserved { waiting: 99 }));
        assert_eq!(away(&code()), None);
    }

    #[test]
    fn the_smallest_queue_and_the_smallest_share_hold_one() {
        let shares = Shares::new(&QueueConfig {
            capacity: 1,
            caller_percent: 1,
            callers: vec!["b".to_owned()],
            ..QueueConfig::default()
        });
        let share = TurnedAway::Share { waiting: 1 };
        check_fills(&shares, "a", &job(), 1, share);
    }
}
