//! Drives one transaction: plan → call → apply, until it has ended or nothing is due for a while.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foldhash::HashMap;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tcc_core::answer::{Answer, Reply};
use tcc_core::store::{BoxFuture, Parked, Refusal, SaveError, load};
use tcc_core::{
    Applied, Attempt, BranchId, Call, Change, Event, Found, Gid, Operation, Plan, Random, Stored, Timestamp,
    answer, outcome,
};
use tokio::time::{Instant, Sleep};

use crate::coordinator::{Coordinator, chain};
use crate::destinations::{NoPlace, Took};
use crate::live::Mailbox;
use crate::transport::Outgoing;
use crate::{limits, metrics};

/// Drives a transaction, on which a claim is held, in a task of its own, or hands it to the one that drives it.
pub(crate) fn start(coordinator: &Arc<Coordinator>, stored: Stored) {
    spawn(coordinator, stored, None);
}

/// The same for one that was claimed from the store: of those there are fewer at once.
pub(crate) fn start_claimed(coordinator: &Arc<Coordinator>, stored: Stored) {
    coordinator.live.count_claimed();
    spawn(coordinator, stored, Some(Claimed(coordinator.clone())));
}

fn spawn(coordinator: &Arc<Coordinator>, stored: Stored, claimed: Option<Claimed>) {
    if let Some((stored, mailbox)) = coordinator.live.admit(stored) {
        let driver = Driver {
            coordinator: coordinator.clone(),
            gid: stored.transaction().gid().clone(),
            mailbox,
            facts: Vec::new(),
            applied: 0,
            calls: FuturesUnordered::new(),
            in_flight: Vec::new(),
            no_place: HashMap::default(),
            decided: Arc::default(),
            saved_at: coordinator.now(),
            alarm: Box::pin(tokio::time::sleep(limits::LEASE / 3)),
            newest: 0,
            _claimed: claimed,
        };
        // Boxed: what is large would be moved several times on its way to its task, and when it is done.
        tokio::spawn(Box::pin(driver.run(stored)));
    }
}

struct Driver {
    coordinator: Arc<Coordinator>,
    gid: Gid,
    mailbox: Arc<Mailbox>,
    /// What was learned since the last save. Replies are facts: where another writer was first they are applied anew.
    facts: Vec<Fact>,
    /// How many of the facts the transaction at hand has in it.
    applied: usize,
    calls: FuturesUnordered<BoxFuture<'static, Called>>,
    /// The branches being called, `None` for the check: one call at a time each, so that a cancel waits for its try.
    in_flight: Vec<Option<BranchId>>,
    /// What was to be called and its destination has no place for it: it is left for when there is one.
    no_place: HashMap<(Option<BranchId>, Operation), String>,
    /// Whether a decision is known here: a try that still waits for a place is not made any more.
    decided: Arc<AtomicBool>,
    saved_at: Timestamp,
    /// When to look again at the latest. One for all looks, for it is seldom that one is due sooner than the last.
    alarm: Pin<Box<Sleep>>,
    /// The newest version that was driven or saved here: of an older one nothing is done any more.
    newest: u64,
    _claimed: Option<Claimed>,
}

/// A place among the drivers of what was claimed from the store.
struct Claimed(Arc<Coordinator>);

impl Drop for Claimed {
    fn drop(&mut self) {
        self.0.live.uncount_claimed();
    }
}

/// What was learned, and of a call also when it was made and how long it took.
struct Fact {
    event: Event,
    call: Option<Made>,
}

#[derive(Clone, Copy)]
struct Made {
    at: Timestamp,
    took: Duration,
    attempt: u32,
}

impl From<Event> for Fact {
    fn from(event: Event) -> Self {
        Self { event, call: None }
    }
}

impl Fact {
    /// Takes down a call in the transaction's history.
    fn record(&self, stored: &mut Stored) {
        let (Some(made), Event::Reply { branch, operation, reply, .. }) = (self.call, &self.event) else {
            return;
        };
        let branches = stored.transaction().branches();
        let branch = branch.as_ref().and_then(|id| branches.iter().position(|b| b.definition().id == *id));
        let (operation, number, took) = (*operation, made.attempt, made.took);
        stored.called(made.at, Attempt { branch, operation, number, took, outcome: outcome(reply) });
    }
}

/// What became of a call.
enum Called {
    Fact(Fact),
    /// It was not made, for this destination has no place for it.
    NoPlace(Option<BranchId>, Operation, String),
}

/// Why a driver stops: the transaction is left to whoever claims it next.
struct Stopped;

impl Driver {
    async fn run(mut self, mut stored: Stored) {
        let coordinator = self.coordinator.clone();
        let gid = self.gid.clone();
        // Leaves the transaction to the next claim even where a bug of ours panics on it.
        let leaving = Leaving { coordinator: &coordinator, gid: &gid };
        loop {
            match self.drive(stored).await {
                Ok(()) => {}
                // What it knew may be out of date, or was not saved: only what others saved since may be driven.
                Err(Stopped) if !coordinator.acts() => return,
                Err(Stopped) => {
                    self.facts.clear();
                    self.applied = 0;
                }
            }
            self.no_place.clear();
            // Somebody may have changed it while this one was on its way out; or claimed what this one just left, and
            // counts on it.
            stored = loop {
                match coordinator.live.leave(&gid, &self.mailbox) {
                    Some(newer) if newer.version() >= self.newest => break newer,
                    Some(_) => {}
                    None => return std::mem::forget(leaving),
                }
            };
        }
    }

    /// Drives it as far as it goes now.
    async fn drive(&mut self, mut stored: Stored) -> Result<(), Stopped> {
        loop {
            self.newest = self.newest.max(stored.version());
            let now = self.coordinator.now();
            self.decided.store(stored.transaction().phase().decision().is_some(), Ordering::Relaxed);
            let next = match stored.plan(now) {
                Plan::Finished => return Ok(()),
                Plan::Expire => {
                    stored = self.learn(stored, Event::Expire.into()).await?;
                    continue;
                }
                Plan::Work { calls, next } => {
                    calls.into_iter().for_each(|call| self.call(call));
                    next
                }
            };
            let wait = next.map_or(limits::LEASE, |next| next.since(now));
            if self.in_flight.is_empty() && (wait > limits::LINGER || !self.coordinator.acts()) {
                return self.let_go(stored).await;
            }
            let longest = if stored.is_noted() { limits::UNSEEN } else { limits::LEASE / 3 };
            if now.since(self.saved_at) > longest {
                stored = self.write_back(stored, Some(limits::LEASE)).await?;
                continue;
            }
            self.set_alarm(wait.clamp(Duration::from_millis(1), limits::LEASE / 3));
            tokio::select! {
                // Facts first; and one order for all, so that a simulated run can be repeated.
                biased;
                Some(called) = self.calls.next() => {
                    let fact = match called {
                        Called::Fact(fact) => fact,
                        Called::NoPlace(branch, operation, destination) => {
                            self.no_place.insert((branch.clone(), operation), destination);
                            Event::Deferred { branch, operation, until: self.coordinator.now() }.into()
                        }
                    };
                    if let Event::Reply { branch, .. } | Event::Deferred { branch, .. } = &fact.event {
                        self.in_flight.retain(|called| called != branch);
                    }
                    stored = self.learn(stored, fact).await?;
                }
                newer = self.mailbox.come() => {
                    if newer.version() > stored.version() {
                        self.no_place.clear();
                        self.applied = 0;
                        stored = self.settle(newer).await?;
                    }
                }
                () = &mut self.alarm => {}
            }
        }
    }

    fn set_alarm(&mut self, wait: Duration) {
        let at = Instant::now() + wait;
        if at < self.alarm.deadline() || self.alarm.is_elapsed() {
            self.alarm.as_mut().reset(at);
        }
    }

    /// Makes a call, unless the branch is being called or there was no place for it.
    fn call(&mut self, mut call: Call) {
        if !self.no_place.is_empty() && self.no_place.contains_key(&(call.branch.clone(), call.operation)) {
            return;
        }
        if !self.coordinator.acts() || self.in_flight.contains(&call.branch) {
            return;
        }
        self.in_flight.push(call.branch.clone());
        let coordinator = self.coordinator.clone();
        let decided = self.decided.clone();
        self.calls.push(Box::pin(async move {
            let (branch, operation, shape) = (call.branch.clone(), call.operation, call.shape);
            let destination = coordinator.transports.destination(&call.endpoint);
            let place = match coordinator.destinations.place(&destination, call.gives_up).await {
                Ok(place) => place,
                Err(NoPlace { shut: true }) if call.gives_up => {
                    let until = coordinator.now() + limits::PUT_OFF.mul_f64(0.5 + fastrand::f64());
                    return Called::Fact(Event::Deferred { branch, operation, until }.into());
                }
                Err(NoPlace { .. }) => return Called::NoPlace(branch, operation, destination),
            };
            let too_late =
                matches!(operation, Operation::Try | Operation::Check) && decided.load(Ordering::Relaxed);
            if too_late || !coordinator.acts() {
                let until = coordinator.now();
                return Called::Fact(Event::Deferred { branch, operation, until }.into());
            }
            let timeout = call.timeout.unwrap_or_else(|| coordinator.settings.call_timeout(&destination));
            let (gid, attempt) = (call.gid.clone(), call.attempt);
            let calling = coordinator.traces.call(&mut call, &destination);
            let outgoing = Outgoing { call, timeout, settled: coordinator.settled() };
            let at = coordinator.now();
            let begun = Instant::now();
            let seen = coordinator.transports.call(outgoing).await;
            let length = begun.elapsed();
            place.leave(took(&seen));
            let reason = metrics::seen(&seen);
            let reply = answer::judge(operation, shape, seen);
            coordinator.metrics.called(operation, length, reason, &reply);
            calling.came_to(&reply, reason);
            let id = branch.as_ref().map(BranchId::as_str);
            tracing::debug!(%gid, branch = id, %operation, attempt, reply = %word(&reply), "called");
            let event = Event::Reply { branch, operation, reply, random: Random(fastrand::u32(..)) };
            Called::Fact(Fact { event, call: Some(Made { at, took: length, attempt }) })
        }));
    }

    /// Takes in a fact.
    async fn learn(&mut self, stored: Stored, fact: Fact) -> Result<Stored, Stopped> {
        self.facts.push(fact);
        self.settle(stored).await
    }

    /// Applies the facts that the transaction does not have yet, each change saved before the next fact is applied,
    /// whoever else changes it meanwhile.
    async fn settle(&mut self, mut stored: Stored) -> Result<Stored, Stopped> {
        let mut conflicts = 0;
        while let Some(fact) = self.facts.get(self.applied) {
            fact.record(&mut stored);
            match stored.apply(fact.event.clone(), self.coordinator.now()) {
                Applied::Kept(kept) => {
                    stored = kept;
                    self.applied += 1;
                }
                Applied::Rejected(kept, why) => {
                    tracing::error!(gid = %self.gid, %why, "an answer does not fit its transaction");
                    stored = kept;
                    self.applied += 1;
                }
                Applied::Changed(change) => {
                    let last = self.applied;
                    stored = match self.save(change, Some(limits::LEASE)).await? {
                        Saved::Won(stored) => {
                            self.facts.drain(..=last);
                            stored
                        }
                        Saved::Lost => self.read_again(&mut conflicts).await?,
                    };
                    self.applied = 0;
                }
            }
        }
        Ok(stored)
    }

    /// Saves what was noted, with a claim or without one; then it is parked if there is no place for its calls.
    async fn write_back(&mut self, mut stored: Stored, claim: Option<Duration>) -> Result<Stored, Stopped> {
        let mut conflicts = 0;
        loop {
            let parked = if claim.is_none() { self.parking(&stored) } else { None };
            let change = match parked {
                Some((parked, until)) => stored.into_change().park(parked, until),
                None => stored.into_change(),
            };
            match self.save(change, claim).await? {
                Saved::Won(stored) => {
                    self.facts.clear();
                    self.applied = 0;
                    return Ok(stored);
                }
                Saved::Lost => {
                    let newer = self.read_again(&mut conflicts).await?;
                    self.applied = 0;
                    stored = self.settle(newer).await?;
                    if stored.transaction().phase().ended() {
                        return Ok(stored);
                    }
                }
            }
        }
    }

    /// Gives the transaction back to the store until it is due again.
    async fn let_go(&mut self, stored: Stored) -> Result<(), Stopped> {
        let stored = self.write_back(stored, None).await?;
        if !self.no_place.is_empty() {
            self.coordinator.destinations.parked.notify_one();
        }
        if let Some(due) = stored.transaction().due() {
            self.coordinator.live.announce(due);
        }
        Ok(())
    }

    /// Where to park it: if there was no place for any of the calls it waits for, at the first of their destinations.
    fn parking(&self, stored: &Stored) -> Option<(Parked, Timestamp)> {
        let now = self.coordinator.now();
        let mut first = None;
        for (branch, operation) in stored.transaction().awaited(now) {
            let destination = self.no_place.get(&(branch.cloned(), operation))?;
            first.get_or_insert(destination);
        }
        let until = now + limits::PARKED;
        let until = stored.transaction().due_without_calls(now).map_or(until, |due| due.min(until));
        first.map(|destination| (Parked { at: destination.clone(), since: now }, until))
    }

    async fn save(&mut self, change: Change, claim: Option<Duration>) -> Result<Saved, Stopped> {
        let mut unstorable = 0;
        loop {
            match self.coordinator.save(change.clone(), claim).await {
                Ok(stored) => {
                    self.saved_at = self.coordinator.now();
                    self.newest = self.newest.max(stored.version());
                    return Ok(Saved::Won(stored));
                }
                Err(SaveError::Conflict) => return Ok(Saved::Lost),
                Err(SaveError::Refused(refusal)) => {
                    tracing::warn!(gid = %self.gid, %refusal, "a change could not be saved; trying again");
                    unstorable += u32::from(matches!(refusal, Refusal::Unstorable(_)));
                    if unstorable > limits::UNSTORABLE || !self.coordinator.acts() {
                        return Err(Stopped);
                    }
                    // A full store is waited for: what was learned is kept, and goes on once there is space.
                    tokio::time::sleep(limits::POLL).await;
                }
                // The coordinator has stopped acting; the process is about to be started anew.
                Err(SaveError::Unknown(_)) => return Err(Stopped),
            }
        }
    }

    /// Another writer was first: reads what it wrote.
    async fn read_again(&mut self, conflicts: &mut usize) -> Result<Stored, Stopped> {
        *conflicts += 1;
        if *conflicts > limits::CONFLICTS {
            tracing::warn!(gid = %self.gid, "others were first too often; leaving the transaction to a later claim");
            return Err(Stopped);
        }
        match load(&*self.coordinator.store, &self.gid).await {
            Ok(Some(Found::Stored(stored))) => Ok(*stored),
            Ok(Some(Found::Purged { .. }) | None) => Err(Stopped),
            Err(error) => {
                tracing::warn!(gid = %self.gid, error = %chain(&error), "a transaction could not be read again");
                Err(Stopped)
            }
        }
    }
}

/// Whether the destination is there: not what its answer means to the transaction. One that refuses a call, or does not
/// understand it, is there for all others.
const fn took(seen: &Answer) -> Took {
    match seen {
        Answer::None(_) => Took::NotAtAll,
        Answer::Response(response) => match response.status {
            // Of somebody who stands in front of it, or who wants no calls now.
            408 | 429 | 502 | 503 | 504 => Took::NotAtAll,
            500.. => Took::Badly,
            _ => Took::Well,
        },
    }
}

fn word(reply: &Reply) -> &str {
    match reply {
        Reply::Done(_) => "done",
        Reply::Pending(_) => "pending",
        Reply::Refused(_) => "refused",
        Reply::Unknown { seen, .. } => seen,
    }
}

enum Saved {
    Won(Stored),
    Lost,
}

struct Leaving<'a> {
    coordinator: &'a Coordinator,
    gid: &'a Gid,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.coordinator.live.drop_out(self.gid);
    }
}
