//! C9: from every state, once faults stop, one node alone brings the transaction to its end.
//!
//! The way from a state without any more faults is a step that is the same whenever the state is: so the states with
//! these steps are a graph in which each has one way on, and everything ends if no such way is a circle.

use tcc_core::Phase;

use crate::action::{Action, Commit};
use crate::document::{Standing, Todo};
use crate::guard::Mood;
use crate::model::Model;
use crate::shape::CHECK;
use crate::world::{Local, World};

/// The way on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// There is nothing (more) to do.
    Ended,
    Step(Action),
    /// There is something to do, and nobody does it.
    Stuck,
}

/// The way on from a state, without the initiator, who has vanished, and without any fault.
pub(crate) fn next(model: &Model, world: &World) -> Next {
    if world.row == 0 || model.phase(world.row).ended() {
        return Next::Ended;
    }
    let Some(node) = world.nodes.iter().position(|node| node.held != 0) else {
        return Next::Step(Action::Claim(0));
    };
    let it = &world.nodes[node];
    let view = model.documents.view(it.held);
    let clock = view.clock(world.late);
    if !it.is_settled() {
        return Next::Step(Action::Settle(node, clock, Commit::Known));
    }
    if it.standing != Standing::Fresh {
        return Next::Step(Action::WriteBack(node, Commit::Known));
    }
    let mut under_way = (0..=CHECK).filter(|place| !it.slots[*place].is_idle());
    if let Some(place) = under_way.next() {
        let bars = place == CHECK && world.local != Local::Committed;
        let mood = if bars { Mood::Refuses } else { Mood::Accepts };
        return Next::Step(Action::Receive(node, place, mood, clock, Commit::Known));
    }
    match view.todo(clock) {
        Todo::Expire => Next::Step(Action::Expire(node, Commit::Known)),
        Todo::Calls(calls) if !calls.is_empty() => Next::Step(Action::Call(node, calls[0].0)),
        Todo::Calls(_) if !world.late && model.phase(it.held) == Phase::Trying => Next::Step(Action::Pass),
        Todo::Calls(_) | Todo::Finished => Next::Stuck,
    }
}
