//! `/api/2fa…` and `/api/login/2fa…`: the seed's routes, bodies and answers, and what an application
//! needs around them.
//!
//! What may be done is decided in the call. Here a verdict becomes an answer: secrets that it made and the
//! proof that it is worth are put in, since no component has either.

use std::future::Future;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use countersign_types::{Secret, UnixMillis};
use serde_json::{Value, json};

use super::admitted::{Denied, ForUser, Named};
use super::answer::{Answer, Judged};
use super::fields::{Fields, PHONE_BYTES_MAX, locale};
use super::otp::{CODE_BYTES_MAX, refuse, reject};
use super::problem::{Kind, Problem, Refused};
use super::{
    Api, Asker, BackupCodesVerdict, CallContext, CallError, ChangeRequest, Denial, DisableRequest,
    DisableVerdict, EnableRequest, EnableVerdict, Factor, LoginRequest, LoginSendRequest,
    LoginSendVerdict, LoginVerdict, Method, Once, Refusal, Runtime, TotpVerdict, UserId,
    VerifyFactorRequest, VerifyFactorVerdict,
};
use crate::users::{State as Shown, Users, svg};

const METHOD_BYTES_MAX: usize = 16;
/// What an authenticator app shows beside the name of the service.
const ACCOUNT_BYTES_MAX: usize = 128;

/// What the user has.
pub(super) async fn status(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let Some(asker) = parts.extensions.get::<Asker>().cloned() else {
        tracing::error!("a request came past the gate");
        return Problem::internal().into_response();
    };
    let Named { context, user, .. } = match Named::by(asker, &parts.headers) {
        Ok(named) => named,
        Err(refused) => return Problem::from(refused).into_response(),
    };
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    match runtime.two_factor_status(&context, &user).await {
        Ok(state) => Answer::ok(&Shown::from(&state)).into_response(),
        Err(error) => Problem::from(error).into_response(),
    }
}

/// A code to a phone that is to become the user's.
pub(super) async fn enable(State(api): State<Arc<Api>>, request: Request) -> Response {
    ask(
        &api,
        request,
        SEED,
        enabling,
        answer_enable,
        |asked, once| async move {
            let Asked {
                runtime,
                context,
                user,
                request,
            } = asked;
            runtime
                .two_factor_enable(&context, &user, request, once)
                .await
        },
    )
    .await
}

/// The code that came to it.
pub(super) async fn verify_enable(State(api): State<Arc<Api>>, request: Request) -> Response {
    ask(
        &api,
        request,
        SEED,
        verifying,
        answer_verify_enable,
        |asked, once| async move {
            let Asked {
                runtime,
                context,
                user,
                request,
            } = asked;
            runtime
                .two_factor_verify_enable(&context, &user, request, once)
                .await
        },
    )
    .await
}

/// Removes factors.
pub(super) async fn disable(State(api): State<Arc<Api>>, request: Request) -> Response {
    ask(
        &api,
        request,
        BARE,
        disabling,
        answer_disable,
        |asked, once| async move {
            let Asked {
                runtime,
                context,
                user,
                request,
            } = asked;
            runtime
                .two_factor_disable(&context, &user, request, once)
                .await
        },
    )
    .await
}

/// A new set of backup codes.
pub(super) async fn backup_codes(State(api): State<Arc<Api>>, request: Request) -> Response {
    ask(
        &api,
        request,
        BARE,
        changing,
        answer_backup_codes,
        |asked, once| async move {
            let Asked {
                runtime,
                context,
                user,
                request,
            } = asked;
            runtime
                .two_factor_new_backup_codes(&context, &user, request, once)
                .await
        },
    )
    .await
}

/// A secret for an authenticator app.
pub(super) async fn totp(State(api): State<Arc<Api>>, request: Request) -> Response {
    ask(
        &api,
        request,
        BARE,
        enrolling,
        answer_totp,
        |asked, once| async move {
            let Asked {
                runtime,
                context,
                user,
                request: (request, account),
            } = asked;
            runtime
                .two_factor_totp_enroll(&context, &user, request, account, once)
                .await
        },
    )
    .await
}

/// The first code of that app.
pub(super) async fn totp_verify(State(api): State<Arc<Api>>, request: Request) -> Response {
    ask(
        &api,
        request,
        FULL,
        verifying,
        answer_totp_verify,
        |asked, once| async move {
            let Asked {
                runtime,
                context,
                user,
                request,
            } = asked;
            runtime
                .two_factor_totp_verify(&context, &user, request, once)
                .await
        },
    )
    .await
}

/// A code to the user's phone.
pub(super) async fn login_send(State(api): State<Arc<Api>>, request: Request) -> Response {
    ask(
        &api,
        request,
        BARE_SEED,
        login_sending,
        answer_login_send,
        |asked, once| async move {
            let Asked {
                runtime,
                context,
                user,
                request,
            } = asked;
            runtime
                .two_factor_login_send(&context, &user, request, once)
                .await
        },
    )
    .await
}

/// A code of any kind.
pub(super) async fn login(State(api): State<Arc<Api>>, request: Request) -> Response {
    ask(
        &api,
        request,
        SEED,
        logging_in,
        answer_login,
        |asked, once| async move {
            let Asked {
                runtime,
                context,
                user,
                request,
            } = asked;
            runtime
                .two_factor_login(&context, &user, request, once)
                .await
        },
    )
    .await
}

/// What is asked of the runtime.
struct Asked<R> {
    runtime: Runtime,
    context: CallContext,
    user: UserId,
    request: R,
}

/// How a route is asked and answers.
#[derive(Clone, Copy)]
struct Form {
    /// Refusals are in the seed's form; else they are problems.
    seed: bool,
    /// No body at all is good as well.
    may_be_empty: bool,
}

impl Form {
    fn deny(self, denied: Denied) -> Response {
        if self.seed {
            denied.into_response()
        } else {
            denied.into_problem()
        }
    }
}

const SEED: Form = Form {
    seed: true,
    may_be_empty: false,
};
const BARE_SEED: Form = Form {
    seed: true,
    may_be_empty: true,
};
const FULL: Form = Form {
    seed: false,
    may_be_empty: false,
};
const BARE: Form = Form {
    seed: false,
    may_be_empty: true,
};

/// What all of them have in common.
async fn ask<R, T, F>(
    api: &Api,
    request: Request,
    form: Form,
    parse: fn(&mut ForUser) -> Result<R, Refused>,
    judge: fn(&T, UnixMillis, &Prover) -> Judged,
    call: impl FnOnce(Asked<R>, Option<Once<'static, T>>) -> F,
) -> Response
where
    T: Send + 'static,
    F: Future<Output = Result<(T, UnixMillis), CallError>> + Send + 'static,
{
    let mut asked = match ForUser::read(api, request, form.may_be_empty).await {
        Ok(asked) => asked,
        Err(denied) => return form.deny(denied),
    };
    let request = match parse(&mut asked) {
        Ok(request) => request,
        Err(refused) => return form.deny(refused.into()),
    };
    let ForUser {
        context,
        claim,
        user,
        ..
    } = asked;
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    let prover = Prover {
        users: api.users.clone(),
        user: user.clone(),
        id: api.random_id(),
    };
    let asked = Asked {
        runtime,
        context,
        user,
        request,
    };
    let judge = move |verdict: &T, now| judge(verdict, now, &prover);
    api.answer(claim, judge, |once| call(asked, once)).await
}

fn enabling(asked: &mut ForUser) -> Result<EnableRequest, Refused> {
    Ok(EnableRequest {
        authority: asked.authority.clone(),
        phone: asked.fields.text("phoneNumber", PHONE_BYTES_MAX)?,
        locale: locale(&mut asked.fields)?,
        proof: asked.proof.clone(),
    })
}

fn verifying(asked: &mut ForUser) -> Result<VerifyFactorRequest, Refused> {
    Ok(VerifyFactorRequest {
        authority: asked.authority.clone(),
        code: asked.fields.text("code", CODE_BYTES_MAX)?,
        proof: asked.proof.clone(),
    })
}

fn disabling(asked: &mut ForUser) -> Result<DisableRequest, Refused> {
    Ok(DisableRequest {
        authority: asked.authority.clone(),
        factor: factor(&mut asked.fields)?,
        proof: asked.proof.clone(),
    })
}

fn changing(asked: &mut ForUser) -> Result<ChangeRequest, Refused> {
    Ok(ChangeRequest {
        authority: asked.authority.clone(),
        proof: asked.proof.clone(),
    })
}

fn enrolling(asked: &mut ForUser) -> Result<(ChangeRequest, Option<String>), Refused> {
    let account = asked.fields.optional_text("account", ACCOUNT_BYTES_MAX)?;
    Ok((changing(asked)?, account))
}

fn login_sending(asked: &mut ForUser) -> Result<LoginSendRequest, Refused> {
    Ok(LoginSendRequest {
        authority: asked.authority.clone(),
        locale: locale(&mut asked.fields)?,
    })
}

fn logging_in(asked: &mut ForUser) -> Result<LoginRequest, Refused> {
    Ok(LoginRequest {
        authority: asked.authority.clone(),
        code: asked.fields.text("code", CODE_BYTES_MAX)?,
        method: method(&mut asked.fields)?,
    })
}

/// What the user was asked for.
fn method(fields: &mut Fields) -> Result<Option<Method>, Refused> {
    let word = fields.optional_text("method", METHOD_BYTES_MAX)?;
    let all = [Method::Sms, Method::Totp, Method::Backup];
    let found = word.map(|word| all.into_iter().find(|method| method.word() == word));
    match found {
        None => Ok(None),
        Some(Some(method)) => Ok(Some(method)),
        Some(None) => Err(Refused::field(
            "method",
            "`method` must be otp, totp or backup",
        )),
    }
}

/// The factor that is to go; none: all of them.
fn factor(fields: &mut Fields) -> Result<Option<Factor>, Refused> {
    match method(fields)? {
        None => Ok(None),
        Some(Method::Sms) => Ok(Some(Factor::Sms)),
        Some(Method::Totp) => Ok(Some(Factor::Totp)),
        Some(Method::Backup) => Err(Refused::field("method", "`method` must be otp or totp")),
    }
}

/// Makes the proofs of one request. What it says depends on nothing but the verdict's own instant, so that
/// the answer that is kept is the one that is given.
#[derive(Clone)]
struct Prover {
    users: Arc<Users>,
    user: UserId,
    id: [u8; 16],
}

impl Prover {
    fn proof(&self, method: Method, at: UnixMillis) -> Result<String, Problem> {
        let proofs = &self.users.proofs;
        let proof = proofs.issue(&self.user, &[method.amr()], self.id, at);
        proof.ok_or_else(Problem::internal)
    }
}

fn answer_enable(verdict: &EnableVerdict, now: UnixMillis, _: &Prover) -> Judged {
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
        EnableVerdict::Denied(denial) => Err(denied(*denial)),
    }
}

fn answer_verify_enable(verdict: &VerifyFactorVerdict, now: UnixMillis, prover: &Prover) -> Judged {
    match verdict {
        VerifyFactorVerdict::Refused(refused) => Ok(refuse(refused, now)),
        verdict => verified(verdict, now, prover),
    }
}

fn answer_totp_verify(verdict: &VerifyFactorVerdict, now: UnixMillis, prover: &Prover) -> Judged {
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
        VerifyFactorVerdict::Denied(denial) => Err(denied(*denial)),
    }
}

fn answer_disable(verdict: &DisableVerdict, now: UnixMillis, _: &Prover) -> Judged {
    match verdict {
        DisableVerdict::Disabled => Ok(Answer::ok(&json!({"success": true}))),
        DisableVerdict::Refused(refused) => Err(problem(refused, now)),
        DisableVerdict::Denied(denial) => Err(denied(*denial)),
    }
}

fn answer_backup_codes(verdict: &BackupCodesVerdict, now: UnixMillis, _: &Prover) -> Judged {
    match verdict {
        BackupCodesVerdict::Issued(codes) => {
            let body = json!({"success": true, "backupCodes": exposed(codes)});
            Ok(Answer::ok(&body).secret())
        }
        BackupCodesVerdict::Refused(refused) => Err(problem(refused, now)),
        BackupCodesVerdict::Denied(denial) => Err(denied(*denial)),
    }
}

fn answer_totp(verdict: &TotpVerdict, now: UnixMillis, _: &Prover) -> Judged {
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
        TotpVerdict::Refused(refused) => Err(problem(refused, now)),
        TotpVerdict::Denied(denial) => Err(denied(*denial)),
    }
}

fn answer_login_send(verdict: &LoginSendVerdict, now: UnixMillis, _: &Prover) -> Judged {
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
        LoginSendVerdict::Denied(denial) => Err(denied(*denial)),
    }
}

fn answer_login(verdict: &LoginVerdict, now: UnixMillis, prover: &Prover) -> Judged {
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
            Ok(Answer::ok(&body))
        }
        LoginVerdict::Rejected(rejected) => Ok(reject(rejected, now)),
        LoginVerdict::Refused(refused) => Ok(refuse(refused, now)),
        LoginVerdict::Denied(denial) => Err(denied(*denial)),
    }
}

fn exposed(codes: &[Secret<String>]) -> Value {
    let codes = codes.iter().map(|code| Value::from(code.expose().as_str()));
    codes.collect()
}

/// A refusal on a route that is not the seed's.
fn problem(refused: &Refusal, now: UnixMillis) -> Problem {
    let problem = Problem::of_field(Refused {
        error: refused.text.clone(),
        field: refused.field.clone(),
    });
    match refused.retry_at {
        Some(retry_at) => problem.after(retry_at.since(now)),
        None => problem,
    }
}

fn denied(denial: Denial) -> Problem {
    match denial {
        Denial::ProofRequired => Problem::proof_required(),
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

#[cfg(test)]
mod tests;
