//! A shop in one process: the coordinator as a library, and the same payment and inventory participants that the demo
//! serves over HTTP, called as functions. The log is a file: end the process at any moment, start it again on the same
//! folder, and what was under way goes on.
//!
//! `cargo run -p tcc-examples --bin embedded -- shop`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tcc_client::BoxError;
use tcc_core::wire::BeginRequest;
use tcc_examples::{inventory, payment};
use tcc_server::store::{SqliteOptions, SqliteStore};
use tcc_server::transport::{LocalTransport, Transports};
use tcc_server::{Begun, Coordinator, Known, Scheduler, Settings, Wait};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let folder: PathBuf = std::env::args_os().nth(1).map_or_else(|| "shop".into(), Into::into);
    std::fs::create_dir_all(&folder)?;

    let participants = LocalTransport::new()
        .with_service("payment", "/tcc/payment", payment::service(&folder.join("payment.db")).await?)
        .with_service("inventory", "/tcc/inventory", inventory::service(&folder.join("inventory.db")).await?);
    let money = "INSERT OR IGNORE INTO accounts VALUES ('alice', 5000, 0), ('shop', 0, 0)";
    rusqlite::Connection::open(folder.join("payment.db"))?.execute_batch(money)?;
    let goods = "INSERT OR IGNORE INTO stock VALUES ('book', 10, 0, 0)";
    rusqlite::Connection::open(folder.join("inventory.db"))?.execute_batch(goods)?;

    let log = SqliteStore::open(folder.join("tcc.db"), SqliteOptions::default())?;
    let log_failed = log.failed();
    let coordinator =
        Coordinator::new(Arc::new(log), Transports::new().with(participants), Settings::default());
    // Whatever an earlier process left in the log goes on from here.
    let scheduler = Scheduler::start(coordinator.clone());

    let order = r#"{"branches": [
        {"id": "inventory", "at": "local:inventory", "payload": {"item": "book", "quantity": 1}},
        {"id": "payment", "at": "local:payment", "payload": {"account": "alice", "cents": 1999}}]}"#;
    let gid = || format!("order/{:x}", fastrand::u64(..)).parse().expect("a gid");
    let begin = serde_json::from_str::<BeginRequest>(order)?.parse(gid)?;
    let known = match coordinator.begin(begin).await? {
        Begun::New(stored) => Known::Stored(stored),
        Begun::Before(known) => known,
    };
    let ended = coordinator.wait(known, Wait::End, Duration::from_secs(30)).await;
    println!("{} is {}", ended.gid(), ended.phase().as_str());

    tokio::select! {
        // A commit of which nobody knows whether it became durable: the next process reads it in the log.
        failure = log_failed => Err(failure.into()),
        _ = scheduler.drain(Duration::from_secs(20)) => Ok(()),
    }
}
