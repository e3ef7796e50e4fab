//! The initiator's handle on a transaction that it tries itself: what is registered, what was seen tried.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::header::HeaderValue;
use serde::Serialize;
use tcc_core::wire::{BranchRequest, ProblemCode, RegisterRequest};
use tcc_core::{BranchId, Definition, Endpoint, Gid, Phase};
use tokio::time::Instant;

use super::branch::Branch;
use super::client::Client;
use super::error::{Error, Failed, Failure};
use super::exchange::{Answered, Wish};
use super::stop::Stop;
use super::trying::{Reply, Trying};

/// What a closure does with its transaction. See [`Transaction::run`](super::Transaction::run).
///
/// Its methods take `&self`, so several branches can be tried at once, as with `tokio::try_join!`.
pub struct Scope {
    client: Client,
    gid: Gid,
    trace: Option<HeaderValue>,
    /// When the transaction began, by the coordinator's clock; passed on with each try.
    begun: Option<i64>,
    seen: Mutex<Seen>,
}

struct Seen {
    /// The branches that confirm will name.
    tried: BTreeSet<BranchId>,
    /// The steps of a saga that were begun, each with those it comes after.
    steps: BTreeMap<String, Vec<String>>,
    /// The steps that are done and that no other that is done comes after.
    last: BTreeSet<String>,
    /// When the coordinator cancels, as far as is known: a reservation may have brought it forward.
    deadline: Instant,
}

impl Scope {
    pub(super) const fn new(
        client: Client,
        gid: Gid,
        trace: Option<HeaderValue>,
        begun: Option<i64>,
        deadline: Instant,
    ) -> Self {
        Self {
            client,
            gid,
            trace,
            begun,
            seen: Mutex::new(Seen {
                tried: BTreeSet::new(),
                steps: BTreeMap::new(),
                last: BTreeSet::new(),
                deadline,
            }),
        }
    }

    /// The transaction.
    #[must_use]
    pub const fn gid(&self) -> &Gid {
        &self.gid
    }

    /// The coordinator.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// When the coordinator cancels the transaction if nothing is decided, or a little earlier.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.seen().deadline
    }

    /// Registers the branch at this address and tries it with this payload: [`try_`](Self::try_) in short.
    ///
    /// # Errors
    /// As [`try_`](Self::try_); also when the payload cannot be written as JSON.
    ///
    /// # Cancel safety
    /// As [`try_`](Self::try_).
    pub async fn try_branch<P: Serialize + ?Sized>(
        &self,
        id: impl Into<String>,
        at: impl Into<String>,
        payload: &P,
    ) -> Result<Reply, Stop> {
        self.try_(Branch::at(id, at).payload(payload)?).await
    }

    /// Registers a branch, durably, and only then tries it: whatever becomes of this process, the coordinator knows
    /// whom to cancel. What comes of the try is asked until it is done or refused, or the deadline comes.
    ///
    /// A [step](Branch::step) of a saga comes after those that are done by then, so that they are compensated in the
    /// reverse, unless it says itself what it comes [after](Branch::after).
    ///
    /// # Errors
    /// What the closure should return at once: [`Stop::Refused`], [`Stop::Unclear`], [`Stop::Decided`],
    /// [`Stop::Unregistered`].
    ///
    /// # Cancel safety
    /// Dropped, the branch may be registered, and tried. Confirm then is refused and the transaction is cancelled,
    /// unless the same branch is tried again first.
    pub async fn try_(&self, branch: Branch) -> Result<Reply, Stop> {
        let mut request = branch.request;
        let at = self.try_endpoint(request.try_.as_deref(), request.at.as_deref())?;
        // Checked with its try, for what holds for tries holds for this one: it has a cancel or says that it needs none.
        request.try_ = Some(at.to_string());
        let branch = self.check(&request)?;
        // What the coordinator is not to call it is not told.
        request.try_ = None;
        let is_step = request.at.is_none() && request.confirm.is_none();
        if is_step {
            request.after = self.seen().begin_step(&request.id, request.after);
        }
        self.send(request).await?;
        let deadline = self.deadline();
        let (client, gid, trace, begun) = (&self.client, &self.gid, self.trace.as_ref(), self.begun);
        let reply = Trying { client, gid, trace, begun, branch: &branch, at: &at, deadline }.reply().await?;
        let mut seen = self.seen();
        if is_step {
            seen.end_step(branch.id.as_str());
        }
        seen.tried.insert(branch.id);
        Ok(reply)
    }

    /// Registers a branch without trying it. One with `confirm` alone, a message say, needs nothing more; one with a
    /// cancel is tried by means of the application's own, which then says so with [`tried`](Self::tried).
    ///
    /// # Errors
    /// [`Stop::Decided`], [`Stop::Unregistered`]; also when the branch has a `try`, for in a scope the coordinator
    /// tries nothing.
    ///
    /// # Cancel safety
    /// As [`try_`](Self::try_).
    pub async fn register(&self, branch: Branch) -> Result<(), Stop> {
        let request = branch.request;
        if request.try_.is_some() {
            let why = format!("branch {} has a try and is registered without being tried", request.id);
            return Err(Stop::because(why));
        }
        let branch = self.check(&request)?;
        self.send(request).await?;
        if branch.confirms_only() {
            self.seen().tried.insert(branch.id);
        }
        Ok(())
    }

    /// Says that a [registered](Self::register) branch was tried, by means of the application's own.
    ///
    /// # Errors
    /// When that is no branch id.
    pub fn tried(&self, id: &str) -> Result<(), Stop> {
        let id = id.parse::<BranchId>()?;
        self.seen().tried.insert(id);
        Ok(())
    }

    /// The branches that confirm names.
    pub(super) fn named(&self) -> Vec<String> {
        self.seen().tried.iter().map(ToString::to_string).collect()
    }

    /// Reads the branch as the coordinator will, one journey earlier.
    fn check(&self, request: &BranchRequest) -> Result<Definition, Stop> {
        let one = RegisterRequest { branches: vec![request.clone()] };
        let checked = one.parse().map_err(|invalid| self.unregistered(Failure::Invalid(invalid)))?;
        Ok(checked.into_iter().next().expect("one branch was checked"))
    }

    fn try_endpoint(&self, given: Option<&str>, at: Option<&str>) -> Result<Endpoint, Stop> {
        let invalid = |detail: String| {
            let pointer = "/branches/0/try".to_owned();
            self.unregistered(Failure::Invalid(tcc_core::Invalid { pointer, detail }))
        };
        let parsed = match (given, at) {
            (Some(given), _) => given.parse::<Endpoint>(),
            (None, Some(at)) => at.parse::<Endpoint>().and_then(|at| at.join("try")),
            (None, None) => {
                return Err(invalid("is missing: say at, or what is called to try it".to_owned()));
            }
        };
        let endpoint = parsed.map_err(|why| invalid(why.to_string()))?;
        let schemes: &[&str] = if cfg!(feature = "tls") { &["http", "https"] } else { &["http"] };
        if !schemes.contains(&endpoint.scheme()) {
            return Err(invalid(format!("is {}:, and an initiator calls {schemes:?}", endpoint.scheme())));
        }
        Ok(endpoint)
    }

    fn unregistered(&self, failure: Failure) -> Stop {
        Stop::Unregistered(Wish::Register.failed(Failed::unsent(&self.gid, failure)))
    }

    async fn send(&self, branch: BranchRequest) -> Result<(), Stop> {
        let request = RegisterRequest { branches: vec![branch] };
        // After the deadline there is nothing left to register with.
        let by = self.deadline();
        match self.client.register(&self.gid, &request, by).await {
            Ok(answered) => {
                let mut seen = self.seen();
                seen.deadline = seen.deadline.min(deadline(&answered).unwrap_or(seen.deadline));
                Ok(())
            }
            Err(error) => Err(decided(&error).unwrap_or(Stop::Unregistered(error))),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Nothing that holds it can panic half-way.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// What a step comes after: what it says, or else the last that are done. Begun again, the same.
    fn begin_step(&mut self, id: &str, after: Vec<String>) -> Vec<String> {
        let Self { steps, last, .. } = self;
        let own = || if after.is_empty() { last.iter().cloned().collect() } else { after };
        steps.entry(id.to_owned()).or_insert_with(own).clone()
    }

    fn end_step(&mut self, id: &str) {
        for before in self.steps.get(id).into_iter().flatten() {
            self.last.remove(before);
        }
        self.last.insert(id.to_owned());
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("gid", &self.gid).field("tried", &self.named()).finish_non_exhaustive()
    }
}

/// When the coordinator cancels, counted from when it was asked: rather too early than too late.
pub(super) fn deadline(answered: &Answered) -> Option<Instant> {
    answered.view.deadline_ms.map(|left| answered.sent + std::time::Duration::from_millis(left))
}

/// What an answer that the transaction is decided means to a closure.
pub(super) fn decided(error: &Error) -> Option<Stop> {
    let phase = match error.code()? {
        ProblemCode::AlreadyCancelled => Phase::Cancelling,
        ProblemCode::AlreadyConfirmed => Phase::Confirming,
        _ => return None,
    };
    let problem = error.problem()?;
    Some(Stop::Decided { phase: problem.phase.unwrap_or(phase), detail: problem.detail.clone() })
}
