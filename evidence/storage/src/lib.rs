//! Evidence that the log in SQLite keeps what it acknowledged, whatever the disk does.
//!
//! - [`shim`]: what stands below SQLite, the one place with `unsafe`;
//! - [`disk`]: what it tells every call to: a record, and the faults to come;
//! - [`image`]: what a power cut may leave of that;
//! - [`lab`], [`workload`]: a store under observation, and what is done with it;
//! - [`history`], [`check`]: what was answered, and whether it is there;
//! - [`cuts`], [`inject`]: the two campaigns.

pub mod shim;
pub mod disk;
pub mod image;
pub mod history;
pub mod lab;
pub mod workload;
pub mod run;
pub mod check;
pub mod cuts;
pub mod inject;
