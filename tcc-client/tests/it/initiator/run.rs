//! What a closure makes of a transaction.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tcc_client::wire::ProblemCode;
use tcc_client::{Branch, Failure, Gid, Outcome, Phase, RunError, Stop, Wait, new_gid};
use tcc_core::answer::Reply;
use tcc_core::{Event, Operation};

use super::stub::{Fault, Stub, says};

const SHORT: Duration = Duration::from_millis(500);

fn cancel_from_elsewhere(stub: &Stub, gid: &Gid) {
    stub.apply(gid, Event::Cancel { reason: "somebody else".to_owned() });
}

fn ended(branch: &str, operation: Operation) -> Event {
    let branch = Some(branch.parse().unwrap());
    Event::Reply { branch, operation, reply: Reply::Done(None), random: tcc_core::Random::default() }
}

/// C2, the initiator's half: a branch is durable before its try.
#[tokio::test]
async fn a_branch_is_registered_durably_before_it_is_tried() {
    let (stub, gid) = (Stub::start().await, new_gid());
    let at = stub.participant("stock");
    let run = stub.client().transaction(gid.clone()).run(async |tcc| {
        let reply = tcc.try_branch("stock", &at, &json!({"count": 2})).await?;
        Ok(reply.json::<serde_json::Value>()?)
    });
    assert_eq!(run.await.unwrap(), json!({"reserved": "stock"}));
    assert_eq!(
        stub.log(),
        [
            format!("begin {gid}"),
            "register stock".to_owned(),
            r#"stock/try registered {"count":2}"#.to_owned(),
            "confirm stock".to_owned(),
        ]
    );
    assert_eq!(stub.phase(&gid), Some(Phase::Confirming));
}

#[tokio::test]
async fn a_branch_that_could_not_be_registered_is_not_tried() {
    let (stub, at) = (Stub::start().await, "http://127.0.0.1:1");
    stub.faults("branches", [says(ProblemCode::TooLarge)]);
    let run = stub.client().transaction(new_gid()).run(async |tcc| tcc.try_branch("stock", at, &()).await);
    let RunError::Cancelled(Stop::Unregistered(error)) = run.await.unwrap_err() else { panic!("registered") };
    assert_eq!((error.code(), error.outcome()), (Some(ProblemCode::TooLarge), Outcome::Known));
    assert_eq!(stub.count("stock/try"), 0);
}

/// A forgotten cancel would end as Cancelled with the money gone.
#[tokio::test]
async fn what_is_tried_has_a_cancel_or_says_that_it_needs_none() {
    let stub = Stub::start().await;
    let at = |operation: &str| format!("{}/{operation}", stub.participant("stock"));
    let forgotten = || Branch::new("stock").try_(at("try")).confirm(at("confirm"));
    let run = stub.client().transaction(new_gid()).run(async |tcc| tcc.try_(forgotten()).await);
    let RunError::Cancelled(Stop::Unregistered(error)) = run.await.unwrap_err() else { panic!("tried") };
    let Failure::Invalid(invalid) = &error.failed().failure else { panic!("{error:?}") };
    assert_eq!(invalid.pointer, "/branches/0/cancel");
    assert_eq!((stub.count("register"), stub.count("stock/try")), (0, 0));
    for branch in [forgotten().no_cancel(), forgotten().cancel(at("cancel"))] {
        let run = stub.client().transaction(new_gid()).run(async |tcc| tcc.try_(branch).await);
        run.await.unwrap();
    }
    assert_eq!((stub.count("register"), stub.count("stock/try")), (2, 2));
}

#[tokio::test]
async fn branches_can_be_tried_at_once_and_in_a_task() {
    let (stub, gid) = (Stub::start().await, new_gid());
    let (stock, money) = (stub.participant("stock"), stub.participant("money"));
    let transaction = stub.client().transaction(gid.clone());
    let task = tokio::spawn(async move {
        let run = transaction.run(async |tcc| {
            let (stock, money) = (tcc.try_branch("stock", &stock, &1), tcc.try_branch("money", &money, &2));
            tokio::try_join!(stock, money)?;
            tcc.register(Branch::new("mail").confirm("http://mail/send")).await?;
            Ok(())
        });
        run.await
    });
    task.await.unwrap().unwrap();
    assert_eq!(stub.log().last().unwrap(), "confirm mail money stock");
    assert_eq!(stub.phase(&gid), Some(Phase::Confirming));
}

/// C8 for a closure: what was done one after the other is compensated in the reverse.
#[tokio::test]
async fn steps_come_after_those_that_are_done_and_branches_of_tcc_after_none() {
    let (stub, gid) = (Stub::start().await, new_gid());
    stub.faults("tram/try", [Fault::Answer(409, json!({"code": "refused", "detail": "on strike"}))]);
    let step = |id: &str| {
        let at = stub.participant(id);
        Branch::step(id, format!("{at}/try"), format!("{at}/cancel"))
    };
    let money = stub.participant("money");
    let run = stub.client().transaction(gid.clone()).run(async |tcc| {
        tcc.try_(step("flight")).await?;
        tcc.try_branch("money", &money, &()).await?;
        tokio::try_join!(tcc.try_(step("hotel")), tcc.try_(step("car")))?;
        // Begun again it is the same branch.
        tcc.try_(step("hotel")).await?;
        tcc.try_(step("tour").after("hotel")).await?;
        tcc.try_(step("tram")).await
    });
    assert!(matches!(run.await.unwrap_err(), RunError::Cancelled(Stop::Refused { .. })));
    let mut order = stub.order(&gid);
    order[2..4].sort();
    let expected = [
        r#"flight after []"#,
        r#"money after []"#,
        r#"car after ["flight"]"#,
        r#"hotel after ["flight"]"#,
        r#"tour after ["hotel"]"#,
        r#"tram after ["car", "tour"]"#,
    ];
    assert_eq!(order, expected);
}

#[tokio::test]
async fn a_refusal_cancels_and_says_why() {
    let (stub, gid) = (Stub::start().await, new_gid());
    stub.faults("stock/try", [Fault::Answer(409, json!({"code": "refused", "detail": "sold out"}))]);
    let at = stub.participant("stock");
    let run = stub.client().transaction(gid.clone()).run(async |tcc| tcc.try_branch("stock", &at, &()).await);
    let error = run.await.unwrap_err();
    assert_eq!(error.to_string(), "the transaction was cancelled: branch stock refused: sold out");
    assert!(matches!(error, RunError::Cancelled(Stop::Refused { .. })));
    assert_eq!(stub.log().last().unwrap(), "cancel branch stock refused: sold out");
    assert_eq!(stub.phase(&gid), Some(Phase::Cancelling));
}

#[tokio::test]
async fn the_applications_own_error_cancels_and_says_why() {
    let (stub, gid) = (Stub::start().await, new_gid());
    let run = stub.client().transaction(gid.clone()).run(async |_| {
        "x".parse::<u8>()?;
        Ok(())
    });
    let RunError::Cancelled(Stop::Error(error)) = run.await.unwrap_err() else { panic!("not cancelled") };
    assert!(error.is::<std::num::ParseIntError>());
    assert_eq!(stub.log().last().unwrap(), "cancel the initiator failed: invalid digit found in string");
}

/// Only an answer of refused is a refusal (C4): all else is asked again, and numbered.
#[tokio::test]
async fn an_unclear_try_is_repeated() {
    let stub = Stub::start().await;
    let unclear = [
        Fault::Lost,
        Fault::Later(425, 0),
        Fault::Answer(409, json!({"code": "conflict"})),
        Fault::Answer(404, json!({})),
        Fault::Answer(503, json!({"code": "refused"})),
    ];
    stub.faults("stock/try", unclear);
    let at = stub.participant("stock");
    let run = stub.client().transaction(new_gid()).run(async |tcc| tcc.try_branch("stock", &at, &()).await);
    run.await.unwrap();
    let headers = stub.headers();
    let attempts: Vec<&str> =
        headers.iter().filter_map(|headers| headers.get("tcc-attempt")?.to_str().ok()).collect();
    assert_eq!(attempts, ["1", "2", "3", "4", "5", "6"]);
    assert_eq!((stub.count("register"), stub.count("cancel")), (1, 0));
}

#[tokio::test]
async fn a_try_that_stays_unclear_is_cancelled_by_the_deadline() {
    let (stub, gid) = (Stub::start().await, new_gid());
    stub.faults("stock/try", [Fault::Silent]);
    let at = stub.participant("stock");
    let transaction = stub.client().transaction(gid.clone()).timeout(SHORT);
    let error = transaction.run(async |tcc| tcc.try_branch("stock", &at, &()).await).await.unwrap_err();
    let RunError::Cancelled(Stop::Unclear { branch, seen }) = error else { panic!("{error}") };
    assert_eq!((branch.as_str(), seen.as_str()), ("stock", "timed-out"));
    assert_eq!(stub.phase(&gid), Some(Phase::Cancelling));
}

/// The clocks of the guard's clean-up are the coordinator's: an initiator sends on the one moment it was told.
#[tokio::test]
async fn a_try_carries_what_a_guard_needs_and_no_token() {
    let (stub, gid) = (Stub::start().await, "orders/2026:17".parse::<Gid>().unwrap());
    let client = stub.builder().token("secret").build().unwrap();
    let branch = Branch::at("stock", stub.participant("stock")).header("x-tenant", "7");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let transaction = client.transaction(gid.clone()).timeout(Duration::from_secs(5)).traceparent(trace);
    transaction.run(async |tcc| tcc.try_(branch).await).await.unwrap();
    let (log, headers) = (stub.log(), stub.headers());
    let (tries, others): (Vec<_>, Vec<_>) =
        log.iter().zip(&headers).partition(|(line, _)| line.starts_with("stock"));
    for (line, headers) in others {
        assert_eq!(headers["authorization"], "Bearer secret", "{line}");
    }
    assert_eq!(headers[0]["traceparent"], trace, "begin carries the trace too");
    let [(_, headers)] = tries[..] else { panic!("{log:?}") };
    for (name, value) in [
        ("tcc-gid", "orders/2026:17"),
        ("tcc-branch", "stock"),
        ("tcc-operation", "try"),
        ("tcc-attempt", "1"),
        ("x-tenant", "7"),
        ("content-length", "0"),
        ("traceparent", trace),
    ] {
        assert_eq!(headers[name], value);
    }
    let left: u64 = headers["tcc-timeout"].to_str().unwrap().parse().unwrap();
    assert!((1..=5000).contains(&left), "{left} ms, of 5 s until the deadline");
    assert_eq!(headers["tcc-begun"].to_str().unwrap(), stub.begun(&gid).to_string());
    for name in ["tcc-settled", "authorization", "content-type"] {
        assert!(!headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn a_panic_cancels_and_goes_on() {
    let (stub, gid) = (Stub::start().await, new_gid());
    let transaction = stub.client().transaction(gid.clone());
    let run = tokio::spawn(async move {
        let run = transaction.run(async |_| -> Result<(), Stop> { panic!("a bug of the application") });
        run.await
    });
    let panic = run.await.unwrap_err().into_panic();
    assert_eq!(*panic.downcast_ref::<&str>().unwrap(), "a bug of the application");
    assert_eq!(stub.log(), [format!("begin {gid}"), "cancel the initiator panicked".to_owned()]);
    assert_eq!(stub.phase(&gid), Some(Phase::Cancelled));
}

#[tokio::test]
async fn a_drop_asks_for_cancel() {
    let (stub, gid) = (Stub::start().await, new_gid());
    stub.faults("stock/try", [Fault::Silent]);
    let at = stub.participant("stock");
    let run = stub.client().transaction(gid.clone()).run(async |tcc| tcc.try_branch("stock", &at, &()).await);
    tokio::select! {
        _ = run => panic!("a participant is silent"),
        _ = stub.asked("stock/try") => {}
    }
    stub.asked("cancel the initiator dropped").await;
    assert_eq!(stub.phase(&gid), Some(Phase::Cancelling));
}

/// A begin that is still on its way is told (C3).
#[tokio::test]
async fn a_drop_during_begin_bars_the_transaction() {
    let (stub, gid) = (Stub::start().await, new_gid());
    stub.faults("begin", [Fault::Silent]);
    let client = stub.client();
    tokio::select! {
        _ = client.transaction(gid.clone()).run(async |_| Ok(())) => panic!("the coordinator is silent"),
        _ = stub.asked("begin") => {}
    }
    stub.asked("cancel the initiator dropped").await;
    let again = client.transaction(gid.clone()).run(async |_| Ok(())).await;
    assert!(matches!(again, Err(RunError::Decided(Phase::Cancelled))), "{again:?}");
}

/// C4, where it matters most: an unclear confirm may have confirmed, so it is not cancelled.
#[tokio::test]
async fn an_unclear_confirm_is_unknown_and_cancels_nothing() {
    for fault in [Fault::Silent, Fault::Lost, says(ProblemCode::OutcomeUnknown)] {
        let (stub, gid) = (Stub::start().await, new_gid());
        stub.faults("confirm", vec![fault.clone(); 1000]);
        let client = stub.builder().repeat_for(SHORT).build().unwrap();
        let run = client.transaction(gid.clone()).run(async |_| Ok("value"));
        let RunError::Unknown(error) = run.await.unwrap_err() else { panic!("{fault:?} is unclear") };
        assert_eq!(error.outcome(), Outcome::Unknown);
        // Whoever asks for cancel does it before this answer.
        client.status(&gid).await.unwrap();
        assert_eq!(stub.count("cancel"), 0, "{fault:?}: {:?}", stub.log());
    }
}

#[tokio::test]
async fn a_confirm_whose_answer_was_lost_is_repeated_to_its_answer() {
    let (stub, gid) = (Stub::start().await, new_gid());
    stub.faults("confirm", [Fault::Lost, says(ProblemCode::Unavailable), Fault::Lost]);
    let run = stub.client().transaction(gid.clone()).run(async |_| Ok("value"));
    assert_eq!(run.await.unwrap(), "value");
    assert_eq!(stub.count("confirm"), 4);
    assert_eq!(stub.phase(&gid), Some(Phase::Confirmed));
}

#[tokio::test]
async fn a_drop_after_confirm_was_sent_cancels_nothing() {
    let (stub, gid) = (Stub::start().await, new_gid());
    stub.faults("confirm", [Fault::Silent]);
    let client = stub.client();
    tokio::select! {
        _ = client.transaction(gid.clone()).run(async |_| Ok(())) => panic!("the coordinator is silent"),
        _ = stub.asked("confirm") => {}
    }
    // On this single thread, a task that the drop had spawned would have been at work before this one's answers.
    for _ in 0..10 {
        client.status(&gid).await.unwrap();
    }
    assert_eq!(stub.count("cancel"), 0);
    // And it can still be finished by its gid.
    assert!(client.confirm(&gid, []).await.unwrap().is_confirmed());
}

#[tokio::test]
async fn a_cancel_from_elsewhere_is_told_by_confirm_and_by_register() {
    let stub = Stub::start().await;
    let at = stub.participant("stock");
    for registers in [true, false] {
        let gid = new_gid();
        let run = stub.client().transaction(gid.clone()).run(async |tcc| {
            tcc.try_branch("stock", &at, &()).await?;
            cancel_from_elsewhere(&stub, &gid);
            if registers {
                tcc.try_branch("late", &at, &()).await?;
            }
            Ok(())
        });
        let error = run.await.unwrap_err();
        let RunError::Cancelled(Stop::Decided { phase, .. }) = error else { panic!("{error}") };
        assert_eq!(phase, Phase::Cancelling);
    }
    // C7: whoever registers late is told, and does not try.
    assert_eq!((stub.count("late/try"), stub.count("confirm")), (0, 1));
}

/// A repeat cannot have the first run's value, and must not try again.
#[tokio::test]
async fn a_run_repeated_after_the_decision_is_told_and_not_run() {
    let (stub, confirmed, cancelled) = (Stub::start().await, new_gid(), new_gid());
    let client = stub.client();
    client.transaction(confirmed.clone()).run(async |_| Ok(())).await.unwrap();
    client.cancel(&cancelled, "before it began").await.unwrap();
    for (gid, phase) in [(confirmed, Phase::Confirmed), (cancelled, Phase::Cancelled)] {
        let called = AtomicBool::new(false);
        let run = client.transaction(gid.clone()).run(async |_| {
            called.store(true, Ordering::Relaxed);
            Ok(())
        });
        let again = run.await.unwrap_err();
        assert!(matches!(again, RunError::Decided(told) if told == phase), "{again}");
        assert!(!called.into_inner());
        assert_eq!(stub.phase(&gid), Some(phase), "a repeat changed the decision");
    }
}

/// While the coordinator answers that it did not confirm, cancel is right.
#[tokio::test]
async fn a_branch_not_seen_tried_cancels_instead_of_confirming() {
    let (stub, gid) = (Stub::start().await, new_gid());
    stub.faults("stock/try", [Fault::Silent]);
    let at = stub.participant("stock");
    let run = stub.client().transaction(gid.clone()).run(async |tcc| {
        tokio::select! {
            _ = tcc.try_branch("stock", &at, &()) => panic!("a participant is silent"),
            _ = stub.asked("stock/try") => Ok(()),
        }
    });
    let error = run.await.unwrap_err();
    let RunError::Cancelled(Stop::NotAllTried(detail)) = error else { panic!("{error}") };
    assert_eq!(detail, "stock is registered and not named");
    assert_eq!(stub.phase(&gid), Some(Phase::Cancelling));
}

#[tokio::test]
async fn a_branch_tried_by_other_means_is_confirmed_once_that_is_said() {
    for said in [true, false] {
        let stub = Stub::start().await;
        let branch = Branch::at("stock", "grpc://inventory/stock");
        let run = stub.client().transaction(new_gid()).run(async |tcc| {
            tcc.register(branch).await?;
            if said { tcc.tried("stock") } else { Ok(()) }
        });
        assert_eq!(run.await.is_ok(), said);
    }
}

#[tokio::test]
async fn a_transaction_that_was_not_begun_says_so() {
    let stub = Stub::start().await;
    stub.faults("begin", [says(ProblemCode::Unauthorized)]);
    let run = stub.client().transaction(new_gid()).run(async |_| Ok(()));
    let error = run.await.unwrap_err();
    assert!(matches!(error, RunError::NotBegun(_)), "{error}");
    assert_eq!((stub.log().len(), stub.count("begin")), (1, 1));

    // But if an earlier attempt may have been done, nobody knows.
    let stub = Stub::start().await;
    stub.faults("begin", [Fault::Lost, says(ProblemCode::Unauthorized)]);
    let run = stub.client().transaction(new_gid()).run(async |_| Ok(()));
    let error = run.await.unwrap_err();
    assert!(matches!(error, RunError::Unknown(_)), "{error}");
}

#[tokio::test]
async fn a_run_can_wait_for_the_end() {
    for (operation, phase) in [(Operation::Confirm, Phase::Confirmed), (Operation::Cancel, Phase::Cancelled)]
    {
        let (stub, gid) = (Stub::start().await, new_gid());
        let at = stub.participant("stock");
        let transaction = stub.client().transaction(gid.clone()).wait(Wait::End);
        let run = transaction.run(async |tcc| {
            tcc.try_branch("stock", &at, &()).await?;
            if operation == Operation::Confirm { Ok(()) } else { Err(Stop::because("no")) }
        });
        let participant = async {
            stub.asked(operation.as_str()).await;
            assert_eq!(stub.phase(&gid).map(Phase::ended), Some(false));
            stub.apply(&gid, ended("stock", operation));
        };
        let (result, ()) = tokio::join!(run, participant);
        assert_eq!(result.is_ok(), operation == Operation::Confirm);
        assert_eq!(stub.phase(&gid), Some(phase));
    }
}

/// The decision is durable: that its end was not seen is no reason to call it anything else.
#[tokio::test]
async fn a_wait_for_the_end_that_fails_or_runs_out_is_no_error() {
    for faults in [vec![], vec![says(ProblemCode::Unauthorized)]] {
        let (stub, gid) = (Stub::start().await, new_gid());
        stub.faults("status", faults);
        let at = stub.participant("stock");
        let transaction = stub.client().transaction(gid.clone()).wait(Wait::End).at_most(SHORT);
        transaction.run(async |tcc| tcc.try_branch("stock", &at, &()).await).await.unwrap();
        assert_eq!(stub.phase(&gid), Some(Phase::Confirming));
    }
}
