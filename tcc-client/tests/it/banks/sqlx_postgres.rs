//! A bank in PostgreSQL whose participants are given a pool of sqlx.

use std::collections::BTreeSet;

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool, Row};
use tcc_client::limits::CONNECTIONS;
use tcc_client::{BoxError, Call, SqlxPgDatabase, SqlxPgTx};

use super::{Bank, Books, Open, Pooled, Postgres};

#[derive(Clone)]
pub(crate) struct SqlxPostgres {
    bank: Postgres,
    pub(crate) pool: PgPool,
    database: SqlxPgDatabase,
}

impl SqlxPostgres {
    const PREFIX: &str = "sqlx-";

    fn with(bank: Postgres, most: usize) -> Self {
        let pool = PgPoolOptions::new().max_connections(u32::try_from(most).unwrap());
        let pool = pool.connect_lazy(&bank.place()).unwrap();
        Self { bank, database: SqlxPgDatabase::new(pool.clone()), pool }
    }
}

impl Bank for SqlxPostgres {
    type Database = SqlxPgDatabase;

    fn database(&self) -> SqlxPgDatabase {
        self.database.clone()
    }

    fn place(&self) -> String {
        format!("{}{}", Self::PREFIX, self.bank.place())
    }

    async fn at(place: &str) -> Self {
        Self::with(Postgres::at(place.strip_prefix(Self::PREFIX).unwrap()).await, CONNECTIONS)
    }

    async fn move_money(tx: &mut SqlxPgTx, call: &Call, account: &str, by: Books) -> Result<bool, BoxError> {
        sqlx::query("INSERT INTO effect (gid, branch, operation) VALUES ($1, $2, $3)")
            .bind(call.gid.as_str())
            .bind(call.branch.as_str())
            .bind(call.operation.as_str())
            .execute(&mut **tx)
            .await?;
        let moved = sqlx::query(
            "UPDATE account SET free = free + $2, reserved = reserved + $3, spent = spent + $4
             WHERE name = $1 AND free + $2 >= 0",
        );
        let moved = moved.bind(account).bind(by.free).bind(by.reserved).bind(by.spent);
        Ok(moved.execute(&mut **tx).await?.rows_affected() == 1)
    }

    async fn statement(tx: &mut SqlxPgTx, sql: &str) -> Result<(), BoxError> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **tx).await?;
        Ok(())
    }

    async fn execute(&self, sql: &str) {
        self.bank.execute(sql).await;
    }

    async fn query(&self, sql: &str) -> Vec<String> {
        self.bank.query(sql).await
    }

    async fn killing(tx: &mut SqlxPgTx) -> Result<Option<String>, BoxError> {
        let row = sqlx::query("SELECT pg_backend_pid()").fetch_one(&mut **tx).await?;
        Ok(Some(format!("SELECT pg_terminate_backend({})", row.try_get::<i32, _>(0)?)))
    }

    async fn served(&self) -> BTreeSet<String> {
        self.bank.served().await
    }
}

impl Open for SqlxPostgres {
    async fn open() -> Option<Self> {
        Some(Self::with(Postgres::open().await?, CONNECTIONS))
    }
}

impl Pooled for SqlxPostgres {
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
