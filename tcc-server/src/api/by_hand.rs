//! The routes of an operator: what is done to one transaction by hand.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use tcc_core::wire::{AcknowledgeRequest, ForceRequest, ResendRequest, RetryNowRequest, TransactionView};
use tcc_core::{BranchId, Gid};

use super::asked::{Named, NamedBranch, Waiting, Waits};
use super::body::Body;
use super::openapi::Changing;
use super::problem::Failure;
use super::{Api, follow, listen, own_task, told};

/// Has called now what is due later.
#[utoipa::path(post, path = "/v1/transactions/{gid}/retry", params(("gid" = Gid, Path), Waiting),
    request_body = RetryNowRequest, responses(
    (status = 200, description = "It is called now; after the end there is nothing to call", body = TransactionView),
    (status = 202, description = "It is called now, and the wait ran out", body = TransactionView),
    Changing,
))]
pub(super) async fn retry(
    State(api): State<Arc<Api>>,
    Named(gid): Named,
    Waits(waiting): Waits,
    _: Body<RetryNowRequest>,
) -> Result<Response, Failure> {
    follow(api, gid, waiting, |coordinator, gid| async move { coordinator.retry(&gid).await }).await
}

/// Takes note of what calls for a human, which then does so no more.
#[utoipa::path(post, path = "/v1/transactions/{gid}/acknowledge", params(("gid" = Gid, Path), Waiting),
    request_body = AcknowledgeRequest, responses(
    (status = 200, description = "Nothing calls for a human any more", body = TransactionView),
    (status = 202, description = "The same, and the wait ran out", body = TransactionView),
    Changing,
))]
pub(super) async fn acknowledge(
    State(api): State<Arc<Api>>,
    Named(gid): Named,
    Waits(waiting): Waits,
    body: Body<AcknowledgeRequest>,
) -> Result<Response, Failure> {
    let reason = body.0.parse()?;
    follow(api, gid, waiting, |coordinator, gid| async move { coordinator.acknowledge(&gid, reason).await })
        .await
}

/// Delivers anew what was given up, by a transaction of its own.
#[utoipa::path(post, path = "/v1/transactions/{gid}/resend", params(("gid" = Gid, Path), Waiting),
    request_body = ResendRequest, responses(
    (status = 201, description = "That transaction is begun, and durable", body = TransactionView),
    (status = 200, description = "It was begun before", body = TransactionView),
    (status = 202, description = "It is begun, and the wait ran out", body = TransactionView),
    Changing,
))]
pub(super) async fn resend(
    State(api): State<Arc<Api>>,
    Named(gid): Named,
    Waits(waiting): Waits,
    body: Body<ResendRequest>,
) -> Result<Response, Failure> {
    let (under, acting) = (body.0.parse()?, api.coordinator.clone());
    let waiting = listen(&api, &under, waiting);
    let (named, anew) = (gid.clone(), under.clone());
    let begun = own_task(&api, async move { acting.resend(&gid, anew).await }).await;
    let begun = begun.map_err(|failure| failure.of(&named))?;
    Ok(told(&api, begun, waiting).await)
}

/// Ends a branch of a decided transaction that cannot be ended otherwise.
#[utoipa::path(post, path = "/v1/transactions/{gid}/branches/{id}/force",
    params(("gid" = Gid, Path), ("id" = BranchId, Path), Waiting), request_body = ForceRequest, responses(
    (status = 200, description = "The branch has ended, durably", body = TransactionView),
    (status = 202, description = "The branch has ended, and the wait ran out", body = TransactionView),
    Changing,
))]
pub(super) async fn force(
    State(api): State<Arc<Api>>,
    NamedBranch(gid, branch): NamedBranch,
    Waits(waiting): Waits,
    body: Body<ForceRequest>,
) -> Result<Response, Failure> {
    let reason = body.0.parse()?;
    follow(api, gid, waiting, |coordinator, gid| async move { coordinator.force(&gid, branch, reason).await })
        .await
}
