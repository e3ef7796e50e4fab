//! What nodes may call: nothing before it is durable, nothing against the decision, nothing out of order.

use tcc_core::answer::Answer;
use tcc_core::{Call, Decision, Operation};

use crate::book::{Case, Checked, Process, Tried, place};
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
    if i >= case.branches.len() {
        return Err(format!("{branch} was called, and nobody defined it"));
    }
    count_two_nodes(world, case.branches[i].called_by.replace(node), node);
    case.branches[i].calls += 1;
    match call.operation {
        Operation::Check => Err("a branch was checked".to_owned()),
        Operation::Try => match case.plan.in_front[i].iter().find(|j| !was_tried(case, **j)) {
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

/// A node has seen what came of a call. No process calls what may be given up more often than its ladder has rungs: it
/// forgets none of its calls, as long as it can read and write.
pub(crate) fn heard(case: &mut Case, process: Process, call: &Call, answer: &Answer) -> Checked {
    let Some(branch) = &call.branch else { return Ok(()) };
    let i = place(branch);
    let pending = matches!(answer, Answer::Response(response) if response.status == 425);
    let Some(waits) = case.plan.branches[i].ladder.as_ref().filter(|_| !pending).map(Vec::len) else {
        return Ok(());
    };
    let counted = case.branches[i].counted.entry(process).or_default();
    *counted += 1;
    if *counted as usize > waits + 1 {
        return Err(format!("{branch} was called {counted} times, and its ladder has {waits} waits"));
    }
    Ok(())
}

fn was_tried(case: &Case, i: usize) -> bool {
    let by_coordinator = case.plan.branches[i].tried_by == TriedBy::Coordinator;
    !by_coordinator || matches!(case.branches[i].tried, Some(Tried::Done(_)))
}

/// Those before it have confirmed, where they confirm at all and may not be given up.
fn in_order(case: &Case, i: usize) -> Result<(), String> {
    let waiting = case.plan.in_front[i].iter().find(|j| {
        let plan = &case.plan.branches[**j];
        plan.confirms && plan.ladder.is_none() && !case.branches[**j].confirmed
    });
    waiting.map_or(Ok(()), |j| Err(format!("b{i} was confirmed before b{j}")))
}

/// It may have been tried, and those after it have been cancelled, where they may have been.
fn in_reverse(case: &Case, i: usize) -> Result<(), String> {
    let plan = &case.plan.branches;
    if plan[i].tried_by == TriedBy::Coordinator
        && let Some(j) = case.plan.in_front[i].iter().find(|j| !was_tried(case, **j))
    {
        return Err(format!("b{i} was cancelled, and could not have been tried before b{j}"));
    }
    let later = (0..plan.len()).find(|j| {
        let (behind, later) = (case.plan.in_front[*j].contains(&i), &case.branches[*j]);
        behind && plan[*j].cancels && later.effects[0] > 0 && !later.cancelled
    });
    later.map_or(Ok(()), |j| Err(format!("b{i} was cancelled before b{j}")))
}
