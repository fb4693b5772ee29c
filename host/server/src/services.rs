//! The services as they are configured: in the server, and in a command where no server runs.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_queue::Queue;
use countersign_runtime::{
    By, Damage, DefaultVersion, InstallError, Limits, ProviderConfig, Registry, Runtime,
    RuntimeConfig, StartError,
};
use countersign_store::{Keyring, Store};
use countersign_types::{Clock, Entropy};

use crate::config::{self, Services};

/// What they work on.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) queue: Queue,
    /// For compiled components.
    pub(crate) cache: PathBuf,
    /// Where an installed component is not whole.
    pub(crate) damage: Damage,
}

/// The components that are part of this program.
const BUILT_IN: [(&str, &[u8]); 9] = [
    ("analytics", countersign_embedded::ANALYTICS),
    ("otp", countersign_embedded::OTP),
    ("provider-console", countersign_embedded::PROVIDER_CONSOLE),
    ("provider-infobip", countersign_embedded::PROVIDER_INFOBIP),
    ("provider-telnyx", countersign_embedded::PROVIDER_TELNYX),
    ("provider-twilio", countersign_embedded::PROVIDER_TWILIO),
    ("provider-vonage", countersign_embedded::PROVIDER_VONAGE),
    ("provider-webhook", countersign_embedded::PROVIDER_WEBHOOK),
    ("two-factor", countersign_embedded::TWO_FACTOR),
];

/// The component of that name that is part of this program.
pub(crate) fn built_in(component: &str) -> Option<&'static [u8]> {
    let found = BUILT_IN.iter().find(|(name, _)| *name == component);
    found.map(|(_, bytes)| *bytes)
}

/// The services, and the versions of all components.
#[derive(Clone)]
pub(crate) struct Started {
    pub(crate) runtime: Runtime,
    pub(crate) registry: Arc<Registry>,
}

/// Why the services did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServicesError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("a component cannot be used")]
    Component(#[source] InstallError),
}

/// Compiles the components, off the threads that answer: those that the operator has installed, else those
/// that come with this program.
///
/// # Errors
///
/// See [`ServicesError`].
pub(crate) async fn start(
    services: Services,
    parts: Parts,
    mut providers: Vec<ProviderConfig>,
    public_url: Option<String>,
) -> Result<Started, ServicesError> {
    let defaults = defaults(&mut providers);
    let (store, clock) = (parts.store.clone(), parts.clock.clone());
    let registry = Registry::open(store, clock, services.components, defaults, parts.damage)
        .await
        .map_err(ServicesError::Component)?;
    for provider in &mut providers {
        let (bytes, installed) = registry.bytes(&provider.component_name);
        provider.component = bytes.to_vec();
        provider.own &= !installed;
    }
    let bytes = |component| registry.bytes(component).0.to_vec();
    let config = RuntimeConfig {
        store: parts.store,
        clock: parts.clock,
        entropy: parts.entropy,
        keyring: parts.keyring,
        queue: parts.queue,
        limits: limits(services.limits),
        default_region: services.default_region,
        cache: Some(parts.cache),
        otp: bytes("otp"),
        two_factor: bytes("two-factor"),
        analytics: bytes("analytics"),
        settings: services.settings,
        texts: services.texts,
        analytics_settings: services.analytics,
        audit_kept: services.audit_kept,
        providers,
        public_url,
    };
    let runtime = match tokio::spawn(Runtime::start(config)).await {
        Ok(started) => started?,
        Err(error) => return Err(StartError::Engine(error.to_string()).into()),
    };
    let served = registry.serve(runtime.clone()).await;
    served.map_err(ServicesError::Component)?;
    Ok(Started { runtime, registry })
}

/// What comes with every start: what is built in, and the files that `providers` name. A file whose name
/// is taken is known by its entry's.
fn defaults(providers: &mut [ProviderConfig]) -> Vec<DefaultVersion> {
    let mut defaults: Vec<DefaultVersion> = BUILT_IN
        .iter()
        .map(|(name, bytes)| DefaultVersion {
            component: (*name).to_owned(),
            by: By::BuiltIn,
            bytes: Cow::Borrowed(bytes),
        })
        .collect();
    for provider in providers {
        let named = |name: &str| defaults.iter().find(|default| default.component == name);
        match named(&provider.component_name) {
            Some(default) if *default.bytes == *provider.component => continue,
            Some(_) => provider.component_name.clone_from(&provider.name),
            None => {}
        }
        defaults.push(DefaultVersion {
            component: provider.component_name.clone(),
            by: By::Configuration,
            bytes: Cow::Owned(std::mem::take(&mut provider.component)),
        });
    }
    defaults
}

/// How many calls of a service run at once for each processor, where the operator does not say: as many as
/// wait for their commits while others compute (some 3 ms, at some 10,000 commits a second). More are
/// admitted only to wait for the processor, with all who are to be turned away behind them.
const CALLS_OF_A_PROCESSOR: usize = 32;

/// The runtime's limits with what the operator has set.
pub(crate) fn limits(given: config::Limits) -> Limits {
    // Each by its name, so that one that is not handed on is noticed.
    let config::Limits {
        service_time_ms,
        provider_time_ms,
        callback_time_ms,
        service_wall_ms,
        provider_wall_ms,
        epoch_ms,
        memory_bytes,
        hostcall_bytes,
        stack_bytes,
        handles,
        idle_instances,
        table_elements,
        instances,
        service_calls,
        service_waiting,
        service_wait_ms,
        subject_waiting,
        hashes,
        hashes_waiting,
        instance_calls,
        runs,
        hold_ms,
        log_lines,
        log_line_bytes,
        http_requests,
        http_request_ms,
        http_connect_ms,
        http_body_bytes,
    } = given;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut limits = Limits {
        service_calls: CALLS_OF_A_PROCESSOR * processors,
        ..Limits::default()
    };
    let span = |limit: &mut Duration, ms: Option<u64>| {
        *limit = ms.map_or(*limit, Duration::from_millis);
    };
    let size = |limit: &mut usize, number: Option<u64>| {
        *limit = number.map_or(*limit, |number| {
            usize::try_from(number).unwrap_or(usize::MAX)
        });
    };
    let count = |limit: &mut u32, number: Option<u64>| {
        *limit = number.map_or(*limit, |number| u32::try_from(number).unwrap_or(u32::MAX));
    };
    span(&mut limits.service_time, service_time_ms);
    span(&mut limits.provider_time, provider_time_ms);
    span(&mut limits.callback_time, callback_time_ms);
    span(&mut limits.service_wall, service_wall_ms);
    span(&mut limits.provider_wall, provider_wall_ms);
    span(&mut limits.epoch, epoch_ms);
    size(&mut limits.memory_bytes, memory_bytes);
    size(&mut limits.hostcall_bytes, hostcall_bytes);
    size(&mut limits.stack_bytes, stack_bytes);
    size(&mut limits.handles, handles);
    size(&mut limits.idle_instances, idle_instances);
    size(&mut limits.table_elements, table_elements);
    count(&mut limits.instances, instances);
    size(&mut limits.service_calls, service_calls);
    size(&mut limits.service_waiting, service_waiting);
    span(&mut limits.service_wait, service_wait_ms);
    size(&mut limits.subject_waiting, subject_waiting);
    size(&mut limits.hashes, hashes);
    size(&mut limits.hashes_waiting, hashes_waiting);
    count(&mut limits.instance_calls, instance_calls);
    count(&mut limits.runs, runs);
    span(&mut limits.hold, hold_ms);
    size(&mut limits.log_lines, log_lines);
    size(&mut limits.log_line_bytes, log_line_bytes);
    size(&mut limits.http_requests, http_requests);
    span(&mut limits.http_request, http_request_ms);
    span(&mut limits.http_connect, http_connect_ms);
    size(&mut limits.http_body_bytes, http_body_bytes);
    limits
}
