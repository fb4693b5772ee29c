//! A disk that loses power, fills up and fails, below the real binary. `disk/disk.c` is the other
//! half, which is loaded into the program and sees its calls of the C library.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// What a power cut leaves of writes that nobody has synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerMode {
    /// Nothing.
    Power,
    /// What `sync_file_range` covers, where it overwrites what the durable file already had.
    PowerAndRange,
    /// By chance some of what overwrites durable bytes: the kernel writes back when it likes.
    PowerAndWriteback,
}

impl PowerMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Power, Self::PowerAndRange, Self::PowerAndWriteback];

    fn name(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::PowerAndRange => "power+range",
            Self::PowerAndWriteback => "power+writeback",
        }
    }
}

/// Calls that can be made to fail.
#[derive(Clone, Copy, Debug)]
pub enum DiskCall {
    /// Making, opening for writing, renaming and removing files and folders.
    Create,
    /// Writing and changing the size.
    Write,
    /// Syncing a file or a folder.
    Sync,
}

impl DiskCall {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Write => "write",
            Self::Sync => "sync",
        }
    }
}

/// How often the program has called what, since the disk was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Writes to files.
    pub writes: u64,
    /// `fsync` of a file.
    pub fsyncs: u64,
    /// `fdatasync` of a file.
    pub fdatasyncs: u64,
    /// `sync_file_range`, as far as it was not the program's own function of this name.
    pub range_syncs: u64,
    /// `fsync` of a folder.
    pub folder_syncs: u64,
}

/// The disk under one folder.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    state: TempDir,
    mode: PowerMode,
    seed: u64,
}

impl Disk {
    /// A disk under `root`, which exists.
    pub fn new(root: &Path, mode: PowerMode, seed: u64) -> Self {
        let state = tempfile::tempdir().expect("a temporary folder can be made");
        fs::create_dir(state.path().join("faults")).unwrap();
        Self {
            root: root.canonicalize().unwrap(),
            state,
            mode,
            seed,
        }
    }

    /// The variables that put a program on this disk.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", env!("DISK_LIBRARY").into()),
            ("DISK_ROOT", self.root.clone().into()),
            ("DISK_STATE", self.state.path().into()),
            ("DISK_MODE", self.mode.name().into()),
            ("DISK_SEED", self.seed.to_string().into()),
        ]
    }

    /// Limits what the files may have together, from now on, or lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.set("capacity", bytes.map(|bytes| bytes.to_string()));
    }

    /// The sizes of all files together.
    pub fn used(&self) -> u64 {
        fn sum(folder: &Path) -> u64 {
            let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
            entries
                .map(|entry| match entry.metadata() {
                    Ok(found) if found.is_dir() => sum(&entry.path()),
                    Ok(found) if found.is_file() => found.len(),
                    // A socket, or a file that has just gone.
                    _ => 0,
                })
                .sum()
        }
        sum(&self.root)
    }

    /// Makes all such calls fail with `error`, once `calls` more of them have been made.
    pub fn fail(&self, call: DiskCall, error: rustix::io::Errno, calls: u64) {
        self.set(
            call.name(),
            Some(format!("{} {calls}", error.raw_os_error())),
        );
    }

    /// Makes the next such call of a program fail with `error`, and none after it.
    pub fn fail_once(&self, call: DiskCall, error: rustix::io::Errno) {
        self.set(call.name(), Some(format!("{} 0 1", error.raw_os_error())));
    }

    /// Lets such calls work again.
    pub fn repair(&self, call: DiskCall) {
        self.set(call.name(), None);
    }

    /// Lets no sync of a file begin until [`Disk::go_on`].
    pub fn hold_syncs(&self) {
        self.set("hold", Some("1".to_owned()));
    }

    /// Lets the syncs begin that [`Disk::hold_syncs`] holds.
    pub fn go_on(&self) {
        self.set("hold", None);
    }

    /// The program may read it at any moment, so it is there as a whole or not at all.
    fn set(&self, name: &str, text: Option<String>) {
        let path = self.state.path().join("faults").join(name);
        match text {
            Some(text) => {
                let half = self.state.path().join("half");
                fs::write(&half, text).unwrap();
                fs::rename(half, path).unwrap();
            }
            None => {
                if let Err(error) = fs::remove_file(path) {
                    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
                }
            }
        }
    }

    /// How often what was called.
    ///
    /// # Panics
    /// When no program has been on this disk: the library was not loaded.
    pub fn counts(&self) -> DiskCounts {
        let bytes = fs::read(self.state.path().join("counters"))
            .expect("the library has been loaded into the program");
        let (numbers, rest) = bytes.as_chunks::<8>();
        assert!(rest.is_empty() && numbers.len() == 5, "{bytes:?}");
        let number = |at: usize| u64::from_ne_bytes(numbers[at]);
        DiskCounts {
            writes: number(0),
            fsyncs: number(1),
            fdatasyncs: number(2),
            range_syncs: number(3),
            folder_syncs: number(4),
        }
    }

    /// The power is off: what was not durable is gone. No program may be running on the disk.
    pub fn lose_power(&self) {
        let folders = self.state.path().join("folders");
        let files = self.state.path().join("files");
        let left = self.state.path().join("left");
        let begun = self.state.path().join("begun");
        if !begun.exists() {
            // The program was killed before it could change anything.
            return;
        }
        fs::create_dir(&left).unwrap();
        let root = fs::metadata(&self.root).unwrap().ino();
        rebuild(&folders, &root.to_string(), &left);
        for entry in fs::read_dir(&self.root).unwrap() {
            remove(&entry.unwrap().path());
        }
        for entry in fs::read_dir(&left).unwrap() {
            let entry = entry.unwrap();
            fs::rename(entry.path(), self.root.join(entry.file_name())).unwrap();
        }
        for folder in [left, folders, files] {
            fs::remove_dir_all(folder).unwrap();
        }
        fs::remove_file(begun).unwrap();
    }

    /// Requires that everything is durable but folders called `but`: after a clean stop nothing may wait
    /// for a sync. It also shows that no write went past the library, since it would be in the file and
    /// not in the copy.
    #[track_caller]
    pub fn expect_all_durable(&self, but: &str) {
        let held = tempfile::tempdir().unwrap();
        let root = fs::metadata(&self.root).unwrap().ino();
        rebuild(
            &self.state.path().join("folders"),
            &root.to_string(),
            held.path(),
        );
        let files = same(&self.root, held.path(), but);
        assert!(files > 0, "there is no file on the disk");
    }
}

/// Writes the durable names and contents of the folder of inode `inode` to `target`.
fn rebuild(folders: &Path, inode: &str, target: &Path) {
    let Ok(names) = fs::read_dir(folders.join(inode)) else {
        // Nothing in it was ever synced.
        return;
    };
    for entry in names {
        let entry = entry.unwrap();
        let target = target.join(entry.file_name());
        if entry.file_type().unwrap().is_symlink() {
            let inner = fs::read_link(entry.path()).unwrap();
            fs::DirBuilder::new().mode(0o700).create(&target).unwrap();
            rebuild(folders, inner.to_str().unwrap(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn remove(path: &Path) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

/// Compares the files of two folders and returns how many there are.
#[track_caller]
fn same(one: &Path, other: &Path, but: &str) -> usize {
    let names = |folder: &Path| -> Vec<OsString> {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        let mut names: Vec<_> = entries
            .filter(|entry| {
                let kind = entry.file_type().unwrap();
                (kind.is_dir() && entry.file_name() != but) || kind.is_file()
            })
            .map(|entry| entry.file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(one), names(other), "names in {}", one.display());
    let mut files = 0;
    for name in names(one) {
        let (one, other) = (one.join(&name), other.join(&name));
        if one.is_dir() {
            files += same(&one, &other, but);
        } else {
            let equal = fs::read(&one).unwrap() == fs::read(&other).unwrap();
            assert!(equal, "{} is not durable", one.display());
            files += 1;
        }
    }
    files
}
