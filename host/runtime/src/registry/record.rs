//! What is kept of the versions of a component: a row that says which there are and which is live, and
//! the bytes of those that were installed, in rows of their own.
//!
//! They are rows of the store, since then a swap is a commit: there whole or not at all, in backups, and
//! seen by every process that shares the store. The bytes come first, in small commits between which
//! others have their turn; the commit of the record makes them count. Bytes that no record names are what a
//! kill in between has left, and go with the next start.

use std::sync::Arc;

use countersign_store::{
    CommitError, Ending, Need, Rulings, Section, Store, StoreError, Transaction,
};
use countersign_types::UnixMillis;
use serde::{Deserialize, Serialize};

use super::error::InstallError;
use crate::{Once, Sha256};

/// Before the names of components.
const RECORDS: &str = "v/";
/// The first key after those.
const RECORDS_END: &[u8] = b"v0";
/// Before the hashes of versions, and the numbers of their parts.
const PARTS: &[u8] = b"w/";
/// The first key after those.
const PARTS_END: &[u8] = b"w0";
/// Well below what a row may hold, so that a leaf of the store stays small.
const PART_BYTES: usize = 64 * 1024;
/// The format of both kinds of rows.
const STATE: u32 = 1;
/// How often a change is tried again when another one came between.
const RUNS_MAX: usize = 8;
/// How many hashes of the watched folder are remembered.
const SEEN_MAX: usize = 64;
/// How far `rollback` can go back.
const BEFORE_MAX: usize = 16;

/// Who has brought a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum By {
    /// It is part of this program.
    BuiltIn,
    /// A `[[provider]]` entry names its file.
    Configuration,
    /// A request to `/admin/components`.
    Administrator,
    /// A command.
    Command,
    /// The watched folder.
    Watch,
}

impl By {
    /// As it is told.
    pub fn as_str(&self) -> &'static str {
        match self {
            By::BuiltIn => "built-in",
            By::Configuration => "configuration",
            By::Administrator => "administrator",
            By::Command => "command",
            By::Watch => "watch",
        }
    }

    /// Whether it comes with every start, and so is kept nowhere else.
    pub fn is_default(&self) -> bool {
        matches!(self, By::BuiltIn | By::Configuration)
    }
}

/// A version of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its name.
    pub sha256: Sha256,
    /// How many bytes it has.
    pub bytes: u64,
    /// When it came.
    pub installed_at: UnixMillis,
    /// Who has brought it.
    pub by: By,
    /// Whether it was live, or had a share of the calls, and was taken back.
    pub rolled_back: bool,
    /// The state version of the rows that it writes; 0 for providers, which have none.
    pub state_writes: u32,
    /// The state versions that it can read.
    pub state_reads: Vec<u32>,
}

/// A version that has a share of the calls, or all of them, and may still be taken back by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The version.
    pub sha256: Sha256,
    /// Its share; 100: it is live.
    pub percent: u8,
    /// What takes over when it fails.
    pub before: Sha256,
    /// When it has proved itself. A canary has to be made live, or taken back, by hand.
    pub until: UnixMillis,
}

/// All that is known of the versions of one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Newest first.
    pub versions: Vec<Version>,
    /// Which of them is live.
    pub live: Sha256,
    /// The newest, while it is on trial.
    pub trial: Option<Trial>,
    /// Those that were live before, the last one last.
    pub before: Vec<Sha256>,
    /// The state versions of rows that may be there.
    pub states: Vec<u32>,
    /// What the watched folder has brought.
    pub seen: Vec<Sha256>,
}

impl Record {
    /// Of a component that has never had another version.
    pub(super) fn new(version: Version) -> Record {
        Record {
            live: version.sha256,
            trial: None,
            before: Vec::new(),
            // What was written before there were records: whatever this one can read.
            states: version.state_reads.clone(),
            seen: Vec::new(),
            versions: vec![version],
        }
    }

    /// The version of that name.
    pub fn version(&self, sha256: Sha256) -> Option<&Version> {
        self.versions
            .iter()
            .find(|version| version.sha256 == sha256)
    }

    /// Whether an installed version is live, and not the one that comes with every start.
    pub fn is_installed(&self) -> bool {
        let live = self.version(self.live);
        live.is_some_and(|live| !live.by.is_default())
    }

    /// The one that comes with every start has changed, or is new: `default`.
    pub(super) fn follow(&mut self, default: Version) {
        let sha256 = default.sha256;
        if self
            .version(sha256)
            .is_some_and(|known| known.by == default.by)
        {
            return;
        }
        let installed = self.is_installed();
        self.versions
            .retain(|known| !known.by.is_default() && known.sha256 != sha256);
        self.versions.insert(0, default);
        if !installed {
            self.live = sha256;
            self.trial = None;
        }
        let known: Vec<Sha256> = self.versions.iter().map(|known| known.sha256).collect();
        self.before.retain(|before| known.contains(before));
    }

    /// `version` is there; where it was there before, it has come anew.
    pub(super) fn add(&mut self, version: Version) {
        let mut all = self.versions.iter_mut();
        match all.find(|known| known.sha256 == version.sha256) {
            // Whoever brings it, it comes with every start.
            Some(known) if known.by.is_default() => known.rolled_back = false,
            _ => {
                self.versions.retain(|known| known.sha256 != version.sha256);
                self.versions.insert(0, version);
            }
        }
    }

    /// `sha256` is live from now on.
    pub(super) fn go_on_to(&mut self, sha256: Sha256, trial: Option<Trial>) {
        self.trial = trial;
        if self.live == sha256 {
            return;
        }
        self.before.retain(|before| *before != sha256);
        self.before.push(self.live);
        let excess = self.before.len().saturating_sub(BEFORE_MAX);
        self.before.drain(..excess);
        self.live = sha256;
    }

    /// `sha256` is taken back; `before` is live again, where it was not all the time.
    pub(super) fn go_back(&mut self, sha256: Sha256, before: Sha256) {
        self.trial = None;
        self.live = before;
        self.before.retain(|earlier| *earlier != before);
        for version in &mut self.versions {
            version.rolled_back |= version.sha256 == sha256;
        }
    }

    /// The watched folder has brought `sha256`.
    pub(super) fn see(&mut self, sha256: Sha256) {
        self.seen.retain(|seen| *seen != sha256);
        self.seen.push(sha256);
        let excess = self.seen.len().saturating_sub(SEEN_MAX);
        self.seen.drain(..excess);
    }

    /// Forgets all but the newest `kept` versions, and those that are used or can be gone back to
    /// by one step; returns what was forgotten.
    pub(super) fn prune(&mut self, kept: usize) -> Vec<Sha256> {
        let mut used = vec![self.live];
        used.extend(self.before.last());
        used.extend(
            self.trial
                .iter()
                .flat_map(|trial| [trial.sha256, trial.before]),
        );
        let mut forgotten = Vec::new();
        let mut number = 0;
        self.versions.retain(|version| {
            number += 1;
            let keep = number <= kept || version.by.is_default() || used.contains(&version.sha256);
            if !keep {
                forgotten.push(version.sha256);
            }
            keep
        });
        self.before.retain(|before| !forgotten.contains(before));
        forgotten
    }
}

fn record_key(component: &str) -> Vec<u8> {
    [RECORDS, component].concat().into_bytes()
}

fn part_key(version: Sha256, part: u32) -> Vec<u8> {
    [PARTS, &version.0, &part.to_be_bytes()].concat()
}

/// A transaction of what has no expiry, so that its instant decides nothing.
fn begin(store: &Arc<dyn Store>) -> Transaction {
    Transaction::new(store.clone(), store.newest_instant(), Rulings::default())
}

/// The record of a component.
///
/// # Errors
///
/// When the store fails, or holds what this program does not know.
pub(super) async fn read(
    store: &Arc<dyn Store>,
    component: &str,
) -> Result<Option<Record>, StoreError> {
    read_in(&mut begin(store), component).await
}

async fn read_in(run: &mut Transaction, component: &str) -> Result<Option<Record>, StoreError> {
    let key = record_key(component);
    let unreadable = || StoreError::Unreadable {
        key: String::from_utf8_lossy(&key).into_owned(),
    };
    let Some(section) = run.host(&key).await? else {
        return Ok(None);
    };
    if section.state != STATE {
        return Err(unreadable());
    }
    postcard::from_bytes(&section.value)
        .map(Some)
        .map_err(|_| unreadable())
}

/// Changes the record of a component durably; `change` says what it is to be, given what it is, and may be
/// asked again. Returns what it has become. With `once` that is kept in the same commit.
///
/// # Errors
///
/// `change`'s own; [`InstallError::Call`] of `once`; [`InstallError::Busy`] when others change it again and
/// again; or the store's.
pub(super) async fn change(
    store: &Arc<dyn Store>,
    now: UnixMillis,
    component: &str,
    once: Option<&Once<'_, Record>>,
    change: impl Fn(Option<Record>) -> Result<Record, InstallError>,
) -> Result<Record, InstallError> {
    let mut rulings = Rulings::default();
    for _ in 0..RUNS_MAX {
        let now = now.max(store.newest_instant());
        let mut run = Transaction::new(store.clone(), now, rulings.clone());
        if let Some(once) = once {
            once.begin(&mut run).await.map_err(InstallError::Call)?;
        }
        let present = read_in(&mut run, component).await?;
        let next = change(present.clone())?;
        // With a key it is kept all the same: asked once more, the change would be another one.
        if present.as_ref() == Some(&next) && once.is_none() {
            return Ok(next);
        }
        let section = section(postcard::to_stdvec(&next).unwrap_or_default());
        run.set_host(&record_key(component), Some(section))
            .await
            .map_err(StoreError::from)?;
        if let Some(once) = once {
            once.record(&mut run, &next).await?;
        }
        // Taking a version back must be possible with a full disk.
        match commit(store, run, Need::Finish).await {
            Ok(()) => return Ok(next),
            Err(CommitError::NoRoom { take, until }) => rulings.add(take, until),
            Err(error) => fatal(error)?,
        }
    }
    Err(InstallError::Busy)
}

/// A look at whether the request of `once` has happened, or must not happen now, before work is done for it
/// that [`change`] would throw away.
///
/// # Errors
///
/// [`InstallError::Call`] then.
pub(super) async fn check(
    store: &Arc<dyn Store>,
    now: UnixMillis,
    once: &Once<'_, Record>,
) -> Result<(), InstallError> {
    let mut run = Transaction::new(store.clone(), now, Rulings::default());
    once.begin(&mut run).await.map_err(InstallError::Call)
}

fn section(value: Vec<u8>) -> Section {
    Section {
        state: STATE,
        expires: None,
        value,
    }
}

async fn commit(store: &Arc<dyn Store>, run: Transaction, need: Need) -> Result<(), CommitError> {
    let mut commit = run.into_commit(Ending::Commit);
    commit.need = need;
    store.commit(commit).await.map(|_| ())
}

/// What ends the work. Nothing does where another commit came between: then it is for another run.
fn fatal(error: CommitError) -> Result<(), InstallError> {
    match error {
        CommitError::Full => Err(InstallError::Full),
        CommitError::Store(error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Keeps the bytes of a version, where they are not kept yet.
///
/// # Errors
///
/// When there is no room, or the store fails. Parts that are there by then go with the next start.
pub(super) async fn keep(
    store: &Arc<dyn Store>,
    version: Sha256,
    bytes: &[u8],
) -> Result<(), InstallError> {
    for (part, piece) in (0u32..).zip(bytes.chunks(PART_BYTES)) {
        let key = part_key(version, part);
        let mut tries = 0;
        loop {
            let mut run = begin(store);
            let present = run.host(&key).await.map_err(StoreError::from)?;
            if present.is_some_and(|present| present.value == piece) {
                break;
            }
            let piece = section(piece.to_vec());
            run.set_host(&key, Some(piece))
                .await
                .map_err(StoreError::from)?;
            match commit(store, run, Need::NewWork).await {
                Ok(()) => break,
                Err(error) => fatal(error)?,
            }
            tries += 1;
            if tries == RUNS_MAX {
                return Err(InstallError::Busy);
            }
        }
    }
    Ok(())
}

/// The bytes of a version that were kept.
///
/// # Errors
///
/// [`InstallError::Damaged`] where they are not those, or not all there.
pub(super) async fn bytes(
    store: &Arc<dyn Store>,
    version: &Version,
) -> Result<Vec<u8>, InstallError> {
    let mut bytes = Vec::new();
    for part in parts(version) {
        let mut run = begin(store);
        let key = part_key(version.sha256, part);
        let Some(piece) = run.host(&key).await.map_err(StoreError::from)? else {
            break;
        };
        bytes.extend_from_slice(&piece.value);
    }
    if Sha256::of(&bytes) == version.sha256 {
        return Ok(bytes);
    }
    Err(InstallError::Damaged {
        version: version.sha256.to_string(),
    })
}

fn parts(version: &Version) -> impl Iterator<Item = u32> + use<> {
    let length = usize::try_from(version.bytes).unwrap_or(usize::MAX);
    (0u32..).take(length.div_ceil(PART_BYTES))
}

/// Gives back the room of a version's bytes.
///
/// # Errors
///
/// When the store fails.
pub(super) async fn forget(store: &Arc<dyn Store>, version: &Version) -> Result<(), InstallError> {
    if version.by.is_default() {
        return Ok(());
    }
    for part in parts(version) {
        remove(store, &part_key(version.sha256, part)).await?;
    }
    Ok(())
}

async fn remove(store: &Arc<dyn Store>, key: &[u8]) -> Result<(), InstallError> {
    let mut run = begin(store);
    run.set_host(key, None).await.map_err(StoreError::from)?;
    // One that another process has just written stays until the next start.
    commit(store, run, Need::Finish).await.or_else(fatal)
}

/// An installed version that is live, and whether its bytes are whole.
#[derive(Clone, Debug)]
pub struct InstalledVersion {
    /// The component.
    pub component: String,
    /// The version.
    pub version: Version,
    /// Whether it can be started.
    pub whole: bool,
}

/// The installed versions that are live, where others than the program's own are.
///
/// # Errors
///
/// When the store fails.
pub async fn installed_versions(
    store: &Arc<dyn Store>,
) -> Result<Vec<InstalledVersion>, StoreError> {
    let mut found = Vec::new();
    // There are as many components as the configuration names, some dozens at most.
    for (key, _) in store.scan(RECORDS.as_bytes(), RECORDS_END, 1_000).await? {
        let component = String::from_utf8_lossy(&key[RECORDS.len()..]).into_owned();
        let record = read(store, &component).await?;
        let Some(record) = record.filter(Record::is_installed) else {
            continue;
        };
        let Some(version) = record.version(record.live).cloned() else {
            continue;
        };
        let whole = match bytes(store, &version).await {
            Ok(_) => true,
            Err(InstallError::Store(error)) => return Err(error),
            Err(_) => false,
        };
        found.push(InstalledVersion {
            component,
            version,
            whole,
        });
    }
    Ok(found)
}

/// Gives back the room of all versions but those that `kept` names.
///
/// # Errors
///
/// When the store fails.
pub(super) async fn sweep(store: &Arc<dyn Store>, kept: &[Sha256]) -> Result<(), InstallError> {
    let mut from = PARTS.to_vec();
    loop {
        // Few at a time: each may have 64 KiB.
        let page = store.scan(&from, PARTS_END, 16).await?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        from = [last.as_slice(), &[0]].concat();
        for (key, _) in &page {
            let hash = key.get(PARTS.len()..PARTS.len() + 32);
            let version = hash.and_then(|hash| hash.try_into().ok()).map(Sha256);
            if version.is_some_and(|version| kept.contains(&version)) {
                continue;
            }
            remove(store, key).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(name: &str) -> Sha256 {
        Sha256::of(name.as_bytes())
    }

    fn version(name: &str, by: By) -> Version {
        Version {
            sha256: hash(name),
            bytes: 1,
            installed_at: UnixMillis(1),
            by,
            rolled_back: false,
            state_writes: 1,
            state_reads: vec![1],
        }
    }

    fn record() -> Record {
        Record::new(version("built in", By::BuiltIn))
    }

    #[test]
    fn a_new_program_brings_its_component_and_an_installed_one_stays() {
        let mut record = record();
        record.follow(version("newer", By::BuiltIn));
        assert_eq!((record.live, record.versions.len()), (hash("newer"), 1));
        record.add(version("mine", By::Command));
        record.go_on_to(hash("mine"), None);
        record.follow(version("newest", By::BuiltIn));
        assert!(record.is_installed());
        assert_eq!(record.live, hash("mine"));
        // What it replaced is not to be had any more.
        assert_eq!(record.before, []);
        assert!(record.version(hash("newest")).is_some());
        assert!(record.version(hash("newer")).is_none());
    }

    #[test]
    fn each_rollback_goes_one_step_further() {
        let mut record = record();
        for name in ["1", "2", "3"] {
            record.add(version(name, By::Administrator));
            record.go_on_to(hash(name), None);
        }
        for (from, to) in [("3", "2"), ("2", "1"), ("1", "built in")] {
            assert_eq!(record.before.last(), Some(&hash(to)));
            record.go_back(hash(from), hash(to));
            assert_eq!(record.live, hash(to));
            assert!(
                record
                    .version(hash(from))
                    .is_some_and(|version| version.rolled_back)
            );
        }
        assert!(record.before.is_empty());
    }

    #[test]
    fn a_version_that_comes_again_is_the_newest_and_says_who_has_brought_it() {
        let mut record = record();
        for (name, by) in [("1", By::Command), ("2", By::Command), ("1", By::Watch)] {
            record.add(version(name, by));
            record.go_on_to(hash(name), None);
        }
        record.go_back(hash("1"), hash("2"));
        record.add(version("1", By::Administrator));
        let told = record.versions.iter().map(|one| (one.sha256, one.by));
        let want = [
            (hash("1"), By::Administrator),
            (hash("2"), By::Command),
            (hash("built in"), By::BuiltIn),
        ];
        assert_eq!(told.collect::<Vec<_>>(), want);
        assert!(!record.versions[0].rolled_back);
        record.add(version("built in", By::Administrator));
        assert_eq!(record.versions[2].by, By::BuiltIn);
    }

    #[test]
    fn old_versions_go_by_count_and_none_that_is_used() {
        let mut record = record();
        for number in 0..6 {
            let name = number.to_string();
            record.add(version(&name, By::Administrator));
            record.go_on_to(hash(&name), None);
        }
        record.go_back(hash("5"), hash("0"));
        let mut forgotten = record.prune(2);
        forgotten.sort();
        let mut want = vec![hash("1"), hash("2"), hash("3")];
        want.sort();
        assert_eq!(forgotten, want);
        let left: Vec<Sha256> = record
            .versions
            .iter()
            .map(|version| version.sha256)
            .collect();
        assert_eq!(left, [hash("5"), hash("4"), hash("0"), hash("built in")]);
    }

    #[test]
    fn what_the_watched_folder_has_brought_is_remembered_within_bounds() {
        let mut record = record();
        for number in 0..=SEEN_MAX {
            record.see(hash(&number.to_string()));
        }
        assert_eq!(record.seen.len(), SEEN_MAX);
        assert!(!record.seen.contains(&hash("0")));
    }
}
