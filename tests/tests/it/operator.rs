//! What an operator asks a coordinator for, also after it was killed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tcc_client::wire::{EventKind, ProblemCode};
use tcc_client::{Error, Gid, Listed, Outcome, Phase, Timestamp};

use crate::coordinator::Coordinator;

fn gids(list: &Value) -> Vec<&str> {
    list["transactions"].as_array().expect("a list").iter().filter_map(|one| one["gid"].as_str()).collect()
}

async fn list(coordinator: &Coordinator, query: &str) -> Value {
    let (status, list) = coordinator.ask("GET", query, None).await;
    assert_eq!(status, 200, "{list}");
    list
}

/// C6, C3: what was begun is listed, by whoever was told where the next page starts, too.
#[tokio::test]
async fn a_list_goes_on_where_it_was_after_a_restart() {
    let mut coordinator = Coordinator::alone(&[]).await;
    for i in 0..7 {
        let begin = json!({"gid": format!("list/{i}"), "decider": "initiator", "timeout_ms": 600_000});
        assert_eq!(coordinator.ask("POST", "", Some(begin)).await.0, 201);
    }
    let (status, _) = coordinator.ask("POST", "/list%2F5/cancel", Some(json!({}))).await;
    assert_eq!(status, 200);
    let query = "?prefix=list%2F&phase=Trying&limit=4";
    let first = list(&coordinator, query).await;
    assert_eq!(gids(&first), ["list/0", "list/1", "list/2", "list/3"]);
    let next = first["next"].as_str().expect("there are more");

    coordinator.kill().await;
    coordinator.start().await;
    let second = list(&coordinator, &format!("{query}&page={next}")).await;
    assert_eq!((gids(&second), second.get("next")), (vec!["list/4", "list/6"], None));
    let again = list(&coordinator, query).await;
    assert_eq!((gids(&again), &again["next"]), (gids(&first), &first["next"]));
    let cancelled = list(&coordinator, "?phase=Cancelled").await;
    assert_eq!(gids(&cancelled), ["list/5"]);
    assert_eq!(cancelled["transactions"][0]["decision"], json!("cancel"));
}

/// What happened is stored with the transaction: whoever asks after a crash is told, too.
#[tokio::test]
async fn the_events_of_a_transaction_outlive_the_coordinator() {
    let mut coordinator = Coordinator::alone(&[]).await;
    let begin =
        json!({"gid": "e", "branches": [{"id": "mail", "confirm": "http://127.0.0.1:1/mail?key=secret"}]});
    assert_eq!(coordinator.ask("POST", "", Some(begin)).await.0, 201);
    let called = |told: &Value| {
        let events = told["events"].as_array().expect("events");
        events.iter().filter(|event| event["event"] == json!("called")).cloned().collect::<Vec<_>>()
    };
    let bound = Instant::now() + Duration::from_secs(30);
    let first = loop {
        assert!(Instant::now() < bound, "no call was taken down");
        let (_, told) = coordinator.ask("GET", "/e/events", None).await;
        if let Some(first) = called(&told).into_iter().next() {
            break first;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let said = [&first["branch"], &first["operation"], &first["endpoint"], &first["outcome"]];
    assert_eq!(
        said,
        [&json!("mail"), &json!("confirm"), &json!("http://127.0.0.1:1/mail"), &json!("connect")]
    );
    coordinator.kill().await;
    coordinator.start().await;
    let (_, told) = coordinator.ask("GET", "/e/events", None).await;
    assert_eq!(called(&told)[0], first);
    assert!(told["why"].as_str().expect("a sentence").contains("mail: its confirm was called"), "{told}");
}

/// What was done by hand is logged with its reason, and is so after a restart.
#[tokio::test]
async fn a_branch_that_was_forced_is_audited_and_stays_so() {
    let mut coordinator = Coordinator::alone(&[]).await;
    let begin = json!({"gid": "by/hand", "branches": [{"id": "mail", "confirm": "http://127.0.0.1:1/mail"}]});
    assert_eq!(coordinator.ask("POST", "", Some(begin)).await.0, 201);
    let (status, _) = coordinator.ask("POST", "/by%2Fhand/retry", Some(json!({}))).await;
    assert_eq!(status, 200);
    let reason = json!({"reason": "sent by post, ticket 4711"});
    let (status, view) = coordinator.ask("POST", "/by%2Fhand/branches/mail/force", Some(reason)).await;
    assert_eq!((status, &view["phase"]), (200, &json!("Confirmed")), "{view}");
    let log = coordinator.whole_log();
    let audited = |line: &&str| {
        line.contains("WARN") && ["by/hand", "mail", "ticket 4711"].iter().all(|word| line.contains(word))
    };
    assert_eq!(log.lines().filter(audited).count(), 1, "{log}");

    coordinator.kill().await;
    coordinator.start().await;
    let (_, view) = coordinator.view("by/hand").await;
    let mail = &view["branches"][0];
    assert_eq!((&mail["state"], &mail["reason"]), (&json!("forced"), &json!("sent by post, ticket 4711")));
}

/// The same by the client, against the same coordinator.
#[tokio::test]
async fn an_operator_can_do_it_all_by_the_client() {
    let coordinator = Coordinator::alone(&[]).await;
    let client = coordinator.client();
    let gid: Gid = "by/client".parse().unwrap();
    let mail = json!({"gid": "by/client", "branches": [{"id": "mail:1/2", "confirm": "http://127.0.0.1:1/mail",
        "retry": {"first_ms": 600_000, "longest_ms": 600_000}}]});
    assert_eq!(coordinator.ask("POST", "", Some(mail)).await.0, 201);
    let bound = Instant::now() + Duration::from_secs(30);
    let told = loop {
        let told = client.events(&gid).await.unwrap();
        if told.events.iter().any(|event| event.event == EventKind::Called) {
            break told;
        }
        assert!(Instant::now() < bound, "no call was taken down");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&told.gid, told.phase), (&gid, Phase::Confirming));

    let listed = Listed {
        phase: Some(Phase::Confirming),
        attention: Some(false),
        prefix: Some("by/".to_owned()),
        destination: Some("127.0.0.1:1".to_owned()),
        created_from: Some(Timestamp::from_millis(0)),
        limit: Some(1),
        ..Listed::default()
    };
    let list = client.list(&listed).await.unwrap();
    assert_eq!((list.transactions.len(), list.next), (1, None));
    let elsewhere = Listed { destination: Some("nobody:1".to_owned()), ..listed.clone() };
    assert!(client.list(&elsewhere).await.unwrap().transactions.is_empty());
    let wrong = client.list(&Listed { page: Some("not a page".to_owned()), ..listed }).await.unwrap_err();
    assert_eq!(
        (wrong.code(), wrong.outcome(), wrong.gid()),
        (Some(ProblemCode::Invalid), Outcome::Known, None)
    );

    assert_eq!(client.retry(&gid).await.unwrap().phase(), Phase::Confirming);
    client.acknowledge(&gid, "nothing calls yet").await.unwrap();
    let reasonless = client.acknowledge(&gid, " ").await.unwrap_err();
    assert!(matches!(reasonless, Error::ByHand(_)) && reasonless.code() == Some(ProblemCode::Invalid));
    let branch = "mail:1/2".parse().unwrap();
    let ended = client.force(&gid, &branch, "sent by post").await.unwrap();
    assert_eq!(ended.phase(), Phase::Confirmed);
    let unknown = client.force(&gid, &"nobody".parse().unwrap(), "x").await.unwrap_err();
    assert_eq!(unknown.code(), Some(ProblemCode::UnknownBranch));
    let told = client.events(&gid).await.unwrap();
    assert!(told.events.iter().any(|event| event.event == EventKind::Forced), "{told:?}");
    let nothing = client.events(&"nowhere".parse().unwrap()).await.unwrap_err();
    assert_eq!((nothing.code(), nothing.outcome()), (Some(ProblemCode::UnknownGid), Outcome::Unknown));
}

/// Who has subscribed is stored as transactions are; a service that says so at each start changes nothing.
#[tokio::test]
async fn who_has_subscribed_is_known_after_a_kill() {
    let mut coordinator = Coordinator::alone(&[]).await;
    let client = coordinator.client();
    let (topic, id) = ("order/created".parse().unwrap(), "points:1".parse().unwrap());
    let at = "http://127.0.0.1:1/points?key=secret";
    for _ in 0..2 {
        let view = client.subscribe(&topic, &id, at).await.unwrap();
        assert_eq!((view.topic, view.subscribers.len()), (topic.clone(), 1));
    }
    coordinator.kill().await;
    coordinator.start().await;
    let topics = client.topics().await.unwrap().topics;
    assert_eq!((topics.len(), &topics[0].topic), (1, &topic));
    assert_eq!(topics[0].subscribers[0].deliver, "http://127.0.0.1:1/points", "no secret is told");

    let begin =
        json!({"gid": "published", "branches": [{"id": "created", "confirm": "topic:order/created"}]});
    let (status, view) = coordinator.ask("POST", "", Some(begin)).await;
    assert_eq!((status, &view["branches"][0]["id"]), (201, &json!("created/points:1")));
    assert!(client.unsubscribe(&topic, &id).await.unwrap().subscribers.is_empty());
    assert!(client.topics().await.unwrap().topics.is_empty());
    let wrong = client.subscribe(&topic, &id, "nowhere").await.unwrap_err();
    assert!(matches!(wrong, Error::Topics(_)) && wrong.code() == Some(ProblemCode::Invalid), "{wrong:?}");
}
