//! A bank in SQLite.

use std::collections::BTreeSet;

use tcc_client::{BoxError, Call};

use super::{Bank, Books};

#[derive(Clone)]
pub(crate) struct Sqlite {
    path: String,
    /// Deleted with its last owner.
    _folder: Option<std::sync::Arc<tempfile::TempDir>>,
    database: tcc_client::SqliteDatabase,
}

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
