//! The data folder: who may use it, and what is opened in it.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_store::{Keyring, KeyringError, OpenError, SledStore};
use countersign_types::Entropy;
use miette::Diagnostic;

use crate::config::Folders;

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum DataError {
    #[error("cannot make the data folder `{}`", path.display())]
    #[diagnostic(
        code(countersign::data::folder),
        help("name another folder with --data or COUNTERSIGN_DATA")
    )]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    #[diagnostic(code(countersign::data::keys))]
    Keys(#[from] KeyringError),
    #[error("the data folder `{}` is in use by another process, which does not answer", path.display())]
    #[diagnostic(
        code(countersign::data::in_use),
        help(
            "it may be a server that is just starting, or a command: try again in a moment; `fuser {}` names the process",
            quoted(&path.join("store/db"))
        )
    )]
    InUse { path: PathBuf },
    #[error(transparent)]
    #[diagnostic(
        code(countersign::data::store),
        help("`countersign doctor` says more; leave the folder as it is until then")
    )]
    Store(OpenError),
    #[error("a restore into `{}` was cut off before its end", path.display())]
    #[diagnostic(
        code(countersign::data::restoring),
        help(
            "type it again: countersign restore FILE; to begin without it, move `{}` to another place first",
            half.display()
        )
    )]
    Restoring { path: PathBuf, half: PathBuf },
}

/// An opened data folder. The store's lock keeps every other process out while this lives.
pub(crate) struct Data {
    pub(crate) store: Arc<SledStore>,
    pub(crate) keyring: Arc<Keyring>,
    /// For compiled components. Can be deleted at any time.
    pub(crate) cache: PathBuf,
}

impl Data {
    /// Opens the folders and makes what is missing, for the owner's eyes only.
    ///
    /// The keys come before the store: were it the other way round, a start cut off in between would
    /// leave a store that is not new and has no keys, and that nobody may open any more.
    ///
    /// # Errors
    ///
    /// See [`DataError`].
    pub(crate) fn open(folders: &Folders, entropy: &dyn Entropy) -> Result<Data, DataError> {
        let path = folders.data.join("store");
        let new = !path.exists();
        let half = SledStore::restoring(&path);
        if new && half.exists() {
            let path = folders.data.clone();
            return Err(DataError::Restoring { path, half });
        }
        make_folder(&folders.data)?;
        make_folder(&folders.keys)?;
        let keyring = Keyring::load_or_create(&folders.keys, new, entropy)?;
        make_folder(&path)?;
        let store = SledStore::open(&path).map_err(|error| match error {
            OpenError::InUse { .. } => DataError::InUse {
                path: folders.data.clone(),
            },
            error => DataError::Store(error),
        })?;
        Ok(Data {
            store,
            keyring: Arc::new(keyring),
            cache: folders.data.join("cache"),
        })
    }
}

/// Makes a folder that only its owner may enter. One that is there already stays as it is, since it
/// may be somebody's home. A new name is durable only when the folder that it stands in is.
pub(crate) fn make_folder(path: &Path) -> Result<(), DataError> {
    let new: Vec<&Path> = path
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| new.iter().try_for_each(|path| sync_folder_of(path)))
        .map_err(|source| DataError::Folder {
            path: path.to_owned(),
            source,
        })
}

/// Makes the name `path` durable.
pub(crate) fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

/// Whether others than its owner may look into `folder`.
pub(crate) fn is_open_to_others(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
}

/// What lies in the folders of data and keys.
const OWN_NAMES: [&str; 6] = [
    "cache",
    "control.sock",
    "countersign.toml",
    "keys",
    "store",
    "store.restoring",
];

/// What to do about a folder that [others may look into](is_open_to_others). One that holds other
/// things too may be open for a reason: a home, or where several programs keep theirs.
pub(crate) fn how_to_close(folder: &Path) -> String {
    let is_own = |name: &std::ffi::OsStr| {
        let is_key = Path::new(name).extension().is_some_and(|end| end == "key");
        is_key || OWN_NAMES.iter().any(|own| name == *own)
    };
    let other = fs::read_dir(folder).ok().and_then(|entries| {
        let mut names = entries.flatten().map(|entry| entry.file_name());
        names.find(|name| !is_own(name))
    });
    match other {
        None => format!("type: chmod 700 {}", quoted(folder)),
        Some(other) => format!(
            "leave its mode as it is, since it holds `{}` too; give countersign a folder of its own: stop the server, move what is its there, and name the folder with --data or COUNTERSIGN_KEYS",
            other.to_string_lossy()
        ),
    }
}

/// A path as it is typed into a shell.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_types::SystemEntropy;

    fn folders(root: &Path) -> Folders {
        Folders {
            data: root.join("data"),
            keys: root.join("data/keys"),
        }
    }

    #[test]
    fn only_the_owner_enters_what_was_made() {
        let root = tempfile::tempdir().expect("a folder");
        let folders = folders(root.path());
        let data = Data::open(&folders, &SystemEntropy).expect("made");
        assert!(data.keyring.created());
        for path in ["data", "data/store", "data/keys"] {
            assert!(!is_open_to_others(&root.path().join(path)), "{path}");
        }
        drop(data);
        let again = Data::open(&folders, &SystemEntropy).expect("opened");
        assert!(!again.keyring.created());
    }

    #[test]
    fn a_folder_is_closed_by_its_mode_only_where_all_in_it_is_ours() {
        let root = tempfile::tempdir().expect("a folder");
        let folders = folders(root.path());
        drop(Data::open(&folders, &SystemEntropy).expect("made"));
        for folder in [&folders.data, &folders.keys] {
            let want = format!("type: chmod 700 {}", folder.display());
            assert_eq!(how_to_close(folder), want);
        }
        fs::write(folders.data.join("somebody's"), "").expect("written");
        let advice = how_to_close(&folders.data);
        assert!(
            !advice.contains("chmod") && advice.contains("`somebody's`"),
            "{advice}"
        );
    }

    #[test]
    fn a_path_is_quoted_where_a_shell_would_take_it_apart() {
        let check = |path: &str, want: &str| assert_eq!(quoted(Path::new(path)), want);
        check("/var/lib/countersign-1", "/var/lib/countersign-1");
        check("my data", "'my data'");
        check("it's; rm", r"'it'\''s; rm'");
        check("", "''");
    }

    #[test]
    fn a_start_that_was_cut_off_after_the_keys_is_taken_up() {
        let root = tempfile::tempdir().expect("a folder");
        let folders = folders(root.path());
        Keyring::load_or_create(&folders.keys, true, &SystemEntropy).expect("made");
        assert!(Data::open(&folders, &SystemEntropy).is_ok());
    }

    #[test]
    fn a_store_without_its_keys_is_not_opened() {
        let root = tempfile::tempdir().expect("a folder");
        let folders = folders(root.path());
        drop(Data::open(&folders, &SystemEntropy).expect("made"));
        fs::remove_dir_all(&folders.keys).expect("removed");
        let opened = Data::open(&folders, &SystemEntropy);
        assert!(matches!(opened, Err(DataError::Keys(_))));
    }
}
