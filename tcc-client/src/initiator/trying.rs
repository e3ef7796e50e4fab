//! A try that the initiator makes itself: called, judged as the coordinator would judge it, repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reqwest::RequestBuilder;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tcc_core::answer::{Answer, Failure, Outlook, Response, Shape, judge};
use tcc_core::{Definition, Endpoint, Gid, Operation, limits, protocol};
use tokio::time::Instant;

use super::client::Client;
use super::exchange::{TRACEPARENT, read};
use super::stop::Stop;
use crate::retrying::{Attempt, retrying};
use crate::signed::sign;

/// What a participant answered to its try.
#[derive(Clone, Debug, Default)]
pub struct Reply(Option<Arc<RawValue>>);

impl Reply {
    /// The answer, read as a `T`. No answer reads as `null`.
    ///
    /// # Errors
    /// When it is no `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.raw().map_or("null", RawValue::get))
    }

    /// The answer as JSON text, if there was one.
    #[must_use]
    pub fn raw(&self) -> Option<&RawValue> {
        self.0.as_deref()
    }
}

/// The try of a registered branch.
pub(super) struct Trying<'a> {
    pub(super) client: &'a Client,
    pub(super) gid: &'a Gid,
    pub(super) trace: Option<&'a HeaderValue>,
    pub(super) begun: Option<i64>,
    pub(super) branch: &'a Definition,
    pub(super) at: &'a Endpoint,
    /// When the coordinator cancels.
    pub(super) deadline: Instant,
}

impl Trying<'_> {
    /// Calls the participant until it says done or refused, or the deadline comes.
    ///
    /// A try whose outcome is unknown may be repeated, for the participant's guard knows it; and what no repeat
    /// settles is cancelled, which the guard knows how to do whether the try arrived or not.
    pub(super) async fn reply(&self) -> Result<Reply, Stop> {
        let attempts = AtomicU32::new(0);
        let attempt = || self.attempt(attempts.fetch_add(1, Ordering::Relaxed) + 1);
        let failed = |stop: Stop| {
            tracing::debug!(gid = self.gid.as_str(), %stop, "trying again");
        };
        retrying(self.client.shared.waits, self.deadline, attempt, failed).await
    }

    async fn attempt(&self, attempt: u32) -> Result<Reply, Attempt<Stop>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = self.branch.timeout.unwrap_or(limits::DEFAULT_CALL_TIMEOUT).min(left);
        let answer = self.call(attempt, timeout).await.map_or_else(Answer::None, Answer::Response);
        let unclear = |seen: String| Stop::Unclear { branch: self.branch.id.clone(), seen };
        match judge(Operation::Try, Shape::Other, answer) {
            tcc_core::answer::Reply::Done(reply) => Ok(Reply(reply)),
            tcc_core::answer::Reply::Refused(reason) => {
                Err(Attempt::Final(Stop::Refused { branch: self.branch.id.clone(), reason }))
            }
            tcc_core::answer::Reply::Pending(wait) => {
                let wait = bounded(wait.unwrap_or(limits::PENDING_RETRY));
                Err(Attempt::Passing(unclear("pending".to_owned()), Some(wait)))
            }
            tcc_core::answer::Reply::Unknown { seen, retry_after, outlook } => {
                let slow = match outlook {
                    Outlook::Passing => None,
                    // A deployment may be rolling past a 404, but nothing is gained by haste.
                    Outlook::Attention => Some(self.client.shared.waits.longest),
                };
                let wait = retry_after.or(slow).map(bounded);
                Err(Attempt::Passing(unclear(seen), wait))
            }
        }
    }

    async fn call(&self, attempt: u32, timeout: Duration) -> Result<Response, Failure> {
        let headers = self.headers(attempt, timeout).ok_or(Failure::Other)?;
        let request = self.client.shared.http.post(self.at.as_str()).timeout(timeout).headers(headers);
        let request = match &self.branch.payload {
            Some(payload) => request.body(payload.get().to_owned()),
            None => request,
        };
        answer(request).await
    }

    /// Those of every call but `Tcc-Settled`, a moment of the coordinator's clock, which an initiator does not have;
    /// when the transaction began, the coordinator told it.
    fn headers(&self, attempt: u32, timeout: Duration) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.branch.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.insert(name, HeaderValue::from_str(value).ok()?);
        }
        for (name, value) in [
            (protocol::GID, self.gid.as_str()),
            (protocol::BRANCH, self.branch.id.as_str()),
            (protocol::OPERATION, Operation::Try.as_str()),
            (protocol::ATTEMPT, &attempt.to_string()),
            (protocol::TIMEOUT, &timeout.as_millis().to_string()),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).ok()?);
        }
        if let Some(begun) = self.begun {
            headers.insert(HeaderName::from_static(protocol::BEGUN), HeaderValue::from(begun));
        }
        if let Some(trace) = self.trace {
            headers.insert(TRACEPARENT, trace.clone());
        }
        if self.branch.payload.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        } else {
            // There are servers that refuse a POST whose length is not told (RFC 9110 §8.6).
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let asked = (self.gid, Some(&self.branch.id), Operation::Try);
        let body = self.branch.payload.as_ref().map_or("", |payload| payload.get());
        sign(&self.client.shared.keys, asked, body.as_bytes(), &mut headers)?;
        Some(headers)
    }
}

/// Sends a call to a participant, and reads its answer.
pub(crate) async fn answer(request: RequestBuilder) -> Result<Response, Failure> {
    let mut response = request.send().await.map_err(|error| failure(&error))?;
    let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = read(&mut response, limits::REPLY).await.map_err(|error| failure(&error))?;
    let status = response.status().as_u16();
    Ok(Response { status, retry_after: wait.map(Duration::from_secs), body })
}

/// A participant may ask for any wait.
fn bounded(wait: Duration) -> Duration {
    wait.clamp(limits::SHORTEST_RETRY, limits::RETRY_AFTER)
}

fn failure(error: &reqwest::Error) -> Failure {
    match () {
        () if error.is_timeout() => Failure::TimedOut,
        () if error.is_dns() => Failure::Dns,
        () if error.is_connect() => Failure::Connect,
        () if error.is_request() || error.is_body() || error.is_decode() => Failure::Broken,
        () => Failure::Other,
    }
}
