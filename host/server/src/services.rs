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
        settings: services.settings,
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
    span(&mut limits.service_time, given.service_time_ms);
    span(&mut limits.provider_time, given.provider_time_ms);
    span(&mut limits.service_wall, given.service_wall_ms);
    span(&mut limits.provider_wall, given.provider_wall_ms);
    span(&mut limits.epoch, given.epoch_ms);
    size(&mut limits.memory_bytes, given.memory_bytes);
    size(&mut limits.hostcall_bytes, given.hostcall_bytes);
    size(&mut limits.stack_bytes, given.stack_bytes);
    size(&mut limits.handles, given.handles);
    size(&mut limits.idle_instances, given.idle_instances);
    size(&mut limits.table_elements, given.table_elements);
    count(&mut limits.instances, given.instances);
    size(&mut limits.service_calls, given.service_calls);
    size(&mut limits.service_waiting, given.service_waiting);
    span(&mut limits.service_wait, given.service_wait_ms);
    size(&mut limits.subject_waiting, given.subject_waiting);
    size(&mut limits.hashes, given.hashes);
    size(&mut limits.hashes_waiting, given.hashes_waiting);
    count(&mut limits.instance_calls, given.instance_calls);
    count(&mut limits.runs, given.runs);
    span(&mut limits.hold, given.hold_ms);
    size(&mut limits.log_lines, given.log_lines);
    size(&mut limits.log_line_bytes, given.log_line_bytes);
    size(&mut limits.http_requests, given.http_requests);
    span(&mut limits.http_request, given.http_request_ms);
    span(&mut limits.http_connect, given.http_connect_ms);
    size(&mut limits.http_body_bytes, given.http_body_bytes);
    limits
}
