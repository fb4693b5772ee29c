//! API keys. Of a key only its hash is kept, in the store, where every process finds it.
//!
//! A key reads `{id}_{secret}`: the id names it in lists and logs, the secret is 256 random bits. With
//! so many a plain SHA-256 is enough; slow hashes are for what people make up. A revoked key stays as
//! a row, so that a store that once had a key never counts as one without.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_store::{
    Body, CommitError, Ending, Row, Rulings, Section, Store, StoreError, Transaction,
    TransactionError,
};
use countersign_types::{Entropy, Secret, UnixMillis};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use subtle::ConstantTimeEq;

const PREFIX: &[u8] = b"k/";
/// The first key after all that begin with [`PREFIX`].
const PREFIX_END: &[u8] = b"k0";
const ID_BYTES: usize = 10;
const SECRET_BYTES: usize = 32;
const NAME_BYTES_MAX: usize = 64;
/// Revoked ones included.
const KEYS_MAX: usize = 10_000;
const STATE: u32 = 1;
/// How often a change is tried again when another one came between.
const RUNS_MAX: usize = 8;
/// Rows read at a time.
const PAGE: usize = 256;

/// SHA-256 of a key or a token.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Hash([u8; 32]);

impl Hash {
    /// The hash of what a client presents.
    pub(crate) fn of(text: &[u8]) -> Hash {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text);
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        Hash(hash)
    }

    /// Whether both are of the same text, in a time that does not tell where they differ.
    pub(crate) fn is(&self, other: &Hash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Why a key was not made, listed or revoked.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum KeyError {
    #[error("no key has the id `{id}`")]
    #[diagnostic(
        code(countersign::keys::unknown),
        help("`countersign keys list` shows them all")
    )]
    Unknown { id: String },
    /// Not repeated, since it may be a whole key, or anything else.
    #[error("an id of a key has {ID_BYTES} letters and digits, and this is none")]
    #[diagnostic(
        code(countersign::keys::no_id),
        help("`countersign keys list` shows them all; of a key it is what stands before the `_`")
    )]
    NoId,
    #[error("the name of a key has at most {NAME_BYTES_MAX} bytes and no control characters")]
    #[diagnostic(code(countersign::keys::name))]
    Name,
    #[error("there are {KEYS_MAX} keys already, revoked ones included")]
    #[diagnostic(code(countersign::keys::too_many))]
    TooMany,
    #[error("other changes came between again and again; try again")]
    #[diagnostic(code(countersign::keys::busy))]
    Busy,
    #[error(transparent)]
    #[diagnostic(code(countersign::keys::store))]
    Store(#[from] StoreError),
    #[error(transparent)]
    #[diagnostic(code(countersign::keys::store))]
    Change(TransactionError),
}

impl From<TransactionError> for KeyError {
    fn from(error: TransactionError) -> KeyError {
        match error {
            TransactionError::Store(error) => KeyError::Store(error),
            error => KeyError::Change(error),
        }
    }
}

/// What is kept of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    hash: Hash,
    pub(crate) created: UnixMillis,
    pub(crate) revoked: Option<UnixMillis>,
}

/// A key that was just made; nobody will see it again.
#[derive(Debug)]
pub(crate) struct NewKey {
    pub(crate) id: String,
    pub(crate) key: Secret<String>,
}

/// Makes a key. When this returns, it is durable.
///
/// # Errors
///
/// See [`KeyError`].
pub(crate) async fn create(
    store: &Arc<dyn Store>,
    now: UnixMillis,
    entropy: &dyn Entropy,
    name: Option<String>,
) -> Result<NewKey, KeyError> {
    let fits = |name: &String| name.len() <= NAME_BYTES_MAX && !name.contains(char::is_control);
    if !name.as_ref().is_none_or(fits) {
        return Err(KeyError::Name);
    }
    if store.scan(PREFIX, PREFIX_END, KEYS_MAX).await?.len() >= KEYS_MAX {
        return Err(KeyError::TooMany);
    }
    for _ in 0..RUNS_MAX {
        let new = draw(entropy);
        let row = Key {
            id: new.id.clone(),
            name: name.clone(),
            hash: Hash::of(new.key.expose().as_bytes()),
            created: now,
            revoked: None,
        };
        let mut run = Transaction::new(store.clone(), now, Rulings::default());
        if run.host(&row_key(&new.id)).await?.is_some() {
            // Somebody has that id; draw another.
            continue;
        }
        run.set_host(&row_key(&new.id), Some(section(&row))).await?;
        if commit(store, run).await? {
            return Ok(new);
        }
    }
    Err(KeyError::Busy)
}

/// Revokes the key `id` and returns it. One that was revoked before stays as it was.
///
/// # Errors
///
/// See [`KeyError`].
pub(crate) async fn revoke(
    store: &Arc<dyn Store>,
    now: UnixMillis,
    id: &str,
) -> Result<Key, KeyError> {
    let unknown = || KeyError::Unknown { id: id.to_owned() };
    if !is_id(id) {
        return Err(KeyError::NoId);
    }
    for _ in 0..RUNS_MAX {
        let mut run = Transaction::new(store.clone(), now, Rulings::default());
        let found = run.host(&row_key(id)).await?.ok_or_else(unknown)?;
        let mut key = read(id, &found)?;
        if key.revoked.is_none() {
            key.revoked = Some(now);
            run.set_host(&row_key(id), Some(section(&key))).await?;
        }
        if commit(store, run).await? {
            return Ok(key);
        }
    }
    Err(KeyError::Busy)
}

/// All keys in order of their ids, revoked ones included.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn list(store: &Arc<dyn Store>) -> Result<Vec<Key>, KeyError> {
    let mut keys = Vec::new();
    let mut from = PREFIX.to_vec();
    loop {
        let page = store.scan(&from, PREFIX_END, PAGE).await?;
        let last = page.len() < PAGE;
        for (key, row) in page {
            let id = String::from_utf8_lossy(&key[PREFIX.len()..]).into_owned();
            keys.extend(of_row(&id, row?)?);
            from = [key.as_slice(), &[0]].concat();
        }
        if last {
            return Ok(keys);
        }
    }
}

/// Whether a key was ever made.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn any(store: &Arc<dyn Store>) -> Result<bool, StoreError> {
    Ok(!store.scan(PREFIX, PREFIX_END, 1).await?.is_empty())
}

/// The id of the key that `presented` is, where it is one and was not revoked. Read from the store
/// each time: a key that another process makes or revokes counts at once.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn find(
    store: &Arc<dyn Store>,
    presented: &[u8],
) -> Result<Option<String>, StoreError> {
    let text = std::str::from_utf8(presented).ok();
    let id = text.and_then(|text| text.split_once('_')).map(|(id, _)| id);
    let Some(id) = id.filter(|id| is_id(id)) else {
        return Ok(None);
    };
    let Some(row) = store.get(&row_key(id)).await? else {
        return Ok(None);
    };
    let key = of_row(id, row)?;
    let good = key.is_some_and(|key| key.hash.is(&Hash::of(presented)) && key.revoked.is_none());
    Ok(good.then(|| id.to_owned()))
}

/// Whether `id` is that of a key that was made and not revoked.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn is_good(store: &Arc<dyn Store>, id: &str) -> Result<bool, StoreError> {
    if !is_id(id) {
        return Ok(false);
    }
    let row = store.get(&row_key(id)).await?;
    let key = row.map(|row| of_row(id, row)).transpose()?.flatten();
    Ok(key.is_some_and(|key| key.revoked.is_none()))
}

/// Letters and digits only: it is typed on a command line, where a hyphen in front means a flag, and
/// the first `_` of a key ends it.
fn is_id(text: &str) -> bool {
    text.len() == ID_BYTES && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn draw(entropy: &dyn Entropy) -> NewKey {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut id = String::with_capacity(ID_BYTES);
    while id.len() < ID_BYTES {
        let mut byte = [0];
        entropy.fill(&mut byte);
        // 248 is the largest multiple of 62: above it the first letters would come more often.
        if byte[0] < 248 {
            id.push(char::from(ALPHABET[usize::from(byte[0] % 62)]));
        }
    }
    let mut secret = vec![0; SECRET_BYTES];
    entropy.fill(&mut secret);
    let secret = Secret::new(secret);
    let key = format!("{id}_{}", URL_SAFE_NO_PAD.encode(secret.expose()));
    NewKey {
        id,
        key: Secret::new(key),
    }
}

fn row_key(id: &str) -> Vec<u8> {
    [PREFIX, id.as_bytes()].concat()
}

fn section(key: &Key) -> Section {
    Section {
        state: STATE,
        expires: None,
        // Writing to a `Vec` cannot fail; an empty value would be found unreadable.
        value: postcard::to_allocvec(key).unwrap_or_default(),
    }
}

fn read(id: &str, section: &Section) -> Result<Key, StoreError> {
    let key = (section.state == STATE)
        .then(|| postcard::from_bytes(&section.value).ok())
        .flatten();
    key.ok_or_else(|| StoreError::Unreadable {
        key: format!("k/{id}"),
    })
}

fn of_row(id: &str, row: Row) -> Result<Option<Key>, StoreError> {
    match row.body {
        Body::Sections(sections) => sections.host.map(|host| read(id, &host)).transpose(),
        _ => Ok(None),
    }
}

/// Whether it was applied; `false` when the run must be repeated.
async fn commit(store: &Arc<dyn Store>, run: Transaction) -> Result<bool, KeyError> {
    match store.commit(run.into_commit(Ending::Commit)).await {
        Ok(_) => Ok(true),
        Err(CommitError::Stale) => Ok(false),
        Err(CommitError::Store(error)) => Err(error.into()),
        // Neither sums nor takes are used here.
        Err(_) => Err(KeyError::Busy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::store;
    use countersign_types::SystemEntropy;

    const NOW: UnixMillis = UnixMillis(1_769_860_800_000);

    async fn make(store: &Arc<dyn Store>) -> NewKey {
        let made = create(store, NOW, &SystemEntropy, Some("shop".to_owned())).await;
        made.expect("made")
    }

    #[tokio::test]
    async fn a_key_is_long_and_of_plain_characters() {
        let (_folder, store) = store();
        let NewKey { id, key } = make(&store).await;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        assert!(key.expose().len() >= 32 && key.expose().bytes().all(plain));
        assert!(key.expose().starts_with(&format!("{id}_")));
    }

    #[tokio::test]
    async fn only_the_very_key_is_found() {
        let (_folder, store) = store();
        let NewKey { id, key } = make(&store).await;
        assert_eq!(
            find(&store, key.expose().as_bytes()).await.expect("read"),
            Some(id.clone())
        );
        let other = make(&store).await;
        let mixed = format!("{id}_{}", &other.key.expose()[ID_BYTES + 1..]);
        for wrong in [mixed.as_str(), &id, &format!("{id}_"), "", "_", "k/_x"] {
            assert_eq!(
                find(&store, wrong.as_bytes()).await.expect("read"),
                None,
                "{wrong}"
            );
        }
    }

    #[tokio::test]
    async fn a_revoked_key_is_refused_and_still_counts_as_one_that_was_made() {
        let (_folder, store) = store();
        assert!(!any(&store).await.expect("read"));
        let NewKey { id, key } = make(&store).await;
        let later = UnixMillis(NOW.0 + 1);
        revoke(&store, later, &id).await.expect("revoked");
        assert_eq!(
            find(&store, key.expose().as_bytes()).await.expect("read"),
            None
        );
        assert!(any(&store).await.expect("read"));
        let again = revoke(&store, UnixMillis(NOW.0 + 9), &id)
            .await
            .expect("as it was");
        assert_eq!(again.revoked, Some(later));
    }

    #[tokio::test]
    async fn no_row_holds_the_key() {
        let (_folder, store) = store();
        let NewKey { key, .. } = make(&store).await;
        let secret = &key.expose()[ID_BYTES + 1..];
        let row = store.scan(PREFIX, PREFIX_END, 9).await.expect("read");
        let Ok(Row {
            body: Body::Sections(sections),
            ..
        }) = &row[0].1
        else {
            panic!("{row:?}");
        };
        let value = &sections.host.as_ref().expect("there").value;
        assert!(
            !value
                .windows(8)
                .any(|part| secret.as_bytes().starts_with(part))
        );
    }

    #[tokio::test]
    async fn lists_show_every_key_over_several_pages() {
        let (_folder, store) = store();
        for _ in 0..PAGE + 3 {
            make(&store).await;
        }
        let keys = list(&store).await.expect("listed");
        assert_eq!(keys.len(), PAGE + 3);
        assert!(keys.iter().all(|key| key.name.as_deref() == Some("shop")));
        assert!(keys.is_sorted_by_key(|key| key.id.clone()));
    }

    #[tokio::test]
    async fn unknown_ids_and_unprintable_names_are_refused() {
        let (_folder, store) = store();
        let revoked = revoke(&store, NOW, "AAAAAAAAAA").await;
        assert!(matches!(revoked, Err(KeyError::Unknown { .. })));
        for id in ["", "abc", "../../../x", "AAAAAAAAAA_secret", "AAAAAAAAA\n"] {
            let revoked = revoke(&store, NOW, id).await.expect_err("no id");
            assert!(matches!(revoked, KeyError::NoId), "{id}");
            assert!(id.is_empty() || !revoked.to_string().contains(id), "{id}");
        }
        for name in ["a\nb".to_owned(), "n".repeat(65)] {
            let made = create(&store, NOW, &SystemEntropy, Some(name)).await;
            assert!(matches!(made, Err(KeyError::Name)));
        }
    }
}
