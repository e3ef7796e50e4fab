//! The databases under test, each as a bank with accounts.

use std::collections::BTreeSet;
use std::future::Future;

use tcc_client::{BoxError, Call, Database};

#[cfg(feature = "mysql_async")]
mod mysql;
#[cfg(feature = "tokio-postgres")]
mod postgres;
#[cfg(feature = "rusqlite")]
mod sqlite;
#[cfg(all(feature = "sqlx-mysql", feature = "mysql_async"))]
mod sqlx_mysql;
#[cfg(all(feature = "sqlx-postgres", feature = "tokio-postgres"))]
mod sqlx_postgres;

#[cfg(feature = "mysql_async")]
pub(crate) use mysql::Mysql;
#[cfg(feature = "tokio-postgres")]
pub(crate) use postgres::Postgres;
#[cfg(feature = "rusqlite")]
pub(crate) use sqlite::Sqlite;
#[cfg(all(feature = "sqlx-mysql", feature = "mysql_async"))]
pub(crate) use sqlx_mysql::SqlxMysql;
#[cfg(all(feature = "sqlx-postgres", feature = "tokio-postgres"))]
pub(crate) use sqlx_postgres::SqlxPostgres;

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

    async fn books(&self) -> Books {
        let sql = "SELECT SUM(free) || ' ' || SUM(reserved) || ' ' || SUM(spent) FROM account";
        let row = self.query(sql).await.remove(0);
        let sums: Vec<i64> = row.split(' ').map(|sum| sum.parse().unwrap()).collect();
        Books { free: sums[0], reserved: sums[1], spent: sums[2] }
    }

    /// The operations that had an effect in a transaction, in order.
    async fn effects(&self, gid: &str) -> Vec<String> {
        self.query(&format!("SELECT operation FROM effect WHERE gid = '{gid}' ORDER BY id")).await
    }

    /// The state of the guard row of a transaction's one branch.
    async fn row(&self, gid: &str) -> Option<String> {
        self.query(&format!("SELECT state FROM tcc_guard WHERE gid = '{gid}'")).await.pop()
    }
}

/// A bank of a server, to which a database has a pool of connections.
pub(crate) trait Pooled: Bank {
    /// `None` where the server is not installed.
    fn open() -> impl Future<Output = Option<Self>> + Send;

    /// The same bank, whose participants have this many connections.
    fn with_connections(&self, most: usize) -> Self;

    /// Of the server, for a connection of the test's own.
    fn url(&self) -> &str;

    fn create_schema(&self) -> impl Future<Output = Result<(), BoxError>> + Send;
}
