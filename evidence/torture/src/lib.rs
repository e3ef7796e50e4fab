//! Evidence that the death of a process, wherever it strikes, leaves money and stock where they belong.
//!
//! What dies are real processes: the coordinator as it is shipped, with crash points, and participants behind the
//! guard in SQLite. A process that dies leaves the kernel and its files as they are; power cuts are `cargo storage`'s.
//!
//! - [`shape`], [`plan`]: the transactions, one for each shape, each way it can end;
//! - [`work`], [`service`]: what a branch does, and the process that does it;
//! - [`coordinator`], [`host`]: the processes as the torturer sees them, killed and started again;
//! - [`initiator`], [`answers`]: whoever begins a transaction, and all that it was ever told;
//! - [`books`]: what the services have written down, and whether it is what was decided;
//! - [`cell`], [`cells`]: the crash points by name, and how one of them is run;
//! - [`storm`], [`tally`]: kills at random under load.

mod words;

pub mod work;
pub mod service;
pub mod shape;
pub mod plan;
pub mod coordinator;
pub mod host;
pub mod answers;
pub mod initiator;
pub mod books;
pub mod world;
pub mod cell;
pub mod cells;
pub mod storm;
pub mod tally;

/// What should not have been, for people.
pub type Broken = String;
