//! Traces: a span for each begin and each call, in the trace that the initiator's request belongs to. It is stored with the
//! transaction, so calls that are made again belong to it too, after a restart or on another node.
//!
//! With the feature `otel`; without it all of this is nothing.

#[cfg(not(feature = "otel"))]
mod none;
#[cfg(feature = "otel")]
mod otel;

#[cfg(not(feature = "otel"))]
pub(crate) use none::Traces;
#[cfg(feature = "otel")]
pub(crate) use otel::{Collector, Traces};
