//! Errors as answers.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tcc_core::store::Refusal;
use tcc_core::wire::{Problem, ProblemCode};
use tcc_core::{Decision, Gid, Invalid, Phase, Rejection, protocol};

use crate::coordinator::{Error, chain};

/// A request that was not followed.
pub(super) struct Failure(Box<Problem>);

impl Failure {
    pub(super) fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(code, detail)))
    }

    pub(super) fn of(self, gid: &Gid) -> Self {
        Self(Box::new(self.0.of(gid)))
    }

    pub(super) fn at(self, pointer: &str) -> Self {
        Self(Box::new(self.0.at(pointer)))
    }

    fn in_phase(self, phase: Phase) -> Self {
        Self(Box::new(self.0.in_phase(phase)))
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::new(ProblemCode::Invalid, invalid.to_string()).at(&invalid.pointer)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::UnknownGid => Self::new(ProblemCode::UnknownGid, detail),
            Error::GidReused(phase) => Self::new(ProblemCode::GidReused, detail).in_phase(phase),
            Error::CancelledBefore(phase) => Self::new(ProblemCode::AlreadyCancelled, detail).in_phase(phase),
            Error::Invalid(invalid) => invalid.into(),
            Error::NothingGivenUp(phase) => Self::new(ProblemCode::NothingGivenUp, detail).in_phase(phase),
            Error::Rejected(rejection, phase) => rejected(rejection, phase, detail),
            Error::Refused(Refusal::Full) => Self::new(ProblemCode::StoreFull, detail),
            Error::Refused(Refusal::Unstorable(_)) => Self::new(ProblemCode::Unstorable, detail),
            Error::Unknown(_) => Self::new(ProblemCode::OutcomeUnknown, detail),
            Error::Unavailable(cause) => {
                tracing::error!(error = %chain(&cause), "a request found the store unreadable");
                Self::new(ProblemCode::Unavailable, detail)
            }
            Error::Contended => Self::new(ProblemCode::Unavailable, detail),
        }
    }
}

fn rejected(rejection: Rejection, phase: Phase, detail: String) -> Failure {
    let code = match rejection {
        Rejection::Invalid(invalid) => return invalid.into(),
        Rejection::NotAllTried(_) => ProblemCode::NotAllTried,
        Rejection::CoordinatorDecides => ProblemCode::CoordinatorDecides,
        Rejection::BranchReused(_) => ProblemCode::BranchReused,
        Rejection::UnknownBranch(_) => ProblemCode::UnknownBranch,
        Rejection::NotDecided => ProblemCode::NotDecided,
        Rejection::Decided(phase) => match phase.decision() {
            Some(Decision::Confirm) => ProblemCode::AlreadyConfirmed,
            Some(Decision::Cancel) => ProblemCode::AlreadyCancelled,
            None => ProblemCode::Internal,
        },
    };
    Failure::new(code, detail).in_phase(phase)
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&*self.0).expect("a problem has string keys and no failing serializer");
        let mut response = (status, [(header::CONTENT_TYPE, protocol::PROBLEM_JSON)], body).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
