//! What nodes may call: nothing before it is durable, nothing against the decision, nothing out of order.

use tcc_core::{Call, Decision, Operation};

use crate::book::{Case, Tried, place};
use crate::network::count_two_nodes;
use crate::plan::TriedBy;
use crate::world::World;

/// A node is about to make a call.
pub(crate) fn sent(world: &World, case: &mut Case, node: usize, call: &Call) -> Result<(), String> {
    if case.row.is_none() {
        return Err(format!("{} was called, and nothing is stored", call.operation));
    }
    let Some(branch) = &call.branch else { return Ok(()) };
    let i = place(branch);
    count_two_nodes(world, case.branches[i].called_by.replace(node), node);
    match call.operation {
        Operation::Check => Err("a branch was checked".to_owned()),
        Operation::Try => match case.plan.branches[i].after.iter().find(|j| !was_tried(case, **j)) {
            Some(j) => Err(format!("{branch} was tried before b{j}")),
            None => Ok(()),
        },
        Operation::Confirm if case.decision != Some(Decision::Confirm) => {
            Err(format!("{branch} was told to confirm, and the decision is {:?}", case.decision))
        }
        Operation::Confirm => in_order(case, i),
        Operation::Cancel if case.decision != Some(Decision::Cancel) => {
            Err(format!("{branch} was told to cancel, and the decision is {:?}", case.decision))
        }
        Operation::Cancel => in_reverse(case, i),
    }
}

fn was_tried(case: &Case, i: usize) -> bool {
    let by_coordinator = case.plan.branches[i].tried_by == TriedBy::Coordinator;
    !by_coordinator || matches!(case.branches[i].tried, Some(Tried::Done(_)))
}

/// Those before it have confirmed, where they confirm at all and may not be given up.
fn in_order(case: &Case, i: usize) -> Result<(), String> {
    let waiting = case.plan.branches[i].after.iter().find(|j| {
        let plan = &case.plan.branches[**j];
        plan.confirms && plan.ladder.is_none() && !case.branches[**j].confirmed
    });
    waiting.map_or(Ok(()), |j| Err(format!("b{i} was confirmed before b{j}")))
}

/// It may have been tried, and those after it have been cancelled, where they may have been.
fn in_reverse(case: &Case, i: usize) -> Result<(), String> {
    let plan = &case.plan.branches;
    if plan[i].tried_by == TriedBy::Coordinator
        && let Some(j) = plan[i].after.iter().find(|j| !was_tried(case, **j))
    {
        return Err(format!("b{i} was cancelled, and could not have been tried before b{j}"));
    }
    let later = (0..plan.len()).find(|j| {
        plan[*j].after.contains(&i) && case.branches[*j].effects[0] > 0 && !case.branches[*j].cancelled
    });
    later.map_or(Ok(()), |j| Err(format!("b{i} was cancelled before b{j}")))
}
