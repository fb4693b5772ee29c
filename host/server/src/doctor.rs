//! What can be wrong with a server's configuration, data, keys and machine. Nothing is changed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign_store::{Body, Keyring, KeyringError, OpenError, SledStore, Store, StoreError};
use countersign_types::{Entropy, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::config::{Config, ConfigError, Folders, Provider};
use crate::control::with_cause;
use crate::keys;

/// A clock before this is not set: 2025-01-01T00:00:00Z.
const CLOCK_LEAST: UnixMillis = UnixMillis(1_735_689_600_000);
/// A clock may be behind the newest commit by so much, as in a call.
const CLOCK_BEHIND_MAX: Duration = Duration::from_secs(5);
/// So many times the reserve should be free.
const RESERVES_FREE: u64 = 4;
/// Of the limit of open files: what the server needs beside its connections.
const FILES_BESIDE_CONNECTIONS: u64 = 512;
/// How many rows are looked at in one step.
const ROWS_AT_ONCE: usize = 1_000;
/// Where rows rest sealed ("Rows" in `ARCHITECTURE.md`).
const SEALED: [(&[u8], &[u8]); 7] = [
    (b"d/", b"d0"),
    (b"f/", b"f0"),
    (b"follower", b"follower\0"),
    (b"i/", b"i0"),
    (b"j/", b"j0"),
    (b"m/", b"m0"),
    (b"r/", b"r0"),
];

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Severity {
    /// The server does not start, or loses something.
    Error,
    /// It works, and probably not as meant.
    Warning,
    /// Good to know.
    Note,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// Stays the same, for scripts.
    pub(crate) code: String,
    pub(crate) severity: Severity,
    /// What it is.
    pub(crate) text: String,
    /// What to do.
    pub(crate) help: String,
}

impl Finding {
    /// As lines of the terminal.
    pub(crate) fn for_people(&self) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let mut lines = format!("{severity:<7}  {}: {}\n", self.code, self.text);
        for line in self.help.lines() {
            // Writing to a `String` cannot fail.
            let _ = writeln!(lines, "         {line}");
        }
        lines
    }
}

fn found(
    severity: Severity,
    code: &str,
    text: impl Into<String>,
    help: impl Into<String>,
) -> Finding {
    Finding {
        code: code.to_owned(),
        severity,
        text: text.into(),
        help: help.into(),
    }
}

use Severity::{Error, Note, Warning};

/// The machine's clock by itself.
pub(crate) fn look_at_clock(now: UnixMillis) -> Vec<Finding> {
    if now >= CLOCK_LEAST {
        return Vec::new();
    }
    let text = format!("the machine's clock says {now}");
    let help = "set it, best by NTP: codes and limits live by it";
    vec![found(Error, "clock-not-set", text, help)]
}

/// A configuration that the server refuses.
pub(crate) fn bad_configuration(error: &ConfigError) -> Finding {
    let help = "put it right; README.md, \"Configuration\", has every setting";
    found(Error, "configuration", with_cause(error), help)
}

/// A configuration that the server takes.
pub(crate) fn look_at_configuration(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<Finding> = config
        .warnings
        .iter()
        .map(|warning| found(Warning, "configuration-odd", warning.as_str(), ""))
        .collect();
    if config.providers.iter().all(Provider::is_console) {
        let text = "no provider is configured: messages are printed on the terminal";
        let help = "set the TWILIO_ variables, or add a [[provider]] entry";
        findings.push(found(Note, "console-only", text, help));
    }
    if config.open {
        let text =
            "open mode is insisted on: without an API key anybody who reaches the server may send";
        let help = "make a key with `countersign keys create` and leave --open out";
        findings.push(found(Warning, "open-insisted", text, help));
    }
    if config.admin_token.is_none() {
        let text = "there is no administrator's token: /admin answers 403";
        let help = "set COUNTERSIGN_ADMIN_TOKEN to switch it on";
        findings.push(found(Note, "admin-token", text, help));
    }
    findings
}

/// The limit of open files.
pub(crate) fn look_at_open_files(connections_max: usize) -> Vec<Finding> {
    use rustix::process::{Resource, getrlimit};

    let Some(files) = getrlimit(Resource::Nofile).maximum else {
        return Vec::new();
    };
    judge_open_files(files, connections_max as u64)
}

fn judge_open_files(files: u64, connections_max: u64) -> Vec<Finding> {
    let wanted = connections_max.saturating_add(FILES_BESIDE_CONNECTIONS);
    if files >= wanted {
        return Vec::new();
    }
    let text =
        format!("the limit of open files is {files}, and http.connections-max needs {wanted}");
    let help = "raise it (`ulimit -n`, `LimitNOFILE=` of systemd), or lower http.connections-max";
    vec![found(Warning, "open-files", text, help)]
}

/// The folders, from outside.
pub(crate) fn look_at_folders(folders: &Folders, reserve: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in [&folders.data, &folders.keys] {
        findings.extend(look_at_access(folder));
    }
    if folders.keys.starts_with(&folders.data) {
        let text = "the host's secret keys lie in the data folder, so a copy of it has both";
        let help = "move them to a folder of their own and name it with `keys` or COUNTERSIGN_KEYS";
        findings.push(found(Warning, "keys-with-data", text, help));
    }
    let store = folders.data.join("store");
    let half = SledStore::restoring(&store);
    if half.exists() {
        let text = format!("a restore was cut off and has left `{}`", half.display());
        let help = "type it again, or remove that folder";
        findings.push(found(Error, "restore-cut-off", text, help));
    }
    // The folder that will be made lies on the disk of the next one above it that there is.
    let absolute = std::path::absolute(&folders.data).unwrap_or_else(|_| folders.data.clone());
    if let Some(there) = absolute.ancestors().find(|path| path.exists()) {
        findings.extend(look_at_disk(there, reserve));
    }
    findings
}

fn look_at_access(folder: &Path) -> Option<Finding> {
    let metadata = fs::metadata(folder).ok()?;
    let shown = folder.display();
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own {
        let text = format!(
            "`{shown}` belongs to the user {}, not to {own}",
            metadata.uid()
        );
        let help = "run the command as the server's user; its folders must be that user's";
        return Some(found(Error, "folder-owner", text, help));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then(|| {
        let text = format!("other users of this machine can look into `{shown}` (mode {mode:o})");
        found(
            Warning,
            "folder-open",
            text,
            format!("type: chmod 700 {shown}"),
        )
    })
}

fn look_at_disk(folder: &Path, reserve: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Ok(found) = rustix::fs::statfs(folder) {
        #[expect(clippy::cast_sign_loss, reason = "a magic number, not a quantity")]
        findings.extend(judge_file_system(found.f_type as u64));
    }
    if let Ok(free) = SledStore::free_space(folder) {
        findings.extend(judge_space(free, reserve));
    }
    findings
}

/// Magic numbers of `statfs(2)`.
fn judge_file_system(kind: u64) -> Option<Finding> {
    let (name, why) = match kind & 0xffff_ffff {
        0x0102_1994 => ("tmpfs", "it is memory: everything is gone with the machine"),
        0x8584_58f6 => ("ramfs", "it is memory: everything is gone with the machine"),
        0x794c_7630 => ("overlay", "in a container that is gone with the container"),
        0x6969 => ("NFS", "its locks and syncs are not those of a disk"),
        _ => return None,
    };
    let text = format!("the data folder lies on {name}; {why}");
    let help = "name a folder on a disk, or on a volume, with --data or COUNTERSIGN_DATA";
    Some(found(Warning, "file-system", text, help))
}

fn judge_space(free: u64, reserve: u64) -> Option<Finding> {
    let help = "make room on the disk of the data folder";
    if free < reserve {
        let text = format!(
            "{free} bytes are free, fewer than store.reserve-bytes ({reserve}): sends are turned away"
        );
        Some(found(Error, "disk-full", text, help))
    } else if free < reserve.saturating_mul(RESERVES_FREE) {
        let text =
            format!("{free} bytes are free; with fewer than {reserve} sends are turned away");
        Some(found(Warning, "disk-tight", text, help))
    } else {
        None
    }
}

/// There is no store yet.
pub(crate) fn no_data(folders: &Folders) -> Finding {
    let text = format!("there is no data in `{}` yet", folders.data.display());
    let help = "the first start makes it; was another folder meant, name it with --data";
    found(Note, "no-data", text, help)
}

/// The keys, where there must be some.
pub(crate) fn load_keys(folder: &Path, entropy: &dyn Entropy) -> Result<Keyring, Finding> {
    // Loading makes the folder; looking must not.
    let loaded = if folder.exists() {
        Keyring::load_or_create(folder, false, entropy)
    } else {
        Err(KeyringError::Missing {
            path: folder.join("index.key"),
        })
    };
    loaded.map_err(|error| {
        let (code, help) = match error {
            KeyringError::Io { .. } => ("key-unreadable", "its owner must be the server's user"),
            KeyringError::Malformed { .. } => {
                ("key-malformed", "put it back from your copy of the keys")
            }
            KeyringError::TooOpen { .. } => ("key-open", "and think about who may have read it"),
            KeyringError::Missing { .. } => {
                ("key-missing", "name their folder with COUNTERSIGN_KEYS")
            }
        };
        found(Error, code, with_cause(&error), help)
    })
}

/// A server that holds the store does not answer as it should.
pub(crate) fn unreached(reason: &str) -> Finding {
    found(
        Error,
        "server-silent",
        format!("the server that holds the data cannot be asked: {reason}"),
        "run the command as the server's user, in the same version",
    )
}

/// The store does not open.
pub(crate) fn unopened(error: &OpenError) -> Finding {
    let (code, help) = match error {
        OpenError::InUse { .. } => (
            "store-in-use",
            "which process is it? `fuser` on the file `db` in it says so",
        ),
        OpenError::Damaged { .. } | OpenError::Unusable { .. } => (
            "store-unusable",
            "look at the disk (`dmesg`); then move the folder `store` away and type: countersign restore FILE",
        ),
        OpenError::NotDurable { .. } => (
            "store-not-durable",
            "this program cannot sync its store; use another build of it",
        ),
    };
    found(Error, code, error.to_string(), help)
}

/// The store and the keys that it needs.
pub(crate) async fn look_at_store(
    store: &Arc<dyn Store>,
    keyring: &Keyring,
    now: UnixMillis,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let newest = store.newest_instant();
    if newest > now + CLOCK_BEHIND_MAX {
        let text = format!("the newest commit is of {newest}, and the machine's clock says {now}");
        let help =
            "set the clock, best by NTP: until it has caught up, codes end too early or too late";
        findings.push(found(Error, "clock-behind", text, help));
    }
    match look_at_rows(store, keyring, now).await {
        Ok(more) => findings.extend(more),
        Err(error) => {
            let help = "put the data back from a backup: countersign restore FILE";
            findings.push(found(Error, "row-unreadable", with_cause(&error), help));
        }
    }
    match keys::any(store).await {
        Ok(true) | Err(_) => {}
        Ok(false) => {
            let text = "no API key was ever made in this data folder";
            let help =
                "make one with `countersign keys create`, or give one by COUNTERSIGN_API_KEY";
            findings.push(found(Note, "no-api-key", text, help));
        }
    }
    findings
}

async fn look_at_rows(
    store: &Arc<dyn Store>,
    keyring: &Keyring,
    now: UnixMillis,
) -> Result<Vec<Finding>, StoreError> {
    let missing = match keyring.missing(store).await {
        Ok(missing) => missing,
        Err(countersign_store::BindError::Store(error)) => return Err(error),
        Err(error) => {
            let help = "put the keys back that belong to this data";
            return Ok(vec![found(Error, "key-foreign", error.to_string(), help)]);
        }
    };
    let needed = missing_row_keys(store, keyring, now).await?;
    let mut findings: Vec<Finding> = needed
        .iter()
        .map(|id| {
            let text = format!("messages are sealed under rows-{id}.key, which is not there: they cannot be sent or shown");
            found(Error, "key-needed", text, "put it back from your copy of the keys")
        })
        .collect();
    let spare = missing
        .into_iter()
        .filter(|name| needed.iter().all(|id| *name != format!("rows-{id}")));
    findings.extend(spare.map(|name| {
        let text = format!("{name}.key was used once and is not there any more");
        let help = "right where it was removed on purpose, long enough after a rotation";
        found(Note, "key-removed", text, help)
    }));
    Ok(findings)
}

/// The ids of keys that rows are sealed under and that are not there.
async fn missing_row_keys(
    store: &Arc<dyn Store>,
    keyring: &Keyring,
    now: UnixMillis,
) -> Result<BTreeSet<u32>, StoreError> {
    let mut missing = BTreeSet::new();
    for (from, to) in SEALED {
        let mut cursor = from.to_vec();
        loop {
            let page = store.scan(&cursor, to, ROWS_AT_ONCE).await?;
            for (key, row) in &page {
                cursor = [key.as_slice(), &[0]].concat();
                if let Body::Sections(sections) = &row.body
                    && !row.body.expired(now)
                    && let Some(host) = &sections.host
                    && let Some((id, false)) = keyring.sealed_under(&host.value)
                {
                    missing.insert(id);
                }
            }
            if page.len() < ROWS_AT_ONCE {
                break;
            }
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::store;
    use countersign_store::{Ending, Rulings, Section, Transaction};
    use countersign_types::SystemEntropy;

    #[track_caller]
    fn check(findings: impl IntoIterator<Item = Finding>, want: &[(Severity, &str)]) {
        let findings: Vec<Finding> = findings.into_iter().collect();
        let codes: Vec<(Severity, &str)> = findings
            .iter()
            .map(|finding| (finding.severity, finding.code.as_str()))
            .collect();
        assert_eq!(codes, want, "{findings:#?}");
    }

    #[test]
    fn a_finding_is_a_line_and_what_to_do_below_it() {
        let finding = found(
            Warning,
            "folder-open",
            "others can look in",
            "type: chmod 700 d",
        );
        let want = "warning  folder-open: others can look in\n         type: chmod 700 d\n";
        assert_eq!(finding.for_people(), want);
    }

    #[test]
    fn a_clock_that_was_never_set_is_told() {
        check(look_at_clock(CLOCK_LEAST), &[]);
        check(
            look_at_clock(UnixMillis(CLOCK_LEAST.0 - 1)),
            &[(Error, "clock-not-set")],
        );
    }

    #[test]
    fn free_space_is_judged_by_the_reserve() {
        check(judge_space(4_000, 1_000), &[]);
        check(judge_space(3_999, 1_000), &[(Warning, "disk-tight")]);
        check(judge_space(1_000, 1_000), &[(Warning, "disk-tight")]);
        check(judge_space(999, 1_000), &[(Error, "disk-full")]);
        check(judge_space(0, 0), &[]);
    }

    #[test]
    fn a_limit_of_open_files_below_the_connections_is_told() {
        check(judge_open_files(10_512, 10_000), &[]);
        check(judge_open_files(10_511, 10_000), &[(Warning, "open-files")]);
    }

    #[test]
    fn memory_and_container_layers_are_no_disk() {
        check(judge_file_system(0xef53), &[]);
        for kind in [0x0102_1994, 0x8584_58f6, 0x794c_7630, 0x6969] {
            check(judge_file_system(kind), &[(Warning, "file-system")]);
        }
    }

    #[test]
    fn folders_that_others_may_enter_and_keys_beside_the_data_are_told() {
        let root = tempfile::tempdir().expect("a folder");
        let data = root.path().join("data");
        fs::create_dir(&data).expect("made");
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("set");
        let folders = Folders {
            keys: data.join("keys"),
            data: data.clone(),
        };
        let of_folders = |findings: Vec<Finding>| {
            // The disk of this test is whatever it is.
            findings
                .into_iter()
                .filter(|finding| finding.code != "file-system")
        };
        let want = [(Warning, "folder-open"), (Warning, "keys-with-data")];
        check(of_folders(look_at_folders(&folders, 0)), &want);
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).expect("set");
        fs::create_dir(data.join("store.restoring")).expect("made");
        let folders = Folders {
            keys: root.path().join("keys"),
            data,
        };
        let want = [(Error, "restore-cut-off")];
        check(of_folders(look_at_folders(&folders, 0)), &want);
    }

    #[test]
    fn keys_that_are_missing_malformed_or_open_are_told() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("keys");
        let look = || load_keys(&folder, &SystemEntropy).err();
        check(look(), &[(Error, "key-missing")]);
        assert!(!folder.exists(), "looking has made a folder");
        Keyring::load_or_create(&folder, true, &SystemEntropy).expect("made");
        check(look(), &[]);
        let file = folder.join("codes-1.key");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
        check(look(), &[(Error, "key-open")]);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
        fs::write(&file, "no key").expect("written");
        check(look(), &[(Error, "key-malformed")]);
    }

    async fn seal(store: &Arc<dyn Store>, keyring: &Keyring, key: &[u8]) {
        let mut run = Transaction::new(store.clone(), UnixMillis(5_000), Rulings::default());
        let section = Section {
            state: 1,
            expires: None,
            value: keyring.seal(key, b"a message").expect("sealed"),
        };
        run.set_host(key, Some(section)).await.expect("set");
        store
            .commit(run.into_commit(Ending::Commit))
            .await
            .expect("committed");
    }

    #[tokio::test]
    async fn a_store_is_looked_at_with_its_keys_and_its_clock() {
        let (_folder, store) = store();
        let keys = tempfile::tempdir().expect("a folder");
        let load = |new| Keyring::load_or_create(keys.path(), new, &SystemEntropy).expect("loaded");
        let keyring = load(true);
        keyring.bind(&store).await.expect("bound");
        seal(&store, &keyring, b"j/1").await;
        let at = UnixMillis(5_000);
        let fine = [(Note, "no-api-key")];
        check(look_at_store(&store, &keyring, at).await, &fine);
        // Behind by five seconds, and by one millisecond more.
        check(look_at_store(&store, &keyring, UnixMillis(0)).await, &fine);
        seal(&store, &keyring, b"m/1").await;
        let later = Keyring::rotate(keys.path(), &SystemEntropy).expect("rotated");
        let keyring = load(false);
        keyring.bind(&store).await.expect("bound");
        check(look_at_store(&store, &keyring, at).await, &fine);
        // The old key of codes has gone in peace; that of rows is needed.
        fs::remove_file(keys.path().join("codes-1.key")).expect("removed");
        fs::remove_file(keys.path().join("rows-1.key")).expect("removed");
        assert_eq!(later.rows, 2);
        let want = [
            (Error, "key-needed"),
            (Note, "key-removed"),
            (Note, "no-api-key"),
        ];
        check(look_at_store(&store, &load(false), at).await, &want);
        // Another folder's keys of the same names.
        let other = tempfile::tempdir().expect("a folder");
        let other = Keyring::load_or_create(other.path(), true, &SystemEntropy).expect("made");
        let want = [(Error, "key-foreign"), (Note, "no-api-key")];
        check(look_at_store(&store, &other, at).await, &want);
    }
}
