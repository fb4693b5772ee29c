//! Providers of third parties, as somebody writes and builds them who has just begun one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::{Failure, PROVIDER_PYTHON, packages, python, root, run_in, target};

/// What each project is called.
const NAME: &str = "bench-sms";

/// Writes and builds a provider in each language; returns the folder with `rust.wasm`, `js.wasm` and `python.wasm`.
pub(crate) fn build() -> Result<PathBuf, Failure> {
    packages::node()?;
    python(&PROVIDER_PYTHON)?;
    let target = root().join(target());
    let all = target.join("bench-providers");
    let modules = Some(("node_modules", target.join("provider-js/node_modules")));
    let venv = Some((".venv", target.join(PROVIDER_PYTHON.folder)));
    let of_cargo = all.join("target");
    let rust = [
        "build",
        "--release",
        "--target",
        crate::WASM_TARGET,
        "--target-dir",
        &of_cargo.to_string_lossy(),
    ];
    let built = of_cargo.join(format!("{}/release/bench_sms.wasm", crate::WASM_TARGET));
    let made = |language: &str| all.join(language).join(format!("{NAME}.wasm"));
    project(&all, "rust", None, "cargo", &rust, &built)?;
    project(&all, "js", modules, "npm", &["run", "build"], &made("js"))?;
    project(
        &all,
        "python",
        venv,
        "python3",
        &["build.py"],
        &made("python"),
    )?;
    Ok(all)
}

/// Writes a project in `language`, lends it the packages that its build would install, and builds it.
fn project(
    all: &Path,
    language: &str,
    lent: Option<(&str, PathBuf)>,
    program: &str,
    args: &[&str],
    built: &Path,
) -> Result<(), Failure> {
    let folder = all.join(language);
    let failed = |what: &Path, error| Failure(format!("{}: {error}", what.display()));
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| failed(&folder, error))?;
    }
    fs::create_dir_all(all).map_err(|error| failed(all, error))?;
    let countersign = root().join(target()).join("release/countersign");
    let into = folder.to_string_lossy();
    let new = ["provider", "new", NAME, "--lang", language, "--into", &into];
    run_in(root(), &countersign.to_string_lossy(), new, &[])?;
    if language == "rust" {
        // The very versions that this repository is built with.
        let lock = folder.join("Cargo.lock");
        fs::copy(root().join("Cargo.lock"), &lock).map_err(|error| failed(&lock, error))?;
    }
    if let Some((name, there)) = lent {
        let here = folder.join(name);
        symlink(there, &here).map_err(|error| failed(&here, error))?;
    }
    run_in(&folder, program, args, &[])?;
    let component = all.join(format!("{language}.wasm"));
    fs::copy(built, &component).map_err(|error| failed(&component, error))?;
    Ok(())
}
