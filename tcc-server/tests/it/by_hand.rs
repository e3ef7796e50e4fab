//! What an operator does by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tcc_core::answer::{Answer, Failure};
use tcc_core::store::Store;
use tcc_core::wire::ProblemCode;
use tcc_core::{Phase, limits};
use tcc_server::Wait;

use crate::asking::Api;
use crate::scripted::{BOUND, Bench, Script, gid, order, status};

/// Participants that agree to every try; whether the money does more can be said.
fn no_money() -> (Script, Arc<AtomicBool>) {
    let pays = Arc::new(AtomicBool::new(false));
    let says = pays.clone();
    let script = Script::new(move |outgoing| {
        let endpoint = outgoing.call.endpoint.as_str().to_owned();
        let refuses =
            endpoint.starts_with("t:money") && !endpoint.ends_with("/try") && !says.load(Ordering::SeqCst);
        async move { status(if refuses { 500 } else { 200 }) }
    });
    (script, pays)
}

/// Begins an order that is decided and waits for the money.
async fn waiting(bench: &Bench, name: &str) {
    let known = bench.begin(&order(name)).await.unwrap();
    let known = bench.coordinator.wait(known, Wait::Decision, BOUND).await;
    assert_eq!(known.phase(), Phase::Confirming);
}

fn branch<'a>(view: &'a Value, id: &str) -> &'a Value {
    view["branches"].as_array().unwrap().iter().find(|branch| branch["id"] == json!(id)).unwrap()
}

#[tokio::test]
async fn a_branch_that_is_forced_shows_why_and_the_transaction_ends() {
    let (script, _) = no_money();
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    waiting(&bench, "by/hand").await;
    let force = "/by%2Fhand/branches/money/force?wait=end";
    let (code, view) = api.ask("POST", force, Some(json!({"reason": "booked\nby hand"}))).await;
    assert_eq!((code.as_u16(), &view["phase"]), (200, &json!("Confirmed")), "{view}");
    let money = branch(&view, "money");
    assert_eq!((&money["state"], &money["reason"]), (&json!("forced"), &json!("booked by hand")), "{view}");
    assert_eq!(branch(&view, "stock")["state"], json!("confirmed"));

    // Again, after the end, and of one that ended by itself: nothing changes, the reason included.
    let version = bench.store.load(&gid("by/hand")).await.unwrap().unwrap().version;
    for id in ["money", "stock"] {
        let path = format!("/by%2Fhand/branches/{id}/force");
        let (code, again) = api.ask("POST", &path, Some(json!({"reason": "once more"}))).await;
        assert_eq!((code.as_u16(), &again["branches"]), (200, &view["branches"]));
    }
    assert_eq!(bench.store.load(&gid("by/hand")).await.unwrap().unwrap().version, version);
}

#[tokio::test]
async fn a_branch_that_was_cancelled_for_is_forced_too() {
    let script = Script::new(async |outgoing| {
        let endpoint = outgoing.call.endpoint.as_str().to_owned();
        status(if endpoint == "t:money/cancel" || endpoint == "t:stock/try" { 500 } else { 200 })
    });
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    bench.begin(&order("c")).await.unwrap();
    let (code, _) = api.ask("POST", "/c/cancel", Some(json!({}))).await;
    assert_eq!(code, 200);
    let body = json!({"reason": "given back by hand"});
    let (code, view) = api.ask("POST", "/c/branches/money/force?wait=end", Some(body)).await;
    assert_eq!((code.as_u16(), &view["phase"]), (200, &json!("Cancelled")), "{view}");
    assert_eq!(branch(&view, "money")["state"], json!("forced"));
}

#[tokio::test]
async fn a_branch_is_forced_only_after_the_decision_and_with_a_reason() {
    let (script, _) = no_money();
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    waiting(&bench, "w").await;
    let undecided = r#"{"gid":"u","decider":"initiator","branches":[{"id":"money","at":"t:money"}]}"#;
    bench.begin(undecided).await.unwrap();
    let good = json!({"reason": "by hand"});
    let long = json!({"reason": "r".repeat(limits::REASON + 1)});
    for (path, body, code, pointer) in [
        ("/u/branches/money", good.clone(), ProblemCode::NotDecided, None),
        ("/w/branches/nobody", good.clone(), ProblemCode::UnknownBranch, None),
        ("/w/branches/no%20id", good.clone(), ProblemCode::Invalid, None),
        ("/no%20gid/branches/money", good.clone(), ProblemCode::Invalid, None),
        ("/nowhere/branches/money", good, ProblemCode::UnknownGid, None),
        ("/w/branches/money", json!({}), ProblemCode::Malformed, None),
        ("/w/branches/money", json!({"reason": 7}), ProblemCode::Malformed, Some("/reason")),
        ("/w/branches/money", json!({"reason": "x", "by": "me"}), ProblemCode::Malformed, Some("/by")),
        ("/w/branches/money", json!({"reason": " \n"}), ProblemCode::Invalid, Some("/reason")),
        ("/w/branches/money", long, ProblemCode::Invalid, Some("/reason")),
    ] {
        let (answered, problem) = api.ask("POST", &format!("{path}/force"), Some(body)).await;
        let said = (answered.as_u16(), problem["code"].as_str(), problem["pointer"].as_str());
        assert_eq!(said, (code.status(), Some(code.as_str()), pointer), "{path}: {problem}");
    }
    let (_, view) = api.ask("GET", "/w", None).await;
    assert_eq!(branch(&view, "money")["state"], json!("confirming"), "none of it did anything");
}

#[tokio::test]
async fn what_is_due_later_is_called_now() {
    let (script, pays) = no_money();
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    let slow = r#"{"gid":"r","branches":[{"id":"stock","at":"t:stock"},
        {"id":"money","at":"t:money","retry":{"intervals_ms":[3600000]}}]}"#;
    bench.begin(slow).await.unwrap();
    let due = async || {
        let row = bench.store.load(&gid("r")).await.unwrap().unwrap();
        row.due_at.is_some_and(|due| due > bench.store.now() + Duration::from_secs(3000))
    };
    eventually("the long wait", &due).await;
    let (_, before) = api.ask("GET", "/r", None).await;
    assert_eq!(branch(&before, "money")["attempts"], json!(1));

    // It is called at once, in vain; how often it was is not forgotten.
    let (code, _) = api.ask("POST", "/r/retry", Some(json!({}))).await;
    assert_eq!(code, 200);
    let twice = async || script.count("confirm money") == 2 && due().await;
    eventually("the second call and the next long wait", twice).await;
    let (_, view) = api.ask("GET", "/r", None).await;
    assert_eq!(branch(&view, "money")["attempts"], json!(2), "{view}");

    pays.store(true, Ordering::SeqCst);
    let (code, view) = api.ask("POST", "/r/retry?wait=end", Some(json!({}))).await;
    assert_eq!((code.as_u16(), &view["phase"]), (200, &json!("Confirmed")), "{view}");

    // After the end nothing is due; a repeat is harmless, and changes nothing.
    let version = bench.store.load(&gid("r")).await.unwrap().unwrap().version;
    let (code, again) = api.ask("POST", "/r/retry", Some(json!({}))).await;
    assert_eq!((code.as_u16(), &again["branches"]), (200, &view["branches"]));
    assert_eq!(bench.store.load(&gid("r")).await.unwrap().unwrap().version, version);
}

#[tokio::test]
async fn a_retry_at_a_destination_that_is_shut_is_parked_again() {
    let script = Script::new(async |_| Answer::None(Failure::Connect));
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    let mail = r#"{"gid":"p","branches":[{"id":"mail","confirm":"t:mail","retry":{"intervals_ms":[20]}}]}"#;
    bench.begin(mail).await.unwrap();
    let parked = async || bench.store.load(&gid("p")).await.unwrap().unwrap().parked.is_some();
    eventually("a place to park", parked).await;
    let version = async || bench.store.load(&gid("p")).await.unwrap().unwrap().version;
    for _ in 0..3 {
        let before = version().await;
        let (code, view) = api.ask("POST", "/p/retry", Some(json!({}))).await;
        assert_eq!((code.as_u16(), &view["phase"]), (200, &json!("Confirming")), "{view}");
        assert!(version().await > before, "it was taken up again");
        eventually("a place to park", parked).await;
    }
    // Nothing but probes gets there, and those come at their own pace.
    assert!(script.calls().len() < 100, "{} calls", script.calls().len());
}

#[tokio::test]
async fn a_request_to_retry_that_is_wrong_is_told_so() {
    let bench = Bench::new(&no_money().0);
    let mut api = Api::of(&bench);
    bench.begin(r#"{"gid":"u","decider":"initiator"}"#).await.unwrap();
    for (path, body, code) in [
        ("/nowhere", Some(json!({})), ProblemCode::UnknownGid),
        ("/u", None, ProblemCode::UnsupportedMediaType),
        ("/u", Some(json!({"branch": "money"})), ProblemCode::Malformed),
    ] {
        let (answered, problem) = api.ask("POST", &format!("{path}/retry"), body).await;
        assert_eq!(
            (answered.as_u16(), &problem["code"]),
            (code.status(), &json!(code.as_str())),
            "{problem}"
        );
    }
    let (code, view) = api.ask("POST", "/u/retry", Some(json!({}))).await;
    assert_eq!(
        (code.as_u16(), &view["phase"]),
        (200, &json!("Trying")),
        "nothing is due, which is no mistake"
    );
}

/// Looks again and again, within a bound, until something holds.
async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(BOUND, waiting).await.is_ok(), "{what} did not come");
}

/// A notification that nobody takes, and then somebody does.
#[tokio::test]
async fn what_was_given_up_is_delivered_anew_once() {
    let (script, pays) = no_money();
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    let ladder = r#""retry":{"intervals_ms":[1],"give_up":true}"#;
    let told = format!(
        r#"{{"gid":"paid","branches":[{{"id":"stock","confirm":"t:stock"}},
            {{"id":"money","after":["stock"],"confirm":"t:money","payload":{{"n":7}},{ladder}}}]}}"#
    );
    let known = bench.begin(&told).await.unwrap();
    assert_eq!(bench.ends(known).await, Phase::Abandoned);
    let calls = (script.count("confirm stock"), script.count("confirm money"));
    assert_eq!(calls, (1, 2));

    pays.store(true, Ordering::SeqCst);
    for code in [201, 200, 200] {
        let again = Some(json!({"gid": "paid/2"}));
        let (answered, view) = api.ask("POST", "/paid/resend?wait=end", again).await;
        assert_eq!(
            (answered.as_u16(), &view["gid"], &view["phase"]),
            (code, &json!("paid/2"), &json!("Confirmed"))
        );
        assert_eq!((&view["parent"], view["branches"].as_array().unwrap().len()), (&json!("paid"), 1));
    }
    assert_eq!((script.count("confirm stock"), script.count("confirm money")), (1, 3));

    for (path, body, code) in [
        ("/paid%2F2", json!({"gid": "paid/3"}), ProblemCode::NothingGivenUp),
        ("/nowhere", json!({"gid": "paid/3"}), ProblemCode::UnknownGid),
        ("/paid", json!({"gid": "paid"}), ProblemCode::GidReused),
        ("/paid", json!({"gid": "no gid"}), ProblemCode::Invalid),
        ("/paid", json!({}), ProblemCode::Malformed),
    ] {
        let (answered, problem) = api.ask("POST", &format!("{path}/resend"), Some(body)).await;
        let said = (answered.as_u16(), problem["code"].as_str());
        assert_eq!(said, (code.status(), Some(code.as_str())), "{path}: {problem}");
    }
}
