//! Builds the built-in components.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "this is how cargo and a build script talk to each other"
)]

mod components;

fn main() {
    let root = components::workspace_root();
    for folder in ["components", "wit"] {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
    }
    components::build(&[
        "otp",
        "two-factor",
        "analytics",
        "provider-console",
        "provider-infobip",
        "provider-telnyx",
        "provider-twilio",
        "provider-vonage",
        "provider-webhook",
    ]);
}
