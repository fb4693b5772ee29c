//! Which of the host's keys rows rest sealed under: what a start must know that misses one of them, and
//! what the doctor tells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign_store::{Body, Keyring, Sections, Store, StoreError, sealed_sections};
use countersign_types::UnixMillis;

/// How many rows are looked at in one step.
const ROWS_AT_ONCE: usize = 1_000;
/// Components' rows, which rest sealed section by section.
const COMPONENTS: &[u8] = b"c/";
/// Where rows rest sealed ("Rows" in `ARCHITECTURE.md`).
const SEALED: [(&[u8], &[u8]); 11] = [
    (b"a/", b"a0"),
    (b"c/", b"c0"),
    (b"d/", b"d0"),
    (b"f/", b"f0"),
    (b"follower", b"follower\0"),
    (b"i/", b"i0"),
    (b"j/", b"j0"),
    (b"m/", b"m0"),
    (b"n/", b"n0"),
    (b"o/", b"o0"),
    (b"r/", b"r0"),
];

/// What the rows that rest sealed show.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    /// How many are sealed under which key, by its id.
    pub(crate) used: BTreeMap<u32, usize>,
    /// How many cannot be read, though their key is there.
    pub(crate) unreadable: usize,
}

impl Sealed {
    fn look_at(&mut self, keyring: &Keyring, key: &[u8], sections: &Sections, now: UnixMillis) {
        let parts: Vec<_> = match key.starts_with(COMPONENTS) {
            true => sealed_sections(key, sections).collect(),
            false => {
                let host = sections.host.iter();
                host.map(|host| (key.to_vec(), host)).collect()
            }
        };
        let mut ids = BTreeSet::new();
        let mut is_readable = true;
        for (place, section) in parts {
            if !section.live(now) {
                continue;
            }
            match keyring.sealed_under(&section.value) {
                None => is_readable = false,
                Some((id, has_key)) => {
                    ids.insert(id);
                    is_readable &= !has_key || keyring.unseal(&place, &section.value).is_ok();
                }
            }
        }
        for id in ids {
            *self.used.entry(id).or_default() += 1;
        }
        self.unreadable += usize::from(!is_readable);
    }
}

/// Looks at all rows that rest sealed.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn look_at_sealed(
    store: &Arc<dyn Store>,
    keyring: &Keyring,
    now: UnixMillis,
) -> Result<Sealed, StoreError> {
    let mut sealed = Sealed::default();
    for (from, to) in SEALED {
        let mut cursor = from.to_vec();
        loop {
            let page = store.scan(&cursor, to, ROWS_AT_ONCE).await?;
            for (key, row) in &page {
                cursor = [key.as_slice(), &[0]].concat();
                let Ok(row) = row else {
                    sealed.unreadable += 1;
                    continue;
                };
                if let Body::Sections(sections) = &row.body {
                    sealed.look_at(keyring, key, sections, now);
                }
            }
            if page.len() < ROWS_AT_ONCE {
                break;
            }
        }
    }
    Ok(sealed)
}

/// How many of the rows in `used` are sealed under the key of the file `{name}.key`. Those that only
/// hold the id of a code's key are not looked for: it is needed for ten minutes at most.
pub(crate) fn rows_under(name: &str, used: &BTreeMap<u32, usize>) -> usize {
    let id = name.strip_prefix("rows-").and_then(|id| id.parse().ok());
    id.and_then(|id: u32| used.get(&id).copied()).unwrap_or(0)
}
