//! Who may do what: tokens, and proofs of a factor. Both are used once, which is a row of their own until
//! they would have ended anyway.

use crate::Undecided;
use crate::host::{Host, Instant};
use crate::user::{Session, is_id};

/// In whose right a request is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// The application, for this user.
    Application,
    /// Who holds a token for enrolling.
    EnrolmentToken(Once),
    /// Who holds a token for one login.
    LoginToken(Once),
}

/// A token or a proof: something that is good once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// Its name.
    pub id: String,
    /// When it ends.
    pub ends: Instant,
}

/// A proof of a factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// It is good for one change.
    pub once: Once,
    /// When the factor was shown, to the second.
    pub made: Instant,
}

/// Why a request may not be made at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The user has a factor, so that a change needs a fresh proof.
    ProofRequired,
    /// The token has done what it is for, or is over.
    TokenUsed,
    /// The token is for something else.
    NotPermitted,
}

/// What a permitted change rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// The user has shown a factor.
    pub proven: bool,
    /// What is used up when the change is made.
    proof: Option<Once>,
}

impl<H: Host> Session<'_, H> {
    /// Whether a factor may be added, changed or removed. `proven`: a proof was given for this very change
    /// before.
    ///
    /// # Errors
    /// [`Undecided`] for an id that cannot be part of a key.
    pub fn may_change(
        &mut self,
        authority: &Authority,
        proof: Option<&Proof>,
        proven: bool,
    ) -> Result<Result<Right, Denial>, Undecided> {
        let by_token = match authority {
            Authority::Application => false,
            Authority::LoginToken(_) => return Ok(Err(Denial::NotPermitted)),
            Authority::EnrolmentToken(token) => {
                if self.is_used("token", token)? {
                    return Ok(Err(Denial::TokenUsed));
                }
                true
            }
        };
        if !self.has_factor() {
            let right = Right {
                proven: false,
                proof: None,
            };
            return Ok(Ok(right));
        }
        let proof = match proof {
            Some(Proof { once, made })
                if !self.is_void(*made) && !self.is_used("proof", once)? =>
            {
                Some(once.clone())
            }
            _ if proven && !by_token => None,
            _ => return Ok(Err(Denial::ProofRequired)),
        };
        if by_token {
            return Ok(Err(Denial::NotPermitted));
        }
        let right = Right {
            proven: true,
            proof,
        };
        Ok(Ok(right))
    }

    /// Whether a login may be begun or ended.
    ///
    /// # Errors
    /// [`Undecided`] for an id that cannot be part of a key.
    pub fn may_log_in(&mut self, authority: &Authority) -> Result<Result<(), Denial>, Undecided> {
        Ok(match authority {
            Authority::Application => Ok(()),
            Authority::EnrolmentToken(_) => Err(Denial::NotPermitted),
            Authority::LoginToken(token) if self.is_used("token", token)? => Err(Denial::TokenUsed),
            Authority::LoginToken(_) => Ok(()),
        })
    }

    /// The change was made: its proof is used up.
    pub fn use_right(&mut self, right: &Right) {
        if let Some(proof) = &right.proof {
            self.use_up("proof", proof);
        }
    }

    /// What proofs were made by is no longer what the user has: those from before this call are void, and
    /// so is what was asked for with one and is still pending. Or whoever has stolen a phone would have five
    /// minutes more, and a pending factor for half an hour, after its owner has put another in its place.
    pub(crate) fn end_proofs(&mut self) {
        self.user.proofs_from = Some(self.now);
        self.user.app_proven = false;
        if let Some(pending) = &mut self.user.pending {
            pending.proven = false;
        }
    }

    /// Proofs tell whole seconds, so one of the very second of the change counts: the change's own does.
    fn is_void(&self, made: Instant) -> bool {
        let second = |instant: Instant| instant / 1_000;
        self.user
            .proofs_from
            .is_some_and(|from| second(made) < second(from))
    }

    /// The token has done what it is for.
    pub fn use_token(&mut self, authority: &Authority) {
        match authority {
            Authority::Application => {}
            Authority::EnrolmentToken(token) | Authority::LoginToken(token) => {
                self.use_up("token", token);
            }
        }
    }

    fn is_used(&mut self, what: &str, once: &Once) -> Result<bool, Undecided> {
        if !is_id(&once.id) {
            return Err(Undecided::Call(
                "a token or a proof has a name that cannot be part of a key",
            ));
        }
        let key = self.once_key(what, once);
        Ok(once.ends <= self.now || self.host.get(&key).is_some())
    }

    fn use_up(&mut self, what: &str, once: &Once) {
        let key = self.once_key(what, once);
        self.host.put(&key, &[], Some(once.ends));
    }

    fn once_key(&self, what: &str, once: &Once) -> String {
        format!("{what}/{}/{}", self.service, once.id)
    }
}
