//! What two-factor promises, said once more and as simply as possible: what each user has, which codes of
//! theirs are used up, and when codes were wrong.
//!
//! Secrets of apps and sets of backup codes are named by the calls that made them: what they say is known
//! to nobody but whoever was told.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_lc_rs::hmac;
use countersign_types::UnixMillis;

use crate::model::full;
use crate::process::PHONES;

/// The ids that the application has for its users.
pub(crate) const USERS: [&str; 2] = ["user-1", "user-2"];
/// What codes of theirs are for, as otp calls it.
pub(crate) const USER_PURPOSES: [&str; 2] = ["login", "enrolment"];
/// The first of them.
pub(crate) const LOGIN: usize = 0;
/// The second.
pub(crate) const ENROLMENT: usize = 1;
/// Stands in for the number of a user who has none.
pub(crate) const NOBODY: &str = "+12025550100";
/// How many backup codes there are in a set: as few as are enough, since each takes a hash.
pub(crate) const BACKUP_CODES: u64 = 2;
/// How long a proof of a factor is good for.
pub(crate) const PROOF_VALID: Duration = Duration::from_secs(300);
/// How many digits an app's code has.
pub(crate) const APP_DIGITS: usize = 6;

const STEP_MS: u64 = 30_000;
const CAPS: [(Duration, usize); 2] = [
    (Duration::from_secs(900), 5),
    (Duration::from_secs(24 * 3_600), 30),
];

/// The subject of a user's codes: behind the phones, which are subjects of the public ones. `phone`:
/// `None` for the number that stands in for one.
pub(crate) fn subject(user: usize, phone: Option<usize>, purpose: usize) -> usize {
    let phone = phone.unwrap_or(PHONES.len());
    let users = (user * (PHONES.len() + 1) + phone) * USER_PURPOSES.len();
    PHONES.len() + users + purpose
}

/// The names of the rows of all subjects, in order: `index` and `user` are the keyed hashes of a number and
/// of a user's id.
pub(crate) fn subjects(
    index: impl Fn(&str) -> String,
    user: impl Fn(&str) -> String,
) -> Vec<String> {
    let mut rows = PHONES
        .map(|phone| format!("p/default/{}", index(phone)))
        .to_vec();
    for user in USERS.map(user) {
        for phone in PHONES.into_iter().chain([NOBODY]) {
            let index = index(phone);
            let purposes = USER_PURPOSES.iter();
            rows.extend(purposes.map(|purpose| format!("u/default/{user}/{index}/{purpose}")));
        }
    }
    rows
}

/// The step of an app's codes that `now` is in.
pub(crate) fn step_at(now: UnixMillis) -> u64 {
    now.0 / STEP_MS
}

/// The code that an app shows (RFC 4226, section 5.3).
pub(crate) fn app_code(secret: &[u8], step: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[19] & 15);
    let word = tag[at..at + 4]
        .iter()
        .fold(0, |word, byte| word << 8 | u32::from(*byte));
    format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
}

/// The steps around `now` whose code is `typed`.
pub(crate) fn steps_of(secret: &[u8], typed: &str, now: UnixMillis) -> Vec<u64> {
    let present = step_at(now);
    let around = present.saturating_sub(1)..=present + 1;
    around
        .filter(|step| app_code(secret, *step) == typed)
        .collect()
}

/// When codes were wrong, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Misses(Vec<UnixMillis>);

impl Misses {
    pub(crate) fn locked(&self, now: UnixMillis) -> bool {
        full(&self.0, &CAPS, now).is_some()
    }

    /// One more. Those of after `now` were made before the clock was set back.
    pub(crate) fn add(&mut self, now: UnixMillis) {
        let [_, (longest, most)] = CAPS;
        self.0.iter_mut().for_each(|time| *time = now.min(*time));
        self.0.push(now);
        self.0.retain(|time| *time + longest > now);
        self.0.drain(..self.0.len().saturating_sub(most));
    }
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    Accepted,
    Wrong,
    /// Right once, and used up.
    Used,
    /// Not to be looked at.
    Locked,
}

/// A phone that a code was sent to.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) phone: usize,
    /// Whether the user had shown a factor for it.
    pub(crate) proven: bool,
}

/// An authenticator app.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) secret: u32,
    /// The last step that was accepted.
    last: Option<u64>,
}

/// What a user has.
#[derive(Clone, Debug, Default)]
pub(crate) struct User {
    pub(crate) phone: Option<usize>,
    pub(crate) pending: Option<Pending>,
    pub(crate) app: Option<App>,
    /// A secret that is to be confirmed, and whether the user had shown a factor for it.
    pub(crate) pending_app: Option<(u32, bool)>,
    /// The present set, and those of it that are used.
    pub(crate) backup: Option<(u32, BTreeSet<usize>)>,
    /// When a factor or the set was replaced last: what was proven before counts no more.
    pub(crate) changed: Option<UnixMillis>,
    pub(crate) app_misses: Misses,
    pub(crate) pending_misses: Misses,
    pub(crate) backup_misses: Misses,
}

impl User {
    pub(crate) fn has_factor(&self) -> bool {
        self.phone.is_some() || self.app.is_some()
    }

    /// A factor or the set was replaced.
    pub(crate) fn has_changed(&mut self, now: UnixMillis) {
        self.changed = Some(now);
        if let Some(pending) = &mut self.pending {
            pending.proven = false;
        }
        if let Some((_, proven)) = &mut self.pending_app {
            *proven = false;
        }
    }

    /// A code of the app was checked that is right for `steps`.
    pub(crate) fn check_app(&mut self, now: UnixMillis, steps: &[u64]) -> Tried {
        if self.app_misses.locked(now) {
            return Tried::Locked;
        }
        self.app_misses.add(now);
        let Some(app) = self.app.as_mut().filter(|_| !steps.is_empty()) else {
            return Tried::Wrong;
        };
        let fresh = steps
            .iter()
            .filter(|step| app.last.is_none_or(|last| **step > last));
        let Some(step) = fresh.max() else {
            return Tried::Used;
        };
        app.last = Some(*step);
        self.app_misses = Misses::default();
        Tried::Accepted
    }

    /// The first code of a pending app was checked, which is right for `steps`.
    pub(crate) fn confirm_app(&mut self, now: UnixMillis, steps: &[u64]) -> Tried {
        if self.pending_misses.locked(now) {
            return Tried::Locked;
        }
        self.pending_misses.add(now);
        let (Some(step), Some((secret, _))) = (steps.iter().max(), self.pending_app) else {
            return Tried::Wrong;
        };
        self.app = Some(App {
            secret,
            last: Some(*step),
        });
        self.pending_app = None;
        self.app_misses = Misses::default();
        self.pending_misses = Misses::default();
        Tried::Accepted
    }

    /// A backup code was checked: that of a set, at a place in it, or of none.
    pub(crate) fn check_backup(&mut self, now: UnixMillis, code: Option<(u32, usize)>) -> Tried {
        if self.backup_misses.locked(now) {
            return Tried::Locked;
        }
        self.backup_misses.add(now);
        let (Some((own, used)), Some((set, at))) = (&mut self.backup, code) else {
            return Tried::Wrong;
        };
        if *own != set {
            return Tried::Wrong;
        }
        if !used.insert(at) {
            return Tried::Used;
        }
        self.backup_misses = Misses::default();
        Tried::Accepted
    }
}
