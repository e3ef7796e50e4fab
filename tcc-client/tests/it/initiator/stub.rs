//! A coordinator with participants on one port: the protocol is tcc-core's own, the faults are the test's.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tcc_client::wire::{
    BeginRequest, CancelRequest, ConfirmRequest, Problem, ProblemCode, RegisterRequest, TransactionView,
};
use tcc_client::{Client, ClientBuilder, Gid, Phase};
use tcc_core::{Event, Patience, Rejection, Timestamp, Transaction, protocol};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// How long anything may take that has to happen.
const BOUND: Duration = Duration::from_secs(20);

const PATIENCE: Patience = Patience { attempts: 5, age: Duration::from_secs(300) };

/// What goes wrong with one request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is done and the answer is lost.
    Lost,
    /// It is not done and not answered.
    Silent,
    /// It is not done, and this is the answer.
    Answer(u16, Value),
    /// The same, with `Retry-After` in seconds.
    Later(u16, u64),
}

#[derive(Clone)]
pub(crate) struct Stub(Arc<Inner>);

struct Inner {
    at: String,
    transactions: Mutex<HashMap<String, Transaction>>,
    log: Mutex<Vec<String>>,
    headers: Mutex<Vec<HeaderMap>>,
    faults: Mutex<BTreeMap<String, VecDeque<Fault>>>,
    changed: watch::Sender<()>,
    /// The mark that comes with a begin; 0 for none.
    settled: AtomicI64,
}

type Query_ = Query<HashMap<String, String>>;

impl Stub {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stub = Self(Arc::new(Inner {
            at: format!("http://{}", listener.local_addr().unwrap()),
            transactions: Mutex::default(),
            log: Mutex::default(),
            headers: Mutex::default(),
            faults: Mutex::default(),
            changed: watch::Sender::new(()),
            settled: AtomicI64::new(0),
        }));
        let app = Router::new()
            .route("/v1/transactions", post(begin))
            .route("/v1/transactions/{gid}", get(status))
            .route("/v1/transactions/{gid}/{step}", post(step))
            .route("/participants/{name}/{operation}", post(participate))
            .with_state(stub.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        stub
    }

    /// A client that gives up after a while that no test reaches unless it is about giving up.
    pub(crate) fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    pub(crate) fn builder(&self) -> ClientBuilder {
        // Other crates of the workspace may have given reqwest its TLS, which needs this even for http.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::builder(&self.0.at).repeat_after(Duration::from_millis(5), Duration::from_millis(20))
    }

    /// Where a participant is.
    pub(crate) fn participant(&self, name: &str) -> String {
        format!("{}/participants/{name}", self.0.at)
    }

    /// What goes wrong with the next requests of this kind: `begin`, `confirm`, `stock/try`.
    pub(crate) fn faults(&self, of: &str, faults: impl IntoIterator<Item = Fault>) {
        self.0.faults.lock().unwrap().entry(of.to_owned()).or_default().extend(faults);
    }

    /// All that was asked so far, one line each.
    pub(crate) fn log(&self) -> Vec<String> {
        self.0.log.lock().unwrap().clone()
    }

    /// The headers of all that was asked so far.
    pub(crate) fn headers(&self) -> Vec<HeaderMap> {
        self.0.headers.lock().unwrap().clone()
    }

    /// How often something that begins like this was asked.
    pub(crate) fn count(&self, asked: &str) -> usize {
        self.log().iter().filter(|line| line.starts_with(asked)).count()
    }

    /// Waits until something that begins like this was asked, and returns the line.
    pub(crate) async fn asked(&self, asked: &str) -> String {
        let mut changes = self.0.changed.subscribe();
        let found = async {
            loop {
                if let Some(line) = self.log().into_iter().find(|line| line.starts_with(asked)) {
                    return line;
                }
                changes.changed().await.unwrap();
            }
        };
        let found = timeout(BOUND, found).await;
        found.unwrap_or_else(|_| panic!("nobody asked {asked:?}: {:#?}", self.log()))
    }

    pub(crate) fn phase(&self, gid: &Gid) -> Option<Phase> {
        self.0.transactions.lock().unwrap().get(gid.as_str()).map(Transaction::phase)
    }

    /// When a transaction began, by the coordinator's clock.
    pub(crate) fn begun(&self, gid: &Gid) -> i64 {
        self.0.transactions.lock().unwrap()[gid.as_str()].begun().as_millis()
    }

    /// From now on says that whatever began before this moment has ended.
    pub(crate) fn settled(&self, mark: i64) {
        self.0.settled.store(mark, Ordering::SeqCst);
    }

    /// Lets something happen to a transaction from elsewhere.
    /// Its branches, each with those it comes after.
    pub(crate) fn order(&self, gid: &Gid) -> Vec<String> {
        let transactions = self.0.transactions.lock().unwrap();
        let branches = transactions[gid.as_str()].branches();
        branches.iter().map(|b| format!("{} after {:?}", b.definition().id, b.definition().after)).collect()
    }

    pub(crate) fn apply(&self, gid: &Gid, event: Event) {
        self.0.transactions.lock().unwrap().get_mut(gid.as_str()).unwrap().apply(event, now()).unwrap();
        self.0.changed.send_replace(());
    }

    fn note(&self, line: String, headers: &HeaderMap) {
        self.0.log.lock().unwrap().push(line);
        self.0.headers.lock().unwrap().push(headers.clone());
        self.0.changed.send_replace(());
    }

    fn fault(&self, of: &str) -> Option<Fault> {
        self.0.faults.lock().unwrap().get_mut(of)?.pop_front()
    }

    /// Does it, or what goes wrong instead.
    async fn faulty(&self, of: &str, work: impl AsyncFnOnce() -> Response) -> Response {
        match self.fault(of) {
            None => work().await,
            Some(Fault::Lost) => {
                work().await;
                Response::new(Body::new(Broken))
            }
            Some(Fault::Silent) => pending().await,
            Some(Fault::Answer(status, body)) => answer(status, &body),
            Some(Fault::Later(status, seconds)) => {
                let mut response = answer(status, &json!({}));
                response.headers_mut().insert("retry-after", seconds.to_string().parse().unwrap());
                response
            }
        }
    }

    /// Where the transaction stands, when what the query waits for has come.
    async fn view(&self, gid: &str, query: &HashMap<String, String>, created: u16) -> Response {
        let millis = query.get("timeout_ms").map_or(0, |millis| millis.parse().unwrap());
        let end = Instant::now() + Duration::from_millis(millis);
        let mut changes = self.0.changed.subscribe();
        loop {
            let view = match self.0.transactions.lock().unwrap().get(gid) {
                None => return problem(ProblemCode::UnknownGid, None, "no such transaction"),
                Some(transaction) => TransactionView::of(transaction, now()),
            };
            let over = match query.get("wait").map(String::as_str) {
                Some("decision") => view.phase.decision().is_some(),
                Some("end") => view.phase.ended(),
                _ => true,
            };
            if over {
                return answer(created, &serde_json::to_value(&view).unwrap());
            }
            if timeout_at(end, changes.changed()).await.is_err() {
                return answer(202, &serde_json::to_value(&view).unwrap());
            }
        }
    }

    fn step(&self, gid: &str, event: Event) -> Result<(), Box<Response>> {
        let mut transactions = self.0.transactions.lock().unwrap();
        let Some(transaction) = transactions.get_mut(gid) else {
            let Event::Cancel { reason } = event else {
                return Err(Box::new(problem(ProblemCode::UnknownGid, None, "no such transaction")));
            };
            let gid_ = gid.parse().unwrap();
            let barred = Transaction::cancelled_before_begin(gid_, reason, PATIENCE, now());
            transactions.insert(gid.to_owned(), barred);
            return Ok(());
        };
        let wanted = match event {
            Event::Cancel { .. } => Phase::Cancelling,
            _ => Phase::Confirming,
        };
        let applied = transaction.apply(event, now());
        self.0.changed.send_replace(());
        let phase = transaction.phase();
        let no = match applied {
            Ok(_) if phase.decision().is_some() && phase.decision() != wanted.decision() => {
                decided(phase, "the deadline passed")
            }
            Ok(_) => return Ok(()),
            Err(Rejection::Decided(phase)) => decided(phase, "it is decided"),
            Err(Rejection::NotAllTried(why)) => problem(ProblemCode::NotAllTried, Some(phase), &why),
            Err(other) => problem(ProblemCode::Invalid, Some(phase), &other.to_string()),
        };
        Err(Box::new(no))
    }
}

async fn begin(State(stub): State<Stub>, Query(query): Query_, headers: HeaderMap, body: Bytes) -> Response {
    let request: BeginRequest = serde_json::from_slice(&body).unwrap();
    let begin = request.parse(|| panic!("the client makes the gid")).unwrap();
    let gid = begin.gid.to_string();
    stub.note(format!("begin {gid}"), &headers);
    let work = async || {
        let known = stub.phase(&begin.gid);
        if known == Some(Phase::Cancelled) && stub.0.transactions.lock().unwrap()[&gid].branches().is_empty()
        {
            return decided(Phase::Cancelled, "it was cancelled before it was begun");
        }
        if known.is_none() {
            let begun = Transaction::begin(begin.clone(), PATIENCE, now()).unwrap();
            stub.0.transactions.lock().unwrap().insert(gid.clone(), begun);
        }
        let mut told = stub.view(&gid, &query, if known.is_none() { 201 } else { 200 }).await;
        match stub.0.settled.load(Ordering::SeqCst) {
            0 => {}
            mark => drop(told.headers_mut().insert(protocol::SETTLED, mark.into())),
        }
        told
    };
    stub.faulty("begin", work).await
}

async fn status(
    State(stub): State<Stub>,
    Path(gid): Path<String>,
    Query(query): Query_,
    headers: HeaderMap,
) -> Response {
    let wait = query.get("wait").map(|wait| format!(" wait={wait}")).unwrap_or_default();
    stub.note(format!("status {gid}{wait}"), &headers);
    stub.faulty("status", async || stub.view(&gid, &query, 200).await).await
}

async fn step(
    State(stub): State<Stub>,
    Path((gid, step)): Path<(String, String)>,
    Query(query): Query_,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (line, event) = match step.as_str() {
        "branches" => {
            let branches = serde_json::from_slice::<RegisterRequest>(&body).unwrap().parse().unwrap();
            let ids: Vec<&str> = branches.iter().map(|branch| branch.id.as_str()).collect();
            (format!("register {}", ids.join(" ")), Event::Register(branches))
        }
        "confirm" => {
            let request: ConfirmRequest = serde_json::from_slice(&body).unwrap();
            let line = format!("confirm {}", request.tried.join(" "));
            (line, Event::Confirm { tried: request.parse().unwrap() })
        }
        "cancel" => {
            let reason = serde_json::from_slice::<CancelRequest>(&body).unwrap().parse();
            (format!("cancel {reason}"), Event::Cancel { reason })
        }
        other => panic!("there is no {other}"),
    };
    stub.note(line, &headers);
    let work = async || match stub.step(&gid, event) {
        Ok(()) => stub.view(&gid, &query, 200).await,
        Err(response) => *response,
    };
    stub.faulty(&step, work).await
}

/// A participant says done to everything, and what its transaction knew of the branch when it was called.
async fn participate(
    State(stub): State<Stub>,
    Path((name, operation)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let gid = headers["tcc-gid"].to_str().unwrap();
    let registered = stub.0.transactions.lock().unwrap().get(gid).is_some_and(|transaction| {
        transaction.branches().iter().any(|branch| branch.definition().id.as_str() == name)
    });
    let known = if registered { "registered" } else { "unregistered" };
    stub.note(format!("{name}/{operation} {known} {}", String::from_utf8_lossy(&body)), &headers);
    let work = async || answer(200, &json!({ "reserved": name }));
    stub.faulty(&format!("{name}/{operation}"), work).await
}

fn decided(phase: Phase, detail: &str) -> Response {
    let code = match phase.decision() {
        Some(tcc_client::Decision::Confirm) => ProblemCode::AlreadyConfirmed,
        _ => ProblemCode::AlreadyCancelled,
    };
    problem(code, Some(phase), detail)
}

fn problem(code: ProblemCode, phase: Option<Phase>, detail: &str) -> Response {
    let problem = Problem::new(code, detail);
    let problem = match phase {
        Some(phase) => problem.in_phase(phase),
        None => problem,
    };
    answer(problem.status, &serde_json::to_value(&problem).unwrap())
}

/// The answer with that code, as a fault.
pub(crate) fn says(code: ProblemCode) -> Fault {
    Fault::Answer(code.status(), serde_json::to_value(Problem::new(code, "says the test")).unwrap())
}

fn answer(status: u16, body: &Value) -> Response {
    let body = Body::from(body.to_string());
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

fn now() -> Timestamp {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    Timestamp::from_millis(i64::try_from(millis).unwrap())
}

/// A body that breaks off, and with it the connection.
struct Broken;

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = std::io::Error;
    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
    }
}
