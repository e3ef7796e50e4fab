//! What may happen, and how often: the state machine that draws the steps of a case.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest_state_machine::ReferenceStateMachine;
use tcc_client::Row;

use super::world::{Ask, Cleaning, Doing, GIDS, Key, Mark, Payload, World};
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
    /// The coordinator's mark reaches a transaction, and a clean-up takes the rows of those before it, while calls of
    /// theirs come late.
    Settle(Cleaning, Vec<Ask>),
}

/// Draws steps by the world as it is likely to be: as if calls came in order and nothing befell them. Which world it
/// is turns out only when the steps are played.
#[derive(Debug)]
pub(super) struct Machine<const PREPARES: bool>;

impl<const PREPARES: bool> ReferenceStateMachine for Machine<PREPARES> {
    type State = World;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<World> {
        Just(World::new(PREPARES)).boxed()
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
            2 => settling(likely.settled),
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
            Step::Settle(cleaning, _) => {
                for key in likely.unfinished(cleaning.before) {
                    likely.rows.insert(key, Row::Cancelled);
                }
                likely.forget(cleaning.before);
            }
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
    let mark = prop_oneof![8 => Just(Mark::Open), 4 => Just(Mark::Absent), 1 => Just(Mark::Settled)];
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

/// The mark moves on by one transaction or two, or not; what comes late is mostly tries.
fn settling(settled: u8) -> impl Strategy<Value = Step> {
    let late = move |(before, fate, place): (u8, Fate, _)| {
        let calls = Key::all().filter(|key| key.gid < before.max(1)).flat_map(|key| {
            [Doing::Try, Doing::Try, Doing::Try, Doing::Confirm, Doing::Cancel].map(|doing| (key, doing))
        });
        let asks = vec(ask(calls.collect()), place);
        asks.prop_map(move |asks| Step::Settle(Cleaning { before, fate }, asks))
    };
    let fate = prop_oneof![
        5 => Just(Fate::Well),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::CommitLost),
        1 => Just(Fate::KilledCommitting),
    ];
    ((settled..=settled + 2).prop_map(|before| before.min(GIDS)), fate, 0..=3_usize).prop_flat_map(late)
}
