//! The tests of the coordinator.

mod coordinator;
mod local;
mod scripted;
#[cfg(feature = "sqlite")]
mod store;
