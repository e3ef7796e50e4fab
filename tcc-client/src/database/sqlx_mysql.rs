//! The guard in MySQL and MariaDB, through `sqlx`.

use std::error::Error;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Once};

use sqlx::mysql::MySqlDatabaseError;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, MySql, MySqlConnection, MySqlPool, RawSql, Row as _};
use sqlx_core::transaction::TransactionManager;

use super::mysql_sql as sql;
use super::sqlx_pool::{Killing, Loan};
use super::trouble::trouble_of;
use crate::{BoxError, Call, Commit, Database, Row, Timestamp, Trouble};

type Transactions = <MySql as sqlx::Database>::TransactionManager;

/// A database of a MySQL or MariaDB server, through the application's own pool of `sqlx`.
///
/// Clones are cheap and the same pool. It must be the primary, with InnoDB and with
/// `innodb_flush_log_at_trx_commit = 1`, and with `sync_binlog = 1` if it has a binary log: a guard that loses its
/// last commits forgets calls that it has answered. A proxy must leave a session on its connection. The
/// participant's own tables must be InnoDB's too: what is written to others is there at once, and stays.
///
/// A call waits no longer than [`LOCK_WAIT`](crate::limits::LOCK_WAIT) for a connection. One whose work was
/// interrupted, or may not have ended, is closed and never goes back to the pool: sqlx 0.9.0 itself takes back
/// connections with an open transaction whose `begin` was dropped. What a method does to its session rather than to
/// its transaction does stay; a pool can clean that up with `after_release`.
///
/// With MySQL 8 and its usual passwords the connection needs TLS, or the feature `mysql-rsa` of sqlx.
///
/// ```no_run
/// # async fn f() -> Result<(), tcc_client::BoxError> {
/// use tcc_client::SqlxMysqlDatabase;
///
/// let pool = sqlx::MySqlPool::connect("mysql://stock:secret@localhost/stock").await?;
/// let db = SqlxMysqlDatabase::new(pool);
/// db.create_schema().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct SqlxMysqlDatabase {
    pool: MySqlPool,
    durable: Arc<Once>,
}

/// A local transaction. Derefs to its [`MySqlConnection`], for statements: `query.execute(&mut **tx)`. `begin` makes
/// a savepoint in it; do not commit or roll back the transaction itself, which statements that define tables do.
///
/// It is READ COMMITTED and waits no longer than [`LOCK_WAIT`](crate::limits::LOCK_WAIT) for a lock. An error of one
/// statement takes back that statement alone, unless it is a deadlock's: a method that goes on after an error
/// commits what it did before.
pub struct SqlxMysqlTx {
    loan: Loan<MySql>,
}

/// What is changed for the session, and not for the transaction alone, is put back by [`RESTORE`].
const SAVE: &str = "\
SET @tcc_autocommit = @@autocommit, @tcc_row_wait = @@innodb_lock_wait_timeout, @tcc_lock_wait = @@lock_wait_timeout,
    @tcc_idle = @@wait_timeout";
const RESTORE: &str = "\
SET autocommit = @tcc_autocommit, innodb_lock_wait_timeout = @tcc_row_wait, lock_wait_timeout = @tcc_lock_wait,
    wait_timeout = @tcc_idle";

impl SqlxMysqlDatabase {
    /// The schema of the guard, for those who run migrations of their own.
    pub const SCHEMA: &str = sql::SCHEMA;

    /// The database of a pool.
    #[must_use]
    pub fn new(pool: MySqlPool) -> Self {
        Self { pool, durable: Arc::new(Once::new()) }
    }

    /// Creates the guard's tables, if they are not there. Several may do so at once.
    ///
    /// # Errors
    /// When it cannot connect, or the server refuses.
    pub async fn create_schema(&self) -> Result<(), BoxError> {
        let mut loan = Loan::from(&self.pool, kill).await?;
        sqlx::raw_sql(sql::SCHEMA).execute(loan.conn_mut()).await?;
        loan.hand_back();
        Ok(())
    }

    fn warn_unless_durable(&self, flush: u8) {
        self.durable.call_once(|| {
            if flush != 1 {
                tracing::warn!("innodb_flush_log_at_trx_commit is not 1: a crash may lose what was answered");
            }
        });
    }
}

impl Database for SqlxMysqlDatabase {
    type Tx = SqlxMysqlTx;

    async fn begin(&self) -> Result<SqlxMysqlTx, BoxError> {
        let mut loan = Loan::from(&self.pool, kill).await?;
        let session = "SELECT CAST(CONNECTION_ID() AS char), CAST(@@innodb_flush_log_at_trx_commit AS char)";
        let prepare = raw(format!("{SAVE}; {}; {session}", sql::SESSION));
        let row = prepare.fetch_one(loan.conn_mut()).await?;
        loan.is_session(row.try_get_unchecked::<String, _>(0)?.parse()?);
        self.warn_unless_durable(row.try_get_unchecked::<String, _>(1)?.parse()?);
        let begin = format!("SET TRANSACTION ISOLATION LEVEL READ COMMITTED; {}", sql::START);
        // Not on the connection alone: sqlx counts how deep it is, so that a method's own begin is a savepoint.
        let begin = sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(begin));
        Transactions::begin(loan.conn_mut(), Some(begin)).await?;
        Ok(SqlxMysqlTx { loan })
    }

    async fn insert(tx: &mut SqlxMysqlTx, call: &Call, row: &Row) -> Result<bool, BoxError> {
        Ok(raw(sql::insert(call, row)).execute(&mut **tx).await?.last_insert_id() == 0)
    }

    async fn load(tx: &mut SqlxMysqlTx, call: &Call) -> Result<Option<Row>, BoxError> {
        let columns = raw(sql::load(call)).fetch_optional(&mut **tx).await?;
        // Unchecked: texts in a binary collation are texts.
        let row = columns.map(|row| {
            let state: String = row.try_get_unchecked(0)?;
            Ok::<_, BoxError>(Row::from_columns(&state, row.try_get_unchecked(1)?)?)
        });
        row.transpose()
    }

    async fn set(tx: &mut SqlxMysqlTx, call: &Call, row: &Row) -> Result<(), BoxError> {
        match raw(sql::set(call, row)).execute(&mut **tx).await {
            Ok(done) if done.rows_affected() == 1 => Ok(()),
            Ok(_) => Err("the method has removed the guard row".into()),
            Err(error) if number(&error) == Some(sql::NO_SAVEPOINT) => {
                Err("the method has ended the local transaction".into())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn settled(tx: &mut SqlxMysqlTx) -> Result<Option<Timestamp>, BoxError> {
        let row = sqlx::raw_sql(sql::SETTLED).fetch_optional(&mut **tx).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.map(Timestamp::from_millis))
    }

    async fn forget(tx: &mut SqlxMysqlTx, settled: Timestamp, most: u32) -> Result<u32, BoxError> {
        raw(sql::keep_mark(settled)).execute(&mut **tx).await?;
        Ok(u32::try_from(raw(sql::forget(settled, most)).execute(&mut **tx).await?.rows_affected())?)
    }

    async fn commit(mut tx: SqlxMysqlTx) -> Result<Commit, BoxError> {
        tx.loan.is_finishing();
        match Transactions::commit(&mut tx).await {
            Ok(()) => {
                tx.hand_back();
                Ok(Commit::Committed)
            }
            // Of a cluster, whose nodes find out only now that two of them have written the same row.
            Err(error) if judge(&error) == Trouble::Conflict => Ok(Commit::Conflict),
            Err(error) => Err(error.into()),
        }
    }

    async fn rollback(mut tx: SqlxMysqlTx) -> Result<(), BoxError> {
        Transactions::rollback(&mut tx).await?;
        tx.hand_back();
        Ok(())
    }

    fn trouble(error: &BoxError) -> Trouble {
        trouble_of(error, judge)
    }
}

fn raw(sql: String) -> RawSql {
    sqlx::raw_sql(AssertSqlSafe(sql))
}

fn number(error: &sqlx::Error) -> Option<u16> {
    Some(error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?.number())
}

fn judge(error: &sqlx::Error) -> Trouble {
    let state = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
    number(error).map_or(Trouble::Other, |number| sql::judge(number, &state))
}

fn kill(pool: MySqlPool, session: u64) -> Killing {
    Box::pin(async move {
        let mut conn = pool.connect_options().connect().await?;
        raw(format!("KILL CONNECTION {session}")).execute(&mut conn).await?;
        conn.close().await
    })
}

impl SqlxMysqlTx {
    /// Beside the call, which is answered already.
    fn hand_back(self) {
        let mut loan = self.loan;
        tokio::spawn(async move {
            match sqlx::raw_sql(RESTORE).execute(loan.conn_mut()).await {
                Ok(_) => loan.hand_back(),
                Err(error) => tracing::debug!(error = &error as &dyn Error, "gave a connection up"),
            }
        });
    }
}

impl Deref for SqlxMysqlTx {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        self.loan.conn()
    }
}

impl DerefMut for SqlxMysqlTx {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        self.loan.conn_mut()
    }
}
