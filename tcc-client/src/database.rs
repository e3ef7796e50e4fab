//! What the guard needs of a database, and one adapter per database.

use std::fmt;
use std::future::Future;

use crate::{BoxError, Call, Timestamp};

#[cfg(feature = "mysql_async")]
pub(crate) mod mysql;
#[cfg(any(feature = "mysql_async", feature = "sqlx-mysql"))]
mod mysql_sql;
#[cfg(feature = "tokio-postgres")]
pub(crate) mod postgres;
#[cfg(any(feature = "tokio-postgres", feature = "sqlx-postgres"))]
mod postgres_sql;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "rusqlite")]
pub(crate) mod sqlite;
#[cfg(feature = "sqlx-mysql")]
pub(crate) mod sqlx_mysql;
#[cfg(any(feature = "sqlx-mysql", feature = "sqlx-postgres"))]
mod sqlx_pool;
#[cfg(feature = "sqlx-postgres")]
pub(crate) mod sqlx_postgres;
#[cfg(any(
    feature = "mysql_async",
    feature = "redis",
    feature = "sqlx-mysql",
    feature = "sqlx-postgres",
    feature = "tokio-postgres"
))]
mod trouble;
pub(crate) mod unguarded;
pub(crate) mod xa;

/// A database that can hold a guard: one row per (gid, branch), written in the same local transaction as the
/// participant's own rows.
///
/// Each adapter is a file of this module with these methods in this order; read one before writing another. The
/// promises of the guard rest on `insert` and `load`: both must leave the row **locked until the transaction
/// ends**, and an `insert` must wait for a transaction that is inserting the same key. Where there are no locks, the
/// commit must come to a [`Conflict`](Commit::Conflict) if the row is not as they found it, or the mark bars it.
pub trait Database: Clone + Send + Sync + 'static {
    /// A local transaction that owns its connection. Dropped without a commit it rolls back: at once, or by giving
    /// its connection up. It must never hand on a connection with work left in it.
    type Tx: Send;

    /// Begins a local transaction.
    ///
    /// # Errors
    /// When there is no connection to be had; see [`trouble`](Self::trouble).
    fn begin(&self) -> impl Future<Output = Result<Self::Tx, BoxError>> + Send;

    /// Inserts the guard row of a call. `false`: there is one already. The first statement of a transaction.
    ///
    /// # Errors
    /// When the statement fails.
    fn insert(
        tx: &mut Self::Tx,
        call: &Call,
        row: &Row,
    ) -> impl Future<Output = Result<bool, BoxError>> + Send;

    /// Reads the guard row of a call, and locks it.
    ///
    /// # Errors
    /// When the statement fails, or what it reads is no guard row.
    fn load(tx: &mut Self::Tx, call: &Call) -> impl Future<Output = Result<Option<Row>, BoxError>> + Send;

    /// Replaces the guard row of a call. The guard does so after every method of the participant, so this is also
    /// where a transaction must be found out that the method has broken or ended.
    ///
    /// # Errors
    /// When the statement fails, or there is no such row.
    fn set(tx: &mut Self::Tx, call: &Call, row: &Row) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Commits, durably.
    ///
    /// # Errors
    /// When nobody knows whether it was committed.
    fn commit(tx: Self::Tx) -> impl Future<Output = Result<Commit, BoxError>> + Send;

    /// Rolls back, and makes the connection ready for the next transaction.
    ///
    /// # Errors
    /// When the connection is broken; the transaction will have no effect all the same.
    fn rollback(tx: Self::Tx) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// The mark that [`forget`](Self::forget) keeps, as it is committed at this moment: not at the begin of the
    /// transaction, nor at the begin of an `insert` that waited. Without a lock, since every first try reads it.
    ///
    /// # Errors
    /// When the statement fails.
    fn settled(_tx: &mut Self::Tx) -> impl Future<Output = Result<Option<Timestamp>, BoxError>> + Send {
        async { Ok(None) }
    }

    /// Keeps a mark, unless a later one is kept already, and deletes guard rows of transactions that began **before**
    /// it: at most `most`, the oldest first, leaving out those that others have locked if it can. Returns how many.
    ///
    /// Mark and deletion are committed together, so that whoever finds a row missing finds the mark. An adapter that
    /// has neither this nor [`settled`](Self::settled) keeps every row.
    ///
    /// # Errors
    /// When a statement fails.
    fn forget(
        _tx: &mut Self::Tx,
        _settled: Timestamp,
        _most: u32,
    ) -> impl Future<Output = Result<u32, BoxError>> + Send {
        async { Ok(0) }
    }

    /// What an error of one of these methods, or of the participant's own statements, calls for.
    fn trouble(_error: &BoxError) -> Trouble {
        Trouble::Other
    }

    /// Runs one local transaction from begin to end. An adapter whose calls block the thread does it elsewhere.
    ///
    /// # Errors
    /// When it could not begin; nothing was run.
    fn run<F>(&self, unit: F) -> impl Future<Output = Result<F::Output, BoxError>> + Send
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        async move { Ok(unit.await) }
    }
}

/// What a commit came to, when that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Commit {
    /// Committed.
    Committed,
    /// Surely rolled back, because of a concurrent transaction: run it again from the start.
    Conflict,
    /// Surely rolled back, because what a try was to do turned out impossible, for this reason.
    Refused(String),
}

/// What an error calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A deadlock or a serialization failure: roll back and run the whole transaction again.
    Conflict,
    /// Something waited too long for a lock or a connection: roll back and let the caller ask again soon.
    Locked,
    /// Anything else: roll back and say that the outcome is unknown.
    Other,
}

/// What the guard knows of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// Its try was accepted; or is being run by the transaction that inserted this row.
    Tried {
        /// What the try replied, as JSON, for its repeats.
        reply: Option<String>,
    },
    /// Its try was refused. There is nothing to confirm or to cancel.
    Refused {
        /// What the try gave as its reason, for its repeats.
        reason: String,
    },
    /// It was confirmed.
    Confirmed {
        /// What the try had replied: it may still be repeated.
        reply: Option<String>,
    },
    /// It was cancelled, perhaps before its try.
    Cancelled,
}

/// A row that no guard has written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the guard row has the state {0:?}, which this version does not know")]
pub struct BadRow(String);

impl Row {
    /// The word in the column `state`.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        match self {
            Self::Tried { .. } => "tried",
            Self::Refused { .. } => "refused",
            Self::Confirmed { .. } => "confirmed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The text in the column `kept`: a reply or a reason.
    #[must_use]
    pub fn kept(&self) -> Option<&str> {
        match self {
            Self::Tried { reply } | Self::Confirmed { reply } => reply.as_deref(),
            Self::Refused { reason } => Some(reason),
            Self::Cancelled => None,
        }
    }

    /// The row in those two columns.
    ///
    /// ```
    /// use tcc_client::Row;
    ///
    /// let row = Row::Refused { reason: "no funds".into() };
    /// assert_eq!(Row::from_columns(row.state(), row.kept().map(Into::into)), Ok(row));
    /// ```
    ///
    /// # Errors
    /// When the state is none that [`state`](Self::state) returns.
    pub fn from_columns(state: &str, kept: Option<String>) -> Result<Self, BadRow> {
        match state {
            "tried" => Ok(Self::Tried { reply: kept }),
            "refused" => Ok(Self::Refused { reason: kept.unwrap_or_default() }),
            "confirmed" => Ok(Self::Confirmed { reply: kept }),
            "cancelled" => Ok(Self::Cancelled),
            _ => Err(BadRow(state.into())),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.state())
    }
}
