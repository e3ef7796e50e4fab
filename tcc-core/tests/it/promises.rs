//! C1 to C9, each as a property over random orders of events: a question to the record of what happened.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tcc_core::{
    Branch, BranchId, Decider, Decision, Effect, End, Event, Operation, Phase, Rejection, Retry, Timestamp,
    Transaction, Tried,
};

use crate::orders::{Asked, SHAPES, Said, Step, World, run, step};
use crate::support::id;

fn decision_of(operation: Operation) -> Option<Decision> {
    match operation {
        Operation::Confirm => Some(Decision::Confirm),
        Operation::Cancel => Some(Decision::Cancel),
        Operation::Try | Operation::Check => None,
    }
}

/// The branches in front of `i` in the direction of the decision, across those that have nothing to call.
fn in_front(transaction: &Transaction, i: usize, forwards: bool) -> BTreeSet<usize> {
    let all = transaction.branches();
    let next = |i: usize| -> Vec<usize> {
        (0..all.len())
            .filter(|j| {
                let (before, behind) = if forwards { (*j, i) } else { (i, *j) };
                all[behind].definition().after.contains(&all[before].definition().id)
            })
            .collect()
    };
    let mut found = BTreeSet::new();
    let mut left = next(i);
    while let Some(j) = left.pop() {
        if found.insert(j) {
            left.extend(next(j));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn c1_one_decision_is_taken_and_no_call_of_the_other_kind_follows(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        let decisions: Vec<Decision> = seen.versions.iter().filter_map(|t| t.phase().decision()).collect();
        prop_assert!(decisions.windows(2).all(|two| two[0] == two[1]), "{decisions:?}");
        let kinds: BTreeSet<_> = seen.calls.iter().filter_map(|(_, operation, _)| decision_of(*operation)).map(Decision::as_str).collect();
        prop_assert!(kinds.len() <= 1, "{kinds:?}");
    }

    #[test]
    fn c2_a_branch_is_durable_before_its_try_and_the_decision_before_its_first_call(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        for (branch, operation, versions) in &seen.calls {
            let durable = &seen.versions[..*versions];
            prop_assert!(branch.as_ref().is_none_or(|id| durable.iter().any(|t| t.branch(id).is_some())));
            if let Some(decision) = decision_of(*operation) {
                prop_assert!(durable.iter().any(|t| t.phase().decision() == Some(decision)), "{operation} before its decision");
            }
        }
    }

    #[test]
    fn c3_callers_are_told_what_the_store_holds(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        for (asked, told, held) in &seen.told {
            match (asked, told) {
                (_, Ok(phase)) => prop_assert_eq!(phase, held),
                (Asked::ConfirmAll | Asked::ConfirmSome, Err(Rejection::Decided(phase))) => {
                    prop_assert_eq!(phase, held);
                    prop_assert_eq!(phase.decision(), Some(Decision::Cancel));
                }
                (Asked::Cancel, Err(Rejection::Decided(phase))) => {
                    prop_assert_eq!(phase, held);
                    prop_assert_eq!(phase.decision(), Some(Decision::Confirm));
                }
                (_, Err(Rejection::NotAllTried(_) | Rejection::NotDecided)) => prop_assert_eq!(*held, Phase::Trying),
                (_, Err(_)) => {}
            }
        }
    }

    #[test]
    fn c4_nothing_unclear_counts_as_done_or_refused(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        // The same run, with every answer that says something turned into one that does not.
        let unclear = steps.into_iter().map(|step| match step {
            Step::Answer(call, Said::Done | Said::Refused) => Step::Answer(call, Said::Unknown),
            Step::Ask(node, Asked::Force(_)) => Step::Load(node),
            step => step,
        });
        let mut world = World::new(SHAPES[shape]);
        unclear.for_each(|step| world.step(&step));
        for transaction in &world.seen.versions {
            for branch in transaction.branches() {
                prop_assert!(matches!(branch.tried(), Tried::NotYet), "tried by an unclear answer");
                prop_assert!(!matches!(branch.end(), Some(End::Done)), "ended by an unclear answer");
            }
        }
    }

    #[test]
    fn c4_nothing_counts_as_done_or_refused_before_an_answer_says_so(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        for (version, transaction) in seen.versions.iter().enumerate() {
            let ends = |operation: &Operation| decision_of(*operation) == transaction.phase().decision();
            let ending = [Operation::Confirm, Operation::Cancel].into_iter().find(ends);
            for branch in transaction.branches() {
                let id = Some(&branch.definition().id);
                let heard = |operation, wanted| seen.answers.iter().any(|(branch, asked, said, at)| {
                    (branch.as_ref(), Some(*asked), *said) == (id, operation, wanted) && *at <= version
                });
                let tried = match branch.tried() {
                    Tried::NotYet => true,
                    Tried::Done(_) => heard(Some(Operation::Try), Said::Done),
                    Tried::Refused(_) => heard(Some(Operation::Try), Said::Refused),
                };
                prop_assert!(tried, "{id:?} counts as {:?}", branch.tried());
                prop_assert!(branch.end() != Some(&End::Done) || heard(ending, Said::Done), "{id:?} counts as done");
            }
        }
    }

    #[test]
    fn c5_a_version_is_written_once_and_only_its_writer_goes_on(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new(SHAPES[shape]);
        for step in steps {
            world.step(&step);
            let held = world.load().version();
            // As many versions as saves that were reported won: none was overwritten, none was lost.
            prop_assert_eq!(held, world.seen.versions.len() as u64);
            prop_assert!(world.nodes.iter().flatten().all(|node| node.version() <= held));
        }
    }

    #[test]
    fn c6_what_has_not_ended_is_due_and_nothing_disappears(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new(SHAPES[shape]);
        for step in steps {
            world.step(&step);
            let stored = world.load();
            let transaction = stored.transaction();
            prop_assert_eq!(transaction.phase().ended(), transaction.due().is_none(), "{:?}", transaction);
        }
        let mut branches = BTreeMap::new();
        for transaction in &world.seen.versions {
            for branch in transaction.branches() {
                branches.insert(branch.definition().id.clone(), branch.definition().endpoints().count());
            }
            prop_assert_eq!(transaction.branches().len(), branches.len(), "a branch is gone");
        }
    }

    #[test]
    fn c6_nothing_is_given_up_before_its_last_call(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        let Some(last) = seen.versions.last() else { return Ok(()) };
        for branch in last.branches().iter().filter(|branch| branch.end() == Some(&End::GivenUp)) {
            let Retry::Intervals { waits, .. } = &branch.definition().retry else { panic!("it has no ladder") };
            let called = |call: &&(Option<BranchId>, Operation, usize)| call.0.as_ref() == Some(&branch.definition().id);
            let calls = seen.calls.iter().filter(called).count();
            prop_assert!(calls > waits.len(), "{calls} calls");
        }
    }

    #[test]
    fn c6_what_is_confirmed_at_its_begin_is_never_cancelled_and_a_pivot_that_is_done_is_the_decision(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        for transaction in &seen.versions {
            let waits = transaction.decider() == Decider::Initiator
                || transaction.branches().iter().any(|branch| branch.definition().try_.is_some());
            let last = |branch: &Branch| !transaction.branches().iter().any(|other| {
                other.definition().try_.is_some() && other.definition().after.contains(&branch.definition().id)
            });
            let turned = transaction.decider() == Decider::Coordinator && transaction.branches().iter().any(|branch| {
                branch.definition().no_cancel && last(branch) && matches!(branch.tried(), Tried::Done(_))
            });
            if !waits || turned {
                prop_assert_eq!(transaction.phase().decision(), Some(Decision::Confirm));
            }
        }
    }

    #[test]
    fn c9_an_acknowledgement_changes_nothing_but_whether_a_human_is_called(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        let but_for_that = |transaction: &Transaction| {
            format!("{transaction:?}").replace("acknowledged: true", "acknowledged: false")
        };
        for transaction in &seen.versions {
            let mut acknowledged = transaction.clone();
            let noted = acknowledged.apply(Event::Acknowledge { reason: "seen".into() }, Timestamp::from_millis(i64::MAX / 2));
            prop_assert_eq!(noted == Ok(Effect::Changed), transaction.attention().is_some());
            prop_assert_eq!(acknowledged.attention(), None);
            prop_assert_eq!(but_for_that(&acknowledged), but_for_that(transaction));
        }
    }

    #[test]
    fn c7_no_branch_joins_after_the_decision_and_whoever_tries_is_told(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        let decided: Vec<usize> = seen.versions.iter().filter(|t| t.phase().decision().is_some()).map(|t| t.branches().len()).collect();
        prop_assert!(decided.windows(2).all(|two| two[0] == two[1]));
        for (asked, told, held) in &seen.told {
            if matches!(asked, Asked::Register) && held.decision().is_some() {
                // Either the rejection says so, or the answer shows the decision that the deadline just took.
                prop_assert!(told.as_ref().map_or(true, |phase| phase.decision().is_some()), "{told:?}");
            }
        }
    }

    #[test]
    fn c8_calls_keep_to_their_order_and_cancel_reaches_exactly_the_frozen_set(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        for (branch, operation, versions) in &seen.calls {
            let (Some(id), held) = (branch, &seen.versions[..*versions]) else { continue };
            // Somebody held a version from which the call could be planned: what is in front had ended in it.
            let allowed = held.iter().any(|transaction| {
                let Some(i) = transaction.branches().iter().position(|b| b.definition().id == *id) else { return false };
                let all = transaction.branches();
                match decision_of(*operation) {
                    None => in_front(transaction, i, true).iter().all(|j| all[*j].definition().try_.is_none() || matches!(all[*j].tried(), Tried::Done(_))),
                    Some(decision) => transaction.phase().decision() == Some(decision)
                        && in_front(transaction, i, decision == Decision::Confirm).iter().all(|j| all[*j].end().is_some()),
                }
            });
            prop_assert!(allowed, "{operation} {id} was called too early");
        }
        let decided = seen.versions.iter().position(|t| t.phase().decision() == Some(Decision::Cancel));
        let Some(decided) = decided.filter(|decided| *decided > 0) else { return Ok(()) };
        // The set is frozen in the decision's own write, from the version before it.
        let before = &seen.versions[decided - 1];
        let frozen: BTreeSet<&BranchId> = before.branches().iter().enumerate().filter(|(i, b)| {
            let all = before.branches();
            b.definition().cancel.is_some() && (b.definition().try_.is_none()
                || in_front(before, *i, true).iter().all(|j| all[*j].definition().try_.is_none() || matches!(all[*j].tried(), Tried::Done(_))))
        }).map(|(_, b)| &b.definition().id).collect();
        let forced = |id: &BranchId| seen.versions.iter().any(|t| matches!(t.branch(id).and_then(|b| b.end()), Some(End::Forced { .. })));
        let cancelled: BTreeSet<&BranchId> = seen.calls.iter().filter(|(_, operation, _)| *operation == Operation::Cancel).filter_map(|(b, ..)| b.as_ref()).collect();
        prop_assert!(cancelled.is_subset(&frozen), "{cancelled:?} of {frozen:?}");
        prop_assert!(frozen.iter().all(|id| cancelled.contains(id) || forced(id)), "{cancelled:?} of {frozen:?}");
    }

    #[test]
    fn c9_everything_ends_once_faults_stop(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        let last = seen.versions.last().unwrap();
        prop_assert!(last.phase().ended(), "{last:?}");
    }
}

#[test]
fn c8_a_forced_branch_does_not_let_those_behind_it_pass() {
    let mut world = World::new(SHAPES[4]);
    let done = |world: &mut World| (0..8).for_each(|_| world.answer(0, Said::Done));
    world.step(&Step::Call(0));
    done(&mut world);
    world.step(&Step::Pass(500));
    world.step(&Step::Call(0));
    done(&mut world);
    assert_eq!(world.load().transaction().phase(), Phase::Confirming);
    // c comes after b, and b after a, which is not confirmed yet.
    world.step(&Step::Ask(0, Asked::Force(1)));
    world.step(&Step::Call(0));
    let confirmed: Vec<_> = world.seen.calls.iter().filter(|call| call.1 == Operation::Confirm).collect();
    assert_eq!(confirmed.len(), 1, "{confirmed:?}");
    assert_eq!(confirmed[0].0, Some(id("a")));
}

/// The properties would hold of a world in which nothing happens. It does.
#[test]
fn the_random_orders_reach_every_phase_and_every_operation() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut phases, mut operations, mut told) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    // One order in five hundred gives a branch up.
    for case in 0..1600 {
        let steps = prop::collection::vec(step(), 1..60).new_tree(&mut runner).unwrap().current();
        let seen = run(case % SHAPES.len(), steps);
        phases.extend(seen.versions.iter().map(|t| t.phase().as_str()));
        operations.extend(seen.calls.iter().map(|(_, operation, _)| operation.as_str()));
        told.extend(seen.told.iter().map(|(asked, told, _)| format!("{asked:?} {}", told.is_ok())));
    }
    assert_eq!(phases.len(), Phase::ALL.len(), "{phases:?}");
    assert_eq!(operations.len(), 4, "{operations:?}");
    assert!(told.contains("Retry true") && told.contains("Acknowledge true"), "{told:?}");
    for asked in ["ConfirmAll", "Cancel", "Register", "Force(0)"] {
        for fine in [true, false] {
            assert!(told.contains(&format!("{asked} {fine}")), "{asked} {fine} is not in {told:?}");
        }
    }
}
