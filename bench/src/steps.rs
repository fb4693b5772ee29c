//! The steps of a durable send and its delivery, for what is counted by thread and function.

use std::collections::BTreeMap;

use crate::report::Report;

/// What a function is for, by how its path begins. The first that fits counts.
const WORK: [(&str, &str); 38] = [
    ("countersign_runtime::phone", "phone numbers"),
    ("phonenumber", "phone numbers"),
    (
        "countersign_runtime::provider",
        "provider calls, host's part",
    ),
    ("countersign_runtime", "component calls, host's part"),
    ("wasmtime", "component calls, engine and guest"),
    ("0x", "component calls, engine and guest"),
    ("countersign_store::keyring", "sealing and keyed hashes"),
    ("countersign_store::sealing", "sealing and keyed hashes"),
    ("aws_lc", "sealing and keyed hashes"),
    ("sha256", "sealing and keyed hashes"),
    ("aead_", "sealing and keyed hashes"),
    ("countersign_store", "transactions and groups"),
    ("sled", "sled"),
    ("crossbeam_epoch", "sled"),
    ("crc32fast", "sled"),
    ("countersign_queue", "queue"),
    ("countersign_delivery", "delivery"),
    ("countersign::metrics", "metrics and logs"),
    ("tracing", "metrics and logs"),
    ("reqwest", "HTTP to the provider"),
    ("hyper_util::client", "HTTP to the provider"),
    ("hyper::client", "HTTP to the provider"),
    ("hyper_rustls", "HTTP to the provider"),
    ("url", "HTTP to the provider"),
    ("idna", "HTTP to the provider"),
    ("tower_http::follow_redirect", "HTTP to the provider"),
    ("axum", "routes and layers"),
    ("matchit", "routes and layers"),
    ("tower", "routes and layers"),
    ("countersign::api", "routes and layers"),
    ("hyper", "HTTP"),
    ("httparse", "HTTP"),
    ("http", "HTTP"),
    ("countersign::connections", "HTTP"),
    ("countersign::", "routes and layers"),
    ("countersign_types", "transactions and groups"),
    ("tokio", "tasks, timers, channels"),
    ("mio", "tasks, timers, channels"),
];

/// The steps, in their order; the last one is what is none of them.
const STEPS: [&str; 11] = [
    "HTTP, routes and layers",
    "component call: engine, guest and host",
    "phone numbers",
    "transaction, queue, sealing and keyed hashes",
    "the store's reads",
    "the store's writes: groups and sled",
    "waiting for the disk's syncs, on a processor",
    "delivery: queue, claim and end",
    "provider component: engine, guest and host",
    "outgoing HTTP",
    "the rest: tasks, timers, counting, metrics",
];

/// How much each step takes.
#[derive(Debug, Default)]
pub(crate) struct Steps(BTreeMap<usize, f64>);

impl Steps {
    /// Adds what a `thread` has done for some `work`.
    pub(crate) fn add(&mut self, thread: &str, work: &str, amount: f64) {
        *self.0.entry(step(thread, work)).or_default() += amount;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each as a figure of its own, and all together.
    pub(crate) fn report(&self, what: &str, unit: &'static str, report: &mut Report) {
        for (step, amount) in &self.0 {
            report.fact(format!("{what}: {}", STEPS[*step]), unit, *amount);
        }
        report.fact(format!("{what}: all"), unit, self.0.values().sum());
    }
}

/// Which step it is when a `thread` does some `work`.
fn step(thread: &str, work: &str) -> usize {
    match (thread, work) {
        (_, SYNCS) => 6,
        ("storage" | "sled's own", "sled" | "transactions and groups") => 5,
        ("requests", "HTTP" | "routes and layers") => 0,
        ("requests", CALLS | "component calls, host's part") => 1,
        (_, "phone numbers") => 2,
        ("requests", "queue" | "delivery" | "transactions and groups" | SEALING) => 3,
        ("requests" | "deliveries", "sled") => 4,
        ("deliveries", "queue" | "delivery" | "transactions and groups" | SEALING) => 7,
        ("deliveries", CALLS | "component calls, host's part" | "provider calls, host's part") => 8,
        ("deliveries", "HTTP to the provider" | "HTTP" | "routes and layers") => 9,
        _ => 10,
    }
}

const SEALING: &str = "sealing and keyed hashes";
/// Code that was compiled from a component, and the engine that runs it.
pub(crate) const CALLS: &str = "component calls, engine and guest";
/// Syncs of a file, whoever asks for them.
pub(crate) const SYNCS: &str = "syncs";

/// What the function called `name` is for; `None` where that depends on its caller.
pub(crate) fn work(name: &str) -> Option<&'static str> {
    let path = name.trim_start_matches(['<', '&']);
    let path = path.strip_prefix("mut ").unwrap_or(path);
    let found = WORK.iter().find(|(start, _)| path.starts_with(start));
    found.map(|(_, work)| *work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_known_by_their_paths() {
        assert_eq!(
            work("<countersign_store::sealing::Sealing as countersign_store::Store>::get"),
            Some("sealing and keyed hashes")
        );
        assert_eq!(
            work("<&mut sled::iter::Iter as core::iter::Iterator>::next"),
            Some("sled")
        );
        assert_eq!(
            work("countersign_runtime::phone::parse"),
            Some("phone numbers")
        );
        assert_eq!(
            work("0x00000000048d1000"),
            Some("component calls, engine and guest")
        );
        assert_eq!(work("core::ptr::drop_in_place<tower::util::Oneshot>"), None);
        assert_eq!(work("_mi_malloc_generic"), None);
    }

    #[test]
    fn all_work_of_a_request_is_a_step_of_it() {
        let of_a_request = |work| step("requests", work);
        assert_eq!(of_a_request("HTTP"), 0);
        assert_eq!(of_a_request(CALLS), 1);
        assert_eq!(of_a_request("sled"), 4);
        assert_eq!(step("storage", "sled"), 5);
        assert_eq!(step("sled's own", SYNCS), 6);
        assert_eq!(step("deliveries", CALLS), 8);
        assert_eq!(step("the rest", CALLS), STEPS.len() - 1);
    }
}
