//! `countersign-simulate`: runs seeds, or replays one with its trace.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool of the developers"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use countersign_simulation::{Parts, Plant, Violation, run};

/// Runs the product under seeded time, chance, faults and interleavings, and compares it with a model.
#[derive(Parser)]
#[command(name = "cargo xtask simulate")]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 2_000, conflicts_with = "seed")]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1, conflicts_with = "seed")]
    first: u64,
    /// Runs this seed alone and prints every step.
    #[arg(long)]
    seed: Option<u64>,
    /// Plants a bug, to see it found.
    #[arg(long)]
    plant: Option<Plant>,
    /// How many threads run seeds; by default one for each core.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let parts = match Parts::new() {
        Ok(parts) => parts,
        Err(reason) => {
            eprintln!("the simulation cannot start: {reason}");
            return ExitCode::from(2);
        }
    };
    match args.seed {
        Some(seed) => replay(&parts, seed, args.plant),
        None => search(&parts, &args),
    }
}

fn replay(parts: &Parts, seed: u64, plant: Option<Plant>) -> ExitCode {
    let report = run(parts, seed, plant, true);
    for line in &report.lines {
        println!("{line}");
    }
    println!(
        "seed {seed}: {} steps, hash {:016x}",
        report.steps, report.hash
    );
    match report.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("seed {seed} breaks a promise at {violation}");
            ExitCode::FAILURE
        }
    }
}

fn search(parts: &Parts, args: &Args) -> ExitCode {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or(cores).max(1);
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let steps = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    // The smallest seed that failed: every one below it has been run, so it is always the same one.
    let failed: Mutex<Option<(u64, Violation)>> = Mutex::new(None);
    let reached: Mutex<BTreeMap<&str, u64>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= args.seeds {
                        break;
                    }
                    let seed = args.first + at;
                    let report = run(parts, seed, args.plant, false);
                    steps.fetch_add(report.steps, Ordering::Relaxed);
                    for (corner, times) in report.reached {
                        *lock(&reached).entry(corner).or_default() += times;
                    }
                    if let Some(violation) = report.violation {
                        stop.store(true, Ordering::Relaxed);
                        let mut failed = lock(&failed);
                        if failed.as_ref().is_none_or(|(known, _)| seed < *known) {
                            *failed = Some((seed, violation));
                        }
                    }
                }
            });
        }
    });
    for (corner, times) in &*lock(&reached) {
        println!("{times:>9} {corner}");
    }
    let run = next.into_inner().min(args.seeds);
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{run} seeds, {} steps in {seconds:.1} s: {:.0} seeds a second on {threads} threads",
        steps.into_inner(),
        run as f64 / seconds
    );
    let Some((seed, violation)) = lock(&failed).take() else {
        return ExitCode::SUCCESS;
    };
    let plant = args.plant.and_then(|plant| plant.to_possible_value());
    let plant = plant.map_or_else(String::new, |plant| {
        format!(" --plant {}", plant.get_name())
    });
    eprintln!("seed {seed} breaks a promise at {violation}");
    eprintln!("replay it: cargo xtask simulate --seed {seed}{plant}");
    ExitCode::FAILURE
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
