//! The bounds of settings that are numbers, lists and texts.

use std::time::Duration;

use countersign_delivery::BreakerTerms;
use countersign_runtime::RegistrySettings;
use countersign_types::is_control;

use super::{
    ConfigError, Delivery, Http, LedgerLimits, Limits, Merged, PublicUrl, QueueRoom, TwoFactor,
    as_size, code_message,
};
use crate::users::{ProofSettings, TokenSettings};

/// The most that `components.bytes-max` can be.
pub(crate) const COMPONENT_BYTES_MOST: u64 = 1 << 28;

/// The bounds are those of the component, told at the start instead of at the first call.
pub(super) fn otp(merged: &Merged) -> Result<Vec<(String, String)>, ConfigError> {
    let otp = &merged.settings.otp;
    let numbers = [
        ("digits", otp.digits, 6..=10),
        ("valid-seconds", otp.valid_seconds, 1..=600),
        ("tries", otp.tries, 1..=5),
        ("same-code-seconds", otp.same_code_seconds, 1..=600),
        ("sends-per-minute", otp.sends_per_minute, 1..=1_000),
        ("sends-per-hour", otp.sends_per_hour, 1..=1_000),
        ("sends-per-day", otp.sends_per_day, 1..=1_000),
        ("misses-per-hour", otp.misses_per_hour, 1..=1_000),
        ("misses-per-day", otp.misses_per_day, 1..=1_000),
        (
            "sends-per-minute-per-address",
            otp.sends_per_minute_per_address,
            1..=1_000_000,
        ),
        (
            "sends-per-hour-per-address",
            otp.sends_per_hour_per_address,
            1..=1_000_000,
        ),
    ];
    let mut pairs = Vec::new();
    for (name, value, range) in numbers {
        if let Some(value) = value {
            merged.whole(&format!("otp.{name}"), value, range)?;
            pairs.push((name.to_owned(), value.to_string()));
        }
    }
    if let Some(purposes) = &otp.purposes {
        if let Err((must, word)) = check_purposes(purposes) {
            return Err(merged.wrong("otp.purposes", must, word));
        }
        pairs.push(("purposes".to_owned(), purposes.join(",")));
    }
    if let Some(text) = &otp.text {
        check_text(text).map_err(|must| merged.wrong("otp.text", must, None))?;
        pairs.push(("text".to_owned(), text.clone()));
    }
    pairs.extend(code_message::last_lines(merged)?);
    Ok(pairs)
}

fn check_purposes(purposes: &[String]) -> Result<(), (&'static str, Option<String>)> {
    let is_purpose = |word: &&String| {
        (1..=64).contains(&word.len())
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    if !(1..=16).contains(&purposes.len()) {
        return Err(("must be 1 to 16 words", None));
    }
    if let Some(word) = purposes.iter().find(|word| !is_purpose(word)) {
        let must = "must be words of 1 to 64 letters, digits, `-`, `_` or `.`";
        return Err((must, Some(word.clone())));
    }
    let reserved = ["login", "enrolment", "enrollment"];
    match purposes
        .iter()
        .find(|word| reserved.contains(&word.as_str()))
    {
        Some(word) => Err((
            "must not name what only two-factor sends codes for",
            Some(word.clone()),
        )),
        None => Ok(()),
    }
}

fn check_text(text: &str) -> Result<(), &'static str> {
    let rest = text.replace("{code}", "").replace("{minutes}", "");
    let steers = |c: char| is_control(c) && c != '\n';
    if !(1..=1_600).contains(&text.len()) {
        Err("must have 1 to 1600 bytes")
    } else if !text.contains("{code}") {
        Err("must contain `{code}`")
    } else if rest.contains(['{', '}']) {
        Err("must contain no braces but `{code}` and `{minutes}`")
    } else if text.contains(steers) {
        Err(
            "must have no control characters but line ends, and none that turns the direction of text",
        )
    } else {
        Ok(())
    }
}

pub(super) fn components(merged: &Merged) -> Result<RegistrySettings, ConfigError> {
    let given = &merged.settings.components;
    let whole = |key, value, range| merged.whole(key, value, range);
    let seconds = |key, value, range| whole(key, value, range).map(Duration::from_secs);
    Ok(RegistrySettings {
        kept: as_size(whole(
            "components.versions-kept",
            given.versions_kept,
            1..=100,
        )?),
        trial: seconds("components.trial-seconds", given.trial_seconds, 0..=86_400)?,
        bytes_max: whole(
            "components.bytes-max",
            given.bytes_max,
            1_024..=COMPONENT_BYTES_MOST,
        )?,
        compile: seconds(
            "components.compile-seconds",
            given.compile_seconds,
            1..=3_600,
        )?,
    })
}

pub(super) fn queue(merged: &Merged) -> Result<QueueRoom, ConfigError> {
    let queue = &merged.settings.queue;
    let size = |key, value, range| merged.whole(key, value, range).map(as_size);
    Ok(QueueRoom {
        capacity: size("queue.capacity", queue.capacity, 1..=10_000_000)?,
        reserved_percent: size("queue.reserved-percent", queue.reserved_percent, 0..=90)?,
        caller_percent: size("queue.caller-percent", queue.caller_percent, 1..=100)?,
        kept: messages_kept(merged)?,
    })
}

pub(super) fn two_factor(
    merged: &Merged,
    public_url: Option<&PublicUrl>,
) -> Result<TwoFactor, ConfigError> {
    let given = &merged.settings.two_factor;
    let seconds = |key, value, range| {
        let value = merged.whole(key, value, range)?;
        Ok::<_, ConfigError>(Duration::from_secs(value))
    };
    let issuer = match &given.issuer {
        Some(issuer) => text(merged, "two-factor.issuer", issuer, 255)?,
        None => public_url.map_or_else(|| "countersign".to_owned(), PublicUrl::to_string),
    };
    let audience = given.audience.as_ref();
    let audience = audience.map(|audience| text(merged, "two-factor.audience", audience, 255));
    Ok(TwoFactor {
        proofs: ProofSettings {
            audience: audience.transpose()?.unwrap_or_else(|| issuer.clone()),
            issuer,
            time: seconds("two-factor.proof-seconds", given.proof_seconds, 10..=300)?,
        },
        tokens: TokenSettings {
            login: seconds(
                "two-factor.login-token-seconds",
                given.login_token_seconds,
                10..=3_600,
            )?,
            enroll: seconds(
                "two-factor.enrolment-token-seconds",
                given.enrolment_token_seconds,
                10..=86_400,
            )?,
        },
    })
}

/// What the component `two-factor` is set to; the bounds are its own, told at the start instead of at the
/// first call.
pub(super) fn two_factor_component(merged: &Merged) -> Result<Vec<(String, String)>, ConfigError> {
    let given = &merged.settings.two_factor;
    let numbers = [
        ("enrolment-seconds", given.enrolment_seconds, 60..=3_600),
        (
            "enrolments-per-number-per-day",
            given.enrolments_per_number_per_day,
            1..=1_000,
        ),
        (
            "totp-misses-per-quarter-hour",
            given.totp_misses_per_quarter_hour,
            1..=100,
        ),
        ("totp-misses-per-day", given.totp_misses_per_day, 1..=100),
        (
            "backup-misses-per-quarter-hour",
            given.backup_misses_per_quarter_hour,
            1..=100,
        ),
        (
            "backup-misses-per-day",
            given.backup_misses_per_day,
            1..=100,
        ),
        ("backup-codes", given.backup_codes, 1..=20),
        (
            "backup-memory-kib",
            given.backup_memory_kib,
            1_024..=262_144,
        ),
        ("backup-passes", given.backup_passes, 1..=16),
        ("misses-before-notice", given.misses_before_notice, 1..=100),
    ];
    let mut pairs = Vec::new();
    for (name, value, range) in numbers {
        if let Some(value) = value {
            merged.whole(&format!("two-factor.{name}"), value, range)?;
            pairs.push((name.to_owned(), value.to_string()));
        }
    }
    let texts = [
        ("notice-backup-code", &given.notice_backup_code, "{left}"),
        ("notice-number", &given.notice_number, ""),
        ("notice-disabled", &given.notice_disabled, ""),
        ("notice-failures", &given.notice_failures, ""),
    ];
    for (name, text, place) in texts {
        if let Some(text) = text {
            let must = match text.len() > 1_600 {
                true => Some("must have at most 1600 bytes"),
                false => text
                    .replace(place, "")
                    .contains(['{', '}'])
                    .then_some("must contain no braces, but `{left}` in `notice-backup-code`"),
            };
            if let Some(must) = must {
                return Err(merged.wrong(&format!("two-factor.{name}"), must, None));
            }
            pairs.push((name.to_owned(), text.clone()));
        }
    }
    Ok(pairs)
}

/// How long messages are kept after their end: longer than a receipt is waited for.
fn messages_kept(merged: &Merged) -> Result<Duration, ConfigError> {
    let days = merged.whole("messages.days", merged.settings.messages.days, 4..=3_650)?;
    Ok(Duration::from_secs(days * 24 * 3_600))
}

/// How long records of the audit trail are kept.
pub(super) fn audit_kept(merged: &Merged) -> Result<Duration, ConfigError> {
    let days = merged.whole("audit.days", merged.settings.audit.days, 1..=3_650)?;
    Ok(Duration::from_secs(days * 24 * 3_600))
}

/// What authenticator apps call this service.
pub(super) fn two_factor_name(merged: &Merged) -> Result<String, ConfigError> {
    let name = text(
        merged,
        "two-factor.name",
        &merged.settings.two_factor.name,
        64,
    )?;
    if name.contains(':') {
        let must = "must have no colon: authenticator apps take it for the end of the name";
        return Err(merged.wrong("two-factor.name", must, Some(name)));
    }
    Ok(name)
}

fn text(merged: &Merged, key: &str, text: &str, bytes_max: usize) -> Result<String, ConfigError> {
    if (1..=bytes_max).contains(&text.len()) && !text.contains(is_control) {
        return Ok(text.to_owned());
    }
    let must = format!("must have 1 to {bytes_max} bytes and no control characters");
    Err(merged.wrong(key, must, Some(text.escape_debug().to_string())))
}

pub(super) fn delivery(merged: &Merged) -> Result<Delivery, ConfigError> {
    let delivery = &merged.settings.delivery;
    let span = |key, value| {
        let value = merged.whole(key, value, 1..=600_000)?;
        Ok::<_, ConfigError>(Duration::from_millis(value))
    };
    let failures = delivery.breaker_failures;
    let failures = merged.whole("delivery.breaker-failures", failures, 1..=1_000)?;
    Ok(Delivery {
        in_hand: as_size(merged.whole("delivery.in-hand", delivery.in_hand, 1..=100_000)?),
        backoff_base: span("delivery.backoff-base-ms", delivery.backoff_base_ms)?,
        backoff_max: span("delivery.backoff-max-ms", delivery.backoff_max_ms)?,
        breaker: BreakerTerms {
            failures: u32::try_from(failures).unwrap_or(u32::MAX),
            pause: span("delivery.breaker-base-ms", delivery.breaker_base_ms)?,
            pause_max: span("delivery.breaker-max-ms", delivery.breaker_max_ms)?,
        },
    })
}

pub(super) fn limits(merged: &Merged) -> Result<Limits, ConfigError> {
    let limits = merged.settings.limits;
    let numbers = [
        ("service-time-ms", limits.service_time_ms, 1..=60_000),
        ("provider-time-ms", limits.provider_time_ms, 1..=60_000),
        ("callback-time-ms", limits.callback_time_ms, 1..=60_000),
        ("service-wall-ms", limits.service_wall_ms, 10..=600_000),
        ("provider-wall-ms", limits.provider_wall_ms, 10..=600_000),
        ("epoch-ms", limits.epoch_ms, 1..=1_000),
        (
            "memory-bytes",
            limits.memory_bytes,
            1_048_576..=4_294_967_296,
        ),
        (
            "hostcall-bytes",
            limits.hostcall_bytes,
            65_536..=134_217_728,
        ),
        ("stack-bytes", limits.stack_bytes, 65_536..=8_388_608),
        ("handles", limits.handles, 16..=1_000_000),
        ("idle-instances", limits.idle_instances, 0..=10_000),
        ("table-elements", limits.table_elements, 1..=10_000_000),
        ("instances", limits.instances, 10..=100_000),
        ("service-calls", limits.service_calls, 1..=100_000),
        ("service-waiting", limits.service_waiting, 0..=1_000_000),
        ("service-wait-ms", limits.service_wait_ms, 1..=60_000),
        ("subject-waiting", limits.subject_waiting, 1..=100_000),
        ("hashes", limits.hashes, 1..=256),
        ("hashes-waiting", limits.hashes_waiting, 0..=100_000),
        ("instance-calls", limits.instance_calls, 1..=1_000_000),
        ("runs", limits.runs, 1..=100),
        ("hold-ms", limits.hold_ms, 1..=10_000),
        ("log-lines", limits.log_lines, 0..=10_000),
        ("log-line-bytes", limits.log_line_bytes, 16..=65_536),
        ("http-requests", limits.http_requests, 1..=8),
        ("http-request-ms", limits.http_request_ms, 1..=600_000),
        ("http-connect-ms", limits.http_connect_ms, 1..=600_000),
        ("http-body-bytes", limits.http_body_bytes, 1_024..=1_048_576),
    ];
    for (name, value, range) in numbers {
        if let Some(value) = value {
            merged.whole(&format!("limits.{name}"), value, range)?;
        }
    }
    Ok(limits)
}

pub(super) fn http(merged: &Merged) -> Result<Http, ConfigError> {
    let http = &merged.settings.http;
    let seconds = |key, value| {
        let value = merged.whole(key, value, 1..=3_600)?;
        Ok::<_, ConfigError>(Duration::from_secs(value))
    };
    let size = |key, value, range| merged.whole(key, value, range).map(as_size);
    Ok(Http {
        connections_max: size("http.connections-max", http.connections_max, 1..=1_000_000)?,
        header_time: seconds("http.header-seconds", http.header_seconds)?,
        header_bytes_max: size(
            "http.header-bytes-max",
            http.header_bytes_max,
            8_192..=1_048_576,
        )?,
        body_time: seconds("http.body-seconds", http.body_seconds)?,
        body_bytes_max: size(
            "http.body-bytes-max",
            http.body_bytes_max,
            1_024..=16_777_216,
        )?,
        request_time: seconds("http.request-seconds", http.request_seconds)?,
        install_time: components(merged)?.install_time(),
        callbacks_max: size("http.callbacks-max", http.callbacks_max, 1..=10_000)?,
        // At most what the WIT allows.
        callback_bytes_max: size(
            "http.callback-bytes-max",
            http.callback_bytes_max,
            1_024..=1_048_576,
        )?,
        idle_time: seconds("http.idle-seconds", http.idle_seconds)?,
        stop_time: seconds("http.stop-seconds", http.stop_seconds)?,
    })
}

pub(super) fn idempotency(merged: &Merged) -> Result<LedgerLimits, ConfigError> {
    let given = &merged.settings.idempotency;
    let keys = merged.whole(
        "idempotency.keys-per-day",
        given.keys_per_day,
        1..=1_000_000_000,
    )?;
    let in_flight = merged.whole("idempotency.in-flight", given.in_flight, 1..=1_000_000)?;
    Ok(LedgerLimits {
        keys_per_day: keys,
        in_flight: as_size(in_flight),
    })
}
