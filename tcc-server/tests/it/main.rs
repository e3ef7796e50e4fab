//! The tests of the coordinator.

#[cfg(feature = "http")]
mod api;
mod coordinator;
mod scripted;
#[cfg(feature = "sqlite")]
mod store;
