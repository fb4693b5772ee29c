//! `/admin/providers`: how the providers are doing, as far as this process has seen.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Api;
use super::answer::Answer;
use crate::providers::Shown;

pub(super) async fn list(State(api): State<Arc<Api>>) -> Response {
    let all = Shown::all(&api.providers, api.routes.health());
    Answer::ok(&json!({ "providers": all })).into_response()
}
