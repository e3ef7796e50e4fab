//! A connection of a pool of `sqlx`, which takes connections back with work left in them unless it is stopped.

use std::future::Future;
use std::pin::Pin;

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::trouble::InUse;
use crate::BoxError;
use crate::limits::{FINISH, LOCK_WAIT};

/// A connection on loan. Unless it is [handed back](Self::hand_back) it is closed, whatever future of it was dropped
/// and wherever that was: a `begin` too, whose transaction sqlx 0.9.0 would leave open in the pool.
pub(super) struct Loan<DB: Database> {
    conn: Option<PoolConnection<DB>>,
    pool: Pool<DB>,
    /// What the server calls it, once it has said so, and until a drop must not interrupt it any more: the server may
    /// be committing.
    session: Option<u64>,
    kill: Kill<DB>,
}

/// Ends what a closed connection is still doing, from another one: not of the pool, which whoever waits for that work
/// may have used up.
pub(super) type Kill<DB> = fn(Pool<DB>, u64) -> Killing;

pub(super) type Killing = Pin<Box<dyn Future<Output = Result<(), sqlx::Error>> + Send>>;

impl<DB: Database> Loan<DB> {
    pub(super) async fn from(pool: &Pool<DB>, kill: Kill<DB>) -> Result<Self, BoxError> {
        let conn = match timeout(LOCK_WAIT, pool.acquire()).await {
            Ok(Ok(conn)) => conn,
            Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => return Err(InUse.into()),
            Ok(Err(error)) => return Err(error.into()),
        };
        Ok(Self { conn: Some(conn), pool: pool.clone(), session: None, kill })
    }

    pub(super) fn conn(&self) -> &DB::Connection {
        self.conn.as_ref().expect("handed back only with the loan")
    }

    pub(super) fn conn_mut(&mut self) -> &mut DB::Connection {
        self.conn.as_mut().expect("handed back only with the loan")
    }

    pub(super) fn is_session(&mut self, session: u64) {
        self.session = Some(session);
    }

    pub(super) fn is_finishing(&mut self) {
        self.session = None;
    }

    /// Only after its transaction has surely ended.
    pub(super) fn hand_back(mut self) {
        drop(self.conn.take());
    }
}

impl<DB: Database> Drop for Loan<DB> {
    fn drop(&mut self) {
        // Not finished, so nobody can say what state it is in: it is closed, which rolls back.
        let Some(conn) = self.conn.take() else { return };
        drop(conn.detach());
        // The server notices that only after the statement it is at; the locks should go sooner.
        if let (Some(session), Ok(runtime)) = (self.session, Handle::try_current()) {
            let killing = (self.kill)(self.pool.clone(), session);
            // Whether it arrives or not: the connection is closed already, which ends the transaction too.
            runtime.spawn(async move { drop(timeout(FINISH, killing).await) });
        }
    }
}
