//! Commits of calls, by what was asked for: what the model says must come out, and what did.

use countersign_store::Commit;
use countersign_store::committer::Batch;
use countersign_types::{Event, MessageId, UnixMillis};

use super::commits::attribute;
use super::{Broken, Call, Op, State, broken, job_id};
use crate::Kind;
use crate::model::{Group, Message, Outcome, PURPOSES};
use crate::store::text;
use crate::world::World;

/// A commit of a client's call.
pub(super) struct Committing<'a> {
    pub(super) world: &'a World,
    pub(super) call: &'a Call,
    pub(super) commit: &'a Commit,
    /// When its takes count.
    pub(super) at: UnixMillis,
    pub(super) events: &'a [Event],
    pub(super) batch: &'a Batch,
}

impl Committing<'_> {
    pub(super) fn now(&self) -> UnixMillis {
        self.commit.instant
    }

    /// What is said of the call itself: by a component, where one was asked.
    fn said(&self) -> Option<&Event> {
        let said = self.events.iter().find(|event| event.source != "host");
        said.or(self.events.first())
    }

    /// Whether it writes a row of otp's.
    fn writes(&self, row: &str) -> bool {
        let key = format!("c/otp/{row}");
        let mut writes = self.commit.writes.iter();
        writes.any(|write| write.key == key.as_bytes())
    }

    /// Whether the batch, which is what becomes of all, has a row there.
    fn is_there(&self, wanted: &[u8]) -> bool {
        let mut written = self.batch.iter();
        written.any(|(key, row)| key == wanted && row.is_some())
    }
}

impl State {
    /// Compares what a call has come to with what it must have come to.
    pub(super) fn judge(&mut self, committing: &Committing<'_>) -> Result<(), Broken> {
        match &committing.call.op {
            Op::Send { about, address } => self.send(committing, *about, *address),
            Op::Verify { about, code } => self.verify(committing, *about, code),
            Op::VerifyAndFail { phone, .. } => self.failing_verify(committing, *phone),
            Op::Notice { phone, deadline } => self.notice(committing, *phone, *deadline),
            Op::Replay { message } => self.replay(committing, *message),
            Op::Factor { user, ask } => self.factor(committing, *user, ask),
            Op::Receipt { .. } => {
                let told = (Outcome::Told, None);
                self.truth.outcomes.insert(committing.call.id, told);
                Ok(())
            }
        }
    }

    fn notice(
        &mut self,
        committing: &Committing<'_>,
        phone: usize,
        deadline: UnixMillis,
    ) -> Result<(), Broken> {
        let id = committing.call.id;
        let mut writes = committing.commit.writes.iter();
        let Some(made) = writes.find_map(|write| job_id(&write.key)) else {
            return broken(Kind::WrongAnswer, format!("call {id} made no job"));
        };
        let notice = Message {
            phone,
            code: None,
            deadline,
            end: UnixMillis(u64::MAX),
            since: committing.now(),
            ended: None,
        };
        self.truth.model.messages.insert(made, notice);
        let outcome = Outcome::Sent {
            expires: deadline,
            reused: false,
        };
        self.truth.outcomes.insert(id, (outcome, Some(made)));
        Ok(())
    }

    fn replay(&mut self, committing: &Committing<'_>, message: MessageId) -> Result<(), Broken> {
        if committing.events.is_empty() {
            return Ok(());
        }
        let id = committing.call.id;
        if !self.truth.model.replay(message, committing.now()) {
            let text = format!("call {id} has {message} sent once more, which must not be");
            return broken(Kind::SentTwice, text);
        }
        if let Some(handed) = self.handed.get_mut(&message) {
            handed.unknown = 0;
        }
        committing.world.mark("a replay");
        self.truth.outcomes.insert(id, (Outcome::Replayed, None));
        Ok(())
    }

    fn failing_verify(&mut self, committing: &Committing<'_>, phone: usize) -> Result<(), Broken> {
        let (id, now) = (committing.call.id, committing.now());
        let own = self.subjects[phone].clone();
        let row = format!("c/otp/{own}");
        let mut reads = committing.commit.reads.iter();
        if !reads.any(|read| read.key == row.as_bytes()) {
            // It was cut off before it came to the check.
            return Ok(());
        }
        let found = Outcome::Counted(usize::from(committing.writes(&own)));
        let want = self.truth.model.failed_check(phone, now);
        if found == Outcome::Counted(1) && want == Outcome::Counted(0) {
            // One too many keeps the promise: when no run of the call could be committed, its
            // try is counted whatever others have made of the challenge.
            self.truth.model.count((phone, 0), now);
        } else if found != want || !committing.events.is_empty() {
            let text = format!("call {id} failed: {found:?}, and {want:?} was to be");
            return broken(Kind::UncountedTry, text);
        }
        if want == Outcome::Counted(1) {
            let world = committing.world;
            world.mark("a try counted though the call failed");
        }
        self.truth.outcomes.insert(id, (want, None));
        Ok(())
    }

    fn send(
        &mut self,
        committing: &Committing<'_>,
        about: (usize, usize),
        address: Option<usize>,
    ) -> Result<(), Broken> {
        let Committing { call, commit, .. } = committing;
        let (id, now) = (call.id, committing.now());
        let event = committing.said();
        if event.is_none() && commit.writes.is_empty() {
            // A run that failed: it leaves nothing.
            return Ok(());
        }
        let before = self.truth.model.group(about);
        let model = &mut self.truth.model;
        // Those that are not of keys.
        let takes = commit.takes.iter();
        for take in takes.filter(|take| take.key.starts_with(b"c/")) {
            let window = usize::from(take.window_ms != 60_000);
            if let Some(length) = address.and_then(|at| model.take(at, window, committing.at)) {
                let text = format!("call {id}: too many sends of an address in {length:?}");
                return broken(Kind::LimitExceeded, text);
            }
        }
        let by_address = event.is_some_and(|event| attribute(event, "reason") == "address-limit");
        if by_address && !address.is_some_and(|at| model.may_refuse(at, now)) {
            let text = format!("call {id}: refused for an address that has room");
            return broken(Kind::WrongAnswer, text);
        }
        let want = model.send(about, now, by_address);
        self.verdict(committing, &before, about, want)
    }

    pub(super) fn verify(
        &mut self,
        committing: &Committing<'_>,
        about: (usize, usize),
        code: &str,
    ) -> Result<(), Broken> {
        let (id, now) = (committing.call.id, committing.now());
        let Some(event) = committing.said() else {
            // A try that was counted when none of the call's runs could be committed.
            let own = &self.subjects[about.0];
            let challenge = match about.1 {
                0 => own.clone(),
                other => format!("{own}/{}", PURPOSES[other]),
            };
            if committing.writes(&challenge) {
                committing.world.mark("a try counted afterwards");
                self.truth.model.count(about, now);
            }
            return Ok(());
        };
        let before = self.truth.model.group(about);
        let code_id = self.codes.get(code).copied();
        let want = self.truth.model.verify(about, now, code_id);
        // Told apart here, where it is known what was to be.
        if event.kind == "verification.approved" && want != Outcome::Approved {
            let kind = match want {
                _ if before.used => Kind::DoubleUse,
                Outcome::Rejected("locked" | "guessing-budget") => Kind::UncountedTry,
                _ => Kind::ExpiredCode,
            };
            let text = format!("call {id}: {code} was accepted; {want:?}, {before:?}");
            return broken(kind, text);
        }
        self.verdict(committing, &before, about, want)
    }

    /// Compares what the event says with what was to be; `before` is how the challenge was.
    pub(super) fn verdict(
        &mut self,
        committing: &Committing<'_>,
        before: &Group,
        about: (usize, usize),
        want: Outcome,
    ) -> Result<(), Broken> {
        let id = committing.call.id;
        let Some(event) = committing.said() else {
            let text = format!("call {id} has no event; {want:?}");
            return broken(Kind::WrongAnswer, text);
        };
        let found = outcome(event, &want);
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
        let message = match want {
            Outcome::Sent { expires, .. } => event.message.map(|made| (made, expires)),
            _ => None,
        };
        if let Some((made, expires)) = message {
            self.message(committing, about, made, expires)?;
        }
        committing.world.mark(match &want {
            Outcome::Sent { reused: true, .. } => "a code sent again",
            Outcome::Sent { .. } if !before.ended(committing.now()) => {
                "a code that replaces another"
            }
            Outcome::Sent { .. } => "a code sent",
            Outcome::Refused(reason) | Outcome::Rejected(reason) => reason,
            Outcome::Approved => "a code accepted",
            // None that otp decides.
            _ => "something else",
        });
        let message = message.map(|(made, _)| made);
        self.truth.outcomes.insert(id, (want, message));
        Ok(())
    }

    /// A message was made for a code: its job and all that made it are there together.
    fn message(
        &mut self,
        committing: &Committing<'_>,
        about: (usize, usize),
        made: MessageId,
        expires: UnixMillis,
    ) -> Result<(), Broken> {
        if !committing.is_there(&[b"j/", made.0.as_slice()].concat()) {
            return broken(Kind::JobWithoutRow, format!("{made} has no row"));
        }
        let mut writes = committing.commit.writes.iter();
        if let Some(missing) = writes.find(|write| !committing.is_there(&write.key)) {
            let missing = text(&missing.key);
            let text = format!("{made} has a row, {missing} was not written");
            return broken(Kind::RowWithoutJob, text);
        }
        let new = Message {
            phone: about.0,
            code: self.truth.model.newest(about),
            deadline: expires,
            end: expires,
            since: committing.now(),
            ended: None,
        };
        self.truth.model.messages.insert(made, new);
        Ok(())
    }
}

/// What an event of otp says; of a code's end it says nothing, so that is the one that was to be.
fn outcome(event: &Event, want: &Outcome) -> Outcome {
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
    match event.kind.as_str() {
        "verification.sent" => Outcome::Sent {
            expires: match want {
                Outcome::Sent { expires, .. } => *expires,
                _ => UnixMillis(0),
            },
            reused: attribute(event, "reused") == "true",
        },
        "verification.refused" => Outcome::Refused(reason),
        "verification.approved" => Outcome::Approved,
        _ => Outcome::Rejected(reason),
    }
}
