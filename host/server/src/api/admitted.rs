//! What requests under `/api` have in common: who asks, from where, about whom, and a body that is a
//! JSON object.

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use countersign_types::hex;

use super::body::{self, Strictness};
use super::fields::Fields;
use super::idempotency::{PROOF, USER};
use super::problem::{Problem, Refused};
use super::{
    Api, Asker, Authority, CallContext, Caller, Claim, FactorProof, UserId, UserIdError, UserToken,
    client_address,
};
use crate::users::{Purpose, Token};

/// The namespace whose settings and limits apply to these routes.
const SERVICE: &str = "default";

/// A request of an application that has been let in.
pub(super) struct Admitted {
    pub(super) context: CallContext,
    /// Where it has an idempotency key.
    pub(super) claim: Option<Claim>,
    pub(super) fields: Fields,
}

/// A request about one user that has been let in.
pub(super) struct ForUser {
    pub(super) context: CallContext,
    /// Where it has an idempotency key.
    pub(super) claim: Option<Claim>,
    pub(super) fields: Fields,
    pub(super) user: UserId,
    pub(super) authority: Authority,
    /// Where it has one that holds. Whether one is needed, and whether it was used before, is decided in
    /// the call.
    pub(super) proof: Option<FactorProof>,
}

/// A request of the administrator that has been let in.
pub(super) struct Administered {
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

impl From<Problem> for Denied {
    fn from(problem: Problem) -> Denied {
        Denied::Problem(problem.into_response())
    }
}

impl From<Refused> for Denied {
    fn from(refused: Refused) -> Denied {
        Denied::Refused(refused)
    }
}

/// A `POST` whose body has arrived.
struct Arrived {
    asker: Asker,
    claim: Option<Claim>,
    headers: HeaderMap,
    bytes: Bytes,
}

impl Arrived {
    async fn wait(api: &Api, request: Request) -> Result<Arrived, Denied> {
        let (mut parts, body) = request.into_parts();
        // Put there by the gate, and by nobody else: a route that it does not guard cannot be served.
        let Some(asker) = parts.extensions.remove::<Asker>() else {
            tracing::error!("a request came past the gate");
            return Err(Problem::internal().into());
        };
        let claim = parts.extensions.remove::<Claim>();
        let bytes = json_bytes(api, &parts, body).await?;
        Ok(Arrived {
            asker,
            claim,
            headers: parts.headers,
            bytes,
        })
    }
}

/// The body of a `POST`, which says that it is JSON.
async fn json_bytes(api: &Api, parts: &Parts, body: Body) -> Result<Bytes, Denied> {
    if let Err(problem) = body::check_json(&parts.headers, Strictness::Usual) {
        return Err(Denied::Problem(body::refuse(parts, body, problem).await));
    }
    let limits = &api.http;
    let read = body::read(parts, body, limits.body_bytes_max, limits.body_time);
    Ok(read.await?)
}

impl Administered {
    /// Reads a `POST` of the administrator.
    ///
    /// # Errors
    ///
    /// See [`Denied`].
    pub(super) async fn read(api: &Api, request: Request) -> Result<Administered, Denied> {
        let (parts, body) = request.into_parts();
        let bytes = json_bytes(api, &parts, body).await?;
        let fields = Fields::parse(&bytes)?;
        Ok(Administered { fields })
    }
}

impl Admitted {
    /// Reads a `POST` of an application.
    ///
    /// # Errors
    ///
    /// See [`Denied`].
    pub(super) async fn read(api: &Api, request: Request) -> Result<Admitted, Denied> {
        let Arrived {
            asker,
            claim,
            headers,
            bytes,
        } = Arrived::wait(api, request).await?;
        let Asker::Application(caller) = asker else {
            // The gate opens no such route for a token.
            tracing::error!("a token came past the gate");
            return Err(Problem::internal().into());
        };
        Ok(Admitted {
            context: context(caller, client_address::of(&headers)?),
            claim,
            fields: Fields::parse(&bytes)?,
        })
    }
}

impl ForUser {
    /// Reads a `POST` about a user, of an application or of the user's own device. Where `may_be_empty`
    /// says so, no body at all is an object without fields.
    ///
    /// # Errors
    ///
    /// See [`Denied`].
    pub(super) async fn read(
        api: &Api,
        request: Request,
        may_be_empty: bool,
    ) -> Result<ForUser, Denied> {
        let Arrived {
            asker,
            claim,
            headers,
            bytes,
        } = Arrived::wait(api, request).await?;
        let AboutUser {
            context,
            user,
            authority,
        } = AboutUser::by(asker, &headers)?;
        let fields = match &*bytes {
            [] if may_be_empty => Fields::default(),
            bytes => Fields::parse(bytes)?,
        };
        Ok(ForUser {
            proof: proof(api, &headers, &user),
            context,
            claim,
            fields,
            user,
            authority,
        })
    }
}

/// Whom a request is about, and in whose right it is made.
pub(super) struct AboutUser {
    pub(super) context: CallContext,
    pub(super) user: UserId,
    pub(super) authority: Authority,
}

impl AboutUser {
    /// An application names the user in a header; a token is its user's.
    ///
    /// # Errors
    ///
    /// When the header is missing, or names nobody.
    pub(super) fn by(asker: Asker, headers: &HeaderMap) -> Result<AboutUser, Refused> {
        match asker {
            Asker::Application(caller) => Ok(AboutUser {
                context: context(caller, client_address::of(headers)?),
                user: named(headers)?,
                authority: Authority::Application,
            }),
            Asker::User(_) if headers.contains_key(USER) => Err(Refused::body(
                "The token says who the user is; leave X-Countersign-User out",
            )),
            Asker::User(token) => {
                let Token {
                    purpose,
                    user,
                    id,
                    ends,
                    ..
                } = token;
                let id = hex(&id);
                // Whoever holds a token may say anything of the address, so nothing is believed.
                let context = context(Caller::Token(id.clone()), None);
                let token = UserToken { id, ends };
                let authority = match purpose {
                    Purpose::Login => Authority::LoginToken(token),
                    Purpose::Enroll => Authority::EnrolmentToken(token),
                };
                Ok(AboutUser {
                    context,
                    user,
                    authority,
                })
            }
        }
    }
}

fn context(caller: Caller, client_address: Option<String>) -> CallContext {
    CallContext {
        service: SERVICE.to_owned(),
        caller,
        client_address,
    }
}

/// The user that the header names.
fn named(headers: &HeaderMap) -> Result<UserId, Refused> {
    let mut values = headers.get_all(USER).iter();
    let Some(value) = values.next() else {
        let error = "Name the user in the header X-Countersign-User";
        return Err(Refused::body(error));
    };
    let text = std::str::from_utf8(value.as_bytes()).ok();
    let user = text.and_then(|text| text.parse().ok());
    // Of two, a proxy in front might believe the other one.
    user.filter(|_| values.next().is_none())
        .ok_or_else(|| Refused::body(format!("X-Countersign-User: {UserIdError}")))
}

/// What the proof of the request says, where it is one of this very user.
fn proof(api: &Api, headers: &HeaderMap, user: &UserId) -> Option<FactorProof> {
    let mut values = headers.get_all(PROOF).iter();
    let text = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    api.users.proofs.check(text.trim(), user, api.gate.now())
}
