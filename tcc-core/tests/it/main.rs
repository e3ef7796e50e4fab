//! The tests of the protocol. Start with `table`, which shows what every event does in every phase.

mod conformance;
mod contract;
mod orders;
mod promises;
mod requests;
mod support;
mod table;
