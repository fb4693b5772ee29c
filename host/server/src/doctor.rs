//! What can be wrong with a server's configuration, data, keys and machine. Nothing is changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use countersign_runtime::{InstalledVersion, StartError, installed_versions};
use countersign_store::{KeyIds, Keyring, KeyringError, OpenError, SledStore, Store, StoreError};
use countersign_types::{Entropy, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::api::{Mode, Situation};
use crate::config::{Config, ConfigError, Folders, Provider};
use crate::control::{About, with_cause};
use crate::data;
use crate::keys;
use crate::sealed::{Sealed, look_at_sealed};
use crate::serve::ServeError;

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
    findings.extend(config.watch.as_deref().and_then(look_at_watched));
    if config.admin_token.is_none() {
        let text = "there is no administrator's token: /admin answers 403";
        let help = "set COUNTERSIGN_ADMIN_TOKEN to switch it on";
        findings.push(found(Note, "admin-token", text, help));
    }
    findings
}

/// The folder that brings components: whoever may write into it decides what runs.
fn look_at_watched(folder: &Path) -> Option<Finding> {
    let shown = folder.display();
    let Ok(metadata) = fs::metadata(folder) else {
        let text =
            format!("the watched folder `{shown}` is not there, so nothing is installed from it");
        let help = "make it, or leave `watch` out";
        return Some(found(Warning, "watch-folder", text, help));
    };
    let mode = metadata.permissions().mode() & 0o7777;
    (mode & 0o022 != 0).then(|| {
        let text = format!(
            "others than its owner may write into the watched folder `{shown}` (mode {mode:o}), and so decide which components run"
        );
        let help = format!("type: chmod go-w {}", data::quoted(folder));
        found(Error, "watch-folder-open", text, help)
    })
}

/// The components of the providers, as far as they cannot be used: `errors` are a start's own.
pub(crate) fn unusable_components(errors: &[ServeError]) -> Vec<Finding> {
    let judge = |error: &ServeError| {
        let (code, help) = match error {
            ServeError::Component { .. } => (
                "component-unreadable",
                "put the file there, readable by the server's user, or name another one with `component`",
            ),
            ServeError::Runtime(StartError::Load(_)) => (
                "component-unfit",
                "use a component of the world `provider` (wit/provider in the sources) that was built for this version",
            ),
            ServeError::Runtime(StartError::Grant(_)) => (
                "provider-incomplete",
                "put the [[provider]] entry right; the README has its keys, and the component's own documents its settings",
            ),
            _ => (
                "components",
                "components cannot run on this machine; the reason is the operating system's or the processor's",
            ),
        };
        found(Error, code, with_cause(error), help)
    };
    errors.iter().map(judge).collect()
}

/// The address to listen on: whether it is free, or `server` has it, the one that runs on this data
/// folder.
pub(crate) fn look_at_address(listen: SocketAddr, server: Option<&About>) -> Option<Finding> {
    if let Some(server) = server
        && (listen.port() == 0 || server.address == listen)
    {
        return None;
    }
    // For a moment only, and nobody can connect to it.
    let error = std::net::TcpListener::bind(listen).err()?;
    let (code, help) = match error.kind() {
        std::io::ErrorKind::AddrInUse => (
            "address-in-use",
            "stop the program that listens there (`ss -ltnp` names it), or name another address with --listen",
        ),
        std::io::ErrorKind::PermissionDenied => (
            "address-forbidden",
            "name a port from 1024 on, and let your reverse proxy have the lower ones",
        ),
        _ => (
            "address-unusable",
            "name an address of this machine with --listen (`ip address` shows them)",
        ),
    };
    let text = format!("cannot listen on {listen}: {error}");
    Some(found(Error, code, text, help))
}

/// Whether a start without an API key is refused; `key` says whether the data folder ever had one.
pub(crate) fn look_at_mode(config: &Config, key: bool) -> Option<Finding> {
    let situation = Situation {
        key: key || config.api_key.is_some(),
        insists: config.open,
        listen: config.listen,
        console_only: config.providers.iter().all(Provider::is_console),
    };
    let why = Mode::decide(situation).err()?.why(config.listen);
    let text = format!("the server does not start: there is no API key yet, and {why}");
    let help = "make one with `countersign keys create`, or give one by COUNTERSIGN_API_KEY";
    Some(found(Error, "needs-key", text, help))
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
        // Both may be about the folder above that both are to be made in.
        let place = look_at_place(folder).filter(|found| !findings.contains(found));
        findings.extend(place);
    }
    if folders.keys.starts_with(&folders.data) {
        let text = "the host's secret keys lie in the data folder, so a copy of it has both";
        let help = "stop the server, move them to a folder of their own, and name it with `keys` or COUNTERSIGN_KEYS";
        findings.push(found(Warning, "keys-with-data", text, help));
    }
    let store = folders.data.join("store");
    let half = SledStore::restoring(&store);
    if half.exists() {
        let text = format!("a restore was cut off and has left `{}`", half.display());
        let help = "type it again; to begin without it, move that folder to another place before the start";
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
        found(Warning, "folder-open", text, data::how_to_close(folder))
    })
}

/// Whether the folder can be made, or written.
fn look_at_place(folder: &Path) -> Option<Finding> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};

    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let there = absolute.ancestors().find(|path| path.exists())?;
    let shown = there.display();
    if !there.is_dir() {
        let text = format!("`{shown}` is no folder, so nothing can be kept in it");
        let help = "name another folder with --data or COUNTERSIGN_KEYS";
        return Some(found(Error, "folder-unusable", text, help));
    }
    let rights = Access::WRITE_OK | Access::EXEC_OK;
    let error = accessat(CWD, there, rights, AtFlags::EACCESS).err()?;
    let text = format!("the user of this command cannot write in `{shown}`: {error}");
    let help = "run the command as the server's user; a folder that this user can write is named with --data or COUNTERSIGN_KEYS";
    Some(found(Error, "folder-unwritable", text, help))
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
    let help = "make room on the disk of the data folder, but not in it: of what lies there only `cache` can be spared";
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
            KeyringError::Io { .. } => (
                "key-unreadable",
                "run the command as the server's user, who must own the file, with mode 600",
            ),
            KeyringError::Malformed { .. } => {
                ("key-malformed", "put it back from your copy of the keys")
            }
            KeyringError::TooOpen { .. } => (
                "key-open",
                "where others may have read it, type afterwards: countersign keyring rotate",
            ),
            KeyringError::Missing { .. } => (
                "key-missing",
                "put it back from your copy of the keys, or name their folder with COUNTERSIGN_KEYS",
            ),
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
            "a server that is just starting or has just ended? try again in a moment; `fuser` on the file `db` in it names the process",
        ),
        OpenError::Unusable { .. } => (
            "store-unusable",
            "the data may be whole: look at the reason first, at owner and rights of the files in it, at the disk (`dmesg`) and its free space; change nothing in it before you have a copy of the folder",
        ),
        OpenError::Damaged { .. } => (
            "store-unusable",
            "look at the disk (`dmesg`); keep the folder: move it to another place, then type: countersign restore FILE",
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
    without_keys: &[String],
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
    match look_at_rows(store, keyring, without_keys, now).await {
        Ok(more) => findings.extend(more),
        Err(error) => {
            let help = "was the data written by a newer version? then use that one; else look at the disk (`dmesg`), keep a copy of the data folder, and put a backup into a new one: countersign restore FILE --data NEW";
            findings.push(found(Error, "row-unreadable", with_cause(&error), help));
        }
    }
    match installed_versions(store).await {
        Ok(installed) => findings.extend(installed.iter().map(look_at_installed)),
        Err(error) => {
            let help = "was the data written by a newer version? then use that one";
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

/// A component that is not the one of this program.
fn look_at_installed(installed: &InstalledVersion) -> Finding {
    let InstalledVersion {
        component, version, ..
    } = installed;
    let (sha256, since) = (version.sha256.short(), version.installed_at);
    if !installed.whole {
        let text = format!("the installed version {sha256} of `{component}` is not whole");
        let help = format!(
            "the server does not start with it; go back: countersign component rollback {component}"
        );
        return found(Error, "component-damaged", text, help);
    }
    let text = format!(
        "`{component}` is the version {sha256} that was installed at {since}, and not the one of this program"
    );
    let help = format!(
        "it stays after an upgrade of the program, too; to go back: countersign component rollback {component}"
    );
    found(Note, "component-installed", text, help)
}

async fn look_at_rows(
    store: &Arc<dyn Store>,
    keyring: &Keyring,
    without_keys: &[String],
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
        .map(|id| needed(*id, without_keys))
        .collect();
    findings.extend(
        without_keys
            .iter()
            .filter(|name| ids.rows.iter().any(|id| **name == format!("rows-{id}")))
            .map(|name| {
                let text = format!("without-keys names {name}, whose file is there");
                let help = "leave it out of `without-keys` and COUNTERSIGN_WITHOUT_KEYS";
                found(Note, "without-keys", text, help)
            }),
    );
    let spare = missing
        .into_iter()
        .filter(|name| used.keys().all(|id| *name != format!("rows-{id}")));
    findings.extend(spare.map(|name| {
        let text = format!("{name}.key was used once and is not there any more");
        let help = match name.starts_with("signing-") {
            true => "nothing in this data needs it; proofs of the last day and 5 minutes that it has signed are void",
            false => "nothing in this data needs it, save for codes of the last 10 minutes; backups from before may: keep it with them",
        };
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

/// A key that rows are sealed under and that is not there.
fn needed(id: u32, without_keys: &[String]) -> Finding {
    let text = format!(
        "rows are sealed under rows-{id}.key, which is not there: such users cannot log in, such messages cannot be sent or shown"
    );
    let given_up = without_keys
        .iter()
        .any(|name| *name == format!("rows-{id}"));
    if given_up {
        let help = "the server starts all the same, as `without-keys` says; with the file back in its place they are back as well";
        found(Warning, "key-needed", text, help)
    } else {
        let help = "put it back from your copy of the keys: without it the server does not start";
        found(Error, "key-needed", text, help)
    }
}

/// The keys that a rotation has left behind, by whether they can go.
fn look_at_old_keys(ids: &KeyIds, used: &BTreeMap<u32, usize>) -> Vec<Finding> {
    let older = |ids: &[u32]| ids[..ids.len().saturating_sub(1)].to_vec();
    let codes = older(&ids.codes).into_iter().map(|id| {
        let text = format!("codes-{id}.key is left from before a rotation");
        let help = "codes need it for 10 minutes after that; it does no harm after them";
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
            let help = "it does no harm; a backup that was made before needs it";
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

#[cfg(test)]
mod tests;
