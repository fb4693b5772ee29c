//! `/admin/stops`: what a number has answered to senders, and taking it back.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use countersign_types::{PhoneNumber, UnixMillis};

use super::admitted::Administered;
use super::answer::{Answer, Judged};
use super::fields::{Fields, PHONE_BYTES_MAX};
use super::messages::no_such_phone;
use super::problem::{Problem, Refused};
use super::{Api, Claim, Runtime};
use crate::stops::{Cleared, Listed};
use crate::users::operator;

const PROVIDER_BYTES_MAX: usize = 64;

/// Changes nothing but the trail, so an idempotency key stays free.
pub(super) async fn search(State(api): State<Arc<Api>>, request: Request) -> Response {
    let mut fields = match Administered::read(&api, request).await {
        Ok(Administered { fields }) => fields,
        Err(denied) => return denied.into_problem(),
    };
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    let number = number(&mut fields, &runtime);
    let number = match number.and_then(|number| fields.nothing_else().map(|()| number)) {
        Ok(number) => number,
        Err(refused) => return Problem::from(refused).into_response(),
    };
    match runtime.stops_of(&operator(), &number, "http").await {
        Ok(found) => Answer::ok(&Listed::from(found)).into_response(),
        Err(error) => Problem::from(error).into_response(),
    }
}

pub(super) async fn clear(
    State(api): State<Arc<Api>>,
    claim: Option<Extension<Claim>>,
    request: Request,
) -> Response {
    let mut fields = match Administered::read(&api, request).await {
        Ok(Administered { fields }) => fields,
        Err(denied) => return denied.into_problem(),
    };
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    let (number, provider) = match wanted(&mut fields, &runtime) {
        Ok(wanted) => wanted,
        Err(refused) => return Problem::from(refused).into_response(),
    };
    let call = async move |once| {
        let (operator, provider) = (operator(), provider.as_deref());
        let cleared = runtime.clear_stops(&operator, &number, provider, "http", once);
        cleared.await
    };
    let claim = claim.map(|Extension(claim)| claim);
    api.answer(claim, cleared, call).await
}

fn number(fields: &mut Fields, runtime: &Runtime) -> Result<PhoneNumber, Refused> {
    let number = fields.text("phoneNumber", PHONE_BYTES_MAX)?;
    let parsed = runtime.parse_phone(&number);
    parsed.map_err(|error| no_such_phone("phoneNumber", error))
}

fn wanted(
    fields: &mut Fields,
    runtime: &Runtime,
) -> Result<(PhoneNumber, Option<String>), Refused> {
    let number = number(fields, runtime)?;
    let provider = fields.optional_text("provider", PROVIDER_BYTES_MAX)?;
    // A field that is spelt wrongly would take everything back.
    fields.nothing_else()?;
    Ok((number, provider))
}

fn cleared(&cleared: &usize, _: UnixMillis) -> Judged {
    Ok(Answer::ok(&Cleared { cleared }))
}
