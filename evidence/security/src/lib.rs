//! Attacks on the coordinator as it runs: what hostile callers, participants, names and connections can do to it.
//!
//! Read in this order:
//!
//! - [`coordinator`]: the process under attack, with secrets in it that must never come out ([`secrets`]);
//! - [`exchange`]: bytes as they are, over a socket, and what is heard in return;
//! - [`documented`]: whether an answer is one that `docs/http-api.md` speaks of;
//! - [`participant`]: one that answers whatever a test wants it to, and remembers what it was asked;
//! - [`hostile`]: the generator of hostile requests;
//! - [`campaign`]: as many of them as one likes, and what must hold after each and at the end;
//! - [`flood`]: more connections than there are places;
//! - [`parsers`]: every parser of outside bytes, given bytes that nobody should send;
//! - [`lab`]: a network of its own, where names resolve as an attacker likes ([`dns`]).

pub mod coordinator;
pub mod secrets;
pub mod exchange;
pub mod documented;
pub mod participant;
pub mod hostile;
pub mod campaign;
pub mod flood;
pub mod parsers;
pub mod lab;
pub mod dns;
