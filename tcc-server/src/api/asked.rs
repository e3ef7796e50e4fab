//! What the path and the query of a request ask for.

use std::time::Duration;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tcc_core::wire::ProblemCode;
use tcc_core::{BadId, BranchId, Gid, SubscriberId, TopicName};
use utoipa::IntoParams;

use super::problem::Failure;
use crate::limits;
use crate::wait::Wait;

/// The transaction a path names.
pub(super) struct Named(pub(super) Gid);

/// The transaction and the branch a path names.
pub(super) struct NamedBranch(pub(super) Gid, pub(super) BranchId);

/// The topic a path names.
pub(super) struct NamedTopic(pub(super) TopicName);

/// The topic and its subscriber a path names.
pub(super) struct NamedSubscriber(pub(super) TopicName, pub(super) SubscriberId);

/// For what, and how long, the answer is to wait.
pub(super) struct Waits(pub(super) Option<(Wait, Duration)>);

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Waiting {
    /// `decision` or `end`: the answer comes once it is there, or after `timeout_ms` with 202.
    #[param(pattern = "^(decision|end)$")]
    wait: Option<String>,
    /// How long it waits, 30,000 if absent; only with `wait`.
    #[param(maximum = 60_000)]
    timeout_ms: Option<u64>,
}

impl Waiting {
    fn parse(self) -> Result<Option<(Wait, Duration)>, Failure> {
        let longest = self.timeout_ms.map_or(limits::DEFAULT_WAIT, Duration::from_millis);
        if longest > limits::LONGEST_WAIT {
            let most = limits::LONGEST_WAIT.as_millis();
            return Err(invalid(format!("timeout_ms is over {most}")).at("?timeout_ms"));
        }
        let wait = match self.wait.as_deref() {
            None if self.timeout_ms.is_some() => {
                return Err(invalid("timeout_ms bounds a wait, and none is asked for").at("?timeout_ms"));
            }
            None => return Ok(None),
            Some("decision") => Wait::Decision,
            Some("end") => Wait::End,
            Some(other) => {
                return Err(invalid(format!("wait is {other:?}, neither decision nor end")).at("?wait"));
            }
        };
        Ok(Some((wait, longest)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        Ok(Self(gid(&path::<String, S>(parts, state).await?)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for NamedBranch {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let (named, branch) = path::<(String, String), S>(parts, state).await?;
        let gid = gid(&named)?;
        match branch.parse() {
            Ok(branch) => Ok(Self(gid, branch)),
            Err(why @ (BadId::Empty | BadId::TooLong(_) | BadId::Character(..))) => {
                Err(invalid(format!("the branch id {why}")).of(&gid))
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for NamedTopic {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        Ok(Self(topic(&path::<String, S>(parts, state).await?)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for NamedSubscriber {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let (named, id) = path::<(String, String), S>(parts, state).await?;
        let id = id.parse().map_err(|why: BadId| invalid(format!("the subscriber's id {why}")))?;
        Ok(Self(topic(&named)?, id))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Waits {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let asked = Query::<Waiting>::from_request_parts(parts, state).await;
        let Query(waiting) = asked.map_err(|bad| invalid(bad.body_text()).at("?"))?;
        Ok(Self(waiting.parse()?))
    }
}

async fn path<T: DeserializeOwned + Send, S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<T, Failure> {
    let found = Path::<T>::from_request_parts(parts, state).await;
    found.map(|Path(found)| found).map_err(|bad| invalid(bad.body_text()))
}

fn gid(named: &str) -> Result<Gid, Failure> {
    named.parse().map_err(|why: BadId| invalid(format!("the gid {why}")))
}

fn topic(named: &str) -> Result<TopicName, Failure> {
    named.parse().map_err(|why: BadId| invalid(format!("the topic {why}")))
}

fn invalid(why: impl Into<String>) -> Failure {
    Failure::new(ProblemCode::Invalid, why)
}
