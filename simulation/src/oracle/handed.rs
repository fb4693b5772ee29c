//! What providers are handed.

use countersign_types::{Accepted, Clock, Message, UnixMillis};

use super::{Broken, Oracle, State, broken, durable};
use crate::Kind;
use crate::model::{DIGITS, PURPOSES};

/// A message is resent for an unknown outcome until there were three requests.
const UNKNOWN_MAX: usize = 3;

impl Oracle {
    /// A provider is handed a message.
    pub(crate) fn handed(&self, message: &Message) {
        if let Err((kind, text)) = self.state().handed(self.world.now(), message) {
            self.world.violation(kind, text);
        }
    }

    /// What became of what `provider` was handed: whether somebody may have the message, what it says
    /// of it where it took it, and whether it says that it does not know.
    pub(crate) fn outcome(
        &self,
        provider: &str,
        message: &Message,
        maybe_sent: bool,
        accepted: Option<&Accepted>,
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
        if let Some(accepted) = accepted {
            handed.accepted += 1;
            handed.answers.push((provider.to_owned(), accepted.clone()));
        }
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
}

impl State {
    fn handed(&mut self, now: UnixMillis, message: &Message) -> Result<(), Broken> {
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
