//! What countersign costs, as ratios: each line is measured in one run with its baseline, by the same
//! load generator, in turns. `BENCHMARKS.md` says what each line means and how to read it.
//!
//! - `load` sends requests and keeps the latencies; `baseline`, `store` and `server` are what it
//!   measures; `component` measures calls without any of it.
//! - `twilio` is the other end of the deliveries, `process` a child process and what it uses.
//! - `report` turns rounds into a table.
//!
//! Nothing here leaves the loopback, and everything has an end: a time or a count.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool: its table goes to standard output, its progress to standard error"
)]

mod baseline;
mod component;
mod load;
mod process;
mod report;
mod server;
mod store;
mod twilio;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::load::{Load, Measured};
use crate::report::{Line, Report};

/// Why a measurement could not be made, for whoever runs it.
type Failure = Box<dyn Error + Send + Sync>;

/// What costs how much, side by side in one run.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Args {
    /// Length of each measurement
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Connections of the load generator; tasks where the store is alone
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// How often each measurement is made, in turns with the others; the table has medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=25))]
    rounds: u8,
    /// One round of one second each: shows that it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Only these measurements; may be given several times
    #[arg(long, value_name = "NAME", value_enum)]
    only: Vec<Part>,
    /// The figures as JSON
    #[arg(long)]
    json: bool,
    /// The server's binary; otherwise the one beside this program
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// Where the stores lie while they are measured; otherwise beside this program
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Serve the baseline, for another process of this program
    #[arg(long, hide = true)]
    serve_baseline: bool,
}

/// Measurements that can be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A bare hyper POST
    Bare,
    /// The store alone, with the rows of a send
    Store,
    /// Sends: with deliveries, at half that rate, with deliveries held back
    Send,
    /// Sends with deliveries, then right and wrong codes
    Verify,
    /// Calls of a component
    Component,
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn load(&self) -> Load {
        let seconds = if self.quick { 1 } else { self.seconds };
        Load {
            connections: usize::from(self.connections),
            duration: Duration::from_secs(seconds),
            per_second: None,
        }
    }

    fn rounds(&self) -> u8 {
        if self.quick { 1 } else { self.rounds }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = if args.serve_baseline {
        baseline::serve()
    } else {
        bench(&args)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &Args) -> Result<(), Failure> {
    let program = std::env::current_exe()?;
    let beside = program.parent().unwrap_or(Path::new("."));
    // Not in the folder for temporary files, which often is memory: there every sync is free.
    let folder = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(args.data.as_deref().unwrap_or(beside))?;
    let mut report = Report::new(args.load(), args.rounds(), store::disk(folder.path())?);
    if args.wants(Part::Component) {
        eprintln!("calls of a component");
        report.calls = component::measure(args.quick)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("bench")
        .enable_all()
        .build()?;
    let rounds = async {
        for round in 0..args.rounds() {
            eprintln!("round {} of {}", round + 1, args.rounds());
            let folder = folder.path().join(format!("round-{round}"));
            std::fs::create_dir(&folder)?;
            self::round(args, &folder, &program, &mut report).await?;
            // Nobody looks at it any more, and the next round starts with as much room as this one.
            std::fs::remove_dir_all(&folder)?;
        }
        Ok::<_, Failure>(())
    };
    // Dropped at an interrupt, so that children and folders go too.
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            done = rounds => done,
            _ = terminate.recv() => Err("terminated".into()),
            _ = interrupt.recv() => Err("interrupted".into()),
        }
    })?;
    if args.json {
        println!("{:#}", report.json());
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

/// Measures everything once.
async fn round(
    args: &Args,
    folder: &Path,
    program: &Path,
    report: &mut Report,
) -> Result<(), Failure> {
    let load = args.load();
    if args.wants(Part::Bare) {
        eprintln!("  {}", Line::Bare.title());
        report.add(Line::Bare, baseline::measure(program, &load).await?);
    }
    if args.wants(Part::Store) {
        eprintln!("  {}", Line::Store.title());
        let measured = store::measure(&folder.join("alone"), &load).await?;
        report.add(Line::Store, measured);
    }
    let (sends, verifies) = (args.wants(Part::Send), args.wants(Part::Verify));
    if !(sends || verifies) {
        return Ok(());
    }
    let binary = match &args.server {
        Some(path) => path.clone(),
        None => server::beside(program)?,
    };
    eprintln!("  {}", Line::Send.title());
    let mut server = server::Server::start(&binary, folder).await?;
    let sent = server.send(&load).await?;
    let rate = sent.measured.per_second();
    let numbers = sent.numbers.clone();
    report.sent.push(report::Sent {
        started: server.started(),
        idle_kib: server.idle_kib,
        loaded_kib: server.resident_kib(),
        accepted: sent.measured.answers,
        behind: sent.behind,
        drained: sent.drained,
    });
    report.add(Line::Send, sent.measured);
    if verifies {
        eprintln!("  {}", Line::VerifyWrong.title());
        let wrong = server.verify(&load, &numbers, server::Code::Wrong).await?;
        report.add(Line::VerifyWrong, wrong);
        eprintln!("  {}", Line::VerifyRight.title());
        let right = server.verify(&load, &numbers, server::Code::Right).await?;
        report.add(Line::VerifyRight, right);
    }
    if sends {
        eprintln!("  {}", Line::SendHalf.title());
        let half = Load {
            per_second: Some(rate / 2.0),
            ..load
        };
        report.add(Line::SendHalf, server.send(&half).await?.measured);
        eprintln!("  {}", Line::SendHeld.title());
        report.add(Line::SendHeld, server.send_held(&load).await?);
    }
    Ok(())
}

/// A line is worth nothing when the answers were not the ones that it is about.
fn only_expected(what: &str, measured: Measured) -> Result<Measured, Failure> {
    match &measured.unexpected {
        Some(answer) => Err(format!("{what}: not the answer that was expected: {answer}").into()),
        None if measured.answers == 0 => Err(format!("{what}: no answers at all").into()),
        None => Ok(measured),
    }
}
