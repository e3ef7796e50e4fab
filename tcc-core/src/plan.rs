//! What a transaction needs done next.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::answer::Shape;
use crate::branch::{Branch, Progress};
use crate::definition::Check;
use crate::transaction::Transaction;
use crate::{BranchId, Decision, Endpoint, Gid, Operation, Phase, Timestamp};

/// A call to make.
#[derive(Clone, Debug)]
pub struct Call {
    /// The transaction.
    pub gid: Gid,
    /// The branch; `None` for a check.
    pub branch: Option<BranchId>,
    /// What is asked.
    pub operation: Operation,
    /// Where.
    pub endpoint: Endpoint,
    /// The body, a JSON text.
    pub payload: Option<Arc<RawValue>>,
    /// Headers of the branch.
    pub headers: Vec<(String, String)>,
    /// The calls of this operation so far, plus one; for logs.
    pub attempt: u32,
    /// How long it may take; `None` leaves it to the configuration.
    pub timeout: Option<Duration>,
    /// The trace it belongs to.
    pub traceparent: Option<String>,
    /// When the transaction began.
    pub begun: Timestamp,
    /// How its answer is judged.
    pub shape: Shape,
    /// Whether the branch is given up after so many calls. Then each counts, and none may be left out.
    pub gives_up: bool,
}

/// What is to be done next.
#[derive(Clone, Debug)]
pub enum Plan {
    /// The deadline has passed: apply [`Event::Expire`](crate::Event::Expire).
    Expire,
    /// Make these calls (none may be due yet) and look again at that moment.
    Work {
        /// The calls that are due, at most one a branch.
        calls: Vec<Call>,
        /// When more is due.
        next: Option<Timestamp>,
    },
    /// Nothing, ever.
    Finished,
}

impl Transaction {
    /// What is to be done at a moment.
    #[must_use]
    pub fn plan(&self, now: Timestamp) -> Plan {
        if self.phase.ended() {
            return Plan::Finished;
        }
        if self.expired(now) {
            return Plan::Expire;
        }
        let is_due = |progress: &Progress| progress.due.is_some_and(|due| due <= now);
        let mut calls: Vec<Call> =
            self.branches.iter().filter(|b| is_due(&b.progress)).filter_map(|b| self.call(b)).collect();
        if is_due(&self.asking) {
            calls.extend(self.check.as_ref().map(|check| self.check_call(check)));
        }
        Plan::Work { calls, next: self.moments().filter(|at| *at > now).min() }
    }

    /// When somebody has to look at it next; `None` once it ended.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        self.moments().min()
    }

    /// The calls that are due: the branch, or `None` for the check, and what is asked.
    pub fn awaited(&self, now: Timestamp) -> impl Iterator<Item = (Option<&BranchId>, Operation)> {
        let operation = self.operation();
        let is_due = move |progress: &Progress| progress.due.is_some_and(|due| due <= now);
        let branches = self.branches.iter().filter(move |b| is_due(&b.progress));
        let check = is_due(&self.asking).then_some((None, Operation::Check));
        branches.map(move |b| (Some(&b.definition.id), operation)).chain(check)
    }

    /// When somebody has to look at it even if no call that is due can be made: when another is, at its deadline, and
    /// when a human has to know.
    #[must_use]
    pub fn due_without_calls(&self, now: Timestamp) -> Option<Timestamp> {
        let calls = || self.progress().filter(|p| p.due.is_some());
        let impatient = self.since() + self.patience.age;
        let unknown_to_humans = impatient > now && calls().any(|p| p.attention.is_none());
        let later = self.progress().filter_map(|p| p.due).filter(|due| *due > now);
        later.chain(self.expires()).chain(unknown_to_humans.then_some(impatient)).min()
    }

    /// Every moment at which something is to be done.
    fn moments(&self) -> impl Iterator<Item = Timestamp> + '_ {
        self.progress().filter_map(|p| p.due).chain(self.expires())
    }

    /// The deadline, where it decides.
    fn expires(&self) -> Option<Timestamp> {
        (self.phase == Phase::Trying && self.check.is_none()).then_some(self.deadline)
    }

    pub(crate) fn progress(&self) -> impl Iterator<Item = &Progress> {
        self.branches.iter().map(|b| &b.progress).chain([&self.asking])
    }

    /// What branches are asked to do now.
    pub(crate) const fn operation(&self) -> Operation {
        match self.phase.decision() {
            None => Operation::Try,
            Some(Decision::Confirm) => Operation::Confirm,
            Some(Decision::Cancel) => Operation::Cancel,
        }
    }

    /// The call a branch is waiting for.
    fn call(&self, branch: &Branch) -> Option<Call> {
        let definition = &branch.definition;
        let operation = self.operation();
        let endpoint = match operation {
            Operation::Confirm => &definition.confirm,
            Operation::Cancel => &definition.cancel,
            Operation::Try | Operation::Check => &definition.try_,
        };
        let shape = if definition.confirms_only() { Shape::ConfirmsOnly } else { Shape::Other };
        Some(Call {
            gid: self.gid.clone(),
            branch: Some(definition.id.clone()),
            operation,
            endpoint: endpoint.clone()?,
            payload: definition.payload.clone(),
            headers: definition.headers.clone().into_iter().collect(),
            attempt: branch.progress.attempts + 1,
            timeout: definition.timeout,
            traceparent: self.traceparent.clone(),
            begun: self.begun,
            shape,
            gives_up: definition.retry.ends(),
        })
    }

    fn check_call(&self, check: &Check) -> Call {
        Call {
            gid: self.gid.clone(),
            branch: None,
            operation: Operation::Check,
            endpoint: check.at.clone(),
            payload: None,
            headers: Vec::new(),
            attempt: self.asking.attempts + 1,
            timeout: None,
            traceparent: self.traceparent.clone(),
            begun: self.begun,
            shape: Shape::Other,
            gives_up: false,
        }
    }
}
