//! The guard in SQLite, through `rusqlite`.

use std::error::Error;
use std::future::Future;
use std::ops::Deref;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, ErrorCode, OptionalExtension, ffi, params};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::limits::LOCK_WAIT;
use crate::{BoxError, Call, Commit, Database, Row, Timestamp, Trouble};

/// The oldest SQLite that can be trusted: before it, a checkpoint that met a writer could corrupt the file.
const OLDEST: i32 = 3_051_003;

/// A SQLite database with one connection, which one call at a time has for itself: SQLite has one writer anyway.
///
/// Clones are cheap and the same database. Other connections to the file may read and write as they like; one that
/// holds the write lock for longer than [`LOCK_WAIT`] makes calls answer 425.
///
/// A participant's methods run on a thread that may block, so they can use the connection directly. Time-outs
/// cannot interrupt them there: one that never returns holds the database.
#[derive(Clone)]
pub struct SqliteDatabase {
    connection: Slot,
    turn: Arc<Semaphore>,
}

/// Empty while a transaction has the connection, and for ever after an error that leaves its file in doubt.
type Slot = Arc<Mutex<Option<Connection>>>;

/// A local transaction. Derefs to its [`Connection`], for statements; do not commit or roll back through it.
pub struct SqliteTx {
    connection: Option<Connection>,
    slot: Slot,
}

/// Why a database was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// SQLite itself is too old: before 3.51.3 it could corrupt a database in WAL mode.
    #[error("SQLite {0} can corrupt databases; 3.51.3 is the oldest to use")]
    TooOld(&'static str),
    /// A pragma that durability rests on did not take: its name, and what it stayed.
    #[error("the pragma {0} stays {1}")]
    Pragma(&'static str, String),
    /// SQLite refused.
    #[error("could not open the database")]
    Sqlite(#[from] rusqlite::Error),
}

impl SqliteDatabase {
    /// The schema of the guard, for those who run migrations of their own.
    pub const SCHEMA: &str = "\
CREATE TABLE IF NOT EXISTS tcc_guard (
    gid    TEXT    NOT NULL,
    branch TEXT    NOT NULL,
    state  TEXT    NOT NULL CHECK (state IN ('tried', 'refused', 'confirmed', 'cancelled')),
    kept   TEXT,
    begun  INTEGER NOT NULL,
    PRIMARY KEY (gid, branch)
) STRICT;
CREATE INDEX IF NOT EXISTS tcc_guard_begun ON tcc_guard (begun);
CREATE TABLE IF NOT EXISTS tcc_settled (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    settled INTEGER NOT NULL
) STRICT;
";

    /// Opens a file, and makes it durable: `journal_mode=WAL` and `synchronous=FULL`, set and read back, and what a crash
    /// left synced.
    ///
    /// # Errors
    /// When SQLite is too old or refuses, or one of the two does not take.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(LOCK_WAIT)?;
        let journal: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
        if journal != "wal" {
            return Err(OpenError::Pragma("journal_mode", journal));
        }
        connection.execute_batch("PRAGMA synchronous=FULL")?;
        let synchronous: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
        if synchronous != 2 {
            return Err(OpenError::Pragma("synchronous", synchronous.to_string()));
        }
        // A crash may have left commits that can be read and that no disk holds yet, and repeats are answered by them. A
        // checkpoint syncs them before it copies them, so a full disk does no harm.
        match connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            Err(error) if error.sqlite_error_code() != Some(ErrorCode::DiskFull) => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        Self::from_connection(connection)
    }

    /// Takes a connection as it is: one in memory, or with pragmas and functions of the application's own. It
    /// should have a busy time-out, and a file should be in WAL mode with `synchronous=FULL`, checkpointed once.
    ///
    /// # Errors
    /// When SQLite is too old.
    pub fn from_connection(connection: Connection) -> Result<Self, OpenError> {
        if rusqlite::version_number() < OLDEST {
            return Err(OpenError::TooOld(rusqlite::version()));
        }
        Ok(Self { connection: Arc::new(Mutex::new(Some(connection))), turn: Arc::new(Semaphore::new(1)) })
    }

    /// Creates the guard's tables, if they are not there.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub async fn create_schema(&self) -> Result<(), BoxError> {
        self.with(|connection| connection.execute_batch(Self::SCHEMA)).await
    }

    /// Uses the connection between two calls, outside any transaction, on a thread that may block: to create the
    /// application's tables, or to read them.
    ///
    /// # Errors
    /// When it is not its turn within [`LOCK_WAIT`], or SQLite refuses.
    pub async fn with<T, F>(&self, work: F) -> Result<T, BoxError>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let turn = self.turn().await?;
        let slot = self.connection.clone();
        blocking(turn, move || {
            // A transaction that `work` leaves open is rolled back like any other.
            let tx = SqliteTx { connection: Some(take(&slot)?), slot };
            Ok(work(&tx)?)
        })
        .await
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, BoxError> {
        match timeout(LOCK_WAIT, self.turn.clone().acquire_owned()).await {
            Ok(turn) => Ok(turn?),
            Err(_) => {
                let busy = ffi::Error::new(ffi::SQLITE_BUSY);
                Err(rusqlite::Error::SqliteFailure(busy, Some("other calls have the connection".into()))
                    .into())
            }
        }
    }
}

impl Database for SqliteDatabase {
    type Tx = SqliteTx;

    async fn begin(&self) -> Result<SqliteTx, BoxError> {
        let tx = SqliteTx { connection: Some(take(&self.connection)?), slot: self.connection.clone() };
        // IMMEDIATE: a transaction that reads first and writes later can fail half-way with BUSY_SNAPSHOT.
        tx.execute_batch("BEGIN IMMEDIATE")?;
        Ok(tx)
    }

    async fn insert(tx: &mut SqliteTx, call: &Call, row: &Row) -> Result<bool, BoxError> {
        let inserted = tx
            .prepare_cached(
                "INSERT INTO tcc_guard (gid, branch, state, kept, begun) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (gid, branch) DO NOTHING",
            )?
            .execute(params![
                call.gid.as_str(),
                call.branch.as_str(),
                row.state(),
                row.kept(),
                call.begun.as_millis()
            ])?;
        Ok(inserted == 1)
    }

    async fn load(tx: &mut SqliteTx, call: &Call) -> Result<Option<Row>, BoxError> {
        let columns: Option<(String, Option<String>)> = tx
            .prepare_cached("SELECT state, kept FROM tcc_guard WHERE gid = ?1 AND branch = ?2")?
            .query_row([call.gid.as_str(), call.branch.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(columns.map(|(state, kept)| Row::from_columns(&state, kept)).transpose()?)
    }

    async fn set(tx: &mut SqliteTx, call: &Call, row: &Row) -> Result<(), BoxError> {
        if tx.is_autocommit() {
            return Err("the method has ended the local transaction, or an error in it did".into());
        }
        let changed = tx
            .prepare_cached("UPDATE tcc_guard SET state = ?3, kept = ?4 WHERE gid = ?1 AND branch = ?2")?
            .execute(params![call.gid.as_str(), call.branch.as_str(), row.state(), row.kept()])?;
        if changed == 1 { Ok(()) } else { Err("the guard row is gone from its own transaction".into()) }
    }

    async fn settled(tx: &mut SqliteTx) -> Result<Option<Timestamp>, BoxError> {
        let settled = tx
            .prepare_cached("SELECT settled FROM tcc_settled")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(settled.map(Timestamp::from_millis))
    }

    async fn forget(tx: &mut SqliteTx, settled: Timestamp, most: u32) -> Result<u32, BoxError> {
        tx.execute(
            "INSERT INTO tcc_settled (id, settled) VALUES (1, ?1)
             ON CONFLICT (id) DO UPDATE SET settled = max(settled, excluded.settled)",
            [settled.as_millis()],
        )?;
        let forgotten = tx.execute(
            "DELETE FROM tcc_guard WHERE rowid IN
             (SELECT rowid FROM tcc_guard WHERE begun < ?1 ORDER BY begun LIMIT ?2)",
            (settled.as_millis(), most),
        )?;
        Ok(u32::try_from(forgotten)?)
    }

    async fn commit(mut tx: SqliteTx) -> Result<Commit, BoxError> {
        match tx.execute_batch("COMMIT") {
            Ok(()) => Ok(Commit::Committed),
            // Still open, so surely not committed: dropping it rolls back.
            Err(error) if is_busy(&error) && !tx.is_autocommit() => Ok(Commit::Conflict),
            Err(error) => {
                if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
                    // What the file holds is not what can be read until it was opened and recovered anew, so no
                    // later answer could be trusted.
                    tx.connection = None;
                }
                Err(error.into())
            }
        }
    }

    async fn rollback(tx: SqliteTx) -> Result<(), BoxError> {
        drop(tx);
        Ok(())
    }

    fn trouble(error: &BoxError) -> Trouble {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&**error);
        while let Some(error) = cause {
            match error.downcast_ref::<rusqlite::Error>() {
                // The busy time-out is over when this is seen, so it was a wait.
                Some(error) if is_busy(error) => return Trouble::Locked,
                Some(_) | None => cause = error.source(),
            }
        }
        Trouble::Other
    }

    async fn run<F>(&self, unit: F) -> Result<F::Output, BoxError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        // The turn before the thread: calls that wait for it must not use up the threads.
        let turn = self.turn().await?;
        let span = tracing::Span::current();
        let runtime = Handle::current();
        blocking(turn, move || span.in_scope(|| Ok(runtime.block_on(unit)))).await
    }
}

async fn blocking<T, F>(turn: OwnedSemaphorePermit, work: F) -> Result<T, BoxError>
where
    F: FnOnce() -> Result<T, BoxError> + Send + 'static,
    T: Send + 'static,
{
    let work = move || {
        let _turn = turn;
        work()
    };
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(error) => Err(error.into()),
        },
    }
}

fn take(slot: &Slot) -> Result<Connection, BoxError> {
    let connection = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    connection
        .ok_or_else(|| "the connection was given up after an I/O error; restart to recover the file".into())
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

impl Deref for SqliteTx {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("given back only by drop and commit, which consume it")
    }
}

impl Drop for SqliteTx {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if !connection.is_autocommit() && connection.execute_batch("ROLLBACK").is_err() {
            // Never hand on a connection with work left in it: closing it rolls back as well.
            return;
        }
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }
}

impl std::fmt::Debug for SqliteDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteDatabase").finish_non_exhaustive()
    }
}
