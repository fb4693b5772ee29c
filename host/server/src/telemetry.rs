//! Logs, on standard error.
//!
//! What is never logged: telephone numbers, codes, bodies, credentials. Of foreign crates nothing
//! below `info` passes, whatever the filter says, since they log headers and addresses there; and of what
//! passes, one line a minute for each place in their code: most are about what a peer did, and a peer can do
//! it without end.

use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::Arc;

use countersign_types::{Clock, Counter, Seldom, SystemClock};
use tracing::callsite::Identifier;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// The packages that this program is made of: what a filter can name.
const PACKAGES: &str = include_str!("../../../Cargo.lock");

/// Lines that were written as errors, and as warnings.
static LINES: [Counter; 2] = [Counter::new(), Counter::new()];

/// How many lines of each kind that somebody should look at have been written since the process began.
pub(crate) fn lines() -> [(&'static str, u64); 2] {
    let [errors, warnings] = &LINES;
    [("error", errors.value()), ("warn", warnings.value())]
}

/// Counts lines.
struct Count;

impl<S: Subscriber> Layer<S> for Count {
    fn on_event(&self, line: &Event<'_>, _: Context<'_, S>) {
        match *line.metadata().level() {
            Level::ERROR => LINES[0].add_one(),
            Level::WARN => LINES[1].add_one(),
            _ => {}
        }
    }
}

/// The filter that `text` describes: levels, and parts of the program with their levels.
///
/// # Errors
///
/// What is wrong with it. A part that there is not is wrong too: a filter that names only such would be
/// silent, and so would be every complaint about it.
pub(crate) fn parse(text: &str) -> Result<EnvFilter, String> {
    let directives: Vec<&str> = text
        .split(',')
        .map(str::trim)
        .filter(|directive| !directive.is_empty())
        .collect();
    if directives.is_empty() {
        return Err("it names no level".to_owned());
    }
    for directive in &directives {
        judge(directive)?;
    }
    EnvFilter::builder()
        .parse(directives.join(","))
        .map_err(|error| error.to_string())
}

/// Judges `LEVEL`, `PART`, `PART=LEVEL` or `PART[SPAN]=LEVEL`, as far as names are concerned.
fn judge(directive: &str) -> Result<(), String> {
    let part = directive.split(['[', '=']).next().unwrap_or_default();
    let name = part.split("::").next().unwrap_or_default();
    let stands_alone = part == directive;
    if stands_alone && directive.parse::<LevelFilter>().is_ok() || name.is_empty() {
        return Ok(());
    }
    if stands_alone && !name.starts_with("countersign") {
        return Err(format!(
            "`{directive}` is no level: those are off, error, warn, info, debug and trace; a part of the program has one, as in `{directive}=debug`"
        ));
    }
    let packages = PACKAGES.lines().filter_map(|line| {
        let name = line.strip_prefix("name = \"")?.strip_suffix('"')?;
        Some(name.replace('-', "_"))
    });
    let mut found = packages.filter(|package| {
        let rest = package.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    });
    match found.next() {
        Some(_) => Ok(()),
        None => Err(format!(
            "`{name}` is no part of the program: those are countersign, countersign_store, countersign_queue, countersign_delivery, countersign_runtime, and libraries such as hyper"
        )),
    }
}

/// Starts logging, once for the process. Panics are logged from then on, without what they say if
/// that was put together at run time: it might quote a request.
pub(crate) fn start(filter: EnvFilter) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .and_then(Count)
        .with_filter(Foreign::new(Arc::new(SystemClock)));
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    if started.is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// Lets pass what is our own, and of foreign crates what the log has room for.
struct Foreign {
    /// By the place in the code, of which there are few.
    lines: Seldom<Identifier>,
    clock: Arc<dyn Clock>,
}

impl Foreign {
    fn new(clock: Arc<dyn Clock>) -> Foreign {
        Foreign {
            lines: Seldom::default(),
            clock,
        }
    }
}

fn is_our_own(line: &Metadata<'_>) -> bool {
    line.target().starts_with("countersign")
}

fn may_pass(line: &Metadata<'_>) -> bool {
    is_our_own(line) || *line.level() <= Level::INFO
}

impl<S> Filter<S> for Foreign {
    fn enabled(&self, line: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        may_pass(line)
    }

    fn callsite_enabled(&self, line: &'static Metadata<'static>) -> Interest {
        if may_pass(line) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn event_enabled(&self, line: &Event<'_>, _: &Context<'_, S>) -> bool {
        let line = line.metadata();
        let has_room = || self.lines.tell(line.callsite(), self.clock.monotonic());
        is_our_own(line) || has_room().is_some()
    }
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
    use countersign_types::{ManualClock, UnixMillis};
    use std::sync::Mutex;

    use super::*;

    /// Notes which lines come to it.
    struct Notes(Arc<Mutex<Vec<&'static str>>>);

    impl<S: Subscriber> Layer<S> for Notes {
        fn on_event(&self, line: &Event<'_>, _: Context<'_, S>) {
            let mut notes = self.0.lock().expect("nobody panics");
            notes.push(line.metadata().target());
        }
    }

    fn write_all() {
        tracing::warn!(target: "h2::proto", "a stranger did this");
        tracing::error!(target: "h2::codec", "and that");
        tracing::debug!(target: "hyper", "with this header");
        tracing::warn!(target: "countersign::own", "which was refused");
    }

    #[test]
    fn foreign_crates_write_one_line_a_minute_for_each_place_in_their_code() {
        let clock = Arc::new(ManualClock::new(UnixMillis(0)));
        let notes = Arc::new(Mutex::new(Vec::new()));
        let layer = Notes(notes.clone()).with_filter(Foreign::new(clock.clone()));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let written = |times: usize| {
                (0..times).for_each(|_| write_all());
                std::mem::take(&mut *notes.lock().expect("nobody panics"))
            };
            let all = ["h2::proto", "h2::codec", "countersign::own"];
            assert_eq!(written(1), all);
            assert_eq!(written(3), ["countersign::own"; 3]);
            clock.advance(std::time::Duration::from_secs(60));
            assert_eq!(written(1), all);
        });
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_refused() {
        for good in [
            "info",
            "WARN",
            "off",
            "warn,countersign=debug",
            " warn , countersign_store::embedded=trace,",
            "countersign",
            "info,hyper=info,cranelift=warn,wasmtime_wasi=off",
            "[call]=debug",
            "countersign_runtime[call{component=otp}]=debug",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for (bad, word) in [
            ("countersign=loud", "level"),
            ("inof", "`inof` is no level"),
            ("warn,inof", "`inof` is no level"),
            // A package, but on its own it would silence all others.
            ("hyper", "`hyper=debug`"),
            ("countersing=debug", "`countersing` is no part"),
            (
                "info,countersign_stroe=debug",
                "`countersign_stroe` is no part",
            ),
            ("", "no level"),
            (" , ", "no level"),
        ] {
            let error = parse(bad).err().unwrap_or_else(|| panic!("{bad} is taken"));
            assert!(error.contains(word), "{bad}: {error}");
        }
    }

    #[test]
    fn blanks_between_directives_are_no_part_of_their_names() {
        let filter = parse("warn , countersign=debug").expect("good");
        assert_eq!(filter.to_string(), "countersign=debug,warn");
    }
}
