//! The trait an application implements to receive messages, each once.

use std::future::Future;

use serde::de::DeserializeOwned;

use crate::{BoxError, Call, Database, Participant, Tried, Tx};

/// Receives messages: branches that have a `confirm` alone.
///
/// A message arrives at least once. [`receive`](Self::receive) runs in one local transaction with the guard's row of its
/// gid and branch, so that what it writes through `tx` is written once; a repeat is answered as the first was. An error
/// rolls back, and the message comes again.
///
#[cfg_attr(feature = "rusqlite", doc = "```")]
#[cfg_attr(not(feature = "rusqlite"), doc = "```ignore")]
/// use tcc_client::{BoxError, Call, Database, Receiver, SqliteDatabase};
///
/// struct Points;
///
/// impl Receiver for Points {
///     type Database = SqliteDatabase;
///     type Message = u32;
///
///     async fn receive(
///         &self,
///         _: &Call,
///         points: &u32,
///         tx: &mut <SqliteDatabase as Database>::Tx,
///     ) -> Result<(), BoxError> {
///         tx.execute("UPDATE account SET points = points + ?1", [points])?;
///         Ok(())
///     }
/// }
/// ```
pub trait Receiver: Sized + Send + Sync + 'static {
    /// Where the data and the guard are.
    type Database: Database;
    /// What the message carries.
    type Message: DeserializeOwned + Send + Sync + 'static;

    /// Takes in a message.
    ///
    /// # Errors
    /// When it failed this time; it comes again until it succeeds.
    fn receive(
        &self,
        call: &Call,
        message: &Self::Message,
        tx: &mut <Self::Database as Database>::Tx,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// A receiver, as the guard knows it.
pub(crate) struct Receiving<R>(pub(crate) R);

impl<R: Receiver> Participant for Receiving<R> {
    type Database = R::Database;
    type Payload = R::Message;

    const RECEIVES: bool = true;

    async fn try_(&self, _: &Call, _: &R::Message, _: &mut Tx<Self>) -> Result<Tried, BoxError> {
        Ok(Tried::refused("messages are received here, and nothing is tried"))
    }

    async fn confirm(&self, call: &Call, message: &R::Message, tx: &mut Tx<Self>) -> Result<(), BoxError> {
        self.0.receive(call, message, tx).await
    }

    async fn cancel(&self, _: &Call, _: &R::Message, _: &mut Tx<Self>) -> Result<(), BoxError> {
        Err("messages are received here, and nothing is cancelled".into())
    }
}
