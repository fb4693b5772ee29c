//! Logs, on standard error.
//!
//! What is never logged: telephone numbers, codes, bodies, credentials. Of foreign crates nothing
//! below `info` passes, whatever the filter says, since they log headers and addresses there.

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Whether `filter` can be read as a filter of logs.
pub(crate) fn parse(filter: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(filter)
}

/// Starts logging, once for the process. Panics are logged from then on, without what they say if
/// that was put together at run time: it might quote a request.
pub(crate) fn start(filter: EnvFilter) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(filter_fn(may_pass));
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    if started.is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

fn may_pass(line: &Metadata<'_>) -> bool {
    line.target().starts_with("countersign") || *line.level() <= Level::INFO
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    let reason = panic.payload().downcast_ref::<&'static str>();
    tracing::error!(
        target: "countersign::panic",
        location = location.as_deref().unwrap_or("unknown"),
        reason = reason.unwrap_or(&"(withheld: it may quote a request)"),
        "a task panicked"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_is_refused() {
        assert!(parse("info").is_ok());
        assert!(parse("warn,countersign=debug").is_ok());
        assert!(parse("countersign=loud").is_err());
    }
}
