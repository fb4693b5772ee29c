//! Backup and restore of the embedded store.
//!
//! A backup reads all rows while commits go on, so what it reads is of no one moment. Meanwhile the
//! storage threads pass on what each group writes, when it is durable and in commit order, and at the
//! end they say after which group they have stopped. Rows with those changes on top are the state
//! after that group. Nothing is held back for it, and what waits in memory has a bound.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::oneshot;

use super::group::make_durable;
use super::part::Part;
use super::{MARKER, MARKER_TEXT, Request, SledStore, TREE, database, failed};
use crate::StoreError;
use crate::backup::{self, BackupFileError, BackupSummary, Record, Writer};
use crate::committer::Batch;

/// How many rows are read between two looks at what was written meanwhile.
const ROWS_AT_ONCE: usize = 256;
/// How many bytes of changes may wait for the backup's disk. Beyond it the backup fails: commits must
/// not wait for it.
const CHANGES_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How many records are restored in one step.
const RECORDS_AT_ONCE: usize = 512;
/// A restore goes on under another name until it is complete.
const RESTORING: &str = "restoring";

/// Why there is no backup. The file was not made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is there under that name.
    #[error("`{}` is there already; name a file that is not", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("cannot write the backup `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// Another backup of the same store has not ended yet.
    #[error("another backup is being made; wait for its end")]
    Running,
    /// Commits were faster than the disk of the backup.
    #[error("the store is written to faster than `{}` can be; try another disk, or a quieter hour", path.display())]
    TooSlow {
        /// The file.
        path: PathBuf,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why nothing was restored. The store's folder was not made, or has gone again.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is a store.
    #[error("there is a store in `{}` already; a restore needs a data folder without one", path.display())]
    Exists {
        /// The store's folder.
        path: PathBuf,
    },
    /// The backup cannot be used.
    #[error("the backup `{}` cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: BackupFileError,
    },
    /// The store's folder cannot be written.
    #[error("cannot write the store in `{}`: {reason}", path.display())]
    Write {
        /// The store's folder.
        path: PathBuf,
        /// What the operating system or sled says.
        reason: String,
    },
}

/// Where the storage threads pass on what they write.
pub(super) struct Follower {
    /// `None` once nobody wants any more, or too much waited.
    changes: Mutex<Option<Sender<Batch>>>,
    /// How many bytes wait. It is the backup's, and goes with it.
    waiting: Weak<AtomicU64>,
}

impl Follower {
    /// Passes on through `changes` for the backup that `waiting` belongs to.
    pub(super) fn new(changes: Sender<Batch>, waiting: &Arc<AtomicU64>) -> Arc<Follower> {
        Arc::new(Follower {
            changes: Mutex::new(Some(changes)),
            waiting: Arc::downgrade(waiting),
        })
    }

    /// Whether the backup is still being made: it alone keeps the count for good.
    pub(super) fn is_alive(&self) -> bool {
        self.waiting.strong_count() > 0
    }

    fn changes(&self) -> MutexGuard<'_, Option<Sender<Batch>>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is somebody to pass on to.
    pub(super) fn follows(&self) -> bool {
        self.changes().is_some()
    }

    /// Passes `batch` on. From when on too much waits, or nobody wants it, nothing is any more.
    pub(super) fn pass(&self, batch: Batch) {
        let bytes = bytes_of(&batch);
        let waiting = self.waiting.upgrade();
        let waiting = waiting.map(|waiting| waiting.fetch_add(bytes, Ordering::Relaxed) + bytes);
        let mut changes = self.changes();
        let sent = match (&*changes, waiting) {
            (Some(changes), Some(..=CHANGES_BYTES_MAX)) => changes.send(batch).is_ok(),
            _ => false,
        };
        if !sent {
            *changes = None;
        }
    }

    /// Passes nothing on from now on; says whether everything was until now.
    pub(super) fn end(&self) -> Followed {
        match self.changes().take() {
            Some(_) => Followed::Whole,
            None => Followed::Overrun,
        }
    }
}

/// Of keys and rows.
pub(super) fn bytes_of(batch: &Batch) -> u64 {
    let bytes =
        |(key, row): &(Vec<u8>, Option<Vec<u8>>)| key.len() + row.as_ref().map_or(0, Vec::len);
    batch.iter().map(bytes).sum::<usize>() as u64
}

/// Whether a backup has been passed all changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    Whole,
    Overrun,
}

impl SledStore {
    /// Writes all rows, as they are at one point between two groups of commits, to the new file
    /// `path`, mode 0600. Blocks until it is durable; commits go on meanwhile.
    ///
    /// # Errors
    ///
    /// See [`BackupError`].
    pub fn backup(&self, path: &Path) -> Result<BackupSummary, BackupError> {
        let write = |source| BackupError::Write {
            path: path.to_owned(),
            source,
        };
        let exists = || BackupError::Exists {
            path: path.to_owned(),
        };
        if fs::symlink_metadata(path).is_ok() {
            return Err(exists());
        }
        // Of a failed backup nothing is left.
        let part = Part::create(path).map_err(write)?;
        let summary = self.write_backup(part.file(), path)?;
        part.finish().map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(),
            _ => write(error),
        })?;
        Ok(summary)
    }

    fn write_backup(&self, file: &File, path: &Path) -> Result<BackupSummary, BackupError> {
        let write = |source| BackupError::Write {
            path: path.to_owned(),
            source,
        };
        let (changes, changed) = channel();
        let waiting = Arc::new(AtomicU64::new(0));
        let follower = Follower::new(changes, &waiting);
        if !self.ask_blocking(|answer| Request::Follow(follower, answer))? {
            return Err(BackupError::Running);
        }
        let mut writer = Writer::new(BufWriter::new(file)).map_err(write)?;
        let copied = self.copy_rows(&mut writer, &changed, &waiting, path);
        // However it went, the storage threads must not go on passing changes.
        let followed = self.ask_blocking(Request::Unfollow)?;
        copied?;
        if followed == Followed::Overrun {
            return Err(BackupError::TooSlow {
                path: path.to_owned(),
            });
        }
        // The sender is gone, so this ends.
        for batch in changed {
            write_changes(&mut writer, batch).map_err(write)?;
        }
        let (out, summary) = writer.end().map_err(write)?;
        out.into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .map_err(write)?;
        Ok(summary)
    }

    fn copy_rows(
        &self,
        writer: &mut Writer<BufWriter<&File>>,
        changed: &Receiver<Batch>,
        waiting: &AtomicU64,
        path: &Path,
    ) -> Result<(), BackupError> {
        let write = |source| BackupError::Write {
            path: path.to_owned(),
            source,
        };
        let mut from = Vec::new();
        loop {
            let mut rows = 0;
            for entry in self.shared.tree.range(from.clone()..).take(ROWS_AT_ONCE) {
                let (key, row) = entry.map_err(|error| failed(&error))?;
                writer.row(&key, &row).map_err(write)?;
                from = [key.as_ref(), &[0]].concat();
                rows += 1;
            }
            loop {
                match changed.try_recv() {
                    Ok(batch) => {
                        waiting.fetch_sub(bytes_of(&batch), Ordering::Relaxed);
                        write_changes(writer, batch).map_err(write)?;
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        return Err(BackupError::TooSlow {
                            path: path.to_owned(),
                        });
                    }
                }
            }
            if rows < ROWS_AT_ONCE {
                return Ok(());
            }
        }
    }

    pub(super) fn ask_blocking<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, StoreError> {
        let (answer, result) = oneshot::channel();
        self.requests
            .blocking_send(request(answer))
            .map_err(|_| StoreError::Closed)?;
        result.blocking_recv().map_err(|_| StoreError::Closed)
    }

    /// Fills the store of the folder `path`, which must not be there, from `backup`, but for the rows
    /// whose keys `drops` names. It has its name only after [`Restoring::finish`].
    ///
    /// # Errors
    ///
    /// See [`RestoreError`].
    pub fn restore(
        backup: &CheckedBackup,
        path: &Path,
        drops: impl Fn(&[u8]) -> bool,
    ) -> Result<Restoring, RestoreError> {
        SledStore::may_restore(path)?;
        let half = SledStore::restoring(path);
        let write = |error: io::Error| RestoreError::Write {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        // Of a restore that was cut off.
        if half.exists() {
            fs::remove_dir_all(&half).map_err(write)?;
        }
        let mut restoring = Restoring {
            path: path.to_owned(),
            half,
            store: None,
            finished: false,
        };
        let half = &restoring.half;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(half)
            .map_err(write)?;
        let db = fill(&backup.file, half, &drops)?;
        // It has held data, so its counters must be there.
        fs::write(half.join(MARKER), MARKER_TEXT)
            .and_then(|()| File::open(half.join(MARKER))?.sync_all())
            .map_err(write)?;
        // Not opened anew: sled lets go of its lock some time after it was closed.
        let durable = Box::new(make_durable);
        let store = SledStore::over(db, half, durable).map_err(|error| RestoreError::Write {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        restoring.store = Some(store);
        Ok(restoring)
    }

    /// Whether a store can be restored to the folder `path`.
    ///
    /// # Errors
    ///
    /// When there is one.
    pub fn may_restore(path: &Path) -> Result<(), RestoreError> {
        match fs::symlink_metadata(path) {
            Err(_) => Ok(()),
            Ok(_) => Err(RestoreError::Exists {
                path: path.to_owned(),
            }),
        }
    }

    /// Where a restore of the store `path` keeps what is not complete yet.
    pub fn restoring(path: &Path) -> PathBuf {
        path.with_extension(RESTORING)
    }
}

/// A backup that was read to its end and is whole. Nothing was made.
#[derive(Debug)]
pub struct CheckedBackup {
    file: PathBuf,
    summary: BackupSummary,
}

impl CheckedBackup {
    /// Reads all of `file`.
    ///
    /// # Errors
    ///
    /// [`RestoreError::File`] where it is no whole backup.
    pub fn read(file: &Path) -> Result<CheckedBackup, RestoreError> {
        Ok(CheckedBackup {
            summary: each_record(file, |_| Ok(()))?,
            file: file.to_owned(),
        })
    }

    /// What it holds.
    pub fn summary(&self) -> BackupSummary {
        self.summary
    }
}

/// A store that was filled from a backup, durably, and does not have its name yet. It goes where it is
/// dropped before [`finish`](Restoring::finish).
pub struct Restoring {
    path: PathBuf,
    half: PathBuf,
    store: Option<Arc<SledStore>>,
    finished: bool,
}

impl Restoring {
    /// The store, for what must be done before anybody else uses it. Every copy must have gone before
    /// [`finish`](Restoring::finish).
    ///
    /// # Errors
    ///
    /// Never before that.
    pub fn store(&self) -> Result<Arc<SledStore>, StoreError> {
        self.store.clone().ok_or(StoreError::Closed)
    }

    /// Closes it and gives it its name, durably.
    ///
    /// # Errors
    ///
    /// [`RestoreError::Write`].
    pub fn finish(mut self) -> Result<(), RestoreError> {
        drop(self.store.take());
        fs::rename(&self.half, &self.path)
            .and_then(|()| sync_folder_of(&self.path))
            .map_err(|error| RestoreError::Write {
                path: self.path.clone(),
                reason: error.to_string(),
            })?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        drop(self.store.take());
        if !self.finished {
            // What is left of it is told by the next start, and cleared by the next restore.
            let _ = fs::remove_dir_all(&self.half);
        }
    }
}

fn write_changes(writer: &mut Writer<BufWriter<&File>>, batch: Batch) -> io::Result<()> {
    batch
        .iter()
        .try_for_each(|(key, row)| writer.change(key, row.as_deref()))
}

fn each_record(
    file: &Path,
    mut each: impl FnMut(Record) -> Result<(), RestoreError>,
) -> Result<BackupSummary, RestoreError> {
    /// So that errors of the two sides stay apart.
    enum Either {
        File(BackupFileError),
        Restore(RestoreError),
    }
    impl From<BackupFileError> for Either {
        fn from(error: BackupFileError) -> Either {
            Either::File(error)
        }
    }
    let bad = |source| RestoreError::File {
        path: file.to_owned(),
        source,
    };
    let opened = File::open(file).map_err(|error| bad(BackupFileError::Read(error)))?;
    backup::read(BufReader::new(opened), |record| {
        each(record).map_err(Either::Restore)
    })
    .map_err(|error| match error {
        Either::File(source) => bad(source),
        Either::Restore(error) => error,
    })
}

/// Fills a new database: all rows, then all changes in their order.
fn fill(
    file: &Path,
    folder: &Path,
    drops: &impl Fn(&[u8]) -> bool,
) -> Result<sled::Db, RestoreError> {
    let write = |reason: String| RestoreError::Write {
        path: folder.to_owned(),
        reason,
    };
    let sled = |error: sled::Error| write(error.to_string());
    let db = database(folder).open().map_err(sled)?;
    let tree = db.open_tree(TREE).map_err(sled)?;
    for changes in [false, true] {
        let mut batch = sled::Batch::default();
        let mut records = 0;
        each_record(file, |record| {
            match record {
                Record::Row(key, _) | Record::Change(key, _) if drops(&key) => return Ok(()),
                Record::Row(key, row) if !changes => batch.insert(key, row),
                Record::Change(key, Some(row)) if changes => batch.insert(key, row),
                Record::Change(key, None) if changes => batch.remove(key),
                _ => return Ok(()),
            }
            records += 1;
            if records == RECORDS_AT_ONCE {
                records = 0;
                tree.apply_batch(std::mem::take(&mut batch)).map_err(sled)?;
            }
            Ok(())
        })?;
        tree.apply_batch(batch).map_err(sled)?;
    }
    tree.flush().map_err(sled)?;
    drop(tree);
    Ok(db)
}

/// Makes the name `path` durable.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
