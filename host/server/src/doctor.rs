//! What can be wrong with a server's configuration, data, keys and machine. Nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use countersign_store::{
    Body, KeyIds, Keyring, KeyringError, OpenError, Sections, SledStore, Store, StoreError,
    sealed_sections,
};
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
/// For how long a key may be used for what is new.
///
/// Source: NIST SP 800-57 part 1 rev. 5, table 1 (symmetric data-encryption key).
const KEY_AGE_MAX: Duration = Duration::from_secs(2 * 365 * 24 * 3_600);
/// How many rows are looked at in one step.
const ROWS_AT_ONCE: usize = 1_000;
/// Components' rows, which rest sealed section by section.
const COMPONENTS: &[u8] = b"c/";
/// Where rows rest sealed ("Rows" in `ARCHITECTURE.md`).
const SEALED: [(&[u8], &[u8]); 9] = [
    (b"a/", b"a0"),
    (b"c/", b"c0"),
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
        .map(|warning| {
            let help = "change it, or leave it where it is meant";
            found(Warning, "configuration-odd", warning.as_str(), help)
        })
        .collect();
    if config.providers.iter().all(Provider::is_console) {
        let text = "no provider is configured: messages are printed on the terminal";
        let help = "set the TWILIO_ variables, or add a [[provider]] entry";
        findings.push(found(Note, "console-only", text, help));
    }
    if config.public_url.is_none() {
        findings.extend(receipts_without_an_address(&config.providers));
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

/// What a provider is not told it cannot call; the terminal calls nobody.
fn receipts_without_an_address(providers: &[Provider]) -> Option<Finding> {
    let names: Vec<String> = providers
        .iter()
        .filter(|provider| !provider.is_console())
        .map(|provider| format!("`{}`", provider.name))
        .collect();
    let text = format!(
        "there is no public-url, so no receipts come from {}: whether a message has arrived is learnt late or never",
        names.join(", ")
    );
    let help = "set public-url (COUNTERSIGN_PUBLIC_URL) to the address by which providers reach this server,\nsuch as https://sms.example.com, and let your reverse proxy pass the paths below /webhooks/ on";
    (!names.is_empty()).then(|| found(Warning, "no-public-url", text, help))
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
    let Sealed { used, unreadable } = look_at_sealed(store, keyring, now).await?;
    let ids = keyring.ids();
    let mut findings: Vec<Finding> = used
        .keys()
        .filter(|id| !ids.rows.contains(id))
        .map(|id| {
            let text = format!("rows are sealed under rows-{id}.key, which is not there: such users cannot log in, such messages cannot be sent or shown");
            found(Error, "key-needed", text, "put it back from your copy of the keys")
        })
        .collect();
    let spare = missing
        .into_iter()
        .filter(|name| used.keys().all(|id| *name != format!("rows-{id}")));
    findings.extend(spare.map(|name| {
        let text = format!("{name}.key was used once and is not there any more");
        let help = "right where it was removed on purpose, long enough after a rotation";
        found(Note, "key-removed", text, help)
    }));
    if unreadable > 0 {
        let text = format!("{unreadable} rows about messages cannot be read; they are passed by");
        let help = "put the data back from a backup if they matter: countersign restore FILE";
        findings.push(found(Error, "row-unreadable", text, help));
    }
    findings.extend(look_at_old_keys(&ids, &used));
    findings.extend(look_at_key_age(keyring.folder(), &ids, now));
    Ok(findings)
}

/// The keys that a rotation has left behind, by whether they can go.
fn look_at_old_keys(ids: &KeyIds, used: &BTreeMap<u32, usize>) -> Vec<Finding> {
    let older = |ids: &[u32]| ids[..ids.len().saturating_sub(1)].to_vec();
    let codes = older(&ids.codes).into_iter().map(|id| {
        let text = format!("codes-{id}.key is left from before a rotation");
        let help = "codes need it for 10 minutes after that; then it may be removed";
        found(Note, "key-old", text, help)
    });
    let signing = older(&ids.signing).into_iter().map(|id| {
        let text = format!("signing-{id}.key is left from before a rotation");
        let help = "proofs need it for a day and 5 minutes after that; then it may be removed";
        found(Note, "key-old", text, help)
    });
    let rows = older(&ids.rows).into_iter().map(|id| match used.get(&id) {
        Some(rows) => {
            let text = format!("{rows} rows are still sealed under rows-{id}.key");
            let help = "keep it: rows of messages go 30 days after their end, those of users when they are written anew";
            found(Note, "key-still-needed", text, help)
        }
        None => {
            let text = format!("no row is sealed under rows-{id}.key any more");
            let help = "it may be removed, once no backup is needed that was made before";
            found(Note, "key-spare", text, help)
        }
    });
    codes.chain(signing).chain(rows).collect()
}

/// The keys that are used for what is new, by the time of their files.
fn look_at_key_age(folder: &Path, ids: &KeyIds, now: UnixMillis) -> Vec<Finding> {
    let newest = [
        ("codes", ids.codes.last()),
        ("rows", ids.rows.last()),
        ("signing", ids.signing.last()),
    ];
    let newest = newest
        .into_iter()
        .filter_map(|(kind, id)| Some((kind, id?)));
    let old = newest.filter_map(|(kind, id)| {
        let name = format!("{kind}-{id}.key");
        let modified = fs::metadata(folder.join(&name)).ok()?.modified().ok()?;
        let since = modified.duration_since(UNIX_EPOCH).ok()?;
        let made = UnixMillis(0) + since;
        (now.since(made) > KEY_AGE_MAX).then(|| {
            let text = format!("{name} has been in use since {made}, for more than two years");
            let help = "make new keys: countersign keyring rotate";
            found(Note, "rotation-due", text, help)
        })
    });
    old.collect()
}

/// Keys that were put into the folder of a running server by hand.
pub(crate) fn look_at_use(in_use: &Keyring, there: &Keyring) -> Vec<Finding> {
    let (in_use, there) = (in_use.ids(), there.ids());
    let unused = |kind: &'static str, there: &[u32], in_use: &[u32]| -> Vec<String> {
        let unused = there.iter().filter(|id| !in_use.contains(id));
        unused.map(|id| format!("{kind}-{id}.key")).collect()
    };
    let codes = unused("codes", &there.codes, &in_use.codes);
    let rows = unused("rows", &there.rows, &in_use.rows);
    let signing = unused("signing", &there.signing, &in_use.signing);
    let names = codes.into_iter().chain(rows).chain(signing);
    names
        .map(|name| {
            let text = format!("{name} is there, and the running server does not use it");
            let help = "restart the server; `countersign keyring rotate` needs no restart";
            found(Warning, "key-not-in-use", text, help)
        })
        .collect()
}

/// What the rows that rest sealed show.
#[derive(Debug, Default)]
struct Sealed {
    /// How many are sealed under which key.
    used: BTreeMap<u32, usize>,
    /// How many cannot be read, though their key is there.
    unreadable: usize,
}

impl Sealed {
    fn look_at(&mut self, keyring: &Keyring, key: &[u8], sections: &Sections, now: UnixMillis) {
        let parts: Vec<_> = match key.starts_with(COMPONENTS) {
            true => sealed_sections(key, sections).collect(),
            false => sections
                .host
                .iter()
                .map(|host| (key.to_vec(), host))
                .collect(),
        };
        let mut ids = BTreeSet::new();
        let mut is_readable = true;
        for (place, section) in parts {
            if !section.live(now) {
                continue;
            }
            match keyring.sealed_under(&section.value) {
                None => is_readable = false,
                Some((id, has_key)) => {
                    ids.insert(id);
                    is_readable &= !has_key || keyring.unseal(&place, &section.value).is_ok();
                }
            }
        }
        for id in ids {
            *self.used.entry(id).or_default() += 1;
        }
        self.unreadable += usize::from(!is_readable);
    }
}

async fn look_at_sealed(
    store: &Arc<dyn Store>,
    keyring: &Keyring,
    now: UnixMillis,
) -> Result<Sealed, StoreError> {
    let mut sealed = Sealed::default();
    for (from, to) in SEALED {
        let mut cursor = from.to_vec();
        loop {
            let page = store.scan(&cursor, to, ROWS_AT_ONCE).await?;
            for (key, row) in &page {
                cursor = [key.as_slice(), &[0]].concat();
                let Ok(row) = row else {
                    sealed.unreadable += 1;
                    continue;
                };
                let Body::Sections(sections) = &row.body else {
                    continue;
                };
                sealed.look_at(keyring, key, sections, now);
            }
            if page.len() < ROWS_AT_ONCE {
                break;
            }
        }
    }
    Ok(sealed)
}

#[cfg(test)]
mod tests;
