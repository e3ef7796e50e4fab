//! What PostgreSQL does in its own way.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::NoTls;

use crate::banks::{Bank, Books, Open, Pooled, Postgres};
use crate::payment::{Caller, How, Seen};
use crate::pooled;

const UNTOUCHED: Books = Books { free: 1000, reserved: 0, spent: 0 };

on_each_postgres!(
    p5_a_connection_that_is_lost_in_the_middle_takes_everything_with_it,
    connections_that_died_in_the_pool_are_not_noticed,
    p5_an_error_that_a_method_ignores_still_undoes_its_transaction,
    p5_a_method_that_begins_another_transaction_is_found_out,
    an_error_in_a_deferred_constraint_is_no_success,
    a_serialization_failure_runs_the_method_again_and_not_for_ever,
    a_deadlock_runs_one_of_its_methods_again,
    a_row_that_others_hold_too_long_answers_425,
    a_server_that_does_not_wait_for_its_disk_is_told_to,
    many_instances_may_create_the_schema_at_once,
    a_pool_that_is_in_use_too_long_answers_425,
    p5_a_time_out_interrupts_the_server_and_its_connection_is_never_used_again,
);

/// Ends the connections of the database that are in this state, as a failing network or an administrator does.
async fn terminate(bank: &impl Bank, state: &str) -> usize {
    let sql = format!(
        "SELECT pg_terminate_backend(pid, 5000)::text FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = '{state}'"
    );
    bank.query(&sql).await.len()
}

async fn connections(bank: &impl Bank) -> usize {
    let sql = "SELECT pid::text FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    bank.query(sql).await.len()
}

async fn p5_a_connection_that_is_lost_in_the_middle_takes_everything_with_it<B: Pooled>(bank: B) {
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

async fn connections_that_died_in_the_pool_are_not_noticed<B: Pooled>(bank: B) {
    let caller = Caller::new(&bank);
    assert_eq!(caller.once("try", "t").await, Seen::done());
    assert_eq!(terminate(&bank, "idle").await, 1);
    assert_eq!(caller.once("confirm", "t").await, Seen::done());
}

async fn p5_an_error_that_a_method_ignores_still_undoes_its_transaction<B: Pooled>(bank: B) {
    // PostgreSQL answers the COMMIT of such a transaction with success, and rolls it back.
    let caller = Caller::new(&bank).how("try", How::Spoil("SELECT 1/0".into()));
    let seen = caller.once("try", "t").await;
    assert_eq!((seen.status, seen.code()), (500, "internal"));
    assert_eq!((bank.row("t").await, bank.books().await), (None, UNTOUCHED));
}

async fn p5_a_method_that_begins_another_transaction_is_found_out<B: Pooled>(bank: B) {
    let caller = Caller::new(&bank);
    assert_eq!(caller.once("try", "t").await, Seen::done());
    let seen = caller.how("confirm", How::Statement("ROLLBACK; BEGIN".into())).once("confirm", "t").await;
    assert_eq!((seen.status, seen.code()), (500, "internal"));
    assert_eq!(bank.row("t").await.unwrap(), "tried");
    assert_eq!(caller.once("confirm", "t").await, Seen::done());
    assert_eq!(bank.books().await, Books { free: 990, reserved: 0, spent: 10 });
}

async fn an_error_in_a_deferred_constraint_is_no_success<B: Pooled>(bank: B) {
    bank.execute("CREATE TABLE parent (id int PRIMARY KEY)").await;
    bank.execute("CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)").await;
    let caller = Caller::new(&bank);
    let failing = caller.how("try", How::Statement("INSERT INTO child VALUES (1)".into()));
    assert_eq!(failing.once("try", "t").await.status, 500);
    assert_eq!((bank.row("t").await, bank.books().await), (None, UNTOUCHED));
    assert_eq!(caller.once("try", "t").await, Seen::done());
}

async fn a_serialization_failure_runs_the_method_again_and_not_for_ever<B: Pooled>(bank: B) {
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

async fn a_deadlock_runs_one_of_its_methods_again<B: Pooled>(bank: B) {
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

async fn a_row_that_others_hold_too_long_answers_425<B: Pooled>(bank: B) {
    let (client, connection) = tokio_postgres::connect(bank.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN; UPDATE account SET free = free").await.unwrap();
    let caller = Caller::new(&bank);
    let seen = caller.once("try", "t").await;
    assert_eq!((seen.status, seen.code()), (425, "pending"));
    assert_eq!(bank.row("t").await, None);
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(caller.once("try", "t").await, Seen::done());
}

async fn a_pool_that_is_in_use_too_long_answers_425<B: Pooled>(bank: B) {
    let bank = bank.with_connections(1);
    pooled::a_pool_that_is_in_use_too_long_answers_425(&bank).await;
    assert_eq!(connections(&bank).await, 1);
}

async fn p5_a_time_out_interrupts_the_server_and_its_connection_is_never_used_again<B: Pooled>(bank: B) {
    let bank = bank.with_connections(1);
    let caller = Caller::new(&bank);
    let mut sleeping = caller.how("try", How::Statement("SELECT pg_sleep(50)".into()));
    sleeping.timeout = Duration::from_millis(300);
    let seen = sleeping.once("try", "t").await;
    assert_eq!((seen.status, seen.code()), (500, "timed-out"));
    // The locks are gone long before the sleep would end.
    let seen = timeout(Duration::from_secs(30), caller.call("try", "t")).await;
    assert_eq!(seen.expect("the server was interrupted"), Seen::done());
    assert_eq!(bank.effects("t").await, ["try"]);
    let sleepers = "SELECT query FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
    pooled::until_none(&bank, sleepers).await;
}

#[tokio::test]
async fn what_a_method_does_to_its_session_does_not_reach_the_next() {
    let Some(bank) = Postgres::open().await else { return };
    let bank = bank.with_connections(1);
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

async fn a_server_that_does_not_wait_for_its_disk_is_told_to<B: Pooled>(bank: B) {
    let name = bank.place().rsplit('/').next().unwrap().to_owned();
    bank.execute(&format!("ALTER DATABASE {name} SET synchronous_commit = off")).await;
    let caller = Caller::new(&bank);
    let check = "DO $$ BEGIN ASSERT current_setting('synchronous_commit') = 'on'; END $$";
    assert_eq!(caller.how("try", How::Statement(check.into())).once("try", "t").await, Seen::done());
}

async fn many_instances_may_create_the_schema_at_once<B: Pooled>(bank: B) {
    bank.execute("DROP TABLE tcc_guard").await;
    let mut set = JoinSet::new();
    for _ in 0..8 {
        let bank = bank.clone();
        set.spawn(async move { bank.create_schema().await.map_err(|e| e.to_string()) });
    }
    assert_eq!(set.join_all().await, vec![Ok(()); 8]);
    assert_eq!(Caller::new(&bank).once("try", "t").await, Seen::done());
}
