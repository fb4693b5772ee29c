//! Every limit of what components may use, by name.

use std::time::Duration;

use wasmtime::{StoreLimits, StoreLimitsBuilder};

/// What a call of a component may use. Crossing one ends that call and nothing else.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A service's own time in one call: how long its code has the processor, not what it waits for. It
    /// may be exceeded by one [`Limits::epoch`].
    pub service_time: Duration,
    /// As `service_time`, for providers.
    pub provider_time: Duration,
    /// As `provider_time`, for reading a callback: anybody can send one, so it is far less than a
    /// provider has otherwise.
    pub callback_time: Duration,
    /// From the start to the end of a service call, re-runs and waiting included.
    pub service_wall: Duration,
    /// From the start to the end of a provider call.
    pub provider_wall: Duration,
    /// How often running code is asked whether its time is over.
    pub epoch: Duration,
    /// Linear memory of one instance, in bytes.
    pub memory_bytes: usize,
    /// Bytes that one call of a host function may hand to the host, and an export's answer.
    pub hostcall_bytes: usize,
    /// Stack of a guest, in bytes.
    pub stack_bytes: usize,
    /// Handles of WASI that one instance may hold.
    pub handles: usize,
    /// Idle instances of a service that are kept for further calls, and of all providers that are used
    /// again together.
    pub idle_instances: usize,
    /// Elements of one table.
    pub table_elements: usize,
    /// How many instances there are at once, over all components.
    pub instances: u32,
    /// How many calls of one service component run at once; further ones wait. Each has as many, so that
    /// a slow one takes none of the others'.
    pub service_calls: usize,
    /// How many service calls of one caller wait for one of these places; further ones are turned
    /// away. Callers take turns.
    pub service_waiting: usize,
    /// How long a service call waits for a place. Where none of its caller's has got one within 5 ms for a
    /// quarter of this they are a crowd: then no more than 8 wait, and 5 ms only, until none has been
    /// turned away for as long.
    pub service_wait: Duration,
    /// How many calls about one subject wait for each other; further ones are turned away.
    pub subject_waiting: usize,
    /// How many password hashes are worked out at once, each with some 19 MiB.
    pub hashes: usize,
    /// How many calls wait for one of these, of one caller half of them at most; further ones are turned
    /// away.
    pub hashes_waiting: usize,
    /// After how many calls an instance that is used again is replaced by a fresh one.
    pub instance_calls: u32,
    /// How often a call runs at most when what it read has changed.
    pub runs: u32,
    /// How long a function that only reads may keep commits out in its second run.
    pub hold: Duration,
    /// Lines of log in one call.
    pub log_lines: usize,
    /// Bytes of one line of log.
    pub log_line_bytes: usize,
    /// Outgoing requests of one provider call.
    pub http_requests: usize,
    /// From the start to the last byte of one outgoing request.
    pub http_request: Duration,
    /// For connecting, within `http_request`.
    pub http_connect: Duration,
    /// Bytes of a request's or an answer's body.
    pub http_body_bytes: usize,
}

impl Limits {
    /// What the engine asks before an instance grows; beyond it the guest traps.
    pub(crate) fn of_a_store(&self) -> StoreLimits {
        StoreLimitsBuilder::new()
            .memory_size(self.memory_bytes)
            .table_elements(self.table_elements)
            .trap_on_grow_failure(true)
            .build()
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            service_time: Duration::from_millis(250),
            provider_time: Duration::from_millis(2_000),
            callback_time: Duration::from_millis(50),
            service_wall: Duration::from_secs(10),
            provider_wall: Duration::from_secs(20),
            epoch: Duration::from_millis(1),
            memory_bytes: 64 * 1024 * 1024,
            hostcall_bytes: 4 * 1024 * 1024,
            stack_bytes: 512 * 1024,
            handles: 1_000,
            idle_instances: 64,
            table_elements: 20_000,
            instances: 1_000,
            // What a commit's group needs to be full of on a small machine; more only wait for each other,
            // and are how late each of a crowd is.
            service_calls: 64,
            service_waiting: 1_024,
            service_wait: Duration::from_millis(100),
            subject_waiting: 64,
            hashes: 2,
            hashes_waiting: 32,
            instance_calls: 1_000,
            runs: 8,
            hold: Duration::from_millis(50),
            log_lines: 32,
            log_line_bytes: 1_024,
            http_requests: 8,
            http_request: Duration::from_secs(10),
            http_connect: Duration::from_secs(3),
            http_body_bytes: 1024 * 1024,
        }
    }
}
