//! An initiator's own local transaction. Its outcome is one row: committed, or barred by a tombstone.

use tcc_core::Call;

use crate::book::{Fact, number};
use crate::fault::Rare;
use crate::log::Who;
use crate::setup::Break;
use crate::world::{World, lock};

/// Commits the local transaction, unless a check barred it first.
pub(crate) fn commit(world: &World, number: usize) -> Fact {
    let fact = {
        let mut book = lock(&world.book);
        let case = book.case(number);
        if case.fact == Fact::Open {
            case.fact = Fact::Committed;
        }
        case.fact
    };
    if fact == Fact::RolledBack {
        world.saw(Rare::TombstoneWon);
    }
    world.note(Who::Initiator, Some(number), "local transaction", || format!("{fact:?}"));
    fact
}

/// Bars the local transaction, unless it has committed.
pub(crate) fn bar(world: &World, number: usize) -> Fact {
    let mut book = lock(&world.book);
    let case = book.case(number);
    if case.fact == Fact::Open {
        case.fact = Fact::RolledBack;
    }
    case.fact
}

/// Answers a check: by what is durable, and by nothing else.
pub(crate) fn check(world: &World, call: &Call) -> u16 {
    let number = number(&call.gid);
    let (fact, lives) = {
        let mut book = lock(&world.book);
        let case = book.case(number);
        (case.fact, case.initiator_lives)
    };
    let status = match fact {
        Fact::Committed => 200,
        Fact::RolledBack => 409,
        Fact::Open if world.breaks(Break::CheckGuesses) => 200,
        // Nobody is at it any more; or somebody is, and is not waited for.
        Fact::Open if !lives || world.dice(|dice| dice.u32(0..8) == 0) => {
            bar(world, number);
            409
        }
        Fact::Open => world.dice(|dice| if dice.u32(0..20) == 0 { 204 } else { 202 }),
    };
    match status {
        409 => world.saw(Rare::CheckSaidNo),
        200 => {}
        _ => world.saw(Rare::CheckSaidWait),
    }
    world.note(Who::Initiator, Some(number), "is checked", || status.to_string());
    status
}
