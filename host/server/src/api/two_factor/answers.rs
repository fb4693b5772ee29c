//! What the verdicts of two-factor become: secrets that a call made and the proof that it is worth are put
//! in, since no component has either.

use std::sync::Arc;

use countersign_types::{Secret, UnixMillis};
use serde_json::{Value, json};

use crate::api::answer::{Answer, Judged};
use crate::api::otp::{refuse, reject};
use crate::api::problem::{Kind, Problem};
use crate::api::{
    BackupCodesVerdict, Denial, DisableVerdict, EnableVerdict, LoginSendVerdict, LoginVerdict,
    Method, Refusal, TotpVerdict, UserId, VerifyFactorVerdict,
};
use crate::users::{Users, svg};

/// Makes the proofs of one request. What it says depends on nothing but the verdict's own instant, so that
/// the answer that is kept is the one that is given.
#[derive(Clone)]
pub(super) struct Prover {
    pub(super) users: Arc<Users>,
    user: UserId,
    id: [u8; 16],
}

impl Prover {
    /// Proofs of `user` that are called `id`.
    pub(super) fn new(users: Arc<Users>, user: UserId, id: [u8; 16]) -> Prover {
        Prover { users, user, id }
    }

    fn proof(&self, method: Method, at: UnixMillis) -> Result<String, Problem> {
        let proofs = &self.users.proofs;
        let proof = proofs.issue(&self.user, &[method.amr()], self.id, at);
        proof.ok_or_else(Problem::internal)
    }
}

pub(super) fn enable(verdict: &EnableVerdict, now: UnixMillis, prover: &Prover) -> Judged {
    match verdict {
        EnableVerdict::Sent {
            phone,
            message_id,
            expires,
        } => Ok(Answer::ok(&json!({
            "success": true,
            "phoneNumber": phone,
            "expiresAt": expires.to_string(),
            "messageId": message_id,
        }))),
        EnableVerdict::Refused(refused) => Ok(refuse(refused, now)),
        EnableVerdict::Denied(denial) => Err(denied(*denial, prover)),
    }
}

pub(super) fn verify_enable(
    verdict: &VerifyFactorVerdict,
    now: UnixMillis,
    prover: &Prover,
) -> Judged {
    match verdict {
        VerifyFactorVerdict::Refused(refused) => Ok(refuse(refused, now)),
        verdict => verified(verdict, now, prover),
    }
}

pub(super) fn totp_verify(
    verdict: &VerifyFactorVerdict,
    now: UnixMillis,
    prover: &Prover,
) -> Judged {
    match verdict {
        VerifyFactorVerdict::Refused(refused) => Err(problem(refused, now)),
        verdict => verified(verdict, now, prover),
    }
}

/// What both have in common.
fn verified(verdict: &VerifyFactorVerdict, now: UnixMillis, prover: &Prover) -> Judged {
    match verdict {
        VerifyFactorVerdict::Enabled {
            factor,
            backup_codes,
        } => {
            let mut body = json!({
                "success": true,
                "proof": prover.proof((*factor).into(), now)?,
            });
            if let Some(codes) = backup_codes {
                body["backupCodes"] = exposed(codes);
            }
            Ok(Answer::ok(&body).secret())
        }
        VerifyFactorVerdict::Rejected(rejected) => Ok(reject(rejected, now)),
        VerifyFactorVerdict::Refused(refused) => Ok(refuse(refused, now)),
        VerifyFactorVerdict::Denied(denial) => Err(denied(*denial, prover)),
    }
}

pub(super) fn disable(verdict: &DisableVerdict, now: UnixMillis, prover: &Prover) -> Judged {
    match verdict {
        DisableVerdict::Disabled => Ok(Answer::ok(&json!({"success": true}))),
        DisableVerdict::Refused(refused) => Err(problem(refused, now)),
        DisableVerdict::Denied(denial) => Err(denied(*denial, prover)),
    }
}

pub(super) fn backup_codes(
    verdict: &BackupCodesVerdict,
    now: UnixMillis,
    prover: &Prover,
) -> Judged {
    match verdict {
        BackupCodesVerdict::Issued(codes) => {
            let body = json!({"success": true, "backupCodes": exposed(codes)});
            Ok(Answer::ok(&body).secret())
        }
        BackupCodesVerdict::Refused(refused) => Err(problem(refused, now)),
        BackupCodesVerdict::Denied(denial) => Err(denied(*denial, prover)),
    }
}

pub(super) fn totp(verdict: &TotpVerdict, now: UnixMillis, prover: &Prover) -> Judged {
    match verdict {
        TotpVerdict::Pending { secret, uri } => {
            let image = svg(uri.expose()).ok_or_else(Problem::internal)?;
            let body = json!({
                "success": true,
                "secret": secret.expose(),
                "otpauthUri": uri.expose(),
                "qrSvg": image,
            });
            Ok(Answer::ok(&body).secret())
        }
        // There is nothing else that forbids a secret.
        TotpVerdict::Refused(refused) => {
            let problem = Problem::new(Kind::TooManySecrets, refused.text.clone());
            Err(match refused.retry_at {
                Some(retry_at) => problem.after(retry_at.since(now)),
                None => problem,
            })
        }
        TotpVerdict::Denied(denial) => Err(denied(*denial, prover)),
    }
}

pub(super) fn login_send(verdict: &LoginSendVerdict, now: UnixMillis, prover: &Prover) -> Judged {
    match verdict {
        LoginSendVerdict::Sent {
            message_id,
            expires,
        } => Ok(Answer::ok(&json!({
            "success": true,
            "expiresAt": expires.to_string(),
            "messageId": message_id,
        }))),
        LoginSendVerdict::Refused(refused) => Ok(refuse(refused, now)),
        LoginSendVerdict::Denied(denial) => Err(denied(*denial, prover)),
    }
}

pub(super) fn login(verdict: &LoginVerdict, now: UnixMillis, prover: &Prover) -> Judged {
    match verdict {
        LoginVerdict::Accepted {
            method,
            backup_codes_left,
        } => {
            let mut body = json!({
                "success": true,
                "method": method.word(),
                "proof": prover.proof(*method, now)?,
            });
            if let Some(left) = backup_codes_left {
                body["backupCodesLeft"] = json!(left);
            }
            // A success that is told again a day later is no login of that day.
            Ok(Answer::ok(&body).secret())
        }
        LoginVerdict::Rejected(rejected) => Ok(reject(rejected, now)),
        LoginVerdict::Refused(refused) => Ok(refuse(refused, now)),
        LoginVerdict::Denied(denial) => Err(denied(*denial, prover)),
    }
}

fn exposed(codes: &[Secret<String>]) -> Value {
    let codes = codes.iter().map(|code| Value::from(code.expose().as_str()));
    codes.collect()
}

/// A refusal on a route that is not the seed's: what is asked for needs a factor that is not there.
fn problem(refused: &Refusal, now: UnixMillis) -> Problem {
    let problem = Problem::no_such_factor(refused.text.clone());
    match refused.retry_at {
        Some(retry_at) => problem.after(retry_at.since(now)),
        None => problem,
    }
}

fn denied(denial: Denial, prover: &Prover) -> Problem {
    match denial {
        Denial::ProofRequired => Problem::proof_required(prover.users.proofs.time()),
        Denial::TokenUsed => {
            let detail =
                "The token has done what it was made for; ask the application for a new one.";
            Problem::new(Kind::WrongToken, detail)
        }
        Denial::NotPermitted => {
            let detail = "The token is not for this; let the application ask with its API key.";
            Problem::new(Kind::TokenScope, detail)
        }
    }
}
