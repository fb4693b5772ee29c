//! Builds the components that test the host.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "this is how cargo and a build script talk to each other"
)]

#[path = "../../../host/embedded/build/components.rs"]
mod components;

fn main() {
    let root = components::workspace_root();
    for folder in ["tests/hostile/guests", "tests/hostile/wit", "wit"] {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
    }
    components::build(&["probe", "probe-otp", "probe-provider"]);
}
