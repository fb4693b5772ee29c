//! Settings that are allowed and have no effect beside the others: most likely something else was meant.

use std::time::Duration;

use countersign_delivery::Route;
use countersign_types::NumberKind;

use super::provider::{Provider, TWILIO_VARIABLES};
use super::settings::Credential;
use super::{API_KEY, ConfigError, Environment, Merged, PublicUrl};

/// `callback` in Vonage's `sms.yml`; its component refuses to send with a longer one.
const VONAGE_CALLBACK_BYTES_MAX: usize = 100;

/// A line for each of them.
///
/// # Errors
///
/// When a variable is not text.
pub(super) fn missing(
    merged: &Merged,
    environment: &Environment,
    providers: &[Provider],
    routes: &[Route],
    public_url: Option<&PublicUrl>,
) -> Result<Vec<String>, ConfigError> {
    let mut found = of_twilio(merged, environment)?;
    if merged.settings.open && environment.get(API_KEY)?.is_some() {
        found.push(format!("open has no effect: {API_KEY} gives a key"));
    }
    found.extend(of_providers(merged, providers, public_url));
    found.extend(of_routes(providers, routes));
    found.extend(of_windows(merged));
    found.extend(of_smaller_bounds(merged));
    Ok(found)
}

/// Twilio's variables, where the file has providers: they are for who has no file.
fn of_twilio(merged: &Merged, environment: &Environment) -> Result<Vec<String>, ConfigError> {
    let entries = &merged.settings.provider;
    let is_read = |name: &str| {
        let mut credentials = entries.iter().flat_map(|entry| entry.credentials.values());
        credentials.any(|source| matches!(source, Credential::Env(variable) if variable == name))
    };
    let mut found = Vec::new();
    for name in TWILIO_VARIABLES {
        if entries.is_empty() || is_read(name) || environment.get(name)?.is_none() {
            continue;
        }
        found.push(format!(
            "the variable {name} has no effect: it is not read where the file has [[provider]] entries"
        ));
    }
    Ok(found)
}

fn of_providers(
    merged: &Merged,
    providers: &[Provider],
    public_url: Option<&PublicUrl>,
) -> Vec<String> {
    let mut found = Vec::new();
    let entries = &merged.settings.provider;
    let all_have = !entries.is_empty() && entries.iter().all(|entry| entry.concurrency.is_some());
    if all_have && merged.is_set("delivery.concurrency") {
        let text = "delivery.concurrency has no effect: every [[provider]] has its own concurrency";
        found.push(text.to_owned());
    }
    let in_hand = merged.settings.delivery.in_hand;
    for provider in providers {
        let name = &provider.name;
        if provider.concurrency as u64 > in_hand {
            found.push(format!(
                "the provider `{name}` is never handed its {} messages at once: delivery.in-hand is {in_hand}",
                provider.concurrency
            ));
        }
        if provider.is_console() && provider.allow_hosts.is_some() {
            found.push(format!(
                "allow-hosts of the provider `{name}` has no effect: it only prints"
            ));
        }
        let callback = public_url.map(|public_url| public_url.webhook(name));
        if let Some(callback) = callback.filter(|_| provider.is_vonage())
            && callback.len() > VONAGE_CALLBACK_BYTES_MAX
        {
            found.push(format!(
                "the provider `{name}` takes no message: Vonage takes callback addresses of at most \
                 {VONAGE_CALLBACK_BYTES_MAX} bytes, and {callback} has {}; give the server a shorter \
                 public-url, or the provider a shorter name",
                callback.len()
            ));
        }
        if provider.unsigned && (provider.is_console() || public_url.is_none()) {
            let why = match provider.is_console() {
                true => "it only prints, and nobody calls back",
                false => "without public-url nobody is told where to call",
            };
            found.push(format!(
                "unsigned of the provider `{name}` has no effect: {why}"
            ));
        }
    }
    found
}

/// Providers that no route names, and routes behind one that takes everything first.
fn of_routes(providers: &[Provider], routes: &[Route]) -> Vec<String> {
    let unrouted = providers.iter().filter(|provider| {
        let mut names = routes.iter().flat_map(|route| &route.providers);
        !names.any(|name| *name == provider.name)
    });
    let mut found: Vec<String> = unrouted
        .map(|provider| {
            format!(
                "the provider `{}` is in no [[route]], so nothing is sent by it: its settings have no effect",
                provider.name
            )
        })
        .collect();
    for (index, route) in routes.iter().enumerate() {
        if route.line.is_some_and(|line| !line.can_receive()) {
            found.push(format!(
                "the route {} has no effect: no message goes to such numbers",
                index + 1
            ));
        }
        let before = routes[..index]
            .iter()
            .position(|before| takes_all_of(before, route));
        if let Some(before) = before {
            found.push(format!(
                "the route {} has no effect: the route {} takes all its messages",
                index + 1,
                before + 1
            ));
        }
    }
    found
}

/// Whether `route` takes whatever `other` would.
fn takes_all_of(route: &Route, other: &Route) -> bool {
    let line = match (route.line, other.line) {
        (Some(NumberKind::Mobile), Some(NumberKind::FixedLineOrMobile)) => true,
        (line, other) => line.is_none() || line == other,
    };
    line && (route.country.is_none() || route.country == other.country)
        && (route.priority.is_none() || route.priority == other.priority)
}

/// Limits of a longer time that are reached first.
fn of_windows(merged: &Merged) -> Vec<String> {
    let otp = &merged.settings.otp;
    // The defaults are the component's.
    let pairs = [
        (
            "sends-per-minute",
            otp.sends_per_minute,
            3,
            "sends-per-hour",
            otp.sends_per_hour,
            10,
        ),
        (
            "sends-per-hour",
            otp.sends_per_hour,
            10,
            "sends-per-day",
            otp.sends_per_day,
            50,
        ),
        (
            "misses-per-hour",
            otp.misses_per_hour,
            15,
            "misses-per-day",
            otp.misses_per_day,
            50,
        ),
        (
            "sends-per-minute-per-address",
            otp.sends_per_minute_per_address,
            10,
            "sends-per-hour-per-address",
            otp.sends_per_hour_per_address,
            60,
        ),
    ];
    let mut found = Vec::new();
    for (short, in_short, default, long, in_long, long_default) in pairs {
        let (in_short, in_long) = (in_short.unwrap_or(default), in_long.unwrap_or(long_default));
        if in_short > in_long {
            found.push(format!(
                "otp.{short} ({in_short}) has no effect: otp.{long} ({in_long}) is reached first"
            ));
        }
    }
    let valid = otp.valid_seconds.unwrap_or(600);
    if let Some(same) = otp.same_code_seconds.filter(|same| *same >= valid) {
        found.push(format!(
            "otp.same-code-seconds ({same}) has no effect: no code has so much time left, since otp.valid-seconds is {valid}"
        ));
    }
    found
}

/// Bounds that another one never lets come to bear.
fn of_smaller_bounds(merged: &Merged) -> Vec<String> {
    let settings = &merged.settings;
    let limits = settings.limits;
    let defaults = countersign_runtime::Limits::default();
    let ms = |given: Option<u64>, default: Duration| {
        given.unwrap_or_else(|| u64::try_from(default.as_millis()).unwrap_or(u64::MAX))
    };
    let service_wall = ms(limits.service_wall_ms, defaults.service_wall);
    let provider_wall = ms(limits.provider_wall_ms, defaults.provider_wall);
    let http_request = ms(limits.http_request_ms, defaults.http_request);
    let delivery = &settings.delivery;
    let http = &settings.http;
    let pairs = [
        (
            ("delivery.backoff-base-ms", delivery.backoff_base_ms),
            ("delivery.backoff-max-ms", delivery.backoff_max_ms),
        ),
        (
            ("http.body-seconds", http.body_seconds),
            ("http.request-seconds", http.request_seconds),
        ),
        (
            (
                "limits.service-time-ms",
                ms(limits.service_time_ms, defaults.service_time),
            ),
            ("limits.service-wall-ms", service_wall),
        ),
        (
            (
                "limits.service-wait-ms",
                ms(limits.service_wait_ms, defaults.service_wait),
            ),
            ("limits.service-wall-ms", service_wall),
        ),
        (
            ("limits.hold-ms", ms(limits.hold_ms, defaults.hold)),
            ("limits.service-wall-ms", service_wall),
        ),
        (
            (
                "limits.provider-time-ms",
                ms(limits.provider_time_ms, defaults.provider_time),
            ),
            ("limits.provider-wall-ms", provider_wall),
        ),
        (
            ("limits.http-request-ms", http_request),
            ("limits.provider-wall-ms", provider_wall),
        ),
        (
            (
                "limits.http-connect-ms",
                ms(limits.http_connect_ms, defaults.http_connect),
            ),
            ("limits.http-request-ms", http_request),
        ),
    ];
    let mut found: Vec<String> = pairs
        .into_iter()
        .filter(|((_, inner), (_, outer))| inner > outer)
        .map(|((inner, value), (outer, bound))| {
            format!("{inner} ({value}) has no effect: {outer} ({bound}) is over first")
        })
        .collect();
    let off = [
        (
            "limits.log-line-bytes",
            limits.log_lines,
            "limits.log-lines",
        ),
        (
            "limits.service-wait-ms",
            limits.service_waiting,
            "limits.service-waiting",
        ),
    ];
    for (key, switch, name) in off {
        if switch == Some(0) && merged.is_set(key) {
            found.push(format!("{key} has no effect: {name} is 0"));
        }
    }
    found
}
