//! Telnyx Messaging as a provider component of countersign.
//!
//! [`api`] sends and knows Telnyx's words, [`webhook`] reads its webhooks. The API key and the public key
//! are only ever named.
//!
//! Source: `team-telnyx/telnyx-python`; Telnyx's pages "Messaging Error Code Reference", "API errors",
//! "Receiving Webhooks for Messaging".

pub mod api;
pub mod webhook;

#[cfg(test)]
mod tests;

use countersign_provider::{
    Accepted, Callback, CallbackError, Host, Manifest, Message, News, Provider, SendError,
    manifest, setting,
};

/// The component.
#[derive(Clone, Copy, Debug)]
pub struct Telnyx;

impl Provider for Telnyx {
    fn manifest() -> Manifest {
        let settings = vec![
            setting(
                "from",
                "The sender: a number in E.164, a short code or a sender id; needed without messaging-profile-id.",
                false,
            ),
            setting(
                "messaging-profile-id",
                "The messaging profile; needed with a number pool or a sender id.",
                false,
            ),
            setting(
                "base-url",
                "Where Telnyx's API is, by default https://api.telnyx.com.",
                false,
            ),
        ];
        let credentials = vec![
            setting(api::KEY, "An API key (v2).", true),
            setting(
                webhook::PUBLIC_KEY,
                "The account's public key, which webhooks are checked by, in Base64.",
                false,
            ),
        ];
        manifest(
            "provider-telnyx",
            settings,
            credentials,
            &["api.telnyx.com"],
            false,
        )
    }

    fn send(host: &mut impl Host, message: &Message) -> Result<Accepted, SendError> {
        api::send(host, message)
    }

    fn parse_callback(host: &mut impl Host, request: &Callback) -> Result<News, CallbackError> {
        webhook::parse(host, request)
    }
}

countersign_provider::export!(Telnyx);
