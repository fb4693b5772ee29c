//! Development commands: `cargo xtask --help` lists them.
//!
//! Nothing but the standard library, so that the first run has nothing to build.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a command line tool of the developers: it prints, and reads what cargo tells it by environment"
)]

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

mod documents;
mod frozen;
mod packages;
mod projects;
mod tidy;

/// The whole workspace at once: another selection of packages has other features, and would build the
/// engine once more.
const BUILD: [&str; 4] = ["build", "--release", "--workspace", "--bins"];

const HELP: &str = "\
Development commands of countersign.

Usage: cargo xtask <COMMAND>

Commands:
  test [ARGS]   tidy, the release build, all tests, and 2,000 seeds of the simulation; ARGS go to `cargo test`
  bench [ARGS]  the release build and the benchmark; ARGS go to the benchmark
  crash [--kills N] [--cuts N] [--seed S]
                the release build, then N kills (200) and N power cuts (100) at random moments
  swap [--swaps N]
                the release build, then N swaps (100) of every component while users are sent codes and type them
  fuzz [--seconds N] [--seed S]
                the release build, then N seconds (60) of each kind of arbitrary input: components, JSON, headers
  simulate [ARGS]
                the release build and the simulation: `--seeds N` for more of them, `--seed N` to replay one
  screenshot [FOLDER]
                the release build, and the picture of the dashboard in the README; with FOLDER pictures of all its pages
  browser       what the tests in a browser need: Chromium, chromedriver and Node.js, by apt-get; `test` does it too
  python        the Python that tests read proofs, metrics and answers with, and the one that builds a provider, in the
                target folder; `test` makes them too
  node          the packages of npm that build a provider and judge Twilio's requests, in the target folder; `test`
                installs them too
  tidy          the rules that a machine can check: documented WIT, released WIT unchanged, no machine paths, nothing
                unfinished, and documents that name files and tests which are there
  --help        this text
";

/// A Python with packages of its own, in the target folder.
struct Python {
    /// Where it lies there.
    folder: &'static str,
    /// Its packages.
    requirements: &'static str,
    /// What needs it.
    what: &'static str,
}

/// That of the tests.
const TEST_PYTHON: Python = Python {
    folder: "test-python",
    requirements: "tests/python/requirements.txt",
    what: "the tests with libraries of another language",
};
/// What a provider in Python is built with, as the build of every new project installs it.
const PROVIDER_PYTHON: Python = Python {
    folder: "provider-python",
    requirements: "host/server/src/cli/provider/templates/python/requirements.txt",
    what: "the test of a provider in Python",
};
/// That of the benchmark, with DuckDB.
const BENCH_PYTHON: Python = Python {
    folder: "bench-python",
    requirements: "bench/python/requirements.txt",
    what: "DuckDB beside the dashboard",
};

/// The picture of the dashboard in the README.
const PICTURE: &str = "docs/dashboard.png";

/// What the components are compiled for.
const WASM_TARGET: &str = "wasm32-wasip2";

/// Why a command ended early: for people, on one line or a few.
#[derive(Debug)]
struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let command = args.next();
    let rest: Vec<OsString> = args.collect();
    let started = Instant::now();
    let done = match command.as_deref().and_then(OsStr::to_str) {
        Some("test") => test(&rest),
        Some("bench") => bench(&rest),
        Some("crash") => crash(&rest),
        Some("swap") => swap(&rest),
        Some("fuzz") => fuzz(&rest),
        Some("simulate") => simulate(&rest),
        Some("screenshot") if rest.len() <= 1 => screenshot(&rest),
        Some("browser") if rest.is_empty() => packages::browser(),
        Some("python") if rest.is_empty() => pythons(),
        Some("node") if rest.is_empty() => packages::node(),
        Some("tidy") if rest.is_empty() => tidy(),
        Some("--help" | "-h" | "help") => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => {
            println!("==> done in {:.1} s", started.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// `cargo xtask test`.
fn test(args: &[OsString]) -> Result<(), Failure> {
    tidy()?;
    wasm_target()?;
    packages::browser()?;
    pythons()?;
    packages::node()?;
    // The end-to-end tests start this binary, and do not build it themselves.
    run("cargo", BUILD)?;
    let words = ["test", "--release", "--workspace"].map(OsString::from);
    run("cargo", words.iter().chain(args))?;
    // Always the same seeds, so that what passes here passes everywhere.
    run_built(
        "countersign-simulate",
        &["--seeds", "2000"].map(OsString::from),
    )
}

/// `cargo xtask bench`.
fn bench(args: &[OsString]) -> Result<(), Failure> {
    wasm_target()?;
    run("cargo", BUILD)?;
    let is_wanted = |part: &str| args.iter().any(|arg| arg.to_string_lossy().ends_with(part));
    let mut more: Vec<OsString> = Vec::new();
    if is_wanted("analytics") && !is_wanted("--duckdb") {
        match python(&BENCH_PYTHON) {
            Ok(python) => more.extend(["--duckdb".into(), python.into()]),
            Err(failure) => eprintln!("xtask: without DuckDB: {failure}"),
        }
    }
    if is_wanted("providers") && !is_wanted("--providers") {
        more.extend(["--providers".into(), projects::build()?.into()]);
    }
    let args = [args, &more].concat();
    run_built("countersign-bench", &args)
}

/// `cargo xtask simulate`.
fn simulate(args: &[OsString]) -> Result<(), Failure> {
    wasm_target()?;
    run("cargo", BUILD)?;
    run_built("countersign-simulate", args)
}

/// `cargo xtask screenshot`.
fn screenshot(args: &[OsString]) -> Result<(), Failure> {
    wasm_target()?;
    packages::browser()?;
    run("cargo", BUILD)?;
    let target = args.first().cloned().unwrap_or_else(|| PICTURE.into());
    run_built("countersign-screenshot", &[target])
}

/// Runs a program of the workspace that was built before.
fn run_built(program: &str, args: &[OsString]) -> Result<(), Failure> {
    let program = target().join("release").join(program);
    run(&program.to_string_lossy(), args)
}

/// The target folder, from the workspace's root.
fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from)
}

/// `cargo xtask crash`: the tests of kills and power cuts with more of both.
fn crash(args: &[OsString]) -> Result<(), Failure> {
    let flags = [
        ("--kills", "COUNTERSIGN_TEST_KILLS", "200"),
        ("--cuts", "COUNTERSIGN_TEST_CUTS", "100"),
        SEED,
    ];
    tests_at_length("at_random_moments", &flags, args)
}

/// `cargo xtask swap`: the test of swaps under load with more of them.
fn swap(args: &[OsString]) -> Result<(), Failure> {
    let flags = [("--swaps", "COUNTERSIGN_TEST_SWAPS", "100")];
    tests_at_length("while_components_are_swapped", &flags, args)
}

/// `cargo xtask fuzz`: the tests with arbitrary input for longer.
fn fuzz(args: &[OsString]) -> Result<(), Failure> {
    let flags = [("--seconds", "COUNTERSIGN_TEST_FUZZ_SECONDS", "60"), SEED];
    tests_at_length("fuzz::", &flags, args)
}

/// The flag of those who draw lots; without it each run has a seed of its own, which it prints.
const SEED: (&str, &str, &str) = ("--seed", "COUNTERSIGN_TEST_SEED", "");

/// Runs the tests `wanted` one after the other, told by environment what `args` say: each of `flags` is a
/// flag, the variable that it sets, and what that is without it.
fn tests_at_length(
    wanted: &str,
    flags: &[(&str, &'static str, &str)],
    args: &[OsString],
) -> Result<(), Failure> {
    let mut variables: Vec<_> = flags
        .iter()
        .filter(|(_, _, default)| !default.is_empty())
        .map(|(_, variable, default)| (*variable, (*default).to_owned()))
        .collect();
    for pair in args.chunks(2) {
        let named = flags
            .iter()
            .find(|(flag, ..)| pair[0].to_str() == Some(flag));
        let (_, variable, _) =
            named.ok_or_else(|| Failure(format!("there is no flag {:?} here", pair[0])))?;
        let number = pair.get(1).and_then(|number| number.to_str());
        let number = number.filter(|number| number.parse::<u64>().is_ok());
        let number = number.ok_or_else(|| Failure(format!("{:?} needs a number", pair[0])))?;
        variables.push((variable, number.to_owned()));
    }
    wasm_target()?;
    run("cargo", BUILD)?;
    let test = ["test", "--release", "--workspace", "--test", "all", "--"];
    let wanted = [wanted, "--nocapture", "--test-threads", "1"];
    run_with("cargo", test.iter().chain(&wanted), &variables)
}

/// `cargo xtask tidy`.
fn tidy() -> Result<(), Failure> {
    println!("==> tidy");
    let files = files()?;
    let mut findings: Vec<String> = Vec::new();
    let mut tree = documents::Tree::default();
    let mut frozen = frozen::Frozen::new();
    for file in &files {
        // A file may be listed and already deleted, or be no text at all.
        let Ok(text) = std::fs::read_to_string(root().join(file)) else {
            continue;
        };
        findings.extend(tidy::check(file, &text).iter().map(ToString::to_string));
        frozen.add(file, &text);
        tree.add(file, text);
    }
    findings.extend(tree.findings());
    findings.extend(frozen.findings());
    if findings.is_empty() {
        println!("    {} files", files.len());
        return Ok(());
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    Err(Failure(format!("tidy: {} findings", findings.len())))
}

/// The files that git tracks, and those that it would track with the next `git add`.
fn files() -> Result<Vec<String>, Failure> {
    let args = [
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ];
    let output = Command::new("git").args(args).current_dir(root()).output();
    let output = output.map_err(|error| Failure(format!("cannot run `git ls-files`: {error}")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Failure(format!("`git ls-files`: {}", text.trim())));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_terminator('\0').map(str::to_owned).collect())
}

/// Makes sure that components can be compiled.
fn wasm_target() -> Result<(), Failure> {
    let args = ["--print", "target-libdir", "--target", WASM_TARGET];
    let output = Command::new("rustc")
        .args(args)
        .current_dir(root())
        .output();
    let output = output.map_err(|error| Failure(format!("cannot run `rustc`: {error}")))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && folder.is_dir() {
        return Ok(());
    }
    run("rustup", ["target", "add", WASM_TARGET]).map_err(|failure| {
        Failure(format!(
            "the components need the target {WASM_TARGET}, and it could not be installed ({failure}); \
             type: rustup target add {WASM_TARGET}"
        ))
    })
}

/// Makes sure that those are there which tests need.
fn pythons() -> Result<(), Failure> {
    python(&TEST_PYTHON)?;
    python(&PROVIDER_PYTHON).map(drop)
}

/// Makes sure that a Python is there with its packages; returns its program.
fn python(python: &Python) -> Result<PathBuf, Failure> {
    let Python {
        folder,
        requirements,
        what,
    } = *python;
    let folder = target().join(folder);
    let program = folder.join("bin/python");
    let installed = root().join(&folder).join("requirements.txt");
    let wanted = std::fs::read(root().join(requirements));
    let wanted = wanted.map_err(|error| Failure(format!("cannot read {requirements}: {error}")))?;
    if std::fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(program);
    }
    let needed = |failure| {
        Failure(format!(
            "{what} needs Python, and that could not be set up ({failure}); \
             put Python 3.11 or newer with its module venv on the PATH"
        ))
    };
    let shown = folder.to_string_lossy();
    let make = ["-m", "venv", "--clear", &shown];
    if run("python3", make).is_err() {
        // Debian has the module in a package of its own.
        packages::install(what, &["python3", "python3-venv"])?;
        run("python3", make).map_err(needed)?;
    }
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-r",
        requirements,
    ];
    run(&program.to_string_lossy(), install).map_err(needed)?;
    // Last, so that what was broken off is done again.
    std::fs::write(&installed, wanted)
        .map_err(|error| Failure(format!("cannot write {}: {error}", installed.display())))?;
    Ok(program)
}

/// Runs a program in the workspace's root, and says so.
fn run<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Result<(), Failure> {
    run_with(program, args, &[])
}

/// The same, with some variables set; the last of a name counts.
fn run_with<A: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = A>,
    variables: &[(&str, String)],
) -> Result<(), Failure> {
    run_in(root(), program, args, variables)
}

/// The same in another folder.
fn run_in<A: AsRef<OsStr>>(
    folder: &Path,
    program: &str,
    args: impl IntoIterator<Item = A>,
    variables: &[(&str, String)],
) -> Result<(), Failure> {
    // The cargo that runs this is the one of the pinned toolchain.
    let path = match program {
        "cargo" => env::var_os("CARGO").unwrap_or_else(|| program.into()),
        _ => program.into(),
    };
    let mut command = Command::new(path);
    let mut line = program.to_owned();
    for arg in args {
        line += " ";
        line += &arg.as_ref().to_string_lossy();
        command.arg(arg);
    }
    println!("==> {line}");
    let started = Instant::now();
    let variables = variables.iter().map(|(name, value)| (name, value));
    let status = command.envs(variables).current_dir(folder).status();
    match status {
        Ok(status) if status.success() => {
            println!("    {:.1} s", started.elapsed().as_secs_f64());
            Ok(())
        }
        Ok(status) => Err(Failure(format!("`{line}` ended with {status}"))),
        Err(error) => Err(Failure(format!("cannot run `{line}`: {error}"))),
    }
}

/// The workspace's folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}
