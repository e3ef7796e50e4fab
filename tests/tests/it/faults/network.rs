//! Links that are cut, both ways and one way, before and during a call, and come back: F18, F19, F22.

use serde_json::{Value, json};
use tcc_client::Decision::{Cancel, Confirm};
use tcc_tests::{Fault, Proxy, Times as Often};

use super::lab::Node::{Coordinator, First, Initiator};
use super::lab::{self, Lab, Times};
use crate::transfer::{ByTheCoordinator, Transfer};
use crate::world::{World, eventually};

/// Much more than anything takes, except what is cut off.
const TIMES: Times = Times { deadline_ms: 300_000, request_ms: 1000, repeat_ms: 60_000, call_ms: 10_000 };
/// Soon at its wit's end.
const IMPATIENT: Times = Times { repeat_ms: 1500, request_ms: 500, ..TIMES };

/// A bank does this in this operation, once.
fn once(operation: &str, what: &str) -> Value {
    json!([{"on": operation, "what": what, "times": 1}])
}

/// Waits until the fault of a bank has happened.
async fn happens(world: &World, bank: usize, gid: &str, operation: &str) {
    eventually("the fault", async || (world.banks[bank].faults(gid, operation) > 0).then_some(())).await;
}

/// Waits until the coordinator has seen a call of the first branch that brought nothing.
async fn nothing_comes(world: &World, gid: &str) {
    eventually("a call that brings nothing", async || {
        let (_, view) = world.coordinator.view(gid).await;
        view["branches"][0]["seen"].is_string().then_some(())
    })
    .await;
}

/// A transfer that the coordinator tries, begun while the first bank cannot be reached, and nobody else is held up.
async fn cut_off(cut: impl Fn()) {
    let Lab { world } = Lab::new().await;
    cut();
    let transfer = Transfer::new(ByTheCoordinator).patient();
    let begin = transfer.begin(&world.banks);
    assert_eq!(world.coordinator.ask("POST", "", Some(begin)).await.0, 201);
    nothing_comes(&world, &transfer.gid).await;
    others_go_on(&world).await;
    assert!(world.coordinator.view(&transfer.gid).await.1["decision"].is_null(), "unknown is not refused");
    Lab::heal();
    world.ends(&transfer.gid, Confirm).await;
}

/// Transactions with others than the first bank.
async fn others_go_on(world: &World) {
    let third = Proxy::start_at("10.7.1.1:0").await;
    third.inflict(Fault::Status(200), Often::Always, "POST", "");
    for nth in 0..10 {
        let gid = format!("other/{nth}");
        let branch = json!({"id": "b", "at": format!("http://{}/b", third.address())});
        let begin = json!({"gid": gid, "timeout_ms": 300_000, "branches": [branch]});
        assert_eq!(world.coordinator.ask("POST", "", Some(begin)).await.0, 201);
        assert_eq!(world.coordinator.end(&gid).await["phase"], json!("Confirmed"));
    }
}

#[test]
fn f19_a_participant_is_cut_off() {
    lab::run(async || {
        cut_off(|| Lab::cut(Coordinator, First)).await;
    });
}

#[test]
fn f19_what_a_participant_is_sent_is_lost() {
    lab::run(async || {
        cut_off(|| Lab::lose(Coordinator, First)).await;
    });
}

#[test]
fn f19_what_a_participant_sends_is_lost() {
    lab::run(async || {
        cut_off(|| Lab::lose(First, Coordinator)).await;
    });
}

/// The first bank has done its part, and its answer is on its way when the link is cut: a connection stays half open.
async fn cut_during(operation: &'static str, cut: impl Fn()) {
    let lab = Lab::new().await;
    let world = &lab.world;
    // Time enough to answer, if the answer came through.
    let times = Times { call_ms: 5000, ..TIMES };
    let said = lab.initiate("g", &[once(operation, "do-and-dawdle"), json!([])], times);
    happens(world, 0, "g", operation).await;
    cut();
    let during = world.states()["g"].clone();
    nothing_comes(world, "g").await;
    Lab::heal();
    assert_eq!(said.await.expect("it says something"), "confirm");
    world.ends("g", Confirm).await;
    assert!(during.contains(&format!("{operation}ed")), "it was done before: {during:?}");
}

#[test]
fn f22_a_link_is_cut_while_a_call_is_in_flight() {
    lab::run(async || {
        cut_during("confirm", || Lab::cut(Coordinator, First)).await;
    });
}

#[test]
fn f22_a_link_loses_the_answer_of_a_call_in_flight() {
    lab::run(async || {
        cut_during("confirm", || Lab::lose(First, Coordinator)).await;
    });
}

/// The coordinator is killed while a participant's answer to it is lost, and comes back to the same address.
#[test]
fn f22_the_other_side_of_a_half_open_connection_is_another_process() {
    lab::run(async || {
        let mut lab = Lab::new().await;
        let said = lab.initiate("g", &[once("confirm", "do-and-dawdle"), json!([])], TIMES);
        happens(&lab.world, 0, "g", "confirm").await;
        Lab::cut(Coordinator, First);
        lab.world.coordinator.kill().await;
        lab.world.coordinator.start().await;
        nothing_comes(&lab.world, "g").await;
        Lab::heal();
        assert_eq!(said.await.expect("it says something"), "confirm");
        lab.world.ends("g", Confirm).await;
    });
}

#[test]
fn f18_an_initiator_that_is_cut_off_from_the_start_has_begun_nothing() {
    lab::run(async || {
        let lab = Lab::new().await;
        Lab::cut(Initiator, Coordinator);
        let said = lab.initiate("g", &[json!([]), json!([])], IMPATIENT).await.expect("it says something");
        // A connection that may have been made is not told from one that was not.
        assert!(["not-begun", "unknown"].contains(&&*said), "{said}");
        assert_eq!(lab.world.coordinator.view("g").await.0, 404);
        Lab::heal();
        assert_eq!(lab.initiate("g", &[json!([]), json!([])], TIMES).await.expect("it says"), "confirm");
        lab.world.ends("g", Confirm).await;
    });
}

#[test]
fn f18_an_initiator_that_is_cut_off_before_its_confirm_asks_again_by_its_gid() {
    lab::run(async || {
        let lab = Lab::new().await;
        let said = lab.initiate("g", &[json!([]), once("try", "do-and-dawdle")], IMPATIENT);
        happens(&lab.world, 1, "g", "try").await;
        Lab::cut(Initiator, Coordinator);
        assert_eq!(said.await.expect("it says something"), "unknown");
        assert_eq!(lab.world.coordinator.view("g").await.1["phase"], json!("Trying"));
        Lab::heal();
        let again = lab.initiate("g", &[json!([]), once("try", "do-and-dawdle")], TIMES).await;
        assert_eq!(again.expect("it says something"), "confirm");
        lab.world.ends("g", Confirm).await;
    });
}

#[test]
fn f18_an_initiator_that_is_cut_off_until_the_deadline_is_told_of_its_decision() {
    lab::run(async || {
        let lab = Lab::new().await;
        let times = Times { deadline_ms: 10_000, ..IMPATIENT };
        let said = lab.initiate("g", &[json!([]), once("try", "do-and-dawdle")], times);
        happens(&lab.world, 1, "g", "try").await;
        Lab::cut(Initiator, Coordinator);
        assert_eq!(said.await.expect("it says something"), "unknown");
        lab.world.ends("g", Cancel).await;
        Lab::heal();
        let again = Times { deadline_ms: 10_000, ..TIMES };
        let again = lab.initiate("g", &[json!([]), once("try", "do-and-dawdle")], again).await;
        assert_eq!(again.expect("it says something"), "cancel");
        lab.world.ends("g", Cancel).await;
    });
}

/// Its confirm arrives and is followed; the answer is lost.
#[test]
fn f18_an_initiator_whose_answers_are_lost_learns_later_what_was_decided() {
    lab::run(async || {
        let lab = Lab::new().await;
        let said = lab.initiate("g", &[json!([]), once("try", "do-and-dawdle")], IMPATIENT);
        happens(&lab.world, 1, "g", "try").await;
        Lab::lose(Coordinator, Initiator);
        assert_eq!(said.await.expect("it says something"), "unknown");
        lab.world.ends("g", Confirm).await;
        Lab::heal();
        let again = lab.initiate("g", &[json!([]), once("try", "do-and-dawdle")], TIMES).await;
        assert_eq!(again.expect("it says something"), "confirm");
        lab.world.ends("g", Confirm).await;
    });
}

#[test]
fn f18_an_initiator_whose_plug_was_pulled_for_a_while_finds_out_by_itself() {
    lab::run(async || {
        let lab = Lab::new().await;
        let mut said = lab.initiate("g", &[json!([]), once("try", "do-and-dawdle")], TIMES);
        happens(&lab.world, 1, "g", "try").await;
        Lab::plug(Initiator, "down");
        let pulled = tokio::time::timeout(std::time::Duration::from_secs(2), &mut said).await;
        assert!(pulled.is_err(), "it says {pulled:?} and cannot know");
        Lab::plug(Initiator, "up");
        assert_eq!(said.await.expect("it says something"), "confirm");
        lab.world.ends("g", Confirm).await;
    });
}

/// Of all packets between anybody, so many in a hundred are lost.
async fn packets_are_lost(percent: u32) {
    let lab = Lab::new().await;
    if !Lab::drop_packets(percent) {
        return;
    }
    let times = Times { call_ms: 2000, request_ms: 2000, ..TIMES };
    let said = (0..8).map(|nth| lab.initiate(&format!("g/{nth}"), &[json!([]), json!([])], times));
    for (said, nth) in said.collect::<Vec<_>>().into_iter().zip(0..) {
        assert_eq!(said.await.expect("it says something"), "confirm", "g/{nth}");
    }
    for nth in 0..8 {
        let view = lab.world.coordinator.end(&format!("g/{nth}")).await;
        assert_eq!(view["phase"], json!("Confirmed"), "{view}");
    }
    lab.world.balance();
    assert!(Lab::packets_dropped() > 0, "none was lost");
}

#[test]
fn f22_two_packets_in_a_hundred_are_lost() {
    lab::run(async || packets_are_lost(2).await);
}

#[test]
fn f22_one_packet_in_ten_is_lost() {
    lab::run(async || packets_are_lost(10).await);
}
