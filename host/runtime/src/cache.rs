//! Compiled components on disk, so that only the first start compiles.
//!
//! Compiled code is run as it is read: whoever can choose it owns the process. So every file carries
//! a MAC over its content and over what it was compiled from and for, under a key that is derived
//! from the host's own; a file that the host did not write is never looked into. Losing the folder
//! costs one compilation and nothing else, so nothing here is an error for the caller.

use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::{digest, hmac};
use countersign_types::hex;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::version::Sha256;

/// How many compiled components are kept. Each change of a component or of the engine leaves one
/// behind; a dozen is what a large installation uses at once.
const ENTRIES_MAX: usize = 32;

/// A larger file is none of ours: the largest component that is accepted compiles to less.
const ENTRY_BYTES_MAX: u64 = 512 * 1024 * 1024;

const MAC_BYTES: usize = 32;

const EXTENSION: &str = "compiled";

/// A folder of compiled components.
pub(crate) struct Cache {
    folder: PathBuf,
    key: hmac::Key,
    /// Held while files change: components are compiled beside each other.
    writing: Mutex<()>,
}

/// What a compiled component depends on: its bytes, and the engine with its version, its settings and
/// the processor.
pub(crate) struct Entry {
    name: String,
    path: PathBuf,
}

impl Cache {
    /// A cache in `folder`, which is made where it is missing, for its owner alone.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub(crate) fn open(folder: &Path, key: &[u8; 32]) -> io::Result<Cache> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        Ok(Cache {
            folder: folder.to_owned(),
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            writing: Mutex::new(()),
        })
    }

    /// Where the component of that name, compiled by `engine`, would lie.
    pub(crate) fn entry(&self, engine: &Engine, sha256: Sha256) -> Entry {
        let mut compatible = Digest(digest::Context::new(&digest::SHA256));
        engine.precompile_compatibility_hash().hash(&mut compatible);
        let name = format!("{sha256}-{}", hex(&compatible.0.finish().as_ref()[..8]));
        Entry {
            path: self.folder.join(&name).with_extension(EXTENSION),
            name,
        }
    }

    /// The compiled component, if this host has written it and it is whole.
    pub(crate) fn load(&self, engine: &Engine, entry: &Entry) -> Option<Component> {
        let mut file = File::open(&entry.path).ok()?;
        if file.metadata().ok()?.len() > ENTRY_BYTES_MAX {
            return None;
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content).ok()?;
        let (mac, code) = content.split_at_checked(MAC_BYTES)?;
        if hmac::verify(&self.key, &authenticated(entry, code), mac).is_err() {
            tracing::warn!(path = %entry.path.display(), "a compiled component is damaged or not of this host");
            return None;
        }
        // The newest ones are kept.
        let _ = file.set_modified(now());
        #[expect(
            unsafe_code,
            reason = "compiled code can only be taken as it is; the MAC says that this host made it"
        )]
        // SAFETY: `deserialize` asks for what `Component::serialize` has given. The MAC shows that
        // these very bytes, which nobody else holds, were written by `store` below, for this
        // component and an engine like this one, by a process that had this host's key.
        let component = unsafe { Component::deserialize(engine, code) };
        component.ok()
    }

    /// Keeps a compiled component, and drops those that have not been used for the longest time.
    ///
    /// # Errors
    ///
    /// When it cannot be written. There is no half of an entry then.
    pub(crate) fn store(&self, entry: &Entry, component: &Component) -> io::Result<()> {
        let code = component.serialize().map_err(io::Error::other)?;
        let mac = hmac::sign(&self.key, &authenticated(entry, &code));
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let unfinished = self
            .folder
            .join(format!("{}.{}", entry.name, std::process::id()));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .and_then(|mut file| {
                file.write_all(mac.as_ref())?;
                file.write_all(&code)
            })
            // Without a sync: after a power cut the MAC tells what has been lost.
            .and_then(|()| fs::rename(&unfinished, &entry.path));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        written?;
        self.prune()
    }

    fn prune(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            let file = file?;
            entries.push((file.metadata()?.modified()?, file.path()));
        }
        entries.sort_by(|a, b| b.cmp(a));
        for (_, path) in entries.iter().skip(ENTRIES_MAX) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// What the MAC is over. The name has a fixed length, so the two do not run into each other.
fn authenticated(entry: &Entry, code: &[u8]) -> Vec<u8> {
    [entry.name.as_bytes(), code].concat()
}

#[expect(
    clippy::disallowed_methods,
    reason = "compared with other files' times on the same disk, and seen by nobody else"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Collects in SHA-256 what a [`Hash`] feeds: a hasher of 64 bits would be too little to tell engines
/// apart for good.
struct Digest(digest::Context);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.clone().finish();
        hash.as_ref()
            .iter()
            .take(8)
            .fold(0, |all, byte| (all << 8) | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::component::Compiler;
    use crate::{Limits, engine};

    const KEY: [u8; 32] = [7; 32];

    fn component() -> Vec<u8> {
        countersign_embedded::PROVIDER_CONSOLE.to_vec()
    }

    fn compiler(folder: &Path, key: [u8; 32], limits: &Limits) -> Compiler {
        let engine = engine::start(limits).expect("an engine");
        Compiler::new(engine, Cache::open(folder, &key).ok())
    }

    /// Compiles and says whether it came out of the cache.
    fn was_cached(compiler: &Compiler, bytes: &[u8]) -> bool {
        let before = compiler.cached();
        compiler.compile("test", bytes).expect("compiled");
        compiler.cached() > before
    }

    fn entries(folder: &Path) -> Vec<PathBuf> {
        let files = fs::read_dir(folder).expect("a folder");
        files.map(|file| file.expect("a file").path()).collect()
    }

    #[test]
    fn a_component_is_compiled_once() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("cache");
        let limits = Limits::default();
        assert!(!was_cached(&compiler(&folder, KEY, &limits), &component()));
        assert!(was_cached(&compiler(&folder, KEY, &limits), &component()));
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(entries(&folder).len(), 1);
        assert_eq!(mode(&entries(&folder)[0]), 0o600);
    }

    #[test]
    fn what_is_prepared_is_compiled_once_however_often_it_is_there() {
        let root = tempfile::tempdir().expect("a folder");
        let compiler = compiler(root.path(), KEY, &Limits::default());
        let (console, twilio) = (component(), countersign_embedded::PROVIDER_TWILIO);
        let broken: &[u8] = b"no component";
        compiler.prepare([
            ("a", console.as_slice()),
            ("b", twilio),
            ("c", broken),
            ("d", console.as_slice()),
        ]);
        assert_eq!((entries(root.path()).len(), compiler.cached()), (2, 0));
        assert!(!was_cached(&compiler, &console) && !was_cached(&compiler, twilio));
        assert!(compiler.compile("c", broken).is_err(), "with its reason");
        compiler.forget_prepared();
        assert!(was_cached(&compiler, &console) && was_cached(&compiler, twilio));
    }

    #[test]
    fn what_is_damaged_is_compiled_again_and_rewritten() {
        let root = tempfile::tempdir().expect("a folder");
        let limits = Limits::default();
        let compiler = compiler(root.path(), KEY, &limits);
        was_cached(&compiler, &component());
        let path = entries(root.path()).remove(0);
        let whole = fs::read(&path).expect("read");
        let flipped = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        for damaged in [
            flipped(0),
            flipped(MAC_BYTES),
            flipped(whole.len() / 2),
            flipped(whole.len() - 1),
            whole[..whole.len() / 2].to_vec(),
            whole[..MAC_BYTES - 1].to_vec(),
            [&whole[..], b"x"].concat(),
            Vec::new(),
        ] {
            fs::write(&path, &damaged).expect("written");
            assert!(!was_cached(&compiler, &component()), "damage was accepted");
            assert!(was_cached(&compiler, &component()), "it was not rewritten");
        }
    }

    #[test]
    fn another_hosts_another_components_and_another_engines_code_is_not_used() {
        let root = tempfile::tempdir().expect("a folder");
        let limits = Limits::default();
        let ours = compiler(root.path(), KEY, &limits);
        was_cached(&ours, &component());
        let path = entries(root.path()).remove(0);

        assert!(!was_cached(
            &compiler(root.path(), [8; 32], &limits),
            &component()
        ));
        // That has rewritten the file under its own key.
        assert!(!was_cached(&ours, &component()));

        let twilio = countersign_embedded::PROVIDER_TWILIO;
        fs::copy(&path, ours.entry(twilio).expect("a cache").path).expect("copied");
        assert!(!was_cached(&ours, twilio));

        // An engine whose code does not look at the epoch.
        let other = Engine::new(wasmtime::Config::new().epoch_interruption(false));
        let cache = Cache::open(root.path(), &KEY).ok();
        let other = Compiler::new(other.expect("an engine"), cache);
        let theirs = other.entry(&component()).expect("a cache").path;
        assert_ne!(theirs, path);
        fs::copy(&path, theirs).expect("copied");
        assert!(!was_cached(&other, &component()));
    }

    #[test]
    fn only_the_newest_are_kept() {
        let root = tempfile::tempdir().expect("a folder");
        let compiler = compiler(root.path(), KEY, &Limits::default());
        for old in 0..ENTRIES_MAX + 3 {
            let path = root.path().join(format!("{old}.{EXTENSION}"));
            let file = File::create(path).expect("made");
            file.set_modified(SystemTime::UNIX_EPOCH).expect("dated");
        }
        assert!(!was_cached(&compiler, &component()));
        assert_eq!(entries(root.path()).len(), ENTRIES_MAX);
        assert!(was_cached(&compiler, &component()));
    }

    #[test]
    fn a_folder_that_cannot_be_written_only_costs_time() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("cache");
        let compiler = compiler(&folder, KEY, &Limits::default());
        fs::remove_dir(&folder).expect("removed");
        assert!(!was_cached(&compiler, &component()));
    }
}
