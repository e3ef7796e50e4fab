//! Messages that wait in the application's own database: there if, and only if, its local transaction commits, and one
//! transaction each at the coordinator, whatever dies on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use tcc_client::limits::CLEANING_BATCH;
use tcc_client::wire::ProblemCode;
use tcc_client::{
    Branch, Database, Dialect, Gid, Local, LocalError, Outbox, Phase, SqlDatabase, Submission, new_gid,
};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::stub::{Fault, Stub, says};
use crate::banks::Bank;
use crate::flaky::Flaky;

on_each_sql_database!(
    what_is_put_and_rolled_back_is_never_handed_over,
    what_is_put_and_committed_is_handed_over_and_then_deleted,
    what_is_put_into_a_transaction_that_has_ended_is_an_error,
    a_message_that_breaks_a_rule_is_told_to_whoever_puts_it,
    relays_that_die_before_they_mark_make_one_transaction,
    relays_side_by_side_hand_everything_over,
    a_coordinator_that_is_away_gets_everything_once_it_is_back,
    a_message_that_is_refused_holds_up_no_other_and_is_kept,
    a_relay_of_another_process_finds_what_was_put,
    a_commit_wakes_the_relay_before_its_next_look,
    what_a_relay_that_died_had_is_taken_when_its_lease_runs_out_and_not_before,
    what_is_no_gid_is_refused_and_holds_up_no_other,
    a_clock_that_was_ahead_holds_nothing_back,
    what_is_done_is_deleted_though_nothing_more_is_put,
);

const BOUND: Duration = Duration::from_secs(60);

type TxOf<B> = <<B as Bank>::Database as Database>::Tx;

async fn outbox<B: Bank>(bank: &B) -> Outbox<B::Database>
where
    B::Database: SqlDatabase,
{
    let outbox = Outbox::new("orders", bank.database()).unwrap();
    outbox.create_schema().await.unwrap();
    outbox.create_schema().await.unwrap();
    outbox
}

fn message<D: SqlDatabase>(outbox: &Outbox<D>) -> Submission {
    let quote = serde_json::json!({"text": "it's \"ü\" \\ \u{0} $1 ? %"});
    outbox.message().branch(Branch::new("points").confirm("http://loyalty/points").payload(&quote).unwrap())
}

/// The business of a local transaction, with a message.
fn order<B: Bank>(
    outbox: &Outbox<B::Database>,
    fails: Option<&'static str>,
) -> impl for<'t> Fn(&'t mut TxOf<B>) -> Local<'t, Gid> + Send + Sync + 'static
where
    B::Database: SqlDatabase,
{
    let outbox = outbox.clone();
    move |tx| {
        let outbox = outbox.clone();
        Box::pin(async move {
            B::statement(tx, "UPDATE account SET free = free - 10, spent = spent + 10").await?;
            let gid = outbox.put(tx, message(&outbox)).await?;
            fails.map_or(Ok(gid), |why| Err(why.into()))
        })
    }
}

fn relay<D: SqlDatabase>(outbox: &Outbox<D>, stub: &Stub) -> JoinHandle<()> {
    let client = stub.builder().repeat_for(Duration::from_secs(1)).build().unwrap();
    tokio::spawn(outbox.relay(client).scan(Duration::from_millis(50)).run())
}

async fn until<T>(what: &str, mut is: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(seen) = is().await {
                return seen;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(BOUND, wait).await.unwrap_or_else(|_| panic!("not within {BOUND:?}: {what}"))
}

/// Waits until nothing is left to hand over, or to delete.
async fn emptied<B: Bank>(bank: &B) {
    until("an empty outbox", async || {
        bank.query("SELECT gid FROM tcc_outbox").await.is_empty().then_some(())
    })
    .await;
}

async fn rows<B: Bank>(bank: &B) -> usize {
    bank.query("SELECT gid FROM tcc_outbox").await.len()
}

/// The gids that were begun, each once.
fn begun(stub: &Stub) -> BTreeSet<String> {
    stub.log().iter().filter_map(|line| Some(line.strip_prefix("begin ")?.to_owned())).collect()
}

/// What a relay that died had for itself is free again.
async fn lease_runs_out<B: Bank>(bank: &B) {
    bank.execute("UPDATE tcc_outbox SET due = 0 WHERE state = 'pending'").await;
}

async fn what_is_put_and_rolled_back_is_never_handed_over<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let (stub, outbox) = (Stub::start().await, outbox(&bank).await);
    let relay = relay(&outbox, &stub);
    let failed = outbox.transact(order::<B>(&outbox, Some("no such article"))).await.unwrap_err();
    assert!(matches!(failed, LocalError::Failed(_)), "{failed:?}");
    // What comes after it is handed over, and nothing else.
    let gid = until("a commit", async || outbox.transact(order::<B>(&outbox, None)).await.ok()).await;
    emptied(&bank).await;
    assert_eq!(begun(&stub), BTreeSet::from([gid.to_string()]));
    assert_eq!(bank.books().await.spent, 10);
    relay.abort();
}

async fn what_is_put_and_committed_is_handed_over_and_then_deleted<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let (stub, outbox) = (Stub::start().await, outbox(&bank).await);
    let gid = outbox.transact(order::<B>(&outbox, None)).await.unwrap();
    assert!(gid.as_str().starts_with("orders/"), "{gid}");
    let backlog = outbox.backlog().await.unwrap();
    assert_eq!((backlog.pending, backlog.refused, backlog.oldest.is_some()), (1, 0, true));
    assert!(backlog.to_prometheus("orders").contains("tcc_outbox_pending{outbox=\"orders\"} 1\n"));
    assert!(begun(&stub).is_empty(), "there is no relay");
    let relay = relay(&outbox, &stub);
    emptied(&bank).await;
    assert_eq!((stub.log(), stub.phase(&gid)), (vec![format!("begin {gid}")], Some(Phase::Confirming)));
    assert_eq!(outbox.backlog().await.unwrap().oldest, None);
    relay.abort();
}

async fn what_is_put_into_a_transaction_that_has_ended_is_an_error<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let outbox = outbox(&bank).await;
    for end in ["COMMIT", "ROLLBACK"] {
        let sender = outbox.clone();
        let sent = outbox.transact(move |tx| {
            let outbox = sender.clone();
            Box::pin(async move {
                B::statement(tx, end).await?;
                outbox.put(tx, message(&outbox)).await
            })
        });
        let failed = sent.await.unwrap_err();
        assert!(matches!(failed, LocalError::Failed(_)), "{end}: {failed:?}");
        assert_eq!(rows(&bank).await, 0, "{end}");
    }
}

async fn a_message_that_breaks_a_rule_is_told_to_whoever_puts_it<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let outbox = outbox(&bank).await;
    let sender = outbox.clone();
    let sent = outbox.transact(move |tx| {
        let outbox = sender.clone();
        Box::pin(async move {
            B::statement(tx, "UPDATE account SET free = free - 10, spent = spent + 10").await?;
            outbox.put(tx, outbox.message().branch(Branch::new("points").confirm("nowhere"))).await
        })
    });
    let LocalError::Failed(why) = sent.await.unwrap_err() else { panic!("it is known") };
    assert!(why.to_string().contains("/branches/0/confirm"), "{why}");
    assert_eq!((rows(&bank).await, bank.books().await.spent), (0, 0));
    assert!(Outbox::new("a b", bank.database()).is_err());
    assert!(Outbox::new(&"a".repeat(92), bank.database()).is_err());
    assert!(Outbox::new(&"a".repeat(91), bank.database()).is_ok());
}

async fn relays_that_die_before_they_mark_make_one_transaction<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let (stub, outbox) = (Stub::start().await, outbox(&bank).await);
    let gid = outbox.transact(order::<B>(&outbox, None)).await.unwrap();
    for asked in [2, 4, 6] {
        // The coordinator has it, and the relay is never told.
        stub.faults("begin", [Fault::Lost, Fault::Silent]);
        let relay = relay(&outbox, &stub);
        until("it was asked twice", async || (stub.count("begin") >= asked).then_some(())).await;
        relay.abort();
        assert!(relay.await.unwrap_err().is_cancelled());
        assert_eq!((rows(&bank).await, stub.phase(&gid)), (1, Some(Phase::Confirming)));
        lease_runs_out(&bank).await;
    }
    let relay = relay(&outbox, &stub);
    emptied(&bank).await;
    assert_eq!(begun(&stub), BTreeSet::from([gid.to_string()]));
    relay.abort();
}

async fn relays_side_by_side_hand_everything_over<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let (stub, outbox) = (Stub::start().await, outbox(&bank).await);
    let relays: Vec<_> = (0..3).map(|_| relay(&outbox, &stub)).collect();
    let mut sending = JoinSet::new();
    for _ in 0..4 {
        let outbox = outbox.clone();
        sending.spawn(async move {
            let mut sent = Vec::new();
            while sent.len() < 20 {
                match outbox.transact(order::<B>(&outbox, None)).await {
                    Ok(gid) => sent.push(gid.to_string()),
                    // So many at once may have to wait too long for a lock or a connection.
                    Err(error) => assert!(matches!(error, LocalError::Failed(_)), "{error:?}"),
                }
            }
            sent
        });
    }
    let sent: BTreeSet<_> = sending.join_all().await.into_iter().flatten().collect();
    emptied(&bank).await;
    assert_eq!((begun(&stub), sent.len()), (sent, 80));
    assert_eq!(bank.books().await.spent, 800);
    for relay in relays {
        relay.abort();
    }
}

async fn a_coordinator_that_is_away_gets_everything_once_it_is_back<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let (stub, outbox) = (Stub::start().await, outbox(&bank).await);
    // Away behind a proxy, and then with another token: neither says anything of the messages.
    stub.faults("begin", std::iter::repeat_n(says(ProblemCode::Unavailable), 8));
    stub.faults("begin", std::iter::repeat_n(says(ProblemCode::Unauthorized), 3));
    let client = stub.builder().repeat_for(Duration::from_millis(300)).build().unwrap();
    let relay = tokio::spawn(outbox.relay(client).scan(Duration::from_millis(50)).run());
    let mut sent = BTreeSet::new();
    for _ in 0..3 {
        let gid = until("a commit", async || outbox.transact(order::<B>(&outbox, None)).await.ok()).await;
        sent.insert(gid.to_string());
    }
    until("it was asked in vain", async || (stub.count("begin") >= 8).then_some(())).await;
    emptied(&bank).await;
    assert_eq!(begun(&stub), sent);
    relay.abort();
}

async fn a_message_that_is_refused_holds_up_no_other_and_is_kept<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let (stub, outbox) = (Stub::start().await, outbox(&bank).await);
    stub.faults("begin", [says(ProblemCode::Invalid)]);
    let relay = relay(&outbox, &stub);
    let put =
        async || until("a commit", async || outbox.transact(order::<B>(&outbox, None)).await.ok()).await;
    let refused = put().await;
    let seen = until("it is refused", async || outbox.refused(10).await.unwrap().pop()).await;
    assert_eq!(seen.gid, refused.as_str());
    assert!(seen.reason.contains("invalid") && seen.request.contains("http://loyalty/points"), "{seen:?}");

    let other = put().await;
    until("the other is begun", async || stub.phase(&other)).await;
    until("the other is gone", async || (rows(&bank).await == 1).then_some(())).await;
    let backlog = outbox.backlog().await.unwrap();
    assert_eq!((backlog.pending, backlog.refused), (0, 1));
    assert_eq!((stub.phase(&refused), stub.count(&format!("begin {refused}"))), (None, 1));

    assert_eq!(outbox.retry_refused().await.unwrap(), 1);
    emptied(&bank).await;
    assert_eq!(stub.phase(&refused), Some(Phase::Confirming));
    relay.abort();
}

async fn a_relay_of_another_process_finds_what_was_put<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let (stub, ours) = (Stub::start().await, outbox(&bank).await);
    // It shares nothing with ours but the table.
    let relay = relay(&Outbox::new("relay", bank.database()).unwrap(), &stub);
    let gid = new_gid();
    let (sender, named) = (ours.clone(), gid.clone());
    let sent = async || {
        let (outbox, gid) = (sender.clone(), named.clone());
        let sent = ours.transact(move |tx| {
            let (outbox, gid) = (outbox.clone(), gid.clone());
            Box::pin(async move {
                let points = Branch::new("points").confirm("http://loyalty/points");
                outbox.put(tx, Submission::new(gid).branch(points)).await
            })
        });
        sent.await.ok()
    };
    assert_eq!(until("a commit", sent).await, gid);
    emptied(&bank).await;
    assert_eq!(stub.phase(&gid), Some(Phase::Confirming));
    relay.abort();
}

async fn a_commit_wakes_the_relay_before_its_next_look<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let (stub, flaky) = (Stub::start().await, Flaky::new(&bank));
    let ours = outbox(&flaky).await;
    // Of another process, whose commits wake nobody here.
    let other = Outbox::new("orders", flaky.clone()).unwrap();
    flaky.away(true);
    let relay = tokio::spawn(ours.relay(stub.client()).scan(Duration::from_secs(3600)).run());
    // It could neither look nor clean up, and now does nothing for an hour.
    timeout(BOUND, flaky.turned_away().acquire_many(2)).await.unwrap().unwrap().forget();
    flaky.away(false);
    let unseen = other.transact(order::<Flaky<B>>(&other, None)).await.unwrap();
    sleep(Duration::from_millis(300)).await;
    assert!(stub.log().is_empty(), "it looks by itself");

    let woken = ours.transact(order::<Flaky<B>>(&other, None)).await.unwrap();
    until("both are handed over", async || {
        bank.query("SELECT gid FROM tcc_outbox WHERE state = 'pending'").await.is_empty().then_some(())
    })
    .await;
    assert_eq!(begun(&stub), BTreeSet::from([unseen.to_string(), woken.to_string()]));
    relay.abort();
}

async fn what_a_relay_that_died_had_is_taken_when_its_lease_runs_out_and_not_before<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let (stub, outbox) = (Stub::start().await, outbox(&bank).await);
    let gid = outbox.transact(order::<B>(&outbox, None)).await.unwrap();
    stub.faults("begin", [Fault::Silent]);
    let dying = relay(&outbox, &stub);
    stub.asked("begin").await;
    dying.abort();
    assert!(dying.await.unwrap_err().is_cancelled());
    assert_eq!(stub.count("begin"), 1);

    // Most of its time passes at once, and the rest as it does.
    let asked = Instant::now();
    let now = match B::Database::DIALECT {
        Dialect::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        Dialect::Postgres => "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
        Dialect::Mysql => "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000",
    };
    let left = bank.query(&format!("SELECT (due - {now}) || '' FROM tcc_outbox")).await;
    let left: i64 = left[0].parse().unwrap();
    assert!((1500..=30_000).contains(&left), "{left} ms");
    bank.execute(&format!("UPDATE tcc_outbox SET due = due - {}", left - 1500)).await;
    let relay = relay(&outbox, &stub);
    until("it is asked again", async || (stub.count("begin") == 2).then_some(())).await;
    assert!(asked.elapsed() >= Duration::from_millis(1450), "after {:?}", asked.elapsed());
    emptied(&bank).await;
    assert_eq!(begun(&stub), BTreeSet::from([gid.to_string()]));
    relay.abort();
}

async fn what_is_no_gid_is_refused_and_holds_up_no_other<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let (stub, outbox) = (Stub::start().await, outbox(&bank).await);
    // More than a relay takes at once, and before all others.
    let mut rows: Vec<String> = (0..100).map(|nth| format!("('it''s no ü gid {nth}'")).collect();
    match B::Database::DIALECT {
        Dialect::Sqlite => rows.push("(CAST(x'ff' AS TEXT)".to_owned()),
        Dialect::Mysql => rows.push("(x'ff'".to_owned()),
        Dialect::Postgres => {}
    }
    let rows: Vec<String> = rows.iter().map(|gid| format!("{gid}, 'pending', 1, 0, 1, '{{}}')")).collect();
    let columns = "gid, state, due, tries, created, request";
    bank.execute(&format!("INSERT INTO tcc_outbox ({columns}) VALUES {}", rows.join(", "))).await;
    let gid = outbox.transact(order::<B>(&outbox, None)).await.unwrap();

    let relay = relay(&outbox, &stub);
    until("it is begun", async || stub.phase(&gid)).await;
    let refused = until("they are refused", async || {
        let refused = outbox.refused(1000).await.ok()?;
        (refused.len() == rows.len()).then_some(refused)
    });
    for refused in refused.await {
        assert!(refused.reason.starts_with("its gid "), "{refused:?}");
    }
    assert_eq!(begun(&stub), BTreeSet::from([gid.to_string()]));
    relay.abort();
}

async fn a_clock_that_was_ahead_holds_nothing_back<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let (stub, outbox) = (Stub::start().await, outbox(&bank).await);
    let gid = outbox.transact(order::<B>(&outbox, None)).await.unwrap();
    bank.execute("UPDATE tcc_outbox SET due = due + 3600000").await;
    let relay = relay(&outbox, &stub);
    emptied(&bank).await;
    assert_eq!(begun(&stub), BTreeSet::from([gid.to_string()]));
    relay.abort();
}

async fn what_is_done_is_deleted_though_nothing_more_is_put<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let (stub, outbox) = (Stub::start().await, outbox(&bank).await);
    let done = 3 * CLEANING_BATCH + 7;
    let rows: Vec<String> = (0..done).map(|nth| format!("('done/{nth}', 'done', 1, 1, 1, '{{}}')")).collect();
    let columns = "gid, state, due, tries, created, request";
    bank.execute(&format!("INSERT INTO tcc_outbox ({columns}) VALUES {}", rows.join(", "))).await;
    let relay = tokio::spawn(outbox.relay(stub.client()).scan(Duration::from_secs(3600)).run());
    emptied(&bank).await;
    relay.abort();
}

/// Of one database, not of any: the compiler sees these apart.
#[cfg(feature = "rusqlite")]
#[tokio::test]
async fn what_an_outbox_does_can_be_spawned() {
    let bank = crate::banks::Sqlite::open().await;
    let (stub, outbox) = (Stub::start().await, Outbox::new("orders", bank.database()).unwrap());
    let sender = outbox.clone();
    let sent = tokio::spawn(async move {
        sender.create_schema().await.unwrap();
        let outbox = sender.clone();
        let sent = sender.transact(move |tx| {
            let outbox = outbox.clone();
            Box::pin(async move { outbox.put(tx, message(&outbox)).await })
        });
        let gid = sent.await.unwrap();
        assert_eq!((sender.backlog().await.unwrap().pending, sender.refused(1).await.unwrap().len()), (1, 0));
        assert_eq!(sender.retry_refused().await.unwrap(), 0);
        gid
    });
    let gid = sent.await.unwrap();
    let relay = tokio::spawn(outbox.relay(stub.client()).run());
    until("it is begun", async || stub.phase(&gid)).await;
    relay.abort();
}
