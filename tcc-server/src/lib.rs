//! The tcc coordinator: it does what [`tcc_core`] decides.
//!
//! Read in this order:
//!
//! - [`Coordinator`]: load → apply → save, for every event;
//! - `operator`: what it is asked by those who operate it;
//! - `metrics`: what is counted of it;
//! - `driver`: plan → call → apply, for one transaction;
//! - [`Scheduler`]: claims what is due and has it driven;
//! - [`transport`]: how calls are made, over HTTP or to functions of the same process;
//! - `files`: files that settings name, read again as they change;
//! - [`store`]: where transactions are kept;
//! - [`api`]: the HTTP API, a thin layer over the coordinator.

#[cfg(feature = "http")]
pub mod api;
#[cfg(feature = "cli")]
pub mod cli;
mod coordinator;
pub mod crash;
mod destinations;
mod driver;
#[cfg(feature = "http")]
mod files;
pub mod limits;
mod live;
#[cfg_attr(
    not(all(feature = "http", feature = "sqlite")),
    allow(dead_code, reason = "who counts it is left out")
)]
mod metrics;
mod operator;
mod scheduler;
mod settings;
pub mod store;
mod traces;
pub mod transport;
mod wait;

pub use coordinator::{Begun, Coordinator, Error, Known};
#[cfg(feature = "http")]
pub use files::BadFile;
pub use metrics::StoreMeter;
pub use scheduler::{Drained, Scheduler};
pub use settings::{Bounds, Settings};
pub use wait::{Wait, Waiter};
