//! A seed from its first life to its last.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::carrier::Carrier;
use crate::disk::Disk;
use crate::oracle::Oracle;
use crate::process::{self, Seed};
use crate::world::World;
use crate::{Kind, Parts, Plant, Violation};

/// How often a process crashes, at most one less; and how often its last life may fail by itself until
/// the faults are over.
const LIVES: u64 = 4;
/// The most steps until a crash.
const STEPS_TO_CRASH: u64 = 700;

/// What became of a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The first promise that was broken.
    pub violation: Option<Violation>,
    /// How many steps there were.
    pub steps: u64,
    /// A hash of all steps: the same seed gives the same.
    pub hash: u64,
    /// The steps, where they were asked for.
    pub lines: Vec<String>,
    /// How often it came to what a seed should come to now and then.
    pub reached: BTreeMap<&'static str, u64>,
}

/// Runs one seed, with a bug planted if one is given; `keep_lines` for a trace that can be read.
pub fn run(parts: &Parts, seed: u64, plant: Option<Plant>, keep_lines: bool) -> Report {
    let world = Arc::new(World::new(seed, keep_lines));
    let (subjects, keyring) = (parts.subjects.clone(), parts.keyring.clone());
    let oracle = Arc::new(Oracle::new(&world, subjects, keyring));
    let seed = Seed {
        parts,
        world: world.clone(),
        disk: Disk::default(),
        carrier: Arc::new(Carrier::new(&world, &oracle)),
        oracle,
        plant,
    };
    let crashes = world.below(LIVES);
    for _ in 0..crashes {
        live(&seed, false);
    }
    // The last life ends by itself, unless its store fails: then it was not the last one.
    let mut lives = 0;
    while !live(&seed, true) && world.found().is_none() {
        lives += 1;
        if lives == LIVES {
            world.calm();
        }
    }
    let (steps, hash, lines) = world.trace();
    Report {
        violation: world.found(),
        steps,
        hash,
        lines,
        reached: world.reached(),
    }
}

/// Returns whether the process came to its own end.
fn live(seed: &Seed<'_>, last: bool) -> bool {
    let world = &seed.world;
    if world.found().is_some() {
        return false;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            world.violation(Kind::Stuck, error.to_string());
            return false;
        }
    };
    let crash_after = (!last).then(|| 1 + world.below(STEPS_TO_CRASH));
    let ended = runtime.block_on(async {
        world.begin_life(crash_after);
        world.step(format_args!("the process starts"));
        let ended = tokio::select! {
            biased;
            () = world.over() => false,
            lived = process::live(seed, last) => {
                if let Err(error) = &lived {
                    world.step(format_args!("the process ends: {error}"));
                }
                lived.is_ok()
            }
        };
        world.end_life();
        ended
    });
    // Every task ends where it stands, as in a crash.
    drop(runtime);
    let kept = world.below(seed.disk.unsynced() as u64 + 1);
    let first_lost = seed.disk.crash(kept as usize);
    seed.oracle.crashed(first_lost);
    ended
}
