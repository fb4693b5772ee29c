//! The files of the keys: which there are, how they are read, made and added to. A key that has been
//! made is never written again, and only the owner of the process may read one.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, RwLock};

use countersign_types::{Entropy, hex};
use zeroize::Zeroizing;

use super::{Keyring, Numbered, hmac_key};

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
    #[error("the key file `{}` can be read by others; type `chmod 600 '{}'`, and think about who may have read it", path.display(), path.display())]
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

/// The ids of keys that were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// For codes.
    pub codes: u32,
    /// For rows that rest sealed.
    pub rows: u32,
    /// For proofs.
    pub signing: u32,
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
        let index = path.join("index.key");
        let present = numbered(path)?;
        let firsts = Kind::ALL
            .into_iter()
            .filter(|kind| present.iter().all(|(other, ..)| other != kind))
            .map(|kind| path.join(kind.file(1)));
        let missing = (!index.exists()).then(|| index.clone());
        let mut created = false;
        for file in missing.into_iter().chain(firsts) {
            if !new_data {
                return Err(KeyringError::Missing { path: file });
            }
            create_key(&file, entropy).map_err(io(&file))?;
            created = true;
        }
        let mut loaded = Numbered::default();
        for (kind, id, file) in numbered(path)? {
            loaded.insert(kind, id, &*read_secret(&file)?);
        }
        // A key that is lost in a power cut would take every live code with it.
        fs::File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(io(path))?;
        Ok(Keyring {
            folder: path.to_owned(),
            numbered: RwLock::new(loaded),
            index: hmac_key(&*read_secret(&index)?),
            created,
            rotating: Mutex::new(()),
        })
    }

    /// Makes new keys for codes, rows and proofs beside those in the folder `path`; the next
    /// [`load_or_create`](Keyring::load_or_create) uses them for what is new. The index key stays.
    ///
    /// # Errors
    ///
    /// See [`KeyringError`]; there must be keys already.
    pub fn rotate(path: &Path, entropy: &dyn Entropy) -> Result<Rotated, KeyringError> {
        let index = path.join("index.key");
        if !index.exists() {
            return Err(KeyringError::Missing { path: index });
        }
        let present = numbered(path)?;
        let next = |wanted: Kind| {
            let ids = present.iter().filter(|(kind, ..)| *kind == wanted);
            ids.map(|(_, id, _)| *id).max().unwrap_or(0) + 1
        };
        let rotated = Rotated {
            codes: next(Kind::Codes),
            rows: next(Kind::Rows),
            signing: next(Kind::Signing),
        };
        for (kind, id) in [
            (Kind::Codes, rotated.codes),
            (Kind::Rows, rotated.rows),
            (Kind::Signing, rotated.signing),
        ] {
            let file = path.join(kind.file(id));
            create_key(&file, entropy).map_err(|source| KeyringError::Io { path: file, source })?;
        }
        fs::File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| KeyringError::Io {
                path: path.to_owned(),
                source,
            })?;
        Ok(rotated)
    }
}

/// The kinds of keys of which there can be several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Codes,
    Rows,
    Signing,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Codes, Kind::Rows, Kind::Signing];

    fn name(self) -> &'static str {
        match self {
            Kind::Codes => "codes",
            Kind::Rows => "rows",
            Kind::Signing => "signing",
        }
    }

    /// The file of the key `id`.
    fn file(self, id: u32) -> String {
        format!("{}-{id}.key", self.name())
    }

    /// The kind and id of the key that a file of this name holds.
    fn of(file: &str) -> Option<(Kind, u32)> {
        let (name, id) = file.strip_suffix(".key")?.split_once('-')?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name)?;
        Some((kind, id.parse().ok()?))
    }
}

/// The files of the folder `path` that hold such keys, with their ids.
fn numbered(path: &Path) -> Result<Vec<(Kind, u32, PathBuf)>, KeyringError> {
    let io = |source| KeyringError::Io {
        path: path.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let file = entry.map_err(io)?.path();
        let name = file.file_name().and_then(|name| name.to_str());
        if let Some((kind, id)) = name.and_then(Kind::of) {
            found.push((kind, id, file));
        }
    }
    Ok(found)
}

pub(super) fn create_key(path: &Path, entropy: &dyn Entropy) -> io::Result<()> {
    let mut key = Zeroizing::new([0; 32]);
    entropy.fill(key.as_mut());
    // Under another name until it is whole: a start that is cut off must not leave half a key.
    let half = path.with_extension("new");
    match fs::remove_file(&half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&half)?;
    let text = Zeroizing::new(format!("{}\n", hex(key.as_ref())));
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    // Unlike a rename, this never replaces a key.
    fs::hard_link(&half, path)?;
    fs::remove_file(&half)
}

fn read_secret(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyringError> {
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
    Ok(key)
}
