//! The API over a coordinator whose store does not answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use tcc_core::store::{
    BoxFuture, Claimed, Counts, Filter, Listing, Page, Row, Store, Unavailable, Unknown, Write, Written,
};
use tcc_core::wire::{Problem, ProblemCode};
use tcc_core::{Gid, MemoryStore, Timestamp};
use tcc_server::api::{Callers, router};
use tcc_server::transport::Transports;
use tcc_server::{Coordinator, Settings, limits};
use tokio::sync::Semaphore;
use tower_service::Service;

use crate::scripted::{Script, status};

/// A store that commits once it is let.
struct Stuck {
    inner: MemoryStore,
    goes: Semaphore,
}

impl Store for Stuck {
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<Vec<Written>, Unknown>> {
        Box::pin(async move {
            let _goes = self.goes.acquire().await.unwrap();
            self.inner.commit(batch).await
        })
    }

    fn load<'a>(&'a self, gid: &'a Gid) -> BoxFuture<'a, Result<Option<Row>, Unavailable>> {
        self.inner.load(gid)
    }

    fn list<'a>(&'a self, filter: &'a Filter, page: Page) -> BoxFuture<'a, Result<Listing, Unavailable>> {
        self.inner.list(filter, page)
    }

    fn claim(&self, lease: Duration, limit: usize) -> BoxFuture<'_, Result<Claimed, Unavailable>> {
        self.inner.claim(lease, limit)
    }

    fn claim_parked<'a>(
        &'a self,
        destination: &'a str,
        lease: Duration,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, Unavailable>> {
        self.inner.claim_parked(destination, lease, limit)
    }

    fn parked_at(&self, limit: usize) -> BoxFuture<'_, Result<Vec<String>, Unavailable>> {
        self.inner.parked_at(limit)
    }

    fn counts(&self) -> BoxFuture<'_, Result<Counts, Unavailable>> {
        self.inner.counts()
    }

    fn purge(
        &self,
        ended: Timestamp,
        forget: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, Unavailable>> {
        self.inner.purge(ended, forget, limit)
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }
}

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
    let inner = MemoryStore::new(|| Timestamp::from_millis(0));
    let store = Arc::new(Stuck { inner, goes: Semaphore::new(0) });
    let transports = Transports::new().with(Script::new(async |_| status(200)));
    let coordinator = Coordinator::new(store.clone(), transports, Settings::default());
    let mut api = router(coordinator, Callers::Anyone);
    for nth in 0..limits::REQUESTS {
        assert!(api.call(begin(&format!("hung-up/{nth}"))).now_or_never().is_none(), "{nth} was answered");
    }
    let refused = api.call(begin("late")).now_or_never().expect("there is no place to wait for").unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(problem(refused).await.code, ProblemCode::Unavailable.as_str());

    // All of them are followed, and so is who comes after that.
    store.goes.add_permits(1);
    while api.call(begin("late")).await.unwrap().status() != StatusCode::CREATED {
        tokio::task::yield_now().await;
    }
    let last = format!("/v1/transactions/hung-up%2F{}", limits::REQUESTS - 1);
    let known = api.call(Request::get(last).body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(known.status(), StatusCode::OK);
}
