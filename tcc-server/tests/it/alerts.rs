//! A webhook is told what calls for a human: once, and again only after a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tcc_core::Phase;
use tcc_core::answer::Response;
use tcc_core::store::Store;
use tcc_server::transport::Transports;
use tcc_server::{Coordinator, Scheduler, Settings, limits};

use crate::asking::Api;
use crate::scripted::{Bench, Script, gid, status, until};

/// Participants that know nothing of mail, and a webhook.
fn script() -> Script {
    Script::new(async |outgoing| match outgoing.call.endpoint.as_str() {
        "t:mail" => status(404),
        _ => status(200),
    })
}

fn start(bench: &Bench, script: &Script) -> Scheduler {
    let settings = Settings { alerts: "t:hook".parse().ok(), ..Settings::default() };
    Scheduler::start(Coordinator::new(bench.store.clone(), Transports::new().with(script.clone()), settings))
}

async fn list(api: &mut Api, query: &str) -> Vec<Value> {
    let (_, list) = api.ask("GET", query, None).await;
    list["transactions"].as_array().unwrap().clone()
}

#[tokio::test]
async fn what_calls_for_a_human_is_told_once_and_again_when_it_is_much_older() {
    let script = script();
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    for name in ["m/1", "m/2"] {
        let mail = format!(
            r#"{{"gid":"{name}","branches":[{{"id":"mail","confirm":"t:mail","retry":{{"first_ms":9999999,"longest_ms":9999999}}}}]}}"#
        );
        bench.begin(&mail).await.unwrap();
    }
    while list(&mut api, "?attention=true").await.len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(script.count("confirm alert"), 0, "nobody is to be told");

    let first = start(&bench, &script);
    until("two alerts", || script.count("confirm alert") == 2).await;
    // Another coordinator begins them again, and that begins nothing.
    let second = start(&bench, &script);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(script.count("confirm alert"), 2);
    let alerts = list(&mut api, "?prefix=tcc%2Falert%2F").await;
    assert_eq!(alerts.len(), 2, "{alerts:?}");
    assert!(alerts.iter().all(|alert| alert["phase"] == json!("Confirmed")), "{alerts:?}");
    let row = bench.store.load(&gid(alerts[0]["gid"].as_str().unwrap())).await.unwrap().unwrap();
    let document = String::from_utf8(row.document).unwrap();
    let said = r#"{"attention":"status 404","gid":"m/1","phase":"Confirming","type":"tcc.attention"}"#;
    assert!(document.contains(said) && document.contains(r#""parent":"m/1""#), "{document}");

    // One is acknowledged; of the other it is told again, once it is much older.
    let reason = json!({"reason": "ticket 4711"});
    assert_eq!(api.ask("POST", "/m%2F1/acknowledge", Some(reason)).await.0, 200);
    bench.pass(Duration::from_secs(3600));
    let third = start(&bench, &script);
    until("one more", || script.count("confirm alert") == 3).await;
    drop((first, second, third));
}

#[tokio::test]
async fn an_alert_that_nobody_takes_is_no_reason_for_another() {
    let script = Script::new(async |_| status(404));
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    bench.begin(r#"{"gid":"m","branches":[{"id":"mail","confirm":"t:mail"}]}"#).await.unwrap();
    while list(&mut api, "?attention=true").await.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let first = start(&bench, &script);
    until("an alert", || script.count("confirm alert") >= 1).await;
    bench.pass(Duration::from_secs(5));
    let second = start(&bench, &script);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(list(&mut api, "?prefix=tcc%2Falert%2F").await.len(), 1);
    drop((first, second));
}

/// However many call at once, each is told of; a webhook gets so many at each look.
#[tokio::test]
async fn each_of_many_is_told_of() {
    let script = script();
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    let many = limits::ALERTS + 5;
    for i in 0..many {
        let mail = format!(
            r#"{{"gid":"m/{i}","branches":[{{"id":"mail","confirm":"t:mail","retry":{{"first_ms":9999999,"longest_ms":9999999}}}}]}}"#
        );
        bench.begin(&mail).await.unwrap();
    }
    while list(&mut api, "?attention=true&limit=200").await.len() < many {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let first = start(&bench, &script);
    until("as many as at one look", || script.count("confirm alert") == limits::ALERTS).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(script.count("confirm alert"), limits::ALERTS, "and no more at once");
    // Another process, or the next look, begins with those that are left.
    let second = start(&bench, &script);
    until("the rest", || script.count("confirm alert") == many).await;
    drop((first, second));
}

/// Best effort has an end, and that end is not silent.
#[tokio::test]
async fn what_is_given_up_is_told_of_until_somebody_has_looked() {
    let script = script();
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    let mail = r#"{"gid":"n","branches":[{"id":"mail","confirm":"t:mail","retry":{"intervals_ms":[1,1],"give_up":true}}]}"#;
    let known = bench.begin(mail).await.unwrap();
    assert_eq!(bench.ends(known).await, Phase::Abandoned);
    let calling = list(&mut api, "?attention=true").await;
    let why = json!("given up after 3 calls; the last saw: status 404");
    assert_eq!((calling.len(), &calling[0]["attention"]), (1, &why), "{calling:?}");
    let scheduler = start(&bench, &script);
    until("an alert", || script.count("confirm alert") == 1).await;

    let (code, _) = api.ask("POST", "/n/resend", Some(json!({"gid": "n/2"}))).await;
    assert_eq!(code, 201);
    assert!(
        list(&mut api, "?attention=true&prefix=n&phase=Abandoned")
            .await
            .iter()
            .all(|one| one["gid"] != json!("n"))
    );
    let (_, told) = api.ask("GET", "/n/events", None).await;
    let last = told["events"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["event"], &last["reason"]),
        (&json!("acknowledged"), &json!("done anew by n/2")),
        "{told}"
    );
    drop(scheduler);
}

/// A refusal in words that differ from call to call is one matter: told once, acknowledged once.
#[tokio::test]
async fn the_same_matter_in_other_words_is_not_told_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let script = Script::new(move |outgoing| {
        let mail = outgoing.call.endpoint.as_str() == "t:mail";
        let number = counted.fetch_add(usize::from(mail), Ordering::SeqCst);
        async move { if mail { Response::refused(&format!("request {number}")).into() } else { status(200) } }
    });
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    let mail = r#"{"gid":"m","branches":[{"id":"mail","confirm":"t:mail","retry":{"first_ms":20,"longest_ms":20}}]}"#;
    bench.begin(mail).await.unwrap();
    let called = |times| {
        let from = calls.load(Ordering::SeqCst);
        let calls = calls.clone();
        move || calls.load(Ordering::SeqCst) >= from + times
    };
    until("a few calls", called(3)).await;
    let scheduler = start(&bench, &script);
    until("an alert", || script.count("confirm alert") == 1).await;
    assert_eq!(api.ask("POST", "/m/acknowledge", Some(json!({"reason": "ticket 4711"}))).await.0, 200);
    until("a few more calls", called(5)).await;
    let other = start(&bench, &script);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(list(&mut api, "?attention=true").await.is_empty());
    assert_eq!(list(&mut api, "?prefix=tcc%2Falert%2F").await.len(), 1);
    drop((scheduler, other));
}
