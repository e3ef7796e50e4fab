//! C3: whoever asks is told what is true; first, again, late, after a crash, after the purge.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tcc_client::Decision::{self, Cancel, Confirm};
use tcc_client::{Branch, Client, Gid, RunError};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::coordinator::Coordinator;
use crate::transfer::{ByTheCoordinator, ByTheInitiator, Transfer};
use crate::world::{LONG, World, eventually};

/// An ended transaction, and what it was begun with.
struct Ended {
    gid: &'static str,
    begin: Value,
    /// What a GET is told.
    phase: &'static str,
    decision: Decision,
    /// Whether it was cancelled before its begin arrived.
    before_begin: bool,
}

/// What there can be asked of a transaction that has ended, and what is answered.
async fn answers_are_true(coordinator: &Coordinator, ended: &Ended) {
    let Ended { gid, begin, phase, decision, before_begin } = ended;
    let mut other = begin.clone();
    other["timeout_ms"] = json!(12_345);
    let (confirmed, cancelled) = (*decision == Confirm, *decision == Cancel);
    let reused = if *before_begin { Err("already-cancelled") } else { Err("gid-reused") };
    let same = if *before_begin { reused } else { Ok(()) };
    let already = |so: bool, code: &'static str| if so { Ok(()) } else { Err(code) };
    let closed = Err(if confirmed { "already-confirmed" } else { "already-cancelled" });
    let branch = json!({"branches": [{"id": "late", "confirm": "http://127.0.0.1:1/late"}]});
    for (what, method, path, body, expected) in [
        ("get", "GET", format!("/{gid}"), None, Ok(())),
        (
            "confirm",
            "POST",
            format!("/{gid}/confirm"),
            Some(json!({"tried": []})),
            already(confirmed, "already-cancelled"),
        ),
        (
            "cancel",
            "POST",
            format!("/{gid}/cancel"),
            Some(json!({})),
            already(cancelled, "already-confirmed"),
        ),
        ("register", "POST", format!("/{gid}/branches"), Some(branch), closed),
        ("begin", "POST", String::new(), Some(begin.clone()), same),
        ("begin other", "POST", String::new(), Some(other), reused),
    ] {
        let (status, answer) = coordinator.ask(method, &path, body).await;
        let said = if status == 200 { Ok(()) } else { Err(answer["code"].as_str().unwrap_or("no code")) };
        assert_eq!(said, expected, "{gid}, {what}: {status} {answer}");
        assert!([200, 409].contains(&status), "{gid}, {what}: {status} {answer}");
        assert_eq!(answer["phase"], json!(phase), "{gid}, {what}: {answer}");
        assert_eq!(answer["decision"], json!(decision.as_str()), "{gid}, {what}: {answer}");
    }
}

/// One of each kind of ended transaction.
async fn one_of_each(world: &World) -> Vec<Ended> {
    let coordinator = &world.coordinator;
    let branches = |second: Value| {
        json!([
            {"id": "from", "at": world.banks[0].at(), "payload": {"amount": -10}},
            {"id": "to", "at": world.banks[1].at(), "payload": {"amount": 10, "faults": second}},
        ])
    };
    let refuses = json!([{"on": "try", "what": "refuse", "times": 1}]);
    let ended = |gid, begin, phase, decision| Ended { gid, begin, phase, decision, before_begin: false };
    let all = vec![
        ended("done", json!({"gid": "done", "branches": branches(json!([]))}), "Confirmed", Confirm),
        ended("refused", json!({"gid": "refused", "branches": branches(refuses)}), "Cancelled", Cancel),
        ended("said-confirm", json!({"gid": "said-confirm", "decider": "initiator"}), "Confirmed", Confirm),
        ended("said-cancel", json!({"gid": "said-cancel", "decider": "initiator"}), "Cancelled", Cancel),
        ended(
            "deadline",
            json!({"gid": "deadline", "decider": "initiator", "timeout_ms": 1}),
            "Cancelled",
            Cancel,
        ),
        Ended {
            before_begin: true,
            ..ended("never-begun", json!({"gid": "never-begun", "decider": "initiator"}), "Cancelled", Cancel)
        },
    ];
    for transaction in &all {
        if !transaction.before_begin {
            let (status, view) = coordinator.ask("POST", "", Some(transaction.begin.clone())).await;
            assert_eq!(status, 201, "{view}");
        }
        let said = match transaction.gid {
            "said-confirm" => Some(("confirm", json!({"tried": []}))),
            "said-cancel" | "never-begun" => Some(("cancel", json!({"reason": "no"}))),
            _ => None,
        };
        if let Some((word, body)) = said {
            let path = format!("/{}/{word}", transaction.gid);
            let (status, view) = coordinator.ask("POST", &path, Some(body)).await;
            assert_eq!(status, 200, "{view}");
        }
        coordinator.end(transaction.gid).await;
    }
    all
}

#[tokio::test]
async fn c3_who_repeats_or_contradicts_a_decision_is_told_it() {
    let world = World::new().await;
    for ended in &one_of_each(&world).await {
        answers_are_true(&world.coordinator, ended).await;
    }
    world.balance();
}

#[tokio::test]
async fn c3_who_asks_after_a_crash_is_told_the_same() {
    let mut world = World::new().await;
    let all = one_of_each(&world).await;
    world.coordinator.kill().await;
    world.coordinator.start().await;
    for ended in &all {
        answers_are_true(&world.coordinator, ended).await;
    }
    world.balance();
}

#[tokio::test]
async fn c3_who_asks_after_the_purge_is_told_the_same() {
    let mut world = World::with(&["--retention", "1s", "--remember", "1h"]).await;
    let all = one_of_each(&world).await;
    let calls = world.banks.each_ref().map(|bank| bank.proxy.exchanges().len());
    for ended in &all {
        eventually("the purge", async || {
            let (status, view) = world.coordinator.view(ended.gid).await;
            assert_eq!(status, 200, "{view}");
            (view["purged"] == json!(true)).then_some(())
        })
        .await;
    }
    for ended in &all {
        answers_are_true(&world.coordinator, ended).await;
    }
    world.coordinator.kill().await;
    world.coordinator.start().await;
    for ended in &all {
        answers_are_true(&world.coordinator, ended).await;
    }
    assert_eq!(
        world.banks.each_ref().map(|bank| bank.proxy.exchanges().len()),
        calls,
        "nobody was called again"
    );
    world.balance();
}

#[tokio::test]
async fn c3_nothing_is_said_of_a_gid_that_nobody_knows() {
    let coordinator = Coordinator::alone(&[]).await;
    let branch = json!({"branches": [{"id": "a", "confirm": "http://127.0.0.1:1/a"}]});
    for (method, path, body) in [
        ("GET", "/nobody", None),
        ("GET", "/nobody?wait=end", None),
        ("POST", "/nobody/confirm", Some(json!({"tried": []}))),
        ("POST", "/nobody/branches", Some(branch)),
    ] {
        let (status, problem) = coordinator.ask(method, path, body).await;
        assert_eq!((status, &problem["code"]), (404, &json!("unknown-gid")), "{path}: {problem}");
        assert_eq!((&problem["phase"], &problem["decision"]), (&Value::Null, &Value::Null), "{problem}");
    }
}

#[tokio::test]
async fn c3_a_begin_is_the_same_whatever_its_white_space_and_the_order_of_its_keys() {
    let coordinator = Coordinator::alone(&[]).await;
    let texts = [
        r#"{"gid":"g","decider":"initiator","branches":[{"id":"a","confirm":"http://127.0.0.1:1/","payload":{"x":1,"y":[2]}}]}"#,
        r#"{ "branches": [ { "payload": { "y": [ 2 ], "x": 1 }, "confirm": "http://127.0.0.1:1/", "id": "a" } ],
             "decider": "initiator", "gid": "g" }"#,
    ];
    let mut statuses = Vec::new();
    for text in [texts[0], texts[0], texts[1]] {
        let begin = tcc_tests::http::Message::request("POST", "/v1/transactions", Some(text));
        statuses.push(coordinator.send(&begin).await.0);
    }
    assert_eq!(statuses, [201, 200, 200]);
    let other = json!({"gid": "g", "decider": "initiator"});
    let (status, problem) = coordinator.ask("POST", "", Some(other)).await;
    assert_eq!((status, &problem["code"]), (409, &json!("gid-reused")));
    assert_eq!(problem["phase"], json!("Trying"), "it says how the other one stands: {problem}");
}

#[tokio::test]
async fn c3_of_begins_that_come_at_once_one_is_new_and_who_has_other_content_is_told() {
    let coordinator = Coordinator::alone(&[]).await;
    let begin = |timeout: u64| Some(json!({"gid": "g", "decider": "initiator", "timeout_ms": timeout}));
    let asks = (0..20).map(|i| coordinator.ask("POST", "", begin(20_000 + i % 2)));
    let answers = join_all(asks).await;
    let count = |status| answers.iter().filter(|(is, _)| *is == status).count();
    assert_eq!((count(201), count(200), count(409)), (1, 9, 10), "{answers:?}");
    assert!(answers.iter().all(|(status, answer)| *status != 409 || answer["code"] == json!("gid-reused")));
}

#[tokio::test]
async fn c7_who_registers_other_content_for_a_branch_is_told_and_nothing_changes() {
    let coordinator = Coordinator::alone(&[]).await;
    coordinator.ask("POST", "", Some(json!({"gid": "g", "decider": "initiator"}))).await;
    let register = async |to: &str| {
        let branch = json!({"branches": [{"id": "a", "confirm": format!("http://127.0.0.1:1/{to}")}]});
        let (status, answer) = coordinator.ask("POST", "/g/branches", Some(branch)).await;
        (status, answer["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(register("x").await, (200, String::new()));
    assert_eq!(register("x").await, (200, String::new()));
    assert_eq!(register("y").await, (409, "branch-reused".to_owned()));
    assert_eq!(coordinator.view("g").await.1["branches"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_confirm_that_does_not_name_exactly_what_is_registered_changes_nothing() {
    let world = World::new().await;
    let coordinator = &world.coordinator;
    let branches = json!([{"id": "from", "at": world.banks[0].at(), "payload": {"amount": -10}}]);
    let begin = json!({"gid": "g", "decider": "initiator", "branches": branches});
    assert_eq!(coordinator.ask("POST", "", Some(begin)).await.0, 201);
    for tried in [json!([]), json!(["to"]), json!(["from", "to"])] {
        let (status, problem) = coordinator.ask("POST", "/g/confirm", Some(json!({"tried": tried}))).await;
        assert_eq!((status, &problem["code"]), (409, &json!("not-all-tried")), "{tried}: {problem}");
        assert_eq!(coordinator.view("g").await.1["phase"], json!("Trying"));
    }
    assert_eq!(coordinator.ask("POST", "/g/cancel", Some(json!({}))).await.0, 200);
    world.ends("g", Cancel).await;
}

#[tokio::test]
async fn where_the_coordinator_decides_the_initiator_may_cancel_and_nothing_else() {
    let world = World::new().await;
    let coordinator = &world.coordinator;
    let transfer = Transfer::new(ByTheCoordinator).for_ever(1, "try", "hang");
    let gid: Gid = transfer.gid.parse().expect("a gid");
    let client = coordinator.client();
    let submitted = client.submit(transfer.submission(&world.banks).wait(tcc_client::Wait::Stored));
    submitted.await.expect("an answer");
    let branch = json!({"branches": [{"id": "late", "confirm": "http://127.0.0.1:1/late"}]});
    for (word, body) in [("confirm", json!({"tried": []})), ("branches", branch)] {
        let (status, problem) = coordinator.ask("POST", &format!("/{gid}/{word}"), Some(body)).await;
        assert_eq!((status, &problem["code"]), (409, &json!("coordinator-decides")), "{word}: {problem}");
    }
    client.cancel(&gid, "changed my mind").await.expect("an answer");
    transfer.ended(&world, Cancel).await;
    assert_eq!(coordinator.view(gid.as_str()).await.1["reason"], json!("changed my mind"));
}

#[tokio::test]
async fn a_gid_that_looks_like_a_path_is_one_gid() {
    let world = World::new().await;
    Transfer::new(ByTheCoordinator).named("shop:eu/order/1042").ends(&world, Confirm).await;
    Transfer::new(ByTheInitiator).named("shop:eu/order/1042/refund").ends(&world, Confirm).await;
    assert_eq!(world.coordinator.view("shop:eu/order").await.0, 404);
    assert_eq!(
        world.coordinator.view("Shop:eu/order/1042").await.0,
        404,
        "letters are told apart by their case"
    );
}

#[tokio::test]
async fn a_wait_that_runs_out_tells_how_it_stands() {
    let world = World::new().await;
    let coordinator = &world.coordinator;
    world.banks[1].down().await;
    let transfer = Transfer::new(ByTheCoordinator);
    let client = coordinator.client();
    let submitted = client.submit(transfer.submission(&world.banks).wait(tcc_client::Wait::Stored));
    submitted.await.expect("an answer");
    let ask = async |until: &str| {
        coordinator.ask("GET", &format!("/{}?wait={until}&timeout_ms=50", transfer.gid), None).await
    };
    let (status, view) = ask("decision").await;
    assert_eq!((status, &view["decision"]), (202, &Value::Null), "{view}");
    client.cancel(&transfer.gid.parse().expect("a gid"), "no").await.expect("an answer");
    let (status, view) = ask("decision").await;
    assert_eq!((status, &view["decision"]), (200, &json!("cancel")), "{view}");
    let (status, view) = ask("end").await;
    assert_eq!((status, &view["phase"]), (202, &json!("Cancelling")), "{view}");
    world.banks[1].up().await;
    transfer.ended(&world, Cancel).await;
}

/// C1: confirm, cancel and the deadline race for each of a hundred transfers; one wins, and everybody is told which.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_of_confirm_cancel_and_deadline_one_wins_and_every_answer_says_which() {
    let world = World::new().await;
    let mut races = JoinSet::new();
    for nth in 0..100 {
        let client = world.coordinator.client();
        let transfer = Transfer::new(ByTheInitiator);
        races.spawn(race(client, nth, transfer.gid.parse().expect("a gid"), transfer.branches(&world.banks)));
    }
    let mut seen = BTreeSet::new();
    for (gid, answers) in races.join_all().await {
        let distinct: BTreeSet<&str> = answers.iter().map(|answer| answer.as_str()).collect();
        assert_eq!(distinct.len(), 1, "{gid}: {answers:?}");
        seen.insert(answers[0].as_str());
        world.coordinator.end(gid.as_str()).await;
        assert_eq!(world.coordinator.view(gid.as_str()).await.1["decision"], json!(answers[0].as_str()));
        let states = &world.states()[gid.as_str()];
        let all = |state: &str| states.len() == 2 && states.iter().all(|is| is == state);
        assert!(if answers[0] == Confirm { all("confirmed") } else { all("cancelled") }, "{gid}: {states:?}");
    }
    assert_eq!(seen.len(), 2, "it was no race: {seen:?}");
    world.balance();
}

/// What both sides are told, at first and when they ask again.
async fn race(client: Client, nth: u64, gid: Gid, [from, to]: [Branch; 2]) -> (Gid, Vec<Decision>) {
    // Every third race begins where the deadline takes part in it.
    let with_the_deadline = nth.is_multiple_of(3);
    let timeout = if with_the_deadline { Duration::from_secs(3) } else { LONG };
    let (ready, set) = oneshot::channel();
    let run = client.transaction(gid.clone()).timeout(timeout).run(async |tcc| {
        tcc.try_(from).await?;
        tcc.try_(to).await?;
        if with_the_deadline {
            tokio::time::sleep_until(tcc.deadline() - Duration::from_millis(nth % 7)).await;
        }
        let _ = ready.send(());
        tokio::time::sleep(Duration::from_millis(nth % 5)).await;
        Ok(())
    });
    let cancel = async {
        // Not sent where a try came to nothing before the deadline; then this one cancels alone.
        let _ = set.await;
        tokio::time::sleep(Duration::from_millis(nth % 4)).await;
        client.cancel(&gid, "raced").await
    };
    let (ran, cancelled) = tokio::join!(run, cancel);
    let ran = match ran {
        Ok(()) => Confirm,
        Err(RunError::Cancelled(_)) => Cancel,
        Err(RunError::Decided(phase)) => phase.decision().expect("it is decided"),
        Err(error) => panic!("{gid}: {error:?}"),
    };
    let tried = ["from", "to"].map(|id| id.parse().expect("an id"));
    let again =
        [client.confirm(&gid, &tried).await, client.cancel(&gid, "again").await, client.status(&gid).await];
    let told = [cancelled].into_iter().chain(again).map(|told| match told {
        Ok(standing) => standing.decision().expect("it is decided"),
        Err(error) => error.problem().and_then(|problem| problem.decision).expect("it says the decision"),
    });
    let answers = [ran].into_iter().chain(told).collect();
    (gid, answers)
}
