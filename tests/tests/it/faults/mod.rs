//! Faults between real processes and around them, by the rows of the fault matrix in RELIABILITY.md: the name of a test
//! begins with its row's.
//!
//! - [`answers`]: answers that are cut, drip, never end or are none, on each hop;
//! - [`order`]: requests that are held back and arrive after what was sent later;
//! - [`network`]: links that are cut, both ways and one way, before and during a call, in a [`lab`];
//! - [`names`]: names that do not resolve;
//! - [`clock`]: clocks that are set;
//! - [`tls`]: certificates that are not taken;
//! - [`process`]: processes that are stopped, told to end, given too few files;
//! - [`participants`]: participants that are poison, down, have lost their memory or never say whether; gids that look
//!   alike;
//! - [`backlog`]: a start with thousands of transactions unfinished.

mod answers;
mod backlog;
mod clock;
mod lab;
mod names;
mod network;
mod order;
mod participants;
mod process;
pub(crate) mod tls;
