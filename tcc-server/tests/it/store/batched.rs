//! What is batched, and who is told what.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tcc_core::store::{
    BoxFuture, Claimed, Counts, Filter, Listing, Page, Row, Store, Unavailable, Unknown, Write, Written,
};
use tcc_core::{Gid, MemoryStore, Timestamp};
use tcc_server::limits;
use tcc_server::store::Batched;
use tokio::sync::Semaphore;

use super::{insert, win};

/// A store that commits only when it is let, and fails when it is told to.
struct Gated {
    inner: MemoryStore,
    gate: Arc<Semaphore>,
    batches: Arc<std::sync::Mutex<Vec<usize>>>,
    fails: Arc<AtomicUsize>,
}

impl Gated {
    fn new() -> Self {
        let inner = MemoryStore::new(|| Timestamp::from_millis(0));
        let gate = Arc::new(Semaphore::new(0));
        Self { inner, gate, batches: Arc::default(), fails: Arc::default() }
    }
}

impl Store for Gated {
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<Vec<Written>, Unknown>> {
        Box::pin(async move {
            self.batches.lock().expect("no panic").push(batch.len());
            self.gate.acquire().await.expect("an open gate").forget();
            let written = self.inner.commit(batch).await;
            if self.fails.load(Ordering::Relaxed) > 0 {
                self.fails.fetch_sub(1, Ordering::Relaxed);
                return Err(Unknown("the disk is on fire".into()));
            }
            written
        })
    }
    fn load<'a>(&'a self, gid: &'a Gid) -> BoxFuture<'a, Result<Option<Row>, Unavailable>> {
        self.inner.load(gid)
    }
    fn list<'a>(&'a self, filter: &'a Filter, page: Page) -> BoxFuture<'a, Result<Listing, Unavailable>> {
        self.inner.list(filter, page)
    }
    fn claim(&self, lease: Duration, limit: usize) -> BoxFuture<'_, Result<Claimed, Unavailable>> {
        self.inner.claim(lease, limit)
    }
    fn claim_parked<'a>(
        &'a self,
        destination: &'a str,
        lease: Duration,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, Unavailable>> {
        self.inner.claim_parked(destination, lease, limit)
    }
    fn parked_at(&self, limit: usize) -> BoxFuture<'_, Result<Vec<String>, Unavailable>> {
        self.inner.parked_at(limit)
    }
    fn counts(&self) -> BoxFuture<'_, Result<Counts, Unavailable>> {
        self.inner.counts()
    }
    fn purge(
        &self,
        ended_before: Timestamp,
        forget_before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, Unavailable>> {
        self.inner.purge(ended_before, forget_before, limit)
    }
    fn now(&self) -> Timestamp {
        self.inner.now()
    }
}

/// Starts commits, one after the other, and returns once each waits.
async fn waiting(store: &Arc<Batched<Gated>>, writes: Vec<Write>) -> Vec<tokio::task::JoinHandle<Outcome>> {
    let mut tasks = Vec::new();
    for write in writes {
        let store = Arc::clone(store);
        tasks.push(tokio::spawn(async move { store.commit(vec![write]).await }));
        // On one thread every task runs until it waits.
        tokio::task::yield_now().await;
    }
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    tasks
}

type Outcome = Result<Vec<Written>, Unknown>;

#[tokio::test]
async fn what_waits_together_is_committed_together() {
    let store = Arc::new(Batched::new(Gated::new()));
    let writes = (0..10).map(|number| insert(&*store, &format!("n{number}"), 10)).collect();
    let tasks = waiting(&store, writes).await;
    store.inner().gate.add_permits(2);
    for task in tasks {
        assert_eq!(task.await.expect("no panic").expect("a known outcome"), [Written::Won]);
    }
    assert_eq!(*store.inner().batches.lock().expect("no panic"), [1, 9]);
}

#[tokio::test]
async fn everyone_gets_the_result_of_its_own_writes() {
    let store = Arc::new(Batched::new(Gated::new()));
    store.inner().gate.add_permits(1);
    win(&*store, insert(&*store, "taken", 10)).await;
    let rival = |tag| {
        let mut write = insert(&*store, "taken", 10);
        write.row.tag = tag;
        write
    };
    let writes = vec![insert(&*store, "first", 10), rival(2), insert(&*store, "second", 10), rival(3)];
    let tasks = waiting(&store, writes).await;
    store.inner().gate.add_permits(2);
    let mut written = Vec::new();
    for task in tasks {
        written.extend(task.await.expect("no panic").expect("a known outcome"));
    }
    assert_eq!(written, [Written::Won, Written::Lost, Written::Won, Written::Lost]);
}

#[tokio::test]
async fn an_unknown_outcome_is_unknown_to_everyone_in_the_batch_and_to_nobody_else() {
    let store = Arc::new(Batched::new(Gated::new()));
    let writes = (0..4).map(|number| insert(&*store, &format!("n{number}"), 10)).collect();
    let tasks = waiting(&store, writes).await;
    store.inner().gate.add_permits(1);
    tokio::task::yield_now().await;
    let mut tasks = tasks.into_iter();
    let first = tasks.next().expect("four tasks").await.expect("no panic");
    assert_eq!(first.expect("a known outcome"), [Written::Won]);
    store.inner().fails.store(1, Ordering::Relaxed);
    store.inner().gate.add_permits(1);
    for task in tasks {
        let unknown = task.await.expect("no panic").expect_err("an unknown outcome");
        assert_eq!(unknown.0.to_string(), "the disk is on fire");
    }
    store.inner().gate.add_permits(1);
    win(&*store, insert(&*store, "n1", 10)).await;
}

/// A request's connection may go at any moment; its write must not be half in a batch.
#[tokio::test]
async fn a_caller_who_goes_loses_no_write() {
    let store = Arc::new(Batched::new(Gated::new()));
    let writes = (0..3).map(|number| insert(&*store, &format!("n{number}"), 10)).collect();
    for task in waiting(&store, writes).await {
        task.abort();
        let _ = task.await;
    }
    store.inner().gate.add_permits(3);
    win(&*store, insert(&*store, "after", 10)).await;
    for id in ["n0", "n1", "n2"] {
        let gid: Gid = id.parse().expect("a gid");
        assert!(store.load(&gid).await.expect("memory").is_some(), "{id}");
    }
}

#[tokio::test]
async fn no_batch_is_larger_than_its_limits() {
    let store = Arc::new(Batched::new(Gated::new()));
    let writes = (0..=limits::COMMIT_WRITES + 9).map(|number| insert(&*store, &format!("n{number}"), 10));
    let tasks = waiting(&store, writes.collect()).await;
    store.inner().gate.add_permits(3);
    for task in tasks {
        task.await.expect("no panic").expect("a known outcome");
    }
    let large = (0..5).map(|number| insert(&*store, &format!("l{number}"), limits::COMMIT_BYTES / 2));
    let tasks = waiting(&store, large.collect()).await;
    store.inner().gate.add_permits(3);
    for task in tasks {
        task.await.expect("no panic").expect("a known outcome");
    }
    assert_eq!(*store.inner().batches.lock().expect("no panic"), [1, limits::COMMIT_WRITES, 9, 1, 2, 2]);
}
