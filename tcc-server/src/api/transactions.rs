//! The routes of one transaction: what its initiator asks for.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tcc_core::Gid;
use tcc_core::wire::{
    BeginRequest, CancelRequest, ConfirmRequest, RegisterRequest, TransactionEvents, TransactionView,
};

use super::asked::{Named, Waiting, Waits};
use super::body::Body;
use super::openapi::{Asking, Changing};
use super::problem::Failure;
use super::{Api, answer, follow, json, listen, own_task, told};
use crate::coordinator::Known;

/// Begins a transaction.
///
/// Repeating it with the same content is safe and tells what became of it since.
#[utoipa::path(post, path = "/v1/transactions", params(Waiting), request_body = BeginRequest, responses(
    (status = 201, description = "It is begun, and durable", body = TransactionView),
    (status = 200, description = "It was begun before, with the same content", body = TransactionView),
    (status = 202, description = "It is begun, and the wait ran out", body = TransactionView),
    Changing,
))]
pub(super) async fn begin(
    State(api): State<Arc<Api>>,
    Waits(waiting): Waits,
    headers: HeaderMap,
    body: Body<BeginRequest>,
) -> Result<Response, Failure> {
    let mut begin =
        body.0.parse(|| Gid::try_from(uuid::Uuid::now_v7().to_string()).expect("a UUID is a gid"))?;
    begin.traceparent = traceparent(&headers);
    let (gid, acting) = (begin.gid.clone(), api.coordinator.clone());
    let waiting = listen(&api, &gid, waiting);
    let begun = own_task(&api, async move { acting.begin(begin).await }).await;
    let begun = begun.map_err(|failure| failure.of(&gid))?;
    Ok(told(&api, begun, waiting).await)
}

/// How a transaction stands.
#[utoipa::path(get, path = "/v1/transactions/{gid}", params(("gid" = Gid, Path), Waiting), responses(
    (status = 200, description = "As it stands", body = TransactionView),
    (status = 202, description = "The wait ran out; as it stands", body = TransactionView),
    Asking,
))]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Named(gid): Named,
    Waits(waiting): Waits,
) -> Result<Response, Failure> {
    let waiting = listen(&api, &gid, waiting);
    let known = api.coordinator.get(&gid).await.map_err(|error| Failure::from(error).of(&gid))?;
    Ok(answer(&api, known, StatusCode::OK, waiting).await)
}

/// What happened to a transaction, and why it stands where it does.
#[utoipa::path(get, path = "/v1/transactions/{gid}/events", params(("gid" = Gid, Path)), responses(
    (status = 200, description = "What happened, the oldest first", body = TransactionEvents),
    Asking,
))]
pub(super) async fn events(State(api): State<Arc<Api>>, Named(gid): Named) -> Result<Response, Failure> {
    let known = api.coordinator.get(&gid).await.map_err(|error| Failure::from(error).of(&gid))?;
    let events = match known {
        Known::Stored(stored) => TransactionEvents::of(&stored, api.coordinator.now()),
        Known::Purged(gid, phase) => TransactionEvents::purged(gid, phase),
    };
    Ok(json(StatusCode::OK, &events))
}

/// Registers branches that the initiator is going to try.
#[utoipa::path(post, path = "/v1/transactions/{gid}/branches", params(("gid" = Gid, Path), Waiting),
    request_body = RegisterRequest, responses(
    (status = 200, description = "They are registered, durably", body = TransactionView),
    (status = 202, description = "They are registered, and the wait ran out", body = TransactionView),
    Changing,
))]
pub(super) async fn register(
    State(api): State<Arc<Api>>,
    Named(gid): Named,
    Waits(waiting): Waits,
    body: Body<RegisterRequest>,
) -> Result<Response, Failure> {
    let branches = body.0.parse()?;
    follow(api, gid, waiting, |coordinator, gid| async move { coordinator.register(&gid, branches).await })
        .await
}

/// Confirms, naming the branches that were seen tried.
#[utoipa::path(post, path = "/v1/transactions/{gid}/confirm", params(("gid" = Gid, Path), Waiting),
    request_body = ConfirmRequest, responses(
    (status = 200, description = "The decision is confirm, durably", body = TransactionView),
    (status = 202, description = "The decision is confirm, and the wait ran out", body = TransactionView),
    Changing,
))]
pub(super) async fn confirm(
    State(api): State<Arc<Api>>,
    Named(gid): Named,
    Waits(waiting): Waits,
    body: Body<ConfirmRequest>,
) -> Result<Response, Failure> {
    let tried = body.0.parse()?;
    follow(api, gid, waiting, |coordinator, gid| async move { coordinator.confirm(&gid, tried).await }).await
}

/// Cancels. A gid that nobody knows is stored as cancelled.
#[utoipa::path(post, path = "/v1/transactions/{gid}/cancel", params(("gid" = Gid, Path), Waiting),
    request_body = CancelRequest, responses(
    (status = 200, description = "The decision is cancel, durably", body = TransactionView),
    (status = 202, description = "The decision is cancel, and the wait ran out", body = TransactionView),
    Changing,
))]
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    Named(gid): Named,
    Waits(waiting): Waits,
    body: Body<CancelRequest>,
) -> Result<Response, Failure> {
    let reason = body.0.parse();
    follow(api, gid, waiting, |coordinator, gid| async move { coordinator.cancel(&gid, reason).await }).await
}

/// The caller's trace, if its header is well formed (W3C Trace Context, version 00).
pub(super) fn traceparent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let well_formed = lengths == [2, 32, 16, 2] && parts[0] == "00" && parts.concat().chars().all(is_hex);
    well_formed.then(|| text.to_owned())
}
