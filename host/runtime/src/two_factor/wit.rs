//! Between the words of the WIT and those of this crate.

use countersign_queue::mask;
use countersign_types::{Secret, UnixMillis};

use super::{
    Authority, BackupCodesVerdict, ChangeRequest, Denial, DisableVerdict, EnableVerdict, Factor,
    FactorProof, LoginSendVerdict, LoginVerdict, Method, MoveInVerdict, SupportVerdict,
    TotpVerdict, UserState, UserToken, VerifyFactorRequest, VerifyFactorVerdict, bindings,
};
use crate::call::misuse;
use crate::otp::refusal;
use crate::secrets::{SecretValue, Secrets};
use crate::totp;

pub(super) fn authority(authority: Authority) -> bindings::Authority {
    let token = |UserToken { id, ends }| bindings::Token { id, ends: ends.0 };
    match authority {
        Authority::Application => bindings::Authority::Application,
        Authority::EnrolmentToken(holds) => bindings::Authority::EnrolmentToken(token(holds)),
        Authority::LoginToken(holds) => bindings::Authority::LoginToken(token(holds)),
    }
}

pub(super) fn proof(FactorProof { id, made, ends }: FactorProof) -> bindings::Proof {
    bindings::Proof {
        id,
        made: made.0,
        ends: ends.0,
    }
}

pub(super) fn factor(factor: Factor) -> bindings::Factor {
    match factor {
        Factor::Sms => bindings::Factor::Sms,
        Factor::Totp => bindings::Factor::Totp,
    }
}

pub(super) fn method(method: Method) -> bindings::Method {
    match method {
        Method::Sms => bindings::Method::Sms,
        Method::Totp => bindings::Method::Totp,
        Method::Backup => bindings::Method::Backup,
    }
}

fn of_method(method: bindings::Method) -> Method {
    match method {
        bindings::Method::Sms => Method::Sms,
        bindings::Method::Totp => Method::Totp,
        bindings::Method::Backup => Method::Backup,
    }
}

fn denial(denial: bindings::Denial) -> Denial {
    match denial {
        bindings::Denial::ProofRequired => Denial::ProofRequired,
        bindings::Denial::TokenUsed => Denial::TokenUsed,
        bindings::Denial::NotPermitted => Denial::NotPermitted,
    }
}

pub(super) fn change_request(user: String, request: ChangeRequest) -> bindings::ChangeRequest {
    bindings::ChangeRequest {
        user,
        authority: authority(request.authority),
        proof: request.proof.map(proof),
    }
}

pub(super) fn verify_request(
    user: String,
    request: VerifyFactorRequest,
) -> bindings::VerifyRequest {
    bindings::VerifyRequest {
        user,
        authority: authority(request.authority),
        code: request.code,
        proof: request.proof.map(proof),
    }
}

pub(super) fn state(state: bindings::State, _: &Secrets) -> wasmtime::Result<UserState> {
    let locks = state.locks.into_iter();
    Ok(UserState {
        phone: state.phone.as_deref().map(mask),
        pending_phone: state.pending_phone.map(UnixMillis),
        totp: state.totp,
        pending_totp: state.pending_totp.map(UnixMillis),
        backup_codes: state.backup_codes,
        locks: locks
            .map(|lock| (of_method(lock.method), UnixMillis(lock.until)))
            .collect(),
    })
}

pub(super) fn enabling(
    verdict: bindings::EnableVerdict,
    _: &Secrets,
) -> wasmtime::Result<EnableVerdict> {
    Ok(match verdict {
        bindings::EnableVerdict::Sent((phone, sent)) => EnableVerdict::Sent {
            phone: mask(&phone),
            message_id: sent.message_id,
            expires: UnixMillis(sent.expires),
        },
        bindings::EnableVerdict::Refused(refused) => EnableVerdict::Refused(refusal(&refused)),
        bindings::EnableVerdict::Denied(denied) => EnableVerdict::Denied(denial(denied)),
    })
}

/// The backup codes that the component has named.
fn codes(handle: u32, secrets: &Secrets) -> wasmtime::Result<Vec<Secret<String>>> {
    match secrets.get(handle) {
        Some(SecretValue::BackupCodes(codes)) => Ok(codes.clone()),
        _ => misuse("the answer names backup codes that were not made in this call"),
    }
}

pub(super) fn verified(
    verdict: bindings::VerifyVerdict,
    secrets: &Secrets,
) -> wasmtime::Result<VerifyFactorVerdict> {
    use bindings::VerifyVerdict as Verdict;
    Ok(match verdict {
        Verdict::Enabled(enabled) => VerifyFactorVerdict::Enabled {
            factor: match enabled.factor {
                bindings::Factor::Sms => Factor::Sms,
                bindings::Factor::Totp => Factor::Totp,
            },
            backup_codes: enabled
                .backup_codes
                .map(|handle| codes(handle, secrets))
                .transpose()?,
        },
        Verdict::Rejected(rejected) => VerifyFactorVerdict::Rejected(refusal(&rejected)),
        Verdict::Refused(refused) => VerifyFactorVerdict::Refused(refusal(&refused)),
        Verdict::Denied(denied) => VerifyFactorVerdict::Denied(denial(denied)),
    })
}

pub(super) fn disabled(
    verdict: bindings::DisableVerdict,
    _: &Secrets,
) -> wasmtime::Result<DisableVerdict> {
    Ok(match verdict {
        bindings::DisableVerdict::Disabled => DisableVerdict::Disabled,
        bindings::DisableVerdict::Refused(refused) => DisableVerdict::Refused(refusal(&refused)),
        bindings::DisableVerdict::Denied(denied) => DisableVerdict::Denied(denial(denied)),
    })
}

pub(super) fn backup_codes(
    verdict: bindings::SecretVerdict,
    secrets: &Secrets,
) -> wasmtime::Result<BackupCodesVerdict> {
    use bindings::SecretVerdict as Verdict;
    Ok(match verdict {
        Verdict::Issued(handle) => BackupCodesVerdict::Issued(codes(handle, secrets)?),
        Verdict::Refused(refused) => BackupCodesVerdict::Refused(refusal(&refused)),
        Verdict::Denied(denied) => BackupCodesVerdict::Denied(denial(denied)),
    })
}

pub(super) fn totp(
    verdict: bindings::SecretVerdict,
    secrets: &Secrets,
    issuer: &str,
    account: &str,
) -> wasmtime::Result<TotpVerdict> {
    use bindings::SecretVerdict as Verdict;
    Ok(match verdict {
        Verdict::Issued(handle) => {
            let Some(SecretValue::Totp(secret)) = secrets.get(handle) else {
                return misuse("the answer names a secret that was not made in this call");
            };
            let secret = totp::base32(secret.expose());
            let uri = totp::uri(issuer, account, &secret);
            TotpVerdict::Pending { secret, uri }
        }
        Verdict::Refused(refused) => TotpVerdict::Refused(refusal(&refused)),
        Verdict::Denied(denied) => TotpVerdict::Denied(denial(denied)),
    })
}

pub(super) fn login_sent(
    verdict: bindings::LoginSendVerdict,
    _: &Secrets,
) -> wasmtime::Result<LoginSendVerdict> {
    use bindings::LoginSendVerdict as Verdict;
    Ok(match verdict {
        Verdict::Sent(sent) => LoginSendVerdict::Sent {
            message_id: sent.message_id,
            expires: UnixMillis(sent.expires),
        },
        Verdict::Refused(refused) => LoginSendVerdict::Refused(refusal(&refused)),
        Verdict::Denied(denied) => LoginSendVerdict::Denied(denial(denied)),
    })
}

pub(super) fn logged_in(
    verdict: bindings::LoginVerdict,
    _: &Secrets,
) -> wasmtime::Result<LoginVerdict> {
    use bindings::LoginVerdict as Verdict;
    Ok(match verdict {
        Verdict::Accepted(accepted) => LoginVerdict::Accepted {
            method: of_method(accepted.method),
            backup_codes_left: accepted.backup_codes_left,
        },
        Verdict::Rejected(rejected) => LoginVerdict::Rejected(refusal(&rejected)),
        Verdict::Refused(refused) => LoginVerdict::Refused(refusal(&refused)),
        Verdict::Denied(denied) => LoginVerdict::Denied(denial(denied)),
    })
}

pub(super) fn supported(
    verdict: bindings::SupportVerdict,
    _: &Secrets,
) -> wasmtime::Result<SupportVerdict> {
    Ok(match verdict {
        bindings::SupportVerdict::Done => SupportVerdict::Done,
        bindings::SupportVerdict::Absent => SupportVerdict::Absent,
    })
}

pub(super) fn moved_in(
    verdict: bindings::MoveInVerdict,
    _: &Secrets,
) -> wasmtime::Result<MoveInVerdict> {
    Ok(match verdict {
        bindings::MoveInVerdict::MovedIn => MoveInVerdict::MovedIn,
        bindings::MoveInVerdict::Present => MoveInVerdict::Present,
        bindings::MoveInVerdict::Refused(refused) => MoveInVerdict::Refused(refusal(&refused)),
    })
}
