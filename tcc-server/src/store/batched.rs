//! Group commit for stores that do not group by themselves.

use std::sync::Arc;
use std::time::Duration;

use tcc_core::store::{
    BoxFuture, Claimed, Counts, Filter, Listing, Page, Refusal, Row, Store, Subscription, Unavailable,
    Unknown, Write, Written,
};
use tcc_core::topic::Subscriber;
use tcc_core::{Gid, Timestamp, TopicName};
use tokio::sync::{mpsc, oneshot};

use super::group::{Answer, Group};
use crate::limits;

/// A store around a store: commits that wait at the same time become one commit of the store within. No timer holds
/// one back; while one is on its way the next fills up, so the batches are as large as the store is slow.
pub struct Batched<S> {
    inner: Arc<S>,
    waiting: mpsc::Sender<Waiting>,
}

struct Waiting {
    batch: Vec<Write>,
    answer: Answer,
}

impl<S: Store> Batched<S> {
    /// Puts itself around a store.
    ///
    /// # Panics
    /// Outside a tokio runtime: the commits run in a task of their own, so that a caller who is dropped loses none.
    #[must_use]
    pub fn new(inner: S) -> Self {
        let inner = Arc::new(inner);
        let (waiting, queue) = mpsc::channel(limits::COMMITS_WAITING);
        tokio::spawn(commit_all(Arc::clone(&inner), queue));
        Self { inner, waiting }
    }

    /// The store within.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

/// One commit of the store within at a time, each with as much as was waiting.
async fn commit_all<S: Store>(inner: Arc<S>, mut queue: mpsc::Receiver<Waiting>) {
    let mut left_over = None;
    loop {
        let first = match left_over.take() {
            Some(first) => first,
            None => match queue.recv().await {
                Some(first) => {
                    // Whoever can run now may have something to commit as well.
                    tokio::task::yield_now().await;
                    first
                }
                None => return,
            },
        };
        let mut group = Group::default();
        group.add(first.batch, first.answer);
        while let Ok(next) = queue.try_recv() {
            if !group.has_room_for(&next.batch) {
                left_over = Some(next);
                break;
            }
            group.add(next.batch, next.answer);
        }
        let results = inner.commit(group.take_writes()).await;
        group.tell(results);
    }
}

impl<S: Store> Store for Batched<S> {
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<Vec<Written>, Unknown>> {
        Box::pin(async move {
            let gone = || Unknown("the runtime of the batches is gone".into());
            let (answer, answered) = oneshot::channel();
            self.waiting.send(Waiting { batch, answer }).await.map_err(|_| gone())?;
            answered.await.unwrap_or_else(|_| Err(gone()))
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

    fn subscribe(&self, change: Subscription) -> BoxFuture<'_, Result<Result<(), Refusal>, Unknown>> {
        self.inner.subscribe(change)
    }

    fn subscribers<'a>(
        &'a self,
        topic: Option<&'a TopicName>,
    ) -> BoxFuture<'a, Result<Vec<Subscriber>, Unavailable>> {
        self.inner.subscribers(topic)
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }
}
