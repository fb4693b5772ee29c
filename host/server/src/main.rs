//! The program `countersign`.

use std::process::ExitCode;

/// A call and its delivery allocate some hundred times: the C library's allocator took a sixth of the
/// processor time, and much of it over again in caches. `BENCHMARKS.md` has the figures of both.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    countersign::cli::main()
}
