//! The store in memory keeps the contract of a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tcc_core::contract::{self, Subject};
use tcc_core::store::BoxFuture;
use tcc_core::{MemoryStore, Store, Timestamp};

/// Stores by a clock that moves only when it is told to.
struct Memory(Arc<AtomicI64>);

impl Subject for Memory {
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        let clock = Arc::clone(&self.0);
        let store = MemoryStore::new(move || Timestamp::from_millis(clock.load(Ordering::Relaxed)));
        Box::pin(async move { Arc::new(store) as Arc<dyn Store> })
    }

    fn pass(&self, length: Duration) -> BoxFuture<'_, ()> {
        let millis = i64::try_from(length.as_millis()).expect("a short length");
        self.0.fetch_add(millis, Ordering::Relaxed);
        Box::pin(async {})
    }
}

#[tokio::test]
async fn the_store_in_memory_keeps_the_contract() {
    contract::all(&Memory(Arc::new(AtomicI64::new(1_763_640_000_000)))).await;
}
