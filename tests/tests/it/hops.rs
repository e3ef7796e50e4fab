//! Requests and replies that are lost, and requests that are doubled, on each hop, on the way to either decision.

use tcc_client::Decision::{self, Cancel, Confirm};
use tcc_tests::{Fault, Times};

use crate::transfer::{ByTheCoordinator, ByTheInitiator, Transfer, Tried};
use crate::world::World;

/// Where a request goes to.
#[derive(Clone, Copy)]
enum To {
    TheCoordinator,
    /// The first of them.
    ABank,
}

/// One message is lost, the first of its kind.
async fn lost(fault: Fault, to: To, request: &str, tried: Tried, decision: Decision) {
    let world = World::new().await;
    let proxy = match to {
        To::TheCoordinator => &world.coordinator.proxy,
        To::ABank => &*world.banks[0].proxy,
    };
    let (method, ending) = request.split_once(' ').expect("a method and the end of a path");
    proxy.inflict(fault, Times::Once, method, ending);
    transfer(tried, decision).ends(&world, decision).await;
    assert_eq!(proxy.inflicted(), [1], "it was lost");
}

/// Every request on every hop comes twice.
async fn doubled(fault: Fault, tried: Tried, decision: Decision) {
    let world = World::new().await;
    let banks = world.banks.iter().map(|bank| &*bank.proxy);
    let proxies: Vec<_> = banks.chain([&world.coordinator.proxy]).collect();
    for proxy in &proxies {
        proxy.inflict(fault, Times::Always, "POST", "");
        proxy.inflict(fault, Times::Always, "GET", "");
    }
    transfer(tried, decision).ends(&world, decision).await;
    for proxy in proxies {
        let twice = proxy.inflicted().iter().sum::<usize>();
        assert!(twice > 0 && proxy.exchanges().len() >= 2 * twice, "{:?}", proxy.exchanges());
    }
}

fn transfer(tried: Tried, decision: Decision) -> Transfer {
    let transfer = Transfer::new(tried);
    if decision == Cancel { transfer.refused() } else { transfer }
}

#[tokio::test]
async fn coordinator_tried_confirm_path_the_reply_of_the_begin_is_lost() {
    lost(Fault::LoseReply, To::TheCoordinator, "POST /transactions", ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_the_request_of_the_begin_is_lost() {
    lost(Fault::LoseRequest, To::TheCoordinator, "POST /transactions", ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_the_reply_of_a_try_is_lost() {
    lost(Fault::LoseReply, To::ABank, "POST /try", ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_the_request_of_a_try_is_lost() {
    lost(Fault::LoseRequest, To::ABank, "POST /try", ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_the_reply_of_a_participants_confirm_is_lost() {
    lost(Fault::LoseReply, To::ABank, "POST /confirm", ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_the_request_of_a_participants_confirm_is_lost() {
    lost(Fault::LoseRequest, To::ABank, "POST /confirm", ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_every_request_is_sent_again_after_its_answer() {
    doubled(Fault::TwiceInTurn, ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_every_request_comes_twice_at_once() {
    doubled(Fault::TwiceAtOnce, ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_the_reply_of_the_begin_is_lost() {
    lost(Fault::LoseReply, To::TheCoordinator, "POST /transactions", ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_the_request_of_the_begin_is_lost() {
    lost(Fault::LoseRequest, To::TheCoordinator, "POST /transactions", ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_the_reply_of_a_try_is_lost() {
    lost(Fault::LoseReply, To::ABank, "POST /try", ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_the_request_of_a_try_is_lost() {
    lost(Fault::LoseRequest, To::ABank, "POST /try", ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_the_reply_of_a_participants_cancel_is_lost() {
    lost(Fault::LoseReply, To::ABank, "POST /cancel", ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_the_request_of_a_participants_cancel_is_lost() {
    lost(Fault::LoseRequest, To::ABank, "POST /cancel", ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_every_request_is_sent_again_after_its_answer() {
    doubled(Fault::TwiceInTurn, ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_every_request_comes_twice_at_once() {
    doubled(Fault::TwiceAtOnce, ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_the_reply_of_the_begin_is_lost() {
    lost(Fault::LoseReply, To::TheCoordinator, "POST /transactions", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_the_request_of_the_begin_is_lost() {
    lost(Fault::LoseRequest, To::TheCoordinator, "POST /transactions", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_the_reply_of_the_register_is_lost() {
    lost(Fault::LoseReply, To::TheCoordinator, "POST /branches", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_the_request_of_the_register_is_lost() {
    lost(Fault::LoseRequest, To::TheCoordinator, "POST /branches", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_the_reply_of_the_confirm_is_lost() {
    lost(Fault::LoseReply, To::TheCoordinator, "POST /confirm", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_the_request_of_the_confirm_is_lost() {
    lost(Fault::LoseRequest, To::TheCoordinator, "POST /confirm", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_the_reply_of_the_status_is_lost() {
    lost(Fault::LoseReply, To::TheCoordinator, "GET ", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_the_request_of_the_status_is_lost() {
    lost(Fault::LoseRequest, To::TheCoordinator, "GET ", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_the_reply_of_a_try_is_lost() {
    lost(Fault::LoseReply, To::ABank, "POST /try", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_the_request_of_a_try_is_lost() {
    lost(Fault::LoseRequest, To::ABank, "POST /try", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_the_reply_of_a_participants_confirm_is_lost() {
    lost(Fault::LoseReply, To::ABank, "POST /confirm", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_the_request_of_a_participants_confirm_is_lost() {
    lost(Fault::LoseRequest, To::ABank, "POST /confirm", ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_every_request_is_sent_again_after_its_answer() {
    doubled(Fault::TwiceInTurn, ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_every_request_comes_twice_at_once() {
    doubled(Fault::TwiceAtOnce, ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_the_reply_of_the_begin_is_lost() {
    lost(Fault::LoseReply, To::TheCoordinator, "POST /transactions", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_the_request_of_the_begin_is_lost() {
    lost(Fault::LoseRequest, To::TheCoordinator, "POST /transactions", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_the_reply_of_the_register_is_lost() {
    lost(Fault::LoseReply, To::TheCoordinator, "POST /branches", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_the_request_of_the_register_is_lost() {
    lost(Fault::LoseRequest, To::TheCoordinator, "POST /branches", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_the_reply_of_the_cancel_is_lost() {
    lost(Fault::LoseReply, To::TheCoordinator, "POST /cancel", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_the_request_of_the_cancel_is_lost() {
    lost(Fault::LoseRequest, To::TheCoordinator, "POST /cancel", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_the_reply_of_the_status_is_lost() {
    lost(Fault::LoseReply, To::TheCoordinator, "GET ", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_the_request_of_the_status_is_lost() {
    lost(Fault::LoseRequest, To::TheCoordinator, "GET ", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_the_reply_of_a_try_is_lost() {
    lost(Fault::LoseReply, To::ABank, "POST /try", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_the_request_of_a_try_is_lost() {
    lost(Fault::LoseRequest, To::ABank, "POST /try", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_the_reply_of_a_participants_cancel_is_lost() {
    lost(Fault::LoseReply, To::ABank, "POST /cancel", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_the_request_of_a_participants_cancel_is_lost() {
    lost(Fault::LoseRequest, To::ABank, "POST /cancel", ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_every_request_is_sent_again_after_its_answer() {
    doubled(Fault::TwiceInTurn, ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_every_request_comes_twice_at_once() {
    doubled(Fault::TwiceAtOnce, ByTheInitiator, Cancel).await;
}
