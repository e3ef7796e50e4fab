//! The stores, each behind [`tcc_core::Store`], and what is put around one.
//!
//! - [`sqlite`]: the log in one SQLite file, for one process;
//! - [`Batched`]: around a store that does not group by itself, concurrent commits share one.

mod batched;
mod group;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use batched::Batched;
#[cfg(feature = "sqlite")]
pub use sqlite::{OpenError, SqliteOptions, SqliteStore};
