//! Which hosts a provider may call.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::ProviderConfig;
use super::spellings::SECRET_BYTES_MIN;

/// Why a provider cannot be given what it is configured for.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// An entry of `allow-hosts` is no host.
    #[error("`{entry}` in the hosts of the provider `{provider}` is no `name` or `name:port`")]
    NoHost {
        /// The provider's configured name.
        provider: String,
        /// The entry.
        entry: String,
    },
    /// The component asks for an address of the operator's own network.
    #[error(
        "the component of the provider `{provider}` asks for `{entry}`, an address that is not on the Internet; if that is right, write it into `allow-hosts`"
    )]
    OwnNetwork {
        /// The provider's configured name.
        provider: String,
        /// The entry.
        entry: String,
    },
    /// `base-url` is no URL that may be called.
    #[error("the `base-url` of the provider `{provider}` cannot be used: {reason}")]
    BaseUrl {
        /// The provider's configured name.
        provider: String,
        /// Why not, and what can be.
        reason: String,
    },
    /// The component needs a setting or credential that is not configured.
    #[error("the provider `{provider}` needs the {kind} `{name}`: {description}")]
    Missing {
        /// The provider's configured name.
        provider: String,
        /// `setting` or `credential`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What the component says of it.
        description: String,
    },
    /// Something is configured that the component does not know: most likely misspelt.
    #[error("the provider `{provider}` has no {kind} `{name}`; it knows: {known}")]
    Unknown {
        /// The provider's configured name.
        provider: String,
        /// `setting` or `credential`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// All that the component asks for.
        known: String,
    },
    /// A credential is so short that it could not be told from other text, and so not be kept out of logs.
    #[error(
        "the credential `{name}` of the provider `{provider}` has fewer than {SECRET_BYTES_MIN} bytes; give it the whole one, or take it out where the provider wants none"
    )]
    ShortCredential {
        /// The provider's configured name.
        provider: String,
        /// The credential's name.
        name: String,
    },
    /// The HTTP client cannot be had.
    #[error("the provider `{provider}` has no HTTP client: {reason}")]
    Client {
        /// The provider's configured name.
        provider: String,
        /// Why.
        reason: String,
    },
}

/// Refuses credentials that could not be found again in other people's text.
pub(super) fn check_credentials(config: &ProviderConfig) -> Result<(), GrantError> {
    let mut credentials = config.credentials.iter();
    match credentials.find(|(_, secret)| secret.expose().len() < SECRET_BYTES_MIN) {
        None => Ok(()),
        Some((name, _)) => Err(GrantError::ShortCredential {
            provider: config.name.clone(),
            name: name.clone(),
        }),
    }
}

/// A setting or credential that a component takes.
#[derive(Clone, Debug)]
pub struct ProviderNeed {
    /// Its name.
    pub name: String,
    /// What the component says of it, for the operator.
    pub description: String,
    /// Whether it does nothing without.
    pub required: bool,
}

/// The hosts that a component's own manifest may grant it: none in the operator's network, which only
/// the operator opens.
pub(super) fn from_manifest(
    config: &ProviderConfig,
    hosts: Vec<String>,
) -> Result<Vec<String>, GrantError> {
    for entry in &hosts {
        let address = parse(entry).and_then(|allowed| match allowed.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
        });
        if address.is_some_and(is_private) {
            return Err(GrantError::OwnNetwork {
                provider: config.name.clone(),
                entry: entry.clone(),
            });
        }
    }
    Ok(hosts)
}

/// Whether everything that the component requires is configured, and nothing that it does not know.
pub(super) fn check_needs(
    config: &ProviderConfig,
    settings: &[ProviderNeed],
    credentials: &[ProviderNeed],
) -> Result<(), GrantError> {
    let missing = |kind, need: &ProviderNeed| GrantError::Missing {
        provider: config.name.clone(),
        kind,
        name: need.name.clone(),
        description: need.description.clone(),
    };
    let configured = config
        .settings
        .iter()
        .map(|(name, _)| ("setting", name, settings));
    let secrets = config
        .credentials
        .iter()
        .map(|(name, _)| ("credential", name, credentials));
    for (kind, name, needs) in configured.chain(secrets) {
        if !needs.iter().any(|need| need.name == *name) {
            let known: Vec<_> = needs
                .iter()
                .map(|need| format!("`{}`", need.name))
                .collect();
            return Err(GrantError::Unknown {
                provider: config.name.clone(),
                kind,
                name: name.clone(),
                known: if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                },
            });
        }
    }
    for need in settings.iter().filter(|need| need.required) {
        if !config.settings.iter().any(|(name, _)| *name == need.name) {
            return Err(missing("setting", need));
        }
    }
    for need in credentials.iter().filter(|need| need.required) {
        if !config
            .credentials
            .iter()
            .any(|(name, _)| *name == need.name)
        {
            return Err(missing("credential", need));
        }
    }
    Ok(())
}

/// One granted host, with its port where it is a certain one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Allowed {
    host: Host<String>,
    port: Option<u16>,
}

/// The hosts that a provider may call.
#[derive(Clone, Debug)]
pub(super) struct Grant(Vec<Allowed>);

impl Grant {
    pub(super) fn new(config: &ProviderConfig, hosts: &[String]) -> Result<Grant, GrantError> {
        let mut allowed = Vec::new();
        for entry in hosts {
            allowed.push(parse(entry).ok_or_else(|| GrantError::NoHost {
                provider: config.name.clone(),
                entry: entry.clone(),
            })?);
        }
        let mut grant = Grant(allowed);
        let base = config.settings.iter().find(|(name, _)| name == "base-url");
        if let Some((_, base)) = base {
            let unusable = |reason: String| GrantError::BaseUrl {
                provider: config.name.clone(),
                reason,
            };
            let url = Url::parse(base).map_err(|error| unusable(error.to_string()))?;
            let host = url
                .host()
                .ok_or_else(|| unusable("it names no host".to_owned()))?;
            grant.0.push(Allowed {
                host: host.to_owned(),
                port: url.port_or_known_default(),
            });
            grant.check(&url).map_err(unusable)?;
        }
        Ok(grant)
    }

    /// Whether `url` may be called, or why not.
    pub(super) fn check(&self, url: &Url) -> Result<(), String> {
        let Some(host) = url.host() else {
            return Err("the URL names no host".to_owned());
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the URL carries user information".to_owned());
        }
        let port = url.port_or_known_default();
        let granted = self.0.iter().any(|allowed| {
            allowed.host == host.to_owned() && allowed.port.is_none_or(|only| Some(only) == port)
        });
        if !granted {
            return Err(format!("the host `{host}` is not granted to this provider"));
        }
        let address = match host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
        };
        match url.scheme() {
            "https" => Ok(()),
            // Without TLS only where the operator has named the very address of a private network.
            "http" if address.is_some_and(is_private) => Ok(()),
            "http" => Err(format!(
                "`http://{host}` would send credentials in the clear; use `https://`, or the literal \
                 loopback address, for example `http://127.0.0.1:4010`"
            )),
            other => Err(format!(
                "the scheme `{other}` is neither `https` nor `http`"
            )),
        }
    }
}

fn parse(entry: &str) -> Option<Allowed> {
    // As the authority of a URL, so that case, IDNA and IPv6 are read as everywhere else. The scheme
    // has no default port, so that one that was given is not lost.
    let url = Url::parse(&format!("grant://{entry}")).ok()?;
    let bare = url.username().is_empty() && url.password().is_none();
    if !bare || !matches!(url.path(), "" | "/") || url.query().is_some() {
        return None;
    }
    // A scheme that is not special leaves the host as it was written.
    let host = Host::parse(url.host_str()?).ok()?;
    Some(Allowed {
        host,
        port: url.port(),
    })
}

/// Whether `address` belongs to a network that is not the Internet: loopback, private, link-local,
/// shared, documentation, multicast, and what maps or tunnels to them (IANA special-purpose
/// registries, RFC 6890).
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_unspecified()
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        // Shared address space (RFC 6598), IETF protocol assignments, benchmarking (RFC 2544).
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_private_v4(mapped);
    }
    let segments = address.segments();
    // NAT64 (RFC 6052) and 6to4 (RFC 3056) carry an IPv4 address.
    let [_, _, _, _, _, _, high, low] = segments;
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_private_v4(Ipv4Addr::new(a, b, c, d))
    };
    if segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return embedded(high, low);
    }
    if segments[0] == 0x2002 {
        return embedded(segments[1], segments[2]);
    }
    // Only 2000::/3 is given out for the Internet; of it 2001::/23 and the documentation ranges are
    // not.
    segments[0] & 0xe000 != 0x2000
        || (segments[0] == 0x2001 && segments[1] < 0x200)
        || (segments[0] == 0x2001 && segments[1] == 0xdb8)
        || (segments[0] == 0x3fff && segments[1] < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(hosts: &[&str], base: Option<&str>) -> Result<Grant, GrantError> {
        let config = ProviderConfig {
            component_name: "p".into(),
            name: "p".into(),
            component: Vec::new(),
            settings: base
                .map(|base| ("base-url".into(), base.into()))
                .into_iter()
                .collect(),
            credentials: Vec::new(),
            allow_hosts: None,
            terminal: false,
            unsigned: false,
            own: false,
        };
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        Grant::new(&config, &hosts)
    }

    #[track_caller]
    fn check(grant: &Grant, url: &str, allowed: bool) {
        let answer = grant.check(&Url::parse(url).expect("a URL"));
        assert_eq!(answer.is_ok(), allowed, "{url}: {answer:?}");
    }

    #[test]
    fn only_granted_hosts_over_tls() {
        let grant = grant(&["api.twilio.com", "other.example:8443"], None).expect("granted");
        check(&grant, "https://api.twilio.com/x", true);
        check(&grant, "https://API.twilio.com:444/x", true);
        check(&grant, "https://other.example:8443/", true);
        check(&grant, "https://other.example/", false);
        check(&grant, "https://api.twilio.com.evil.example/", false);
        check(&grant, "http://api.twilio.com/", false);
        check(&grant, "https://user:pass@api.twilio.com/", false);
        check(&grant, "ftp://api.twilio.com/", false);
        check(&grant, "https://127.0.0.1/", false);
    }

    #[test]
    fn a_base_url_is_granted_with_its_port() {
        let grant = grant(&[], Some("http://127.0.0.1:4010")).expect("granted");
        check(&grant, "http://127.0.0.1:4010/x", true);
        check(&grant, "http://127.0.0.1:4011/x", false);
        check(&grant, "http://localhost:4010/x", false);
    }

    #[test]
    fn http_is_for_literal_private_addresses_only() {
        for base in [
            "http://localhost:4010",
            "http://example.com",
            "http://8.8.8.8",
            "nonsense",
        ] {
            assert!(
                matches!(grant(&[], Some(base)), Err(GrantError::BaseUrl { .. })),
                "{base}"
            );
        }
        assert!(grant(&["[::1]:99"], Some("http://[::1]:99")).is_ok());
    }

    #[test]
    fn an_entry_that_is_no_host_is_refused() {
        for entry in ["", "a/b", "a b", "user@host", "http://x"] {
            assert!(grant(&[entry], None).is_err(), "{entry}");
        }
    }

    #[test]
    fn a_manifest_opens_no_door_into_the_operators_network() {
        let config = ProviderConfig {
            component_name: "p".into(),
            name: "p".into(),
            component: Vec::new(),
            settings: Vec::new(),
            credentials: Vec::new(),
            allow_hosts: None,
            terminal: false,
            unsigned: false,
            own: false,
        };
        for host in ["127.0.0.1", "169.254.169.254:80", "[::1]"] {
            let refused = from_manifest(&config, vec![host.into()]);
            assert!(
                matches!(refused, Err(GrantError::OwnNetwork { .. })),
                "{host}"
            );
        }
        assert!(from_manifest(&config, vec!["api.example.com".into()]).is_ok());
    }

    #[test]
    fn private_addresses_are_known_in_every_dress() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "255.255.255.255",
        ] {
            assert!(
                is_private(address.parse().expect("an address")),
                "{address}"
            );
        }
        for address in ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"] {
            assert!(
                !is_private(address.parse().expect("an address")),
                "{address}"
            );
        }
    }
}
