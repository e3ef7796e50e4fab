//! Beginning transactions against a coordinator that loses answers and says no.

/// The initiator and a participant of this crate together.
#[cfg(feature = "rusqlite")]
mod guarded;
/// Messages and local transactions.
#[cfg(any(feature = "rusqlite", feature = "tokio-postgres", feature = "mysql_async"))]
mod message;
/// Messages that wait in the application's own database.
#[cfg(any(feature = "rusqlite", feature = "tokio-postgres", feature = "mysql_async"))]
mod outbox;
/// What a closure makes of a transaction.
mod run;
/// The coordinator and the participants.
mod stub;
/// Transactions submitted at once, and what every request has in common.
mod submit;
