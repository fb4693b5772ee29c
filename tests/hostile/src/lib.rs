//! Components made to test the host, as bytes.

/// A service that does what its script says; see `guests/script.rs`. It may call otp.
pub const PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe.wasm"));

/// The same in the place of otp: its script is the phone number of a send.
pub const PROBE_OTP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe_otp.wasm"));

/// A provider that does what the text of its message says.
pub const PROBE_PROVIDER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe_provider.wasm"));

/// A provider that is right, but for the mistake that its setting `fault` names, and the description of its
/// company.
pub const FAULTY_PROVIDER: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/faulty_provider.wasm"));

/// The `conformance.toml` of [`FAULTY_PROVIDER`].
pub const FAULTY_PROVIDER_CONFORMANCE: &str =
    include_str!("../guests/faulty-provider/conformance.toml");

/// The built-in otp as its next release might be: it reads the rows of the present one and writes a newer
/// format.
pub const OTP_NEXT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/otp_next.wasm"));

/// The release after that, which has left the old format behind.
pub const OTP_NEXT_ALONE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/otp_next_alone.wasm"));

/// An otp that passes its self-test and traps at everything else.
pub const OTP_FAILING: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/otp_failing.wasm"));

/// `component` as another version that does the same: with a section in it that says `name`.
pub fn variant(component: &[u8], name: &str) -> Vec<u8> {
    let name = name.as_bytes();
    let text = &name[..name.len().min(100)];
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    // A custom section: its id, its length, and its name with that one's length before it.
    let head = [0, length(text) + 1, length(text)];
    [component, &head, text].concat()
}
