//! What may happen, and how often: the state machine that draws the steps of a case.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest_state_machine::ReferenceStateMachine;
use tcc_client::Row;

use super::world::{Ask, Doing, GIDS, Key, Mark, Payload, World};
use crate::flaky::Fate;

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Calls at the same time.
    Calls(Vec<Ask>),
    /// The same call twice, one after the other.
    Twice(Ask),
    /// Calls to a process that dies at the step of this number in one of its units, or when it has answered.
    Dies(Vec<Ask>, usize),
    /// All processes of the participant end and begin anew.
    Restart,
    /// The coordinator's mark passes a transaction, and a clean-up takes its rows.
    Forget(u8),
}

/// Draws steps by the world as it is likely to be: as if calls came in order and nothing befell them. Which world it
/// is turns out only when the steps are played.
#[derive(Debug)]
pub(super) struct Machine;

impl ReferenceStateMachine for Machine {
    type State = World;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<World> {
        Just(World::new()).boxed()
    }

    fn transitions(likely: &World) -> BoxedStrategy<Step> {
        let any = any_call(likely);
        prop_oneof![
            8 => ask(any.clone()).prop_map(|ask| Step::Calls(vec![ask])),
            3 => ask(any.clone()).prop_map(Step::Twice),
            3 => duplicates(any.clone()),
            4 => crossing(),
            4 => vec(ask(any.clone()), 2..=4).prop_map(Step::Calls),
            1 => (vec(ask(any), 1..=3), 1..=16_usize).prop_map(|(asks, at)| Step::Dies(asks, at)),
            1 => Just(Step::Restart),
            1 => (0..GIDS).prop_map(Step::Forget),
        ]
        .boxed()
    }

    fn apply(mut likely: World, step: &Step) -> World {
        match step {
            Step::Calls(asks) | Step::Dies(asks, _) => {
                for ask in asks {
                    likely.call(ask);
                }
            }
            Step::Twice(ask) => drop(likely.call(ask)),
            Step::Restart => {}
            Step::Forget(gid) if likely.has_ended(*gid) => likely.forget(*gid),
            Step::Forget(_) => {}
        }
        likely
    }
}

/// Keys and operations, the more often the more they lead to.
fn any_call(likely: &World) -> Vec<(Key, Doing)> {
    let mut calls = Vec::new();
    for key in Key::all() {
        let [tries, confirms, cancels] = match likely.rows.get(&key) {
            None => [6, 1, 2],
            Some(Row::Tried { .. }) => [2, 4, 4],
            // Late calls.
            Some(Row::Refused { .. } | Row::Confirmed { .. } | Row::Cancelled) => [1, 1, 1],
        };
        for (operation, times) in [(Doing::Try, tries), (Doing::Confirm, confirms), (Doing::Cancel, cancels)]
        {
            calls.extend(std::iter::repeat_n((key, operation), times));
        }
    }
    calls
}

fn ask(calls: Vec<(Key, Doing)>) -> impl Strategy<Value = Ask> + Clone {
    let payload = prop_oneof![
        6 => Just(Payload::Plain),
        6 => Just(Payload::Reply),
        2 => Just(Payload::Refuse),
        1 => Just(Payload::Fail),
        2 => Just(Payload::Unreadable),
    ];
    let mark = prop_oneof![12 => Just(Mark::Open), 1 => Just(Mark::Settled)];
    let fate = prop_oneof![
        14 => Just(Fate::Well),
        1 => Just(Fate::Conflict),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::CommitLost),
        1 => Just(Fate::KilledFirst),
        1 => Just(Fate::KilledHalfway),
        1 => Just(Fate::KilledCommitting),
        1 => Just(Fate::HungUp),
    ];
    (select(calls), payload, mark, fate, 0..2_usize).prop_map(
        |((key, operation), payload, mark, fate, replica)| Ask {
            key,
            operation,
            payload,
            mark,
            fate,
            replica,
            number: 0,
        },
    )
}

/// One call two to four times at once, to either process and each with its own fate.
fn duplicates(calls: Vec<(Key, Doing)>) -> impl Strategy<Value = Step> {
    (ask(calls.clone()), vec(ask(calls), 1..=3)).prop_map(|(first, others)| {
        let as_first = |other: Ask| Ask { key: first.key, operation: first.operation, ..other };
        Step::Calls(std::iter::once(first.clone()).chain(others.into_iter().map(as_first)).collect())
    })
}

/// Two operations of one branch at once, two to four calls.
fn crossing() -> impl Strategy<Value = Step> {
    const PAIRS: [[Doing; 2]; 3] =
        [[Doing::Try, Doing::Cancel], [Doing::Confirm, Doing::Cancel], [Doing::Try, Doing::Confirm]];
    let keys: Vec<_> = Key::all().map(|key| (key, Doing::Try)).collect();
    (select(keys.clone()), select(&PAIRS[..]), vec(ask(keys), 2..=4)).prop_map(|((key, _), pair, asks)| {
        let crossed = asks.into_iter().enumerate().map(|(n, ask)| Ask { key, operation: pair[n % 2], ..ask });
        Step::Calls(crossed.collect())
    })
}
