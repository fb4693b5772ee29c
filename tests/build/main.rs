//! Compiles what tests load into programs: the disk that loses power, `disk/disk.c`, and the clock that
//! stands where it is put, `clock/clock.c`.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "this is how cargo and a build script talk to each other"
)]

use std::env;
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    compile("disk", "DISK_LIBRARY")?;
    compile("clock", "CLOCK_LIBRARY")
}

/// Compiles `NAME/NAME.c` to a library whose path is in `variable` when the tests are compiled.
fn compile(name: &str, variable: &str) -> Result<(), Box<dyn Error>> {
    let source = format!("{name}/{name}.c");
    println!("cargo::rerun-if-changed={source}");
    let library = Path::new(&env::var("OUT_DIR")?).join(format!("{name}.so"));
    // The compiler that the host's own dependencies are built with.
    let compiler = cc::Build::new().get_compiler();
    let status = compiler
        .to_command()
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"])
        .args(["-o".as_ref(), library.as_os_str()])
        .args([&source, "-ldl", "-lpthread"])
        .status()?;
    if !status.success() {
        return Err(format!("the C compiler ended with {status} on {source}").into());
    }
    println!("cargo::rustc-env={variable}={}", library.display());
    Ok(())
}
