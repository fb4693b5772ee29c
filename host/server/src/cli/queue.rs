//! `countersign queue`: what waits, what no provider could take, and sending that once more.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ask::{AskError, ask, print};
use super::{Failure, Place};
use crate::config::{Environment, Merged, Offline};
use crate::control::{Answer, Request};
use crate::queue::{QueueRequest, Replayed, Status};
use crate::story::Story;

/// Look at the queue, and replay messages that no provider could take.
#[derive(Debug, Args)]
pub(super) struct Queue {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// How many messages wait, for how long, and how many are dead; also what no action at all does.
    Status,
    /// List the messages that no provider could take, the newest first, or show one.
    Dead {
        /// The message's id.
        id: Option<String>,
    },
    /// Let a dead message wait again.
    Replay {
        /// The message's id.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        id: Option<String>,
        /// Every one of them.
        #[arg(long)]
        all: bool,
    },
}

impl Queue {
    /// Does it and prints the answer.
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let settings = Merged::load(&self.place.into(), environment)?.offline()?;
        let (value, text) = match self.action {
            None | Some(Action::Status) => one(&settings, QueueRequest::Status)?,
            Some(Action::Dead { id: Some(id) }) => one(&settings, QueueRequest::Letter { id })?,
            Some(Action::Dead { id: None }) => dead(&settings)?,
            Some(Action::Replay { id: Some(id), .. }) => {
                one(&settings, QueueRequest::Replay { id })?
            }
            Some(Action::Replay { id: None, .. }) => replay_all(&settings)?,
        };
        Ok(print(&if self.json {
            format!("{value}\n")
        } else {
            text
        })?)
    }
}

/// What is printed: as JSON, and for people.
type Printed = (Value, String);

fn one(settings: &Offline, request: QueueRequest) -> Result<Printed, AskError> {
    Ok(match ask(settings, Request::Queue(request))? {
        Answer::Queue(status) => (json!(status), for_people(&status)),
        Answer::Letter(story) => {
            let value = json!(story);
            let text = serde_json::to_string_pretty(&value).unwrap_or_default();
            (value, format!("{text}\n"))
        }
        Answer::Replayed(story) => {
            let text = format!("The message {} waits again.\n", story.id);
            (json!(story), text)
        }
        other => (json!(other), format!("{}\n", json!(other))),
    })
}

/// All pages, one after the other.
fn dead(settings: &Offline) -> Result<Printed, AskError> {
    let mut letters: Vec<Story> = Vec::new();
    let mut after = None;
    loop {
        let request = QueueRequest::Dead { after };
        let Answer::Dead(page) = ask(settings, Request::Queue(request))? else {
            break;
        };
        letters.extend(page.letters);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let text = if letters.is_empty() {
        "There are no dead messages.\n".to_owned()
    } else {
        table(&letters)
    };
    Ok((json!({"letters": letters}), text))
}

/// Page by page, so that no answer takes long; one that dies again meanwhile is newer than all pages.
fn replay_all(settings: &Offline) -> Result<Printed, AskError> {
    let mut all = Replayed::default();
    let mut after = None;
    loop {
        let request = QueueRequest::ReplaySome { after };
        let Answer::ReplayedSome(some) = ask(settings, Request::Queue(request))? else {
            break;
        };
        all.replayed.extend(some.replayed);
        all.left.extend(some.left);
        after = some.next;
        if after.is_none() {
            break;
        }
    }
    let mut text = format!("{} messages wait again.\n", all.replayed.len());
    for (id, reason) in &all.left {
        text += &format!("{id} does not: {reason}\n");
    }
    let left = all.left.iter();
    let left: Vec<_> = left
        .map(|(id, reason)| json!({"id": id, "reason": reason}))
        .collect();
    Ok((json!({"replayed": all.replayed, "left": left}), text))
}

fn for_people(status: &Status) -> String {
    let Status {
        depth,
        capacity,
        by_priority,
        in_hand,
        oldest_age_seconds,
        dead,
    } = status;
    format!(
        "waiting   {depth} of {capacity} (urgent {}, normal {}, bulk {}; {in_hand} in hand)\noldest    {oldest_age_seconds} s\ndead      {dead}\n",
        by_priority.urgent, by_priority.normal, by_priority.bulk
    )
}

fn table(letters: &[Story]) -> String {
    let head = ["ID", "ENDED", "TO", "CODE", "REASON"].map(str::to_owned);
    let lines = [head].into_iter().chain(letters.iter().map(cells));
    lines
        .map(|[id, ended, to, code, reason]| {
            format!("{id:<32}  {ended:<20}  {to:<16}  {code:<8}  {reason}\n")
        })
        .collect()
}

/// Id, end, receiver, the provider's own code, and why.
fn cells(story: &Story) -> [String; 5] {
    let last = story.attempts.last();
    let last = last.and_then(|last| Some((last, last.error.as_ref()?)));
    let code = last.and_then(|(_, error)| error.provider_code.clone());
    let told =
        last.map(|(last, error)| format!("{}: {}, {}", last.provider, error.class, error.reason));
    // The host's own reason is the later one.
    let reason = story.reason.clone().or(told);
    [
        story.id.clone(),
        story.ended_at.clone().unwrap_or_else(|| "-".to_owned()),
        story.to.clone(),
        code.unwrap_or_else(|| "-".to_owned()),
        reason.unwrap_or_else(|| "no provider was asked".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::ByPriority;

    fn letter(change: &Value) -> Story {
        let mut letter = json!({
            "id": "01a20fdeea0f163edc97898c0a1ab7d4",
            "status": "failed",
            "to": "+1202•••••23",
            "country": "US",
            "template": "verification",
            "purpose": "verification",
            "priority": "urgent",
            "caller": "anonymous",
            "acceptedAt": "2026-01-31T12:00:00Z",
            "endedAt": "2026-01-31T12:00:01Z",
            "attempts": [],
            "receipts": [],
        });
        let (letter_fields, change) = (letter.as_object_mut(), change.as_object());
        letter_fields
            .expect("an object")
            .extend(change.expect("an object").clone());
        serde_json::from_value(letter).expect("a story")
    }

    #[test]
    fn the_table_says_why_with_the_providers_own_code() {
        let refused = json!({
            "at": "2026-01-31T12:00:00Z",
            "provider": "twilio",
            "outcome": "failed",
            "class": "permanent",
            "providerCode": "21211",
            "reason": "no such number",
        });
        let letters = [
            letter(&json!({ "attempts": [refused] })),
            letter(&json!({ "reason": "no route leads to GG" })),
            letter(&json!({})),
        ];
        let want = "\
ID                                ENDED                 TO                CODE      REASON
01a20fdeea0f163edc97898c0a1ab7d4  2026-01-31T12:00:01Z  +1202•••••23      21211     twilio: permanent, no such number
01a20fdeea0f163edc97898c0a1ab7d4  2026-01-31T12:00:01Z  +1202•••••23      -         no route leads to GG
01a20fdeea0f163edc97898c0a1ab7d4  2026-01-31T12:00:01Z  +1202•••••23      -         no provider was asked
";
        let table = table(&letters);
        assert_eq!(table, want, "{table}");
    }

    #[test]
    fn status_says_what_waits_and_for_how_long() {
        let status = Status {
            depth: 3,
            capacity: 10,
            by_priority: ByPriority {
                urgent: 1,
                normal: 2,
                bulk: 0,
            },
            in_hand: 1,
            oldest_age_seconds: 7,
            dead: 4,
        };
        let want = "waiting   3 of 10 (urgent 1, normal 2, bulk 0; 1 in hand)\noldest    7 s\ndead      4\n";
        assert_eq!(for_people(&status), want);
    }
}
