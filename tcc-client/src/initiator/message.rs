//! A message that is delivered if, and only if, a local transaction of the sender's own commits.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderValue;
use tcc_core::wire::BeginRequest;
use tcc_core::{Decision, Gid, Phase, Timestamp};
use tokio::time::{sleep, timeout};

use super::branch::{Branch, millis};
use super::client::Client;
use super::error::Error;
use super::standing::Wait;
use crate::guard::{backoff, rollback};
use crate::limits::{FINISH, RUNS};
use crate::{BoxError, Call, Commit, Database, Local, Row, Trouble};

/// A transactional message: a half message, a local transaction, and then the delivery or nothing. See
/// [`send`](Self::send).
#[derive(Debug)]
#[must_use = "nothing happens before it is sent"]
pub struct Message {
    client: Client,
    gid: Gid,
    request: BeginRequest,
    trace: Option<HeaderValue>,
}

/// Why a message's [`send`](Message::send) returned no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The half message could not be begun. The local transaction was not run.
    #[error("the message could not be begun")]
    Begin(#[source] Error),
    /// The local transaction failed and was rolled back. The message is dropped.
    #[error("the local transaction failed")]
    Local(#[source] BoxError),
    /// The message was dropped before the local transaction committed, most likely by a check that was answered first. It
    /// was rolled back.
    #[error("the message was dropped before its local transaction committed")]
    Dropped,
    /// An earlier run committed the local transaction: it was not run again, and the message is delivered.
    #[error("the message was sent before; its transaction is {}", .0.as_str())]
    Sent(Phase),
    /// Whether the local transaction committed is not known. The coordinator asks, and does what the answer says.
    #[error("whether the local transaction committed is not known")]
    Unknown(#[source] Option<BoxError>),
}

impl Message {
    pub(super) fn new(client: Client, gid: Gid, check: String) -> Self {
        let request = BeginRequest {
            gid: Some(gid.to_string()),
            decider: Some("initiator".to_owned()),
            check: Some(check),
            ..BeginRequest::default()
        };
        Self { client, gid, request, trace: None }
    }

    /// Delivers by this branch, which has a `confirm` alone. Several may be given: they are delivered side by side.
    pub fn deliver(mut self, branch: Branch) -> Self {
        self.request.branches.push(branch.request);
        self
    }

    /// How long after its begin the sender is first asked what became of the local transaction, 10 seconds if nothing is
    /// said: longer than that takes.
    pub fn check_after(mut self, length: Duration) -> Self {
        self.request.check_after_ms = Some(millis(length));
        self
    }

    /// The transaction this one is a part of; recorded and shown, nothing more.
    pub fn parent(mut self, parent: &Gid) -> Self {
        self.request.parent = Some(parent.to_string());
        self
    }

    /// The trace it is a part of, as the header `traceparent` has it (W3C Trace Context).
    pub fn traceparent(mut self, traceparent: &str) -> Self {
        self.trace = HeaderValue::from_str(traceparent).ok();
        self
    }

    /// Begins the message, durable and not yet delivered; runs the local transaction; and has the message delivered.
    /// `Ok` means that the local transaction is committed: the message is then delivered, whatever crashes.
    ///
    /// In the same local transaction a guard row says that it committed. If this process dies, the coordinator asks the
    /// [`check`](Client::message) endpoint: where there is no such row it leaves a tombstone, so that a local transaction
    /// that is still on its way cannot commit any more, and the message is dropped.
    ///
    /// The closure runs again after a deadlock, with nothing left of the first time but what it did outside of `tx`.
    ///
    /// # Errors
    /// [`MessageError`]. Send it again with the same gid and the same content to find out what became of it.
    ///
    /// # Cancel safety
    /// Dropped before the commit, the local transaction is rolled back and the message dropped, once the sender is asked.
    /// Dropped after it, the message is delivered.
    pub async fn send<D, T, F>(self, database: &D, local: F) -> Result<T, MessageError>
    where
        D: Database,
        T: Send + 'static,
        F: for<'t> Fn(&'t mut D::Tx) -> Local<'t, T> + Send + Sync + 'static,
    {
        let Self { client, gid, request, trace } = self;
        let ids: Vec<String> = request.branches.iter().map(|branch| branch.id.clone()).collect();
        let stored = (Wait::Stored, Duration::ZERO);
        let begun =
            client.begin(&gid, &request, trace.as_ref(), stored).await.map_err(MessageError::Begin)?;
        match begun.view.phase.decision() {
            Some(Decision::Confirm) => return Err(MessageError::Sent(begun.view.phase)),
            Some(Decision::Cancel) => return Err(MessageError::Dropped),
            None => {}
        }
        let begun = Timestamp::from_millis(begun.view.begun.unwrap_or(i64::MAX));
        let call = Arc::new(Call::of_sender(gid.clone(), begun));
        match commit_locally(database, &call, Arc::new(local)).await {
            Ok(Sent::Now(value)) => {
                confirm(&client, &gid, ids).await;
                Ok(value)
            }
            Ok(Sent::Before) => {
                let phase = confirm(&client, &gid, ids).await;
                Err(MessageError::Sent(phase.unwrap_or(Phase::Confirming)))
            }
            Err(error) => {
                if let MessageError::Local(why) = &error {
                    // Should this fail, the check says the same.
                    let _ = client.cancel(&gid, &why.to_string()).await;
                }
                Err(error)
            }
        }
    }
}

/// What became of the local transaction.
enum Sent<T> {
    Now(T),
    Before,
}

/// Where it is not acknowledged, the check says the same.
async fn confirm(client: &Client, gid: &Gid, tried: Vec<String>) -> Option<Phase> {
    match client.say_confirm(gid, tried).await {
        Ok(answered) => Some(answered.view.phase),
        Err(error) => {
            tracing::warn!(gid = gid.as_str(), %error, "the coordinator will ask whether the message is sent");
            None
        }
    }
}

/// Runs the local transaction, again after each conflict, a bounded number of times.
async fn commit_locally<D, T, F>(
    database: &D,
    call: &Arc<Call>,
    local: Arc<F>,
) -> Result<Sent<T>, MessageError>
where
    D: Database,
    T: Send + 'static,
    F: for<'t> Fn(&'t mut D::Tx) -> Local<'t, T> + Send + Sync + 'static,
{
    let mut runs = 1;
    loop {
        let unit = unit::<D, T, F>(database.clone(), call.clone(), local.clone());
        let error = match database.run(unit).await.unwrap_or_else(|error| Err(Failed::Error(error))) {
            Ok(sent) => return Ok(sent),
            Err(Failed::Dropped) => return Err(MessageError::Dropped),
            Err(Failed::Unknown(error)) => return Err(MessageError::Unknown(error)),
            Err(Failed::Again) => "it met a concurrent transaction again and again".into(),
            Err(Failed::Error(error)) if D::trouble(&error) == Trouble::Conflict => error,
            Err(Failed::Error(error)) => return Err(MessageError::Local(error)),
        };
        if runs == RUNS {
            return Err(MessageError::Local(error));
        }
        sleep(backoff(runs)).await;
        runs += 1;
    }
}

enum Failed {
    Dropped,
    Again,
    Error(BoxError),
    Unknown(Option<BoxError>),
}

/// One local transaction, from begin to end: the sender's row first, then the business.
async fn unit<D, T, F>(database: D, call: Arc<Call>, local: Arc<F>) -> Result<Sent<T>, Failed>
where
    D: Database,
    F: for<'t> Fn(&'t mut D::Tx) -> Local<'t, T> + Send + Sync + 'static,
{
    let mut tx = database.begin().await.map_err(Failed::Error)?;
    match in_tx::<D, T, F>(&mut tx, &call, &local).await {
        Ok(Sent::Before) => {
            rollback::<D>(tx).await;
            Ok(Sent::Before)
        }
        Ok(Sent::Now(value)) => match timeout(FINISH, D::commit(tx)).await {
            Ok(Ok(Commit::Committed)) => Ok(Sent::Now(value)),
            Ok(Ok(Commit::Conflict)) => Err(Failed::Again),
            Ok(Ok(Commit::Refused(why))) => Err(Failed::Error(why.into())),
            Ok(Err(error)) => Err(Failed::Unknown(Some(error))),
            Err(_) => Err(Failed::Unknown(None)),
        },
        Err(failed) => {
            rollback::<D>(tx).await;
            Err(failed)
        }
    }
}

async fn in_tx<D, T, F>(tx: &mut D::Tx, call: &Call, local: &F) -> Result<Sent<T>, Failed>
where
    D: Database,
    F: for<'t> Fn(&'t mut D::Tx) -> Local<'t, T>,
{
    let committed = Row::Confirmed { reply: None };
    if !D::insert(tx, call, &committed).await.map_err(Failed::Error)? {
        return match D::load(tx, call).await.map_err(Failed::Error)? {
            None => Err(Failed::Again),
            Some(Row::Confirmed { .. }) => Ok(Sent::Before),
            // The tombstone that a check has left.
            Some(Row::Cancelled | Row::Refused { .. } | Row::Tried { .. }) => Err(Failed::Dropped),
        };
    }
    // After the insert, for a tombstone that was deleted was deleted with the mark.
    if D::settled(tx).await.map_err(Failed::Error)?.is_some_and(|settled| call.begun < settled) {
        return Err(Failed::Dropped);
    }
    let value = local(tx).await.map_err(Failed::Error)?;
    // Also where a transaction is found out that the closure has broken or ended.
    D::set(tx, call, &committed).await.map_err(Failed::Error)?;
    Ok(Sent::Now(value))
}
