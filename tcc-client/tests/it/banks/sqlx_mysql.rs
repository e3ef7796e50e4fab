//! A bank in MySQL or MariaDB whose participants are given a pool of sqlx.

use std::collections::BTreeSet;

use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, MySqlPool, Row};
use tcc_client::limits::CONNECTIONS;
use tcc_client::{BoxError, Call, SqlxMysqlDatabase, SqlxMysqlTx};

use super::{Bank, Books, Mysql, Open, Pooled};

#[derive(Clone)]
pub(crate) struct SqlxMysql {
    bank: Mysql,
    pub(crate) pool: MySqlPool,
    database: SqlxMysqlDatabase,
}

impl SqlxMysql {
    const PREFIX: &str = "sqlx-";

    fn with(bank: Mysql, most: usize) -> Self {
        let options: MySqlConnectOptions = bank.place().parse().unwrap();
        let pool = MySqlPoolOptions::new().max_connections(u32::try_from(most).unwrap());
        let pool = pool.connect_lazy_with(options);
        Self { bank, database: SqlxMysqlDatabase::new(pool.clone()), pool }
    }
}

impl Bank for SqlxMysql {
    type Database = SqlxMysqlDatabase;

    fn database(&self) -> SqlxMysqlDatabase {
        self.database.clone()
    }

    fn place(&self) -> String {
        format!("{}{}", Self::PREFIX, self.bank.place())
    }

    async fn at(place: &str) -> Self {
        Self::with(Mysql::at(place.strip_prefix(Self::PREFIX).unwrap()).await, CONNECTIONS)
    }

    async fn move_money(
        tx: &mut SqlxMysqlTx,
        call: &Call,
        account: &str,
        by: Books,
    ) -> Result<bool, BoxError> {
        sqlx::query("INSERT INTO effect (gid, branch, operation) VALUES (?, ?, ?)")
            .bind(call.gid.as_str())
            .bind(call.branch.as_str())
            .bind(call.operation.as_str())
            .execute(&mut **tx)
            .await?;
        let moved = sqlx::query(
            "UPDATE account SET free = free + ?, reserved = reserved + ?, spent = spent + ?
             WHERE name = ? AND free + ? >= 0",
        );
        let moved = moved.bind(by.free).bind(by.reserved).bind(by.spent).bind(account).bind(by.free);
        Ok(moved.execute(&mut **tx).await?.rows_affected() == 1)
    }

    async fn statement(tx: &mut SqlxMysqlTx, sql: &str) -> Result<(), BoxError> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **tx).await?;
        Ok(())
    }

    async fn execute(&self, sql: &str) {
        self.bank.execute(sql).await;
    }

    async fn query(&self, sql: &str) -> Vec<String> {
        self.bank.query(sql).await
    }

    async fn killing(tx: &mut SqlxMysqlTx) -> Result<Option<String>, BoxError> {
        let row = sqlx::query("SELECT CONNECTION_ID()").fetch_one(&mut **tx).await?;
        Ok(Some(format!("KILL CONNECTION {}", row.try_get_unchecked::<u64, _>(0)?)))
    }

    async fn served(&self) -> BTreeSet<String> {
        self.bank.served().await
    }
}

impl Open for SqlxMysql {
    async fn open() -> Option<Self> {
        Some(Self::with(Mysql::open().await?, CONNECTIONS))
    }
}

impl Pooled for SqlxMysql {
    fn with_connections(&self, most: usize) -> Self {
        Self::with(self.bank.clone(), most)
    }

    fn url(&self) -> &str {
        self.bank.url()
    }

    async fn create_schema(&self) -> Result<(), BoxError> {
        self.database.create_schema().await
    }
}
