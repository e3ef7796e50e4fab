//! What MySQL and MariaDB do in their own way.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::banks::{Bank, Books, Mysql, Open, Pooled};
use crate::payment::{Caller, How, Seen};
use crate::pooled;

const UNTOUCHED: Books = Books { free: 1000, reserved: 0, spent: 0 };

on_each_mysql!(
    p5_a_connection_that_is_lost_in_the_middle_takes_everything_with_it,
    connections_that_died_in_the_pool_are_not_noticed,
    p5_a_method_that_begins_another_transaction_is_found_out,
    p5_a_method_that_defines_a_table_is_found_out,
    p5_what_follows_a_transaction_that_has_ended_is_not_committed_by_itself,
    a_serialization_failure_runs_the_method_again_and_not_for_ever,
    a_deadlock_runs_one_of_its_methods_again,
    a_row_that_others_hold_too_long_answers_425,
    p2_a_long_reply_is_kept_whole,
    an_update_that_changes_nothing_has_found_its_row,
    many_instances_may_create_the_schema_at_once,
    a_pool_that_is_in_use_too_long_answers_425,
    p5_a_time_out_interrupts_the_server_and_its_connection_is_never_used_again,
    p2_a_reply_in_any_script_is_kept_by_a_server_of_another_character_set,
);

/// The connections of the participants.
async fn connections(bank: &impl Bank) -> Vec<String> {
    let sql = "SELECT CAST(id AS char) FROM information_schema.processlist
               WHERE db = DATABASE() AND id <> CONNECTION_ID()";
    bank.query(sql).await
}

/// Ends the connections of the participants, as a failing network or an administrator does.
async fn terminate(bank: &impl Bank) -> usize {
    let ids = connections(bank).await;
    for id in &ids {
        bank.execute(&format!("KILL CONNECTION {id}")).await;
    }
    ids.len()
}

async fn p5_a_connection_that_is_lost_in_the_middle_takes_everything_with_it<B: Pooled>(bank: B) {
    let caller = Caller::new(&bank);
    let gated = caller.how("try", How::Gate);
    let trying = tokio::spawn(async move { gated.once("try", "t").await });
    caller.watch.arrived.acquire().await.unwrap().forget();
    assert_eq!(terminate(&bank).await, 1);
    caller.watch.gate.add_permits(1);
    let seen = trying.await.unwrap();
    assert_eq!((seen.status, seen.code()), (500, "internal"));
    assert_eq!((bank.row("t").await, bank.books().await), (None, UNTOUCHED));
    assert_eq!(caller.call("try", "t").await, Seen::done());
    assert_eq!(bank.effects("t").await, ["try"]);
}

async fn connections_that_died_in_the_pool_are_not_noticed<B: Pooled>(bank: B) {
    let caller = Caller::new(&bank);
    assert_eq!(caller.once("try", "t").await, Seen::done());
    assert_eq!(terminate(&bank).await, 1);
    assert_eq!(caller.once("confirm", "t").await, Seen::done());
}

async fn p5_a_method_that_begins_another_transaction_is_found_out<B: Pooled>(bank: B) {
    let caller = Caller::new(&bank);
    assert_eq!(caller.once("try", "t").await, Seen::done());
    let again = How::Statement("ROLLBACK; START TRANSACTION; UPDATE account SET spent = 7".into());
    let seen = caller.how("confirm", again).once("confirm", "t").await;
    assert_eq!((seen.status, seen.code()), (500, "internal"));
    assert_eq!(bank.row("t").await.unwrap(), "tried");
    assert_eq!(caller.once("confirm", "t").await, Seen::done());
    assert_eq!(bank.books().await, Books { free: 990, reserved: 0, spent: 10 });
}

async fn p5_a_method_that_defines_a_table_is_found_out<B: Pooled>(bank: B) {
    let caller = Caller::new(&bank);
    assert_eq!(caller.once("try", "t").await, Seen::done());
    // It commits what was before it, and the guard row must not follow alone.
    let defines = How::Statement("CREATE TABLE other (id int)".into());
    let seen = caller.how("confirm", defines).once("confirm", "t").await;
    assert_eq!((seen.status, seen.code()), (500, "internal"));
    assert_eq!(bank.row("t").await.unwrap(), "tried");
}

async fn p5_what_follows_a_transaction_that_has_ended_is_not_committed_by_itself<B: Pooled>(bank: B) {
    let caller = Caller::new(&bank);
    let seen = caller
        .how("try", How::Statement("ROLLBACK; UPDATE account SET spent = 7".into()))
        .once("try", "t")
        .await;
    assert_eq!((seen.status, seen.code()), (500, "internal"));
    assert_eq!((bank.row("t").await, bank.books().await), (None, UNTOUCHED));
}

async fn a_serialization_failure_runs_the_method_again_and_not_for_ever<B: Pooled>(bank: B) {
    bank.execute("CREATE SEQUENCE failures NOCACHE").await;
    // A sequence does not roll back.
    let failing = |times: u32, state: &str, number: u32| {
        How::Statement(format!(
            "BEGIN NOT ATOMIC IF NEXTVAL(failures) <= {times} THEN
             SIGNAL SQLSTATE '{state}' SET MYSQL_ERRNO = {number}; END IF; END"
        ))
    };
    let caller = Caller::new(&bank);
    assert_eq!(caller.how("try", failing(2, "40001", 1213)).once("try", "t").await, Seen::done());
    assert_eq!((caller.runs(), bank.effects("t").await), (3, vec!["try".to_owned()]));
    let changed = Caller::new(&bank).how("try", failing(4, "HY000", 1020));
    assert_eq!(changed.once("try", "u").await, Seen::done());
    assert_eq!(changed.runs(), 2);
    let always = Caller::new(&bank).how("confirm", failing(1000, "40001", 1213));
    assert_eq!(always.once("confirm", "t").await.status, 425);
    assert_eq!(always.runs(), tcc_client::limits::RUNS as usize);
    assert_eq!(bank.row("t").await.unwrap(), "tried");
}

async fn a_deadlock_runs_one_of_its_methods_again<B: Pooled>(bank: B) {
    bank.execute("CREATE SEQUENCE visits NOCACHE").await;
    let both = |other: &str| {
        format!(
            "SELECT NEXTVAL(visits);
             BEGIN NOT ATOMIC WHILE (SELECT next_not_cached_value FROM visits) < 3 DO DO SLEEP(0.01); END WHILE; END;
             UPDATE account SET free = free + 0 WHERE name = '{other}'"
        )
    };
    pooled::a_deadlock_runs_one_of_its_methods_again(&bank, both).await;
}

async fn a_row_that_others_hold_too_long_answers_425<B: Pooled>(bank: B) {
    let mut other = Conn::new(Opts::from_url(bank.url()).unwrap()).await.unwrap();
    other.query_drop("START TRANSACTION; UPDATE account SET reserved = 1").await.unwrap();
    let caller = Caller::new(&bank);
    let seen = caller.once("try", "t").await;
    assert_eq!((seen.status, seen.code()), (425, "pending"));
    assert_eq!(bank.row("t").await, None);
    other.query_drop("ROLLBACK").await.unwrap();
    assert_eq!(caller.once("try", "t").await, Seen::done());
}

async fn a_pool_that_is_in_use_too_long_answers_425<B: Pooled>(bank: B) {
    let bank = bank.with_connections(1);
    pooled::a_pool_that_is_in_use_too_long_answers_425(&bank).await;
    assert_eq!(connections(&bank).await.len(), 1);
}

async fn p5_a_time_out_interrupts_the_server_and_its_connection_is_never_used_again<B: Pooled>(bank: B) {
    let bank = bank.with_connections(1);
    let caller = Caller::new(&bank);
    // A sleep would look after its client by itself.
    let busy = "DO BENCHMARK(1000000000000, MD5('busy'))";
    let mut working = caller.how("try", How::Statement(busy.into()));
    working.timeout = Duration::from_millis(300);
    let seen = working.once("try", "t").await;
    assert_eq!((seen.status, seen.code()), (500, "timed-out"));
    // The locks are gone long before it would end.
    let seen = timeout(Duration::from_secs(60), caller.call("try", "t")).await;
    assert_eq!(seen.expect("the server was interrupted"), Seen::done());
    assert_eq!(bank.effects("t").await, ["try"]);
    let workers = "SELECT info FROM information_schema.processlist
                    WHERE db = DATABASE() AND info LIKE 'DO BENCHMARK%'";
    pooled::until_none(&bank, workers).await;
}

#[tokio::test]
async fn what_a_method_does_to_its_session_does_not_reach_the_next() {
    let Some(bank) = Mysql::open().await else { return };
    let bank = bank.with_connections(1);
    let caller = Caller::new(&bank);
    let untidy =
        "SET NAMES latin1, sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES', innodb_lock_wait_timeout = 50, @mine = 1;
                  SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE;
                  DO GET_LOCK('mine', 0); CREATE TEMPORARY TABLE account_copy (x int)";
    let untidy = caller.how("try", How::Statement(untidy.into()));
    assert_eq!(untidy.once("try", "t").await, Seen::done());
    let tidy = "BEGIN NOT ATOMIC
        IF @@character_set_client <> 'utf8mb4' OR @@sql_mode <> @@global.sql_mode OR @mine IS NOT NULL
           OR @@innodb_lock_wait_timeout <> 2 OR @@tx_isolation <> 'READ-COMMITTED'
           OR IS_USED_LOCK('mine') IS NOT NULL
        THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'untidy'; END IF;
    END; CREATE TEMPORARY TABLE account_copy (x int)";
    assert_eq!(caller.how("confirm", How::Statement(tidy.into())).once("confirm", "t").await, Seen::done());
    assert_eq!(connections(&bank).await.len(), 1, "it was the same connection");
}

async fn p2_a_reply_in_any_script_is_kept_by_a_server_of_another_character_set<B: Pooled>(bank: B) {
    let bank = bank.with_connections(1);
    assert_eq!(bank.query("SELECT @@global.character_set_server").await, ["latin1"]);
    let reply = json!({ "text": "ü漢字🦀", "quotes": "'\"\\' \\x27" });
    let caller = Caller::new(&bank).how("try", How::Reply(reply.clone()));
    // The second time over a session that was reset.
    for gid in ["t", "u"] {
        let first = caller.once("try", gid).await;
        assert_eq!(first, Seen { status: 200, body: reply.clone() });
        assert_eq!(caller.once("try", gid).await, first);
    }
    let kept = bank.query("SELECT DISTINCT kept FROM tcc_guard").await;
    assert_eq!(kept, [reply.to_string()], "also as others read it");
}

async fn p2_a_long_reply_is_kept_whole<B: Pooled>(bank: B) {
    // As long as fits in a payload, by which this participant is told what to reply.
    let reply = json!("x".repeat(tcc_core::limits::REPLY - 1000));
    let caller = Caller::new(&bank).how("try", How::Reply(reply.clone()));
    let first = caller.once("try", "t").await;
    assert_eq!(first, Seen { status: 200, body: reply });
    assert_eq!(caller.once("try", "t").await, first);
}

async fn an_update_that_changes_nothing_has_found_its_row<B: Pooled>(bank: B) {
    let mut caller = Caller::new(&bank);
    caller.charge.cents = 0;
    assert_eq!(caller.once("try", "t").await, Seen::done());
    assert_eq!(caller.once("confirm", "t").await, Seen::done());
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
