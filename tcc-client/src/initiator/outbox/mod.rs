//! Messages that wait in the application's own database (*local message table*, from eBay) until the coordinator has
//! them.

mod relay;
mod table;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tcc_core::limits::GID_LENGTH;
use tcc_core::{BadId, Gid};
use tokio::sync::Notify;

pub use relay::Relay;
pub use table::{Backlog, Refused};

use super::client::{Client, new_gid};
use super::submission::Submission;
use crate::local::{self, End};
use crate::{BoxError, Dialect, Local, LocalError, SqlDatabase};

/// Messages in the table `tcc_outbox` of the application's own database: put there by the local transaction that they
/// report of, and so there if, and only if, it commits. A [`Relay`] hands them over to the coordinator.
///
/// The gid of each is `source/` and a `UUIDv7`, made before the commit and kept in the row, so that a message that is
/// handed over twice is one transaction at the coordinator. The source is the service's name: two with the same outbox
/// table and name are one.
///
/// In which order messages are handed over is not promised.
///
/// ```no_run
/// # #[cfg(feature = "rusqlite")]
/// # async fn order(client: tcc_client::Client, db: tcc_client::SqliteDatabase) -> Result<(), Box<dyn std::error::Error>> {
/// use tcc_client::{Branch, Outbox};
///
/// let outbox = Outbox::new("orders", db)?;
/// outbox.create_schema().await?;
/// tokio::spawn(outbox.relay(client).run());
///
/// let sender = outbox.clone();
/// outbox.transact(move |tx| {
///     let outbox = sender.clone();
///     Box::pin(async move {
///         tx.execute("INSERT INTO orders (number) VALUES (1042)", [])?;
///         let points = Branch::new("points").confirm("http://loyalty/points");
///         let points = points.payload(&serde_json::json!({"order": 1042}))?;
///         outbox.put(tx, outbox.message().branch(points)).await?;
///         Ok(())
///     })
/// }).await?;
/// # Ok(()) }
/// ```
///
/// [`put`](Self::put) takes any local transaction of the database's: that of a [`Participant`](crate::Participant)'s
/// method, too.
#[derive(Clone)]
pub struct Outbox<D> {
    source: Gid,
    database: D,
    wake: Arc<Notify>,
}

impl<D: SqlDatabase> Outbox<D> {
    /// The outbox of a service with this name, which has the letters of a gid and at most 91 of them.
    ///
    /// # Errors
    /// When it cannot begin a gid.
    pub fn new(source: &str, database: D) -> Result<Self, BadId> {
        // With the longest gid that will begin with it.
        let longest: Gid = format!("{source}/{}", new_gid()).parse()?;
        debug_assert!(longest.as_str().len() <= GID_LENGTH);
        Ok(Self { source: source.parse()?, database, wake: Arc::default() })
    }

    /// The statements that create the outbox's table, for those who run migrations of their own.
    #[must_use]
    pub const fn schema() -> &'static [&'static str] {
        D::DIALECT.outbox()
    }

    /// Creates the outbox's table, if it is not there. Several may do so at once.
    ///
    /// # Errors
    /// When it cannot connect, or the database refuses.
    pub async fn create_schema(&self) -> Result<(), LocalError> {
        local::run(&self.database, |tx| Box::pin(create::<D>(tx))).await
    }

    /// A message with a gid of its own and no branches yet. Its branches have `confirm` alone; with others it is any
    /// transaction, begun if the local one commits.
    pub fn message(&self) -> Submission {
        let gid = format!("{}/{}", self.source, new_gid());
        Submission::new(gid.parse().expect("so long a gid was made when this outbox was"))
    }

    /// Puts a message into the outbox, in a local transaction: it is handed over if that commits, and soon after that.
    /// What the message says of waiting has no meaning here.
    ///
    /// # Errors
    /// When the message breaks a rule of the protocol, or the statement fails; the local transaction is not to be
    /// committed then.
    pub async fn put(&self, tx: &mut D::Tx, message: Submission) -> Result<Gid, BoxError> {
        let Submission { gid, request, trace, .. } = message;
        // Said to whoever can still do something about it.
        request.clone().parse(|| gid.clone())?;
        let request = serde_json::to_string(&request)?;
        let trace = trace.as_ref().and_then(|trace| trace.to_str().ok());
        if D::execute(tx, table::put(D::DIALECT, &gid, &request, trace)).await? != 1 {
            return Err("the local transaction has ended already".into());
        }
        // It is not committed yet: the relay looks again and again for a while.
        self.wake.notify_one();
        Ok(gid)
    }

    /// Runs a local transaction, and wakes the relay once it has committed. The closure runs again after a deadlock, with
    /// nothing left of the first time but what it did outside of `tx`.
    ///
    /// # Errors
    /// [`LocalError`]. Where it is not known whether it committed, its messages are handed over if it did.
    pub async fn transact<T, F>(&self, work: F) -> Result<T, LocalError>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t mut D::Tx) -> Local<'t, T> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        let value = local::commit(&self.database, move |tx| {
            let work = work.clone();
            Box::pin(async move {
                let value = work(tx).await?;
                // A closure that has broken or ended its transaction must not be believed.
                table::is_whole::<D>(tx).await?;
                Ok(value)
            })
        });
        let value = value.await?;
        self.wake();
        Ok(value)
    }

    /// Says that something was put and committed. Nothing is lost without it: a relay looks by itself.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// A relay of this outbox, which hands over to this coordinator. It hands over what others have put into the same
    /// table, too.
    pub fn relay(&self, client: Client) -> Relay<D> {
        Relay::new(self.database.clone(), client, self.wake.clone())
    }

    /// How many messages wait, and for how long: to be watched.
    ///
    /// ```no_run
    /// # #[cfg(feature = "rusqlite")]
    /// # async fn metrics(outbox: tcc_client::Outbox<tcc_client::SqliteDatabase>) -> Result<String, tcc_client::LocalError> {
    /// let metrics = outbox.backlog().await?.to_prometheus("orders");
    /// # Ok(metrics) }
    /// ```
    ///
    /// # Errors
    /// When it could not be asked.
    pub async fn backlog(&self) -> Result<Backlog, LocalError> {
        table::backlog(&self.database).await
    }

    /// Messages that the coordinator has refused for good, the longest refused first; at most so many.
    ///
    /// # Errors
    /// When it could not be asked.
    pub async fn refused(&self, most: u32) -> Result<Vec<Refused>, LocalError> {
        table::refused(&self.database, most).await
    }

    /// Has all refused messages handed over once more, after what was wrong has been put right. Returns how many.
    ///
    /// # Errors
    /// When nobody knows whether that was noted.
    pub async fn retry_refused(&self) -> Result<u64, LocalError> {
        let again = table::retry_refused(&self.database).await?;
        self.wake();
        Ok(again)
    }
}

async fn create<D: SqlDatabase>(tx: &mut D::Tx) -> Result<End<()>, BoxError> {
    if D::DIALECT == Dialect::Postgres {
        // IF NOT EXISTS alone fails when two do it at once. The number is `tcc_outb` in ASCII.
        D::query(tx, "SELECT pg_advisory_xact_lock(8386658473414649954)".to_owned()).await?;
    }
    for statement in D::DIALECT.outbox() {
        D::execute(tx, (*statement).to_owned()).await?;
    }
    Ok(End::Commit(()))
}

impl<D> fmt::Debug for Outbox<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outbox").field(&self.source).finish()
    }
}

/// A length in whole milliseconds, for a statement.
fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX / 4)
}
