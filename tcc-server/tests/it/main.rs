//! The tests of the coordinator.

#[cfg(feature = "http")]
mod alerts;
#[cfg(feature = "http")]
mod api;
#[cfg(feature = "http")]
mod asking;
#[cfg(feature = "brokers")]
#[cfg_attr(
    not(all(
        feature = "amqp",
        feature = "amqp1",
        feature = "kafka",
        feature = "nats",
        feature = "redis",
        feature = "rocketmq"
    )),
    allow(dead_code, unused_imports, reason = "not every broker needs everything")
)]
mod brokers;
#[cfg(feature = "http")]
mod by_hand;
#[cfg(feature = "http")]
mod connections;
mod coordinator;
#[cfg(feature = "http")]
mod events;
#[cfg(feature = "http")]
mod list;
mod local;
#[cfg(feature = "http")]
mod mixed;
#[cfg(feature = "http")]
mod metrics;
#[cfg(feature = "http")]
mod openapi;
mod parked;
mod scripted;
#[cfg(feature = "http")]
mod topics;
#[cfg(feature = "sqlite")]
mod store;
