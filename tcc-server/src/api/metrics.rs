//! What is told to Prometheus, and how requests are counted for it.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::Api;
use crate::coordinator::Coordinator;

/// `GET /metrics`
pub(super) async fn show(State(api): State<Arc<Api>>) -> Response {
    let text = api.coordinator.metrics().await + &crate::metrics::process();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Counts a request by its route, which is none of the caller's making, and what it came to.
pub(super) async fn count(
    State(coordinator): State<Arc<Coordinator>>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let method = word(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    coordinator.metrics.answered(method, route, response.status().as_u16(), begun.elapsed());
    response
}

/// The method, if it is one that any route has.
pub(super) fn word(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        _ => "other",
    }
}
