//! A transaction made by a closure: begun before it, confirmed or cancelled after it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use reqwest::header::HeaderValue;
use tcc_core::wire::{BeginRequest, ProblemCode};
use tcc_core::{Decision, Gid, Phase};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::branch::millis;
use super::client::Client;
use super::error::Outcome;
use super::limits;
use super::scope::{Scope, deadline, decided};
use super::standing::Wait;
use super::stop::{RunError, Stop};

/// A transaction that a closure makes. See [`run`](Self::run).
#[derive(Debug)]
#[must_use = "nothing happens before it is run"]
pub struct Transaction {
    client: Client,
    gid: Gid,
    timeout: Duration,
    parent: Option<Gid>,
    trace: Option<HeaderValue>,
    wait: Wait,
    at_most: Duration,
}

impl Transaction {
    pub(super) const fn new(client: Client, gid: Gid) -> Self {
        let timeout = tcc_core::limits::DEFAULT_TIMEOUT;
        let (parent, trace) = (None, None);
        Self { client, gid, timeout, parent, trace, wait: Wait::Decision, at_most: limits::WAIT }
    }

    /// How long it may stay undecided; 60 seconds if nothing is said. Then the coordinator cancels it, whatever
    /// became of the initiator.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The transaction this one is a part of; recorded and shown, nothing more.
    pub fn parent(mut self, parent: &Gid) -> Self {
        self.parent = Some(parent.clone());
        self
    }

    /// The trace it is a part of, as the header `traceparent` has it (W3C Trace Context): recorded, and sent along with
    /// every call. What cannot stand in a header is left out.
    pub fn traceparent(mut self, traceparent: &str) -> Self {
        self.trace = HeaderValue::from_str(traceparent).ok();
        self
    }

    /// What [`run`](Self::run) waits for; for the decision if nothing is said, and never for less.
    pub const fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// How long to wait for the end; 30 seconds if nothing is said. A wait that runs out changes no result.
    pub const fn at_most(mut self, at_most: Duration) -> Self {
        self.at_most = at_most;
        self
    }

    /// Begins the transaction, runs the closure, and confirms if it returned a value, naming the branches that were
    /// seen tried. `Ok` means that this confirm is durable, and nothing more: the participants' confirms follow.
    ///
    /// Where the closure stops or panics the transaction is cancelled; the panic goes on after that.
    ///
    /// # Errors
    /// [`RunError`]. After [`Unknown`](RunError::Unknown) run it again with the same gid and an equal closure, or ask
    /// for the [`status`](Client::status): once confirm is sent, this run cancels nothing unless the coordinator
    /// answers that it did not confirm.
    ///
    /// # Panics
    /// When the closure panics, or outside a Tokio runtime.
    ///
    /// # Cancel safety
    /// Dropped before confirm is sent, a task of its own asks the coordinator to cancel; should that fail, the
    /// deadline does it. Dropped after that, nothing is asked, and what is decided is not known.
    ///
    /// # Examples
    /// ```no_run
    /// use std::time::Duration;
    /// use tcc_client::{Client, RunError, Wait, new_gid};
    ///
    /// #[derive(serde::Serialize)]
    /// struct Reserve { sku: &'static str, count: u32 }
    /// #[derive(serde::Serialize)]
    /// struct Charge { account: &'static str, cents: u64 }
    ///
    /// # async fn order() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::new("http://127.0.0.1:7780")?;
    /// let (reserve, charge) = (Reserve { sku: "4711", count: 2 }, Charge { account: "ada", cents: 1990 });
    /// let run = client.transaction(new_gid()).timeout(Duration::from_secs(20)).run(async |tcc| {
    ///     let (shelf, _) = tokio::try_join!(
    ///         tcc.try_branch("stock", "http://inventory/tcc/stock", &reserve),
    ///         tcc.try_branch("money", "http://payment/tcc/payment", &charge),
    ///     )?;
    ///     Ok(shelf.json::<String>()?)
    /// });
    /// match run.await {
    ///     Ok(shelf) => println!("ordered, from shelf {shelf}"),
    ///     Err(RunError::Cancelled(stop)) => println!("not ordered: {stop}"),
    ///     Err(RunError::Decided(phase)) => println!("an earlier run came to {phase:?}"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn run<T, F>(self, closure: F) -> Result<T, RunError>
    where
        F: AsyncFnOnce(&Scope) -> Result<T, Stop>,
    {
        let mut on_drop = CancelOnDrop::arm(&self);
        let scope = match self.begin().await {
            Ok(scope) => scope,
            Err(error) => {
                on_drop.disarm();
                return Err(error);
            }
        };
        let stop = match caught(closure(&scope)).await {
            Ok(Ok(value)) => {
                on_drop.disarm();
                match self.confirm(&scope).await? {
                    Confirmed::Yes => return Ok(value),
                    Confirmed::No(stop) => {
                        on_drop.rearm();
                        stop
                    }
                }
            }
            Ok(Err(stop)) => stop,
            Err(panic) => {
                // The panic is what the caller has to see, whatever came of this; the deadline is the promise.
                let _ = self.cancel(Stop::because("the initiator panicked")).await;
                on_drop.disarm();
                resume_unwind(panic)
            }
        };
        let error = self.cancel(stop).await;
        on_drop.disarm();
        Err(error)
    }

    async fn begin(&self) -> Result<Scope, RunError> {
        let request = BeginRequest {
            gid: Some(self.gid.to_string()),
            decider: Some("initiator".to_owned()),
            timeout_ms: Some(millis(self.timeout)),
            parent: self.parent.as_ref().map(ToString::to_string),
            ..BeginRequest::default()
        };
        let wait = (Wait::Stored, Duration::ZERO);
        match self.client.begin(&self.gid, &request, self.trace.as_ref(), wait).await {
            Ok(begun) if begun.view.phase.decision().is_some() => Err(RunError::Decided(begun.view.phase)),
            Ok(begun) => {
                let deadline =
                    deadline(&begun).unwrap_or(begun.sent + self.timeout.min(tcc_core::limits::LONGEST));
                Ok(Scope::new(
                    self.client.clone(),
                    self.gid.clone(),
                    self.trace.clone(),
                    begun.view.begun,
                    deadline,
                ))
            }
            Err(error) => Err(match decided(&error) {
                Some(Stop::Decided { phase, .. }) => RunError::Decided(phase),
                _ if error.outcome() == Outcome::Known => RunError::NotBegun(error),
                _ => RunError::Unknown(error),
            }),
        }
    }

    async fn confirm(&self, scope: &Scope) -> Result<Confirmed, RunError> {
        let end = limits::later(self.at_most);
        match self.client.say_confirm(&self.gid, scope.named()).await {
            Ok(answered) => {
                let phase = answered.view.phase;
                if phase.decision() == Some(Decision::Cancel) {
                    let detail = answered.view.reason.unwrap_or_default();
                    return Err(RunError::Cancelled(Stop::Decided { phase, detail }));
                }
                self.wait_on(phase, end).await;
                Ok(Confirmed::Yes)
            }
            Err(error) => match (decided(&error), error.code()) {
                (Some(stop), _) => Err(RunError::Cancelled(stop)),
                (None, Some(ProblemCode::NotAllTried)) => {
                    let detail = error.problem().map(|problem| problem.detail.clone());
                    Ok(Confirmed::No(Stop::NotAllTried(detail.unwrap_or_default())))
                }
                (None, _) => Err(RunError::Unknown(error)),
            },
        }
    }

    async fn cancel(&self, stop: Stop) -> RunError {
        let end = limits::later(self.at_most);
        match self.client.say_cancel(&self.gid, &stop.reason()).await {
            Ok(answered) => {
                let phase = answered.view.phase;
                if phase.decision() == Some(Decision::Confirm) {
                    return RunError::Decided(phase);
                }
                self.wait_on(phase, end).await;
                RunError::Cancelled(stop)
            }
            Err(error) => {
                if let Some(Stop::Decided { phase, .. }) = decided(&error) {
                    return RunError::Decided(phase);
                }
                tracing::warn!(gid = self.gid.as_str(), %stop, "the cancel was not acknowledged");
                RunError::Unknown(error)
            }
        }
    }

    /// Waits on after a durable decision, whose result no failure to wait can change.
    async fn wait_on(&self, phase: Phase, end: Instant) {
        if self.wait == Wait::End && !phase.ended() {
            let left = end.saturating_duration_since(Instant::now());
            if let Err(error) = self.client.wait(&self.gid, Wait::End, left).await {
                tracing::debug!(gid = self.gid.as_str(), %error, "waiting for the end failed");
            }
        }
    }
}

/// A definite answer to confirm.
enum Confirmed {
    Yes,
    /// Not confirmed, and still undecided.
    No(Stop),
}

/// Asks for cancel where nobody is left to wait for it.
struct CancelOnDrop {
    client: Client,
    gid: Gid,
    runtime: Handle,
    armed: Armed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Armed {
    Yes,
    No,
}

impl CancelOnDrop {
    fn arm(transaction: &Transaction) -> Self {
        let (client, gid) = (transaction.client.clone(), transaction.gid.clone());
        Self { client, gid, runtime: Handle::current(), armed: Armed::Yes }
    }

    const fn disarm(&mut self) {
        self.armed = Armed::No;
    }

    const fn rearm(&mut self) {
        self.armed = Armed::Yes;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.armed == Armed::No {
            return;
        }
        let (client, gid) = (self.client.clone(), self.gid.clone());
        self.runtime.spawn(async move {
            if let Err(error) = client.cancel(&gid, "the initiator dropped the transaction").await {
                tracing::warn!(gid = gid.as_str(), %error, "a dropped transaction is left to its deadline");
            }
        });
    }
}

/// Runs a future and catches its panic.
async fn caught<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        // The future is not polled again after a panic, and what it borrowed is only asked for what it saw tried.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}
