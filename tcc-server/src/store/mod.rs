//! The stores, each behind [`tcc_core::Store`], and what is put around one.
//!
//! - [`sqlite`]: the log in one SQLite file, for one process;
//! - [`Batched`]: concurrent commits share one commit of the store within.

mod batched;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use batched::Batched;
#[cfg(feature = "sqlite")]
pub use sqlite::{OpenError, SqliteOptions, SqliteStore};
