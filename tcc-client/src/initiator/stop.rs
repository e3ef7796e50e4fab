//! How a scoped transaction ends other than by a value.

use std::error::Error as StdError;
use std::fmt;

use tcc_core::{BranchId, Phase};

use super::error::Error;
use crate::BoxError;

/// Why a scoped transaction is to be cancelled: what its closure returns in place of a value.
///
/// Every error becomes one by `?`; [`Stop::because`] makes one of a text. It is no [`std::error::Error`] itself,
/// which that conversion rules out; [`RunError`] is.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stop {
    /// A participant refused its try.
    Refused {
        /// The branch.
        branch: BranchId,
        /// What the participant said.
        reason: String,
    },
    /// What came of a try was not to be learned before the deadline.
    Unclear {
        /// The branch.
        branch: BranchId,
        /// What the last call saw.
        seen: String,
    },
    /// The transaction was decided meanwhile: by its deadline, or by somebody else.
    Decided {
        /// Where it stood then.
        phase: Phase,
        /// What the coordinator said.
        detail: String,
    },
    /// The coordinator has branches that this scope did not see tried.
    NotAllTried(String),
    /// A branch could not be registered.
    Unregistered(Error),
    /// The application's own reason, as text.
    Because(String),
    /// The application's own reason, as an error.
    Error(BoxError),
}

impl Stop {
    /// The application's own reason. It is shown beside the decision wherever the transaction is.
    #[must_use]
    pub fn because(reason: impl Into<String>) -> Self {
        Self::Because(reason.into())
    }

    /// The error behind it, if there is one.
    #[must_use]
    pub fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Unregistered(error) => Some(error),
            Self::Error(error) => Some(&**error),
            Self::Refused { .. }
            | Self::Unclear { .. }
            | Self::Decided { .. }
            | Self::NotAllTried(_)
            | Self::Because(_) => None,
        }
    }

    /// The whole story in one line, for the coordinator to keep.
    pub(super) fn reason(&self) -> String {
        let mut reason = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            reason = format!("{reason}: {error}");
            source = error.source();
        }
        reason
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { branch, reason } => write!(f, "branch {branch} refused: {reason}"),
            Self::Unclear { branch, seen } => {
                write!(f, "what came of the try of branch {branch} is not known: {seen}")
            }
            Self::Decided { phase, detail } => {
                write!(f, "the transaction was {} already: {detail}", phase.as_str())
            }
            Self::NotAllTried(detail) => write!(f, "not all branches are known to be tried: {detail}"),
            Self::Unregistered(_) => f.write_str("a branch could not be registered"),
            Self::Because(reason) => f.write_str(reason),
            Self::Error(_) => f.write_str("the initiator failed"),
        }
    }
}

/// Why [`run`](super::Transaction::run) returned no value.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// It was decided, durably, that the transaction happens nowhere, and this is why.
    Cancelled(Stop),
    /// It was decided otherwise than by this run: before it began, in which case the closure was not called, or by a
    /// confirm from elsewhere. The phase says which way. A repeat cannot have the value of the first run.
    Decided(Phase),
    /// The coordinator would not begin the transaction; the closure was not called and nothing was tried.
    NotBegun(Error),
    /// What is decided, or will be, is not known here. Run it again with the same gid, or ask for the
    /// [`status`](crate::Client::status).
    Unknown(Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(stop) => write!(f, "the transaction was cancelled: {stop}"),
            Self::Decided(phase) => write!(f, "the transaction was {} already", phase.as_str()),
            Self::NotBegun(_) => f.write_str("the transaction was not begun"),
            Self::Unknown(_) => f.write_str("whether the transaction is confirmed is not known"),
        }
    }
}

impl StdError for RunError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Cancelled(stop) => stop.source(),
            Self::Decided(_) => None,
            Self::NotBegun(error) | Self::Unknown(error) => Some(error),
        }
    }
}
