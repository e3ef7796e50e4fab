//! Where a transaction stands, as the coordinator told it.

use serde::de::DeserializeOwned;
use tcc_core::wire::{BranchView, TransactionView};
use tcc_core::{Decision, Gid, Phase};

/// What to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// For nothing more than that what was asked is durable.
    Stored,
    /// For the decision.
    #[default]
    Decision,
    /// For the end: every branch is confirmed, or cancelled.
    End,
}

impl Wait {
    /// The word in a query; there is none for not waiting.
    pub(super) const fn word(self) -> Option<&'static str> {
        match self {
            Self::Stored => None,
            Self::Decision => Some("decision"),
            Self::End => Some("end"),
        }
    }

    /// Whether what is waited for has come.
    pub(super) const fn is_over(self, phase: Phase) -> bool {
        match self {
            Self::Stored => true,
            Self::Decision => phase.decision().is_some(),
            Self::End => phase.ended(),
        }
    }
}

/// Where a transaction stands. What the coordinator tells it has stored.
#[derive(Clone, Debug)]
pub struct Standing {
    view: TransactionView,
}

impl Standing {
    pub(super) const fn new(view: TransactionView) -> Self {
        Self { view }
    }

    /// The transaction.
    #[must_use]
    pub const fn gid(&self) -> &Gid {
        &self.view.gid
    }

    /// Its phase.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.view.phase
    }

    /// What was decided; `None` while nothing is, also where a wait ran out.
    #[must_use]
    pub const fn decision(&self) -> Option<Decision> {
        self.view.phase.decision()
    }

    /// Whether it was decided that it happens.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.decision() == Some(Decision::Confirm)
    }

    /// Why it was decided so, for people.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.view.reason.as_deref()
    }

    /// What its branch with this id looks like.
    #[must_use]
    pub fn branch(&self, id: &str) -> Option<&BranchView> {
        self.view.branches.iter().find(|branch| branch.id.as_str() == id)
    }

    /// What the try of this branch answered; `None` if the coordinator knows of no answer.
    ///
    /// # Errors
    /// When the answer is no `T`.
    pub fn reply<T: DeserializeOwned>(&self, id: &str) -> Result<Option<T>, serde_json::Error> {
        let reply = self.branch(id).and_then(|branch| branch.reply.as_deref());
        reply.map(|reply| serde_json::from_str(reply.get())).transpose()
    }

    /// All that the coordinator told.
    #[must_use]
    pub const fn view(&self) -> &TransactionView {
        &self.view
    }

    /// All that the coordinator told.
    #[must_use]
    pub fn into_view(self) -> TransactionView {
        self.view
    }
}
