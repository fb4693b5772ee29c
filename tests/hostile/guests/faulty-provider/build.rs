//! Links the component with a small stack.

#[expect(
    clippy::disallowed_methods,
    reason = "this is how Cargo tells a build script the target"
)]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        // Rust's default is 1 MiB, and the host prepares all of it for every fresh instance: with
        // 64 KiB an instance costs less than half.
        println!("cargo:rustc-link-arg-cdylib=-z");
        println!("cargo:rustc-link-arg-cdylib=stack-size=65536");
    }
}
