//! The HTTP API: a thin layer that reads a request, has the coordinator do it, and tells what became of it.
//!
//! A request's work runs in a task of its own: a dropped connection never stops it between save and act.

mod asked;
mod body;
mod by_hand;
mod list;
mod metrics;
mod openapi;
mod problem;
mod serve;
mod taken;
#[cfg(feature = "tls")]
mod tls;
mod token;
mod topics;
#[cfg(feature = "otel")]
mod traces;
mod transactions;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tcc_core::wire::{ProblemCode, TransactionView};
use tcc_core::{Gid, protocol};
use tokio::sync::Semaphore;

pub use self::openapi::document;
pub use self::serve::{Listening, serve};
#[cfg(feature = "tls")]
pub use self::tls::Tls;
pub use self::token::{Callers, Token};

use self::problem::Failure;
use crate::coordinator::{Begun, Coordinator, Error, Known};
use crate::limits;
use crate::wait::{Wait, Waiter};

/// The routes of the API over a coordinator. Anyone may ask the probes and for the description of the API; whose other
/// requests are followed is said here.
pub fn router(coordinator: Arc<Coordinator>, callers: Callers) -> Router {
    let (transactions, document) = openapi::routes();
    let transactions = transactions
        .route("/metrics", get(metrics::show))
        .with_state(Arc::new(Api::over(coordinator.clone())));
    let transactions = match callers {
        Callers::WithToken(token) => transactions.layer(from_fn_with_state(Arc::new(token), token::ask)),
        Callers::OfThisMachine => transactions.layer(from_fn(token::local)),
        Callers::Anyone => transactions,
    };
    let document: Arc<str> = document.to_json().expect("a description is JSON").into();
    let document = async move || ([(header::CONTENT_TYPE, "application/json")], document.to_string());
    let routes = Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz).with_state(coordinator.clone()))
        .route("/openapi.json", get(document))
        .merge(transactions)
        .fallback(|| async { Failure::new(ProblemCode::NotFound, "there is no such route") })
        .method_not_allowed_fallback(|| async {
            Failure::new(ProblemCode::MethodNotAllowed, "see docs/http-api.md")
        });
    #[cfg(feature = "otel")]
    let routes = routes.layer(from_fn_with_state(coordinator.clone(), traces::trace));
    routes.layer(from_fn_with_state(coordinator, metrics::count))
}

/// What the routes of transactions share.
struct Api {
    coordinator: Arc<Coordinator>,
    /// Those whose requests are followed: work that goes on though its caller hung up has a place, too.
    places: Arc<Semaphore>,
    /// Lists that are made.
    lists: Semaphore,
}

impl Api {
    fn over(coordinator: Arc<Coordinator>) -> Self {
        let places = Arc::new(Semaphore::new(limits::REQUESTS));
        Self { coordinator, places, lists: Semaphore::new(limits::LISTS) }
    }
}

async fn readyz(State(coordinator): State<Arc<Coordinator>>) -> Result<&'static str, Failure> {
    if coordinator.has_failed() {
        return Err(Failure::new(
            ProblemCode::Unavailable,
            "a write may or may not have become durable; restarting",
        ));
    }
    coordinator.probe().await.map_err(Failure::from)?;
    Ok("ready")
}

/// Has the coordinator do what a request about one transaction asks for, and answers with what is so then.
async fn follow<F: Future<Output = Result<Known, Error>> + Send + 'static>(
    api: Arc<Api>,
    gid: Gid,
    waiting: Option<(Wait, Duration)>,
    act: impl FnOnce(Arc<Coordinator>, Gid) -> F + Send + 'static,
) -> Result<Response, Failure> {
    let waiting = listen(&api, &gid, waiting);
    let acting = act(api.coordinator.clone(), gid.clone());
    let known = own_task(&api, acting).await.map_err(|failure| failure.of(&gid))?;
    Ok(answer(&api, known, StatusCode::OK, waiting).await)
}

/// A wait that was asked for: what is listened to, for what, and for how long.
type Listener<'a> = (Waiter<'a>, Wait, Duration);

/// Listens before anything is done, so that what is done need not be looked up after it.
fn listen<'a>(api: &'a Api, gid: &Gid, waiting: Option<(Wait, Duration)>) -> Option<Listener<'a>> {
    waiting.map(|(until, longest)| (api.coordinator.listen(gid), until, longest))
}

/// Tells what became of a begin, and before which moment no guard row is needed any more.
async fn told(api: &Api, begun: Begun, waiting: Option<Listener<'_>>) -> Response {
    let (status, known) = match begun {
        Begun::New(stored) => (StatusCode::CREATED, Known::Stored(stored)),
        Begun::Before(known) => (StatusCode::OK, known),
    };
    let mut answer = answer(api, known, status, waiting).await;
    if let Some(settled) = api.coordinator.settled() {
        answer.headers_mut().insert(protocol::SETTLED, HeaderValue::from(settled.as_millis()));
    }
    answer
}

/// Tells how a transaction stands, after the wait that was asked for. It is cut short where the caller hangs up: what
/// was asked for is done by then, and nobody is left to be told.
async fn answer(api: &Api, known: Known, status: StatusCode, waiting: Option<Listener<'_>>) -> Response {
    let (status, known) = match waiting {
        None => (status, known),
        Some((waiter, until, longest)) => {
            let known = waiter.wait(known, until, longest).await;
            (if until.is_over(known.phase()) { status } else { StatusCode::ACCEPTED }, known)
        }
    };
    let view = match known {
        Known::Stored(stored) => TransactionView::of(stored.transaction(), api.coordinator.now()),
        Known::Purged(gid, phase) => TransactionView::purged(gid, phase),
    };
    json(status, &view)
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("views have string keys and no failing serializer");
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Runs the work in a task of its own, which goes on if the caller hangs up.
async fn own_task<T: Send + 'static>(
    api: &Api,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Failure> {
    let Ok(place) = api.places.clone().try_acquire_owned() else {
        let why = "too many requests are under way; nothing was changed";
        return Err(Failure::new(ProblemCode::Unavailable, why));
    };
    let work = async move {
        let _place = place;
        work.await
    };
    // Boxed: what is large would be moved several times on its way to its task, and when it is done.
    match tokio::spawn(Box::pin(work)).await {
        Ok(done) => done.map_err(Failure::from),
        Err(panicked) => {
            tracing::error!(%panicked, "a request failed by a bug of ours");
            let why = "a bug; what became of the request is not known: repeat it to find out";
            Err(Failure::new(ProblemCode::Internal, why))
        }
    }
}
