//! What is wrong is seen: a torture that cannot fail would prove nothing.

use rusqlite::Connection;
use serde_json::json;
use tcc_torture::plan::Plan;
use tcc_torture::shape::{Outcome, Shape};
use tcc_torture::world::World;

use crate::program;

/// A world in which one transaction of this shape has ended so, and its view.
async fn world(shape: Shape, outcome: Outcome) -> (World, Plan, serde_json::Value) {
    let mut world = World::new(program().to_owned(), &[]).await.expect("a world");
    world.coordinator.start(None, &[]).await.expect("it starts");
    let plan = Plan::new(shape, outcome, "g".to_owned(), world.services());
    world.initiator.play(&plan).await.expect("it is done");
    let view = world.initiator.ended(&plan).await.expect("it ends");
    (world, plan, view)
}

/// Does this to the books of the first service, and returns what the audit says then.
async fn after(shape: Shape, outcome: Outcome, spoil: &str) -> Result<(), String> {
    let (mut world, plan, view) = world(shape, outcome).await;
    let books = Connection::open(world.hosts[0].file()).expect("books");
    books.busy_timeout(std::time::Duration::from_secs(20)).expect("a time-out");
    books.execute_batch(spoil).expect("they can be spoilt");
    world.audit.check(&[(&plan, view)], false)
}

#[tokio::test]
async fn books_that_are_in_order_pass() {
    assert_eq!(after(Shape::Tcc, Outcome::Confirmed, "").await, Ok(()));
    assert_eq!(after(Shape::SagaByInitiator, Outcome::Cancelled, "").await, Ok(()));
}

#[tokio::test]
async fn an_effect_that_happened_twice_is_seen() {
    let spoil = "INSERT INTO ledger (gid, branch, operation) VALUES ('g', 'a', 'confirm')";
    let why = after(Shape::Tcc, Outcome::Confirmed, spoil).await.expect_err("it is wrong");
    assert!(why.contains("a had its confirm 2 times"), "{why}");
}

#[tokio::test]
async fn an_effect_that_never_happened_is_seen() {
    let spoil = "DELETE FROM ledger WHERE branch = 'a' AND operation = 'cancel'";
    let why = after(Shape::Tcc, Outcome::Cancelled, spoil).await.expect_err("it is wrong");
    assert!(why.contains("a had its cancel 0 times"), "{why}");
}

#[tokio::test]
async fn what_is_still_held_is_seen() {
    let spoil = "UPDATE books SET frozen = frozen + 1, available = available - 1";
    let why = after(Shape::Tcc, Outcome::Confirmed, spoil).await.expect_err("it is wrong");
    assert!(why.contains("frozen: 1"), "{why}");
}

#[tokio::test]
async fn a_guard_that_says_otherwise_is_seen() {
    let spoil = "UPDATE tcc_guard SET state = 'cancelled' WHERE branch = 'a'";
    let why = after(Shape::Tcc, Outcome::Confirmed, spoil).await.expect_err("it is wrong");
    assert!(why.contains("the guard of a"), "{why}");
}

#[tokio::test]
async fn an_effect_of_what_nobody_began_is_seen() {
    let spoil = "INSERT INTO ledger (gid, branch, operation) VALUES ('h', 'a', 'try')";
    let why = after(Shape::Tcc, Outcome::Confirmed, spoil).await.expect_err("it is wrong");
    assert!(why.contains("h is over, or was never begun"), "{why}");
}

/// A log that was lost: what was acknowledged is not known any more.
#[tokio::test]
async fn a_log_that_was_lost_is_seen() {
    let (mut world, plan, _) = world(Shape::Tcc, Outcome::Confirmed).await;
    world.coordinator.kill().await;
    world.coordinator.forget();
    world.coordinator.start(None, &[]).await.expect("it starts");
    assert_eq!(world.initiator.view(&plan.gid).await.expect("an answer").0, 404);
    assert_eq!(world.initiator.answers().contradictions().len(), 1);
}

/// An end other than the one that was to be is seen, however well the books agree with it.
#[tokio::test]
async fn another_decision_is_seen() {
    let (mut world, plan, mut view) = world(Shape::Tcc, Outcome::Confirmed).await;
    view["phase"] = json!("Cancelled");
    view["decision"] = json!("cancel");
    let why = world.audit.check(&[(&plan, view)], false).expect_err("it is wrong");
    assert!(why.contains("it should not have ended so"), "{why}");
}
