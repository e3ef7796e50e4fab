//! A participant whose process dies.

use std::env;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::banks::{Bank, Books};
use crate::payment::{Caller, How, Seen};

on_each_database!(
    p5_a_process_that_dies_before_its_commit_leaves_nothing,
    p2_a_process_that_dies_after_its_commit_has_done_it,
);

on_each_xa!(
    p5_a_process_that_dies_before_its_commit_leaves_nothing,
    p2_a_process_that_dies_after_its_commit_has_done_it,
);

/// `database operation how place`, when this process is to make a call and die.
const ORDER: &str = "TCC_TEST_CRASH";

/// Makes a call in another process, which dies before the commit or right after its answer.
fn crash<B: Bank>(bank: &B, operation: &str, moment: &str) {
    let place = bank.place();
    let kind = place.split_once("://").map_or("sqlite", |(kind, _)| kind);
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "crash::the_process_that_dies", "--nocapture"])
        .env(ORDER, [kind, operation, moment, &place].join(" "))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), None, "killed by a signal, and by no panic before it: {status}");
}

/// Not a test unless [`crash`] orders it.
#[tokio::test]
async fn the_process_that_dies() {
    let Ok(order) = env::var(ORDER) else { return };
    let [kind, operation, moment, place] = *order.split(' ').collect::<Vec<_>>() else { panic!("{order}") };
    match kind {
        #[cfg(feature = "rusqlite")]
        "sqlite" => die(&crate::banks::Sqlite::at(place).await, operation, moment).await,
        #[cfg(feature = "tokio-postgres")]
        "postgres" => die(&crate::banks::Postgres::at(place).await, operation, moment).await,
        #[cfg(feature = "mysql_async")]
        "mysql" => die(&crate::banks::Mysql::at(place).await, operation, moment).await,
        #[cfg(feature = "redis")]
        "redis+unix" => die(&crate::banks::Redis::at(place).await, operation, moment).await,
        #[cfg(all(feature = "sqlx-postgres", feature = "tokio-postgres"))]
        "sqlx-postgres" => die(&crate::banks::SqlxPostgres::at(place).await, operation, moment).await,
        #[cfg(all(feature = "sqlx-mysql", feature = "mysql_async"))]
        "sqlx-mysql" => die(&crate::banks::SqlxMysql::at(place).await, operation, moment).await,
        #[cfg(feature = "tokio-postgres")]
        "xa+postgres" => die(&crate::banks::XaPostgres::at(place).await, operation, moment).await,
        #[cfg(feature = "mysql_async")]
        "xa+mysql" => die(&crate::banks::XaMysql::at(place).await, operation, moment).await,
        _ => panic!("{order}"),
    }
}

async fn die<B: Bank>(bank: &B, operation: &str, moment: &str) {
    let how = if moment == "before" { How::Die } else { How::Reply(json!("kept")) };
    let seen = Caller::new(bank).how(operation, how).once(operation, "t").await;
    assert_eq!((moment, seen.status), ("after", 200));
    std::process::abort();
}

async fn p5_a_process_that_dies_before_its_commit_leaves_nothing<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    crash(&bank, "try", "before");
    assert_eq!((bank.row("t").await, bank.effects("t").await), (None, vec![]));
    assert_eq!(caller.call("try", "t").await, Seen::done());
    crash(&bank, "cancel", "before");
    assert_eq!(bank.row("t").await.unwrap(), "tried");
    assert_eq!(caller.call("cancel", "t").await, Seen::done());
    assert_eq!(bank.effects("t").await, B::UNDONE);
    assert_eq!(bank.books().await, Books { free: 1000, reserved: 0, spent: 0 });
}

async fn p2_a_process_that_dies_after_its_commit_has_done_it<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    crash(&bank, "try", "after");
    assert_eq!(caller.call("try", "t").await, Seen { status: 200, body: json!("kept") });
    crash(&bank, "confirm", "after");
    assert_eq!(caller.call("confirm", "t").await, Seen::done());
    assert_eq!(caller.runs(), 0);
    assert_eq!(bank.effects("t").await, ["try", "confirm"]);
    assert_eq!(bank.books().await, Books { free: 990, reserved: 0, spent: 10 });
}
