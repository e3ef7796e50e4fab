//! A bank in PostgreSQL.

use std::collections::BTreeSet;

use tcc_client::{BoxError, Call};

use super::{Bank, Books, Open, Pooled};

#[derive(Clone)]
pub(crate) struct Postgres {
    url: String,
    database: tcc_client::PgDatabase,
    client: std::sync::Arc<tokio_postgres::Client>,
}

impl Postgres {
    const SCHEMA: &str = "
        CREATE TABLE account (name text PRIMARY KEY, free bigint, reserved bigint, spent bigint);
        CREATE TABLE effect (id bigserial PRIMARY KEY, gid text, branch text, operation text);";

    /// A new one of this server.
    pub(crate) async fn on(server: &tcc_tests::Postgres) -> Self {
        let bank = Self::at(&server.database()).await;
        bank.database.create_schema().await.unwrap();
        bank.execute(Self::SCHEMA).await;
        bank.fund("alice", 1000).await;
        bank
    }
}

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

impl Open for Postgres {
    async fn open() -> Option<Self> {
        Some(Self::on(tcc_tests::postgres()?).await)
    }
}

impl Pooled for Postgres {
    fn with_connections(&self, most: usize) -> Self {
        let database = tcc_client::PgDatabase::new(self.url.parse().unwrap(), tokio_postgres::NoTls);
        Self { database: database.connections(most), ..self.clone() }
    }

    fn url(&self) -> &str {
        &self.url
    }

    async fn create_schema(&self) -> Result<(), BoxError> {
        self.database.create_schema().await
    }
}
