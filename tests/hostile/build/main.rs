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
    for folder in [
        "components/otp",
        "tests/hostile/guests",
        "tests/hostile/wit",
        "wit",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
    }
    components::build(&[
        "faulty-provider",
        "otp-failing",
        "probe",
        "probe-otp",
        "probe-provider",
    ]);
    components::build_with(&["otp"], &["otp/next-format"], "_next");
    components::build_with(&["otp"], &["otp/next-format-alone"], "_next_alone");
}
