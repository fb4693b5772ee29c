//! What becomes of messages after a provider has taken them: what is committed of it, and what can be
//! seen of it in the end.

use countersign_queue::{MessageRow, MessageView};
use countersign_store::{Body, Row};
use countersign_types::{Accepted, Event, MessageId};

use super::commits::attribute;
use super::{Broken, Op, Record, State, broken};
use crate::Kind;
use crate::news::{Known, News, rank};
use crate::provider::RECEIPTS_FROM;
use crate::world::World;

impl State {
    /// Compares what a commit tells of messages with what was told of them.
    pub(super) fn news(
        &mut self,
        world: &World,
        record: &Record,
        events: &[Event],
    ) -> Result<(), Broken> {
        let found: Vec<_> = events.iter().filter_map(news).collect();
        for News { message, was, .. } in found.iter().filter(|news| news.kind != "message.sent") {
            let known = self.truth.model.told.rank(*message);
            if rank(was) < known {
                let text = format!("{message} went back: {found:?}");
                return broken(Kind::StepBack, text);
            }
        }
        let want = self.expected(world, record, events, &found)?;
        if found == want {
            return Ok(());
        }
        let kind = match want.iter().all(|news| found.contains(news)) {
            true => Kind::WrongAnswer,
            false => Kind::LostReceipt,
        };
        broken(kind, format!("{found:?} is told, and {want:?} was to be"))
    }

    fn expected(
        &mut self,
        world: &World,
        record: &Record,
        events: &[Event],
        found: &[News],
    ) -> Result<Vec<News>, Broken> {
        let now = record.commit.instant;
        let told = &mut self.truth.model.told;
        if let Some(Op::Receipt { provider, updates }) = record.call.as_ref().map(|call| &call.op) {
            let news = told.receive(provider, updates, now);
            world.mark(match news.is_empty() {
                true => "a receipt that says nothing new, or comes early",
                false => "a receipt that is news",
            });
            return Ok(news);
        }
        let fetched = record.task.and_then(|task| self.fetched.remove(&task));
        if let Some((provider, updates)) = fetched {
            let news = told.answer(&provider, &updates);
            if news.iter().any(|news| news.kind == "message.priced") {
                world.mark("a late price");
            }
            return Ok(news);
        }
        match found {
            [first, ..] if first.kind == "message.sent" => {
                let event = events.iter().find(|event| event.kind == first.kind);
                let provider = event.map_or("", |event| attribute(event, "provider"));
                let accepted = self.accepted(record, first.message, provider)?;
                let asked = provider == RECEIPTS_FROM;
                let told = &mut self.truth.model.told;
                let news = told.take(first.message, provider, &accepted, asked, now);
                if news.len() > 1 {
                    world.mark("an early receipt");
                }
                Ok(news)
            }
            [one] if one.kind != "message.priced" => {
                world.mark("a receipt that never came");
                Ok(told.give_up(one.message, now).into_iter().collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// What the provider has said that this commit records.
    fn accepted(
        &self,
        record: &Record,
        message: MessageId,
        provider: &str,
    ) -> Result<Accepted, Broken> {
        let writes = record.commit.writes.iter();
        let indices: Vec<_> = writes
            .filter_map(|write| write.key.strip_prefix(b"r/"))
            .collect();
        let index = |id: &String| self.keyring.receipt_index(provider, id).into_bytes();
        let is_it = |accepted: &Accepted| {
            let said = accepted.ids.iter().map(index);
            provider != RECEIPTS_FROM || said.eq(indices.iter().copied())
        };
        let answers = self.handed.get(&message).map(|handed| &handed.answers);
        let mut answers = answers.into_iter().flatten().rev();
        match answers.find(|(by, accepted)| by == provider && is_it(accepted)) {
            Some((_, accepted)) => Ok(accepted.clone()),
            None => broken(
                Kind::WrongAnswer,
                format!("{message} is recorded as sent by {provider}, which has not said so"),
            ),
        }
    }

    /// A message's row, as it is written: it is what was told of it.
    pub(super) fn message_row(&self, key: &[u8], row: &Row) -> Result<(), Broken> {
        let id = key.strip_prefix(b"m/").and_then(|id| id.try_into().ok());
        let (Some(id), Body::Sections(sections)) = (id.map(MessageId), &row.body) else {
            return Ok(());
        };
        let host = sections.host.as_ref().map(|host| host.value.as_slice());
        let plain = self.keyring.unseal(key, host.unwrap_or_default()).ok();
        let read = plain.and_then(|plain| postcard::from_bytes::<MessageRow>(&plain).ok());
        let Some(row) = read else {
            return broken(Kind::WrongAnswer, format!("the row of {id} cannot be read"));
        };
        let known = self.as_told(id);
        let found = Some(Known::of(&row));
        if known == found {
            return Ok(());
        }
        // As it was before this group.
        let before = self.unsynced.back().map(|(_, before)| before);
        let is_first = before.is_none_or(|before| !before.rows.contains_key(key));
        let kind = match is_first {
            true => Kind::LostReceipt,
            false => Kind::StepBack,
        };
        broken(
            kind,
            format!("{id} is kept as {found:?}, and was to be {known:?}"),
        )
    }

    /// A message as it can be seen when all is over: it is what was told of it.
    pub(super) fn view(&self, view: &MessageView) -> Result<(), Broken> {
        let (found, known) = (Some(Known::of(&view.row)), self.as_told(view.id));
        if found == known {
            return Ok(());
        }
        let text = format!("{} is {found:?}, and was to be {known:?}", view.id);
        broken(Kind::WrongAnswer, text)
    }

    /// What is known of a message that has left the queue.
    fn as_told(&self, id: MessageId) -> Option<Known> {
        let model = &self.truth.model;
        if let Some(taken) = model.told.taken.get(&id) {
            return Some(taken.known());
        }
        let ended = model.messages.get(&id)?.ended.as_deref()?;
        Some(Known {
            status: rank(ended.strip_prefix("message.")?),
            ..Known::default()
        })
    }
}

impl Known {
    fn of(row: &MessageRow) -> Known {
        let status = rank(row.status.word());
        let Some(sent) = &row.sent else {
            return Known {
                status,
                ..Known::default()
            };
        };
        let parts = sent.parts.iter();
        Known {
            status,
            parts: parts
                .map(|part| (part.id.clone(), rank(part.status.word())))
                .collect(),
            price: sent.price.clone(),
            segments: sent.told_segments,
        }
    }
}

/// What an event says of a message that a provider has taken.
fn news(event: &Event) -> Option<News> {
    let (kind, was) = (event.kind.as_str(), attribute(event, "was"));
    let is_taken = kind == "message.sent" || !["", "queued"].contains(&was);
    (is_taken && kind != "message.replayed").then(|| News {
        message: event.message.unwrap_or(MessageId([0; 16])),
        kind: kind.to_owned(),
        was: was.to_owned(),
    })
}
