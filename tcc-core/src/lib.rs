//! The protocol of tcc, and nothing else: no clock, no randomness, no I/O, no async runtime.
//!
//! Read in this order:
//!
//! - [`Transaction`]: everything that can happen to a transaction, one exhaustive `match (phase, event)`;
//! - [`Branch`], [`Definition`]: one participant's part, and what its caller asked for;
//! - [`answer`]: what a participant's answer means;
//! - [`Plan`]: what is to be called next, and when;
//! - [`topic`]: a name that stands for several branches;
//! - [`store`]: the contract of a store; what was stored is all that can be planned from;
//! - [`signature`]: how a call shows that it is the coordinator's;
//! - [`wire`]: the JSON bodies of the API and its problem codes.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod ids;
mod time;
mod endpoint;
pub mod protocol;
pub mod limits;
mod canonical;
mod definition;
mod retry;
mod phase;
mod transaction;
mod event;
mod branch;
mod order;
mod plan;
pub mod topic;
mod reading;
mod history;
mod why;
pub mod answer;
pub mod store;
mod record;
pub mod signature;
mod memory;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(any(test, feature = "contract", feature = "conformance"))]
mod together;
pub mod wire;

pub use branch::{Branch, End, Patience, Progress, Tried, matter};
pub use definition::{Begin, Check, Decider, Definition, Digest, Invalid};
pub use endpoint::{BadEndpoint, Endpoint};
pub use event::{Effect, Event, Rejection};
pub use history::{Act, Attempt, Entry, History, What, outcome};
pub use ids::{BadId, BranchId, Gid, SubscriberId, TopicName};
pub use memory::MemoryStore;
pub use phase::{Decision, Phase};
pub use plan::{Call, Plan};
pub use protocol::Operation;
pub use retry::{Random, Retry, Then};
pub use store::{Applied, Change, Found, Store, Stored};
pub use time::Timestamp;
pub use transaction::{DEADLINE, Decided, Transaction};
