//! Which keys a store was written with. The store remembers a fingerprint of each, so that other keys,
//! or fewer, are noticed at the start; and since when each key signs, so that those that a rotation has
//! replaced count for as long as they should.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use aws_lc_rs::hmac;
use countersign_types::UnixMillis;

use super::{Keyring, keyed_hash};
use crate::{CommitError, Ending, Rulings, Section, Store, StoreError, Transaction};

/// Where a store remembers which keys it was written with.
const FINGERPRINTS_KEY: &[u8] = b"h/keys";
/// Where a store remembers since when each key signs.
const SIGNING_KEY: &[u8] = b"h/signing";

/// Why keys and a store do not go together.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The data was written under another key of this name.
    #[error(
        "the key file `{name}.key` is not the one that this data was written with; put the right one back, or name its folder with COUNTERSIGN_KEYS"
    )]
    Foreign {
        /// The file's name without its ending.
        name: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Keyring {
    /// The names of keys that `store` was written with and that are not here any more.
    ///
    /// # Errors
    ///
    /// When a key is not the one of its name that was used before, or the store fails.
    pub async fn missing(&self, store: &Arc<dyn Store>) -> Result<Vec<String>, BindError> {
        let now = store.newest_instant();
        let mut run = Transaction::new(store.clone(), now, Rulings::default());
        let known = fingerprints_in(&mut run).await?;
        let own: BTreeMap<String, [u8; 8]> = self.fingerprints().into_iter().collect();
        let mut missing = Vec::new();
        for (name, print) in known {
            match own.get(&name) {
                Some(here) if *here == print => {}
                Some(_) => return Err(BindError::Foreign { name }),
                None => missing.push(name),
            }
        }
        Ok(missing)
    }

    /// Makes sure that `store` was written with these keys, and remembers them there: with a folder of
    /// other keys every code, limit and waiting message would be lost without a word.
    ///
    /// # Errors
    ///
    /// When a key is not the one of its name that was used before, or the store fails.
    pub async fn bind(&self, store: &Arc<dyn Store>) -> Result<(), BindError> {
        self.remember(store, &[]).await
    }

    /// Lets `store` forget the keys `gone` ([`missing`](Keyring::missing) names them), under which it has
    /// nothing any more.
    ///
    /// # Errors
    ///
    /// As [`bind`](Keyring::bind).
    pub async fn forget(&self, store: &Arc<dyn Store>, gone: &[String]) -> Result<(), BindError> {
        self.remember(store, gone).await
    }

    async fn remember(&self, store: &Arc<dyn Store>, gone: &[String]) -> Result<(), BindError> {
        loop {
            let now = store.newest_instant();
            let mut run = Transaction::new(store.clone(), now, Rulings::default());
            let mut known = fingerprints_in(&mut run).await?;
            let before = known.len();
            known.retain(|name, _| !gone.contains(name));
            let mut news = known.len() < before;
            let mut since = signing_since(&mut run).await?;
            for key in self.signing_ids() {
                since.entry(key).or_insert_with(|| {
                    news = true;
                    now
                });
            }
            for (name, print) in self.fingerprints() {
                match known.get(&name) {
                    Some(before) if *before != print => return Err(BindError::Foreign { name }),
                    Some(_) => {}
                    None => {
                        known.insert(name, print);
                        news = true;
                    }
                }
            }
            if !news {
                self.note_since(&since);
                return Ok(());
            }
            for (key, value) in [
                (FINGERPRINTS_KEY, postcard::to_allocvec(&known)),
                (SIGNING_KEY, postcard::to_allocvec(&since)),
            ] {
                let section = Section {
                    state: 1,
                    expires: None,
                    // Writing to a `Vec` cannot fail.
                    value: value.unwrap_or_default(),
                };
                run.set_host(key, Some(section))
                    .await
                    .map_err(StoreError::from)?;
            }
            match store.commit(run.into_commit(Ending::Commit)).await {
                Ok(_) => {
                    self.note_since(&since);
                    return Ok(());
                }
                Err(CommitError::Store(error)) => return Err(error.into()),
                // Another process was at it; look again.
                Err(_) => {}
            }
        }
    }

    fn signing_ids(&self) -> Vec<String> {
        let numbered = self.numbered();
        let keys = numbered.signing.values();
        keys.map(|signer| signer.key.id().to_owned()).collect()
    }

    /// The store's word on since when each key signs.
    fn note_since(&self, since: &BTreeMap<String, UnixMillis>) {
        let own = self.numbered.write();
        let mut own = own.unwrap_or_else(PoisonError::into_inner);
        for signer in own.signing.values_mut() {
            signer.since = since.get(signer.key.id()).copied();
        }
    }

    /// A keyed hash for each key, which tells nothing of it.
    fn fingerprints(&self) -> Vec<(String, [u8; 8])> {
        let print = |key: &hmac::Key| {
            let mut print = [0; 8];
            print.copy_from_slice(&keyed_hash(key, &[b"fingerprint"])[..8]);
            print
        };
        let numbered = self.numbered();
        let codes = numbered
            .codes
            .iter()
            .map(|(id, key)| (format!("codes-{id}"), print(key)));
        let rows = numbered
            .rows
            .iter()
            .map(|(id, key)| (format!("rows-{id}"), print(&key.nonce)));
        let signing = numbered
            .signing
            .iter()
            .map(|(id, signer)| (format!("signing-{id}"), signer.key.fingerprint()));
        let index = [("index".to_owned(), print(&self.index))];
        codes.chain(rows).chain(signing).chain(index).collect()
    }
}

/// The keys that a store was written with.
async fn fingerprints_in(run: &mut Transaction) -> Result<BTreeMap<String, [u8; 8]>, StoreError> {
    let row = run.host(FINGERPRINTS_KEY).await?;
    Ok(row
        .and_then(|section| postcard::from_bytes(&section.value).ok())
        .unwrap_or_default())
}

/// Since when each key signs, by the newest commit of the store that first met it.
async fn signing_since(run: &mut Transaction) -> Result<BTreeMap<String, UnixMillis>, StoreError> {
    let row = run.host(SIGNING_KEY).await?;
    Ok(row
        .and_then(|section| postcard::from_bytes(&section.value).ok())
        .unwrap_or_default())
}
