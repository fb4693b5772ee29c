//! What several unit tests need.

use std::sync::Arc;

use countersign_queue::QueueConfig;
use countersign_store::{Keyring, SledStore, Store};
use countersign_types::{SystemClock, SystemEntropy, UnixMillis};

use crate::config::{Config, Environment, Flags, Merged};
use crate::control::{Access, Closed, Office};
use crate::recount::Recounts;
use crate::users::Users;

/// A store in a folder of its own, which goes when the first value is dropped.
pub(crate) fn store() -> (tempfile::TempDir, Arc<dyn Store>) {
    let (folder, store) = embedded_store();
    (folder, store)
}

/// The same, as what it is.
pub(crate) fn embedded_store() -> (tempfile::TempDir, Arc<SledStore>) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SledStore::open(&folder.path().join("store")).expect("a store");
    (folder, store)
}

/// Keys of their own, made in `folder`.
pub(crate) fn keyring(folder: &std::path::Path) -> Arc<Keyring> {
    let keyring = Keyring::load_or_create(&folder.join("keys"), true, &SystemEntropy);
    Arc::new(keyring.expect("keys"))
}

/// The configuration where nothing is set.
pub(crate) fn config() -> Config {
    let environment = Environment::from([]);
    let merged = Merged::load(&Flags::default(), &environment).expect("merged");
    Config::new(&merged, &environment).expect("configured")
}

/// Tokens and proofs under the keys in `folder`.
pub(crate) fn users(folder: &std::path::Path) -> Arc<Users> {
    Users::new(&keyring(folder), config().two_factor, UnixMillis(0))
}

/// What answers commands where no server runs: a queue for 7 messages, keys and services of its own.
pub(crate) fn office(store: Arc<SledStore>) -> Office {
    let keys = tempfile::tempdir().expect("a folder");
    let keyring = Keyring::load_or_create(keys.path(), true, &SystemEntropy).expect("made");
    Office {
        store,
        keyring: Arc::new(keyring),
        without_keys: Vec::new(),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        recounts: Recounts::default(),
        access: Access::Closed(Closed::new(
            QueueConfig {
                capacity: 7,
                ..QueueConfig::default()
            },
            config().services,
            keys.path().to_owned(),
        )),
        server: None,
    }
}
