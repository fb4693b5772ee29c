//! A disk that keeps for certain only what was synced.

use std::collections::{BTreeMap, VecDeque};
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
    /// How many batches were ever applied.
    applied: u64,
    /// Of each batch that has not been synced, oldest first: its number, and what the rows held before
    /// it.
    unsynced: VecDeque<(u64, Batch)>,
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has ever been written to.
    pub(crate) fn has_data(&self) -> bool {
        !self.state().rows.is_empty()
    }

    /// Applies a batch: visible at once, durable after [`sync`](Disk::sync) with the number that this
    /// returns, or a later one.
    pub(crate) fn apply(&self, batch: &Batch) -> u64 {
        let state = &mut *self.state();
        let mut before = Batch::new();
        for (key, row) in batch {
            let old = match row {
                Some(row) => state.rows.insert(key.clone(), row.clone()),
                None => state.rows.remove(key),
            };
            before.push((key.clone(), old));
        }
        state.applied += 1;
        state.unsynced.push_back((state.applied, before));
        state.applied
    }

    /// Makes the batch `number` durable, with all before it.
    pub(crate) fn sync(&self, number: u64) {
        self.state().unsynced.retain(|(n, _)| *n > number);
    }

    /// How many batches are not durable.
    pub(crate) fn unsynced(&self) -> usize {
        self.state().unsynced.len()
    }

    /// The process is gone, and of the batches that were not synced all but the first `kept`. Returns
    /// the number of the first one that is lost.
    pub(crate) fn crash(&self, kept: usize) -> Option<u64> {
        let state = &mut *self.state();
        let lost = state.unsynced.split_off(kept);
        state.unsynced.clear();
        let first = lost.front().map(|(number, _)| *number);
        for (key, row) in lost.into_iter().flat_map(|(_, before)| before).rev() {
            match row {
                Some(row) => state.rows.insert(key, row),
                None => state.rows.remove(&key),
            };
        }
        first
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
