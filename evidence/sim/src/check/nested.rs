//! A transaction within another: both happen, or neither.

use tcc_core::{Decision, Operation};

use crate::book::{Case, Checked, Tried};
use crate::fault::Rare;
use crate::world::World;

/// A participant that began a transaction of its own has answered: that is its effect, and there is no other.
pub(crate) fn answered(case: &mut Case, i: usize, operation: Operation, status: u16) {
    let branch = &mut case.branches[i];
    match (operation, status) {
        (Operation::Try, 200) => {
            // What was so when it looked may have been cancelled by the time it says so.
            branch.effects = [1, branch.effects[1], u8::from(branch.cancelled)];
            branch.tried.get_or_insert(Tried::Done(Vec::new()));
        }
        (Operation::Try, 409) => {
            branch.tried.get_or_insert(Tried::Refused);
            case.refused = true;
        }
        (Operation::Confirm, 200) => {
            branch.effects[1] = 1;
            branch.confirmed = true;
        }
        (Operation::Cancel, 200) => {
            branch.effects[2] = branch.effects[0];
            branch.cancelled = true;
        }
        (Operation::Try | Operation::Confirm | Operation::Cancel | Operation::Check, _) => {}
    }
}

/// The inner transaction came to the same end as the outer one, or to none where that was not confirmed.
pub(crate) fn ended(world: &World, outer: &Case, inner: &Case) -> Checked {
    match (outer.decision, inner.decision) {
        (Some(Decision::Confirm), Some(Decision::Confirm)) => {
            world.saw(Rare::NestedConfirmed);
            Ok(())
        }
        (Some(Decision::Cancel), Some(Decision::Cancel)) => {
            if inner.row.is_some_and(|row| row.is_begin) {
                world.saw(Rare::NestedCancelled);
            }
            Ok(())
        }
        (Some(Decision::Cancel) | None, None) => Ok(()),
        (outer, inner) => Err(format!("decided {outer:?}, and the transaction within it {inner:?}")),
    }
}
