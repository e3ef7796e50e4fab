//! Why a transaction stands where it does: what happened to it, what calls for a human, and that one has looked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tcc_core::answer::{Answer, Failure};
use tcc_core::store::Store;
use tcc_core::wire::ProblemCode;

use crate::asking::Api;
use crate::scripted::{BOUND, Bench, Script, gid, order, status};

/// Waits until the answer to a question is as it should be.
async fn until(api: &mut Api, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let bound = Instant::now() + BOUND;
    loop {
        let (_, found) = api.ask("GET", path, None).await;
        if holds(&found) {
            return found;
        }
        assert!(Instant::now() < bound, "{path} did not become as it should: {found}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An event without its lengths, which differ from run to run.
fn in_short(event: &Value) -> Value {
    let mut event = event.clone();
    let fields = event.as_object_mut().unwrap();
    for length in ["after_ms", "took_ms"] {
        assert!(fields.remove(length).is_none_or(|length| length.is_u64()));
    }
    event
}

#[tokio::test]
async fn the_events_of_a_transaction_tell_of_every_call_in_its_order() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let script = Script::new(move |outgoing| {
        let confirms = outgoing.call.endpoint.as_str().starts_with("t:money/confirm");
        let fails = confirms && counted.fetch_add(1, Ordering::SeqCst) < 2;
        async move { status(if fails { 503 } else { 200 }) }
    });
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    let begin = r#"{"gid":"e","branches":[{"id":"stock","at":"t:stock"},
        {"id":"money","after":["stock"],"at":"t:money","retry":{"intervals_ms":[1]},
         "confirm":"t:money/confirm?key=secret"}]}"#;
    let known = bench.begin(begin).await.unwrap();
    bench.ends(known).await;
    let (code, told) = api.ask("GET", "/e/events", None).await;
    assert_eq!((code.as_u16(), &told["phase"]), (200, &json!("Confirmed")), "{told}");
    assert_eq!(told["why"], json!("it was confirmed, and every branch has ended"));
    assert_eq!(told.get("left_out"), None);
    let called = |branch: &str, operation: &str, attempt: u32, outcome: &str| {
        json!({"event": "called", "branch": branch, "operation": operation, "attempt": attempt,
               "endpoint": format!("t:{branch}/{operation}"), "outcome": outcome})
    };
    let events = told["events"].as_array().unwrap();
    assert_eq!(
        events.iter().map(in_short).collect::<Vec<_>>(),
        [
            json!({"event": "begun"}),
            called("stock", "try", 1, "done"),
            called("money", "try", 1, "done"),
            json!({"event": "decided", "decision": "confirm"}),
            called("stock", "confirm", 1, "done"),
            called("money", "confirm", 1, "status 503"),
            called("money", "confirm", 2, "status 503"),
            called("money", "confirm", 3, "done"),
            json!({"event": "ended"}),
        ]
    );
    let after: Vec<u64> = events.iter().map(|event| event["after_ms"].as_u64().unwrap()).collect();
    assert!(after.is_sorted() && *after.last().unwrap() < BOUND.as_millis() as u64, "{after:?}");
}

#[tokio::test]
async fn a_refusal_and_what_was_forced_are_told_with_their_reasons() {
    let script = Script::new(async |outgoing| match outgoing.call.endpoint.as_str() {
        "t:money/try" => tcc_core::answer::Response::refused("no money").into(),
        "t:stock/cancel" => status(500),
        _ => status(200),
    });
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    bench.begin(&order("r")).await.unwrap();
    let force = json!({"reason": "given back by hand"});
    until(&mut api, "/r", |view| view["phase"] == json!("Cancelling")).await;
    assert_eq!(api.ask("POST", "/r/branches/stock/force?wait=end", Some(force)).await.0, 200);
    let (_, told) = api.ask("GET", "/r/events", None).await;
    let events: Vec<Value> = told["events"].as_array().unwrap().iter().map(in_short).collect();
    for expected in [
        json!({"event": "called", "branch": "money", "operation": "try", "attempt": 1,
               "endpoint": "t:money/try", "outcome": "refused: no money"}),
        json!({"event": "decided", "decision": "cancel", "reason": "branch money refused: no money"}),
        json!({"event": "forced", "branch": "stock", "reason": "given back by hand"}),
        json!({"event": "ended"}),
    ] {
        assert!(events.contains(&expected), "{expected} is not among {events:#?}");
    }
}

#[tokio::test]
async fn what_calls_for_a_human_does_so_until_it_is_acknowledged_and_again_when_it_is_another() {
    let says = Arc::new(AtomicU16::new(404));
    let said = says.clone();
    let script = Script::new(move |_| {
        let said = said.load(Ordering::SeqCst);
        async move { status(said) }
    });
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    let mail = r#"{"gid":"m","branches":[{"id":"mail","confirm":"t:mail","retry":{"first_ms":60000}}]}"#;
    bench.begin(mail).await.unwrap();
    until(&mut api, "/m", |view| view["attention"] == json!("status 404")).await;
    let (_, list) = api.ask("GET", "?attention=true", None).await;
    assert_eq!(list["transactions"][0]["gid"], json!("m"), "{list}");

    let reason = json!({"reason": "ticket 4711"});
    let (code, view) = api.ask("POST", "/m/acknowledge", Some(reason.clone())).await;
    assert_eq!(
        (code.as_u16(), view.get("attention"), &view["acknowledged"]),
        (200, None, &json!("status 404"))
    );
    let (_, list) = api.ask("GET", "?attention=true", None).await;
    assert_eq!(list["transactions"], json!([]));
    // Once more there is nothing to take note of.
    let version = bench.store.load(&gid("m")).await.unwrap().unwrap().version;
    assert_eq!(api.ask("POST", "/m/acknowledge", Some(reason)).await.0, 200);
    assert_eq!(bench.store.load(&gid("m")).await.unwrap().unwrap().version, version);
    let (_, told) = api.ask("GET", "/m/events", None).await;
    let last = told["events"].as_array().unwrap().last().map(in_short);
    assert_eq!(last, Some(json!({"event": "acknowledged", "reason": "ticket 4711"})), "{told}");

    // The same again calls nobody; another trouble does.
    assert_eq!(api.ask("POST", "/m/retry", Some(json!({}))).await.0, 200);
    until(&mut api, "/m", |view| view["branches"][0]["attempts"] == json!(2)).await;
    assert_eq!(api.ask("GET", "/m", None).await.1.get("attention"), None);
    says.store(401, Ordering::SeqCst);
    assert_eq!(api.ask("POST", "/m/retry", Some(json!({}))).await.0, 200);
    let view = until(&mut api, "/m", |view| view["attention"] == json!("status 401")).await;
    assert_eq!(view.get("acknowledged"), None);
}

#[tokio::test]
async fn why_a_transaction_waits_is_told_in_a_sentence() {
    let script = Script::new(async |outgoing| match outgoing.call.endpoint.as_str() {
        "t:dead" => Answer::None(Failure::Connect),
        _ => status(503),
    });
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    for (begin, words) in [
        (r#"{"gid":"w1","decider":"initiator"}"#, &["has said neither confirm nor cancel; in "][..]),
        (
            r#"{"gid":"w2","decider":"initiator","check":"t:check"}"#,
            &["and is asked; the check: its check is called in "],
        ),
        (
            r#"{"gid":"w3","branches":[{"id":"a","at":"t:a","retry":{"first_ms":60000}},{"id":"b","after":["a"],"at":"t:b"}]}"#,
            &[
                "not every try is done; in ",
                "a: its try was called once and saw status 503",
                "b: waits for those before",
            ],
        ),
        (
            r#"{"gid":"w4","branches":[{"id":"mail","confirm":"t:dead","retry":{"intervals_ms":[20]}}]}"#,
            &[
                "it was decided ",
                "; mail: its confirm was called ",
                "it has waited until t:dead takes calls again",
            ],
        ),
    ] {
        let known = bench.begin(begin).await.unwrap();
        let path = format!("/{}/events", known.gid());
        until(&mut api, &path, |told| {
            let why = told["why"].as_str().unwrap();
            words.iter().all(|words| why.contains(words))
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_wrong_in_such_a_request_is_told() {
    let bench = Bench::new(&Script::new(async |_| status(200)));
    let mut api = Api::of(&bench);
    bench.begin(r#"{"gid":"u","decider":"initiator"}"#).await.unwrap();
    for (method, path, body, code) in [
        ("GET", "/nowhere/events", None, ProblemCode::UnknownGid),
        ("GET", "/no%20gid/events", None, ProblemCode::Invalid),
        ("POST", "/u/events", None, ProblemCode::MethodNotAllowed),
        ("POST", "/nowhere/acknowledge", Some(json!({"reason": "x"})), ProblemCode::UnknownGid),
        ("POST", "/u/acknowledge", Some(json!({})), ProblemCode::Malformed),
        ("POST", "/u/acknowledge", Some(json!({"reason": " "})), ProblemCode::Invalid),
    ] {
        let (answered, problem) = api.ask(method, path, body).await;
        let said = (answered.as_u16(), problem["code"].as_str());
        assert_eq!(said, (code.status(), Some(code.as_str())), "{path}: {problem}");
    }
}
