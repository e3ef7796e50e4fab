//! The API over a coordinator whose store does not answer.

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use tcc_core::wire::{Problem, ProblemCode};
use tcc_server::api::{Callers, router};
use tcc_server::limits;
use tokio::sync::Semaphore;
use tower_service::Service;

use crate::scripted::{Bench, Script, status};

fn begin(gid: &str) -> Request<Body> {
    let body = format!(r#"{{"gid":"{gid}","branches":[{{"id":"a","at":"t:a"}}]}}"#);
    Request::post("/v1/transactions")
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.into())
        .unwrap()
}

async fn problem(response: Response<Body>) -> Problem {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

/// What was begun for a caller goes on when he hangs up, so that callers alone do not bound it.
#[tokio::test]
async fn those_who_hang_up_on_a_slow_store_do_not_pile_up_without_end() {
    let bench = Bench::new(&Script::new(async |_| status(200)));
    let goes = &bench.store.goes;
    goes.forget_permits(Semaphore::MAX_PERMITS);
    let mut api = router(bench.coordinator.clone(), Callers::Anyone);
    for nth in 0..limits::REQUESTS {
        assert!(api.call(begin(&format!("hung-up/{nth}"))).now_or_never().is_none(), "{nth} was answered");
    }
    let refused = api.call(begin("late")).now_or_never().expect("there is no place to wait for").unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(problem(refused).await.code, ProblemCode::Unavailable.as_str());

    // All of them are followed, and so is who comes after that.
    goes.add_permits(1);
    while api.call(begin("late")).await.unwrap().status() != StatusCode::CREATED {
        tokio::task::yield_now().await;
    }
    let last = format!("/v1/transactions/hung-up%2F{}", limits::REQUESTS - 1);
    let known = api.call(Request::get(last).body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(known.status(), StatusCode::OK);
}
