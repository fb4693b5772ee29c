//! Vonage's SMS API as a provider component of countersign.
//!
//! [`api`] sends and knows Vonage's words, [`receipt`] reads delivery receipts. The API secret and the
//! signature secret are only ever named.
//!
//! Source: `Nexmo/api-specification` `definitions/sms.yml`; Vonage's pages "Signing Messages", "Delivery
//! Receipts", "API Errors".

pub mod api;
pub mod receipt;

#[cfg(test)]
mod tests;

use countersign_provider::{
    Accepted, Callback, CallbackError, Host, Manifest, Message, News, Provider, SendError,
    manifest, setting,
};

/// The component.
#[derive(Clone, Copy, Debug)]
pub struct Vonage;

impl Provider for Vonage {
    fn manifest() -> Manifest {
        let settings = vec![
            setting("api-key", "The account's API key.", true),
            setting(
                "from",
                "The sender: a number or up to 11 letters and digits.",
                true,
            ),
            setting(
                "signature-algorithm",
                "How the account signs its callbacks: sha256 (the default), sha512, sha1, md5 or md5-hash.",
                false,
            ),
            setting(
                "base-url",
                "Where Vonage's API is, by default https://rest.nexmo.com.",
                false,
            ),
        ];
        let credentials = vec![
            setting(api::SECRET, "The account's API secret.", true),
            setting(
                receipt::SECRET,
                "The account's signature secret, which signs callbacks once Vonage's support has switched that on.",
                false,
            ),
        ];
        manifest(
            "provider-vonage",
            settings,
            credentials,
            &["rest.nexmo.com"],
            false,
        )
    }

    fn send(host: &mut impl Host, message: &Message) -> Result<Accepted, SendError> {
        api::send(host, message)
    }

    fn parse_callback(host: &mut impl Host, request: &Callback) -> Result<News, CallbackError> {
        receipt::parse(host, request)
    }
}

countersign_provider::export!(Vonage);
