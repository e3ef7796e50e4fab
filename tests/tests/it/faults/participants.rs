//! Participants that are poison, all down at once, have lost their memory or never say whether: F30, F31, F32, F43; and
//! gids that look alike: F45.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tcc_client::Decision::{Cancel, Confirm};
use tcc_tests::{Fault, Proxy, Times};

use crate::transfer::{ByTheCoordinator, ByTheInitiator, Transfer};
use crate::world::{World, eventually};

/// The first bank is poison for a while: its transfers call for a human and are still retried, nobody else is held up,
/// and all is done as soon as it is well.
async fn poison(fault: Fault) {
    let world = World::with(&["--attention-attempts", "3"]).await;
    let (poison, healthy) = (&world.banks[0].proxy, Proxy::start().await);
    poison.inflict(fault, Times::Always, "POST", "");
    healthy.inflict(Fault::Status(200), Times::Always, "POST", "");
    let transfers = [(); 5].map(|()| Transfer::new(ByTheCoordinator).patient());
    for transfer in &transfers {
        let begun = world.coordinator.ask("POST", "", Some(transfer.begin(&world.banks))).await;
        assert_eq!(begun.0, 201);
    }
    for transfer in &transfers {
        eventually("a call for a human", async || {
            let (_, view) = world.coordinator.view(&transfer.gid).await;
            assert!(view["decision"].is_null(), "unknown is neither done nor refused: {view}");
            view["attention"].is_string().then_some(())
        })
        .await;
    }
    let others = join_all((0..20).map(async |nth| {
        let (gid, at) = (format!("other/{nth}"), format!("http://{}/b", healthy.address()));
        let begin = json!({"gid": gid, "timeout_ms": 3_600_000, "branches": [{"id": "b", "at": at}]});
        assert_eq!(world.coordinator.ask("POST", "", Some(begin)).await.0, 201);
        world.coordinator.end(&gid).await
    }));
    for other in others.await {
        assert_eq!(other["phase"], json!("Confirmed"), "{other}");
    }
    poison.heal();
    for transfer in &transfers {
        transfer.ended_alone(&world, Confirm).await;
    }
    world.balance();
}

#[tokio::test]
async fn f30_a_participant_that_always_answers_500_holds_up_nobody_else() {
    poison(Fault::Status(500)).await;
}

#[tokio::test]
async fn f30_a_participant_that_always_answers_400_holds_up_nobody_else() {
    poison(Fault::Status(400)).await;
}

#[tokio::test]
async fn f30_a_participant_that_always_answers_409_without_a_code_holds_up_nobody_else() {
    poison(Fault::Status(409)).await;
}

#[tokio::test]
async fn f30_a_participant_that_always_answers_garbage_holds_up_nobody_else() {
    poison(Fault::Garbage).await;
}

#[tokio::test]
async fn f30_a_participant_that_always_answers_without_end_holds_up_nobody_else() {
    poison(Fault::EndlessBody).await;
}

#[tokio::test]
async fn f30_a_participant_that_always_drips_holds_up_nobody_else() {
    poison(Fault::Drip).await;
}

#[tokio::test]
async fn f30_a_participant_that_sends_in_circles_holds_up_nobody_else() {
    let circle = Proxy::start().await;
    circle.inflict(Fault::Redirect(circle.address()), Times::Always, "POST", "");
    poison(Fault::Redirect(circle.address())).await;
    assert_eq!(circle.inflicted(), [0], "nobody goes there");
}

/// Its guard was lost between try and confirm: that is an alarm, and no success.
#[tokio::test]
async fn f31_a_confirm_at_a_participant_that_lost_its_guard_is_an_alarm_until_the_guard_is_back() {
    let world = World::new().await;
    let bank = &world.banks[0];
    bank.proxy.inflict(Fault::Hold, Times::Once, "POST", "/confirm");
    let transfer = Transfer::new(ByTheCoordinator).patient();
    let begin = transfer.begin(&world.banks);
    assert_eq!(world.coordinator.ask("POST", "", Some(begin)).await.0, 201);
    eventually("the confirm on its way", async || (bank.proxy.inflicted() == [1]).then_some(())).await;
    bank.sql("CREATE TABLE backup AS SELECT * FROM tcc_guard; DELETE FROM tcc_guard");
    let before = bank.books();
    bank.proxy.release();
    let view = eventually("an alarm", async || {
        let (_, view) = world.coordinator.view(&transfer.gid).await;
        view["attention"].is_string().then_some(view)
    })
    .await;
    assert_eq!((&view["phase"], &view["decision"]), (&json!("Confirming"), &json!("confirm")), "{view}");
    assert_eq!(bank.books(), before, "nothing is done blindly");
    bank.sql("INSERT INTO tcc_guard SELECT * FROM backup");
    transfer.ended(&world, Confirm).await;
}

/// Both banks are down with many transfers under way, and come back: all of it is done, and the banks are not overrun.
#[tokio::test]
async fn f32_all_participants_down_and_up_again_are_not_overrun() {
    const AT_ONCE: usize = 16;
    let world = World::with(&["--per-destination", &AT_ONCE.to_string()]).await;
    for bank in &world.banks {
        bank.down().await;
    }
    let transfers: Vec<Transfer> = (0..40)
        .map(|nth| {
            let transfer = Transfer::new(ByTheCoordinator).patient().call_timeout(Duration::from_secs(10));
            if nth % 3 == 0 { transfer.refused() } else { transfer }
        })
        .collect();
    let begun = join_all(transfers.iter().map(async |transfer| {
        let begin = transfer.begin(&world.banks);
        assert_eq!(world.coordinator.ask("POST", "", Some(begin)).await.0, 201);
    }));
    begun.await;
    for transfer in &transfers {
        eventually("a call that brings nothing", async || {
            let (_, view) = world.coordinator.view(&transfer.gid).await;
            view["branches"][1]["seen"].is_string().then_some(())
        })
        .await;
    }
    for bank in &world.banks {
        bank.up().await;
    }
    for (transfer, nth) in transfers.iter().zip(0..) {
        transfer.ended_alone(&world, if nth % 3 == 0 { Cancel } else { Confirm }).await;
    }
    world.balance();
    for bank in &world.banks {
        let most = bank.proxy.most_under_way();
        assert!(most <= AT_ONCE, "{most} calls at once");
    }
}

/// The source of a message says for ever that it does not know, or nothing at all.
async fn never_says(fault: Fault) {
    let world = World::with(&["--attention-age", "1s"]).await;
    let source = Proxy::start().await;
    source.inflict(fault, Times::Always, "POST", "/check");
    let check = format!("http://{}/check", source.address());
    let branches = json!([{"id": "message", "confirm": format!("http://{}/message", source.address())}]);
    source.inflict(Fault::Status(200), Times::Always, "POST", "/message");
    let begin = json!({
        "gid": "g", "decider": "initiator", "timeout_ms": 100, "check": check, "check_after_ms": 100,
        "branches": branches,
    });
    assert_eq!(world.coordinator.ask("POST", "", Some(begin)).await.0, 201);
    let view = eventually("a call for a human", async || {
        let (_, view) = world.coordinator.view("g").await;
        view["attention"].is_string().then_some(view)
    })
    .await;
    assert_eq!(view["decision"], Value::Null, "the deadline has passed, and only an answer decides: {view}");
    assert_eq!(source.inflicted()[1], 0, "the message is not delivered");
    source.heal();
    source.inflict(Fault::Status(200), Times::Always, "POST", "");
    assert_eq!(world.coordinator.end("g").await["phase"], json!("Confirmed"));
}

#[tokio::test]
async fn f43_a_check_that_fails_for_ever_decides_nothing_and_calls_for_a_human() {
    never_says(Fault::Status(500)).await;
}

#[tokio::test]
async fn f43_a_check_whose_source_does_not_know_decides_nothing_and_calls_for_a_human() {
    never_says(Fault::Status(202)).await;
}

#[tokio::test]
async fn f43_a_check_whose_source_is_gone_decides_nothing_and_calls_for_a_human() {
    never_says(Fault::LoseRequest).await;
}

#[tokio::test]
async fn f45_gids_that_differ_in_case_alone_are_different_transactions_everywhere() {
    let world = World::new().await;
    let gids = ["Order/1a", "order/1a", "ORDER/1A", "order/1A"];
    for (gid, nth) in gids.iter().zip(0..) {
        let transfer = Transfer::new(if nth % 2 == 0 { ByTheCoordinator } else { ByTheInitiator }).named(gid);
        let (transfer, decision) =
            if nth % 2 == 0 { (transfer, Confirm) } else { (transfer.refused(), Cancel) };
        transfer.ends(&world, decision).await;
    }
    assert_eq!(world.states().len(), gids.len());
    for (gid, nth) in gids.iter().zip(0..) {
        world.ends(gid, if nth % 2 == 0 { Confirm } else { Cancel }).await;
    }
}

#[tokio::test]
async fn f45_gids_as_long_as_can_be_are_told_apart_to_their_last_letter() {
    let world = World::new().await;
    let gids = ["a", "b", ""].map(|end| format!("{}{end}", "g".repeat(127)));
    for gid in &gids {
        Transfer::new(ByTheCoordinator).named(gid).ends(&world, Confirm).await;
    }
    assert_eq!(world.states().len(), gids.len());
}

#[tokio::test]
async fn f45_gids_that_are_too_long_or_not_ascii_are_refused_and_never_cut_or_folded() {
    let world = World::new().await;
    let long = "g".repeat(255);
    for gid in [
        &*long,
        "Straße/1",
        "ｏrder/1",
        "order\u{0301}",
        "ord\u{0131}r",
        "order\u{200b}",
        "order ",
        "order%31",
    ] {
        let begin = json!({"gid": gid, "decider": "initiator"});
        let (status, problem) = world.coordinator.ask("POST", "", Some(begin)).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid")), "{gid}: {problem}");
    }
    for near in ["Strasse/1", "order/1", "order", "ordir", &long[..128]] {
        assert_eq!(world.coordinator.view(near).await.0, 404, "{near}");
    }
}

/// F37, as far as it goes without certificates: what is said to speak TLS and does not.
#[tokio::test]
async fn f37_a_participant_that_speaks_no_tls_is_unknown_and_never_called_without() {
    let world = World::new().await;
    let transfer = Transfer::new(ByTheCoordinator).patient();
    let mut begin = transfer.begin(&world.banks);
    for (branch, bank) in [(0, &world.banks[0]), (1, &world.banks[1])] {
        begin["branches"][branch]["at"] = json!(bank.at().replace("http:", "https:"));
    }
    assert_eq!(world.coordinator.ask("POST", "", Some(begin)).await.0, 201);
    for branch in [0, 1] {
        eventually("a call that brings nothing", async || {
            let (_, view) = world.coordinator.view(&transfer.gid).await;
            assert!(view["decision"].is_null(), "unknown is neither done nor refused: {view}");
            view["branches"][branch]["seen"].is_string().then_some(())
        })
        .await;
    }
    for bank in &world.banks {
        assert!(bank.proxy.exchanges().is_empty(), "nobody goes there without TLS");
    }
    world.balance();
}
