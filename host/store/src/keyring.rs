//! The host's secret keys: one for codes, which can be rotated, and one for the index of telephone
//! numbers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use countersign_types::{Entropy, hex};
use zeroize::Zeroizing;

/// Why the keys could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The operating system refused.
    #[error("cannot use the key file `{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// It is not 64 hexadecimal digits.
    #[error("the key file `{}` must hold 64 hexadecimal digits", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner could read it.
    #[error("the key file `{}` can be read by others; type `chmod 600 {}`", path.display(), path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
    },
    /// The store has data and its keys are gone.
    #[error("the key file `{}` is missing, but the data folder is not new; put it back from your backup of the keys", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

/// Keys that never leave the host.
pub struct Keyring {
    /// By id; the highest is the one that new challenges use.
    codes: BTreeMap<u32, hmac::Key>,
    current: u32,
    index: hmac::Key,
    created: bool,
}

impl Keyring {
    /// Loads the keys from the folder `path`, or makes them there, mode 0600, where there are none
    /// and `new_data` says that nothing depends on any yet.
    ///
    /// # Errors
    ///
    /// See [`KeyringError`].
    pub fn load_or_create(
        path: &Path,
        new_data: bool,
        entropy: &dyn Entropy,
    ) -> Result<Keyring, KeyringError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| KeyringError::Io { path, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io(path))?;
        let mut codes = BTreeMap::new();
        for entry in fs::read_dir(path).map_err(io(path))? {
            let file = entry.map_err(io(path))?.path();
            let id = file
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_prefix("codes-")?.strip_suffix(".key"))
                .and_then(|id| id.parse().ok());
            if let Some(id) = id {
                codes.insert(id, read_key(&file)?);
            }
        }
        let index = path.join("index.key");
        let first = path.join("codes-1.key");
        let mut created = false;
        for (file, missing) in [(&index, !index.exists()), (&first, codes.is_empty())] {
            if missing {
                if !new_data {
                    return Err(KeyringError::Missing { path: file.clone() });
                }
                create_key(file, entropy).map_err(io(file))?;
                created = true;
            }
        }
        if codes.is_empty() {
            codes.insert(1, read_key(&first)?);
        }
        // A key that is lost in a power cut would take every live code with it.
        fs::File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(io(path))?;
        let current = codes.keys().next_back().copied().unwrap_or(1);
        Ok(Keyring {
            codes,
            current,
            index: read_key(&index)?,
            created,
        })
    }

    /// Whether the keys were made just now.
    pub fn created(&self) -> bool {
        self.created
    }

    /// The id of the key that new challenges use.
    pub fn current(&self) -> u32 {
        self.current
    }

    /// HMAC-SHA-256 over `fields`, each with its length before it, under the code key `id`. `None`
    /// where there is no such key any more.
    pub fn code_hmac(&self, id: u32, fields: &[&[u8]]) -> Option<[u8; 32]> {
        self.codes.get(&id).map(|key| keyed_hash(key, fields))
    }

    /// A keyed hash of a telephone number: the same for every spelling, 32 hexadecimal digits, and
    /// without the index key nobody can tell which number it is.
    pub fn phone_index(&self, e164: &str) -> String {
        hex(&keyed_hash(&self.index, &[b"phone", e164.as_bytes()])[..16])
    }
}

fn keyed_hash(key: &hmac::Key, fields: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for field in fields {
        context.update(&(field.len() as u64).to_be_bytes());
        context.update(field);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.sign().as_ref());
    hash
}

fn create_key(path: &Path, entropy: &dyn Entropy) -> io::Result<()> {
    let mut key = Zeroizing::new([0; 32]);
    entropy.fill(key.as_mut());
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let text = Zeroizing::new(format!("{}\n", hex(key.as_ref())));
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn read_key(path: &Path) -> Result<hmac::Key, KeyringError> {
    let io = |source| KeyringError::Io {
        path: path.to_owned(),
        source,
    };
    let mode = fs::metadata(path).map_err(io)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeyringError::TooOpen {
            path: path.to_owned(),
        });
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(io)?);
    let digits = text.trim();
    let malformed = || KeyringError::Malformed {
        path: path.to_owned(),
    };
    if digits.len() != 64 || !digits.is_ascii() {
        return Err(malformed());
    }
    let mut key = Zeroizing::new([0; 32]);
    for (byte, at) in key.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| malformed())?;
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_types::SystemEntropy;

    fn load(path: &Path, new_data: bool) -> Result<Keyring, KeyringError> {
        Keyring::load_or_create(path, new_data, &SystemEntropy)
    }

    #[test]
    fn keys_are_made_once_and_only_the_owner_reads_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().join("keys");
        let first = load(&keys, true).expect("made");
        assert!(first.created());
        for name in ["index.key", "codes-1.key"] {
            let mode = fs::metadata(keys.join(name))
                .expect("there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let again = load(&keys, false).expect("loaded");
        assert!(!again.created());
        assert_eq!(
            first.phone_index("+12025550123"),
            again.phone_index("+12025550123")
        );
        assert_eq!(first.code_hmac(1, &[b"a"]), again.code_hmac(1, &[b"a"]));
    }

    #[test]
    fn lost_keys_are_not_replaced_behind_the_operators_back() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(matches!(
            load(folder.path(), false),
            Err(KeyringError::Missing { .. })
        ));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        load(folder.path(), true).expect("made");
        let key = folder.path().join("index.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("changed");
        assert!(matches!(
            load(folder.path(), false),
            Err(KeyringError::TooOpen { .. })
        ));
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = load(folder.path(), true).expect("made");
        assert_ne!(
            keys.code_hmac(1, &[b"ab", b"c"]),
            keys.code_hmac(1, &[b"a", b"bc"])
        );
        assert_eq!(keys.code_hmac(9, &[b"ab"]), None);
    }

    #[test]
    fn a_newer_code_key_is_used_and_the_older_still_reads() {
        let folder = tempfile::tempdir().expect("a folder");
        let old = load(folder.path(), true).expect("made");
        create_key(&folder.path().join("codes-2.key"), &SystemEntropy).expect("made");
        let both = load(folder.path(), false).expect("loaded");
        assert_eq!(both.current(), 2);
        assert_eq!(both.code_hmac(1, &[b"a"]), old.code_hmac(1, &[b"a"]));
    }
}
