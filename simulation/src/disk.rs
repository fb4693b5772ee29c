//! A disk that keeps for certain only what was synced.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_store::StoreError;
use countersign_store::committer::{Batch, Rows};

/// The rows of a store, over all lives of its process.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What the rows held before the batch that has not been synced.
    before: Option<Batch>,
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has ever been written to.
    pub(crate) fn has_data(&self) -> bool {
        !self.state().rows.is_empty()
    }

    /// Applies a batch: visible at once, durable after [`sync`](Disk::sync).
    pub(crate) fn apply(&self, batch: &Batch) {
        let state = &mut *self.state();
        // A batch upon one that was never synced: the first one's rows are the older ones.
        let mut before = state.before.take().unwrap_or_default();
        for (key, row) in batch {
            let old = match row {
                Some(row) => state.rows.insert(key.clone(), row.clone()),
                None => state.rows.remove(key),
            };
            before.push((key.clone(), old));
        }
        state.before = Some(before);
    }

    pub(crate) fn sync(&self) {
        self.state().before = None;
    }

    /// The process is gone, and what was not synced with it if it is `lost`. Returns whether anything
    /// was.
    pub(crate) fn crash(&self, lost: bool) -> bool {
        let state = &mut *self.state();
        let Some(before) = state.before.take().filter(|_| lost) else {
            return false;
        };
        for (key, row) in before.into_iter().rev() {
            match row {
                Some(row) => state.rows.insert(key, row),
                None => state.rows.remove(&key),
            };
        }
        true
    }

    /// All rows, in order.
    pub(crate) fn all(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let state = self.state();
        let rows = state.rows.iter();
        rows.map(|(key, row)| (key.clone(), row.clone())).collect()
    }
}

impl Rows for Disk {
    type Bytes = Vec<u8>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state().rows.get(key).cloned())
    }

    fn range<'a>(
        &'a self,
        range: (Bound<&'a [u8]>, Bound<&'a [u8]>),
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + 'a {
        let state = self.state();
        let rows = state.rows.range::<[u8], _>(range);
        let rows: Vec<_> = rows
            .map(|(key, row)| Ok((key.clone(), row.clone())))
            .collect();
        rows.into_iter()
    }
}
