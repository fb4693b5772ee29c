//! Providers and routes: which components send, with what, to where.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use countersign_delivery::Route;
use countersign_runtime::{is_private, is_region};
use countersign_types::Secret;
use url::{Host, Url};

use super::settings::{self, Credential};
use super::{ConfigError, Environment, MessageKind, as_size};

/// The built-in component that prints messages to the terminal.
const BUILT_IN_CONSOLE: &str = "provider-console";
/// The built-in component that speaks Twilio's Messages API.
pub(super) const BUILT_IN_TWILIO: &str = "provider-twilio";
/// The built-in component that speaks Telnyx's Messaging API.
const BUILT_IN_TELNYX: &str = "provider-telnyx";
/// The built-in component that speaks Vonage's SMS API.
const BUILT_IN_VONAGE: &str = "provider-vonage";
const BUILT_IN: [&str; 6] = [
    BUILT_IN_CONSOLE,
    "provider-infobip",
    BUILT_IN_TELNYX,
    BUILT_IN_TWILIO,
    BUILT_IN_VONAGE,
    "provider-webhook",
];

/// What switches Twilio on where the file has no provider.
pub(super) const TWILIO_VARIABLES: [&str; 5] = [
    "TWILIO_ACCOUNT_SID",
    "TWILIO_AUTH_TOKEN",
    "TWILIO_PHONE_NUMBER",
    "TWILIO_MESSAGING_SERVICE_SID",
    "TWILIO_BASE_URL",
];

const PROVIDERS_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 64;
/// Percent, thousandths, or whatever else the operator counts shares in.
const SHARE_MAX: u32 = 1_000_000;

/// Where the bytes of a component are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ComponentSource {
    /// In the program itself.
    BuiltIn(&'static str),
    /// In a file.
    File(PathBuf),
}

impl ComponentSource {
    /// The component's name: a file's is what stands before `.wasm`.
    pub(crate) fn component_name(&self) -> String {
        match self {
            ComponentSource::BuiltIn(name) => (*name).to_owned(),
            ComponentSource::File(path) => {
                let stem = path.file_stem().unwrap_or_default();
                stem.to_string_lossy().into_owned()
            }
        }
    }
}

/// A provider that was judged.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) component: ComponentSource,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) credentials: Vec<(String, Secret<String>)>,
    /// `None`: those that the component asks for. The host of a `base-url` comes on top.
    pub(crate) allow_hosts: Option<Vec<String>>,
    pub(crate) concurrency: usize,
    /// Messages a second; `None`: as many as come.
    pub(crate) rate: Option<f64>,
    /// Whether its callbacks are believed without a signature.
    pub(crate) unsigned: bool,
}

impl Provider {
    /// Whether it is Vonage, as it is built in.
    pub(super) fn is_vonage(&self) -> bool {
        self.component == ComponentSource::BuiltIn(BUILT_IN_VONAGE)
    }

    /// Whether it only prints, so that nothing is spent and nobody is written to.
    pub(crate) fn is_console(&self) -> bool {
        self.component == ComponentSource::BuiltIn(BUILT_IN_CONSOLE)
    }
}

/// The configured providers; else Twilio where its variables are set; else the console.
pub(super) fn read(
    entries: &[settings::Provider],
    folder: &Path,
    concurrency: usize,
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Result<Vec<Provider>, ConfigError> {
    if entries.is_empty() {
        let provider = match twilio(concurrency, environment)? {
            Some(twilio) => twilio,
            None => Provider {
                name: "console".to_owned(),
                component: ComponentSource::BuiltIn(BUILT_IN_CONSOLE),
                settings: Vec::new(),
                credentials: Vec::new(),
                allow_hosts: None,
                concurrency,
                rate: None,
                unsigned: false,
            },
        };
        return Ok(vec![provider]);
    }
    let mut providers: Vec<Provider> = Vec::new();
    for entry in entries {
        let wrong = |reason: &str| failed(&entry.name, reason, None);
        if providers.len() == PROVIDERS_MAX {
            return Err(wrong(&format!("there are more than {PROVIDERS_MAX}")));
        }
        if !is_name(&entry.name) {
            return Err(wrong(
                "its name must be 1 to 64 lower-case letters, digits and hyphens",
            ));
        }
        if providers.iter().any(|other| other.name == entry.name) {
            return Err(wrong("there are two of that name"));
        }
        providers.push(judge(entry, folder, concurrency, environment, warnings)?);
    }
    Ok(providers)
}

fn judge(
    entry: &settings::Provider,
    folder: &Path,
    concurrency: usize,
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Result<Provider, ConfigError> {
    let settings = entry.settings.iter();
    let settings = settings.map(|(name, value)| (name.clone(), value.to_string()));
    let mut credentials = Vec::new();
    for (name, source) in &entry.credentials {
        let value = credential(&entry.name, name, source, folder, environment)?;
        if matches!(source, Credential::Literal(_)) {
            warnings.push(format!(
                "the credential `{name}` of the provider `{}` stands in the configuration file; \
                 better: {name} = {{ env = \"NAME\" }} or {{ file = \"path\" }}",
                entry.name
            ));
        }
        credentials.push((name.clone(), value));
    }
    let concurrency = match entry.concurrency {
        None => concurrency,
        Some(number @ 1..=10_000) => as_size(number),
        Some(_) => {
            return Err(failed(
                &entry.name,
                "its concurrency must be from 1 to 10000",
                None,
            ));
        }
    };
    let rate = match &entry.rate {
        None => None,
        Some(rate) if (0.01..=10_000.0).contains(&rate.0) => Some(rate.0),
        Some(_) => {
            return Err(failed(
                &entry.name,
                "its rate must be from 0.01 to 10000 messages a second",
                None,
            ));
        }
    };
    let settings: Vec<_> = settings.collect();
    check_base_url(&entry.name, "its base-url", &settings)?;
    let has = |name: &str| settings.iter().any(|(setting, _)| setting == name);
    // Without an account the component itself says what it needs.
    let one_of = match entry.component.as_str() {
        BUILT_IN_TWILIO if has("account-sid") => Some(("messaging-service-sid", "Twilio")),
        BUILT_IN_TELNYX => Some(("messaging-profile-id", "Telnyx")),
        _ => None,
    };
    if let Some((other, company)) = one_of
        && !(has("from") || has(other))
    {
        return Err(failed(
            &entry.name,
            &format!("it needs the setting `from` or `{other}`"),
            Some(&format!(
                "from = \"+15005550006\", one of your {company} numbers"
            )),
        ));
    }
    Ok(Provider {
        allow_hosts: entry.allow_hosts.clone(),
        name: entry.name.clone(),
        component: component(&entry.name, &entry.component, folder)?,
        settings,
        credentials,
        concurrency,
        rate,
        unsigned: entry.unsigned,
    })
}

/// Warns of callbacks that are believed without a signature, where any can come.
pub(super) fn warn_of_unsigned(providers: &[Provider], can_come: bool, warnings: &mut Vec<String>) {
    let unsigned = providers
        .iter()
        .filter(|provider| can_come && provider.unsigned && !provider.is_console());
    warnings.extend(unsigned.map(|provider| {
        format!(
            "the provider `{}` has unsigned = true: anybody who reaches its callback address can say \
             that a message was delivered",
            provider.name
        )
    }));
}

fn failed(provider: &str, reason: &str, help: Option<&str>) -> ConfigError {
    ConfigError::Provider {
        provider: provider.to_owned(),
        reason: reason.to_owned(),
        help: help.map(str::to_owned),
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

fn component(provider: &str, text: &str, folder: &Path) -> Result<ComponentSource, ConfigError> {
    if let Some(name) = BUILT_IN.iter().find(|name| **name == text) {
        return Ok(ComponentSource::BuiltIn(name));
    }
    let path = Path::new(text);
    if path
        .extension()
        .is_some_and(|extension| extension == "wasm")
    {
        return Ok(ComponentSource::File(folder.join(path)));
    }
    let reason = format!("no component is called `{text}`");
    let help = format!(
        "built in are {}; anything else is a path that ends in .wasm",
        BUILT_IN.join(", ")
    );
    Err(failed(provider, &reason, Some(&help)))
}

fn credential(
    provider: &str,
    name: &str,
    source: &Credential,
    folder: &Path,
    environment: &Environment,
) -> Result<Secret<String>, ConfigError> {
    let wrong = |reason: String| failed(provider, &reason, None);
    let value = match source {
        Credential::Literal(value) => value.clone(),
        Credential::Env(variable) => {
            let value = environment.get(variable)?.ok_or_else(|| {
                wrong(format!(
                    "its credential `{name}` is to come from the variable {variable}, which is not set"
                ))
            })?;
            Secret::new(value.to_owned())
        }
        Credential::File(path) => {
            let path = folder.join(path);
            let text = std::fs::read_to_string(&path).map(Secret::new);
            let text = text.map_err(|error| {
                wrong(format!(
                    "its credential `{name}` cannot be read from `{}`: {error}",
                    path.display()
                ))
            })?;
            Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned())
        }
    };
    if value.expose().is_empty() {
        return Err(wrong(format!("its credential `{name}` is empty")));
    }
    Ok(value)
}

/// Whether requests may go to the `base-url` among `settings`, if there is one; `origin` is what the
/// operator has written. The runtime grants its host and port, and checks again; here the mistake is
/// told before anything is opened.
fn check_base_url(
    provider: &str,
    origin: &str,
    settings: &[(String, String)],
) -> Result<(), ConfigError> {
    let Some((_, base)) = settings.iter().find(|(name, _)| name == "base-url") else {
        return Ok(());
    };
    judge_base_url(base)
        .map_err(|(reason, help)| failed(provider, &format!("{origin} {reason}"), Some(help)))
}

fn judge_base_url(text: &str) -> Result<(), (String, &'static str)> {
    const EXAMPLE: &str = "for example https://api.example.com or http://127.0.0.1:4010";
    let wrong = |reason: &str| Err((reason.to_owned(), EXAMPLE));
    let Ok(url) = Url::parse(text) else {
        return wrong("is not an address");
    };
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !plain {
        return wrong("must have no user, `?` or `#` in it");
    }
    match (url.scheme(), url.host()) {
        (_, None) => wrong("has no host"),
        ("https", _) => Ok(()),
        ("http", Some(Host::Ipv4(address))) if is_private(IpAddr::V4(address)) => Ok(()),
        ("http", Some(Host::Ipv6(address))) if is_private(IpAddr::V6(address)) => Ok(()),
        ("http", Some(host)) => Err((
            format!("names `{host}` with http://, which would send credentials in the clear"),
            "use https://, or a literal loopback address such as http://127.0.0.1:4010 (a name may \
             lead anywhere)",
        )),
        _ => wrong("must begin with https:// or http://"),
    }
}

/// The provider that the variables of the seed switch on.
fn twilio(concurrency: usize, environment: &Environment) -> Result<Option<Provider>, ConfigError> {
    const SENDER: &str = "TWILIO_PHONE_NUMBER (or TWILIO_MESSAGING_SERVICE_SID)";
    let account = environment.get("TWILIO_ACCOUNT_SID")?;
    let token = environment.get("TWILIO_AUTH_TOKEN")?;
    let from = environment.get("TWILIO_PHONE_NUMBER")?;
    let service = environment.get("TWILIO_MESSAGING_SERVICE_SID")?;
    let sender = from.or(service);
    let (Some(account), Some(token), Some(_)) = (account, token, sender) else {
        let wanted = [
            ("TWILIO_ACCOUNT_SID", account),
            ("TWILIO_AUTH_TOKEN", token),
            (SENDER, sender),
        ];
        let missing = wanted.iter().filter(|(_, value)| value.is_none());
        let missing: Vec<_> = missing.map(|(name, _)| (*name).to_owned()).collect();
        return if missing.len() == wanted.len() {
            Ok(None)
        } else {
            Err(ConfigError::HalfOfTwilio { missing })
        };
    };
    let settings: BTreeMap<&str, Option<&str>> = BTreeMap::from([
        ("account-sid", Some(account)),
        ("from", from),
        ("messaging-service-sid", service),
        ("base-url", environment.get("TWILIO_BASE_URL")?),
    ]);
    let settings: Vec<_> = settings
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    check_base_url("twilio", "TWILIO_BASE_URL", &settings)?;
    Ok(Some(Provider {
        allow_hosts: None,
        name: "twilio".to_owned(),
        component: ComponentSource::BuiltIn(BUILT_IN_TWILIO),
        settings,
        credentials: vec![("auth-token".to_owned(), Secret::new(token.to_owned()))],
        concurrency,
        rate: None,
        unsigned: false,
    }))
}

/// The configured routes; else one that tries all providers in their order.
pub(super) fn read_routes(
    entries: &[settings::Route],
    providers: &[Provider],
    warnings: &mut Vec<String>,
) -> Result<Vec<Route>, ConfigError> {
    if entries.is_empty() {
        return Ok(vec![Route {
            providers: providers.iter().map(|one| one.name.clone()).collect(),
            ..Route::default()
        }]);
    }
    let mut routes = Vec::new();
    for (number, entry) in (1..).zip(entries) {
        let wrong = |reason: String| ConfigError::Route { number, reason };
        if let Some(country) = entry.country.as_ref().filter(|text| !is_region(text)) {
            return Err(wrong(format!(
                "has the country `{country}`, which is no country's two capital letters (ISO 3166-1 alpha-2)"
            )));
        }
        if entry.providers.is_empty() {
            return Err(wrong("names no provider".to_owned()));
        }
        for (index, name) in entry.providers.iter().enumerate() {
            if !providers.iter().any(|provider| provider.name == *name) {
                return Err(wrong(format!(
                    "names the provider `{name}`, which no [[provider]] is called"
                )));
            }
            if entry.providers[..index].contains(name) {
                return Err(wrong(format!("names the provider `{name}` twice")));
            }
        }
        check_shares(entry).map_err(wrong)?;
        let kind = match &entry.kind {
            None => None,
            Some(word) => Some(MessageKind::of(word).ok_or_else(|| {
                wrong(format!(
                    "has the kind `{word}`, which must be login, transactional or marketing"
                ))
            })?),
        };
        routes.push(Route {
            country: entry.country.clone(),
            line: entry.number_type,
            priority: kind.map(MessageKind::priority),
            providers: entry.providers.clone(),
            shares: entry.shares.clone(),
        });
    }
    let any =
        |route: &Route| route.country.is_some() || route.line.is_some() || route.priority.is_some();
    if routes.iter().all(any) {
        warnings.push(
            "every [[route]] has a country, a number-type or a kind: messages that none of them takes \
             cannot be sent"
                .to_owned(),
        );
    }
    Ok(routes)
}

fn check_shares(entry: &settings::Route) -> Result<(), String> {
    let shares = &entry.shares;
    if shares.is_empty() {
        return Ok(());
    }
    if shares.len() != entry.providers.len() {
        return Err(format!(
            "has {} providers and {} shares: each provider needs one",
            entry.providers.len(),
            shares.len()
        ));
    }
    if shares.iter().any(|share| *share > SHARE_MAX) || shares.iter().all(|share| *share == 0) {
        return Err(format!(
            "must have shares from 0 to {SHARE_MAX}, and one of them above 0"
        ));
    }
    Ok(())
}
