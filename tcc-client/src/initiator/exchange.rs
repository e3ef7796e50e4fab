//! One request to the coordinator: sent, judged, repeated.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tcc_core::wire::{Problem, TransactionView};
use tcc_core::{Gid, Timestamp, protocol};
use tokio::time::Instant;

use super::branch::millis;
use super::client::Client;
use super::error::{Error, Failed, Failure, Outcome};
use super::limits;
use super::standing::Wait;
use crate::retrying::{Attempt, retrying};

/// The header that names the trace a request is a part of (W3C Trace Context).
pub(super) const TRACEPARENT: &str = "traceparent";

/// Where transactions are.
const TRANSACTIONS: &str = "/transactions";

/// What is asked of the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Begin,
    Register,
    Confirm,
    Cancel,
    Status,
    ByHand,
    Topics,
}

impl Wish {
    pub(super) fn failed(self, failed: Failed) -> Error {
        let failed = Box::new(failed);
        match self {
            Self::Begin => Error::Begin(failed),
            Self::Register => Error::Register(failed),
            Self::Confirm => Error::Confirm(failed),
            Self::Cancel => Error::Cancel(failed),
            Self::Status => Error::Status(failed),
            Self::ByHand => Error::ByHand(failed),
            Self::Topics => Error::Topics(failed),
        }
    }

    /// Whether a view without a decision is no answer to it.
    const fn is_decision(self) -> bool {
        match self {
            Self::Confirm | Self::Cancel => true,
            Self::Begin | Self::Register | Self::Status | Self::ByHand | Self::Topics => false,
        }
    }
}

/// A request in the making.
pub(super) struct Ask<'a> {
    wish: Wish,
    method: Method,
    /// The transaction; `None` where it is about none, or many.
    gid: Option<&'a Gid>,
    path: String,
    query: String,
    body: Option<Vec<u8>>,
    trace: Option<HeaderValue>,
    /// How long the coordinator was asked to wait.
    listen: Duration,
    /// When attempts end, if before the client's own limit.
    by: Option<Instant>,
}

/// What came back, and when it was asked for: lengths in it count from then at the earliest.
pub(super) struct Answered<T = TransactionView> {
    pub(super) view: T,
    pub(super) sent: Instant,
    /// The coordinator's mark: every transaction begun before it has ended.
    pub(super) settled: Option<Timestamp>,
}

impl<'a> Ask<'a> {
    /// A request at a path below the transaction's.
    pub(super) fn new(wish: Wish, method: Method, gid: &'a Gid, below: &str) -> Self {
        let path = format!("{TRANSACTIONS}/{}{below}", segment(gid.as_str()));
        Self { gid: Some(gid), ..Self::at(wish, method, path) }
    }

    /// A question about many transactions.
    pub(super) fn of_many(query: String) -> Self {
        Self { query, ..Self::at(Wish::Status, Method::GET, TRANSACTIONS.to_owned()) }
    }

    /// A request about something else, at its path.
    pub(super) fn at(wish: Wish, method: Method, path: String) -> Self {
        let (query, listen) = (String::new(), Duration::ZERO);
        Self { wish, method, gid: None, path, query, body: None, trace: None, listen, by: None }
    }

    /// To where transactions are begun.
    pub(super) fn at_root(mut self) -> Self {
        TRANSACTIONS.clone_into(&mut self.path);
        self
    }

    pub(super) fn body(mut self, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("a request has string keys and no failing serializer");
        self.body = Some(body);
        self
    }

    /// As a part of this trace.
    pub(super) fn trace(mut self, trace: Option<&HeaderValue>) -> Self {
        self.trace = trace.cloned();
        self
    }

    /// To be answered when this has come, or after that long.
    pub(super) fn wait(mut self, wait: Wait, at_most: Duration) -> Self {
        if let Some(word) = wait.word() {
            self.listen = at_most.min(limits::LISTEN);
            self.query = format!("?wait={word}&timeout_ms={}", millis(self.listen));
        }
        self
    }

    /// Not to be repeated after this moment.
    pub(super) const fn by(mut self, by: Instant) -> Self {
        self.by = Some(by);
        self
    }
}

/// An id as one segment of a path: of what may stand in it these two would be read as something else.
pub(super) fn segment(id: &str) -> String {
    id.replace('/', "%2F").replace(':', "%3A")
}

impl Failed {
    /// A request that was not sent at all.
    pub(super) fn unsent(gid: &Gid, failure: Failure) -> Self {
        Self { gid: Some(gid.clone()), attempts: 0, outcome: failure.outcome(), failure }
    }
}

impl Client {
    /// Sends a request about one transaction, to be answered with how it stands, and repeats it while that may help.
    pub(super) async fn exchange(&self, ask: Ask<'_>) -> Result<Answered, Error> {
        self.exchange_for(ask, judge).await
    }

    /// The same for another answer.
    pub(super) async fn exchange_for<T>(
        &self,
        ask: Ask<'_>,
        judge: impl Fn(&Ask<'_>, T) -> Result<T, Failure>,
    ) -> Result<Answered<T>, Error>
    where
        T: DeserializeOwned,
    {
        let end = limits::later(self.shared.repeat_for);
        let end = ask.by.map_or(end, |by| by.min(end));
        let mut attempts = 0;
        // One attempt that may have been done leaves the whole request unclear, unless a later answer settles it.
        let mut unclear = false;
        let attempt = || {
            attempts += 1;
            self.attempt(&ask, &judge, end)
        };
        let failed = |failure: Failure| {
            let gid = ask.gid.map(Gid::as_str);
            tracing::debug!(gid, wish = ?ask.wish, %failure, "asking the coordinator again");
            unclear |= failure.outcome() == Outcome::Unknown;
        };
        let last = end.checked_sub(limits::LEAST).unwrap_or(end);
        retrying(self.shared.waits, last, attempt, failed).await.map_err(|failure| {
            let outcome = if unclear && !failure.settles() { Outcome::Unknown } else { failure.outcome() };
            ask.wish.failed(Failed { gid: ask.gid.cloned(), attempts, outcome, failure })
        })
    }

    async fn attempt<T: DeserializeOwned>(
        &self,
        ask: &Ask<'_>,
        judge: &impl Fn(&Ask<'_>, T) -> Result<T, Failure>,
        end: Instant,
    ) -> Result<Answered<T>, Attempt<Failure>> {
        let sent = Instant::now();
        let left = end.saturating_duration_since(sent);
        let timeout = self.shared.request_timeout.min(left) + ask.listen;
        let url = format!("{}{}{}", self.shared.api, ask.path, ask.query);
        let mut request = self.shared.http.request(ask.method.clone(), url).timeout(timeout);
        request = request.headers(self.shared.headers.clone());
        if let Some(body) = &ask.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        if let Some(trace) = &ask.trace {
            request = request.header(TRACEPARENT, trace);
        }
        let mut response = request.send().await.map_err(unanswered)?;
        let status = response.status();
        let header = |name: &str| response.headers().get(name)?.to_str().ok();
        let settled =
            header(protocol::SETTLED).and_then(|mark| mark.parse().ok()).map(Timestamp::from_millis);
        let wait = header(RETRY_AFTER.as_str()).and_then(|seconds| seconds.parse().ok());
        let wait = wait.map(|seconds| Duration::from_secs(seconds).min(limits::RETRY_AFTER));
        let most = if status.is_success() { limits::ANSWER } else { limits::PROBLEM };
        let body = read(&mut response, most).await.map_err(unanswered)?;
        if status.is_success() {
            let answer = parse(body.as_deref()).and_then(|answer| judge(ask, answer));
            return answer.map(|view| Answered { view, sent, settled }).map_err(|failure| match failure {
                Failure::Undecided => Attempt::Passing(failure, None),
                failure => Attempt::Final(failure),
            });
        }
        let passing = status.is_server_error() || [408, 425, 429].contains(&status.as_u16());
        let problem = body.and_then(|body| serde_json::from_slice::<Problem>(&body).ok());
        match problem.map(Box::new) {
            Some(problem) if passing || problem.retryable => {
                Err(Attempt::Passing(Failure::Problem(problem), wait))
            }
            Some(problem) => Err(Attempt::Final(Failure::Problem(problem))),
            None if passing => Err(Attempt::Passing(Failure::Status(status.as_u16()), wait)),
            None => Err(Attempt::Final(Failure::Status(status.as_u16()))),
        }
    }
}

fn parse<T: DeserializeOwned>(body: Option<&[u8]>) -> Result<T, Failure> {
    let body =
        body.ok_or_else(|| Failure::Unreadable(format!("it has over {} bytes", limits::ANSWER).into()))?;
    serde_json::from_slice(body).map_err(|error| Failure::Unreadable(error.into()))
}

/// Judges a view that came as a success.
fn judge(ask: &Ask<'_>, view: TransactionView) -> Result<TransactionView, Failure> {
    is_of(ask, &view.gid)?;
    if ask.wish.is_decision() && view.phase.decision().is_none() { Err(Failure::Undecided) } else { Ok(view) }
}

/// Whether an answer is about the transaction that was asked for.
pub(super) fn is_of(ask: &Ask<'_>, gid: &Gid) -> Result<(), Failure> {
    match ask.gid {
        Some(asked) if asked != gid => Err(Failure::Unreadable(format!("it is of {gid}").into())),
        Some(_) | None => Ok(()),
    }
}

fn unanswered(error: reqwest::Error) -> Attempt<Failure> {
    // The address stands in the client; in an error it would be in every log line.
    let error = error.without_url();
    if error.is_builder() {
        Attempt::Final(Failure::Connect(error.into()))
    } else if error.is_connect() {
        Attempt::Passing(Failure::Connect(error.into()), None)
    } else {
        Attempt::Passing(Failure::NoAnswer(error.into()), None)
    }
}

/// Reads a body; `None` if it is longer than that.
pub(super) async fn read(
    response: &mut reqwest::Response,
    most: usize,
) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > most {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}
