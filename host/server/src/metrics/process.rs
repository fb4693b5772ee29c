//! What the operating system tells of this process, under the names that all Prometheus clients use.
//!
//! Source: the Prometheus guide "Writing client libraries", "Standard and runtime collectors".

use countersign_types::UnixMillis;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::{Labels, Page};

/// Adds what can be told; what cannot has no sample.
pub(super) fn add_to(page: &mut Page, began: UnixMillis) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let used = clock_gettime(ClockId::ProcessCPUTime);
    page.seconds_counter(
        "process_cpu",
        "Time that processors have spent on the process.",
        Some(used.tv_sec as f64 + used.tv_nsec as f64 / 1e9),
    );
    page.bytes(
        "process_resident_memory",
        "Memory of the process that is in RAM.",
        field(&status, "VmRSS").map(|kibibytes| kibibytes * 1_024),
    );
    let single = |value: Option<u64>| value.map(|value| (Labels::new(), value as f64));
    page.gauge(
        "process_threads",
        "Threads of the process.",
        single(field(&status, "Threads")),
    );
    page.gauge("process_open_fds", "Open files and connections.", {
        // Looking opens one.
        let open = std::fs::read_dir("/proc/self/fd").map(|all| all.count().saturating_sub(1));
        single(open.ok().map(|open| open as u64))
    });
    page.gauge(
        "process_max_fds",
        "How many files and connections the process may have open.",
        single(getrlimit(Resource::Nofile).current),
    );
    page.seconds_gauge(
        "process_start_time",
        "When the process began, in Unix time.",
        Some(began.0 as f64 / 1_000.0),
    );
}

/// The number in the line `name` of `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.strip_prefix(':')
    });
    line?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_status_are_found_by_their_whole_names() {
        let status = "Name:\tcountersign\nVmRSSish:\t1 kB\nVmRSS:\t   51234 kB\nThreads:\t12\n";
        assert_eq!(field(status, "VmRSS"), Some(51_234));
        assert_eq!(field(status, "Threads"), Some(12));
        assert_eq!(field(status, "VmSwap"), None);
    }

    #[test]
    fn this_process_can_be_told_of() {
        let mut page = Page::default();
        add_to(&mut page, UnixMillis(1_500));
        let text = page.text().expect("written");
        for name in [
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_threads ",
            "process_open_fds ",
            "process_start_time_seconds 1.5",
        ] {
            let line = text.lines().find(|line| line.starts_with(name));
            assert!(line.is_some_and(|line| !line.ends_with(" 0.0")), "{name}");
        }
    }
}
