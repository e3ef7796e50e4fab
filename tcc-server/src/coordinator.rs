//! The coordinator: load → apply → save, for whoever has an event. Nothing is decided here; `tcc-core` decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tcc_core::store::{LoadError, Refusal, Row, SaveError, Step, Unavailable, Unknown, Write, load};
use tcc_core::{
    Applied, Begin, BranchId, Change, Definition, Digest, Event, Found, Gid, Invalid, Phase, Rejection,
    Store, Stored, Timestamp, Transaction, topic,
};
use tokio::sync::{Notify, watch};

use crate::crash::{self, Moment, Site};
use crate::destinations::Destinations;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::traces::Traces;
use crate::transport::Transports;
use crate::wait::{Wait, Waiter};
use crate::{driver, limits};

/// A transaction coordinator over a store.
pub struct Coordinator {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) transports: Transports,
    pub(crate) settings: Settings,
    pub(crate) destinations: Destinations,
    pub(crate) live: Live,
    pub(crate) metrics: Metrics,
    pub(crate) traces: Traces,
    /// The watermark in milliseconds; [`NO_WATERMARK`] until it is first computed.
    settled: AtomicI64,
    failed: watch::Sender<bool>,
    pub(crate) waits: tokio::sync::Semaphore,
    pub(crate) stopping: AtomicBool,
    /// Wakes in the order of coming, and so the same in every run; a `watch` draws lots.
    pub(crate) stopped: Notify,
}

const NO_WATERMARK: i64 = i64::MIN;

/// What is known of a transaction.
#[derive(Debug)]
pub enum Known {
    /// All of it.
    Stored(Box<Stored>),
    /// It ended so long ago that only its end is remembered.
    Purged(Gid, Phase),
}

/// What became of a begin.
#[derive(Debug)]
pub enum Begun {
    /// The transaction is new.
    New(Box<Stored>),
    /// It was begun before, with the same content; this is what became of it since.
    Before(Known),
}

/// Why a request was not followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is known of the gid.
    #[error("nothing is known of this gid; that does not say that its transaction never happened")]
    UnknownGid,
    /// The gid is taken.
    #[error("the gid belongs to a transaction that was begun with other content")]
    GidReused(Phase),
    /// The transaction was cancelled before this begin arrived.
    #[error("the transaction was cancelled before its begin arrived")]
    CancelledBefore(Phase),
    /// The request asks for what cannot be.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Of the transaction, which stands in this phase, nothing was given up.
    #[error("nothing was given up that could be done anew")]
    NothingGivenUp(Phase),
    /// The transaction does not take it; it stands in this phase.
    #[error("{0}")]
    Rejected(Rejection, Phase),
    /// The store would not take it; nothing was changed.
    #[error(transparent)]
    Refused(Refusal),
    /// It may or may not have been done.
    #[error("whether it was done is not known")]
    Unknown(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nothing was changed.
    #[error("the store cannot be read now")]
    Unavailable(#[source] LoadError),
    /// Others were first too often; nothing was changed.
    #[error("too many others change this transaction at once")]
    Contended,
}

impl Coordinator {
    /// One over a store. What it is asked for it also has done; what falls due later, or was left by another process,
    /// is the [`Scheduler`](crate::Scheduler)'s part.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, transports: Transports, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            store,
            transports,
            destinations: Destinations::new(&settings),
            settings,
            live: Live::default(),
            metrics: Metrics::default(),
            traces: Traces::default(),
            settled: AtomicI64::new(NO_WATERMARK),
            failed: watch::Sender::new(false),
            waits: tokio::sync::Semaphore::new(limits::WAITS),
            stopping: AtomicBool::new(false),
            stopped: Notify::new(),
        })
    }

    /// Begins a transaction, or finds out what became of it.
    ///
    /// # Errors
    /// [`Error`] says whether the outcome is known.
    ///
    /// # Cancel safety
    /// None: run it in a task of its own, so that a dropped connection cannot stop it between save and act.
    pub async fn begin(self: &Arc<Self>, begin: Begin) -> Result<Begun, Error> {
        let (gid, digest) = (begin.gid.clone(), begin.digest);
        let transaction = match self.transaction(begin).await {
            Ok(transaction) => transaction,
            // Begun while its endpoints were still allowed and its topics as they were, it goes on; a repeat is told so.
            Err(Error::Invalid(invalid)) => {
                return match self.begun_before(&gid, digest).await {
                    Err(Error::UnknownGid) => Err(invalid.into()),
                    begun => begun,
                };
            }
            Err(error) => return Err(error),
        };
        match self.save_and_drive(Change::begin(transaction, Some(digest))).await {
            Ok(stored) => Ok(Begun::New(Box::new(stored))),
            Err(SaveError::Conflict) => self.begun_before(&gid, digest).await,
            Err(error) => Err(error.into()),
        }
    }

    /// What is to be begun, with each topic's subscribers as they are now.
    async fn transaction(&self, mut begin: Begin) -> Result<Transaction, Error> {
        let mut subscribers = Vec::new();
        let topics = topic::topics(&begin.branches)?;
        for topic in &topics {
            subscribers.append(&mut self.store.subscribers(Some(topic)).await?);
        }
        if !topics.is_empty() {
            begin.branches = topic::fan_out(begin.branches, &subscribers)?;
        }
        self.check_begin(&begin)?;
        Ok(Transaction::begin(begin, self.settings.patience, self.now())?)
    }

    async fn begun_before(&self, gid: &Gid, digest: Digest) -> Result<Begun, Error> {
        let (known, theirs) = match self.find(gid).await? {
            Found::Stored(stored) => (Known::Stored(stored.clone()), stored.digest()),
            Found::Purged { phase, digest } => (Known::Purged(gid.clone(), phase), digest),
        };
        match theirs {
            Some(theirs) if theirs == digest => Ok(Begun::Before(known)),
            Some(_) => Err(Error::GidReused(known.phase())),
            None => Err(Error::CancelledBefore(known.phase())),
        }
    }

    /// Registers branches that the initiator is going to try.
    ///
    /// # Errors
    /// [`Error`] says whether the outcome is known.
    pub async fn register(self: &Arc<Self>, gid: &Gid, branches: Vec<Definition>) -> Result<Known, Error> {
        self.check_endpoints(&branches)?;
        let known = self.change(gid, Event::Register(branches)).await?;
        // The deadline may have passed first: then the answer is its decision.
        match known.phase() {
            Phase::Trying => Ok(known),
            decided => Err(Error::Rejected(Rejection::Decided(decided), decided)),
        }
    }

    /// Confirms, if these are the branches that were to be tried.
    ///
    /// # Errors
    /// [`Error`] says whether the outcome is known.
    pub async fn confirm(
        self: &Arc<Self>,
        gid: &Gid,
        tried: std::collections::BTreeSet<BranchId>,
    ) -> Result<Known, Error> {
        let known = self.change(gid, Event::Confirm { tried }).await?;
        match known.phase().decision() {
            Some(tcc_core::Decision::Confirm) => Ok(known),
            Some(tcc_core::Decision::Cancel) | None => {
                Err(Error::Rejected(Rejection::Decided(known.phase()), known.phase()))
            }
        }
    }

    /// Cancels. A gid that nothing is known of is stored as cancelled, so that a begin on its way starts nothing.
    ///
    /// # Errors
    /// [`Error`] says whether the outcome is known.
    pub async fn cancel(self: &Arc<Self>, gid: &Gid, reason: String) -> Result<Known, Error> {
        for _ in 0..limits::CONFLICTS {
            match self.change(gid, Event::Cancel { reason: reason.clone() }).await {
                Err(Error::UnknownGid) => {}
                known => return known,
            }
            let patience = self.settings.patience;
            let cancelled =
                Transaction::cancelled_before_begin(gid.clone(), reason.clone(), patience, self.now());
            let _saving = self.live.save(gid);
            match self.save(Change::begin(cancelled, None), None).await {
                Ok(stored) => return Ok(Known::Stored(Box::new(stored))),
                Err(SaveError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Contended)
    }

    /// What is known of a transaction.
    ///
    /// # Errors
    /// [`Error::UnknownGid`] means unknown, never "did not happen".
    pub async fn get(&self, gid: &Gid) -> Result<Known, Error> {
        Ok(match self.find(gid).await? {
            Found::Stored(stored) => Known::Stored(stored),
            Found::Purged { phase, .. } => Known::Purged(gid.clone(), phase),
        })
    }

    /// Listens for what becomes of a transaction from now on.
    #[must_use]
    pub fn listen(&self, gid: &Gid) -> Waiter<'_> {
        Waiter::new(self, gid)
    }

    /// Waits, at most so long, until the transaction is decided or has ended, and tells how it stands then: as far as
    /// the store can be read, and else as it stood.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn wait(&self, known: Known, until: Wait, longest: Duration) -> Known {
        // Waiter begins before the look, so that nothing falls between them.
        let waiter = self.listen(known.gid());
        let known = if until.is_over(known.phase()) { return known } else { self.look(known).await };
        waiter.wait(known, until, longest).await
    }

    pub(crate) async fn look(&self, known: Known) -> Known {
        self.get(known.gid()).await.unwrap_or(known)
    }

    /// Whether the store can be read now.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe(&self) -> Result<(), Error> {
        let nobody = "readyz".parse().expect("a gid");
        match load(&*self.store, &nobody).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::Unavailable(error)),
        }
    }

    /// Whether the store failed so that nothing more can be known without a restart.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        *self.failed.borrow()
    }

    /// Waits until the store has failed so that the process must be started anew.
    pub async fn failed(&self) {
        let mut failed = self.failed.subscribe();
        // The sender lives as long as this coordinator.
        let _ = failed.wait_for(|failed| *failed).await;
    }

    /// The store's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.store.now()
    }

    pub(crate) fn settled(&self) -> Option<Timestamp> {
        match self.settled.load(Ordering::Relaxed) {
            NO_WATERMARK => None,
            millis => Some(Timestamp::from_millis(millis)),
        }
    }

    pub(crate) fn set_settled(&self, watermark: Timestamp) {
        self.settled.store(watermark.as_millis(), Ordering::Relaxed);
    }

    /// Load → apply → save, and again where another writer was first.
    pub(crate) async fn change(self: &Arc<Self>, gid: &Gid, event: Event) -> Result<Known, Error> {
        for _ in 0..limits::CONFLICTS {
            let stored = match self.find(gid).await? {
                Found::Stored(stored) => *stored,
                Found::Purged { phase, .. } => return purged(gid, phase, &event),
            };
            match stored.apply(event.clone(), self.now()) {
                Applied::Kept(stored) => return Ok(Known::Stored(Box::new(stored))),
                Applied::Rejected(stored, Rejection::Invalid(invalid)) => {
                    tracing::debug!(gid = %stored.transaction().gid(), %invalid, "rejected");
                    return Err(invalid.into());
                }
                Applied::Rejected(stored, why) => {
                    return Err(Error::Rejected(why, stored.transaction().phase()));
                }
                Applied::Changed(change) => match self.save_and_drive(change).await {
                    Ok(stored) => return Ok(Known::Stored(Box::new(stored))),
                    Err(SaveError::Conflict) => {}
                    Err(error) => return Err(error.into()),
                },
            }
        }
        Err(Error::Contended)
    }

    async fn find(&self, gid: &Gid) -> Result<Found, Error> {
        match load(&*self.store, gid).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(Error::UnknownGid),
            Err(error) => Err(Error::Unavailable(error)),
        }
    }

    /// Saves a change and has what is due done here, if there is room. Its claim is taken in the same write.
    async fn save_and_drive(self: &Arc<Self>, change: Change) -> Result<Stored, SaveError> {
        let driven = self.live.has(change.gid());
        let claim = driven || (change.is_due(self.now()) && self.live.has_room());
        // Held until the driver is started: from a version that is not the newest, none is.
        let _saving = self.live.save(change.gid());
        let stored = self.save(change, claim.then_some(limits::LEASE)).await?;
        if self.live.pass_on(&stored) {
        } else if claim && !stored.transaction().phase().ended() {
            driver::start(self, stored.clone());
        } else if let Some(due) = stored.transaction().due() {
            self.live.announce(due);
        }
        Ok(stored)
    }

    /// Saves a change: the one place where a transaction's writes go through. Whoever does not drive the transaction says by
    /// [`Live::save`] that it is about to, so that nobody is given an older version to drive.
    pub(crate) async fn save(&self, change: Change, claim: Option<Duration>) -> Result<Stored, SaveError> {
        let step = change.step();
        let site = Site::Step(step);
        crash::point(site, Moment::Before);
        let saved = change.save(&*self.store, fastrand::u64(..), claim).await;
        match &saved {
            Ok(stored) => {
                crash::point(site, Moment::After);
                // Before anybody is told, who may look.
                self.metrics.saved(step, &saved);
                self.live.saved(stored);
                self.live.publish(stored);
            }
            Err(SaveError::Unknown(error)) => {
                self.metrics.saved(step, &saved);
                self.fail(error);
            }
            Err(SaveError::Conflict | SaveError::Refused(_)) => self.metrics.saved(step, &saved),
        }
        saved
    }

    /// Has a human look at a transaction that cannot be read: the row says so, and is otherwise as it was.
    pub(crate) async fn call_a_human_for(&self, gid: &Gid) {
        let Ok(Some(found)) = self.store.load(gid).await else { return };
        if found.attention {
            return;
        }
        let replaces = Some(found.version);
        let row = Row { attention: true, version: found.version + 1, tag: fastrand::u64(..), ..found };
        let writes = vec![Write { row, replaces, claim: Some(limits::LEASE) }];
        let site = Site::Step(Step::Progress);
        crash::point(site, Moment::Before);
        let written = self.store.commit(writes).await;
        crash::point(site, Moment::After);
        // Lost or refused, it is found again after a lease.
        if let Err(unknown) = written {
            self.fail(&unknown);
        }
    }

    /// From here on nothing is done: what became of a write is for the next process to find out.
    pub(crate) fn fail(&self, unknown: &Unknown) {
        tracing::error!(error = %chain(unknown), "whether a write became durable is not known; acting no more");
        self.failed.send_replace(true);
    }

    /// Makes no more calls and ends every wait; calls in flight are waited for by
    /// [`Scheduler::drain`](crate::Scheduler::drain).
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stopped.notify_waiters();
    }

    /// Whether calls may still be made.
    pub(crate) fn acts(&self) -> bool {
        !self.stopping.load(Ordering::Relaxed) && !self.has_failed()
    }

    fn check_begin(&self, begin: &Begin) -> Result<(), Invalid> {
        self.check_endpoints(&begin.branches)?;
        let Some(check) = &begin.check else { return Ok(()) };
        self.transports.check(&check.at).map_err(|why| Invalid { pointer: "/check".to_owned(), detail: why })
    }

    fn check_endpoints(&self, branches: &[Definition]) -> Result<(), Invalid> {
        for (i, branch) in branches.iter().enumerate() {
            for (field, endpoint) in branch.endpoints() {
                self.transports
                    .check(endpoint)
                    .map_err(|detail| Invalid { pointer: format!("/branches/{i}/{field}"), detail })?;
            }
        }
        Ok(())
    }
}

impl Known {
    /// The transaction's id.
    #[must_use]
    pub fn gid(&self) -> &Gid {
        match self {
            Self::Stored(stored) => stored.transaction().gid(),
            Self::Purged(gid, _) => gid,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            Self::Stored(stored) => stored.transaction().phase(),
            Self::Purged(_, phase) => *phase,
        }
    }
}

impl From<SaveError> for Error {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Conflict => Self::Contended,
            SaveError::Refused(refusal) => Self::Refused(refusal),
            SaveError::Unknown(unknown) => Self::Unknown(unknown.into()),
        }
    }
}

impl From<Unavailable> for Error {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error.into())
    }
}

/// What an event finds of a transaction that is purged: the decision it was, still (C3).
fn purged(gid: &Gid, phase: Phase, event: &Event) -> Result<Known, Error> {
    let repeats = match event {
        Event::Confirm { .. } => phase.decision() == Some(tcc_core::Decision::Confirm),
        Event::Cancel { .. } => phase.decision() == Some(tcc_core::Decision::Cancel),
        // Its branches are forgotten, and each of them has ended.
        Event::Force { .. } | Event::Retry | Event::Acknowledge { .. } => true,
        Event::Register(_) | Event::Reply { .. } | Event::Deferred { .. } | Event::Expire => false,
    };
    if repeats {
        Ok(Known::Purged(gid.clone(), phase))
    } else {
        Err(Error::Rejected(Rejection::Decided(phase), phase))
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
