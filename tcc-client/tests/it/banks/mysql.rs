//! A bank in MySQL or MariaDB.

use std::collections::BTreeSet;

use mysql_async::prelude::Queryable;
use tcc_client::{BoxError, Call};

use super::{Bank, Books, Open, Pooled};

#[derive(Clone)]
pub(crate) struct Mysql {
    url: String,
    database: tcc_client::MysqlDatabase,
    conn: std::sync::Arc<tokio::sync::Mutex<mysql_async::Conn>>,
}

impl Mysql {
    const SCHEMA: &str = "
        CREATE TABLE account (name varchar(40) PRIMARY KEY, free bigint, reserved bigint, spent bigint) ENGINE = InnoDB;
        CREATE TABLE effect (id bigint PRIMARY KEY AUTO_INCREMENT, gid varchar(128), branch varchar(64),
            operation varchar(20)) ENGINE = InnoDB";
}

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
        // It may have ended by itself by then.
        let kill = format!("KILL CONNECTION {}", tx.id());
        Ok(Some(format!("BEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR 1094 BEGIN END; {kill}; END")))
    }

    async fn served(&self) -> BTreeSet<String> {
        let sql = "SELECT CAST(id AS char) FROM information_schema.processlist WHERE db = DATABASE()";
        self.query(sql).await.into_iter().collect()
    }
}

impl Open for Mysql {
    async fn open() -> Option<Self> {
        let bank = Self::at(&tcc_tests::mariadb()?.database()).await;
        bank.database.create_schema().await.unwrap();
        bank.execute(Self::SCHEMA).await;
        bank.fund("alice", 1000).await;
        Some(bank)
    }
}

impl Pooled for Mysql {
    fn with_connections(&self, most: usize) -> Self {
        let database = tcc_client::MysqlDatabase::new(mysql_async::Opts::from_url(&self.url).unwrap());
        Self { database: database.connections(most), ..self.clone() }
    }

    fn url(&self) -> &str {
        &self.url
    }

    async fn create_schema(&self) -> Result<(), BoxError> {
        self.database.create_schema().await
    }
}
