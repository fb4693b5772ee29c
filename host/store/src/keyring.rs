//! The host's secret keys: those that codes are derived under, rows are sealed under and proofs are
//! signed with, which can be rotated, and the one for the index of telephone numbers, which cannot.
//!
//! Each lies in a file of its own, `NAME-ID.key`. The highest id is used for what is new, the others
//! for what is there. A sealed row is AES-256-GCM-SIV (RFC 8452) with the row's key as associated
//! data, so that a row cannot be put in another's place; its nonce is a keyed hash of what is sealed,
//! so that no randomness is needed and equal nonces only ever meet equal rows.

mod signing;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use countersign_types::{Entropy, UnixMillis, hex};
use zeroize::Zeroizing;

pub use signing::{SIGNED_TIME_MAX, SigningKey};
use signing::{Signer, counting};

use crate::{CommitError, Ending, Rulings, Section, Store, StoreError, Transaction};

/// Why the keys could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The operating system refused.
    #[error("cannot use the key file `{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// It is not 64 hexadecimal digits.
    #[error("the key file `{}` must hold 64 hexadecimal digits", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner could read it.
    #[error("the key file `{}` can be read by others; type `chmod 600 '{}'`, and think about who may have read it", path.display(), path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
    },
    /// The store has data and its keys are gone.
    #[error("the key file `{}` is missing, but the data folder is not new; put it back from your backup of the keys", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

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

/// Where a store remembers which keys it was written with.
const FINGERPRINTS_KEY: &[u8] = b"h/keys";
/// Where a store remembers since when each key signs.
const SIGNING_KEY: &[u8] = b"h/signing";

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

/// The ids of keys that were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// For codes.
    pub codes: u32,
    /// For rows that rest sealed.
    pub rows: u32,
    /// For proofs.
    pub signing: u32,
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
    /// Loads the keys from the folder `path`, or makes them there, mode 0600, where there are none
    /// and `new_data` says that nothing depends on any yet.
    ///
    /// # Errors
    ///
    /// See [`KeyringError`].
    pub fn load_or_create(
        path: &Path,
        new_data: bool,
        entropy: &dyn Entropy,
    ) -> Result<Keyring, KeyringError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| KeyringError::Io { path, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io(path))?;
        let index = path.join("index.key");
        let present = numbered(path)?;
        let firsts = Kind::ALL
            .into_iter()
            .filter(|kind| present.iter().all(|(other, ..)| other != kind))
            .map(|kind| path.join(kind.file(1)));
        let missing = (!index.exists()).then(|| index.clone());
        let mut created = false;
        for file in missing.into_iter().chain(firsts) {
            if !new_data {
                return Err(KeyringError::Missing { path: file });
            }
            create_key(&file, entropy).map_err(io(&file))?;
            created = true;
        }
        let mut loaded = Numbered::default();
        for (kind, id, file) in numbered(path)? {
            loaded.insert(kind, id, &*read_secret(&file)?);
        }
        // A key that is lost in a power cut would take every live code with it.
        fs::File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(io(path))?;
        Ok(Keyring {
            folder: path.to_owned(),
            numbered: RwLock::new(loaded),
            index: hmac_key(&*read_secret(&index)?),
            created,
            rotating: Mutex::new(()),
        })
    }

    /// Makes new keys for codes, rows and proofs beside those in the folder `path`; the next
    /// [`load_or_create`](Keyring::load_or_create) uses them for what is new. The index key stays.
    ///
    /// # Errors
    ///
    /// See [`KeyringError`]; there must be keys already.
    pub fn rotate(path: &Path, entropy: &dyn Entropy) -> Result<Rotated, KeyringError> {
        let index = path.join("index.key");
        if !index.exists() {
            return Err(KeyringError::Missing { path: index });
        }
        let present = numbered(path)?;
        let next = |wanted: Kind| {
            let ids = present.iter().filter(|(kind, ..)| *kind == wanted);
            ids.map(|(_, id, _)| *id).max().unwrap_or(0) + 1
        };
        let rotated = Rotated {
            codes: next(Kind::Codes),
            rows: next(Kind::Rows),
            signing: next(Kind::Signing),
        };
        for (kind, id) in [
            (Kind::Codes, rotated.codes),
            (Kind::Rows, rotated.rows),
            (Kind::Signing, rotated.signing),
        ] {
            let file = path.join(kind.file(id));
            create_key(&file, entropy).map_err(|source| KeyringError::Io { path: file, source })?;
        }
        fs::File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| KeyringError::Io {
                path: path.to_owned(),
                source,
            })?;
        Ok(rotated)
    }

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

/// The kinds of keys of which there can be several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Codes,
    Rows,
    Signing,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Codes, Kind::Rows, Kind::Signing];

    fn name(self) -> &'static str {
        match self {
            Kind::Codes => "codes",
            Kind::Rows => "rows",
            Kind::Signing => "signing",
        }
    }

    /// The file of the key `id`.
    fn file(self, id: u32) -> String {
        format!("{}-{id}.key", self.name())
    }

    /// The kind and id of the key that a file of this name holds.
    fn of(file: &str) -> Option<(Kind, u32)> {
        let (name, id) = file.strip_suffix(".key")?.split_once('-')?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name)?;
        Some((kind, id.parse().ok()?))
    }
}

/// The files of the folder `path` that hold such keys, with their ids.
fn numbered(path: &Path) -> Result<Vec<(Kind, u32, PathBuf)>, KeyringError> {
    let io = |source| KeyringError::Io {
        path: path.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let file = entry.map_err(io)?.path();
        let name = file.file_name().and_then(|name| name.to_str());
        if let Some((kind, id)) = name.and_then(Kind::of) {
            found.push((kind, id, file));
        }
    }
    Ok(found)
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

fn create_key(path: &Path, entropy: &dyn Entropy) -> io::Result<()> {
    let mut key = Zeroizing::new([0; 32]);
    entropy.fill(key.as_mut());
    // Under another name until it is whole: a start that is cut off must not leave half a key.
    let half = path.with_extension("new");
    match fs::remove_file(&half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&half)?;
    let text = Zeroizing::new(format!("{}\n", hex(key.as_ref())));
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    // Unlike a rename, this never replaces a key.
    fs::hard_link(&half, path)?;
    fs::remove_file(&half)
}

fn hmac_key(secret: &[u8; 32]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

fn read_secret(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyringError> {
    let io = |source| KeyringError::Io {
        path: path.to_owned(),
        source,
    };
    let mode = fs::metadata(path).map_err(io)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeyringError::TooOpen {
            path: path.to_owned(),
        });
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(io)?);
    let digits = text.trim();
    let malformed = || KeyringError::Malformed {
        path: path.to_owned(),
    };
    if digits.len() != 64 || !digits.is_ascii() {
        return Err(malformed());
    }
    let mut key = Zeroizing::new([0; 32]);
    for (byte, at) in key.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| malformed())?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use countersign_types::SystemEntropy;

    fn load(path: &Path, new_data: bool) -> Result<Keyring, KeyringError> {
        Keyring::load_or_create(path, new_data, &SystemEntropy)
    }

    #[test]
    fn keys_are_made_once_and_only_the_owner_reads_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().join("keys");
        let first = load(&keys, true).expect("made");
        assert!(first.created());
        for name in ["index.key", "codes-1.key", "rows-1.key", "signing-1.key"] {
            let mode = fs::metadata(keys.join(name))
                .expect("there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let again = load(&keys, false).expect("loaded");
        assert!(!again.created());
        assert_eq!(
            first.phone_index("+12025550123"),
            again.phone_index("+12025550123")
        );
        assert_eq!(first.code_hmac(1, &[b"a"]), again.code_hmac(1, &[b"a"]));
    }

    #[test]
    fn lost_keys_are_not_replaced_behind_the_operators_back() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(matches!(
            load(folder.path(), false),
            Err(KeyringError::Missing { .. })
        ));
    }

    #[test]
    fn a_start_that_was_cut_off_in_the_middle_of_a_key_is_taken_up() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("codes-1.new"), "0123").expect("written");
        assert!(load(folder.path(), true).expect("made").created());
        assert!(!folder.path().join("codes-1.new").exists());
    }

    #[test]
    fn a_rotation_adds_keys_and_keeps_the_old_ones_and_the_index() {
        let folder = tempfile::tempdir().expect("a folder");
        let before = Keyring::rotate(folder.path(), &SystemEntropy);
        assert!(matches!(before, Err(KeyringError::Missing { .. })));
        let old = load(folder.path(), true).expect("made");
        let sealed = old.seal(b"j/1", b"text").expect("sealed");
        for n in 2..=3 {
            let rotated = Keyring::rotate(folder.path(), &SystemEntropy).expect("rotated");
            let want = Rotated {
                codes: n,
                rows: n,
                signing: n,
            };
            assert_eq!(rotated, want);
        }
        let new = load(folder.path(), false).expect("loaded");
        assert_eq!(new.current(), 3);
        assert_eq!(
            new.unseal(b"j/1", &sealed).expect("opened").as_slice(),
            b"text"
        );
        let sealed = new.seal(b"j/1", b"text").expect("sealed");
        assert_eq!(new.sealed_under(&sealed), Some((3, true)));
        assert_eq!(old.sealed_under(&sealed), Some((3, false)));
        let number = "+12025550123";
        assert_eq!(old.phone_index(number), new.phone_index(number));
        assert_eq!(old.code_hmac(1, &[b"a"]), new.code_hmac(1, &[b"a"]));
    }

    /// New keys beside a new store, and where they lie.
    fn in_use() -> (tempfile::TempDir, Arc<dyn Store>, PathBuf, Keyring) {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Store> =
            crate::SledStore::open(&folder.path().join("store")).expect("opened");
        let path = folder.path().join("keys");
        let keys = load(&path, true).expect("made");
        (folder, store, path, keys)
    }

    #[tokio::test]
    async fn a_rotation_in_use_counts_at_once_and_is_remembered_by_the_store() {
        let (_folder, store, path, keys) = in_use();
        keys.bind(&store).await.expect("bound");
        let sealed = keys.seal(b"j/1", b"text").expect("sealed");
        let code = keys.code_hmac(1, &[b"a"]);
        let rotated = keys.rotate_in_use(&store, &SystemEntropy).await;
        let want = Rotated {
            codes: 2,
            rows: 2,
            signing: 2,
        };
        assert_eq!(rotated.expect("rotated"), want);
        assert_eq!(keys.current(), 2);
        let new = keys.seal(b"j/1", b"text").expect("sealed");
        assert_eq!(keys.sealed_under(&new), Some((2, true)));
        // What was made before is read as before.
        assert!(keys.unseal(b"j/1", &sealed).is_ok());
        assert_eq!(keys.code_hmac(1, &[b"a"]), code);
        // The next start has the same keys, and would miss the new ones.
        let next = load(&path, false).expect("loaded");
        assert!(next.unseal(b"j/1", &new).is_ok());
        fs::remove_file(path.join("codes-2.key")).expect("removed");
        fs::remove_file(path.join("rows-2.key")).expect("removed");
        fs::remove_file(path.join("signing-2.key")).expect("removed");
        let without = load(&path, false).expect("loaded");
        let missing = without.missing(&store).await.expect("read");
        assert_eq!(missing, ["codes-2", "rows-2", "signing-2"]);
    }

    #[tokio::test]
    async fn a_rotation_signs_with_a_new_key_and_the_old_one_counts_for_a_day() {
        let (_folder, store, path, keys) = in_use();
        keys.bind(&store).await.expect("bound");
        let old = keys.signing_key().expect("a key");
        let later = UnixMillis(100_000_000);
        advance(&store, later).await;
        keys.rotate_in_use(&store, &SystemEntropy)
            .await
            .expect("rotated");
        let new = keys.signing_key().expect("a key");
        assert_ne!(old.id(), new.id());
        let counting = |keys: &Keyring, now| {
            let keys = keys.signing_keys(now);
            let ids = keys.iter().map(|key| key.id().to_owned());
            ids.collect::<Vec<_>>()
        };
        let both = [old.id().to_owned(), new.id().to_owned()];
        let retired = later + Duration::from_secs(24 * 3_600 + 5 * 60);
        let just_before = UnixMillis(retired.0 - 1);
        assert_eq!(counting(&keys, just_before), both);
        assert_eq!(counting(&keys, retired), both[1..]);
        // The next start knows it from the store, however late it comes.
        advance(&store, UnixMillis(u64::MAX / 2)).await;
        let next = load(&path, false).expect("loaded");
        assert_eq!(counting(&next, retired), both);
        next.bind(&store).await.expect("bound");
        assert_eq!(counting(&next, retired), both[1..]);
        assert_eq!(counting(&next, just_before), both);
    }

    /// Makes a commit at `now`.
    async fn advance(store: &Arc<dyn Store>, now: UnixMillis) {
        let mut run = Transaction::new(store.clone(), now, Rulings::default());
        let section = Section {
            state: 1,
            expires: None,
            value: now.0.to_be_bytes().to_vec(),
        };
        run.set_host(b"h/test", Some(section)).await.expect("set");
        let commit = run.into_commit(Ending::Commit);
        store.commit(commit).await.expect("committed");
    }

    #[tokio::test]
    async fn a_rotation_that_cannot_be_made_leaves_the_keys_in_use() {
        let (_folder, store, path, keys) = in_use();
        fs::set_permissions(path.join("codes-1.key"), fs::Permissions::from_mode(0o644))
            .expect("set");
        let rotated = keys.rotate_in_use(&store, &SystemEntropy).await;
        let too_open = matches!(
            rotated,
            Err(RotateError::Keys(KeyringError::TooOpen { .. }))
        );
        assert!(too_open, "{rotated:?}");
        assert_eq!(keys.current(), 1);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        load(folder.path(), true).expect("made");
        let key = folder.path().join("index.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("changed");
        assert!(matches!(
            load(folder.path(), false),
            Err(KeyringError::TooOpen { .. })
        ));
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = load(folder.path(), true).expect("made");
        assert_ne!(
            keys.code_hmac(1, &[b"ab", b"c"]),
            keys.code_hmac(1, &[b"a", b"bc"])
        );
        assert_eq!(keys.code_hmac(9, &[b"ab"]), None);
    }

    #[tokio::test]
    async fn a_store_knows_its_keys_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Store> =
            crate::SledStore::open(&folder.path().join("store")).expect("opened");
        let keys = load(&folder.path().join("keys"), true).expect("made");
        for _ in 0..2 {
            keys.bind(&store).await.expect("its own keys");
        }
        create_key(&folder.path().join("keys/codes-2.key"), &SystemEntropy).expect("made");
        let rotated = load(&folder.path().join("keys"), false).expect("loaded");
        rotated
            .bind(&store)
            .await
            .expect("a new key beside the old");
        let others = load(&folder.path().join("others"), true).expect("made");
        let error = others.bind(&store).await;
        assert!(matches!(error, Err(BindError::Foreign { .. })), "{error:?}");
    }

    #[test]
    fn a_sealed_row_opens_in_its_own_place_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = load(folder.path(), true).expect("made");
        let sealed = keys.seal(b"j/1", b"+12025550123").expect("sealed");
        let opened = keys.unseal(b"j/1", &sealed).expect("opened");
        assert_eq!(opened.as_slice(), b"+12025550123");
        assert_eq!(keys.unseal(b"j/2", &sealed), Err(Unsealable));
        assert!(!sealed.windows(4).any(|window| window == b"5550"));
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(keys.unseal(b"j/1", &damaged), Err(Unsealable), "byte {at}");
            assert_eq!(
                keys.unseal(b"j/1", &sealed[..at]),
                Err(Unsealable),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn an_older_row_key_still_opens() {
        let folder = tempfile::tempdir().expect("a folder");
        let old = load(folder.path(), true).expect("made");
        let sealed = old.seal(b"j/1", b"x").expect("sealed");
        create_key(&folder.path().join("rows-2.key"), &SystemEntropy).expect("made");
        let both = load(folder.path(), false).expect("loaded");
        assert_eq!(
            both.unseal(b"j/1", &sealed).expect("opened").as_slice(),
            b"x"
        );
        let sealed = both.seal(b"j/1", b"x").expect("sealed");
        assert_eq!(
            old.unseal(b"j/1", &sealed),
            Err(Unsealable),
            "the newer key seals"
        );
    }

    #[test]
    fn a_newer_code_key_is_used_and_the_older_still_reads() {
        let folder = tempfile::tempdir().expect("a folder");
        let old = load(folder.path(), true).expect("made");
        create_key(&folder.path().join("codes-2.key"), &SystemEntropy).expect("made");
        let both = load(folder.path(), false).expect("loaded");
        assert_eq!(both.current(), 2);
        assert_eq!(both.code_hmac(1, &[b"a"]), old.code_hmac(1, &[b"a"]));
    }
}
