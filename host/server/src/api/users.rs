//! `/api/users/{id}/tokens` and `/.well-known/jwks.json`: what users present, and the keys that the
//! proofs of their factors are checked with.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use countersign_types::UnixMillis;
use serde_json::json;

use super::admitted::Admitted;
use super::answer::{Answer, Judged};
use super::path::Named;
use super::problem::{Problem, Refused};
use super::{Api, CallError, UserId};
use crate::users::{NewToken, Purpose};

const PURPOSE_BYTES_MAX: usize = 16;
/// How long the public keys may be kept by who has asked for them. A proof under a new key names it, so
/// who does not know it yet asks again.
const KEY_SET_KEPT: Duration = Duration::from_secs(300);

pub(super) async fn make_token(
    State(api): State<Arc<Api>>,
    Named(id): Named,
    request: Request,
) -> Response {
    let Admitted {
        context,
        claim,
        mut fields,
    } = match Admitted::read(&api, request).await {
        Ok(admitted) => admitted,
        Err(denied) => return denied.into_problem(),
    };
    let Ok(user) = id.parse::<UserId>() else {
        return Problem::no_user_id().into_response();
    };
    let purpose = match fields.text("purpose", PURPOSE_BYTES_MAX) {
        Ok(word) => Purpose::of(&word)
            .ok_or_else(|| Refused::field("purpose", "`purpose` must be login or enroll")),
        Err(refused) => Err(refused),
    };
    let purpose = match purpose {
        Ok(purpose) => purpose,
        Err(refused) => return Problem::from(refused).into_response(),
    };
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    let maker = &context.caller;
    let id = api.random_id();
    let made = api
        .users
        .tokens
        .make(purpose, &user, maker, id, runtime.now());
    let Ok(made) = made else {
        return Problem::internal().into_response();
    };
    // What is given is what was made before the call: a repeat gets the same.
    let made = Arc::new(made);
    let judge = move |(): &(), _: UnixMillis| answer(purpose, &made);
    let attributes = vec![("purpose".to_owned(), purpose.word().to_owned())];
    let call = async move |once| {
        let _place = runtime.host_place(&context.caller).await?;
        let kind = "token.issued";
        let at = runtime
            .audit_record(&context, &user, kind, attributes, once)
            .await?;
        Ok::<_, CallError>(((), at))
    };
    api.answer(claim, judge, call).await
}

fn answer(purpose: Purpose, made: &NewToken) -> Judged {
    let body = json!({
        "token": made.text.expose(),
        "purpose": purpose.word(),
        "expiresAt": made.ends.to_string(),
    });
    Ok(Answer::created(&body).secret())
}

/// RFC 7517. Needs no key: public halves are for everybody.
pub(super) async fn key_set(State(api): State<Arc<Api>>) -> Response {
    let set = api.users.proofs.key_set(api.gate.now());
    let kept = format!("public, max-age={}", KEY_SET_KEPT.as_secs());
    let headers = [
        (CONTENT_TYPE, "application/jwk-set+json"),
        (CACHE_CONTROL, &kept),
    ];
    (headers, Body::from(set.to_string())).into_response()
}
