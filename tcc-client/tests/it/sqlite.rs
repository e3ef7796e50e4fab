//! What SQLite does in its own way.

use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};
use tcc_client::limits::{CLEANING_BATCH, CLEANING_REST};
use tcc_client::{Database, OpenError, SqliteDatabase};
use tokio::time::{advance, pause, resume, sleep, timeout};

use crate::banks::{Bank, Sqlite};
use crate::payment::{Caller, Seen};

#[tokio::test]
async fn a_file_is_opened_durable_or_not_at_all() {
    let bank = Sqlite::open().await;
    let read = |connection: &Connection| {
        let journal: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        let synchronous: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
        Ok((journal, synchronous))
    };
    assert_eq!(bank.database().with(read).await.unwrap(), ("wal".to_owned(), 2));
    // Memory has no write-ahead log.
    let error = SqliteDatabase::open(":memory:").unwrap_err();
    assert!(matches!(&error, OpenError::Pragma("journal_mode", mode) if mode == "memory"), "{error}");
}

/// A repeat is answered from what can be read, so what a crash left unsynced is made durable first.
#[tokio::test]
async fn p5_what_can_be_read_at_the_open_is_in_the_synced_file() {
    let folder = tempfile::tempdir().unwrap();
    let [path, copy] = ["bank.db", "copy.db"].map(|name| folder.path().join(name));
    let crashed = Connection::open(&path).unwrap();
    crashed.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    crashed.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    drop(crashed);
    let _database = SqliteDatabase::open(&path).unwrap();
    // Without the write-ahead log beside it.
    std::fs::copy(&path, &copy).unwrap();
    let row = Connection::open(&copy).unwrap().query_row("SELECT x FROM t", [], |row| row.get(0));
    assert_eq!(row, Ok(1));
}

#[tokio::test]
async fn a_transaction_has_the_write_lock_from_its_begin() {
    // One that began as a reader could not become a writer once another had written in between.
    let bank = Sqlite::open().await;
    let tx = bank.database().begin().await.unwrap();
    let other = Connection::open(bank.place()).unwrap();
    other.busy_timeout(Duration::ZERO).unwrap();
    assert!(other.execute_batch("BEGIN IMMEDIATE").is_err());
    drop(tx);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
}

#[tokio::test]
async fn another_process_that_writes_too_long_makes_calls_answer_425() {
    let bank = Sqlite::open().await;
    let mut other = Connection::open(bank.place()).unwrap();
    let writing = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let caller = Caller::new(&bank);
    let seen = caller.once("try", "t").await;
    assert_eq!((seen.status, seen.code(), caller.runs()), (425, "pending", 0));
    writing.rollback().unwrap();
    assert_eq!(caller.once("try", "t").await, Seen::done());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_wait_for_another_process_is_not_noticed() {
    let bank = Sqlite::open().await;
    let mut other = Connection::open(bank.place()).unwrap();
    let (begun, wait) = std::sync::mpsc::channel();
    let writing = std::thread::spawn(move || {
        let writing = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        begun.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        writing.commit().unwrap();
    });
    wait.recv().unwrap();
    assert_eq!(Caller::new(&bank).once("try", "t").await, Seen::done());
    writing.join().unwrap();
}

#[tokio::test]
async fn what_is_left_open_between_calls_is_rolled_back() {
    let bank = Sqlite::open().await;
    let database = bank.database();
    let left = "BEGIN; UPDATE account SET free = 0";
    database.with(move |connection| connection.execute_batch(left)).await.unwrap();
    let panicked = tokio::spawn({
        let database = database.clone();
        async move { database.with(|_| -> rusqlite::Result<()> { panic!("in the application") }).await }
    });
    assert!(panicked.await.unwrap_err().is_panic());
    assert_eq!(Caller::new(&bank).once("try", "t").await, Seen::done());
    assert_eq!(bank.books().await.free, 990);
}

/// Calls that came with this mark, until what began before it has gone; a clean-up runs beside them.
async fn until_clean(bank: &Sqlite, caller: &Caller, settled: i64) {
    let cleaned = async {
        loop {
            assert_eq!(
                Caller { settled: Some(settled), ..caller.clone() }.call("try", "t").await,
                Seen::done()
            );
            let old = format!("SELECT gid FROM tcc_guard WHERE begun < {settled}");
            if bank.query(&old).await.is_empty() {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), cleaned).await.expect("old rows go by themselves");
}

/// On one thread, whose clock can be set.
async fn a_while_passes() {
    pause();
    advance(CLEANING_REST).await;
    resume();
}

#[tokio::test]
async fn rows_of_long_ago_go_by_themselves_once_a_while() {
    let bank = Sqlite::open().await;
    let caller = Caller::new(&bank);
    // More than one batch.
    let rows = 3 * CLEANING_BATCH;
    let insert = |begun: i64| {
        format!(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rows})
             INSERT INTO tcc_guard SELECT {begun} || '-' || n, 'b', 'cancelled', NULL, {begun} FROM n"
        )
    };
    bank.execute(&insert(900)).await;
    assert_eq!(caller.call("try", "t").await, Seen::done());
    a_while_passes().await;
    until_clean(&bank, &caller, 1000).await;
    // Not again so soon, also when there is news.
    bank.execute(&insert(1000)).await;
    let news = Caller { settled: Some(1001), ..caller.clone() };
    assert_eq!(news.call("try", "t").await, Seen::done());
    sleep(Duration::from_millis(100)).await;
    assert_eq!(bank.query("SELECT count(*) || '' FROM tcc_guard").await, [(rows + 1).to_string()]);
    a_while_passes().await;
    until_clean(&bank, &caller, 1001).await;
    assert_eq!(bank.query("SELECT settled || '' FROM tcc_settled").await, ["1001"]);
    assert_eq!(caller.call("confirm", "t").await, Seen::done());
}

#[tokio::test]
async fn a_clean_up_that_fails_fails_no_call() {
    let bank = Sqlite::open().await;
    let caller = Caller::new(&bank);
    let fails = "CREATE TRIGGER fails BEFORE DELETE ON tcc_guard BEGIN SELECT raise(ABORT, 'no'); END;
        INSERT INTO tcc_guard VALUES ('old', 'b', 'cancelled', NULL, 900)";
    bank.execute(fails).await;
    a_while_passes().await;
    for operation in ["try", "confirm", "try"] {
        assert_eq!(caller.call(operation, "t").await, Seen::done());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(bank.row("old").await.unwrap(), "cancelled");
    bank.execute("DROP TRIGGER fails").await;
    a_while_passes().await;
    until_clean(&bank, &caller, 1000).await;
}
