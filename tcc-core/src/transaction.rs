//! Everything that can happen to a transaction. Whoever knows this file knows the protocol.
//!
//! [`Transaction::apply`] takes an event and changes the transaction or refuses; [`Transaction::plan`] says what
//! is to be called now and when to look again. Neither reads a clock, draws a number or does I/O.
//!
//! Calling order: [`plan`](Transaction::plan), make the calls, `apply` their replies, save what
//! [changed](Effect::Changed), plan again. Plan from what is stored: through [`Stored`](crate::Stored) nothing
//! else can be done.

use std::collections::{BTreeSet, HashMap};

use crate::answer::{Outlook, Reply};
use crate::branch::{Age, Branch, End, Ladder, Patience, Progress, Tried};
use crate::definition::{Begin, Check, Decider, Definition, Invalid, fit_together};
use crate::event::{Effect, Event, Rejection};
use crate::retry::{Random, Retry};
use crate::{BranchId, Decision, Gid, Operation, Phase, Timestamp};

/// One global transaction.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub(crate) gid: Gid,
    pub(crate) decider: Decider,
    pub(crate) check: Option<Check>,
    pub(crate) parent: Option<Gid>,
    pub(crate) traceparent: Option<String>,
    pub(crate) patience: Patience,
    pub(crate) begun: Timestamp,
    pub(crate) deadline: Timestamp,
    pub(crate) phase: Phase,
    pub(crate) decided: Option<Decided>,
    pub(crate) ended: Option<Timestamp>,
    /// The check-back's progress; its `due` is set while `check` is there and nothing is decided.
    pub(crate) asking: Progress,
    pub(crate) branches: Vec<Branch>,
}

/// The decision and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// When.
    pub at: Timestamp,
    /// Why, for people: a refusal's detail, the canceller's reason, the deadline.
    pub reason: Option<String>,
}

/// The reason of a decision that the deadline took.
pub const DEADLINE: &str = "the deadline passed";

impl Transaction {
    /// A new transaction. Without anything to wait for it is decided at once.
    ///
    /// # Errors
    /// When its branches do not fit together, or there is nothing the coordinator could decide on.
    pub fn begin(begin: Begin, patience: Patience, now: Timestamp) -> Result<Self, Invalid> {
        fit_together(&[], &begin.branches)?;
        if begin.decider == Decider::Coordinator {
            if begin.branches.is_empty() {
                return Err(Invalid::new("/branches", "is empty, and the coordinator decides"));
            }
            if let Some(i) = begin.branches.iter().position(|b| b.try_.is_none() && b.cancel.is_some()) {
                let why = "has a cancel and no try, so nothing says whether it was tried";
                return Err(Invalid::new(format!("/branches/{i}/try"), why));
            }
            if begin.check.is_some() {
                return Err(Invalid::new("/check", "is asked of an initiator that decides"));
            }
        }
        let mut transaction = Self {
            gid: begin.gid,
            decider: begin.decider,
            parent: begin.parent,
            traceparent: begin.traceparent,
            patience,
            begun: now,
            deadline: now + begin.timeout,
            phase: Phase::Trying,
            decided: None,
            ended: None,
            asking: Progress {
                due: begin.check.as_ref().map(|check| now + check.after),
                ..Progress::default()
            },
            check: begin.check,
            branches: Vec::new(),
        };
        transaction.fit_the_check(&begin.branches)?;
        transaction.admit(begin.branches, now);
        if begin.decider == Decider::Coordinator
            && transaction.branches.iter().all(|b| b.definition.try_.is_none())
        {
            transaction.decide(Decision::Confirm, None, now);
        }
        Ok(transaction)
    }

    /// A transaction that was cancelled before its begin arrived: it has no branches, and bars that begin (C3).
    #[must_use]
    pub fn cancelled_before_begin(gid: Gid, reason: String, patience: Patience, now: Timestamp) -> Self {
        Self {
            gid,
            decider: Decider::Initiator,
            check: None,
            parent: None,
            traceparent: None,
            patience,
            begun: now,
            deadline: now,
            phase: Phase::Cancelled,
            decided: Some(Decided { at: now, reason: Some(reason) }),
            ended: Some(now),
            asking: Progress::default(),
            branches: Vec::new(),
        }
    }

    /// Applies an event at a moment.
    ///
    /// # Errors
    /// A [`Rejection`] when the caller asks for what cannot be; the transaction is as it was.
    pub fn apply(&mut self, event: Event, now: Timestamp) -> Result<Effect, Rejection> {
        use Phase::{Abandoned, Cancelled, Cancelling, Confirmed, Confirming, Trying};
        match (self.phase, event) {
            // Whatever comes after the deadline and before somebody acted on it becomes the deadline's decision.
            (
                Trying,
                Event::Register(_) | Event::Confirm { .. } | Event::Reply { .. } | Event::Deferred { .. } | Event::Retry | Event::Expire,
            ) if self.expired(now) => Ok(self.decide(Decision::Cancel, Some(DEADLINE.to_owned()), now)),

            (Trying, Event::Register(branches)) => self.register(branches, now),
            (Trying, Event::Confirm { tried }) => self.confirm(&tried, now),
            (Trying, Event::Cancel { reason }) => Ok(self.decide(Decision::Cancel, Some(reason), now)),
            (Trying, Event::Reply { branch: Some(id), operation: Operation::Try, reply, random }) => {
                self.try_replied(&id, reply, random, now)
            }
            (Trying, Event::Reply { branch: None, operation: Operation::Check, reply, random }) => {
                Ok(self.check_replied(reply, random, now))
            }
            (Confirming, Event::Reply { branch: Some(id), operation: Operation::Confirm, reply, random })
            | (Cancelling, Event::Reply { branch: Some(id), operation: Operation::Cancel, reply, random }) => {
                self.end_replied(&id, reply, random, now)
            }
            (Trying | Confirming | Cancelling, Event::Deferred { branch, operation, until }) => {
                self.defer(branch.as_ref(), operation, until, now)
            }
            (Trying | Confirming | Cancelling, Event::Retry) => Ok(self.retry(now)),
            (Trying | Confirming | Cancelling | Abandoned, Event::Acknowledge { .. }) => Ok(self.acknowledge()),
            // After the end every branch has ended, and forcing one says again what is so.
            (Confirming | Cancelling | Confirmed | Cancelled | Abandoned, Event::Force { branch, reason }) => {
                self.force(&branch, reason, now)
            }

            // Saying again what is so already.
            (Confirming | Confirmed | Abandoned, Event::Confirm { .. })
            | (Cancelling | Cancelled, Event::Cancel { .. })
            | (Trying | Confirming | Confirmed | Cancelling | Cancelled | Abandoned, Event::Expire)
            // Answers to questions that are not open any more: a late try, a repeated confirm.
            | (Trying | Confirming | Confirmed | Cancelling | Cancelled | Abandoned, Event::Reply { .. })
            | (Confirmed | Cancelled | Abandoned, Event::Deferred { .. } | Event::Retry)
            | (Confirmed | Cancelled, Event::Acknowledge { .. }) => Ok(Effect::Unchanged),

            (Cancelling | Cancelled, Event::Confirm { .. })
            | (Confirming | Confirmed | Abandoned, Event::Cancel { .. })
            | (Confirming | Confirmed | Cancelling | Cancelled | Abandoned, Event::Register(_)) => {
                Err(Rejection::Decided(self.phase))
            }
            (Trying, Event::Force { .. }) => Err(Rejection::NotDecided),
        }
    }

    /// Whether the deadline decides now. With a check it never does: only an answer decides.
    pub(crate) fn expired(&self, now: Timestamp) -> bool {
        self.phase == Phase::Trying && self.check.is_none() && now >= self.deadline
    }
}

/// Events.
impl Transaction {
    fn register(&mut self, branches: Vec<Definition>, now: Timestamp) -> Result<Effect, Rejection> {
        if self.decider == Decider::Coordinator {
            return Err(Rejection::CoordinatorDecides);
        }
        for branch in &branches {
            if self.branch(&branch.id).is_some_and(|known| !known.definition.same(branch)) {
                return Err(Rejection::BranchReused(branch.id.clone()));
            }
        }
        // With those among them that are registered already, so that a mistake is named by its place in the request.
        let others =
            self.branches.iter().map(Branch::definition).filter(|d| branches.iter().all(|b| b.id != d.id));
        fit_together(&others.collect::<Vec<_>>(), &branches)?;
        self.fit_the_check(&branches)?;
        let new: Vec<Definition> = branches.into_iter().filter(|b| self.branch(&b.id).is_none()).collect();
        if new.is_empty() {
            return Ok(Effect::Unchanged);
        }
        self.admit(new, now);
        Ok(Effect::Changed)
    }

    fn fit_the_check(&self, branches: &[Definition]) -> Result<(), Invalid> {
        match branches.iter().position(|b| b.try_.is_some()) {
            // The check answers for a local transaction that committed; a refused try could not undo that.
            Some(i) if self.check.is_some() => {
                Err(Invalid::new(format!("/branches/{i}/try"), "cannot stand beside a check"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Takes in branches that fit.
    fn admit(&mut self, branches: Vec<Definition>, now: Timestamp) {
        if let Some(least) = branches.iter().filter_map(|b| b.reserves).min() {
            self.deadline = self.deadline.min(now + least);
            if let Some(ask) = &mut self.asking.due {
                *ask = (*ask).min(now + least);
            }
        }
        self.branches.extend(branches.into_iter().map(Branch::new));
        self.resolve_order();
        self.release(now);
    }

    fn confirm(&mut self, named: &BTreeSet<BranchId>, now: Timestamp) -> Result<Effect, Rejection> {
        if self.decider == Decider::Coordinator {
            return Err(Rejection::CoordinatorDecides);
        }
        let not_named = |b: &&Branch| b.definition.try_.is_none() && !named.contains(&b.definition.id);
        if let Some(branch) = self.branches.iter().find(not_named) {
            return Err(Rejection::NotAllTried(format!(
                "{} is registered and not named",
                branch.definition.id
            )));
        }
        if let Some(id) = named.iter().find(|id| self.branch(id).is_none()) {
            return Err(Rejection::NotAllTried(format!("{id} is named and not registered")));
        }
        if let Some(branch) = self.branches.iter().find(|b| b.definition.try_.is_some() && !b.is_tried()) {
            return Err(Rejection::NotAllTried(format!("the try of {} is not done", branch.definition.id)));
        }
        Ok(self.decide(Decision::Confirm, None, now))
    }

    fn try_replied(
        &mut self,
        id: &BranchId,
        reply: Reply,
        random: Random,
        now: Timestamp,
    ) -> Result<Effect, Rejection> {
        let (decider, age) = (self.decider, self.age(now));
        let branch = self.branch_mut(id).ok_or_else(|| Rejection::UnknownBranch(id.clone()))?;
        // An answer settles what was asked, once.
        if branch.progress.due.is_none() || !matches!(branch.tried, Tried::NotYet) {
            return Ok(Effect::Unchanged);
        }
        match reply {
            Reply::Done(reply) => {
                branch.tried = Tried::Done(reply);
                branch.progress = Progress::default();
                let released = self.release(now);
                let all = self.branches.iter().all(|b| b.definition.try_.is_none() || b.is_tried());
                Ok(match decider {
                    Decider::Coordinator if all => self.decide(Decision::Confirm, None, now),
                    Decider::Coordinator if released => Effect::Changed,
                    Decider::Coordinator => Effect::Noted,
                    // The initiator's confirm waits for it, and may come by another node.
                    Decider::Initiator => Effect::Changed,
                })
            }
            Reply::Refused(reason) => {
                branch.tried = Tried::Refused(reason.clone());
                branch.progress = Progress::default();
                Ok(match decider {
                    Decider::Coordinator => {
                        self.decide(Decision::Cancel, Some(format!("branch {id} refused: {reason}")), now)
                    }
                    Decider::Initiator => Effect::Changed,
                })
            }
            reply @ (Reply::Pending(_) | Reply::Unknown { .. }) => {
                let retry = branch.definition.retry.clone();
                Ok(branch.progress.wait(Operation::Try, &reply, &retry, random, age).effect())
            }
        }
    }

    fn check_replied(&mut self, reply: Reply, random: Random, now: Timestamp) -> Effect {
        if self.asking.due.is_none() {
            return Effect::Unchanged;
        }
        let age = self.age(now);
        match reply {
            Reply::Done(_) => {
                self.decide(Decision::Confirm, Some("the check answered: committed".to_owned()), now)
            }
            Reply::Refused(reason) => {
                self.decide(Decision::Cancel, Some(format!("the check answered: {reason}")), now)
            }
            reply @ (Reply::Pending(_) | Reply::Unknown { .. }) => {
                self.asking.wait(Operation::Check, &reply, &Retry::default(), random, age).effect()
            }
        }
    }

    fn end_replied(
        &mut self,
        id: &BranchId,
        reply: Reply,
        random: Random,
        now: Timestamp,
    ) -> Result<Effect, Rejection> {
        let age = self.age(now);
        let operation = if self.phase == Phase::Cancelling { Operation::Cancel } else { Operation::Confirm };
        let branch = self.branch_mut(id).ok_or_else(|| Rejection::UnknownBranch(id.clone()))?;
        if branch.progress.due.is_none() || branch.end.is_some() {
            return Ok(Effect::Unchanged);
        }
        let retry = branch.definition.retry.clone();
        let reply = match reply {
            Reply::Done(_) => return Ok(self.end(id, End::Done, now)),
            // What was decided cannot be refused: a human has to look, and it is asked on.
            Reply::Refused(reason) => Reply::Unknown {
                seen: format!("refused: {reason}"),
                retry_after: None,
                outlook: Outlook::Attention,
            },
            reply @ (Reply::Pending(_) | Reply::Unknown { .. }) => reply,
        };
        match branch.progress.wait(operation, &reply, &retry, random, age) {
            Ladder::Ended => {
                let why = branch.progress.given_up();
                let effect = self.end(id, End::GivenUp, now);
                if let Some(branch) = self.branch_mut(id) {
                    branch.progress.call_a_human(why);
                }
                Ok(effect)
            }
            ladder @ (Ladder::Goes | Ladder::NeedsAttention) => Ok(ladder.effect()),
        }
    }

    fn defer(
        &mut self,
        id: Option<&BranchId>,
        operation: Operation,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Effect, Rejection> {
        let age = self.age(now);
        let current = if id.is_none() { Operation::Check } else { self.operation() };
        let progress = match id {
            None => &mut self.asking,
            Some(id) => {
                &mut self.branch_mut(id).ok_or_else(|| Rejection::UnknownBranch(id.clone()))?.progress
            }
        };
        match progress.due {
            Some(due) if operation == current && due < until => Ok(progress.defer(until, age).effect()),
            Some(_) | None => Ok(Effect::Unchanged),
        }
    }

    /// Calls that are due already are due still, and saved all the same: the transaction may be parked. How often a branch
    /// was called is not forgotten, so that a ladder that ends does not begin anew.
    fn retry(&mut self, now: Timestamp) -> Effect {
        let awaited = self.branches.iter_mut().map(|b| &mut b.progress).chain([&mut self.asking]);
        let mut effect = Effect::Unchanged;
        for due in awaited.filter_map(|progress| progress.due.as_mut()) {
            *due = (*due).min(now);
            effect = Effect::Changed;
        }
        effect
    }

    /// Nothing is called otherwise for it; only what calls for a human does so no more.
    fn acknowledge(&mut self) -> Effect {
        let mut effect = Effect::Unchanged;
        for progress in self.branches.iter_mut().map(|b| &mut b.progress).chain([&mut self.asking]) {
            if progress.calls_a_human() {
                progress.acknowledged = true;
                effect = Effect::Changed;
            }
        }
        effect
    }

    fn force(&mut self, id: &BranchId, reason: String, now: Timestamp) -> Result<Effect, Rejection> {
        match self.branch(id) {
            None => Err(Rejection::UnknownBranch(id.clone())),
            Some(branch) if branch.end.is_some() => Ok(Effect::Unchanged),
            Some(_) => {
                self.end(id, End::Forced { reason, at: now }, now);
                Ok(Effect::Changed)
            }
        }
    }
}

/// Steps.
impl Transaction {
    /// Takes the decision, in whose write the set of branches to cancel is frozen (C8).
    fn decide(&mut self, decision: Decision, reason: Option<String>, now: Timestamp) -> Effect {
        self.phase = match decision {
            Decision::Confirm => Phase::Confirming,
            Decision::Cancel => Phase::Cancelling,
        };
        self.decided = Some(Decided { at: now, reason });
        self.asking = Progress::default();
        for branch in &mut self.branches {
            let needed = match decision {
                Decision::Confirm => branch.definition.confirm.is_some(),
                Decision::Cancel => branch.definition.cancel.is_some() && branch.may_have_been_tried(),
            };
            branch.progress = Progress::default();
            branch.end = if needed { None } else { Some(End::NotNeeded) };
        }
        self.release(now);
        self.finish(now);
        Effect::Changed
    }

    fn end(&mut self, id: &BranchId, end: End, now: Timestamp) -> Effect {
        if let Some(branch) = self.branch_mut(id) {
            branch.end = Some(end);
            branch.progress = Progress::default();
        }
        let released = self.release(now);
        if self.finish(now) || released { Effect::Changed } else { Effect::Noted }
    }

    /// Looks up the branches that each branch names in its `after`.
    pub(crate) fn resolve_order(&mut self) {
        if self.branches.iter().all(|b| b.definition.after.is_empty()) {
            return;
        }
        let place: HashMap<BranchId, usize> =
            self.branches.iter().enumerate().map(|(i, b)| (b.definition.id.clone(), i)).collect();
        for branch in &mut self.branches {
            branch.before = branch.definition.after.iter().filter_map(|id| place.get(id).copied()).collect();
        }
    }

    /// How long the calls of the present phase have been going on.
    fn age(&self, now: Timestamp) -> Age {
        Age { patience: self.patience, length: now.since(self.since()), now }
    }

    /// When the calls of the present phase began.
    pub(crate) fn since(&self) -> Timestamp {
        self.decided.as_ref().map_or(self.begun, |decided| decided.at)
    }

    /// Ends the transaction if every branch has ended.
    fn finish(&mut self, now: Timestamp) -> bool {
        if self.branches.iter().any(|b| b.end.is_none()) {
            return false;
        }
        let given_up = self.branches.iter().any(|b| b.end == Some(End::GivenUp));
        self.phase = match self.phase {
            Phase::Confirming if given_up => Phase::Abandoned,
            Phase::Confirming => Phase::Confirmed,
            Phase::Cancelling => Phase::Cancelled,
            phase @ (Phase::Trying | Phase::Confirmed | Phase::Cancelled | Phase::Abandoned) => phase,
        };
        self.ended = Some(now);
        true
    }

    fn branch_mut(&mut self, id: &BranchId) -> Option<&mut Branch> {
        self.branches.iter_mut().find(|b| b.definition.id == *id)
    }
}
