//! `--watch DIR`: a component that is put into the folder is installed, under the name of its file.
//!
//! A file counts when two looks in a row have found it the same, so that one that is still being written
//! waits. What was installed from the folder once is not installed again by a start, since it may have
//! been taken back since; it is when the file is put there anew while the server runs.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_runtime::{By, InstallError, Plan, Registry, Sha256};

use crate::components;

const LOOK: Duration = Duration::from_millis(500);
/// A folder with more is not what was meant.
const FILES_MAX: usize = 256;

/// What tells that a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Print {
    bytes: u64,
    modified: Option<SystemTime>,
    /// Another file under the same name.
    inode: u64,
}

/// What is known of a file.
struct Known {
    print: Print,
    /// It has been looked into.
    judged: bool,
    /// It was there when the server started.
    from_start: bool,
}

/// What the looks have found so far.
#[derive(Default)]
struct Files {
    known: HashMap<PathBuf, Known>,
    started: bool,
}

impl Files {
    /// Takes in what there is now; returns the files to look into, those that are as they were at the look
    /// before, each with whether it was there at the start.
    fn look(&mut self, found: Vec<(PathBuf, Print)>) -> Vec<(PathBuf, bool)> {
        self.known
            .retain(|path, _| found.iter().any(|(there, _)| there == path));
        let mut ready = Vec::new();
        for (path, print) in found {
            match self.known.get_mut(&path) {
                Some(known) if known.print == print => {
                    if !known.judged {
                        known.judged = true;
                        ready.push((path, known.from_start));
                    }
                }
                _ => {
                    let known = Known {
                        print,
                        judged: false,
                        from_start: !self.started,
                    };
                    self.known.insert(path, known);
                }
            }
        }
        self.started = true;
        ready.sort();
        ready
    }

    /// The file is to be looked into once more.
    fn again(&mut self, path: &Path) {
        if let Some(known) = self.known.get_mut(path) {
            known.judged = false;
        }
    }
}

/// Looks into the folder over and over. Never returns.
pub(crate) async fn watch(folder: PathBuf, registry: Arc<Registry>) {
    let mut files = Files::default();
    let mut readable = true;
    loop {
        match list(&folder) {
            Ok(found) => {
                readable = true;
                for (path, from_start) in files.look(found) {
                    if take(&registry, &path, from_start).await == Taken::Later {
                        files.again(&path);
                    }
                }
            }
            // Said once: it may be made, or mounted, at any time.
            Err(error) if readable => {
                tracing::warn!(folder = %folder.display(), %error, "the watched folder cannot be read");
                readable = false;
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn list(folder: &Path) -> std::io::Result<Vec<(PathBuf, Print)>> {
    use std::os::unix::fs::MetadataExt;

    let mut found = Vec::new();
    for entry in fs::read_dir(folder)?.take(FILES_MAX) {
        let path = entry?.path();
        let is_component = path.extension().is_some_and(|end| end == "wasm");
        // Through a link as well: that is how some put files in place. One that is gone already is none.
        let Some(metadata) = is_component.then(|| fs::metadata(&path).ok()).flatten() else {
            continue;
        };
        if metadata.is_file() {
            let print = Print {
                bytes: metadata.len(),
                modified: metadata.modified().ok(),
                inode: metadata.ino(),
            };
            found.push((path, print));
        }
    }
    Ok(found)
}

#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Now,
    Later,
}

async fn take(registry: &Registry, path: &Path, from_start: bool) -> Taken {
    let component = path.file_stem().unwrap_or_default().to_string_lossy();
    let bytes = match components::read_aside(path, registry.bytes_max()).await {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "a component in the watched folder was passed by");
            return Taken::Now;
        }
    };
    let plan = Plan {
        by: By::Watch,
        canary: None,
    };
    let installed = async {
        if from_start && registry.has_seen(&component, Sha256::of(&bytes)).await? {
            return Ok(());
        }
        registry.install(&component, bytes, plan, &|_| {}).await?;
        Ok::<_, InstallError>(())
    };
    match installed.await {
        Ok(()) => Taken::Now,
        Err(InstallError::Busy | InstallError::Starting) => Taken::Later,
        Err(error) => {
            let (component, help) = (&*component, error.help());
            tracing::error!(component, file = %path.display(), %error, help, "a component in the watched folder was not installed");
            Taken::Now
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(bytes: u64) -> Print {
        Print {
            bytes,
            modified: None,
            inode: 1,
        }
    }

    #[track_caller]
    fn check(files: &mut Files, found: &[(&str, u64)], want: &[(&str, bool)]) {
        let found = found.iter();
        let found = found.map(|&(path, bytes)| (PathBuf::from(path), print(bytes)));
        let ready = files.look(found.collect());
        let want: Vec<_> = want
            .iter()
            .map(|&(path, start)| (PathBuf::from(path), start))
            .collect();
        assert_eq!(ready, want);
    }

    #[test]
    fn a_file_counts_once_when_two_looks_have_found_it_the_same() {
        let mut files = Files::default();
        check(&mut files, &[("a.wasm", 5)], &[]);
        check(&mut files, &[("a.wasm", 5)], &[("a.wasm", true)]);
        check(&mut files, &[("a.wasm", 5), ("b.wasm", 1)], &[]);
        // Still being written.
        check(&mut files, &[("a.wasm", 5), ("b.wasm", 2)], &[]);
        check(
            &mut files,
            &[("a.wasm", 5), ("b.wasm", 2)],
            &[("b.wasm", false)],
        );
        check(&mut files, &[("a.wasm", 5), ("b.wasm", 2)], &[]);
    }

    #[test]
    fn a_file_that_is_put_there_anew_counts_anew() {
        let mut files = Files::default();
        check(&mut files, &[("a.wasm", 5)], &[]);
        check(&mut files, &[("a.wasm", 5)], &[("a.wasm", true)]);
        check(&mut files, &[("a.wasm", 6)], &[]);
        check(&mut files, &[("a.wasm", 6)], &[("a.wasm", false)]);
        check(&mut files, &[], &[]);
        check(&mut files, &[("a.wasm", 6)], &[]);
        check(&mut files, &[("a.wasm", 6)], &[("a.wasm", false)]);
        files.again(Path::new("a.wasm"));
        check(&mut files, &[("a.wasm", 6)], &[("a.wasm", false)]);
    }
}
