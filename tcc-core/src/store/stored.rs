//! The only way to what a store holds: what was stored is all that can be planned from.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{BoxError, Parked, Refusal, Row, Store, Unavailable, Unknown, Write, Written};
use crate::definition::Digest;
use crate::history::{Act, Attempt, Entry, History, What};
use crate::{Effect, Endpoint, Event, Gid, Phase, Plan, Rejection, Timestamp, Transaction, record};

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

/// A transaction and what happened to it.
#[derive(Clone)]
struct Account {
    transaction: Transaction,
    history: History,
}

/// A transaction as the store holds it, with what was [noted](Effect::Noted) since.
#[derive(Clone)]
pub struct Stored {
    /// Shared by all copies until one of them learns more: of each save several are told.
    account: Arc<Account>,
    /// Where the store has it parked.
    parked: Option<Parked>,
    digest: Option<Digest>,
    version: u64,
    noted: bool,
}

/// A transaction that is not yet as the store holds it. There is nothing to do with it but save it.
#[derive(Clone)]
#[must_use = "what is not saved has not happened"]
pub struct Change {
    account: Arc<Account>,
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
        let before = self.transaction().phase();
        let operated = operated(&event);
        let account = Arc::make_mut(&mut self.account);
        match account.transaction.apply(event, now) {
            Ok(Effect::Changed) => {
                if let Some(what) = operated {
                    account.history.add(Entry { at: now, what });
                }
                Applied::Changed(Change { before: Some(before), ..self.into_change() })
            }
            Ok(Effect::Noted) => {
                self.noted = true;
                Applied::Kept(self)
            }
            Ok(Effect::Unchanged) => Applied::Kept(self),
            Err(rejection) => Applied::Rejected(self, rejection),
        }
    }

    /// Takes down a call that was made at a moment; it rides along with the next save.
    pub fn called(&mut self, at: Timestamp, attempt: Attempt) {
        Arc::make_mut(&mut self.account).history.add(Entry { at, what: What::Called(attempt) });
    }

    /// What happened to it so far.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.account.history
    }

    /// Where it was parked when it was read.
    #[must_use]
    pub const fn parked(&self) -> Option<&Parked> {
        self.parked.as_ref()
    }

    /// What is to be done at a moment.
    #[must_use]
    pub fn plan(&self, now: Timestamp) -> Plan {
        self.account.transaction.plan(now)
    }

    /// The transaction, to look at.
    #[must_use]
    pub fn transaction(&self) -> &Transaction {
        &self.account.transaction
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
        let before = Some(self.transaction().phase());
        let Self { account, digest, version, .. } = self;
        Change { account, digest, replaces: Some(version), before, parked: None }
    }
}

impl Change {
    /// A new transaction, to be saved for the first time.
    pub fn begin(transaction: Transaction, digest: Option<Digest>) -> Self {
        let account = Arc::new(Account { transaction, history: History::default() });
        Self { account, digest, replaces: None, before: None, parked: None }
    }

    /// Parks it at a destination that takes no calls, where no call that is due can be made: it is that of the first. It
    /// is claimed when the destination takes calls again, and at the latest at that moment.
    pub fn park(self, parked: Parked, until: Timestamp) -> Self {
        Self { parked: Some((parked, until)), ..self }
    }

    /// The transaction's id.
    #[must_use]
    pub fn gid(&self) -> &Gid {
        self.account.transaction.gid()
    }

    /// What saving this makes durable.
    #[must_use]
    pub fn step(&self) -> Step {
        let decided = |phase: Phase| phase.decision().is_some();
        match (self.before, self.account.transaction.phase()) {
            (None, _) => Step::Begin,
            (Some(before), after) if !decided(before) && decided(after) => Step::Decision,
            (Some(before), after) if !before.ended() && after.ended() => Step::End,
            (Some(_), _) => Step::Progress,
        }
    }

    /// Whether something is due at a moment.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.account.transaction.due().is_some_and(|due| due <= now)
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
        let Account { transaction, history } = &*self.account;
        let due_at = transaction.due();
        let (parked, due_at) = match (self.parked, due_at) {
            (Some((parked, until)), Some(_)) => (Some(parked), Some(until)),
            (_, due_at) => (None, due_at),
        };
        let row = Row {
            gid: transaction.gid().clone(),
            document: record::encode(transaction, history),
            phase: transaction.phase(),
            due_at,
            parked: parked.clone(),
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
                let Self { account, digest, .. } = self;
                Ok(Stored { account, parked, digest, version, noted: false })
            }
            Some(Written::Lost) => Err(SaveError::Conflict),
            Some(Written::Refused(refusal)) => Err(refusal.into()),
            None => Err(Unknown("the store gave no result for the write".into()).into()),
        }
    }
}

/// What an operator does with an event, as it is taken down.
fn operated(event: &Event) -> Option<What> {
    match event {
        Event::Retry => Some(What::Operated(Act::Retried, None)),
        Event::Acknowledge { reason } => Some(What::Operated(Act::Acknowledged, Some(reason.clone()))),
        // That stands with the branch.
        Event::Force { .. } => None,
        Event::Register(_)
        | Event::Confirm { .. }
        | Event::Cancel { .. }
        | Event::Reply { .. }
        | Event::Deferred { .. }
        | Event::Expire => None,
    }
}

/// The endpoints that a row's transaction names, and whom it asks; none if its document cannot be read.
#[must_use]
pub fn endpoints(row: &Row) -> Vec<Endpoint> {
    let Ok((transaction, _)) = record::decode(&row.gid, &row.document) else { return Vec::new() };
    let branches = transaction.branches().iter().flat_map(|b| b.definition().endpoints());
    branches.map(|(_, endpoint)| endpoint).chain(transaction.check()).cloned().collect()
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
        Ok((transaction, history)) => {
            let (digest, version, parked) = (row.digest, row.version, row.parked.clone());
            let account = Arc::new(Account { transaction, history });
            Ok(Stored { account, parked, digest, version, noted: false })
        }
        Err(cause) => Err(Undecodable { gid: row.gid.clone(), cause: cause.into() }),
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Stored({} {} v{})",
            self.transaction().gid(),
            self.transaction().phase().as_str(),
            self.version
        )
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Change({} {})", self.gid(), self.account.transaction.phase().as_str())
    }
}
