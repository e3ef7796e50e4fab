//! What can be read of a transaction.

use crate::branch::{Branch, End, Progress};
use crate::definition::{Begin, Definition, Digest};
use crate::transaction::{Decided, Transaction};
use crate::{BranchId, Decider, Endpoint, Gid, Phase, Timestamp, limits};

impl Transaction {
    /// Its id.
    #[must_use]
    pub const fn gid(&self) -> &Gid {
        &self.gid
    }

    /// Where it stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Who decides.
    #[must_use]
    pub const fn decider(&self) -> Decider {
        self.decider
    }

    /// The transaction it is a part of.
    #[must_use]
    pub const fn parent(&self) -> Option<&Gid> {
        self.parent.as_ref()
    }

    /// The trace it belongs to.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    /// When it began.
    #[must_use]
    pub const fn begun(&self) -> Timestamp {
        self.begun
    }

    /// When it is cancelled, if nobody decided by then.
    #[must_use]
    pub const fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// When and why it was decided.
    #[must_use]
    pub const fn decided(&self) -> Option<&Decided> {
        self.decided.as_ref()
    }

    /// When it ended.
    #[must_use]
    pub const fn ended(&self) -> Option<Timestamp> {
        self.ended
    }

    /// Why a human should look at it, if one should: the first of the branches' reasons that none has acknowledged.
    #[must_use]
    pub fn attention(&self) -> Option<&str> {
        self.progress().filter(|p| !p.acknowledged).find_map(|p| p.attention.as_deref())
    }

    /// What called for a human and was acknowledged: the first of the branches' reasons.
    #[must_use]
    pub fn acknowledged(&self) -> Option<&str> {
        self.progress().filter(|p| p.acknowledged).find_map(|p| p.attention.as_deref())
    }

    /// Where its initiator is asked, if it can be.
    #[must_use]
    pub fn check(&self) -> Option<&Endpoint> {
        self.check.as_ref().map(|check| &check.at)
    }

    /// The progress of the check.
    #[must_use]
    pub const fn asking(&self) -> &Progress {
        &self.asking
    }

    /// What is to be begun, under another gid, to do anew what this one gave up; `None` if it gave up nothing.
    #[must_use]
    pub fn given_up(&self, gid: Gid) -> Option<Begin> {
        let given_up = self.branches.iter().filter(|b| b.end == Some(End::GivenUp));
        let mut branches: Vec<Definition> = given_up.map(|b| b.definition().clone()).collect();
        let ids: Vec<BranchId> = branches.iter().map(|branch| branch.id.clone()).collect();
        for branch in &mut branches {
            branch.after.retain(|before| ids.contains(before));
        }
        (!branches.is_empty()).then(|| Begin {
            gid,
            decider: Decider::Coordinator,
            timeout: limits::DEFAULT_TIMEOUT,
            check: None,
            parent: Some(self.gid.clone()),
            traceparent: self.traceparent.clone(),
            branches,
            digest: Digest::of(&format!("what {} gave up", self.gid)),
        })
    }

    /// Its branches, in the order they came.
    #[must_use]
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// A branch.
    #[must_use]
    pub fn branch(&self, id: &BranchId) -> Option<&Branch> {
        self.branches.iter().find(|b| b.definition.id == *id)
    }
}
