//! The queue as operators see it, over HTTP and on the command line.

use countersign_queue::{DEAD_PAGE_MAX, DeadPage, Queue, ReplayError};
use countersign_store::StoreError;
use countersign_types::{MessageId, UnixMillis};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};

use crate::control::Answer;
use crate::story::Story;

/// Dead letters on a page where nothing is said.
pub(crate) const PAGE: usize = 50;
/// And at most.
pub(crate) const PAGE_MAX: usize = DEAD_PAGE_MAX;

/// What is in the queue.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// Messages that are not over.
    pub(crate) depth: usize,
    pub(crate) capacity: usize,
    pub(crate) by_priority: ByPriority,
    /// Messages that are being handed over at this moment.
    pub(crate) in_hand: usize,
    /// How long the oldest has been waiting; 0 where nothing waits.
    pub(crate) oldest_age_seconds: u64,
    /// Messages that no provider could take.
    pub(crate) dead: usize,
}

/// The depth by priority.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ByPriority {
    pub(crate) urgent: usize,
    pub(crate) normal: usize,
    pub(crate) bulk: usize,
}

impl Status {
    /// What is in `queue` at `now`.
    pub(crate) fn of(queue: &Queue, now: UnixMillis) -> Status {
        let seen = queue.overview(now);
        Status {
            depth: seen.waiting,
            capacity: seen.capacity,
            by_priority: ByPriority {
                urgent: seen.urgent,
                normal: seen.normal,
                bulk: seen.bulk,
            },
            in_hand: seen.claimed,
            oldest_age_seconds: seen.oldest.map_or(0, |oldest| now.since(oldest).as_secs()),
            dead: seen.dead,
        }
    }
}

/// Dead letters, the newest first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) letters: Vec<Story>,
    /// The cursor of the next page, where there may be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

impl From<DeadPage> for Page {
    fn from(page: DeadPage) -> Page {
        Page {
            letters: page.letters.into_iter().map(Story::from).collect(),
            next: page.next.map(|id| id.to_string()),
        }
    }
}

/// What can be done with the queue. Ids and cursors are those of messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum QueueRequest {
    Status,
    Dead { after: Option<String> },
    Letter { id: String },
    Replay { id: String },
    ReplaySome { after: Option<String> },
}

/// What became of a page of dead letters.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Replayed {
    /// Ids of messages that wait again.
    pub(crate) replayed: Vec<String>,
    /// Ids of those that do not, with the reason.
    pub(crate) left: Vec<(String, String)>,
    /// Where to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// Why a request about the queue was not done.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum QueueError {
    /// Not repeated, since it may be anything.
    #[error("an id of a message has 32 hexadecimal digits, and this is none")]
    #[diagnostic(
        code(countersign::queue::no_id),
        help("`countersign queue dead` shows them all")
    )]
    NoId,
    #[error("{0}")]
    #[diagnostic(
        code(countersign::queue::replay),
        help("`countersign queue dead` shows what can be replayed")
    )]
    Replay(#[from] ReplayError),
    #[error(transparent)]
    #[diagnostic(code(countersign::queue::store))]
    Store(#[from] StoreError),
}

fn named(id: &str) -> Result<MessageId, QueueError> {
    id.parse().map_err(|_| QueueError::NoId)
}

fn cursor(after: Option<String>) -> Result<Option<MessageId>, QueueError> {
    after.map(|id| named(&id)).transpose()
}

/// Does what the command line asks for.
///
/// # Errors
///
/// See [`QueueError`].
pub(crate) async fn perform(
    queue: &Queue,
    request: QueueRequest,
    now: UnixMillis,
) -> Result<Answer, QueueError> {
    Ok(match request {
        QueueRequest::Status => Answer::Queue(Status::of(queue, now)),
        QueueRequest::Dead { after } => {
            let page = queue.dead_letters(cursor(after)?, PAGE, now).await?;
            Answer::Dead(page.into())
        }
        QueueRequest::Letter { id } => {
            let id = named(&id)?;
            let found = queue.dead_letter(id, now).await?;
            let found = found.ok_or(ReplayError::NotDead(id))?;
            Answer::Letter(Box::new(found.into()))
        }
        QueueRequest::Replay { id } => {
            let view = queue.replay(named(&id)?, now).await?;
            tracing::info!(message = %view.id, "a dead message waits again");
            Answer::Replayed(Box::new(view.into()))
        }
        QueueRequest::ReplaySome { after } => {
            let page = queue.dead_letters(cursor(after)?, PAGE, now).await?;
            let mut done = Replayed {
                next: page.next.map(|id| id.to_string()),
                ..Replayed::default()
            };
            for letter in page.letters {
                let id = letter.id.to_string();
                match queue.replay(letter.id, now).await {
                    Ok(_) => done.replayed.push(id),
                    // Without it nothing else can be said either.
                    Err(ReplayError::Store(error)) => return Err(error.into()),
                    Err(error) => done.left.push((id, error.to_string())),
                }
            }
            tracing::info!(messages = done.replayed.len(), "dead messages wait again");
            Answer::ReplayedSome(done)
        }
    })
}
