//! End users of applications: what they may present, and what is signed for them.
//!
//! A user has no account here. An application names its users as it likes; the name goes no further
//! than this process, and everything that rests is found by its keyed hash.
//!
//! `token` is what an application hands to its user, `proof` what is signed for one, `qr` the image of a
//! secret, `shown` what is told of a user, `support` what operators do.

mod proof;
mod qr;
mod shown;
mod support;
mod token;

use std::sync::Arc;

use countersign_store::Keyring;
use countersign_types::UnixMillis;

pub(crate) use proof::{ProofSettings, Proofs};
pub(crate) use qr::svg;
pub(crate) use shown::{Entry, State, Trail, by_line};
pub(crate) use support::{
    MOVED_AT_ONCE, MoveOutcome, Moved, Moving, Name, UserShown, UsersRequest, operator, perform,
};
pub(crate) use token::{NewToken, Purpose, Token, TokenSettings, Tokens};

use crate::config::TwoFactor;

/// What users may present, and what is signed for them.
pub(crate) struct Users {
    pub(crate) tokens: Tokens,
    pub(crate) proofs: Proofs,
}

impl Users {
    /// Tokens and proofs under the keys of `keyring`. `restored`: when the store was last made from a backup;
    /// what was made before may have been used since that, and is void.
    pub(crate) fn new(
        keyring: &Arc<Keyring>,
        settings: TwoFactor,
        restored: UnixMillis,
    ) -> Arc<Users> {
        Arc::new(Users {
            tokens: Tokens::new(keyring.clone(), settings.tokens, restored),
            proofs: Proofs::new(keyring.clone(), settings.proofs, restored),
        })
    }
}
