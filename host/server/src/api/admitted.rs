//! What every POST under `/api` has in common.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};

use super::body::{self, Strictness};
use super::fields::Fields;
use super::idempotency::Claim;
use super::problem::{Problem, Refused};
use super::{Api, CallContext, Caller, client_address};

/// The namespace whose settings and limits apply to these routes.
const SERVICE: &str = "default";

/// A request that has been let in.
pub(super) struct Admitted {
    pub(super) context: CallContext,
    /// Where it has an idempotency key.
    pub(super) claim: Option<Claim>,
    pub(super) fields: Fields,
}

/// Why a request was not let in: a problem everywhere, or the body's fault.
pub(super) enum Denied {
    Problem(Response),
    Refused(Refused),
}

impl Denied {
    /// In the seed's form.
    pub(super) fn into_response(self) -> Response {
        match self {
            Denied::Problem(response) => response,
            Denied::Refused(refused) => refused.into_response(),
        }
    }

    /// As a problem in any case.
    pub(super) fn into_problem(self) -> Response {
        match self {
            Denied::Problem(response) => response,
            Denied::Refused(refused) => Problem::from(refused).into_response(),
        }
    }
}

impl Admitted {
    /// Everything that is the same for all POSTs under `/api`: who asks, from where, and a body that is a
    /// JSON object.
    ///
    /// # Errors
    ///
    /// See [`Denied`].
    pub(super) async fn read(api: &Api, request: Request) -> Result<Admitted, Denied> {
        let denied = |problem: Problem| Denied::Problem(problem.into_response());
        let (mut parts, body) = request.into_parts();
        // Put there by the gate, and by nobody else: a route that it does not guard cannot be served.
        let Some(caller) = parts.extensions.remove::<Caller>() else {
            tracing::error!("a request came past the gate");
            return Err(denied(Problem::internal()));
        };
        let claim = parts.extensions.remove::<Claim>();
        if let Err(problem) = body::check_json(&parts.headers, Strictness::Usual) {
            return Err(Denied::Problem(body::refuse(&parts, body, problem).await));
        }
        let client_address = client_address::of(&parts.headers);
        let limits = &api.http;
        let bytes = body::read(
            &parts.headers,
            body,
            limits.body_bytes_max,
            limits.body_time,
        )
        .await;
        let bytes = bytes.map_err(denied)?;
        let client_address = client_address.map_err(Denied::Refused)?;
        let fields = Fields::parse(&bytes).map_err(Denied::Refused)?;
        let context = CallContext {
            service: SERVICE.to_owned(),
            caller,
            client_address,
        };
        Ok(Admitted {
            context,
            claim,
            fields,
        })
    }
}
