//! What several unit tests need.

use std::sync::Arc;

use countersign_store::{SledStore, Store};

/// A store in a folder of its own, which goes when the first value is dropped.
pub(crate) fn store() -> (tempfile::TempDir, Arc<dyn Store>) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SledStore::open(&folder.path().join("store")).expect("a store");
    (folder, store)
}
