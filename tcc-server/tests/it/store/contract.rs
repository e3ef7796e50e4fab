//! Every store keeps the contract, on its own clock.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tcc_core::contract::{self, Subject};
use tcc_core::store::BoxFuture;
use tcc_core::{MemoryStore, Store, Timestamp};
use tcc_server::store::{Batched, SqliteOptions, SqliteStore};
use tempfile::TempDir;

/// Stores, each in a file of its own.
struct Files<F> {
    directory: TempDir,
    made: AtomicU32,
    make: F,
}

impl<F: Fn(PathBuf) -> Arc<dyn Store> + Sync> Files<F> {
    fn new(make: F) -> Self {
        Self { directory: TempDir::new().expect("a directory"), made: AtomicU32::new(0), make }
    }
}

impl<F: Fn(PathBuf) -> Arc<dyn Store> + Sync> Subject for Files<F> {
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let store = (self.make)(self.directory.path().join(format!("{number}.db")));
        Box::pin(async move { store })
    }

    fn pass(&self, length: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(length + Duration::from_millis(1)))
    }
}

fn sqlite(path: PathBuf) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).expect("a store")
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    contract::all(&Files::new(|path| Arc::new(sqlite(path)))).await;
}

/// Whether what was written stands in the journal or in the table, or some here and some there.
#[tokio::test]
async fn sqlite_keeps_the_contract_wherever_rows_stand() {
    for journal_writes in [1, 2, usize::MAX] {
        let settle = Duration::from_secs(3600);
        let options = SqliteOptions { journal_writes, settle, ..SqliteOptions::default() };
        let open = move |path| SqliteStore::open(path, options.clone()).expect("a store");
        contract::all(&Files::new(move |path| Arc::new(open(path)))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batched_sqlite_keeps_the_contract() {
    contract::all(&Files::new(|path| Arc::new(Batched::new(sqlite(path))))).await;
}

#[tokio::test]
async fn a_batched_store_in_memory_keeps_the_contract() {
    let clock = || {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        Timestamp::from_millis(0) + wall
    };
    contract::all(&Files::new(|_| Arc::new(Batched::new(MemoryStore::new(clock))))).await;
}
