//! The databases under test, each as a bank with accounts.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use tcc_client::{BoxError, Call, Database};

#[cfg(feature = "mysql_async")]
mod mysql;
#[cfg(feature = "tokio-postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "rusqlite")]
mod sqlite;
#[cfg(all(feature = "sqlx-mysql", feature = "mysql_async"))]
mod sqlx_mysql;
#[cfg(all(feature = "sqlx-postgres", feature = "tokio-postgres"))]
mod sqlx_postgres;
#[cfg(any(feature = "tokio-postgres", feature = "mysql_async"))]
mod xa;

#[cfg(feature = "mysql_async")]
pub(crate) use mysql::Mysql;
#[cfg(feature = "tokio-postgres")]
pub(crate) use postgres::Postgres;
#[cfg(feature = "redis")]
pub(crate) use redis::Redis;
#[cfg(feature = "rusqlite")]
pub(crate) use sqlite::Sqlite;
#[cfg(all(feature = "sqlx-mysql", feature = "mysql_async"))]
pub(crate) use sqlx_mysql::SqlxMysql;
#[cfg(all(feature = "sqlx-postgres", feature = "tokio-postgres"))]
pub(crate) use sqlx_postgres::SqlxPostgres;
#[cfg(any(feature = "tokio-postgres", feature = "mysql_async"))]
pub(crate) use xa::XaBank;
#[cfg(feature = "mysql_async")]
pub(crate) use xa::XaMysql;
#[cfg(feature = "tokio-postgres")]
pub(crate) use xa::XaPostgres;

/// All money of a bank. It moves between the three, and their sum never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) free: i64,
    pub(crate) reserved: i64,
    pub(crate) spent: i64,
}

/// A database under test.
pub(crate) trait Bank: Clone + Send + Sync + 'static {
    type Database: Database;

    /// Whether the database prepares its tries, so that nothing is left of one that was cancelled.
    const PREPARES: bool = false;

    /// What had an effect of a branch that was tried and cancelled.
    const UNDONE: &[&str] = if Self::PREPARES { &[] } else { &["try", "cancel"] };

    fn database(&self) -> Self::Database;

    /// Where it is, for [`at`](Self::at) in another process.
    fn place(&self) -> String;

    fn at(place: &str) -> impl Future<Output = Self> + Send;

    /// Moves an account's money, and logs that the operation did. `false`: there is not enough free.
    fn move_money(
        tx: &mut <Self::Database as Database>::Tx,
        call: &Call,
        account: &str,
        by: Books,
    ) -> impl Future<Output = Result<bool, BoxError>> + Send;

    /// Runs a statement in the transaction, and returns its error.
    fn statement(
        tx: &mut <Self::Database as Database>::Tx,
        sql: &str,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Runs statements of the test's own, committed.
    fn execute(&self, sql: &str) -> impl Future<Output = ()> + Send;

    /// Runs a query of the test's own that has one column of text, and sees what is committed.
    fn query(&self, sql: &str) -> impl Future<Output = Vec<String>> + Send;

    /// A statement that, executed elsewhere, ends the connection of this transaction at once. `None` where a
    /// connection is only a handle of this process, and nothing but its drop can end it.
    fn killing(
        tx: &mut <Self::Database as Database>::Tx,
    ) -> impl Future<Output = Result<Option<String>, BoxError>> + Send;

    /// The connections that the database still serves, whether or not somebody listens at their other end.
    fn served(&self) -> impl Future<Output = BTreeSet<String>> + Send;

    /// Closes everything, and opens it anew as the next process would.
    async fn reopen(self) -> Self {
        let place = self.place();
        drop(self);
        Self::at(&place).await
    }

    async fn fund(&self, account: &str, cents: i64) {
        self.execute(&format!("INSERT INTO account VALUES ('{account}', {cents}, 0, 0)")).await;
    }

    async fn set_free(&self, account: &str, cents: i64) {
        self.execute(&format!("UPDATE account SET free = {cents} WHERE name = '{account}'")).await;
    }

    /// The guard rows, as others read them.
    async fn rows(&self) -> Vec<GuardRow> {
        let kept = "COALESCE('=' || kept, '')";
        let sql = format!("SELECT gid || '|' || branch || '|' || state || '|' || {kept} FROM tcc_guard");
        let row = |row: String| {
            let columns: Vec<_> = row.splitn(4, '|').collect();
            let [gid, branch, state] = [0, 1, 2].map(|column| columns[column].to_owned());
            GuardRow { gid, branch, state, kept: columns[3].strip_prefix('=').map(Into::into) }
        };
        self.query(&sql).await.into_iter().map(row).collect()
    }

    fn accounts(&self) -> impl Future<Output = BTreeMap<String, Books>> + Send {
        async move {
            let sql = "SELECT name || '|' || free || '|' || reserved || '|' || spent FROM account";
            let account = |row: String| {
                let columns: Vec<_> = row.split('|').collect();
                let cents = |column: usize| columns[column].parse().unwrap();
                (columns[0].to_owned(), Books { free: cents(1), reserved: cents(2), spent: cents(3) })
            };
            self.query(sql).await.into_iter().map(account).collect()
        }
    }

    /// What had an effect, as `gid|branch|operation`, in order.
    async fn log(&self) -> Vec<String> {
        self.query("SELECT gid || '|' || branch || '|' || operation FROM effect ORDER BY id").await
    }

    /// The mark that the guard keeps.
    async fn mark(&self) -> Option<i64> {
        let settled = self.query("SELECT settled || '' FROM tcc_settled").await.pop()?;
        Some(settled.parse().unwrap())
    }

    /// Deletes the guard rows, and keeps no mark.
    async fn forget_rows(&self) {
        self.execute("DELETE FROM tcc_guard").await;
    }

    /// Deletes everything.
    async fn clear(&self) {
        let tables = ["tcc_guard", "tcc_settled", "effect", "account"];
        self.execute(&tables.map(|table| format!("DELETE FROM {table};")).concat()).await;
    }

    fn books(&self) -> impl Future<Output = Books> + Send {
        async move {
            let sum = |sum: Books, books: Books| Books {
                free: sum.free + books.free,
                reserved: sum.reserved + books.reserved,
                spent: sum.spent + books.spent,
            };
            self.accounts().await.into_values().reduce(sum).expect("an account")
        }
    }

    /// The operations that had an effect in a transaction, in order.
    async fn effects(&self, gid: &str) -> Vec<String> {
        let log = self.log().await;
        let of_gid = log.iter().filter(|entry| entry.split('|').next() == Some(gid));
        of_gid.map(|entry| entry.rsplit('|').next().expect("three words").to_owned()).collect()
    }

    /// The state of the guard row of a transaction's one branch.
    async fn row(&self, gid: &str) -> Option<String> {
        self.rows().await.into_iter().find(|row| row.gid == gid).map(|row| row.state)
    }
}

/// A guard row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuardRow {
    pub(crate) gid: String,
    pub(crate) branch: String,
    pub(crate) state: String,
    pub(crate) kept: Option<String>,
}

/// A bank of a server.
pub(crate) trait Open: Bank {
    /// A new one; `None` where the server is not installed.
    fn open() -> impl Future<Output = Option<Self>> + Send;
}

/// A bank of a server, to which a database has a pool of connections.
pub(crate) trait Pooled: Open {
    /// The same bank, whose participants have this many connections.
    fn with_connections(&self, most: usize) -> Self;

    /// Of the server, for a connection of the test's own.
    fn url(&self) -> &str;

    fn create_schema(&self) -> impl Future<Output = Result<(), BoxError>> + Send;
}
