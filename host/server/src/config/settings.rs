//! Every setting: its key in the file, its type, its default and its unit.
//!
//! The variable follows from the key: `otp.valid-seconds` is `COUNTERSIGN_OTP_VALID_SECONDS`. Bare
//! numbers carry their unit in their name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use countersign_types::{NumberKind, Secret};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

/// What the file can hold, with the defaults for what it leaves out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Address and port to serve on; port 0 picks a free one.
    pub(crate) listen: String,
    /// The data folder.
    pub(crate) data: PathBuf,
    /// The folder of the host's secret keys; `keys` in the data folder where it is not set.
    pub(crate) keys: Option<PathBuf>,
    /// Names of secret keys that may be missing though rows are sealed under them.
    pub(crate) without_keys: Vec<String>,
    /// ISO 3166-1 alpha-2: the country of numbers without `+`.
    pub(crate) default_region: Option<String>,
    /// The address by which providers reach this server.
    pub(crate) public_url: Option<String>,
    /// A filter of logs, for example `info` or `warn,countersign=debug`.
    pub(crate) log: String,
    /// Serve without any key, whatever the address and the provider.
    pub(crate) open: bool,
    /// A folder whose components are installed as they come.
    pub(crate) watch: Option<PathBuf>,
    pub(crate) otp: Otp,
    pub(crate) two_factor: TwoFactor,
    pub(crate) audit: Audit,
    pub(crate) messages: Messages,
    pub(crate) analytics: Analytics,
    pub(crate) store: Store,
    pub(crate) queue: Queue,
    pub(crate) delivery: Delivery,
    pub(crate) http: Http,
    pub(crate) idempotency: Idempotency,
    pub(crate) components: Components,
    pub(crate) limits: Limits,
    pub(crate) provider: Vec<Provider>,
    pub(crate) route: Vec<Route>,
    pub(crate) template: Vec<Template>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: "127.0.0.1:8080".to_owned(),
            data: PathBuf::from("data"),
            keys: None,
            without_keys: Vec::new(),
            default_region: None,
            public_url: None,
            log: "info".to_owned(),
            open: false,
            watch: None,
            otp: Otp::default(),
            two_factor: TwoFactor::default(),
            audit: Audit::default(),
            messages: Messages::default(),
            analytics: Analytics::default(),
            store: Store::default(),
            queue: Queue::default(),
            delivery: Delivery::default(),
            http: Http::default(),
            idempotency: Idempotency::default(),
            components: Components::default(),
            limits: Limits::default(),
            provider: Vec::new(),
            route: Vec::new(),
            template: Vec::new(),
        }
    }
}

/// Settings of the service `otp`, handed on to its component, which has the defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Otp {
    pub(crate) digits: Option<u64>,
    pub(crate) valid_seconds: Option<u64>,
    pub(crate) tries: Option<u64>,
    pub(crate) same_code_seconds: Option<u64>,
    pub(crate) sends_per_minute: Option<u64>,
    pub(crate) sends_per_hour: Option<u64>,
    pub(crate) sends_per_day: Option<u64>,
    pub(crate) misses_per_hour: Option<u64>,
    pub(crate) misses_per_day: Option<u64>,
    pub(crate) sends_per_minute_per_address: Option<u64>,
    pub(crate) sends_per_hour_per_address: Option<u64>,
    pub(crate) purposes: Option<Vec<String>>,
    pub(crate) text: Option<String>,
    pub(crate) segments_max: Option<u64>,
    pub(crate) domain: Option<String>,
    pub(crate) app_hash: Option<String>,
}

/// Settings of the analytics.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Analytics {
    /// ISO 4217: what costs are told in.
    pub(crate) currency: String,
    /// What one unit of other currencies is worth in it.
    pub(crate) rates: BTreeMap<String, Decimal>,
    /// What a segment costs where the provider does not say so, by provider.
    pub(crate) prices: BTreeMap<String, Prices>,
}

impl Default for Analytics {
    fn default() -> Analytics {
        Analytics {
            currency: "USD".to_owned(),
            rates: BTreeMap::new(),
            prices: BTreeMap::new(),
        }
    }
}

/// What a segment costs with one provider.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Prices {
    /// ISO 4217; the reporting currency where it is left out.
    pub(crate) currency: Option<String>,
    /// To all countries that have none of their own.
    pub(crate) default: Option<Decimal>,
    /// By ISO 3166-1 alpha-2.
    #[serde(flatten)]
    pub(crate) countries: BTreeMap<String, Decimal>,
}

/// A decimal number, as text or as TOML has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Decimal {
    Text(String),
    Whole(u64),
    Real(f64),
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decimal::Text(text) => f.write_str(text),
            Decimal::Whole(number) => write!(f, "{number}"),
            Decimal::Real(number) => write!(f, "{number}"),
        }
    }
}

/// Settings of two-factor authentication.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct TwoFactor {
    /// Who signs proofs; the public URL where it is not set, or else `countersign`.
    pub(crate) issuer: Option<String>,
    /// Whom proofs are made out to; the issuer where it is not set.
    pub(crate) audience: Option<String>,
    /// How long a proof is good for.
    pub(crate) proof_seconds: u64,
    /// How long a token for a login is good for.
    pub(crate) login_token_seconds: u64,
    /// How long a token for an enrolment is good for.
    pub(crate) enrolment_token_seconds: u64,
    /// What authenticator apps call this service.
    pub(crate) name: String,
    // For the component, which has the defaults.
    pub(crate) enrolment_seconds: Option<u64>,
    pub(crate) enrolments_per_number_per_day: Option<u64>,
    pub(crate) totp_misses_per_quarter_hour: Option<u64>,
    pub(crate) totp_misses_per_day: Option<u64>,
    pub(crate) backup_misses_per_quarter_hour: Option<u64>,
    pub(crate) backup_misses_per_day: Option<u64>,
    pub(crate) backup_codes: Option<u64>,
    pub(crate) backup_memory_kib: Option<u64>,
    pub(crate) backup_passes: Option<u64>,
    pub(crate) misses_before_notice: Option<u64>,
    pub(crate) notice_backup_code: Option<String>,
    pub(crate) notice_number: Option<String>,
    pub(crate) notice_disabled: Option<String>,
    pub(crate) notice_failures: Option<String>,
}

impl Default for TwoFactor {
    fn default() -> TwoFactor {
        TwoFactor {
            issuer: None,
            audience: None,
            proof_seconds: 300,
            login_token_seconds: 600,
            enrolment_token_seconds: 1_800,
            name: "countersign".to_owned(),
            enrolment_seconds: None,
            enrolments_per_number_per_day: None,
            totp_misses_per_quarter_hour: None,
            totp_misses_per_day: None,
            backup_misses_per_quarter_hour: None,
            backup_misses_per_day: None,
            backup_codes: None,
            backup_memory_kib: None,
            backup_passes: None,
            misses_before_notice: None,
            notice_backup_code: None,
            notice_number: None,
            notice_disabled: None,
            notice_failures: None,
        }
    }
}

/// Settings of the audit trail.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Audit {
    /// How long its records are kept.
    pub(crate) days: u64,
}

impl Default for Audit {
    fn default() -> Audit {
        // As events are.
        Audit { days: 400 }
    }
}

/// Settings of messages that are over.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Messages {
    /// How long they are kept after their end.
    pub(crate) days: u64,
}

impl Default for Messages {
    fn default() -> Messages {
        Messages { days: 30 }
    }
}

/// Settings of the store.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Store {
    /// How much of the disk is to stay free, in bytes: with less, sends are turned away.
    pub(crate) reserve_bytes: u64,
}

impl Default for Store {
    fn default() -> Store {
        // Finishing a full queue of 100,000 messages writes about so much.
        Store {
            reserve_bytes: 256 * 1024 * 1024,
        }
    }
}

/// Settings of the queue.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Queue {
    /// How many jobs may wait before a send is turned away.
    pub(crate) capacity: u64,
    /// How much of it is kept for urgent messages and codes, in percent.
    pub(crate) reserved_percent: u64,
    /// How much of it one caller may have while there are others, in percent.
    pub(crate) caller_percent: u64,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            capacity: 100_000,
            reserved_percent: 20,
            caller_percent: 50,
        }
    }
}

/// Settings of delivery.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Delivery {
    /// How many messages may be on their way to one provider, where its entry says nothing.
    pub(crate) concurrency: u64,
    /// How many messages are being handed over at once, over all providers.
    pub(crate) in_hand: u64,
    /// Delay after the first failed try; doubles with each, times a random share.
    pub(crate) backoff_base_ms: u64,
    /// The longest delay.
    pub(crate) backoff_max_ms: u64,
    /// How many failures in a row open a provider's circuit breaker.
    pub(crate) breaker_failures: u64,
    /// How long it stays open at first; doubles with each probe that fails.
    pub(crate) breaker_base_ms: u64,
    /// The longest of these pauses.
    pub(crate) breaker_max_ms: u64,
}

impl Default for Delivery {
    fn default() -> Delivery {
        Delivery {
            concurrency: 64,
            in_hand: 1_024,
            backoff_base_ms: 1_000,
            backoff_max_ms: 30_000,
            breaker_failures: 5,
            breaker_base_ms: 5_000,
            breaker_max_ms: 60_000,
        }
    }
}

/// Settings of connections and requests.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Http {
    /// Connections at a time; further ones wait in the listen backlog.
    pub(crate) connections_max: u64,
    /// How long the head of a request may take to arrive.
    pub(crate) header_seconds: u64,
    /// How large the head of a request may be.
    pub(crate) header_bytes_max: u64,
    /// How long the body of a request may take to arrive.
    pub(crate) body_seconds: u64,
    /// How large the body of a request may be.
    pub(crate) body_bytes_max: u64,
    /// How long a request may take altogether.
    pub(crate) request_seconds: u64,
    /// Callbacks that are worked on at once, shared equally by all providers; further ones are told to
    /// come again.
    pub(crate) callbacks_max: u64,
    /// How large the body of a callback may be.
    pub(crate) callback_bytes_max: u64,
    /// How long a connection may be without a request.
    pub(crate) idle_seconds: u64,
    /// How long a stop waits for requests that have begun.
    pub(crate) stop_seconds: u64,
}

impl Default for Http {
    fn default() -> Http {
        Http {
            connections_max: 10_000,
            header_seconds: 10,
            header_bytes_max: 32 * 1024,
            body_seconds: 10,
            body_bytes_max: 64 * 1024,
            request_seconds: 30,
            callbacks_max: 64,
            callback_bytes_max: 64 * 1024,
            idle_seconds: 60,
            stop_seconds: 30,
        }
    }
}

/// Settings of requests with an `Idempotency-Key`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Idempotency {
    /// How many keys one caller may use in 24 hours, for so long each is kept.
    pub(crate) keys_per_day: u64,
    /// How many requests with keys one process works on at once.
    pub(crate) in_flight: u64,
}

impl Default for Idempotency {
    fn default() -> Idempotency {
        Idempotency {
            keys_per_day: 1_000_000,
            in_flight: 10_000,
        }
    }
}

/// Settings of installing components.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Components {
    /// How many versions of a component are kept, those in use not counted.
    pub(crate) versions_kept: u64,
    /// How long a new version is watched, to be taken back when it fails; 0: not at all.
    pub(crate) trial_seconds: u64,
    /// How large a component may be.
    pub(crate) bytes_max: u64,
    /// How long compiling one may take.
    pub(crate) compile_seconds: u64,
}

impl Default for Components {
    fn default() -> Components {
        Components {
            versions_kept: 5,
            trial_seconds: 300,
            bytes_max: 64 * 1024 * 1024,
            compile_seconds: 60,
        }
    }
}

/// What components may use, where it differs from the runtime's own defaults.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// A service's own time in one call, in milliseconds.
    pub(crate) service_time_ms: Option<u64>,
    /// A provider's own time in one call, in milliseconds.
    pub(crate) provider_time_ms: Option<u64>,
    /// A provider's own time in reading a callback, in milliseconds.
    pub(crate) callback_time_ms: Option<u64>,
    /// From the start to the end of a service call, in milliseconds.
    pub(crate) service_wall_ms: Option<u64>,
    /// From the start to the end of a provider call, in milliseconds.
    pub(crate) provider_wall_ms: Option<u64>,
    /// How often running code is asked whether its time is over, in milliseconds.
    pub(crate) epoch_ms: Option<u64>,
    /// Linear memory of one instance.
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) hostcall_bytes: Option<u64>,
    pub(crate) stack_bytes: Option<u64>,
    pub(crate) handles: Option<u64>,
    pub(crate) idle_instances: Option<u64>,
    /// Elements of one table.
    pub(crate) table_elements: Option<u64>,
    /// Instances at once, over all components.
    pub(crate) instances: Option<u64>,
    /// Service calls that run at once; further ones wait.
    pub(crate) service_calls: Option<u64>,
    /// Service calls that wait for a place.
    pub(crate) service_waiting: Option<u64>,
    /// How long they wait, in milliseconds.
    pub(crate) service_wait_ms: Option<u64>,
    /// Calls about one subject that wait for each other.
    pub(crate) subject_waiting: Option<u64>,
    /// Password hashes that are worked out at once.
    pub(crate) hashes: Option<u64>,
    /// Calls that wait for one of these.
    pub(crate) hashes_waiting: Option<u64>,
    /// After how many calls an instance of a service is replaced.
    pub(crate) instance_calls: Option<u64>,
    /// How often a call runs at most.
    pub(crate) runs: Option<u64>,
    /// How long a reading function may keep commits out, in milliseconds.
    pub(crate) hold_ms: Option<u64>,
    /// Lines of log in one call.
    pub(crate) log_lines: Option<u64>,
    /// Bytes of one line of log.
    pub(crate) log_line_bytes: Option<u64>,
    /// Outgoing requests of one provider call.
    pub(crate) http_requests: Option<u64>,
    /// From the start to the last byte of one outgoing request, in milliseconds.
    pub(crate) http_request_ms: Option<u64>,
    /// For connecting, in milliseconds.
    pub(crate) http_connect_ms: Option<u64>,
    /// Bytes of a request's or an answer's body.
    pub(crate) http_body_bytes: Option<u64>,
}

/// A `[[provider]]` entry.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Provider {
    /// How routes, logs and reports call it.
    pub(crate) name: String,
    /// The name of a built-in component, or a path to a `.wasm` file, relative to the file.
    pub(crate) component: String,
    /// What the component may read.
    #[serde(default)]
    pub(crate) settings: BTreeMap<String, Scalar>,
    /// What the host puts in for the component, which never sees it.
    #[serde(default)]
    pub(crate) credentials: BTreeMap<String, Credential>,
    /// The hosts that the component may reach, in place of those that it asks for itself.
    pub(crate) allow_hosts: Option<Vec<String>>,
    /// How many messages may be on their way to it at a time.
    pub(crate) concurrency: Option<u64>,
    /// How many messages a second it is handed at most.
    pub(crate) rate: Option<PerSecond>,
    /// Whether its callbacks are believed without a signature.
    #[serde(default)]
    pub(crate) unsigned: bool,
}

/// A number a second, whole or not: TOML keeps the two apart.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(from = "Number")]
pub(crate) struct PerSecond(pub(crate) f64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Whole(u32),
    Real(f64),
}

impl From<Number> for PerSecond {
    fn from(number: Number) -> PerSecond {
        PerSecond(match number {
            Number::Whole(number) => number.into(),
            Number::Real(number) => number,
        })
    }
}

/// A `[[route]]` entry: the first that matches a message decides.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Route {
    /// ISO 3166-1 alpha-2; all countries where it is left out.
    pub(crate) country: Option<String>,
    /// What kind of line the number is; all where it is left out.
    pub(crate) number_type: Option<NumberKind>,
    /// What the message is for; all where it is left out.
    pub(crate) kind: Option<String>,
    /// Names of providers, in the order in which they are tried.
    pub(crate) providers: Vec<String>,
    /// How many messages begin with each of them, as parts of the sum; all with the first where it is left
    /// out.
    #[serde(default)]
    pub(crate) shares: Vec<u32>,
}

/// A `[[template]]` entry: a text that `POST /api/messages` may send, or one with a code.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Template {
    /// How requests call it.
    pub(crate) name: String,
    /// With placeholders in braces.
    pub(crate) text: String,
    /// BCP 47: who reads it; everybody who has no other where it is left out.
    pub(crate) locale: Option<String>,
    /// Of a text with a code, what that is for; all purposes that have no other where it is left out.
    pub(crate) purpose: Option<String>,
    /// What its messages are for, where a request says nothing.
    pub(crate) kind: Option<String>,
    /// How many SMS one of its messages may take.
    pub(crate) segments_max: Option<u64>,
}

/// Text, a number, or yes or no; handed on as text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Scalar {
    Text(String),
    Whole(i64),
    Flag(bool),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Text(text) => f.write_str(text),
            Scalar::Whole(number) => write!(f, "{number}"),
            Scalar::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// Where a credential comes from.
#[derive(Debug)]
pub(crate) enum Credential {
    /// A variable of the environment.
    Env(String),
    /// A file, relative to the configuration file; the end of the line is no part of it.
    File(PathBuf),
    /// It stands in the configuration file itself.
    Literal(Secret<String>),
}

impl<'de> Deserialize<'de> for Credential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Credential, D::Error> {
        struct Source;
        impl<'de> Visitor<'de> for Source {
            type Value = Credential;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`{ env = \"NAME\" }`, `{ file = \"path\" }` or text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Credential, E> {
                Ok(Credential::Literal(Secret::new(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Credential, A::Error> {
                let found = match map.next_key::<String>()?.as_deref() {
                    Some("env") => Credential::Env(map.next_value()?),
                    Some("file") => Credential::File(map.next_value()?),
                    Some(other) => return Err(de::Error::unknown_field(other, &["env", "file"])),
                    None => return Err(de::Error::invalid_length(0, &self)),
                };
                match map.next_key::<String>()? {
                    None => Ok(found),
                    Some(_) => Err(de::Error::custom("a credential has one source")),
                }
            }
        }
        deserializer.deserialize_any(Source)
    }
}

/// How the text of a variable is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Whole,
    /// `true` or `1`, `false` or `0`.
    Flag,
    /// Words, separated by commas.
    Words,
}

/// Every setting that is one value, and so has a variable. Providers and routes are lists and have
/// none.
pub(crate) const VALUES: &[(&str, Kind)] = &[
    ("listen", Kind::Text),
    ("data", Kind::Text),
    ("keys", Kind::Text),
    ("without-keys", Kind::Words),
    ("default-region", Kind::Text),
    ("public-url", Kind::Text),
    ("log", Kind::Text),
    ("open", Kind::Flag),
    ("watch", Kind::Text),
    ("otp.digits", Kind::Whole),
    ("otp.valid-seconds", Kind::Whole),
    ("otp.tries", Kind::Whole),
    ("otp.same-code-seconds", Kind::Whole),
    ("otp.sends-per-minute", Kind::Whole),
    ("otp.sends-per-hour", Kind::Whole),
    ("otp.sends-per-day", Kind::Whole),
    ("otp.misses-per-hour", Kind::Whole),
    ("otp.misses-per-day", Kind::Whole),
    ("otp.sends-per-minute-per-address", Kind::Whole),
    ("otp.sends-per-hour-per-address", Kind::Whole),
    ("otp.purposes", Kind::Words),
    ("otp.text", Kind::Text),
    ("otp.segments-max", Kind::Whole),
    ("otp.domain", Kind::Text),
    ("otp.app-hash", Kind::Text),
    ("two-factor.issuer", Kind::Text),
    ("two-factor.audience", Kind::Text),
    ("two-factor.proof-seconds", Kind::Whole),
    ("two-factor.login-token-seconds", Kind::Whole),
    ("two-factor.enrolment-token-seconds", Kind::Whole),
    ("two-factor.name", Kind::Text),
    ("two-factor.enrolment-seconds", Kind::Whole),
    ("two-factor.enrolments-per-number-per-day", Kind::Whole),
    ("two-factor.totp-misses-per-quarter-hour", Kind::Whole),
    ("two-factor.totp-misses-per-day", Kind::Whole),
    ("two-factor.backup-misses-per-quarter-hour", Kind::Whole),
    ("two-factor.backup-misses-per-day", Kind::Whole),
    ("two-factor.backup-codes", Kind::Whole),
    ("two-factor.backup-memory-kib", Kind::Whole),
    ("two-factor.backup-passes", Kind::Whole),
    ("two-factor.misses-before-notice", Kind::Whole),
    ("two-factor.notice-backup-code", Kind::Text),
    ("two-factor.notice-number", Kind::Text),
    ("two-factor.notice-disabled", Kind::Text),
    ("two-factor.notice-failures", Kind::Text),
    ("audit.days", Kind::Whole),
    ("messages.days", Kind::Whole),
    ("analytics.currency", Kind::Text),
    ("store.reserve-bytes", Kind::Whole),
    ("queue.capacity", Kind::Whole),
    ("queue.reserved-percent", Kind::Whole),
    ("queue.caller-percent", Kind::Whole),
    ("delivery.concurrency", Kind::Whole),
    ("delivery.in-hand", Kind::Whole),
    ("delivery.backoff-base-ms", Kind::Whole),
    ("delivery.backoff-max-ms", Kind::Whole),
    ("delivery.breaker-failures", Kind::Whole),
    ("delivery.breaker-base-ms", Kind::Whole),
    ("delivery.breaker-max-ms", Kind::Whole),
    ("http.connections-max", Kind::Whole),
    ("http.header-seconds", Kind::Whole),
    ("http.header-bytes-max", Kind::Whole),
    ("http.body-seconds", Kind::Whole),
    ("http.body-bytes-max", Kind::Whole),
    ("http.request-seconds", Kind::Whole),
    ("http.callbacks-max", Kind::Whole),
    ("http.callback-bytes-max", Kind::Whole),
    ("http.idle-seconds", Kind::Whole),
    ("http.stop-seconds", Kind::Whole),
    ("idempotency.keys-per-day", Kind::Whole),
    ("idempotency.in-flight", Kind::Whole),
    ("components.versions-kept", Kind::Whole),
    ("components.trial-seconds", Kind::Whole),
    ("components.bytes-max", Kind::Whole),
    ("components.compile-seconds", Kind::Whole),
    ("limits.service-time-ms", Kind::Whole),
    ("limits.provider-time-ms", Kind::Whole),
    ("limits.callback-time-ms", Kind::Whole),
    ("limits.service-wall-ms", Kind::Whole),
    ("limits.provider-wall-ms", Kind::Whole),
    ("limits.epoch-ms", Kind::Whole),
    ("limits.memory-bytes", Kind::Whole),
    ("limits.hostcall-bytes", Kind::Whole),
    ("limits.stack-bytes", Kind::Whole),
    ("limits.handles", Kind::Whole),
    ("limits.idle-instances", Kind::Whole),
    ("limits.table-elements", Kind::Whole),
    ("limits.instances", Kind::Whole),
    ("limits.service-calls", Kind::Whole),
    ("limits.service-waiting", Kind::Whole),
    ("limits.service-wait-ms", Kind::Whole),
    ("limits.subject-waiting", Kind::Whole),
    ("limits.hashes", Kind::Whole),
    ("limits.hashes-waiting", Kind::Whole),
    ("limits.instance-calls", Kind::Whole),
    ("limits.runs", Kind::Whole),
    ("limits.hold-ms", Kind::Whole),
    ("limits.log-lines", Kind::Whole),
    ("limits.log-line-bytes", Kind::Whole),
    ("limits.http-requests", Kind::Whole),
    ("limits.http-request-ms", Kind::Whole),
    ("limits.http-connect-ms", Kind::Whole),
    ("limits.http-body-bytes", Kind::Whole),
];

/// The variable of the setting `key`.
pub(crate) fn variable(key: &str) -> String {
    let name = key.replace(['.', '-'], "_").to_ascii_uppercase();
    format!("COUNTERSIGN_{name}")
}
