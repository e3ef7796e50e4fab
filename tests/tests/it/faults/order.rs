//! F25: requests that are held back on their way and arrive after what was sent later.

use std::time::Duration;

use serde_json::json;
use tcc_client::Decision::{self, Cancel, Confirm};
use tcc_client::{Gid, RunError, Stop, Wait};
use tcc_tests::{Fault, Times};

use crate::transfer::{ByTheCoordinator, ByTheInitiator, Transfer, Tried};
use crate::world::{LONG, World, eventually};

/// The first call of its kind arrives when a later one was answered and all is over.
async fn an_old_call(operation: &str, tried: Tried, decision: Decision, status: u16) {
    let world = World::new().await;
    let proxy = &world.banks[0].proxy;
    let ending = format!("/{operation}");
    proxy.inflict(Fault::Hold, Times::Once, "POST", &ending);
    let transfer = Transfer::new(tried);
    let transfer = if decision == Cancel { transfer.refused() } else { transfer };
    transfer.ends(&world, decision).await;
    let before = proxy.exchanges().len();
    assert_eq!((proxy.inflicted(), proxy.under_way()), (vec![1], 1), "it is held");
    proxy.release();
    world.silence().await;
    let late = proxy.exchanges().split_off(before);
    let late: Vec<_> = late.iter().map(|call| (&*call.request, call.status)).collect();
    assert_eq!(late, [(&*format!("POST /account{ending}"), Some(status))]);
    world.balance();
}

#[tokio::test]
async fn f25_an_old_try_arrives_after_the_confirm() {
    an_old_call("try", ByTheCoordinator, Confirm, 200).await;
}

#[tokio::test]
async fn f25_an_old_try_of_the_initiator_arrives_after_the_confirm() {
    an_old_call("try", ByTheInitiator, Confirm, 200).await;
}

#[tokio::test]
async fn f25_a_try_arrives_after_its_cancel() {
    an_old_call("try", ByTheCoordinator, Cancel, 409).await;
}

#[tokio::test]
async fn f25_an_old_confirm_arrives_after_the_new_one() {
    an_old_call("confirm", ByTheCoordinator, Confirm, 200).await;
}

#[tokio::test]
async fn f25_an_old_cancel_arrives_after_the_new_one() {
    an_old_call("cancel", ByTheCoordinator, Cancel, 200).await;
}

#[tokio::test]
async fn f25_an_old_begin_arrives_after_the_end() {
    let world = World::new().await;
    let proxy = &world.coordinator.proxy;
    proxy.inflict(Fault::Hold, Times::Once, "POST", "/transactions");
    let transfer = Transfer::new(ByTheCoordinator);
    let client = world.coordinator.client_that_waits(Duration::from_millis(500));
    client.submit(transfer.submission(&world.banks).wait(Wait::Stored)).await.expect("the second arrives");
    world.ends(&transfer.gid, Confirm).await;
    let calls = || world.banks.each_ref().map(|bank| bank.proxy.exchanges().len());
    let before = calls();
    assert_eq!((proxy.inflicted(), proxy.under_way()), (vec![1], 1), "it is held");
    proxy.release();
    eventually("its arrival", async || (proxy.under_way() == 0).then_some(())).await;
    let late = proxy.exchanges().pop().map(|call| (call.request, call.status));
    assert_eq!(late, Some(("POST /v1/transactions".to_owned(), Some(200))), "it is found, and not begun");
    assert_eq!(calls(), before, "nobody is called for it");
    world.balance();
}

/// What an initiator sends last is overtaken by a cancel from elsewhere.
async fn overtaken_by_a_cancel(ending: &str) {
    let world = World::new().await;
    let proxy = &world.coordinator.proxy;
    proxy.inflict(Fault::Hold, Times::Once, "POST", ending);
    let transfer = Transfer::new(ByTheInitiator);
    let [from, to] = transfer.branches(&world.banks);
    let client = world.coordinator.client_that_waits(LONG);
    let run = client.transaction(transfer.gid.parse().expect("a gid")).timeout(LONG).run(async |tcc| {
        tcc.try_(from).await?;
        tcc.try_(to).await?;
        Ok(())
    });
    let overtake = async {
        eventually("the request on its way", async || (proxy.inflicted() == [1]).then_some(())).await;
        let path = format!("/{}/cancel", transfer.gid);
        assert_eq!(world.coordinator.ask("POST", &path, Some(json!({}))).await.0, 200);
        proxy.release();
    };
    let (ran, ()) = tokio::join!(run, overtake);
    assert!(matches!(ran, Err(RunError::Cancelled(Stop::Decided { .. }) | RunError::Decided(_))), "{ran:?}");
    world.ends(&transfer.gid, Cancel).await;
}

#[tokio::test]
async fn f25_a_register_arrives_after_the_cancel() {
    overtaken_by_a_cancel("/branches").await;
}

#[tokio::test]
async fn f25_a_confirm_arrives_after_the_cancel() {
    overtaken_by_a_cancel("/confirm").await;
}

#[tokio::test]
async fn f25_a_cancel_arrives_after_the_confirm() {
    let world = World::new().await;
    let proxy = &world.coordinator.proxy;
    proxy.inflict(Fault::Hold, Times::Once, "POST", "/cancel");
    let transfer = Transfer::new(ByTheInitiator);
    let client = world.coordinator.client_that_waits(LONG);
    let gid: Gid = transfer.gid.parse().expect("a gid");
    let overtake = async {
        eventually("the cancel on its way", async || (proxy.inflicted() == [1]).then_some(())).await;
        assert_eq!(transfer.initiator(&world).run().await, Confirm);
        proxy.release();
    };
    let (cancelled, ()) = tokio::join!(client.cancel(&gid, "overtaken"), overtake);
    let told = cancelled.expect_err("it is confirmed");
    assert_eq!(told.problem().map(|problem| &*problem.code), Some("already-confirmed"));
    transfer.ended(&world, Confirm).await;
}
