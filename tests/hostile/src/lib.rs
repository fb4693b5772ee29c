//! Components made to test the host, as bytes.

/// A service that does what its script says; see `guests/script.rs`. It may call otp.
pub const PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe.wasm"));

/// The same in the place of otp: its script is the phone number of a send.
pub const PROBE_OTP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe_otp.wasm"));

/// A provider that does what the text of its message says.
pub const PROBE_PROVIDER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe_provider.wasm"));
