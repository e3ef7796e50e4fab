//! What a message promises: delivered if, and only if, the local transaction committed; and never dropped while nobody
//! knows.

use crate::book::{Case, Checked, Fact};
use crate::fault::Rare;
use crate::world::World;

/// The local transaction of an initiator committed, or something in its database bars it from now on.
pub(crate) fn fact(case: &mut Case, fact: Fact) -> Checked {
    let before = std::mem::replace(&mut case.fact, fact);
    if before != Fact::Open && before != fact {
        return Err(format!("the local transaction was {before:?}, and then {fact:?}"));
    }
    if fact == Fact::Committed && case.renounced {
        return Err("a local transaction was given up, and then committed".to_owned());
    }
    Ok(())
}

/// A check was answered, by what is durable and by nothing else.
pub(crate) fn checked(world: &World, case: &Case, status: u16, forgotten: bool) -> Checked {
    match status {
        200 if case.fact != Fact::Committed => {
            Err(format!("a check said committed, and the local transaction is {:?}", case.fact))
        }
        200 => Ok(()),
        409 => {
            world.saw(Rare::CheckSaidNo);
            // Once it is forgotten everything is over, and nobody listens.
            if case.fact == Fact::RolledBack || forgotten {
                return Ok(());
            }
            Err(format!("a check said never, and the local transaction is {:?}", case.fact))
        }
        _ => {
            world.saw(Rare::CheckSaidWait);
            Ok(())
        }
    }
}
