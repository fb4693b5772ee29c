//! Asking providers what became of messages: late prices, lost receipts.
//!
//! Passes over the sent messages, in the order of time, do it without rows of their own: one for each
//! age at which a message is asked for, and one that ends the wait for receipts. A pass that falls
//! behind so far that the next one would come first skips ahead.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use countersign_queue::{Cursor, FOLLOW_SENT_WITHIN, Followed, Line, Queue, ReceiveError};
use countersign_store::StoreError;
use countersign_types::{Clock, MessageId, MonotonicMillis, SendError, StatusUpdate, UnixMillis};
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
const ROWS: usize = 1_024;
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
    const ALL: [Pass; 8] = [
        Pass::new(Line::Accepted, Some(0)),
        Pass::new(Line::Accepted, Some(1)),
        Pass::new(Line::Accepted, Some(2)),
        Pass::new(Line::Accepted, None),
        Pass::new(Line::Sent, Some(0)),
        Pass::new(Line::Sent, Some(1)),
        Pass::new(Line::Sent, Some(2)),
        Pass::new(Line::Sent, None),
    ];

    const fn new(line: Line, stage: Option<usize>) -> Pass {
        Pass { line, stage }
    }

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
    noted_at: Option<MonotonicMillis>,
    backlogs: Backlogs,
}

/// By provider, in an order that is always the same.
type Backlogs = Arc<Mutex<BTreeMap<String, Backlog>>>;

/// What one provider is still to be asked for.
#[derive(Debug, Default)]
struct Backlog {
    ids: VecDeque<(MessageId, String)>,
    asking: bool,
    not_before: MonotonicMillis,
}

impl Backlog {
    fn add(&mut self, found: Followed) {
        for id in found.ids {
            if self.ids.len() == BACKLOG_MAX {
                self.ids.pop_front();
            }
            self.ids.push_back((found.id, id));
        }
    }
}

impl Follower {
    /// A follower that goes on where the last one was; the first one begins with what is sent now.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn start(
        queue: Queue,
        clock: Arc<dyn Clock>,
        source: Arc<dyn StatusSource>,
    ) -> Result<Follower, StoreError> {
        let now = clock.now();
        let noted = queue.follower(now).await?.unwrap_or_default();
        let lines = Pass::ALL.iter().map(|pass| pass.line);
        let cursors = if noted.iter().map(|(line, _)| *line).eq(lines) {
            noted.clone()
        } else {
            let fresh = Pass::ALL.iter();
            fresh
                .map(|pass| (pass.line, pass.line.at(now - pass.age())))
                .collect()
        };
        Ok(Follower {
            queue,
            clock,
            source,
            cursors,
            noted,
            noted_at: None,
            backlogs: Arc::default(),
        })
    }

    /// Follows until `shutdown` becomes true.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut asking = JoinSet::new();
        loop {
            if let Err(error) = self.step().await {
                // A store that has failed for good ends the server.
                tracing::error!(%error, "sent messages could not be followed");
            }
            for provider in self.to_ask() {
                asking.spawn(self.asker(provider).ask_all());
            }
            while asking.try_join_next().is_some() {}
            tokio::select! {
                // Without chance, so that a simulation replays.
                biased;
                // The sender gone means stop as well.
                _ = shutdown.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep(PACE) => {}
            }
        }
        // Whoever is being asked is asked again after the next start.
        asking.shutdown().await;
        if let Err(error) = self.note(self.clock.now()).await {
            tracing::warn!(%error, "the follower could not note where it is");
        }
    }

    /// Moves every pass on by a page.
    async fn step(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        for (at, pass) in Pass::ALL.into_iter().enumerate() {
            self.advance(at, pass, now).await?;
        }
        let monotonic = self.clock.monotonic();
        let lately = self.noted_at.map(|at| monotonic.since(at));
        if lately.is_none_or(|since| since >= NOTE_EVERY) {
            self.noted_at = Some(monotonic);
            self.note(now).await?;
        }
        Ok(())
    }

    async fn advance(&mut self, at: usize, pass: Pass, now: UnixMillis) -> Result<(), StoreError> {
        let line = pass.line;
        let to = line.at(now - pass.age());
        // Not beyond the end: a clock that is set back must not have what comes now passed by.
        let mut from = self.cursors[at].1.clone().min(to.clone());
        if let Some(end) = pass.end() {
            from = from.max(line.at(now - end));
        }
        let page = self.queue.follow(line, &from, &to, ROWS, now).await?;
        let mut ends = JoinSet::new();
        for found in page.found {
            if pass.stage.is_none() {
                if found.lacks_receipt {
                    let queue = self.queue.clone();
                    // Together, so that they share the store's flushes.
                    ends.spawn(async move { queue.end_wait(found.id, now).await });
                }
            } else if self.source.tells_status(&found.provider) {
                let provider = found.provider.clone();
                lock(&self.backlogs).entry(provider).or_default().add(found);
            }
        }
        while let Some(ended) = ends.join_next().await {
            match ended {
                Ok(Ok(_)) => {}
                Ok(Err(ReceiveError::Store(error))) => return Err(error),
                // It is being changed, so its receipt is there; if not, the page comes again.
                Ok(Err(ReceiveError::Busy)) | Err(_) => return Ok(()),
            }
        }
        self.cursors[at].1 = page.next;
        Ok(())
    }

    async fn note(&mut self, now: UnixMillis) -> Result<(), StoreError> {
        if self.noted != self.cursors {
            self.queue.note_follower(&self.cursors, now).await?;
            self.noted.clone_from(&self.cursors);
        }
        Ok(())
    }

    /// The providers that there is something to ask of and that nobody asks; they count as asked.
    fn to_ask(&self) -> Vec<String> {
        let now = self.clock.monotonic();
        let mut backlogs = lock(&self.backlogs);
        let free = backlogs.iter_mut().filter(|(_, backlog)| {
            !backlog.asking && !backlog.ids.is_empty() && backlog.not_before <= now
        });
        free.map(|(name, backlog)| {
            backlog.asking = true;
            name.clone()
        })
        .collect()
    }

    fn asker(&self, provider: String) -> Asker {
        Asker {
            provider,
            queue: self.queue.clone(),
            clock: self.clock.clone(),
            source: self.source.clone(),
            backlogs: self.backlogs.clone(),
        }
    }
}

/// Asks one provider, one batch after the other, and is the only one that does.
struct Asker {
    provider: String,
    queue: Queue,
    clock: Arc<dyn Clock>,
    source: Arc<dyn StatusSource>,
    backlogs: Backlogs,
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.backlog(|backlog| backlog.asking = false);
    }
}

impl Asker {
    fn backlog<R>(&self, then: impl FnOnce(&mut Backlog) -> R) -> R {
        then(
            lock(&self.backlogs)
                .entry(self.provider.clone())
                .or_default(),
        )
    }

    async fn ask_all(self) {
        loop {
            let batch: Vec<_> = self.backlog(|backlog| {
                let count = backlog.ids.len().min(BATCH);
                backlog.ids.drain(..count).collect()
            });
            if batch.is_empty() {
                return;
            }
            if let Some(pause) = self.ask(&batch).await {
                let until = self.clock.monotonic() + pause;
                return self.backlog(|backlog| backlog.not_before = until);
            }
        }
    }

    /// Asks for one batch; how long to leave the provider alone, where it could not answer. The
    /// batch is not asked again then: its messages are, at the next age.
    async fn ask(&self, batch: &[(MessageId, String)]) -> Option<Duration> {
        let provider = self.provider.as_str();
        let ids: Vec<_> = batch.iter().map(|(_, id)| id.clone()).collect();
        let updates = match self.source.fetch_status(provider, &ids).await {
            Ok(updates) => updates,
            Err(error) => {
                let class = error.class.word();
                tracing::warn!(
                    provider,
                    class,
                    reason = error.text,
                    "a provider did not tell what became of messages"
                );
                let asked = Duration::from_millis(error.retry_after_ms.unwrap_or(0));
                return Some(asked.clamp(PAUSE, PAUSE_MAX));
            }
        };
        // Only what was asked for: an answer is no callback and has no signature.
        let own = |update: StatusUpdate| {
            let (message, _) = batch.iter().find(|(_, id)| *id == update.id)?;
            Some((*message, update))
        };
        let updates: Vec<_> = updates.into_iter().filter_map(own).collect();
        let taken = self.queue.fetched(provider, &updates, self.clock.now());
        if let Err(error) = taken.await {
            tracing::warn!(provider, %error, "what became of messages could not be stored");
        }
        None
    }
}

fn lock(backlogs: &Backlogs) -> MutexGuard<'_, BTreeMap<String, Backlog>> {
    backlogs.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
