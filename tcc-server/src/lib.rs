//! The tcc coordinator: it does what [`tcc_core`] decides.
//!
//! Read in this order:
//!
//! - [`Coordinator`]: load → apply → save, for every event;
//! - `operator`: what it is asked by those who operate it;
//! - `topics`: who hears of what is published;
//! - `metrics`: what is counted of it;
//! - `driver`: plan → call → apply, for one transaction;
//! - [`Scheduler`]: claims what is due and has it driven;
//! - [`transport`]: how calls are made, over HTTP or to functions of the same process;
//! - `alerts`: a webhook is told what calls for a human;
//! - `files`: files that settings name, read again as they change;
//! - [`store`]: where transactions are kept;
//! - [`api`]: the HTTP API, a thin layer over the coordinator.
//!
//! # As a library
//!
//! A service may have its coordinator inside, with participants that are functions of its own process:
//!
#![cfg_attr(feature = "sqlite", doc = "```")]
#![cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use tcc_core::answer::Response;
//! use tcc_core::wire::BeginRequest;
//! use tcc_server::store::{SqliteOptions, SqliteStore};
//! use tcc_server::transport::{LocalTransport, Transports};
//! use tcc_server::{Begun, Coordinator, Known, Scheduler, Settings, Wait};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?; let log = folder.path().join("tcc.db");
//! // It agrees to whatever is tried, confirmed or cancelled. A real one has a guard, as those of tcc-client do.
//! let local = LocalTransport::new().with("money", async |_| Response::done());
//! let store = SqliteStore::open(log, SqliteOptions::default())?;
//! let coordinator = Coordinator::new(Arc::new(store), Transports::new().with(local), Settings::default());
//! let scheduler = Scheduler::start(coordinator.clone());
//!
//! let order: BeginRequest = serde_json::from_str(r#"{"branches": [{"id": "money", "at": "local:money"}]}"#)?;
//! let known = match coordinator.begin(order.parse(|| "order/1".parse().unwrap())?).await? {
//!     Begun::New(stored) => Known::Stored(stored),
//!     Begun::Before(known) => known,
//! };
//! let ended = coordinator.wait(known, Wait::End, Duration::from_secs(10)).await;
//! assert!(ended.phase().ended());
//! scheduler.drain(Duration::from_secs(1)).await;
//! # Ok(()) }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod alerts;
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
mod topics;
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
