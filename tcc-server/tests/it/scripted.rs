//! A coordinator over a memory store that fails as told, and participants that do what the test says.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tcc_core::answer::{Answer, Response};
use tcc_core::store::{
    BoxFuture, Claimed, Counts, Filter, Listing, Page, Refusal, Row, Store, Subscription, Unavailable,
    Unknown, Write, Written,
};
use tcc_core::topic::Subscriber;
use tcc_core::wire::BeginRequest;
use tcc_core::{Begin, Endpoint, Gid, MemoryStore, Operation, Phase, Timestamp, TopicName};
use tcc_server::transport::{Outgoing, Transport, Transports};
use tcc_server::{Begun, Coordinator, Error, Known, Scheduler, Settings, Wait};
use tokio::sync::Semaphore;

/// How long anything may take here.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// Participants behind `t:` endpoints. What each answers is a function of the call; every call is recorded.
#[derive(Clone)]
pub(crate) struct Script {
    answers: Arc<dyn Fn(Outgoing) -> BoxFuture<'static, Answer> + Send + Sync>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Script {
    pub(crate) fn new<F: Future<Output = Answer> + Send + 'static>(
        answer: impl Fn(Outgoing) -> F + Send + Sync + 'static,
    ) -> Self {
        Self { answers: Arc::new(move |outgoing| Box::pin(answer(outgoing))), calls: Arc::default() }
    }

    /// Participants that agree to everything, some calls only once they are let: each takes a permit.
    pub(crate) fn held(is: impl Fn(Operation) -> bool + Send + Sync + 'static) -> (Self, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        let script = Self::new(move |outgoing| {
            let gate = is(outgoing.call.operation).then(|| held.clone());
            async move {
                if let Some(gate) = gate {
                    gate.acquire().await.unwrap().forget();
                }
                status(200)
            }
        });
        (script, gate)
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, call: &str) -> usize {
        self.calls().iter().filter(|made| *made == call).count()
    }
}

impl Transport for Script {
    fn schemes(&self) -> &[&'static str] {
        &["t"]
    }

    fn check(&self, _: &Endpoint) -> Result<(), String> {
        Ok(())
    }

    /// `t:stock/try` counts against `t:stock`.
    fn destination(&self, endpoint: &Endpoint) -> String {
        endpoint.as_str().split('/').next().unwrap().to_owned()
    }

    fn call(&self, outgoing: Outgoing) -> BoxFuture<'_, Answer> {
        let call = &outgoing.call;
        let branch = call.branch.as_ref().map_or("-", |branch| branch.as_str());
        self.calls.lock().unwrap().push(format!("{} {branch}", call.operation));
        (self.answers)(outgoing)
    }
}

pub(crate) fn status(status: u16) -> Answer {
    Answer::Response(Response { status, retry_after: None, body: Some(Vec::new()) })
}

/// A memory store whose commits can be made to fail, with a clock that can be set forward.
pub(crate) struct Faulty {
    pub(crate) inner: MemoryStore,
    pub(crate) full: AtomicBool,
    pub(crate) unclear: AtomicBool,
    /// The next commit is told of late: the row is there, and its writer learns of it with a permit.
    pub(crate) late: AtomicBool,
    pub(crate) told: Semaphore,
    /// Commits are made while there is a permit; at first there are as many as can be.
    pub(crate) goes: Semaphore,
}

impl Store for Faulty {
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<Vec<Written>, Unknown>> {
        if self.unclear.load(Ordering::SeqCst) {
            return Box::pin(async { Err(Unknown("the disk said no".into())) });
        }
        if self.full.load(Ordering::SeqCst) {
            return Box::pin(
                async move { Ok(batch.iter().map(|_| Written::Refused(Refusal::Full)).collect()) },
            );
        }
        let late = self.late.swap(false, Ordering::SeqCst);
        Box::pin(async move {
            let _goes = self.goes.acquire().await.unwrap();
            let written = self.inner.commit(batch).await;
            if late {
                self.told.acquire().await.unwrap().forget();
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
        ended: Timestamp,
        forget: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, Unavailable>> {
        self.inner.purge(ended, forget, limit)
    }

    fn subscribe(&self, change: Subscription) -> BoxFuture<'_, Result<Result<(), Refusal>, Unknown>> {
        if self.unclear.load(Ordering::SeqCst) {
            return Box::pin(async { Err(Unknown("the disk said no".into())) });
        }
        if self.full.load(Ordering::SeqCst) {
            return Box::pin(async { Ok(Err(Refusal::Full)) });
        }
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

/// A coordinator, its store and its clock.
pub(crate) struct Bench {
    pub(crate) store: Arc<Faulty>,
    ahead: Arc<AtomicI64>,
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) scheduler: Option<Scheduler>,
}

impl Bench {
    pub(crate) fn new(script: &Script) -> Self {
        let (ahead, started) = (Arc::new(AtomicI64::new(0)), Instant::now());
        let read = ahead.clone();
        let clock = move || {
            let passed = i64::try_from(started.elapsed().as_millis()).unwrap();
            Timestamp::from_millis(1_000_000_000_000 + passed + read.load(Ordering::SeqCst))
        };
        let inner = MemoryStore::new(clock);
        let [full, unclear, late] = [(); 3].map(|()| AtomicBool::new(false));
        let store = Arc::new(Faulty {
            inner,
            full,
            unclear,
            late,
            told: Semaphore::new(0),
            goes: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        let (coordinator, scheduler) = start(&store, script);
        Self { store, ahead, coordinator, scheduler: Some(scheduler) }
    }

    pub(crate) fn pass(&self, length: Duration) {
        self.ahead.fetch_add(i64::try_from(length.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) async fn begin(&self, json: &str) -> Result<Known, Error> {
        match self.coordinator.begin(request(json)).await? {
            Begun::New(stored) => Ok(Known::Stored(stored)),
            Begun::Before(known) => Ok(known),
        }
    }

    pub(crate) async fn ends(&self, known: Known) -> Phase {
        let known = self.coordinator.wait(known, Wait::End, BOUND).await;
        known.phase()
    }
}

pub(crate) fn start(store: &Arc<Faulty>, script: &Script) -> (Arc<Coordinator>, Scheduler) {
    let settings = Settings { per_destination: 4, ..Settings::default() };
    let coordinator = Coordinator::new(store.clone(), Transports::new().with(script.clone()), settings);
    let scheduler = Scheduler::start(coordinator.clone());
    (coordinator, scheduler)
}

pub(crate) fn request(json: &str) -> Begin {
    let request: BeginRequest = serde_json::from_str(json).unwrap();
    request.parse(|| unreachable!("it has a gid")).unwrap()
}

pub(crate) fn order(gid: &str) -> String {
    format!(
        r#"{{"gid":"{gid}","branches":[{{"id":"stock","at":"t:stock"}},{{"id":"money","at":"t:money"}}]}}"#
    )
}

pub(crate) fn gid(gid: &str) -> Gid {
    gid.parse().unwrap()
}

/// Waits, within a bound, until something holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let bound = Instant::now() + BOUND;
    while !holds() {
        assert!(Instant::now() < bound, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
