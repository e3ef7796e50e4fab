//! What initiators are told is true: durable before it is told, never behind what was so when they asked.

use tcc_core::Phase;

use crate::book::{Before, Case};
use crate::fault::Rare;
use crate::initiator::ask::{Ask, No, Told};
use crate::world::World;

/// A coordinator has answered its caller.
pub(crate) fn told(
    world: &World,
    case: &mut Case,
    before: Before,
    ask: &Ask,
    told: &Told,
) -> Result<(), String> {
    match told {
        Told::Stands { phase, version, is_new, .. } => {
            if *is_new && std::mem::replace(&mut case.told_new, true) {
                return Err("two begins were told that they are the first".to_owned());
            }
            if matches!(ask, Ask::Begin { reused: true }) {
                return Err("other content was taken for a repeat".to_owned());
            }
            match ask {
                Ask::Begin { .. } if !is_new => world.saw(Rare::BeginRepeated),
                Ask::Resend => world.saw(if *is_new { Rare::Resent } else { Rare::ResentAgain }),
                Ask::Acknowledge => world.saw(Rare::Acknowledged),
                _ => {}
            }
            if version.is_some_and(|version| version < before.version) {
                return Err(format!("{ask:?} was told of version {version:?}, behind {}", before.version));
            }
            stands(case, before, *phase)
        }
        Told::No(no) => refused(world, case, before, ask, no),
    }
}

/// What is said of the decision is durable, and no decision is missed that was there before.
fn stands(case: &Case, before: Before, phase: Phase) -> Result<(), String> {
    let Some(row) = case.row else { return Err(format!("was told {phase:?}, and nothing is stored")) };
    match phase.decision() {
        None if before.decision.is_some() => Err(format!("was told {phase:?} after the decision")),
        None => Ok(()),
        told if told == case.decision && (!phase.ended() || row.phase.ended()) => Ok(()),
        _ => Err(format!("was told {phase:?}, and the store holds {:?}", row.phase)),
    }
}

fn refused(world: &World, case: &Case, before: Before, ask: &Ask, no: &No) -> Result<(), String> {
    match no {
        No::UnknownGid => {
            world.saw(Rare::ToldUnknownGid);
            if matches!(ask, Ask::Cancel) {
                return Err(
                    "a cancel was told unknown-gid, and does not bar the begin that may come".to_owned()
                );
            }
            if before.version > 0 || matches!(ask, Ask::Resend) {
                Err("was told unknown-gid, and it is stored".to_owned())
            } else {
                Ok(())
            }
        }
        No::GidReused(phase) => {
            world.saw(Rare::GidReused);
            match ask {
                Ask::Begin { reused: true } => stands(case, before, *phase),
                _ => Err("a repeat was taken for another transaction".to_owned()),
            }
        }
        No::CancelledBefore(phase) => {
            world.saw(Rare::BeginBarred);
            if case.row.is_none_or(|row| row.is_begin) {
                return Err("was told that a cancel came first, and none did".to_owned());
            }
            stands(case, before, *phase)
        }
        No::NothingGivenUp if world.nature.forgets_soon() => Ok(()),
        No::NothingGivenUp => Err("was told that nothing was given up".to_owned()),
        No::NotAllTried => {
            world.saw(Rare::NotAllTried);
            if before.decision.is_some() {
                return Err("was told not-all-tried after the decision".to_owned());
            }
            Ok(())
        }
        No::Decided(phase) => {
            world.saw(if matches!(ask, Ask::Register(_)) { Rare::RegisteredLate } else { Rare::ToldDecided });
            if phase.decision().is_none() {
                return Err(format!("was told decided, in {phase:?}"));
            }
            stands(case, before, *phase)
        }
        No::Full => {
            world.saw(Rare::ToldFull);
            Ok(())
        }
        No::Unknown => {
            world.saw(Rare::ToldUnknown);
            Ok(())
        }
        No::Passing => {
            world.saw(Rare::ToldContended);
            Ok(())
        }
        No::Mistaken(why) => Err(format!("{ask:?} was called a mistake: {why}")),
    }
}
