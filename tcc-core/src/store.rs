//! The contract of a store, and the only way to what it holds.
//!
//! A transaction is one document (bytes) beside a few columns: a [`Row`]. A store sees rows, never transactions.
//! Only [`load`], [`claim`] and [`Change::save`] make a [`Stored`], and only a `Stored` can be planned from: by
//! type, nothing is called before it is durable (C2), and nobody acts on a save that changed no row (C5).

mod stored;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::definition::Digest;
use crate::topic::Subscriber;
use crate::{Gid, Phase, SubscriberId, Timestamp, TopicName};

pub use stored::{
    Applied, Change, Found, LoadError, SaveError, Step, Stored, Undecodable, claim, claim_parked, endpoints,
    load,
};

/// A boxed future, so that a store can be a `dyn Store`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where transactions are kept. Every store passes the suite in `tcc_core::contract` (feature `contract`).
///
/// **Visible is durable.** What `load`, `list`, `claim` and `counts` show has been made durable before they show
/// it, also after a start or a reconnect.
pub trait Store: Send + Sync + 'static {
    /// Writes a batch; durable when it returns. One result per write, in order, each write for itself: one that
    /// loses or cannot be stored takes no other with it. The same write offered again (same tag) has won again.
    ///
    /// # Errors
    /// [`Unknown`]: any of the writes may have become durable, or none.
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<Vec<Written>, Unknown>>;

    /// The row of a gid, purged ones included.
    ///
    /// # Errors
    /// When the store cannot be read now.
    fn load<'a>(&'a self, gid: &'a Gid) -> BoxFuture<'a, Result<Option<Row>, Unavailable>>;

    /// One page of the rows that match, in the order they were inserted; purged ones are left out.
    ///
    /// # Errors
    /// When the store cannot be read now.
    fn list<'a>(&'a self, filter: &'a Filter, page: Page) -> BoxFuture<'a, Result<Listing, Unavailable>>;

    /// Rows that are due and that nobody holds a claim on, the longest due first, and claims them for the length of
    /// the lease. Claims save work; no promise rests on them.
    ///
    /// # Errors
    /// When the store cannot be reached now.
    fn claim(&self, lease: Duration, limit: usize) -> BoxFuture<'_, Result<Claimed, Unavailable>>;

    /// Rows parked at a destination that nobody holds a claim on, due or not, the longest parked first, and claims them
    /// for the length of the lease.
    ///
    /// # Errors
    /// When the store cannot be reached now.
    fn claim_parked<'a>(
        &'a self,
        destination: &'a str,
        lease: Duration,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, Unavailable>>;

    /// Destinations at which rows are parked, at most `limit` of them, in the order of their names. It takes no longer
    /// for the rows that are parked there.
    ///
    /// # Errors
    /// When the store cannot be read now.
    fn parked_at(&self, limit: usize) -> BoxFuture<'_, Result<Vec<String>, Unavailable>>;

    /// How many there are of what.
    ///
    /// # Errors
    /// When the store cannot be read now.
    fn counts(&self) -> BoxFuture<'_, Result<Counts, Unavailable>>;

    /// Takes the documents from at most `limit` rows that ended before `ended_before`, leaving gid, phase and digest
    /// behind, and removes at most `limit` rows so emptied that ended before `forget_before`. Never one that has not
    /// ended (C6). Returns how many rows it touched.
    ///
    /// # Errors
    /// When the store cannot be written now; what was purged by then stays purged.
    fn purge(
        &self,
        ended_before: Timestamp,
        forget_before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, Unavailable>>;

    /// Changes who has subscribed to a topic; durable when it returns. The same again changes nothing. A store that keeps
    /// no subscribers refuses.
    ///
    /// # Errors
    /// [`Unknown`]: it may have become durable, or not.
    fn subscribe(&self, change: Subscription) -> BoxFuture<'_, Result<Result<(), Refusal>, Unknown>> {
        drop(change);
        Box::pin(async { Ok(Err(Refusal::Unstorable("this store keeps no subscribers".to_owned()))) })
    }

    /// The subscribers of a topic, or of every topic, in the order of topics and then of their ids.
    ///
    /// # Errors
    /// When the store cannot be read now.
    fn subscribers<'a>(
        &'a self,
        topic: Option<&'a TopicName>,
    ) -> BoxFuture<'a, Result<Vec<Subscriber>, Unavailable>> {
        let _ = topic;
        Box::pin(async { Ok(Vec::new()) })
    }

    /// The store's clock (C10): wall time when the store was opened, carried on by a monotonic clock.
    fn now(&self) -> Timestamp;
}

/// What a store keeps of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub gid: Gid,
    /// The transaction, encoded; empty once purged.
    pub document: Vec<u8>,
    /// Where it stands.
    pub phase: Phase,
    /// When somebody has to look at it; `None` once it ended.
    pub due_at: Option<Timestamp>,
    /// Whom it waits for: until then, or until `due_at`, a look at the row would gain nothing. `None` once it ended.
    pub parked: Option<Parked>,
    /// Whether a human should look.
    pub attention: bool,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The hash of what its caller sent at begin; `None` if it was cancelled before that.
    pub digest: Option<Digest>,
    /// 1 at insert, one more at each replace.
    pub version: u64,
    /// Drawn at random for each write, so that its writer knows the row for its own.
    pub tag: u64,
}

/// A destination that takes no calls now, and since when a row waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The destination; not empty.
    pub at: String,
    /// Since when.
    pub since: Timestamp,
}

/// One write.
#[derive(Clone, Debug)]
pub struct Write {
    /// The row as it shall be.
    pub row: Row,
    /// What must be there before: nothing, or this version.
    pub replaces: Option<u64>,
    /// The claim the writer takes with it, from now on for this length; `None` lets go of any.
    pub claim: Option<Duration>,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The row is as it shall be, durably.
    Won,
    /// Something else was there; nothing was changed.
    Lost,
    /// It cannot be stored now; nothing was changed.
    Refused(Refusal),
}

/// A change of who has subscribed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// This one has, and nobody else of its topic and id.
    Put(Subscriber),
    /// This one of a topic has not any more.
    Drop(TopicName, SubscriberId),
}

/// Why a write was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The store is full. Later writes may succeed.
    #[error("the store is full")]
    Full,
    /// The store will not take this row.
    #[error("the store does not take this: {0}")]
    Unstorable(String),
}

/// Whether a commit became durable is not known.
#[derive(Debug, thiserror::Error)]
#[error("whether the commit became durable is not known")]
pub struct Unknown(#[source] pub BoxError);

/// The store could not be reached or read; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("the store is not available")]
pub struct Unavailable(#[source] pub BoxError);

/// Which rows to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those in this phase.
    pub phase: Option<Phase>,
    /// Only those that do, or do not, call for a human.
    pub attention: Option<bool>,
    /// Only those whose gid begins so.
    pub prefix: Option<String>,
    /// Only those begun at or after this moment.
    pub created_from: Option<Timestamp>,
    /// Only those begun before this moment.
    pub created_before: Option<Timestamp>,
}

/// Which part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The `next` of the page before; opaque.
    pub after: Option<u64>,
    /// How many rows at most.
    pub size: usize,
}

/// One page of a list.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The rows.
    pub rows: Vec<Row>,
    /// Where the next page starts; `None` on the last. Any other may be short too, or even empty.
    pub next: Option<u64>,
}

/// Rows that were claimed.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// They.
    pub rows: Vec<Row>,
    /// When the next row is due that was not: not before now unless more are due already.
    pub next: Option<Timestamp>,
}

/// How many rows there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By phase, in the order of [`Phase::ALL`]; purged ones are not counted.
    pub phases: [u64; 6],
    /// Those that call for a human.
    pub attention: u64,
    /// When the oldest that has not ended began.
    pub oldest_unfinished: Option<Timestamp>,
}
