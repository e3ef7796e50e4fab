//! An API that is asked without a network.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tcc_server::api::{Callers, router};
use tower_service::Service;

use crate::scripted::Bench;

/// The routes over a coordinator.
pub(crate) struct Api(Router);

impl Api {
    pub(crate) fn of(bench: &Bench) -> Self {
        Self(router(bench.coordinator.clone(), Callers::Anyone))
    }

    /// Sends a request, and returns the status and the JSON of its answer. The path goes on after `/v1/transactions`.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        self.ask_at(method, &format!("/transactions{path}"), body).await
    }

    /// The same, with a path that goes on after `/v1`.
    pub(crate) async fn ask_at(
        &mut self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(format!("/v1{path}"));
        let request = match body {
            None => request.body(Body::empty()),
            Some(json) => {
                request.header(header::CONTENT_TYPE, "application/json").body(json.to_string().into())
            }
        };
        let answer = self.0.call(request.unwrap()).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }
}
