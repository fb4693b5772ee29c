//! Building WebAssembly components from inside a build script. Used by every crate that embeds some.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip2";
const PROFILE: &str = "component";

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn workspace_root() -> PathBuf {
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    package
        .ancestors()
        .find(|folder| folder.join("Cargo.lock").exists())
        .unwrap_or_else(|| panic!("no Cargo.lock above {}", package.display()))
        .to_owned()
}

/// Builds the workspace packages `names` for WebAssembly and copies each to `OUT_DIR`, its hyphens
/// made underscores.
///
/// # Panics
///
/// When a build fails, with what to do: a build script has no better way to say so.
pub(crate) fn build(names: &[&str]) {
    build_with(names, &[], "");
}

/// As [`build`], with `features`; what is built is called by its name and `suffix`.
pub(crate) fn build_with(names: &[&str], features: &[&str], suffix: &str) {
    let root = workspace_root();
    for file in ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }
    install_target();
    let out = PathBuf::from(variable("OUT_DIR"));
    // Beside the host's own build, so that all its profiles share one, and never the same folder:
    // the outer cargo holds that one's lock.
    let target = target_folder(&out).join("components");
    let mut cargo = clean(Command::new(variable("CARGO")));
    cargo
        .current_dir(&root)
        .args([
            "build",
            "--locked",
            "--target",
            TARGET,
            "--profile",
            PROFILE,
        ])
        .arg("--target-dir")
        .arg(&target);
    for name in names {
        cargo.args(["--package", name]);
    }
    if !features.is_empty() {
        cargo.args(["--features", &features.join(",")]);
    }
    let status = cargo.status().expect("cargo starts");
    assert!(status.success(), "building the components {names:?} failed");
    for name in names {
        let name = name.replace('-', "_");
        let built = target
            .join(TARGET)
            .join(PROFILE)
            .join(format!("{name}.wasm"));
        std::fs::copy(&built, out.join(format!("{name}{suffix}.wasm")))
            .unwrap_or_else(|error| panic!("cannot copy {}: {error}", built.display()));
    }
}

/// Makes sure that the standard library for the target is there.
fn install_target() {
    let libraries = clean(Command::new(variable("RUSTC")))
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .expect("rustc starts");
    let folder = String::from_utf8_lossy(&libraries.stdout);
    if Path::new(folder.trim()).exists() {
        return;
    }
    let installed = clean(Command::new("rustup"))
        .args(["target", "add", TARGET])
        .status();
    assert!(
        installed.is_ok_and(|status| status.success()),
        "the Rust target {TARGET} is missing; type `rustup target add {TARGET}`"
    );
}

/// The target folder that `out` lies in: the nearest one that cargo has tagged.
fn target_folder(out: &Path) -> &Path {
    out.ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .unwrap_or(out)
}

/// Without what the outer build says about its own target, flags and wrappers.
fn clean(mut command: Command) -> Command {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let inherited = text.starts_with("CARGO_")
            && !matches!(text.as_ref(), "CARGO_HOME" | "CARGO_NET_OFFLINE")
            && !text.starts_with("CARGO_HTTP")
            && !text.starts_with("CARGO_REGISTR");
        if inherited
            || matches!(
                text.as_ref(),
                "RUSTFLAGS"
                    | "RUSTC_WRAPPER"
                    | "RUSTC_WORKSPACE_WRAPPER"
                    | "RUSTDOCFLAGS"
                    | "TARGET"
            )
        {
            command.env_remove(&name);
        }
    }
    command
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}
