//! `countersign:service/log`: lines for the operator's log, written when the run counts.

use super::Access;
use crate::bindings::service::countersign::service::{log, otp_types, types};

impl log::Host for Access<'_> {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Error => tracing::Level::ERROR,
            log::Level::Warn => tracing::Level::WARN,
            log::Level::Info => tracing::Level::INFO,
            log::Level::Debug => tracing::Level::DEBUG,
        };
        self.view()?.run.say(level, &message);
        Ok(())
    }
}

// Interfaces of types alone: there is nothing to call.
impl types::Host for Access<'_> {}
impl otp_types::Host for Access<'_> {}
