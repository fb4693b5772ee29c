//! Calls that happen once, however often they are asked for.
//!
//! Whoever asks names a row. The run reads it first, so a commit of the same request in between makes
//! the run stale; and the verdict writes it, in the call's own commit. So the effect of a call and the
//! mark that it has happened are durable together or not at all.

use countersign_store::{Section, StoreError, Take, Transaction, TransactionError};
use countersign_types::UnixMillis;

use crate::CallError;

/// Makes the rows that say that a call with verdict `R`, reached at that instant, has happened.
pub type OnceRows<'a, R> =
    Box<dyn Fn(&R, UnixMillis) -> Result<Vec<(Vec<u8>, Section)>, StoreError> + Send + Sync + 'a>;

/// Which request a call answers.
pub struct Once<'a, R> {
    /// The row whose host section says that it has happened.
    pub key: Vec<u8>,
    /// What each request that happens takes from: a bound on how many such rows there are.
    pub take: Take,
    /// Rows for the call's commit. One of them is `key`.
    pub rows: OnceRows<'a, R>,
}

impl<'a, R: 'a> Once<'a, R> {
    /// The same for a call whose verdict becomes an `R`.
    pub(crate) fn of<W: 'a>(self, convert: impl Fn(&W) -> R + Send + Sync + 'a) -> Once<'a, W> {
        let Once { key, take, rows } = self;
        Once {
            key,
            take,
            rows: Box::new(move |verdict, instant| rows(&convert(verdict), instant)),
        }
    }

    /// Looks whether the request has happened already. To be asked before a run does anything else.
    ///
    /// # Errors
    ///
    /// When it has, when there is no room for it, or when the store fails.
    pub async fn begin(&self, transaction: &mut Transaction) -> Result<(), CallError> {
        if transaction.host(&self.key).await.map_err(store)?.is_some() {
            return Err(CallError::Happened);
        }
        match transaction.take(self.take.clone()).await.map_err(store)? {
            Ok(()) => Ok(()),
            Err(retry_at) => Err(CallError::TooManyOnce {
                retry_after: retry_at.since(transaction.instant()),
            }),
        }
    }

    /// Puts its rows into the commit of `verdict`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn end(&self, transaction: &mut Transaction, verdict: &R) -> Result<(), StoreError> {
        for (key, section) in (self.rows)(verdict, transaction.instant())? {
            let set = transaction.set_host(&key, Some(section)).await;
            set.map_err(store)?;
        }
        Ok(())
    }
}

/// The rows are the host's own, so that nothing but the store can be at fault.
fn store(error: TransactionError) -> StoreError {
    match error {
        TransactionError::Store(error) => error,
        TransactionError::Misuse(text) => StoreError::Failed(text),
    }
}
