//! How fast the log is here: durable writes a second, by how many commit at once.
//!
//! ```text
//! cargo run --release -p tcc-server --example store_probe -- [seconds] [directory]
//! ```
//! Each transaction is three writes, as on the way of a TCC: begin, decision, end.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tcc_core::contract::row;
use tcc_core::store::{Filter, Page, Row, Write, Written};
use tcc_core::{Phase, Store};
use tcc_server::store::{SqliteOptions, SqliteStore};

/// Bytes of a document with two branches and small payloads.
const DOCUMENT: usize = 600;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let directory = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    for committers in [1, 8, 64, 256] {
        let path = directory.join(format!("store_probe-{}-{committers}.db", std::process::id()));
        let store = SqliteStore::open(&path, SqliteOptions::default())?;
        let store = Arc::new(store);
        run(&store, committers, Duration::from_secs(seconds)).await;
        drop(store);
        // The store goes with the last task that holds it.
        tokio::task::yield_now().await;
        for suffix in ["", "-wal", "-shm", ".lock"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
        }
    }
    Ok(())
}

async fn run(store: &Arc<SqliteStore>, committers: usize, time: Duration) {
    let transactions = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for committer in 0..committers {
        let (store, transactions) = (Arc::clone(store), Arc::clone(&transactions));
        tasks.spawn(async move {
            while start.elapsed() < time {
                let number = transactions.fetch_add(1, Ordering::Relaxed);
                transact(&*store, &format!("probe/{committer}/{number:012}")).await;
            }
        });
    }
    tasks.join_all().await;
    let seconds = start.elapsed().as_secs_f64();
    let transactions = transactions.load(Ordering::Relaxed);
    let stats = store.stats();

    let loads = 20_000;
    let any = store.list(&Filter::default(), Page { after: None, size: 100 }).await.expect("a list").rows;
    let start = Instant::now();
    for row in any.iter().cycle().take(loads) {
        assert!(store.load(&row.gid).await.expect("a load").is_some());
    }
    let load = start.elapsed().as_secs_f64() / loads as f64 * 1e6;
    println!(
        "{committers:>4} committers: {:>7.0} writes/s {:>7.0} transactions/s {:>6.2} commits/transaction \
         {:>5.1} us/load {} checkpoints, WAL {} KiB",
        3.0 * transactions as f64 / seconds,
        transactions as f64 / seconds,
        stats.commits as f64 / transactions as f64,
        load,
        stats.checkpoints,
        stats.wal_bytes / 1024,
    );
}

async fn transact(store: &dyn Store, gid: &str) {
    let now = store.now();
    let lease = Some(Duration::from_secs(60));
    let due_at = Some(now + Duration::from_secs(60));
    let mut row = Row { due_at, ..row(gid, vec![b'x'; DOCUMENT], now) };
    commit(store, Write { row: row.clone(), replaces: None, claim: lease }).await;
    row = Row { phase: Phase::Confirming, due_at: Some(now), version: 2, tag: 2, ..row };
    commit(store, Write { row: row.clone(), replaces: Some(1), claim: lease }).await;
    row = Row { phase: Phase::Confirmed, due_at: None, ended_at: Some(now), version: 3, tag: 3, ..row };
    commit(store, Write { row, replaces: Some(2), claim: None }).await;
}

async fn commit(store: &dyn Store, write: Write) {
    let written = store.commit(vec![write]).await.expect("a known outcome");
    assert_eq!(written, [Written::Won]);
}
