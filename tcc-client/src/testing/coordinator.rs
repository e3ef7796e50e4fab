//! A coordinator in the process of a test, by a clock of its own.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use serde::Serialize;
use tcc_core::answer::{Answer, Failure, judge};
use tcc_core::signature::SigningKey;
use tcc_core::store::load;
use tcc_core::wire::{BeginRequest, TransactionView};
use tcc_core::{
    Applied, BranchId, Call, Change, Event, Found, Gid, MemoryStore, Patience, Plan, Random, Rejection,
    Store, Stored, Timestamp, Transaction, limits,
};

use super::called::Called;
use super::faults::{Fault, Faults};
use super::service::{Service, body, headers};
use crate::BoxError;
use crate::limits::{TEST_CALLS, TEST_RUN};

/// When its clock starts.
const BEGINNING: Timestamp = Timestamp::from_millis(1_000_000_000_000);
/// How far the watermark is behind, as a coordinator's that keeps what has ended for a week.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a coordinator that crashed is away.
const AWAY: Duration = Duration::from_secs(1);
/// The longest way of a call or an answer, where nothing delays it.
const WAY_MS: u64 = 5;
/// When a transaction calls for a human, as with a coordinator that was told nothing.
const PATIENCE: Patience = Patience { attempts: 20, age: Duration::from_secs(300) };

/// A coordinator in the test's own process: the protocol itself over a store in memory, with participants of the same
/// process, [`Faults`] as planned, and a clock that jumps to what is due next. A deadline of an hour takes no time, and
/// the same seed gives the same calls in the same order.
///
#[cfg_attr(feature = "rusqlite", doc = "```")]
#[cfg_attr(not(feature = "rusqlite"), doc = "```ignore")]
/// use serde_json::json;
/// use tcc_client::testing::{Coordinator, Fault, Faults, Phase};
/// use tcc_client::{Operation, Participants};
/// # use tcc_client::{BoxError, Call, Participant, SqliteDatabase, Tried, Tx};
/// # struct Account;
/// # #[derive(serde::Deserialize)]
/// # struct Charge { cents: i64 }
/// # impl Participant for Account {
/// #     type Database = SqliteDatabase;
/// #     type Payload = Charge;
/// #     async fn try_(&self, _: &Call, c: &Charge, tx: &mut Tx<Self>) -> Result<Tried, BoxError> {
/// #         let sql = "UPDATE account SET free = free - ?1 WHERE free >= ?1";
/// #         Ok(if tx.execute(sql, [c.cents])? == 1 { Tried::accepted() } else { Tried::refused("no funds") })
/// #     }
/// #     async fn confirm(&self, _: &Call, _: &Charge, _: &mut Tx<Self>) -> Result<(), BoxError> { Ok(()) }
/// #     async fn cancel(&self, _: &Call, c: &Charge, tx: &mut Tx<Self>) -> Result<(), BoxError> {
/// #         tx.execute("UPDATE account SET free = free + ?1", [c.cents])?;
/// #         Ok(())
/// #     }
/// # }
///
/// # #[tokio::main] async fn main() -> Result<(), BoxError> {
/// # let folder = tempfile::tempdir()?; let db = SqliteDatabase::open(folder.path().join("account.db"))?;
/// # db.create_schema().await?;
/// # db.with(|db| db.execute_batch("CREATE TABLE account (free INTEGER); INSERT INTO account VALUES (100)")).await?;
/// let participants = Participants::new().add("account", Account, db);
/// // The confirm is done, its answer lost; and the coordinator crashes after the next.
/// let faults = Faults::none()
///     .on("money", Operation::Confirm, 1, Fault::LoseAnswer)
///     .on("money", Operation::Confirm, 2, Fault::Crash);
/// let mut coordinator = Coordinator::new(faults).participant("http://bank/tcc", participants);
///
/// let money = json!({ "id": "money", "at": "http://bank/tcc/account", "payload": { "cents": 70 } });
/// let first = coordinator.submit(&json!({ "branches": [money] })).await;
/// let second = coordinator.submit(&json!({ "branches": [money] })).await;
///
/// assert_eq!(first.phase, Phase::Confirmed, "{coordinator}");
/// assert_eq!((second.phase, second.reason.as_deref()), (Phase::Cancelled, Some("branch money refused: no funds")));
/// assert_eq!(coordinator.calls().iter().filter(|call| call.operation == Operation::Confirm).count(), 3);
/// # Ok(()) }
/// ```
///
/// Calls reach participants one at a time; for calls at once there is [`Conformance`](super::Conformance). What is begun
/// are the bodies of the API's `POST /v1/transactions`; that of a `Submission` is its `request()`.
pub struct Coordinator {
    store: MemoryStore,
    clock: Arc<AtomicI64>,
    participants: Vec<(String, Service)>,
    keys: Vec<SigningKey>,
    faults: Faults,
    random: fastrand::Rng,
    begun: Vec<Gid>,
    /// What a crash takes with it: transactions as they are known, and the calls that are waited for.
    live: BTreeMap<Gid, Live>,
    /// What is on its way, by when it arrives, and in the order in which it was sent.
    network: BTreeMap<(Timestamp, usize), Message>,
    sent: usize,
    /// Requests that wait for the next one to their branch.
    held: Vec<usize>,
    calls: Vec<Called>,
    requests: Vec<Call>,
}

struct Live {
    stored: Option<Stored>,
    /// By branch, `None` for the check: which call is waited for.
    in_flight: BTreeMap<Option<BranchId>, usize>,
}

/// Numbers are places in `calls`.
enum Message {
    Request { call: usize, is_heard: bool },
    Answer { call: usize, answer: Answer },
}

impl Coordinator {
    /// One without participants.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        let clock = Arc::new(AtomicI64::new(BEGINNING.as_millis()));
        let read = clock.clone();
        Self {
            store: MemoryStore::new(move || Timestamp::from_millis(read.load(Ordering::Relaxed))),
            clock,
            participants: Vec::new(),
            keys: Vec::new(),
            random: fastrand::Rng::with_seed(faults.drawn.unwrap_or_default()),
            faults,
            begun: Vec::new(),
            live: BTreeMap::new(),
            network: BTreeMap::new(),
            sent: 0,
            held: Vec::new(),
            calls: Vec::new(),
            requests: Vec::new(),
        }
    }

    /// With a service for HTTP, such as [`Participants`](crate::Participants) or an axum router, at every endpoint that
    /// begins so: with `http://bank/tcc` the endpoint `http://bank/tcc/account/try` is its path `/account/try`, and with
    /// `local:` so is `local:account/try`.
    #[must_use]
    pub fn participant<S, B>(mut self, url: &str, service: S) -> Self
    where
        S: tower_service::Service<
                Request<Full<bytes::Bytes>>,
                Response = Response<B>,
                Error = Infallible,
                Future: Send,
            >,
        S: Clone + Send + Sync + 'static,
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        self.participants.push((url.trim_end_matches('/').to_owned(), Service::new(service)));
        self
    }

    /// Calls are signed by each of these keys, for participants that believe [signed calls](crate::Participants::verified_by)
    /// alone.
    #[must_use]
    pub fn signed_by(mut self, keys: impl IntoIterator<Item = SigningKey>) -> Self {
        self.keys = keys.into_iter().collect();
        self
    }

    /// Begins a transaction, drives all there are to their end, and shows how this one stands then.
    ///
    /// # Panics
    /// As [`begin`](Self::begin) and [`run`](Self::run) do.
    pub async fn submit(&mut self, body: &impl Serialize) -> TransactionView {
        let gid = self.begin(body).await;
        self.run().await;
        self.view(&gid).await
    }

    /// Begins a transaction: the body of `POST /v1/transactions`. Nothing is called yet.
    ///
    /// # Panics
    /// When the body is none, the gid is taken, or no participant was given for an endpoint.
    pub async fn begin(&mut self, body: &impl Serialize) -> Gid {
        let text = serde_json::to_string(body).expect("a body is JSON");
        let request: BeginRequest = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
        let made = || format!("test/{}", self.begun.len() + 1).parse().expect("a gid");
        let begin = request.parse(made).unwrap_or_else(|why| panic!("{why}: {text}"));
        let endpoints = begin.branches.iter().flat_map(tcc_core::Definition::endpoints).map(|(_, at)| at);
        for endpoint in endpoints.chain(begin.check.iter().map(|check| &check.at)) {
            assert!(self.service(endpoint.as_str()).is_some(), "no participant was given for {endpoint}");
        }
        let digest = begin.digest;
        let transaction = Transaction::begin(begin, PATIENCE, self.store.now());
        let transaction = transaction.unwrap_or_else(|why| panic!("{why}: {text}"));
        let gid = transaction.gid().clone();
        let stored =
            Change::begin(transaction, Some(digest)).save(&self.store, self.random.u64(..), None).await;
        let stored = stored.unwrap_or_else(|error| panic!("{gid} was begun before: {error}"));
        self.begun.push(gid.clone());
        self.live.insert(gid.clone(), Live { stored: Some(stored), in_flight: BTreeMap::new() });
        gid
    }

    /// Says confirm, as an initiator that decides.
    ///
    /// # Errors
    /// When the coordinator refuses.
    ///
    /// # Panics
    /// When a branch has no such id.
    pub async fn confirm(&mut self, gid: &Gid, tried: &[&str]) -> Result<(), Rejection> {
        let tried = tried.iter().map(|id| id.parse().expect("a branch id")).collect();
        self.tell(gid, Event::Confirm { tried }).await
    }

    /// Says cancel, as an initiator that gives up.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn cancel(&mut self, gid: &Gid, reason: &str) -> Result<(), Rejection> {
        self.tell(gid, Event::Cancel { reason: reason.to_owned() }).await
    }

    /// Drives all transactions to their end, until nothing is on its way any more; at most for a day by its own clock, for
    /// a participant may never do what it is asked.
    ///
    /// # Panics
    /// When there are more calls than any test means.
    pub async fn run(&mut self) {
        self.run_for(TEST_RUN).await;
    }

    /// The same, at most for this length by its own clock. Then the clock stands there, unless all was over before.
    ///
    /// # Panics
    /// When there are more calls than any test means.
    pub async fn run_for(&mut self, length: Duration) {
        let until = self.store.now() + length;
        loop {
            let mut due = None;
            for gid in self.begun.clone() {
                if let Some(next) = self.drive(&gid).await {
                    due = Some(due.map_or(next, |due: Timestamp| due.min(next)));
                }
            }
            self.drop_stale_answers();
            if due.is_none() && self.network.is_empty() && !self.release() {
                return;
            }
            let arrives = self.network.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = due.into_iter().chain(arrives).min() else { continue };
            if next > until {
                self.set_clock(until);
                return;
            }
            self.set_clock(next);
            while let Some(entry) = self.network.first_entry() {
                if entry.key().0 > next {
                    break;
                }
                let message = entry.remove();
                self.deliver(message).await;
            }
        }
    }

    /// How a transaction stands, as the API would show it.
    ///
    /// # Panics
    /// When it was not begun here.
    pub async fn view(&self, gid: &Gid) -> TransactionView {
        match load(&self.store, gid).await {
            Ok(Some(Found::Stored(stored))) => TransactionView::of(stored.transaction(), self.store.now()),
            _ => panic!("{gid} was not begun here"),
        }
    }

    /// Every call that was made, in order.
    #[must_use]
    pub fn calls(&self) -> &[Called] {
        &self.calls
    }

    /// How long it has been running, by its own clock.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.store.now().since(BEGINNING)
    }
}

/// The process.
impl Coordinator {
    /// Does what is due now, and returns when more is.
    async fn drive(&mut self, gid: &Gid) -> Option<Timestamp> {
        loop {
            let stored = self.live.get(gid)?.stored.as_ref()?;
            match stored.plan(self.store.now()) {
                Plan::Finished => return None,
                Plan::Expire => drop(self.tell(gid, Event::Expire).await),
                Plan::Work { calls, next } => {
                    calls.into_iter().for_each(|call| self.call(call));
                    return next;
                }
            }
        }
    }

    /// Applies an event, and saves what it changed before anything else is done.
    async fn tell(&mut self, gid: &Gid, event: Event) -> Result<(), Rejection> {
        let live = self.live.get_mut(gid).expect("it was begun here");
        let stored = live.stored.take().expect("one event at a time");
        let (stored, told) = match stored.apply(event, self.store.now()) {
            Applied::Changed(change) => {
                let saved = change.save(&self.store, self.random.u64(..), None).await;
                (saved.expect("nobody else writes"), Ok(()))
            }
            Applied::Kept(stored) => (stored, Ok(())),
            Applied::Rejected(stored, why) => (stored, Err(why)),
        };
        live.stored = Some(stored);
        told
    }

    fn call(&mut self, call: Call) {
        let Some(live) = self.live.get_mut(&call.gid) else { return };
        let number = self.calls.len();
        if live.in_flight.contains_key(&call.branch) {
            return;
        }
        live.in_flight.insert(call.branch.clone(), number);
        assert!(number < TEST_CALLS, "{TEST_CALLS} calls and no end");
        let same = |made: &&Called| {
            (&made.gid, &made.branch, made.operation) == (&call.gid, &call.branch, call.operation)
        };
        let nth = u32::try_from(self.calls.iter().filter(same).count() + 1).unwrap_or(u32::MAX);
        let id = call.branch.as_ref().map_or("", BranchId::as_str);
        let fault = self.faults.take(id, call.operation, nth, &mut self.random);
        let (gid, branch, operation, at) =
            (call.gid.clone(), call.branch.clone(), call.operation, self.elapsed());
        self.calls.push(Called { gid, branch, operation, nth, at, fault, answers: Vec::new() });
        let timeout = call.timeout.unwrap_or(limits::DEFAULT_CALL_TIMEOUT);
        self.requests.push(call);

        let (way, again) = (self.way(), self.way());
        let request = |is_heard| Message::Request { call: number, is_heard };
        match fault {
            None => self.send(way, request(true)),
            Some(Fault::LoseRequest) => {}
            Some(Fault::LoseAnswer | Fault::Crash) => self.send(way, request(false)),
            Some(Fault::Double) => {
                self.send(way, request(true));
                self.send(way + again, request(true));
            }
            Some(Fault::Delay(length)) => self.send(way + length, request(true)),
            Some(Fault::Reorder) => self.held.push(number),
        }
        self.send(timeout, Message::Answer { call: number, answer: Answer::None(Failure::TimedOut) });
    }

    async fn hear(&mut self, number: usize, answer: Answer) {
        let call = &self.requests[number];
        let (gid, branch, operation) = (call.gid.clone(), call.branch.clone(), call.operation);
        let reply = judge(operation, call.shape, answer);
        if let Some(live) = self.live.get_mut(&gid) {
            live.in_flight.remove(&branch);
        }
        let random = Random(self.random.u32(..));
        // What an answer cannot be applied to, it comes too late for.
        let _ = self.tell(&gid, Event::Reply { branch, operation, reply, random }).await;
    }

    /// Forgets all but the store, and comes back.
    async fn crash(&mut self) {
        self.set_clock(self.store.now() + AWAY);
        self.live.clear();
        for gid in &self.begun {
            if let Ok(Some(Found::Stored(stored))) = load(&self.store, gid).await {
                self.live.insert(gid.clone(), Live { stored: Some(*stored), in_flight: BTreeMap::new() });
            }
        }
    }

    fn set_clock(&self, at: Timestamp) {
        self.clock.fetch_max(at.as_millis(), Ordering::Relaxed);
    }
}

/// The network.
impl Coordinator {
    fn way(&mut self) -> Duration {
        Duration::from_millis(self.random.u64(1..=WAY_MS))
    }

    fn send(&mut self, way: Duration, message: Message) {
        self.sent += 1;
        self.network.insert((self.store.now() + way, self.sent), message);
    }

    async fn deliver(&mut self, message: Message) {
        match message {
            Message::Answer { call, answer } if self.is_waited_for(call) => self.hear(call, answer).await,
            Message::Answer { .. } => {}
            Message::Request { call, is_heard } => {
                let answer = self.arrive(call).await;
                if is_heard {
                    let way = self.way();
                    self.send(way, Message::Answer { call, answer });
                }
                self.let_go_of_what_waits_for(call);
                if self.calls[call].fault == Some(Fault::Crash) {
                    self.crash().await;
                }
            }
        }
    }

    /// The participant is called.
    async fn arrive(&mut self, number: usize) -> Answer {
        let call = &self.requests[number];
        let timeout = call.timeout.unwrap_or(limits::DEFAULT_CALL_TIMEOUT);
        let headers = headers(call, timeout, Some(call.begun - RETENTION), &self.keys);
        let answer = match (self.service(call.endpoint.as_str()), headers) {
            (Some((service, path)), Some(headers)) => service.call(&path, headers, body(call)).await,
            _ => Answer::None(Failure::Other),
        };
        self.calls[number].answers.push(answer.clone());
        answer
    }

    fn service(&self, endpoint: &str) -> Option<(&Service, String)> {
        self.participants.iter().find_map(|(url, service)| {
            let path = endpoint.strip_prefix(url.as_str())?;
            let path = path.strip_prefix('/').or_else(|| url.ends_with(':').then_some(path))?;
            Some((service, format!("/{path}")))
        })
    }

    /// Whether anybody still waits for the answer to a call.
    fn is_waited_for(&self, number: usize) -> bool {
        let call = &self.calls[number];
        self.live.get(&call.gid).is_some_and(|live| live.in_flight.get(&call.branch) == Some(&number))
    }

    /// The clock does not go on for an answer that nobody waits for.
    fn drop_stale_answers(&mut self) {
        while let Some((_, Message::Answer { call, .. })) = self.network.first_key_value() {
            if self.is_waited_for(*call) {
                return;
            }
            self.network.pop_first();
        }
    }

    /// Whatever was to be overtaken by this call arrives now.
    fn let_go_of_what_waits_for(&mut self, number: usize) {
        let target = |number: usize| (self.calls[number].gid.clone(), self.calls[number].branch.clone());
        let now = target(number);
        let (free, held) = self.held.iter().partition(|held| **held != number && target(**held) == now);
        self.held = held;
        let free: Vec<usize> = free;
        free.into_iter()
            .for_each(|call| self.send(Duration::from_millis(1), Message::Request { call, is_heard: true }));
    }

    /// Lets go of whatever nothing has overtaken; `false` if there is nothing.
    fn release(&mut self) -> bool {
        let held = std::mem::take(&mut self.held);
        let any = !held.is_empty();
        held.into_iter()
            .for_each(|call| self.send(Duration::from_millis(1), Message::Request { call, is_heard: true }));
        any
    }
}

/// Every call in a line: what was asked, what went wrong, what was answered.
impl fmt::Display for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.calls.iter().try_for_each(|call| writeln!(f, "{call}"))
    }
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator")
            .field("begun", &self.begun)
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}
