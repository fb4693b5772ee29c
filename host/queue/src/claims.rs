//! Claims: who works on what, and the commits that end it.
//!
//! On the embedded store claiming writes nothing, since one process owns all jobs. A claim still has
//! what a store that several hosts share needs: a lease, after which somebody else may take the job,
//! and the version of the row as fencing token, so that whoever comes late changes nothing. The lease
//! is by the process's monotonic clock: were it by the wall clock, setting that on would have somebody
//! else send what is being sent, and setting it back would keep a lost claim for as long.

use std::sync::Arc;
use std::time::Duration;

use countersign_store::{Commit, CommitError, Need, Read, StoreError, Write};
use countersign_types::{Accepted, MessageId, MonotonicMillis, SendError, Status, UnixMillis};

use crate::message::Sent;
use crate::order::{Lease, Next};
use crate::queue::Queue;
use crate::reading::Found;
use crate::rows::{self, JOBS, MESSAGES, gone, key};
use crate::{Attempt, Job, MessageRow, Outcome};

/// A bound on the sleep between two looks, since the clock may be set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long nothing is claimed where the disk has no room for it, until it is looked at again.
const ROOM_AGAIN: Duration = Duration::from_secs(1);

/// How often a commit about receipts is worked out anew when others come in between.
pub(crate) const RUNS_MAX: usize = 8;

/// Decides whether a provider may be handed another message now.
pub trait Gate: Send + Sync {
    /// Held while the message is handed over.
    type Pass: Send;

    /// A pass for one message to `lane`, the provider whose turn it is.
    ///
    /// # Errors
    ///
    /// Where there is none: how long it is until there may be one, or `None` where only the end of
    /// something can bring it, after which [`Queue::ring`] is to be called. It is called under the
    /// queue's lock, so it must not use the queue.
    fn pass(
        &self,
        lane: Option<&str>,
        now: MonotonicMillis,
    ) -> Result<Self::Pass, Option<Duration>>;
}

/// A gate that lets everything through.
#[derive(Clone, Copy, Debug)]
pub struct Open;

impl Gate for Open {
    type Pass = ();
    fn pass(&self, _: Option<&str>, _: MonotonicMillis) -> Result<(), Option<Duration>> {
        Ok(())
    }
}

/// A job that somebody works on.
#[derive(Debug)]
pub struct Claim {
    /// The message's name.
    pub id: MessageId,
    /// What is to be done.
    pub job: Job,
    /// The hold on it.
    pub lease: Lease,
    /// The version of the row: the fencing token.
    version: u64,
}

/// A claim, and what it was let through with.
#[derive(Debug)]
pub struct Taken<P> {
    /// The claim.
    pub claim: Claim,
    /// `None` where its time is over: it can only be ended.
    pub pass: Option<P>,
}

/// How a claim ended.
#[derive(Clone, Debug)]
pub enum Finish {
    /// A provider took the message.
    Sent {
        /// When the try began.
        at: UnixMillis,
        /// The provider's configured name.
        provider: String,
        /// What it said.
        accepted: Accepted,
        /// Whether it was told where receipts go.
        receipt_asked: bool,
        /// How many SMS its text takes, as we count; `None` for what is no SMS.
        counted: Option<u32>,
    },
    /// It is to be tried again.
    Retry {
        /// When the try began.
        at: UnixMillis,
        /// The provider's configured name.
        provider: String,
        /// What went wrong.
        error: SendError,
        /// When to try again.
        due: UnixMillis,
    },
    /// It is not to be tried again.
    Over {
        /// How the message ends: failed, expired or unknown.
        status: Status,
        /// The last try, where there was one.
        attempt: Option<Attempt>,
        /// Why, where no provider's answer says it: for the operator, free of codes and numbers.
        reason: Option<String>,
    },
}

impl Queue {
    /// Waits for the next job that is due and that `gate` lets through, and claims it: the most
    /// urgent, among those the one of the caller whose turn it is. A job whose time is over is
    /// claimed at once, without a pass. Nothing is while the disk has no room for deliveries. Cancel
    /// safe.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn next<G: Gate>(&self, gate: &G) -> Result<Taken<G::Pass>, StoreError> {
        loop {
            if !self.inner.store.has_room(Need::Deliver) {
                // Whatever it ends with is written, so nothing begins: a message that is tried over
                // and over would fill the disk.
                tokio::time::sleep(ROOM_AGAIN).await;
                continue;
            }
            // Before the look, so that a ring in between is not missed.
            let bell = self.inner.bell.notified();
            let now = self.now();
            let found = self.order().take(now, self.inner.config.lease, gate);
            let (lease, pass) = match found {
                Next::Job(lease, pass) => (lease, pass),
                Next::Nothing(wait) => {
                    let wait = wait.unwrap_or(LOOK_AGAIN);
                    let wait = wait.clamp(Duration::from_millis(1), LOOK_AGAIN);
                    // Either way it is time to look again.
                    let _ = tokio::time::timeout(wait, bell).await;
                    continue;
                }
            };
            let back = PutBack::new(self, lease);
            let key = key(JOBS, lease.id);
            let found = self.find::<Job>(&key, now.wall).await?;
            back.keep();
            match found {
                Found::Row(row) => {
                    let claim = Claim::new(row.value, lease, row.version);
                    return Ok(Taken { claim, pass });
                }
                // One that cannot be read stays where it is; the others must not wait for it.
                Found::Nothing | Found::Unreadable => self.order().forget(lease),
            }
        }
    }

    /// Gives up a claim without a result: the job waits again, for `pause`, as it stands in its row.
    pub fn put_back(&self, lease: Lease, pause: Duration) {
        let until = self.now().monotonic + pause;
        self.order().put_back(lease, until, |_| {});
        self.ring();
    }

    /// Gives up a claim whose message is to wait for another provider than it did.
    pub fn move_to(&self, lease: Lease, provider: Arc<str>) {
        let now = self.now().monotonic;
        self.order().put_back(lease, now, |ticket| {
            ticket.lane = Some(provider);
        });
        self.ring();
    }

    /// Notes durably that a try has begun, for messages that must not go out twice. Returns whether
    /// the claim still holds; its lease begins anew.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn begin(
        &self,
        claim: &mut Claim,
        at: UnixMillis,
        provider: &str,
    ) -> Result<bool, StoreError> {
        if !self.renew(claim) {
            return Ok(false);
        }
        claim.job.record(Attempt {
            at,
            ended: at,
            provider: provider.to_owned(),
            outcome: Outcome::Started,
        });
        let row = rows::put(&self.inner.keyring, key(JOBS, claim.id), &claim.job, None)?;
        let commit = claim.commit(at, vec![row], Vec::new());
        match self.commit(commit).await? {
            Some(version) => claim.version = version,
            None => {
                self.void(claim).await?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends a claim, durably. Returns whether the claim still held; otherwise nothing was changed.
    ///
    /// # Errors
    ///
    /// When the store fails. The claim still holds its job then.
    pub async fn finish(
        &self,
        mut claim: Claim,
        finish: Finish,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        // The commit has its time as well.
        if !self.renew(&mut claim) {
            return Ok(false);
        }
        match finish {
            Finish::Sent {
                at,
                provider,
                accepted,
                receipt_asked,
                counted,
            } => {
                claim.job.record(Attempt {
                    at,
                    ended: now,
                    provider: provider.clone(),
                    outcome: Outcome::Accepted {
                        ids: accepted.ids.clone(),
                        segments: accepted.segments,
                        price: accepted.price.clone(),
                    },
                });
                let sent = Sent {
                    counted,
                    ..Sent::new(provider, accepted, receipt_asked, now)
                };
                self.sent(claim, sent, now).await
            }
            Finish::Retry {
                at,
                provider,
                error,
                due,
            } => {
                let attempt = Attempt {
                    at,
                    ended: now,
                    provider,
                    outcome: Outcome::Failed(error),
                };
                self.retry(claim, attempt, due, now).await
            }
            Finish::Over {
                status,
                attempt,
                reason,
            } => {
                if let Some(attempt) = attempt {
                    claim.job.record(attempt);
                }
                self.over(claim, status, reason, now).await
            }
        }
    }

    /// Ends a claim whose row somebody else has changed: one whose lease had ended while its own
    /// commit was under way. That one cannot put the job back any more, so this one does, if it is there.
    pub(crate) async fn void(&self, claim: &Claim) -> Result<(), StoreError> {
        let job = self.inner.store.get(&key(JOBS, claim.id)).await?;
        match job {
            Some(_) => self.put_back(claim.lease, Duration::ZERO),
            None => self.order().forget(claim.lease),
        }
        Ok(())
    }

    fn renew(&self, claim: &mut Claim) -> bool {
        let until = self.now().monotonic + self.inner.config.lease;
        self.order().renew(&mut claim.lease, until)
    }

    async fn sent(&self, claim: Claim, sent: Sent, now: UnixMillis) -> Result<bool, StoreError> {
        let number = self.number_index(&claim.job.to);
        // A message must not be sent again for having many receipts early, nor lose one of them.
        for _ in 0..Queue::sent_runs_max(sent.parts.len()) {
            // What has come early expires, which the committer judges by the newest commit.
            let now = now.max(self.inner.store.newest_instant());
            let mut message = claim.job.clone().into_message(Status::Sent, now);
            message.sent = Some(sent.clone());
            message.number.clone_from(&number);
            let mut commit = claim.commit(now, vec![gone(key(JOBS, claim.id))], Vec::new());
            self.record_sent(&claim, &mut message, &mut commit, now)
                .await?;
            let (row_key, until) = (key(MESSAGES, claim.id), self.kept_until(now));
            let row = rows::put(&self.inner.keyring, row_key, &message, Some(until))?;
            commit.writes.push(row);
            let row = self.number_row(&number, claim.id, &claim.job.to, until)?;
            commit.writes.push(row);
            if self.commit(commit).await?.is_some() {
                self.order().forget(claim.lease);
                return Ok(true);
            }
            // Either somebody else has the job, or a receipt has just come.
            let job = self.inner.store.get(&key(JOBS, claim.id)).await?;
            if job.is_none_or(|row| row.version != claim.version) {
                self.void(&claim).await?;
                return Ok(false);
            }
        }
        Err(StoreError::Failed(
            "receipts came in between all the time".to_owned(),
        ))
    }

    async fn retry(
        &self,
        mut claim: Claim,
        attempt: Attempt,
        due: UnixMillis,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        // Before the commit, whose time is part of the pause.
        let until = self.now().monotonic + due.since(now);
        claim.job.record(attempt);
        claim.job.counts.due_first.get_or_insert(claim.job.due);
        claim.job.due = due;
        let event = claim.job.attempt_failed_event(claim.id, now);
        let row = rows::put(&self.inner.keyring, key(JOBS, claim.id), &claim.job, None)?;
        let commit = claim.commit(now, vec![row], vec![event]);
        let held = self.commit(commit).await?.is_some();
        if held {
            let lane = self.lane(&claim.job);
            self.order().put_back(claim.lease, until, |ticket| {
                ticket.due = due;
                ticket.lane = lane;
            });
            self.ring();
        } else {
            self.void(&claim).await?;
        }
        Ok(held)
    }

    async fn over(
        &self,
        claim: Claim,
        status: Status,
        reason: Option<String>,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let event = claim.job.over_event(claim.id, status, now);
        let (id, job) = (claim.id, claim.job.clone());
        let (number, until) = (self.number_index(&job.to), self.kept_until(now));
        let found_by = self.number_row(&number, id, &job.to, until)?;
        let rest = if status == Status::Failed {
            self.dead_row(id, job, reason, now)?
        } else {
            let message = MessageRow {
                reason,
                number,
                ..job.into_message(status, now)
            };
            rows::put(
                &self.inner.keyring,
                key(MESSAGES, id),
                &message,
                Some(until),
            )?
        };
        let writes = vec![gone(key(JOBS, id)), rest, found_by];
        let commit = claim.commit(now, writes, vec![event]);
        let held = self.commit(commit).await?.is_some();
        if held && status == Status::Failed {
            self.dead_count().add(until);
        }
        if held {
            self.order().forget(claim.lease);
        } else {
            self.void(&claim).await?;
        }
        Ok(held)
    }

    /// Commits; the new version, or `None` where something it read has changed.
    pub(crate) async fn commit(&self, commit: Commit) -> Result<Option<u64>, StoreError> {
        match self.inner.store.commit(commit).await {
            Ok(committed) => Ok(committed.version),
            Err(CommitError::Store(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }
}

impl Claim {
    pub(crate) fn new(job: Job, lease: Lease, version: u64) -> Claim {
        Claim {
            id: lease.id,
            job,
            lease,
            version,
        }
    }

    /// A commit that counts only while the claimed row is what it was.
    pub(crate) fn commit(
        &self,
        now: UnixMillis,
        writes: Vec<Write>,
        events: Vec<Vec<u8>>,
    ) -> Commit {
        Commit {
            instant: now,
            reads: vec![Read {
                key: key(JOBS, self.id),
                version: Some(self.version),
                until: None,
            }],
            writes,
            events,
            ..Commit::default()
        }
    }
}

/// Puts a job back when its claim was cancelled half-way.
pub(crate) struct PutBack<'a> {
    queue: &'a Queue,
    lease: Option<Lease>,
}

impl<'a> PutBack<'a> {
    pub(crate) fn new(queue: &'a Queue, lease: Lease) -> PutBack<'a> {
        let lease = Some(lease);
        PutBack { queue, lease }
    }

    pub(crate) fn keep(mut self) {
        self.lease = None;
    }
}

impl Drop for PutBack<'_> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.queue.put_back(lease, Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests;
