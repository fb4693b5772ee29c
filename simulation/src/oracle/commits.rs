//! What is committed, in commit order, against what must come out.

use std::time::Duration;

use countersign_store::committer::Batch;
use countersign_store::{Commit, Row};
use countersign_types::{Clock, Event, MessageId, UnixMillis};

use super::verdicts::Committing;
use super::{Admitted, Broken, Call, Done, State, broken, job_id};
use crate::Kind;
use crate::model::PURPOSES;
use crate::store::text;
use crate::world::World;

/// A clock that goes back by less is waited out.
const STEP_FOLLOWED: Duration = Duration::from_secs(5);
/// For how long a request with a key is not done again.
const KEY_KEPT: Duration = Duration::from_secs(24 * 3_600);

impl State {
    pub(super) fn commit(
        &mut self,
        world: &World,
        admitted: &Admitted,
        batch: &Batch,
    ) -> Result<(), Broken> {
        let Admitted {
            record, committed, ..
        } = admitted;
        let commit = &record.commit;
        self.reads(commit)?;
        let events: Vec<Event> = commit
            .events
            .iter()
            .filter_map(|event| postcard::from_bytes(event).ok())
            .collect();
        if let Some(call) = &record.call {
            self.instant(world, call, commit.instant)?;
            let committing = Committing {
                world,
                call,
                commit,
                at: admitted.at,
                events: &events,
                batch,
            };
            self.request(&committing)?;
            self.judge(&committing)?;
        }
        self.news(world, record, &events)?;
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

    /// What a run has read is still what there is, or what it writes undoes somebody's commit.
    fn reads(&self, commit: &Commit) -> Result<(), Broken> {
        for read in &commit.reads {
            let there = self.truth.rows.get(&read.key);
            let seen = there.filter(|row| !row.body.expired(commit.instant));
            if seen.map(|row| row.version) != read.version {
                let text = format!("{} was read before it was changed", text(&read.key));
                return broken(Kind::LostUpdate, text);
            }
        }
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

    /// A request with a key is done once, and what is done is remembered in the same commit.
    fn request(&mut self, committing: &Committing<'_>) -> Result<(), Broken> {
        let Committing { call, commit, .. } = committing;
        let mut rows = commit.writes.iter().map(|write| &write.key);
        let row = rows.find(|key| key.starts_with(b"i/") && !key.ends_with(b"/answer"));
        // Every verdict has an event, and a run that failed has none.
        let is_done = !committing.events.is_empty() && call.key.is_some();
        let id = call.id;
        let (Some(key), Some(row)) = (call.key.filter(|_| is_done), row) else {
            return if is_done == row.is_some() {
                Ok(())
            } else {
                broken(
                    Kind::DoneTwice,
                    format!("call {id}: done {is_done}, remembered {}", row.is_some()),
                )
            };
        };
        let done = self.truth.requests.entry(key).or_default();
        if let Some(last) = done.last().filter(|last| committing.now() < last.until) {
            let text = format!(
                "call {id} is done, as call {} was with key {key}",
                last.call
            );
            return broken(Kind::DoneTwice, text);
        }
        done.push(Done {
            call: id,
            until: committing.now() + KEY_KEPT,
            row: row.clone(),
        });
        Ok(())
    }

    /// A message leaves the queue.
    fn message_event(&mut self, world: &World, event: &Event) -> Result<(), Broken> {
        let ends = [
            "message.sent",
            "message.failed",
            "message.expired",
            "message.unknown",
        ];
        let end = ends.into_iter().find(|end| *end == event.kind);
        // What was another before has left it already.
        let Some(end) = end.filter(|_| attribute(event, "was") == "queued") else {
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
    pub(super) fn rows(&mut self, world: &World, batch: &Batch) -> Result<(), Broken> {
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
                    self.message_row(key, &row)?;
                    self.truth.rows.insert(key.clone(), row);
                }
                Some(Err(error)) => return broken(Kind::WrongAnswer, error.to_string()),
                // Still there for all that was committed: it was swept.
                None if self.truth.rows.remove(key).is_some() => self.swept(world, key),
                None => {}
            }
        }
        Ok(())
    }

    /// What has ended stays so, whatever the clock does later.
    fn swept(&mut self, world: &World, key: &[u8]) {
        if let Some((phone, purpose)) = self.challenge(key) {
            world.mark("a phone's row swept");
            self.truth.model.swept(phone, purpose);
        }
        let done = self.truth.requests.values_mut().flatten();
        for done in done.filter(|done| done.row == key) {
            world.mark("a key swept");
            done.until = UnixMillis(0);
        }
        if let Some(index) = key.strip_prefix(b"r/") {
            world.mark("an early receipt swept");
            let keyring = &self.keyring;
            let is_it =
                |provider: &str, id: &str| keyring.receipt_index(provider, id).as_bytes() == index;
            self.truth.model.told.swept(is_it);
        }
    }

    /// The subject and the purpose of a row of otp's.
    pub(super) fn challenge(&self, key: &[u8]) -> Option<(usize, usize)> {
        let row = std::str::from_utf8(key).ok()?.strip_prefix("c/otp/")?;
        let subject = |row: &str| self.subjects.iter().position(|known| known == row);
        if let Some(subject) = subject(row) {
            return Some((subject, 0));
        }
        let (row, purpose) = row.rsplit_once('/')?;
        let purpose = PURPOSES.iter().position(|known| *known == purpose)?;
        Some((subject(row)?, purpose))
    }
}

/// A fact that an event holds; empty where it has none of that name.
pub(super) fn attribute<'a>(event: &'a Event, name: &str) -> &'a str {
    let mut facts = event.attributes.iter();
    let value = facts.find(|(known, _)| known == name);
    value.map_or("", |(_, value)| value)
}
