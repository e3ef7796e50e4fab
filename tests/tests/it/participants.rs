//! Participants that refuse, time out, answer too late, fail, die and are down, at each of their operations, on the way
//! to either decision.

use std::time::Duration;

use serde_json::json;
use tcc_client::Decision::{self, Cancel, Confirm};
use tcc_tests::{Fault, Times};

use crate::transfer::{ByTheCoordinator, ByTheInitiator, Transfer, Tried};
use crate::world::{World, eventually};

/// Shorter than what a participant needs that never answers, longer than anything else takes.
const SHORT_DEADLINE: Duration = Duration::from_millis(1500);

/// Something goes wrong once in the first bank, and the transfer is confirmed.
async fn confirmed_despite(tried: Tried, operation: &str, what: &str) {
    let world = World::new().await;
    Transfer::new(tried).once(0, operation, what).ends(&world, Confirm).await;
    assert_eq!(world.banks[0].deaths(), usize::from(what.starts_with("die")));
}

/// Something goes wrong once in the first bank, and the second refuses.
async fn cancelled_despite(tried: Tried, operation: &str, what: &str) {
    let world = World::new().await;
    Transfer::new(tried).once(0, operation, what).refused().ends(&world, Cancel).await;
    assert_eq!(world.banks[0].deaths(), usize::from(what.starts_with("die")));
}

/// The tries of the second bank bring no answer until the deadline.
async fn cancelled_by_the_deadline(tried: Tried, what: &str) {
    let world = World::new().await;
    Transfer::new(tried).for_ever(1, "try", what).deadline(SHORT_DEADLINE).ends(&world, Cancel).await;
}

/// The second bank is down from before its try until after the deadline.
async fn down_for_longer_than_the_deadline(tried: Tried) {
    let world = World::new().await;
    let bank = &world.banks[1];
    bank.down().await;
    let transfer = Transfer::new(tried).deadline(SHORT_DEADLINE);
    let initiator = transfer.initiator(&world);
    let ((), decided) = tokio::join!(
        async {
            eventually("a decision", async || {
                let (_, view) = world.coordinator.view(&transfer.gid).await;
                (!view["decision"].is_null()).then_some(())
            })
            .await;
            bank.up().await;
        },
        initiator.run()
    );
    assert_eq!(decided, Cancel);
    transfer.ended(&world, Cancel).await;
}

/// The first bank dies in its last operation, and is down until after the deadline: that changes no decision.
async fn down_after_the_decision(tried: Tried, decision: Decision) {
    let world = World::new().await;
    // Time enough to come to a decision before it.
    let deadline = 2 * SHORT_DEADLINE;
    let bank = &world.banks[0];
    bank.stays_down_once_dead();
    let transfer = Transfer::new(tried).deadline(deadline);
    let transfer = transfer.once(0, decision.as_str(), "die-before-commit");
    let transfer = if decision == Cancel { transfer.refused() } else { transfer };
    let initiator = transfer.initiator(&world);
    let ((), decided) = tokio::join!(
        async {
            bank.is_down().await;
            let view = eventually("the deadline", async || {
                let (_, view) = world.coordinator.view(&transfer.gid).await;
                let age = Duration::from_millis(view["age_ms"].as_u64()?);
                (age > deadline + Duration::from_millis(200)).then_some(view)
            })
            .await;
            assert_eq!(view["decision"], json!(decision.as_str()), "{view}");
            assert!(
                ["Confirming", "Cancelling"].map(|phase| json!(phase)).contains(&view["phase"]),
                "{view}"
            );
            bank.up().await;
        },
        initiator.run()
    );
    assert_eq!(decided, decision);
    transfer.ended(&world, decision).await;
}

/// The first bank gets its try only when nobody waits for it any more, and all is over.
async fn a_try_that_arrives_late(tried: Tried, decision: Decision) {
    let world = World::new().await;
    let transfer = Transfer::new(tried);
    let (transfer, times, status) = match (tried, decision) {
        (ByTheCoordinator | ByTheInitiator, Confirm) => (transfer, Times::Once, 200),
        (ByTheCoordinator, Cancel) => (transfer.refused(), Times::Once, 409),
        // It repeats its try until it knows what came of it, so all of them have to be late.
        (ByTheInitiator, Cancel) => (transfer.deadline(SHORT_DEADLINE), Times::Always, 409),
    };
    let proxy = &world.banks[0].proxy;
    proxy.inflict(Fault::Delay(SHORT_DEADLINE + Duration::from_secs(1)), times, "POST", "/try");
    transfer.ends(&world, decision).await;
    let before = proxy.exchanges().len();
    world.silence().await;
    let late = proxy.exchanges().split_off(before);
    assert!(!late.is_empty(), "no call was late");
    for call in late {
        assert_eq!((&*call.request, call.status), ("POST /account/try", Some(status)));
    }
    world.balance();
}

#[tokio::test]
async fn coordinator_tried_confirm_path_nothing_goes_wrong() {
    Transfer::new(ByTheCoordinator).ends(&World::new().await, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_a_participant_times_out_on_its_try() {
    confirmed_despite(ByTheCoordinator, "try", "hang").await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_a_participant_answers_after_the_time_out_of_its_try() {
    confirmed_despite(ByTheCoordinator, "try", "do-and-hang").await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_a_participant_fails_on_its_try() {
    confirmed_despite(ByTheCoordinator, "try", "fail").await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_a_participant_dies_before_its_commit_of_try() {
    confirmed_despite(ByTheCoordinator, "try", "die-before-commit").await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_a_participant_dies_after_its_commit_of_try() {
    confirmed_despite(ByTheCoordinator, "try", "die-after-commit").await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_a_participant_times_out_on_its_confirm() {
    confirmed_despite(ByTheCoordinator, "confirm", "hang").await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_a_participant_answers_after_the_time_out_of_its_confirm() {
    confirmed_despite(ByTheCoordinator, "confirm", "do-and-hang").await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_a_participant_fails_on_its_confirm() {
    confirmed_despite(ByTheCoordinator, "confirm", "fail").await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_a_participant_dies_before_its_commit_of_confirm() {
    confirmed_despite(ByTheCoordinator, "confirm", "die-before-commit").await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_a_participant_dies_after_its_commit_of_confirm() {
    confirmed_despite(ByTheCoordinator, "confirm", "die-after-commit").await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_a_participant_refuses_what_it_has_to_confirm() {
    confirmed_despite(ByTheCoordinator, "confirm", "refuse").await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_a_participant_is_down_for_longer_than_the_deadline() {
    down_after_the_decision(ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_confirm_path_a_try_arrives_again_when_all_is_over() {
    a_try_that_arrives_late(ByTheCoordinator, Confirm).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_participant_refuses() {
    Transfer::new(ByTheCoordinator).refused().ends(&World::new().await, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_participant_times_out_on_its_try() {
    cancelled_despite(ByTheCoordinator, "try", "hang").await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_participant_answers_after_the_time_out_of_its_try() {
    cancelled_despite(ByTheCoordinator, "try", "do-and-hang").await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_participant_fails_on_its_try() {
    cancelled_despite(ByTheCoordinator, "try", "fail").await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_participant_dies_before_its_commit_of_try() {
    cancelled_despite(ByTheCoordinator, "try", "die-before-commit").await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_participant_dies_after_its_commit_of_try() {
    cancelled_despite(ByTheCoordinator, "try", "die-after-commit").await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_participant_times_out_on_its_cancel() {
    cancelled_despite(ByTheCoordinator, "cancel", "hang").await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_participant_answers_after_the_time_out_of_its_cancel() {
    cancelled_despite(ByTheCoordinator, "cancel", "do-and-hang").await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_participant_fails_on_its_cancel() {
    cancelled_despite(ByTheCoordinator, "cancel", "fail").await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_participant_dies_before_its_commit_of_cancel() {
    cancelled_despite(ByTheCoordinator, "cancel", "die-before-commit").await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_participant_dies_after_its_commit_of_cancel() {
    cancelled_despite(ByTheCoordinator, "cancel", "die-after-commit").await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_participant_refuses_what_it_has_to_cancel() {
    cancelled_despite(ByTheCoordinator, "cancel", "refuse").await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_participant_never_answers_its_try() {
    cancelled_by_the_deadline(ByTheCoordinator, "hang").await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_participant_always_answers_too_late() {
    cancelled_by_the_deadline(ByTheCoordinator, "do-and-hang").await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_participant_is_down_for_longer_than_the_deadline() {
    down_for_longer_than_the_deadline(ByTheCoordinator).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_participant_is_down_from_its_cancel_until_after_the_deadline() {
    down_after_the_decision(ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn coordinator_tried_cancel_path_a_try_arrives_when_all_is_over() {
    a_try_that_arrives_late(ByTheCoordinator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_nothing_goes_wrong() {
    Transfer::new(ByTheInitiator).ends(&World::new().await, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_a_participant_times_out_on_its_try() {
    confirmed_despite(ByTheInitiator, "try", "hang").await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_a_participant_answers_after_the_time_out_of_its_try() {
    confirmed_despite(ByTheInitiator, "try", "do-and-hang").await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_a_participant_fails_on_its_try() {
    confirmed_despite(ByTheInitiator, "try", "fail").await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_a_participant_dies_before_its_commit_of_try() {
    confirmed_despite(ByTheInitiator, "try", "die-before-commit").await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_a_participant_dies_after_its_commit_of_try() {
    confirmed_despite(ByTheInitiator, "try", "die-after-commit").await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_a_participant_times_out_on_its_confirm() {
    confirmed_despite(ByTheInitiator, "confirm", "hang").await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_a_participant_answers_after_the_time_out_of_its_confirm() {
    confirmed_despite(ByTheInitiator, "confirm", "do-and-hang").await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_a_participant_fails_on_its_confirm() {
    confirmed_despite(ByTheInitiator, "confirm", "fail").await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_a_participant_dies_before_its_commit_of_confirm() {
    confirmed_despite(ByTheInitiator, "confirm", "die-before-commit").await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_a_participant_dies_after_its_commit_of_confirm() {
    confirmed_despite(ByTheInitiator, "confirm", "die-after-commit").await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_a_participant_refuses_what_it_has_to_confirm() {
    confirmed_despite(ByTheInitiator, "confirm", "refuse").await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_a_participant_is_down_for_longer_than_the_deadline() {
    down_after_the_decision(ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_confirm_path_a_try_arrives_again_when_all_is_over() {
    a_try_that_arrives_late(ByTheInitiator, Confirm).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_participant_refuses() {
    Transfer::new(ByTheInitiator).refused().ends(&World::new().await, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_participant_times_out_on_its_try() {
    cancelled_despite(ByTheInitiator, "try", "hang").await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_participant_answers_after_the_time_out_of_its_try() {
    cancelled_despite(ByTheInitiator, "try", "do-and-hang").await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_participant_fails_on_its_try() {
    cancelled_despite(ByTheInitiator, "try", "fail").await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_participant_dies_before_its_commit_of_try() {
    cancelled_despite(ByTheInitiator, "try", "die-before-commit").await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_participant_dies_after_its_commit_of_try() {
    cancelled_despite(ByTheInitiator, "try", "die-after-commit").await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_participant_times_out_on_its_cancel() {
    cancelled_despite(ByTheInitiator, "cancel", "hang").await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_participant_answers_after_the_time_out_of_its_cancel() {
    cancelled_despite(ByTheInitiator, "cancel", "do-and-hang").await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_participant_fails_on_its_cancel() {
    cancelled_despite(ByTheInitiator, "cancel", "fail").await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_participant_dies_before_its_commit_of_cancel() {
    cancelled_despite(ByTheInitiator, "cancel", "die-before-commit").await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_participant_dies_after_its_commit_of_cancel() {
    cancelled_despite(ByTheInitiator, "cancel", "die-after-commit").await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_participant_refuses_what_it_has_to_cancel() {
    cancelled_despite(ByTheInitiator, "cancel", "refuse").await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_participant_never_answers_its_try() {
    cancelled_by_the_deadline(ByTheInitiator, "hang").await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_participant_always_answers_too_late() {
    cancelled_by_the_deadline(ByTheInitiator, "do-and-hang").await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_participant_is_down_for_longer_than_the_deadline() {
    down_for_longer_than_the_deadline(ByTheInitiator).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_participant_is_down_from_its_cancel_until_after_the_deadline() {
    down_after_the_decision(ByTheInitiator, Cancel).await;
}

#[tokio::test]
async fn initiator_tried_cancel_path_a_try_arrives_when_all_is_over() {
    a_try_that_arrives_late(ByTheInitiator, Cancel).await;
}
