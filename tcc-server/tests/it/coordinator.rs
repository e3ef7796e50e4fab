//! The coordinator and its driver over a memory store and participants that do what the test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tcc_core::answer::{Answer, Failure, Response};
use tcc_core::contract::row;
use tcc_core::store::{Refusal, Store, Write};
use tcc_core::{Operation, Phase};
use tcc_server::transport::{Outgoing, Transports};
use tcc_server::{Begun, Coordinator, Error, Known, Settings, Wait};

use crate::scripted::{BOUND, Bench, Script, gid, order, request, start, status, until};

#[tokio::test]
async fn tries_and_confirms_of_independent_branches_are_made_in_parallel() {
    let meeting = Arc::new(tokio::sync::Barrier::new(2));
    // Each call is answered only once the other branch's call is there too.
    let script = Script::new(move |_| {
        let meeting = meeting.clone();
        async move {
            meeting.wait().await;
            status(200)
        }
    });
    let bench = Bench::new(&script);
    let known = bench.begin(&order("g")).await.unwrap();
    assert_eq!(bench.ends(known).await, Phase::Confirmed);
    assert_eq!(script.calls().len(), 4);
}

#[tokio::test]
async fn a_hung_destination_delays_only_those_who_call_it() {
    let script = Script::new(async |outgoing: Outgoing| {
        if outgoing.call.endpoint.as_str().starts_with("t:hung") {
            tokio::time::sleep(outgoing.timeout).await;
            return Answer::None(Failure::TimedOut);
        }
        status(200)
    });
    let bench = Bench::new(&script);
    for i in 0..50 {
        let hung = format!(r#"{{"gid":"hung/{i}","branches":[{{"id":"a","at":"t:hung"}}]}}"#);
        bench.begin(&hung).await.unwrap();
    }
    let started = Instant::now();
    for i in 0..50 {
        let known = bench.begin(&order(&format!("healthy/{i}"))).await.unwrap();
        assert_eq!(bench.ends(known).await, Phase::Confirmed);
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // Four places, each held for the ten seconds of a call.
    assert!(script.count("try a") <= 8, "{}", script.count("try a"));
}

#[tokio::test]
async fn a_crowd_at_a_quick_destination_is_served_as_fast_as_it_answers() {
    let script = Script::new(async |_: Outgoing| {
        tokio::time::sleep(Duration::from_millis(5)).await;
        status(200)
    });
    let bench = Bench::new(&script);
    let begun = (0..200).map(async |nth| {
        let one = format!(r#"{{"gid":"g{nth}","branches":[{{"id":"a","at":"t:a"}}]}}"#);
        let known = bench.begin(&one).await.unwrap();
        bench.coordinator.wait(known, Wait::End, BOUND * 3).await.phase()
    });
    let phases = futures_util::future::join_all(begun).await;
    assert!(phases.iter().all(|phase| *phase == Phase::Confirmed), "{phases:?}");
}

#[tokio::test]
async fn a_cancel_waits_for_the_answer_of_the_try_in_flight() {
    let (script, gate) = Script::held(|operation| operation == Operation::Try);
    let bench = Bench::new(&script);
    let known = bench.begin(&order("g")).await.unwrap();
    until("both tries", || script.calls().len() == 2).await;
    let cancelled = bench.coordinator.cancel(&gid("g"), "changed my mind".into()).await.unwrap();
    assert_eq!(cancelled.phase(), Phase::Cancelling);
    // Nothing is called while the tries are out, however long that takes.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(script.calls().len(), 2);
    gate.add_permits(2);
    assert_eq!(bench.ends(known).await, Phase::Cancelled);
    assert_eq!((script.count("cancel stock"), script.count("cancel money")), (1, 1));
    assert_eq!(script.count("confirm stock") + script.count("confirm money"), 0);
}

#[tokio::test]
async fn nothing_is_called_after_a_write_whose_outcome_is_unknown() {
    let (script, gate) = Script::held(|_| true);
    let bench = Bench::new(&script);
    let known = bench.begin(&order("g")).await.unwrap();
    until("both tries", || script.calls().len() == 2).await;
    bench.store.unclear.store(true, Ordering::SeqCst);
    gate.add_permits(100);
    tokio::time::timeout(BOUND, bench.coordinator.failed()).await.unwrap();
    assert!(matches!(bench.begin(&order("h")).await, Err(Error::Unknown(_))));
    // The store is well again, yet this process does not act any more: only a restart knows what was written.
    bench.store.unclear.store(false, Ordering::SeqCst);
    bench.pass(Duration::from_secs(3600));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(script.calls().len(), 2, "{:?}", script.calls());
    drop(known);
}

#[tokio::test]
async fn a_full_store_acknowledges_nothing_and_goes_on_by_itself_when_there_is_space() {
    let (script, gate) = Script::held(|operation| operation == Operation::Try);
    let bench = Bench::new(&script);
    let known = bench.begin(&order("g")).await.unwrap();
    until("both tries", || script.calls().len() == 2).await;
    bench.store.full.store(true, Ordering::SeqCst);
    gate.add_permits(100);
    assert!(matches!(bench.begin(&order("h")).await, Err(Error::Refused(Refusal::Full))));
    assert!(matches!(
        bench.coordinator.cancel(&gid("i"), String::new()).await,
        Err(Error::Refused(Refusal::Full))
    ));
    assert_eq!(bench.coordinator.get(&gid("g")).await.unwrap().phase(), Phase::Trying, "reads go on");
    assert!(matches!(bench.coordinator.get(&gid("h")).await, Err(Error::UnknownGid)));
    assert_eq!(script.calls().len(), 2, "no confirm before its decision is stored");
    bench.store.full.store(false, Ordering::SeqCst);
    assert_eq!(bench.ends(known).await, Phase::Confirmed);
}

#[tokio::test]
async fn what_a_process_left_behind_is_taken_up_by_the_next_one() {
    let dead = Arc::new(AtomicBool::new(true));
    let down = dead.clone();
    let script = Script::new(move |outgoing| {
        let down = down.load(Ordering::SeqCst) && outgoing.call.operation == Operation::Confirm;
        async move { if down { Answer::None(Failure::Connect) } else { status(200) } }
    });
    // A runtime of its own, for what goes on in it is to end with it: its drivers too.
    let process = tokio::runtime::Runtime::new().unwrap();
    let mut bench = {
        let _inside = process.enter();
        Bench::new(&script)
    };
    let first = bench.coordinator.clone();
    let decided = process.spawn(async move {
        let Ok(Begun::New(begun)) = first.begin(request(&order("g"))).await else { panic!("it is new") };
        first.wait(Known::Stored(begun), Wait::Decision, BOUND).await
    });
    assert_eq!(decided.await.unwrap().phase(), Phase::Confirming);
    drop(bench.scheduler.take());
    tokio::task::spawn_blocking(|| drop(process)).await.unwrap();
    dead.store(false, Ordering::SeqCst);
    let (coordinator, scheduler) = start(&bench.store, &script);
    (bench.coordinator, bench.scheduler) = (coordinator, Some(scheduler));
    // The claim of the process that is gone runs out.
    bench.pass(tcc_server::limits::LEASE);
    let known = bench.coordinator.get(&gid("g")).await.unwrap();
    assert_eq!(bench.ends(known).await, Phase::Confirmed);
    assert_eq!(script.count("cancel stock") + script.count("cancel money"), 0);
}

#[tokio::test]
async fn retry_after_is_honoured_and_attention_comes_after_many_calls_and_goes_with_the_end() {
    let script = Script::new(async |outgoing: Outgoing| {
        let attempt = outgoing.call.attempt;
        match outgoing.call.operation {
            Operation::Confirm if attempt == 1 => Answer::Response(Response {
                status: 429,
                retry_after: Some(Duration::from_secs(1)),
                body: None,
            }),
            Operation::Confirm if attempt < 25 => status(500),
            _ => status(200),
        }
    });
    let bench = Bench::new(&script);
    let quick = r#"{"gid":"g","branches":[{"id":"a","at":"t:a","retry":{"intervals_ms":[20]}}]}"#;
    let started = Instant::now();
    let known = bench.begin(quick).await.unwrap();
    let mut attention = Vec::new();
    while known_phase(&bench).await != Phase::Confirmed {
        attention.extend(known_attention(&bench).await);
        assert!(started.elapsed() < BOUND);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(script.count("confirm a"), 25);
    assert_eq!(attention.first().unwrap(), "20 calls and no answer; the last saw: status 500");
    assert_eq!(known_attention(&bench).await, None);
    drop(known);
}

async fn known_phase(bench: &Bench) -> Phase {
    bench.coordinator.get(&gid("g")).await.unwrap().phase()
}

async fn known_attention(bench: &Bench) -> Option<String> {
    match bench.coordinator.get(&gid("g")).await.unwrap() {
        Known::Stored(stored) => stored.transaction().attention().map(ToOwned::to_owned),
        Known::Purged(..) => None,
    }
}

/// Although its driver keeps at it, and would have nothing to save for long.
#[tokio::test]
async fn what_a_call_saw_is_soon_to_be_seen() {
    let script = Script::new(async |_: Outgoing| {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        status(503)
    });
    let bench = Bench::new(&script);
    bench
        .begin(r#"{"gid":"g","branches":[{"id":"a","at":"t:a","retry":{"intervals_ms":[1]}}]}"#)
        .await
        .unwrap();
    let bound = Instant::now() + BOUND;
    loop {
        let Known::Stored(stored) = bench.coordinator.get(&gid("g")).await.unwrap() else {
            panic!("it is not purged")
        };
        match stored.transaction().branches()[0].progress().seen.as_deref() {
            Some(seen) => return assert_eq!(seen, "status 503"),
            None => assert!(Instant::now() < bound, "after {} calls", script.calls().len()),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_404_on_confirm_calls_for_a_human_at_once_and_is_retried() {
    let mended = Arc::new(AtomicBool::new(false));
    let read = mended.clone();
    let script = Script::new(move |outgoing| {
        let broken = outgoing.call.operation == Operation::Confirm && !read.load(Ordering::SeqCst);
        async move { status(if broken { 404 } else { 200 }) }
    });
    let bench = Bench::new(&script);
    let known = bench
        .begin(r#"{"gid":"g","branches":[{"id":"a","at":"t:a","retry":{"first_ms":10,"longest_ms":600}}]}"#)
        .await
        .unwrap();
    let bound = Instant::now() + BOUND;
    let attention = loop {
        if let Some(attention) = known_attention(&bench).await {
            break attention;
        }
        assert!(Instant::now() < bound);
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(attention, "status 404");
    mended.store(true, Ordering::SeqCst);
    assert_eq!(bench.ends(known).await, Phase::Confirmed);
}

#[tokio::test]
async fn a_document_that_cannot_be_read_holds_up_nobody() {
    let script = Script::new(async |_: Outgoing| status(200));
    let bench = Bench::new(&script);
    let row = row("poison", b"{\"v\":99}".to_vec(), bench.store.now());
    bench.store.commit(vec![Write { row, replaces: None, claim: None }]).await.unwrap();
    let known = bench.begin(&order("g")).await.unwrap();
    assert_eq!(bench.ends(known).await, Phase::Confirmed);
    let error = bench.coordinator.get(&gid("poison")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn a_drain_waits_for_the_calls_in_flight_and_makes_no_new_ones() {
    let (script, gate) = Script::held(|_| true);
    let mut bench = Bench::new(&script);
    bench.begin(&order("g")).await.unwrap();
    until("both tries", || script.calls().len() == 2).await;
    let scheduler = bench.scheduler.take().unwrap();
    let drain = tokio::spawn(scheduler.drain(BOUND));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!drain.is_finished());
    gate.add_permits(100);
    assert_eq!(drain.await.unwrap(), tcc_server::Drained::Whole);
    // Both answers are facts and were stored: the decision with them. Its confirms are the next process's.
    let known = bench.coordinator.get(&gid("g")).await.unwrap();
    assert_eq!(known.phase(), Phase::Confirming);
    assert_eq!(script.calls().len(), 2);
}

#[tokio::test]
async fn a_wait_ends_when_the_process_is_told_to_stop_and_tells_how_it_stands() {
    let script = Script::new(async |_: Outgoing| status(425));
    let bench = Bench::new(&script);
    let known = bench.begin(&order("g")).await.unwrap();
    let coordinator = bench.coordinator.clone();
    let waiting = tokio::spawn(async move { coordinator.wait(known, Wait::Decision, BOUND * 3).await });
    until("both tries", || script.calls().len() == 2).await;
    assert!(!waiting.is_finished());
    bench.coordinator.stop();
    let known = tokio::time::timeout(BOUND, waiting).await.unwrap().unwrap();
    assert_eq!(known.phase(), Phase::Trying);
}

#[tokio::test]
async fn a_writer_that_learns_late_of_its_save_does_not_try_what_was_cancelled_since() {
    let script = Script::new(async |_: Outgoing| status(200));
    let bench = Bench::new(&script);
    bench.store.late.store(true, Ordering::SeqCst);
    let coordinator =
        Coordinator::new(bench.store.clone(), Transports::new().with(script.clone()), Settings::default());
    let beginning = tokio::spawn({
        let coordinator = coordinator.clone();
        async move { coordinator.begin(request(&order("g"))).await }
    });
    let bound = Instant::now() + BOUND;
    while coordinator.get(&gid("g")).await.is_err() {
        assert!(Instant::now() < bound);
        tokio::task::yield_now().await;
    }
    let cancelled = coordinator.cancel(&gid("g"), "changed my mind".into()).await.unwrap();
    let ended = coordinator.wait(cancelled, Wait::End, BOUND).await;
    assert_eq!(ended.phase(), Phase::Cancelled);
    bench.store.told.add_permits(1);
    beginning.await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(script.count("try stock") + script.count("try money"), 0, "{:?}", script.calls());
}

/// C9: what falls due is claimed also while as many callers as may are driven.
#[tokio::test]
async fn those_who_are_driven_for_their_callers_take_no_place_from_what_falls_due() {
    let script = Script::new(async |outgoing: Outgoing| {
        if outgoing.call.endpoint.as_str().starts_with("t:hung") {
            tokio::time::sleep(outgoing.timeout).await;
            return Answer::None(Failure::TimedOut);
        }
        status(200)
    });
    let bench = Bench::new(&script);
    for i in 0..tcc_server::limits::DRIVERS_CLAIMED {
        // Each at a destination of its own, as slow as a call may be.
        let hung =
            format!(r#"{{"gid":"hung/{i}","branches":[{{"id":"a","at":"t:hung{i}","timeout_ms":60000}}]}}"#);
        bench.begin(&hung).await.unwrap();
    }
    let later = r#"{"gid":"later","branches":[{"id":"a","at":"t:healthy","delay_ms":500}]}"#;
    let known = bench.begin(later).await.unwrap();
    assert_eq!(bench.ends(known).await, Phase::Confirmed);
}

/// C9: a participant that answers that it cannot take some calls is there for all others.
#[tokio::test]
async fn those_whose_calls_are_no_good_delay_none_that_are() {
    let script = Script::new(async |outgoing: Outgoing| {
        let bad = outgoing.call.branch.as_ref().is_some_and(|branch| branch.as_str() == "bad");
        status(if bad { 400 } else { 200 })
    });
    let bench = Bench::new(&script);
    for i in 0..200 {
        let bad = format!(
            r#"{{"gid":"bad/{i}","branches":[{{"id":"bad","at":"t:p","retry":{{"intervals_ms":[20]}}}}]}}"#
        );
        bench.begin(&bad).await.unwrap();
    }
    until("the bad calls", || script.count("try bad") > 20).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for i in 0..5 {
        let good = format!(r#"{{"gid":"good/{i}","branches":[{{"id":"good","at":"t:p"}}]}}"#);
        let known = bench.begin(&good).await.unwrap();
        assert_eq!(bench.ends(known).await, Phase::Confirmed, "{i}, after {} calls", script.calls().len());
    }
}
