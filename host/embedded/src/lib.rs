//! The built-in components, as bytes.
//!
//! The build script builds them from `components/` for `wasm32-wasip2`, in a target folder of their
//! own, whenever their sources or the WIT change.

/// Sends and checks one-time passwords.
pub const OTP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/otp.wasm"));

/// Enrols users' factors and checks their logins.
pub const TWO_FACTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/two_factor.wasm"));

/// Counts what became of messages.
pub const ANALYTICS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/analytics.wasm"));

/// Speaks Twilio's Messages API.
pub const PROVIDER_TWILIO: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/provider_twilio.wasm"));

/// Prints messages to the terminal.
pub const PROVIDER_CONSOLE: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/provider_console.wasm"));

/// Speaks Infobip's SMS API.
pub const PROVIDER_INFOBIP: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/provider_infobip.wasm"));

/// Speaks Telnyx's Messaging API.
pub const PROVIDER_TELNYX: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/provider_telnyx.wasm"));

/// Speaks Vonage's SMS API.
pub const PROVIDER_VONAGE: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/provider_vonage.wasm"));

/// Posts messages to an address of the operator's own.
pub const PROVIDER_WEBHOOK: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/provider_webhook.wasm"));
