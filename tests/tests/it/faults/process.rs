//! What is done to processes: they are stopped and go on, told to end under load, twice, and given too few files: F11,
//! F15, F40.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tcc_client::Decision::{Cancel, Confirm};
use tcc_tests::{Fault, Times};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::transfer::{ByTheCoordinator, Transfer, all_ended, load};
use crate::world::{LONG, World, eventually};

/// How far apart the transfers of a load begin.
const APART: Duration = Duration::from_millis(15);

#[tokio::test]
async fn f15_a_coordinator_that_stood_still_goes_on_where_it_was() {
    let world = World::new().await;
    let (transfers, running) = load(&world, 30, APART, Transfer::patient);
    for _ in 0..3 {
        sleep(Duration::from_millis(100)).await;
        world.coordinator.signal("STOP").await;
        // Longer than any call may take.
        sleep(Duration::from_millis(600)).await;
        world.coordinator.signal("CONT").await;
    }
    running.join_all().await;
    all_ended(&world, &transfers).await;
}

/// It wakes with a time-out that has passed and an answer that has come.
#[tokio::test]
async fn f15_an_answer_that_came_while_the_coordinator_stood_still_is_done_once() {
    let world = World::new().await;
    let bank = &world.banks[0].proxy;
    bank.inflict(Fault::Hold, Times::Once, "POST", "/confirm");
    let transfer = Transfer::new(ByTheCoordinator).patient().call_timeout(Duration::from_secs(2));
    let begin = transfer.begin(&world.banks);
    assert_eq!(world.coordinator.ask("POST", "", Some(begin)).await.0, 201);
    eventually("the confirm on its way", async || (bank.inflicted() == [1]).then_some(())).await;
    world.coordinator.signal("STOP").await;
    bank.release();
    world.silence().await;
    sleep(Duration::from_millis(2100)).await;
    world.coordinator.signal("CONT").await;
    transfer.ended(&world, Confirm).await;
}

/// The confirm comes in time and waits in the socket of a process that does not run; the deadline passes.
#[tokio::test]
async fn f15_a_confirm_that_waits_past_the_deadline_is_told_the_deadlines_decision() {
    let world = World::new().await;
    let branches = json!([{"id": "from", "at": world.banks[0].at(), "payload": {"amount": -10}}]);
    let begin = json!({"gid": "g", "decider": "initiator", "timeout_ms": 1500, "branches": branches});
    assert_eq!(world.coordinator.ask("POST", "", Some(begin)).await.0, 201);
    world.coordinator.signal("STOP").await;
    let confirm = world.coordinator.ask("POST", "/g/confirm", Some(json!({"tried": ["from"]})));
    let wake = async {
        sleep(Duration::from_millis(2000)).await;
        world.coordinator.signal("CONT").await;
    };
    let ((status, told), ()) = tokio::join!(confirm, wake);
    assert_eq!((status, &told["code"]), (409, &json!("already-cancelled")), "{told}");
    world.ends("g", Cancel).await;
}

#[tokio::test]
async fn f40_told_to_end_under_load_it_ends_in_good_order_and_the_next_start_goes_on() {
    let mut world = World::new().await;
    let (transfers, running) = load(&world, 40, APART, Transfer::patient);
    for _ in 0..2 {
        sleep(Duration::from_millis(250)).await;
        let status = world.coordinator.terminate().await;
        assert_eq!(status.code(), Some(0), "its calls come to their end, and it to its own");
        world.coordinator.start().await;
    }
    running.join_all().await;
    all_ended(&world, &transfers).await;
}

#[tokio::test]
async fn f40_told_to_end_twice_it_still_waits_for_its_calls() {
    let mut world = World::new().await;
    let bank = &world.banks[1].proxy;
    bank.inflict(Fault::Hold, Times::Once, "POST", "/try");
    let transfer = Transfer::new(ByTheCoordinator).patient().call_timeout(LONG);
    let begin = transfer.begin(&world.banks);
    assert_eq!(world.coordinator.ask("POST", "", Some(begin)).await.0, 201);
    eventually("a try on its way", async || (bank.inflicted() == [1]).then_some(())).await;
    for _ in 0..3 {
        world.coordinator.signal("TERM").await;
        world.coordinator.signal("INT").await;
        sleep(Duration::from_millis(100)).await;
    }
    bank.release();
    assert_eq!(world.coordinator.ended().await.code(), Some(0));
    let tried = world.states()[&transfer.gid].clone();
    assert!(
        tried.iter().filter(|state| *state == "tried").count() == 2,
        "the call came to its end: {tried:?}"
    );
    world.coordinator.start().await;
    transfer.ended(&world, Confirm).await;
}

/// Files for hardly more than the log: connections that cannot be taken wait, calls that cannot be made are made later.
#[tokio::test]
async fn f11_without_files_left_it_sheds_load_and_loses_nothing() {
    let mut world = World::through(&["sh", "-c", "ulimit -n 40; exec \"$@\"", "sh"], &[]).await;
    let before = world.coordinator.id();
    let (transfers, running) = load(&world, 60, APART, Transfer::patient);
    sleep(Duration::from_millis(200)).await;
    // The kernel takes connections for it that it has no files for.
    let idle = join_all((0..60).map(|_| TcpStream::connect(world.coordinator.address()))).await;
    let shed = async || world.coordinator.whole_log().contains("Too many open files").then_some(());
    eventually("a lack of files", shed).await;
    drop(idle);
    running.join_all().await;
    all_ended(&world, &transfers).await;
    assert_eq!(world.coordinator.id(), before, "it is the same process");
    assert_eq!(world.coordinator.terminate().await.code(), Some(0));
}
