//! What countersign costs, as ratios: each line is measured in one run with its baseline, by the same
//! load generator, in turns. `BENCHMARKS.md` says what each line means and how to read it.
//!
//! - `load` sends requests and keeps the latencies; `baseline`, `store` and `server` are what it
//!   measures; `component` measures calls without any of it.
//! - `providers` are written in three languages; `company` is the other end of their deliveries.
//! - `swap` replaces components under load; `attackers` are components made to do harm.
//! - `instructions` counts them, by the `steps` of a send; `profile` says the same of the time.
//! - `timing` compares the times of logins' answers.
//! - `overload` asks for more than there is, with the cores shared out by `cores`.
//! - `twilio` is the other end of the deliveries, `process` a child process and what it uses.
//! - `report` turns rounds into a table.
//!
//! Nothing here leaves the loopback, and everything has an end: a time or a count.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool: its table goes to standard output, its progress to standard error"
)]

mod analytics;
mod attackers;
mod baseline;
mod company;
mod component;
mod cores;
mod drain;
mod fake;
mod instructions;
mod load;
mod overload;
mod process;
mod profile;
mod providers;
mod report;
mod server;
mod steps;
mod store;
mod swap;
mod timing;
mod twilio;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::load::{Load, Measured};
use crate::report::{Line, Report};

/// The server's allocator, so that calls cost here what they cost there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    /// Sends of the part `memory`
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_900_000))]
    sends: u64,
    /// Messages of the part `analytics` that are counted one by one
    #[arg(long, value_name = "N", default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(100_000..=1_000_000))]
    messages: u64,
    /// A Python that has DuckDB, for the part `analytics`
    #[arg(long, value_name = "FILE")]
    duckdb: Option<PathBuf>,
    /// A folder with `rust.wasm`, `js.wasm` and `python.wasm`, for the part `providers`
    #[arg(long, value_name = "FOLDER")]
    providers: Option<PathBuf>,
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
    /// The first start, with its compiling, and the next one
    Start,
    /// Emptying the queue with a provider that costs nothing
    Drain,
    /// As many sends as a server on one core can answer, and three times as many
    Overload,
    /// Sends while each component is swapped 100 times
    Swap,
    /// Sends beside components that are made to do harm
    Attackers,
    /// The store's cost of a send among few stored sends and among many
    Growth,
    /// Resident memory idle and after --sends; only when it is asked for
    Memory,
    /// Whether the time of a login's answer tells what its text does not; only when it is asked for
    Timing,
    /// Counting messages, and dashboards of a year of them; only when it is asked for
    Analytics,
    /// The same provider in Rust, JavaScript and Python; only when it is asked for
    Providers,
    /// Where the instructions of a send and its delivery go; needs valgrind; only when it is asked for
    Instructions,
    /// Where the time of a send and its delivery goes; needs perf; only when it is asked for
    Profile,
}

/// What takes long and is not measured unless it is named.
const ASKED_FOR: [Part; 6] = [
    Part::Providers,
    Part::Memory,
    Part::Timing,
    Part::Analytics,
    Part::Instructions,
    Part::Profile,
];

impl Args {
    fn wants(&self, part: Part) -> bool {
        self.only.contains(&part) || (self.only.is_empty() && !ASKED_FOR.contains(&part))
    }

    fn load(&self) -> Load {
        let seconds = if self.quick { 1 } else { self.seconds };
        Load {
            connections: usize::from(self.connections),
            duration: Duration::from_secs(seconds),
            per_second: None,
            overload: false,
        }
    }

    /// `whole`, or a part of it where only the working is to be seen.
    fn effort(&self, whole: u64) -> u64 {
        if self.quick { whole / 25 } else { whole }
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
        if args.wants(Part::Analytics) {
            counting(args, folder.path(), &mut report).await?;
        }
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
    without_server(args, folder, report).await?;
    let binary = || match &args.server {
        Some(path) => Ok(path.clone()),
        None => server::beside(program),
    };
    if args.wants(Part::Start) {
        start(&binary()?, folder, report).await?;
    }
    if args.wants(Part::Memory) {
        memory(args, &binary()?, folder, report).await?;
    }
    if args.wants(Part::Timing) {
        eprintln!("  times of logins' answers");
        let samples = usize::try_from(args.effort(2_000))?;
        timing::measure(&binary()?, folder, samples, report).await?;
    }
    if args.wants(Part::Instructions) {
        eprintln!("  instructions of a send, under valgrind");
        let load = args.load();
        // Each takes some 10 ms there.
        instructions::measure(&binary()?, folder, load.duration * 4, report).await?;
    }
    if args.wants(Part::Profile) {
        eprintln!("  time of a send, with perf");
        profile::measure(&binary()?, folder, &load, report).await?;
    }
    if args.wants(Part::Overload) {
        eprintln!("  overload");
        let round = overload::measure(&binary()?, folder, &load).await?;
        report.overload.push(round);
    }
    if args.wants(Part::Swap) {
        eprintln!("  swaps");
        let swaps = usize::try_from(args.effort(100))?;
        swapped(
            &swap::measure(&binary()?, folder, &load, swaps).await?,
            report,
        );
    }
    if args.wants(Part::Attackers) {
        eprintln!("  attackers");
        attackers::measure(folder, load.duration, report).await?;
    }
    if args.wants(Part::Providers) {
        let components = args.providers.as_deref();
        let components = components
            .ok_or("the part `providers` needs --providers; `cargo xtask bench` gives it")?;
        let messages = args.effort(4_000);
        providers::measure(&binary()?, components, folder, &load, messages, report).await?;
    }
    let (sends, verifies) = (args.wants(Part::Send), args.wants(Part::Verify));
    if !(sends || verifies) {
        return Ok(());
    }
    eprintln!("  {}", Line::Send.title());
    let mut server = server::Server::start(Command::new(binary()?), folder).await?;
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

/// Counting and dashboards: once, since each is the median of many questions already.
async fn counting(args: &Args, folder: &Path, report: &mut Report) -> Result<(), Failure> {
    eprintln!("analytics");
    let folder = folder.join("analytics");
    let scale = analytics::Scale {
        folded: args.effort(args.messages),
        dense: args.effort(250_000),
        raw: args.effort(5_000_000),
    };
    for (name, unit, value) in analytics::measure(&folder, scale, args.duckdb.as_deref()).await? {
        report.fact(name, unit, value);
    }
    if args.duckdb.is_none() {
        report.note("DuckDB is not measured: no Python with it was given (--duckdb)");
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// What needs no server.
async fn without_server(args: &Args, folder: &Path, report: &mut Report) -> Result<(), Failure> {
    if args.wants(Part::Growth) {
        eprintln!("  growth of the store");
        let (few, many) = (args.effort(10_000), args.effort(1_000_000));
        let tasks = usize::from(args.connections);
        let costs = store::growth(&folder.join("growth"), tasks, (few, many)).await?;
        report.fact("store: a send's commit among 10,000 sends", "µs", costs.0);
        report.fact(
            "store: a send's commit among 1,000,000 sends",
            "µs",
            costs.1,
        );
        report.fact("store: the second of the first", "times", costs.1 / costs.0);
    }
    if args.wants(Part::Drain) {
        eprintln!("  queue with a provider that costs nothing");
        let jobs = usize::try_from(args.effort(50_000))?;
        let per_second = drain::measure(folder, jobs).await?;
        report.fact(
            "queue: jobs over, durably, with a no-op provider",
            "/s",
            per_second,
        );
    }
    Ok(())
}

/// What swaps cost. That no send failed is said by there being figures at all.
fn swapped(found: &swap::Swapped, report: &mut Report) {
    let p99 = |measured: &Measured| as_float(measured.latency.value_at_quantile(0.99));
    let (quiet, during) = (p99(&found.quiet), p99(&found.during));
    let swaps = u64::try_from(found.swaps).unwrap_or(u64::MAX);
    report.fact("swap: of each component", "times", as_float(swaps));
    let sends = as_float(found.during.answers);
    report.fact(
        "swap: sends meanwhile, none of which failed",
        "sends",
        sends,
    );
    report.fact("swap: p99 of sends without", "ms", quiet / 1e3);
    report.fact("swap: p99 of sends meanwhile", "ms", during / 1e3);
    report.fact("swap: the second of the first", "times", during / quiet);
    let install = |quantile| as_float(found.install_us.value_at_quantile(quantile)) / 1e3;
    report.fact(
        "swap: otp from its request to live, median",
        "ms",
        install(0.5),
    );
    report.fact(
        "swap: otp from its request to live, p99",
        "ms",
        install(0.99),
    );
    for (when, kib) in ["before", "after"].into_iter().zip(found.resident_kib) {
        let name = format!("swap: memory {when} the swaps");
        report.fact(name, "MiB", as_float(kib) / 1024.0);
    }
    report.fact(
        "swap: a bad otp from live to rolled back",
        "ms",
        found.rolled_back.as_secs_f64() * 1e3,
    );
    let failed = u64::try_from(found.failed).unwrap_or(u64::MAX);
    report.fact(
        "swap: sends that the bad one has failed",
        "sends",
        as_float(failed),
    );
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn as_float(number: u64) -> f64 {
    number as f64
}

/// A first start, and the next one on its folder.
async fn start(binary: &Path, folder: &Path, report: &mut Report) -> Result<(), Failure> {
    let folder = folder.join("start");
    std::fs::create_dir(&folder)?;
    for (line, answer) in [
        (
            "start: to its line, the first time",
            "start: to the first send's answer, the first time",
        ),
        (
            "start: to its line, the next time",
            "start: to the first send's answer, the next time",
        ),
    ] {
        eprintln!("  {line}");
        let server = server::Server::start(Command::new(binary), &folder).await?;
        report.fact(line, "ms", server.started().as_secs_f64() * 1e3);
        report.fact(answer, "ms", server.to_first_answer.as_secs_f64() * 1e3);
    }
    Ok(())
}

/// Resident memory of a server that has its compiled components already.
async fn memory(
    args: &Args,
    binary: &Path,
    folder: &Path,
    report: &mut Report,
) -> Result<(), Failure> {
    let folder = folder.join("memory");
    std::fs::create_dir(&folder)?;
    drop(server::Server::start(Command::new(binary), &folder).await?);
    let mut server = server::Server::start(Command::new(binary), &folder).await?;
    eprintln!("  memory after {} sends", args.sends);
    let after = server.resident_after(&args.load(), args.sends).await?;
    report.fact("memory: idle", "MB", report::megabytes(server.idle_kib));
    report.fact(
        "memory: after --sends, deliveries done",
        "MB",
        report::megabytes(after),
    );
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
