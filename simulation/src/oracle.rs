//! Watches the seams and compares what happens with what may happen.
//!
//! Every commit is told here in commit order, with the call that made it; so are answers, and what
//! providers were handed. The [`Model`] says what must come out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_store::committer::{Batch, Rows};
use countersign_store::{Commit, Committed, Row, StoredEvent};
use countersign_types::{Clock, Event, MessageId, UnixMillis};

use crate::Kind;
use crate::disk::Disk;
use crate::model::{ADDRESSES, CodeId, DIGITS, Message, Model, Outcome, PURPOSES};
use crate::plant::is_job;
use crate::store::text;
use crate::world::World;

tokio::task_local! {
    /// The call that the present task makes.
    pub(crate) static CALL: Arc<Call>;
}

/// A call of a client.
#[derive(Debug)]
pub(crate) struct Call {
    /// Counts from 1, over all lives.
    pub(crate) id: u32,
    pub(crate) op: Op,
    /// What the clock showed when it began, and how often it had been set back.
    pub(crate) began: UnixMillis,
    pub(crate) set_backs: usize,
}

/// What a client wants.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A code for a phone and purpose.
    Send {
        about: (usize, usize),
        address: Option<usize>,
    },
    /// To have a code checked.
    Verify { about: (usize, usize), code: String },
    /// The same through a component that fails afterwards.
    VerifyAndFail { phone: usize, code: String },
    /// A message without a code.
    Notice { phone: usize, deadline: UnixMillis },
}

/// What a client was told.
#[derive(Debug)]
pub(crate) enum Answer {
    Sent {
        message: MessageId,
        expires: UnixMillis,
    },
    /// The text of the refusal.
    Refused(String),
    Accepted,
    /// The text of the rejection.
    Rejected(String),
    /// It is on its way.
    Noticed(MessageId),
    /// The component failed, with its reason.
    Failed(String),
    /// Nothing was decided, or nobody knows: busy, full, or the store failed.
    Nothing,
}

/// A commit that was admitted, as it was asked for.
pub(crate) struct Record {
    pub(crate) call: Option<Arc<Call>>,
    pub(crate) commit: Commit,
}

/// What comes and goes with the commits.
#[derive(Clone, Default)]
struct Truth {
    model: Model,
    /// Every row, as it must be on the disk.
    rows: BTreeMap<Vec<u8>, Row>,
    outcomes: BTreeMap<u32, (Outcome, Option<MessageId>)>,
    /// How many of the events there are.
    events: usize,
}

struct State {
    truth: Truth,
    /// As it was before each group that is not durable yet, with the group's number, oldest first.
    unsynced: VecDeque<(u64, Truth)>,
    events: Vec<Vec<u8>>,
    acknowledged: Vec<u32>,
    handed: BTreeMap<MessageId, Handed>,
    /// Codes as providers have seen them.
    codes: BTreeMap<String, CodeId>,
    /// Codes that have reached their phone, oldest first.
    received: Vec<((usize, usize), String)>,
    calls: u32,
    indexes: Vec<String>,
}

/// What providers were handed of one message. A crash changes nothing of it.
#[derive(Default)]
struct Handed {
    code: Option<String>,
    /// Requests that have not been answered, for ever where the process crashed.
    open: usize,
    /// Requests after which somebody may have the message.
    maybe_sent: usize,
    accepted: usize,
    /// Answers in this life that nobody knew the outcome of.
    unknown: usize,
}

pub(crate) struct Oracle {
    world: Arc<World>,
    state: Mutex<State>,
}

/// A message is resent for an unknown outcome until there were three requests.
const UNKNOWN_MAX: usize = 3;
/// A clock that goes back by less is waited out.
const STEP_FOLLOWED: Duration = Duration::from_secs(5);

impl Oracle {
    /// `indexes`: the keyed hash of each phone.
    pub(crate) fn new(world: &Arc<World>, indexes: Vec<String>) -> Oracle {
        Oracle {
            world: world.clone(),
            state: Mutex::new(State {
                truth: Truth::default(),
                unsynced: VecDeque::new(),
                events: Vec::new(),
                acknowledged: Vec::new(),
                handed: BTreeMap::new(),
                codes: BTreeMap::new(),
                received: Vec::new(),
                calls: 0,
                indexes,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that begins now.
    pub(crate) fn call(&self, op: Op) -> Arc<Call> {
        let mut state = self.state();
        state.calls += 1;
        Arc::new(Call {
            id: state.calls,
            op,
            began: self.world.now(),
            set_backs: self.world.set_backs(),
        })
    }

    /// Codes that have reached a phone for a purpose, oldest first.
    pub(crate) fn received(&self, about: (usize, usize)) -> Vec<String> {
        let state = self.state();
        let here = state.received.iter().filter(|(to, _)| *to == about);
        here.map(|(_, code)| code.clone()).collect()
    }

    /// A group of commits was applied: visible, not durable. `number`: the disk's, where it wrote
    /// anything.
    pub(crate) fn applied(
        &self,
        records: &[(Record, Committed)],
        batch: &Batch,
        number: Option<u64>,
    ) {
        let mut state = self.state();
        let state = &mut *state;
        if let Some(number) = number {
            let before = state.truth.clone();
            state.unsynced.push_back((number, before));
            if state.unsynced.len() > 1 {
                self.world.mark("two groups in flight");
            }
        }
        for (record, committed) in records {
            if let Err((kind, text)) = state.commit(&self.world, record, *committed, batch) {
                return self.world.violation(kind, text);
            }
        }
        if let Err((kind, text)) = state.rows(&self.world, batch) {
            self.world.violation(kind, text);
        }
    }

    /// The group `number` is durable, says the store, and all before it.
    pub(crate) fn synced(&self, number: u64) {
        self.state().unsynced.retain(|(n, _)| *n > number);
    }

    /// The process is gone, and with it the group `first_lost` and all after it, where there is one.
    pub(crate) fn crashed(&self, first_lost: Option<u64>) {
        let mut state = self.state();
        let unsynced = std::mem::take(&mut state.unsynced);
        let in_flight = unsynced.len();
        let mut lost = unsynced
            .into_iter()
            .filter(|(number, _)| first_lost.is_some_and(|first| *number >= first))
            .map(|(_, before)| before);
        let before = lost.next();
        self.world.mark(match (&before, lost.count() + 1) {
            (None, _) => "a crash that loses nothing",
            (Some(_), lost) if lost < in_flight => "a crash that loses the second of two groups",
            (Some(_), 2..) => "a crash that loses two groups",
            (Some(_), _) => "a crash that loses a group",
        });
        if let Some(before) = before {
            state.truth = before;
            let events = state.truth.events;
            state.events.truncate(events);
        }
        for handed in state.handed.values_mut() {
            handed.unknown = 0;
        }
    }

    /// A process starts with this disk: all that was acknowledged must be on it.
    pub(crate) fn opened(&self, disk: &Disk) {
        let state = self.state();
        for call in &state.acknowledged {
            if !state.truth.outcomes.contains_key(call) {
                let text = format!("call {call} was answered and is not durable");
                return self.world.violation(Kind::LostAcknowledgement, text);
            }
        }
        for (key, row) in &state.truth.rows {
            let found = disk.get(key).ok().flatten();
            let found = found.and_then(|bytes| Row::from_bytes(key, &bytes).ok());
            if found.as_ref() != Some(row) {
                let text = format!("{} is not as it was when it was durable", text(key));
                return self.world.violation(Kind::LostAcknowledgement, text);
            }
        }
    }

    /// A client has its answer.
    pub(crate) fn answered(&self, call: &Call, answer: &Answer) {
        self.world
            .step(format_args!("call {}: {answer:?}", call.id));
        let mut state = self.state();
        if let Err((kind, text)) = state.answered(call, answer) {
            self.world.violation(kind, text);
        }
    }

    /// A provider is handed a message.
    pub(crate) fn handed(&self, message: &countersign_types::Message) {
        if let Err((kind, text)) = self.state().handed(self.world.now(), message) {
            self.world.violation(kind, text);
        }
    }

    /// What became of what was handed over: whether somebody may have the message, whether the
    /// provider says that it took it, and whether it says that it does not know.
    pub(crate) fn outcome(
        &self,
        message: &countersign_types::Message,
        maybe_sent: bool,
        accepted: bool,
        unknown: bool,
    ) {
        let mut state = self.state();
        let State {
            handed,
            truth,
            received,
            ..
        } = &mut *state;
        let Some(handed) = handed.get_mut(&message.id) else {
            return;
        };
        handed.open -= 1;
        handed.maybe_sent += usize::from(maybe_sent);
        handed.accepted += usize::from(accepted);
        handed.unknown += usize::from(unknown);
        if let (true, Some(code), Some(made)) = (
            maybe_sent,
            &handed.code,
            truth.model.messages.get(&message.id),
        ) {
            let purpose = PURPOSES.iter().position(|name| *name == message.purpose);
            let about = (made.phone, purpose.unwrap_or(0));
            received.push((about, code.clone()));
        }
        let (unknown, id) = (handed.unknown, message.id);
        if unknown > UNKNOWN_MAX {
            let text = format!("{id} had {unknown} requests of unknown outcome");
            self.world.violation(Kind::TooManyRequests, text);
        }
    }

    /// The end of a seed: every message has come to its end, every event is in its place.
    pub(crate) fn ended(&self, disk: &Disk, events: &[StoredEvent]) {
        let state = self.state();
        let broken = |kind, text| self.world.violation(kind, text);
        for (id, message) in &state.truth.model.messages {
            let Some(ended) = &message.ended else {
                return broken(Kind::JobWithoutRow, format!("{id} never came to an end"));
            };
            let handed = state.handed.get(id);
            let accepted = handed.map_or(0, |handed| handed.accepted);
            if ended == "message.sent" && accepted == 0 {
                let text = format!("{id} ended as {ended}, and no provider took it");
                return broken(Kind::WrongAnswer, text);
            }
        }
        if let Some((key, _)) = disk.all().iter().find(|(key, _)| is_job(key)) {
            return broken(Kind::RowWithoutJob, format!("{} is left over", text(key)));
        }
        let stored = events.iter().map(|event| &event.event);
        if !stored.eq(&state.events)
            || !events
                .iter()
                .map(|event| event.position)
                .eq(1..=state.events.len() as u64)
        {
            broken(
                Kind::Events,
                format!(
                    "{} events stored, {} committed",
                    events.len(),
                    state.events.len()
                ),
            );
        }
    }
}

type Broken = (Kind, String);

fn broken<T>(kind: Kind, text: String) -> Result<T, Broken> {
    Err((kind, text))
}

/// What a crash cannot undo any more.
fn durable<'a>(truth: &'a Truth, unsynced: &'a VecDeque<(u64, Truth)>) -> &'a Truth {
    unsynced.front().map_or(truth, |(_, before)| before)
}

impl State {
    fn commit(
        &mut self,
        world: &World,
        Record { call, commit }: &Record,
        committed: Committed,
        batch: &Batch,
    ) -> Result<(), Broken> {
        let now = commit.instant;
        // What a run has read is still what there is, or what it writes undoes somebody's commit.
        for read in &commit.reads {
            let there = self.truth.rows.get(&read.key);
            let seen = there.filter(|row| !row.body.expired(now));
            if seen.map(|row| row.version) != read.version {
                let text = format!("{} was read before it was changed", text(&read.key));
                return broken(Kind::LostUpdate, text);
            }
        }
        let events: Vec<Event> = commit
            .events
            .iter()
            .filter_map(|event| postcard::from_bytes(event).ok())
            .collect();
        if let Some(call) = call {
            self.instant(world, call, now)?;
            self.client_commit(world, call, commit, &events, batch)?;
        }
        for event in &events {
            self.message_event(world, event)?;
        }
        if let Some(version) = committed.version {
            for write in &commit.writes {
                match &write.body {
                    None => self.truth.rows.remove(&write.key),
                    Some(body) => self.truth.rows.insert(
                        write.key.clone(),
                        Row {
                            version,
                            body: body.clone(),
                        },
                    ),
                };
            }
        }
        self.events.extend(commit.events.iter().cloned());
        self.truth.events = self.events.len();
        Ok(())
    }

    /// A run's instant is never before the clock, and not after it by more than is waited out.
    fn instant(&self, world: &World, call: &Call, now: UnixMillis) -> Result<(), Broken> {
        let least = world.least_since(call.began, call.set_backs);
        if now < least {
            let text = format!("call {} ran at {}, before {}", call.id, now.0, least.0);
            return broken(Kind::WrongInstant, text);
        }
        let clock = world.now();
        if world.set_backs() == call.set_backs && now > clock + STEP_FOLLOWED {
            let text = format!(
                "call {} ran at {}, the clock shows {}",
                call.id, now.0, clock.0
            );
            return broken(Kind::WrongInstant, text);
        }
        Ok(())
    }

    fn client_commit(
        &mut self,
        world: &World,
        call: &Call,
        commit: &Commit,
        events: &[Event],
        batch: &Batch,
    ) -> Result<(), Broken> {
        let now = commit.instant;
        let id = call.id;
        let attribute = |event: &Event, name: &str| {
            let value = event.attributes.iter().find(|(known, _)| known == name);
            value.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let before = match &call.op {
            Op::Send { about, .. } | Op::Verify { about, .. } => self.truth.model.group(*about),
            Op::VerifyAndFail { phone, .. } | Op::Notice { phone, .. } => {
                self.truth.model.group((*phone, 0))
            }
        };
        let model = &mut self.truth.model;
        let wrote = |key: String| {
            let key = format!("c/otp/p/default/{key}");
            commit
                .writes
                .iter()
                .any(|write| write.key == key.as_bytes())
        };
        let event = events.first();
        let mut message = None;
        let (want, about) = match &call.op {
            Op::Notice { phone, deadline } => {
                let made = commit.writes.iter().find_map(|write| job_id(&write.key));
                let Some(made) = made else {
                    return broken(Kind::WrongAnswer, format!("call {id} made no job"));
                };
                let notice = Message {
                    phone: *phone,
                    code: None,
                    deadline: *deadline,
                    ended: None,
                };
                model.messages.insert(made, notice);
                let outcome = Outcome::Sent {
                    expires: *deadline,
                    reused: false,
                };
                self.truth.outcomes.insert(id, (outcome, Some(made)));
                return Ok(());
            }
            Op::VerifyAndFail { phone, .. } => {
                let row = format!("c/otp/p/default/{}", self.indexes[*phone]);
                if !commit.reads.iter().any(|read| read.key == row.as_bytes()) {
                    // It was cut off before it came to the check.
                    return Ok(());
                }
                let found = Outcome::Counted(usize::from(wrote(self.indexes[*phone].clone())));
                let want = model.failed_check(*phone, now);
                if found == Outcome::Counted(1) && want == Outcome::Counted(0) {
                    // One too many keeps the promise: when no run of the call could be committed, its
                    // try is counted whatever others have made of the challenge.
                    model.count((*phone, 0), now);
                } else if found != want || event.is_some() {
                    let text = format!("call {id} failed: {found:?}, and {want:?} was to be");
                    return broken(Kind::UncountedTry, text);
                }
                if want == Outcome::Counted(1) {
                    world.mark("a try counted though the call failed");
                }
                self.truth.outcomes.insert(id, (want, None));
                return Ok(());
            }
            // A run that failed: it leaves nothing.
            Op::Send { .. } if event.is_none() && commit.writes.is_empty() => return Ok(()),
            Op::Send { about, address } => {
                for take in &commit.takes {
                    let window = usize::from(take.window_ms != 60_000);
                    if let Some(length) = address.and_then(|at| model.take(at, window, now)) {
                        let text = format!("call {id}: too many sends of an address in {length:?}");
                        return broken(Kind::LimitExceeded, text);
                    }
                }
                let by_address =
                    event.is_some_and(|event| attribute(event, "reason") == "address-limit");
                if by_address && !address.is_some_and(|at| model.may_refuse(at, now)) {
                    let text = format!("call {id}: refused for an address that has room");
                    return broken(Kind::WrongAnswer, text);
                }
                (model.send(*about, now, by_address), *about)
            }
            Op::Verify { about, code } => {
                let Some(_) = event else {
                    // A try that was counted when none of the call's runs could be committed.
                    let index = &self.indexes[about.0];
                    let challenge = match about.1 {
                        0 => index.clone(),
                        other => format!("{index}/{}", PURPOSES[other]),
                    };
                    if wrote(challenge) {
                        world.mark("a try counted afterwards");
                        model.count(*about, now);
                    }
                    return Ok(());
                };
                let want = model.verify(*about, now, self.codes.get(code).copied());
                let found = event.map(|event| event.kind.as_str());
                // Told apart here, where it is known what was to be.
                if found == Some("verification.approved") && want != Outcome::Approved {
                    let kind = match want {
                        _ if before.used => Kind::DoubleUse,
                        Outcome::Rejected("locked" | "guessing-budget") => Kind::UncountedTry,
                        _ => Kind::ExpiredCode,
                    };
                    let text = format!("call {id}: {code} was accepted; {want:?}, {before:?}");
                    return broken(kind, text);
                }
                (want, *about)
            }
        };
        let Some(event) = event else {
            return broken(
                Kind::WrongAnswer,
                format!("call {id} has no event; {want:?}"),
            );
        };
        let reason = attribute(event, "reason");
        let reason = [
            "send-limit",
            "guessing-budget",
            "address-limit",
            "code",
            "locked",
        ]
        .into_iter()
        .find(|known| *known == reason)
        .unwrap_or("none");
        let found = match event.kind.as_str() {
            "verification.sent" => {
                message = event.message;
                let expires = match want {
                    Outcome::Sent { expires, .. } => expires,
                    _ => UnixMillis(0),
                };
                Outcome::Sent {
                    expires,
                    reused: attribute(event, "reused") == "true",
                }
            }
            "verification.refused" => Outcome::Refused(reason),
            "verification.approved" => Outcome::Approved,
            _ => Outcome::Rejected(reason),
        };
        if found != want {
            let kind = match (&found, &want) {
                (Outcome::Sent { .. }, Outcome::Refused(_)) => Kind::LimitExceeded,
                // The code of a challenge that is used up, or locked, went out again.
                (Outcome::Sent { reused: true, .. }, _) if before.used => Kind::DoubleUse,
                (Outcome::Sent { reused: true, .. }, _) if before.locked() => Kind::UncountedTry,
                (Outcome::Rejected("code"), Outcome::Rejected(_)) => Kind::UncountedTry,
                (Outcome::Rejected("locked"), _) if before.used => Kind::DoubleUse,
                _ => Kind::WrongAnswer,
            };
            let text = format!("call {id}: {found:?}, and {want:?} was to be");
            return broken(kind, text);
        }
        if let (Outcome::Sent { expires, .. }, Some(made)) = (&want, message) {
            let there = |wanted: &[u8]| {
                let mut written = batch.iter();
                written.any(|(key, row)| key == wanted && row.is_some())
            };
            if !there(&[b"j/", made.0.as_slice()].concat()) {
                return broken(Kind::JobWithoutRow, format!("{made} has no row"));
            }
            if let Some(missing) = commit.writes.iter().find(|write| !there(&write.key)) {
                let text = format!("{made} has a row, {} was not written", text(&missing.key));
                return broken(Kind::RowWithoutJob, text);
            }
            let new = Message {
                phone: about.0,
                code: model.newest(about),
                deadline: *expires,
                ended: None,
            };
            model.messages.insert(made, new);
        }
        world.mark(match &want {
            Outcome::Sent { reused: true, .. } => "a code sent again",
            Outcome::Sent { .. } if !before.ended(now) => "a code that replaces another",
            Outcome::Sent { .. } => "a code sent",
            Outcome::Refused(reason) | Outcome::Rejected(reason) => reason,
            Outcome::Approved => "a code accepted",
            Outcome::Counted(_) => "a try counted",
        });
        self.truth.outcomes.insert(id, (want, message));
        Ok(())
    }

    fn message_event(&mut self, world: &World, event: &Event) -> Result<(), Broken> {
        let ends = [
            "message.sent",
            "message.failed",
            "message.expired",
            "message.unknown",
        ];
        let Some(end) = ends.into_iter().find(|end| *end == event.kind) else {
            return Ok(());
        };
        world.mark(end);
        let id = event.message.unwrap_or(MessageId([0; 16]));
        let Some(message) = self.truth.model.messages.get_mut(&id) else {
            return broken(Kind::RowWithoutJob, format!("{id} ends and was never made"));
        };
        match message.ended.replace(event.kind.clone()) {
            None => Ok(()),
            Some(before) => broken(
                Kind::SentTwice,
                format!("{id} ended as {before} and as {}", event.kind),
            ),
        }
    }

    /// Compares what was written with what was made, and learns what was swept away.
    fn rows(&mut self, world: &World, batch: &Batch) -> Result<(), Broken> {
        for (key, row) in batch {
            if let Some(id) = job_id(key).filter(|_| row.is_some())
                && self
                    .truth
                    .model
                    .messages
                    .get(&id)
                    .is_none_or(|made| made.ended.is_some())
            {
                return broken(
                    Kind::RowWithoutJob,
                    format!("{id} has a row and was never made"),
                );
            }
            if key.starts_with(b"!") {
                continue;
            }
            match row.as_ref().map(|bytes| Row::from_bytes(key, bytes)) {
                Some(Ok(row)) => {
                    self.truth.rows.insert(key.clone(), row);
                }
                Some(Err(error)) => return broken(Kind::WrongAnswer, error.to_string()),
                // Still there for all that was committed: it was swept.
                None if self.truth.rows.remove(key).is_some() => {
                    if let Some((phone, purpose)) = self.challenge(key) {
                        world.mark("a phone's row swept");
                        self.truth.model.swept(phone, purpose);
                    }
                }
                None => {}
            }
        }
        Ok(())
    }

    fn challenge(&self, key: &[u8]) -> Option<(usize, usize)> {
        let rest = std::str::from_utf8(key)
            .ok()?
            .strip_prefix("c/otp/p/default/")?;
        let (index, purpose) = rest.split_once('/').unwrap_or((rest, PURPOSES[0]));
        let phone = self.indexes.iter().position(|known| known == index)?;
        let purpose = PURPOSES.iter().position(|known| *known == purpose)?;
        Some((phone, purpose))
    }

    fn answered(&mut self, call: &Call, answer: &Answer) -> Result<(), Broken> {
        let id = call.id;
        if matches!(answer, Answer::Nothing) {
            return Ok(());
        }
        if matches!(answer, Answer::Failed(reason) if reason.contains("took longer than")) {
            return Ok(());
        }
        let Some((outcome, message)) = self.truth.outcomes.get(&id) else {
            let text = format!("call {id} was answered without a commit: {answer:?}");
            return broken(Kind::LostAcknowledgement, text);
        };
        let durable = durable(&self.truth, &self.unsynced);
        if !durable.outcomes.contains_key(&id) {
            let text = format!("call {id} was answered before its commit was durable");
            return broken(Kind::LostAcknowledgement, text);
        }
        let same = match (answer, outcome) {
            (
                Answer::Sent {
                    message: told,
                    expires,
                },
                Outcome::Sent { expires: end, .. },
            ) => Some(*told) == *message && expires == end,
            (Answer::Noticed(told), Outcome::Sent { .. }) => Some(*told) == *message,
            (Answer::Refused(text), Outcome::Refused(_)) => text.starts_with("Too many attempts"),
            (Answer::Accepted, Outcome::Approved) => true,
            (Answer::Failed(_), Outcome::Counted(_)) => true,
            (Answer::Rejected(text), Outcome::Rejected("code")) => {
                text == "Invalid or expired code"
            }
            (Answer::Rejected(text), Outcome::Rejected(_)) => text == "Too many attempts",
            _ => false,
        };
        if !same {
            let text = format!("call {id} was answered {answer:?}, and came to {outcome:?}");
            return broken(Kind::WrongAnswer, text);
        }
        self.acknowledged.push(id);
        Ok(())
    }

    fn handed(
        &mut self,
        now: UnixMillis,
        message: &countersign_types::Message,
    ) -> Result<(), Broken> {
        let id = message.id;
        let truth = durable(&self.truth, &self.unsynced);
        let Some(made) = truth.model.messages.get(&id) else {
            let text = format!("{id} is handed over, and no durable commit made it");
            return broken(Kind::RowWithoutJob, text);
        };
        if now >= made.deadline {
            let text = format!(
                "{id} is handed over at {}, its end was {}",
                now.0, made.deadline.0
            );
            return broken(Kind::ExpiredSend, text);
        }
        if let Some(ended) = &made.ended {
            return broken(
                Kind::SentTwice,
                format!("{id} is handed over after its end as {ended}"),
            );
        }
        let handed = self.handed.entry(id).or_default();
        handed.open += 1;
        let Some(code) = made.code else {
            return match handed.maybe_sent + handed.open - 1 {
                0 => Ok(()),
                n => broken(
                    Kind::SentTwice,
                    format!("{id} without a code was sent {n} times before"),
                ),
            };
        };
        let digits: Vec<&str> = message
            .text
            .split(|c: char| !c.is_ascii_digit())
            .filter(|word| word.len() == DIGITS)
            .collect();
        let [digits] = digits[..] else {
            return broken(
                Kind::WrongAnswer,
                format!("{id} has no code: {}", message.text),
            );
        };
        let known = *self.codes.entry(digits.to_owned()).or_insert(code);
        let before = handed.code.get_or_insert_with(|| digits.to_owned());
        if known != code || before != digits {
            let text = format!("{id} carries {digits}, which is another challenge's code");
            return broken(Kind::WrongAnswer, text);
        }
        Ok(())
    }
}

fn job_id(key: &[u8]) -> Option<MessageId> {
    let id = key.strip_prefix(b"j/")?;
    id.try_into().ok().map(MessageId)
}

/// The address that a client calls from, as text.
pub(crate) fn address(at: usize) -> String {
    debug_assert!(at < ADDRESSES, "an address of the model");
    format!("192.0.2.{}", at + 1)
}
