//! Messages as operators look for them, over HTTP and on the command line: found by number and time, shown
//! with a masked number, and, with a trace, with the whole one.

use std::fmt;

use countersign_queue::{SEARCH_PAGE_MAX, SearchPage};
use countersign_runtime::{
    AuditCursor, AuditCursorError, CallError, MessageSearch, PhoneError, Revealed, Runtime,
};
use countersign_store::StoreError;
use countersign_types::{MessageId, NoTime, UnixMillis};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};

use crate::control::Answer;
use crate::story::Story;
use crate::users::operator;

/// Messages on a page where nothing is said.
pub(crate) const PAGE: usize = 50;
/// And at most.
pub(crate) const PAGE_MAX: usize = SEARCH_PAGE_MAX;
/// Entries of the trail on a page.
const TRAIL_PAGE: usize = 200;

/// Messages that were found, the newest first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) messages: Vec<Story>,
    /// The cursor of the next page, where there may be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

impl From<SearchPage> for Page {
    fn from(page: SearchPage) -> Page {
        Page {
            messages: page.messages.into_iter().map(Story::from).collect(),
            next: page.next.map(|id| id.to_string()),
        }
    }
}

/// A message with the whole number that it went to. It does not print.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WithNumber {
    pub(crate) id: String,
    /// In E.164.
    pub(crate) phone_number: String,
}

impl fmt::Debug for WithNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("WithNumber");
        shown.field("id", &self.id).finish_non_exhaustive()
    }
}

/// What the command line can ask for. Ids and cursors are those of messages, times RFC 3339.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MessagesRequest {
    Find(Wanted),
    Show { id: String },
    Reveal { id: String },
    Trail { after: Option<String> },
}

impl fmt::Debug for MessagesRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MessagesRequest::Find(_) => "Find(***)",
            MessagesRequest::Show { .. } => "Show",
            MessagesRequest::Reveal { .. } => "Reveal",
            MessagesRequest::Trail { .. } => "Trail",
        })
    }
}

/// Which messages are looked for, as it was typed.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) phone: Option<String>,
    pub(crate) start: Option<String>,
    pub(crate) end: Option<String>,
    pub(crate) after: Option<String>,
    pub(crate) limit: Option<usize>,
}

/// Why a request about messages was not done.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum LookupError {
    /// Not repeated, since it may be anything.
    #[error("an id of a message has 32 hexadecimal digits, and this is none")]
    #[diagnostic(
        code(countersign::messages::no_id),
        help("`countersign messages find` shows ids")
    )]
    NoId,
    #[error("there is no such message")]
    #[diagnostic(
        code(countersign::messages::absent),
        help(
            "messages are kept for `messages.days` after their end, and until their number is erased"
        )
    )]
    Absent,
    #[error("the number is none: {0}")]
    #[diagnostic(code(countersign::messages::phone))]
    Phone(#[from] PhoneError),
    #[error("`--start` and `--end` are times such as 2026-01-31T12:00:00Z (RFC 3339)")]
    #[diagnostic(code(countersign::messages::time))]
    Time,
    #[error("{0}")]
    #[diagnostic(code(countersign::messages::cursor))]
    Cursor(#[from] AuditCursorError),
    #[error(transparent)]
    #[diagnostic(code(countersign::messages::call))]
    Call(#[from] CallError),
    #[error(transparent)]
    #[diagnostic(code(countersign::messages::store))]
    Store(#[from] StoreError),
}

impl From<NoTime> for LookupError {
    fn from(_: NoTime) -> LookupError {
        LookupError::Time
    }
}

fn named(id: &str) -> Result<MessageId, LookupError> {
    id.parse().map_err(|_| LookupError::NoId)
}

fn search(runtime: &Runtime, wanted: Wanted) -> Result<MessageSearch, LookupError> {
    let Wanted {
        phone,
        start,
        end,
        after,
        limit,
    } = wanted;
    let time = |text: Option<String>| text.map(|text| text.parse::<UnixMillis>()).transpose();
    let number = phone.map(|phone| runtime.parse_phone(&phone));
    Ok(MessageSearch {
        number: number.transpose()?,
        from: time(start)?.unwrap_or(UnixMillis(0)),
        to: time(end)?.unwrap_or(UnixMillis(u64::MAX)),
        after: after.map(|id| named(&id)).transpose()?,
        limit: limit.unwrap_or(PAGE).min(PAGE_MAX),
    })
}

/// Does what the command line asks for.
///
/// # Errors
///
/// See [`LookupError`].
pub(crate) async fn perform(
    runtime: &Runtime,
    request: MessagesRequest,
) -> Result<Answer, LookupError> {
    Ok(match request {
        MessagesRequest::Find(wanted) => {
            let (operator, search) = (operator(), search(runtime, wanted)?);
            let found = runtime.find_messages(&operator, &search, "command");
            Answer::Messages(found.await?.into())
        }
        MessagesRequest::Show { id } => {
            let found = runtime.message(named(&id)?).await?;
            Answer::Message(Box::new(found.ok_or(LookupError::Absent)?.into()))
        }
        MessagesRequest::Reveal { id } => {
            let id = named(&id)?;
            let revealed = runtime
                .reveal_number(&operator(), id, "command", None)
                .await?;
            let Revealed::Number(number) = revealed.0 else {
                return Err(LookupError::Absent);
            };
            Answer::Revealed(WithNumber {
                id: id.to_string(),
                phone_number: number.expose().clone(),
            })
        }
        MessagesRequest::Trail { after } => {
            let after: Option<AuditCursor> = after.map(|text| text.parse()).transpose()?;
            let page = runtime.messages_trail(after, TRAIL_PAGE).await?;
            Answer::Trail(page.into())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_prints() {
        let wanted = Wanted {
            phone: Some("canary".to_owned()),
            ..Wanted::default()
        };
        let found = WithNumber {
            id: "1".to_owned(),
            phone_number: "canary".to_owned(),
        };
        let printed = format!("{:?} {found:?}", MessagesRequest::Find(wanted));
        assert!(!printed.contains("canary"), "{printed}");
    }
}
