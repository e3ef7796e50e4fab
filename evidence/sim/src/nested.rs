//! A participant that is an initiator itself: what it does is a transaction of its own, within that which calls it.
//!
//! It keeps no guard: its own transaction is one. The gid is made of the outer one's, so a repeated try begins nothing new; and
//! a cancel that comes first bars it.

use std::sync::Arc;

use tcc_core::answer::{Answer, Response};
use tcc_core::{Call, Decision, Operation, Phase};
use tokio::time::sleep;

use crate::book::{self, CHILD};
use crate::initiator::ask::{Ask, No, Told, Tries, once};
use crate::log::Who;
use crate::setup::Break;
use crate::world::{World, lock};

/// Takes a call, and answers it.
pub(crate) async fn take(world: &Arc<World>, call: &Call) -> Answer {
    let (outer, Some(branch)) = (book::number(&call.gid), &call.branch) else {
        return answer(400);
    };
    let inner = outer + CHILD;
    let status = match call.operation {
        Operation::Try => tried(world, inner).await,
        Operation::Cancel if world.breaks(Break::NestedTurned) => {
            said(world, inner, Ask::Confirm(Vec::new())).await
        }
        Operation::Confirm => said(world, inner, Ask::Confirm(Vec::new())).await,
        Operation::Cancel => said(world, inner, Ask::Cancel).await,
        Operation::Check => 400,
    };
    world.note(Who::Initiator, Some(outer), "answered", || {
        format!("{status} to {} within it", call.operation)
    });
    lock(&world.book).nested(outer, branch, call.operation, status);
    match status {
        409 => Answer::Response(Response::refused("the transaction within it is cancelled")),
        status => answer(status),
    }
}

const fn answer(status: u16) -> Answer {
    Answer::Response(Response { status, retry_after: None, body: Some(Vec::new()) })
}

/// How often it looks whether the inner tries are done, before it says "pending": who waits in a call for somebody else
/// that hangs would hang as well.
const LOOKS: usize = 4;

/// Begins the inner transaction, and looks whether its tries are done.
async fn tried(world: &Arc<World>, inner: usize) -> u16 {
    let mut told = once(world, inner, &Ask::Begin { reused: false }).await;
    for _ in 0..LOOKS {
        match told {
            Some(Told::Stands { phase: Phase::Trying, tries, .. }) => match tries {
                Tries::Done => return 200,
                Tries::Open if world.breaks(Break::NestedGuesses) => return 200,
                Tries::Refused => {
                    return if said(world, inner, Ask::Cancel).await == 200 { 409 } else { 503 };
                }
                Tries::Open => {}
            },
            Some(Told::Stands { phase, .. }) => {
                return if phase.decision() == Some(Decision::Confirm) { 200 } else { 409 };
            }
            Some(Told::No(No::CancelledBefore(_))) => return 409,
            Some(Told::No(_)) | None => return 503,
        }
        sleep(world.millis(20..200)).await;
        told = once(world, inner, &Ask::Get).await;
    }
    425
}

/// Says confirm or cancel to the inner transaction, as the outer one was decided.
async fn said(world: &Arc<World>, inner: usize, ask: Ask) -> u16 {
    match once(world, inner, &ask).await {
        Some(Told::Stands { .. }) => 200,
        Some(Told::No(No::Decided(phase))) => {
            world.hold(Some(inner), Err(format!("{ask:?} comes too late: it is {}", phase.as_str())));
            500
        }
        Some(Told::No(_)) | None => 503,
    }
}
