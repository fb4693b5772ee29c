//! Configuration: a flag wins over a variable, a variable over the file, the file over the default.
//!
//! [`Merged::load`] puts the sources together, [`Config::new`] judges the result. Nothing else in the
//! program reads the environment or the file.

mod analytics;
mod bounds;
mod code_message;
mod effects;
mod environment;
mod letters;
mod preview;
mod provider;
mod public_url;
mod settings;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_delivery::{BreakerTerms, Route, Texts};
use countersign_queue::QueueConfig;
use countersign_runtime::{LedgerLimits, RegistrySettings, is_region};
use countersign_types::Secret;
use miette::{Diagnostic, NamedSource, SourceSpan};
use tracing_subscriber::EnvFilter;

pub(crate) use bounds::COMPONENT_BYTES_MOST;
pub(crate) use environment::Environment;
pub(crate) use preview::{Preview, Wish};
pub(crate) use provider::{ComponentSource, Provider};
pub(crate) use public_url::PublicUrl;
pub(crate) use settings::Limits;
pub(crate) use template::{MessageKind, Template, Templates};

use crate::telemetry;
use crate::users::{ProofSettings, TokenSettings};
use settings::{Kind, Settings, VALUES, variable};

const CONFIG: &str = "COUNTERSIGN_CONFIG";
const API_KEY: &str = "COUNTERSIGN_API_KEY";
const ADMIN_TOKEN: &str = "COUNTERSIGN_ADMIN_TOKEN";
/// Below this a token is warned of. Of random letters it is some 100 bits.
const TOKEN_CHARS_MIN: usize = 20;
const METRICS_TOKEN: &str = "COUNTERSIGN_METRICS_TOKEN";
const API_KEY_CHARACTERS_MIN: usize = 32;
/// Far above any real file, so that a wrong path does not fill the memory.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why the server cannot be run as it is configured.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration file `{}`", path.display())]
    #[diagnostic(code(countersign::config::unreadable))]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the configuration file `{}` is wrong: {reason}", path.display())]
    #[diagnostic(
        code(countersign::config::file),
        help("the README names every setting")
    )]
    File {
        path: PathBuf,
        reason: String,
        #[source_code]
        text: Arc<NamedSource<String>>,
        #[label("here")]
        place: Option<SourceSpan>,
    },
    #[error("the variable `{variable}` is not UTF-8 text")]
    #[diagnostic(code(countersign::config::not_text))]
    NotText { variable: String },
    #[error("`{key}` {must}{}", given(value))]
    #[diagnostic(code(countersign::config::value), help("it was set by {origin}"))]
    Value {
        key: String,
        must: String,
        /// Shown, so never that of a secret.
        value: Option<String>,
        origin: String,
    },
    #[error("`{variable}` {must}")]
    #[diagnostic(
        code(countersign::config::secret),
        help("`openssl rand -base64 32` makes a good one")
    )]
    Secret {
        variable: &'static str,
        must: String,
    },
    #[error("Twilio is only half configured: {} missing", missing.join(" and "))]
    #[diagnostic(
        code(countersign::config::half_of_twilio),
        help(
            "set TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN and TWILIO_PHONE_NUMBER (or TWILIO_MESSAGING_SERVICE_SID), or none of them"
        )
    )]
    HalfOfTwilio { missing: Vec<String> },
    #[error("the provider `{provider}` cannot be used: {reason}")]
    #[diagnostic(code(countersign::config::provider))]
    Provider {
        provider: String,
        reason: String,
        #[help]
        help: Option<String>,
    },
    #[error("the template {name} {reason}")]
    #[diagnostic(code(countersign::config::template))]
    Template { name: String, reason: String },
    #[error("the route {number} {reason}")]
    #[diagnostic(code(countersign::config::route))]
    Route { number: usize, reason: String },
}

fn given(value: &Option<String>) -> String {
    value
        .as_ref()
        .map_or_else(String::new, |value| format!(", not `{value}`"))
}

/// What the command line can say; `None` where it says nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) config: Option<PathBuf>,
    pub(crate) listen: Option<String>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) log: Option<String>,
    pub(crate) open: bool,
    pub(crate) watch: Option<PathBuf>,
}

/// All sources put together, each value of the right type, none judged yet.
pub(crate) struct Merged {
    settings: Settings,
    /// Which source had the last word, by key.
    origins: BTreeMap<String, String>,
    file: Option<PathBuf>,
}

impl Merged {
    /// Reads the file that `flags` or the environment name, and puts variables and flags on top.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or has an unknown key, or a value is of the wrong type.
    pub(crate) fn load(flags: &Flags, environment: &Environment) -> Result<Merged, ConfigError> {
        let file = match &flags.config {
            Some(path) => Some(path.clone()),
            None => environment.get(CONFIG)?.map(PathBuf::from),
        };
        let mut origins = BTreeMap::new();
        let mut table = match &file {
            Some(path) => read_file(path)?,
            None => toml::Table::new(),
        };
        if let Some(path) = &file {
            for (key, _) in VALUES.iter().filter(|(key, _)| holds(&table, key)) {
                origins.insert((*key).to_owned(), format!("the file {}", path.display()));
            }
            let folder = path.parent().unwrap_or(Path::new(""));
            for key in ["data", "keys", "watch"] {
                if let Some(toml::Value::String(path)) = table.get_mut(key) {
                    *path = folder.join(&*path).to_string_lossy().into_owned();
                }
            }
        }
        for (key, kind) in VALUES {
            let name = variable(key);
            if let Some(text) = environment.get(&name)? {
                put(&mut table, key, read_variable(&name, *kind, text)?);
                origins.insert((*key).to_owned(), format!("the variable {name}"));
            }
        }
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let given = [
            ("listen", flags.listen.clone()),
            ("data", flags.data.as_ref().map(path)),
            ("log", flags.log.clone()),
            ("watch", flags.watch.as_ref().map(path)),
        ];
        for (key, value) in given {
            if let Some(value) = value {
                put(&mut table, key, toml::Value::String(value));
                origins.insert(key.to_owned(), format!("the flag --{key}"));
            }
        }
        if flags.open {
            put(&mut table, "open", toml::Value::Boolean(true));
        }
        // Each source was of the right type by itself, so their sum is.
        let settings = table
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError::Value {
                key: "the configuration".to_owned(),
                must: format!("must be well formed: {}", error.message()),
                value: None,
                origin: "all sources together".to_owned(),
            })?;
        Ok(Merged {
            settings,
            origins,
            file,
        })
    }

    /// What commands need that work on the data where no server runs. No credential is among it, so
    /// they work where those of the server are not at hand.
    ///
    /// # Errors
    ///
    /// When a setting is out of its bounds.
    pub(crate) fn offline(&self) -> Result<Offline, ConfigError> {
        Ok(Offline {
            folders: self.folders(),
            without_keys: self.without_keys()?,
            queue: bounds::queue(self)?,
            services: self.services()?,
        })
    }

    fn without_keys(&self) -> Result<Vec<String>, ConfigError> {
        let names = &self.settings.without_keys;
        let is_name = |name: &&String| {
            let id = name.strip_prefix("rows-");
            id.is_some_and(|id| id.parse::<u32>().is_ok())
        };
        match names.iter().find(|name| !is_name(name)) {
            None => Ok(names.clone()),
            Some(name) => {
                let must = "must be names of keys for rows, such as rows-1";
                Err(self.wrong("without-keys", must, Some(name.clone())))
            }
        }
    }

    /// What the services are configured with.
    fn services(&self) -> Result<Services, ConfigError> {
        let default_region = self.settings.default_region.clone();
        if let Some(region) = &default_region
            && !is_region(region)
        {
            let must = "must be a country's two capital letters (ISO 3166-1 alpha-2), such as US";
            return Err(self.wrong("default-region", must, Some(region.clone())));
        }
        let mut settings = bounds::otp(self)?;
        let name = bounds::two_factor_name(self)?;
        settings.push(("issuer".to_owned(), name));
        settings.extend(bounds::two_factor_component(self)?);
        Ok(Services {
            default_region,
            settings,
            texts: self.templates()?.texts,
            analytics: analytics::read(self)?,
            limits: bounds::limits(self)?,
            audit_kept: bounds::audit_kept(self)?,
            components: bounds::components(self)?,
        })
    }

    /// All configured messages.
    pub(crate) fn templates(&self) -> Result<Templates, ConfigError> {
        template::read(&self.settings.otp, &self.settings.template)
    }

    /// The data folder and the folder of the keys.
    pub(crate) fn folders(&self) -> Folders {
        let data = self.settings.data.clone();
        let keys = self.settings.keys.clone();
        Folders {
            keys: keys.unwrap_or_else(|| data.join("keys")),
            data,
        }
    }

    /// Whether a source has set `key`, and not only its default.
    fn is_set(&self, key: &str) -> bool {
        self.origins.contains_key(key)
    }

    fn wrong(&self, key: &str, must: impl Into<String>, value: Option<String>) -> ConfigError {
        let is_value = VALUES.iter().any(|(known, _)| *known == key);
        let origin = match (self.origins.get(key), &self.file) {
            (Some(origin), _) => origin.clone(),
            // What is no single value comes from nowhere else.
            (None, Some(file)) if !is_value => format!("the file {}", file.display()),
            (None, _) => "its default".to_owned(),
        };
        ConfigError::Value {
            key: key.to_owned(),
            must: must.into(),
            value,
            origin,
        }
    }

    fn whole(&self, key: &str, value: u64, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        if range.contains(&value) {
            return Ok(value);
        }
        let must = format!(
            "must be a whole number from {} to {}",
            range.start(),
            range.end()
        );
        Err(self.wrong(key, must, Some(value.to_string())))
    }
}

/// Where the server keeps what it must not lose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folders {
    pub(crate) data: PathBuf,
    pub(crate) keys: PathBuf,
}

/// What commands need that work on the data where no server runs.
#[derive(Clone, Debug)]
pub(crate) struct Offline {
    pub(crate) folders: Folders,
    pub(crate) without_keys: Vec<String>,
    pub(crate) queue: QueueRoom,
    pub(crate) services: Services,
}

/// What the services are configured with.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    pub(crate) default_region: Option<String>,
    /// For the components, as text; the name that authenticator apps show is `issuer`.
    pub(crate) settings: Vec<(String, String)>,
    /// Texts of messages, in several languages.
    pub(crate) texts: Arc<Texts>,
    /// For the component `analytics`.
    pub(crate) analytics: Vec<(String, String)>,
    pub(crate) limits: Limits,
    /// How long records of the audit trail are kept.
    pub(crate) audit_kept: Duration,
    /// How components are installed.
    pub(crate) components: RegistrySettings,
}

/// How many messages may wait, and whose; and how long they are kept when they are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueRoom {
    pub(crate) capacity: usize,
    pub(crate) reserved_percent: usize,
    pub(crate) caller_percent: usize,
    pub(crate) kept: Duration,
}

/// Limits of connections and requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Http {
    pub(crate) connections_max: usize,
    pub(crate) header_time: Duration,
    pub(crate) header_bytes_max: usize,
    pub(crate) body_time: Duration,
    pub(crate) body_bytes_max: usize,
    pub(crate) request_time: Duration,
    /// How much longer installing a component may take.
    pub(crate) install_time: Duration,
    pub(crate) callbacks_max: usize,
    pub(crate) callback_bytes_max: usize,
    pub(crate) idle_time: Duration,
    pub(crate) stop_time: Duration,
}

/// What is told of users, and to whom.
#[derive(Clone, Debug)]
pub(crate) struct TwoFactor {
    pub(crate) proofs: ProofSettings,
    pub(crate) tokens: TokenSettings,
}

/// How messages are handed to providers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) in_hand: usize,
    pub(crate) backoff_base: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) breaker: BreakerTerms,
}

/// How the server is to run.
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) folders: Folders,
    /// Keys that may be missing though rows are sealed under them, such as `rows-1`.
    pub(crate) without_keys: Vec<String>,
    pub(crate) log: EnvFilter,
    pub(crate) open: bool,
    /// A folder whose components are installed as they come.
    pub(crate) watch: Option<PathBuf>,
    pub(crate) public_url: Option<PublicUrl>,
    pub(crate) api_key: Option<Secret<String>>,
    pub(crate) admin_token: Option<Secret<String>>,
    pub(crate) metrics_token: Option<Secret<String>>,
    pub(crate) services: Services,
    pub(crate) two_factor: TwoFactor,
    pub(crate) reserve_bytes: u64,
    pub(crate) queue: QueueRoom,
    pub(crate) delivery: Delivery,
    pub(crate) http: Http,
    pub(crate) idempotency: LedgerLimits,
    pub(crate) providers: Vec<Provider>,
    pub(crate) routes: Vec<Route>,
    pub(crate) templates: Templates,
    /// What is allowed and probably not meant.
    pub(crate) warnings: Vec<String>,
}

impl From<QueueRoom> for QueueConfig {
    fn from(room: QueueRoom) -> QueueConfig {
        QueueConfig {
            capacity: room.capacity,
            reserved_percent: room.reserved_percent,
            caller_percent: room.caller_percent,
            kept: room.kept,
            ..QueueConfig::default()
        }
    }
}

impl Config {
    /// Judges what was put together.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`]; the first thing wrong is reported.
    pub(crate) fn new(merged: &Merged, environment: &Environment) -> Result<Config, ConfigError> {
        let settings = &merged.settings;
        let listen = settings.listen.parse().map_err(|_| {
            let must = "must be an address and a port, such as 127.0.0.1:8080 or [::1]:8080";
            merged.wrong("listen", must, Some(settings.listen.clone()))
        })?;
        let log = telemetry::parse(&settings.log).map_err(|error| {
            let must =
                format!("must be a filter such as `info` or `warn,countersign=debug` ({error})");
            merged.wrong("log", must, Some(settings.log.clone()))
        })?;
        let public_url = settings.public_url.as_deref().map(|text| {
            let wrong = |must| merged.wrong("public-url", must, Some(text.to_owned()));
            PublicUrl::parse(text).map_err(wrong)
        });
        let public_url = public_url.transpose()?;
        let mut warnings = Vec::new();
        let concurrency = settings.delivery.concurrency;
        let concurrency = merged.whole("delivery.concurrency", concurrency, 1..=10_000)?;
        let folder = merged.file.as_deref().and_then(Path::parent);
        let providers = provider::read(
            &settings.provider,
            folder.unwrap_or(Path::new("")),
            as_size(concurrency),
            environment,
            &mut warnings,
        )?;
        analytics::check_providers(merged, &providers)?;
        let routes = provider::read_routes(&settings.route, &providers, &mut warnings)?;
        warnings.extend(unknown_variables(environment, &settings.provider));
        warnings.extend(guessable(environment)?);
        let templates = merged.templates()?;
        warnings.extend(template::warnings(&settings.otp, &templates));
        let url = public_url.as_ref();
        provider::warn_of_unsigned(&providers, url.is_some(), &mut warnings);
        warnings.extend(effects::missing(
            merged,
            environment,
            &providers,
            &routes,
            url,
        )?);
        Ok(Config {
            listen,
            folders: merged.folders(),
            without_keys: merged.without_keys()?,
            log,
            open: settings.open,
            watch: settings.watch.clone(),
            two_factor: bounds::two_factor(merged, public_url.as_ref())?,
            public_url,
            api_key: api_key(environment)?,
            admin_token: token(environment, ADMIN_TOKEN)?,
            metrics_token: token(environment, METRICS_TOKEN)?,
            services: merged.services()?,
            reserve_bytes: merged.whole(
                "store.reserve-bytes",
                settings.store.reserve_bytes,
                0..=1 << 40,
            )?,
            queue: bounds::queue(merged)?,
            delivery: bounds::delivery(merged)?,
            http: bounds::http(merged)?,
            idempotency: bounds::idempotency(merged)?,
            providers,
            routes,
            templates,
            warnings,
        })
    }
}

fn as_size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn read_file(path: &Path) -> Result<toml::Table, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        let reason = format!("it has {bytes} bytes, more than {FILE_BYTES_MAX}");
        return Err(unreadable(std::io::Error::other(reason)));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    // Read with types first, since that is where an error still knows its place in the file.
    toml::from_str::<Settings>(&text)
        .and_then(|_| text.parse::<toml::Table>())
        .map_err(|error| ConfigError::File {
            path: path.to_owned(),
            reason: match error.span().and_then(|span| key_before(&text, span.start)) {
                Some(key) => format!("`{key}`: {}", error.message()),
                None => error.message().to_owned(),
            },
            place: error.span().map(SourceSpan::from),
            text: Arc::new(NamedSource::new(path.display().to_string(), text)),
        })
}

/// The key whose value begins at `at`: an error about a value should say which setting it is.
fn key_before(text: &str, at: usize) -> Option<&str> {
    let before = text.get(..at)?;
    let line = before.rsplit('\n').next()?;
    let key = line.trim_end().strip_suffix('=')?;
    // Inside an inline table the nearest key counts.
    key.rsplit(['{', ','])
        .next()
        .map(str::trim)
        .filter(|key| !key.is_empty())
}

fn holds(table: &toml::Table, key: &str) -> bool {
    match key.split_once('.') {
        None => table.contains_key(key),
        Some((section, key)) => table
            .get(section)
            .and_then(toml::Value::as_table)
            .is_some_and(|section| section.contains_key(key)),
    }
}

fn put(table: &mut toml::Table, key: &str, value: toml::Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, key)) => {
            let section = table
                .entry(section)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(section) = section {
                section.insert(key.to_owned(), value);
            }
        }
    }
}

fn read_variable(name: &str, kind: Kind, text: &str) -> Result<toml::Value, ConfigError> {
    let wrong = |must: &str| ConfigError::Value {
        key: name.to_owned(),
        must: must.to_owned(),
        value: Some(text.to_owned()),
        origin: "the environment".to_owned(),
    };
    Ok(match kind {
        Kind::Text => toml::Value::String(text.to_owned()),
        Kind::Whole => {
            let number = text.trim().parse::<i64>();
            match number {
                Ok(number @ 0..) => toml::Value::Integer(number),
                _ => return Err(wrong("must be a whole number")),
            }
        }
        Kind::Flag => match text.trim() {
            "1" | "true" => toml::Value::Boolean(true),
            "0" | "false" => toml::Value::Boolean(false),
            _ => return Err(wrong("must be `true` or `false`")),
        },
        Kind::Words => toml::Value::Array(
            text.split(',')
                .map(|word| toml::Value::String(word.trim().to_owned()))
                .collect(),
        ),
    })
}

fn api_key(environment: &Environment) -> Result<Option<Secret<String>>, ConfigError> {
    let Some(key) = environment.get_even_empty(API_KEY)? else {
        return Ok(None);
    };
    let key = Secret::new(key.trim().to_owned());
    let wrong = |must: String| ConfigError::Secret {
        variable: API_KEY,
        must,
    };
    let characters = key.expose().chars().count();
    if characters < API_KEY_CHARACTERS_MIN {
        return Err(wrong(format!(
            "must have at least {API_KEY_CHARACTERS_MIN} characters, it has {characters}"
        )));
    }
    if key.expose().contains(char::is_control) {
        return Err(wrong("must not contain control characters".to_owned()));
    }
    Ok(Some(key))
}

/// A token of the environment: any text; an empty one is none.
fn token(environment: &Environment, name: &str) -> Result<Option<Secret<String>>, ConfigError> {
    let token = environment.get(name)?.map(str::trim);
    let token = token.filter(|token| !token.is_empty());
    Ok(token.map(|token| Secret::new(token.to_owned())))
}

/// Tokens that may be any text, and are so short that a program which tries them all finds them: only the
/// login form counts tries.
fn guessable(environment: &Environment) -> Result<Vec<String>, ConfigError> {
    let mut found = Vec::new();
    for name in [ADMIN_TOKEN, METRICS_TOKEN] {
        let token = token(environment, name)?;
        if token.is_some_and(|token| token.expose().chars().count() < TOKEN_CHARS_MIN) {
            found.push(format!(
                "{name} has fewer than {TOKEN_CHARS_MIN} characters and could be guessed: make one with `openssl rand -base64 32`"
            ));
        }
    }
    Ok(found)
}

/// A variable that nothing reads is most likely misspelt.
fn unknown_variables(environment: &Environment, providers: &[settings::Provider]) -> Vec<String> {
    let mut known: BTreeSet<String> = VALUES.iter().map(|(key, _)| variable(key)).collect();
    known.extend([CONFIG, API_KEY, ADMIN_TOKEN, METRICS_TOKEN].map(str::to_owned));
    let credentials = providers
        .iter()
        .flat_map(|entry| entry.credentials.values());
    known.extend(credentials.filter_map(|credential| match credential {
        settings::Credential::Env(name) => Some(name.clone()),
        _ => None,
    }));
    environment
        .own_names()
        .filter(|name| !known.contains(*name))
        .map(|name| format!("the variable {name} is not known and was not used"))
        .collect()
}

#[cfg(test)]
mod tests;
