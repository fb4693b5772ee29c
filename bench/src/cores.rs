//! The server on one core and everything else on the others.
//!
//! Where all of them share the cores, the load generator cannot ask for more than is answered: what
//! it asks, it takes away. Apart, it can, since asking costs a fraction of answering.

use std::fs;
use std::path::Path;
use std::process::{self, Command, Stdio};

use crate::Failure;

/// This process on all cores but the first of its own, which is the server's. Dropping it gives
/// them back.
#[derive(Debug)]
pub(crate) struct Apart {
    /// As `/proc` and `taskset` write it, for example `0-3,8`.
    all: String,
    first: usize,
}

impl Apart {
    /// Moves every thread of this process off the first core.
    ///
    /// # Errors
    ///
    /// With one core only, and where there is no `taskset`.
    pub(crate) fn new() -> Result<Apart, Failure> {
        let all = allowed()?;
        let cores = parse(&all)?;
        let [first, rest @ ..] = cores.as_slice() else {
            return Err("no core is allowed".into());
        };
        if rest.is_empty() {
            return Err("overload needs two cores: one for the server, one for the rest".into());
        }
        let rest: Vec<String> = rest.iter().map(usize::to_string).collect();
        let apart = Apart { all, first: *first };
        move_to(&rest.join(","))?;
        Ok(apart)
    }

    /// Starts `program` on the first core.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &self.first.to_string()]);
        command.arg(program);
        command
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // It worked with fewer cores; what comes next says so by its figures.
        let _ = move_to(&self.all);
    }
}

/// The cores of this process.
fn allowed() -> Result<String, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    Ok(list.ok_or("the kernel does not list cores")?.trim().into())
}

/// The cores of a list in the kernel's form (cpuset(7), "List format").
fn parse(list: &str) -> Result<Vec<usize>, Failure> {
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        cores.extend(from.parse()?..=to.parse::<usize>()?);
    }
    Ok(cores)
}

/// How often moving is tried: it fails where a thread ends between being listed and being moved.
const TRIES: u32 = 10;

/// Moves all threads of this process; those that they start are where they are.
fn move_to(cores: &str) -> Result<(), Failure> {
    let mut tries = 1;
    loop {
        let mut command = Command::new("taskset");
        command.args(["--all-tasks", "--cpu-list", "--pid", cores]);
        command.arg(process::id().to_string());
        let done = command.stdout(Stdio::null()).status();
        match done {
            Ok(status) if status.success() => return Ok(()),
            Ok(_) if tries < TRIES => tries += 1,
            Ok(status) => return Err(format!("`taskset` ended with {status}").into()),
            Err(error) => {
                return Err(format!("overload needs `taskset` of util-linux: {error}").into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse("0").expect("a list"), [0]);
        assert_eq!(
            parse("0-3,8,10-11").expect("a list"),
            [0, 1, 2, 3, 8, 10, 11]
        );
        assert!(parse("").is_err());
        assert!(parse("a-b").is_err());
    }
}
