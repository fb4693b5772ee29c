//! What is settled before anybody is served: that the data are ours alone, that no key is missing, and
//! who may call.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_store::{Keyring, Store};
use countersign_types::{Clock, Entropy, SystemClock, SystemEntropy, UnixMillis};

use super::error::{Lost, ServeError};
use crate::api::{Mode, Situation};
use crate::config::{Config, Folders, Provider};
use crate::control::{self, Answer, Request};
use crate::data::{self, Data, DataError};
use crate::metrics::Metrics;
use crate::{keys, sealed};

/// What all that serves works on.
pub(super) struct Prepared {
    pub(super) data: Data,
    /// The data's store, watched by `metrics`.
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) mode: Mode,
}

impl Prepared {
    /// Opens the data folder that `config` names and decides who may call.
    ///
    /// # Errors
    ///
    /// When the data cannot be used, a key is missing that they need, or there is none to call with.
    pub(super) async fn new(config: &Config) -> Result<Prepared, ServeError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let data = open_data(&config.folders, &*entropy)?;
        data.store.set_reserve(config.reserve_bytes);
        let metrics = Metrics::new(places(config), clock.now());
        let store = metrics.watch(data.store.clone());
        data.keyring.bind(&store).await?;
        miss_no_key(&data.keyring, &store, &config.without_keys, clock.now()).await?;
        let mode = decide_mode(config, &store).await?;
        Ok(Prepared {
            data,
            store,
            metrics,
            clock,
            entropy,
            mode,
        })
    }
}

fn open_data(folders: &Folders, entropy: &dyn Entropy) -> Result<Data, ServeError> {
    let data = Data::open(folders, entropy).map_err(|error| match error {
        DataError::InUse { path } => in_use(path),
        error => error.into(),
    })?;
    if data.keyring.created() {
        tracing::info!(
            folder = %folders.keys.display(),
            "made the host's secret keys; keep a copy apart from the data: losing them loses all live codes and enrolments"
        );
    }
    if data::is_open_to_others(&folders.data) {
        tracing::warn!(
            folder = %folders.data.display(),
            "other users of this machine can look into the data folder; {}",
            data::how_to_close(&folders.data)
        );
    }
    Ok(data)
}

/// Who has the data folder, as far as they say.
fn in_use(path: PathBuf) -> ServeError {
    let (who, help) = match control::ask(&path, &Request::About) {
        Ok(Some(Answer::About(about))) if about.stopping => (
            format!(
                "process {}, which was told to stop, has not ended yet",
                about.process
            ),
            "start again when it has ended: it ends what it has begun, for http.stop-seconds at most; a second signal ends it at once",
        ),
        Ok(Some(Answer::About(about))) => (
            format!(
                "process {} serves it on http://{}",
                about.process, about.address
            ),
            "only one server can use a data folder: stop that one first, or name another folder with --data",
        ),
        _ => return DataError::InUse { path }.into(),
    };
    ServeError::InUse { path, who, help }
}

/// Refuses to go on without a key that rows are sealed under, unless it is among those `without` which
/// the operator wants to start: messages would be out of sight, and wait for ever, without a word.
async fn miss_no_key(
    keyring: &Keyring,
    store: &Arc<dyn Store>,
    without: &[String],
    now: UnixMillis,
) -> Result<(), ServeError> {
    for name in without {
        if keyring.folder().join(format!("{name}.key")).exists() {
            tracing::warn!("without-keys names {name}, which is there: it has no effect");
        }
    }
    let missing = keyring.missing(store).await?;
    if missing.is_empty() {
        return Ok(());
    }
    // All rows are looked at, which takes its time; so a key that none needs is missed only once.
    let used = sealed::look_at_sealed(store, keyring, now).await?.used;
    let (needed, spare): (Vec<_>, Vec<_>) = missing
        .into_iter()
        .partition(|name| sealed::rows_under(name, &used) > 0);
    let mut lost = Vec::new();
    for name in needed {
        let file = keyring.folder().join(format!("{name}.key"));
        let rows = sealed::rows_under(&name, &used);
        if without.contains(&name) {
            tracing::warn!(rows, file = %file.display(), "started without a key: what is sealed under it is out of sight until it is back");
        } else {
            lost.push(Lost { name, file, rows });
        }
    }
    if !lost.is_empty() {
        return Err(ServeError::KeyMissing { lost });
    }
    for name in spare.iter().filter(|name| name.starts_with("codes-")) {
        tracing::warn!(
            "{name}.key is not there any more: codes that were made with it, in the last 10 minutes at most, are void"
        );
    }
    Ok(keyring.forget(store, &spare).await?)
}

async fn decide_mode(config: &Config, store: &Arc<dyn Store>) -> Result<Mode, ServeError> {
    let situation = Situation {
        key: config.api_key.is_some() || keys::any(store).await?,
        insists: config.open,
        listen: config.listen,
        console_only: config.providers.iter().all(Provider::is_console),
    };
    let mode = Mode::decide(situation).map_err(|needs| ServeError::NeedsKey {
        reason: needs.why(config.listen),
        help: format!(
            "make one: {}\nor say that you know better: --open",
            make_key(&config.folders)
        ),
    })?;
    match mode {
        Mode::Keyed => {}
        Mode::Open {
            loopback_only: true,
        } => tracing::warn!(
            "open mode: there is no API key, so anybody on this machine may call; messages only go to the terminal; the first key ends it: {}",
            make_key(&config.folders)
        ),
        Mode::Open {
            loopback_only: false,
        } => tracing::warn!(
            "open mode by --open: anybody who reaches this server may send messages; the first key ends it: {}",
            make_key(&config.folders)
        ),
    }
    Ok(mode)
}

/// The line to type for the first key of this very data folder, from wherever it is typed.
fn make_key(folders: &Folders) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let keys = if folders.keys == folders.data.join("keys") {
        String::new()
    } else {
        format!("COUNTERSIGN_KEYS='{}' ", absolute(&folders.keys).display())
    };
    let program = std::env::current_exe().map_or_else(
        |_| "countersign".to_owned(),
        |path| path.display().to_string(),
    );
    let data = absolute(&folders.data);
    format!("{keys}{program} keys create --data '{}'", data.display())
}

/// The providers, each with how many messages it is handed at once.
fn places(config: &Config) -> Vec<(String, usize)> {
    let providers = config.providers.iter();
    providers
        .map(|provider| (provider.name.clone(), provider.concurrency))
        .collect()
}
