//! Who goes next: the order of the jobs in memory. Nothing here waits or touches the disk.
//!
//! A job stands in the *lane* of the provider whose turn it is, so that one provider that takes no
//! more keeps nobody waiting who wants another. In a lane priorities are strict; within one, callers
//! take turns; of one caller the job goes first that has been due for longest.
//!
//! What is promised to somebody is by the wall clock: deadlines, and the time before which whoever
//! made a message does not want it sent. What only paces this process is by the monotonic one: how
//! long a claim holds, and how long a message pauses after a failed try. So a clock that is set on
//! ends no claim, and one that is set back lets no message wait for it to catch up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use countersign_types::{MessageId, MonotonicMillis, Priority, UnixMillis};

use crate::drain::Drain;
use crate::{Gate, Job, Reservation};

/// The provider whose turn it is; `None`: no route leads anywhere.
pub(crate) type Lane = Option<Arc<str>>;

/// What both clocks show at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) wall: UnixMillis,
    pub(crate) monotonic: MonotonicMillis,
}

/// What the order knows of a job.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    /// Since when it may be sent, or from when on; of one caller's jobs the earliest goes first.
    pub(crate) due: UnixMillis,
    pub(crate) deadline: UnixMillis,
    pub(crate) since: UnixMillis,
    pub(crate) priority: Priority,
    pub(crate) caller: Arc<str>,
    pub(crate) lane: Lane,
}

impl Ticket {
    pub(crate) fn new(job: &Job, lane: Lane) -> Ticket {
        Ticket {
            due: job.due,
            deadline: job.deadline,
            since: job.since(),
            priority: job.priority,
            caller: job.caller.as_str().into(),
            lane,
        }
    }
}

/// The hold of one claim on its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which job it is.
    pub id: MessageId,
    /// When somebody else may take it.
    pub until: MonotonicMillis,
    /// No two claims have the same.
    pub(crate) number: u64,
}

#[derive(Debug)]
struct Held {
    ticket: Ticket,
    /// Free for another job when this one is over. The order does not need it to be there.
    _place: Option<Reservation>,
    phase: Phase,
}

/// What keeps a job from its lane.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    /// It is not to be sent before its `due`.
    Due,
    /// It pauses until then.
    Pause(MonotonicMillis),
}

impl Wait {
    /// Nothing does.
    pub(crate) const NONE: Wait = Wait::Pause(MonotonicMillis(0));
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Later(Wait),
    Ready,
    Claimed(Lease),
}

/// What [`Order::take`] found.
pub(crate) enum Next<P> {
    /// A job with its pass, or without one where its time is over.
    Job(Lease, Option<P>),
    /// Nothing for so long, unless something happens.
    Nothing(Option<Duration>),
}

/// All jobs that are not over.
#[derive(Debug, Default)]
pub(crate) struct Order {
    jobs: HashMap<MessageId, Held>,
    /// Not due yet, by time.
    later: BTreeSet<(UnixMillis, MessageId)>,
    /// When pauses end.
    pauses: BTreeSet<(MonotonicMillis, MessageId)>,
    /// Due, by lane.
    lanes: BTreeMap<Lane, LaneOrder>,
    /// When waiting jobs end.
    deadlines: BTreeSet<(UnixMillis, MessageId)>,
    /// When claims end.
    leases: BTreeSet<(MonotonicMillis, MessageId)>,
    /// Since when each has been waiting.
    ages: BTreeSet<(UnixMillis, MessageId)>,
    by_priority: [usize; 3],
    claims: u64,
    taken: u64,
}

#[derive(Debug, Default)]
struct LaneOrder {
    levels: [Level; 3],
    drain: Drain,
    /// When it was last taken from: lanes take turns as well.
    served: u64,
}

/// The due jobs of one priority in one lane.
#[derive(Debug, Default)]
struct Level {
    /// Whose turn it is, the lowest number first.
    turns: BTreeMap<u64, Arc<str>>,
    callers: HashMap<Arc<str>, CallersJobs>,
    jobs: usize,
    next_turn: u64,
}

#[derive(Debug)]
struct CallersJobs {
    turn: u64,
    jobs: BTreeSet<(UnixMillis, MessageId)>,
}

fn level(priority: Priority) -> usize {
    match priority {
        Priority::Urgent => 0,
        Priority::Normal => 1,
        Priority::Bulk => 2,
    }
}

impl Level {
    fn add(&mut self, caller: &Arc<str>, due: UnixMillis, id: MessageId) {
        self.jobs += 1;
        let turn = self.next_turn;
        let jobs = self.callers.entry(caller.clone()).or_insert_with(|| {
            self.next_turn += 1;
            self.turns.insert(turn, caller.clone());
            CallersJobs {
                turn,
                jobs: BTreeSet::new(),
            }
        });
        jobs.jobs.insert((due, id));
    }

    fn remove(&mut self, caller: &Arc<str>, due: UnixMillis, id: MessageId) {
        let Some(jobs) = self.callers.get_mut(caller) else {
            return;
        };
        if jobs.jobs.remove(&(due, id)) {
            self.jobs -= 1;
        }
        if jobs.jobs.is_empty() {
            self.turns.remove(&jobs.turn);
            self.callers.remove(caller);
        }
    }

    fn pop(&mut self) -> Option<MessageId> {
        let (_, caller) = self.turns.pop_first()?;
        let jobs = self.callers.get_mut(&caller)?;
        let (_, id) = jobs.jobs.pop_first()?;
        self.jobs -= 1;
        if jobs.jobs.is_empty() {
            self.callers.remove(&caller);
        } else {
            jobs.turn = self.next_turn;
            self.turns.insert(self.next_turn, caller);
            self.next_turn += 1;
        }
        Some(id)
    }

    /// How many jobs at least leave before a further one of `caller`: of each other one as many as
    /// take turns with its own.
    fn before(&self, caller: &str) -> usize {
        let own = self.callers.get(caller).map_or(0, |jobs| jobs.jobs.len());
        let others = self.callers.iter().filter(|(name, _)| &***name != caller);
        own + others
            .map(|(_, jobs)| jobs.jobs.len().min(own))
            .sum::<usize>()
    }
}

impl LaneOrder {
    fn jobs(&self) -> usize {
        self.levels.iter().map(|level| level.jobs).sum()
    }

    fn first_level(&self) -> Option<usize> {
        self.levels.iter().position(|level| level.jobs > 0)
    }
}

impl Order {
    /// How many jobs are not over.
    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// How many of each priority are not over, the most urgent first.
    pub(crate) fn by_priority(&self) -> [usize; 3] {
        self.by_priority
    }

    /// How many somebody works on.
    pub(crate) fn claimed(&self) -> usize {
        self.leases.len()
    }

    /// Since when the oldest has been waiting.
    pub(crate) fn oldest(&self) -> Option<UnixMillis> {
        self.ages.first().map(|(since, _)| *since)
    }

    /// Adds a job that waits for `wait`.
    pub(crate) fn add(
        &mut self,
        id: MessageId,
        ticket: Ticket,
        wait: Wait,
        place: Option<Reservation>,
    ) {
        self.remove(id);
        self.by_priority[level(ticket.priority)] += 1;
        self.ages.insert((ticket.since, id));
        let held = Held {
            ticket,
            _place: place,
            phase: Phase::Ready,
        };
        self.jobs.insert(id, held);
        self.wait(id, wait);
    }

    /// Lets a job wait that stands in no line.
    fn wait(&mut self, id: MessageId, wait: Wait) {
        let Some(held) = self.jobs.get_mut(&id) else {
            return;
        };
        held.phase = Phase::Later(wait);
        match wait {
            Wait::Due => self.later.insert((held.ticket.due, id)),
            Wait::Pause(until) => self.pauses.insert((until, id)),
        };
        self.deadlines.insert((held.ticket.deadline, id));
    }

    fn remove(&mut self, id: MessageId) {
        let Some(held) = self.jobs.remove(&id) else {
            return;
        };
        self.withdraw(id, &held.ticket, held.phase);
        self.by_priority[level(held.ticket.priority)] -= 1;
        self.ages.remove(&(held.ticket.since, id));
    }

    /// Takes a job out of whatever line it stands in.
    fn withdraw(&mut self, id: MessageId, ticket: &Ticket, phase: Phase) {
        match phase {
            Phase::Later(Wait::Due) => {
                self.later.remove(&(ticket.due, id));
            }
            Phase::Later(Wait::Pause(until)) => {
                self.pauses.remove(&(until, id));
            }
            Phase::Ready => {
                if let Some(lane) = self.lanes.get_mut(&ticket.lane) {
                    let level = &mut lane.levels[level(ticket.priority)];
                    level.remove(&ticket.caller, ticket.due, id);
                }
            }
            Phase::Claimed(lease) => {
                self.leases.remove(&(lease.until, id));
            }
        }
        self.deadlines.remove(&(ticket.deadline, id));
    }

    /// Claims `id`, whatever it waits for; `None` where it does not wait here, or somebody works on it.
    pub(crate) fn claim_waiting(&mut self, id: MessageId, until: MonotonicMillis) -> Option<Lease> {
        match self.jobs.get(&id)?.phase {
            Phase::Claimed(_) => None,
            Phase::Later(_) | Phase::Ready => Some(self.claim(id, until)),
        }
    }

    /// Whether `lease` still holds its job.
    pub(crate) fn holds(&self, lease: Lease) -> bool {
        let phase = self.jobs.get(&lease.id).map(|held| held.phase);
        matches!(phase, Some(Phase::Claimed(held)) if held.number == lease.number)
    }

    /// Lets `lease` hold until `until`; `false` where it no longer does.
    pub(crate) fn renew(&mut self, lease: &mut Lease, until: MonotonicMillis) -> bool {
        if !self.holds(*lease) {
            return false;
        }
        if let Some(held) = self.jobs.get_mut(&lease.id) {
            if let Phase::Claimed(old) = held.phase {
                self.leases.remove(&(old.until, lease.id));
            }
            lease.until = until;
            held.phase = Phase::Claimed(*lease);
            self.leases.insert((until, lease.id));
        }
        true
    }

    /// Ends `lease`; its job is over.
    pub(crate) fn forget(&mut self, lease: Lease) {
        if self.holds(lease) {
            self.remove(lease.id);
        }
    }

    /// Ends `lease`; its job waits again, until `until`, as `change` leaves it.
    pub(crate) fn put_back(
        &mut self,
        lease: Lease,
        until: MonotonicMillis,
        change: impl FnOnce(&mut Ticket),
    ) {
        if !self.holds(lease) {
            return;
        }
        if let Some(held) = self.jobs.get_mut(&lease.id) {
            if let Phase::Claimed(held) = held.phase {
                self.leases.remove(&(held.until, lease.id));
            }
            change(&mut held.ticket);
        }
        self.wait(lease.id, Wait::Pause(until));
    }

    /// Lets everything wait in its lane that has become due, and what lost claims have held.
    fn advance(&mut self, now: Now) {
        while let Some(&(until, id)) = self.leases.first()
            && until <= now.monotonic
        {
            self.leases.pop_first();
            self.wait(id, Wait::NONE);
        }
        while let Some(&(until, id)) = self.pauses.first()
            && until <= now.monotonic
        {
            self.pauses.pop_first();
            self.enter_lane(id, now);
        }
        while let Some(&(due, id)) = self.later.first()
            && due <= now.wall
        {
            self.later.pop_first();
            self.enter_lane(id, now);
        }
    }

    fn enter_lane(&mut self, id: MessageId, now: Now) {
        let Some(held) = self.jobs.get_mut(&id) else {
            return;
        };
        held.phase = Phase::Ready;
        let ticket = &held.ticket;
        let lane = self.lanes.entry(ticket.lane.clone()).or_default();
        lane.drain.look(now.monotonic, lane.jobs());
        lane.levels[level(ticket.priority)].add(&ticket.caller, ticket.due, id);
    }

    /// Claims the job that goes next: first those whose time is over, which need no pass; then of the
    /// lanes that `gate` lets through the most urgent job.
    pub(crate) fn take<G: Gate>(&mut self, now: Now, lease: Duration, gate: &G) -> Next<G::Pass> {
        self.advance(now);
        let until = now.monotonic + lease;
        if let Some(&(deadline, id)) = self.deadlines.first()
            && deadline <= now.wall
        {
            return Next::Job(self.claim(id, until), None);
        }
        let mut wait = self.next_event(now);
        let mut lanes: Vec<_> = self
            .lanes
            .iter()
            .filter_map(|(name, lane)| Some((lane.first_level()?, lane.served, name.clone())))
            .collect();
        lanes.sort_unstable();
        for (level, _, name) in lanes {
            let pass = match gate.pass(name.as_deref(), now.monotonic) {
                Ok(pass) => pass,
                Err(rest) => {
                    wait = wait.into_iter().chain(rest).min();
                    continue;
                }
            };
            self.taken += 1;
            let lane = self.lanes.get_mut(&name);
            let id = lane.and_then(|lane| {
                lane.served = self.taken;
                lane.drain.look(now.monotonic, lane.jobs());
                let id = lane.levels[level].pop();
                lane.drain.taken(lane.jobs());
                id
            });
            if let Some(id) = id {
                return Next::Job(self.claim(id, until), Some(pass));
            }
        }
        Next::Nothing(wait)
    }

    /// How long it is until the first thing happens by itself.
    fn next_event(&self, now: Now) -> Option<Duration> {
        let by_wall = [&self.later, &self.deadlines];
        let by_wall = by_wall.into_iter().filter_map(|times| times.first());
        let monotonic = [&self.pauses, &self.leases];
        let monotonic = monotonic.into_iter().filter_map(|times| times.first());
        by_wall
            .map(|(time, _)| time.since(now.wall))
            .chain(monotonic.map(|(time, _)| time.since(now.monotonic)))
            .min()
    }

    fn claim(&mut self, id: MessageId, until: MonotonicMillis) -> Lease {
        self.claims += 1;
        let lease = Lease {
            id,
            until,
            number: self.claims,
        };
        if let Some(held) = self.jobs.get_mut(&id) {
            let (ticket, phase) = (held.ticket.clone(), held.phase);
            held.phase = Phase::Claimed(lease);
            self.withdraw(id, &ticket, phase);
            self.leases.insert((until, id));
        }
        lease
    }

    /// Whether a new job with `ticket` could not leave before its deadline, by what its lane has
    /// shown to be able to; then how many go before it.
    pub(crate) fn too_late(&self, ticket: &Ticket, now: Now) -> Option<usize> {
        let lane = self.lanes.get(&ticket.lane)?;
        let time_left = ticket.deadline.since(now.wall.max(ticket.due));
        let now = now.monotonic;
        let level = level(ticket.priority);
        let urgent: usize = lane.levels[..level].iter().map(|level| level.jobs).sum();
        // Whoever fits behind all of them needs no closer look.
        let at_most = urgent + lane.levels[level].jobs;
        if !lane.drain.cannot(at_most, time_left, now) {
            return None;
        }
        let before = urgent + lane.levels[level].before(&ticket.caller);
        lane.drain.cannot(before, time_left, now).then_some(before)
    }
}

#[cfg(test)]
mod tests;
