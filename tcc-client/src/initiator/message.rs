//! A message that is delivered if, and only if, a local transaction of the sender's own commits.

use std::sync::Arc;
use std::time::Duration;

use super::branch::{Branch, millis};
use super::client::Client;
use super::error::Error;
use super::standing::Wait;
use crate::guard::is_below_the_mark;
use crate::local::{self, End};
use crate::{BoxError, Call, Database, Local, LocalError, Row};
use reqwest::header::HeaderValue;
use tcc_core::wire::BeginRequest;
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
        match begun.view.phase.decision() {
            Some(Decision::Confirm) => return Err(MessageError::Sent(begun.view.phase)),
            Some(Decision::Cancel) => return Err(MessageError::Dropped),
            None => {}
        }
        // Those of its topics' subscribers, too.
        let ids = begun.view.branches.iter().map(|branch| branch.id.to_string()).collect();
        let begun = Timestamp::from_millis(begun.view.begun.unwrap_or(i64::MAX));
        let call = Arc::new(Call::of_sender(gid.clone(), begun));
        let local = Arc::new(local);
        let sent = local::run(database, move |tx| {
            let (call, local) = (Arc::clone(&call), Arc::clone(&local));
            Box::pin(async move { in_tx::<D, T, F>(tx, &call, &local).await })
        });
        match sent.await {
            Ok(Sent::Now(value)) => {
                confirm(&client, &gid, ids).await;
                Ok(value)
            }
            Ok(Sent::Before) => {
                let phase = confirm(&client, &gid, ids).await;
                Err(MessageError::Sent(phase.unwrap_or(Phase::Confirming)))
            }
            Ok(Sent::Dropped) => Err(MessageError::Dropped),
            Err(LocalError::Failed(why)) => {
                // Should this fail, the check says the same.
                let _ = client.cancel(&gid, &why.to_string()).await;
                Err(MessageError::Local(why))
            }
            Err(LocalError::Unknown(why)) => Err(MessageError::Unknown(why)),
        }
    }
}

/// What became of the local transaction.
enum Sent<T> {
    Now(T),
    Before,
    Dropped,
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
