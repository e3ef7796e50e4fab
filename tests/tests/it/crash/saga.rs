//! A saga of two steps, one after the other: done there and then, or compensated in reverse.
//!
//! Its progress: the first step is done, which frees the second; after the decision to cancel the second is compensated,
//! which frees the first. Once both are done nothing is left to call: the decision's write is the end.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tcc_client::Decision::{self, Cancel, Confirm};
use tcc_client::{Branch, Retry, Submission, Wait, new_gid};

use crate::bank::{Bank, Books, INITIAL};
use crate::world::{AMOUNT, LONG, World};

/// Takes money at the first bank, and puts it into the second, which may refuse.
fn saga(gid: &str, banks: &[Bank; 2], decision: Decision) -> Submission {
    let step = |id: &str, bank: &Bank, amount: i64, faults: serde_json::Value| {
        Branch::step(id, format!("{}/try", bank.at()), format!("{}/cancel", bank.at()))
            .payload(&json!({"amount": amount, "faults": faults}))
            .expect("JSON")
            .retry(Retry::Exponential {
                first: Duration::from_millis(20),
                longest: Duration::from_millis(100),
            })
    };
    let refuses = if decision == Cancel {
        json!([{"on": "try", "what": "refuse", "times": 1_000_000}])
    } else {
        json!([])
    };
    Submission::new(gid.parse().expect("a gid"))
        .branch(step("take", &banks[0], -AMOUNT, json!([])))
        .branch(step("put", &banks[1], AMOUNT, refuses).after("take"))
        .timeout(LONG)
        .wait(Wait::End)
        .at_most(LONG)
}

/// Has a saga done, in the midst of which the coordinator ends itself, and is started again.
async fn killed(at: &str, decision: Decision) {
    let mut world = World::doomed(at).await;
    let gid = new_gid().to_string();
    let (client, saga) = (world.coordinator.client(), saga(&gid, &world.banks, decision));
    let (standing, ()) = tokio::join!(client.submit(saga), world.coordinator.dies_and_comes_back());
    assert_eq!(standing.expect("an answer").decision(), Some(decision));
    ended(&world, &gid, decision).await;
}

/// Every step is done once, or none is.
async fn ended(world: &World, gid: &str, decision: Decision) {
    let view = world.coordinator.end(gid).await;
    assert_eq!(view["decision"], json!(decision.as_str()), "{view}");
    let at = |bank: &Bank| bank.guard().into_iter().map(|((_, branch), state)| (branch, state)).collect();
    let states: [BTreeMap<String, String>; 2] = world.banks.each_ref().map(at);
    let books = world.banks.each_ref().map(Bank::books);
    let untouched = Books { available: INITIAL, frozen: 0, incoming: 0 };
    let only = |branch: &str, state: &str| BTreeMap::from([(branch.to_owned(), state.to_owned())]);
    match decision {
        Confirm => {
            assert_eq!(states, [only("take", "tried"), only("put", "tried")]);
            let taken = Books { available: INITIAL - AMOUNT, frozen: AMOUNT, incoming: 0 };
            let put = Books { available: INITIAL, frozen: 0, incoming: AMOUNT };
            assert_eq!(books, [taken, put]);
        }
        Cancel => {
            assert_eq!(states, [only("take", "cancelled"), only("put", "refused")]);
            assert!(books.iter().all(|books| *books == untouched), "{books:?}");
        }
    }
}

#[tokio::test]
async fn confirm_path_there_is_no_write_after_the_decision() {
    let world = World::doomed("end:before").await;
    let gid = new_gid().to_string();
    let standing = world.coordinator.client().submit(saga(&gid, &world.banks, Confirm)).await;
    assert!(standing.expect("an answer").is_confirmed());
    ended(&world, &gid, Confirm).await;
}

#[tokio::test]
async fn confirm_path_killed_before_the_begin() {
    killed("begin:before", Confirm).await;
}

#[tokio::test]
async fn confirm_path_killed_after_the_begin() {
    killed("begin:after", Confirm).await;
}

#[tokio::test]
async fn confirm_path_killed_before_the_progress() {
    killed("progress:before", Confirm).await;
}

#[tokio::test]
async fn confirm_path_killed_after_the_progress() {
    killed("progress:after", Confirm).await;
}

#[tokio::test]
async fn confirm_path_killed_before_the_decision() {
    killed("decision:before", Confirm).await;
}

#[tokio::test]
async fn confirm_path_killed_after_the_decision() {
    killed("decision:after", Confirm).await;
}

#[tokio::test]
async fn cancel_path_killed_before_the_begin() {
    killed("begin:before", Cancel).await;
}

#[tokio::test]
async fn cancel_path_killed_after_the_begin() {
    killed("begin:after", Cancel).await;
}

#[tokio::test]
async fn cancel_path_killed_before_the_progress() {
    killed("progress:before", Cancel).await;
}

#[tokio::test]
async fn cancel_path_killed_after_the_progress() {
    killed("progress:after", Cancel).await;
}

#[tokio::test]
async fn cancel_path_killed_before_the_second_progress() {
    killed("progress:before:2", Cancel).await;
}

#[tokio::test]
async fn cancel_path_killed_after_the_second_progress() {
    killed("progress:after:2", Cancel).await;
}

#[tokio::test]
async fn cancel_path_killed_before_the_decision() {
    killed("decision:before", Cancel).await;
}

#[tokio::test]
async fn cancel_path_killed_after_the_decision() {
    killed("decision:after", Cancel).await;
}

#[tokio::test]
async fn cancel_path_killed_before_the_end() {
    killed("end:before", Cancel).await;
}

#[tokio::test]
async fn cancel_path_killed_after_the_end() {
    killed("end:after", Cancel).await;
}
