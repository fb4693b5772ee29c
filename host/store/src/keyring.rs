//! The host's secret keys: those that codes are derived under, rows are sealed under and proofs are
//! signed with, which can be rotated, and the one for the index of telephone numbers, which cannot.
//!
//! Each lies in a file of its own, `NAME-ID.key`. The highest id is used for what is new, the others
//! for what is there. A sealed row is AES-256-GCM-SIV (RFC 8452) with the row's key as associated
//! data, so that a row cannot be put in another's place; its nonce is a keyed hash of what is sealed,
//! so that no randomness is needed and equal nonces only ever meet equal rows.

mod bound;
mod files;
mod signing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use countersign_types::{Entropy, UnixMillis, hex};
use zeroize::Zeroizing;

pub use bound::BindError;
use files::Kind;
pub use files::{KeyringError, Rotated};
pub use signing::{SIGNED_TIME_MAX, SigningKey};
use signing::{Signer, counting};

use crate::Store;

/// The bytes of the key's id at the beginning of what is sealed.
const SEALED_ID_LEN: usize = 4;

/// What was sealed cannot be opened: its key is gone, or it is not what was sealed in this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed row cannot be opened: its key is not in the key folder, or the row is damaged")]
pub struct Unsealable;

/// Keys that never leave the host.
pub struct Keyring {
    folder: PathBuf,
    numbered: RwLock<Numbered>,
    index: hmac::Key,
    created: bool,
    /// Held while files are made, so that no two rotations meet in one.
    rotating: Mutex<()>,
}

/// The keys of which there can be several, by id; the highest is used for what is new.
#[derive(Default)]
struct Numbered {
    codes: BTreeMap<u32, hmac::Key>,
    rows: BTreeMap<u32, RowKey>,
    signing: BTreeMap<u32, Signer>,
}

impl Numbered {
    fn insert(&mut self, kind: Kind, id: u32, secret: &[u8; 32]) {
        match kind {
            Kind::Codes => {
                self.codes.insert(id, hmac_key(secret));
            }
            Kind::Rows => {
                let key = RowKey::new(&hmac_key(secret));
                self.rows.extend(key.map(|key| (id, key)));
            }
            Kind::Signing => {
                let key = SigningKey::new(secret).map(Arc::new);
                let signer = key.map(|key| Signer { key, since: None });
                self.signing.extend(signer.map(|signer| (id, signer)));
            }
        }
    }
}

/// The ids of keys, each kind in ascending order: the last one is used for what is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyIds {
    /// For codes.
    pub codes: Vec<u32>,
    /// For rows that rest sealed.
    pub rows: Vec<u32>,
    /// For proofs.
    pub signing: Vec<u32>,
}

/// Why a running server goes on with the keys that it has.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The new keys could not be made, or not be read.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// They were made, and the store could not remember them.
    #[error("the new keys were made, and the store could not remember them")]
    Bind(#[from] BindError),
}

/// What one key for rows becomes: one key to encrypt, one to make nonces.
struct RowKey {
    cipher: LessSafeKey,
    nonce: hmac::Key,
}

impl RowKey {
    fn new(key: &hmac::Key) -> Option<RowKey> {
        let cipher = Zeroizing::new(keyed_hash(key, &[b"encrypt"]));
        let nonce = Zeroizing::new(keyed_hash(key, &[b"nonce"]));
        let cipher = UnboundKey::new(&AES_256_GCM_SIV, cipher.as_ref()).ok()?;
        Some(RowKey {
            cipher: LessSafeKey::new(cipher),
            nonce: hmac::Key::new(hmac::HMAC_SHA256, nonce.as_ref()),
        })
    }
}

/// The newest of a kind of keys.
fn newest<T>(keys: &BTreeMap<u32, T>) -> (u32, Option<&T>) {
    keys.last_key_value()
        .map_or((0, None), |(id, key)| (*id, Some(key)))
}

impl Keyring {
    /// Makes new keys as [`rotate`](Keyring::rotate) does, in the folder that these were loaded from,
    /// and uses them for what is new from its return on. `store` remembers them first: a row must
    /// never be sealed under a key that nobody knows to be needed. Keys that have meanwhile been
    /// removed from the folder stay until the next start.
    ///
    /// # Errors
    ///
    /// See [`RotateError`]; the keys in use are those from before then.
    pub async fn rotate_in_use(
        &self,
        store: &Arc<dyn Store>,
        entropy: &dyn Entropy,
    ) -> Result<Rotated, RotateError> {
        let (rotated, loaded) = {
            let _turn = self.rotating.lock().unwrap_or_else(PoisonError::into_inner);
            let rotated = Keyring::rotate(&self.folder, entropy)?;
            (
                rotated,
                Keyring::load_or_create(&self.folder, false, entropy)?,
            )
        };
        loaded.bind(store).await?;
        let new = loaded.numbered.into_inner();
        let new = new.unwrap_or_else(PoisonError::into_inner);
        let own = self.numbered.write();
        let mut own = own.unwrap_or_else(PoisonError::into_inner);
        own.codes.extend(new.codes);
        own.rows.extend(new.rows);
        own.signing.extend(new.signing);
        Ok(rotated)
    }

    fn numbered(&self) -> RwLockReadGuard<'_, Numbered> {
        let numbered = self.numbered.read();
        numbered.unwrap_or_else(PoisonError::into_inner)
    }

    /// The ids of the keys.
    pub fn ids(&self) -> KeyIds {
        let numbered = self.numbered();
        KeyIds {
            codes: numbered.codes.keys().copied().collect(),
            rows: numbered.rows.keys().copied().collect(),
            signing: numbered.signing.keys().copied().collect(),
        }
    }

    /// The folder that the keys lie in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the keys were made just now.
    pub fn created(&self) -> bool {
        self.created
    }

    /// The id of the key that new challenges use.
    pub fn current(&self) -> u32 {
        newest(&self.numbered().codes).0
    }

    /// The key that signs.
    pub fn signing_key(&self) -> Option<Arc<SigningKey>> {
        let numbered = self.numbered();
        let (_, newest) = newest(&numbered.signing);
        newest.map(|signer| signer.key.clone())
    }

    /// The keys whose signatures count at `now`, the oldest first: the one that signs, and those that a
    /// rotation has replaced for at most a day and five minutes.
    pub fn signing_keys(&self, now: UnixMillis) -> Vec<Arc<SigningKey>> {
        counting(&self.numbered().signing, now)
    }

    /// `plain` as it may rest in the row `row_key`: key id, nonce, ciphertext and tag.
    ///
    /// # Errors
    ///
    /// When there is no key, or the row is too long for one.
    pub fn seal(&self, row_key: &[u8], plain: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let numbered = self.numbered();
        let (id, key) = newest(&numbered.rows);
        let key = key.ok_or(Unsealable)?;
        let hash = keyed_hash(&key.nonce, &[row_key, plain]);
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&hash[..NONCE_LEN]);
        let head = SEALED_ID_LEN + NONCE_LEN;
        let mut sealed = Vec::with_capacity(head + plain.len() + AES_256_GCM_SIV.tag_len());
        sealed.extend_from_slice(&id.to_be_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = key
            .cipher
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(row_key),
                &mut sealed[head..],
            )
            .map_err(|_| Unsealable)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// What was sealed for the row `row_key`.
    ///
    /// # Errors
    ///
    /// When the key is gone, or `sealed` is not what was sealed for this row.
    pub fn unseal(&self, row_key: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
        let (id, rest) = sealed.split_first_chunk().ok_or(Unsealable)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Unsealable)?;
        let numbered = self.numbered();
        let key = numbered.rows.get(&u32::from_be_bytes(*id));
        let key = key.ok_or(Unsealable)?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let opened = key
            .cipher
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(row_key),
                &mut plain,
            )
            .map_err(|_| Unsealable)?
            .len();
        plain.truncate(opened);
        Ok(plain)
    }

    /// The id of the key that `sealed` was sealed under, and whether it is here.
    pub fn sealed_under(&self, sealed: &[u8]) -> Option<(u32, bool)> {
        let (id, _) = sealed.split_first_chunk()?;
        let id = u32::from_be_bytes(*id);
        Some((id, self.numbered().rows.contains_key(&id)))
    }

    /// HMAC-SHA-256 over `fields`, each with its length before it, under the code key `id`. `None`
    /// where there is no such key any more.
    pub fn code_hmac(&self, id: u32, fields: &[&[u8]]) -> Option<[u8; 32]> {
        let numbered = self.numbered();
        let key = numbered.codes.get(&id)?;
        Some(keyed_hash(key, fields))
    }

    /// A keyed hash of a telephone number: the same for every spelling, 32 hexadecimal digits, and
    /// without the index key nobody can tell which number it is.
    pub fn phone_index(&self, e164: &str) -> String {
        hex(&keyed_hash(&self.index, &[b"phone", e164.as_bytes()])[..16])
    }

    /// As [`phone_index`](Keyring::phone_index), of the id that an application has for a user.
    pub fn user_index(&self, id: &str) -> String {
        hex(&keyed_hash(&self.index, &[b"user", id.as_bytes()])[..16])
    }

    /// As [`phone_index`](Keyring::phone_index), of an end user's address in canonical text: without
    /// the key nobody can tell which address it is, though there are few enough to try all.
    pub fn address_index(&self, canonical: &str) -> String {
        hex(&keyed_hash(&self.index, &[b"address", canonical.as_bytes()])[..16])
    }

    /// As [`phone_index`](Keyring::phone_index), of the `id` that `provider` has for a message: who makes
    /// up ids may put a number or a code into them.
    pub fn receipt_index(&self, provider: &str, id: &str) -> String {
        let fields = [b"receipt", provider.as_bytes(), id.as_bytes()];
        hex(&keyed_hash(&self.index, &fields)[..16])
    }

    /// A keyed hash of what a client has sent with an idempotency key, each field with its length
    /// before it: under the index key as well, since rows are found by it.
    pub fn idempotency_hash(&self, fields: &[&[u8]]) -> [u8; 32] {
        let labelled: Vec<&[u8]> = [b"idempotency".as_slice()]
            .into_iter()
            .chain(fields.iter().copied())
            .collect();
        keyed_hash(&self.index, &labelled)
    }

    /// The key of what the host keeps for itself in its data folder and must know again as its own:
    /// compiled components.
    pub fn cache_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(keyed_hash(&self.index, &[b"compiled components"]))
    }
}

fn keyed_hash(key: &hmac::Key, fields: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for field in fields {
        context.update(&(field.len() as u64).to_be_bytes());
        context.update(field);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.sign().as_ref());
    hash
}

fn hmac_key(secret: &[u8; 32]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

#[cfg(test)]
mod tests;
