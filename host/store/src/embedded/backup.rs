//! Backup and restore of the embedded store.
//!
//! A backup reads all rows while commits go on, so what it reads is of no one moment. Meanwhile the
//! storage threads pass on what each group writes, when it is durable and in commit order, and at the
//! end they say after which group they have stopped. Rows with those changes on top are the state
//! after that group. Nothing is held back for it, and what waits in memory has a bound.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

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

/// Why nothing was restored. The store's folder was not made.
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
    waiting: Arc<AtomicU64>,
}

impl Follower {
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
        let waiting = self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let mut changes = self.changes();
        let sent = match &*changes {
            Some(changes) if waiting <= CHANGES_BYTES_MAX => changes.send(batch).is_ok(),
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
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)
            .map_err(write)?;
        let done = self.write_backup(file, path).and_then(|summary| {
            // Unlike a rename, this never replaces what has come there meanwhile.
            match fs::hard_link(&part, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists()),
                Err(error) => Err(write(error)),
                Ok(()) => Ok(summary),
            }
        });
        // Of a failed backup nothing is left; of a good one the name that it had before.
        let removed = fs::remove_file(&part);
        let summary = done?;
        removed.and_then(|()| sync_folder_of(path)).map_err(write)?;
        Ok(summary)
    }

    fn write_backup(&self, file: File, path: &Path) -> Result<BackupSummary, BackupError> {
        let write = |source| BackupError::Write {
            path: path.to_owned(),
            source,
        };
        let (changes, changed) = channel();
        let waiting = Arc::new(AtomicU64::new(0));
        let follower = Arc::new(Follower {
            changes: Mutex::new(Some(changes)),
            waiting: waiting.clone(),
        });
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
        writer: &mut Writer<BufWriter<File>>,
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

    fn ask_blocking<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, StoreError> {
        let (answer, result) = oneshot::channel();
        self.requests
            .blocking_send(request(answer))
            .map_err(|_| StoreError::Closed)?;
        result.blocking_recv().map_err(|_| StoreError::Closed)
    }

    /// Makes the store of the folder `path`, which must not be there, from the backup `file`. Nothing
    /// is visible under that name before all of it is durable.
    ///
    /// # Errors
    ///
    /// See [`RestoreError`].
    pub fn restore(file: &Path, path: &Path) -> Result<BackupSummary, RestoreError> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(RestoreError::Exists {
                path: path.to_owned(),
            });
        }
        // All of it is checked before anything is made.
        let summary = each_record(file, |_| Ok(()))?;
        let write = |reason: String| RestoreError::Write {
            path: path.to_owned(),
            reason,
        };
        let half = Self::restoring(path);
        let begin = || -> io::Result<()> {
            // Of a restore that was cut off.
            if half.exists() {
                fs::remove_dir_all(&half)?;
            }
            fs::DirBuilder::new().mode(0o700).create(&half)
        };
        begin().map_err(|error| write(error.to_string()))?;
        let filled = fill(file, &half).and_then(|()| {
            let finish = || -> io::Result<()> {
                let mut marker = File::create(half.join(MARKER))?;
                marker.write_all(MARKER_TEXT.as_bytes())?;
                marker.sync_all()?;
                File::open(half.join("conf"))?.sync_all()?;
                File::open(&half)?.sync_all()?;
                fs::rename(&half, path)?;
                sync_folder_of(path)
            };
            finish().map_err(|error| write(error.to_string()))
        });
        if let Err(error) = filled {
            // What is left of it is in nobody's way.
            let _ = fs::remove_dir_all(&half);
            return Err(error);
        }
        Ok(summary)
    }

    /// Where a restore of the store `path` keeps what is not complete yet.
    pub fn restoring(path: &Path) -> PathBuf {
        path.with_extension(RESTORING)
    }
}

fn write_changes(writer: &mut Writer<BufWriter<File>>, batch: Batch) -> io::Result<()> {
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
fn fill(file: &Path, folder: &Path) -> Result<(), RestoreError> {
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
    Ok(())
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
