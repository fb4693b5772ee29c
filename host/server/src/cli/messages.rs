//! `countersign messages`: find messages, look at one, and at the whole number that one went to.

use std::io::BufRead;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ask::{AskError, Session, print};
use super::{Failure, Place};
use crate::config::{Environment, Merged, Offline};
use crate::control::{Answer, Request};
use crate::lookup::{MessagesRequest, PAGE, PAGE_MAX, Wanted};
use crate::story::Story;
use crate::users::{Entry, by_line};

/// What stands for a number that is read from standard input.
const FROM_INPUT: &str = "-";

/// Find messages, look at one, and at the whole number that one went to.
#[derive(Debug, Args)]
pub(super) struct Messages {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List messages, the newest first.
    Find {
        /// To this number only; `-` reads it from standard input, so that it stands in no list of
        /// processes and in no history.
        #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
        phone: Option<String>,
        /// Accepted at or after, such as 2026-01-31T12:00:00Z.
        #[arg(long, value_name = "TIME")]
        start: Option<String>,
        /// Accepted before.
        #[arg(long, value_name = "TIME")]
        end: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "NUMBER", default_value_t = PAGE)]
        limit: usize,
        /// Older than this one: the `next` of an earlier list.
        #[arg(long, value_name = "ID")]
        cursor: Option<String>,
    },
    /// Show one message with its tries and receipts.
    Show {
        /// The message's id.
        id: String,
    },
    /// Show the whole number that a message went to; who has done so stands in the audit trail.
    Reveal {
        /// The message's id.
        id: String,
    },
    /// Who has looked for a number, looked at a whole one, and erased one, the newest first.
    Trail,
}

impl Messages {
    /// Does it and prints the answer.
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let settings = Merged::load(&self.place.into(), environment)?.offline()?;
        let (value, text) = match self.action {
            Action::Find {
                phone,
                start,
                end,
                limit,
                cursor,
            } => {
                let wanted = Wanted {
                    phone: phone.map(typed).transpose()?,
                    start,
                    end,
                    after: cursor,
                    limit: None,
                };
                find(&settings, wanted, limit)?
            }
            Action::Show { id } => one(&settings, MessagesRequest::Show { id })?,
            Action::Reveal { id } => one(&settings, MessagesRequest::Reveal { id })?,
            Action::Trail => trail(&settings)?,
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

/// The number `phone`, or what stands on standard input.
pub(super) fn typed(phone: String) -> Result<String, AskError> {
    if phone != FROM_INPUT {
        return Ok(phone);
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(AskError::System)?;
    Ok(line.trim().to_owned())
}

/// Page by page, until there are as many as are wanted.
fn find(settings: &Offline, mut wanted: Wanted, limit: usize) -> Result<Printed, AskError> {
    let mut session = Session::new(settings);
    let mut messages: Vec<Story> = Vec::new();
    while messages.len() < limit {
        wanted.limit = Some((limit - messages.len()).min(PAGE_MAX));
        let request = MessagesRequest::Find(wanted.clone());
        let Answer::Messages(page) = session.ask(Request::Messages(request))? else {
            break;
        };
        messages.extend(page.messages);
        wanted.after = page.next;
        if wanted.after.is_none() {
            break;
        }
    }
    let mut text = match messages.is_empty() {
        true => "There are no such messages.\n".to_owned(),
        false => table(&messages),
    };
    let mut value = json!({"messages": messages});
    if let Some(next) = wanted.after {
        text += &format!("There may be more: --cursor {next}\n");
        value["next"] = json!(next);
    }
    Ok((value, text))
}

fn one(settings: &Offline, request: MessagesRequest) -> Result<Printed, AskError> {
    let answer = Session::new(settings).ask(Request::Messages(request))?;
    Ok(match answer {
        Answer::Message(story) => {
            let value = json!(story);
            let text = serde_json::to_string_pretty(&value).unwrap_or_default();
            (value, format!("{text}\n"))
        }
        Answer::Revealed(found) => {
            let text = format!("{}\n", found.phone_number);
            (json!(found), text)
        }
        other => (json!(other), format!("{}\n", json!(other))),
    })
}

fn trail(settings: &Offline) -> Result<Printed, AskError> {
    let mut session = Session::new(settings);
    let mut entries: Vec<Entry> = Vec::new();
    let mut after = None;
    loop {
        let request = MessagesRequest::Trail { after };
        let Answer::Trail(page) = session.ask(Request::Messages(request))? else {
            break;
        };
        entries.extend(page.entries);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let text = match entries.is_empty() {
        true => {
            "Nobody has looked for a number, looked at a whole one, or erased one.\n".to_owned()
        }
        false => entries.iter().map(by_line).collect(),
    };
    Ok((json!({"entries": entries}), text))
}

fn table(messages: &[Story]) -> String {
    let head = ["ID", "ACCEPTED", "STATUS", "TO", "PROVIDER", "TEMPLATE"].map(str::to_owned);
    let lines = [head].into_iter().chain(messages.iter().map(cells));
    lines
        .map(|[id, accepted, status, to, provider, template]| {
            format!(
                "{id:<32}  {accepted:<20}  {status:<11}  {to:<16}  {provider:<16}  {template}\n"
            )
        })
        .collect()
}

fn cells(story: &Story) -> [String; 6] {
    let provider = story.provider.clone();
    let last = || story.attempts.last().map(|last| last.provider.clone());
    [
        story.id.clone(),
        story.accepted_at.clone(),
        story.status.clone(),
        story.to.clone(),
        provider.or_else(last).unwrap_or_else(|| "-".to_owned()),
        story.template.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_became_of_each() {
        let story = |change: Value| {
            let mut story = json!({
                "id": "01a20fdeea0f163edc97898c0a1ab7d4",
                "status": "queued",
                "to": "+1202•••••23",
                "country": "US",
                "template": "verification",
                "purpose": "verification",
                "priority": "urgent",
                "caller": "anonymous",
                "acceptedAt": "2026-01-31T12:00:00Z",
                "attempts": [],
                "receipts": [],
            });
            let change = change.as_object().cloned();
            story
                .as_object_mut()
                .expect("an object")
                .extend(change.expect("an object"));
            serde_json::from_value::<Story>(story).expect("a story")
        };
        let tried = json!({"at": "2026-01-31T12:00:00Z", "provider": "second", "outcome": "failed", "class": "throttled", "reason": "wait"});
        let messages = [
            story(json!({})),
            story(json!({"status": "delivered", "provider": "twilio"})),
            story(json!({"attempts": [tried]})),
        ];
        let want = "\
ID                                ACCEPTED              STATUS       TO                PROVIDER          TEMPLATE
01a20fdeea0f163edc97898c0a1ab7d4  2026-01-31T12:00:00Z  queued       +1202•••••23      -                 verification
01a20fdeea0f163edc97898c0a1ab7d4  2026-01-31T12:00:00Z  delivered    +1202•••••23      twilio            verification
01a20fdeea0f163edc97898c0a1ab7d4  2026-01-31T12:00:00Z  queued       +1202•••••23      second            verification
";
        let table = table(&messages);
        assert_eq!(table, want, "{table}");
    }
}
