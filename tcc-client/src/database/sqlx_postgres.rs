//! The guard in PostgreSQL, through `sqlx`.

use std::ops::{Deref, DerefMut};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool, Postgres, Row as _};
use sqlx_core::transaction::TransactionManager;

use super::postgres_sql as sql;
use super::sqlx_pool::{Killing, Loan};
use super::trouble::trouble_of;
use crate::{BoxError, Call, Commit, Database, Row, Timestamp, Trouble};

type Transactions = <Postgres as sqlx::Database>::TransactionManager;

/// A PostgreSQL database, through the application's own pool of `sqlx`.
///
/// Clones are cheap and the same pool. It must be the primary: a guard that fails over to a replica without the
/// last commits forgets calls that it has answered.
///
/// A call waits no longer than [`LOCK_WAIT`](crate::limits::LOCK_WAIT) for a connection. One whose work was
/// interrupted, or may not have ended, is closed and never goes back to the pool: sqlx 0.9.0 itself takes back
/// connections with an open transaction whose `begin` was dropped. What a method does to its session rather than to
/// its transaction (`SET` without `LOCAL`, advisory locks, temporary tables) does stay; a pool can clean that up
/// with `after_release`.
///
/// ```no_run
/// # async fn f() -> Result<(), tcc_client::BoxError> {
/// use tcc_client::SqlxPgDatabase;
///
/// let pool = sqlx::PgPool::connect("postgres://stock@localhost/stock").await?;
/// let db = SqlxPgDatabase::new(pool);
/// db.create_schema().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct SqlxPgDatabase {
    pool: PgPool,
}

/// A local transaction. Derefs to its [`PgConnection`], for statements: `query.execute(&mut **tx)`. `begin` makes a
/// savepoint in it; do not commit or roll back the transaction itself.
///
/// It is READ COMMITTED, waits no longer than [`LOCK_WAIT`](crate::limits::LOCK_WAIT) for a lock, and the server
/// ends it by itself when its participant is cut off.
pub struct SqlxPgTx {
    loan: Loan<Postgres>,
}

impl SqlxPgDatabase {
    /// The schema of the guard, for those who run migrations of their own.
    pub const SCHEMA: &str = sql::SCHEMA;

    /// The database of a pool.
    #[must_use]
    pub const fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Creates the guard's tables, if they are not there. Several may do so at once.
    ///
    /// # Errors
    /// When it cannot connect, or the server refuses.
    pub async fn create_schema(&self) -> Result<(), BoxError> {
        let mut loan = Loan::from(&self.pool, kill).await?;
        sqlx::raw_sql(AssertSqlSafe(sql::create_schema())).execute(loan.conn_mut()).await?;
        loan.hand_back();
        Ok(())
    }
}

impl Database for SqlxPgDatabase {
    type Tx = SqlxPgTx;

    async fn begin(&self) -> Result<SqlxPgTx, BoxError> {
        let mut loan = Loan::from(&self.pool, kill).await?;
        // Not on the connection alone: sqlx counts how deep it is, so that a method's own begin is a savepoint.
        Transactions::begin(loan.conn_mut(), Some(sqlx::SqlSafeStr::into_sql_str(sql::BEGIN))).await?;
        let session = sqlx::query("SELECT pg_backend_pid()").fetch_one(loan.conn_mut()).await?;
        loan.is_session(u64::try_from(session.try_get::<i32, _>(0)?)?);
        Ok(SqlxPgTx { loan })
    }

    async fn insert(tx: &mut SqlxPgTx, call: &Call, row: &Row) -> Result<bool, BoxError> {
        let insert = sqlx::query(sql::INSERT).bind(call.gid.as_str()).bind(call.branch.as_str());
        let insert = insert.bind(row.state()).bind(row.kept()).bind(call.begun.as_millis());
        Ok(insert.execute(&mut **tx).await?.rows_affected() == 1)
    }

    async fn load(tx: &mut SqlxPgTx, call: &Call) -> Result<Option<Row>, BoxError> {
        let load = sqlx::query(sql::LOAD).bind(call.gid.as_str()).bind(call.branch.as_str());
        let columns = load.fetch_optional(&mut **tx).await?;
        columns.map(|row| Ok(Row::from_columns(row.try_get(0)?, row.try_get(1)?)?)).transpose()
    }

    async fn set(tx: &mut SqlxPgTx, call: &Call, row: &Row) -> Result<(), BoxError> {
        let set = sqlx::query(sql::SET).bind(call.gid.as_str()).bind(call.branch.as_str());
        let changed = set.bind(row.state()).bind(row.kept()).execute(&mut **tx).await?.rows_affected();
        if changed == 1 { Ok(()) } else { Err("the method has ended the local transaction".into()) }
    }

    async fn settled(tx: &mut SqlxPgTx) -> Result<Option<Timestamp>, BoxError> {
        let row = sqlx::query(sql::SETTLED).fetch_optional(&mut **tx).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.map(Timestamp::from_millis))
    }

    async fn forget(tx: &mut SqlxPgTx, settled: Timestamp, most: u32) -> Result<u32, BoxError> {
        let settled = settled.as_millis();
        sqlx::query(sql::KEEP_MARK).bind(settled).execute(&mut **tx).await?;
        let forget = sqlx::query(sql::FORGET).bind(settled).bind(i64::from(most));
        Ok(u32::try_from(forget.execute(&mut **tx).await?.rows_affected())?)
    }

    async fn commit(mut tx: SqlxPgTx) -> Result<Commit, BoxError> {
        tx.loan.is_finishing();
        match Transactions::commit(&mut tx).await {
            Ok(()) => {
                tx.loan.hand_back();
                Ok(Commit::Committed)
            }
            Err(error) if judge(&error) == Trouble::Conflict => Ok(Commit::Conflict),
            Err(error) => Err(error.into()),
        }
    }

    async fn rollback(mut tx: SqlxPgTx) -> Result<(), BoxError> {
        Transactions::rollback(&mut tx).await?;
        tx.loan.hand_back();
        Ok(())
    }

    fn trouble(error: &BoxError) -> Trouble {
        trouble_of(error, judge)
    }
}

fn judge(error: &sqlx::Error) -> Trouble {
    let state = error.as_database_error().and_then(|error| error.code());
    state.map_or(Trouble::Other, |state| sql::judge(&state))
}

fn kill(pool: PgPool, session: u64) -> Killing {
    Box::pin(async move {
        let mut conn = pool.connect_options().connect().await?;
        let kill = format!("SELECT pg_terminate_backend({session})");
        sqlx::raw_sql(AssertSqlSafe(kill)).execute(&mut conn).await?;
        conn.close().await
    })
}

impl Deref for SqlxPgTx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.loan.conn()
    }
}

impl DerefMut for SqlxPgTx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.loan.conn_mut()
    }
}
