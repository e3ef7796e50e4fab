//! The small form of the model, and proof that it sees: with a fault built in it finds the promise that is broken.

mod nested;
mod real_guard;

use tcc_core::Operation;

use crate::explore::{Violation, explore};
use crate::guard::{Flaw, Said};
use crate::model::{Fault, Model};
use crate::shape::{Budget, CHECK, SHAPES, Shape, Size};
use crate::world::{Fact, Slot};

fn shape(name: &str) -> &'static Shape {
    SHAPES.iter().find(|shape| shape.name == name).expect("a configuration")
}

fn holds(name: &str) {
    let shape = shape(name);
    let mut model = Model::new(shape, Fault::None);
    for budget in shape.small {
        let found = explore(&mut model, *budget);
        assert!(found.states > 10_000, "{} states", found.states);
        if let Some(Violation { broken, story }) = found.violation {
            panic!("{} is broken: {}\n{}", broken.promise, broken.how, story.join("\n"));
        }
    }
    let missing: Vec<_> = model.missing(Size::Small).into_iter().map(crate::rare::Rare::text).collect();
    assert!(missing.is_empty(), "never seen: {missing:?}");
}

#[test]
fn every_promise_holds_where_the_initiator_tries() {
    holds("tcc-by-initiator");
}

#[test]
fn every_promise_holds_where_the_coordinator_tries() {
    holds("tcc-by-coordinator");
}

#[test]
fn every_promise_holds_in_a_saga() {
    holds("saga");
}

#[test]
fn every_promise_holds_in_a_saga_whose_steps_run_side_by_side() {
    holds("saga-concurrent");
}

#[test]
fn every_promise_holds_in_a_saga_that_is_a_graph() {
    holds("saga-graph");
}

#[test]
fn every_promise_holds_where_there_is_no_way_back() {
    holds("forward-only");
}

#[test]
fn every_promise_holds_for_a_message() {
    holds("message");
}

#[test]
fn every_promise_holds_for_a_message_to_several() {
    holds("message-to-several");
}

#[test]
fn every_promise_holds_for_a_notification() {
    holds("notification");
}

#[test]
fn every_promise_holds_around_a_pivot() {
    holds("pivot");
}

#[test]
fn every_promise_holds_where_shapes_are_mixed() {
    holds("mixed");
}

fn finds(fault: Fault, name: &str, budget: Budget) -> Violation {
    let mut model = Model::new(shape(name), fault);
    explore(&mut model, budget).violation.unwrap_or_else(|| panic!("{fault:?} is not found in {name}"))
}

const NO_FAULTS: Budget = Budget { losses: 0, crashes: 0 };
const ONE_LOSS: Budget = Budget { losses: 1, crashes: 0 };
const ONE_CRASH: Budget = Budget { losses: 0, crashes: 1 };

#[test]
fn every_seeded_fault_is_found() {
    let table = [
        (Fault::ActsOnLost, "tcc-by-coordinator", NO_FAULTS, "C2"),
        (Fault::TellsUnsaved, "tcc-by-initiator", NO_FAULTS, "C3"),
        (Fault::GuessesDone, "tcc-by-coordinator", ONE_LOSS, "C4"),
        (Fault::BlindStore, "tcc-by-coordinator", NO_FAULTS, "C1"),
        (Fault::ActsOnUnknown, "saga", ONE_CRASH, "C2"),
        (Fault::NoClaims, "message", ONE_CRASH, "C9"),
        (Fault::Guard(Flaw::NoTombstone), "tcc-by-coordinator", NO_FAULTS, "P4"),
        (Fault::Guard(Flaw::RunsTwice), "tcc-by-coordinator", NO_FAULTS, "P2"),
        (Fault::Guard(Flaw::ConfirmsUntried), "tcc-by-coordinator", NO_FAULTS, "P6"),
    ];
    assert_eq!(table.len(), Fault::ALL.len());
    for (fault, name, budget, promise) in table {
        let Violation { broken, story } = finds(fault, name, budget);
        assert_eq!(broken.promise, promise, "{fault:?}: {}\n{}", broken.how, story.join("\n"));
    }
}

#[test]
fn a_violation_comes_with_a_shortest_story() {
    let found = finds(Fault::GuessesDone, "tcc-by-coordinator", ONE_LOSS);
    assert_eq!(found.broken.how, "a counts as tried, and its participant says None");
    assert_eq!(
        found.story,
        [
            "  1. a node follows the begin, and the initiator hears it; the store holds Trying",
            "  2. node 1 claims the transaction; node 1 holds Trying",
            "  3. node 1 calls a",
            "  4. node 1 waits no longer for a; node 1 holds Trying",
            "  5. node 1 writes back what it holds",
        ]
    );
}

#[test]
fn facts_and_slots_come_out_as_they_went_in() {
    for operation in [Operation::Try, Operation::Confirm, Operation::Cancel, Operation::Check] {
        assert_eq!(Slot::called(operation).operation(), Some(operation));
        for said in [Said::Done, Said::Pending, Said::Refused, Said::Nothing, Said::Alarm] {
            for place in 0..=CHECK {
                assert_eq!(Fact::replied(place, operation, said).reply(), Some((place, operation, said)));
            }
        }
    }
    assert_eq!(Fact::EXPIRED.reply(), None);
}
