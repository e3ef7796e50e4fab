//! No database, and so no guard.

use crate::{BoxError, Call, Commit, Database, Row};

/// For a participant that keeps no data of its own, because it only passes its operations on: to a payment provider,
/// a carrier, a legacy system.
///
/// There is no row to look at and no transaction to write through, so **every call reaches the participant's
/// methods**, and what the guard promises of others is theirs to keep, mostly by a key: what is called has to know
/// `gid` and `branch` together as the name of one piece of work, and to answer a repeat as it answered the first.
///
/// | | what the methods have to see to |
/// |---|---|
/// | P1 | after a confirm a cancel does nothing and is an error, and the other way round |
/// | P2 | each may be called again, at any time and at once: it has one effect, and a try the same answer, a refusal included |
/// | P3 | a cancel may come before its try, or without one: it succeeds |
/// | P4 | and that try, when it comes after all, is refused |
/// | P5 | a method may be cut off anywhere, by a time-out too: its repeat finds out how far it came, and goes on |
/// | P6 | a confirm without a try is an error, not a success |
///
/// An error is answered 500 and repeated, until a human looks. What is still done for it: calls are checked,
/// payloads read, time-outs kept, and a try is refused that says itself that its transaction ended long ago.
///
/// ```
/// use serde_json::json;
/// use tcc_client::{BoxError, Call, Participant, Tried, Tx, Unguarded};
///
/// /// A carrier's API. It knows the key of each request, and answers one it has seen as it did then.
/// # struct Carrier;
/// # enum Booked { Parcel(String), NoVan, Dropped }
/// # impl Carrier {
/// #     async fn book(&self, _: &str, _: &Parcel) -> Result<Booked, BoxError> { Ok(Booked::NoVan) }
/// #     async fn dispatch(&self, _: &str) -> Result<(), BoxError> { Ok(()) }
/// #     async fn drop_or_bar(&self, _: &str) -> Result<(), BoxError> { Ok(()) }
/// # }
/// struct Shipping { carrier: Carrier }
///
/// #[derive(serde::Deserialize)]
/// struct Parcel { to: String, grams: u32 }
///
/// fn key(call: &Call) -> String {
///     format!("{}~{}", call.gid, call.branch)
/// }
///
/// impl Participant for Shipping {
///     type Database = Unguarded;
///     type Payload = Parcel;
///
///     async fn try_(&self, call: &Call, parcel: &Parcel, _: &mut Tx<Self>) -> Result<Tried, BoxError> {
///         Ok(match self.carrier.book(&key(call), parcel).await? {
///             Booked::Parcel(number) => Tried::with_reply(json!({ "parcel": number })),
///             Booked::NoVan => Tried::refused("no van goes there"),
///             Booked::Dropped => Tried::refused("the booking was cancelled before it came"),
///         })
///     }
///
///     async fn confirm(&self, call: &Call, _: &Parcel, _: &mut Tx<Self>) -> Result<(), BoxError> {
///         self.carrier.dispatch(&key(call)).await
///     }
///
///     async fn cancel(&self, call: &Call, _: &Parcel, _: &mut Tx<Self>) -> Result<(), BoxError> {
///         self.carrier.drop_or_bar(&key(call)).await // also a key that was never booked
///     }
/// }
/// ```
///
/// Where what is called knows no keys, keep the rows yourself: a small database beside the service, with the guard,
/// of which a method writes down what it is about to do before it does it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unguarded;

impl Database for Unguarded {
    type Tx = ();

    async fn begin(&self) -> Result<(), BoxError> {
        Ok(())
    }

    async fn insert((): &mut (), _: &Call, row: &Row) -> Result<bool, BoxError> {
        // Nobody knows whether there was a try, so its cancel has to look.
        Ok(match row {
            Row::Tried { .. } | Row::Refused { .. } | Row::Confirmed { .. } => true,
            Row::Cancelled => false,
        })
    }

    async fn load((): &mut (), _: &Call) -> Result<Option<Row>, BoxError> {
        Ok(Some(Row::Tried { reply: None }))
    }

    async fn set((): &mut (), _: &Call, _: &Row) -> Result<(), BoxError> {
        Ok(())
    }

    async fn commit((): ()) -> Result<Commit, BoxError> {
        Ok(Commit::Committed)
    }

    async fn rollback((): ()) -> Result<(), BoxError> {
        Ok(())
    }
}
