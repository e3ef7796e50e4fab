//! A webhook is told what calls for a human: once, and again only after a while.

use std::time::Duration;

use serde_json::{Value, json};
use tcc_core::store::Store;
use tcc_server::transport::Transports;
use tcc_server::{Coordinator, Scheduler, Settings};

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
