//! The contract of a store, and the only way to what it holds.
//!
//! A transaction is one document (bytes) beside a few columns: a [`Row`]. A store sees rows, never transactions.
//! Only [`load`], [`claim`] and [`Change::save`] make a [`Stored`], and only a `Stored` can be planned from: by
//! type, nothing is called before it is durable (C2), and nobody acts on a save that changed no row (C5).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::definition::Digest;
use crate::{Effect, Event, Gid, Phase, Plan, Rejection, Timestamp, Transaction, record};

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

/// Why a write was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The store is full. Later writes may succeed.
    #[error("the store is full")]
    Full,
    /// The store will not take this row.
    #[error("the store does not take this row: {0}")]
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

/// What a store was found to hold of a gid.
#[derive(Debug)]
pub enum Found {
    /// The transaction.
    Stored(Box<Stored>),
    /// It ended so long ago that only this is remembered.
    Purged {
        /// How it ended.
        phase: Phase,
        /// The hash of what its caller sent.
        digest: Option<Digest>,
    },
}

/// A row whose document cannot be read: it delays nobody but itself (C9).
#[derive(Debug, thiserror::Error)]
#[error("the document of {gid} cannot be read")]
pub struct Undecodable {
    /// The transaction.
    pub gid: Gid,
    /// Why.
    #[source]
    pub cause: BoxError,
}

/// Why a transaction could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store could not be read.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The document could not be understood.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
}

/// Why a change was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Somebody else changed it first: load, apply, save again.
    #[error("another writer was first")]
    Conflict,
    /// The store would not take it; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It may have been saved.
    #[error(transparent)]
    Unknown(#[from] Unknown),
}

/// A transaction as the store holds it, with what was [noted](Effect::Noted) since.
#[derive(Clone)]
pub struct Stored {
    transaction: Transaction,
    digest: Option<Digest>,
    version: u64,
    noted: bool,
}

/// A transaction that is not yet as the store holds it. There is nothing to do with it but save it.
#[derive(Clone)]
#[must_use = "what is not saved has not happened"]
pub struct Change {
    transaction: Transaction,
    digest: Option<Digest>,
    replaces: Option<u64>,
    /// The phase the store holds; `None` if it holds nothing.
    before: Option<Phase>,
    /// Where it is parked, and until when at the latest.
    parked: Option<(Parked, Timestamp)>,
}

/// What a save makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The transaction begins, decided or not.
    Begin,
    /// The decision is taken; with nothing left to call it is the end as well.
    Decision,
    /// The transaction ends.
    End,
    /// Anything else: branches were registered, something that others wait for was learned, or a claim changes hands.
    Progress,
}

/// What applying an event to a stored transaction gave.
#[must_use]
pub enum Applied {
    /// Save this before anything else is done or told.
    Changed(Change),
    /// Go on with this; what was noted rides along with the next save.
    Kept(Stored),
    /// The event was refused; go on with this.
    Rejected(Stored, Rejection),
}

impl Stored {
    /// Applies an event.
    pub fn apply(mut self, event: Event, now: Timestamp) -> Applied {
        let before = self.transaction.phase();
        match self.transaction.apply(event, now) {
            Ok(Effect::Changed) => Applied::Changed(Change { before: Some(before), ..self.into_change() }),
            Ok(Effect::Noted) => {
                self.noted = true;
                Applied::Kept(self)
            }
            Ok(Effect::Unchanged) => Applied::Kept(self),
            Err(rejection) => Applied::Rejected(self, rejection),
        }
    }

    /// What is to be done at a moment.
    #[must_use]
    pub fn plan(&self, now: Timestamp) -> Plan {
        self.transaction.plan(now)
    }

    /// The transaction, to look at.
    #[must_use]
    pub const fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// The hash of what its caller sent at begin; `None` if it was cancelled before that.
    #[must_use]
    pub const fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The version the store holds.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Whether something was noted that the store does not hold yet.
    #[must_use]
    pub const fn is_noted(&self) -> bool {
        self.noted
    }

    /// A change that saves what was noted, or renews or lets go of a claim.
    pub fn into_change(self) -> Change {
        let before = Some(self.transaction.phase());
        let (transaction, digest, replaces) = (self.transaction, self.digest, Some(self.version));
        Change { transaction, digest, replaces, before, parked: None }
    }
}

impl Change {
    /// A new transaction, to be saved for the first time.
    pub const fn begin(transaction: Transaction, digest: Option<Digest>) -> Self {
        Self { transaction, digest, replaces: None, before: None, parked: None }
    }

    /// Parks it at a destination that takes no calls, where no call that is due can be made: it is that of the first. It
    /// is claimed when the destination takes calls again, and at the latest at that moment.
    pub fn park(self, parked: Parked, until: Timestamp) -> Self {
        Self { parked: Some((parked, until)), ..self }
    }

    /// The transaction's id.
    #[must_use]
    pub const fn gid(&self) -> &Gid {
        self.transaction.gid()
    }

    /// What saving this makes durable.
    #[must_use]
    pub fn step(&self) -> Step {
        let decided = |phase: Phase| phase.decision().is_some();
        match (self.before, self.transaction.phase()) {
            (None, _) => Step::Begin,
            (Some(before), after) if !decided(before) && decided(after) => Step::Decision,
            (Some(before), after) if !before.ended() && after.ended() => Step::End,
            (Some(_), _) => Step::Progress,
        }
    }

    /// Whether something is due at a moment.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.transaction.due().is_some_and(|due| due <= now)
    }

    /// Saves it, with a claim or without one. `tag` is any random number, a fresh one for each save.
    ///
    /// # Errors
    /// [`SaveError`] says whether the outcome is known.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown: run it to its end.
    pub async fn save(
        self,
        store: &dyn Store,
        tag: u64,
        claim: Option<Duration>,
    ) -> Result<Stored, SaveError> {
        let version = self.replaces.unwrap_or(0) + 1;
        let transaction = &self.transaction;
        let due_at = transaction.due();
        let (parked, due_at) = match (self.parked, due_at) {
            (Some((parked, until)), Some(_)) => (Some(parked), Some(until)),
            (_, due_at) => (None, due_at),
        };
        let row = Row {
            gid: transaction.gid().clone(),
            document: record::encode(transaction),
            phase: transaction.phase(),
            due_at,
            parked,
            attention: transaction.attention().is_some(),
            created_at: transaction.begun(),
            ended_at: transaction.ended(),
            digest: self.digest,
            version,
            tag,
        };
        let write =
            Write { row, replaces: self.replaces, claim: claim.filter(|_| !transaction.phase().ended()) };
        match store.commit(vec![write]).await?.pop() {
            Some(Written::Won) => {
                Ok(Stored { transaction: self.transaction, digest: self.digest, version, noted: false })
            }
            Some(Written::Lost) => Err(SaveError::Conflict),
            Some(Written::Refused(refusal)) => Err(refusal.into()),
            None => Err(Unknown("the store gave no result for the write".into()).into()),
        }
    }
}

/// Loads a transaction.
///
/// # Errors
/// When the store cannot be read or the document not be understood.
pub async fn load(store: &dyn Store, gid: &Gid) -> Result<Option<Found>, LoadError> {
    let Some(row) = store.load(gid).await? else { return Ok(None) };
    if row.document.is_empty() {
        return Ok(Some(Found::Purged { phase: row.phase, digest: row.digest }));
    }
    Ok(Some(Found::Stored(Box::new(decode(&row)?))))
}

/// Claims transactions that are due. One whose document cannot be read takes no other with it.
///
/// # Errors
/// When the store cannot be reached.
pub async fn claim(
    store: &dyn Store,
    lease: Duration,
    limit: usize,
) -> Result<(Vec<Result<Stored, Undecodable>>, Option<Timestamp>), Unavailable> {
    let claimed = store.claim(lease, limit).await?;
    Ok((claimed.rows.iter().map(decode).collect(), claimed.next))
}

/// Claims transactions that are parked at a destination. One whose document cannot be read takes no other with it.
///
/// # Errors
/// When the store cannot be reached.
pub async fn claim_parked(
    store: &dyn Store,
    destination: &str,
    lease: Duration,
    limit: usize,
) -> Result<Vec<Result<Stored, Undecodable>>, Unavailable> {
    Ok(store.claim_parked(destination, lease, limit).await?.iter().map(decode).collect())
}

fn decode(row: &Row) -> Result<Stored, Undecodable> {
    match record::decode(&row.gid, &row.document) {
        Ok(transaction) => Ok(Stored { transaction, digest: row.digest, version: row.version, noted: false }),
        Err(cause) => Err(Undecodable { gid: row.gid.clone(), cause: cause.into() }),
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Stored({} {} v{})",
            self.transaction.gid(),
            self.transaction.phase().as_str(),
            self.version
        )
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Change({} {})", self.transaction.gid(), self.transaction.phase().as_str())
    }
}
