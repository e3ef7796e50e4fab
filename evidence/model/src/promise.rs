//! The promises of DESIGN.md §5, each a question to a state, to a step or to a call.
//!
//! C3 is asked where something is told, C4's other half and C5 where something is saved; C9 is asked of the whole
//! graph. C10 needs no question: what it allows, clocks that are apart and waits of any length, is what happens here.

use tcc_core::{Decision, Operation, Phase};

use crate::document::{Doc, Part, View};
use crate::guard::{Flaw, Kind, Mood, Party, Row, Said};
use crate::model::{Broken, Model};
use crate::shape::{BRANCHES, CHECK, Play};
use crate::world::{Local, World};

type Kept = Result<(), Broken>;

fn ensure(kept: bool, promise: &'static str, how: impl FnOnce() -> String) -> Kept {
    if kept { Ok(()) } else { Broken::new(promise, how()) }
}

const NAMES: [&str; BRANCHES] = ["a", "b", "c"];

/// What must hold in every state.
pub(crate) fn of_a_state(model: &Model, world: &World) -> Kept {
    for (i, kind) in model.kinds() {
        of_a_participant(i, kind, &world.parties[i], model.fault.flaw())?;
    }
    let sent = |operation| (0..BRANCHES).any(|i| world.was_sent(i, operation));
    ensure(!(sent(Operation::Confirm) && sent(Operation::Cancel)), "C1", || {
        "a confirm and a cancel were both sent".to_owned()
    })?;
    if world.row == 0 {
        return ensure(world.sent == 0, "C2", || {
            "something was called before anything is durable".to_owned()
        });
    }
    let view = model.documents.view(world.row);
    ensure(view.phase.ended() || view.due, "C6", || {
        "an unfinished transaction is never due again".to_owned()
    })?;
    for (operation, decision) in
        [(Operation::Confirm, Decision::Confirm), (Operation::Cancel, Decision::Cancel)]
    {
        ensure(!sent(operation) || view.decision() == Some(decision), "C2", || {
            format!("a {operation} was sent, and the store holds {:?}", view.phase)
        })?;
    }
    for (i, kind) in model.kinds() {
        let part = view.parts[i];
        ensure(part.here || !world.may_arrive(model.shape.play, i, Operation::Try), "C2", || {
            format!("{} is tried and not durable", NAMES[i])
        })?;
        what_is_known_is_true(i, &part, view.decision(), &world.parties[i], model.fault.flaw())?;
        all_or_nothing(i, kind, &part, view, &world.parties[i])?;
    }
    of_a_point_of_no_return(model, view)?;
    of_a_message(model, world, view)
}

/// P1 to P6, as what may stand in a participant's database.
fn of_a_participant(i: usize, kind: Kind, party: &Party, flaw: Flaw) -> Kept {
    let Party { row, reserved, done, undone } = *party;
    let how = |what: &str| {
        format!("{} {what}: {row:?}, {reserved} reserved, {done} done, {undone} undone", NAMES[i])
    };
    let delivers = matches!(kind, Kind::Receives | Kind::Hears);
    ensure(done == 0 || undone == 0, "P1", || how("is confirmed and cancelled"))?;
    ensure(reserved <= 1 && done <= 1 && undone <= 1, "P2", || how("took effect twice"))?;
    ensure(undone <= reserved, "P3", || how("gave back what it never had"))?;
    ensure(row != Row::Cancelled || reserved == undone, "P4", || how("hangs"))?;
    ensure(delivers || done <= reserved, "P6", || how("is confirmed without a try"))?;
    let together = match row {
        Row::None | Row::Refused => (reserved, done, undone) == (0, 0, 0),
        Row::Tried => (reserved, done, undone) == (1, 0, 0),
        Row::Confirmed => (reserved, done, undone) == (u8::from(!delivers), 1, 0),
        Row::Cancelled => done == 0,
    };
    ensure(together, "P5", || how("has a guard row that its business rows contradict"))?;
    if !delivers && matches!(row, Row::None | Row::Refused) {
        let mut probe = *party;
        let said = probe.answer(kind, Operation::Confirm, Mood::Accepts, flaw);
        ensure(said == Said::Alarm && probe == *party, "P6", || how("would obey a confirm without a try"))?;
    }
    Ok(())
}

/// What the document says was done or refused, was (C4: nothing unclear ever counts).
fn what_is_known_is_true(
    i: usize,
    part: &Part,
    decision: Option<Decision>,
    party: &Party,
    flaw: Flaw,
) -> Kept {
    let how = |what: &str| format!("{} {what}, and its participant says {:?}", NAMES[i], party.row);
    ensure(!part.tried || party.reserved == 1, "C4", || how("counts as tried"))?;
    ensure(!part.refused || matches!(party.row, Row::Refused | Row::Cancelled), "C4", || {
        how("counts as refused")
    })?;
    let done = match decision {
        None => !part.done,
        Some(Decision::Confirm) => !part.done || party.done == 1,
        // Where a flawed guard leaves nothing behind, what follows from it is to be found.
        Some(Decision::Cancel) if flaw == Flaw::NoTombstone => true,
        Some(Decision::Cancel) => !part.done || matches!(party.row, Row::Refused | Row::Cancelled),
    };
    ensure(done, "C4", || how("counts as done"))
}

/// What has ended happened everywhere or nowhere, and stays so, whatever arrives late.
fn all_or_nothing(i: usize, kind: Kind, part: &Part, view: &View, party: &Party) -> Kept {
    let how = || format!("{:?}, and {} has {party:?}", view.phase, NAMES[i]);
    let happened = match kind {
        Kind::Reserves | Kind::Receives | Kind::Hears => party.done == 1,
        Kind::Acts | Kind::Turns => party.reserved == 1 && party.undone == 0,
    };
    match view.phase {
        Phase::Trying | Phase::Confirming | Phase::Cancelling => Ok(()),
        Phase::Confirmed => ensure(happened || !part.here, "C1", how),
        Phase::Abandoned => ensure(happened || part.given_up, "C1", how),
        Phase::Cancelled => {
            let nothing = party.done == 0 && (party.reserved == party.undone || kind == Kind::Turns);
            ensure(nothing, if party.done > 0 { "C1" } else { "P4" }, how)?;
            ensure(!part.here || part.done || part.not_needed, "C8", || {
                format!("{} was not cancelled", NAMES[i])
            })
        }
    }?;
    ensure(part.here || (party.reserved, party.done) == (0, 0), "C2", || {
        format!("{} had effects and is not in the store", NAMES[i])
    })
}

/// A message goes out if and only if the local transaction it belongs to committed.
fn of_a_message(model: &Model, world: &World, view: &View) -> Kept {
    if model.shape.play != Play::Commits {
        return Ok(());
    }
    let truth = match view.decision() {
        None => return Ok(()),
        Some(Decision::Confirm) => Local::Committed,
        Some(Decision::Cancel) => Local::RolledBack,
    };
    ensure(world.local == truth, "C3", || {
        format!("{:?}, and the local transaction is {:?}", view.phase, world.local)
    })
}

/// What nobody tries is confirmed from its begin on, and so is everything once a try counts as done that nothing undoes:
/// a pivot is the last that is tried.
fn of_a_point_of_no_return(model: &Model, view: &View) -> Kept {
    let confirmed = view.decision() == Some(Decision::Confirm);
    let waits = view.parts.iter().any(|part| part.coordinator_tries);
    ensure(confirmed || waits || !view.begun || model.shape.play != Play::Watches, "C1", || {
        format!("nothing has to be tried, and the store holds {:?}", view.phase)
    })?;
    for (i, kind) in model.kinds() {
        let turned = kind == Kind::Turns && view.parts[i].tried;
        ensure(confirmed || !turned, "C8", || {
            format!("{} counts as done and cannot be undone, and the store holds {:?}", NAMES[i], view.phase)
        })?;
    }
    Ok(())
}

/// An operator who takes note changes nothing but that: the same calls are made at the same moments.
pub(crate) fn of_an_acknowledgement(model: &mut Model, before: Doc, after: Doc) -> Kept {
    let only = model.documents.differ_by_an_acknowledgement(before, after);
    let view = |doc| model.documents.view(doc);
    ensure(only, "C4", || {
        format!("an acknowledgement made {:?} of {:?}", view(after).parts, view(before).parts)
    })
}

/// What a fact makes of a ladder: it ends with its last call, and neither before nor after.
pub(crate) fn of_a_fact(before: &View, after: &View) -> Kept {
    for (i, name) in NAMES.iter().enumerate() {
        let (old, new) = (before.parts[i], after.parts[i]);
        let waits = new.ladder.unwrap_or(u32::MAX);
        ensure(!new.given_up || old.given_up || old.attempts == waits, "C6", || {
            format!("{name} was given up after {} calls more than the first", old.attempts)
        })?;
        ensure(new.attempts <= waits, "C9", || {
            format!("{name} is called after {} calls that settled nothing", new.attempts)
        })?;
    }
    Ok(())
}

/// What no step may do.
pub(crate) fn of_a_step(model: &Model, before: &World, after: &World) -> Kept {
    if before.row == 0 || before.row == after.row {
        return Ok(());
    }
    ensure(after.row != 0, "C6", || "the transaction disappeared".to_owned())?;
    let (old, new) = (model.documents.view(before.row), model.documents.view(after.row));
    let how = |what: &str| format!("{what}: {:?} became {:?}", old.phase, new.phase);
    ensure(old.decision().is_none() || old.decision() == new.decision(), "C1", || {
        how("the decision changed")
    })?;
    let noted = model.documents.is_acknowledged(before.row, after.row);
    ensure(!old.phase.ended() || noted, "C6", || how("what had ended was written again"))?;
    for (i, name) in NAMES.iter().enumerate() {
        let (old_part, new_part) = (old.parts[i], new.parts[i]);
        ensure(new_part.here || !old_part.here, "C6", || format!("branch {name} disappeared"))?;
        ensure(!new_part.here || old_part.here || new.decision().is_none(), "C7", || {
            format!("branch {name} came after the decision, or with it")
        })?;
        ensure(old_part.not_needed == new_part.not_needed || old.decision().is_none(), "C8", || {
            format!("the frozen set changed: {name}")
        })?;
        if old.decision().is_none() && new.decision() == Some(Decision::Cancel) {
            let needed = new_part.here && new_part.has_cancel && may_have_been_tried(model, old, i);
            ensure(new_part.not_needed != needed || !new_part.here, "C8", || {
                format!("the frozen set is wrong about {name}")
            })?;
        }
    }
    Ok(())
}

/// Registered and tried by the initiator; or tried by the coordinator, whose `after` were all done in the store.
fn may_have_been_tried(model: &Model, stored: &View, i: usize) -> bool {
    !stored.parts[i].coordinator_tries
        || model.shape.after[i].iter().all(|j| !stored.parts[*j].coordinator_tries || stored.parts[*j].tried)
}

/// What must hold when a coordinator sends a call.
pub(crate) fn of_a_call(model: &Model, world: &World, i: usize, operation: Operation) -> Kept {
    if i == CHECK {
        return Ok(());
    }
    ensure(world.row != 0, "C2", || format!("a {operation} before anything is durable"))?;
    let view = model.documents.view(world.row);
    let decision = match operation {
        Operation::Try | Operation::Check => None,
        Operation::Confirm => Some(Decision::Confirm),
        Operation::Cancel => Some(Decision::Cancel),
    };
    ensure(decision.is_none() || decision == view.decision(), "C2", || {
        format!("a {operation} is sent to {}, and the store holds {:?}", NAMES[i], view.phase)
    })?;
    let out_of_order =
        |j: usize| format!("a {operation} of {} before that of {} is done", NAMES[i], NAMES[j]);
    for (j, _) in model.kinds() {
        let (part, party) = (view.parts[j], &world.parties[j]);
        let in_front = model.shape.after[i].contains(&j);
        let behind = model.shape.after[j].contains(&i);
        let passed = match operation {
            Operation::Try if in_front => !part.coordinator_tries || party.reserved == 1,
            Operation::Confirm if in_front => part.not_needed || part.given_up || party.done == 1,
            Operation::Cancel if behind => {
                part.not_needed || matches!(party.row, Row::Cancelled | Row::Refused)
            }
            Operation::Try | Operation::Confirm | Operation::Cancel | Operation::Check => true,
        };
        ensure(passed, "C8", || out_of_order(j))?;
    }
    ensure(!view.parts[i].not_needed || operation == Operation::Try, "C8", || {
        format!("a {operation} of {}, which is not of the frozen set", NAMES[i])
    })
}

/// P2: a call that was answered is answered the same again, and nothing comes of it.
pub(crate) fn of_a_repeat(
    kind: Kind,
    party: Party,
    operation: Operation,
    mood: Mood,
    said: Said,
    flaw: Flaw,
) -> Kept {
    let mut repeated = party;
    let again = repeated.answer(kind, operation, mood, flaw);
    ensure(again == said && repeated == party, "P2", || {
        format!("a repeated {operation} is answered {again:?} after {said:?}, from {party:?} to {repeated:?}")
    })
}
