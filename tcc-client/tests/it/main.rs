//! Participants and their guard against real databases.

#![cfg(any(feature = "rusqlite", feature = "tokio-postgres", feature = "mysql_async", feature = "redis"))]
#![cfg_attr(
    not(all(feature = "mysql_async", feature = "redis", feature = "rusqlite", feature = "tokio-postgres")),
    allow(dead_code, reason = "what the databases share is for all of them")
)]

/// Makes of generic tests one for each of these banks, in a module of its name.
macro_rules! on_each {
    ($tests:tt $($(#[$when:meta])+ $module:ident: $bank:ident),+ $(,)?) => {
        $($(#[$when])+ on_each! { @one $module $bank $tests })+
    };
    (@one $module:ident $bank:ident ($($name:ident),+)) => {
        mod $module {
            use crate::banks::Open as _;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(bank) = crate::banks::$bank::open().await {
                    super::$name(bank).await;
                }
            })+
        }
    };
}

/// Makes of generic tests one for each server, and for each driver of it.
macro_rules! on_each_server {
    ($($name:ident),+ $(,)?) => {
        on_each_postgres!($($name),+);
        on_each_mysql!($($name),+);
    };
}

/// Makes of generic tests one for each driver of PostgreSQL.
macro_rules! on_each_postgres {
    ($($name:ident),+ $(,)?) => {
        on_each! {
            ($($name),+)
            #[cfg(feature = "tokio-postgres")]
            postgres: Postgres,
            #[cfg(all(feature = "sqlx-postgres", feature = "tokio-postgres"))]
            sqlx_postgres: SqlxPostgres,
        }
    };
}

/// Makes of generic tests one for each driver of MySQL.
macro_rules! on_each_mysql {
    ($($name:ident),+ $(,)?) => {
        on_each! {
            ($($name),+)
            #[cfg(feature = "mysql_async")]
            mysql: Mysql,
            #[cfg(all(feature = "sqlx-mysql", feature = "mysql_async"))]
            sqlx_mysql: SqlxMysql,
        }
    };
}

/// Makes of generic tests one for each server that prepares local transactions.
macro_rules! on_each_xa {
    ($($name:ident),+ $(,)?) => {
        on_each! {
            ($($name),+)
            #[cfg(feature = "tokio-postgres")]
            xa_postgres: XaPostgres,
            #[cfg(feature = "mysql_async")]
            xa_mysql: XaMysql,
        }
    };
}

/// Makes of generic tests one for each database; of those at the end only where local transactions hold locks and a
/// statement can do anything, as in SQL.
macro_rules! on_each_database {
    ($($name:ident),+ $(,)? $(; sql_alone: $($sql:ident),+ $(,)?)?) => {
        on_each_sql_database!($($name,)+ $($($sql),+)?);
        on_each! {
            ($($name),+)
            #[cfg(feature = "redis")]
            redis: Redis,
        }
    };
}

/// Makes of generic tests one for each database that speaks SQL.
macro_rules! on_each_sql_database {
    ($($name:ident),+ $(,)?) => {
        #[cfg(feature = "rusqlite")]
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::banks::Sqlite::open().await).await;
            })+
        }

        on_each_server!($($name),+);
    };
}

/// The databases under test, each as a bank with accounts.
mod banks;
/// A bank whose local transactions go wrong when a test says so.
mod flaky;
/// The participant under test, and how it is called.
mod payment;
/// What databases that are servers have in common.
#[cfg(any(feature = "tokio-postgres", feature = "mysql_async"))]
mod pooled;

/// Rows of transactions that ended long ago.
mod cleaning;
/// Duplicated and crossed calls at the same time.
mod concurrency;
/// The suite for participants, in process and by URL.
#[cfg(feature = "testing")]
mod conformance;
/// Messages of brokers.
#[cfg(any(feature = "rusqlite", feature = "tokio-postgres", feature = "mysql_async"))]
mod consumer;
/// A participant whose process dies.
mod crash;
/// Methods that fail, panic, hang or break their transaction; callers that hang up.
mod faults;
/// What only HTTP can get wrong.
#[cfg(feature = "rusqlite")]
mod http;
/// Which crates come with which feature.
mod features;
/// Beginning transactions, without a database.
#[cfg(feature = "initiator")]
mod initiator;
/// The coordinator of the test kit.
#[cfg(all(feature = "rusqlite", feature = "testing"))]
mod kit;
/// Random calls, crossings and crashes against a model of the guard.
mod model;
/// What MySQL and MariaDB do in their own way: commits that nobody asked for, sessions that are used again.
#[cfg(feature = "mysql_async")]
mod mysql;
/// What only PostgreSQL can show: lost connections, deadlocks, sessions that are used again.
#[cfg(feature = "tokio-postgres")]
mod postgres;
/// P1 to P6, one test or more for each.
mod promises;
/// Messages that arrive more than once.
#[cfg(any(feature = "rusqlite", feature = "tokio-postgres", feature = "mysql_async"))]
mod receiver;
/// What Redis does in its own way: no locks, and nothing is undone.
#[cfg(feature = "redis")]
mod redis;
/// Participants that believe signed calls alone.
#[cfg(feature = "rusqlite")]
mod signed;
/// What only SQLite can show: pragmas, other processes on the same file.
#[cfg(feature = "rusqlite")]
mod sqlite;
/// What pools of sqlx do in their own way.
#[cfg(all(
    feature = "sqlx-mysql",
    feature = "sqlx-postgres",
    feature = "mysql_async",
    feature = "tokio-postgres"
))]
mod sqlx;
/// Every short sequence of calls against a table of what it must come to.
mod table;
/// A participant without a database.
mod unguarded;
/// Tries that the database prepares: what is left of whom, and who finds it.
#[cfg(any(feature = "tokio-postgres", feature = "mysql_async"))]
mod xa;
