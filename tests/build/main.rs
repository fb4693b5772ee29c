//! Compiles the disk that loses power, `disk/disk.c`, to a library that tests load into programs.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "this is how cargo and a build script talk to each other"
)]

use std::env;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=disk/disk.c");
    let library = Path::new(&env::var("OUT_DIR")?).join("disk.so");
    // The compiler that the host's own dependencies are built with.
    let compiler = cc::Build::new().get_compiler();
    let status = compiler
        .to_command()
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"])
        .args(["-o".as_ref(), library.as_os_str()])
        .args(["disk/disk.c", "-ldl", "-lpthread"])
        .status()?;
    if !status.success() {
        return Err(format!("the C compiler ended with {status}").into());
    }
    println!("cargo::rustc-env=DISK_LIBRARY={}", library.display());
    Ok(())
}
