//! Once faults have stopped: everything ends, everywhere or nowhere, and not a cent is missing.

use std::time::Duration;

use tcc_core::{Decision, Phase};

use crate::book::{BranchCase, CHILD, Case, Fact};
use crate::business::{ACCOUNTS, Account, Kind};
use crate::check::nested;
use crate::fault::Rare;
use crate::plan::{BranchPlan, Shape, TriedBy};
use crate::world::{World, lock};

/// How long a transaction takes at the most where nothing is wrong.
const UNHINDERED: Duration = Duration::from_secs(15);

/// The transactions that have not ended.
pub(crate) fn open(world: &World) -> Vec<usize> {
    let book = lock(&world.book);
    let is_open = |case: &Case| case.row.is_some_and(|row| !row.phase.ended());
    book.all().filter(|(_, case)| is_open(case)).map(|(number, _)| number).collect()
}

/// Where nothing is wrong but one participant that hangs, it delays nobody but those who call it (C9).
pub(crate) fn check_isolation(world: &World) {
    let Some(hung) = world.nature.hung else { return };
    let late = {
        let book = lock(&world.book);
        let late = |case: &Case| {
            let calls_it = case.plan.calls(hung);
            let has_time = world.nature.stormy > UNHINDERED + case.plan.delays();
            let begins = !matches!(case.plan.shape, Shape::Inner | Shape::Resent);
            begins && !calls_it && has_time && case.row.is_none_or(|row| !row.phase.ended())
        };
        book.all().find(|(_, case)| late(case)).map(|(number, _)| number)
    };
    match late {
        None => world.saw(Rare::HungAlone),
        Some(number) => {
            world
                .hold(Some(number), Err(format!("is held up by participant {hung}, which it does not call")));
        }
    }
}

/// Checks everything, in a world at rest.
pub(crate) fn check(world: &World) {
    let mut expected = vec![[Account::new(); ACCOUNTS]; world.services.len()];
    {
        let book = lock(&world.book);
        for (number, case) in book.all() {
            let checked = all_or_nothing(world, case);
            world.hold(Some(number), checked);
            if number < CHILD || case.row.is_some() {
                world.ended(case.row.map(|row| row.phase));
            }
            if case.plan.shape == Shape::Inner {
                let outer = book.all().find(|(outer, _)| outer + CHILD == number);
                let ended = outer.map_or(Ok(()), |(_, outer)| nested::ended(world, outer, case));
                world.hold(Some(number), ended);
            }
            for (i, branch) in case.branches.iter().enumerate() {
                let plan = &case.plan.branches[i];
                let moved = match case.decision {
                    Some(Decision::Confirm) => branch.effects[0] + branch.effects[1] > 0,
                    Some(Decision::Cancel) | None => false,
                };
                if moved {
                    happen(&mut expected[plan.service][plan.work.row], plan);
                }
            }
        }
    }
    for (number, (service, expected)) in world.services.iter().zip(expected).enumerate() {
        for (row, (found, expected)) in service.db.accounts().into_iter().zip(expected).enumerate() {
            if !found.is_at_rest() || found != expected {
                let why =
                    format!("participant {number}, account {row}: {found:?}, and should be {expected:?}");
                world.hold(None, Err(why));
            }
        }
    }
    let accounts = || world.services.iter().flat_map(|service| service.db.accounts());
    let (paid_out, paid_in) = accounts().fold((0, 0), |(o, i), a| (o + a.paid_out, i + a.paid_in));
    if paid_out != paid_in {
        world.hold(None, Err(format!("{paid_out} was paid out, and {paid_in} paid in")));
    }
}

/// What a branch comes to once it is confirmed.
fn happen(account: &mut Account, plan: &BranchPlan) {
    let n = plan.work.n;
    match plan.work.kind {
        Kind::Debit | Kind::Pay => {
            (account.available, account.paid_out) = (account.available - n, account.paid_out + n);
        }
        Kind::Credit | Kind::Gain => {
            (account.available, account.paid_in) = (account.available + n, account.paid_in + n);
        }
        Kind::Reserve => (account.goods, account.sold) = (account.goods - n, account.sold + n),
        Kind::Tell => {}
    }
}

/// Whether a branch was called as often as its ladder has it, and so may be given up.
fn is_given_up(branch: &BranchCase, plan: &BranchPlan) -> bool {
    plan.ladder.as_ref().is_some_and(|waits| branch.calls as usize > waits.len())
}

/// Whether a transaction happened everywhere or nowhere, as was decided.
fn all_or_nothing(world: &World, case: &Case) -> Result<(), String> {
    let abandoned = case.row.is_some_and(|row| row.phase == Phase::Abandoned);
    let mut untouched = 0;
    for (i, (branch, plan)) in case.branches.iter().zip(&case.plan.branches).enumerate() {
        let has_try = plan.tried_by != TriedBy::Nobody;
        let fits = match (case.decision, branch.effects) {
            (Some(Decision::Confirm), [1, confirmed, 0]) if has_try => confirmed == u8::from(plan.confirms),
            (Some(Decision::Confirm), [0, 1, 0]) => !has_try,
            (Some(Decision::Confirm), [0, 0, 0]) => {
                (abandoned && is_given_up(branch, plan))
                    || (plan.tried_by == TriedBy::Initiator && !branch.registered)
            }
            (Some(Decision::Cancel), [0, 0, 0]) => {
                untouched += usize::from(has_try);
                true
            }
            (Some(Decision::Cancel), [1, 0, 1]) => has_try && plan.cancels,
            (Some(Decision::Cancel), [1, 0, 0]) => has_try && !plan.cancels,
            (None, effects) => effects == [0, 0, 0],
            (Some(Decision::Confirm | Decision::Cancel), _) => false,
        };
        if !fits {
            return Err(format!(
                "decided {:?}, and b{i} had the effects {:?}",
                case.decision, branch.effects
            ));
        }
    }
    if case.decision == Some(Decision::Cancel) {
        let undone = case.branches.iter().filter(|branch| branch.effects[2] == 1).count();
        let saga = matches!(case.plan.shape, Shape::SagaSequence | Shape::SagaConcurrent | Shape::SagaGraph);
        if saga && undone > 1 {
            world.saw(Rare::SagaCompensated);
        }
        if undone > 0 && untouched > 0 {
            world.saw(Rare::CancelledFrozen);
        }
    }
    if case.plan.sender.is_some() {
        let told = match case.fact {
            Fact::Committed => Some(Decision::Confirm),
            Fact::RolledBack => Some(Decision::Cancel),
            Fact::Open if case.renounced => Some(Decision::Cancel),
            Fact::Open => None,
        };
        if case.row.is_none() && case.fact == Fact::Committed {
            return Err("the local transaction committed, and its message is not stored".to_owned());
        }
        if case.row.is_some() && told != case.decision {
            return Err(format!(
                "the local transaction is {:?}, and {:?} was decided",
                case.fact, case.decision
            ));
        }
    }
    Ok(())
}
