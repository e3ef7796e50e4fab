//! What PostgreSQL does in its own way.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use crate::banks::{Bank, Books, Postgres};
use crate::payment::{Caller, How, Seen};
use crate::pooled;

const UNTOUCHED: Books = Books { free: 1000, reserved: 0, spent: 0 };

macro_rules! bank {
    () => {
        match Postgres::open().await {
            Some(bank) => bank,
            None => return,
        }
    };
}

/// Ends the connections of the database that are in this state, as a failing network or an administrator does.
async fn terminate(bank: &Postgres, state: &str) -> usize {
    let sql = format!(
        "SELECT pg_terminate_backend(pid, 5000)::text FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = '{state}'"
    );
    bank.query(&sql).await.len()
}

async fn connections(bank: &Postgres) -> usize {
    let sql = "SELECT pid::text FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    bank.query(sql).await.len()
}

#[tokio::test]
async fn p5_a_connection_that_is_lost_in_the_middle_takes_everything_with_it() {
    let bank = bank!();
    let caller = Caller::new(&bank);
    let gated = caller.how("try", How::Gate);
    let trying = tokio::spawn(async move { gated.once("try", "t").await });
    caller.watch.arrived.acquire().await.unwrap().forget();
    assert_eq!(terminate(&bank, "idle in transaction").await, 1);
    caller.watch.gate.add_permits(1);
    let seen = trying.await.unwrap();
    assert_eq!((seen.status, seen.code()), (500, "internal"));
    assert_eq!((bank.row("t").await, bank.books().await), (None, UNTOUCHED));
    assert_eq!(caller.once("try", "t").await, Seen::done());
    assert_eq!(bank.effects("t").await, ["try"]);
}

#[tokio::test]
async fn connections_that_died_in_the_pool_are_not_noticed() {
    let bank = bank!();
    let caller = Caller::new(&bank);
    assert_eq!(caller.once("try", "t").await, Seen::done());
    assert_eq!(terminate(&bank, "idle").await, 1);
    assert_eq!(caller.once("confirm", "t").await, Seen::done());
}

#[tokio::test]
async fn p5_an_error_that_a_method_ignores_still_undoes_its_transaction() {
    let bank = bank!();
    // PostgreSQL answers the COMMIT of such a transaction with success, and rolls it back.
    let caller = Caller::new(&bank).how("try", How::Spoil("SELECT 1/0".into()));
    let seen = caller.once("try", "t").await;
    assert_eq!((seen.status, seen.code()), (500, "internal"));
    assert_eq!((bank.row("t").await, bank.books().await), (None, UNTOUCHED));
}

#[tokio::test]
async fn p5_a_method_that_begins_another_transaction_is_found_out() {
    let bank = bank!();
    let caller = Caller::new(&bank);
    assert_eq!(caller.once("try", "t").await, Seen::done());
    let seen = caller.how("confirm", How::Statement("ROLLBACK; BEGIN".into())).once("confirm", "t").await;
    assert_eq!((seen.status, seen.code()), (500, "internal"));
    assert_eq!(bank.row("t").await.unwrap(), "tried");
    assert_eq!(caller.once("confirm", "t").await, Seen::done());
    assert_eq!(bank.books().await, Books { free: 990, reserved: 0, spent: 10 });
}

#[tokio::test]
async fn an_error_in_a_deferred_constraint_is_no_success() {
    let bank = bank!();
    bank.execute("CREATE TABLE parent (id int PRIMARY KEY)").await;
    bank.execute("CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)").await;
    let caller = Caller::new(&bank);
    let failing = caller.how("try", How::Statement("INSERT INTO child VALUES (1)".into()));
    assert_eq!(failing.once("try", "t").await.status, 500);
    assert_eq!((bank.row("t").await, bank.books().await), (None, UNTOUCHED));
    assert_eq!(caller.once("try", "t").await, Seen::done());
}

#[tokio::test]
async fn a_serialization_failure_runs_the_method_again_and_not_for_ever() {
    let bank = bank!();
    bank.execute("CREATE SEQUENCE failures").await;
    // A sequence does not roll back.
    let failing = |times: u32| {
        How::Statement(format!(
            "DO $$ BEGIN IF nextval('failures') <= {times} THEN
             RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END IF; END $$"
        ))
    };
    let caller = Caller::new(&bank);
    assert_eq!(caller.how("try", failing(2)).once("try", "t").await, Seen::done());
    assert_eq!((caller.runs(), bank.effects("t").await), (3, vec!["try".to_owned()]));
    let always = Caller::new(&bank).how("confirm", failing(1000));
    assert_eq!(always.once("confirm", "t").await.status, 425);
    assert_eq!(always.runs(), tcc_client::limits::RUNS as usize);
    assert_eq!(bank.row("t").await.unwrap(), "tried");
}

#[tokio::test]
async fn a_deadlock_runs_one_of_its_methods_again() {
    let bank = bank!();
    bank.execute("CREATE SEQUENCE visits").await;
    let both = |other: &str| {
        format!(
            "SELECT nextval('visits'); DO $$ BEGIN WHILE (SELECT last_value FROM visits) < 2 LOOP
             PERFORM pg_sleep(0.01); END LOOP; END $$;
             UPDATE account SET free = free WHERE name = '{other}'"
        )
    };
    pooled::a_deadlock_runs_one_of_its_methods_again(&bank, both).await;
}

#[tokio::test]
async fn a_row_that_others_hold_too_long_answers_425() {
    let bank = bank!();
    let (client, connection) = tokio_postgres::connect(&bank.place(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN; UPDATE account SET free = free").await.unwrap();
    let caller = Caller::new(&bank);
    let seen = caller.once("try", "t").await;
    assert_eq!((seen.status, seen.code()), (425, "pending"));
    assert_eq!(bank.row("t").await, None);
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(caller.once("try", "t").await, Seen::done());
}

#[tokio::test]
async fn a_pool_that_is_in_use_too_long_answers_425() {
    let bank = bank!().with_connections(1);
    pooled::a_pool_that_is_in_use_too_long_answers_425(&bank).await;
    assert_eq!(connections(&bank).await, 1);
}

#[tokio::test]
async fn p5_a_time_out_interrupts_the_server_and_its_connection_is_never_used_again() {
    let bank = bank!().with_connections(1);
    let caller = Caller::new(&bank);
    let mut sleeping = caller.how("try", How::Statement("SELECT pg_sleep(30)".into()));
    sleeping.timeout = Duration::from_millis(300);
    let seen = sleeping.once("try", "t").await;
    assert_eq!((seen.status, seen.code()), (500, "timed-out"));
    // Not 425: the locks are gone long before the sleep would end.
    assert_eq!(caller.once("try", "t").await, Seen::done());
    assert_eq!(bank.effects("t").await, ["try"]);
    let sleepers = "SELECT query FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
    assert_eq!(bank.query(sleepers).await, [""; 0]);
}

#[tokio::test]
async fn what_a_method_does_to_its_session_does_not_reach_the_next() {
    let bank = bank!().with_connections(1);
    let caller = Caller::new(&bank);
    let untidy = "SET search_path = nowhere; SELECT pg_advisory_lock(7);
                  CREATE TEMP TABLE account_copy (x int); SET SESSION lock_timeout = 0;
                  SET SESSION search_path = public, nowhere";
    assert_eq!(caller.how("try", How::Statement(untidy.into())).once("try", "t").await, Seen::done());
    let tidy = "DO $$ BEGIN
        ASSERT current_setting('search_path') = '\"$user\", public';
        ASSERT current_setting('lock_timeout') = '2s';
        ASSERT to_regclass('account_copy') IS NULL;
        ASSERT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid());
    END $$";
    assert_eq!(caller.how("confirm", How::Statement(tidy.into())).once("confirm", "t").await, Seen::done());
    assert_eq!(connections(&bank).await, 1, "it was the same connection");
}

#[tokio::test]
async fn a_server_that_does_not_wait_for_its_disk_is_told_to() {
    let bank = bank!();
    let name = bank.place().rsplit('/').next().unwrap().to_owned();
    bank.execute(&format!("ALTER DATABASE {name} SET synchronous_commit = off")).await;
    let caller = Caller::new(&bank);
    let check = "DO $$ BEGIN ASSERT current_setting('synchronous_commit') = 'on'; END $$";
    assert_eq!(caller.how("try", How::Statement(check.into())).once("try", "t").await, Seen::done());
}

#[tokio::test]
async fn many_instances_may_create_the_schema_at_once() {
    let bank = bank!();
    bank.execute("DROP TABLE tcc_guard").await;
    let mut set = JoinSet::new();
    for _ in 0..8 {
        let bank = bank.clone();
        set.spawn(async move { bank.database().create_schema().await.map_err(|e| e.to_string()) });
    }
    assert_eq!(set.join_all().await, vec![Ok(()); 8]);
    assert_eq!(Caller::new(&bank).once("try", "t").await, Seen::done());
}
