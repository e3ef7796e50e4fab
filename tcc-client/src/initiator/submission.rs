//! A transaction described at once, which the coordinator tries, decides and ends.

use std::time::Duration;

use reqwest::header::HeaderValue;
use tcc_core::Gid;
use tcc_core::wire::BeginRequest;

use super::branch::{Branch, millis};
use super::limits;
use super::standing::Wait;

/// A transaction with all its branches: the coordinator tries them, confirms when all tries are done, and cancels
/// when one is refused or the time is over. Without any try it is decided at once.
///
/// Submitting it again, with the same content, is told what came of it and starts nothing: keep the gid before the
/// first request, and a crash in between costs nothing.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before it is submitted"]
pub struct Submission {
    pub(super) gid: Gid,
    pub(super) request: BeginRequest,
    pub(super) trace: Option<HeaderValue>,
    pub(super) wait: Wait,
    pub(super) at_most: Duration,
}

impl Submission {
    /// A transaction with this gid and no branches yet.
    pub fn new(gid: Gid) -> Self {
        let request = BeginRequest { gid: Some(gid.to_string()), ..BeginRequest::default() };
        Self { gid, request, trace: None, wait: Wait::default(), at_most: limits::WAIT }
    }

    /// What is sent to the coordinator; the test kit takes it too.
    #[must_use]
    pub const fn request(&self) -> &BeginRequest {
        &self.request
    }

    /// With this branch as well.
    pub fn branch(mut self, branch: Branch) -> Self {
        self.request.branches.push(branch.request);
        self
    }

    /// With these branches as well.
    pub fn branches(mut self, branches: impl IntoIterator<Item = Branch>) -> Self {
        self.request.branches.extend(branches.into_iter().map(|branch| branch.request));
        self
    }

    /// How long it may stay undecided; 60 seconds if nothing is said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request.timeout_ms = Some(millis(timeout));
        self
    }

    /// The transaction this one is a part of; recorded and shown, nothing more.
    pub fn parent(mut self, parent: &Gid) -> Self {
        self.request.parent = Some(parent.to_string());
        self
    }

    /// The trace it is a part of, as the header `traceparent` has it (W3C Trace Context): recorded, and sent along with
    /// every call. What cannot stand in a header is left out.
    pub fn traceparent(mut self, traceparent: &str) -> Self {
        self.trace = HeaderValue::from_str(traceparent).ok();
        self
    }

    /// What to wait for; for the decision if nothing is said.
    pub const fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// How long to wait for it; 30 seconds if nothing is said. A wait that runs out is no error and ends nothing.
    pub const fn at_most(mut self, at_most: Duration) -> Self {
        self.at_most = at_most;
        self
    }
}
