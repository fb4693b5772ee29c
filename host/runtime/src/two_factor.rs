//! Two-factor authentication as the server calls it: users, factors, logins.
//!
//! The component knows a user by an index only, and no secret at all; what it made the host draw
//! during a call stands in the answer beside its verdict.

mod wit;

use std::fmt;

use countersign_types::{Secret, UnixMillis, is_control};

use crate::Runtime;
use crate::bindings::two_factor::exports::countersign::service::two_factor as bindings;
use crate::call::{CallContext, CallError};
use crate::once::Once;
use crate::otp::Refusal;
use crate::runtime::Subject;
use crate::secrets::SecretValue;
use crate::totp::{MOVED_SECRET_BYTES, from_base32};

/// The longest id of a user, in bytes.
const USER_BYTES_MAX: usize = 128;

/// A user as the application names them: 1 to 128 bytes of text without control characters, nor what
/// breaks lines or turns text around, and without white space at its ends. Only the host knows it; rows
/// and components have its keyed hash, and it does not print.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UserId(String);

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserId(***)")
    }
}

/// A text that cannot be a user's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a user's id has 1 to {USER_BYTES_MAX} bytes, no control characters, and no blanks at its ends"
)]
pub struct UserIdError;

impl std::str::FromStr for UserId {
    type Err = UserIdError;

    fn from_str(text: &str) -> Result<UserId, UserIdError> {
        let printable = !text.contains(is_control) && text.trim() == text;
        if printable && (1..=USER_BYTES_MAX).contains(&text.len()) {
            Ok(UserId(text.to_owned()))
        } else {
            Err(UserIdError)
        }
    }
}

impl UserId {
    /// The id itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// In whose right a request is made. To be found out, and made sure of, by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// The application, for this user.
    Application,
    /// Who holds a token for enrolling.
    EnrolmentToken(UserToken),
    /// Who holds a token for one login.
    LoginToken(UserToken),
}

/// A user token, once it has been opened and was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserToken {
    /// Its name, 1 to 64 bytes: nothing of the token can be made of it.
    pub id: String,
    /// When it ends.
    pub ends: UnixMillis,
}

/// A fresh proof of one of the user's factors: signature, user, purpose and age have been checked by
/// the caller; that it is used once is seen to by the component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactorProof {
    /// Its `jti`, 1 to 64 bytes.
    pub id: String,
    /// When the factor was shown, to the second.
    pub made: UnixMillis,
    /// When it ends.
    pub ends: UnixMillis,
}

/// Kinds of factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// A phone, by codes in messages.
    Sms,
    /// An authenticator app.
    Totp,
}

impl Factor {
    /// The word for answers and reports.
    pub fn word(self) -> &'static str {
        match self {
            Factor::Sms => "sms",
            Factor::Totp => "totp",
        }
    }
}

/// Ways to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By the code of a message.
    Sms,
    /// By an authenticator app.
    Totp,
    /// By a backup code.
    Backup,
}

impl Method {
    /// What the answer of a login calls it: `otp`, `totp` or `backup`.
    pub fn word(self) -> &'static str {
        match self {
            Method::Sms => "otp",
            Method::Totp => "totp",
            Method::Backup => "backup",
        }
    }

    /// Its name among the authentication method references of RFC 8176. A backup code is a password
    /// that is good once, so it is `otp` as well; the RFC has no closer word.
    pub fn amr(self) -> &'static str {
        match self {
            Method::Sms => "sms",
            Method::Totp | Method::Backup => "otp",
        }
    }
}

impl From<Factor> for Method {
    fn from(factor: Factor) -> Method {
        match factor {
            Factor::Sms => Method::Sms,
            Factor::Totp => Method::Totp,
        }
    }
}

/// Why a request may not be made at all. Nothing was looked at, counted or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The user has a factor, so that a change needs a fresh proof, which is missing, over, used, or from
    /// before a factor or the backup codes were removed or replaced.
    ProofRequired,
    /// The token has done what it is for, or is over.
    TokenUsed,
    /// The token is for something else.
    NotPermitted,
}

/// What is known of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserState {
    /// The active phone, masked.
    pub phone: Option<String>,
    /// Until when a phone that was sent a code can be verified.
    pub pending_phone: Option<UnixMillis>,
    /// Whether an authenticator app is active.
    pub totp: bool,
    /// Until when an authenticator app can be confirmed.
    pub pending_totp: Option<UnixMillis>,
    /// How many backup codes are left; `None` where there is no set.
    pub backup_codes: Option<u32>,
    /// Which methods are locked, and until when. The lock of a message's code is told when one is
    /// sent or checked.
    pub locks: Vec<(Method, UnixMillis)>,
}

impl UserState {
    /// Whether the user has a factor: a login needs a second step.
    pub fn enabled(&self) -> bool {
        self.phone.is_some() || self.totp
    }
}

/// Asks for a code to a phone that is to become the user's.
#[derive(Clone, Debug)]
pub struct EnableRequest {
    /// In whose right.
    pub authority: Authority,
    /// As the user typed it.
    pub phone: String,
    /// BCP 47.
    pub locale: Option<String>,
    /// Where the user has a factor already.
    pub proof: Option<FactorProof>,
}

/// What came of an [`EnableRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnableVerdict {
    /// A code is on its way.
    Sent {
        /// The phone, masked.
        phone: String,
        /// The message's name.
        message_id: String,
        /// When its code ends.
        expires: UnixMillis,
    },
    /// No message was made.
    Refused(Refusal),
    /// The request may not be made.
    Denied(Denial),
}

/// Verifies the code of a pending phone, or of a pending authenticator app.
#[derive(Clone, Debug)]
pub struct VerifyFactorRequest {
    /// In whose right.
    pub authority: Authority,
    /// As the user typed it.
    pub code: String,
    /// Where a factor has become active since the pending one was asked for.
    pub proof: Option<FactorProof>,
}

/// What came of a [`VerifyFactorRequest`].
#[derive(Clone, Debug)]
pub enum VerifyFactorVerdict {
    /// The factor is active.
    Enabled {
        /// Which.
        factor: Factor,
        /// The new set of backup codes, to be shown once: always with a phone, with an app where
        /// there was no set.
        backup_codes: Option<Vec<Secret<String>>>,
    },
    /// The code was not accepted; the text is the reason.
    Rejected(Refusal),
    /// Nothing is pending.
    Refused(Refusal),
    /// The request may not be made.
    Denied(Denial),
}

/// Asks for a change that needs nothing but the right to make it.
#[derive(Clone, Debug)]
pub struct ChangeRequest {
    /// In whose right.
    pub authority: Authority,
    /// Where the user has a factor already.
    pub proof: Option<FactorProof>,
}

/// Asks for factors to be removed.
#[derive(Clone, Debug)]
pub struct DisableRequest {
    /// In whose right.
    pub authority: Authority,
    /// `None`: all of them.
    pub factor: Option<Factor>,
    /// Where the user has a factor.
    pub proof: Option<FactorProof>,
}

/// What came of a [`DisableRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DisableVerdict {
    /// They are gone.
    Disabled,
    /// There was nothing to remove.
    Refused(Refusal),
    /// The request may not be made.
    Denied(Denial),
}

/// What came of a request for new backup codes.
#[derive(Clone, Debug)]
pub enum BackupCodesVerdict {
    /// The new set, to be shown once. The old one is dead.
    Issued(Vec<Secret<String>>),
    /// The user has no factor.
    Refused(Refusal),
    /// The request may not be made.
    Denied(Denial),
}

/// What came of a request to enrol an authenticator app.
#[derive(Clone, Debug)]
pub enum TotpVerdict {
    /// A secret that can be confirmed for a while; to be shown once.
    Pending {
        /// In Base32 (RFC 4648) without padding, for who cannot scan.
        secret: Secret<String>,
        /// `otpauth://totp/…`, for a QR code.
        uri: Secret<String>,
    },
    /// Why not.
    Refused(Refusal),
    /// The request may not be made.
    Denied(Denial),
}

/// Asks for a code to the user's phone, for a login.
#[derive(Clone, Debug)]
pub struct LoginSendRequest {
    /// In whose right.
    pub authority: Authority,
    /// BCP 47.
    pub locale: Option<String>,
}

/// What came of a [`LoginSendRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginSendVerdict {
    /// A code is on its way.
    Sent {
        /// The message's name.
        message_id: String,
        /// When its code ends.
        expires: UnixMillis,
    },
    /// No message was made.
    Refused(Refusal),
    /// The request may not be made.
    Denied(Denial),
}

/// Asks for a login.
#[derive(Clone, Debug)]
pub struct LoginRequest {
    /// In whose right.
    pub authority: Authority,
    /// As the user typed it.
    pub code: String,
    /// What the user was asked for; `None`: told by the shape of the code.
    pub method: Option<Method>,
}

/// What came of a [`LoginRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginVerdict {
    /// The code was right, and is used up.
    Accepted {
        /// What it was.
        method: Method,
        /// How many backup codes are left, after one was used.
        backup_codes_left: Option<u32>,
    },
    /// The code was not accepted; the text is the reason.
    Rejected(Refusal),
    /// The user has no factor.
    Refused(Refusal),
    /// The request may not be made.
    Denied(Denial),
}

/// What came of a request of support.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupportVerdict {
    /// It is done.
    Done,
    /// Nothing is known of the user.
    Absent,
}

/// A user of another system.
#[derive(Clone, Debug, Default)]
pub struct MoveInRequest {
    /// A number that was verified there.
    pub phone: Option<String>,
    /// The secret of an authenticator app.
    pub totp: Option<MovedTotp>,
    /// Hashes of backup codes.
    pub backup_codes: Option<MovedBackupCodes>,
}

/// What came of a [`MoveInRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveInVerdict {
    /// The user can log in.
    MovedIn,
    /// The user has a factor here; nothing was changed.
    Present,
    /// The text says what is wrong.
    Refused(Refusal),
}

/// The secret of an authenticator app that another system has enrolled: SHA-1, 6 digits, 30 s.
#[derive(Clone, Debug)]
pub struct MovedTotp(Secret<Vec<u8>>);

/// Bcrypt hashes of backup codes that another system has made.
#[derive(Clone, Debug)]
pub struct MovedBackupCodes(Vec<String>);

/// Why something of another system is not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MovedError {
    /// RFC 4648, section 6.
    #[error("the secret is not Base32")]
    NotBase32,
    /// RFC 4226, section 4, R6.
    #[error("the secret has {bytes} bytes; {} to {} are needed", MOVED_SECRET_BYTES.start(), MOVED_SECRET_BYTES.end())]
    SecretLength {
        /// How many it has.
        bytes: usize,
    },
    /// None, or more than a set may have.
    #[error("there are {codes} backup codes; 1 to {MOVED_CODES_MAX} are needed")]
    Codes {
        /// How many there are.
        codes: usize,
    },
    /// It is not `$2a$`, `$2b$` or `$2y$` with a cost, a salt and a hash.
    #[error("backup code {at} is not a bcrypt hash")]
    NotBcrypt {
        /// Which one, from 1.
        at: usize,
    },
    /// A check tries all of a set, so none may take long.
    #[error("the bcrypt hash of backup code {at} has cost {cost}; 4 to {MOVED_COST_MAX} are taken")]
    BcryptCost {
        /// Which one, from 1.
        at: usize,
        /// Its cost.
        cost: u32,
    },
}

const MOVED_CODES_MAX: usize = 20;
const MOVED_COST_MAX: u32 = 12;

impl MovedTotp {
    /// Reads a secret as other systems show it, in Base32; capitals, blanks, hyphens and padding do not
    /// matter.
    ///
    /// # Errors
    ///
    /// When it is no Base32, or has fewer than 128 bits.
    pub fn from_base32(text: &str) -> Result<MovedTotp, MovedError> {
        let secret = from_base32(text).ok_or(MovedError::NotBase32)?;
        let bytes = secret.expose().len();
        if MOVED_SECRET_BYTES.contains(&bytes) {
            Ok(MovedTotp(secret))
        } else {
            Err(MovedError::SecretLength { bytes })
        }
    }
}

impl MovedBackupCodes {
    /// Takes 1 to 20 hashes of a cost of at most 12. Codes are compared as they are typed, without blanks
    /// at their ends.
    ///
    /// # Errors
    ///
    /// When one of them is no such hash.
    pub fn new(hashes: Vec<String>) -> Result<MovedBackupCodes, MovedError> {
        let codes = hashes.len();
        if !(1..=MOVED_CODES_MAX).contains(&codes) {
            return Err(MovedError::Codes { codes });
        }
        for (index, hash) in hashes.iter().enumerate() {
            let at = index + 1;
            // The variant of an early bug, which nobody wants to compare with.
            let parts = hash.parse::<bcrypt::HashParts>().ok();
            let parts = parts.filter(|_| !hash.starts_with("$2x$"));
            let cost = parts.ok_or(MovedError::NotBcrypt { at })?.get_cost();
            if !(4..=MOVED_COST_MAX).contains(&cost) {
                return Err(MovedError::BcryptCost { at, cost });
            }
        }
        Ok(MovedBackupCodes(hashes))
    }
}

/// Makes a typed call of one export about `user`: `$request` is made anew for each run, and `$convert` turns
/// the export's answer and the run's secrets into the verdict.
macro_rules! call {
    ($runtime:expr, $subject:expr, $context:expr, $once:expr, $function:literal, $export:ident,
     $request:expr, $convert:expr) => {{
        let versions = $runtime.versions(&$subject);
        $runtime
            .call_about(
                &versions,
                &versions.two_factor,
                $subject,
                $context,
                $function,
                $once,
                |exports, store, context| {
                    let request = $request.clone();
                    Box::pin(async move {
                        let guest = exports.countersign_service_two_factor();
                        let answer = guest.$export(&mut *store, &context, &request).await?;
                        match answer {
                            Ok(verdict) => $convert(verdict, &store.data().secrets()).map(Ok),
                            Err(text) => Ok(Err(text)),
                        }
                    })
                },
            )
            .await
    }};
}

impl Runtime {
    /// What a call about `user` is about, and the name that the component has for them.
    fn about(&self, user: &UserId) -> (Subject, String) {
        let index = self.host().keyring.user_index(user.as_str());
        let subject = Subject {
            name: format!("user/{index}"),
            ..Subject::default()
        };
        (subject, index)
    }

    /// What is known of a user.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn two_factor_status(
        &self,
        context: &CallContext,
        user: &UserId,
    ) -> Result<UserState, CallError> {
        let (subject, user) = self.about(user);
        let request = bindings::StatusRequest { user };
        let once: Option<Once<'_, UserState>> = None;
        let (state, _) = call!(
            self,
            subject,
            context,
            once,
            "status",
            call_status,
            request,
            wit::state
        )?;
        Ok(state)
    }

    /// Sends a code to a phone that is to become the user's; returns the instant of the verdict, too. To
    /// be awaited to its end even where the client has gone, as all calls that follow.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn two_factor_enable(
        &self,
        context: &CallContext,
        user: &UserId,
        request: EnableRequest,
        once: Option<Once<'_, EnableVerdict>>,
    ) -> Result<(EnableVerdict, UnixMillis), CallError> {
        let (subject, user) = self.about(user);
        let request = bindings::EnableRequest {
            user,
            authority: wit::authority(request.authority),
            phone: request.phone,
            locale: request.locale,
            proof: request.proof.map(wit::proof),
        };
        call!(
            self,
            subject,
            context,
            once,
            "enable",
            call_enable,
            request,
            wit::enabling
        )
    }

    /// Verifies the code of a pending phone.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn two_factor_verify_enable(
        &self,
        context: &CallContext,
        user: &UserId,
        request: VerifyFactorRequest,
        once: Option<Once<'_, VerifyFactorVerdict>>,
    ) -> Result<(VerifyFactorVerdict, UnixMillis), CallError> {
        let (subject, user) = self.about(user);
        let request = wit::verify_request(user, request);
        call!(
            self,
            subject,
            context,
            once,
            "verify-enable",
            call_verify_enable,
            request,
            wit::verified
        )
    }

    /// Removes factors of a user.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn two_factor_disable(
        &self,
        context: &CallContext,
        user: &UserId,
        request: DisableRequest,
        once: Option<Once<'_, DisableVerdict>>,
    ) -> Result<(DisableVerdict, UnixMillis), CallError> {
        let (subject, user) = self.about(user);
        let request = bindings::DisableRequest {
            user,
            authority: wit::authority(request.authority),
            factor: request.factor.map(wit::factor),
            proof: request.proof.map(wit::proof),
        };
        call!(
            self,
            subject,
            context,
            once,
            "disable",
            call_disable,
            request,
            wit::disabled
        )
    }

    /// Makes a new set of backup codes.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn two_factor_new_backup_codes(
        &self,
        context: &CallContext,
        user: &UserId,
        request: ChangeRequest,
        once: Option<Once<'_, BackupCodesVerdict>>,
    ) -> Result<(BackupCodesVerdict, UnixMillis), CallError> {
        let (subject, user) = self.about(user);
        let request = wit::change_request(user, request);
        call!(
            self,
            subject,
            context,
            once,
            "new-backup-codes",
            call_new_backup_codes,
            request,
            wit::backup_codes
        )
    }

    /// Makes a pending secret for an authenticator app. `account` is what the app shows beside the issuer;
    /// `None`: the user's id.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn two_factor_totp_enroll(
        &self,
        context: &CallContext,
        user: &UserId,
        request: ChangeRequest,
        account: Option<String>,
        once: Option<Once<'_, TotpVerdict>>,
    ) -> Result<(TotpVerdict, UnixMillis), CallError> {
        let account = account.unwrap_or_else(|| user.as_str().to_owned());
        let issuer = self.issuer();
        let (subject, user) = self.about(user);
        let request = wit::change_request(user, request);
        let versions = self.versions(&subject);
        self.call_about(
            &versions,
            &versions.two_factor,
            subject,
            context,
            "totp-enroll",
            once,
            |exports, store, context| {
                let (request, account) = (request.clone(), account.clone());
                let issuer = issuer.clone();
                Box::pin(async move {
                    let guest = exports.countersign_service_two_factor();
                    let answer = guest
                        .call_totp_enroll(&mut *store, &context, &request)
                        .await?;
                    match answer {
                        Ok(verdict) => {
                            let secrets = store.data().secrets();
                            wit::totp(verdict, &secrets, &issuer, &account).map(Ok)
                        }
                        Err(text) => Ok(Err(text)),
                    }
                })
            },
        )
        .await
    }

    /// Confirms a pending authenticator app by its first code.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn two_factor_totp_verify(
        &self,
        context: &CallContext,
        user: &UserId,
        request: VerifyFactorRequest,
        once: Option<Once<'_, VerifyFactorVerdict>>,
    ) -> Result<(VerifyFactorVerdict, UnixMillis), CallError> {
        let (subject, user) = self.about(user);
        let request = wit::verify_request(user, request);
        call!(
            self,
            subject,
            context,
            once,
            "totp-verify",
            call_totp_verify,
            request,
            wit::verified
        )
    }

    /// Sends a code for a login.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn two_factor_login_send(
        &self,
        context: &CallContext,
        user: &UserId,
        request: LoginSendRequest,
        once: Option<Once<'_, LoginSendVerdict>>,
    ) -> Result<(LoginSendVerdict, UnixMillis), CallError> {
        let (subject, user) = self.about(user);
        let request = bindings::LoginSendRequest {
            user,
            authority: wit::authority(request.authority),
            locale: request.locale,
        };
        call!(
            self,
            subject,
            context,
            once,
            "login-send",
            call_login_send,
            request,
            wit::login_sent
        )
    }

    /// Checks the code of a login.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn two_factor_login(
        &self,
        context: &CallContext,
        user: &UserId,
        request: LoginRequest,
        once: Option<Once<'_, LoginVerdict>>,
    ) -> Result<(LoginVerdict, UnixMillis), CallError> {
        let (subject, user) = self.about(user);
        let request = bindings::LoginRequest {
            user,
            authority: wit::authority(request.authority),
            code: request.code,
            method: request.method.map(wit::method),
        };
        call!(
            self,
            subject,
            context,
            once,
            "login",
            call_login,
            request,
            wit::logged_in
        )
    }

    /// Ends every lock of a user.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn two_factor_unlock(
        &self,
        context: &CallContext,
        user: &UserId,
    ) -> Result<SupportVerdict, CallError> {
        let (subject, user) = self.about(user);
        let request = bindings::SupportRequest { user };
        let once: Option<Once<'_, SupportVerdict>> = None;
        let (verdict, _) = call!(
            self,
            subject,
            context,
            once,
            "unlock",
            call_unlock,
            request,
            wit::supported
        )?;
        Ok(verdict)
    }

    /// Removes every factor of a user, so that they can enrol anew.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn two_factor_reset(
        &self,
        context: &CallContext,
        user: &UserId,
    ) -> Result<SupportVerdict, CallError> {
        let (subject, user) = self.about(user);
        let request = bindings::SupportRequest { user };
        let once: Option<Once<'_, SupportVerdict>> = None;
        let (verdict, _) = call!(
            self,
            subject,
            context,
            once,
            "reset",
            call_reset,
            request,
            wit::supported
        )?;
        Ok(verdict)
    }

    /// Removes all that is kept of a user but the audit trail, and tells nobody.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn two_factor_delete(
        &self,
        context: &CallContext,
        user: &UserId,
    ) -> Result<SupportVerdict, CallError> {
        let (subject, user) = self.about(user);
        let request = bindings::SupportRequest { user };
        let once: Option<Once<'_, SupportVerdict>> = None;
        let (verdict, _) = call!(
            self,
            subject,
            context,
            once,
            "delete",
            call_delete,
            request,
            wit::supported
        )?;
        Ok(verdict)
    }

    /// Takes over a user of another system.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn two_factor_move_in(
        &self,
        context: &CallContext,
        user: &UserId,
        request: MoveInRequest,
    ) -> Result<MoveInVerdict, CallError> {
        let (mut subject, user) = self.about(user);
        let mut offer = |value| subject.secrets.put(value).ok();
        let totp = request
            .totp
            .and_then(|MovedTotp(secret)| offer(SecretValue::Totp(secret)));
        let backup_codes = request
            .backup_codes
            .and_then(|MovedBackupCodes(hashes)| offer(SecretValue::MovedBackupCodes(hashes)));
        let request = bindings::MoveInRequest {
            user,
            phone: request.phone,
            totp,
            backup_codes,
        };
        let once: Option<Once<'_, MoveInVerdict>> = None;
        let (verdict, _) = call!(
            self,
            subject,
            context,
            once,
            "move-in",
            call_move_in,
            request,
            wit::moved_in
        )?;
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_id_is_printable_text_of_1_to_128_bytes() {
        for text in ["1", "alice@example.com", "a b", "ü", &"u".repeat(128)] {
            let user: UserId = text.parse().expect(text);
            assert_eq!(user.as_str(), text);
            assert_eq!(format!("{user:?}"), "UserId(***)");
        }
        for text in [
            "",
            " a",
            "a ",
            "a\nb",
            "a\0",
            "\u{85}a",
            "\u{202e}a",
            &"u".repeat(129),
        ] {
            assert_eq!(text.parse::<UserId>(), Err(UserIdError), "{text:?}");
        }
    }

    #[test]
    fn r27_a_moved_secret_has_at_least_128_bits() {
        // 16 bytes, and 15.
        assert!(MovedTotp::from_base32("GEZDGNBVGY3TQOJQGEZDGNBVGY").is_ok());
        let short = MovedTotp::from_base32("GEZDGNBVGY3TQOJQGEZDGNBV");
        assert_eq!(short.err(), Some(MovedError::SecretLength { bytes: 15 }));
        let error = MovedTotp::from_base32("no Base32!").err();
        assert_eq!(error, Some(MovedError::NotBase32));
    }

    #[test]
    fn moved_backup_codes_are_bcrypt_hashes_that_do_not_take_long() {
        let hash = |cost: u32| {
            format!("$2b${cost:02}$abcdefghijklmnopqrstuu4dIiD04wpJwpE4x/3HmD00YYMYa3462")
        };
        let error = |hashes: Vec<String>| MovedBackupCodes::new(hashes).err();
        assert_eq!(error(vec![hash(4), hash(12)]), None);
        assert_eq!(error(vec![hash(10); 20]), None);
        assert_eq!(error(vec![]), Some(MovedError::Codes { codes: 0 }));
        assert_eq!(
            error(vec![hash(10); 21]),
            Some(MovedError::Codes { codes: 21 })
        );
        assert_eq!(
            error(vec![hash(4), hash(13)]),
            Some(MovedError::BcryptCost { at: 2, cost: 13 })
        );
        for wrong in ["A1B2C3D4", "$argon2id$v=19$m=19456,t=2,p=1$a$b", ""] {
            let error = error(vec![wrong.to_owned()]);
            assert_eq!(error, Some(MovedError::NotBcrypt { at: 1 }), "{wrong}");
        }
        let odd = hash(4).replace("$2b$", "$2x$");
        assert_eq!(error(vec![odd]), Some(MovedError::NotBcrypt { at: 1 }));
    }
}
