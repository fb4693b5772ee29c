//! Serializable transactions over an embedded or a shared store.
//!
//! - [`Transaction`] is what a call works with: it remembers what was read and buffers what is
//!   written. It knows nothing of disks.
//! - [`Store`] is what a transaction reads from and is committed to. [`SledStore`] is the embedded
//!   one; every implementation passes [`conformance`].
//! - [`Keyring`] holds the host's secret keys, and [`Sealing`] is a store whose rows rest sealed.
//!
//! What never lives here: what rows mean. Challenges, messages and API keys belong to the crates
//! above.

mod backup;
mod commit;
pub mod committer;
pub mod conformance;
mod embedded;
mod event;
mod keyring;
mod limit;
mod restored;
mod row;
mod sealing;
mod transaction;

pub use backup::{BackupFileError, BackupSummary};
pub use commit::{Commit, CommitError, Committed, Need, Read, ScanRead, SumAdd, Take, Write};
pub use embedded::{
    BackupError, CheckedBackup, OpenError, RestoreError, Restoring, SledStore, StoreFigures,
};
pub use event::{Bound, StoredEvent, read_event_rows, read_events};
pub use keyring::{
    BindError, KeyIds, Keyring, KeyringError, RotateError, Rotated, SIGNED_TIME_MAX, SigningKey,
    Unsealable,
};
pub use limit::{SUB_WINDOWS, TAKE_MAX};
pub use restored::{note_restore, restored_at};
pub use row::{Body, KEY_BYTES_MAX, ROW_BYTES_MAX, Row, Section, Sections};
pub use sealing::{Sealing, sealed_sections};
pub use transaction::{
    Counted, Ending, Recount, Rulings, Savepoint, Transaction, TransactionError, settle_counts,
};

use async_trait::async_trait;
use countersign_types::UnixMillis;

/// The store cannot answer, now or until it is reopened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// A read or write failed. The first failed write is final: what the disk holds is unknown, so
    /// nothing is tried again until the store has been opened anew.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
    /// A row that this version of the program cannot read.
    #[error("the row `{key}` is damaged or of a newer format")]
    Unreadable {
        /// The row's key, as far as it is text.
        key: String,
    },
    /// A bug: a row longer than any that the store takes. Nothing was written.
    #[error("the row `{key}` is too long")]
    TooLong {
        /// The row's key, as far as it is text.
        key: String,
    },
}

/// A key that a scan has found, and its row, or [`StoreError::Unreadable`].
pub type Scanned = (Vec<u8>, Result<Row, StoreError>);

/// While it lives, no commit is applied.
pub type Hold<'a> = tokio::sync::RwLockReadGuard<'a, ()>;

/// Rows in byte order of their keys, changed only by validated commits.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The row under `key` in the applied state, expired or not.
    async fn get(&self, key: &[u8]) -> Result<Option<Row>, StoreError>;

    /// At most `limit` rows of the half-open interval `from..to`, in order, expired or not. One that
    /// cannot be read is among them, so that who scans can pass it by.
    async fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Scanned>, StoreError>;

    /// As [`scan`](Store::scan), from the end: at most `limit` rows, the last one first.
    async fn scan_back(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Scanned>, StoreError>;

    /// Judges a commit in commit order and applies all of it or nothing. Returns when what was
    /// applied, and everything that the commit has read, is durable.
    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError>;

    /// Keeps commits from being applied until the result is dropped.
    async fn hold(&self) -> Hold<'_>;

    /// Returns when everything applied up to now is durable.
    async fn settle(&self) -> Result<(), StoreError>;

    /// Whether there is room for commits of this kind.
    fn has_room(&self, _need: Need) -> bool {
        true
    }

    /// The instant of the newest commit.
    fn newest_instant(&self) -> UnixMillis;

    /// Lets the instant of the newest commit go back to `instant`: the machine's clock was set back.
    fn step_back(&self, instant: UnixMillis);

    /// Waits for an event after `position` that can be read; returns at once where there is one already.
    /// Never returns where there will be none. Cancel safe.
    async fn await_events(&self, position: u64);

    /// Removes some of the rows that had expired at `now`; returns whether the pass over all rows is
    /// complete. Expired rows are invisible without this; it only gives their room back.
    async fn sweep(&self, now: UnixMillis) -> Result<bool, StoreError>;
}
