//! The frame of a component: the exports over a [`Provider`], the imports as a [`Host`].

use std::marker::PhantomData;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::bindings::countersign::provider::{http, settings, signatures};
use crate::bindings::exports::countersign::provider::sender;
use crate::{
    Accepted, Callback, CallbackError, Failure, Hash, Key, Manifest, Message, News, Request,
    Response, SendError, StatusUpdate,
};

/// The imports of a provider component, so that its rules also run natively, in tests.
pub trait Host {
    /// `settings.get`.
    fn setting(&self, name: &str) -> Option<String>;
    /// `http.send`.
    ///
    /// # Errors
    /// When there was no answer.
    fn send(&mut self, request: &Request) -> Result<Response, Failure>;
    /// `signatures.verify-hmac`.
    fn verify_hmac(&mut self, algorithm: Hash, key: &Key, data: &[u8], given: &[u8]) -> bool;
    /// `signatures.verify-digest`.
    fn verify_digest(&mut self, algorithm: Hash, key: &Key, data: &[u8], given: &[u8]) -> bool;
    /// `signatures.verify-secret`.
    fn verify_secret(&mut self, key: &Key, given: &[u8]) -> bool;
    /// `signatures.verify-ed25519`.
    fn verify_ed25519(&mut self, key: &Key, data: &[u8], given: &[u8]) -> bool;
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now(&self) -> u64;
}

/// One company's API.
pub trait Provider {
    /// What it is and needs. It is asked without any import.
    fn manifest() -> Manifest;

    /// Hands `message` over.
    ///
    /// # Errors
    /// When the company did not take it, or may not have.
    fn send(host: &mut impl Host, message: &Message) -> Result<Accepted, SendError>;

    /// Reads a callback: news of messages, and what people have answered.
    ///
    /// # Errors
    /// When it is not signed by the company, or cannot be understood.
    fn parse_callback(host: &mut impl Host, request: &Callback) -> Result<News, CallbackError>;

    /// Asks for the present state of messages: nothing, where the company cannot be asked.
    ///
    /// # Errors
    /// When not one of them could be asked for.
    fn fetch_status(
        _host: &mut impl Host,
        _ids: &[String],
    ) -> Result<Vec<StatusUpdate>, SendError> {
        Ok(Vec::new())
    }
}

/// The exports of the component that `P` is made into.
#[derive(Debug)]
pub struct Component<P>(PhantomData<P>);

impl<P: Provider> sender::Guest for Component<P> {
    fn describe() -> Manifest {
        P::manifest()
    }

    fn send(message: Message) -> Result<Accepted, SendError> {
        P::send(&mut Imports, &message)
    }

    fn parse_callback(request: Callback) -> Result<News, CallbackError> {
        P::parse_callback(&mut Imports, &request)
    }

    fn fetch_status(ids: Vec<String>) -> Result<Vec<StatusUpdate>, SendError> {
        P::fetch_status(&mut Imports, &ids)
    }
}

/// What the component imports.
#[derive(Clone, Copy, Debug)]
struct Imports;

impl Host for Imports {
    fn setting(&self, name: &str) -> Option<String> {
        settings::get(name)
    }

    fn send(&mut self, request: &Request) -> Result<Response, Failure> {
        http::send(request)
    }

    fn verify_hmac(&mut self, algorithm: Hash, key: &Key, data: &[u8], given: &[u8]) -> bool {
        signatures::verify_hmac(algorithm, key, data, given)
    }

    fn verify_digest(&mut self, algorithm: Hash, key: &Key, data: &[u8], given: &[u8]) -> bool {
        signatures::verify_digest(algorithm, key, data, given)
    }

    fn verify_secret(&mut self, key: &Key, given: &[u8]) -> bool {
        signatures::verify_secret(key, given)
    }

    fn verify_ed25519(&mut self, key: &Key, data: &[u8], given: &[u8]) -> bool {
        signatures::verify_ed25519(key, data, given)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the door to the host's clock, which WASI hands in"
    )]
    fn now(&self) -> u64 {
        // Never before 1970, and in range for 500 million years.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64)
    }
}

/// Makes a component of a [`Provider`]: `countersign_provider::export!(Company);` at the root of its crate.
/// In a native library there are no exports, so that its tests link.
#[macro_export]
macro_rules! export {
    ($provider:ident) => {
        #[cfg(target_family = "wasm")]
        #[expect(
            unsafe_code,
            reason = "the exports that wit-bindgen generates are raw symbols"
        )]
        mod component {
            type Exported = $crate::Component<super::$provider>;
            $crate::bindings::export_bindings!(Exported with_types_in $crate::bindings);
        }
    };
}
