//! Calls that happen once, however often they are asked for.
//!
//! Whoever asks has a [`Claim`] on a row of the [`Ledger`](crate::Ledger). The run reads that row
//! first, so a commit of the same request in between makes the run stale; and the verdict writes it,
//! in the call's own commit. So the effect of a call and the mark that it has happened are durable
//! together or not at all.

use countersign_store::{StoreError, Transaction};
use countersign_types::UnixMillis;

use crate::CallError;
use crate::ledger::{Claim, KeptAnswer};

/// Makes the answer to a verdict, reached at that instant; `None` for one that leaves the key free.
type Answers<'a, R> = Box<dyn Fn(&R, UnixMillis) -> Option<KeptAnswer> + Send + Sync + 'a>;

/// Which request a call answers, and how: for a call whose verdict is an `R`.
pub struct Once<'a, R> {
    claim: Claim,
    answer: Answers<'a, R>,
}

impl Claim {
    /// What the call needs to happen once: its verdict is kept as `answer` says. A verdict that has no
    /// answer to be kept leaves the key free.
    pub fn once<'a, R>(
        &self,
        answer: impl Fn(&R, UnixMillis) -> Option<KeptAnswer> + Send + Sync + 'a,
    ) -> Once<'a, R> {
        Once {
            claim: self.clone(),
            answer: Box::new(answer),
        }
    }
}

impl<'a, R: 'a> Once<'a, R> {
    /// The same for a call whose verdict becomes an `R`.
    pub(crate) fn of<W: 'a>(self, convert: impl Fn(&W) -> R + Send + Sync + 'a) -> Once<'a, W> {
        let Once { claim, answer } = self;
        Once {
            claim,
            answer: Box::new(move |verdict, instant| answer(&convert(verdict), instant)),
        }
    }

    /// Looks whether the request has happened already, and takes one of its caller's keys. To be asked
    /// before a run does anything else.
    ///
    /// # Errors
    ///
    /// When it has, when there is no room for it, or when the store fails.
    pub async fn begin(&self, transaction: &mut Transaction) -> Result<(), CallError> {
        if transaction
            .host(self.claim.row())
            .await
            .map_err(StoreError::from)?
            .is_some()
        {
            return Err(CallError::Happened);
        }
        match transaction
            .take(self.claim.take())
            .await
            .map_err(StoreError::from)?
        {
            Ok(()) => Ok(()),
            Err(retry_at) => Err(CallError::TooManyOnce {
                retry_after: retry_at.since(transaction.instant()),
            }),
        }
    }

    /// Puts `verdict` into the commit of a run that has changed something else in `transaction`: to be
    /// called when all of that is there. A run that has not leaves the key free: what may be asked again
    /// without harm need not be remembered.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn end(&self, transaction: &mut Transaction, verdict: &R) -> Result<(), StoreError> {
        // What was taken at the beginning is one of the changes.
        if transaction.changes() > 1 {
            return self.record(transaction, verdict).await;
        }
        self.give_back(transaction);
        Ok(())
    }

    /// Leaves the key free after a [`begin`](Once::begin).
    pub(crate) fn give_back(&self, transaction: &mut Transaction) {
        transaction.give_back(&self.claim.take());
    }

    /// Puts `verdict` into the commit, for whoever adds to it what `transaction` does not know of.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn record(
        &self,
        transaction: &mut Transaction,
        verdict: &R,
    ) -> Result<(), StoreError> {
        let instant = transaction.instant();
        let Some(answer) = (self.answer)(verdict, instant) else {
            self.give_back(transaction);
            return Ok(());
        };
        for (key, section) in self.claim.rows(answer, instant)? {
            let set = transaction.set_host(&key, Some(section)).await;
            set.map_err(StoreError::from)?;
        }
        Ok(())
    }
}
