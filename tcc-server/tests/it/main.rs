//! The tests of the coordinator.

mod coordinator;
mod parked;
mod scripted;
#[cfg(feature = "sqlite")]
mod store;
