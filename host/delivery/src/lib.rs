//! From a job to a provider: which text, which provider, and what to do when it fails.
//!
//! The digits of a code exist here twice, for a moment each: when its message is rendered, and when
//! the `codes` capability above compares what a user typed ([`codes`]). A provider is anything that
//! is a [`Sender`]; nothing here knows WebAssembly or HTTP.

mod after;
mod breaker;
pub mod codes;
mod deliver;
mod follow;
mod gate;
mod health;
mod origin;
mod rate;
mod retry;
mod route;
mod scrub;
mod segments;
mod template;
#[cfg(test)]
mod testing;
mod texts;

pub use breaker::{BreakerState, BreakerTerms};
pub use deliver::{Delivery, DeliveryConfig, ProviderTerms, Sender};
pub use follow::{Follower, StatusSource};
pub use health::{Health, ProviderHealth};
pub use origin::{OfferedOrigin, offered_origins};
pub use retry::retry_delay;
pub use route::{Route, Routes};
pub use scrub::scrub;
pub use segments::{Encoding, OddLetter, Segments, dear_letters, odd_letters};
pub use template::{Template, TemplateError};
pub use texts::{Language, Text, Texts};
