//! The tests of the coordinator.

mod coordinator;
mod scripted;
#[cfg(feature = "sqlite")]
mod store;
