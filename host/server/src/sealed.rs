//! Which of the host's keys rows rest sealed under: what a start must know that misses one of them, and
//! what the doctor tells.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_store::{Body, Keyring, Store, StoreError};
use countersign_types::UnixMillis;

/// How many rows are looked at in one step.
const ROWS_AT_ONCE: usize = 1_000;
/// Where rows rest sealed ("Rows" in `ARCHITECTURE.md`).
const SEALED: [(&[u8], &[u8]); 7] = [
    (b"d/", b"d0"),
    (b"f/", b"f0"),
    (b"follower", b"follower\0"),
    (b"i/", b"i0"),
    (b"j/", b"j0"),
    (b"m/", b"m0"),
    (b"r/", b"r0"),
];

/// How many rows are sealed under which key, by its id.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn row_keys_used(
    store: &Arc<dyn Store>,
    keyring: &Keyring,
    now: UnixMillis,
) -> Result<BTreeMap<u32, usize>, StoreError> {
    let mut used = BTreeMap::new();
    for (from, to) in SEALED {
        let mut cursor = from.to_vec();
        loop {
            let page = store.scan(&cursor, to, ROWS_AT_ONCE).await?;
            for (key, row) in &page {
                cursor = [key.as_slice(), &[0]].concat();
                if let Body::Sections(sections) = &row.body
                    && !row.body.expired(now)
                    && let Some(host) = &sections.host
                    && let Some((id, _)) = keyring.sealed_under(&host.value)
                {
                    *used.entry(id).or_default() += 1;
                }
            }
            if page.len() < ROWS_AT_ONCE {
                break;
            }
        }
    }
    Ok(used)
}

/// How many of the rows in `used` are sealed under the key of the file `{name}.key`. Those that only
/// hold the id of a code's key are not looked for: it is needed for ten minutes at most.
pub(crate) fn rows_under(name: &str, used: &BTreeMap<u32, usize>) -> usize {
    let id = name.strip_prefix("rows-").and_then(|id| id.parse().ok());
    id.and_then(|id: u32| used.get(&id).copied()).unwrap_or(0)
}
