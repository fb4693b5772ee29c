//! `GET /openapi.json`: the API, described for tools that make clients and documentation.
//!
//! The description is written by hand, since bodies are read and answers made by hand too: what a client
//! sees is exactly what stands there, and not what a type happens to become. It cannot drift: a test here
//! compares it with the routes, and `tests/all/openapi.rs` what the server really answers with it.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

/// OpenAPI 3.1.
pub(super) const DESCRIPTION: &str = include_str!("openapi.json");

pub(super) async fn description() -> Response {
    ([(CONTENT_TYPE, "application/json")], DESCRIPTION).into_response()
}
