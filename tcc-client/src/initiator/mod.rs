//! The initiator: the application that begins a transaction, at once or by a closure.
//!
//! - [`Client`]: the coordinator;
//! - [`Submission`], [`Branch`]: all branches in one call, the coordinator tries;
//! - [`Transaction`], [`Scope`], [`Stop`]: a closure tries;
//! - [`Message`]: a message, delivered if a local transaction commits;
//! - [`Outbox`], [`Relay`]: messages in the application's own database, and who hands them over;
//! - [`Standing`], [`Wait`]: where a transaction stands;
//! - [`Listed`]: what an operator looks for;
//! - [`Error`], [`RunError`]: what went wrong, and whether the outcome is known.

mod branch;
mod client;
mod error;
mod exchange;
mod limits;
mod message;
mod operator;
mod outbox;
mod run;
mod scope;
mod standing;
mod stop;
mod submission;
mod topics;
mod trying;

pub use branch::Branch;
#[cfg(feature = "testing")]
pub(crate) use client::http_client;
pub use client::{Client, ClientBuilder, new_gid};
pub use error::{BuildError, Error, Failed, Failure, Outcome};
pub use message::{Message, MessageError};
pub use operator::Listed;
pub use outbox::{Backlog, Outbox, Refused, Relay};
pub use run::Transaction;
pub use scope::Scope;
pub use standing::{Standing, Wait};
pub use stop::{RunError, Stop};
pub use submission::Submission;
pub use trying::Reply;
#[cfg(feature = "testing")]
pub(crate) use trying::answer;
