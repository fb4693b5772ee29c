//! What the storage threads count of their work: each number once a group, so that it costs nothing.

use countersign_types::Histogram;

/// Commits in a group.
const COMMITS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
/// Microseconds.
const SYNC_TIMES: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
];

/// How the store's groups have been, since it was opened.
#[derive(Debug)]
pub struct StoreFigures {
    /// How many requests (commits mostly) there were in each group that wrote something.
    pub group_commits: Histogram,
    /// How long making a group durable took.
    pub sync_times: Histogram,
}

impl StoreFigures {
    pub(super) fn new() -> StoreFigures {
        StoreFigures {
            group_commits: Histogram::new(COMMITS),
            sync_times: Histogram::new(SYNC_TIMES),
        }
    }
}
