//! A create that arrives after its cancel, and a branch that was registered and never tried.

use std::time::Duration;

use serde_json::json;
use tcc_client::Decision::{Cancel, Confirm};
use tcc_client::{Gid, Phase, RunError, Stop};
use tcc_tests::{Fault, Times};

use crate::transfer::{ByTheCoordinator, ByTheInitiator, Transfer, Tried};
use crate::world::{LONG, World, eventually};

#[tokio::test]
async fn coordinator_tried_cancel_path_a_create_that_arrives_after_its_cancel_starts_nothing() {
    let world = World::new().await;
    let transfer = Transfer::new(ByTheCoordinator);
    let client = world.coordinator.client();
    let slow = Fault::Delay(Duration::from_millis(500));
    world.coordinator.proxy.inflict(slow, Times::Once, "POST", "/transactions");
    let gid = transfer.gid.parse().expect("a gid");
    let (begun, cancelled) = tokio::join!(client.submit(transfer.submission(&world.banks)), async {
        eventually("the begin on its way", async || (world.coordinator.proxy.under_way() > 0).then_some(()))
            .await;
        client.cancel(&gid, "it took too long").await
    });
    assert_eq!(cancelled.expect("an answer").phase(), Phase::Cancelled);
    let refused = begun.expect_err("the cancel came first");
    assert_eq!(refused.problem().map(|problem| &*problem.code), Some("already-cancelled"));
    nothing_was_called(&world);
    world.ends(&transfer.gid, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_create_that_arrives_after_its_cancel_runs_nothing() {
    let world = World::new().await;
    let client = world.coordinator.client();
    let transfer = Transfer::new(ByTheInitiator);
    let gid: Gid = transfer.gid.parse().expect("a gid");
    client.cancel(&gid, "an earlier run was dropped").await.expect("an answer");
    let run =
        client.transaction(gid).run(async |_| -> Result<(), _> { unreachable!("it was cancelled before") });
    assert!(matches!(run.await, Err(RunError::Decided(Phase::Cancelled))));
    nothing_was_called(&world);
    world.ends(&transfer.gid, Cancel).await;
}

async fn created_again_after_its_end(tried: Tried) {
    let world = World::new().await;
    let transfer = Transfer::new(tried);
    transfer.ends(&world, Confirm).await;
    let calls = || world.banks.each_ref().map(|bank| bank.proxy.exchanges().len());
    let before = calls();
    transfer.ends(&world, Confirm).await;
    assert_eq!(calls(), before);
}

#[tokio::test]
async fn coordinator_tried_confirm_path_a_create_that_arrives_after_the_end_starts_nothing() {
    created_again_after_its_end(ByTheCoordinator).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_a_create_that_arrives_after_the_end_runs_nothing() {
    created_again_after_its_end(ByTheInitiator).await;
}

#[tokio::test]
async fn cancel_path_a_branch_that_was_registered_and_never_tried_is_cancelled_for_nothing() {
    let world = World::new().await;
    let client = world.coordinator.client();
    let transfer = Transfer::new(ByTheInitiator);
    let [from, to] = transfer.branches(&world.banks);
    let run = client.transaction(transfer.gid.parse().expect("a gid")).run(async |tcc| {
        tcc.try_(from).await?;
        tcc.register(to).await?;
        Ok(())
    });
    // Its confirm is told that not all are tried, and it cancels.
    let stopped = run.await.expect_err("one branch was never tried");
    assert!(matches!(stopped, RunError::Cancelled(Stop::NotAllTried(_))), "{stopped:?}");
    world.ends(&transfer.gid, Cancel).await;
    assert_eq!(
        world.states()[&transfer.gid],
        ["cancelled", "cancelled"],
        "the second bars a try that comes late"
    );
}

#[tokio::test]
async fn cancel_path_a_branch_whose_initiator_is_gone_is_cancelled_by_the_deadline() {
    let world = World::new().await;
    let coordinator = &world.coordinator;
    let branch = json!({"id": "to", "at": world.banks[1].at(), "payload": {"amount": 10}});
    let begin = json!({"gid": "g", "decider": "initiator", "timeout_ms": 500});
    assert_eq!(coordinator.ask("POST", "", Some(begin)).await.0, 201);
    let register = json!({"branches": [branch]});
    assert_eq!(coordinator.ask("POST", "/g/branches", Some(register)).await.0, 200);
    world.ends("g", Cancel).await;
    assert_eq!(world.states()["g"], ["cancelled"], "it bars a try that comes late");
    let (status, late) = coordinator.ask("POST", "/g/confirm", Some(json!({"tried": ["to"]}))).await;
    assert_eq!((status, &late["code"]), (409, &json!("already-cancelled")), "{late}");
}

#[tokio::test]
async fn confirm_path_a_branch_that_was_registered_is_tried_by_the_initiators_successor() {
    let world = World::new().await;
    let transfer = Transfer::new(ByTheInitiator);
    let [from, to] = transfer.branches(&world.banks);
    let first = world.coordinator.client();
    let gid: Gid = transfer.gid.parse().expect("a gid");
    let run = first.transaction(gid.clone()).timeout(LONG).run(async |tcc| {
        tcc.try_(from).await?;
        tcc.register(to).await?;
        // As if its process ended here: nothing more is asked of the coordinator.
        let successor = transfer.initiator(&world);
        assert_eq!(successor.run().await, Confirm);
        Ok(())
    });
    let ended = run.await;
    assert!(matches!(ended, Err(RunError::Decided(Phase::Confirmed)) | Ok(())), "{ended:?}");
    transfer.ended(&world, Confirm).await;
}

fn nothing_was_called(world: &World) {
    for bank in &world.banks {
        assert!(bank.proxy.exchanges().is_empty());
        assert!(bank.guard().is_empty());
    }
}
