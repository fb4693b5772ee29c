//! `/api/2fa…` and `/api/login/2fa…`: the seed's routes, bodies and answers, and what an application
//! needs around them.
//!
//! What may be done is decided in the call, and `answers` says what a verdict becomes.

mod answers;

use std::future::Future;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use countersign_types::UnixMillis;

use super::admitted::{AboutUser, Denied, ForUser};
use super::answer::{Answer, Judged};
use super::fields::{Fields, PHONE_BYTES_MAX, locale};
use super::otp::CODE_BYTES_MAX;
use super::problem::{Problem, Refused};
use super::{
    Api, Asker, CallContext, CallError, ChangeRequest, DisableRequest, EnableRequest, Factor,
    LoginRequest, LoginSendRequest, Method, Once, Runtime, UserId, VerifyFactorRequest,
};
use crate::users::State as Shown;
use answers::Prover;

const METHOD_BYTES_MAX: usize = 16;
/// What an authenticator app shows beside the name of the service.
const ACCOUNT_BYTES_MAX: usize = 128;

/// The call that a route is for.
macro_rules! calling {
    ($function:ident) => {
        |asked, once| async move {
            let Asked {
                runtime,
                context,
                user,
                request,
            } = asked;
            runtime.$function(&context, &user, request, once).await
        }
    };
}

/// What the user has.
pub(super) async fn status(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let Some(asker) = parts.extensions.get::<Asker>().cloned() else {
        tracing::error!("a request came past the gate");
        return Problem::internal().into_response();
    };
    let AboutUser { context, user, .. } = match AboutUser::by(asker, &parts.headers) {
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
        answers::enable,
        calling!(two_factor_enable),
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
        answers::verify_enable,
        calling!(two_factor_verify_enable),
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
        answers::disable,
        calling!(two_factor_disable),
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
        answers::backup_codes,
        calling!(two_factor_new_backup_codes),
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
        answers::totp,
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
        answers::totp_verify,
        calling!(two_factor_totp_verify),
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
        answers::login_send,
        calling!(two_factor_login_send),
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
        answers::login,
        calling!(two_factor_login),
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
    let prover = Prover::new(api.users.clone(), user.clone(), api.random_id());
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
    let all = [Method::Sms, Method::Totp, Method::Backup];
    one_of(fields, &all, "`method` must be otp, totp or backup")
}

/// The factor that is to go; none: all of them.
fn factor(fields: &mut Fields) -> Result<Option<Factor>, Refused> {
    let factors = [Method::Sms, Method::Totp];
    let method = one_of(fields, &factors, "`method` must be otp or totp")?;
    Ok(method.map(|method| match method {
        Method::Totp => Factor::Totp,
        _ => Factor::Sms,
    }))
}

fn one_of(fields: &mut Fields, methods: &[Method], must: &str) -> Result<Option<Method>, Refused> {
    let Some(word) = fields.optional_text("method", METHOD_BYTES_MAX)? else {
        return Ok(None);
    };
    let found = methods.iter().find(|method| method.word() == word);
    found
        .copied()
        .map(Some)
        .ok_or_else(|| Refused::field("method", must))
}

#[cfg(test)]
mod tests;
