//! The analytics service: as the server asks it, and as the log of events is handed to it.
//!
//! The component keeps where it has come to in a row of its own, which changes in the same commit as its
//! figures. So whatever is cut off, crashes, or is handed over twice, each event counts once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign_store::{Bound, StoreError, StoredEvent, read_event_rows};
use countersign_types::{Event, MessageId, UnixMillis};
use tokio::sync::watch;

pub(crate) use crate::bindings::analytics::exports::countersign::service::analytics as wit;
use crate::call::{CallContext, CallError, Caller, cut};
use crate::recount::wit_event;
use crate::{Runtime, figures};

/// How many events one batch holds, and how many bytes of them: what the WIT says.
const BATCH: Bound = Bound {
    events: 4_096,
    bytes: 1024 * 1024,
};

/// How long others are waited for when an event has come, so that few commits serve many.
const COMPANY: Duration = Duration::from_millis(100);
/// When the log is looked at again though nobody has said that there is something new.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// The pauses after a failure, from the first to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The namespace of the calls; cells are kept for all namespaces together.
const SERVICE: &str = "default";

/// Where the log has been counted up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folded {
    /// The position of the first event that has not been counted.
    pub next: u64,
    /// Whether there was more than one batch holds.
    pub more: bool,
}

impl Runtime {
    /// The figures of a range: see [`figures::Query`] for its bounds, which are the caller's to keep.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn dashboard(&self, query: &figures::Query) -> Result<figures::Report, CallError> {
        let query = Arc::new(query.clone());
        let report = self
            .call(
                &self.analytics("dashboard"),
                "dashboard",
                &context(),
                "dashboard",
                |exports, store, context| {
                    let query = query.clone();
                    Box::pin(async move {
                        let guest = exports.countersign_service_analytics();
                        guest.call_dashboard(store, &context, &query).await
                    })
                },
            )
            .await?;
        Ok(bounded(report))
    }

    /// Hands the analytics component the events from position `from` on, one batch of them; `None`: asks
    /// it where to begin.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. What was counted is counted; nothing else was changed.
    pub async fn fold(&self, from: Option<u64>) -> Result<Folded, CallError> {
        let (batch, more) = match from {
            Some(from) => self.batch(from).await?,
            None => (empty(0), true),
        };
        let end = batch.next;
        if from.is_some() && batch.events.is_empty() && end == batch.from {
            return Ok(Folded {
                next: end,
                more: false,
            });
        }
        let batch = Arc::new(batch);
        let next = self
            .call(
                &self.analytics("fold"),
                "fold",
                &context(),
                "fold",
                |exports, store, context| {
                    let batch = batch.clone();
                    Box::pin(async move {
                        let guest = exports.countersign_service_analytics();
                        guest.call_fold(store, &context, &batch).await
                    })
                },
            )
            .await?;
        Ok(Folded {
            next,
            more: more || next != end,
        })
    }

    /// Counts events as they come, until `stop` becomes true; one batch at a time, each by a call that waits
    /// for its place like any other.
    pub async fn fold_all(&self, mut stop: watch::Receiver<bool>) {
        let (mut next, mut pause) = (None, PAUSE);
        while !*stop.borrow() {
            let failed = match self.fold(next).await {
                Ok(folded) if folded.more && next == Some(folded.next) => {
                    Some("the component does not go on".to_owned())
                }
                Ok(folded) => {
                    (next, pause) = (Some(folded.next), PAUSE);
                    let reported = &self.host().figures.reported;
                    reported.store(folded.next, Ordering::Relaxed);
                    if folded.more {
                        continue;
                    }
                    None
                }
                Err(error) => Some(error.to_string()),
            };
            let idle = async {
                match failed {
                    Some(reason) => {
                        tracing::warn!(reason, "events could not be counted; trying again");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                    None => self.new_events(next).await,
                }
            };
            tokio::select! {
                biased;
                // The sender gone means stop as well.
                _ = stop.wait_for(|stop| *stop) => return,
                () = idle => {}
            }
        }
    }

    /// Waits until there are events from position `next` on, and for some company.
    async fn new_events(&self, next: Option<u64>) {
        let newest = next.unwrap_or(1).saturating_sub(1);
        let more = self.host().store.await_events(newest);
        if tokio::time::timeout(LOOK_AGAIN, more).await.is_ok() {
            tokio::time::sleep(COMPANY).await;
        }
    }

    /// The batch that begins at `from`, and whether there is more behind it.
    async fn batch(&self, from: u64) -> Result<(wit::Batch, bool), StoreError> {
        let host = self.host();
        let now = host.instants.now();
        let (stored, more) = read_event_rows(&*host.store, from, BATCH, now).await?;
        let mut batch = empty(from);
        for stored in stored {
            batch.next = stored.position + 1;
            match postcard::from_bytes::<Event>(&stored.event) {
                Ok(event) => batch
                    .events
                    .push(self.told(stored.position, event, now).await?),
                Err(_) => unreadable(&stored),
            }
        }
        Ok((batch, more))
    }

    /// An event as the component is told of it.
    async fn told(
        &self,
        position: u64,
        event: Event,
        now: UnixMillis,
    ) -> Result<wit::Event, StoreError> {
        let message = event.message;
        let mut event = wit_event(position, event);
        if let (Some(id), "verification.approved") = (message, &*event.kind) {
            // Who carried the code is known only now; a component names no provider.
            let attributes = &mut event.attributes;
            attributes.retain(|(name, _)| !["provider", "times"].contains(&name.as_str()));
            let carrier = self.carrier(id, now).await?;
            attributes.extend(carrier.map(|name| ("provider".to_owned(), name)));
        }
        Ok(event)
    }

    /// The provider that took a message, where one has and that is still known.
    pub(crate) async fn carrier(
        &self,
        id: MessageId,
        now: UnixMillis,
    ) -> Result<Option<String>, StoreError> {
        let message = match self.host().queue.message(id, now).await {
            Err(StoreError::Unreadable { .. }) => None,
            message => message?,
        };
        let sent = message.and_then(|message| message.row.sent);
        Ok(sent.map(|sent| sent.provider))
    }
}

/// How many of `events` are handed over at once; one always is.
pub(crate) fn fitting(events: &[wit::Event]) -> usize {
    let mut bytes = 0;
    let fits = events.iter().take(BATCH.events).take_while(|event| {
        let facts = event.attributes.iter();
        bytes += facts
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>();
        bytes <= BATCH.bytes
    });
    fits.count().max(1).min(events.len())
}

fn unreadable(stored: &StoredEvent) {
    tracing::error!(
        position = stored.position,
        "an event cannot be read and is not counted"
    );
}

fn empty(from: u64) -> wit::Batch {
    wit::Batch {
        from,
        next: from,
        events: Vec::new(),
    }
}

pub(crate) fn context() -> CallContext {
    CallContext {
        service: SERVICE.to_owned(),
        caller: Caller::Operator,
        client_address: None,
    }
}

/// A report within the bounds of the WIT.
fn bounded(mut report: figures::Report) -> figures::Report {
    let name = |text: &mut String| text.truncate(cut(text, figures::NAME_BYTES_MAX).len());
    name(&mut report.currency);
    report.unconverted.truncate(figures::UNCONVERTED_MAX);
    report.by_country.truncate(figures::COUNTRIES_MAX);
    report.by_status.truncate(figures::STATUSES_MAX);
    report.by_provider.truncate(figures::PROVIDERS_MAX);
    report.timeline.truncate(figures::STEPS_MAX);
    let unconverted = report.unconverted.iter_mut();
    unconverted.for_each(|of| name(&mut of.currency));
    report
        .by_country
        .iter_mut()
        .for_each(|of| name(&mut of.country));
    report
        .by_status
        .iter_mut()
        .for_each(|of| name(&mut of.status));
    report
        .by_provider
        .iter_mut()
        .for_each(|of| name(&mut of.provider));
    report
}
