//! The `two-factor` service of countersign, a WebAssembly component: which factors a user has, and what a
//! login needs.
//!
//! The rules are plain modules over the trait [`host::Host`]; the glue below lends it the component's
//! imports. Neither a user's id nor a secret, a hash or a code that nobody has typed is ever in here.

pub mod enrol;
pub mod host;
pub mod login;
mod notices;
pub mod rights;
pub mod settings;
pub mod support;
pub mod user;

#[cfg(test)]
mod model;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// Why a call could not be decided. The host writes nothing, tells the operator and answers 500.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// The operator has to change a setting.
    #[error("setting `{name}` {must}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What it must be.
        must: String,
    },
    /// The user's row is not one that this version writes or reads.
    #[error("the row of this user is damaged")]
    Row,
    /// The caller must not ask for this.
    #[error("{0}")]
    Call(&'static str),
    /// The otp component could not decide.
    #[error("otp: {0}")]
    Otp(String),
}

#[cfg(target_family = "wasm")]
mod component;
