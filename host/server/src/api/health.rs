//! `/healthz`: the process answers. `/readyz`: it would serve a call now, or why not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use countersign_store::{Need, SledStore, Store};
use serde_json::json;

use super::Api;
use crate::metrics::Metrics;

/// What the server knows of its own condition, beside the runtime's.
pub(crate) struct Health {
    /// None in tests that need no store.
    store: Option<Arc<SledStore>>,
    pub(crate) metrics: Arc<Metrics>,
    store_failed: AtomicBool,
    stopping: AtomicBool,
}

impl Health {
    /// Of a server on this store, which counts with `metrics`.
    pub(crate) fn of(store: Option<Arc<SledStore>>, metrics: Arc<Metrics>) -> Health {
        Health {
            store,
            metrics,
            store_failed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    /// The store that it is on.
    pub(super) fn embedded(&self) -> Option<&SledStore> {
        self.store.as_deref()
    }

    fn store_is_full(&self) -> bool {
        let store = self.store.as_ref();
        store.is_some_and(|store| !store.has_room(Need::NewWork))
    }

    /// The store will not answer any more.
    pub(crate) fn store_failed(&self) {
        self.store_failed.store(true, Ordering::Release);
    }

    /// The server has begun to stop.
    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}

pub(super) async fn healthz() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// Why a call would not be served now.
pub(super) fn reasons(api: &Api) -> Vec<&'static str> {
    let runtime = api.serving();
    [
        (runtime.is_none(), "starting"),
        (api.health.stopping.load(Ordering::Acquire), "stopping"),
        (
            api.health.store_failed.load(Ordering::Acquire),
            "the store failed",
        ),
        (
            api.health.store_is_full(),
            "the disk is nearly full: new messages are turned away",
        ),
        (
            runtime.is_some_and(super::Runtime::clock_stepped_back),
            "the machine's clock was set back",
        ),
    ]
    .into_iter()
    .filter_map(|(holds, reason)| holds.then_some(reason))
    .collect()
}

pub(super) async fn readyz(State(api): State<Arc<Api>>) -> Response {
    let reasons = reasons(&api);
    if reasons.is_empty() {
        Json(json!({"status": "ready"})).into_response()
    } else {
        let body = json!({"status": "not ready", "reasons": reasons});
        (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
    }
}
