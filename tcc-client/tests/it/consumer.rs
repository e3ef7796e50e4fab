//! Messages of brokers, which come as often as the broker likes and have their effect once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tcc_client::{BoxError, Consumer, Database, Local, LocalError, Received, SqlDatabase};

use crate::banks::Bank;
use crate::payment::Caller;

on_each_sql_database!(
    p2_a_message_of_a_broker_that_comes_again_has_its_effect_once,
    p2_messages_of_a_broker_that_come_at_once_have_their_effect_once,
    a_message_of_a_broker_that_fails_leaves_nothing_and_comes_again,
    a_message_that_ends_its_own_transaction_is_an_error,
    consumers_and_sources_do_not_get_in_each_others_way,
    rows_are_kept_for_the_stated_time_and_no_coordinators_mark_takes_them,
);

type TxOf<B> = <<B as Bank>::Database as Database>::Tx;

/// Spends ten cents of alice's, and fails the first so many times.
fn spend<B: Bank>(
    fails: usize,
) -> impl for<'t> Fn(&'t mut TxOf<B>) -> Local<'t, usize> + Send + Sync + 'static {
    let runs = Arc::new(AtomicUsize::new(0));
    move |tx| {
        let runs = runs.clone();
        Box::pin(async move {
            B::statement(tx, "UPDATE account SET free = free - 10, spent = spent + 10").await?;
            let run = runs.fetch_add(1, Ordering::SeqCst);
            if run < fails { Err("not now".into()) } else { Ok(run) }
        })
    }
}

fn consumer<B: Bank>(bank: &B) -> Consumer<B::Database>
where
    B::Database: SqlDatabase,
{
    Consumer::new("points", bank.database()).unwrap()
}

async fn spent<B: Bank>(bank: &B) -> i64 {
    bank.books().await.spent
}

async fn p2_a_message_of_a_broker_that_comes_again_has_its_effect_once<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let (spend, any) = (Arc::new(spend::<B>(0)), "any ' text\0 \\ü \u{1f600}".repeat(1000));
    for expected in [Received::New(0), Received::Repeat, Received::Repeat] {
        let spend = spend.clone();
        let received = consumer(&bank).receive("kafka/orders/0", &any, move |tx| spend(tx)).await;
        assert_eq!(received.unwrap(), expected);
    }
    assert_eq!(spent(&bank).await, 10);
}

async fn p2_messages_of_a_broker_that_come_at_once_have_their_effect_once<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let arriving = (0..8).map(|_| {
        let consumer = consumer(&bank);
        tokio::spawn(async move {
            for _ in 0..100 {
                match consumer.receive("rabbit", "7", spend::<B>(0)).await {
                    Ok(received) => return received != Received::Repeat,
                    // So many at once may have to wait too long: a broker delivers it again.
                    Err(error) => assert!(matches!(error, LocalError::Failed(_)), "{error:?}"),
                }
            }
            panic!("a hundred deliveries")
        })
    });
    let mut new = 0;
    for arrived in arriving.collect::<Vec<_>>() {
        new += usize::from(arrived.await.unwrap());
    }
    assert_eq!((new, spent(&bank).await), (1, 10));
}

async fn a_message_of_a_broker_that_fails_leaves_nothing_and_comes_again<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let (consumer, spend) = (consumer(&bank), Arc::new(spend::<B>(2)));
    for run in 0..3 {
        let spend = spend.clone();
        let received = consumer.receive("rabbit", "7", move |tx| spend(tx)).await;
        match (run, received) {
            (2, received) => assert_eq!(received.unwrap(), Received::New(2)),
            (_, Err(LocalError::Failed(why))) => {
                assert_eq!(why.to_string(), "not now");
                assert_eq!((spent(&bank).await, bank.rows().await.len()), (0, 0));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(spent(&bank).await, 10);
}

async fn a_message_that_ends_its_own_transaction_is_an_error<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let consumer = consumer(&bank);
    let received = consumer.receive("rabbit", "7", |tx| {
        Box::pin(async move {
            B::statement(tx, "ROLLBACK").await?;
            B::statement(tx, "UPDATE account SET free = free").await?;
            Ok::<_, BoxError>(())
        })
    });
    assert!(matches!(received.await, Err(LocalError::Failed(_))));
    assert_eq!(consumer.receive("rabbit", "7", spend::<B>(0)).await.unwrap(), Received::New(0));
}

async fn consumers_and_sources_do_not_get_in_each_others_way<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let other = Consumer::new("mail", bank.database()).unwrap();
    for (source, id) in [("a", "bc"), ("ab", "c"), ("A", "bc"), ("a", "BC"), ("a", "bc ")] {
        for consumer in [&consumer(&bank), &other] {
            let received = consumer.receive(source, id, spend::<B>(0)).await.unwrap();
            assert_eq!(received, Received::New(0), "{source:?} {id:?}");
        }
    }
    assert_eq!(spent(&bank).await, 100);
    assert!(Consumer::new("", bank.database()).is_err());
    assert!(Consumer::new("a b", bank.database()).is_err());
    assert!(Consumer::new(&"a".repeat(51), bank.database()).is_ok());
    assert!(Consumer::new(&"a".repeat(52), bank.database()).is_err());
}

async fn rows_are_kept_for_the_stated_time_and_no_coordinators_mark_takes_them<B: Bank>(bank: B)
where
    B::Database: SqlDatabase,
{
    let (consumer, other) = (consumer(&bank), Consumer::new("mail", bank.database()).unwrap());
    for consumer in [&consumer, &other] {
        for id in ["1", "2", "3"] {
            consumer.receive("rabbit", id, spend::<B>(0)).await.unwrap();
        }
    }
    // A participant of the same database has its own clean-up, and its own row.
    let caller = Caller::new(&bank);
    caller.call("try", "t").await;
    crate::cleaning::forget(bank.database(), i64::MAX / 4, 100).await.unwrap();
    assert_eq!(bank.rows().await.len(), 6);

    assert_eq!(consumer.clean_up().await.unwrap(), 0, "they are of today");
    assert_eq!(consumer.receive("rabbit", "1", spend::<B>(0)).await.unwrap(), Received::Repeat);
    let day = 24 * 3600 * 1000;
    bank.execute(&format!(
        "UPDATE tcc_guard SET begun = begun - 15 * {day} WHERE branch = 'tcc/consumer/mail'"
    ))
    .await;
    assert_eq!(consumer.clean_up().await.unwrap(), 0, "they are another consumer's");
    let longer = other.clone().keep_for(Duration::from_secs(16 * 24 * 3600));
    assert_eq!(longer.clean_up().await.unwrap(), 0);
    assert_eq!(other.clean_up().await.unwrap(), 3);
    assert_eq!(bank.rows().await.len(), 3);
    assert_eq!(other.receive("rabbit", "1", spend::<B>(0)).await.unwrap(), Received::New(0));
}

/// Of one database, not of any: the compiler sees these apart.
#[cfg(feature = "rusqlite")]
#[tokio::test]
async fn what_a_consumer_does_can_be_spawned() {
    let consumer = Consumer::new("points", crate::banks::Sqlite::open().await.database()).unwrap();
    let received = tokio::spawn(async move {
        let received = consumer.receive("rabbit", "7", |tx| {
            Box::pin(async move {
                tx.execute("UPDATE account SET free = free", [])?;
                Ok::<_, BoxError>(())
            })
        });
        (received.await.unwrap(), consumer.clean_up().await.unwrap())
    });
    assert_eq!(received.await.unwrap(), (Received::New(()), 0));
}

/// Not even that there is a transaction: as with a host that went away without a word.
#[cfg(feature = "tokio-postgres")]
#[tokio::test]
async fn a_database_that_never_answers_is_not_waited_for_for_ever() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://nobody@{}/nothing", listener.local_addr().unwrap());
    let database = tcc_client::PgDatabase::new(url.parse().unwrap(), tokio_postgres::NoTls);
    let consumer = Consumer::new("points", database).unwrap();
    let receiving = tokio::spawn(async move {
        consumer.receive("rabbit", "7", |_| Box::pin(async { Ok::<_, BoxError>(()) })).await
    });
    let (silent, _) = listener.accept().await.unwrap();
    silent.readable().await.unwrap();
    // From here on it waits for an answer alone.
    tokio::time::pause();
    let received = tokio::time::timeout(2 * tcc_client::limits::BEGIN, receiving).await;
    let failed = received.expect("it gives up").unwrap();
    assert!(matches!(failed, Err(LocalError::Failed(_))), "{failed:?}");
}
