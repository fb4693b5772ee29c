//! What one-time passwords promise, said once more and as simply as possible: a list of codes for
//! each phone and purpose, and lists of times. What a user is sent has subjects of its own beside the phones
//! (`factors`). It knows no rows, keys, versions or encodings.
//!
//! It is told of every commit in commit order and answers what must have come out. A commit that a
//! crash has undone is undone here as well: the whole model is kept from before it.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_types::{MessageId, UnixMillis};

use crate::news::Told;

pub(crate) const PURPOSES: [&str; 2] = ["verification", "change"];
pub(crate) const DIGITS: usize = 10;
/// How many addresses clients call from.
pub(crate) const ADDRESSES: usize = 2;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3_600);

const VALID: Duration = Duration::from_secs(600);
const SAME_CODE: Duration = Duration::from_secs(300);
const TRIES: usize = 5;
const SENDS: [(Duration, usize); 3] = [(MINUTE, 3), (HOUR, 10), (DAY, 50)];
pub(crate) const MISSES: [(Duration, usize); 2] = [(HOUR, 8), (DAY, 50)];
pub(crate) const ADDRESS_SENDS: [(Duration, usize); 2] = [(MINUTE, 3), (HOUR, 12)];

/// What came out of a commit, or must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A message was made for a code that ends then, and whether that code went out before.
    Sent { expires: UnixMillis, reused: bool },
    /// No message was made, for that reason.
    Refused(&'static str),
    /// The code was right.
    Approved,
    /// The code was not accepted, for that reason.
    Rejected(&'static str),
    /// Nothing but a try was counted, or not even that.
    Counted(usize),
    /// A dead message waits again.
    Replayed,
    /// What a provider has told was taken note of.
    Told,
    /// A user has a factor that they had not before.
    Enabled,
    /// A user has a secret for an app.
    AppPending,
    /// A user has new backup codes.
    NewCodes,
    /// A user has logged in, by that.
    LoggedIn(String),
    /// A user's code was not accepted.
    Missed,
    /// A user has no factor any more.
    Reset,
}

/// Which code: counted over all phones.
pub(crate) type CodeId = u32;

#[derive(Clone, Debug)]
struct Code {
    id: CodeId,
    expires: UnixMillis,
}

/// Codes that share one count of tries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    codes: Vec<Code>,
    pub(crate) tried: usize,
    pub(crate) used: bool,
}

impl Group {
    fn alive(&self, now: UnixMillis) -> impl Iterator<Item = &Code> {
        self.codes.iter().filter(move |code| code.expires > now)
    }

    /// Whether none of its codes can be answered any more, by their time.
    pub(crate) fn ended(&self, now: UnixMillis) -> bool {
        self.alive(now).next().is_none()
    }

    /// Whether its tries are used up.
    pub(crate) fn locked(&self) -> bool {
        self.tried >= TRIES
    }

    /// Whether one of its codes would be accepted.
    fn open(&self, now: UnixMillis) -> bool {
        !self.ended(now) && !self.used && !self.locked()
    }

    /// Its row was written: what has ended by then is gone, whatever the clock does later.
    fn written(&mut self, now: UnixMillis) {
        if self.ended(now) {
            *self = Group::default();
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Phone {
    sends: Vec<UnixMillis>,
    misses: Vec<UnixMillis>,
    pub(crate) groups: [Group; PURPOSES.len()],
}

impl Phone {
    /// Entries from after `now`, made before the clock was set back, count as made now.
    fn follow_clock_back(&mut self, now: UnixMillis) -> bool {
        let times = self.sends.iter_mut().chain(&mut self.misses);
        times.fold(false, |moved, time| {
            let later = *time > now;
            *time = now.min(*time);
            moved | later
        })
    }

    /// Its row was written: what no window looks at any more is gone.
    fn written(&mut self, now: UnixMillis) {
        let times = [&mut self.sends, &mut self.misses];
        for times in times {
            times.retain(|time| *time + DAY > now);
            let too_many = times.len().saturating_sub(50);
            times.drain(..too_many);
        }
        self.groups[0].written(now);
    }
}

impl Phone {
    /// The row of a purpose's challenge was written and nothing else: the times stay as they are, or
    /// go when the row's part that they are in has ended.
    fn counted(&mut self, purpose: usize, now: UnixMillis) {
        self.groups[purpose].written(now);
        let newest = self.sends.last().max(self.misses.last());
        if purpose == 0 && newest.is_some_and(|newest| *newest + DAY <= now) {
            self.sends.clear();
            self.misses.clear();
        }
    }
}

/// When there is room again, where there is none.
pub(crate) fn full(
    times: &[UnixMillis],
    limits: &[(Duration, usize)],
    now: UnixMillis,
) -> Option<UnixMillis> {
    let inside = |window: Duration, at: UnixMillis| {
        let inside = times.iter().filter(|time| **time + window > at);
        inside.count()
    };
    let full = limits
        .iter()
        .filter(|(window, max)| inside(*window, now) >= *max);
    full.filter_map(|(window, max)| {
        let leaving = times.iter().map(|time| *time + *window);
        leaving.filter(|at| inside(*window, *at) < *max).min()
    })
    .max()
}

/// A message that was made.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) phone: usize,
    /// `None`: it carries no code.
    pub(crate) code: Option<CodeId>,
    pub(crate) deadline: UnixMillis,
    /// When its code ends.
    pub(crate) end: UnixMillis,
    /// Since when it waits: its making, or its replay.
    pub(crate) since: UnixMillis,
    /// The event that says how it left the queue.
    pub(crate) ended: Option<String>,
}

/// Something that was taken from a window.
#[derive(Clone, Copy, Debug)]
struct Take {
    at: UnixMillis,
    /// As when it counts: where the clock was set back, not before what was taken earlier.
    counts: UnixMillis,
    /// Whether it has left the window since: it does not come back when the clock is set back.
    left: bool,
}

impl Take {
    /// Whether it may still stand in a window of that length, which may give its room back up to 2/63
    /// late.
    fn may_count(&self, length: Duration, now: UnixMillis) -> bool {
        self.counts + length + length / 31 > now
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) phones: BTreeMap<usize, Phone>,
    pub(crate) messages: BTreeMap<MessageId, Message>,
    /// What became of those that a provider took.
    pub(crate) told: Told,
    /// What each address has taken from each of its windows, in commit order.
    taken: BTreeMap<(usize, usize), Vec<Take>>,
    codes: CodeId,
}

impl Model {
    /// A send was committed. `refused_by_address`: it says that its address has sent too much, which
    /// is not for the phone to know.
    pub(crate) fn send(
        &mut self,
        (phone, purpose): (usize, usize),
        now: UnixMillis,
        refused_by_address: bool,
    ) -> Outcome {
        let codes = &mut self.codes;
        let phone = self.phones.entry(phone).or_default();
        let before = phone.clone();
        let set_back = phone.follow_clock_back(now);
        let sends = full(&phone.sends, &SENDS, now).map(|until| (until, "send-limit"));
        let misses = full(&phone.misses, &MISSES, now).map(|until| (until, "guessing-budget"));
        let reached = match (sends, misses) {
            (Some(sends), Some(misses)) if sends.0 > misses.0 => Some(sends),
            (sends, None) => sends,
            (_, misses) => misses,
        };
        if let Some((_, reason)) = reached {
            if set_back {
                phone.groups[0].written(now);
            } else {
                *phone = before;
            }
            return Outcome::Refused(reason);
        }
        if refused_by_address {
            *phone = before;
            return Outcome::Refused("address-limit");
        }
        phone.sends.push(now);
        phone.written(now);
        let group = &mut phone.groups[purpose];
        let newest = group.codes.last().map(|code| code.expires);
        if let Some(expires) = newest.filter(|end| group.open(now) && *end >= now + SAME_CODE) {
            return Outcome::Sent {
                expires,
                reused: true,
            };
        }
        if group.open(now) {
            group.codes.retain(|code| code.expires > now);
        } else {
            *group = Group::default();
        }
        *codes += 1;
        let expires = now + VALID;
        group.codes.push(Code {
            id: *codes,
            expires,
        });
        // The newest and the one that it replaced can be answered.
        let too_many = group.codes.len().saturating_sub(2);
        group.codes.drain(..too_many);
        Outcome::Sent {
            expires,
            reused: false,
        }
    }

    /// The code that a message of a send which was just committed carries.
    pub(crate) fn newest(&self, (phone, purpose): (usize, usize)) -> Option<CodeId> {
        let phone = self.phones.get(&phone)?;
        phone.groups[purpose].codes.last().map(|code| code.id)
    }

    /// A check was committed. `code`: what the user typed was this code; `None`: never a code.
    pub(crate) fn verify(
        &mut self,
        (phone, purpose): (usize, usize),
        now: UnixMillis,
        code: Option<CodeId>,
    ) -> Outcome {
        let phone = self.phones.entry(phone).or_default();
        let before = phone.clone();
        let set_back = phone.follow_clock_back(now);
        if full(&phone.misses, &MISSES, now).is_some() {
            if set_back {
                phone.groups[0].written(now);
            } else {
                *phone = before;
            }
            return Outcome::Rejected("guessing-budget");
        }
        let group = &mut phone.groups[purpose];
        if group.used || group.ended(now) {
            phone.written(now);
            return Outcome::Rejected("code");
        }
        if group.locked() {
            *phone = before;
            return Outcome::Rejected("locked");
        }
        group.tried += 1;
        let right = group.alive(now).any(|alive| Some(alive.id) == code);
        group.used = right;
        if right {
            phone.misses.clear();
        } else {
            phone.misses.push(now);
        }
        phone.written(now);
        match right {
            true => Outcome::Approved,
            false => Outcome::Rejected("code"),
        }
    }

    /// A call failed after a check: how many tries must be left of it, and nothing else.
    pub(crate) fn failed_check(&mut self, phone: usize, now: UnixMillis) -> Outcome {
        let phone = self.phones.entry(phone).or_default();
        let misses: Vec<_> = phone.misses.iter().map(|time| now.min(*time)).collect();
        let group = &mut phone.groups[0];
        if full(&misses, &MISSES, now).is_some() || !group.open(now) {
            return Outcome::Counted(0);
        }
        group.tried += 1;
        phone.counted(0, now);
        Outcome::Counted(1)
    }

    /// A try was counted afterwards, by itself.
    pub(crate) fn count(&mut self, (phone, purpose): (usize, usize), now: UnixMillis) {
        let phone = self.phones.entry(phone).or_default();
        phone.groups[purpose].tried += 1;
        phone.counted(purpose, now);
    }

    /// A row of a phone was swept away.
    pub(crate) fn swept(&mut self, phone: usize, purpose: usize) {
        let phone = self.phones.entry(phone).or_default();
        phone.groups[purpose] = Group::default();
        if purpose == 0 {
            phone.sends.clear();
            phone.misses.clear();
        }
    }

    /// A message is to be sent once more: it has as long as it had, but never longer than its code.
    /// Returns whether it may.
    pub(crate) fn replay(&mut self, message: MessageId, now: UnixMillis) -> bool {
        let Some(made) = self.messages.get_mut(&message) else {
            return false;
        };
        if made.ended.as_deref() != Some("message.failed") || now >= made.end {
            return false;
        }
        made.deadline = made.end.min(now + made.deadline.since(made.since));
        made.since = now;
        made.ended = None;
        true
    }

    /// An address has taken from its window. Returns the window where there is too much in it.
    pub(crate) fn take(
        &mut self,
        address: usize,
        window: usize,
        now: UnixMillis,
    ) -> Option<Duration> {
        let (length, max) = ADDRESS_SENDS[window];
        let times = self.taken.entry((address, window)).or_default();
        let earlier = times.iter().filter(|take| take.may_count(length, now));
        let counts = earlier.map(|take| take.counts).max();
        times.push(Take {
            at: now,
            counts: counts.map_or(now, |counts| counts.max(now)),
            left: false,
        });
        for take in times.iter_mut() {
            take.left |= take.at + length <= now;
        }
        let inside = times.iter().filter(|take| !take.left && take.at <= now);
        (inside.count() > max).then_some(length)
    }

    /// Whether an address may be told that it has sent too much: one of its windows is full.
    pub(crate) fn may_refuse(&self, address: usize, now: UnixMillis) -> bool {
        ADDRESS_SENDS
            .iter()
            .enumerate()
            .any(|(window, (length, max))| {
                let times = self.taken.get(&(address, window));
                let times = times.into_iter().flatten();
                let inside = times.filter(|take| take.may_count(*length, now));
                inside.count() >= *max
            })
    }

    /// The codes of a phone and purpose.
    pub(crate) fn group(&self, (phone, purpose): (usize, usize)) -> Group {
        let phone = self.phones.get(&phone);
        phone.map_or_else(Group::default, |phone| phone.groups[purpose].clone())
    }
}
