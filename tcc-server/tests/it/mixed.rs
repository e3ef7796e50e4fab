//! Shapes mix in one transaction, and a participant may begin one of its own: there is one machine for all of them.

use std::sync::{Arc, OnceLock};

use serde_json::json;
use tcc_core::Phase;
use tcc_core::answer::Response;
use tcc_server::{Coordinator, Wait};

use crate::asking::Api;
use crate::scripted::{BOUND, Bench, Script, request, status};

/// Money by TCC, a flight as a saga's step before it, and a message once both are confirmed.
const ORDER: &str = r#"{"gid":"mixed","branches":[
    {"id":"flight","action":"t:flight/book","compensate":"t:flight/give-back"},
    {"id":"money","after":["flight"],"at":"t:money"},
    {"id":"mail","confirm":"t:mail/deliver"}]}"#;

#[tokio::test]
async fn a_tcc_branch_a_sagas_step_and_a_message_are_confirmed_together() {
    let script = Script::new(async |_| status(200));
    let bench = Bench::new(&script);
    let known = bench.begin(ORDER).await.unwrap();
    assert_eq!(bench.ends(known).await, Phase::Confirmed);
    let mut calls = script.calls();
    assert_eq!(calls[..2], ["try flight", "try money"], "in their order");
    calls[2..].sort();
    assert_eq!(calls[2..], ["confirm mail", "confirm money"], "the flight is booked already");
}

#[tokio::test]
async fn where_one_is_refused_the_step_is_compensated_and_the_message_never_sent() {
    let script = Script::new(async |outgoing| match outgoing.call.endpoint.as_str() {
        "t:money/try" => Response::refused("no money").into(),
        _ => status(200),
    });
    let bench = Bench::new(&script);
    let known = bench.begin(ORDER).await.unwrap();
    assert_eq!(bench.ends(known).await, Phase::Cancelled);
    assert_eq!(script.calls(), ["try flight", "try money", "cancel money", "cancel flight"]);
}

/// The try of the outer transaction begins an inner one, whose parent it is, and agrees once that is confirmed.
#[tokio::test]
async fn a_participant_may_be_an_initiator_itself_and_the_parent_is_shown() {
    let coordinator: Arc<OnceLock<Arc<Coordinator>>> = Arc::default();
    let own = coordinator.clone();
    let script = Script::new(move |outgoing| {
        let own = own.clone();
        async move {
            if outgoing.call.endpoint.as_str() != "t:travel/try" {
                return status(200);
            }
            let coordinator = own.get().expect("it is set before anything begins");
            // Its gid is made of the outer one's, so that a repeat of the try begins nothing new.
            let inner = format!(
                r#"{{"gid":"{gid}/travel","parent":"{gid}","branches":[{{"id":"hotel","at":"t:hotel"}}]}}"#,
                gid = outgoing.call.gid
            );
            let known = match coordinator.begin(request(&inner)).await {
                Ok(tcc_server::Begun::New(stored)) => tcc_server::Known::Stored(stored),
                Ok(tcc_server::Begun::Before(known)) => known,
                Err(error) => panic!("{error}"),
            };
            let known = coordinator.wait(known, Wait::Decision, BOUND).await;
            let agreed = known.phase().decision() == Some(tcc_core::Decision::Confirm);
            if agreed { status(200) } else { Response::refused("no journey").into() }
        }
    });
    let bench = Bench::new(&script);
    coordinator.set(bench.coordinator.clone()).ok().unwrap();
    let outer = r#"{"gid":"outer","branches":[{"id":"travel","at":"t:travel"}]}"#;
    let known = bench.begin(outer).await.unwrap();
    assert_eq!(bench.ends(known).await, Phase::Confirmed);
    let mut api = Api::of(&bench);
    let (code, inner) = api.ask("GET", "/outer%2Ftravel?wait=end", None).await;
    assert_eq!(
        (code.as_u16(), &inner["parent"], &inner["phase"]),
        (200, &json!("outer"), &json!("Confirmed"))
    );
}
