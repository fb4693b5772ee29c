//! `GET /metrics`: for the operator's monitoring.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::{Api, Labels, Page, Problem};
use crate::metrics;

pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let mut page = Page::default();
    if let Some(requests) = api.requests.get() {
        requests.add_to(&mut page);
    }
    let single = |value: f64| [(Labels::new(), value)];
    page.gauge(
        "countersign_ready",
        "Whether /readyz answers 200.",
        single(f64::from(u8::from(super::health::reasons(&api).is_empty()))),
    );
    let connections = &api.health.metrics.connections;
    page.gauge(
        "countersign_http_connections",
        "Connections of clients.",
        single(connections.open.value() as f64),
    );
    page.gauge(
        "countersign_http_connections_max",
        "How many connections clients may have.",
        single(api.http.connections_max as f64),
    );
    page.counter(
        "countersign_http_streams_refused",
        "Requests of HTTP/2 that were turned away, since too many were in progress on all connections.",
        [(Labels::new(), connections.refused.value())],
    );
    api.health.metrics.add_to(&mut page);
    let now = api.gate.now();
    let runtime = api.serving();
    let queue = runtime.map(|runtime| runtime.queue().overview(now));
    metrics::add_queue(&mut page, queue, now);
    let overview = runtime.map(super::Runtime::overview);
    if let Some(store) = api.health.embedded() {
        metrics::add_store(&mut page, store);
        metrics::add_reports(&mut page, store, overview.as_ref());
    }
    let providers = api.providers.iter();
    metrics::add_health(
        &mut page,
        providers.map(|one| &*one.name),
        api.routes.health(),
    );
    metrics::add_runtime(&mut page, overview);
    match page.text() {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => Problem::internal().into_response(),
    }
}
