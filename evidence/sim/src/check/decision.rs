//! One decision per gid, never changed, and never without a cause.

use tcc_core::{Decision, Phase, Timestamp};

use crate::book::{Case, Checked, Fact, RowSeen};
use crate::fault::Rare;
use crate::plan::{Shape, TriedBy};
use crate::world::World;

/// A version has become durable.
pub(crate) fn written(
    world: &World,
    case: &mut Case,
    seen: RowSeen,
    latest: Timestamp,
) -> Result<(), String> {
    let before = case.row.replace(seen);
    if seen.attention && !before.is_some_and(|row| row.attention) {
        world.saw(Rare::Attention);
    }
    if let Some(before) = before {
        // A purge counts as a version, and is not seen here.
        if seen.version <= before.version {
            return Err(format!("version {} was written over version {}", seen.version, before.version));
        }
        if !follows(before.phase, seen.phase) {
            return Err(format!("went from {} to {}", before.phase.as_str(), seen.phase.as_str()));
        }
        if seen.created_at != before.created_at {
            return Err("its begin was moved".to_owned());
        }
    }
    if before.is_none() && seen.is_begin && case.plan.is_decided_at_begin() && seen.phase == Phase::Trying {
        return Err("nothing has to be tried, and its begin did not decide".to_owned());
    }
    match (case.decision, seen.phase.decision()) {
        (None, None) => Ok(()),
        (Some(was), now) if now == Some(was) => {
            if seen.phase == Phase::Abandoned {
                world.saw(Rare::Abandoned);
            }
            Ok(())
        }
        (Some(was), now) => Err(format!("was decided {}, and then {now:?}", was.as_str())),
        (None, Some(decision)) => {
            case.decision = Some(decision);
            match decision {
                Decision::Confirm => may_confirm(world, case),
                Decision::Cancel => may_cancel(world, case, seen, latest),
            }
        }
    }
}

/// What follows from another transaction has become durable for the first time: that one was so far.
pub(crate) fn follows_from(parent: &Case, shape: Shape, seen: RowSeen) -> Checked {
    let phase = parent.row.map(|row| row.phase);
    if shape == Shape::Resent && phase != Some(Phase::Abandoned) {
        return Err(format!("was delivered anew, and the first is {phase:?}"));
    }
    if seen.is_begin && !parent.row.is_some_and(|row| row.is_begin) {
        return Err("was begun within a transaction that was not".to_owned());
    }
    Ok(())
}

fn follows(before: Phase, after: Phase) -> bool {
    use Phase::{Abandoned, Cancelled, Cancelling, Confirmed, Confirming, Trying};
    match before {
        Trying => true,
        Confirming => matches!(after, Confirming | Confirmed | Abandoned),
        Cancelling => matches!(after, Cancelling | Cancelled),
        Confirmed | Cancelled | Abandoned => after == before,
    }
}

/// Confirm needs everything tried, and whoever decides to have said so.
fn may_confirm(world: &World, case: &Case) -> Result<(), String> {
    for (i, (branch, plan)) in case.branches.iter().zip(&case.plan.branches).enumerate() {
        let was_tried = branch.effects[0] == 1;
        let must_be = match plan.tried_by {
            TriedBy::Coordinator => true,
            TriedBy::Initiator => branch.registered,
            TriedBy::Nobody => false,
        };
        if must_be && !was_tried {
            return Err(format!("decided confirm, and b{i} was never tried"));
        }
    }
    if case.plan.sender.is_some() {
        if case.fact != Fact::Committed {
            return Err(format!("decided confirm, and the local transaction is {:?}", case.fact));
        }
        if !case.asked_confirm {
            world.saw(Rare::DecidedByCheck);
        }
    } else if case.plan.by_initiator && !case.asked_confirm {
        return Err("decided confirm, and the initiator never said so".to_owned());
    }
    Ok(())
}

/// Cancel needs somebody who said so, a refusal, or the deadline.
fn may_cancel(world: &World, case: &Case, seen: RowSeen, latest: Timestamp) -> Result<(), String> {
    if case.plan.sender.is_some() {
        let said_so = case.asked_cancel && case.renounced && case.fact == Fact::Open;
        if case.fact != Fact::RolledBack && !said_so {
            return Err(format!("decided cancel, and the local transaction is {:?}", case.fact));
        }
        if !case.asked_cancel {
            world.saw(Rare::DecidedByCheck);
        }
        return Ok(());
    }
    if case.asked_cancel {
        return Ok(());
    }
    if case.refused && !case.plan.by_initiator {
        world.saw(Rare::DecidedByRefusal);
        return Ok(());
    }
    if latest >= seen.created_at + case.plan.least_life() {
        world.saw(Rare::DecidedByDeadline);
        return Ok(());
    }
    Err("decided cancel, and nobody said so, nobody refused, and its deadline has not come".to_owned())
}
