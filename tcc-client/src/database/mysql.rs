//! The guard in MySQL and MariaDB, through `mysql_async`.

use std::error::Error;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, ServerError};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::mysql_sql as sql;
use super::trouble::{InUse, trouble_of};
use crate::limits::{CONNECT, CONNECTIONS, FINISH, LOCK_WAIT};
use crate::{
    BoxError, Call, Commit, Database, Decision, Row, Timestamp, Trouble, XaDatabase, XaError, XaName,
};

/// A database of a MySQL (8.0 or newer) or MariaDB (10.6) server, with a small pool of connections of its own.
///
/// Clones are cheap and the same pool. It must be the primary, with InnoDB and with
/// `innodb_flush_log_at_trx_commit = 1`, and with `sync_binlog = 1` if it has a binary log: a guard that loses its
/// last commits forgets calls that it has answered. A proxy must leave a session on its connection.
///
/// The participant's own tables must be InnoDB's too: what is written to others is there at once, and stays.
///
/// ```no_run
/// # async fn f() -> Result<(), tcc_client::BoxError> {
/// use mysql_async::Opts;
/// use tcc_client::MysqlDatabase;
///
/// let db = MysqlDatabase::new(Opts::from_url("mysql://stock:secret@localhost/stock")?).connections(16);
/// db.create_schema().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct MysqlDatabase {
    pool: Arc<Pool>,
    /// One permit per connection that may be in use.
    free: Arc<Semaphore>,
}

/// A local transaction. Derefs to its [`Conn`], for statements; do not commit or roll back through it, which
/// statements that define tables do by themselves, and do not leave a future of it unfinished.
///
/// It is READ COMMITTED and waits no longer than [`LOCK_WAIT`] for a lock. An `UPDATE` affects all rows that it
/// finds, as in other databases, also those that it leaves as they were. An error of one statement takes back that
/// statement alone, unless it is a deadlock's: a method that goes on after an error commits what it did before.
pub struct MysqlTx {
    conn: Option<Conn>,
    /// What a drop must not interrupt: the server may be committing.
    finishing: bool,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

struct Pool {
    opts: Opts,
    idle: Mutex<Vec<Conn>>,
    durable: Once,
}

/// The server did not take the connection in time.
#[derive(Debug, thiserror::Error)]
#[error("the server did not answer in time")]
struct NoAnswer;

/// An idle connection may wait as long as the server lets others.
const COMMIT: &str = "COMMIT AND NO CHAIN NO RELEASE; SET wait_timeout = DEFAULT";
const ROLLBACK: &str = "ROLLBACK AND NO CHAIN NO RELEASE; SET wait_timeout = DEFAULT";

impl MysqlDatabase {
    /// The schema of the guard, for those who run migrations of their own.
    pub const SCHEMA: &str = sql::SCHEMA;

    /// A database to be connected to when a call needs it.
    ///
    /// Of the options, `client_found_rows` is set (see [`MysqlTx`]), and those of mysql_async's own pool have no
    /// effect. With TLS the program takes the feature of mysql_async that has its provider.
    #[must_use]
    pub fn new(opts: Opts) -> Self {
        let opts = OptsBuilder::from_opts(opts).client_found_rows(true).into();
        let pool = Arc::new(Pool { opts, idle: Mutex::default(), durable: Once::new() });
        Self { pool, free: Arc::new(Semaphore::new(CONNECTIONS)) }
    }

    /// How many connections it may have, at least one; [`CONNECTIONS`] if this is not said. For a start: calls
    /// already begun keep the number they began with.
    #[must_use]
    pub fn connections(mut self, most: usize) -> Self {
        self.free = Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)));
        self
    }

    /// Creates the guard's tables, if they are not there. Several may do so at once.
    ///
    /// # Errors
    /// When it cannot connect, or the server refuses.
    pub async fn create_schema(&self) -> Result<(), BoxError> {
        let mut conn = self.pool.connect().await?;
        conn.query_drop(Self::SCHEMA).await?;
        Ok(conn.disconnect().await?)
    }
}

impl Database for MysqlDatabase {
    type Tx = MysqlTx;

    async fn begin(&self) -> Result<MysqlTx, BoxError> {
        let permit = timeout(LOCK_WAIT, self.free.clone().acquire_owned()).await.map_err(|_| InUse)??;
        let conn = loop {
            let Some(mut conn) = self.pool.pop() else {
                let mut conn = self.pool.connect().await?;
                conn.query_drop(begin()).await?;
                break conn;
            };
            match again(&mut conn).await {
                Ok(true) => break conn,
                Ok(false) => tracing::debug!("the server is too old to reset a session"),
                Err(error) => tracing::debug!(error = &error as &dyn Error, "an idle connection was dead"),
            }
        };
        Ok(MysqlTx { conn: Some(conn), finishing: false, pool: self.pool.clone(), _permit: permit })
    }

    async fn insert(tx: &mut MysqlTx, call: &Call, row: &Row) -> Result<bool, BoxError> {
        tx.query_drop(sql::insert(call, row)).await?;
        Ok(tx.last_insert_id().is_none())
    }

    async fn load(tx: &mut MysqlTx, call: &Call) -> Result<Option<Row>, BoxError> {
        let columns: Option<(String, Option<String>)> = tx.query_first(sql::load(call)).await?;
        columns.map(|(state, kept)| Ok(Row::from_columns(&state, kept)?)).transpose()
    }

    async fn set(tx: &mut MysqlTx, call: &Call, row: &Row) -> Result<(), BoxError> {
        match tx.query_drop(sql::set(call, row)).await {
            Ok(()) if tx.affected_rows() == 1 => Ok(()),
            Ok(()) => Err("the method has removed the guard row".into()),
            Err(mysql_async::Error::Server(error)) if error.code == sql::NO_SAVEPOINT => {
                Err("the method has ended the local transaction".into())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn settled(tx: &mut MysqlTx) -> Result<Option<Timestamp>, BoxError> {
        Ok(tx.query_first(sql::SETTLED).await?.map(Timestamp::from_millis))
    }

    async fn forget(tx: &mut MysqlTx, settled: Timestamp, most: u32) -> Result<u32, BoxError> {
        tx.query_drop(sql::keep_mark(settled)).await?;
        tx.query_drop(sql::forget(settled, most)).await?;
        Ok(u32::try_from(tx.affected_rows())?)
    }

    async fn commit(mut tx: MysqlTx) -> Result<Commit, BoxError> {
        tx.finishing = true;
        match tx.query_drop(COMMIT).await {
            Ok(()) => {
                tx.hand_back();
                Ok(Commit::Committed)
            }
            // Of a cluster, whose nodes find out only now that two of them have written the same row.
            Err(mysql_async::Error::Server(error)) if judge(&error) == Trouble::Conflict => {
                Ok(Commit::Conflict)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn rollback(mut tx: MysqlTx) -> Result<(), BoxError> {
        tx.query_drop(ROLLBACK).await?;
        tx.hand_back();
        Ok(())
    }

    fn trouble(error: &BoxError) -> Trouble {
        trouble_of(error, judge)
    }
}

impl XaDatabase for MysqlDatabase {
    const NOTES: &'static [&'static str] = sql::NOTES;

    fn beside(&self, most: usize) -> Self {
        self.clone().connections(most)
    }

    async fn place(tx: &mut MysqlTx) -> Result<String, BoxError> {
        let said: Option<(Option<String>, String)> = tx.query_first("SELECT DATABASE(), VERSION()").await?;
        let (database, version) = said.ok_or("it is always answered")?;
        if sql::is_too_old(&version) {
            return Err(XaError::TooOld(version).into());
        }
        database.ok_or_else(|| "the connection's options name no database".into())
    }

    async fn open(tx: &mut MysqlTx, name: &XaName) -> Result<(), BoxError> {
        Ok(tx.query_drop(sql::open(name)).await?)
    }

    async fn prepare(mut tx: MysqlTx, name: &XaName) -> Result<Commit, BoxError> {
        tx.finishing = true;
        let xid = sql::xid(name);
        match tx.query_drop(format!("XA END {xid}; XA PREPARE {xid}")).await {
            Ok(()) => {
                // Nobody else can end it before its session has left it. Of a session that is only reset, MariaDB says
                // that it has, and InnoDB goes on with the prepared transaction in it.
                if let Some(conn) = tx.conn.take()
                    && let Err(error) = conn.disconnect().await
                {
                    tracing::debug!(error = &error as &dyn Error, "a connection ended by itself");
                }
                Ok(Commit::Committed)
            }
            Err(mysql_async::Error::Server(error)) if judge(&error) == Trouble::Conflict => {
                Ok(Commit::Conflict)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn undo(mut tx: MysqlTx) -> Result<(), BoxError> {
        // Whatever state it is in. Where the server is too old for that, the connection is closed.
        if tx.reset().await? {
            tx.hand_back();
        }
        Ok(())
    }

    async fn end(mut tx: MysqlTx, name: &XaName, decision: Decision) -> Result<bool, BoxError> {
        // Without autocommit a session is never outside of a transaction, where alone that can be said.
        tx.query_drop(format!("{ROLLBACK}, autocommit = 1")).await?;
        tx.finishing = true;
        let end = match decision {
            Decision::Confirm => "COMMIT",
            Decision::Cancel => "ROLLBACK",
        };
        let ended = match tx.query_drop(format!("XA {end} {}", sql::xid(name))).await {
            Ok(()) => true,
            Err(mysql_async::Error::Server(error)) if error.code == sql::NO_SUCH_XA => false,
            Err(error) => return Err(error.into()),
        };
        tx.hand_back();
        Ok(ended)
    }

    async fn prepared(tx: &mut MysqlTx, place: &str) -> Result<Vec<(String, Option<Duration>)>, BoxError> {
        let rows: Vec<(i64, usize, usize, Vec<u8>)> = tx.query("XA RECOVER").await?;
        let ours = rows.into_iter().filter(|(format, ..)| *format == sql::FORMAT);
        let named = ours.filter_map(|(_, gtrid, bqual, data)| {
            let (gtrid, bqual) = (data.get(..gtrid)?, data.get(gtrid..gtrid + bqual)?);
            let (gtrid, bqual) = (std::str::from_utf8(gtrid).ok()?, std::str::from_utf8(bqual).ok()?);
            (bqual == place).then(|| (format!("{bqual}:{gtrid}"), None))
        });
        Ok(named.collect())
    }
}

fn judge(error: &ServerError) -> Trouble {
    sql::judge(error.code, &error.state)
}

/// In a session that was reset, after which MySQL may be back at the server's own character set.
fn begin() -> String {
    let (session, start) = (sql::SESSION, sql::START);
    format!("SET NAMES utf8mb4; {session}; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; {start}")
}

/// Begins in a session that may have been used. `false`: it cannot be told apart from a new one.
async fn again(conn: &mut Conn) -> Result<bool, mysql_async::Error> {
    let clean = conn.reset().await?;
    if clean {
        conn.query_drop(begin()).await?;
    }
    Ok(clean)
}

impl Pool {
    fn pop(&self) -> Option<Conn> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    async fn connect(&self) -> Result<Conn, BoxError> {
        let mut conn = timeout(CONNECT, Conn::new(self.opts.clone())).await.map_err(|_| NoAnswer)??;
        if !self.durable.is_completed() {
            // It cannot be set for a session.
            let flush: Option<u8> = conn.query_first("SELECT @@innodb_flush_log_at_trx_commit").await?;
            self.durable.call_once(|| {
                if flush != Some(1) {
                    tracing::warn!(
                        "innodb_flush_log_at_trx_commit is not 1: a crash may lose what was answered"
                    );
                }
            });
        }
        Ok(conn)
    }

    /// Ends what a connection is doing, from another one.
    async fn kill(self: Arc<Self>, id: u32) {
        let killing = async {
            let mut conn = self.connect().await?;
            conn.query_drop(format!("KILL CONNECTION {id}")).await?;
            Ok::<_, BoxError>(conn.disconnect().await?)
        };
        // Whether it arrives or not: the connection is closed already, which ends the transaction too.
        drop(timeout(FINISH, killing).await);
    }
}

impl MysqlTx {
    /// Makes the connection ready for another transaction. Only after this one has surely ended.
    fn hand_back(mut self) {
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(self.conn.take());
    }
}

impl Deref for MysqlTx {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        self.conn.as_ref().expect("handed back only by commit and rollback, which consume it")
    }
}

impl DerefMut for MysqlTx {
    fn deref_mut(&mut self) -> &mut Conn {
        self.conn.as_mut().expect("handed back only by commit and rollback, which consume it")
    }
}

impl Drop for MysqlTx {
    fn drop(&mut self) {
        // Not finished, so nobody can say what state it is in: it is closed, which rolls back.
        let Some(conn) = self.conn.take() else { return };
        let id = conn.id();
        drop(conn);
        // The server notices that only after the statement it is at; the locks should go sooner.
        if let (false, Ok(runtime)) = (self.finishing, Handle::try_current()) {
            runtime.spawn(self.pool.clone().kill(id));
        }
    }
}

impl std::fmt::Debug for MysqlDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MysqlDatabase").finish_non_exhaustive()
    }
}
