//! What a seed decides: chance, time, faults, the moment of a crash. And the trace of what happened.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_types::{Clock, Entropy, MonotonicMillis, UnixMillis};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{Kind, Violation};

/// Where every seed's clock begins.
const START: UnixMillis = UnixMillis(1_700_000_000_000);

/// The world of one seed. Everybody in it runs on one thread, so the locks are never waited for.
pub(crate) struct World {
    state: Mutex<State>,
    /// Rings when the process has crashed, or a violation was found.
    over: Notify,
}

struct State {
    random: StdRng,
    steps: u64,
    crash_at: Option<u64>,
    halted: bool,
    faults: bool,
    waits: bool,
    violation: Option<Violation>,
    /// The clock at the beginning of this life, and when that was.
    base: UnixMillis,
    began: Option<Instant>,
    /// Where the clock was set back to, each time.
    set_back: Vec<UnixMillis>,
    hash: DefaultHasher,
    lines: Option<Vec<String>>,
    line: String,
    reached: BTreeMap<&'static str, u64>,
}

impl World {
    pub(crate) fn new(seed: u64, keep_lines: bool) -> World {
        World {
            state: Mutex::new(State {
                random: StdRng::seed_from_u64(seed),
                steps: 0,
                crash_at: None,
                halted: false,
                faults: true,
                waits: true,
                violation: None,
                base: START,
                began: None,
                set_back: Vec::new(),
                hash: DefaultHasher::new(),
                lines: keep_lines.then(Vec::new),
                line: String::new(),
                reached: BTreeMap::new(),
            }),
            over: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number below `n`, which is at least 1.
    pub(crate) fn below(&self, n: u64) -> u64 {
        self.state().random.next_u64() % n
    }

    /// Whether something happens that happens once in `n` times.
    pub(crate) fn once_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// As [`once_in`](World::once_in), while there are faults.
    pub(crate) fn fault_once_in(&self, n: u64) -> bool {
        let faults = self.state().faults;
        // Drawn in either case, so that what follows does not depend on it.
        self.once_in(n) && faults
    }

    /// Ends the faults: what is under way must now come to its end.
    pub(crate) fn calm(&self) {
        let mut state = self.state();
        state.faults = false;
        state.crash_at = None;
    }

    /// Nothing takes time any more: for tests that wait for others by yielding, so that paused time
    /// would stand still.
    #[cfg(test)]
    pub(crate) fn without_waits(&self) {
        self.state().waits = false;
    }

    /// A process starts. It crashes `after` so many steps, or not at all.
    pub(crate) fn begin_life(&self, after: Option<u64>) {
        let mut state = self.state();
        state.crash_at = after.map(|after| state.steps + after);
        state.halted = false;
        state.began = Some(Instant::now());
    }

    /// The process is over.
    pub(crate) fn end_life(&self) {
        let now = self.now();
        let mut state = self.state();
        state.base = now;
        state.began = None;
        state.halted = true;
    }

    /// Moves the clock on, or sets it back.
    pub(crate) fn move_clock(&self, by: Duration, back: bool) {
        let mut state = self.state();
        if back {
            state.base = state.base - by;
        } else {
            state.base = state.base + by;
        }
        let now = state.now();
        if back {
            state.set_back.push(now);
        }
        drop(state);
        self.mark(if back {
            "a clock set back"
        } else {
            "a clock set on"
        });
    }

    /// How often the clock has been set back.
    pub(crate) fn set_backs(&self) -> usize {
        self.state().set_back.len()
    }

    /// The least that the clock has shown since it showed `began` and had been set back `before`
    /// times.
    pub(crate) fn least_since(&self, began: UnixMillis, before: usize) -> UnixMillis {
        let state = self.state();
        state.set_back[before..]
            .iter()
            .copied()
            .fold(began, UnixMillis::min)
    }

    /// Notes what happens; a step for the replay. A crash comes at a step.
    pub(crate) fn step(&self, what: fmt::Arguments<'_>) {
        let mut state = self.state();
        if state.halted {
            return;
        }
        state.steps += 1;
        let (steps, now) = (state.steps, state.now());
        let mut line = std::mem::take(&mut state.line);
        line.clear();
        // Writing to a `String` cannot fail.
        let _ = fmt::write(&mut line, format_args!("{steps:>5} {} {what}", now.0));
        line.hash(&mut state.hash);
        if let Some(lines) = &mut state.lines {
            lines.push(line.clone());
        }
        state.line = line;
        if state.crash_at == Some(steps) {
            if let Some(lines) = &mut state.lines {
                lines.push("      the process crashes".to_owned());
            }
            state.halted = true;
            self.over.notify_one();
        }
    }

    /// Counts that a corner was reached, so that a change which keeps seeds away from it is seen.
    pub(crate) fn mark(&self, corner: &'static str) {
        *self.state().reached.entry(corner).or_default() += 1;
    }

    /// How often each corner was reached.
    pub(crate) fn reached(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.state().reached)
    }

    /// A step that somebody else may come before, and that takes its time. Never returns once the
    /// process has crashed.
    pub(crate) async fn pass(&self, what: String) {
        self.step(format_args!("{what}"));
        self.alive().await;
        if !self.state().waits {
            return;
        }
        match self.below(64) {
            0..32 => {
                for _ in 0..self.below(4) {
                    tokio::task::yield_now().await;
                }
            }
            32..60 => tokio::time::sleep(Duration::from_millis(self.below(4))).await,
            60..63 => tokio::time::sleep(Duration::from_millis(self.below(400))).await,
            // Longer than a call may take.
            _ if self.fault_once_in(16) => tokio::time::sleep(Duration::from_secs(12)).await,
            _ => {}
        }
        self.alive().await;
    }

    /// Lets others go first where nothing takes time.
    pub(crate) async fn after_you(&self) {
        if !self.state().waits {
            tokio::task::yield_now().await;
        }
    }

    /// Waits for ever where the process has crashed.
    pub(crate) async fn alive(&self) {
        if self.state().halted {
            pending::<()>().await;
        }
    }

    /// Returns when the process has crashed.
    pub(crate) async fn over(&self) {
        while !self.state().halted {
            self.over.notified().await;
        }
    }

    /// The process ends by itself, as it does when its store has failed.
    pub(crate) fn halt(&self) {
        self.state().halted = true;
        self.over.notify_one();
    }

    /// A promise was broken. The first one counts, and ends the seed.
    pub(crate) fn violation(&self, kind: Kind, text: String) {
        self.step(format_args!("VIOLATION {kind}: {text}"));
        let mut state = self.state();
        let step = state.steps;
        state
            .violation
            .get_or_insert(Violation { kind, text, step });
        state.halted = true;
        drop(state);
        self.over.notify_one();
    }

    pub(crate) fn found(&self) -> Option<Violation> {
        self.state().violation.clone()
    }

    /// The number of steps, their hash, and the lines where they were kept.
    pub(crate) fn trace(&self) -> (u64, u64, Vec<String>) {
        let mut state = self.state();
        let lines = state.lines.take().unwrap_or_default();
        (state.steps, state.hash.finish(), lines)
    }
}

impl State {
    fn now(&self) -> UnixMillis {
        // Between two lives no time passes.
        self.began
            .map_or(self.base, |began| self.base + began.elapsed())
    }
}

impl Clock for World {
    fn now(&self) -> UnixMillis {
        self.state().now()
    }

    fn monotonic(&self) -> MonotonicMillis {
        let began = self.state().began;
        let life = began.map_or(Duration::ZERO, |began| began.elapsed());
        MonotonicMillis::default() + life
    }
}

impl Entropy for World {
    fn fill(&self, bytes: &mut [u8]) {
        self.state().random.fill_bytes(bytes);
    }
}
