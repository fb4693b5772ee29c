//! Counting anew what became of messages, as the command line asks for it: a step at a time, so that no
//! answer takes long.

use std::sync::Arc;
use std::time::Duration;

use countersign_runtime::{CallError, Recount, Recounted, Runtime};
use countersign_types::UnixMillis;
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long a step takes, about.
const STEP: Duration = Duration::from_millis(500);

/// What can be asked for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AnalyticsRequest {
    /// Begin to count anew.
    Rebuild,
    /// Go on with that one.
    GoOn { run: u64 },
}

/// How far it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecountShown {
    /// Which one.
    pub(crate) run: u64,
    /// Events of the log that have been looked at, and all there were.
    pub(crate) events: (u64, u64),
    /// Hours that have been dealt with, and all there are.
    pub(crate) hours: (u64, u64),
    /// Hours that are counted as they were before.
    pub(crate) same: u64,
    /// Hours that are counted otherwise now.
    pub(crate) changed: Vec<String>,
    /// Hours that were left as they are: not all of their messages are kept.
    pub(crate) incomplete: u64,
    /// Hours that were left as they are: their messages went on all the time.
    pub(crate) busy: Vec<String>,
    pub(crate) is_over: bool,
}

impl RecountShown {
    fn of(run: u64, progress: Recounted) -> RecountShown {
        let texts = |times: Vec<UnixMillis>| times.iter().map(UnixMillis::to_string).collect();
        RecountShown {
            run,
            events: progress.events,
            hours: progress.hours,
            same: progress.same,
            changed: texts(progress.changed),
            incomplete: progress.incomplete,
            busy: texts(progress.busy),
            is_over: progress.is_over,
        }
    }
}

/// Why it does not go on.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum RecountError {
    #[error("another rebuild has begun")]
    #[diagnostic(
        code(countersign::analytics::other_rebuild),
        help("wait for its end; hours that were replaced until now are right")
    )]
    Other,
    #[error("the analytics component cannot count: {0}")]
    #[diagnostic(
        code(countersign::analytics::not_counted),
        help("hours that were replaced until now are right; type it again")
    )]
    Call(#[from] CallError),
}

/// The one that goes on; a new one takes its place.
#[derive(Clone, Default)]
pub(crate) struct Recounts(Arc<Mutex<(u64, Option<Recount>)>>);

impl Recounts {
    /// Does what the command line asks for.
    ///
    /// # Errors
    ///
    /// See [`RecountError`].
    pub(crate) async fn perform(
        &self,
        runtime: &Runtime,
        request: AnalyticsRequest,
    ) -> Result<RecountShown, RecountError> {
        let mut held = self.0.lock().await;
        if let AnalyticsRequest::Rebuild = request {
            let begun = runtime.recount().await?;
            tracing::info!("messages are counted anew");
            *held = (held.0 + 1, Some(begun));
        }
        let (number, recount) = &mut *held;
        let run = match request {
            AnalyticsRequest::Rebuild => *number,
            AnalyticsRequest::GoOn { run } => run,
        };
        let recount = recount.as_mut().filter(|_| run == *number);
        let recount = recount.ok_or(RecountError::Other)?;
        let begun = Instant::now();
        while !recount.progress().is_over && begun.elapsed() < STEP {
            recount.advance().await?;
        }
        let shown = RecountShown::of(run, recount.progress());
        if shown.is_over {
            tracing::info!(
                changed = shown.changed.len(),
                "messages have been counted anew"
            );
            held.1 = None;
        }
        Ok(shown)
    }
}
