//! What a transaction looks like from outside.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::answer::cut;
use crate::branch::{Branch, End, Tried};
use crate::{BranchId, Decider, Decision, Gid, Phase, Timestamp, Transaction};

/// A transaction, as the store holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TransactionView {
    /// Its id.
    pub gid: Gid,
    /// Where it stands.
    pub phase: Phase,
    /// What was decided; absent while it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decision: Option<Decision>,
    /// Why it was decided so, for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Why a human should look at it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attention: Option<String>,
    /// What called for one, and was acknowledged.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub acknowledged: Option<String>,
    /// Who decides.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decider: Option<String>,
    /// The transaction it is a part of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<Gid>,
    /// When it began, by the coordinator's clock: only to be sent on as `Tcc-Begun` by an initiator that tries itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub begun: Option<i64>,
    /// How long ago it began.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub age_ms: Option<u64>,
    /// How long until the deadline decides, while it is not decided.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deadline_ms: Option<u64>,
    /// Whether it ended so long ago that its branches are forgotten.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub purged: bool,
    /// Its branches.
    #[serde(default)]
    pub branches: Vec<BranchView>,
}

/// A branch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BranchView {
    /// Its id.
    pub id: BranchId,
    /// Where it stands.
    pub state: BranchState,
    /// Calls of the present operation that brought no answer that settles it.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub attempts: u32,
    /// What the last of them saw.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seen: Option<String>,
    /// How long until the next call; 0 too where it waits for its destination to take calls.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_ms: Option<u64>,
    /// Why its try was refused, or why it was forced.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What its try answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub reply: Option<Arc<RawValue>>,
}

/// Where a branch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BranchState {
    /// Durable, and not known to be tried.
    Registered,
    /// Its try was done.
    Tried,
    /// Its try was refused.
    Refused,
    /// It is to be confirmed.
    Confirming,
    /// It is confirmed.
    Confirmed,
    /// It is to be cancelled.
    Cancelling,
    /// It is cancelled.
    Cancelled,
    /// Its ladder came to its end.
    GivenUp,
    /// An operator ended it.
    Forced,
    /// There is nothing to call for this decision.
    NotNeeded,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl TransactionView {
    /// What a transaction looks like at a moment.
    #[must_use]
    pub fn of(transaction: &Transaction, now: Timestamp) -> Self {
        let phase = transaction.phase();
        let deadline =
            (phase == Phase::Trying && transaction.asking().due.is_none()).then(|| transaction.deadline());
        Self {
            gid: transaction.gid().clone(),
            phase,
            decision: phase.decision(),
            reason: transaction.decided().and_then(|decided| decided.reason.clone()),
            attention: transaction.attention().map(cut),
            acknowledged: transaction.acknowledged().map(cut),
            decider: Some(
                match transaction.decider() {
                    Decider::Initiator => "initiator",
                    Decider::Coordinator => "coordinator",
                }
                .to_owned(),
            ),
            parent: transaction.parent().cloned(),
            begun: Some(transaction.begun().as_millis()),
            age_ms: Some(millis(now.since(transaction.begun()))),
            deadline_ms: deadline.map(|at| millis(at.since(now))),
            purged: false,
            branches: transaction
                .branches()
                .iter()
                .map(|branch| BranchView::of(branch, phase, now))
                .collect(),
        }
    }

    /// What is left of one that was purged.
    #[must_use]
    pub const fn purged(gid: Gid, phase: Phase) -> Self {
        Self {
            gid,
            phase,
            decision: phase.decision(),
            reason: None,
            attention: None,
            acknowledged: None,
            decider: None,
            parent: None,
            begun: None,
            age_ms: None,
            deadline_ms: None,
            purged: true,
            branches: Vec::new(),
        }
    }
}

impl BranchView {
    fn of(branch: &Branch, phase: Phase, now: Timestamp) -> Self {
        let state = match (phase.decision(), branch.end(), branch.tried()) {
            (None, _, Tried::NotYet) => BranchState::Registered,
            (None, _, Tried::Done(_)) => BranchState::Tried,
            (None, _, Tried::Refused(_)) => BranchState::Refused,
            (Some(Decision::Confirm), None, _) => BranchState::Confirming,
            (Some(Decision::Cancel), None, _) => BranchState::Cancelling,
            (Some(Decision::Confirm), Some(End::Done), _) => BranchState::Confirmed,
            (Some(Decision::Cancel), Some(End::Done), _) => BranchState::Cancelled,
            (Some(_), Some(End::GivenUp), _) => BranchState::GivenUp,
            (Some(_), Some(End::Forced { .. }), _) => BranchState::Forced,
            (Some(_), Some(End::NotNeeded), _) => BranchState::NotNeeded,
        };
        let reason = match (branch.end(), branch.tried()) {
            (Some(End::Forced { reason, .. }), _) | (_, Tried::Refused(reason)) => Some(reason.clone()),
            (_, Tried::NotYet | Tried::Done(_)) => None,
        };
        let reply = match branch.tried() {
            Tried::Done(reply) => reply.clone(),
            Tried::NotYet | Tried::Refused(_) => None,
        };
        let progress = branch.progress();
        Self {
            id: branch.definition().id.clone(),
            state,
            attempts: progress.attempts,
            seen: progress.seen.clone(),
            next_ms: progress.due.map(|due| millis(due.since(now))),
            reason,
            reply,
        }
    }
}

fn millis(length: std::time::Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

macro_rules! word {
    ($name:ident, $all:expr) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let word = std::borrow::Cow::<'de, str>::deserialize(from)?;
                let known = $all.into_iter().find(|known| known.as_str() == word);
                known.ok_or_else(|| serde::de::Error::custom(format!("no {}: {word:?}", stringify!($name))))
            }
        }
    };
}

word!(Phase, Phase::ALL);
word!(Decision, [Decision::Confirm, Decision::Cancel]);
