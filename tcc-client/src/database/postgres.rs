//! The guard in PostgreSQL, through `tokio-postgres`.

use std::error::Error;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{CancelToken, Client, Config, Socket, Statement};

use super::postgres_sql as sql;
use super::trouble::{InUse, trouble_of};
use crate::limits::{CONNECT, CONNECTIONS, FINISH, LOCK_WAIT};
use crate::{
    BoxError, Call, Commit, Database, Decision, Row, SqlDatabase, Timestamp, Trouble, XaDatabase, XaError,
    XaName,
};

/// A PostgreSQL database with a small pool of connections of its own.
///
/// Clones are cheap and the same pool. It must be the primary: a guard that fails over to a replica without the
/// last commits forgets calls that it has answered. Behind a pooler, use session mode, or one that knows prepared
/// statements.
///
/// ```no_run
/// # async fn f() -> Result<(), tcc_client::BoxError> {
/// use tcc_client::PgDatabase;
///
/// let db = PgDatabase::new("postgres://stock@localhost/stock".parse()?, tokio_postgres::NoTls).connections(16);
/// db.create_schema().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PgDatabase {
    pool: Arc<Pool>,
    /// One permit per connection that may be in use.
    free: Arc<Semaphore>,
}

/// A local transaction. Derefs to its [`Client`], for statements; do not commit or roll back through it, and do
/// not leave a future of it unfinished.
///
/// It is READ COMMITTED, waits no longer than [`LOCK_WAIT`] for a lock, and the server ends it by itself when its
/// participant is cut off.
pub struct PgTx {
    session: Option<Session>,
    /// What a drop must not interrupt: the server may be committing.
    finishing: bool,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

struct Pool {
    connect: Box<dyn Fn() -> BoxFuture<Connected> + Send + Sync>,
    /// Interrupts what a connection is doing, from another one.
    interrupt: Box<dyn Fn(CancelToken) -> BoxFuture<()> + Send + Sync>,
    idle: Mutex<Vec<Session>>,
}

/// A connection, with the statements of the guard prepared.
struct Session {
    client: Client,
    driver: AbortHandle,
    insert: Statement,
    load: Statement,
    set: Statement,
    settled: Statement,
}

type Connected = Result<(Client, AbortHandle), BoxError>;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Undoes what a method may have done to the session rather than to its transaction.
const CLEAN: &str = "\
CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all();
DISCARD TEMP; DISCARD SEQUENCES";

impl PgDatabase {
    /// The schema of the guard, for those who run migrations of their own.
    pub const SCHEMA: &str = sql::SCHEMA;

    /// A database to be connected to when a call needs it.
    #[must_use]
    pub fn new<T>(mut config: Config, tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        let tls_too = tls.clone();
        let connect = move || -> BoxFuture<_> {
            let (config, tls) = (config.clone(), tls.clone());
            Box::pin(async move {
                let (client, connection) = config.connect(tls).await?;
                let driver = tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(error = &error as &dyn Error, "a connection ended");
                    }
                });
                Ok((client, driver.abort_handle()))
            })
        };
        let interrupt = move |token: CancelToken| -> BoxFuture<()> {
            let tls = tls_too.clone();
            // Whether it arrives or not: the connection is closed already, which ends the transaction too.
            Box::pin(async move { drop(timeout(FINISH, token.cancel_query(tls)).await) })
        };
        let (connect, interrupt) = (Box::new(connect), Box::new(interrupt));
        let pool = Arc::new(Pool { connect, interrupt, idle: Mutex::default() });
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
        let (client, driver) = (self.pool.connect)().await?;
        let created = client.batch_execute(&sql::create_schema()).await;
        driver.abort();
        Ok(created?)
    }
}

impl Database for PgDatabase {
    type Tx = PgTx;

    async fn begin(&self) -> Result<PgTx, BoxError> {
        let permit = timeout(LOCK_WAIT, self.free.clone().acquire_owned()).await.map_err(|_| InUse)??;
        let session = loop {
            let Some(session) = self.pool.pop() else {
                let session = self.pool.session().await?;
                session.client.batch_execute(sql::BEGIN).await?;
                break session;
            };
            // Two batches, sent together: the first must not be part of the transaction.
            let clean = session.client.batch_execute(CLEAN);
            match try_join(clean, session.client.batch_execute(sql::BEGIN)).await {
                Ok(_) => break session,
                Err(error) => tracing::debug!(error = &error as &dyn Error, "an idle connection was dead"),
            }
        };
        Ok(PgTx { session: Some(session), finishing: false, pool: self.pool.clone(), _permit: permit })
    }

    async fn insert(tx: &mut PgTx, call: &Call, row: &Row) -> Result<bool, BoxError> {
        let session = tx.session();
        let (gid, branch, begun) = (call.gid.as_str(), call.branch.as_str(), call.begun.as_millis());
        let inserted = session
            .client
            .execute(&session.insert, &[&gid, &branch, &row.state(), &row.kept(), &begun])
            .await?;
        Ok(inserted == 1)
    }

    async fn load(tx: &mut PgTx, call: &Call) -> Result<Option<Row>, BoxError> {
        let session = tx.session();
        let columns =
            session.client.query_opt(&session.load, &[&call.gid.as_str(), &call.branch.as_str()]).await?;
        columns.map(|row| Ok(Row::from_columns(row.try_get(0)?, row.try_get(1)?)?)).transpose()
    }

    async fn set(tx: &mut PgTx, call: &Call, row: &Row) -> Result<(), BoxError> {
        let session = tx.session();
        let (gid, branch) = (call.gid.as_str(), call.branch.as_str());
        let changed =
            session.client.execute(&session.set, &[&gid, &branch, &row.state(), &row.kept()]).await?;
        if changed == 1 { Ok(()) } else { Err("the method has ended the local transaction".into()) }
    }

    async fn settled(tx: &mut PgTx) -> Result<Option<Timestamp>, BoxError> {
        let session = tx.session();
        let row = session.client.query_opt(&session.settled, &[]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.map(Timestamp::from_millis))
    }

    async fn forget(tx: &mut PgTx, settled: Timestamp, most: u32) -> Result<u32, BoxError> {
        let settled = settled.as_millis();
        tx.execute(sql::KEEP_MARK, &[&settled]).await?;
        Ok(u32::try_from(tx.execute(sql::FORGET, &[&settled, &i64::from(most)]).await?)?)
    }

    async fn commit(mut tx: PgTx) -> Result<Commit, BoxError> {
        tx.finishing = true;
        match tx.batch_execute("COMMIT").await {
            Ok(()) => {
                tx.hand_back();
                Ok(Commit::Committed)
            }
            Err(error) if judge(&error) == Trouble::Conflict => Ok(Commit::Conflict),
            Err(error) => Err(error.into()),
        }
    }

    async fn rollback(tx: PgTx) -> Result<(), BoxError> {
        tx.batch_execute("ROLLBACK").await?;
        tx.hand_back();
        Ok(())
    }

    fn trouble(error: &BoxError) -> Trouble {
        trouble_of(error, judge)
    }
}

impl XaDatabase for PgDatabase {
    const NOTES: &'static [&'static str] = sql::NOTES;

    fn beside(&self, most: usize) -> Self {
        self.clone().connections(most)
    }

    async fn place(tx: &mut PgTx) -> Result<String, BoxError> {
        let row = tx.query_one(sql::PLACE, &[]).await?;
        if row.try_get::<_, i32>(1)? == 0 {
            return Err(XaError::Disabled.into());
        }
        row.try_get::<_, Option<String>>(0)?.ok_or_else(|| "the guard's tables are not there yet".into())
    }

    async fn open(_: &mut PgTx, _: &XaName) -> Result<(), BoxError> {
        Ok(())
    }

    async fn prepare(mut tx: PgTx, name: &XaName) -> Result<Commit, BoxError> {
        tx.finishing = true;
        match tx.batch_execute(&format!("PREPARE TRANSACTION '{name}'")).await {
            Ok(()) => {
                tx.hand_back();
                Ok(Commit::Committed)
            }
            Err(error) if judge(&error) == Trouble::Conflict => Ok(Commit::Conflict),
            Err(error) => Err(match error.code().map(SqlState::code) {
                // Only of a server that was told so since this process asked it.
                Some(sql::NOT_NOW) => XaError::Disabled.into(),
                Some(sql::NO_ROOM) => XaError::Full.into(),
                _ => error.into(),
            }),
        }
    }

    async fn undo(tx: PgTx) -> Result<(), BoxError> {
        Self::rollback(tx).await
    }

    async fn end(mut tx: PgTx, name: &XaName, decision: Decision) -> Result<bool, BoxError> {
        // On its own: what ends a prepared transaction must stand in none, also not in that of a batch.
        tx.batch_execute("ROLLBACK").await?;
        tx.finishing = true;
        let end = match decision {
            Decision::Confirm => "COMMIT",
            Decision::Cancel => "ROLLBACK",
        };
        match tx.batch_execute(&format!("{end} PREPARED '{name}'")).await {
            Ok(()) => {}
            Err(error) => match error.code().map(SqlState::code) {
                Some(sql::NO_SUCH | sql::NOT_NOW) => {
                    tx.hand_back();
                    return Ok(false);
                }
                _ => return Err(error.into()),
            },
        }
        tx.hand_back();
        Ok(true)
    }

    async fn prepared(tx: &mut PgTx, place: &str) -> Result<Vec<(String, Option<Duration>)>, BoxError> {
        let rows = Self::query(tx, sql::prepared(place)).await?;
        let named = rows.into_iter().map(|columns| {
            let [name, age] = <[_; 2]>::try_from(columns).map_err(|_| "there are two columns")?;
            let millis: i64 = age.ok_or("it has a moment")?.parse()?;
            let age = Duration::from_millis(millis.max(0).unsigned_abs());
            Ok((name.ok_or("it has a name")?, Some(age)))
        });
        named.collect()
    }
}

fn judge(error: &tokio_postgres::Error) -> Trouble {
    error.code().map_or(Trouble::Other, |state| sql::judge(state.code()))
}

impl Pool {
    fn pop(&self) -> Option<Session> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    async fn session(&self) -> Result<Session, BoxError> {
        let (client, driver) = (self.connect)().await?;
        Ok(Session {
            insert: client.prepare(sql::INSERT).await?,
            load: client.prepare(sql::LOAD).await?,
            set: client.prepare(sql::SET).await?,
            settled: client.prepare(sql::SETTLED).await?,
            client,
            driver,
        })
    }
}

impl PgTx {
    fn session(&self) -> &Session {
        self.session.as_ref().expect("handed back only by commit and rollback, which consume it")
    }

    /// Makes the connection ready for another transaction. Only after this one has surely ended.
    fn hand_back(mut self) {
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(self.session.take());
    }
}

impl Deref for PgTx {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.session().client
    }
}

impl Drop for PgTx {
    fn drop(&mut self) {
        // Not finished, so nobody can say what state it is in: it is closed, which rolls back.
        let Some(session) = self.session.take() else { return };
        let token = session.client.cancel_token();
        drop(session);
        // The server notices that only after the statement it is at; the locks should go sooner.
        if let (false, Ok(runtime)) = (self.finishing, Handle::try_current()) {
            runtime.spawn((self.pool.interrupt)(token));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Otherwise the driver would wait for what the server is at, and only then hang up.
        self.driver.abort();
    }
}

impl std::fmt::Debug for PgDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgDatabase").finish_non_exhaustive()
    }
}
