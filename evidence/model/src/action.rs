//! What can happen next. The list is generous; the step itself says whether an action can happen in a state.

use tcc_core::Operation;

use crate::document::Clock;
use crate::guard::Mood;
use crate::shape::{CHECK, Play, Shape};
use crate::world::{Local, NODES, Request, World};

/// How a commit goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    /// Its node is told what became of it.
    Known,
    /// It is written, nobody is told, and the node exits and is started anew, as over SQLite.
    Written,
    /// As before, but it is not written.
    Unwritten,
    /// It is written, nobody is told, and the node will offer the same write again, as over a server.
    Offered,
}

/// Whether an answer reaches the initiator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Heard,
    Lost,
}

/// One step of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The initiator ends its local transaction.
    End(Local),
    /// A try by the initiator arrives, and its answer comes back.
    Try(usize, Mood),
    /// A call that was sent at some time arrives, and nobody waits for its answer (any more).
    Arrive(usize, Operation, Mood),
    /// A node takes a request.
    Take(Request, Clock, Commit, Answer),
    /// A node offers a request's write again.
    Offer(Answer),
    /// A node claims the transaction: it is due, and any lease has run out.
    Claim(usize),
    /// A driver calls.
    Call(usize, usize),
    /// The call of a driver arrives and is answered, and the driver hears it.
    Receive(usize, usize, Mood, Clock, Commit),
    /// A driver has waited long enough for an answer.
    Lose(usize, usize, Clock, Commit),
    /// A driver acts on the deadline.
    Expire(usize, Commit),
    /// A driver goes on with what it learned.
    Settle(usize, Clock, Commit),
    /// A driver writes back what it noted, or renews its claim.
    WriteBack(usize, Commit),
    /// A driver lets go of the transaction.
    LetGo(usize),
    /// A node crashes, and is started anew.
    Crash(usize),
    /// The deadline passes.
    Pass,
    /// The store purges the transaction.
    Purge,
}

const CLOCKS: [Clock; 2] = [Clock::Early, Clock::Late];
const COMMITS: [Commit; 4] = [Commit::Known, Commit::Written, Commit::Unwritten, Commit::Offered];
const MOODS: [Mood; 4] = [Mood::Accepts, Mood::Refuses, Mood::Busy, Mood::Before];
const ANSWERS: [Answer; 2] = [Answer::Heard, Answer::Lost];

impl Action {
    /// Everything that might happen in a state, into a list.
    pub(crate) fn all(world: &World, shape: &Shape, list: &mut Vec<Self>) {
        list.clear();
        list.extend([Self::Pass, Self::Purge]);
        Self::of_the_initiator(world, shape, list);
        for place in 0..shape.kinds.len() {
            for operation in [Operation::Try, Operation::Confirm, Operation::Cancel] {
                if world.may_arrive(shape.play, place, operation) {
                    list.extend(
                        [Mood::Accepts, Mood::Refuses].map(|mood| Self::Arrive(place, operation, mood)),
                    );
                }
            }
        }
        let clocks = if world.late { &CLOCKS[..] } else { &CLOCKS[..1] };
        let commits = if world.left.crashes > 0 { &COMMITS[..] } else { &COMMITS[..1] };
        Self::of_the_requests(world, shape, clocks, commits, list);
        for node in 0..NODES {
            Self::of_a_node(world, node, clocks, commits, list);
        }
    }

    fn of_the_requests(
        world: &World,
        shape: &Shape,
        clocks: &[Clock],
        commits: &[Commit],
        list: &mut Vec<Self>,
    ) {
        list.extend(ANSWERS.map(Self::Offer));
        for request in Request::ALL.into_iter().filter(|request| world.may_ask(shape.play, *request)) {
            for clock in clocks {
                for commit in commits {
                    list.extend(ANSWERS.map(|answer| Self::Take(request, *clock, *commit, answer)));
                }
            }
        }
    }

    fn of_the_initiator(world: &World, shape: &Shape, list: &mut Vec<Self>) {
        if shape.play == Play::Commits && world.local == Local::Open {
            list.extend([Self::End(Local::Committed), Self::End(Local::RolledBack)]);
        }
        if shape.play == Play::Tries {
            for place in 0..shape.kinds.len() {
                list.push(Self::Try(place, Mood::Accepts));
            }
        }
    }

    fn of_a_node(world: &World, node: usize, clocks: &[Clock], commits: &[Commit], list: &mut Vec<Self>) {
        let it = &world.nodes[node];
        list.push(Self::Crash(node));
        if it.held == 0 {
            list.push(Self::Claim(node));
            return;
        }
        list.push(Self::LetGo(node));
        for commit in commits {
            list.extend([Self::Expire(node, *commit), Self::WriteBack(node, *commit)]);
            for clock in clocks {
                list.push(Self::Settle(node, *clock, *commit));
                for place in 0..=CHECK {
                    if !it.slots[place].is_idle() {
                        list.extend(MOODS.map(|mood| Self::Receive(node, place, mood, *clock, *commit)));
                        list.push(Self::Lose(node, place, *clock, *commit));
                    }
                }
            }
        }
        for place in 0..=CHECK {
            if it.slots[place].is_idle() {
                list.push(Self::Call(node, place));
            }
        }
    }
}
