//! F44: a coordinator that starts on a log full of what others left behind.

use futures_util::future::join_all;
use tcc_client::Decision::Confirm;
use tcc_core::wire::{BeginRequest, BranchRequest};
use tcc_core::{Change, Patience, Store, Transaction};
use tcc_server::store::{SqliteOptions, SqliteStore};
use tcc_tests::{Fault, Proxy, Times};

use crate::transfer::{ByTheCoordinator, Transfer};
use crate::world::{World, eventually};

/// More than are ever driven at once.
const MANY: usize = 3000;

/// Whom they concern: what falls due for one destination at once, and is more than it is called at once, is put off by
/// seconds, lest it be overrun.
const PARTICIPANTS: usize = 25;

/// So many transactions whose deadline has passed, each with a branch that must be cancelled.
async fn left_behind(world: &World, participants: &[Proxy]) {
    let open = || SqliteStore::open(world.coordinator.db(), SqliteOptions::default());
    let store = open().expect("a log");
    let saved = join_all((0..MANY).map(async |nth| {
        let at = Some(format!("http://{}/b", participants[nth % PARTICIPANTS].address()));
        let branch = BranchRequest { id: "b".into(), at, ..BranchRequest::default() };
        let gid = Some(format!("left/{nth}"));
        let begin =
            BeginRequest { gid, timeout_ms: Some(1), branches: vec![branch], ..BeginRequest::default() };
        let begin = begin.parse(|| unreachable!("it has a gid")).expect("a begin");
        let digest = begin.digest;
        let patience = Patience { attempts: 20, age: std::time::Duration::from_secs(300) };
        let transaction = Transaction::begin(begin, patience, store.now()).expect("a transaction");
        Change::begin(transaction, Some(digest)).save(&store, nth as u64, None).await
    }));
    assert!(saved.await.iter().all(Result::is_ok));
    drop(store);
    eventually("the end of who wrote it", async || open().ok()).await;
}

#[tokio::test]
async fn f44_a_start_with_thousands_unfinished_serves_at_once_and_ends_them_all() {
    let mut world = World::asleep(&[]).await;
    let participants = join_all((0..PARTICIPANTS).map(|_| Proxy::start())).await;
    for participant in &participants {
        participant.inflict(Fault::Status(200), Times::Always, "POST", "/cancel");
    }
    left_behind(&world, &participants).await;
    world.coordinator.start().await;
    let transfer = Transfer::new(ByTheCoordinator).patient();
    assert_eq!(transfer.initiator(&world).run().await, Confirm, "whoever comes is not put behind them");
    for nth in [0, MANY / 2, MANY - 1] {
        let view = world.coordinator.end(&format!("left/{nth}")).await;
        assert_eq!((&view["phase"], &view["reason"]), (&"Cancelled".into(), &"the deadline passed".into()));
    }
    let called = || participants.iter().map(|participant| participant.inflicted()[0]).sum::<usize>();
    eventually("the end of all", async || (called() >= MANY).then_some(())).await;
    transfer.ended(&world, Confirm).await;
}
