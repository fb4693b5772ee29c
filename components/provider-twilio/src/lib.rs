//! Twilio Programmable Messaging as a provider component of countersign.
//!
//! [`messages`] sends and asks, [`callback`] reads status callbacks, [`api`] knows Twilio's words. The
//! auth token is only ever named: the host puts it into requests and checks signatures by it.

pub mod api;
pub mod callback;
pub mod messages;

#[cfg(test)]
mod tests;

use countersign_provider::{
    Accepted, Callback, CallbackError, Host, Manifest, Message, News, Provider, SendError,
    StatusUpdate, manifest, setting,
};

/// The component.
#[derive(Clone, Copy, Debug)]
pub struct Twilio;

/// The credential that requests carry and status callbacks are signed with.
const AUTH_TOKEN: &str = "auth-token";

impl Provider for Twilio {
    fn manifest() -> Manifest {
        let settings = vec![
            setting(
                "account-sid",
                "The account's SID, which begins with AC.",
                true,
            ),
            setting(
                "from",
                "The sender: a number in E.164 or a sender id; needed without messaging-service-sid.",
                false,
            ),
            setting(
                "messaging-service-sid",
                "The messaging service that chooses the sender; it goes before from.",
                false,
            ),
            setting(
                "base-url",
                "Where Twilio's API is, by default https://api.twilio.com.",
                false,
            ),
        ];
        let credentials = vec![setting(
            AUTH_TOKEN,
            "The account's primary auth token, which also signs status callbacks.",
            true,
        )];
        manifest(
            "provider-twilio",
            settings,
            credentials,
            &["api.twilio.com"],
            true,
        )
    }

    fn send(host: &mut impl Host, message: &Message) -> Result<Accepted, SendError> {
        messages::send(host, message)
    }

    fn parse_callback(host: &mut impl Host, request: &Callback) -> Result<News, CallbackError> {
        callback::parse(host, request)
    }

    fn fetch_status(host: &mut impl Host, ids: &[String]) -> Result<Vec<StatusUpdate>, SendError> {
        messages::fetch_status(host, ids)
    }
}

countersign_provider::export!(Twilio);
