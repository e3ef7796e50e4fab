//! The coordinator of the test kit: every fault there is, by a clock of its own, the same for the same seed.

use std::time::Duration;

use serde_json::{Value, json};
use tcc_client::Operation::{Cancel, Confirm, Try};
use tcc_client::testing::{Answer, Coordinator, Fault, Faults, Phase};

use crate::banks::{Bank, Books, Sqlite};
use crate::payment::Caller;

const UNTOUCHED: Books = Books { free: 1000, reserved: 0, spent: 0 };
const SPENT: Books = Books { free: 990, reserved: 0, spent: 10 };

/// A bank of its own, and a coordinator to which these things happen.
async fn world(faults: Faults) -> (Sqlite, Coordinator) {
    let bank = Sqlite::open().await;
    let coordinator = Coordinator::new(faults).participant("http://bank/tcc", Caller::new(&bank).service);
    (bank, coordinator)
}

fn transfer(cents: i64) -> Value {
    let payload = json!({ "account": "alice", "cents": cents });
    json!({
        "gid": format!("transfer/{cents}"),
        "branches": [{ "id": "money", "at": "http://bank/tcc/payment", "payload": payload }],
    })
}

fn statuses(coordinator: &Coordinator) -> Vec<Vec<u16>> {
    let status = |answer: &Answer| match answer {
        Answer::Response(response) => response.status,
        Answer::None(_) => 0,
    };
    coordinator.calls().iter().map(|call| call.answers.iter().map(status).collect()).collect()
}

#[tokio::test]
async fn each_fault_happens_as_planned_and_the_money_is_right() {
    // What goes wrong, how it ends, and what each call was answered where it arrived.
    let table: [(Faults, Phase, &[&[u16]]); 9] = [
        (Faults::none(), Phase::Confirmed, &[&[200], &[200]]),
        (on(Try, Fault::LoseRequest), Phase::Confirmed, &[&[], &[200], &[200]]),
        (on(Try, Fault::LoseAnswer), Phase::Confirmed, &[&[200], &[200], &[200]]),
        (on(Try, Fault::Double), Phase::Confirmed, &[&[200, 200], &[200]]),
        (on(Try, Fault::Delay(Duration::from_secs(3600))), Phase::Confirmed, &[&[200], &[200], &[200]]),
        (on(Try, Fault::Reorder), Phase::Confirmed, &[&[200], &[200], &[200]]),
        (on(Try, Fault::Crash), Phase::Confirmed, &[&[200], &[200], &[200]]),
        (on(Confirm, Fault::LoseAnswer), Phase::Confirmed, &[&[200], &[200], &[200]]),
        (on(Confirm, Fault::Crash), Phase::Confirmed, &[&[200], &[200], &[200]]),
    ];
    for (faults, phase, answers) in table {
        let (bank, mut coordinator) = world(faults.clone()).await;
        let view = coordinator.submit(&transfer(10)).await;
        assert_eq!(view.phase, phase, "{faults:?}:\n{coordinator}");
        assert_eq!(statuses(&coordinator), answers, "{faults:?}:\n{coordinator}");
        assert_eq!(bank.books().await, SPENT, "{faults:?}:\n{coordinator}");
    }
}

fn on(operation: tcc_client::Operation, fault: Fault) -> Faults {
    Faults::none().on("money", operation, 1, fault)
}

/// The two anomalies of TCC in one: the cancel comes first, and the try after it.
#[tokio::test]
async fn a_try_that_its_cancel_overtakes_is_refused() {
    let late = Faults::none().on("money", Try, 1, Fault::Reorder);
    let (bank, mut coordinator) = world(late).await;
    let mut order = transfer(10);
    // Not long enough for a second try.
    order["timeout_ms"] = 5_000.into();
    let view = coordinator.submit(&order).await;
    assert_eq!((view.phase, view.reason.as_deref()), (Phase::Cancelled, Some("the deadline passed")));
    assert_eq!(statuses(&coordinator), [vec![409], vec![200]], "{coordinator}");
    assert_eq!((coordinator.calls()[1].operation, bank.books().await), (Cancel, UNTOUCHED));
}

#[tokio::test]
async fn a_refusal_cancels_with_its_reason() {
    let (bank, mut coordinator) = world(Faults::none()).await;
    let view = coordinator.submit(&transfer(5000)).await;
    assert_eq!(
        (view.phase, view.reason.as_deref()),
        (Phase::Cancelled, Some("branch money refused: no funds"))
    );
    assert_eq!(bank.books().await, UNTOUCHED);
}

#[tokio::test]
async fn an_initiator_decides_and_its_deadline_takes_no_time() {
    let (bank, mut coordinator) = world(Faults::none()).await;
    let begin = |cents| {
        let mut begin = transfer(cents);
        begin["decider"] = "initiator".into();
        begin["timeout_ms"] = 3_600_000.into();
        begin["branches"][0]["try"] = "http://bank/tcc/payment/try".into();
        begin
    };
    let gid = coordinator.begin(&begin(10)).await;
    assert!(coordinator.confirm(&gid, &[]).await.is_err(), "its try is not done");
    coordinator.run_for(Duration::from_secs(1)).await;
    assert_eq!(coordinator.view(&gid).await.phase, Phase::Trying);
    coordinator.confirm(&gid, &[]).await.unwrap();
    assert!(coordinator.cancel(&gid, "too late").await.is_err());
    coordinator.run().await;
    assert_eq!(coordinator.view(&gid).await.phase, Phase::Confirmed);

    let began = coordinator.elapsed();
    let view = coordinator.submit(&begin(20)).await;
    assert_eq!((view.phase, view.reason.as_deref()), (Phase::Cancelled, Some("the deadline passed")));
    assert!(coordinator.elapsed() - began >= Duration::from_secs(3600), "by its own clock");
    assert_eq!(bank.books().await, SPENT);
}

/// Whatever is drawn, all of it ends, nothing is left reserved, and the money is where the decision says.
#[tokio::test]
async fn whatever_a_seed_draws_the_books_agree_and_it_draws_it_again() {
    let mut seen = Vec::new();
    for seed in 0..20 {
        let mut stories = Vec::new();
        for _ in 0..2 {
            let (bank, mut coordinator) = world(Faults::seeded(seed)).await;
            let mut spent = 0;
            for cents in [10, 20, 5000] {
                coordinator.begin(&transfer(cents)).await;
            }
            coordinator.run().await;
            for cents in [10, 20, 5000] {
                let view = coordinator.view(&format!("transfer/{cents}").parse().unwrap()).await;
                assert!(view.phase.ended(), "seed {seed}:\n{coordinator}");
                spent += if view.phase == Phase::Confirmed { cents } else { 0 };
            }
            let books = Books { free: 1000 - spent, reserved: 0, spent };
            assert_eq!(bank.books().await, books, "seed {seed}:\n{coordinator}");
            seen.extend(coordinator.calls().iter().filter_map(|call| call.fault));
            stories.push(coordinator.to_string());
        }
        assert_eq!(stories[0], stories[1], "seed {seed}");
    }
    let drawn = |fault: fn(&Fault) -> bool| seen.iter().filter(|seen| fault(seen)).count();
    for (name, count) in [
        ("lost requests", drawn(|fault| *fault == Fault::LoseRequest)),
        ("lost answers", drawn(|fault| *fault == Fault::LoseAnswer)),
        ("doubles", drawn(|fault| *fault == Fault::Double)),
        ("delays", drawn(|fault| matches!(fault, Fault::Delay(_)))),
        ("reordered", drawn(|fault| *fault == Fault::Reorder)),
        ("crashes", drawn(|fault| *fault == Fault::Crash)),
    ] {
        assert!(count > 0, "no {name} in 20 seeds");
    }
}

#[tokio::test]
#[should_panic(expected = "no participant was given for http://elsewhere/try")]
async fn an_endpoint_without_a_participant_is_a_mistake_in_the_test() {
    let (_bank, mut coordinator) = world(Faults::none()).await;
    coordinator.begin(&json!({ "branches": [{ "id": "a", "at": "http://elsewhere" }] })).await;
}

#[tokio::test]
async fn calls_are_signed_for_who_believes_no_others() {
    let key: tcc_client::SigningKey = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
    let bank = Sqlite::open().await;
    let service = Caller::new(&bank).service.verified_by([key.clone()]);
    let coordinator = || Coordinator::new(Faults::none()).participant("http://bank/tcc", service.clone());
    let mut signing = coordinator().signed_by([key]);
    assert_eq!(signing.submit(&transfer(10)).await.phase, Phase::Confirmed, "{signing}");
    let mut silent = coordinator();
    let view = silent.submit(&transfer(20)).await;
    assert_eq!(view.phase, Phase::Cancelling, "nobody obeys, and the deadline has come:\n{silent}");
    assert_eq!(bank.books().await, SPENT);
}

/// What applications have: a submission, as their own code makes it.
#[cfg(feature = "initiator")]
#[tokio::test]
async fn a_submission_of_the_application_is_driven_too() {
    use tcc_client::{Branch, Submission};
    let bank = Sqlite::open().await;
    let mut coordinator = Coordinator::new(Faults::none()).participant("local:", Caller::new(&bank).service);
    let money = json!({ "account": "alice", "cents": 10 });
    let order = Submission::new("order/1".parse().unwrap())
        .branch(Branch::at("money", "local:payment").payload(&money).unwrap());
    let view = coordinator.submit(order.request()).await;
    assert_eq!((view.gid.as_str(), view.phase), ("order/1", Phase::Confirmed), "{coordinator}");
    assert_eq!(bank.books().await, SPENT);
}
