//! The embedded store: sled behind two storage threads that take turns.
//!
//! Readers read sled on their own side. Commits go through a channel to the thread whose turn it is,
//! which drains it, judges each commit against the applied state and what the group has written so
//! far, applies the group as one batch, makes it durable with one `fdatasync`, and answers all. The
//! other thread gathers and applies the next group meanwhile. So a commit that is answered, and
//! everything it has read, is on the disk.
//!
//! What sled 0.34.7 does on Linux, and what is done about it, is in [`sync`]; what with its threads, in [`pool`].

mod backup;
mod figures;
mod group;
mod part;
mod pool;
mod room;
mod sync;

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use async_trait::async_trait;
use countersign_types::UnixMillis;
use tokio::sync::{RwLock, mpsc, oneshot, watch};

use crate::committer::Rows;
pub use backup::{BackupError, CheckedBackup, RestoreError, Restoring};
pub use figures::StoreFigures;

use backup::{Followed, Follower};
use group::{MakeDurable, Writer};
use room::Room;

use crate::{Commit, CommitError, Committed, Hold, Need, Row, Scanned, Store, StoreError};

/// How many commits may wait for the storage threads. Beyond it callers wait for a place, which their
/// own limits bound.
const WAITING_COMMITS_MAX: usize = 1_024;

/// sled's page cache. Its memory is a multiple of this; the rows of a busy day are small.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;

/// sled's unit of space. A page beyond a quarter of it lies in a file of its own, which sled never
/// syncs: after a power cut the store would not open. [`ROW_BYTES_MAX`](crate::ROW_BYTES_MAX) keeps
/// every page below that. Fixed when a store is made.
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;

/// The one tree in it.
const TREE: &[u8] = b"countersign";

/// A file beside sled's own that says that the store has held data. sled takes a file without one
/// readable segment for an empty database; with the marker there that is damage, not a new start.
const MARKER: &str = "countersign-store";
const MARKER_TEXT: &str = "A store of countersign, format 1. Do not remove this file.\n";

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the data folder `{}` is in use by another process", path.display())]
    InUse {
        /// The data folder.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("cannot open the store in `{}`: {reason}", path.display())]
    Unusable {
        /// The data folder.
        path: PathBuf,
        /// What the operating system or sled says.
        reason: String,
    },
    /// It held data once, and now nothing can be read, or sled panics over what it reads.
    #[error("the store in `{}` is damaged: its data cannot be read; move this folder away and put the data back with `countersign restore FILE`, or begin anew without it", path.display())]
    Damaged {
        /// The data folder.
        path: PathBuf,
    },
    /// Writes would not reach the disk: the program was built or started in a way that keeps sled's
    /// writes from being synced.
    #[error("a test write to `{}` was not synced to the disk; refusing to run on it", path.display())]
    NotDurable {
        /// The data folder.
        path: PathBuf,
    },
}

enum Request {
    /// Answers whether nobody follows already.
    Follow(Arc<Follower>, oneshot::Sender<bool>),
    Unfollow(oneshot::Sender<Followed>),
    Commit(Box<Commit>, oneshot::Sender<Result<Committed, CommitError>>),
    Sweep(UnixMillis, oneshot::Sender<Result<bool, StoreError>>),
    Settle(oneshot::Sender<Result<(), StoreError>>),
}

/// State that readers and the storage threads share.
struct Shared {
    tree: sled::Tree,
    /// Held for writing while a group is applied.
    gate: RwLock<()>,
    newest_instant: AtomicU64,
    /// The position of the newest event that is durable.
    newest_event: watch::Sender<u64>,
    room: Room,
    figures: StoreFigures,
}

/// The embedded store.
pub struct SledStore {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    failed: watch::Receiver<Option<String>>,
    threads: Vec<JoinHandle<()>>,
}

impl SledStore {
    /// Opens the store in the folder `path`, which is made where it is missing.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. Nothing was changed.
    pub fn open(path: &Path) -> Result<Arc<SledStore>, OpenError> {
        let open = || database(path).open();
        SledStore::open_with(path, open, Box::new(group::make_durable))
    }

    /// Opens the store in the folder `path` over the database that `open` opens.
    fn open_with(
        path: &Path,
        open: impl FnOnce() -> sled::Result<sled::Db>,
        make_durable: MakeDurable,
    ) -> Result<Arc<SledStore>, OpenError> {
        // sled panics on some damaged files: where it opens them, or where it reads them for the first
        // time. That is one more way of not opening. Nothing of what it left half-way is used.
        let opened = catch_unwind(AssertUnwindSafe(|| match open() {
            Ok(db) => SledStore::over(db, path, make_durable),
            Err(sled::Error::Io(error)) if in_use(&error) => Err(OpenError::InUse {
                path: path.to_owned(),
            }),
            Err(error) => Err(OpenError::Unusable {
                path: path.to_owned(),
                reason: error.to_string(),
            }),
        }));
        opened.unwrap_or_else(|_| {
            Err(OpenError::Damaged {
                path: path.to_owned(),
            })
        })
    }

    /// The store over the open database in the folder `path`.
    fn over(
        db: sled::Db,
        path: &Path,
        make_durable: MakeDurable,
    ) -> Result<Arc<SledStore>, OpenError> {
        let unusable = |reason: String| OpenError::Unusable {
            path: path.to_owned(),
            reason,
        };
        // sled never syncs this one. The names of new files are durable only when their folder is.
        std::fs::File::open(path.join("conf"))
            .and_then(|file| file.sync_all())
            .map_err(|error| unusable(error.to_string()))?;
        for folder in [Some(path), path.parent()].into_iter().flatten() {
            let folder = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            std::fs::File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| unusable(error.to_string()))?;
        }
        let tree = db
            .open_tree(TREE)
            .map_err(|error| unusable(error.to_string()))?;
        let marker = path.join(MARKER);
        let state = group::Storage::open(tree.clone(), path, marker.exists(), sync::count)?;
        pool::quiet(&tree).map_err(|error| unusable(error.to_string()))?;
        if !marker.exists() {
            std::fs::write(&marker, MARKER_TEXT)
                .and_then(|()| std::fs::File::open(&marker)?.sync_all())
                .and_then(|()| std::fs::File::open(path)?.sync_all())
                .map_err(|error| unusable(error.to_string()))?;
        }
        let shared = Arc::new(Shared {
            tree,
            gate: RwLock::new(()),
            newest_instant: AtomicU64::new(state.newest_instant().0),
            newest_event: watch::Sender::new(state.newest_event()),
            room: Room::new(path.to_owned()),
            figures: StoreFigures::new(),
        });
        let (requests, inbox) = mpsc::channel(WAITING_COMMITS_MAX);
        let (broken, failed) = watch::channel(None);
        let writer = Writer::new(db, state, shared.clone(), inbox, broken, make_durable);
        let mut threads = Vec::new();
        for _ in 0..group::THREADS {
            let writer = writer.clone();
            let thread = std::thread::Builder::new()
                .name("countersign-store".to_owned())
                .spawn(move || writer.serve())
                .map_err(|error| unusable(error.to_string()))?;
            threads.push(thread);
        }
        Ok(Arc::new(SledStore {
            shared,
            requests,
            failed,
            threads,
        }))
    }

    /// Keeps `bytes` of the disk free: with less, commits of new work are refused, with less than half
    /// those of all calls, with less than a quarter those of deliveries that begin ([`Need`]). 0 keeps
    /// nothing free.
    pub fn set_reserve(&self, bytes: u64) {
        self.shared.room.set_reserve(bytes);
    }

    /// The position of the newest event that is durable.
    pub fn newest_event(&self) -> u64 {
        *self.shared.newest_event.borrow()
    }

    /// What the storage threads have counted of their work.
    pub fn figures(&self) -> &StoreFigures {
        &self.shared.figures
    }

    /// What may still be written to the disk that the store lies on, and how much of it is to stay
    /// free, in bytes; `None` for the first where the operating system does not say.
    pub fn room(&self) -> (Option<u64>, u64) {
        self.shared.room.overview()
    }

    /// What may still be written to the disk of `folder`, in bytes.
    ///
    /// # Errors
    ///
    /// When the operating system does not say.
    pub fn free_space(folder: &Path) -> std::io::Result<u64> {
        room::available(folder)
    }

    /// Waits until the store has failed for good, and says why. The process should then end: a
    /// supervisor starts it again and the store recovers.
    pub async fn failure(&self) -> String {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // It cannot end in peace while the store is in use: it has panicked.
            Err(_) => "the storage threads have ended".to_owned(),
        }
    }

    async fn ask<T, E: From<StoreError>>(
        &self,
        request: Request,
        answer: oneshot::Receiver<Result<T, E>>,
    ) -> Result<T, E> {
        if self.requests.send(request).await.is_err() {
            return Err(StoreError::Closed.into());
        }
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        // The threads end when the last sender is gone; what was acknowledged is durable already,
        // this only makes a reopen in the same process find the lock free.
        let (closed, _) = mpsc::channel(1);
        self.requests = closed;
        for thread in self.threads.drain(..) {
            // A panic of the thread is told by `failure`, while the store is in use.
            let _ = thread.join();
        }
    }
}

fn database(path: &Path) -> sled::Config {
    sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        // Space is given back only by this thread, so it must run.
        .flush_every_ms(Some(500))
}

fn in_use(error: &std::io::Error) -> bool {
    // sled 0.34.7 wraps the lock's error in one of kind `Other` with this text.
    error.kind() == std::io::ErrorKind::WouldBlock
        || error.to_string().contains("could not acquire lock")
}

/// What `read` reads. sled panics over some of what is damaged, also long after it was opened, and whoever
/// reads is to be told what to do.
fn reading<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    // A read changes nothing of ours that a panic could leave half-way.
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(StoreError::Failed(
            "what it holds is damaged, and sled panicked over it; the log says where; put the data back \
             with `countersign restore FILE`"
                .to_owned(),
        ))
    })
}

impl Rows for sled::Tree {
    type Bytes = sled::IVec;

    fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        sled::Tree::get(self, key).map_err(|error| failed(&error))
    }

    fn range<'a>(
        &'a self,
        range: (Bound<&'a [u8]>, Bound<&'a [u8]>),
    ) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec), StoreError>> + 'a {
        sled::Tree::range::<&[u8], _>(self, range)
            .map(|entry| entry.map_err(|error| failed(&error)))
    }
}

fn scanned(entry: sled::Result<(sled::IVec, sled::IVec)>) -> Result<Scanned, StoreError> {
    let (key, bytes) = entry.map_err(|error| failed(&error))?;
    let row = Row::from_bytes(&key, &bytes);
    Ok((key.to_vec(), row))
}

fn failed(error: &sled::Error) -> StoreError {
    StoreError::Failed(error.to_string())
}

#[async_trait]
impl Store for SledStore {
    async fn get(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        match reading(|| Rows::get(&self.shared.tree, key))? {
            None => Ok(None),
            Some(bytes) => Row::from_bytes(key, &bytes).map(Some),
        }
    }

    async fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Scanned>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        reading(|| {
            let rows = self.shared.tree.range(from..to);
            rows.take(limit).map(scanned).collect()
        })
    }

    async fn scan_back(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Scanned>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        reading(|| {
            let rows = self.shared.tree.range(from..to).rev();
            rows.take(limit).map(scanned).collect()
        })
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let (answer, result) = oneshot::channel();
        self.ask(Request::Commit(Box::new(commit), answer), result)
            .await
    }

    async fn hold(&self) -> Hold<'_> {
        self.shared.gate.read().await
    }

    async fn settle(&self) -> Result<(), StoreError> {
        let (answer, result) = oneshot::channel();
        self.ask(Request::Settle(answer), result).await
    }

    fn has_room(&self, need: Need) -> bool {
        self.shared.room.is_for(need)
    }

    fn newest_instant(&self) -> UnixMillis {
        UnixMillis(self.shared.newest_instant.load(Ordering::Acquire))
    }

    fn step_back(&self, instant: UnixMillis) {
        self.shared
            .newest_instant
            .store(instant.0, Ordering::Release);
    }

    async fn await_events(&self, position: u64) {
        let mut newest = self.shared.newest_event.subscribe();
        // The sender lives as long as the store.
        let _ = newest.wait_for(|newest| *newest > position).await;
    }

    async fn sweep(&self, now: UnixMillis) -> Result<bool, StoreError> {
        let (answer, result) = oneshot::channel();
        self.ask(Request::Sweep(now, answer), result).await
    }
}

#[cfg(test)]
mod damage;
#[cfg(test)]
mod tests;
