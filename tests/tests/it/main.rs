//! The system as it runs: real processes, real connections, real files, and everything that can go wrong with them.
//!
//! Each cell of a table is a test of its own, and ends with the same question: did everything happen everywhere or
//! nowhere, is no money gone or held, and did everybody who asked get the same, true answer?
//!
//! - [`participants`]: they refuse, time out, answer too late, fail, die and are down;
//! - [`crash`]: the coordinator is killed before and after each durable write;
//! - [`hops`]: requests and replies are lost, requests are doubled;
//! - [`faults`]: the rest of the fault matrix: answers that are spoilt, networks that are cut, clocks that are set, and
//!   everything else that can be done to processes;
//! - [`latecomers`]: a create arrives after its cancel, a registered branch is never tried;
//! - [`storm`]: all of them are killed, again and again;
//! - [`truthful`]: what whoever asks is told, first, again, late, after a crash and after the purge;
//! - [`operator`]: lists, and what is done by hand;
//! - [`command_line`]: flags, environment, signals, tokens, limits;
//! - [`configuration`]: the file, what goes before what, how mistakes are told;
//! - [`metrics`]: what is told to Prometheus;
//! - [`supervisor`]: what systemd is told, and its unit;
//! - [`tls`]: the API over TLS, and calls to participants of an authority of one's own;
//! - [`peers`]: what single destinations are called with;
//! - [`conformance`]: the command that tests participants; [`languages`]: the examples that are not in Rust;
//! - `traces`: what a collector is told, with the feature `otel`;
//! - [`bad_input`]: what is refused, and that nothing is stored of it;
//! - [`docs`]: snippets, commands and bodies in the docs;
//! - [`tidy`]: what must stay true of the tree itself.
//!
//! [`world`] has the [`coordinator`] and the [`bank`]s and checks the books; [`transfer`] is the transaction that all of
//! it is done with.

mod bad_input;
mod bank;
mod command_line;
mod configuration;
mod conformance;
mod coordinator;
mod crash;
mod docs;
mod faults;
mod hops;
mod languages;
mod latecomers;
mod metrics;
mod operator;
mod participants;
mod peers;
mod storm;
mod supervisor;
mod tidy;
mod tls;
#[cfg(feature = "otel")]
mod traces;
mod transfer;
mod truthful;
mod world;
