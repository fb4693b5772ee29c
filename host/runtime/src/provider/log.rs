//! Lines of a provider for the operator's log, its settings, and what it writes to its standard output.

use countersign_delivery::scrub;

use super::Call;
use super::words::Level;
use crate::call::cut;

impl Call {
    /// Writes a line to the operator's log, without numbers, codes and credentials.
    fn line(&self, level: Level, text: &str) {
        let provider = &self.grants.name;
        if let Some(witness) = &self.grants.witness {
            witness.line(text);
        }
        // Cleaned before it is cut, since half of a credential or a code would not be known again. How
        // much a guest may say is bounded by `hostcall_bytes`.
        let clean = scrub(&self.grants.credentials.scrub(text));
        let text = cut(&clean, self.limits.log_line_bytes);
        // Whoever sends a callback could else fill the log by way of the component.
        let stranger = self.one.reads_callback && !self.one.signature_held;
        let level = if stranger { Level::Debug } else { level };
        match level {
            Level::Error => {
                tracing::error!(target: "countersign::provider", provider, "{text}")
            }
            Level::Warn => tracing::warn!(target: "countersign::provider", provider, "{text}"),
            Level::Info => tracing::info!(target: "countersign::provider", provider, "{text}"),
            Level::Debug => {
                tracing::debug!(target: "countersign::provider", provider, "{text}")
            }
        }
    }
}

/// Logs what the guest has written to standard output and error.
pub(super) fn write_output(call: &Call) {
    for line in call.world.output().lines().take(call.limits.log_lines) {
        call.line(Level::Info, line);
    }
}

impl Call {
    /// Writes a line of the provider's, as long as it has not had too many.
    pub(super) fn say(&mut self, level: Level, text: &str) {
        self.one.lines += 1;
        if self.one.lines <= self.limits.log_lines {
            self.line(level, text);
        }
    }

    /// The setting `name`.
    pub(super) fn setting(&self, name: &str) -> Option<String> {
        if let Some(witness) = &self.grants.witness {
            witness.setting(name);
        }
        self.grants.settings.get(name).cloned()
    }

    /// Prints `text` to standard output.
    pub(super) fn write_out(&self, text: &str) -> wasmtime::Result<()> {
        use std::io::Write;

        if text.len() > 8 * 1024 {
            wasmtime::bail!("more than 8 KiB were to be printed");
        }
        // It is all that the console provider is for: the message has nowhere else to go.
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}")
            .and_then(|()| out.flush())
            .map_err(|error| {
                wasmtime::Error::msg(format!("standard output cannot be written: {error}"))
            })
    }
}
