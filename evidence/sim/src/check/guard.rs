//! What the guard promises: effects at most once and never both ways, and the same answer to a repeat.

use tcc_client::Row;
use tcc_core::{BranchId, Operation};

use crate::book::{Answered, Case, Tried, place};
use crate::fault::Rare;
use crate::plan::TriedBy;
use crate::world::World;

/// A local transaction committed with an effect.
pub(crate) fn effect(case: &mut Case, branch: &BranchId, operation: Operation) -> Result<(), String> {
    let i = place(branch);
    let has_try = case.plan.branches[i].tried_by != TriedBy::Nobody;
    let branch = &mut case.branches[i];
    let effect = match operation {
        Operation::Try => 0,
        Operation::Confirm => 1,
        Operation::Cancel => 2,
        Operation::Check => return Err("a check has no effect".to_owned()),
    };
    branch.effects[effect] += 1;
    let barred = operation == Operation::Try && (branch.cancelled || branch.confirmed);
    match branch.effects {
        _ if barred => Err(format!("P4: b{i} was tried after its end")),
        [0 | 1, 0, 0] | [1, 1, 0] | [1, 0, 1] => Ok(()),
        [0, 1, 0] if !has_try => Ok(()),
        [0, 1, 0] => Err(format!("P6: b{i} was confirmed without a try")),
        [0, 0, 1] => Err(format!("P3: b{i} was cancelled with effect, without a try")),
        [_, 1, 1] => Err(format!("P1: b{i} was confirmed and cancelled")),
        effects => Err(format!("P2: {operation} of b{i} had an effect again: {effects:?}")),
    }
}

/// A participant has answered.
pub(crate) fn answered(
    world: &World,
    case: &mut Case,
    branch: &BranchId,
    answered: Answered<'_>,
) -> Result<(), String> {
    let i = place(branch);
    let Answered { operation, status, body, before, forgotten } = answered;
    count(world, operation, status, before.as_ref());
    match (operation, status) {
        (Operation::Try, 200) => tried(case, i, Tried::Done(body.to_vec()), forgotten),
        (Operation::Try, 409) => {
            case.refused = true;
            // Barred by the cancel of what was tried: the answer to the try itself may still be on its way.
            let barred = case.branches[i].effects == [1, 0, 1];
            if barred { Ok(()) } else { tried(case, i, Tried::Refused, forgotten) }
        }
        (Operation::Confirm, 200) => {
            case.branches[i].confirmed = true;
            // What was given up and forgotten may still arrive: it is too late, and nobody listens.
            if case.branches[i].effects[1] == 0 && !forgotten {
                return Err(format!("P2: b{i} says confirmed, and nothing was"));
            }
            Ok(())
        }
        (Operation::Cancel, 200) => {
            case.branches[i].cancelled = true;
            if case.branches[i].effects[0] > case.branches[i].effects[2] {
                return Err(format!("P3: b{i} says cancelled, and its try stands"));
            }
            Ok(())
        }
        // A late confirm of what the guard has forgotten is an alarm, and so it should be.
        (Operation::Confirm | Operation::Cancel, 409) if !forgotten => {
            Err(format!("P1: {operation} of b{i} cannot be obeyed: {}", String::from_utf8_lossy(body)))
        }
        (Operation::Try | Operation::Confirm | Operation::Cancel | Operation::Check, _) => Ok(()),
    }
}

fn tried(case: &mut Case, i: usize, now: Tried, forgotten: bool) -> Result<(), String> {
    let branch = &mut case.branches[i];
    if now != Tried::Refused && branch.effects[0] == 0 {
        return Err(format!("P2: b{i} says tried, and nothing was"));
    }
    match &branch.tried {
        None => {
            branch.tried = Some(now);
            Ok(())
        }
        Some(first) if *first == now => Ok(()),
        // Once it is forgotten, a try is refused.
        Some(Tried::Done(_)) if now == Tried::Refused && forgotten => Ok(()),
        Some(first) => Err(format!("P2: the try of b{i} was answered {first:?}, and then {now:?}")),
    }
}

/// What is rare and must have been seen.
fn count(world: &World, operation: Operation, status: u16, before: Option<&Row>) {
    match (operation, status, before) {
        (Operation::Cancel, 200, None) => world.saw(Rare::EmptyCancel),
        (Operation::Try, 409, Some(Row::Cancelled)) => world.saw(Rare::LateTryBarred),
        (Operation::Try, 200, Some(_)) => world.saw(Rare::TryRepeated),
        (Operation::Try, 409, Some(Row::Refused { .. })) => world.saw(Rare::RefusalRepeated),
        (Operation::Confirm, 200, Some(Row::Confirmed { .. }))
        | (Operation::Cancel, 200, Some(Row::Cancelled)) => world.saw(Rare::EndRepeated),
        _ => {}
    }
}
