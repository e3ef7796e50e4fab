//! What happened to one transaction, in the order it happened.

use serde::{Deserialize, Serialize};

use crate::history::{Attempt, What};
use crate::store::Stored;
use crate::{BranchId, Decision, End, Endpoint, Gid, Operation, Phase, Timestamp, Transaction};

/// What happened to a transaction, and why it stands where it does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TransactionEvents {
    /// Its id.
    pub gid: Gid,
    /// Where it stands.
    pub phase: Phase,
    /// Why it does, in a sentence.
    pub why: String,
    /// What happened, the oldest first.
    pub events: Vec<EventView>,
    /// How many calls are not told of any more; they were between the first few and the rest.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub left_out: u64,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventView {
    /// How long after the begin.
    pub after_ms: u64,
    /// What it was.
    pub event: EventKind,
    /// The branch it happened to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub branch: Option<BranchId>,
    /// What was asked by a call: `try`, `confirm`, `cancel` or `check`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operation: Option<String>,
    /// The calls of this operation so far, this one included.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attempt: Option<u32>,
    /// What was called, without its query and without a password.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub endpoint: Option<String>,
    /// How long the call took.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub took_ms: Option<u64>,
    /// What became of the call.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outcome: Option<String>,
    /// What was decided.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decision: Option<Decision>,
    /// Why it was decided so, or why an operator did it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// It was begun.
    Begun,
    /// A call was made.
    Called,
    /// It was decided.
    Decided,
    /// An operator had called now what was due later.
    Retried,
    /// An operator took note of what called for a human.
    Acknowledged,
    /// An operator ended a branch.
    Forced,
    /// It ended.
    Ended,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl TransactionEvents {
    /// What happened to a transaction, as far as it is known at a moment.
    #[must_use]
    pub fn of(stored: &Stored, now: Timestamp) -> Self {
        let transaction = stored.transaction();
        let mut events: Vec<(Timestamp, EventView)> = Vec::new();
        let mut add = |at: Timestamp, event| {
            let after_ms = millis(at.since(transaction.begun()));
            events.push((at, EventView { after_ms, ..event }));
        };
        add(transaction.begun(), EventView::of(EventKind::Begun));
        let decided = transaction.decided();
        // A call was made before the decision if it is one that comes before; moments may be the same.
        let comes_before = |what: &What| match what {
            What::Called(attempt) => matches!(attempt.operation, Operation::Try | Operation::Check),
            What::Operated(..) => decided.is_none(),
        };
        let (before, after): (Vec<_>, Vec<_>) =
            stored.history().entries().iter().partition(|entry| comes_before(&entry.what));
        for entry in before {
            add(entry.at, EventView::happened(&entry.what, transaction));
        }
        if let Some(decided) = decided {
            let (decision, reason) = (transaction.phase().decision(), decided.reason.clone());
            add(decided.at, EventView { decision, reason, ..EventView::of(EventKind::Decided) });
        }
        for entry in after {
            add(entry.at, EventView::happened(&entry.what, transaction));
        }
        for branch in transaction.branches() {
            if let Some(End::Forced { reason, at }) = branch.end() {
                let (branch, reason) = (Some(branch.definition().id.clone()), Some(reason.clone()));
                add(*at, EventView { branch, reason, ..EventView::of(EventKind::Forced) });
            }
        }
        if let Some(ended) = transaction.ended() {
            add(ended, EventView::of(EventKind::Ended));
        }
        events.sort_by_key(|(at, _)| *at);
        Self {
            gid: transaction.gid().clone(),
            phase: transaction.phase(),
            why: transaction.why(stored.parked(), now),
            events: events.into_iter().map(|(_, event)| event).collect(),
            left_out: stored.history().left_out(),
        }
    }

    /// What is left of one that was purged.
    #[must_use]
    pub fn purged(gid: Gid, phase: Phase) -> Self {
        let why = "it has ended, and so long ago that only its end is remembered".to_owned();
        Self { gid, phase, why, events: Vec::new(), left_out: 0 }
    }
}

impl EventView {
    const fn of(event: EventKind) -> Self {
        Self {
            after_ms: 0,
            event,
            branch: None,
            operation: None,
            attempt: None,
            endpoint: None,
            took_ms: None,
            outcome: None,
            decision: None,
            reason: None,
        }
    }

    fn happened(what: &What, transaction: &Transaction) -> Self {
        match what {
            What::Called(attempt) => Self::called(attempt, transaction),
            What::Operated(act, reason) => {
                let kind = match act {
                    crate::Act::Retried => EventKind::Retried,
                    crate::Act::Acknowledged => EventKind::Acknowledged,
                };
                Self { reason: reason.clone(), ..Self::of(kind) }
            }
        }
    }

    fn called(attempt: &Attempt, transaction: &Transaction) -> Self {
        let definition = attempt.branch.and_then(|i| transaction.branches().get(i)).map(|b| b.definition());
        let endpoint = match attempt.operation {
            Operation::Try => definition.and_then(|d| d.try_.as_ref()),
            Operation::Confirm => definition.and_then(|d| d.confirm.as_ref()),
            Operation::Cancel => definition.and_then(|d| d.cancel.as_ref()),
            Operation::Check => transaction.check(),
        };
        Self {
            branch: definition.map(|d| d.id.clone()),
            operation: Some(attempt.operation.to_string()),
            attempt: Some(attempt.number),
            endpoint: endpoint.map(Endpoint::without_secrets),
            took_ms: Some(millis(attempt.took)),
            outcome: Some(attempt.outcome.clone().unwrap_or_else(|| "done".to_owned())),
            ..Self::of(EventKind::Called)
        }
    }
}

fn millis(length: std::time::Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
