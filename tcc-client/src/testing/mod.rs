//! For the tests of applications: a coordinator in the test's own process, with faults as planned, and the suite that
//! every participant must pass.
//!
//! - [`Conformance`] plays against one participant what networks and crashes do to calls.
//! - [`Coordinator`] drives whole transactions through participants of this process, by a clock of its own.

mod conformance;
mod coordinator;
mod called;
mod faults;
mod service;

pub use called::Called;
pub use conformance::Conformance;
pub use coordinator::Coordinator;
pub use faults::{Fault, Faults};
pub use tcc_core::Phase;
pub use tcc_core::answer::Answer;
pub use tcc_core::conformance::{Check, Effect, Evidence, Promise, Report, Verdict};
pub use tcc_core::wire::TransactionView;
