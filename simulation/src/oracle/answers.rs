//! What whoever called is told, against what the commit of its call came to.

use countersign_types::MessageId;

use super::{Answer, Broken, Call, State, broken, durable, is_secret};
use crate::Kind;
use crate::model::Outcome;

impl State {
    pub(super) fn answered(&mut self, call: &Call, answer: &Answer) -> Result<(), Broken> {
        match answer {
            Answer::Nothing => return Ok(()),
            Answer::Failed(reason) if reason.contains("took longer than") => return Ok(()),
            Answer::Reused => return self.reused(call),
            Answer::Done if !call.key.is_some_and(is_secret) => {
                let text = format!("the answer to call {} is lost", call.id);
                return broken(Kind::LostAcknowledgement, text);
            }
            _ => {}
        }
        let told = self.told(call);
        if told.is_empty() {
            let text = format!("call {} was answered without a commit: {answer:?}", call.id);
            return broken(Kind::LostAcknowledgement, text);
        }
        let outcomes = &self.truth.outcomes;
        let told = told.into_iter().filter_map(|id| {
            let (outcome, message) = outcomes.get(&id)?;
            Some((id, outcome, *message))
        });
        let told: Vec<_> = told.collect();
        let same = told
            .iter()
            .find(|(_, outcome, message)| is_so(answer, outcome, *message));
        let Some((id, _, _)) = same else {
            let text = format!(
                "call {} was answered {answer:?}, and came to {told:?}",
                call.id
            );
            return broken(Kind::WrongAnswer, text);
        };
        let durable = durable(&self.truth, &self.unsynced);
        if !durable.outcomes.contains_key(id) {
            let text = format!(
                "call {} was answered before its commit was durable",
                call.id
            );
            return broken(Kind::LostAcknowledgement, text);
        }
        self.acknowledged.push(*id);
        Ok(())
    }

    /// The calls whose outcome this one may be told: its own, or those that were done with its key.
    fn told(&self, call: &Call) -> Vec<u32> {
        if self.truth.outcomes.contains_key(&call.id) {
            return vec![call.id];
        }
        let done = call.key.and_then(|key| self.truth.requests.get(&key));
        let done = done.into_iter().flatten();
        done.map(|done| done.call).collect()
    }

    fn reused(&self, call: &Call) -> Result<(), Broken> {
        let asked = call.key.and_then(|key| self.keys.get(key as usize));
        if asked.is_some_and(|asked| asked.len() > 1) {
            return Ok(());
        }
        let text = format!("call {} is the only one that has used its key", call.id);
        broken(Kind::WrongAnswer, text)
    }
}

/// Whether an answer says what the commit says.
fn is_so(answer: &Answer, outcome: &Outcome, message: Option<MessageId>) -> bool {
    match (answer, outcome) {
        (
            Answer::Sent {
                message: told,
                expires,
            },
            Outcome::Sent { expires: end, .. },
        ) => Some(*told) == message && expires == end,
        (Answer::Noticed(told), Outcome::Sent { .. }) => Some(*told) == message,
        (Answer::Refused(text), Outcome::Refused(_)) => text.starts_with("Too many attempts"),
        (Answer::Accepted, Outcome::Approved) => true,
        (Answer::Failed(_), Outcome::Counted(_)) => true,
        (Answer::Rejected(text), Outcome::Rejected("code")) => text == "Invalid or expired code",
        (Answer::Rejected(text), Outcome::Rejected(_)) => text == "Too many attempts",
        (Answer::Replayed, Outcome::Replayed) => true,
        (Answer::Taken, Outcome::Told) => true,
        (Answer::Enabled(_), Outcome::Enabled) => true,
        (Answer::AppPending(_), Outcome::AppPending) => true,
        (Answer::NewCodes(_), Outcome::NewCodes) => true,
        (Answer::LoggedIn(told), Outcome::LoggedIn(method)) => told == method,
        (Answer::Missed, Outcome::Missed) => true,
        (Answer::Reset, Outcome::Reset) => true,
        // Whatever it was.
        (Answer::Done, _) => true,
        _ => false,
    }
}
