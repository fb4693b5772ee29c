//! Password hashes: off the threads that answer, and only so many at once.
//!
//! A hash takes some 30 ms and 19 MiB, so it runs on a thread where waiting harms nobody, beside at most
//! [`Limits::hashes`](crate::Limits::hashes) of its like. Who finds too many waiting is turned away at
//! once, and so is a caller who has half of the places where one may wait. A run that is thrown away does not lose its hashes: [`Hashed`] is kept for the call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::call::Caller;

/// The memory that one hash may take, in KiB.
pub(crate) const MEMORY_KIB: std::ops::RangeInclusive<u32> = 1_024..=262_144;
/// Passes over that memory.
pub(crate) const PASSES: std::ops::RangeInclusive<u32> = 1..=16;
pub(crate) const SALT_BYTES: usize = 16;

/// What one argon2id hash costs, with one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) memory_kib: u32,
    pub(crate) passes: u32,
}

impl Cost {
    /// The cost that a stored hash had.
    pub(crate) fn of(phc: &str) -> Option<Cost> {
        let params = Params::try_from(&PasswordHash::new(phc).ok()?).ok()?;
        Some(Cost {
            memory_kib: params.m_cost(),
            passes: params.t_cost(),
        })
    }

    /// How every stored hash of this cost begins.
    pub(crate) fn prefix(self) -> String {
        let Cost { memory_kib, passes } = self;
        format!("$argon2id$v=19$m={memory_kib},t={passes},p=1$")
    }

    /// A stored hash of this cost that no text has.
    pub(crate) fn of_nothing(self) -> String {
        let (salt, hash) = ("A".repeat(22), "A".repeat(43));
        format!("{}{salt}${hash}", self.prefix())
    }

    fn argon2(self) -> Result<Argon2<'static>, Failed> {
        let params = Params::new(self.memory_kib, self.passes, 1, None).map_err(|_| Failed)?;
        Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
    }
}

/// One hash to be worked out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Task {
    /// Whether `text` is what the argon2id hash `phc` was made of.
    Compare {
        phc: String,
        text: Zeroizing<String>,
    },
    /// Whether `text` is what the bcrypt hash `hash` was made of.
    CompareBcrypt {
        hash: String,
        text: Zeroizing<String>,
    },
    /// The argon2id hash of `text`, as it may be stored.
    Make {
        text: Zeroizing<String>,
        salt: [u8; SALT_BYTES],
        cost: Cost,
    },
}

/// What a [`Task`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Of a comparison.
    Same(bool),
    /// A PHC string.
    Made(String),
}

/// A hash could not be worked out: there was no memory for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

impl Task {
    fn work(&self) -> Result<Outcome, Failed> {
        match self {
            Task::Compare { phc, text } => {
                let hash = PasswordHash::new(phc).map_err(|_| Failed)?;
                match Argon2::default().verify_password(text.as_bytes(), &hash) {
                    Ok(()) => Ok(Outcome::Same(true)),
                    Err(argon2::password_hash::Error::PasswordInvalid) => Ok(Outcome::Same(false)),
                    Err(_) => Err(Failed),
                }
            }
            Task::CompareBcrypt { hash, text } => {
                let same = bcrypt::verify(text.as_bytes(), hash);
                same.map(Outcome::Same).map_err(|_| Failed)
            }
            Task::Make { text, salt, cost } => {
                let made = cost
                    .argon2()?
                    .hash_password_with_salt(text.as_bytes(), salt);
                let made = made.map_err(|_| Failed)?;
                Ok(Outcome::Made(made.to_string()))
            }
        }
    }
}

/// What has been worked out for a call: a few dozen hashes at most.
#[derive(Default)]
pub(crate) struct Hashed(Vec<(Task, Outcome)>);

impl Hashed {
    pub(crate) fn outcome(&self, task: &Task) -> Option<&Outcome> {
        let known = self.0.iter().find(|(known, _)| known == task);
        known.map(|(_, outcome)| outcome)
    }

    /// Whether a comparison was made and held.
    pub(crate) fn same(&self, task: &Task) -> bool {
        self.outcome(task) == Some(&Outcome::Same(true))
    }
}

/// The threads for hashes.
pub(crate) struct Hashing {
    /// Whether the calling thread does it itself.
    here: bool,
    running: Arc<Semaphore>,
    /// Those that run and those that wait.
    inside: Arc<Semaphore>,
    /// How many of these each caller has, and may have.
    callers: Arc<Mutex<HashMap<Caller, usize>>>,
    share: usize,
    done: Arc<AtomicU64>,
}

/// The place of one caller among those that run and those that wait.
struct Inside {
    callers: Arc<Mutex<HashMap<Caller, usize>>>,
    caller: Caller,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut callers = lock(&self.callers);
        if let Some(has) = callers.get_mut(&self.caller) {
            *has -= 1;
            if *has == 0 {
                callers.remove(&self.caller);
            }
        }
    }
}

fn lock(callers: &Mutex<HashMap<Caller, usize>>) -> MutexGuard<'_, HashMap<Caller, usize>> {
    callers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Too many wait, or too many of one caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// A place on one of the threads; none is needed where nothing is left to be worked out.
pub(crate) struct Place(Option<(Inside, OwnedSemaphorePermit)>);

impl Hashing {
    /// `hashes` at once, `waiting` more may wait, of one caller half of them.
    pub(crate) fn new(hashes: usize, waiting: usize) -> Hashing {
        Hashing {
            here: false,
            running: Arc::new(Semaphore::new(hashes)),
            inside: Arc::new(Semaphore::new(hashes + waiting)),
            callers: Arc::default(),
            share: hashes + waiting.div_ceil(2),
            done: Arc::default(),
        }
    }

    /// The same on the thread that asks: for a simulation, where no other thread may have a say in what
    /// comes first.
    pub(crate) fn here(hashes: usize, waiting: usize) -> Hashing {
        Hashing {
            here: true,
            ..Hashing::new(hashes, waiting)
        }
    }

    /// How many hashes have been worked out.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits for a place for `tasks` of `caller`.
    pub(crate) async fn place(
        &self,
        caller: &Caller,
        hashed: &Hashed,
        tasks: &[Task],
    ) -> Result<Place, Full> {
        if tasks.iter().all(|task| hashed.outcome(task).is_some()) {
            return Ok(Place(None));
        }
        let inside = self.enter(caller.in_line())?;
        let running = self
            .running
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Full)?;
        Ok(Place(Some((inside, running))))
    }

    fn enter(&self, caller: Caller) -> Result<Inside, Full> {
        let permit = self.inside.clone().try_acquire_owned().map_err(|_| Full)?;
        let mut callers = lock(&self.callers);
        let has = callers.get(&caller).copied().unwrap_or(0);
        if has >= self.share {
            return Err(Full);
        }
        callers.insert(caller.clone(), has + 1);
        Ok(Inside {
            callers: self.callers.clone(),
            caller,
            _permit: permit,
        })
    }

    /// Works out what of `tasks` is not in `hashed` yet. To be dropped half-way: the thread goes on and
    /// keeps its place until it is done.
    pub(crate) async fn work(
        &self,
        place: Place,
        hashed: &mut Hashed,
        tasks: Vec<Task>,
    ) -> Result<(), Failed> {
        let Place(Some(place)) = place else {
            return Ok(());
        };
        let missing: Vec<Task> = tasks
            .into_iter()
            .filter(|task| hashed.outcome(task).is_none())
            .collect();
        let done = self.done.clone();
        let work = move || {
            let _place = place;
            let mut outcomes = Vec::with_capacity(missing.len());
            for task in missing {
                let outcome = task.work()?;
                done.fetch_add(1, Ordering::Relaxed);
                outcomes.push((task, outcome));
            }
            Ok(outcomes)
        };
        let outcomes: Result<Vec<_>, Failed> = if self.here {
            // Others go on meanwhile.
            tokio::task::yield_now().await;
            work()
        } else {
            tokio::task::spawn_blocking(work)
                .await
                .map_err(|_| Failed)?
        };
        hashed.0.extend(outcomes?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const COST: Cost = Cost {
        memory_kib: 1_024,
        passes: 1,
    };

    fn text(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    fn make(text: &str) -> Task {
        Task::Make {
            text: self::text(text),
            salt: [7; SALT_BYTES],
            cost: COST,
        }
    }

    async fn work(hashing: &Hashing, hashed: &mut Hashed, tasks: Vec<Task>) {
        let place = hashing
            .place(&Caller::Anonymous, hashed, &tasks)
            .await
            .expect("a place");
        hashing.work(place, hashed, tasks).await.expect("done");
    }

    #[tokio::test]
    async fn a_hash_says_what_it_cost_and_compares_with_its_text_alone() {
        let (hashing, mut hashed) = (Hashing::new(1, 0), Hashed::default());
        work(&hashing, &mut hashed, vec![make("right")]).await;
        let Some(Outcome::Made(phc)) = hashed.outcome(&make("right")).cloned() else {
            panic!("made");
        };
        assert_eq!(COST.prefix(), "$argon2id$v=19$m=1024,t=1,p=1$");
        assert!(phc.starts_with(&COST.prefix()), "{phc}");
        assert_eq!(Cost::of(&phc), Some(COST));
        let compare = |phc: &str, text: &str| Task::Compare {
            phc: phc.to_owned(),
            text: self::text(text),
        };
        let nothing = COST.of_nothing();
        assert_eq!(Cost::of(&nothing), Some(COST));
        let tasks = [
            compare(&phc, "right"),
            compare(&phc, "wrong"),
            compare(&nothing, "right"),
        ];
        work(&hashing, &mut hashed, tasks.to_vec()).await;
        let same: Vec<bool> = tasks.iter().map(|task| hashed.same(task)).collect();
        assert_eq!(same, [true, false, false]);
    }

    #[tokio::test]
    async fn a_bcrypt_hash_of_another_system_compares() {
        // Made of `A1B2C3D4` by libxcrypt.
        for hash in [
            "$2b$04$abcdefghijklmnopqrstuu4dIiD04wpJwpE4x/3HmD00YYMYa3462",
            "$2a$05$abcdefghijklmnopqrstuuBDjJA7TqVa5tMAZiBZc7D3wCC7xPhvu",
        ] {
            let compare = |text: &str| Task::CompareBcrypt {
                hash: hash.to_owned(),
                text: self::text(text),
            };
            let (hashing, mut hashed) = (Hashing::new(1, 0), Hashed::default());
            let tasks = vec![compare("A1B2C3D4"), compare("A1B2C3D5")];
            work(&hashing, &mut hashed, tasks.clone()).await;
            assert!(hashed.same(&tasks[0]) && !hashed.same(&tasks[1]));
        }
    }

    #[tokio::test]
    async fn what_was_worked_out_is_not_worked_out_again_and_needs_no_place() {
        let (hashing, mut hashed) = (Hashing::new(1, 0), Hashed::default());
        work(&hashing, &mut hashed, vec![make("a"), make("b")]).await;
        assert_eq!(hashing.done(), 2);
        let tasks = [make("c")];
        let _busy = hashing
            .place(&Caller::Anonymous, &hashed, &tasks)
            .await
            .expect("a place");
        work(&hashing, &mut hashed, vec![make("b"), make("a")]).await;
        assert_eq!(hashing.done(), 2);
    }

    #[tokio::test]
    async fn more_than_may_wait_are_turned_away_at_once() {
        let (hashing, hashed) = (Hashing::new(1, 1), Hashed::default());
        let tasks = [make("a")];
        let first = hashing
            .place(&Caller::Anonymous, &hashed, &tasks)
            .await
            .expect("a place");
        let mut second = Box::pin(hashing.place(&Caller::Anonymous, &hashed, &tasks));
        assert!(second.as_mut().now_or_never().is_none(), "it waits");
        let third = hashing
            .place(&Caller::Anonymous, &hashed, &tasks)
            .now_or_never();
        assert!(matches!(third, Some(Err(Full))));
        drop(first);
        assert!(second.await.is_ok());
    }

    #[tokio::test]
    async fn no_caller_has_more_than_half_of_the_waiting_places() {
        let (hashing, hashed) = (Hashing::new(1, 4), Hashed::default());
        let tasks = [make("a")];
        let key = |id: &str| Caller::Key(id.to_owned());
        let place = |caller: Caller| {
            let (hashing, hashed, tasks) = (&hashing, &hashed, &tasks);
            Box::pin(async move { hashing.place(&caller, hashed, tasks).await })
        };
        let mut running = place(key("busy")).await.ok();
        let mut waiting: Vec<_> = (0..2).map(|_| place(key("busy"))).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none(), "it waits");
        }
        let refused = place(key("busy")).now_or_never();
        assert!(matches!(refused, Some(Err(Full))), "it has half of them");
        let mut other = place(key("other"));
        assert!((&mut other).now_or_never().is_none(), "it waits");
        // Who goes away or is done makes room for their own.
        waiting.pop();
        let mut next = place(key("busy"));
        assert!((&mut next).now_or_never().is_none(), "it waits");
        drop((running.take(), waiting, next));
        assert!(other.await.is_ok());
        assert!(lock(&hashing.callers).is_empty());
    }
}
