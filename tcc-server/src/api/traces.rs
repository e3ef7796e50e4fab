//! The spans of requests.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;

use super::metrics::word;
use crate::coordinator::Coordinator;

/// What is begun by a request belongs to its span, which belongs to its caller's.
pub(super) async fn trace(
    State(coordinator): State<Arc<Coordinator>>,
    mut request: Request,
    next: Next,
) -> Response {
    let method = word(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let traceparent = super::transactions::traceparent(request.headers());
    let Some(asked) = coordinator.traces.asked(method, route, traceparent.as_deref()) else {
        return next.run(request).await;
    };
    if let Ok(header) = HeaderValue::try_from(asked.traceparent()) {
        request.headers_mut().insert("traceparent", header);
    }
    let response = next.run(request).await;
    asked.answered(response.status().as_u16());
    response
}
