//! The services as they are configured: in the server, and in a command where no server runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_queue::Queue;
use countersign_runtime::{Limits, ProviderConfig, Runtime, RuntimeConfig, StartError};
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
}

/// Compiles the components, off the threads that answer.
///
/// # Errors
///
/// See [`StartError`].
pub(crate) async fn start(
    services: Services,
    parts: Parts,
    providers: Vec<ProviderConfig>,
    public_url: Option<String>,
) -> Result<Runtime, StartError> {
    let config = RuntimeConfig {
        store: parts.store,
        clock: parts.clock,
        entropy: parts.entropy,
        keyring: parts.keyring,
        queue: parts.queue,
        limits: limits(services.limits),
        default_region: services.default_region,
        cache: Some(parts.cache),
        otp: countersign_embedded::OTP.to_vec(),
        two_factor: countersign_embedded::TWO_FACTOR.to_vec(),
        analytics: countersign_embedded::ANALYTICS.to_vec(),
        settings: services.settings,
        analytics_settings: services.analytics,
        audit_kept: services.audit_kept,
        providers,
        public_url,
    };
    match tokio::spawn(Runtime::start(config)).await {
        Ok(started) => started,
        Err(error) => Err(StartError::Engine(error.to_string())),
    }
}

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
    let mut limits = Limits::default();
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
