//! The file of a backup until it is whole: it lies beside its name, as `FILE.part`, and gets that name
//! in one step, which never writes over anything.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};

use crate::backup::MAGIC;

/// How many names are tried: others may have something there, or backups of their own.
const NAMES_MAX: u32 = 100;

/// A file that is being written. It goes where it is dropped before [`finish`](Part::finish).
pub(super) struct Part {
    file: File,
    path: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl Part {
    /// A new file, mode 0600, beside `target`. What a backup has left there that was killed is written
    /// over, if nobody writes to it any more; anything else stays, and another name is taken.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(super) fn create(target: &Path) -> io::Result<Part> {
        let part = |file, path| Part {
            file,
            path,
            target: target.to_owned(),
            finished: false,
        };
        for number in 1..=NAMES_MAX {
            let path = name(target, number);
            let new = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            match new {
                // Another backup may have taken it for one that was left behind: then it is that one's.
                Ok(file) if !is_locked_by_others(&file) && is_at(&file, &path)? => {
                    return Ok(part(file, path));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if let Some(file) = left_behind(&path)? {
                        return Ok(part(file, path));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let reason = format!(
            "`{}` and others of its kind are there already",
            name(target, 1).display()
        );
        Err(io::Error::new(ErrorKind::AlreadyExists, reason))
    }

    /// Where to write.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file, which must be synced, its own name, durably.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] where something has got that name meanwhile; it is as it was.
    pub(super) fn finish(mut self) -> io::Result<()> {
        publish(&WAYS, &self.path, &self.target)?;
        self.finished = true;
        super::backup::sync_folder_of(&self.target)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.finished {
            // What stays is written over by the next one.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// `FILE.part`, `FILE.part-2`, …
fn name(target: &Path, number: u32) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    if number > 1 {
        name.push(format!("-{number}"));
    }
    target.with_file_name(name)
}

/// Locks `file` and says whether somebody else had. Where files cannot be locked nobody has.
fn is_locked_by_others(file: &File) -> bool {
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Whether `file` is what lies under `path`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    Ok(fs::symlink_metadata(path)
        .is_ok_and(|found| (found.dev(), found.ino()) == (own.dev(), own.ino())))
}

/// The file under `path`, emptied, where it is the beginning of a backup that nobody writes any more:
/// a plain file of this user under this one name, which is locked by nobody.
fn left_behind(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    let Ok(mut file) = opened else {
        return Ok(None);
    };
    let found = file.metadata()?;
    let own = found.is_file()
        && found.nlink() == 1
        && found.uid() == rustix::process::geteuid().as_raw()
        && found.mode() & 0o077 == 0;
    // Only a lock proves that nobody writes.
    if !own || file.try_lock().is_err() || !is_at(&file, path)? {
        return Ok(None);
    }
    let mut head = Vec::new();
    (&mut file)
        .take(MAGIC.len() as u64)
        .read_to_end(&mut head)?;
    if !MAGIC.starts_with(&head) {
        return Ok(None);
    }
    file.set_len(0)?;
    file.rewind()?;
    Ok(Some(file))
}

/// A way to give a file another name that must not be there.
type Way = fn(&Path, &Path) -> io::Result<()>;

/// Not every file system can do all of them: FAT has no hard links, NFS renames over what is there.
const WAYS: [Way; 3] = [rename, link, rename_over_own];

/// By the first way that there is.
fn publish(ways: &[Way], part: &Path, target: &Path) -> io::Result<()> {
    let mut last = io::Error::from(ErrorKind::Unsupported);
    for way in ways {
        match way(part, target) {
            Ok(()) => return Ok(()),
            Err(error) if is_no_way(&error) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// How file systems say that they cannot do it.
fn is_no_way(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unsupported
            | ErrorKind::InvalidInput
            | ErrorKind::PermissionDenied
            | ErrorKind::TooManyLinks
    )
}

fn rename(part: &Path, target: &Path) -> io::Result<()> {
    Ok(renameat_with(
        CWD,
        part,
        CWD,
        target,
        RenameFlags::NOREPLACE,
    )?)
}

fn link(part: &Path, target: &Path) -> io::Result<()> {
    fs::hard_link(part, target)?;
    fs::remove_file(part)
}

/// Takes the name with an empty file first, which only works where nothing is, and then puts the file
/// in its place.
fn rename_over_own(part: &Path, target: &Path) -> io::Result<()> {
    let empty = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)?;
    let renamed = match is_at(&empty, target)? {
        true => fs::rename(part, target),
        false => return Err(ErrorKind::AlreadyExists.into()),
    };
    if renamed.is_err() {
        let _ = fs::remove_file(target);
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("backup");
        (folder, target)
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).expect("read");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("read").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn write(part: &Part, bytes: &[u8]) {
        part.file().write_all(bytes).expect("written");
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let (folder, target) = folder();
        let part = Part::create(&target).expect("made");
        assert_eq!(names(&folder), ["backup.part"]);
        write(&part, b"whole");
        part.finish().expect("finished");
        assert_eq!(names(&folder), ["backup"]);
        assert_eq!(fs::read(&target).expect("read"), b"whole");
        let mode = fs::metadata(&target).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        drop(Part::create(&target.with_extension("2")).expect("made"));
        assert_eq!(names(&folder), ["backup"], "what was given up has gone");
    }

    #[test]
    fn what_a_killed_backup_has_left_is_in_nobodys_way() {
        let (folder, target) = folder();
        let left = target.with_extension("part");
        for bytes in [MAGIC, &MAGIC[..3], b"", &[MAGIC, b"\0rest"].concat()] {
            fs::write(&left, bytes).expect("written");
            fs::set_permissions(&left, fs::Permissions::from_mode(0o600)).expect("set");
            let part = Part::create(&target).expect("made");
            assert_eq!(names(&folder), ["backup.part"]);
            write(&part, b"new");
            part.finish().expect("finished");
            assert_eq!(fs::read(&target).expect("read"), b"new");
            fs::remove_file(&target).expect("removed");
        }
    }

    #[test]
    fn what_is_not_the_rest_of_a_backup_is_never_written_over() {
        let (folder, target) = folder();
        let other = target.with_extension("part");
        let kept = target.with_extension("kept");
        let check = |what: &str, bytes: &[u8]| {
            let part = Part::create(&target).expect("made");
            assert_eq!(part.path, name(&target, 2), "{what}");
            write(&part, b"new");
            part.finish().expect("finished");
            assert_eq!(fs::read(&other).expect("read"), bytes, "{what}");
            fs::remove_file(&target).expect("removed");
            fs::remove_file(&other).expect("removed");
        };
        let private = |path: &Path, bytes: &[u8]| {
            fs::write(path, bytes).expect("written");
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
        };
        private(&other, b"a diary");
        check("something else", b"a diary");
        private(&kept, MAGIC);
        fs::hard_link(&kept, &other).expect("linked");
        check("a backup's second name", MAGIC);
        std::os::unix::fs::symlink(&kept, &other).expect("linked");
        check("a link", MAGIC);
        private(&other, MAGIC);
        fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).expect("set");
        check("no file of ours", MAGIC);
        assert_eq!(names(&folder), ["backup.kept"]);
    }

    #[test]
    fn two_backups_to_one_name_have_a_file_each_and_one_gets_the_name() {
        let (folder, target) = folder();
        let first = Part::create(&target).expect("made");
        let second = Part::create(&target).expect("made");
        assert_eq!(names(&folder), ["backup.part", "backup.part-2"]);
        write(&first, b"first");
        write(&second, b"second");
        second.finish().expect("finished");
        let error = first.finish().expect_err("too late");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&target).expect("read"), b"second");
        assert_eq!(names(&folder), ["backup"]);
    }

    #[test]
    fn no_way_of_naming_a_file_writes_over_another() {
        for (number, way) in WAYS.into_iter().enumerate() {
            let (folder, target) = folder();
            let part = target.with_extension("part");
            fs::write(&part, "new").expect("written");
            fs::write(&target, "").expect("written");
            let error = publish(&[way], &part, &target).expect_err("taken");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "way {number}");
            assert_eq!(fs::read(&target).expect("read"), b"", "way {number}");
            fs::remove_file(&target).expect("removed");
            publish(&[way], &part, &target).expect("named");
            assert_eq!(fs::read(&target).expect("read"), b"new", "way {number}");
            assert_eq!(names(&folder), ["backup"], "way {number}");
        }
    }

    #[test]
    fn where_a_file_system_cannot_do_it_the_next_way_is_taken() {
        // What FAT, NFS and some mounts of other systems say.
        let ways: [Way; 4] = [
            |_, _| Err(rustix::io::Errno::INVAL.into()),
            |_, _| Err(rustix::io::Errno::PERM.into()),
            |_, _| Err(rustix::io::Errno::NOSYS.into()),
            rename_over_own,
        ];
        let (folder, target) = folder();
        let part = target.with_extension("part");
        fs::write(&part, "new").expect("written");
        let error = publish(&ways[..3], &part, &target).expect_err("no way");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(names(&folder), ["backup.part"]);
        publish(&ways, &part, &target).expect("named");
        assert_eq!(names(&folder), ["backup"]);
        // Any other trouble is told.
        let ways: [Way; 2] = [|_, _| Err(ErrorKind::StorageFull.into()), rename_over_own];
        let error = publish(&ways, &target, &part).expect_err("full");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
}
