//! The component's exports, and its imports as a [`Host`].
#![expect(
    unsafe_code,
    reason = "the exports that wit-bindgen generates are raw symbols"
)]

mod bindings {
    #![allow(missing_docs, reason = "generated from the WIT, which is documented")]
    wit_bindgen::generate!({
        path: ["../../wit/service"],
        world: "countersign:service/two-factor-service",
    });
}

use std::time::{SystemTime, UNIX_EPOCH};

use bindings::countersign::service::phone::{Kind, PhoneError};
use bindings::countersign::service::types::{Caller, Context, Manifest, MissLimit};
use bindings::countersign::service::{
    audit, backup, events, otp, otp_types, phone, queue, settings, storage, totp,
};
use bindings::exports::countersign::service::two_factor::{self as wit, Guest};

use crate::enrol::{self, Enabled, Factor, No};
use crate::host::{
    self, About, AppStatus, BackupChecked, BackupStatus, Checked, Duration, Fact, HashCost, Host,
    Instant, NoNumber, Notice, Number, Refusal, Secret, Sent,
};
use crate::login::{self, Method};
use crate::rights::{Authority, Denial, Once, Proof};
use crate::support::{self, Done, MoveIn, MovedIn};
use crate::{Undecided, user};

struct Component;

bindings::export!(Component with_types_in bindings);

impl bindings::Guest for Component {
    fn describe() -> Manifest {
        Manifest {
            name: "two-factor".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            state_writes: 1,
            state_reads: vec![1],
            read_only: vec!["status".into()],
        }
    }
}

/// What a rule could not decide, as text.
fn undecided<T>(result: Result<T, Undecided>) -> Result<T, String> {
    result.map_err(|undecided| undecided.to_string())
}

impl Guest for Component {
    fn status(context: Context, request: wit::StatusRequest) -> Result<wit::State, String> {
        let state = support::status(&mut Imports::of(&context), &context.into(), &request.user);
        undecided(state).map(Into::into)
    }

    fn enable(context: Context, request: wit::EnableRequest) -> Result<wit::EnableVerdict, String> {
        let (authority, proof) = (request.authority.into(), request.proof.map(Into::into));
        let wish = enrol::EnableRequest {
            authority: &authority,
            phone: &request.phone,
            locale: request.locale.as_deref(),
            proof: proof.as_ref(),
        };
        let mut imports = Imports::of(&context);
        let answer = enrol::enable(&mut imports, &context.into(), &request.user, &wish);
        Ok(match undecided(answer)? {
            Ok((phone, sent)) => wit::EnableVerdict::Sent((phone, sent.into())),
            Err(No::Denied(denial)) => wit::EnableVerdict::Denied(denial.into()),
            Err(No::Refused(refusal) | No::Rejected(refusal)) => {
                wit::EnableVerdict::Refused(refusal.into())
            }
        })
    }

    fn verify_enable(
        context: Context,
        request: wit::VerifyRequest,
    ) -> Result<wit::VerifyVerdict, String> {
        verify(enrol::verify_enable, context, request)
    }

    fn disable(
        context: Context,
        request: wit::DisableRequest,
    ) -> Result<wit::DisableVerdict, String> {
        let answer = enrol::disable(
            &mut Imports::of(&context),
            &context.into(),
            &request.user,
            &request.authority.into(),
            request.factor.map(|factor| match factor {
                wit::Factor::Sms => Factor::Sms,
                wit::Factor::Totp => Factor::Totp,
            }),
            request.proof.map(Into::into).as_ref(),
        );
        Ok(match undecided(answer)? {
            Ok(()) => wit::DisableVerdict::Disabled,
            Err(No::Denied(denial)) => wit::DisableVerdict::Denied(denial.into()),
            Err(No::Refused(refusal) | No::Rejected(refusal)) => {
                wit::DisableVerdict::Refused(refusal.into())
            }
        })
    }

    fn new_backup_codes(
        context: Context,
        request: wit::ChangeRequest,
    ) -> Result<wit::SecretVerdict, String> {
        change(enrol::new_backup_codes, context, request)
    }

    fn totp_enroll(
        context: Context,
        request: wit::ChangeRequest,
    ) -> Result<wit::SecretVerdict, String> {
        change(enrol::enroll_app, context, request)
    }

    fn totp_verify(
        context: Context,
        request: wit::VerifyRequest,
    ) -> Result<wit::VerifyVerdict, String> {
        verify(enrol::verify_app, context, request)
    }

    fn login_send(
        context: Context,
        request: wit::LoginSendRequest,
    ) -> Result<wit::LoginSendVerdict, String> {
        let answer = login::send(
            &mut Imports::of(&context),
            &context.into(),
            &request.user,
            &request.authority.into(),
            request.locale.as_deref(),
        );
        Ok(match undecided(answer)? {
            Ok(sent) => wit::LoginSendVerdict::Sent(sent.into()),
            Err(No::Denied(denial)) => wit::LoginSendVerdict::Denied(denial.into()),
            Err(No::Refused(refusal) | No::Rejected(refusal)) => {
                wit::LoginSendVerdict::Refused(refusal.into())
            }
        })
    }

    fn login(context: Context, request: wit::LoginRequest) -> Result<wit::LoginVerdict, String> {
        let answer = login::log_in(
            &mut Imports::of(&context),
            &context.into(),
            &request.user,
            &request.authority.into(),
            &request.code,
            request.method.map(|method| match method {
                wit::Method::Sms => Method::Sms,
                wit::Method::Totp => Method::Totp,
                wit::Method::Backup => Method::Backup,
            }),
        );
        Ok(match undecided(answer)? {
            Ok(accepted) => wit::LoginVerdict::Accepted(wit::Accepted {
                method: accepted.method.into(),
                backup_codes_left: accepted.backup_codes_left,
            }),
            Err(No::Rejected(refusal)) => wit::LoginVerdict::Rejected(refusal.into()),
            Err(No::Refused(refusal)) => wit::LoginVerdict::Refused(refusal.into()),
            Err(No::Denied(denial)) => wit::LoginVerdict::Denied(denial.into()),
        })
    }

    fn unlock(
        context: Context,
        request: wit::SupportRequest,
    ) -> Result<wit::SupportVerdict, String> {
        let done = support::unlock(&mut Imports::of(&context), &context.into(), &request.user);
        undecided(done).map(Into::into)
    }

    fn reset(
        context: Context,
        request: wit::SupportRequest,
    ) -> Result<wit::SupportVerdict, String> {
        let done = support::reset(&mut Imports::of(&context), &context.into(), &request.user);
        undecided(done).map(Into::into)
    }

    fn delete(
        context: Context,
        request: wit::SupportRequest,
    ) -> Result<wit::SupportVerdict, String> {
        let done = support::delete(&mut Imports::of(&context), &context.into(), &request.user);
        undecided(done).map(Into::into)
    }

    fn move_in(
        context: Context,
        request: wit::MoveInRequest,
    ) -> Result<wit::MoveInVerdict, String> {
        let wish = MoveIn {
            phone: request.phone.as_deref(),
            app: request.totp,
            backup_codes: request.backup_codes,
        };
        let mut imports = Imports::of(&context);
        let moved = support::move_in(&mut imports, &context.into(), &request.user, &wish);
        Ok(match undecided(moved)? {
            MovedIn::Done => wit::MoveInVerdict::MovedIn,
            MovedIn::Present => wit::MoveInVerdict::Present,
            MovedIn::Refused(refusal) => wit::MoveInVerdict::Refused(refusal.into()),
        })
    }
}

/// A rule that makes a pending factor an active one.
type Verify = fn(
    &mut Imports,
    &user::Context,
    &str,
    &enrol::VerifyRequest<'_>,
) -> Result<Result<Enabled, No>, Undecided>;

fn verify(
    rule: Verify,
    context: Context,
    request: wit::VerifyRequest,
) -> Result<wit::VerifyVerdict, String> {
    let (authority, proof) = (request.authority.into(), request.proof.map(Into::into));
    let wish = enrol::VerifyRequest {
        authority: &authority,
        code: &request.code,
        proof: proof.as_ref(),
    };
    let mut imports = Imports::of(&context);
    let answer = rule(&mut imports, &context.into(), &request.user, &wish);
    Ok(match undecided(answer)? {
        Ok(enabled) => wit::VerifyVerdict::Enabled(wit::Enabled {
            factor: match enabled.factor {
                Factor::Sms => wit::Factor::Sms,
                Factor::Totp => wit::Factor::Totp,
            },
            backup_codes: enabled.backup_codes,
        }),
        Err(No::Rejected(refusal)) => wit::VerifyVerdict::Rejected(refusal.into()),
        Err(No::Refused(refusal)) => wit::VerifyVerdict::Refused(refusal.into()),
        Err(No::Denied(denial)) => wit::VerifyVerdict::Denied(denial.into()),
    })
}

/// A rule that makes a secret.
type Change = fn(
    &mut Imports,
    &user::Context,
    &str,
    &Authority,
    Option<&Proof>,
) -> Result<Result<Secret, No>, Undecided>;

fn change(
    rule: Change,
    context: Context,
    request: wit::ChangeRequest,
) -> Result<wit::SecretVerdict, String> {
    let (authority, proof) = (request.authority.into(), request.proof.map(Into::into));
    let mut imports = Imports::of(&context);
    let (context, user) = (context.into(), &request.user);
    let answer = rule(&mut imports, &context, user, &authority, proof.as_ref());
    Ok(match undecided(answer)? {
        Ok(secret) => wit::SecretVerdict::Issued(secret),
        Err(No::Denied(denial)) => wit::SecretVerdict::Denied(denial.into()),
        Err(No::Refused(refusal) | No::Rejected(refusal)) => {
            wit::SecretVerdict::Refused(refusal.into())
        }
    })
}

/// What every call of otp is told. The host tells otp itself who calls.
struct Imports {
    service: String,
}

impl Imports {
    fn of(context: &Context) -> Self {
        Self {
            service: context.service.clone(),
        }
    }

    fn context(&self) -> Context {
        Context {
            service: self.service.clone(),
            caller: Caller::Anonymous,
            client_index: None,
        }
    }
}

impl Host for Imports {
    #[expect(
        clippy::disallowed_methods,
        reason = "the door to the host's clock, which WASI hands in"
    )]
    fn now(&self) -> Instant {
        // Never before 1970, and in range for 500 million years.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64)
    }

    fn settings(&self) -> Vec<(String, String)> {
        settings::all()
    }

    fn parse(&mut self, text: &str) -> Result<Number, NoNumber> {
        let number = phone::parse(text, None).map_err(|error| match error {
            PhoneError::NoCountry => NoNumber::NoCountry,
            PhoneError::Extension => NoNumber::Extension,
            PhoneError::NotANumber
            | PhoneError::TooShort
            | PhoneError::TooLong
            | PhoneError::Invalid => NoNumber::Invalid,
        })?;
        Ok(Number {
            can_receive: !matches!(
                number.kind,
                Kind::PremiumRate
                    | Kind::SharedCost
                    | Kind::TollFree
                    | Kind::Pager
                    | Kind::Uan
                    | Kind::Voicemail
            ),
            e164: number.e164,
            index: number.index,
        })
    }

    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        storage::get(key)
    }

    fn put(&mut self, key: &str, value: &[u8], expires: Option<Instant>) {
        storage::put(key, value, expires);
    }

    fn delete(&mut self, key: &str) {
        storage::delete(key);
    }

    fn take(&mut self, key: &str, max: u64, window: Duration) -> Result<(), Instant> {
        storage::take(key, 1, max, window)
    }

    fn send_code(
        &mut self,
        about: &About<'_>,
        locale: Option<&str>,
    ) -> Result<Result<Sent, Refusal>, Undecided> {
        let request = otp_types::SendRequest {
            phone: about.phone.into(),
            purpose: Some(about.purpose.into()),
            locale: locale.map(Into::into),
            user: Some(about.user.into()),
        };
        let verdict = otp::send(&self.context(), &request).map_err(Undecided::Otp)?;
        Ok(match verdict {
            otp_types::SendVerdict::Sent(sent) => Ok(Sent {
                message: sent.message_id,
                expires: sent.expires,
            }),
            otp_types::SendVerdict::Refused(refusal) => Err(refusal.into()),
        })
    }

    fn verify_code(
        &mut self,
        about: &About<'_>,
        code: &str,
    ) -> Result<Result<(), Refusal>, Undecided> {
        let request = otp_types::VerifyRequest {
            phone: about.phone.into(),
            code: code.into(),
            purpose: Some(about.purpose.into()),
            user: Some(about.user.into()),
        };
        let verdict = otp::verify(&self.context(), &request).map_err(Undecided::Otp)?;
        Ok(match verdict {
            otp_types::VerifyVerdict::Accepted(_) => Ok(()),
            otp_types::VerifyVerdict::Rejected(refusal)
            | otp_types::VerifyVerdict::Refused(refusal) => Err(refusal.into()),
        })
    }

    fn forgive(&mut self, about: &About<'_>) -> Result<(), Undecided> {
        let request = otp_types::ForgiveRequest {
            phone: about.phone.into(),
            purpose: about.purpose.into(),
            user: about.user.into(),
        };
        otp::forgive(&self.context(), &request).map_err(Undecided::Otp)
    }

    fn app_status(&mut self, key: &str, caps: &[host::MissLimit]) -> AppStatus {
        let status = totp::status(key, &limits(caps));
        AppStatus {
            active: status.active,
            pending: status.pending,
            locked: status.locked,
        }
    }

    fn enroll_app(&mut self, key: &str, valid: Duration) -> Secret {
        totp::enroll(key, valid)
    }

    fn confirm_app(&mut self, key: &str, code: &str, caps: &[host::MissLimit]) -> Checked {
        totp::confirm(key, code, &limits(caps)).into()
    }

    fn check_app(&mut self, key: &str, code: &str, caps: &[host::MissLimit]) -> Checked {
        totp::check(key, code, &limits(caps)).into()
    }

    fn adopt_app(&mut self, key: &str, secret: Secret) {
        totp::adopt(key, secret);
    }

    fn unlock_app(&mut self, key: &str) {
        totp::unlock(key);
    }

    fn remove_app(&mut self, key: &str) {
        totp::remove(key);
    }

    fn backup_status(&mut self, key: &str, caps: &[host::MissLimit]) -> BackupStatus {
        let status = backup::status(key, &limits(caps));
        BackupStatus {
            left: status.left,
            locked: status.locked,
        }
    }

    fn issue_backup(&mut self, key: &str, codes: u8, cost: HashCost) -> Secret {
        backup::issue(key, codes, hash_cost(cost))
    }

    fn check_backup(
        &mut self,
        key: &str,
        code: &str,
        cost: HashCost,
        caps: &[host::MissLimit],
    ) -> BackupChecked {
        match backup::check(key, code, hash_cost(cost), &limits(caps)) {
            backup::Verdict::Accepted(left) => BackupChecked::Accepted(left),
            backup::Verdict::Wrong(left) => BackupChecked::Wrong(left),
            backup::Verdict::Used(left) => BackupChecked::Used(left),
            backup::Verdict::Locked(until) => BackupChecked::Locked(until),
        }
    }

    fn adopt_backup(&mut self, key: &str, secret: Secret) {
        backup::adopt(key, secret);
    }

    fn unlock_backup(&mut self, key: &str) {
        backup::unlock(key);
    }

    fn remove_backup(&mut self, key: &str) {
        backup::remove(key);
    }

    fn enqueue(&mut self, notice: Notice) {
        // One without a code is always added.
        let _ = queue::enqueue(&queue::Job {
            channel: "sms".into(),
            to: notice.to,
            template: notice.template.into(),
            text: notice.text,
            variables: owned(notice.variables),
            locale: None,
            purpose: "notice".into(),
            challenge: None,
            not_before: None,
            deadline: notice.deadline,
            priority: queue::Priority::Normal,
        });
    }

    fn record(&mut self, user: &str, fact: Fact) {
        audit::record(&audit::Entry {
            user: user.into(),
            kind: fact.kind.into(),
            attributes: owned(fact.attributes),
        });
    }

    fn emit(&mut self, fact: Fact) {
        events::emit(&events::Event {
            kind: fact.kind.into(),
            message: None,
            country: None,
            attributes: owned(fact.attributes),
        });
    }
}

fn owned(pairs: Vec<(&'static str, String)>) -> Vec<(String, String)> {
    pairs
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect()
}

fn limits(caps: &[host::MissLimit]) -> Vec<MissLimit> {
    caps.iter()
        .map(|cap| MissLimit {
            misses: cap.misses,
            window: cap.window,
        })
        .collect()
}

fn hash_cost(cost: HashCost) -> backup::Cost {
    backup::Cost {
        memory: cost.memory,
        passes: cost.passes,
    }
}

impl From<Context> for user::Context {
    fn from(context: Context) -> Self {
        Self {
            service: context.service,
        }
    }
}

impl From<otp_types::Refusal> for Refusal {
    fn from(refusal: otp_types::Refusal) -> Self {
        Self {
            text: refusal.text,
            retry_at: refusal.retry_at,
        }
    }
}

impl From<Refusal> for otp_types::Refusal {
    fn from(refusal: Refusal) -> Self {
        Self {
            text: refusal.text,
            field: None,
            retry_at: refusal.retry_at,
        }
    }
}

impl From<Sent> for otp_types::Sent {
    fn from(sent: Sent) -> Self {
        Self {
            message_id: sent.message,
            expires: sent.expires,
        }
    }
}

impl From<totp::Verdict> for Checked {
    fn from(verdict: totp::Verdict) -> Self {
        match verdict {
            totp::Verdict::Accepted => Self::Accepted,
            totp::Verdict::Wrong(left) => Self::Wrong(left),
            totp::Verdict::Locked(until) => Self::Locked(until),
        }
    }
}

impl From<wit::Authority> for Authority {
    fn from(authority: wit::Authority) -> Self {
        let once = |token: wit::Token| Once {
            id: token.id,
            ends: token.ends,
        };
        match authority {
            wit::Authority::Application => Self::Application,
            wit::Authority::EnrolmentToken(token) => Self::EnrolmentToken(once(token)),
            wit::Authority::LoginToken(token) => Self::LoginToken(once(token)),
        }
    }
}

impl From<wit::Proof> for Proof {
    fn from(proof: wit::Proof) -> Self {
        Self {
            once: Once {
                id: proof.id,
                ends: proof.ends,
            },
            made: proof.made,
        }
    }
}

impl From<Denial> for wit::Denial {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::ProofRequired => Self::ProofRequired,
            Denial::TokenUsed => Self::TokenUsed,
            Denial::NotPermitted => Self::NotPermitted,
        }
    }
}

impl From<Method> for wit::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Sms => Self::Sms,
            Method::Totp => Self::Totp,
            Method::Backup => Self::Backup,
        }
    }
}

impl From<Done> for wit::SupportVerdict {
    fn from(done: Done) -> Self {
        match done {
            Done::Done => Self::Done,
            Done::Absent => Self::Absent,
        }
    }
}

impl From<support::State> for wit::State {
    fn from(state: support::State) -> Self {
        let locks = state.locks.into_iter();
        Self {
            phone: state.phone,
            pending_phone: state.pending_phone,
            totp: state.app,
            pending_totp: state.pending_app,
            backup_codes: state.backup_codes,
            locks: locks
                .map(|(method, until)| wit::Lock {
                    method: method.into(),
                    until,
                })
                .collect(),
        }
    }
}
