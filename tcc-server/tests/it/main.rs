//! The tests of the coordinator.

#[cfg(feature = "http")]
mod api;
mod coordinator;
mod local;
mod parked;
mod scripted;
#[cfg(feature = "sqlite")]
mod store;
