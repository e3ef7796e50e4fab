//! A message that is delivered if, and only if, a local transaction of the sender's own commits.

use std::sync::Arc;
use std::time::Duration;

use super::branch::{Branch, millis};
use super::client::Client;
use super::error::Error;
use super::standing::Wait;
use crate::cleaning::clean_up_now_and_then;
use crate::guard::{self, Barred, is_below_the_mark};
use crate::local::{self, End};
use crate::{BoxError, Call, Database, Local, LocalError, Row};
use reqwest::header::HeaderValue;
use tcc_core::wire::{BeginRequest, ProblemCode};
use tcc_core::{Decision, Gid, Phase, Timestamp};

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
    /// was rolled back, or not run.
    #[error("the message was dropped before its local transaction committed")]
    Dropped,
    /// Another run committed the local transaction: this one did not, and the message is delivered.
    #[error("the message was sent before; its transaction is {}", .0.as_str())]
    Sent(Phase),
    /// Whether the local transaction committed, in this run or in another, is not known. The coordinator asks, and does
    /// what the answer says.
    #[error("whether the local transaction committed is not known")]
    Unknown(#[source] Option<BoxError>),
    /// The local transaction is committed, and the message is not delivered: somebody else has cancelled it.
    #[error("the local transaction is committed, but its message was cancelled")]
    Cancelled,
    /// The local transaction is committed, and the coordinator knows nothing of the message, as after the loss of its log.
    /// Whether it is delivered is not known.
    #[error("the local transaction is committed, but the coordinator knows nothing of its message")]
    Forgotten,
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
    /// The closure runs again after a deadlock, with nothing left of the first time but what it did outside of `tx`. It
    /// has 60 seconds each time, and is then dropped and rolled back.
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
        let stored = (Wait::Stored, Duration::ZERO);
        let begun =
            client.begin(&gid, &request, trace.as_ref(), stored).await.map_err(MessageError::Begin)?;
        let call = |begun| Arc::new(Call::of_sender(gid.clone(), Timestamp::from_millis(begun)));
        match begun.view.phase.decision() {
            Some(Decision::Confirm) => return Err(MessageError::Sent(begun.view.phase)),
            // One that is purged began long ago.
            Some(Decision::Cancel) => {
                return Err(cancelled(database, call(begun.view.begun.unwrap_or(0))).await);
            }
            None => {}
        }
        clean_up_now_and_then(database, begun.settled);
        // Those of its topics' subscribers, too.
        let ids = begun.view.branches.iter().map(|branch| branch.id.to_string()).collect();
        let call = call(begun.view.begun.unwrap_or(i64::MAX));
        let (sender, local) = (Arc::clone(&call), Arc::new(local));
        let sent = local::run(database, move |tx| {
            let (call, local) = (Arc::clone(&sender), Arc::clone(&local));
            Box::pin(async move { in_tx::<D, T, F>(tx, &call, &local).await })
        });
        let why = match sent.await {
            Ok(Sent::Now(value)) => return confirm(&client, &gid, ids).await.map(|_| value),
            Ok(Sent::Before) => return Err(MessageError::Sent(confirm(&client, &gid, ids).await?)),
            Ok(Sent::Dropped) => return Err(MessageError::Dropped),
            Err(LocalError::Unknown(why)) => return Err(MessageError::Unknown(why)),
            Err(LocalError::Failed(why)) => why,
        };
        // That says nothing of other runs of the same gid, before this one or beside it.
        match bar(database, call).await {
            Ok(Barred::Yes) => {
                // Should this fail, the check says the same.
                let _ = client.cancel(&gid, &why.to_string()).await;
                Err(MessageError::Local(why))
            }
            Ok(Barred::Committed) => Err(MessageError::Sent(confirm(&client, &gid, ids).await?)),
            Err(_) => Err(MessageError::Unknown(Some(why))),
        }
    }
}

/// What became of the local transaction.
enum Sent<T> {
    Now(T),
    Before,
    Dropped,
}

/// Has a message confirmed whose local transaction is committed. Where that is not acknowledged, the check says the same.
async fn confirm(client: &Client, gid: &Gid, tried: Vec<String>) -> Result<Phase, MessageError> {
    let error = match client.say_confirm(gid, tried).await {
        Ok(answered) => return Ok(answered.view.phase),
        Err(error) => error,
    };
    let refused = match error.code() {
        Some(ProblemCode::AlreadyCancelled) => MessageError::Cancelled,
        Some(ProblemCode::UnknownGid) => MessageError::Forgotten,
        Some(_) | None => {
            tracing::warn!(gid = gid.as_str(), %error, "the coordinator will ask whether the message is sent");
            return Ok(Phase::Confirming);
        }
    };
    tracing::error!(gid = gid.as_str(), %refused, "someone has to look");
    Err(refused)
}

/// What a message that is cancelled means for its sender: an earlier run may have committed all the same.
async fn cancelled<D: Database>(database: &D, call: Arc<Call>) -> MessageError {
    match bar(database, call).await {
        Ok(Barred::Yes) => MessageError::Dropped,
        Ok(Barred::Committed) => MessageError::Cancelled,
        Err(LocalError::Failed(why)) => MessageError::Unknown(Some(why)),
        Err(LocalError::Unknown(why)) => MessageError::Unknown(why),
    }
}

/// Leaves the tombstone that a check leaves, in a local transaction of its own, unless the row says that it committed.
async fn bar<D: Database>(database: &D, call: Arc<Call>) -> Result<Barred, LocalError> {
    local::run(database, move |tx| {
        let call = Arc::clone(&call);
        Box::pin(async move { guard::bar::<D>(tx, &call).await })
    })
    .await
}

/// In one local transaction the sender's row, and then the business.
async fn in_tx<D, T, F>(tx: &mut D::Tx, call: &Call, local: &F) -> Result<End<Sent<T>>, BoxError>
where
    D: Database,
    F: for<'t> Fn(&'t mut D::Tx) -> Local<'t, T>,
{
    let committed = Row::Confirmed { reply: None };
    if !D::insert(tx, call, &committed).await? {
        return Ok(match D::load(tx, call).await? {
            None => End::Again,
            Some(Row::Confirmed { .. }) => End::Rollback(Sent::Before),
            // The tombstone that a check has left.
            Some(Row::Cancelled | Row::Refused { .. } | Row::Tried { .. }) => End::Rollback(Sent::Dropped),
        });
    }
    // After the insert, for a tombstone that was deleted was deleted with the mark.
    if is_below_the_mark::<D>(tx, call).await? {
        return Ok(End::Rollback(Sent::Dropped));
    }
    let value = local(tx).await?;
    // Also where a transaction is found out that the closure has broken or ended.
    D::set(tx, call, &committed).await?;
    Ok(End::Commit(Sent::Now(value)))
}
