//! What an operator does by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
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
