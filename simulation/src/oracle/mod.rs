//! Watches the seams and compares what happens with what may happen.
//!
//! Every commit is told here in commit order, with the call that made it (`commits`, `verdicts`, `factors`, `news`); so are
//! answers (`answers`), and what providers were handed (`handed`). The [`Model`] says what must come
//! out.

mod answers;
mod call;
mod commits;
mod factors;
mod handed;
mod news;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_queue::MessageView;
use countersign_store::committer::{Batch, Rows};
use countersign_store::{Commit, Committed, Keyring, Row, StoredEvent};
use countersign_types::{Accepted, Clock, MessageId, StatusUpdate, UnixMillis};

use crate::Kind;
use crate::disk::Disk;
use crate::factors::{PROOF_VALID, USERS, User};
use crate::model::{ADDRESSES, CodeId, Model, Outcome};
use crate::plant::is_job;
use crate::store::text;
use crate::world::World;

pub(crate) use call::{Answer, Ask, CALL, Call, Op, Proof, is_secret};

/// A commit that was admitted, as it was asked for.
pub(crate) struct Record {
    pub(crate) call: Option<Arc<Call>>,
    /// Who asked: a follower's questions and what it makes of the answers are one task's.
    pub(crate) task: Option<tokio::task::Id>,
    pub(crate) commit: Commit,
}

/// What became of a [`Record`].
pub(crate) struct Admitted {
    pub(crate) record: Record,
    pub(crate) committed: Committed,
    /// When it counts, in commit order: where the clock was set forward during its call, not when that
    /// began.
    pub(crate) at: UnixMillis,
}

/// A request with a key that was done.
#[derive(Clone, Debug)]
struct Done {
    call: u32,
    /// Until when it is not done again.
    until: UnixMillis,
    row: Vec<u8>,
}

/// What comes and goes with the commits.
#[derive(Clone, Default)]
struct Truth {
    model: Model,
    /// Every row, as it must be on the disk.
    rows: BTreeMap<Vec<u8>, Row>,
    outcomes: BTreeMap<u32, (Outcome, Option<MessageId>)>,
    /// By key.
    requests: BTreeMap<u32, Vec<Done>>,
    users: [User; USERS.len()],
    /// Those that were used.
    proofs: BTreeSet<u32>,
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
    /// What was asked for with each key.
    keys: Vec<Vec<Op>>,
    /// How many of them were made before this life.
    old_keys: usize,
    /// Secrets of apps and sets of backup codes that somebody was told, by the call that made them.
    secrets: BTreeMap<u32, Vec<u8>>,
    backup_codes: BTreeMap<u32, Vec<String>>,
    /// Proofs that users have been given.
    proofs: Vec<(usize, Proof)>,
    /// What providers have answered to followers who have not committed it.
    fetched: HashMap<tokio::task::Id, (String, Vec<StatusUpdate>)>,
    /// The rows of all subjects of codes.
    subjects: Vec<String>,
    keyring: Arc<Keyring>,
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
    /// What providers have said in this life that took it.
    answers: Vec<(String, Accepted)>,
    /// Answers in this life that nobody knew the outcome of.
    unknown: usize,
}

pub(crate) struct Oracle {
    world: Arc<World>,
    state: Mutex<State>,
}

impl Oracle {
    /// `subjects`: the rows of all subjects of codes; `keyring`: what rows are sealed with.
    pub(crate) fn new(world: &Arc<World>, subjects: Vec<String>, keyring: Arc<Keyring>) -> Oracle {
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
                keys: Vec::new(),
                old_keys: 0,
                secrets: BTreeMap::new(),
                backup_codes: BTreeMap::new(),
                proofs: Vec::new(),
                fetched: HashMap::new(),
                subjects,
                keyring,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that begins now, with its client's key where it must not be done twice.
    pub(crate) fn call(&self, op: Op, key: Option<u32>) -> Arc<Call> {
        let mut state = self.state();
        state.calls += 1;
        if let Some(asked) = key.and_then(|key| state.keys.get_mut(key as usize))
            && !asked.contains(&op)
        {
            asked.push(op.clone());
        }
        Arc::new(Call {
            id: state.calls,
            op,
            key,
            began: self.world.now(),
            set_backs: self.world.set_backs(),
        })
    }

    /// A key that nobody has used.
    pub(crate) fn new_key(&self) -> u32 {
        let mut state = self.state();
        state.keys.push(Vec::new());
        state.keys.len() as u32 - 1
    }

    /// Whether a call repeats what was asked for before the last crash.
    pub(crate) fn is_of_another_life(&self, call: &Call) -> bool {
        let old = self.state().old_keys;
        call.key.is_some_and(|key| (key as usize) < old)
    }

    /// All keys, with what was asked for first with each, the newest last.
    pub(crate) fn asked(&self) -> Vec<(u32, Op)> {
        let state = self.state();
        let asked = state.keys.iter().zip(0..);
        asked
            .filter_map(|(ops, key)| Some((key, ops.first()?.clone())))
            .collect()
    }

    /// Codes that have reached a phone for a purpose, oldest first.
    pub(crate) fn received(&self, about: (usize, usize)) -> Vec<String> {
        let state = self.state();
        let here = state.received.iter().filter(|(to, _)| *to == about);
        here.map(|(_, code)| code.clone()).collect()
    }

    /// A group of commits was applied: visible, not durable. `number`: the disk's, where it wrote
    /// anything.
    pub(crate) fn applied(&self, admitted: &[Admitted], batch: &Batch, number: Option<u64>) {
        let mut state = self.state();
        let state = &mut *state;
        if let Some(number) = number {
            let before = state.truth.clone();
            state.unsynced.push_back((number, before));
            if state.unsynced.len() > 1 {
                self.world.mark("two groups in flight");
            }
        }
        for admitted in admitted {
            if let Err((kind, text)) = state.commit(&self.world, admitted, batch) {
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
            handed.answers.clear();
        }
        state.fetched.clear();
        state.old_keys = state.keys.len();
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
        match state.answered(call, answer) {
            Ok(()) => state.learn(call, answer, self.world.now()),
            Err((kind, text)) => self.world.violation(kind, text),
        }
    }

    /// What a user has, by what has been committed.
    pub(crate) fn user(&self, user: usize) -> User {
        self.state().truth.users[user].clone()
    }

    /// The secret of an app that a call has made, where somebody was told.
    pub(crate) fn secret(&self, call: u32) -> Option<Vec<u8>> {
        self.state().secrets.get(&call).cloned()
    }

    /// Backup codes that somebody was told, the newest set last.
    pub(crate) fn backup_codes(&self) -> Vec<Vec<String>> {
        self.state().backup_codes.values().cloned().collect()
    }

    /// Proofs that a user has been given, the newest last.
    pub(crate) fn proofs(&self, user: usize) -> Vec<Proof> {
        let state = self.state();
        let own = state.proofs.iter().filter(|(of, _)| *of == user);
        own.map(|(_, proof)| proof.clone()).collect()
    }

    /// A provider has answered a follower.
    pub(crate) fn fetched(&self, provider: &str, updates: &[StatusUpdate]) {
        let answer = (provider.to_owned(), updates.to_vec());
        self.state().fetched.insert(tokio::task::id(), answer);
    }

    /// Messages that no provider could take, by what has been committed.
    pub(crate) fn dead(&self) -> Vec<MessageId> {
        let state = self.state();
        let messages = state.truth.model.messages.iter();
        let dead = messages.filter(|(_, made)| made.ended.as_deref() == Some("message.failed"));
        dead.map(|(id, _)| *id).collect()
    }

    /// All messages that were made.
    pub(crate) fn messages(&self) -> Vec<MessageId> {
        let state = self.state();
        state.truth.model.messages.keys().copied().collect()
    }

    /// How many messages have which status in the end, as the figures put it.
    pub(crate) fn by_status(&self) -> BTreeMap<String, u64> {
        let state = self.state();
        let model = &state.truth.model;
        let mut counts = BTreeMap::new();
        for (id, message) in &model.messages {
            let word = match (model.told.taken.get(id), &message.ended) {
                (Some(taken), _) => taken.word(),
                (None, Some(ended)) => ended.trim_start_matches("message."),
                (None, None) => "queued",
            };
            let word = if word == "read" { "delivered" } else { word };
            *counts.entry(word.to_owned()).or_default() += 1;
        }
        counts
    }

    /// The end of a seed: every message has come to its end and is as it was told, every event is in its
    /// place.
    pub(crate) fn ended(&self, disk: &Disk, events: &[StoredEvent], views: &[MessageView]) {
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
        for view in views {
            if let Err((kind, text)) = state.view(view) {
                return broken(kind, text);
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

impl State {
    /// Remembers what only whoever asked is told.
    fn learn(&mut self, call: &Call, answer: &Answer, now: UnixMillis) {
        let Op::Factor { user, .. } = &call.op else {
            return;
        };
        match answer {
            Answer::AppPending(secret) => {
                self.secrets.insert(call.id, secret.clone());
            }
            Answer::Enabled(Some(codes)) | Answer::NewCodes(codes) => {
                self.backup_codes.insert(call.id, codes.clone());
            }
            Answer::LoggedIn(_) => {
                let made = UnixMillis(now.0 / 1_000 * 1_000);
                let ends = made + PROOF_VALID;
                let id = call.id;
                self.proofs.push((*user, Proof { id, made, ends }));
            }
            _ => {}
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

fn job_id(key: &[u8]) -> Option<MessageId> {
    let id = key.strip_prefix(b"j/")?;
    id.try_into().ok().map(MessageId)
}

/// The address that a client calls from, as text.
pub(crate) fn address(at: usize) -> String {
    debug_assert!(at < ADDRESSES, "an address of the model");
    format!("192.0.2.{}", at + 1)
}
