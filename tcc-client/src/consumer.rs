//! Receives the messages of brokers, each once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tcc_core::{BadId, BranchId, Gid, Timestamp};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::call::pair;
use crate::limits::{CLEANING_BATCH, CLEANING_PAUSE, CLEANING_REST, CONSUMED_KEPT};
use crate::local::{self, End};
use crate::{Call, Database, Local, LocalError, Row, SqlDatabase};

/// The column `begun` of a consumer's rows is this and the moment they were written, by the database's clock: so no
/// coordinator's mark is ever after it, and the clean-up of a participant's rows leaves them alone.
const FAR: i64 = 1 << 62;

/// Receives the messages of a broker, each once: a row of the guard's table, keyed by consumer, source and the message's
/// id, is written in the local transaction of what the message does. In Redis it is a key, written in the same script.
///
/// ```no_run
/// # #[cfg(feature = "rusqlite")]
/// # async fn credit(db: tcc_client::SqliteDatabase) -> Result<(), Box<dyn std::error::Error>> {
/// use tcc_client::{Consumer, Received};
///
/// let consumer = Consumer::new("points", db)?;
/// // For each message that the broker delivers:
/// let received = consumer.receive("rabbitmq/orders", "message-id-7", |tx| Box::pin(async move {
///     tx.execute("UPDATE account SET points = points + 10", [])?;
///     Ok(())
/// })).await?;
/// // Only now acknowledge it. An error: let the broker deliver it again.
/// match received {
///     Received::New(()) => println!("credited"),
///     Received::Repeat => println!("it was credited before"),
/// }
/// # Ok(()) }
/// ```
///
/// The table is that of the guard: `create_schema` of the database creates it. Redis needs none.
///
/// Brokers say of no message that it will never come again. So a row is kept for a stated [time](Self::keep_for), and
/// then deleted: a message that comes again later still has its effect again.
#[derive(Clone)]
pub struct Consumer<D> {
    name: BranchId,
    database: D,
    keep_for: Duration,
    cleaning: Arc<Mutex<Instant>>,
}

/// Whether a message came for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received<T> {
    /// It did, and this is what the closure returned. It is committed.
    New(T),
    /// It was received before; nothing was run.
    Repeat,
}

impl<D: Database> Consumer<D> {
    /// A consumer with this name, of the letters of a branch id and at most 51 of them. Two consumers of one database
    /// receive the same message once each.
    ///
    /// # Errors
    /// When the name is too long, or has other letters.
    pub fn new(name: &str, database: D) -> Result<Self, BadId> {
        if name.is_empty() {
            return Err(BadId::Empty);
        }
        let name = format!("tcc/consumer/{name}").parse()?;
        let cleaning = Arc::new(Mutex::new(Instant::now() + CLEANING_REST));
        Ok(Self { name, database, keep_for: CONSUMED_KEPT, cleaning })
    }

    /// How long a message is known again, by the database's clock; 14 days if nothing is said. Longer than the broker
    /// keeps messages, dead letters included.
    #[must_use]
    pub const fn keep_for(mut self, length: Duration) -> Self {
        self.keep_for = length;
        self
    }

    fn call(&self, source: &str, id: &str) -> Call {
        Call::of_consumer(key(source, id), self.name.clone(), Timestamp::from_millis(FAR))
    }
}

impl<D: SqlDatabase> Consumer<D> {
    /// Runs a local transaction for the message with this id of this source, unless it was received before. `Ok`: the
    /// message can be acknowledged. The texts may be any; what must be the same whenever the message comes again, and
    /// differ from others', are both together. The publisher's own id does; an offset alone does not, for a topic that is
    /// made anew begins at 0 again.
    ///
    /// The closure runs again after a deadlock, with nothing left of the first time but what it did outside of `tx`.
    ///
    /// # Errors
    /// [`LocalError`]: the message is to be delivered again, whether or not it is known what came of it.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not be received; delivered again, it is.
    pub async fn receive<T, F>(&self, source: &str, id: &str, work: F) -> Result<Received<T>, LocalError>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t mut D::Tx) -> Local<'t, T> + Send + Sync + 'static,
    {
        let received = once(&self.database, self.call(source, id), work, stamp::<D>).await?;
        if matches!(received, Received::New(_)) {
            self.clean_up_now_and_then();
        }
        Ok(received)
    }

    /// Deletes the rows that were kept long enough, in small batches, and returns how many. Consumers do so by themselves,
    /// beside the messages that they receive.
    ///
    /// # Errors
    /// When a batch fails; those before it are deleted.
    pub async fn clean_up(&self) -> Result<u64, LocalError> {
        let keep = i64::try_from(self.keep_for.as_millis()).unwrap_or(FAR).min(FAR);
        let old = format!(
            "begun >= {FAR} AND begun < {FAR} + {} - {keep} AND branch = '{}'",
            D::DIALECT.now(),
            self.name
        );
        let delete = D::DIALECT.delete("tcc_guard", &old, CLEANING_BATCH);
        let mut all = 0;
        loop {
            let delete = delete.clone();
            let deleted = local::commit(&self.database, move |tx| {
                let delete = delete.clone();
                Box::pin(async move { D::execute(tx, delete).await })
            });
            let deleted = deleted.await?;
            all += deleted;
            if deleted < u64::from(CLEANING_BATCH) {
                return Ok(all);
            }
            sleep(CLEANING_PAUSE).await;
        }
    }

    /// In a task of its own: no message waits for it, or fails with it.
    fn clean_up_now_and_then(&self) {
        let Ok(mut next) = self.cleaning.clone().try_lock_owned() else { return };
        if Instant::now() < *next {
            return;
        }
        let consumer = self.clone();
        tokio::spawn(async move {
            if let Err(error) = consumer.clean_up().await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, cause = error.source(), "rows of old messages could not be deleted");
            }
            *next = Instant::now() + CLEANING_REST;
        });
    }
}

#[cfg(feature = "redis")]
impl Consumer<crate::RedisDatabase> {
    /// Has in one script done what the message with this id of this source is to do, by the closure's
    /// [effects](crate::RedisTx::effect), and its row written; unless it was received before. `Ok`: the message can be
    /// acknowledged. A [check](crate::RedisTx::check) that says no is an error, and nothing is done.
    ///
    /// ```no_run
    /// # async fn credit(db: tcc_client::RedisDatabase) -> Result<(), Box<dyn std::error::Error>> {
    /// use tcc_client::Consumer;
    ///
    /// let consumer = Consumer::new("points", db)?;
    /// consumer.receive("rabbitmq/orders", "message-id-7", |tx| {
    ///     tx.effect("redis.call('INCRBY', KEYS[1], ARGV[1])", "points:alice", 10);
    ///     Box::pin(async { Ok(()) })
    /// }).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The row goes by itself, by the server's clock, after the [time](Self::keep_for) that it is kept.
    ///
    /// # Errors
    /// [`LocalError`]: the message is to be delivered again, whether or not it is known what came of it. An effect that
    /// failed has left what it wrote before, and no row.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not be received; delivered again, it is.
    pub async fn receive<T, F>(&self, source: &str, id: &str, work: F) -> Result<Received<T>, LocalError>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t mut crate::RedisTx) -> Local<'t, T> + Send + Sync + 'static,
    {
        let length = self.keep_for;
        once(&self.database, self.call(source, id), work, move |tx, _| {
            tx.keep(length);
            Box::pin(async { Ok(()) })
        })
        .await
    }
}

/// Runs a local transaction with the row of its message, unless that is there already. Last, something is done so that
/// the row is kept for its time.
async fn once<D, T, F, K>(database: &D, call: Call, work: F, keep: K) -> Result<Received<T>, LocalError>
where
    D: Database,
    T: Send + 'static,
    F: for<'t> Fn(&'t mut D::Tx) -> Local<'t, T> + Send + Sync + 'static,
    K: for<'t> Fn(&'t mut D::Tx, &'t Call) -> Local<'t, ()> + Send + Sync + 'static,
{
    let all = Arc::new((call, work, keep));
    local::run(database, move |tx| {
        let all = all.clone();
        Box::pin(async move {
            let (call, work, keep) = &*all;
            let received = Row::Confirmed { reply: None };
            if !D::insert(tx, call, &received).await? {
                return Ok(match D::load(tx, call).await? {
                    None => End::Again,
                    Some(_) => End::Rollback(Received::Repeat),
                });
            }
            let value = work(tx).await?;
            // Also where a transaction is found out that the closure has broken or ended.
            D::set(tx, call, &received).await?;
            keep(tx, call).await?;
            Ok(End::Commit(Received::New(value)))
        })
    })
    .await
}

/// Writes into a row when it was written.
fn stamp<'t, D: SqlDatabase>(tx: &'t mut D::Tx, call: &'t Call) -> Local<'t, ()> {
    let now = D::DIALECT.now();
    let stamp = format!(
        "UPDATE tcc_guard SET begun = {FAR} + {now} WHERE gid = '{}' AND branch = '{}'",
        call.gid, call.branch
    );
    Box::pin(async move {
        D::execute(tx, stamp).await?;
        Ok(())
    })
}

/// Source and id in the letters of a gid, whatever their own are.
fn key(source: &str, id: &str) -> Gid {
    format!("message/{}", pair(source, id)).parse().expect("it has the letters and the length of a gid")
}

impl<D> fmt::Debug for Consumer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Consumer").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_and_id_are_a_key_together() {
        let keys = [("a", "bc"), ("ab", "c"), ("", "abc"), ("abc", ""), ("1:a", "bc"), ("ü\0", "'")];
        let different: std::collections::HashSet<_> =
            keys.iter().map(|(source, id)| key(source, id)).collect();
        assert_eq!(different.len(), keys.len());
        assert_eq!(key("a", "bc"), key("a", "bc"));
    }
}
