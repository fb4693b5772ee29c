//! A webhook of the operator's own as a provider component of countersign: for whatever is not built in.
//!
//! Both directions are signed as Standard Webhooks are: messages are posted to the operator's address
//! ([`outgoing`]), and what became of them is posted back ([`incoming`]). The signing key is only ever
//! named.

pub mod incoming;
pub mod outgoing;

#[cfg(test)]
mod tests;

use countersign_provider::{
    Accepted, Callback, CallbackError, Host, Key, KeyEncoding, Manifest, Message, News, Provider,
    SendError, manifest, setting,
};

/// The component.
#[derive(Clone, Copy, Debug)]
pub struct Webhook;

/// The credential that both directions are signed with.
const SIGNING_KEY: &str = "signing-key";

fn key() -> Key {
    Key {
        credential: SIGNING_KEY.into(),
        encoding: KeyEncoding::Base64,
    }
}

impl Provider for Webhook {
    fn manifest() -> Manifest {
        let settings = vec![
            setting("base-url", "The address that messages are posted to.", true),
            setting(
                "from",
                "The sender, as the receiver of the webhook knows it.",
                false,
            ),
            setting(
                "idempotent",
                "true: the receiver takes each webhook-id once, so a message whose answer was lost is posted again.",
                false,
            ),
        ];
        let credentials = vec![setting(
            SIGNING_KEY,
            "The key of Standard Webhooks: whsec_ and Base64.",
            true,
        )];
        manifest("provider-webhook", settings, credentials, &[], false)
    }

    fn send(host: &mut impl Host, message: &Message) -> Result<Accepted, SendError> {
        outgoing::send(host, message)
    }

    fn parse_callback(host: &mut impl Host, request: &Callback) -> Result<News, CallbackError> {
        incoming::parse(host, request)
    }
}

countersign_provider::export!(Webhook);
