//! A process of the participant that dies in the middle of its calls.

use std::env;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::play::call;
use super::world::Ask;
use crate::banks::Bank;
use crate::flaky::Flaky;

/// What this process is to do and to die of.
const ORDER: &str = "TCC_TEST_MODEL_DEATH";

#[derive(Serialize, Deserialize)]
struct Order {
    place: String,
    asks: Vec<Ask>,
    /// The step of one of their units at which it dies.
    at: usize,
}

/// Makes calls at once in another process, which dies at a step of one of them; or else as soon as all are answered.
pub(super) fn of_another_process<B: Bank>(bank: &B, asks: &[Ask], at: usize) {
    let order = Order { place: bank.place(), asks: asks.to_vec(), at };
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "model::death::the_process_that_dies", "--nocapture"])
        .env(ORDER, serde_json::to_string(&order).unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), None, "killed by a signal, and by no panic before it: {status}");
}

/// Not a test unless [`of_another_process`] orders it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_dies() {
    let Ok(order) = env::var(ORDER) else { return };
    let order: Order = serde_json::from_str(&order).unwrap();
    match order.place.split_once("://").map_or("sqlite", |(kind, _)| kind) {
        #[cfg(feature = "rusqlite")]
        "sqlite" => die::<crate::banks::Sqlite>(order).await,
        #[cfg(feature = "tokio-postgres")]
        "postgres" => die::<crate::banks::Postgres>(order).await,
        #[cfg(feature = "mysql_async")]
        "mysql" => die::<crate::banks::Mysql>(order).await,
        #[cfg(feature = "redis")]
        "redis+unix" => die::<crate::banks::Redis>(order).await,
        #[cfg(all(feature = "sqlx-postgres", feature = "tokio-postgres"))]
        "sqlx-postgres" => die::<crate::banks::SqlxPostgres>(order).await,
        #[cfg(all(feature = "sqlx-mysql", feature = "mysql_async"))]
        "sqlx-mysql" => die::<crate::banks::SqlxMysql>(order).await,
        #[cfg(feature = "tokio-postgres")]
        "xa+postgres" => die::<crate::banks::XaPostgres>(order).await,
        #[cfg(feature = "mysql_async")]
        "xa+mysql" => die::<crate::banks::XaMysql>(order).await,
        kind => panic!("{kind}"),
    }
}

async fn die<B: Bank>(order: Order) {
    let bank = B::at(&order.place).await;
    let life = Arc::new(AtomicUsize::new(order.at));
    let mut calls = JoinSet::new();
    for ask in order.asks {
        calls.spawn(call(Flaky::mortal(&bank, life.clone()), ask));
    }
    calls.join_all().await;
    std::process::abort();
}
