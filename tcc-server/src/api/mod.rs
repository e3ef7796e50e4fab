//! The HTTP API: a thin layer that reads a request, has the coordinator do it, and tells what became of it.
//!
//! A request's work runs in a task of its own: a dropped connection never stops it between save and act.

mod body;
mod list;
mod problem;
mod serve;
mod taken;
mod token;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tcc_core::wire::{
    BeginRequest, CancelRequest, ConfirmRequest, ForceRequest, ProblemCode, RegisterRequest, RetryNowRequest,
    TransactionView,
};
use tcc_core::{BadId, BranchId, Gid};
use tokio::sync::Semaphore;

pub use self::serve::{Listening, serve};
pub use self::token::{Callers, Token};

use self::body::Body;
use self::problem::Failure;
use crate::coordinator::{Begun, Coordinator, Error, Known};
use crate::limits;
use crate::wait::{Wait, Waiter};

/// The routes of the API over a coordinator. Anyone may ask the probes; whose other requests are followed is said here.
pub fn router(coordinator: Arc<Coordinator>, callers: Callers) -> Router {
    let transactions = Router::new()
        .route("/v1/transactions", post(begin))
        .route("/v1/transactions", get(list::list))
        .route("/v1/transactions/{gid}", get(show))
        .route("/v1/transactions/{gid}/branches", post(register))
        .route("/v1/transactions/{gid}/confirm", post(confirm))
        .route("/v1/transactions/{gid}/cancel", post(cancel))
        .route("/v1/transactions/{gid}/retry", post(retry))
        .route("/v1/transactions/{gid}/branches/{id}/force", post(force))
        .with_state(Arc::new(Api::over(coordinator.clone())));
    let transactions = match callers {
        Callers::WithToken(token) => transactions.layer(from_fn_with_state(Arc::new(token), token::ask)),
        Callers::OfThisMachine => transactions.layer(from_fn(token::local)),
        Callers::Anyone => transactions,
    };
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz).with_state(coordinator))
        .merge(transactions)
        .fallback(|| async { Failure::new(ProblemCode::NotFound, "there is no such route") })
        .method_not_allowed_fallback(|| async {
            Failure::new(ProblemCode::MethodNotAllowed, "see docs/http-api.md")
        })
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiting {
    wait: Option<String>,
    timeout_ms: Option<u64>,
}

impl Waiting {
    fn parse(self) -> Result<Option<(Wait, Duration)>, Failure> {
        let longest = self.timeout_ms.map_or(limits::DEFAULT_WAIT, Duration::from_millis);
        if longest > limits::LONGEST_WAIT {
            let most = limits::LONGEST_WAIT.as_millis();
            return Err(
                Failure::new(ProblemCode::Invalid, format!("timeout_ms is over {most}")).at("?timeout_ms")
            );
        }
        let wait = match self.wait.as_deref() {
            None if self.timeout_ms.is_some() => {
                return Err(Failure::new(
                    ProblemCode::Invalid,
                    "timeout_ms bounds a wait, and none is asked for",
                )
                .at("?timeout_ms"));
            }
            None => return Ok(None),
            Some("decision") => Wait::Decision,
            Some("end") => Wait::End,
            Some(other) => {
                let why = format!("wait is {other:?}, neither decision nor end");
                return Err(Failure::new(ProblemCode::Invalid, why).at("?wait"));
            }
        };
        Ok(Some((wait, longest)))
    }
}

type Asked = Result<Query<Waiting>, axum::extract::rejection::QueryRejection>;

async fn begin(
    State(api): State<Arc<Api>>,
    waiting: Asked,
    headers: HeaderMap,
    body: Body<BeginRequest>,
) -> Result<Response, Failure> {
    let waiting = asked(waiting)?;
    let mut begin =
        body.0.parse(|| Gid::try_from(uuid::Uuid::now_v7().to_string()).expect("a UUID is a gid"))?;
    begin.traceparent = traceparent(&headers);
    let (gid, acting) = (begin.gid.clone(), api.coordinator.clone());
    let waiting = listen(&api, &gid, waiting);
    let begun = own_task(&api, gid, async move { acting.begin(begin).await }).await?;
    let (status, known) = match begun {
        Begun::New(stored) => (StatusCode::CREATED, Known::Stored(stored)),
        Begun::Before(known) => (StatusCode::OK, known),
    };
    Ok(answer(&api, known, status, waiting).await)
}

async fn show(
    State(api): State<Arc<Api>>,
    gid: Result<Path<String>, axum::extract::rejection::PathRejection>,
    waiting: Asked,
) -> Result<Response, Failure> {
    let gid = path(gid)?;
    let waiting = listen(&api, &gid, asked(waiting)?);
    let known = api.coordinator.get(&gid).await.map_err(|error| Failure::from(error).of(&gid))?;
    Ok(answer(&api, known, StatusCode::OK, waiting).await)
}

async fn register(
    State(api): State<Arc<Api>>,
    gid: Result<Path<String>, axum::extract::rejection::PathRejection>,
    waiting: Asked,
    body: Body<RegisterRequest>,
) -> Result<Response, Failure> {
    let (gid, waiting, branches) = (path(gid)?, asked(waiting)?, body.0.parse()?);
    follow(api, gid, waiting, |coordinator, gid| async move { coordinator.register(&gid, branches).await })
        .await
}

async fn confirm(
    State(api): State<Arc<Api>>,
    gid: Result<Path<String>, axum::extract::rejection::PathRejection>,
    waiting: Asked,
    body: Body<ConfirmRequest>,
) -> Result<Response, Failure> {
    let (gid, waiting, tried) = (path(gid)?, asked(waiting)?, body.0.parse()?);
    follow(api, gid, waiting, |coordinator, gid| async move { coordinator.confirm(&gid, tried).await }).await
}

async fn cancel(
    State(api): State<Arc<Api>>,
    gid: Result<Path<String>, axum::extract::rejection::PathRejection>,
    waiting: Asked,
    body: Body<CancelRequest>,
) -> Result<Response, Failure> {
    let (gid, waiting, reason) = (path(gid)?, asked(waiting)?, body.0.parse());
    follow(api, gid, waiting, |coordinator, gid| async move { coordinator.cancel(&gid, reason).await }).await
}

async fn retry(
    State(api): State<Arc<Api>>,
    gid: Result<Path<String>, axum::extract::rejection::PathRejection>,
    waiting: Asked,
    _: Body<RetryNowRequest>,
) -> Result<Response, Failure> {
    let (gid, waiting) = (path(gid)?, asked(waiting)?);
    follow(api, gid, waiting, |coordinator, gid| async move { coordinator.retry(&gid).await }).await
}

async fn force(
    State(api): State<Arc<Api>>,
    ids: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
    waiting: Asked,
    body: Body<ForceRequest>,
) -> Result<Response, Failure> {
    let Path((gid, branch)) = ids.map_err(|bad| Failure::new(ProblemCode::Invalid, bad.body_text()))?;
    let gid = parsed(&gid)?;
    let branch: BranchId = branch
        .parse()
        .map_err(|why: BadId| Failure::new(ProblemCode::Invalid, format!("the branch id {why}")).of(&gid))?;
    let (waiting, reason) = (asked(waiting)?, body.0.parse()?);
    follow(api, gid, waiting, |coordinator, gid| async move { coordinator.force(&gid, branch, reason).await })
        .await
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
    let known = own_task(&api, gid, acting).await?;
    Ok(answer(&api, known, StatusCode::OK, waiting).await)
}

/// A wait that was asked for: what is listened to, for what, and for how long.
type Listener<'a> = (Waiter<'a>, Wait, Duration);

/// Listens before anything is done, so that what is done need not be looked up after it.
fn listen<'a>(api: &'a Api, gid: &Gid, waiting: Option<(Wait, Duration)>) -> Option<Listener<'a>> {
    waiting.map(|(until, longest)| (api.coordinator.listen(gid), until, longest))
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
    let body = serde_json::to_vec(&view).expect("a view has string keys and no failing serializer");
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Runs the work in a task of its own, which goes on if the caller hangs up.
async fn own_task<T: Send + 'static>(
    api: &Api,
    gid: Gid,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Failure> {
    let Ok(place) = api.places.clone().try_acquire_owned() else {
        let why = "too many requests are under way; nothing was changed";
        return Err(Failure::new(ProblemCode::Unavailable, why).of(&gid));
    };
    let work = async move {
        let _place = place;
        work.await
    };
    // Boxed: what is large would be moved several times on its way to its task, and when it is done.
    match tokio::spawn(Box::pin(work)).await {
        Ok(done) => done.map_err(|error| Failure::from(error).of(&gid)),
        Err(panicked) => {
            tracing::error!(%panicked, "a request failed by a bug of ours");
            let why = "a bug; what became of the request is not known: repeat it to find out";
            Err(Failure::new(ProblemCode::Internal, why).of(&gid))
        }
    }
}

fn asked(waiting: Asked) -> Result<Option<(Wait, Duration)>, Failure> {
    waiting.map_err(|bad| Failure::new(ProblemCode::Invalid, bad.body_text()).at("?"))?.0.parse()
}

fn path(gid: Result<Path<String>, axum::extract::rejection::PathRejection>) -> Result<Gid, Failure> {
    let Path(gid) = gid.map_err(|bad| Failure::new(ProblemCode::Invalid, bad.body_text()))?;
    parsed(&gid)
}

fn parsed(gid: &str) -> Result<Gid, Failure> {
    gid.parse().map_err(|why: BadId| Failure::new(ProblemCode::Invalid, format!("the gid {why}")))
}

/// The caller's trace, if its header is well formed (W3C Trace Context, version 00).
fn traceparent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let well_formed = lengths == [2, 32, 16, 2] && parts[0] == "00" && parts.concat().chars().all(is_hex);
    well_formed.then(|| text.to_owned())
}
