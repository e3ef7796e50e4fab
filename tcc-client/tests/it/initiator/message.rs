//! Transactional messages: the local transaction commits if, and only if, the message is delivered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;
use tcc_client::wire::ProblemCode;
use tcc_client::{BoxError, Branch, Call, Database, Gid, Local, MessageError, Phase, new_gid};
use tcc_core::Event;
use tokio::sync::Semaphore;

use super::stub::{Fault, Stub, says};
use crate::banks::{Bank, Books};
use crate::flaky::{Fate, Flaky};
use crate::payment::{Caller, Seen};

on_each_sql_database!(
    a_message_is_confirmed_once_its_local_transaction_is_committed,
    a_local_transaction_that_fails_drops_the_message_and_leaves_nothing,
    a_check_after_the_commit_says_so_however_often,
    a_check_before_the_local_transaction_bars_it,
    a_check_in_the_middle_of_the_local_transaction_waits_for_it,
    a_message_that_is_sent_again_runs_nothing_again,
    a_confirm_that_is_lost_is_left_to_the_check,
    a_sender_that_is_dropped_in_the_middle_leaves_nothing,
    a_failure_that_says_nothing_of_an_earlier_run_cancels_nothing,
    a_run_that_waits_too_long_for_another_cancels_nothing,
    a_run_that_fails_while_another_waits_for_its_row_cancels_nothing,
    a_message_that_somebody_else_cancelled_is_not_said_to_be_sent,
    a_message_of_which_the_coordinator_knows_nothing_is_not_said_to_be_sent,
    the_rows_of_who_only_sends_go_by_the_mark_of_its_begins,
);

const CENTS: Books = Books { free: -10, reserved: 0, spent: 10 };

/// Spends ten cents of alice's, and counts how often it did.
fn spend<B: Bank>(
    runs: &Arc<AtomicUsize>,
) -> impl for<'t> Fn(&'t mut <B::Database as Database>::Tx) -> Local<'t, ()> + Send + Sync + 'static {
    let runs = runs.clone();
    move |tx| {
        let runs = runs.clone();
        Box::pin(async move {
            runs.fetch_add(1, Ordering::SeqCst);
            assert!(B::move_money(tx, &call(), "alice", CENTS).await?, "she has enough");
            Ok(())
        })
    }
}

/// What the bank's log of effects wants to know.
fn call() -> Call {
    let mut headers = HeaderMap::new();
    for (name, value) in
        [("tcc-gid", "local"), ("tcc-branch", "b"), ("tcc-operation", "confirm"), ("tcc-begun", "1")]
    {
        headers.insert(name, value.parse().unwrap());
    }
    Call::from_headers(&headers).unwrap()
}

fn message(stub: &Stub, gid: &Gid) -> tcc_client::Message {
    let client = stub.builder().repeat_for(Duration::from_secs(2)).build().unwrap();
    let points = Branch::new("points").confirm("http://loyalty/points");
    client.message(gid.clone(), "http://orders/tcc/payment/check").deliver(points)
}

const fn books(spent: i64) -> Books {
    Books { free: 1000 - spent, reserved: 0, spent }
}

/// Sends from a process that dies after the commit and before the confirm: the coordinator does not know that it did.
async fn commit_and_die<B: Bank>(bank: &B, stub: &Stub, gid: &Gid, runs: &Arc<AtomicUsize>) {
    stub.faults("confirm", [Fault::Silent]);
    let silent = stub.builder().repeat_for(Duration::from_millis(300)).build().unwrap();
    let points = Branch::new("points").confirm("http://loyalty/points");
    let message = silent.message(gid.clone(), "http://orders/tcc/payment/check").deliver(points);
    message.send(&bank.database(), spend::<B>(runs)).await.unwrap();
    assert_eq!(stub.phase(gid), Some(Phase::Trying));
}

/// Spends as the others do, but says when it is inside, and then waits to be told how to end.
fn held<B: Bank>(
    inside: &Arc<Semaphore>,
    gate: &Arc<Semaphore>,
    ends: Result<(), &'static str>,
) -> impl for<'t> Fn(&'t mut <B::Database as Database>::Tx) -> Local<'t, ()> + Send + Sync + 'static {
    let (inside, gate) = (inside.clone(), gate.clone());
    move |tx| {
        let (inside, gate) = (inside.clone(), gate.clone());
        Box::pin(async move {
            assert!(B::move_money(tx, &call(), "alice", CENTS).await?);
            inside.add_permits(1);
            gate.acquire().await?.forget();
            ends.map_err(Into::into)
        })
    }
}

async fn a_message_is_confirmed_once_its_local_transaction_is_committed<B: Bank>(bank: B) {
    let _funded = Caller::new(&bank);
    let (stub, gid, runs) = (Stub::start().await, new_gid(), Arc::default());
    message(&stub, &gid).send(&bank.database(), spend::<B>(&runs)).await.unwrap();
    assert_eq!(stub.log(), [format!("begin {gid}"), "confirm points".to_owned()]);
    assert_eq!((bank.books().await, bank.row(gid.as_str()).await), (books(10), Some("confirmed".to_owned())));
    assert_eq!(stub.phase(&gid), Some(Phase::Confirming));
}

async fn a_local_transaction_that_fails_drops_the_message_and_leaves_nothing<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    let (stub, gid, runs) = (Stub::start().await, new_gid(), Arc::default());
    let (spend, no) = (spend::<B>(&runs), "no such article");
    let spend = Arc::new(spend);
    let database = bank.database();
    let sent = message(&stub, &gid).send(&database, move |tx| {
        let spend = spend.clone();
        Box::pin(async move {
            spend(tx).await?;
            Err::<(), BoxError>(no.into())
        })
    });
    let failed = sent.await.unwrap_err();
    assert!(matches!(&failed, MessageError::Local(why) if why.to_string() == no), "{failed:?}");
    assert_eq!(stub.log(), [format!("begin {gid}"), format!("cancel {no}")]);
    let tombstone = Some("cancelled".to_owned());
    assert_eq!((bank.books().await, bank.row(gid.as_str()).await), (books(0), tombstone));
    // Had the cancel been lost, the check would say the same.
    assert!(caller.call("check", gid.as_str()).await.refused());
}

/// Nobody calls a service that only sends, so no call brings it the mark.
async fn the_rows_of_who_only_sends_go_by_the_mark_of_its_begins<B: Bank>(bank: B) {
    let (stub, old, database) = (Stub::start().await, new_gid(), bank.database());
    message(&stub, &old).send(&database, |_| Box::pin(async { Ok(()) })).await.unwrap();
    let mark = stub.begun(&old) + 1;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let young = new_gid();
    message(&stub, &young).send(&database, |_| Box::pin(async { Ok(()) })).await.unwrap();
    assert!(bank.row(old.as_str()).await.is_some(), "no mark was told");
    stub.settled(mark);
    // By chance one in sixteen: that none of so many does is as good as impossible.
    for _ in 0..500 {
        message(&stub, &new_gid()).send(&database, |_| Box::pin(async { Ok(()) })).await.unwrap();
        if bank.row(old.as_str()).await.is_none() {
            assert!(bank.row(young.as_str()).await.is_some(), "it began after the mark");
            return;
        }
    }
    panic!("its row is still there");
}

async fn a_check_after_the_commit_says_so_however_often<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    let (stub, gid, runs) = (Stub::start().await, new_gid(), Arc::default());
    message(&stub, &gid).send(&bank.database(), spend::<B>(&runs)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(caller.call("check", gid.as_str()).await, Seen::done());
    }
}

async fn a_check_before_the_local_transaction_bars_it<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    let (stub, gid, runs) = (Stub::start().await, new_gid(), Arc::default());
    for _ in 0..2 {
        assert!(caller.call("check", gid.as_str()).await.refused());
    }
    // The coordinator has not yet taken in what was answered.
    let dropped = message(&stub, &gid).send(&bank.database(), spend::<B>(&runs)).await.unwrap_err();
    assert!(matches!(dropped, MessageError::Dropped), "{dropped:?}");
    assert_eq!((runs.load(Ordering::SeqCst), bank.books().await), (0, books(0)));
    assert_eq!(
        stub.log(),
        [format!("begin {gid}")],
        "neither confirmed nor cancelled: the check's answer decides"
    );
}

async fn a_check_in_the_middle_of_the_local_transaction_waits_for_it<B: Bank>(bank: B) {
    for commits in [true, false] {
        let caller = Caller::new(&bank);
        let (stub, gid) = (Stub::start().await, new_gid());
        let (arrived, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (database, message) = (bank.database(), message(&stub, &gid));
        let ends = if commits { Ok(()) } else { Err("changed my mind") };
        let local = held::<B>(&arrived, &gate, ends);
        let sending = tokio::spawn(async move { message.send(&database, local).await });
        arrived.acquire().await.unwrap().forget();
        // While nobody knows, nobody is told.
        assert_eq!(caller.once("check", gid.as_str()).await.status, 425);
        let checking = tokio::spawn({
            let (caller, gid) = (caller.clone(), gid.clone());
            async move { caller.call("check", gid.as_str()).await }
        });
        gate.add_permits(1);
        assert_eq!(sending.await.unwrap().is_ok(), commits);
        let seen = checking.await.unwrap();
        assert_eq!((seen == Seen::done(), seen.refused()), (commits, !commits), "{seen:?}");
    }
    assert_eq!(bank.books().await, books(10));
}

async fn a_message_that_is_sent_again_runs_nothing_again<B: Bank>(bank: B) {
    let _funded = Caller::new(&bank);
    let (stub, gid, runs) = (Stub::start().await, new_gid(), Arc::default());
    commit_and_die(&bank, &stub, &gid, &runs).await;

    let again = message(&stub, &gid).send(&bank.database(), spend::<B>(&runs)).await.unwrap_err();
    assert!(matches!(again, MessageError::Sent(Phase::Confirming)), "{again:?}");
    let once_more = message(&stub, &gid).send(&bank.database(), spend::<B>(&runs)).await.unwrap_err();
    assert!(matches!(once_more, MessageError::Sent(Phase::Confirming)), "{once_more:?}");
    assert_eq!((runs.load(Ordering::SeqCst), bank.books().await), (1, books(10)));
}

async fn a_confirm_that_is_lost_is_left_to_the_check<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    let (stub, gid, runs) = (Stub::start().await, new_gid(), Arc::default());
    stub.faults("confirm", std::iter::repeat_n(Fault::Answer(503, serde_json::json!({})), 1000));
    message(&stub, &gid).send(&bank.database(), spend::<B>(&runs)).await.unwrap();
    assert_eq!(stub.phase(&gid), Some(Phase::Trying));
    assert_eq!(stub.count("cancel"), 0, "what is committed is never cancelled");
    assert_eq!(caller.call("check", gid.as_str()).await, Seen::done());
}

async fn a_sender_that_is_dropped_in_the_middle_leaves_nothing<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    let (stub, gid) = (Stub::start().await, new_gid());
    // Held where it cannot be run to its end by a thread of its own: before the local transaction.
    stub.faults("begin", [Fault::Silent]);
    let runs = Arc::default();
    let database = bank.database();
    let sending = message(&stub, &gid).send(&database, spend::<B>(&runs));
    assert!(tokio::time::timeout(Duration::from_millis(300), sending).await.is_err());
    assert!(caller.call("check", gid.as_str()).await.refused());
    assert_eq!((runs.load(Ordering::SeqCst), bank.books().await), (0, books(0)));
}

async fn a_failure_that_says_nothing_of_an_earlier_run_cancels_nothing<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    let (stub, gid, runs) = (Stub::start().await, new_gid(), Arc::default());
    commit_and_die(&bank, &stub, &gid, &runs).await;

    let flaky = Flaky::new(&bank);
    flaky.away(true);
    let away = message(&stub, &gid).send(&flaky, spend::<Flaky<B>>(&runs)).await.unwrap_err();
    assert!(matches!(away, MessageError::Unknown(Some(_))), "{away:?}");
    assert_eq!((stub.count("cancel"), stub.phase(&gid)), (0, Some(Phase::Trying)));
    assert_eq!(caller.call("check", gid.as_str()).await, Seen::done());

    // Back, it says what the earlier run has left.
    flaky.away(false);
    flaky.next(Fate::KilledFirst);
    let broken = message(&stub, &gid).send(&flaky, spend::<Flaky<B>>(&runs)).await.unwrap_err();
    assert!(matches!(broken, MessageError::Sent(Phase::Confirming)), "{broken:?}");
    assert_eq!((stub.count("cancel"), stub.phase(&gid)), (0, Some(Phase::Confirming)));
    assert_eq!((runs.load(Ordering::SeqCst), bank.books().await), (1, books(10)));
}

async fn a_run_that_waits_too_long_for_another_cancels_nothing<B: Bank>(bank: B) {
    let _funded = Caller::new(&bank);
    let (stub, gid, runs) = (Stub::start().await, new_gid(), Arc::default());
    let (arrived, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (database, first) = (bank.database(), message(&stub, &gid));
    let long = held::<B>(&arrived, &gate, Ok(()));
    let sending = tokio::spawn(async move { first.send(&database, long).await });
    arrived.acquire().await.unwrap().forget();

    let second = message(&stub, &gid).send(&bank.database(), spend::<B>(&runs)).await.unwrap_err();
    assert!(matches!(second, MessageError::Unknown(Some(_))), "{second:?}");
    assert_eq!((stub.count("cancel"), runs.load(Ordering::SeqCst)), (0, 0));

    gate.add_permits(1);
    sending.await.unwrap().unwrap();
    assert_eq!((stub.phase(&gid), bank.books().await), (Some(Phase::Confirming), books(10)));
}

async fn a_run_that_fails_while_another_waits_for_its_row_cancels_nothing<B: Bank>(bank: B) {
    let _funded = Caller::new(&bank);
    let (stub, gid) = (Stub::start().await, new_gid());
    let (arrived, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (database, first) = (bank.database(), message(&stub, &gid));
    let fails = held::<B>(&arrived, &gate, Err("changed my mind"));
    let failing = tokio::spawn(async move { first.send(&database, fails).await });
    arrived.acquire().await.unwrap().forget();
    let (database, second, spend) = (bank.database(), message(&stub, &gid), spend::<B>(&Arc::default()));
    let waiting = tokio::spawn(async move { second.send(&database, spend).await });
    // The other is at the row by then, mostly; whoever comes first, both are told the same.
    tokio::time::sleep(Duration::from_millis(500)).await;
    gate.add_permits(1);

    let (failed, waited) = (failing.await.unwrap().unwrap_err(), waiting.await.unwrap());
    let told = format!("{failed:?}, {waited:?}");
    if waited.is_ok() {
        assert!(matches!(failed, MessageError::Sent(_) | MessageError::Unknown(_)), "{told}");
        assert_eq!((stub.count("cancel"), stub.phase(&gid)), (0, Some(Phase::Confirming)), "{told}");
    } else {
        assert!(matches!((failed, waited), (MessageError::Local(_), Err(MessageError::Dropped))), "{told}");
        assert_eq!((stub.count("confirm"), stub.phase(&gid)), (0, Some(Phase::Cancelled)), "{told}");
    }
    let spent = if stub.count("confirm") > 0 { 10 } else { 0 };
    assert_eq!(bank.books().await, books(spent), "{told}");
}

async fn a_message_that_somebody_else_cancelled_is_not_said_to_be_sent<B: Bank>(bank: B) {
    let _funded = Caller::new(&bank);
    let (stub, gid, runs) = (Stub::start().await, new_gid(), Arc::default());
    let (database, spend) = (bank.database(), Arc::new(spend::<B>(&runs)));
    let (by_hand, cancelled) = (stub.clone(), gid.clone());
    let sent = message(&stub, &gid).send(&database, {
        let spend = spend.clone();
        move |tx| {
            by_hand.apply(&cancelled, Event::Cancel { reason: "by hand".to_owned() });
            spend(tx)
        }
    });
    let committed = sent.await.unwrap_err();
    assert!(matches!(committed, MessageError::Cancelled), "{committed:?}");
    let again = message(&stub, &gid).send(&bank.database(), move |tx| spend(tx)).await.unwrap_err();
    assert!(matches!(again, MessageError::Cancelled), "{again:?}");
    assert_eq!((runs.load(Ordering::SeqCst), bank.books().await), (1, books(10)));

    // Cancelled before it was committed, it never is.
    let gid = new_gid();
    stub.faults("begin", [Fault::Lost, Fault::Silent]);
    let early = message(&stub, &gid).send(&bank.database(), self::spend::<B>(&runs)).await.unwrap_err();
    assert!(matches!(early, MessageError::Begin(_)), "{early:?}");
    stub.apply(&gid, Event::Cancel { reason: "by hand".to_owned() });
    let dropped = message(&stub, &gid).send(&bank.database(), self::spend::<B>(&runs)).await.unwrap_err();
    assert!(matches!(dropped, MessageError::Dropped), "{dropped:?}");
    assert_eq!((runs.load(Ordering::SeqCst), bank.books().await), (1, books(10)));
}

async fn a_message_of_which_the_coordinator_knows_nothing_is_not_said_to_be_sent<B: Bank>(bank: B) {
    let _funded = Caller::new(&bank);
    let (stub, gid, runs) = (Stub::start().await, new_gid(), Arc::default());
    stub.faults("confirm", [says(ProblemCode::UnknownGid)]);
    let forgotten = message(&stub, &gid).send(&bank.database(), spend::<B>(&runs)).await.unwrap_err();
    assert!(matches!(forgotten, MessageError::Forgotten), "{forgotten:?}");
    assert_eq!((runs.load(Ordering::SeqCst), bank.books().await), (1, books(10)));
}

/// What is sent may be sent from a task of its own, whatever the database is.
#[cfg(feature = "rusqlite")]
#[tokio::test]
async fn a_message_can_be_sent_from_a_task_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let db = tcc_client::SqliteDatabase::open(folder.path().join("orders.db")).unwrap();
    db.create_schema().await.unwrap();
    db.with(|connection| connection.execute_batch("CREATE TABLE orders (number INTEGER)")).await.unwrap();
    let (stub, gid) = (Stub::start().await, new_gid());
    let (message, database) = (message(&stub, &gid), db.clone());
    let sending = tokio::spawn(async move {
        let sent = message.send(&database, |tx| {
            Box::pin(async move {
                tx.execute("INSERT INTO orders VALUES (1)", [])?;
                Ok(())
            })
        });
        sent.await
    });
    sending.await.unwrap().unwrap();
    assert_eq!(stub.phase(&gid), Some(Phase::Confirming));
}
