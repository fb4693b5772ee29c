//! `countersign:service/backup`: backup codes, which no component sees before they are typed.
//!
//! A set is the host's section of the component's row: for each code its selector and its hash. Used codes
//! stay in it, so that one that comes again is told from one that never was.

use std::sync::Arc;

use countersign_store::{Section, TransactionError};
use countersign_types::Secret;
use rand::Rng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::misses::{Caps, Misses};
use super::{Access, View, bounded, count};
use crate::backup_codes;
use crate::bindings::service::countersign::service::types::MissLimit;
use crate::bindings::two_factor::countersign::service::backup::{self, Host, SetStatus, Verdict};
use crate::call::{Run, misuse};
use crate::hashing::{Cost, Hashed, MEMORY_KIB, Outcome, PASSES, Place, SALT_BYTES, Task};
use crate::secrets::SecretValue;

const CHECKS_MAX: u32 = 4;
const CODES: std::ops::RangeInclusive<u8> = 1..=20;
const CODE_BYTES_MAX: usize = 64;

/// The format of the host's section; codes and authenticator apps have others.
const STATE: u32 = 3;

/// What one row holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Backups {
    set: Option<Vec<Code>>,
    misses: Misses,
}

/// One code of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Code {
    /// A PHC string of argon2id.
    Hashed {
        selector: String,
        hash: String,
        used: bool,
    },
    /// A bcrypt hash of another system: which code it is can only be found by trying.
    Moved { hash: String },
}

impl Code {
    fn used(&self) -> bool {
        matches!(self, Code::Hashed { used: true, .. })
    }

    /// What it cost, where it is one of ours.
    fn cost(&self) -> Option<Cost> {
        match self {
            Code::Hashed { hash, .. } => Cost::of(hash),
            Code::Moved { .. } => None,
        }
    }

    /// Whether it is one of ours whose hash begins so. All of a set are asked, and reading each hash whole
    /// would be time that tells who has a set.
    fn begins(&self, prefix: &str) -> bool {
        matches!(self, Code::Hashed { hash, .. } if hash.starts_with(prefix))
    }
}

impl Backups {
    fn from_section(section: &Section) -> Result<Backups, TransactionError> {
        let unreadable = || {
            let text = "what the host keeps in this row is no backup codes, or cannot be read";
            TransactionError::Misuse(text.to_owned())
        };
        if section.state != STATE {
            return Err(unreadable());
        }
        postcard::from_bytes(&section.value).map_err(|_| unreadable())
    }

    /// `None` where there is nothing to keep.
    fn to_section(&self) -> Option<Section> {
        if *self == Backups::default() {
            return None;
        }
        Some(Section {
            state: STATE,
            expires: None,
            // Serialising plain data into a `Vec` cannot fail.
            value: postcard::to_allocvec(self).unwrap_or_default(),
        })
    }

    fn codes(&self) -> &[Code] {
        self.set.as_deref().unwrap_or_default()
    }

    fn left(&self) -> u32 {
        // At most 20.
        self.codes().iter().filter(|code| !code.used()).count() as u32
    }
}

/// What a check works out. It follows from the set and not from what was typed, so that a hit takes as
/// long as a miss.
struct Plan {
    /// The one code that the typed one may be.
    candidate: Option<usize>,
    compare: Task,
    /// The codes of another system, with their places.
    moved: Vec<(usize, Task)>,
    /// What takes the place of a code whose hash is not what it would be now.
    renew: Option<Task>,
}

impl Plan {
    fn new(set: &[Code], typed: &str, now: Cost, salt: [u8; SALT_BYTES]) -> Plan {
        let text = backup_codes::typed(typed);
        let selector = backup_codes::selector(&text);
        let chosen = |wanted_used: bool| {
            set.iter().position(|code| match code {
                Code::Hashed {
                    selector: own,
                    used,
                    ..
                } => own == selector && *used == wanted_used,
                Code::Moved { .. } => false,
            })
        };
        let candidate = chosen(false).or_else(|| chosen(true));
        let hash = match candidate.and_then(|at| set.get(at)) {
            Some(Code::Hashed { hash, .. }) => hash.clone(),
            _ => set.iter().find_map(Code::cost).unwrap_or(now).of_nothing(),
        };
        let as_typed = || Zeroizing::new(typed.trim().to_owned());
        let moved: Vec<(usize, Task)> = set
            .iter()
            .enumerate()
            .filter_map(|(at, code)| match code {
                Code::Moved { hash } => {
                    let (hash, text) = (hash.clone(), as_typed());
                    Some((at, Task::CompareBcrypt { hash, text }))
                }
                Code::Hashed { .. } => None,
            })
            .collect();
        let current = now.prefix();
        let outdated = set
            .iter()
            .any(|code| !code.used() && !code.begins(&current));
        let renew = outdated.then(|| Task::Make {
            text: text.clone(),
            salt,
            cost: now,
        });
        Plan {
            candidate,
            compare: Task::Compare { phc: hash, text },
            moved,
            renew,
        }
    }

    fn tasks(&self) -> Vec<Task> {
        let moved = self.moved.iter().map(|(_, task)| task.clone());
        [self.compare.clone()]
            .into_iter()
            .chain(moved)
            .chain(self.renew.clone())
            .collect()
    }

    /// The place of the code that was typed.
    fn found(&self, hashed: &Hashed) -> Option<usize> {
        let candidate = self.candidate.filter(|_| hashed.same(&self.compare));
        let moved = self.moved.iter().find(|(_, task)| hashed.same(task));
        candidate.or(moved.map(|(at, _)| *at))
    }

    /// The used code that stays in the place of `code`.
    fn used(&self, hashed: &Hashed, code: &Code) -> Code {
        let Task::Compare { phc, text } = &self.compare else {
            return code.clone();
        };
        let renewed = self.renew.as_ref().and_then(|task| hashed.outcome(task));
        let hash = match (renewed, code) {
            (Some(Outcome::Made(hash)), _) => hash.clone(),
            (_, Code::Hashed { hash, .. }) => hash.clone(),
            _ => phc.clone(),
        };
        Code::Hashed {
            selector: backup_codes::selector(text).to_owned(),
            hash,
            used: true,
        }
    }
}

/// The component's wish, which must be within its bounds.
fn cost(cost: backup::Cost) -> wasmtime::Result<Cost> {
    if !MEMORY_KIB.contains(&cost.memory) || !PASSES.contains(&cost.passes) {
        return misuse("a hash must cost 1,024 to 262,144 KiB and 1 to 16 passes");
    }
    Ok(Cost {
        memory_kib: cost.memory,
        passes: cost.passes,
    })
}

impl View<'_> {
    async fn backups(&mut self, key: &[u8]) -> wasmtime::Result<Backups> {
        let section = match self.run.transaction.host(key).await {
            Ok(section) => section,
            Err(error) => return Err(self.run.failed(error)),
        };
        match section.as_ref().map(Backups::from_section).transpose() {
            Ok(backups) => Ok(backups.unwrap_or_default()),
            Err(error) => Err(self.run.failed(error)),
        }
    }

    async fn keep_backups(&mut self, key: &[u8], backups: &Backups) -> wasmtime::Result<()> {
        let section = backups.to_section();
        match self.run.transaction.set_host(key, section).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.run.failed(error)),
        }
    }

    /// A place for hashes; where there is none the call ends, and nothing was counted.
    async fn place(&mut self, tasks: &[Task]) -> wasmtime::Result<Place> {
        let Run {
            host,
            kept,
            context,
            ..
        } = &*self.run;
        let place = host.hashing.place(&context.caller, &kept.hashed, tasks);
        match place.await {
            Ok(place) => Ok(place),
            Err(_) => {
                self.run.busy = true;
                misuse("too many hashes are waiting to be worked out")
            }
        }
    }

    async fn hash(&mut self, place: Place, tasks: Vec<Task>) -> wasmtime::Result<()> {
        let Run { host, kept, .. } = &mut *self.run;
        let worked = host.hashing.work(place, &mut kept.hashed, tasks);
        if worked.await.is_err() {
            self.run.busy = true;
            return misuse("a hash could not be worked out");
        }
        Ok(())
    }

    fn salt(&mut self) -> [u8; SALT_BYTES] {
        let mut salt = [0; SALT_BYTES];
        self.run.random.fill_bytes(&mut salt);
        salt
    }
}

impl Host for Access<'_> {
    async fn status(&mut self, key: String, limits: Vec<MissLimit>) -> wasmtime::Result<SetStatus> {
        let mut view = self.view()?;
        let key = view.key(&key)?;
        let caps = Caps::new(&limits)?;
        let now = view.run.transaction.instant();
        let backups = view.backups(&key).await?;
        Ok(SetStatus {
            left: backups.set.is_some().then(|| backups.left()),
            locked: backups.misses.locked(&caps, now).map(|until| until.0),
        })
    }

    async fn issue(&mut self, key: String, codes: u8, cost: backup::Cost) -> wasmtime::Result<u32> {
        let mut view = self.view()?;
        view.may_write()?;
        let key = view.key(&key)?;
        let cost = self::cost(cost)?;
        if !CODES.contains(&codes) {
            return misuse(format!("a set of {codes} codes; 1 to 20 are allowed"));
        }
        let mut backups = view.backups(&key).await?;
        let drawn = backup_codes::draw(codes, &mut view.run.random);
        let tasks: Vec<Task> = drawn
            .iter()
            .map(|text| Task::Make {
                text: text.clone(),
                salt: view.salt(),
                cost,
            })
            .collect();
        let place = view.place(&tasks).await?;
        view.hash(place, tasks.clone()).await?;
        let hashed = drawn.iter().zip(&tasks).filter_map(|(code, task)| {
            let Some(Outcome::Made(hash)) = view.run.kept.hashed.outcome(task) else {
                return None;
            };
            Some(Code::Hashed {
                selector: backup_codes::selector(code).to_owned(),
                hash: hash.clone(),
                used: false,
            })
        });
        backups.set = Some(hashed.collect());
        view.keep_backups(&key, &backups).await?;
        let shown = drawn
            .iter()
            .map(|code| Secret::new(backup_codes::shown(code)));
        let shown = SecretValue::BackupCodes(shown.collect());
        view.run.secrets.put(shown)
    }

    async fn check(
        &mut self,
        key: String,
        code: String,
        cost: backup::Cost,
        limits: Vec<MissLimit>,
    ) -> wasmtime::Result<Verdict> {
        let mut view = self.view()?;
        view.may_write()?;
        let key = view.key(&key)?;
        bounded("a code", &code, 0, CODE_BYTES_MAX)?;
        let caps = Caps::new(&limits)?;
        let cost = self::cost(cost)?;
        count("checks", &mut view.run.used.backup_checks, CHECKS_MAX)?;
        let now = view.run.transaction.instant();
        let mut backups = view.backups(&key).await?;
        if let Some(until) = backups.misses.locked(&caps, now) {
            return Ok(Verdict::Locked(until.0));
        }
        let salt = view.salt();
        let plan = Plan::new(backups.codes(), &code, cost, salt);
        // Before anything is counted: who is turned away has not been looked at.
        let place = view.place(&plan.tasks()).await?;
        backups.misses.add(&caps, now);
        let recount = {
            let caps = caps.clone();
            Arc::new(move |section: &Section| {
                let mut backups = Backups::from_section(section).ok()?;
                backups.misses.add(&caps, now);
                backups.to_section()
            })
        };
        let counted = match view.run.transaction.host(&key).await {
            Ok(Some(_)) => view.run.transaction.count(&key, recount).await,
            // There is nothing that somebody could find by guessing; it is counted so that nobody finds
            // that out.
            Ok(None) => {
                let section = backups.to_section();
                view.run.transaction.set_host(&key, section).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = counted {
            return Err(view.run.failed(error));
        }
        view.hash(place, plan.tasks()).await?;
        let left = backups.misses.left(&caps, now);
        let Some(at) = plan.found(&view.run.kept.hashed) else {
            return Ok(Verdict::Wrong(left));
        };
        let Some(found) = backups.set.as_mut().and_then(|set| set.get_mut(at)) else {
            return Ok(Verdict::Wrong(left));
        };
        if found.used() {
            return Ok(Verdict::Used(left));
        }
        *found = plan.used(&view.run.kept.hashed, found);
        backups.misses.clear();
        view.keep_backups(&key, &backups).await?;
        Ok(Verdict::Accepted(backups.left()))
    }

    async fn adopt(&mut self, key: String, secret: u32) -> wasmtime::Result<()> {
        let mut view = self.view()?;
        view.may_write()?;
        let key = view.key(&key)?;
        let Some(SecretValue::MovedBackupCodes(hashes)) = view.run.secrets.get(secret) else {
            return misuse("no hashes of backup codes have this handle");
        };
        let moved = hashes.iter().map(|hash| Code::Moved { hash: hash.clone() });
        let set = moved.collect();
        let mut backups = view.backups(&key).await?;
        backups.set = Some(set);
        view.keep_backups(&key, &backups).await
    }

    async fn unlock(&mut self, key: String) -> wasmtime::Result<()> {
        let mut view = self.view()?;
        view.may_write()?;
        let key = view.key(&key)?;
        let mut backups = view.backups(&key).await?;
        backups.misses.clear();
        view.keep_backups(&key, &backups).await
    }

    async fn remove(&mut self, key: String) -> wasmtime::Result<()> {
        let mut view = self.view()?;
        view.may_write()?;
        let key = view.key(&key)?;
        view.backups(&key).await?;
        view.keep_backups(&key, &Backups::default()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Caller;

    const NOW: Cost = Cost {
        memory_kib: 19_456,
        passes: 2,
    };
    const OLD: Cost = Cost {
        memory_kib: 4_096,
        passes: 1,
    };

    fn hashed(selector: &str, cost: Cost, used: bool) -> Code {
        Code::Hashed {
            selector: selector.to_owned(),
            hash: cost.of_nothing(),
            used,
        }
    }

    fn plan(set: &[Code], typed: &str) -> Plan {
        Plan::new(set, typed, NOW, [0; SALT_BYTES])
    }

    #[test]
    fn r24_a_check_costs_one_hash_hit_or_miss_whatever_the_set() {
        let set = [hashed("ABC", NOW, false), hashed("XYZ", NOW, true)];
        for (set, typed, candidate) in [
            (&set[..], "abc-defg", Some(0)),
            (&set[..], "XYZ2", Some(1)),
            (&set[..], "QQQ", None),
            (&set[..], "", None),
            (&[], "ABC", None),
        ] {
            let plan = plan(set, typed);
            assert_eq!(plan.candidate, candidate, "{typed}");
            let [Task::Compare { phc, .. }] = &plan.tasks()[..] else {
                panic!("one comparison");
            };
            assert_eq!(Cost::of(phc), Some(NOW));
        }
    }

    #[test]
    fn a_set_of_another_cost_takes_one_hash_more_hit_or_miss() {
        let set = [hashed("ABC", OLD, false), hashed("XYZ", OLD, false)];
        for typed in ["ABC2", "QQQ"] {
            let tasks = plan(&set, typed).tasks();
            let [Task::Compare { phc, .. }, Task::Make { cost, .. }] = &tasks[..] else {
                panic!("a comparison of the old cost, and a new hash");
            };
            assert_eq!((Cost::of(phc), *cost), (Some(OLD), NOW));
        }
        let spent = [hashed("ABC", OLD, true), hashed("XYZ", NOW, false)];
        assert_eq!(plan(&spent, "ABC2").tasks().len(), 1);
    }

    #[test]
    fn hashes_of_another_system_are_each_compared_once_hit_or_miss() {
        let moved = |hash: &str| Code::Moved {
            hash: hash.to_owned(),
        };
        let set = [moved("$2b$a"), hashed("A1B", NOW, true), moved("$2b$b")];
        for typed in ["A1B2C3D4", "a1b2 "] {
            let plan = plan(&set, typed);
            let tasks = plan.tasks();
            assert_eq!(tasks.len(), 4, "argon2id, two bcrypt, and the new hash");
            let places: Vec<usize> = plan.moved.iter().map(|(at, _)| *at).collect();
            assert_eq!(places, [0, 2]);
            let Task::CompareBcrypt { text, .. } = &plan.moved[0].1 else {
                panic!("bcrypt");
            };
            assert_eq!(text.as_str(), typed.trim(), "as it was typed there");
        }
    }

    #[tokio::test]
    async fn a_used_code_stays_with_a_hash_of_todays_cost() {
        let now = Cost {
            memory_kib: 2_048,
            passes: 1,
        };
        let bcrypt = "$2b$04$abcdefghijklmnopqrstuu4dIiD04wpJwpE4x/3HmD00YYMYa3462";
        let set = [Code::Moved {
            hash: bcrypt.to_owned(),
        }];
        let plan = Plan::new(&set, " A1B2C3D4", now, [9; SALT_BYTES]);
        let (hashing, mut hashed) = (crate::hashing::Hashing::new(1, 0), Hashed::default());
        let place = hashing
            .place(&Caller::Operator, &hashed, &plan.tasks())
            .await
            .expect("free");
        let worked = hashing.work(place, &mut hashed, plan.tasks()).await;
        worked.expect("worked out");
        assert_eq!(plan.found(&hashed), Some(0));
        let used = plan.used(&hashed, &set[0]);
        let Code::Hashed {
            hash, used: true, ..
        } = &used
        else {
            panic!("{used:?}");
        };
        assert_eq!(Cost::of(hash), Some(now));
        // It is known again, and not as one that is good.
        let again = [used];
        let plan = Plan::new(&again, "a1b2-c3d4", now, [1; SALT_BYTES]);
        let place = hashing
            .place(&Caller::Operator, &hashed, &plan.tasks())
            .await
            .expect("free");
        let worked = hashing.work(place, &mut hashed, plan.tasks()).await;
        worked.expect("worked out");
        assert_eq!(plan.found(&hashed), Some(0));
        assert!(again[0].used());
    }

    #[test]
    fn of_two_codes_with_one_selector_the_unused_one_is_meant() {
        let set = [hashed("ABC", NOW, true), hashed("ABC", NOW, false)];
        assert_eq!(plan(&set, "ABC2").candidate, Some(1));
    }
}
