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
mod rate;
mod retry;
mod route;
mod scrub;
mod template;
#[cfg(test)]
mod testing;

pub use breaker::{BreakerState, BreakerTerms};
pub use deliver::{Delivery, DeliveryConfig, ProviderTerms, Sender};
pub use follow::{Follower, StatusSource};
pub use health::{Health, ProviderHealth};
pub use retry::retry_delay;
pub use route::{Route, Routes};
pub use scrub::scrub;
pub use template::{Template, TemplateError};
