//! The `analytics` service of countersign, a WebAssembly component: counts what became of messages and
//! what they cost, and answers from what it has counted.
//!
//! - [`event`] reads what a step of a message's life changes, [`fold`] counts it in [`cells`] and in a
//!   [`timeline`], [`dashboard`] adds up, to [`figures`]; [`recount`] replaces an hour by what its
//!   messages come to. `early` remembers codes that were accepted before their message had left.
//! - [`calendar`] knows hours, days and months, [`histogram`] spans of time, [`money`] amounts,
//!   [`settings`] what the operator has set.
//! - All over the trait [`host::Host`]; `component` lends it the component's imports.

pub mod calendar;
pub mod cells;
#[cfg(target_family = "wasm")]
mod component;
pub mod dashboard;
mod early;
pub mod event;
pub mod figures;
pub mod fold;
pub mod histogram;
pub mod host;
pub mod money;
pub mod recount;
pub mod settings;
pub mod timeline;

#[cfg(test)]
mod model;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// Why a call could not be decided. The host writes nothing and tells the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// The operator has to change a setting.
    #[error("setting `{name}` {must}")]
    Setting {
        /// Its name.
        name: String,
        /// What it must be.
        must: &'static str,
    },
    /// A row is not one that this version writes or reads.
    #[error("the row `{0}` is damaged")]
    Row(String),
    /// The caller must not ask for this.
    #[error("{0}")]
    Call(&'static str),
}
