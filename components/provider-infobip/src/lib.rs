//! Infobip SMS as a provider component of countersign.
//!
//! [`api`] sends and asks, [`report`] reads delivery reports and knows Infobip's words. The API key and
//! the login of callbacks are only ever named.
//!
//! Source: `infobip/infobip-api-python-client`; Infobip's pages "Message status codes", "Error code
//! reference", "Receive outbound SMS message report".

pub mod api;
pub mod report;

#[cfg(test)]
mod tests;

use countersign_provider::{
    Accepted, Callback, CallbackError, Host, Manifest, Message, News, Provider, SendError,
    StatusUpdate, manifest, setting,
};

/// The component.
#[derive(Clone, Copy, Debug)]
pub struct Infobip;

impl Provider for Infobip {
    fn manifest() -> Manifest {
        let settings = vec![
            setting(
                "base-url",
                "The account's own address, for example https://abc12.api.infobip.com.",
                true,
            ),
            setting(
                "from",
                "The sender: a number or up to 11 letters and digits.",
                true,
            ),
            setting(
                "reports",
                "message (the default): each message says where its reports go; subscription: the account's subscription does.",
                false,
            ),
        ];
        let credentials = vec![
            setting(api::KEY, "An API key.", true),
            setting(
                report::LOGIN,
                "What a subscription sends as HTTP Basic with its reports: user:password.",
                false,
            ),
        ];
        manifest("provider-infobip", settings, credentials, &[], true)
    }

    fn send(host: &mut impl Host, message: &Message) -> Result<Accepted, SendError> {
        api::send(host, message)
    }

    fn parse_callback(host: &mut impl Host, request: &Callback) -> Result<News, CallbackError> {
        report::parse(host, request)
    }

    fn fetch_status(host: &mut impl Host, ids: &[String]) -> Result<Vec<StatusUpdate>, SendError> {
        api::fetch_status(host, ids)
    }
}

countersign_provider::export!(Infobip);
