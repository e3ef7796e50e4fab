//! Hands messages over to the coordinator.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use reqwest::header::HeaderValue;
use tcc_core::Gid;
use tcc_core::wire::{BeginRequest, ProblemCode};
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use super::table::{self, Claimed, Key, Outcome};
use crate::initiator::client::Client;
use crate::initiator::error::{Error, Failure, Outcome as Known};
use crate::initiator::limits::{
    RELAY_FIRST_PAUSE, RELAY_FIRST_WAIT, RELAY_IN_FLIGHT, RELAY_LEASE, RELAY_LONGEST_WAIT, RELAY_SCAN,
    RELAY_SUBMIT,
};
use crate::initiator::standing::Wait;
use crate::limits::{CLEANING_BATCH, CLEANING_PAUSE};
use crate::{LocalError, SqlDatabase};

/// Hands the messages of an [`Outbox`](super::Outbox) over to the coordinator, each under the gid in its row until an
/// answer says that it is stored. In the service itself, or in a process of its own; any number side by side.
///
/// A message that the coordinator refuses for good is kept, logged as an error, and holds up no other.
#[must_use = "it does nothing before it is run"]
pub struct Relay<D> {
    database: D,
    client: Client,
    wake: Arc<Notify>,
    scan: Duration,
}

/// What a relay waited for.
enum Event {
    Answered(Result<(Key, Outcome), JoinError>),
    Woken,
}

impl<D: SqlDatabase> Relay<D> {
    pub(super) const fn new(database: D, client: Client, wake: Arc<Notify>) -> Self {
        Self { database, client, wake, scan: RELAY_SCAN }
    }

    /// How often it looks for messages if nobody in its process puts any; every 5 seconds if nothing is said.
    pub const fn scan(mut self, scan: Duration) -> Self {
        self.scan = scan;
        self
    }

    /// Hands messages over until it is dropped.
    ///
    /// # Cancel safety
    /// Dropped, what it was about to hand over is handed over by another, or by this service's next: after at most 30
    /// seconds, and under the same gid.
    // Said to be Send here, where the compiler can see it: of one database alone it does not believe it.
    pub fn run(self) -> impl Future<Output = ()> + Send {
        self.hand_over_all()
    }

    async fn hand_over_all(self) {
        let mut handing_over = JoinSet::new();
        let mut pause = RELAY_FIRST_PAUSE.min(self.scan);
        let (mut look, mut cleaning) = (Instant::now(), Instant::now());
        loop {
            let free = RELAY_IN_FLIGHT.saturating_sub(handing_over.len());
            let has_place = free >= RELAY_IN_FLIGHT / 2;
            if has_place && Instant::now() >= look {
                match table::claim(&self.database, free, RELAY_LEASE).await {
                    Ok(claimed) => {
                        // Else there may be more.
                        if claimed.len() < free {
                            look = Instant::now() + pause;
                            pause = (2 * pause).min(self.scan);
                        }
                        for message in claimed {
                            handing_over.spawn(hand_over(self.client.clone(), message));
                        }
                    }
                    Err(error) => {
                        complain(&error);
                        pause = self.scan;
                        look = Instant::now() + pause;
                    }
                }
            }
            if Instant::now() >= cleaning {
                cleaning = Instant::now() + self.clean_up().await;
            }
            let until = if has_place { look.min(cleaning) } else { cleaning };
            match timeout_at(until, next(&mut handing_over, &self.wake)).await {
                Ok(Event::Answered(first)) => self.mark(first, &mut handing_over).await,
                Ok(Event::Woken) => {
                    pause = RELAY_FIRST_PAUSE.min(self.scan);
                    look = Instant::now();
                }
                Err(_) => {}
            }
        }
    }

    /// Deletes a batch of what is done, and says how long after that is time for the next.
    async fn clean_up(&self) -> Duration {
        let cleaned = match table::forget(&self.database, CLEANING_BATCH).await {
            Ok(forgotten) if forgotten == u64::from(CLEANING_BATCH) => return CLEANING_PAUSE,
            Ok(_) => table::bring_back(&self.database, RELAY_LEASE.max(RELAY_LONGEST_WAIT)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = cleaned {
            complain(&error);
        }
        self.scan
    }

    /// Notes this answer, and what else has come meanwhile. Lost, the messages are handed over once more.
    async fn mark(
        &self,
        first: Result<(Key, Outcome), JoinError>,
        handing_over: &mut JoinSet<(Key, Outcome)>,
    ) {
        let mut outcomes = Vec::new();
        let mut answered = Some(first);
        while let Some(one) = answered {
            match one {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => tracing::error!(%error, "a message was not handed over; it will be"),
            }
            answered = handing_over.try_join_next();
        }
        if let Err(error) = table::mark(&self.database, outcomes).await {
            complain(&error);
        }
    }
}

async fn next(handing_over: &mut JoinSet<(Key, Outcome)>, wake: &Notify) -> Event {
    let mut woken = pin!(wake.notified());
    poll_fn(|context| {
        if let Poll::Ready(Some(answered)) = handing_over.poll_join_next(context) {
            return Poll::Ready(Event::Answered(answered));
        }
        woken.as_mut().poll(context).map(|()| Event::Woken)
    })
    .await
}

fn complain(error: &LocalError) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(error, cause = error.source(), "the outbox cannot be read or written; it will be");
}

async fn hand_over(client: Client, message: Claimed) -> (Key, Outcome) {
    let outcome = match read(&message) {
        Ok((gid, request)) => {
            let trace = message.trace.as_deref().and_then(|trace| HeaderValue::from_str(trace).ok());
            let stored = (Wait::Stored, Duration::ZERO);
            match timeout(RELAY_SUBMIT, client.begin(&gid, &request, trace.as_ref(), stored)).await {
                Ok(Ok(_)) => Outcome::Done,
                Ok(Err(error)) if is_for_good(&error) => Outcome::Refused(error.failed().failure.to_string()),
                Ok(Err(error)) => later(&message, &error.failed().failure.to_string()),
                Err(_) => later(&message, "no answer in time"),
            }
        }
        Err(why) => Outcome::Refused(why),
    };
    if let Outcome::Refused(reason) = &outcome {
        tracing::error!(gid = message.gid, reason, "the message is refused, and kept; someone has to look");
    }
    (message.row, outcome)
}

fn read(message: &Claimed) -> Result<(Gid, BeginRequest), String> {
    let gid = message.gid.parse().map_err(|bad| format!("its gid {bad}"))?;
    let request =
        serde_json::from_str(&message.request).map_err(|error| format!("cannot be read: {error}"))?;
    Ok((gid, request))
}

/// Whether the same request can only be answered the same, and surely was not done. A wrong token or address is
/// nothing that speaks of the message.
fn is_for_good(error: &Error) -> bool {
    use ProblemCode::{AlreadyCancelled, GidReused, Invalid, Malformed, TooLarge, Unstorable};

    let says_so = match &error.failed().failure {
        Failure::Invalid(_) => true,
        Failure::Problem(problem) => matches!(
            problem.code.parse(),
            Ok(AlreadyCancelled | GidReused | Invalid | Malformed | TooLarge | Unstorable)
        ),
        Failure::Connect(_)
        | Failure::NoAnswer(_)
        | Failure::Status(_)
        | Failure::Unreadable(_)
        | Failure::Undecided => false,
    };
    says_so && error.outcome() == Known::Known
}

fn later(message: &Claimed, why: &str) -> Outcome {
    let wait = RELAY_FIRST_WAIT.saturating_mul(1 << message.tries.saturating_sub(1).min(10));
    let wait = wait.min(RELAY_LONGEST_WAIT);
    tracing::warn!(gid = message.gid, tries = message.tries, why, "the message waits for the coordinator");
    Outcome::Later(wait)
}
