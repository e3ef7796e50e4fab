//! The coordinator killed before and after each of its durable writes, and what the initiator finds out then by
//! repeating itself.

mod message;
mod saga;

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tcc_client::Decision::{self, Cancel, Confirm};
use tcc_client::{Branch, Submission, Wait, new_gid};
use tcc_core::store::Step;
use tcc_server::crash::Site;
use tokio::process::Command;

use crate::transfer::{ByTheCoordinator, ByTheInitiator, Transfer, Tried};
use crate::world::{World, eventually};

/// Has a transfer done, in the midst of which the coordinator ends itself, and is started again.
async fn killed(at: &str, tried: Tried, decision: Decision) {
    let mut world = World::doomed(at).await;
    let transfer = Transfer::new(tried).in_order();
    let transfer = if decision == Cancel { transfer.refused() } else { transfer };
    let initiator = transfer.initiator(&world);
    let (decided, ()) = tokio::join!(initiator.run(), world.coordinator.dies_and_comes_back());
    assert_eq!(decided, decision);
    transfer.ended(&world, decision).await;
}

/// What a cell is called, before the word of what strikes: of every way through a shape, confirmed and then cancelled.
const TCC: &[&str] = &[
    "coordinator_tried_confirm_path_",
    "coordinator_tried_cancel_path_",
    "initiator_tried_confirm_path_",
    "initiator_tried_cancel_path_",
];
const SAGA: &[&str] = &["saga::confirm_path_", "saga::cancel_path_"];
const MESSAGE: &[&str] = &["message::confirm_path_", "message::cancel_path_"];

#[tokio::test]
async fn every_site_has_its_cells() {
    let list =
        Command::new(std::env::current_exe().expect("a path")).arg("--list").stdin(Stdio::null()).output();
    let list = String::from_utf8(list.await.expect("it lists its tests").stdout).expect("text");
    let cells: Vec<&str> =
        list.lines().filter_map(|line| line.strip_prefix("crash::")?.strip_suffix(": test")).collect();
    for site in Site::ALL {
        let paths: &[&str] = match site {
            Site::Step(step) => match step {
                Step::Begin | Step::Decision => &[TCC, SAGA, MESSAGE].concat(),
                // Nothing is called that another waits for.
                Step::Progress => &[TCC, SAGA, &MESSAGE[..1]].concat(),
                // Where nothing is left to call the decision's write is the end.
                Step::End => &[TCC, &SAGA[1..], &MESSAGE[..1]].concat(),
            },
            Site::Purge => &[""],
        };
        for (path, moment) in paths.iter().flat_map(|path| [(path, "before"), (path, "after")]) {
            let cell = format!("{path}killed_{moment}_the_{}", site.word());
            assert!(cells.contains(&&*cell), "{cell} is missing");
        }
    }
}

/// Without any try the begin's write has the decision in it.
async fn killed_at_a_begin_that_is_a_decision(at: &str) {
    let mut world = World::doomed(at).await;
    let gid = new_gid();
    let message =
        Branch::new("message").confirm(format!("http://{}/account/confirm", world.banks[0].proxy.address()));
    let submission = Submission::new(gid.clone()).branch(message.no_cancel());
    let client = world.coordinator.client();
    let (standing, ()) =
        tokio::join!(client.submit(submission.wait(Wait::Decision)), world.coordinator.dies_and_comes_back());
    assert_eq!(standing.expect("an answer").decision(), Some(Confirm));
    let (status, view) = world.coordinator.view(gid.as_str()).await;
    assert_eq!((status, &view["decision"]), (200, &json!("confirm")));
}

#[tokio::test]
async fn killed_before_the_begin_of_what_is_decided_at_once() {
    killed_at_a_begin_that_is_a_decision("begin:before").await;
}

#[tokio::test]
async fn killed_after_the_begin_of_what_is_decided_at_once() {
    killed_at_a_begin_that_is_a_decision("begin:after").await;
}

/// A cancel of an unknown gid begins a transaction that is cancelled.
async fn killed_at_the_cancel_of_an_unknown_gid(at: &str) {
    let mut world = World::doomed(at).await;
    let transfer = Transfer::new(ByTheCoordinator);
    let client = world.coordinator.client();
    let gid = transfer.gid.parse().expect("a gid");
    let (standing, ()) =
        tokio::join!(client.cancel(&gid, "changed my mind"), world.coordinator.dies_and_comes_back());
    assert_eq!(standing.expect("an answer").decision(), Some(Cancel));
    let late = client.submit(transfer.submission(&world.banks)).await.expect_err("it was cancelled before");
    assert_eq!(late.problem().map(|problem| &*problem.code), Some("already-cancelled"));
    world.ends(&transfer.gid, Cancel).await;
}

#[tokio::test]
async fn killed_before_the_cancel_of_an_unknown_gid() {
    killed_at_the_cancel_of_an_unknown_gid("begin:before").await;
}

#[tokio::test]
async fn killed_after_the_cancel_of_an_unknown_gid() {
    killed_at_the_cancel_of_an_unknown_gid("begin:after").await;
}

/// The decision is the deadline's, since the second bank never answers its try.
async fn killed_at_the_decision_of_the_deadline(at: &str) {
    let mut world = World::doomed(at).await;
    let transfer =
        Transfer::new(ByTheCoordinator).for_ever(1, "try", "hang").deadline(Duration::from_millis(800));
    let initiator = transfer.initiator(&world);
    let (decided, ()) = tokio::join!(initiator.run(), world.coordinator.dies_and_comes_back());
    assert_eq!(decided, Cancel);
    transfer.ended(&world, Cancel).await;
    let (_, view) = world.coordinator.view(&transfer.gid).await;
    assert_eq!(view["reason"], json!("the deadline passed"), "{view}");
}

#[tokio::test]
async fn coordinator_tried_killed_before_the_decision_of_the_deadline() {
    killed_at_the_decision_of_the_deadline("decision:before").await;
}

#[tokio::test]
async fn coordinator_tried_killed_after_the_decision_of_the_deadline() {
    killed_at_the_decision_of_the_deadline("decision:after").await;
}

/// The decision is the deadline's, since the initiator is gone after it registered a branch.
async fn killed_at_the_decision_about_an_initiator_that_is_gone(at: &str) {
    let mut world = World::doomed(at).await;
    let branches = json!([{"id": "from", "at": world.banks[0].at(), "payload": {"amount": -10}}]);
    let begin = json!({"gid": "g", "decider": "initiator", "timeout_ms": 300, "branches": branches});
    assert_eq!(world.coordinator.ask("POST", "", Some(begin)).await.0, 201);
    world.coordinator.dies_and_comes_back().await;
    world.ends("g", Cancel).await;
    let (_, view) = world.coordinator.view("g").await;
    assert_eq!(view["reason"], json!("the deadline passed"), "{view}");
}

#[tokio::test]
async fn initiator_tried_killed_before_the_decision_of_the_deadline() {
    killed_at_the_decision_about_an_initiator_that_is_gone("decision:before").await;
}

#[tokio::test]
async fn initiator_tried_killed_after_the_decision_of_the_deadline() {
    killed_at_the_decision_about_an_initiator_that_is_gone("decision:after").await;
}

/// What ended long ago is purged, or found purged, after a restart, and still remembered.
async fn killed_at_the_purge(at: &str) {
    let mut world = World::with(&["--retention", "1s"]).await;
    let transfers = [Transfer::new(ByTheCoordinator), Transfer::new(ByTheCoordinator).refused()];
    for (transfer, decision) in transfers.iter().zip([Confirm, Cancel]) {
        transfer.ends(&world, decision).await;
    }
    eventually("the end of the retention", async || {
        let (_, view) = world.coordinator.view(&transfers[1].gid).await;
        (view["age_ms"].as_u64()? > 1500).then_some(())
    })
    .await;
    world.coordinator.kill().await;
    // It purges as soon as it starts, perhaps before it listens.
    world.coordinator.dies_at_its_start(at).await;
    world.coordinator.start().await;
    for (transfer, decision) in transfers.iter().zip([Confirm, Cancel]) {
        eventually("the purge", async || {
            let (_, view) = world.coordinator.view(&transfer.gid).await;
            assert_eq!(view["decision"], json!(decision.as_str()), "{view}");
            (view["purged"] == json!(true)).then_some(())
        })
        .await;
        assert_eq!(transfer.initiator(&world).run().await, decision, "a repeat is told, and starts nothing");
    }
    world.balance();
}

#[tokio::test]
async fn killed_before_the_purge() {
    killed_at_the_purge("purge:before").await;
}

#[tokio::test]
async fn killed_after_the_purge() {
    killed_at_the_purge("purge:after").await;
}

// The coordinator's progress, with the branches in order: the first try is done; after the decision, one of the two
// confirms or cancels is.

#[tokio::test]
async fn coordinator_tried_confirm_path_killed_before_the_begin() {
    killed("begin:before", ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_killed_after_the_begin() {
    killed("begin:after", ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_killed_before_the_progress() {
    killed("progress:before", ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_killed_after_the_progress() {
    killed("progress:after", ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_killed_before_the_second_progress() {
    killed("progress:before:2", ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_killed_after_the_second_progress() {
    killed("progress:after:2", ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_killed_before_the_decision() {
    killed("decision:before", ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_killed_after_the_decision() {
    killed("decision:after", ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_killed_before_the_end() {
    killed("end:before", ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_killed_after_the_end() {
    killed("end:after", ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_killed_before_the_begin() {
    killed("begin:before", ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_killed_after_the_begin() {
    killed("begin:after", ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_killed_before_the_progress() {
    killed("progress:before", ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_killed_after_the_progress() {
    killed("progress:after", ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_killed_before_the_second_progress() {
    killed("progress:before:2", ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_killed_after_the_second_progress() {
    killed("progress:after:2", ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_killed_before_the_decision() {
    killed("decision:before", ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_killed_after_the_decision() {
    killed("decision:after", ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_killed_before_the_end() {
    killed("end:before", ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_killed_after_the_end() {
    killed("end:after", ByTheCoordinator, Cancel).await;
}

// The initiator's progress, with the branches in order: the first is registered, the second is; after the decision, one
// of the two confirms or cancels is done.

#[tokio::test]
async fn initiator_tried_confirm_path_killed_before_the_begin() {
    killed("begin:before", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_killed_after_the_begin() {
    killed("begin:after", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_killed_before_the_progress() {
    killed("progress:before", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_killed_after_the_progress() {
    killed("progress:after", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_killed_before_the_second_progress() {
    killed("progress:before:2", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_killed_after_the_second_progress() {
    killed("progress:after:2", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_killed_before_the_third_progress() {
    killed("progress:before:3", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_killed_after_the_third_progress() {
    killed("progress:after:3", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_killed_before_the_decision() {
    killed("decision:before", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_killed_after_the_decision() {
    killed("decision:after", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_killed_before_the_end() {
    killed("end:before", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_killed_after_the_end() {
    killed("end:after", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_killed_before_the_begin() {
    killed("begin:before", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_killed_after_the_begin() {
    killed("begin:after", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_killed_before_the_progress() {
    killed("progress:before", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_killed_after_the_progress() {
    killed("progress:after", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_killed_before_the_second_progress() {
    killed("progress:before:2", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_killed_after_the_second_progress() {
    killed("progress:after:2", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_killed_before_the_third_progress() {
    killed("progress:before:3", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_killed_after_the_third_progress() {
    killed("progress:after:3", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_killed_before_the_decision() {
    killed("decision:before", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_killed_after_the_decision() {
    killed("decision:after", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_killed_before_the_end() {
    killed("end:before", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_killed_after_the_end() {
    killed("end:after", ByTheInitiator, Cancel).await;
}
