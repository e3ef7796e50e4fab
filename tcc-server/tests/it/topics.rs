//! Topics: what is published goes to whoever has subscribed.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tcc_core::{Phase, limits};

use crate::asking::Api;
use crate::scripted::{Bench, Script, status};

const CREATED: &str = "/topics/order.created";

async fn subscribe(api: &mut Api, id: &str) -> Value {
    let to = json!({ "deliver": format!("t:{id}/hook") });
    let (code, topic) = api.ask_at("PUT", &format!("{CREATED}/subscribers/{id}"), Some(to)).await;
    assert_eq!(code, 200, "{topic}");
    topic
}

fn publish(gid: &str) -> Value {
    json!({ "gid": gid, "branches": [
        { "id": "first", "confirm": "t:first/hook" },
        { "id": "created", "confirm": "topic:order.created", "after": ["first"], "payload": { "order": 7 } },
    ] })
}

#[tokio::test]
async fn what_is_published_goes_to_whoever_has_subscribed() {
    let script = Script::new(async |_| status(200));
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    subscribe(&mut api, "points").await;
    let topic = subscribe(&mut api, "mail").await;
    let expected = json!({ "topic": "order.created", "subscribers": [
        { "id": "mail", "deliver": "t:mail/hook" }, { "id": "points", "deliver": "t:points/hook" },
    ] });
    assert_eq!(topic, expected);
    assert_eq!(api.ask_at("GET", CREATED, None).await.1, expected);
    assert_eq!(api.ask_at("GET", "/topics", None).await.1, json!({ "topics": [expected] }));

    let (code, view) = api.ask("POST", "?wait=end", Some(publish("o/7"))).await;
    assert_eq!((code.as_u16(), &view["phase"]), (201, &json!("Confirmed")), "{view}");
    let mut calls = script.calls();
    calls[1..].sort();
    assert_eq!(calls, ["confirm first", "confirm created/mail", "confirm created/points"]);
}

/// A half message: its branches are those of its begin, and it is the ids in that answer that its confirm names.
#[tokio::test]
async fn who_subscribes_later_hears_of_what_is_begun_later() {
    let script = Script::new(async |_| status(200));
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    subscribe(&mut api, "points").await;
    let half = json!({ "gid": "h", "decider": "initiator", "check": "t:orders/check", "check_after_ms": 600_000,
        "branches": [{ "id": "created", "confirm": "topic:order.created" }] });
    let (_, view) = api.ask("POST", "", Some(half)).await;
    subscribe(&mut api, "mail").await;
    let tried: Vec<&Value> =
        view["branches"].as_array().unwrap().iter().map(|branch| &branch["id"]).collect();
    let (code, view) = api.ask("POST", "/h/confirm?wait=end", Some(json!({ "tried": tried }))).await;
    assert_eq!((code.as_u16(), &view["phase"]), (200, &json!("Confirmed")), "{view}");
    assert_eq!(script.calls(), ["confirm created/points"]);
}

/// C3: who has subscribed since is another matter than what was begun.
#[tokio::test]
async fn a_repeat_is_told_what_became_of_it_whoever_has_left_since() {
    let script = Script::new(async |_| status(200));
    let bench = Bench::new(&script);
    let mut api = Api::of(&bench);
    subscribe(&mut api, "points").await;
    let (code, _) = api.ask("POST", "?wait=end", Some(publish("o/7"))).await;
    assert_eq!(code, 201);
    for _ in 0..2 {
        let (code, topic) = api.ask_at("DELETE", &format!("{CREATED}/subscribers/points"), None).await;
        assert_eq!((code.as_u16(), topic), (200, json!({ "topic": "order.created", "subscribers": [] })));
    }
    let (code, view) = api.ask("POST", "", Some(publish("o/7"))).await;
    assert_eq!((code.as_u16(), &view["phase"]), (200, &json!("Confirmed")), "{view}");
    assert_eq!(script.calls(), ["confirm first", "confirm created/points"], "no call was made again");

    let (code, problem) = api.ask("POST", "", Some(publish("o/8"))).await;
    let said = (code.as_u16(), &problem["code"], &problem["pointer"]);
    assert_eq!(said, (422, &json!("invalid"), &json!("/branches/1/confirm")), "nobody would hear: {problem}");
    assert_eq!(api.ask("GET", "/o%2F8", None).await.1["code"], json!("unknown-gid"));
}

#[tokio::test]
async fn a_topic_has_so_many_subscribers_and_no_more() {
    let bench = Bench::new(&Script::new(async |_| status(200)));
    let mut api = Api::of(&bench);
    for i in 0..limits::SUBSCRIBERS {
        subscribe(&mut api, &format!("s{i}")).await;
    }
    let one_more = Some(json!({ "deliver": "t:x/hook" }));
    let (code, problem) = api.ask_at("PUT", &format!("{CREATED}/subscribers/x"), one_more.clone()).await;
    assert_eq!((code.as_u16(), &problem["code"]), (422, &json!("invalid")), "{problem}");
    let (code, _) = api.ask_at("PUT", &format!("{CREATED}/subscribers/s0"), one_more).await;
    assert_eq!(code, 200, "one that is there may move");
    let known = bench.begin(&publish("o/7").to_string()).await.unwrap();
    assert_eq!(bench.ends(known).await, Phase::Confirmed, "what is published to all of them fits");
}

/// C4: what may have become durable is never told as refused, and one that is refused is not there.
#[tokio::test]
async fn a_subscription_that_is_not_stored_is_told() {
    let bench = Bench::new(&Script::new(async |_| status(200)));
    let mut api = Api::of(&bench);
    let path = format!("{CREATED}/subscribers/points");
    let to = Some(json!({ "deliver": "t:points/hook" }));
    bench.store.full.store(true, Ordering::SeqCst);
    let (code, problem) = api.ask_at("PUT", &path, to.clone()).await;
    assert_eq!((code.as_u16(), &problem["code"]), (503, &json!("store-full")), "{problem}");
    bench.store.full.store(false, Ordering::SeqCst);
    assert_eq!(api.ask_at("GET", "/topics", None).await.1, json!({ "topics": [] }));
    bench.store.unclear.store(true, Ordering::SeqCst);
    let (code, problem) = api.ask_at("PUT", &path, to).await;
    assert_eq!((code.as_u16(), &problem["code"]), (503, &json!("outcome-unknown")), "{problem}");
    assert!(bench.coordinator.has_failed(), "the next process finds out what became of it");
}

#[tokio::test]
async fn what_is_no_subscription_is_named() {
    let bench = Bench::new(&Script::new(async |_| status(200)));
    let mut api = Api::of(&bench);
    let good = json!({ "deliver": "t:x/hook" });
    for (path, body, code, pointer) in [
        ("/topics/a%20b/subscribers/x", good.clone(), "invalid", None),
        ("/topics/a/subscribers/x.y", good, "invalid", None),
        ("/topics/a/subscribers/x", json!({}), "malformed", None),
        ("/topics/a/subscribers/x", json!({ "deliver": "x/hook" }), "invalid", Some("/deliver")),
        ("/topics/a/subscribers/x", json!({ "deliver": "ftp://x/hook" }), "invalid", Some("/deliver")),
        ("/topics/a/subscribers/x", json!({ "deliver": "topic:b" }), "invalid", Some("/deliver")),
        ("/topics/a/subscribers/x", json!({ "deliver": "t:x", "retry": {} }), "malformed", Some("/retry")),
    ] {
        let (_, problem) = api.ask_at("PUT", path, Some(body)).await;
        let said = (problem["code"].as_str(), problem["pointer"].as_str());
        assert_eq!(said, (Some(code), pointer), "{path}: {problem}");
    }
    assert_eq!(
        api.ask_at("GET", "/topics", None).await.1,
        json!({ "topics": [] }),
        "none of it did anything"
    );
}
