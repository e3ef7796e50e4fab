//! Participants that are functions of the coordinator's own process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tcc_core::answer::{Answer, Failure, Response};
use tcc_core::{Call, MemoryStore, Operation, Phase, Timestamp};
use tcc_server::transport::{LocalTransport, Outgoing, Transport, Transports};
use tcc_server::{Begun, Coordinator, Error, Known, Scheduler, Settings, Wait};

use crate::scripted::{BOUND, gid, request};

const ORDER: &str =
    r#"{"gid":"g","branches":[{"id":"stock","at":"local:stock"},{"id":"money","at":"local:money"}]}"#;

/// What the functions were called for, in order.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<String>>>);

impl Calls {
    fn note(&self, call: &Call) {
        let branch = call.branch.as_ref().map_or("-", |branch| branch.as_str());
        self.0.lock().unwrap().push(format!("{} {branch}", call.operation));
    }

    fn sorted(&self) -> Vec<String> {
        let mut calls = self.0.lock().unwrap().clone();
        calls.sort_unstable();
        calls
    }
}

struct Embedded {
    coordinator: Arc<Coordinator>,
    _scheduler: Scheduler,
}

impl Embedded {
    fn with(transport: LocalTransport) -> Self {
        let started = Instant::now();
        let store = MemoryStore::new(move || Timestamp::from_millis(1_000_000_000_000) + started.elapsed());
        let transports = Transports::new().with(transport);
        let coordinator = Coordinator::new(Arc::new(store), transports, Settings::default());
        Self { _scheduler: Scheduler::start(coordinator.clone()), coordinator }
    }

    async fn begin(&self, json: &str) -> Known {
        match self.coordinator.begin(request(json)).await.unwrap() {
            Begun::New(stored) => Known::Stored(stored),
            Begun::Before(known) => known,
        }
    }

    async fn ends(&self, json: &str) -> Known {
        let known = self.begin(json).await;
        self.coordinator.wait(known, Wait::End, BOUND).await
    }
}

/// Two participants; each answers its try as told, and agrees to everything else.
fn participants(stock: fn() -> Response, money: fn() -> Response) -> (LocalTransport, Calls) {
    let (calls, mut transport) = (Calls::default(), LocalTransport::new());
    for (name, tried) in [("stock", stock), ("money", money)] {
        let calls = calls.clone();
        transport = transport.with(name, move |outgoing: Outgoing| {
            calls.note(&outgoing.call);
            let is_try = outgoing.call.operation == Operation::Try;
            async move { if is_try { tried() } else { Response::done() } }
        });
    }
    (transport, calls)
}

#[tokio::test]
async fn functions_are_tried_and_confirmed_and_the_reply_of_a_try_is_kept() {
    let (transport, calls) = participants(|| Response::replied(r#"{"seat":"12A"}"#), Response::done);
    let known = Embedded::with(transport).ends(ORDER).await;
    let Known::Stored(stored) = known else { panic!("it is not purged") };
    assert_eq!(stored.transaction().phase(), Phase::Confirmed);
    let tried = stored.transaction().branches()[0].tried();
    assert!(
        matches!(tried, tcc_core::Tried::Done(Some(reply)) if reply.get() == r#"{"seat":"12A"}"#),
        "{tried:?}"
    );
    assert_eq!(calls.sorted(), ["confirm money", "confirm stock", "try money", "try stock"]);
}

#[tokio::test]
async fn a_function_that_refuses_its_try_has_all_cancelled() {
    let (transport, calls) = participants(Response::done, || Response::refused("no money"));
    let known = Embedded::with(transport).ends(ORDER).await;
    let Known::Stored(stored) = known else { panic!("it is not purged") };
    assert_eq!(stored.transaction().phase(), Phase::Cancelled);
    let reason = stored.transaction().decided().and_then(|decided| decided.reason.clone());
    assert_eq!(reason.as_deref(), Some("branch money refused: no money"));
    assert_eq!(calls.sorted(), ["cancel money", "cancel stock", "try money", "try stock"]);
}

#[tokio::test]
async fn a_pending_try_is_asked_again_and_can_be_cancelled() {
    let (transport, calls) = participants(Response::done, Response::pending);
    let embedded = Embedded::with(transport);
    let known = embedded.begin(ORDER).await;
    let bound = Instant::now() + BOUND;
    while calls.sorted().iter().filter(|call| *call == "try money").count() < 2 {
        assert!(Instant::now() < bound);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    embedded.coordinator.cancel(&gid("g"), "changed my mind".into()).await.unwrap();
    assert_eq!(embedded.coordinator.wait(known, Wait::End, BOUND).await.phase(), Phase::Cancelled);
}

/// P2 is the function's part; that the outcome is unknown, and so the call is made again, is the transport's.
#[tokio::test]
async fn a_function_that_panics_is_unknown_and_takes_nobody_with_it() {
    let times = Arc::new(AtomicUsize::new(0));
    let count = times.clone();
    let transport = LocalTransport::new().with("stock", async |_: Outgoing| Response::done()).with(
        "money",
        move |outgoing: Outgoing| {
            // Once before there is a future, once within it.
            let nth = count.fetch_add(1, Ordering::SeqCst);
            assert!(nth != 0, "no future");
            async move {
                assert!(nth != 1, "half way through {}", outgoing.call.operation);
                Response::done()
            }
        },
    );
    let embedded = Embedded::with(transport);
    let one = r#"{"gid":"g","branches":[{"id":"a","at":"local:money","retry":{"intervals_ms":[20]}}]}"#;
    assert_eq!(embedded.ends(one).await.phase(), Phase::Confirmed);
    assert_eq!(times.load(Ordering::SeqCst), 4, "two that panicked, a try and a confirm");
    assert_eq!(embedded.ends(&ORDER.replace(r#""g""#, r#""h""#)).await.phase(), Phase::Confirmed);
}

#[tokio::test]
async fn a_function_that_hangs_is_unknown_at_its_time_out_and_is_called_again() {
    let times = Arc::new(AtomicUsize::new(0));
    let count = times.clone();
    let transport = LocalTransport::new().with("money", move |_: Outgoing| {
        let hangs = count.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Response::done()
        }
    });
    let one = r#"{"gid":"g","branches":[{"id":"a","at":"local:money","timeout_ms":50,"retry":{"intervals_ms":[20]}}]}"#;
    assert_eq!(Embedded::with(transport).ends(one).await.phase(), Phase::Confirmed);
    assert_eq!(times.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn what_no_function_serves_is_refused_at_begin() {
    let embedded = Embedded::with(participants(Response::done, Response::done).0);
    for (at, why) in [
        ("local:stoc", "names \"stoc\", and no function here has that name; these have: money, stock"),
        ("local:Stock", "names \"Stock\", and no function here has that name; these have: money, stock"),
        ("local://stock", "names \"\", and no function here has that name; these have: money, stock"),
        ("local:stock/", "ends in \"refund\", which is none of try, confirm, cancel and check"),
    ] {
        let field = if at == "local:stock/" { r#""confirm":"local:stock/refund","at""# } else { r#""at""# };
        let one = format!(r#"{{"gid":"g","branches":[{{"id":"a",{field}:"{at}"}}]}}"#);
        let Err(Error::Invalid(invalid)) = embedded.coordinator.begin(request(&one)).await else {
            panic!("{at} is refused")
        };
        assert_eq!(invalid.detail, why, "{at}");
    }
    assert!(matches!(embedded.coordinator.get(&gid("g")).await, Err(Error::UnknownGid)));
}

#[tokio::test]
async fn a_function_is_never_called_for_another_operation_than_its_endpoint_says() {
    let (transport, calls) = participants(Response::done, Response::done);
    let embedded = Embedded::with(transport);
    let one = r#"{"gid":"g","branches":[{"id":"stock","at":"local:stock","confirm":"local:stock/cancel"}]}"#;
    embedded.begin(one).await;
    let bound = Instant::now() + BOUND;
    loop {
        let Known::Stored(stored) = embedded.coordinator.get(&gid("g")).await.unwrap() else {
            panic!("it is not purged")
        };
        match stored.transaction().attention() {
            Some(why) => break assert_eq!(why, "status 400"),
            None => assert!(Instant::now() < bound, "{:?}", calls.sorted()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(calls.sorted(), ["try stock"]);
}

#[tokio::test]
async fn a_call_counts_against_its_function_and_an_overlong_answer_comes_without_its_body() {
    let transport = LocalTransport::new()
        .with("long", async |_: Outgoing| Response::replied(vec![b' '; tcc_core::limits::REPLY + 1]))
        .with("broken", async |_: Outgoing| Answer::None(Failure::Broken));
    let call = |at: &str| Outgoing {
        call: Call {
            gid: gid("g"),
            branch: None,
            operation: Operation::Try,
            endpoint: at.parse().unwrap(),
            payload: None,
            headers: Vec::new(),
            attempt: 1,
            timeout: None,
            traceparent: None,
            begun: Timestamp::from_millis(0),
            shape: tcc_core::answer::Shape::Other,
            gives_up: false,
        },
        timeout: BOUND,
        settled: None,
    };
    assert_eq!(transport.destination(&"local:long/try".parse().unwrap()), "long");
    let answer = transport.call(call("local:long/try")).await;
    assert!(matches!(&answer, Answer::Response(Response { status: 200, body: None, .. })), "{answer:?}");
    let answer = transport.call(call("local:broken")).await;
    assert!(matches!(answer, Answer::None(Failure::Broken)), "{answer:?}");
    let answer = transport.call(call("local:gone/try")).await;
    assert!(matches!(answer, Answer::None(Failure::Forbidden)), "{answer:?}");
}

#[test]
#[should_panic(expected = "there is a participant \"stock\" already")]
fn a_name_is_given_once() {
    let answer = async |_: Outgoing| Response::done();
    drop(LocalTransport::new().with("stock", answer).with("stock", answer));
}

/// The participants that are served over HTTP elsewhere, with all that HTTP says.
#[cfg(feature = "http")]
#[tokio::test]
async fn a_participant_that_is_an_http_service_is_called_without_a_network() {
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::post;

    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = seen.clone();
    let answer = move |headers: HeaderMap, body: String| async move {
        let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let (operation, branch) = (header("tcc-operation"), header("tcc-branch"));
        let refused =
            (branch, operation.as_str()) == ("money".to_owned(), "try") && body.contains("too much");
        note.lock().unwrap().push(format!("{operation} {} {body}", header("content-type")));
        match refused {
            true => (StatusCode::CONFLICT, r#"{"code":"refused","detail":"no"}"#.to_owned()),
            false => (StatusCode::OK, format!(r#"{{"gid":"{}"}}"#, header("tcc-gid"))),
        }
    };
    let shop = axum::Router::new()
        .route("/shop/try", post(answer.clone()))
        .route("/shop/confirm", post(answer.clone()))
        .route("/shop/cancel", post(answer));
    let transport = LocalTransport::new()
        .with_service("stock", "/shop", shop.clone())
        .with_service("money", "/shop", shop);
    let embedded = Embedded::with(transport);

    let known = embedded.ends(ORDER).await;
    assert_eq!(known.phase(), Phase::Confirmed);
    let Known::Stored(stored) = known else { panic!("it is not purged") };
    let tried = stored.transaction().branches()[0].tried();
    assert!(
        matches!(tried, tcc_core::Tried::Done(Some(reply)) if reply.get() == r#"{"gid":"g"}"#),
        "{tried:?}"
    );
    assert!(seen.lock().unwrap().iter().any(|call| call == "confirm  "), "{seen:?}");

    let too_much = r#"{"gid":"h","branches":[{"id":"money","at":"local:money","payload":"too much"}]}"#;
    assert_eq!(embedded.ends(too_much).await.phase(), Phase::Cancelled);
    assert!(seen.lock().unwrap().iter().any(|call| call == r#"try application/json "too much""#), "{seen:?}");
}
