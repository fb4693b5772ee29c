//! When a store was last made from a backup: what had happened between that backup and then is not in
//! it, so what must happen only once cannot be judged by it.

use std::sync::Arc;
use std::time::Duration;

use countersign_types::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::{CommitError, Ending, Rulings, Section, Store, StoreError, Transaction};

/// Where a store remembers it.
const KEY: &[u8] = b"h/restored";
/// In milliseconds.
const SECOND: u64 = Duration::from_secs(1).as_millis() as u64;
/// The format of what is remembered.
const STATE: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Restored {
    at: UnixMillis,
}

/// When `store` was last made from a backup: everything that it has of before that is older than the
/// backup. `UnixMillis(0)`: it never was.
///
/// # Errors
///
/// When the store fails.
pub async fn restored_at(store: &Arc<dyn Store>) -> Result<UnixMillis, StoreError> {
    let now = store.newest_instant();
    let mut run = Transaction::new(store.clone(), now, Rulings::default());
    let found = run.host(KEY).await?;
    let Some(section) = found else {
        return Ok(UnixMillis(0));
    };
    let restored = (section.state == STATE)
        .then(|| postcard::from_bytes::<Restored>(&section.value).ok())
        .flatten();
    let restored = restored.ok_or_else(|| StoreError::Unreadable {
        key: String::from_utf8_lossy(KEY).into_owned(),
    })?;
    Ok(restored.at)
}

/// Notes that `store`, which nobody else uses yet, was just made from a backup. Returns the time that
/// is noted: the next whole second after `now`, or after the newest commit where the backup's clock was
/// ahead. Calls are never before it, and some of what they make tells its time in seconds.
///
/// # Errors
///
/// When the store fails.
pub async fn note_restore(
    store: &Arc<dyn Store>,
    now: UnixMillis,
) -> Result<UnixMillis, StoreError> {
    let last = now.max(store.newest_instant());
    let at = UnixMillis((last.0 / SECOND + 1) * SECOND);
    let mut run = Transaction::new(store.clone(), at, Rulings::default());
    let section = Section {
        state: STATE,
        expires: None,
        // Serialising plain data into a `Vec` cannot fail.
        value: postcard::to_allocvec(&Restored { at }).unwrap_or_default(),
    };
    run.set_host(KEY, Some(section)).await?;
    match store.commit(run.into_commit(Ending::Commit)).await {
        Ok(_) => Ok(at),
        Err(CommitError::Store(error)) => Err(error),
        Err(refused) => Err(StoreError::Failed(refused.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SledStore;

    #[tokio::test]
    async fn a_restore_is_remembered_with_a_time_after_all_that_was_in_the_backup() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let (now, noted) = (UnixMillis(1_000), UnixMillis(2_000));
        {
            let store: Arc<dyn Store> = SledStore::open(&path).expect("opened");
            assert_eq!(restored_at(&store).await.expect("read"), UnixMillis(0));
            assert_eq!(note_restore(&store, now).await.expect("noted"), noted);
        }
        let store: Arc<dyn Store> = SledStore::open(&path).expect("opened");
        assert_eq!(restored_at(&store).await.expect("read"), noted);
        // The clock of this machine is behind.
        let again = note_restore(&store, UnixMillis(500)).await.expect("noted");
        assert_eq!(again, UnixMillis(3_000));
        assert_eq!(restored_at(&store).await.expect("read"), again);
        assert_eq!(store.newest_instant(), again);
    }
}
