//! The tests of the coordinator.

#[cfg(feature = "http")]
mod api;
#[cfg(feature = "http")]
mod asking;
mod coordinator;
#[cfg(feature = "http")]
mod list;
mod local;
mod parked;
mod scripted;
#[cfg(feature = "sqlite")]
mod store;
