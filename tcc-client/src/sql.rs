//! Databases that speak SQL: what the outbox and consumers need of them beside the guard.

use std::fmt::Write;
use std::future::Future;

use crate::{BoxError, Database};

/// A database that takes statements as text. Whoever implements [`Database`] for another driver of these three servers
/// adds this in a few lines.
pub trait SqlDatabase: Database {
    /// What it understands.
    const DIALECT: Dialect;

    /// Runs one statement in a local transaction, and says how many rows it affected. Where the transaction has ended
    /// already it fails, if that can be seen.
    ///
    /// # Errors
    /// When the statement fails.
    fn execute(tx: &mut Self::Tx, sql: String) -> impl Future<Output = Result<u64, BoxError>> + Send;

    /// Runs one query, whose columns are texts.
    ///
    /// # Errors
    /// When the query fails.
    fn query(tx: &mut Self::Tx, sql: String) -> impl Future<Output = Result<Vec<Columns>, BoxError>> + Send;
}

/// The columns of one row; `None` for NULL.
pub type Columns = Vec<Option<String>>;

/// Which SQL a database speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite 3.51.3 or newer.
    Sqlite,
    /// PostgreSQL 9.6 or newer.
    Postgres,
    /// MySQL 8.0 or MariaDB 10.6, or newer.
    Mysql,
}

impl Dialect {
    /// The moment by the database's own clock, in milliseconds. Not that of the transaction's begin.
    pub(crate) const fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            // Of the statement: what may change within it is looked up in no index.
            Self::Postgres => "CAST(extract(epoch FROM statement_timestamp()) * 1000 AS bigint)",
            // Of UTC: the session's time zone may turn its clock back.
            Self::Mysql => "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)",
        }
    }

    /// A text as a literal that means the same whatever the session's settings are.
    #[cfg_attr(not(feature = "initiator"), allow(dead_code, reason = "ids need no such care"))]
    pub(crate) fn text(self, text: &str) -> String {
        let mut hex = String::with_capacity(2 * text.len());
        for byte in text.bytes() {
            write!(hex, "{byte:02x}").expect("a String takes everything");
        }
        match self {
            Self::Sqlite => format!("CAST(x'{hex}' AS TEXT)"),
            Self::Postgres => format!("convert_from(decode('{hex}', 'hex'), 'UTF8')"),
            Self::Mysql => format!("CONVERT(x'{hex}' USING utf8mb4)"),
        }
    }

    /// A number as a text.
    #[cfg_attr(not(feature = "initiator"), allow(dead_code, reason = "only the outbox reads numbers"))]
    pub(crate) fn number(self, number: &str) -> String {
        match self {
            Self::Sqlite | Self::Postgres => format!("CAST({number} AS text)"),
            Self::Mysql => format!("CAST({number} AS char)"),
        }
    }

    /// What locks the rows that a query finds, and leaves out those that others have locked.
    pub(crate) const fn skip_locked(self) -> &'static str {
        match self {
            // There is one writer.
            Self::Sqlite => "",
            Self::Postgres | Self::Mysql => "FOR UPDATE SKIP LOCKED",
        }
    }

    /// Deletes at most so many of the rows for which that is true.
    pub(crate) fn delete(self, table: &str, when: &str, most: u32) -> String {
        let skip = self.skip_locked();
        match self {
            Self::Sqlite => format!(
                "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {when} LIMIT {most})"
            ),
            Self::Postgres => format!(
                "DELETE FROM {table} WHERE ctid = ANY (ARRAY(
                     SELECT ctid FROM {table} WHERE {when} LIMIT {most} {skip}))"
            ),
            Self::Mysql => format!("DELETE FROM {table} WHERE {when} LIMIT {most}"),
        }
    }
}

#[cfg(feature = "rusqlite")]
impl SqlDatabase for crate::SqliteDatabase {
    const DIALECT: Dialect = Dialect::Sqlite;

    async fn execute(tx: &mut Self::Tx, sql: String) -> Result<u64, BoxError> {
        if tx.is_autocommit() {
            return Err("the local transaction has ended already".into());
        }
        Ok(u64::try_from(tx.execute(&sql, [])?)?)
    }

    async fn query(tx: &mut Self::Tx, sql: String) -> Result<Vec<Columns>, BoxError> {
        if tx.is_autocommit() {
            return Err("the local transaction has ended already".into());
        }
        let mut statement = tx.prepare(&sql)?;
        let width = statement.column_count();
        let rows = statement.query_map([], |row| (0..width).map(|column| row.get(column)).collect())?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

#[cfg(feature = "tokio-postgres")]
impl SqlDatabase for crate::PgDatabase {
    const DIALECT: Dialect = Dialect::Postgres;

    async fn execute(tx: &mut Self::Tx, sql: String) -> Result<u64, BoxError> {
        use tokio_postgres::SimpleQueryMessage::CommandComplete;

        let said = tx.simple_query(&sql).await?;
        Ok(said.iter().map(|said| if let CommandComplete(rows) = said { *rows } else { 0 }).sum())
    }

    async fn query(tx: &mut Self::Tx, sql: String) -> Result<Vec<Columns>, BoxError> {
        use tokio_postgres::SimpleQueryMessage::Row;

        let said = tx.simple_query(&sql).await?;
        let rows = said.iter().filter_map(|said| if let Row(row) = said { Some(row) } else { None });
        Ok(rows.map(|row| (0..row.len()).map(|column| row.get(column).map(Into::into)).collect()).collect())
    }
}

#[cfg(feature = "mysql_async")]
impl SqlDatabase for crate::MysqlDatabase {
    const DIALECT: Dialect = Dialect::Mysql;

    async fn execute(tx: &mut Self::Tx, sql: String) -> Result<u64, BoxError> {
        mysql_async::prelude::Queryable::query_drop(&mut **tx, sql).await?;
        Ok(tx.affected_rows())
    }

    async fn query(tx: &mut Self::Tx, sql: String) -> Result<Vec<Columns>, BoxError> {
        let rows: Vec<mysql_async::Row> = mysql_async::prelude::Queryable::query(&mut **tx, sql).await?;
        let text = |value| mysql_async::from_value_opt(value).map_err(BoxError::from);
        rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect()
    }
}

#[cfg(feature = "sqlx-postgres")]
impl SqlDatabase for crate::SqlxPgDatabase {
    const DIALECT: Dialect = Dialect::Postgres;

    async fn execute(tx: &mut Self::Tx, sql: String) -> Result<u64, BoxError> {
        Ok(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut **tx).await?.rows_affected())
    }

    async fn query(tx: &mut Self::Tx, sql: String) -> Result<Vec<Columns>, BoxError> {
        let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).fetch_all(&mut **tx).await?;
        rows.iter().map(columns).collect()
    }
}

#[cfg(feature = "sqlx-mysql")]
impl SqlDatabase for crate::SqlxMysqlDatabase {
    const DIALECT: Dialect = Dialect::Mysql;

    async fn execute(tx: &mut Self::Tx, sql: String) -> Result<u64, BoxError> {
        Ok(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut **tx).await?.rows_affected())
    }

    async fn query(tx: &mut Self::Tx, sql: String) -> Result<Vec<Columns>, BoxError> {
        let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).fetch_all(&mut **tx).await?;
        rows.iter().map(columns).collect()
    }
}

/// Unchecked: texts in a binary collation are texts.
#[cfg(any(feature = "sqlx-mysql", feature = "sqlx-postgres"))]
fn columns<'r, R>(row: &'r R) -> Result<Columns, BoxError>
where
    R: sqlx::Row,
    usize: sqlx::ColumnIndex<R>,
    Option<String>: sqlx::Decode<'r, R::Database>,
{
    (0..row.len()).map(|column| Ok(row.try_get_unchecked(column)?)).collect()
}
