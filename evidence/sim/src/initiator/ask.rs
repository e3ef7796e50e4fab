//! A request to a coordinator and its answer, each of which may be lost; every answer is held to the truth.

use std::sync::Arc;
use std::time::Duration;

use tcc_core::wire::{CancelRequest, ConfirmRequest, RegisterRequest};
use tcc_core::{Branch, BranchId, Gid, Phase, Rejection, Timestamp, Transaction, Tried};
use tcc_server::{Begun, Coordinator, Error, Known, Wait};
use tokio::time::{sleep, timeout};

use crate::book::{self, CHILD};
use crate::fault::Fault;
use crate::log::Who;
use crate::world::{World, lock};

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// Begin; under a gid that is taken, with other content, if `reused`.
    Begin { reused: bool },
    /// Register a branch.
    Register(usize),
    /// Confirm, naming these branches.
    Confirm(Vec<usize>),
    /// Cancel.
    Cancel,
    /// Tell how it stands.
    Get,
    /// Deliver anew, under this gid, what the one it follows from gave up.
    Resend,
    /// Call now what is due later.
    Retry,
    /// Take note of what calls for a human.
    Acknowledge,
    /// Wait, and tell how it stands then.
    Wait(Wait),
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// It stands so.
    Stands { phase: Phase, version: Option<u64>, is_new: bool, begun: Option<Timestamp>, tries: Tries },
    /// No.
    No(No),
}

/// How far the tries have come that the coordinator makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tries {
    /// All of them are done.
    Done,
    /// One is refused.
    Refused,
    /// Neither, or nobody knows any more.
    Open,
}

/// Why not.
#[derive(Clone, Debug)]
pub(crate) enum No {
    UnknownGid,
    GidReused(Phase),
    CancelledBefore(Phase),
    NotAllTried,
    NothingGivenUp,
    Decided(Phase),
    Full,
    /// It may have been done.
    Unknown,
    /// Contended, or the store could not be read: nothing was done.
    Passing,
    /// The request is said to be wrong, and it is not.
    Mistaken(String),
}

impl Told {
    /// Whether asking again brings nothing new.
    fn settles(&self) -> bool {
        !matches!(self, Self::No(No::Full | No::Unknown | No::Passing))
    }

    /// Where the transaction stands, as far as this tells.
    pub(crate) fn phase(&self) -> Option<Phase> {
        match self {
            Self::Stands { phase, .. }
            | Self::No(No::GidReused(phase) | No::CancelledBefore(phase) | No::Decided(phase)) => {
                Some(*phase)
            }
            Self::No(_) => None,
        }
    }
}

/// Asks one coordinator or another until an answer settles it; `None` if the initiator loses patience.
pub(crate) async fn insist(world: &Arc<World>, number: usize, ask: Ask) -> Option<Told> {
    for attempt in 0..40 {
        if let Some(told) = once(world, number, &ask).await
            && told.settles()
        {
            return Some(told);
        }
        sleep(world.millis(50..500 + 200 * attempt)).await;
    }
    None
}

/// Asks once. `None`: no answer came.
pub(crate) async fn once(world: &Arc<World>, number: usize, ask: &Ask) -> Option<Told> {
    {
        let mut book = lock(&world.book);
        let case = book.case(number);
        match ask {
            Ask::Confirm(_) => case.asked_confirm = true,
            Ask::Cancel => case.asked_cancel = true,
            Ask::Begin { .. } | Ask::Register(_) | Ask::Get | Ask::Wait(_) => {}
            Ask::Resend | Ask::Retry | Ask::Acknowledge => {}
        }
    }
    let node = world.dice(|dice| dice.usize(0..world.nodes.len()));
    // Not a wait: two that wait for one transaction are woken in an order that tokio draws lots for.
    if !matches!(ask, Ask::Wait(_)) && world.strikes(Fault::RequestDuplicated) {
        let (world, ask, delay) = (world.clone(), ask.clone(), world.millis(0..60_000));
        tokio::spawn(async move {
            sleep(delay).await;
            let node = world.dice(|dice| dice.usize(0..world.nodes.len()));
            serve(&world, node, number, &ask).await;
        });
    }
    if world.strikes(Fault::RequestLost) {
        sleep(Duration::from_secs(1)).await;
        return None;
    }
    if world.strikes(Fault::RequestDelayed) {
        sleep(world.millis(1..20_000)).await;
    }
    let told = timeout(Duration::from_secs(15), serve(world, node, number, ask)).await.ok().flatten();
    if world.strikes(Fault::RequestReplyLost) {
        sleep(Duration::from_secs(1)).await;
        return None;
    }
    told
}

/// A coordinator takes a request, in a task of its own as its API does.
async fn serve(world: &Arc<World>, node: usize, number: usize, ask: &Ask) -> Option<Told> {
    let (coordinator, life) = world.nodes[node].coordinator(world, node)?;
    let (world, ask) = (world.clone(), ask.clone());
    let work = tokio::spawn(async move {
        life.gate().await;
        let before = lock(&world.book).before(number);
        world.note(Who::Initiator, Some(number), "asks", || format!("{ask:?} of node {node}"));
        let told = answer(&world, &coordinator, number, &ask).await;
        // What a dead process says is heard by nobody, and a paused one says it later.
        life.gate().await;
        world.note(Who::Initiator, Some(number), "is told", || format!("{told:?}"));
        let checked = lock(&world.book).told(&world, number, before, &ask, &told);
        world.hold(Some(number), checked);
        told
    });
    work.await.ok()
}

async fn answer(world: &World, coordinator: &Arc<Coordinator>, number: usize, ask: &Ask) -> Told {
    let gid: Gid = book::gid(number);
    let plan = lock(&world.book).case(number).plan.clone();
    let result = match ask {
        Ask::Begin { reused } => match plan.begin(number, *reused) {
            Ok(begin) => match coordinator.begin(begin).await {
                Ok(Begun::New(stored)) => return stands(&Known::Stored(stored), true),
                Ok(Begun::Before(known)) => Ok(known),
                Err(error) => Err(error),
            },
            Err(invalid) => Err(invalid.into()),
        },
        Ask::Register(i) => match (RegisterRequest { branches: vec![plan.branch(*i)] }).parse() {
            Ok(branches) => coordinator.register(&gid, branches).await,
            Err(invalid) => Err(invalid.into()),
        },
        Ask::Confirm(named) => {
            let tried = named.iter().map(|i| format!("b{i}")).collect();
            match (ConfirmRequest { tried }).parse() {
                Ok(tried) => coordinator.confirm(&gid, tried).await,
                Err(invalid) => Err(invalid.into()),
            }
        }
        Ask::Cancel => {
            coordinator.cancel(&gid, CancelRequest { reason: Some("no longer".to_owned()) }.parse()).await
        }
        Ask::Get => coordinator.get(&gid).await,
        Ask::Resend => match coordinator.resend(&book::gid(number - CHILD), gid).await {
            Ok(Begun::New(stored)) => return stands(&Known::Stored(stored), true),
            Ok(Begun::Before(known)) => Ok(known),
            Err(error) => Err(error),
        },
        Ask::Retry => coordinator.retry(&gid).await,
        Ask::Acknowledge => coordinator.acknowledge(&gid, "somebody looks".to_owned()).await,
        Ask::Wait(until) => match coordinator.get(&gid).await {
            Ok(known) => Ok(coordinator.wait(known, *until, Duration::from_secs(10)).await),
            Err(error) => Err(error),
        },
    };
    match result {
        Ok(known) => stands(&known, false),
        Err(error) => Told::No(no(error)),
    }
}

fn stands(known: &Known, is_new: bool) -> Told {
    let (version, begun, tries) = match known {
        Known::Stored(stored) => {
            (Some(stored.version()), Some(stored.transaction().begun()), tries(stored.transaction()))
        }
        Known::Purged(..) => (None, None, Tries::Open),
    };
    Told::Stands { phase: known.phase(), version, is_new, begun, tries }
}

fn tries(transaction: &Transaction) -> Tries {
    let tried =
        |branch: &Branch| branch.definition().try_.is_none() || matches!(branch.tried(), Tried::Done(_));
    if transaction.branches().iter().any(|branch| matches!(branch.tried(), Tried::Refused(_))) {
        Tries::Refused
    } else if transaction.branches().iter().all(tried) {
        Tries::Done
    } else {
        Tries::Open
    }
}

fn no(error: Error) -> No {
    match error {
        Error::UnknownGid => No::UnknownGid,
        Error::GidReused(phase) => No::GidReused(phase),
        Error::CancelledBefore(phase) => No::CancelledBefore(phase),
        Error::Rejected(Rejection::NotAllTried(_), _) => No::NotAllTried,
        Error::Rejected(Rejection::Decided(_), phase) => No::Decided(phase),
        Error::Rejected(rejection, _) => No::Mistaken(rejection.to_string()),
        Error::NothingGivenUp(_) => No::NothingGivenUp,
        Error::Invalid(invalid) => No::Mistaken(invalid.to_string()),
        Error::Refused(tcc_core::store::Refusal::Full) => No::Full,
        Error::Refused(_) | Error::Unavailable(_) | Error::Contended => No::Passing,
        Error::Unknown(_) => No::Unknown,
    }
}

/// The id of a branch.
pub(crate) fn branch_id(i: usize) -> BranchId {
    format!("b{i}").parse().expect("a branch id")
}
