//! A store under observation: every write that is offered is noted, and every answer.
//!
//! What happens is the same each time, whatever the threads do: the writer changes files only while everybody else
//! waits for it, and the clock is a number.

use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tcc_core::store::{
    BoxFuture, Claimed, Counts, Filter, Listing, Page, Row, Store, Unavailable, Unknown, Write, Written,
};
use tcc_core::{Gid, Timestamp};
use tcc_server::store::{Batched, SqliteStore};

use crate::disk::Disk;
use crate::history::{Answer, History, Offer, Purge};

/// The store, as a coordinator has it, and what was seen of it.
pub struct Lab {
    store: Batched<Lockstep>,
    disk: Arc<Disk>,
    history: Mutex<History>,
    clock: AtomicI64,
}

/// A store that is asked one thing at a time and waited for.
struct Lockstep {
    inner: SqliteStore,
    disk: Arc<Disk>,
}

/// The first moment of the clock.
const BEGINNING: i64 = 1_700_000_000_000;

impl Lab {
    /// Puts a store under observation. Needs a runtime of one thread.
    #[must_use]
    pub fn new(inner: SqliteStore, disk: Arc<Disk>) -> Self {
        disk.close_gate();
        let store = Batched::new(Lockstep { inner, disk: Arc::clone(&disk) });
        Self { store, disk, history: Mutex::default(), clock: AtomicI64::new(BEGINNING) }
    }

    /// The store within.
    #[must_use]
    pub fn inner(&self) -> &SqliteStore {
        &self.store.inner().inner
    }

    /// What was seen so far.
    #[must_use]
    pub fn history(&self) -> History {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offered(&self, batch: &[Write]) -> std::ops::Range<usize> {
        let offered = self.disk.position();
        let mut history = self.lock();
        let first = history.offers.len();
        let offers = batch.iter().map(|write| Offer { write: write.clone(), offered, answer: None });
        history.offers.extend(offers);
        first..first + batch.len()
    }

    fn note(&self, offers: std::ops::Range<usize>, written: &Result<Vec<Written>, Unknown>) {
        let position = self.disk.position();
        let mut history = self.lock();
        let mut answers = Vec::new();
        for (number, offer) in history.offers[offers].iter_mut().enumerate() {
            let answer = match written.as_ref().map(|written| &written[number]) {
                Ok(Written::Won) => Answer::Won,
                Ok(Written::Lost) => Answer::Lost,
                Ok(Written::Refused(_)) => Answer::Refused,
                Err(Unknown(_)) => Answer::Unknown,
            };
            offer.answer = Some((position, answer));
            answers.push(answer);
        }
        history.answers.extend(answers);
    }
}

impl Store for Lab {
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<Vec<Written>, Unknown>> {
        Box::pin(async move {
            let offers = self.offered(&batch);
            let written = self.store.commit(batch).await;
            self.note(offers, &written);
            written
        })
    }
    fn load<'a>(&'a self, gid: &'a Gid) -> BoxFuture<'a, Result<Option<Row>, Unavailable>> {
        self.store.load(gid)
    }
    fn list<'a>(&'a self, filter: &'a Filter, page: Page) -> BoxFuture<'a, Result<Listing, Unavailable>> {
        self.store.list(filter, page)
    }
    fn claim(&self, lease: Duration, limit: usize) -> BoxFuture<'_, Result<Claimed, Unavailable>> {
        self.store.claim(lease, limit)
    }
    fn claim_parked<'a>(
        &'a self,
        destination: &'a str,
        lease: Duration,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, Unavailable>> {
        self.store.claim_parked(destination, lease, limit)
    }
    fn parked_at(&self, limit: usize) -> BoxFuture<'_, Result<Vec<String>, Unavailable>> {
        self.store.parked_at(limit)
    }
    fn counts(&self) -> BoxFuture<'_, Result<Counts, Unavailable>> {
        self.store.counts()
    }
    fn purge(
        &self,
        ended_before: Timestamp,
        forget_before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, Unavailable>> {
        Box::pin(async move {
            let asked = self.disk.position();
            let purge = Purge { asked, ended_before, forget_before, done: None };
            let number = {
                let mut history = self.lock();
                history.purges.push(purge);
                history.purges.len() - 1
            };
            let touched = self.store.purge(ended_before, forget_before, limit).await?;
            self.lock().purges[number].done = Some(self.disk.position());
            Ok(touched)
        })
    }
    /// Every look at the clock is a millisecond later.
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.fetch_add(1, Ordering::Relaxed))
    }
}

impl Store for Lockstep {
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<Vec<Written>, Unknown>> {
        Box::pin(async move {
            // Whoever was just answered has its turn, so that what it writes next may ride along.
            tokio::task::yield_now().await;
            // What the writer does once it has answered, which is a commit too, has its turn before this one: by the time
            // a purge of nothing is answered it is done.
            self.disk.open_gate();
            let nothing = Timestamp::from_millis(0);
            let _ = wait(self.inner.purge(nothing, nothing, 1));
            self.disk.let_one_commit();
            // A store that does not sync its commits leaves the gate open, until a sync of its checkpoint closes it
            // in front of the commit that waits behind. What such a store loses is to be seen, so it goes on.
            let written = wait_and(self.inner.commit(batch), STUCK, || self.disk.let_one_commit());
            self.disk.close_gate();
            written
        })
    }
    fn load<'a>(&'a self, gid: &'a Gid) -> BoxFuture<'a, Result<Option<Row>, Unavailable>> {
        Box::pin(async move { wait(self.inner.load(gid)) })
    }
    fn list<'a>(&'a self, filter: &'a Filter, page: Page) -> BoxFuture<'a, Result<Listing, Unavailable>> {
        Box::pin(async move { wait(self.inner.list(filter, page)) })
    }
    fn claim(&self, lease: Duration, limit: usize) -> BoxFuture<'_, Result<Claimed, Unavailable>> {
        Box::pin(async move { wait(self.inner.claim(lease, limit)) })
    }
    fn claim_parked<'a>(
        &'a self,
        destination: &'a str,
        lease: Duration,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, Unavailable>> {
        Box::pin(async move { wait(self.inner.claim_parked(destination, lease, limit)) })
    }
    fn parked_at(&self, limit: usize) -> BoxFuture<'_, Result<Vec<String>, Unavailable>> {
        Box::pin(async move { wait(self.inner.parked_at(limit)) })
    }
    fn counts(&self) -> BoxFuture<'_, Result<Counts, Unavailable>> {
        Box::pin(async move { wait(self.inner.counts()) })
    }
    fn purge(
        &self,
        ended_before: Timestamp,
        forget_before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, Unavailable>> {
        Box::pin(async move {
            // Several commits; the last step finds nothing, so nothing is written after the answer.
            self.disk.open_gate();
            let touched = wait(self.inner.purge(ended_before, forget_before, limit));
            self.disk.close_gate();
            touched
        })
    }
    fn now(&self) -> Timestamp {
        self.inner.now()
    }
}

/// Longer than any commit takes whose disk is in order.
const STUCK: Duration = Duration::from_secs(5);

/// Waits on this thread, and lets nothing else on it happen meanwhile.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    wait_and(future, Duration::from_secs(3600), || ())
}

/// As [`wait`], and does something whenever that took so long.
fn wait_and<T>(future: impl Future<Output = T>, long: Duration, and: impl Fn()) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    // The budget of the task around it, were it to run out, would never be renewed.
    let mut future = pin!(tokio::task::unconstrained(future));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let since = Instant::now();
        thread::park_timeout(long);
        if since.elapsed() >= long {
            and();
        }
    }
}
