//! What provider components share: the frame of a component, requests and answers, classes of errors,
//! money, time, and a host to test them against.
//!
//! A provider is a type that implements [`Provider`]: it says what it needs, makes requests of messages
//! and reads answers and callbacks, all over the trait [`Host`]. [`export!`] makes a component of it.
//! The words of the WIT are used as they are, so nothing is converted.
#![warn(missing_docs)]

#[doc(hidden)]
pub mod bindings {
    #![allow(missing_docs, reason = "generated from the WIT, which is documented")]
    #![allow(
        unsafe_code,
        reason = "imports are raw symbols in a component, and nothing in a native library"
    )]
    #![allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        unreachable_pub,
        reason = "generated"
    )]
    wit_bindgen::generate!({
        path: ["../../wit/provider/0.1"],
        world: "countersign:provider/provider",
        pub_export_macro: true,
        export_macro_name: "export_bindings",
        default_bindings_module: "countersign_provider::bindings",
        additional_derives: [PartialEq, Eq],
    });
}

mod answer;
mod callback;
mod component;
#[cfg(not(target_family = "wasm"))]
pub mod fake;
mod money;
mod request;
mod text;
mod time;

pub use answer::{
    body, class_of_status, error, id, is_success, misconfigured, no_answer, number, refused,
    repeatable, unreadable, with_failover,
};
pub use bindings::countersign::provider::http::{
    Authorization, Basic, Body, ClientCredentials, Failure, Field, Header, Method, Request,
    Response, Signed, Sigv4, Text, TextEncoding,
};
pub use bindings::countersign::provider::signatures::{Hash, Key, KeyEncoding};
pub use bindings::exports::countersign::provider::sender::{
    Accepted, Answer, Callback, CallbackError, ErrorClass, Manifest, Message, News, Price, Reply,
    SendError, Setting, Status, StatusUpdate, Wish,
};
pub use callback::{form, header, hex, is_recent, news, query_of, reply, unhex};
pub use component::{Component, Host, Provider};
pub use money::{price, sum, times};
pub use request::{base_url, get, manifest, post_form, post_json, setting, sign_key, wanted};
pub use text::{Encoding, encoding, segments};
pub use time::{http_date, retry_after, rfc3339, to_rfc3339};

/// How many requests one call may send.
pub const REQUESTS_MAX: usize = 8;

/// `verify-hmac` and its like take so much.
pub const SIGNED_BYTES_MAX: usize = 1 << 20;

/// How many updates a callback may tell.
pub const UPDATES_MAX: usize = 1_000;
