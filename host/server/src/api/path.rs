//! Names in paths.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::problem::{Kind, Problem};

/// What a path's one variable part holds, decoded.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Named, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Named(name)),
            // The router's own words are plain text.
            Err(_) => Err(Problem::new(
                Kind::BadRequest,
                "The path is not UTF-8 in percent-encoding (RFC 3986).",
            )),
        }
    }
}
