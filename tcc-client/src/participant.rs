//! The trait an application implements to take part in transactions.

use std::error::Error;
use std::future::Future;

use serde::de::DeserializeOwned;

use crate::{Call, Database};

/// Any error; `?` makes one of every error type.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The local transaction that a participant's methods write through.
pub type Tx<P> = <<P as Participant>::Database as Database>::Tx;

/// A service's part in transactions: three methods, each run in one local transaction with the guard.
///
/// The guard sees to it that `try_` runs at most once for a branch and never after its cancel, that `confirm` and
/// `cancel` run only after a `try_` that was accepted, at most once, and never both. Hence the methods need no
/// bookkeeping of their own, as long as **all their effects go through `tx`**: what is done elsewhere (a mail, a
/// call to another service, another connection) is not undone when the local transaction is.
///
/// Write the methods as plain `async fn`. They may be run more than once before one run is committed, since a
/// deadlock re-runs them; never commit or roll back `tx` yourself. An error rolls back and is logged, and the
/// caller learns only that the outcome is unknown: it calls again.
///
/// Payloads must stay readable by the next version of the service: one that cannot be read is refused on try, but
/// on confirm and cancel it needs a human.
pub trait Participant: Sized + Send + Sync + 'static {
    /// Where the data and the guard are.
    type Database: Database;
    /// What the branch carries, the same for its three operations. An absent body is read as JSON `null`.
    type Payload: DeserializeOwned + Send + Sync + 'static;

    /// Whether its branches are messages, with a confirm that no try comes before. See [`Receiver`](crate::Receiver).
    #[doc(hidden)]
    const RECEIVES: bool = false;

    /// Checks and reserves, such that neither confirm nor cancel can fail for a reason of business.
    ///
    /// # Errors
    /// When it could not find out. To say no, return [`Tried::refused`].
    fn try_(
        &self,
        call: &Call,
        payload: &Self::Payload,
        tx: &mut Tx<Self>,
    ) -> impl Future<Output = Result<Tried, BoxError>> + Send;

    /// Does what was reserved.
    ///
    /// # Errors
    /// When it failed this time; it is called again until it succeeds.
    fn confirm(
        &self,
        call: &Call,
        payload: &Self::Payload,
        tx: &mut Tx<Self>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Gives back what was reserved.
    ///
    /// # Errors
    /// When it failed this time; it is called again until it succeeds.
    fn cancel(
        &self,
        call: &Call,
        payload: &Self::Payload,
        tx: &mut Tx<Self>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// What a try came to.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Tried {
    /// Reserved; perhaps with a reply for whoever asked, kept for repeats. As JSON it may have
    /// [`REPLY`](tcc_core::limits::REPLY) bytes; a longer one is an error.
    Accepted(Option<serde_json::Value>),
    /// Not possible, for this reason: whatever the method wrote is rolled back, and the transaction will be
    /// cancelled. The reason is shown to others and cut at [`REASON`](tcc_core::limits::REASON) bytes.
    Refused(String),
}

impl Tried {
    /// Reserved, with nothing to say.
    pub const fn accepted() -> Self {
        Self::Accepted(None)
    }

    /// Reserved, with a reply.
    ///
    /// ```
    /// use serde_json::json;
    /// use tcc_client::Tried;
    ///
    /// let tried = Tried::with_reply(json!({ "seat": "14C" }));
    /// assert_eq!(tried, Tried::Accepted(Some(json!({ "seat": "14C" }))));
    /// ```
    pub fn with_reply(reply: impl Into<serde_json::Value>) -> Self {
        Self::Accepted(Some(reply.into()))
    }

    /// Not possible, for this reason.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }
}
