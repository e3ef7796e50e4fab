//! The trait an application implements to take part with a database that prepares (XA).

use std::future::Future;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::{BoxError, Call, Database, Participant, Tried, Tx, Xa, XaDatabase};

/// A service's part in transactions, where the database itself keeps what a try has written: prepared, durable, its rows
/// locked and unseen. Confirm commits it, cancel rolls it back, and there is nothing to write for either.
///
/// `try_` is run as that of a [`Participant`] is: at most once for a branch, never after its cancel, in one local transaction
/// with the guard's row; it writes what is to be, and reserves nothing. Whatever of it would fail at a commit, such as a
/// deferred constraint, fails the try.
///
#[cfg_attr(feature = "tokio-postgres", doc = "```no_run")]
#[cfg_attr(not(feature = "tokio-postgres"), doc = "```ignore")]
/// use tcc_client::{BoxError, Call, Participants, PgDatabase, PgTx, Tried, Xa, XaParticipant};
///
/// struct Payment;
///
/// #[derive(serde::Deserialize)]
/// struct Charge { account: String, cents: i64 }
///
/// impl XaParticipant for Payment {
///     type Database = PgDatabase;
///     type Payload = Charge;
///
///     async fn try_(&self, _: &Call, charge: &Charge, tx: &mut PgTx) -> Result<Tried, BoxError> {
///         let paid = tx.execute(
///             "UPDATE account SET cents = cents - $2 WHERE name = $1 AND cents >= $2",
///             &[&charge.account, &charge.cents],
///         ).await?;
///         Ok(if paid == 1 { Tried::accepted() } else { Tried::refused("no funds") })
///     }
/// }
///
/// # async fn f(db: PgDatabase) -> Result<(), Box<dyn std::error::Error>> {
/// let xa = Xa::new(db);
/// xa.create_schema().await?;
/// let service = Participants::new().xa("payment", Payment, xa);   // POST /payment/try, /confirm, /cancel
/// # let _ = service; Ok(()) }
/// ```
pub trait XaParticipant: Sized + Send + Sync + 'static {
    /// Where the data and the guard are.
    type Database: XaDatabase;
    /// What the branch carries for its try. An absent body is read as JSON `null`.
    type Payload: DeserializeOwned + Send + Sync + 'static;

    /// Writes what is to be.
    ///
    /// # Errors
    /// When it could not find out whether it can be. To say no, return [`Tried::refused`].
    fn try_(
        &self,
        call: &Call,
        payload: &Self::Payload,
        tx: &mut <Self::Database as Database>::Tx,
    ) -> impl Future<Output = Result<Tried, BoxError>> + Send;
}

/// Such a participant, as the guard knows it.
pub(crate) struct Preparing<X>(pub(crate) X);

impl<X: XaParticipant> Participant for Preparing<X> {
    type Database = Xa<X::Database>;
    /// Read by the try alone: what is prepared can be ended whatever a newer version of the service can read.
    type Payload = Box<RawValue>;

    async fn try_(&self, call: &Call, payload: &Self::Payload, tx: &mut Tx<Self>) -> Result<Tried, BoxError> {
        let payload = match serde_json::from_str(payload.get()) {
            Ok(payload) => payload,
            Err(error) => return Ok(Tried::refused(format!("the payload cannot be read: {error}"))),
        };
        let tx = tx.local().ok_or("the guard inserts its row first")?;
        self.0.try_(call, &payload, tx).await
    }

    async fn confirm(&self, _: &Call, _: &Self::Payload, _: &mut Tx<Self>) -> Result<(), BoxError> {
        Ok(())
    }

    async fn cancel(&self, _: &Call, _: &Self::Payload, _: &mut Tx<Self>) -> Result<(), BoxError> {
        Ok(())
    }
}
