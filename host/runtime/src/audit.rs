//! The audit trail: rows that are added and never changed, newest first. Each user has one, and one is
//! of what people do with messages and numbers.
//!
//! `a/{user's index}/{time, all bits turned}{number, all bits turned}`, sealed; `a/messages/…` the other
//! one. The number tells records of one millisecond apart.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use countersign_store::{
    Body, CommitError, Ending, Keyring, Need, Rulings, Section, StoreError, Transaction,
    TransactionError,
};
use countersign_types::{Event, UnixMillis, hex};
use serde::{Deserialize, Serialize};

use crate::call::{CallContext, CallError, Caller, busy, store_full};
use crate::once::Once;
use crate::subject::Turn;
use crate::{Runtime, UserId};

/// The most that one page of the trail holds.
const PAGE_MAX: usize = 200;
/// The format of a record's row.
const STATE: u32 = 1;
/// Whose trail it is that belongs to no user: no index is such a word.
const MESSAGES: &str = "messages";
/// The time and the number at the end of a key.
const WHEN_BYTES: usize = 10;

/// One thing that was done to a user, or by them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: UnixMillis,
    /// `noun.verb` in the past tense, for example `login.failed`.
    pub kind: String,
    /// Who asked for it.
    pub by: Caller,
    /// The namespace.
    pub service: String,
    /// The component that recorded it, or `host`.
    pub source: String,
    /// Further facts; no secrets and no personal data.
    pub attributes: Vec<(String, String)>,
}

/// Part of a trail, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// At most as many as were asked for.
    pub entries: Vec<AuditEntry>,
    /// Where to go on; `None` at the end.
    pub next: Option<AuditCursor>,
}

/// A place in a trail, as text that means nothing to others: 20 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditCursor([u8; WHEN_BYTES]);

/// A text that is no [`AuditCursor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such place in the trail")]
pub struct AuditCursorError;

impl fmt::Display for AuditCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for AuditCursor {
    type Err = AuditCursorError;

    fn from_str(text: &str) -> Result<AuditCursor, AuditCursorError> {
        let decoded = data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
        let when = decoded.and_then(|bytes| bytes.try_into().ok());
        when.map(AuditCursor).ok_or(AuditCursorError)
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    kind: String,
    by: Caller,
    service: String,
    source: String,
    attributes: Vec<(String, String)>,
}

fn prefix(subject: &str) -> Vec<u8> {
    [b"a/", subject.as_bytes(), b"/"].concat()
}

fn when(at: UnixMillis, number: u16) -> [u8; WHEN_BYTES] {
    let mut when = [0; WHEN_BYTES];
    when[..8].copy_from_slice(&(!at.0).to_be_bytes());
    when[8..].copy_from_slice(&(!number).to_be_bytes());
    when
}

/// What a record of the host's own is of, with what the request is answered by.
pub(crate) enum Step<'a, R> {
    /// Something that is about to begin: nothing is answered yet.
    Begins,
    /// Something that is done as soon as it is recorded.
    Whole(&'a R),
    /// Something whose beginning is in the trail: to be had on a disk that is nearly full too.
    Ends(&'a R),
}

impl<R> Step<'_, R> {
    fn need(&self) -> Need {
        match self {
            Step::Begins | Step::Whole(_) => Need::Call,
            Step::Ends(_) => Need::Finish,
        }
    }
}

/// Puts a record into a transaction, and the event of the same kind.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn record(
    transaction: &mut Transaction,
    keyring: &Keyring,
    kept: Duration,
    subject: &str,
    entry: AuditEntry,
) -> Result<(), TransactionError> {
    let prefix = prefix(subject);
    let mut number = 0;
    // A missing row is a read: who takes the same number at once runs again.
    let key = loop {
        let key = [prefix.as_slice(), &when(entry.at, number)].concat();
        if transaction.host(&key).await?.is_none() {
            break key;
        }
        number = number.checked_add(1).ok_or_else(|| {
            TransactionError::Misuse("too many records of one trail in a millisecond".to_owned())
        })?;
    };
    let event = Event {
        kind: entry.kind.clone(),
        at: entry.at,
        service: entry.service.clone(),
        source: entry.source.clone(),
        message: None,
        country: None,
        attributes: entry.attributes.clone(),
    };
    let stored = Stored {
        kind: entry.kind,
        by: entry.by,
        service: entry.service,
        source: entry.source,
        attributes: entry.attributes,
    };
    // Serialising plain data into a `Vec` cannot fail.
    let plain = postcard::to_allocvec(&stored).unwrap_or_default();
    let value = keyring
        .seal(&key, &plain)
        .map_err(|error| StoreError::Failed(error.to_string()))?;
    let section = Section {
        state: STATE,
        expires: Some(entry.at + kept),
        value,
    };
    transaction.set_host(&key, Some(section)).await?;
    transaction.emit(postcard::to_allocvec(&event).unwrap_or_default());
    Ok(())
}

fn read(keyring: &Keyring, key: &[u8], section: &Section) -> Result<AuditEntry, StoreError> {
    let unreadable = || StoreError::Unreadable {
        key: "a/".to_owned(),
    };
    let time = key
        .len()
        .checked_sub(WHEN_BYTES)
        .and_then(|from| key[from..].first_chunk::<8>())
        .ok_or_else(unreadable)?;
    let plain = keyring
        .unseal(key, &section.value)
        .map_err(|_| unreadable())?;
    if section.state != STATE {
        return Err(unreadable());
    }
    let stored: Stored = postcard::from_bytes(&plain).map_err(|_| unreadable())?;
    Ok(AuditEntry {
        at: UnixMillis(!u64::from_be_bytes(*time)),
        kind: stored.kind,
        by: stored.by,
        service: stored.service,
        source: stored.source,
        attributes: stored.attributes,
    })
}

impl Runtime {
    /// The trail of a user, newest first, from behind `after` on: 1 to 200 records. Returns when they are
    /// durable.
    ///
    /// # Errors
    ///
    /// When the store fails. A record that cannot be read is passed by, and the log says so.
    pub async fn audit_trail(
        &self,
        user: &UserId,
        after: Option<AuditCursor>,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        let index = self.host().keyring.user_index(user.as_str());
        self.trail(&index, after, limit).await
    }

    /// The trail of what was done with messages and numbers: which were looked for, looked at in full,
    /// and erased. As [`audit_trail`](Runtime::audit_trail).
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn messages_trail(
        &self,
        after: Option<AuditCursor>,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        self.trail(MESSAGES, after, limit).await
    }

    async fn trail(
        &self,
        subject: &str,
        after: Option<AuditCursor>,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        let host = self.host();
        let limit = limit.clamp(1, PAGE_MAX);
        let now = host.instants.now();
        let prefix = prefix(subject);
        let mut from = prefix.clone();
        if let Some(AuditCursor(when)) = after {
            from.extend_from_slice(&when);
            from.push(0);
        }
        // `0` follows the `/` that ends the prefix.
        let to = [&prefix[..prefix.len() - 1], b"0"].concat();
        let rows = host.store.scan(&from, &to, limit + 1).await?;
        let mut entries = Vec::new();
        let mut last = None;
        for (key, row) in rows.iter().take(limit) {
            let Ok(row) = row else {
                // One damaged record is no reason to show none.
                tracing::error!("a record of the audit trail cannot be read");
                last = key.last_chunk().copied().map(AuditCursor);
                continue;
            };
            let Body::Sections(sections) = &row.body else {
                continue;
            };
            // What is older than the first one that is over is over as well.
            let Some(section) = sections.host.as_ref().filter(|section| section.live(now)) else {
                last = None;
                break;
            };
            match read(&host.keyring, key, section) {
                Ok(entry) => entries.push(entry),
                Err(error) => tracing::error!(%error, "a record of the audit trail cannot be read"),
            }
            last = key.last_chunk().copied().map(AuditCursor);
        }
        host.store.settle().await?;
        Ok(AuditPage {
            entries,
            next: last.filter(|_| rows.len() > limit),
        })
    }

    /// Adds what the host itself did to the trail of a user; returns its instant when it is durable.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; no component is asked, so none can fail.
    pub async fn audit_record(
        &self,
        context: &CallContext,
        user: &UserId,
        kind: &str,
        attributes: Vec<(String, String)>,
        once: Option<Once<'_, ()>>,
    ) -> Result<UnixMillis, CallError> {
        let index = self.host().keyring.user_index(user.as_str());
        let (line, facts) = (format!("user/{index}"), (kind, attributes));
        self.record_once(
            context,
            &index,
            &line,
            facts,
            &Step::Whole(&()),
            once.as_ref(),
        )
        .await
    }

    /// Adds to the trail of what was done with messages and numbers; returns the instant when it is
    /// durable. Operators and applications wait in lines of their own, so that neither keep the others
    /// out.
    pub(crate) async fn record_of_messages<R>(
        &self,
        context: &CallContext,
        facts: (&str, Vec<(String, String)>),
        step: &Step<'_, R>,
        once: Option<&Once<'_, R>>,
    ) -> Result<UnixMillis, CallError> {
        let line = match context.caller {
            Caller::Operator => "messages/operator",
            Caller::Anonymous | Caller::Key(_) | Caller::Token(_) => "messages/applications",
        };
        // Of each line one goes on to the turn for the trail itself, where so at most two wait.
        let _first = self.turn(line).await?;
        let recorded = self.record_once(context, MESSAGES, "messages", facts, step, once);
        recorded.await
    }

    async fn turn(&self, line: &str) -> Result<Turn<'_>, CallError> {
        let host = self.host();
        let turn = host.subjects.turn(line);
        let turn = tokio::time::timeout(host.limits.service_wall, turn).await;
        turn.ok().and_then(Result::ok).ok_or_else(busy)
    }

    async fn record_once<R>(
        &self,
        context: &CallContext,
        subject: &str,
        line: &str,
        (kind, attributes): (&str, Vec<(String, String)>),
        step: &Step<'_, R>,
        once: Option<&Once<'_, R>>,
    ) -> Result<UnixMillis, CallError> {
        let host = self.host();
        // Records of one moment would only make each other stale, so they take turns with the calls about
        // the same user.
        let _turn = self.turn(line).await?;
        let mut rulings = Rulings::default();
        for _ in 0..host.limits.runs {
            let instant = host.instants.now();
            let mut transaction = Transaction::new(host.store.clone(), instant, rulings.clone());
            if let Some(once) = once {
                once.begin(&mut transaction).await?;
            }
            let entry = AuditEntry {
                at: instant,
                kind: kind.to_owned(),
                by: context.caller.clone(),
                service: context.service.clone(),
                source: "host".to_owned(),
                attributes: attributes.clone(),
            };
            let recorded = record(
                &mut transaction,
                &host.keyring,
                host.audit_kept,
                subject,
                entry,
            );
            match recorded.await {
                Ok(()) => {}
                Err(TransactionError::Store(error)) => return Err(error.into()),
                Err(TransactionError::Misuse(_)) => return Err(busy()),
            }
            match (once, step) {
                (None, _) => {}
                // Only asked whether it may happen.
                (Some(once), Step::Begins) => once.give_back(&mut transaction),
                (Some(once), Step::Whole(verdict) | Step::Ends(verdict)) => {
                    once.end(&mut transaction, verdict).await?;
                }
            }
            let mut commit = transaction.into_commit(Ending::Commit);
            commit.need = step.need();
            match host.store.commit(commit).await {
                Ok(_) => return Ok(instant),
                Err(CommitError::NoRoom { take, until }) => rulings.add(take, until),
                Err(CommitError::Full) => return Err(store_full()),
                Err(CommitError::Store(error)) => return Err(error.into()),
                // Somebody else was at it, which the next run will see.
                Err(_) => {}
            }
        }
        Err(busy())
    }
}
