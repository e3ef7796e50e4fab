//! What can go wrong between the initiator and the coordinator, and whether the outcome is known.

use tcc_core::wire::{Problem, ProblemCode};
use tcc_core::{Gid, Invalid};

use crate::BoxError;

/// A request to the coordinator that failed, one variant for each.
///
/// Ask [`outcome`](Self::outcome) first: where it is unknown, nothing was shown not to have happened. Repeat the
/// request with the same gid, or ask for the [`status`](crate::Client::status).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The transaction could not be begun.
    #[error("{} could not be begun", .0.what())]
    Begin(#[source] Box<Failed>),
    /// A branch could not be registered.
    #[error("a branch of {} could not be registered", .0.what())]
    Register(#[source] Box<Failed>),
    /// The confirm was not acknowledged.
    #[error("the confirm of {} was not acknowledged", .0.what())]
    Confirm(#[source] Box<Failed>),
    /// The cancel was not acknowledged.
    #[error("the cancel of {} was not acknowledged", .0.what())]
    Cancel(#[source] Box<Failed>),
    /// The coordinator could not be asked where the transaction stands.
    #[error("where {} stands could not be asked", .0.what())]
    Status(#[source] Box<Failed>),
    /// What an operator asked for was not acknowledged.
    #[error("what was asked of {} by hand was not acknowledged", .0.what())]
    ByHand(#[source] Box<Failed>),
    /// What was asked about topics was not answered.
    #[error("what was asked about topics was not answered")]
    Topics(#[source] Box<Failed>),
}

/// How a request failed, after all its attempts.
#[derive(Debug, thiserror::Error)]
#[error("attempt {attempts}: {failure}")]
#[non_exhaustive]
pub struct Failed {
    /// The transaction; `None` where many were asked for.
    pub gid: Option<Gid>,
    /// How many attempts were made.
    pub attempts: u32,
    /// Whether it is known what came of them.
    pub outcome: Outcome,
    /// What the last attempt saw.
    pub failure: Failure,
}

/// Whether it is known what came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request changed nothing, or the coordinator's answer says where the transaction stands.
    Known,
    /// It may or may not have been done.
    Unknown,
}

/// What one attempt saw.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The request breaks a rule of the protocol and was not sent.
    #[error("not sent, since {0}")]
    Invalid(Invalid),
    /// No connection could be made, so nothing was sent.
    #[error("no connection could be made")]
    Connect(#[source] BoxError),
    /// The request was sent, perhaps, and no whole answer came back.
    #[error("no answer came")]
    NoAnswer(#[source] BoxError),
    /// The coordinator said no.
    #[error("the coordinator answered {}, {}", .0.code, .0.detail)]
    Problem(Box<Problem>),
    /// Something that is not the coordinator, a proxy perhaps, answered with this status.
    #[error("the answer has status {0} and is not the coordinator's")]
    Status(u16),
    /// A success came whose body is no transaction, or another one.
    #[error("the answer is no view of this transaction")]
    Unreadable(#[source] BoxError),
    /// The coordinator was still at it when it stopped waiting.
    #[error("the coordinator has not decided yet")]
    Undecided,
}

impl Error {
    /// Whether it is known what came of the request.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.failed().outcome
    }

    /// What the coordinator said, if it said anything: its code, the phase, the detail.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match &self.failed().failure {
            Failure::Problem(problem) => Some(problem),
            Failure::Invalid(_)
            | Failure::Connect(_)
            | Failure::NoAnswer(_)
            | Failure::Status(_)
            | Failure::Unreadable(_)
            | Failure::Undecided => None,
        }
    }

    /// The code of what the coordinator said, if this version knows it.
    #[must_use]
    pub fn code(&self) -> Option<ProblemCode> {
        self.problem()?.code.parse().ok()
    }

    /// The transaction; `None` where many were asked for.
    #[must_use]
    pub fn gid(&self) -> Option<&Gid> {
        self.failed().gid.as_ref()
    }

    /// How the request failed.
    #[must_use]
    pub fn failed(&self) -> &Failed {
        match self {
            Self::Begin(failed)
            | Self::Register(failed)
            | Self::Confirm(failed)
            | Self::Cancel(failed)
            | Self::Status(failed)
            | Self::ByHand(failed)
            | Self::Topics(failed) => failed,
        }
    }
}

impl Failed {
    fn what(&self) -> String {
        self.gid.as_ref().map_or_else(|| "many transactions".to_owned(), |gid| format!("transaction {gid}"))
    }
}

impl Failure {
    /// Whether an attempt that saw this may have been done all the same.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Invalid(_) | Self::Connect(_) => Outcome::Known,
            Self::NoAnswer(_) | Self::Status(_) | Self::Unreadable(_) | Self::Undecided => Outcome::Unknown,
            Self::Problem(problem) => match problem.code.parse() {
                Ok(ProblemCode::OutcomeUnknown | ProblemCode::Internal | ProblemCode::UnknownGid) => {
                    Outcome::Unknown
                }
                Ok(_) => Outcome::Known,
                // A word of a later coordinator: its status is all that can be understood.
                Err(()) if problem.status < 500 => Outcome::Known,
                Err(()) => Outcome::Unknown,
            },
        }
    }

    /// Whether this says where the transaction stands, whatever came of earlier attempts.
    pub(super) fn settles(&self) -> bool {
        use ProblemCode::{
            AlreadyCancelled, AlreadyConfirmed, BranchReused, CoordinatorDecides, GidReused, NotAllTried,
        };
        let Self::Problem(problem) = self else { return false };
        matches!(
            problem.code.parse(),
            Ok(AlreadyCancelled
                | AlreadyConfirmed
                | BranchReused
                | CoordinatorDecides
                | GidReused
                | NotAllTried)
        )
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The coordinator's address is no URL.
    #[error("the coordinator's address is no URL")]
    Url(#[source] BoxError),
    /// The address is a URL, but none a coordinator can be reached at.
    #[error("the coordinator's address {0}")]
    Address(&'static str),
    /// The token holds what cannot stand in a header.
    #[error("the token holds characters that cannot stand in a header")]
    Token,
    /// The HTTP client could not be made.
    #[error("the HTTP client could not be made")]
    Http(#[source] BoxError),
}
