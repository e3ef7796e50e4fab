//! What pools of sqlx do in their own way: they belong to the application, which goes on using what comes back.

use sqlx::{Connection, Row};
use tcc_client::{Commit, Database};
use tokio::task::yield_now;
use tokio::time::{Duration, sleep, timeout};

use crate::banks::{Bank, Open, Pooled, SqlxMysql, SqlxPostgres};
use crate::payment::{Caller, Seen};

/// Begins many times and leaves at any moment. After each the application writes through the pool and at once, and
/// somebody else must see it, which tells that no transaction was open.
macro_rules! a_dropped_begin {
    ($bank:ident) => {
        let Some(bank) = $bank::open().await else { return };
        let bank = bank.with_connections(1);
        let (mut left, mut begun) = (0, 0);
        for round in 0..300 {
            let database = bank.database();
            let leaving = async {
                for _ in 0..fastrand::u32(..400) {
                    yield_now().await;
                }
            };
            tokio::select! {
                biased;
                tx = database.begin() => {
                    begun += 1;
                    drop(tx.unwrap());
                }
                () = leaving => left += 1,
            }
            let by_the_application = format!("INSERT INTO account VALUES ('round {round}', 0, 0, 0)");
            sqlx::raw_sql(sqlx::AssertSqlSafe(by_the_application)).execute(&bank.pool).await.unwrap();
            let seen = bank.query(&format!("SELECT name FROM account WHERE name = 'round {round}'")).await;
            assert_eq!(seen.len(), 1, "round {round}: it was written in a transaction that is open");
        }
        assert!(left > 0 && begun + left == 300, "none was left of {begun}");
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_begin_that_is_dropped_leaves_no_transaction_in_a_pool_for_postgres() {
    a_dropped_begin!(SqlxPostgres);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_begin_that_is_dropped_leaves_no_transaction_in_a_pool_for_mysql() {
    a_dropped_begin!(SqlxMysql);
}

/// What a method begins within its transaction is a savepoint, and ends with it.
macro_rules! a_begin_within {
    ($bank:ident) => {
        let Some(bank) = $bank::open().await else { return };
        type Db = <$bank as Bank>::Database;
        let mut tx = bank.database().begin().await.unwrap();
        sqlx::raw_sql("UPDATE account SET spent = 1").execute(&mut *tx).await.unwrap();
        for (end, spent) in [("commit", 2), ("rollback", 3)] {
            let mut within = tx.begin().await.unwrap();
            let update = format!("UPDATE account SET spent = {spent}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(update)).execute(&mut *within).await.unwrap();
            if end == "commit" { within.commit().await.unwrap() } else { within.rollback().await.unwrap() }
        }
        assert_eq!(bank.books().await.spent, 0, "nothing is committed yet");
        assert_eq!(Db::commit(tx).await.unwrap(), Commit::Committed);
        assert_eq!(bank.books().await.spent, 2);
    };
}

#[tokio::test]
async fn a_begin_within_a_transaction_is_a_savepoint_for_postgres() {
    a_begin_within!(SqlxPostgres);
}

#[tokio::test]
async fn a_begin_within_a_transaction_is_a_savepoint_for_mysql() {
    a_begin_within!(SqlxMysql);
}

#[tokio::test]
async fn the_session_of_an_application_of_mysql_is_as_it_was() {
    let Some(bank) = SqlxMysql::open().await else { return };
    let bank = bank.with_connections(1);
    let session = "SELECT CONCAT_WS(' ', CONNECTION_ID(), @@autocommit, @@innodb_lock_wait_timeout,
        @@lock_wait_timeout, @@wait_timeout, @@tx_isolation)";
    let read = async || {
        let row = sqlx::raw_sql(session).fetch_one(&bank.pool).await.unwrap();
        row.try_get_unchecked::<String, _>(0).unwrap()
    };
    sqlx::raw_sql("SET innodb_lock_wait_timeout = 33, wait_timeout = 44").execute(&bank.pool).await.unwrap();
    let before = read().await;
    assert!(before.contains(" 33 ") && before.contains(" 44 "), "{before}");
    let caller = Caller::new(&bank);
    for operation in ["try", "confirm", "confirm"] {
        assert_eq!(caller.call(operation, "t").await, Seen::done());
        assert_eq!(read().await, before, "after {operation}");
    }
}

#[tokio::test]
async fn a_pool_that_the_application_uses_up_answers_425() {
    let Some(bank) = SqlxPostgres::open().await else { return };
    let bank = bank.with_connections(1);
    let used = bank.pool.acquire().await.unwrap();
    let caller = Caller::new(&bank);
    let seen = caller.once("try", "t").await;
    assert_eq!((seen.status, seen.code()), (425, "pending"));
    drop(used);
    assert_eq!(caller.call("try", "t").await, Seen::done());
}

#[tokio::test]
async fn a_connection_that_is_given_up_makes_place_for_another() {
    let Some(bank) = SqlxMysql::open().await else { return };
    let bank = bank.with_connections(1);
    for _ in 0..3 {
        drop(bank.database().begin().await.unwrap());
    }
    let gone = async {
        // Those that were killed, and this query's own.
        while bank.served().await.len() > 2 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), gone).await.expect("the server lets them go");
    assert_eq!(Caller::new(&bank).call("try", "t").await, Seen::done());
}
