//! Asking providers what became of messages: late prices, lost receipts.
//!
//! Passes over the sent messages, in the order of time, do it without rows of their own: one for each
//! age at which a message is asked for, and one that ends the wait for receipts. A pass that falls
//! behind so far that the next one would come first skips ahead.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use countersign_queue::{Cursor, FOLLOW_SENT_WITHIN, Followed, Line, Queue, ReceiveError};
use countersign_store::StoreError;
use countersign_types::{Clock, MessageId, SendError, StatusUpdate, UnixMillis};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Asks providers by their configured names what became of messages.
#[async_trait]
pub trait StatusSource: Send + Sync + 'static {
    /// Whether `provider` can be asked at all.
    fn tells_status(&self, provider: &str) -> bool;

    /// Asks `provider` for the present state of the messages that it knows as `ids`.
    ///
    /// # Errors
    ///
    /// When none of them could be asked for.
    async fn fetch_status(
        &self,
        provider: &str,
        ids: &[String],
    ) -> Result<Vec<StatusUpdate>, SendError>;
}

/// How old a message is when it is asked for. The first is above [`FOLLOW_SENT_WITHIN`] by the
/// minute in which nobody is asked, since receipts and prices need a moment.
const AGES: [Duration; 3] = [
    Duration::from_secs(120),
    Duration::from_secs(3_600),
    Duration::from_secs(24 * 3_600),
];
/// How long a receipt is waited for.
const WAIT: Duration = Duration::from_secs(72 * 3_600);
/// As many as a provider can ask for in one call, each with a request of its own.
const BATCH: usize = 8;
/// How many rows a pass looks at in one step.
const ROWS: usize = 128;
/// How many ids wait for one provider; beyond that the oldest wait for the next age.
const BACKLOG_MAX: usize = 1_024;
/// Between two steps.
const PACE: Duration = Duration::from_secs(1);
/// How long a provider is left alone that could not answer, and for how long at most.
const PAUSE: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// How often it is noted how far the passes have come: after a restart so much is asked again.
const NOTE_EVERY: Duration = Duration::from_secs(300);

/// One line at one age. `None`: the age at which the wait ends.
#[derive(Clone, Copy, Debug)]
struct Pass {
    line: Line,
    stage: Option<usize>,
}

impl Pass {
    const ALL: [Pass; 8] = {
        let pass = |line, stage| Pass { line, stage };
        [
            pass(Line::Accepted, Some(0)),
            pass(Line::Accepted, Some(1)),
            pass(Line::Accepted, Some(2)),
            pass(Line::Accepted, None),
            pass(Line::Sent, Some(0)),
            pass(Line::Sent, Some(1)),
            pass(Line::Sent, Some(2)),
            pass(Line::Sent, None),
        ]
    };

    fn age(self) -> Duration {
        match self.stage {
            Some(stage) => AGES[stage],
            None => self.wait(),
        }
    }

    /// From acceptance on the wait is longer, by what may lie between it and the sending.
    fn wait(self) -> Duration {
        match self.line {
            Line::Accepted => WAIT + FOLLOW_SENT_WITHIN,
            Line::Sent => WAIT,
        }
    }

    /// At which age another pass takes over.
    fn end(self) -> Option<Duration> {
        let stage = self.stage?;
        Some(AGES.get(stage + 1).copied().unwrap_or(self.wait()))
    }
}

/// Follows sent messages.
pub struct Follower {
    queue: Queue,
    clock: Arc<dyn Clock>,
    source: Arc<dyn StatusSource>,
    cursors: Vec<(Line, Cursor)>,
    noted: Vec<(Line, Cursor)>,
    noted_at: UnixMillis,
    backlogs: Arc<Mutex<HashMap<String, Backlog>>>,
}

/// What one provider is still to be asked for.
#[derive(Debug, Default)]
struct Backlog {
    ids: VecDeque<(MessageId, String)>,
    asking: bool,
    not_before: UnixMillis,
}
