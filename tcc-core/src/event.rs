//! What happens to a transaction, what that does, and why it may be refused.

use std::collections::BTreeSet;

use crate::answer::Reply;
use crate::definition::{Definition, Invalid};
use crate::{BranchId, Operation, Phase, Random, Timestamp};

/// What happens to a transaction.
#[derive(Clone, Debug)]
pub enum Event {
    /// Branches are registered.
    Register(Vec<Definition>),
    /// The initiator says confirm, naming the branches it saw tried.
    Confirm {
        /// Those branches.
        tried: BTreeSet<BranchId>,
    },
    /// Somebody says cancel.
    Cancel {
        /// Why, for people.
        reason: String,
    },
    /// A participant, or the initiator when it was asked, answered or failed to.
    Reply {
        /// The branch that was called; `None` for a check.
        branch: Option<BranchId>,
        /// What it was asked to do.
        operation: Operation,
        /// What its answer means.
        reply: Reply,
        /// Spreads the next call.
        random: Random,
    },
    /// A call could not be made now: its destination is at its limit.
    Deferred {
        /// The branch; `None` for a check.
        branch: Option<BranchId>,
        /// What was to be called.
        operation: Operation,
        /// When to try again.
        until: Timestamp,
    },
    /// The deadline has come.
    Expire,
    /// An operator has what is due later called now.
    Retry,
    /// An operator has taken note of what calls for a human.
    Acknowledge {
        /// What is done about it.
        reason: String,
    },
    /// An operator ends a branch that cannot be ended otherwise.
    Force {
        /// The branch.
        branch: BranchId,
        /// Why; kept for ever.
        reason: String,
    },
}

/// What an event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Something others wait for changed: save it before anything else is done or told.
    Changed,
    /// Something was learned that nothing waits for; it rides along with the next write.
    Noted,
    /// Nothing: the event says what is so already, or comes too late to matter.
    Unchanged,
}

/// Why an event was refused. The transaction is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Confirm names other branches than were registered, or a try is outstanding.
    #[error("not all branches are known to be tried: {0}")]
    NotAllTried(String),
    /// The decision was taken, and it is not the one asked for, or it closed the transaction to new branches.
    #[error("the transaction is {}", .0.as_str())]
    Decided(Phase),
    /// Before the decision no branch can be forced.
    #[error("the transaction is not decided")]
    NotDecided,
    /// The coordinator decides: the initiator can neither confirm nor register.
    #[error("the coordinator decides this transaction; all its branches came at its begin")]
    CoordinatorDecides,
    /// The branch is registered with other content.
    #[error("branch {0} is registered with other content")]
    BranchReused(BranchId),
    /// The transaction has no such branch.
    #[error("the transaction has no branch {0}")]
    UnknownBranch(BranchId),
    /// The branches do not fit together.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}
