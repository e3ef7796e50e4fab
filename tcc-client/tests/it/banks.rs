//! The databases under test, each as a bank with accounts.

use std::collections::BTreeSet;
use std::future::Future;

#[cfg(feature = "mysql_async")]
use mysql_async::prelude::Queryable;
use tcc_client::{BoxError, Call, Database};

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

#[cfg(feature = "rusqlite")]
#[derive(Clone)]
pub(crate) struct Sqlite {
    path: String,
    /// Deleted with its last owner.
    _folder: Option<std::sync::Arc<tempfile::TempDir>>,
    database: tcc_client::SqliteDatabase,
}

#[cfg(feature = "rusqlite")]
impl Sqlite {
    const SCHEMA: &str = "
        CREATE TABLE account (name TEXT PRIMARY KEY, free INTEGER, reserved INTEGER, spent INTEGER) STRICT;
        CREATE TABLE effect (id INTEGER PRIMARY KEY, gid TEXT, branch TEXT, operation TEXT) STRICT;";

    pub(crate) async fn open() -> Self {
        let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
        let path = folder.path().join("bank.db");
        let bank = Self { _folder: Some(folder), ..Self::at(path.to_str().unwrap()).await };
        bank.database.create_schema().await.unwrap();
        bank.execute(Self::SCHEMA).await;
        bank.fund("alice", 1000).await;
        bank
    }

    fn connection(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(&self.path).unwrap();
        connection.execute_batch("PRAGMA synchronous=OFF").unwrap();
        connection
    }
}

#[cfg(feature = "rusqlite")]
impl Bank for Sqlite {
    type Database = tcc_client::SqliteDatabase;

    fn database(&self) -> Self::Database {
        self.database.clone()
    }

    fn place(&self) -> String {
        self.path.clone()
    }

    async fn at(place: &str) -> Self {
        let database = tcc_client::SqliteDatabase::open(place).unwrap();
        Self { path: place.into(), _folder: None, database }
    }

    async fn move_money(
        tx: &mut tcc_client::SqliteTx,
        call: &Call,
        account: &str,
        by: Books,
    ) -> Result<bool, BoxError> {
        tx.execute(
            "INSERT INTO effect (gid, branch, operation) VALUES (?1, ?2, ?3)",
            [call.gid.as_str(), call.branch.as_str(), call.operation.as_str()],
        )?;
        let moved = tx.execute(
            "UPDATE account SET free = free + ?2, reserved = reserved + ?3, spent = spent + ?4
             WHERE name = ?1 AND free + ?2 >= 0",
            (account, by.free, by.reserved, by.spent),
        )?;
        Ok(moved == 1)
    }

    async fn statement(tx: &mut tcc_client::SqliteTx, sql: &str) -> Result<(), BoxError> {
        Ok(tx.execute_batch(sql)?)
    }

    async fn execute(&self, sql: &str) {
        self.connection().execute_batch(sql).unwrap();
    }

    async fn query(&self, sql: &str) -> Vec<String> {
        let connection = self.connection();
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    async fn killing(_: &mut tcc_client::SqliteTx) -> Result<Option<String>, BoxError> {
        Ok(None)
    }

    async fn served(&self) -> BTreeSet<String> {
        // The system takes a process's locks back before it reports that the process has ended.
        BTreeSet::new()
    }

    async fn reopen(self) -> Self {
        let Self { path, _folder, database } = self;
        drop(database);
        Self { _folder, ..Self::at(&path).await }
    }
}

#[cfg(feature = "tokio-postgres")]
#[derive(Clone)]
pub(crate) struct Postgres {
    url: String,
    database: tcc_client::PgDatabase,
    client: std::sync::Arc<tokio_postgres::Client>,
}

#[cfg(feature = "tokio-postgres")]
impl Postgres {
    const SCHEMA: &str = "
        CREATE TABLE account (name text PRIMARY KEY, free bigint, reserved bigint, spent bigint);
        CREATE TABLE effect (id bigserial PRIMARY KEY, gid text, branch text, operation text);";

    pub(crate) async fn open() -> Option<Self> {
        let bank = Self::at(&tcc_tests::postgres()?.database()).await;
        bank.database.create_schema().await.unwrap();
        bank.execute(Self::SCHEMA).await;
        bank.fund("alice", 1000).await;
        Some(bank)
    }

    /// The same bank, whose participants have this many connections.
    pub(crate) fn with_connections(&self, most: usize) -> Self {
        let database = tcc_client::PgDatabase::new(self.url.parse().unwrap(), tokio_postgres::NoTls);
        Self { database: database.connections(most), ..self.clone() }
    }
}

#[cfg(feature = "tokio-postgres")]
impl Bank for Postgres {
    type Database = tcc_client::PgDatabase;

    fn database(&self) -> Self::Database {
        self.database.clone()
    }

    fn place(&self) -> String {
        self.url.clone()
    }

    async fn at(place: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(place, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let database = tcc_client::PgDatabase::new(place.parse().unwrap(), tokio_postgres::NoTls);
        Self { url: place.into(), database, client: client.into() }
    }

    async fn move_money(
        tx: &mut tcc_client::PgTx,
        call: &Call,
        account: &str,
        by: Books,
    ) -> Result<bool, BoxError> {
        tx.execute(
            "INSERT INTO effect (gid, branch, operation) VALUES ($1, $2, $3)",
            &[&call.gid.as_str(), &call.branch.as_str(), &call.operation.as_str()],
        )
        .await?;
        let moved = tx
            .execute(
                "UPDATE account SET free = free + $2, reserved = reserved + $3, spent = spent + $4
                 WHERE name = $1 AND free + $2 >= 0",
                &[&account, &by.free, &by.reserved, &by.spent],
            )
            .await?;
        Ok(moved == 1)
    }

    async fn statement(tx: &mut tcc_client::PgTx, sql: &str) -> Result<(), BoxError> {
        Ok(tx.batch_execute(sql).await?)
    }

    async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    async fn query(&self, sql: &str) -> Vec<String> {
        self.client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    async fn killing(tx: &mut tcc_client::PgTx) -> Result<Option<String>, BoxError> {
        let pid: i32 = tx.query_one("SELECT pg_backend_pid()", &[]).await?.try_get(0)?;
        Ok(Some(format!("SELECT pg_terminate_backend({pid})")))
    }

    async fn served(&self) -> BTreeSet<String> {
        let sql = "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database()";
        self.query(sql).await.into_iter().collect()
    }
}

#[cfg(feature = "mysql_async")]
#[derive(Clone)]
pub(crate) struct Mysql {
    url: String,
    database: tcc_client::MysqlDatabase,
    conn: std::sync::Arc<tokio::sync::Mutex<mysql_async::Conn>>,
}

#[cfg(feature = "mysql_async")]
impl Mysql {
    const SCHEMA: &str = "
        CREATE TABLE account (name varchar(40) PRIMARY KEY, free bigint, reserved bigint, spent bigint) ENGINE = InnoDB;
        CREATE TABLE effect (id bigint PRIMARY KEY AUTO_INCREMENT, gid varchar(128), branch varchar(64),
            operation varchar(20)) ENGINE = InnoDB";

    pub(crate) async fn open() -> Option<Self> {
        let bank = Self::at(&tcc_tests::mariadb()?.database()).await;
        bank.database.create_schema().await.unwrap();
        bank.execute(Self::SCHEMA).await;
        bank.fund("alice", 1000).await;
        Some(bank)
    }

    /// The same bank, whose participants have this many connections.
    pub(crate) fn with_connections(&self, most: usize) -> Self {
        let database = tcc_client::MysqlDatabase::new(mysql_async::Opts::from_url(&self.url).unwrap());
        Self { database: database.connections(most), ..self.clone() }
    }
}

#[cfg(feature = "mysql_async")]
impl Bank for Mysql {
    type Database = tcc_client::MysqlDatabase;

    fn database(&self) -> Self::Database {
        self.database.clone()
    }

    fn place(&self) -> String {
        self.url.clone()
    }

    async fn at(place: &str) -> Self {
        let opts = mysql_async::Opts::from_url(place).unwrap();
        let mut conn = mysql_async::Conn::new(opts.clone()).await.unwrap();
        // As in the other databases, || joins texts in the statements of the tests.
        conn.query_drop("SET NAMES utf8mb4, sql_mode = CONCAT(@@sql_mode, ',PIPES_AS_CONCAT')")
            .await
            .unwrap();
        let conn = std::sync::Arc::new(tokio::sync::Mutex::new(conn));
        Self { url: place.into(), database: tcc_client::MysqlDatabase::new(opts), conn }
    }

    async fn move_money(
        tx: &mut tcc_client::MysqlTx,
        call: &Call,
        account: &str,
        by: Books,
    ) -> Result<bool, BoxError> {
        tx.exec_drop(
            "INSERT INTO effect (gid, branch, operation) VALUES (?, ?, ?)",
            (call.gid.as_str(), call.branch.as_str(), call.operation.as_str()),
        )
        .await?;
        tx.exec_drop(
            "UPDATE account SET free = free + ?, reserved = reserved + ?, spent = spent + ?
             WHERE name = ? AND free + ? >= 0",
            (by.free, by.reserved, by.spent, account, by.free),
        )
        .await?;
        Ok(tx.affected_rows() == 1)
    }

    async fn statement(tx: &mut tcc_client::MysqlTx, sql: &str) -> Result<(), BoxError> {
        Ok(tx.query_drop(sql).await?)
    }

    async fn execute(&self, sql: &str) {
        self.conn.lock().await.query_drop(sql).await.unwrap();
    }

    async fn query(&self, sql: &str) -> Vec<String> {
        self.conn.lock().await.query(sql).await.unwrap()
    }

    async fn killing(tx: &mut tcc_client::MysqlTx) -> Result<Option<String>, BoxError> {
        Ok(Some(format!("KILL CONNECTION {}", tx.id())))
    }

    async fn served(&self) -> BTreeSet<String> {
        let sql = "SELECT CAST(id AS char) FROM information_schema.processlist WHERE db = DATABASE()";
        self.query(sql).await.into_iter().collect()
    }
}
