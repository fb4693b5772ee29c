//! Builds the built-in components.

mod components;

fn main() {
    let root = components::workspace_root();
    for folder in ["components", "wit"] {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
    }
    components::build(&["otp", "provider-twilio", "provider-console"]);
}
