//! Twilio Programmable Messaging as a provider component of countersign.
//!
//! [`messages`] sends and asks, [`callback`] reads status callbacks, [`api`] knows Twilio's words;
//! all over the trait [`host::Host`], to which the glue below lends the component's imports. The
//! auth token is only ever named: the host puts it into requests and checks signatures by it.

pub mod api;
pub mod callback;
pub mod host;
pub mod messages;

#[cfg(test)]
mod tests;

#[cfg(target_family = "wasm")]
#[expect(
    unsafe_code,
    reason = "the exports that wit-bindgen generates are raw symbols"
)]
mod component {
    //! The component's exports, and its imports as a [`Host`].

    mod bindings {
        #![allow(missing_docs, reason = "generated from the WIT, which is documented")]
        wit_bindgen::generate!({
            path: ["../../wit/provider/0.1"],
            world: "countersign:provider/provider",
        });
    }

    use std::time::{SystemTime, UNIX_EPOCH};

    use bindings::countersign::provider::{http, settings, signatures};
    use bindings::exports::countersign::provider::sender;

    use crate::host::{self, Host};
    use crate::{callback, messages};

    const AUTH_TOKEN: &str = "auth-token";

    struct Component;

    impl sender::Guest for Component {
        fn describe() -> sender::Manifest {
            let setting = |name: &str, description: &str, required| sender::Setting {
                name: name.into(),
                description: description.into(),
                required,
            };
            sender::Manifest {
                name: "provider-twilio".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                settings: vec![
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
                ],
                credentials: vec![setting(
                    AUTH_TOKEN,
                    "The account's primary auth token, which also signs status callbacks.",
                    true,
                )],
                hosts: vec!["api.twilio.com".into()],
                attributes: vec![("fetch-status".into(), "supported".into())],
            }
        }

        fn send(message: sender::Message) -> Result<sender::Accepted, sender::SendError> {
            let message = messages::Message {
                to: message.to,
                text: message.text,
                sender: message.sender,
                validity: message.validity,
                status_callback: message.status_callback,
            };
            match messages::send(&mut Imports, &message) {
                Ok(accepted) => Ok(sender::Accepted {
                    ids: vec![accepted.id],
                    segments: accepted.segments,
                    price: accepted.price.map(Into::into),
                    attributes: Vec::new(),
                }),
                Err(error) => Err(error.into()),
            }
        }

        fn parse_callback(
            request: sender::Callback,
        ) -> Result<Vec<sender::StatusUpdate>, sender::CallbackError> {
            let request = callback::Callback {
                method: request.method,
                url: request.url,
                headers: request.headers,
                body: request.body,
            };
            match callback::parse(&mut Imports, &request) {
                Ok(updates) => Ok(updates.into_iter().map(Into::into).collect()),
                Err(callback::CallbackError::Unsigned) => Err(sender::CallbackError::Unsigned),
                Err(callback::CallbackError::Malformed) => Err(sender::CallbackError::Malformed),
            }
        }

        fn fetch_status(ids: Vec<String>) -> Result<Vec<sender::StatusUpdate>, sender::SendError> {
            match messages::fetch_status(&mut Imports, &ids) {
                Ok(updates) => Ok(updates.into_iter().map(Into::into).collect()),
                Err(error) => Err(error.into()),
            }
        }
    }

    bindings::export!(Component with_types_in bindings);

    struct Imports;

    impl Host for Imports {
        fn setting(&self, name: &str) -> Option<String> {
            settings::get(name)
        }

        fn send(
            &mut self,
            username: &str,
            request: host::Request,
        ) -> Result<host::Response, host::Failure> {
            let (method, body) = match request.form {
                Some(form) => (http::Method::Post, http::Body::Form(form)),
                None => (http::Method::Get, http::Body::Empty),
            };
            let answer = http::send(&http::Request {
                method,
                url: request.url,
                headers: vec![("accept".into(), "application/json".into())],
                body,
                authorization: http::Authorization::Basic(http::Basic {
                    username: http::Text::Plain(username.into()),
                    password: http::Text::Credential(AUTH_TOKEN.into()),
                }),
                timeout: None,
            });
            match answer {
                Ok(response) => Ok(host::Response {
                    status: response.status,
                    headers: response.headers,
                    body: response.body,
                }),
                Err(failure) => Err(host::Failure {
                    text: failure.text,
                    maybe_sent: failure.maybe_sent,
                }),
            }
        }

        fn verify_hmac_sha1(&mut self, data: &[u8], given: &[u8]) -> bool {
            signatures::verify_hmac(signatures::Hash::Sha1, AUTH_TOKEN, data, given)
        }

        #[expect(
            clippy::disallowed_methods,
            reason = "the door to the host's clock, which WASI hands in"
        )]
        fn now(&self) -> host::Instant {
            // Never before 1970, and in range for 500 million years.
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64)
        }
    }

    impl From<host::Price> for sender::Price {
        fn from(price: host::Price) -> Self {
            Self {
                amount: price.amount,
                currency: price.currency,
            }
        }
    }

    impl From<host::SendError> for sender::SendError {
        fn from(error: host::SendError) -> Self {
            let failover = error
                .failover
                .then(|| ("failover".into(), "allowed".into()));
            Self {
                class: error.class.into(),
                retry_after: error.retry_after,
                provider_code: error.provider_code,
                text: error.text,
                attributes: failover.into_iter().collect(),
            }
        }
    }

    impl From<host::ErrorClass> for sender::ErrorClass {
        fn from(class: host::ErrorClass) -> Self {
            match class {
                host::ErrorClass::Permanent => Self::Permanent,
                host::ErrorClass::Retryable => Self::Retryable,
                host::ErrorClass::Throttled => Self::Throttled,
                host::ErrorClass::Auth => Self::Auth,
                host::ErrorClass::Blocked => Self::Blocked,
                host::ErrorClass::UnknownOutcome => Self::UnknownOutcome,
            }
        }
    }

    impl From<host::StatusUpdate> for sender::StatusUpdate {
        fn from(update: host::StatusUpdate) -> Self {
            Self {
                id: update.id,
                status: match update.status {
                    host::Status::Queued => sender::Status::Queued,
                    host::Status::Sent => sender::Status::Sent,
                    host::Status::Delivered => sender::Status::Delivered,
                    host::Status::Undelivered => sender::Status::Undelivered,
                    host::Status::Failed => sender::Status::Failed,
                    host::Status::Read => sender::Status::Read,
                },
                error: update.error.map(Into::into),
                at: update.at,
                price: update.price.map(Into::into),
                segments: update.segments,
                attributes: Vec::new(),
            }
        }
    }
}
